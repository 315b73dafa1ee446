//! One instance's parameters: from filled values to a typed stage, every mistake reported.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::engine::kind::{AnyStage, Field, Kind};
use crate::engine::parameter::{PATH, SEED, Seed};
use crate::spec::experiment::StageEntry;
use crate::spec::value::Entry;
use crate::spec::{Diagnostic, Diagnostics, Origin, Value, ValueKind, suggest};
use crate::store::stamps::Stamps;
use crate::store::{Hash, files};

/// Reads the parameters of an instance; all that is wrong with them goes to `errors`, and is taken out of the table.
/// Those in `left_out` have mistakes that are reported already.
pub fn parse(
    kind: &Kind,
    fields: &[Field],
    stage: &StageEntry,
    table: &mut Cow<'_, Value>,
    left_out: &[&str],
    errors: &mut Diagnostics,
) -> Option<Box<dyn AnyStage>> {
    let mut found = Vec::new();
    known_keys(kind, fields, table, &mut found);
    refuse_marks(table.entries(), &mut found);
    for field in fields.iter().filter(|f| f.required && !left_out.contains(&f.name.as_str())) {
        if table.get(&field.name).is_none() {
            let message = format!("stage `{}` lacks `{}`", stage.name, field.name);
            let about = field.schema["description"].as_str().unwrap_or_default();
            found.push(Diagnostic::at(stage.origin, message).hint(first_sentence(about)));
        }
    }
    let whole = found.is_empty() && left_out.is_empty();
    let parsed = read(kind, stage, table, whole, &mut found);
    let whole = found.is_empty() && left_out.is_empty();
    // A sweep meets the same mistake once an instance: whether this one has any is counted before they are joined.
    for diagnostic in found {
        errors.push(diagnostic);
    }
    parsed.filter(|_| whole)
}

/// Reads a table into its kind; a value that does not fit is reported, left out, and the rest is read again.
fn read(
    kind: &Kind,
    stage: &StageEntry,
    table: &mut Cow<'_, Value>,
    mut whole: bool,
    found: &mut Vec<Diagnostic>,
) -> Option<Box<dyn AnyStage>> {
    loop {
        match (kind.parse)(table) {
            Ok(parsed) => {
                report_violations(parsed.as_ref(), stage, table, found);
                return Some(parsed);
            }
            Err(mut error) => {
                let Some(key) = error.key.take() else {
                    // Where something was left out, only what is missing for it is left.
                    if whole {
                        found.push(Diagnostic::of(error, stage.origin));
                    }
                    return None;
                };
                error.message = format!("`{key}`: {}", error.message);
                found.push(Diagnostic::of(error, stage.origin));
                retain(table, |entry| entry.key != key);
                whole = false;
            }
        }
    }
}

/// Takes entries out of a table, which is copied only then: few are wrong, and many stages have no copy of their own.
fn retain(table: &mut Cow<'_, Value>, keep: impl Fn(&Entry) -> bool) {
    if let ValueKind::Table(entries) = &mut table.to_mut().kind {
        entries.retain(keep);
    }
}

/// Reports keys inside parameters that begin with `$`: the engine's own marks are written so.
fn refuse_marks(entries: &[Entry], found: &mut Vec<Diagnostic>) {
    fn within(value: &Value, found: &mut Vec<Diagnostic>) {
        match &value.kind {
            ValueKind::Table(entries) => refuse_marks(entries, found),
            ValueKind::List(items) => items.iter().for_each(|item| within(item, found)),
            _ => (),
        }
    }
    for entry in entries {
        if entry.key.starts_with('$') {
            let message = format!("a key cannot begin with `$`: `{}`", entry.key);
            found.push(Diagnostic::at(entry.key_origin, message));
        }
        within(&entry.value, found);
    }
}

/// Reports keys that the kind does not have, and leaves them out.
fn known_keys(
    kind: &Kind,
    fields: &[Field],
    table: &mut Cow<'_, Value>,
    found: &mut Vec<Diagnostic>,
) {
    let known = |entry: &Entry| fields.iter().any(|f| f.name == entry.key);
    if table.entries().iter().all(known) {
        return;
    }
    for entry in table.entries().iter().filter(|entry| !known(entry)) {
        let message = format!("`{}` has no parameter `{}`", kind.name, entry.key);
        let names = fields.iter().map(|f| f.name.as_str());
        let hint = suggest::hint(&entry.key, "parameters", names);
        found.push(Diagnostic::at(entry.key_origin, message).hint(hint));
    }
    retain(table, known);
}

fn report_violations(
    parsed: &dyn AnyStage,
    stage: &StageEntry,
    table: &Value,
    found: &mut Vec<Diagnostic>,
) {
    for violation in parsed.check() {
        let origin = table.get(violation.field).map_or(stage.origin, |value| value.origin);
        found.push(Diagnostic::at(origin, format!("`{}` {}", violation.field, violation.rule)));
    }
}

fn first_sentence(text: &str) -> String {
    let text = text.replace('\n', " ");
    let end = text.find(". ").unwrap_or(text.trim_end_matches('.').len());
    format!("it is needed: {}", &text[..end])
}

/// One edge found in parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge<'a> {
    /// As written, placeholders filled.
    pub text: String,
    /// Where it was written.
    pub origin: Origin,
    /// The artifact types that the field takes.
    pub accepts: &'a [String],
}

/// Finds every edge in parameters as written.
pub fn edges<'a>(fields: &'a [Field], table: &Value) -> Vec<Edge<'a>> {
    let mut found = Vec::new();
    for entry in table.entries() {
        let Some(field) = fields.iter().find(|f| f.is_input() && f.name == entry.key) else {
            continue;
        };
        entry.value.each_text(&mut |text, origin| {
            if text.starts_with('@') {
                found.push(Edge { text: text.to_owned(), origin, accepts: &field.accepts });
            }
        });
    }
    found
}

/// Content hashes of user data, each path read once a plan.
pub struct DataHashes<'a> {
    stamps: &'a mut Stamps,
    known: BTreeMap<PathBuf, Result<Hash, String>>,
}

impl<'a> DataHashes<'a> {
    /// Hashes what the stamps do not know.
    pub fn new(stamps: &'a mut Stamps) -> Self {
        Self { stamps, known: BTreeMap::new() }
    }

    fn of(&mut self, path: &Path) -> Result<Hash, String> {
        let compute = || self.stamps.data(path).map_err(|e| e.to_string());
        self.known.entry(path.to_path_buf()).or_insert_with(compute).clone()
    }

    /// Every path that was hashed, with its content.
    pub fn found(self) -> Vec<(PathBuf, Hash)> {
        self.known.into_iter().filter_map(|(path, hash)| Some((path, hash.ok()?))).collect()
    }
}

/// Resolves seeds, and makes paths of data absolute and hashes what lies there.
pub fn resolve(
    parameters: &mut Json,
    root_seed: u64,
    folder: &Path,
    hashes: &mut DataHashes<'_>,
    report: &mut dyn FnMut(&str, String),
) {
    match parameters {
        Json::Object(map) => match mark(map) {
            None => {
                for value in map.values_mut() {
                    resolve(value, root_seed, folder, hashes, report);
                }
            }
            Some((SEED, written)) => {
                let written = written.as_u64().expect("a seed is a whole number");
                map.insert(SEED.to_owned(), Seed::resolve(root_seed, written).into());
            }
            Some((PATH, written)) => {
                let written = written.as_str().expect("a path is a string").to_owned();
                let path = files::absolute(&folder.join(&written)).unwrap_or_default();
                match hashes.of(&path) {
                    Ok(hash) => {
                        map.insert("hash".to_owned(), hash.to_hex().into());
                        map.insert("resolved".to_owned(), path.to_string_lossy().into());
                    }
                    Err(message) => report(&written, message),
                }
            }
            Some(_) => (),
        },
        Json::Array(items) => {
            for item in items {
                resolve(item, root_seed, folder, hashes, report);
            }
        }
        _ => (),
    }
}

/// The telling key of an edge, a seed or a path, and its value. No other table has a key that begins with `$`.
fn mark(map: &Map<String, Json>) -> Option<(&str, &Json)> {
    map.iter().find(|(key, _)| key.starts_with('$')).map(|(key, value)| (key.as_str(), value))
}

/// Where a string first stands in parameters.
pub fn origin_of(table: &Value, wanted: &str) -> Option<Origin> {
    let mut found = None;
    table.each_text(&mut |text, origin| {
        if found.is_none() && text == wanted {
            found = Some(origin);
        }
    });
    found
}
