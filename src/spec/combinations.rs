//! Combinations of points on axes: those that `exclude` takes away, those that `include` adds, and those for which a stage
//! exists, as its `when` says.

use std::collections::{BTreeMap, BTreeSet};

use super::axes::{self, Axis, Point};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::suggest;
use super::value::{Entry, Value, ValueKind};

/// What is said of some axes: for each of them, by its index, the points that are meant, by theirs.
pub type Rule = BTreeMap<usize, Vec<usize>>;

/// What `[axes]` says of combinations.
#[derive(Clone, Debug, Default)]
pub struct Combinations {
    /// Combinations that do not exist: an instance that has all the axes of a rule, with points that it names, is left
    /// out.
    pub exclude: Vec<Rule>,
    /// Combinations that exist besides; each rule names one point of each of its axes.
    pub include: Vec<Rule>,
}

/// Taken from `[axes]`, where it is no axis.
pub const EXCLUDE: &str = "exclude";
/// Taken from `[axes]`, where it is no axis.
pub const INCLUDE: &str = "include";

/// Reads `exclude` and `include`; a point that `include` names and its axis does not hold is added to the axis, behind
/// those that are listed. What is wrong goes to `errors`.
pub fn read(
    exclude: Option<&Value>,
    include: Option<&Value>,
    axes: &mut [Axis],
    errors: &mut Diagnostics,
) -> Combinations {
    let mut combinations = Combinations::default();
    for row in rows(EXCLUDE, exclude, errors) {
        combinations.exclude.extend(rule(row, axes, errors));
    }
    for row in rows(INCLUDE, include, errors) {
        combinations.include.extend(addition(row, axes, errors));
    }
    combinations
}

/// Reads a stage's `when`; what is wrong with it goes to `errors`.
pub fn condition(when: &Value, axes: &[Axis], errors: &mut Diagnostics) -> Option<Rule> {
    if !matches!(when.kind, ValueKind::Table(_)) {
        let message = format!("`when` is a table, not {}", when.type_name());
        errors.push(Diagnostic::at(when.origin, message).hint(WHEN));
        return None;
    }
    rule(when, axes, errors)
}

const WHEN: &str =
    "`when = { source = [\"waves\"] }`: the values of axes for which the stage exists";

/// The tables of a list of combinations.
fn rows<'a>(name: &str, list: Option<&'a Value>, errors: &mut Diagnostics) -> Vec<&'a Value> {
    let Some(list) = list else { return Vec::new() };
    let hint = format!("`{name} = [{{ source = \"waves\", size = 32 }}]`");
    let ValueKind::List(items) = &list.kind else {
        let message = format!("`{name}` is a list of tables, not {}", list.type_name());
        errors.push(Diagnostic::at(list.origin, message).hint(hint));
        return Vec::new();
    };
    let is_row = |item: &&Value| !item.entries().is_empty();
    for item in items.iter().filter(|item| !is_row(item)) {
        let message = format!("each combination of `{name}` is a table that names axes");
        errors.push(Diagnostic::at(item.origin, message).hint(hint.clone()));
    }
    items.iter().filter(is_row).collect()
}

fn find(name: &Entry, axes: &[Axis], errors: &mut Diagnostics) -> Option<usize> {
    let found = axes.iter().position(|axis| axis.name == name.key);
    if found.is_none() {
        let hint = suggest::hint(&name.key, "axes", axes.iter().map(|axis| axis.name.as_str()));
        let message = format!("no axis is called `{}`", name.key);
        errors.push(Diagnostic::at(name.key_origin, message).hint(hint));
    }
    found
}

/// Reads a table of axes and what is meant of each: a value, several, or a table of what keys of the values hold.
fn rule(row: &Value, axes: &[Axis], errors: &mut Diagnostics) -> Option<Rule> {
    let before = errors.len();
    let mut rule = Rule::new();
    for entry in row.entries() {
        let Some(index) = find(entry, axes, errors) else { continue };
        let axis = &axes[index];
        let meant: Vec<usize> = match &entry.value.kind {
            ValueKind::Table(keys) if entry.value.get("name").is_none() => {
                let matches = keys.iter().map(|key| holding(axis, key, errors)).collect::<Vec<_>>();
                let all = |point: &usize| matches.iter().all(|found| found.contains(point));
                let mut meant: Vec<usize> = (0..axis.ever().count()).filter(all).collect();
                let each = matches.iter().all(|found| !found.is_empty());
                if meant.is_empty() && each {
                    let labels = axis.points.iter().map(|p| p.label.as_str());
                    let hint = suggest::hint("", "values", labels);
                    let message = format!("no value of axis `{}` has all of these", axis.name);
                    errors.push(Diagnostic::at(entry.value.origin, message).hint(hint));
                }
                // What the axis had and has no more.
                meant.retain(|point| *point < axis.points.len());
                meant
            }
            _ => alternatives(&entry.value).iter().filter_map(|v| point(axis, v, errors)).collect(),
        };
        rule.insert(index, meant);
    }
    (errors.len() == before).then_some(rule)
}

/// A value, or those of a list.
fn alternatives(value: &Value) -> Vec<&Value> {
    match &value.kind {
        ValueKind::List(items) => items.iter().collect(),
        _ => vec![value],
    }
}

/// The points that an axis ever had whose table holds a value, or one of several, under a key.
fn holding(axis: &Axis, key: &Entry, errors: &mut Diagnostics) -> Vec<usize> {
    let held = |point: &Point| point.value.get(&key.key).map(axes::label);
    if axis.ever().all(|point| held(point).is_none()) {
        let names = axis.ever().flat_map(|point| point.value.entries());
        let hint = suggest::hint(&key.key, "keys", names.map(|entry| entry.key.as_str()));
        let message = format!("no value of axis `{}` has a key `{}`", axis.name, key.key);
        errors.push(Diagnostic::at(key.key_origin, message).hint(hint));
        return Vec::new();
    }
    let mut meant = Vec::new();
    for wanted in alternatives(&key.value) {
        let label = axes::label(wanted);
        let points = axis.ever().enumerate();
        let same =
            points.filter(|(_, point)| label.is_some() && held(point) == Some(label.clone()));
        let found: Vec<usize> = same.map(|(index, _)| index).collect();
        if found.is_empty() {
            let shown = label.unwrap_or_else(|| wanted.type_name().to_owned());
            let there: BTreeSet<String> = axis.points.iter().filter_map(held).flatten().collect();
            let hint = suggest::hint(&shown, "values", there.iter().map(String::as_str));
            let message = format!("no value of axis `{}` has `{} = {shown}`", axis.name, key.key);
            errors.push(Diagnostic::at(wanted.origin, message).hint(hint));
        }
        meant.extend(found);
    }
    meant
}

/// Finds the point of an axis that a value means; none for one that it had and has no more.
fn point(axis: &Axis, value: &Value, errors: &mut Diagnostics) -> Option<usize> {
    let label = axes::label(value);
    let found = axis.ever().position(|point| Some(&point.label) == label.as_ref());
    if found.is_none() {
        let shown = label.unwrap_or_else(|| value.type_name().to_owned());
        let hint = suggest::hint(&shown, "values", axis.points.iter().map(|p| p.label.as_str()));
        let message = format!("axis `{}` has no value `{shown}`", axis.name);
        errors.push(Diagnostic::at(value.origin, message).hint(hint));
    }
    found.filter(|point| *point < axis.points.len())
}

/// Reads a combination to be added.
fn addition(row: &Value, axes: &mut [Axis], errors: &mut Diagnostics) -> Option<Rule> {
    let before = errors.len();
    let mut rule = Rule::new();
    for entry in row.entries() {
        let Some(index) = find(entry, axes, errors) else { continue };
        let axis = &mut axes[index];
        match axes::checked(&entry.value) {
            Ok(label) => {
                let known = axis.points.iter().position(|point| point.label == label);
                let point = known.unwrap_or_else(|| {
                    axis.points.push(Point { label, value: entry.value.clone() });
                    axis.points.len() - 1
                });
                rule.insert(index, vec![point]);
            }
            Err(diagnostic) => errors.push(diagnostic),
        }
    }
    (errors.len() == before).then_some(rule)
}
