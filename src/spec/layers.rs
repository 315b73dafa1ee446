//! Layers of an experiment laid over each other: the file, its profiles, `--set`.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::Sources;
use super::suggest;
use super::value::{self, Entry, Value, ValueKind};

/// Sections whose entries an overlay may change but not invent, and what an entry is called.
const FIXED: [(&str, &str); 4] =
    [("axes", "axis"), ("stages", "stage"), ("tables", "table"), ("figures", "figure")];

/// Lays `top` over `base`: tables are merged key by key, anything else is replaced.
///
/// A parameter's table in braces is replaced too: `optimizer = { momentum = … }` over `{ gradient_descent = … }` names
/// another variant, not both. A stage, axis, table or figure that `base` lacks is a mistake: a mistyped name must not
/// add one.
pub fn overlay(base: &mut Value, top: &Value, sources: &Sources, errors: &mut Diagnostics) {
    check_names(base, top, errors);
    merge(base, top, sources, 0);
}

/// Reports names in an overlay that `base` lacks.
pub fn check_names(base: &Value, top: &Value, errors: &mut Diagnostics) {
    for section in top.entries() {
        let Some((_, what)) = FIXED.iter().find(|(name, _)| *name == section.key) else { continue };
        let known: Vec<&str> = match base.get(&section.key) {
            Some(present) => present.entries().iter().map(|e| e.key.as_str()).collect(),
            None => Vec::new(),
        };
        for entry in section.value.entries() {
            if !known.contains(&entry.key.as_str()) {
                let message = format!("no {what} is called `{}`", entry.key);
                let hint = suggest::hint(&entry.key, &section.key, known.iter().copied());
                errors.push(Diagnostic::at(entry.key_origin, message).hint(hint));
            }
        }
    }
}

/// Tables at this depth and below are values, such as `stages.NAME.PARAMETER`, and no longer places for them.
const VALUES: usize = 3;

fn merge(base: &mut Value, top: &Value, sources: &Sources, depth: usize) {
    let replaced = depth >= VALUES && sources.starts_with(top.origin, '{');
    let (ValueKind::Table(entries), ValueKind::Table(over), false) =
        (&mut base.kind, &top.kind, replaced)
    else {
        *base = top.clone();
        return;
    };
    for entry in over {
        // An axis is a value itself.
        let next = if entry.key == "axes" && depth == 0 { VALUES - 1 } else { depth + 1 };
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
        if !matches!(value.kind, ValueKind::Table(_)) {
            let message = format!("`{name}` is a table, not {}", value.type_name());
            errors.push(Diagnostic::at(value.origin, message));
        }
    }
    for profile in profiles {
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
