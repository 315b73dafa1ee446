//! Axes: named sweeps, and the values they take.

use std::collections::BTreeSet;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::Origin;
use super::suggest;
use super::value::{Entry, Value, ValueKind};

/// A named sweep.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Its name, which instances and columns carry.
    pub name: String,
    /// Where it was written.
    pub origin: Origin,
    /// Its values in order, none twice: those that are listed, then those that only `include` names.
    pub points: Vec<Point>,
    /// How many are listed.
    pub listed: usize,
    /// Values that a layer below had and one above took away: what is said of them is no mistake, and holds of nothing.
    pub former: Vec<Point>,
}

/// The sections `[axes]` as they were before layers were laid over them.
#[derive(Debug, Default)]
pub struct Former(Vec<Value>);

impl Former {
    /// Notes what the axes are before something is laid over them.
    pub fn note(&mut self, root: &Value) {
        self.0.extend(root.get("axes").cloned());
    }

    /// The values that an axis had and has no more, each once.
    fn of(&self, axis: &Axis) -> Vec<Point> {
        let mut found: Vec<Point> = Vec::new();
        let mut known: BTreeSet<&str> = axis.points.iter().map(|p| p.label.as_str()).collect();
        let sections = self.0.iter().flat_map(Value::entries).filter(|e| e.key == axis.name);
        let earlier: Vec<Axis> = sections.map(|e| read(e, &mut Diagnostics::default())).collect();
        for point in earlier.iter().flat_map(|axis| &axis.points) {
            if known.insert(&point.label) {
                found.push(point.clone());
            }
        }
        found
    }

    /// Tells every axis which values it had.
    pub fn tell(&self, axes: &mut [Axis]) {
        for axis in axes {
            axis.former = self.of(axis);
        }
    }
}

/// One value of an axis.
#[derive(Clone, Debug)]
pub struct Point {
    /// What names of instances show.
    pub label: String,
    /// The value; for a table, several parameters moved together.
    pub value: Value,
}

impl Axis {
    /// Its points, then those that it had in a layer below.
    pub fn ever(&self) -> impl Iterator<Item = &Point> + Clone {
        self.points.iter().chain(&self.former)
    }
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

/// Longest label: it is a part of every name downstream.
const LONGEST_LABEL: usize = 100;

/// Reads one entry of `[axes]`; what is wrong with it goes to `errors`, and the points that could be read come back.
pub fn read(entry: &Entry, errors: &mut Diagnostics) -> Axis {
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
        let hint = match entry.value.kind {
            ValueKind::List(_) => "list at least one value, or take the axis out",
            _ => "`range = [0, 3]` counts 0, 1, 2: up to, but not including, the second number",
        };
        errors.push(Diagnostic::at(entry.value.origin, "the axis has no values").hint(hint));
    }
    let mut labels = BTreeSet::new();
    let mut points: Vec<Point> = Vec::new();
    for value in values {
        match checked(&value) {
            Ok(label) if labels.insert(label.clone()) => points.push(Point { label, value }),
            Ok(label) => {
                let message = format!("the axis holds `{label}` twice");
                errors.push(Diagnostic::at(value.origin, message));
            }
            Err(diagnostic) => errors.push(diagnostic),
        }
    }
    let listed = points.len();
    let (name, origin) = (entry.key.clone(), entry.key_origin);
    Axis { name, origin, points, listed, former: Vec::new() }
}

/// The label of a value on an axis, if it can be a part of the names of instances.
pub(super) fn checked(value: &Value) -> Result<String, Diagnostic> {
    let Some(label) = label(value) else {
        let message =
            "a value of an axis is a number, a string, a boolean or a table with a `name`";
        return Err(Diagnostic::at(value.origin, message));
    };
    let misread = |c: char| c.is_control() || "[]=,\"`".contains(c);
    if label.is_empty() || label.chars().count() > LONGEST_LABEL || label.contains(misread) {
        let message = format!(
            "a value of an axis is a part of names: 1 to {LONGEST_LABEL} characters, none of `[ ] = ,`, no quotes"
        );
        let hint = "write `{ name = \"short\", value = … }` and `${axis.value}` for other texts";
        return Err(Diagnostic::at(value.origin, message).hint(hint));
    }
    Ok(label)
}

const NOT_AN_AXIS: &str = "an axis is a list of values or one of the generating forms";
const FORMS: &str = "`[1, 2]`, `{ range = [0, 5] }`, `{ linspace = [0, 1, 11] }` or `{ logspace = [1e-4, 1e-1, 4] }`";

/// Writes a value as names show it.
pub fn label(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Bool(flag) => Some(flag.to_string()),
        ValueKind::Int(number) => Some(number.to_string()),
        ValueKind::Float(number) => {
            let plain = number.to_string();
            Some(if plain.len() > 8 { shorter(plain, format!("{number:e}")) } else { plain })
        }
        ValueKind::Text(text) => Some(text.clone()),
        ValueKind::Table(_) => value.get("name").and_then(Value::as_text).map(str::to_owned),
        ValueKind::List(_) => None,
    }
}

fn shorter(a: String, b: String) -> String {
    if b.len() < a.len() { b } else { a }
}

fn generate(form: &Entry, errors: &mut Diagnostics) -> Option<Vec<Value>> {
    let origin = form.value.origin;
    let numbers = numbers(&form.value);
    let made = match (form.key.as_str(), numbers.as_deref()) {
        ("range", Some([_, _])) => return range(&form.value, errors),
        ("linspace", Some(&[from, to, count])) if is_count(count) && (to - from).is_finite() => {
            Some(spaced(from, to, count as usize, &|t| from + (to - from) * t))
        }
        ("logspace", Some(&[from, to, count])) if is_count(count) && from > 0.0 && to > 0.0 => {
            Some(spaced(from, to, count as usize, &|t| {
                let (from, to) = (libm::log10(from), libm::log10(to));
                libm::exp10(from + (to - from) * t)
            }))
        }
        ("range" | "linspace" | "logspace", _) => {
            let message = format!("`{}` does not take these numbers", form.key);
            let hint = match form.key.as_str() {
                "range" => "`range = [0, 5]`: two integers, the second not included",
                "linspace" => {
                    "`linspace = [0, 1, 11]`: the ends, and how many values; at most 1000000"
                }
                _ => {
                    "`logspace = [1e-4, 1e-1, 4]`: the ends, above 0, and how many values; at most 1000000"
                }
            };
            errors.push(Diagnostic::at(origin, message).hint(hint));
            return None;
        }
        (other, _) => {
            let message = format!("no generating form is called `{other}`");
            let hint = suggest::hint(other, "forms", ["range", "linspace", "logspace"]);
            errors.push(Diagnostic::at(form.key_origin, message).hint(hint));
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

/// `count` points from one end to the other; `between` yields those in between, at fractions of the way.
///
/// The ends are what was written. The others are rounded to twelve digits, so that a step of a tenth is 0.3 and not
/// 0.30000000000000004.
fn spaced(from: f64, to: f64, count: usize, between: &dyn Fn(f64) -> f64) -> Vec<f64> {
    let last = count - 1;
    let point = |i: usize| match i {
        0 => from,
        i if i == last => to,
        i => {
            let exact = between(i as f64 / last as f64);
            format!("{exact:.11e}").parse().unwrap_or(exact)
        }
    };
    (0..count).map(point).collect()
}

/// Whole numbers from the first up to, not including, the second.
fn range(value: &Value, errors: &mut Diagnostics) -> Option<Vec<Value>> {
    let ValueKind::List(items) = &value.kind else { return None };
    let [ValueKind::Int(from), ValueKind::Int(to)] = [&items[0].kind, &items[1].kind] else {
        errors.push(Diagnostic::at(value.origin, "`range` takes two integers").hint(FORMS));
        return None;
    };
    let count = i128::from(*to) - i128::from(*from);
    if count > MOST_POINTS as i128 {
        let message = format!("the axis would have {count} values, more than {MOST_POINTS}");
        errors.push(Diagnostic::at(value.origin, message));
        return None;
    }
    let make = |number| Value { kind: ValueKind::Int(number), origin: value.origin };
    Some((*from..*to).map(make).collect())
}
