//! Layers of an experiment laid over each other: the file, a profile, `--set`.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::Sources;
use super::suggest;
use super::value::{self, Entry, Value, ValueKind};

/// Sections whose entries an overlay may change but not invent.
const FIXED: [&str; 4] = ["axes", "stages", "tables", "figures"];

/// Lays `top` over `base`: tables are merged key by key, anything else is replaced.
///
/// A stage, axis, table or figure that `base` lacks is a mistake: a mistyped name must not add one.
pub fn overlay(base: &mut Value, top: &Value, errors: &mut Diagnostics) {
    for section in top.entries() {
        if !FIXED.contains(&section.key.as_str()) {
            continue;
        }
        let known: Vec<&str> = match base.get(&section.key) {
            Some(present) => present.entries().iter().map(|e| e.key.as_str()).collect(),
            None => Vec::new(),
        };
        for entry in section.value.entries() {
            if !known.contains(&entry.key.as_str()) {
                let what = section.key.trim_end_matches('s');
                let message = format!("no {what} is called `{}`", entry.key);
                let hint = suggest::hint(&entry.key, &section.key, known.iter().copied());
                errors.push(Diagnostic::at(entry.key_origin, message).hint(hint));
            }
        }
    }
    merge(base, top);
}

fn merge(base: &mut Value, top: &Value) {
    let (ValueKind::Table(entries), ValueKind::Table(over)) = (&mut base.kind, &top.kind) else {
        *base = top.clone();
        return;
    };
    for entry in over {
        match entries.iter_mut().find(|e| e.key == entry.key) {
            Some(present) => merge(&mut present.value, &entry.value),
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

/// Takes the profile of the given name out of the file's table; the section `profiles` goes in any case.
pub fn take_profile(
    root: &mut Value,
    wanted: Option<&str>,
    errors: &mut Diagnostics,
) -> Option<Value> {
    let ValueKind::Table(entries) = &mut root.kind else { return None };
    let at = entries.iter().position(|e| e.key == "profiles");
    let profiles: Vec<Entry> = match at.map(|i| entries.remove(i).value.kind) {
        Some(ValueKind::Table(profiles)) => profiles,
        _ => Vec::new(),
    };
    let wanted = wanted?;
    let names: Vec<&str> = profiles.iter().map(|e| e.key.as_str()).collect();
    let hint = suggest::hint(wanted, "profiles", names.iter().copied());
    let found = profiles.iter().find(|e| e.key == wanted).map(|e| e.value.clone());
    if found.is_none() {
        errors.push(
            Diagnostic::whole(format!("the experiment has no profile `{wanted}`")).hint(hint),
        );
    }
    found
}
