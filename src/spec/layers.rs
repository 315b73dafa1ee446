//! Layers of an experiment laid over each other: defaults, the files it extends, the file, its profiles, `--set`.

use std::collections::BTreeMap;

use super::combinations::{EXCLUDE, INCLUDE};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::Sources;
use super::suggest;
use super::value::{self, Entry, Value, ValueKind};

/// Sections whose entries an overlay changes, what an entry is called, and by which of its keys it is whole: an overlay
/// may add what has one of those.
const FIXED: [(&str, &str, &[&str]); 4] = [
    ("axes", "axis", &[]),
    ("stages", "stage", &["kind"]),
    ("tables", "table", &["from"]),
    ("figures", "figure", &["from", "layers"]),
];

/// Lays `top` over `base`: tables are merged key by key, anything else is replaced.
///
/// A parameter's table in braces is replaced too: `optimizer = { momentum = … }` over `{ gradient_descent = … }` names
/// another variant, not both. A stage, table or figure that `base` lacks is added if it says what it is, by `kind` or
/// `from`; else, and for an axis, it is a mistake: a mistyped name must not add one.
pub fn overlay(base: &mut Value, top: &Value, sources: &Sources, errors: &mut Diagnostics) {
    check_names(base, top, errors);
    merge(base, top, sources, ROOT);
}

/// Lays a file over the one that it extends, as [`overlay`] does but for names: it may add what it likes. A profile is
/// laid over that of the same name.
pub fn lay_over(base: &mut Value, top: Value, sources: &Sources) {
    if base.entries().is_empty() {
        *base = top;
    } else {
        merge(base, &top, sources, ROOT);
    }
}

/// Lays every stage over the defaults of its kind, `[defaults."KIND"]`.
pub fn apply_defaults(root: &mut Value, sources: &Sources, errors: &mut Diagnostics) {
    let Some(section) = root.get(DEFAULTS).cloned() else { return };
    if !is_table(DEFAULTS, &section, errors) {
        return;
    }
    let mut defaults: BTreeMap<&str, Value> = BTreeMap::new();
    for Entry { key, value, .. } in section.entries() {
        if !is_table(key, value, errors) {
            continue;
        }
        for entry in value.entries().iter().filter(|e| NO_DEFAULTS.contains(&e.key.as_str())) {
            let message = format!("`{}` has no default: each stage has its own", entry.key);
            errors.push(Diagnostic::at(entry.key_origin, message));
        }
        let mut value = value.clone();
        for key in NO_DEFAULTS {
            value.take(key);
        }
        defaults.insert(key, value);
    }
    let stages = root.entries_mut().iter_mut().find(|entry| entry.key == "stages");
    for stage in stages.into_iter().flat_map(|section| section.value.entries_mut()) {
        let kind = stage.value.get("kind").and_then(Value::as_text);
        let Some(default) = kind.and_then(|kind| defaults.get(kind)) else { continue };
        let mut whole = Value { origin: stage.value.origin, ..default.clone() };
        merge(&mut whole, &stage.value, sources, VALUES - 1);
        whole.origin = stage.value.origin;
        stage.value = whole;
    }
}

/// The section of defaults by kind.
pub const DEFAULTS: &str = "defaults";
/// Keys of a stage that are its own.
const NO_DEFAULTS: [&str; 3] = ["kind", "about", "when"];

fn is_table(name: &str, value: &Value, errors: &mut Diagnostics) -> bool {
    let is_table = matches!(value.kind, ValueKind::Table(_));
    if !is_table {
        let message = format!("`{name}` is a table, not {}", value.type_name());
        errors.push(Diagnostic::at(value.origin, message));
    }
    is_table
}

/// The sections that a profile may lay values over.
const LAID_OVER: [&str; 6] = ["experiment", "axes", "defaults", "stages", "tables", "figures"];

/// Reports sections of a profile that lie over nothing.
fn check_sections(profile: &Value, errors: &mut Diagnostics) {
    for section in profile.entries() {
        if LAID_OVER.contains(&section.key.as_str()) {
            is_table(&section.key, &section.value, errors);
            continue;
        }
        let message = format!("a profile has no section `{}`", section.key);
        let hint = suggest::hint(&section.key, "sections", LAID_OVER);
        errors.push(Diagnostic::at(section.key_origin, message).hint(hint));
    }
}

/// Reports names in an overlay that `base` lacks.
pub fn check_names(base: &Value, top: &Value, errors: &mut Diagnostics) {
    for section in top.entries() {
        let Some((_, what, whole)) = FIXED.iter().find(|(name, ..)| *name == section.key) else {
            continue;
        };
        let known: Vec<&str> = match base.get(&section.key) {
            Some(present) => present.entries().iter().map(|e| e.key.as_str()).collect(),
            None => Vec::new(),
        };
        for entry in section.value.entries() {
            // What `[axes]` says of combinations is no axis.
            let is_rule = what == &"axis" && [EXCLUDE, INCLUDE].contains(&entry.key.as_str());
            let is_whole = whole.iter().any(|key| entry.value.get(key).is_some());
            if !is_rule && !is_whole && !known.contains(&entry.key.as_str()) {
                let message = format!("no {what} is called `{}`", entry.key);
                let hint = suggest::hint(&entry.key, &section.key, known.iter().copied());
                errors.push(Diagnostic::at(entry.key_origin, message).hint(hint));
            }
        }
    }
}

/// Tables at this depth and below are values, such as `stages.NAME.PARAMETER`, and no longer places for them.
const VALUES: i32 = 3;
/// The depth of the table of all sections.
const ROOT: i32 = 0;

fn merge(base: &mut Value, top: &Value, sources: &Sources, depth: i32) {
    let replaced = depth >= VALUES && sources.starts_with(top.origin, '{');
    let (ValueKind::Table(entries), ValueKind::Table(over), false) =
        (&mut base.kind, &top.kind, replaced)
    else {
        *base = top.clone();
        return;
    };
    for entry in over {
        let next = match entry.key.as_str() {
            // An axis is a value itself.
            "axes" if depth == ROOT => VALUES - 1,
            // A profile is a table of all sections.
            "profiles" if depth == ROOT => ROOT - 1,
            _ => depth + 1,
        };
        match entries.iter_mut().find(|e| e.key == entry.key) {
            Some(present) => merge(&mut present.value, &entry.value, sources, next),
            None => entries.push(entry.clone()),
        }
    }
}

/// Reads one `--set PATH=VALUE`; a value that is no TOML is taken as a string.
pub fn parse_set(sources: &mut Sources, text: &str, errors: &mut Diagnostics) -> Option<Value> {
    let Some((path, written)) = text.split_once('=') else {
        errors.push(
            Diagnostic::whole(format!("`--set {text}` has no `=`"))
                .hint("write `--set stages.NAME.PARAMETER=VALUE`"),
        );
        return None;
    };
    let mut trial = Diagnostics::default();
    let name = format!("--set {text}");
    let source = sources.add(&name, text);
    let parsed = value::parse(sources, source, text, &mut trial);
    if trial.is_empty() {
        return Some(parsed);
    }
    let quoted = format!("{path}={}", toml::Value::String(written.trim().to_owned()));
    let source = sources.add(name, quoted.clone());
    let before = errors.len();
    let parsed = value::parse(sources, source, &quoted, errors);
    (errors.len() == before).then_some(parsed)
}

/// Takes the profiles out of the file's table, checks them all, and yields the one of the given name.
pub fn take_profile(
    root: &mut Value,
    wanted: Option<&str>,
    errors: &mut Diagnostics,
) -> Option<Value> {
    let section = root.take("profiles");
    let profiles: &[Entry] = section.as_ref().map_or(&[], |section| section.entries());
    for (name, value) in section
        .iter()
        .map(|s| ("profiles", s))
        .chain(profiles.iter().map(|profile| (profile.key.as_str(), &profile.value)))
    {
        is_table(name, value, errors);
    }
    for profile in profiles {
        check_sections(&profile.value, errors);
        check_names(root, &profile.value, errors);
    }
    let wanted = wanted?;
    let names: Vec<&str> = profiles.iter().map(|e| e.key.as_str()).collect();
    let hint = suggest::hint(wanted, "profiles", names.iter().copied());
    let found = profiles.iter().find(|e| e.key == wanted).map(|e| &e.value);
    if found.is_none() {
        errors.push(
            Diagnostic::whole(format!("the experiment has no profile `{wanted}`")).hint(hint),
        );
    }
    found.filter(|profile| matches!(profile.kind, ValueKind::Table(_))).cloned()
}
