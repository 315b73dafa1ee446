//! Axes: named sweeps, and the values they take.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::Origin;
use super::value::{Entry, Value, ValueKind};

/// A named sweep.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Its name, which instances and columns carry.
    pub name: String,
    /// Where it was written.
    pub origin: Origin,
    /// Its values in order, none twice.
    pub points: Vec<Point>,
}

/// One value of an axis.
#[derive(Clone, Debug)]
pub struct Point {
    /// What names of instances show.
    pub label: String,
    /// The value; for a table, several parameters moved together.
    pub value: Value,
}

impl Point {
    /// The value that a table of results shows: a table-valued point is shown by its `name`.
    pub fn shown(&self) -> &ValueKind {
        match &self.value.kind {
            ValueKind::Table(_) => &self.value.get("name").expect("checked when read").kind,
            scalar => scalar,
        }
    }
}

/// Largest number of points on one axis.
const MOST_POINTS: usize = 1_000_000;

/// Reads one entry of `[axes]`.
pub fn read(entry: &Entry, errors: &mut Diagnostics) -> Option<Axis> {
    let before = errors.len();
    let values = match &entry.value.kind {
        ValueKind::List(items) => items.clone(),
        ValueKind::Table(entries) => match entries.as_slice() {
            [form] => generate(form, errors).unwrap_or_default(),
            _ => {
                errors.push(Diagnostic::at(entry.value.origin, NOT_AN_AXIS).hint(FORMS));
                Vec::new()
            }
        },
        _ => {
            errors.push(Diagnostic::at(entry.value.origin, NOT_AN_AXIS).hint(FORMS));
            Vec::new()
        }
    };
    if values.is_empty() && errors.len() == before {
        errors.push(Diagnostic::at(entry.value.origin, "the axis has no values"));
    }
    let mut points: Vec<Point> = Vec::new();
    for value in values {
        let Some(label) = label(&value) else {
            let message =
                "a value of an axis is a number, a string, a boolean or a table with a `name`";
            errors.push(Diagnostic::at(value.origin, message));
            continue;
        };
        if points.iter().any(|p| p.label == label) {
            errors.push(Diagnostic::at(value.origin, format!("the axis holds `{label}` twice")));
            continue;
        }
        points.push(Point { label, value });
    }
    let axis = Axis { name: entry.key.clone(), origin: entry.key_origin, points };
    (errors.len() == before).then_some(axis)
}

const NOT_AN_AXIS: &str = "an axis is a list of values or one of the generating forms";
const FORMS: &str = "`[1, 2]`, `{ range = [0, 5] }`, `{ linspace = [0, 1, 11] }` or `{ logspace = [1e-4, 1e-1, 4] }`";

/// Writes a value as names show it.
pub fn label(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Bool(flag) => Some(flag.to_string()),
        ValueKind::Int(number) => Some(number.to_string()),
        ValueKind::Float(number) => Some(number.to_string()),
        ValueKind::Text(text) => Some(text.clone()),
        ValueKind::Table(_) => value.get("name").and_then(Value::as_text).map(str::to_owned),
        ValueKind::List(_) => None,
    }
}

fn generate(form: &Entry, errors: &mut Diagnostics) -> Option<Vec<Value>> {
    let origin = form.value.origin;
    let numbers = numbers(&form.value);
    let made = match (form.key.as_str(), numbers.as_deref()) {
        ("range", Some([_, _])) => return range(&form.value, errors),
        ("linspace", Some(&[from, to, count])) if is_count(count) => {
            Some(spaced(from, to, count as usize))
        }
        ("logspace", Some(&[from, to, count])) if is_count(count) && from > 0.0 && to > 0.0 => {
            let logs = spaced(from.ln(), to.ln(), count as usize);
            // The ends are what was written, not their rounded logarithms.
            let last = logs.len() - 1;
            let value = |(i, log): (usize, f64)| match i {
                0 => from,
                i if i == last => to,
                _ => log.exp(),
            };
            Some(logs.into_iter().enumerate().map(value).collect())
        }
        ("range" | "linspace" | "logspace", _) => {
            let message = format!("`{}` does not take these numbers", form.key);
            errors.push(Diagnostic::at(origin, message).hint(FORMS));
            return None;
        }
        (other, _) => {
            let message = format!("no generating form is called `{other}`");
            errors.push(Diagnostic::at(form.key_origin, message).hint(FORMS));
            return None;
        }
    };
    let value = |number| Value { kind: ValueKind::Float(number), origin };
    made.map(|numbers| numbers.into_iter().map(value).collect())
}

fn numbers(value: &Value) -> Option<Vec<f64>> {
    let ValueKind::List(items) = &value.kind else { return None };
    let number = |item: &Value| match item.kind {
        ValueKind::Int(number) => Some(number as f64),
        ValueKind::Float(number) => Some(number),
        _ => None,
    };
    items.iter().map(number).collect()
}

fn is_count(count: f64) -> bool {
    count >= 1.0 && count <= MOST_POINTS as f64 && count.fract() == 0.0
}

fn spaced(from: f64, to: f64, count: usize) -> Vec<f64> {
    let steps = count.saturating_sub(1).max(1) as f64;
    (0..count).map(|i| from + (to - from) * i as f64 / steps).collect()
}

/// Whole numbers from the first up to, not including, the second.
fn range(value: &Value, errors: &mut Diagnostics) -> Option<Vec<Value>> {
    let ValueKind::List(items) = &value.kind else { return None };
    let [ValueKind::Int(from), ValueKind::Int(to)] = [&items[0].kind, &items[1].kind] else {
        errors.push(Diagnostic::at(value.origin, "`range` takes two integers").hint(FORMS));
        return None;
    };
    let count = to.saturating_sub(*from);
    if count > MOST_POINTS as i64 {
        let message = format!("the axis would have {count} values, more than {MOST_POINTS}");
        errors.push(Diagnostic::at(value.origin, message));
        return None;
    }
    let make = |number| Value { kind: ValueKind::Int(number), origin: value.origin };
    Some((*from..*to).map(make).collect())
}
