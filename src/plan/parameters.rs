//! One instance's parameters: from filled values to a typed stage, every mistake reported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::engine::kind::{AnyStage, Field, Kind};
use crate::engine::parameter::{PATH, SEED, Seed};
use crate::spec::experiment::StageEntry;
use crate::spec::value::Entry;
use crate::spec::{Diagnostic, Diagnostics, Origin, Value, ValueKind, suggest};
use crate::store::stamps::Stamps;
use crate::store::{Hash, files};

/// Reads the parameters of an instance; all that is wrong with them goes to `errors`. Those in `left_out` have mistakes
/// that are reported already.
pub fn parse(
    kind: &Kind,
    fields: &[Field],
    stage: &StageEntry,
    filled: Vec<Entry>,
    left_out: &[&str],
    errors: &mut Diagnostics,
) -> Option<Box<dyn AnyStage>> {
    let mut found = Vec::new();
    let mut table = known_keys(kind, fields, filled, &mut found);
    refuse_marks(&table, &mut found);
    for field in fields.iter().filter(|f| f.required && !left_out.contains(&f.name.as_str())) {
        if !table.iter().any(|e| e.key == field.name) {
            let message = format!("stage `{}` lacks `{}`", stage.name, field.name);
            let about = field.schema["description"].as_str().unwrap_or_default();
            found.push(Diagnostic::at(stage.origin, message).hint(first_sentence(about)));
        }
    }
    let whole = found.is_empty() && left_out.is_empty();
    let parsed = read(kind, stage, &mut table, whole, &mut found);
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
    table: &mut Vec<Entry>,
    mut whole: bool,
    found: &mut Vec<Diagnostic>,
) -> Option<Box<dyn AnyStage>> {
    loop {
        let value = Value { kind: ValueKind::Table(table.clone()), origin: stage.origin };
        match (kind.parse)(&value) {
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
                table.retain(|entry| entry.key != key);
                whole = false;
            }
        }
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
    filled: Vec<Entry>,
    found: &mut Vec<Diagnostic>,
) -> Vec<Entry> {
    let (known, unknown): (Vec<Entry>, Vec<Entry>) =
        filled.into_iter().partition(|e| fields.iter().any(|f| f.name == e.key));
    for entry in unknown {
        let message = format!("`{}` has no parameter `{}`", kind.name, entry.key);
        let names = fields.iter().map(|f| f.name.as_str());
        let hint = suggest::hint(&entry.key, "parameters", names);
        found.push(Diagnostic::at(entry.key_origin, message).hint(hint));
    }
    known
}

fn report_violations(
    parsed: &dyn AnyStage,
    stage: &StageEntry,
    table: &[Entry],
    found: &mut Vec<Diagnostic>,
) {
    for violation in parsed.check() {
        let entry = table.iter().find(|e| e.key == violation.field);
        let origin = entry.map_or(stage.origin, |e| e.value.origin);
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
pub struct Edge {
    /// As written, placeholders filled.
    pub text: String,
    /// The artifact types that the field takes.
    pub accepts: Vec<String>,
}

/// Finds every edge in parameters as written, and where it was written.
pub fn edges(fields: &[Field], filled: &[Entry]) -> Vec<(Edge, Origin)> {
    let mut found: Vec<(Edge, Origin)> = Vec::new();
    for entry in filled {
        let Some(accepts) = fields.iter().find(|f| f.name == entry.key).map(|f| &f.accepts) else {
            continue;
        };
        if accepts.is_empty() {
            continue;
        }
        entry.value.each_text(&mut |text, origin| {
            if text.starts_with('@') {
                found.push((Edge { text: text.to_owned(), accepts: accepts.clone() }, origin));
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
        Json::Object(map) => {
            if let Some(written) = map.get(SEED).and_then(Json::as_u64) {
                map.insert(SEED.to_owned(), Seed::resolve(root_seed, written).into());
            } else if let Some(written) = map.get(PATH).and_then(Json::as_str).map(str::to_owned) {
                let path = files::absolute(&folder.join(&written)).unwrap_or_default();
                match hashes.of(&path) {
                    Ok(hash) => {
                        map.insert("hash".to_owned(), hash.to_hex().into());
                        map.insert("resolved".to_owned(), path.to_string_lossy().into());
                    }
                    Err(message) => report(&written, message),
                }
            } else {
                for value in map.values_mut() {
                    resolve(value, root_seed, folder, hashes, report);
                }
            }
        }
        Json::Array(items) => {
            for item in items {
                resolve(item, root_seed, folder, hashes, report);
            }
        }
        _ => (),
    }
}

/// Where each parameter was written, and where each string in it.
pub fn origins(filled: &[Entry]) -> (BTreeMap<String, Origin>, BTreeMap<String, Origin>) {
    let keys = filled.iter().map(|e| (e.key.clone(), e.value.origin)).collect();
    let mut texts = BTreeMap::new();
    for entry in filled {
        entry.value.each_text(&mut |text, origin| {
            texts.entry(text.to_owned()).or_insert(origin);
        });
    }
    (keys, texts)
}
