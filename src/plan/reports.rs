//! Tables and figures at planning: read, and what they draw from checked.

use crate::engine::graph::Graph;
use crate::report::figures::FigureSpec;
use crate::report::tables::TableSpec;
use crate::spec::deserialize::from_table;
use crate::spec::value::Entry;
use crate::spec::{Diagnostic, Diagnostics, Experiment, Origin, Value, suggest};

/// A table to write.
#[derive(Clone, Debug)]
pub struct TableEntry {
    /// Its name, which its files carry.
    pub name: String,
    /// What it shows.
    pub spec: TableSpec,
    /// Where its rows come from.
    pub from: From,
}

/// A figure to write.
#[derive(Clone, Debug)]
pub struct FigureEntry {
    /// Its name, which its files carry.
    pub name: String,
    /// What it shows.
    pub spec: FigureSpec,
    /// Where the rows of each name in it come from, each name once.
    pub from: Vec<From>,
}

/// The results that a table or figure reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// As written: `probe`, or `probe.history`.
    pub text: String,
    /// The stage.
    pub stage: String,
    /// The table among its outputs; the metrics where absent.
    pub output: Option<String>,
}

/// Reads `[tables]`.
pub fn tables(experiment: &Experiment, graph: &Graph, errors: &mut Diagnostics) -> Vec<TableEntry> {
    let read = |entry: &Entry| {
        let spec: Option<TableSpec> = parse(entry, errors);
        let from = entry.value.get("from").and_then(|v| Some((v.as_text()?, v.origin)));
        let from = from.and_then(|(text, at)| source(text, at, experiment, graph, errors));
        Some(TableEntry { name: entry.key.clone(), spec: spec?, from: from? })
    };
    experiment.tables.iter().filter_map(read).collect()
}

/// Reads `[figures]`.
pub fn figures(
    experiment: &Experiment,
    graph: &Graph,
    errors: &mut Diagnostics,
) -> Vec<FigureEntry> {
    let mut entries = Vec::new();
    for entry in &experiment.figures {
        let Some(spec) = parse::<FigureSpec>(entry, errors) else { continue };
        if spec.from.is_none() && spec.layers.is_empty() {
            let message = format!("figure `{}` draws nothing", entry.key);
            errors
                .push(Diagnostic::at(entry.key_origin, message).hint("give it `from` or `layers`"));
            continue;
        }
        let names = spec.from.iter().chain(spec.layers.iter().map(|l| &l.from));
        let mut from: Vec<From> = Vec::new();
        for name in names {
            let origin = written_at(&entry.value, name).unwrap_or(entry.key_origin);
            if !from.iter().any(|f| f.text == *name) {
                from.extend(source(name, origin, experiment, graph, errors));
            }
        }
        entries.push(FigureEntry { name: entry.key.clone(), spec, from });
    }
    entries
}

fn parse<T: for<'de> serde::Deserialize<'de>>(
    entry: &Entry,
    errors: &mut Diagnostics,
) -> Option<T> {
    from_table(&entry.value, &mut |error| {
        errors.push_error(error, entry.key_origin);
    })
}

/// Finds the origin of a string in a value.
fn written_at(value: &Value, text: &str) -> Option<Origin> {
    let mut found = None;
    value.each_text(&mut |t, origin| {
        if t == text {
            found.get_or_insert(origin);
        }
    });
    found
}

fn source(
    text: &str,
    origin: Origin,
    experiment: &Experiment,
    graph: &Graph,
    errors: &mut Diagnostics,
) -> Option<From> {
    let (stage, output) = match text.split_once('.') {
        Some((stage, output)) => (stage, Some(output.to_owned())),
        None => (text, None),
    };
    if !experiment.stages.iter().any(|s| s.name == stage) {
        let names = experiment.stages.iter().map(|s| s.name.as_str());
        let hint = suggest::hint(stage, "stages", names);
        let message = format!("no stage is called `{stage}`");
        errors.push(Diagnostic::at(origin, message).hint(hint));
        return None;
    }
    // A stage without instances has mistakes of its own.
    let outputs = &graph.node(graph.instances(stage).next()?).outputs;
    let is_table = |name: &String| outputs.types.get(name).is_some_and(|kind| kind == "table");
    let tables = || outputs.types.keys().filter(|name| is_table(name)).map(String::as_str);
    let output = match output {
        None => outputs.main.clone().filter(is_table),
        Some(name) if is_table(&name) => Some(name),
        Some(name) => {
            let hint = suggest::hint(&name, "tables", tables());
            let message = format!("`{stage}` has no table `{name}`");
            errors.push(Diagnostic::at(origin, message).hint(hint));
            return None;
        }
    };
    Some(From { text: text.to_owned(), stage: stage.to_owned(), output })
}
