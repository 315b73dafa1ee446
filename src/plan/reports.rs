//! Tables and figures at planning: read, and what they draw from checked.

use crate::engine::graph::Graph;
use crate::report::check::{Place, Problem};
use crate::report::figures::FigureSpec;
use crate::report::tables::TableSpec;
use crate::spec::deserialize::from_table;
use crate::spec::value::Entry;
use crate::spec::{Diagnostic, Diagnostics, Experiment, Origin, Value, ValueKind, suggest};

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
        for problem in spec.as_ref().map(TableSpec::check).unwrap_or_default() {
            push(problem, entry, errors);
        }
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
        for problem in spec.check() {
            push(problem, entry, errors);
        }
        let mut from: Vec<From> = Vec::new();
        let own = entry.value.get("from").into_iter();
        for name in own.chain(layers(&entry.value).filter_map(|layer| layer.get("from"))) {
            let Some(text) = name.as_text() else { continue };
            if !from.iter().any(|f| f.text == text) {
                from.extend(source(text, name.origin, experiment, graph, errors));
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

fn layers(figure: &Value) -> impl Iterator<Item = &Value> {
    match figure.get("layers").map(|layers| &layers.kind) {
        Some(ValueKind::List(layers)) => layers.as_slice(),
        _ => &[],
    }
    .iter()
}

/// Reports a mistake where its path leads, as far as that was written.
fn push(problem: Problem, entry: &Entry, errors: &mut Diagnostics) {
    let (mut origin, mut at) = (entry.key_origin, &entry.value);
    for step in &problem.path {
        if let Some(field) = at.entries().iter().find(|field| field.key == *step) {
            origin = match problem.place {
                Place::Key => field.key_origin,
                Place::Value => field.value.origin,
            };
            at = &field.value;
        } else if let (ValueKind::List(items), Ok(index)) = (&at.kind, step.parse::<usize>())
            && let Some(item) = items.get(index)
        {
            (origin, at) = (item.origin, item);
        } else {
            break;
        }
    }
    errors.push(Diagnostic { message: problem.message, origin: Some(origin), hint: problem.hint });
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
    let mut found: Option<Option<String>> = None;
    // A stage without instances has mistakes of its own.
    for id in graph.instances(stage) {
        let node = graph.node(id);
        let is_table = |name: &String| node.outputs.types.get(name).is_some_and(|k| k == "table");
        let read = match &output {
            None => node.outputs.main.clone().filter(is_table),
            Some(name) if is_table(name) => Some(name.clone()),
            Some(name) => {
                let tables = node.outputs.types.keys().filter(|name| is_table(name));
                let hint = suggest::hint(name, "tables", tables.map(String::as_str));
                let of = if found.is_some() { &node.name } else { stage };
                let message = format!("`{of}` has no table `{name}`");
                errors.push(Diagnostic::at(origin, message).hint(hint));
                return None;
            }
        };
        if found.as_ref().is_some_and(|before| *before != read) {
            let message = format!("the instances of `{stage}` differ in their main output");
            let hint = format!("name a table that all have, such as `{stage}.table`");
            errors.push(Diagnostic::at(origin, message).hint(hint));
            return None;
        }
        found = Some(read);
    }
    Some(From { text: text.to_owned(), stage: stage.to_owned(), output: found? })
}
