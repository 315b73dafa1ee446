//! `wavecrest show --resolved`: the experiment as it stands with all its layers, each value with where it came from.

use serde_json::{Value as Json, json};

use super::{CliError, ExperimentArgs, print};
use crate::engine::parameter::SEED;
use crate::spec::experiment::layered;
use crate::spec::value::Entry;
use crate::spec::{Diagnostics, Sources, Value, ValueKind};
use crate::stages::KINDS;
use crate::ui;

/// Prints an experiment with all layers laid over each other, as TOML or JSON.
pub fn resolved(args: &ExperimentArgs, as_json: bool) -> Result<(), CliError> {
    let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
    let root =
        layered(&args.file, &args.overlays(), &mut sources, &mut errors).map(|(root, _)| root);
    let Some(root) = root.filter(|_| errors.is_empty()) else {
        return Err(CliError::Usage(errors.render(&sources, ui::colored())));
    };
    let mut listing = Listing { sources: &sources, lines: Vec::new() };
    // The stages have them already.
    let sections = root.entries().iter().filter(|section| section.key != "defaults");
    for section in sections {
        listing.entry(&[], section);
    }
    if as_json {
        let row =
            |line: &Line| json!({ "path": line.path(), "value": line.json, "from": line.from });
        let rows: Vec<Json> = listing.lines.iter().map(row).collect();
        return print(&(serde_json::to_string_pretty(&rows).expect("rows are plain data") + "\n"));
    }
    print(&as_toml(&listing.lines))
}

/// One value.
struct Line {
    table: Vec<String>,
    key: String,
    toml: String,
    json: Json,
    from: String,
}

impl Line {
    fn path(&self) -> String {
        dotted(&[self.table.as_slice(), std::slice::from_ref(&self.key)].concat())
    }
}

struct Listing<'a> {
    sources: &'a Sources,
    lines: Vec<Line>,
}

impl Listing<'_> {
    fn entry(&mut self, table: &[String], entry: &Entry) {
        // What is written in braces is one value, and so it was laid over others.
        if self.is_header(&entry.value) {
            let table = [table, std::slice::from_ref(&entry.key)].concat();
            let (tables, values): (Vec<&Entry>, Vec<&Entry>) =
                entry.value.entries().iter().partition(|entry| self.is_header(&entry.value));
            for entry in values {
                self.entry(&table, entry);
            }
            if let [section, _] = table.as_slice()
                && section == "stages"
            {
                self.defaults(&table, &entry.value);
            }
            for entry in tables {
                self.entry(&table, entry);
            }
            return;
        }
        let json = entry.value.kind.to_json();
        self.lines.push(Line {
            table: table.to_vec(),
            key: entry.key.clone(),
            toml: toml(&json),
            json,
            from: self.sources.describe(entry.value.origin),
        });
    }

    fn is_header(&self, value: &Value) -> bool {
        matches!(value.kind, ValueKind::Table(_)) && !self.sources.starts_with(value.origin, '{')
    }

    /// The parameters of a stage's kind that nothing says.
    fn defaults(&mut self, table: &[String], stage: &Value) {
        let kind = stage.get("kind").and_then(Value::as_text).and_then(|name| KINDS.get(name));
        let Some(kind) = kind else { return };
        for field in kind.fields().into_iter().filter(|field| stage.get(&field.name).is_none()) {
            let Some(json) = field.schema.get("default").filter(|json| !json.is_null()) else {
                continue;
            };
            // Serialized, a seed is an object; written, it is a number.
            let json = json.get(SEED).unwrap_or(json);
            self.lines.push(Line {
                table: table.to_vec(),
                key: field.name,
                toml: toml(json),
                json: json.clone(),
                from: format!("default of {}", kind.name),
            });
        }
    }
}

fn as_toml(lines: &[Line]) -> String {
    const WIDEST: usize = 60;
    let mut text = String::new();
    let assigned = |line: &Line| format!("{} = {}", key(&line.key), line.toml);
    let widths = lines.iter().map(|line| assigned(line).chars().count());
    let width = widths.filter(|width| *width <= WIDEST).max().unwrap_or(0);
    let mut table: &[String] = &[];
    for line in lines {
        if line.table != table {
            table = &line.table;
            let gap = if text.is_empty() { "" } else { "\n" };
            text += &format!("{gap}[{}]\n", dotted(table));
        }
        text += &format!("{:width$}  # {}\n", assigned(line), line.from);
    }
    text
}

fn dotted(path: &[String]) -> String {
    path.iter().map(|name| key(name)).collect::<Vec<_>>().join(".")
}

/// A key as TOML has it.
fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// A string on one line, which JSON writes as TOML does, but for one character.
fn quoted(text: &str) -> String {
    Json::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// A value on one line of TOML; `null` is nothing that TOML has, and stands in no experiment.
fn toml(json: &Json) -> String {
    match json {
        Json::String(text) => quoted(text),
        Json::Array(items) => {
            format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        Json::Object(map) if map.is_empty() => "{}".to_owned(),
        Json::Object(map) => {
            let parts = map.iter().map(|(name, value)| format!("{} = {}", key(name), toml(value)));
            format!("{{ {} }}", parts.collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    }
}
