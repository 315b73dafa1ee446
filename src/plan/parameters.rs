//! One instance's parameters: from filled values to a typed stage, every mistake reported.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};

use super::python::local_imports;
use crate::engine::inputs::OVER;
use crate::engine::kind::{AnyStage, Field, Kind};
use crate::engine::parameter::{IMPORTS, NAME, PATH, Seed};
use crate::engine::stage::{Part, Violation};
use crate::spec::experiment::{RESERVED, StageEntry};
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
    let parsed = read(kind, stage.origin, table, whole, &mut found);
    if let Some(parsed) = &parsed {
        report_violations(parsed.as_ref(), stage, table, &mut found);
    }
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
    origin: Origin,
    table: &mut Cow<'_, Value>,
    mut whole: bool,
    found: &mut Vec<Diagnostic>,
) -> Option<Box<dyn AnyStage>> {
    loop {
        match (kind.parse)(table) {
            Ok(parsed) => return Some(parsed),
            Err(mut error) => {
                let Some(key) = error.key.take() else {
                    // Where something was left out, only what is missing for it is left.
                    if whole {
                        found.push(Diagnostic::of(error, origin));
                    }
                    return None;
                };
                error.message = format!("`{key}`: {}", error.message);
                found.push(Diagnostic::of(error, origin));
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
    let unknown = unknown_keys(kind, fields, table.entries().iter());
    if !unknown.is_empty() {
        found.extend(unknown);
        retain(table, |entry| fields.iter().any(|f| f.name == entry.key));
    }
}

/// Which keys and types of some parameters of a kind are wrong, whatever the others are: ranges may depend on those.
pub fn misfits(kind: &Kind, written: &Value) -> Vec<Diagnostic> {
    let fields = kind.fields();
    let mut holes = Vec::new();
    for Entry { key, value, .. } in written.entries() {
        value.each_text(&mut |text, _| holes.extend(text.contains("${").then_some(key.as_str())));
    }
    let mut table = Cow::Borrowed(written);
    retain(&mut table, |entry| !RESERVED.contains(&entry.key.as_str()));
    let mut found = Vec::new();
    known_keys(kind, &fields, &mut table, &mut found);
    // What an axis puts there is not known.
    retain(&mut table, |entry| !holes.contains(&entry.key.as_str()));
    // What is missing, stages will have.
    read(kind, written.origin, &mut table, false, &mut found);
    found
}

/// What is said of keys that a kind does not have.
fn unknown_keys<'a>(
    kind: &Kind,
    fields: &[Field],
    entries: impl Iterator<Item = &'a Entry>,
) -> Vec<Diagnostic> {
    let unknown = entries.filter(|entry| !fields.iter().any(|f| f.name == entry.key));
    let diagnostic = |entry: &Entry| {
        let message = format!("`{}` has no parameter `{}`", kind.name, entry.key);
        let names = fields.iter().map(|f| f.name.as_str());
        let hint = suggest::hint(&entry.key, "parameters", names);
        Diagnostic::at(entry.key_origin, message).hint(hint)
    };
    unknown.map(diagnostic).collect()
}

fn report_violations(
    parsed: &dyn AnyStage,
    stage: &StageEntry,
    table: &Value,
    found: &mut Vec<Diagnostic>,
) {
    for violation in parsed.check() {
        let origin = blamed(table, &violation).unwrap_or(stage.origin);
        found.push(Diagnostic::at(origin, format!("`{}` {}", violation.field, violation.rule)));
    }
}

/// Where that is written which a violation is about, or what holds it; none where all of it is left at its default.
fn blamed(table: &Value, violation: &Violation) -> Option<Origin> {
    let mut steps = violation.field.split('.').peekable();
    let mut value = table.get(steps.next()?)?;
    while let Some(inner) = steps.peek().and_then(|step| value.get(step)) {
        value = inner;
        steps.next();
    }
    let part = violation.part.as_ref().filter(|_| steps.peek().is_none());
    let origin = match (part, &value.kind) {
        (Some(Part::Item(index)), ValueKind::List(items)) => items.get(*index).map(|i| i.origin),
        (Some(Part::Value(key)), _) => value.get(key).map(|value| value.origin),
        (Some(Part::Key(key)), ValueKind::Table(entries)) => {
            entries.iter().find(|entry| entry.key == *key).map(|entry| entry.key_origin)
        }
        _ => None,
    };
    Some(origin.unwrap_or(value.origin))
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
    /// What instances are gathered over; none where it is one edge.
    pub over: Option<Over>,
}

/// The axes over which instances are gathered, each with its place.
pub type Over = Vec<(String, Origin)>;

/// Finds every edge in parameters as written.
pub fn edges<'a>(fields: &'a [Field], table: &Value) -> Vec<Edge<'a>> {
    let mut found = Vec::new();
    for entry in table.entries() {
        let Some(field) = fields.iter().find(|f| f.is_input() && f.name == entry.key) else {
            continue;
        };
        let accepts = field.accepts.as_slice();
        each_edge(&entry.value, &mut |text, origin, over| {
            found.push(Edge { text, origin, accepts, over });
        });
    }
    found
}

/// Calls `f` on every edge in the value of an input: its text, `@` included, its place, and what it is gathered over.
pub fn each_edge(value: &Value, f: &mut dyn FnMut(String, Origin, Option<Over>)) {
    match &value.kind {
        ValueKind::Text(text) if text.starts_with('@') => f(text.clone(), value.origin, None),
        ValueKind::List(items) => items.iter().for_each(|item| each_edge(item, f)),
        ValueKind::Table(entries) => match gathering(value) {
            Some((stage, origin, over)) => f(format!("@{stage}"), origin, Some(over)),
            None => entries.iter().for_each(|entry| each_edge(&entry.value, f)),
        },
        _ => (),
    }
}

/// The stage and the axes of a gathering, each with its place.
fn gathering(value: &Value) -> Option<(&str, Origin, Over)> {
    let (stage, over) = (value.get("stage")?, value.get(OVER)?);
    let ValueKind::List(over) = &over.kind else { return None };
    let axis = |axis: &Value| Some((axis.as_text()?.to_owned(), axis.origin));
    // One that is written with `@` all the same is reported where it is read.
    let name = stage.as_text()?.trim_start_matches('@');
    Some((name, stage.origin, over.iter().map(axis).collect::<Option<_>>()?))
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

/// Mixes the seeds in serialized parameters with the experiment's.
///
/// Most nodes have nothing else to be resolved, so that no tree is made of their parameters. What is looked for is no
/// part of a string, in which a quote is escaped.
pub fn resolve_seeds(parameters: String, experiment: u64) -> String {
    let Some((before, after)) = parameters.split_once(A_SEED) else { return parameters };
    // A seed has at most 20 digits.
    let mut resolved = String::with_capacity(parameters.len() + 20);
    resolved.push_str(before);
    for seed in after.split(A_SEED) {
        let (number, rest) = seed.split_at(seed.find('}').expect("a seed is a table of its own"));
        let written = number.parse().expect("a seed is a whole number");
        for part in [A_SEED, &Seed::resolve(experiment, written).to_string(), rest] {
            resolved.push_str(part);
        }
    }
    resolved
}

/// Whether paths of data are among serialized parameters.
pub fn name_data(parameters: &str) -> bool {
    parameters.contains(A_PATH)
}

/// How a seed begins where it is serialized.
const A_SEED: &str = "{\"$seed\":";
/// What is in every serialized path of data.
const A_PATH: &str = "\"$path\":";

/// Finds the data that parameters name.
pub struct Resolver<'a, 'b> {
    /// The folder that a path starts from, by where it was written; of a default there is no such place.
    pub folder: &'a dyn Fn(Option<Origin>) -> PathBuf,
    /// The content of user data.
    pub hashes: &'a mut DataHashes<'b>,
    /// Told of data that cannot be read, and where they were named.
    pub report: &'a mut dyn FnMut(Option<Origin>, String),
}

impl Resolver<'_, '_> {
    /// Makes paths of data absolute and hashes what lies there; `written` is what was written of these parameters.
    pub fn resolve(&mut self, parameters: &mut Json, written: Option<&Value>) {
        match parameters {
            Json::Object(map) => match mark(map) {
                None => {
                    for (key, value) in map {
                        self.resolve(value, written.and_then(|written| written.get(key)));
                    }
                }
                Some((PATH, text)) => {
                    let text = text.as_str().expect("a path is a string").to_owned();
                    self.path(map, &text, written.map(|written| written.origin));
                }
                Some(_) => (),
            },
            Json::Array(items) => {
                let written = match written.map(|written| &written.kind) {
                    Some(ValueKind::List(written)) => written.as_slice(),
                    _ => &[],
                };
                for (index, item) in items.iter_mut().enumerate() {
                    self.resolve(item, written.get(index));
                }
            }
            _ => (),
        }
    }

    fn path(&mut self, map: &mut Map<String, Json>, text: &str, origin: Option<Origin>) {
        if text.is_empty() {
            (self.report)(origin, "the path is empty".to_owned());
            return;
        }
        let written = (self.folder)(origin).join(text);
        let path = files::absolute(&written).unwrap_or_default();
        match self.hashes.of(&path) {
            Ok(hash) => {
                map.insert("hash".to_owned(), hash.to_hex().into());
                map.insert("resolved".to_owned(), path.to_string_lossy().into());
                if map.contains_key(NAME) && path.extension().is_some_and(|e| e == "py") {
                    self.imports(map, text, &path);
                }
            }
            Err(message) => {
                // As it was written: that is what there is to mend.
                let [path, written] = [&path, &written].map(|path| path.display().to_string());
                (self.report)(origin, message.replacen(&path, &written, 1));
            }
        }
    }

    /// Adds what a Python script imports from beside it, each as a path of its own.
    fn imports(&mut self, map: &mut Map<String, Json>, text: &str, script: &Path) {
        let found = local_imports(script, &mut |path| files::read_text(path).ok());
        let (folder, beside) = (script.parent(), Path::new(text).parent());
        let mut imports = Vec::new();
        for file in found {
            let path = folder.unwrap_or(Path::new("")).join(&file);
            let name = beside.unwrap_or(Path::new("")).join(&file);
            // Gone since it was read: the script will say so itself.
            let Ok(hash) = self.hashes.of(&path) else { continue };
            let (name, path) = (name.to_string_lossy(), path.to_string_lossy());
            imports
                .push(json!({ PATH: name, NAME: name, "resolved": path, "hash": hash.to_hex() }));
        }
        if !imports.is_empty() {
            map.insert(IMPORTS.to_owned(), imports.into());
        }
    }
}

/// The telling key of an edge, a seed or a path, and its value. No other table has a key that begins with `$`.
fn mark(map: &Map<String, Json>) -> Option<(&str, &Json)> {
    map.iter().find(|(key, _)| key.starts_with('$')).map(|(key, value)| (key.as_str(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::parameter::SEED;

    #[test]
    fn seeds_are_found_wherever_they_are_and_texts_that_look_like_them_are_not() {
        let text = r#"{"$seed":7}"#;
        let written = json!({ "seed": { SEED: 3 }, "list": [{ SEED: 0 }, text], "name": "$path" });
        let found = resolve_seeds(written.to_string(), 5);
        assert!(!name_data(&found));
        let expected = json!({
            "seed": { SEED: Seed::resolve(5, 3) },
            "list": [{ SEED: Seed::resolve(5, 0) }, text],
            "name": "$path",
        });
        assert_eq!(serde_json::from_str::<Json>(&found).unwrap(), expected);
        assert!(name_data(&json!({ "a": [{ PATH: "x", NAME: "x" }] }).to_string()));
        assert!(name_data(&json!({ "a": { NAME: "x", PATH: "x" } }).to_string()));
    }
}
