//! Why a node has to run: what differs from its result in an earlier run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::build::Plan;
use crate::engine::graph::NodeId;
use crate::engine::parameter::{INPUT, NAME, PATH, SEED};
use crate::spec::Sources;
use crate::store::files::FileError;
use crate::store::{Hash, Record, Store};

/// The results that the nodes of an experiment had in its newest earlier runs.
pub struct Earlier(BTreeMap<String, Hash>);

impl Earlier {
    /// Reads the records of its runs, newest first, as far as there are nodes to be found.
    pub fn of(plan: &Plan, store: &Store) -> Result<Self, FileError> {
        let mut found = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for run in store.runs()?.iter().filter(|run| run.experiment == plan.experiment.name) {
            // Runs with the same results share their set.
            if run.set.is_none_or(|set| !seen.insert(set)) {
                continue;
            }
            for (name, key) in store.results_of(run) {
                found.entry(name).or_insert(key);
            }
        }
        Ok(Self(found))
    }

    /// Finds the record that a node had.
    pub fn find(&self, store: &Store, name: &str) -> Option<Record> {
        store.record(self.0.get(name)?).ok().flatten()
    }
}

/// Says in a few words why a node has no result; `inputs` are the contents that its edges have now.
pub fn reason(
    plan: &Plan,
    sources: &Sources,
    id: NodeId,
    inputs: &BTreeMap<String, Hash>,
    earlier: Option<&Record>,
) -> String {
    let node = plan.graph.node(id);
    let Some(earlier) = earlier else { return "not computed yet".to_owned() };
    if earlier.kind != node.kind.name {
        return format!("kind {} -> {}", earlier.kind, node.kind.name);
    }
    if earlier.version != node.kind.version {
        let (was, is) = (earlier.version, node.kind.version);
        return format!("the results of {} changed with version {was} -> {is}", node.kind.name);
    }
    let mut changes: Vec<String> = Vec::new();
    let parameters = node.parameters.to_json();
    for name in keys(&earlier.parameters, &parameters) {
        let (was, is) = (earlier.parameters.get(name), parameters.get(name));
        let mut found = Vec::new();
        differences(name, was, is, &mut found);
        if !found.is_empty() {
            let origin = plan.origin(id, name);
            let place = origin.map(|o| format!(" ({})", sources.describe(o))).unwrap_or_default();
            changes.push(found.join(", ") + &place);
        }
    }
    let other = |(edge, hash): (&String, &Hash)| {
        let was = earlier.inputs.get(edge);
        was.is_some_and(|was| was != hash).then(|| format!("{edge} changed"))
    };
    changes.extend(inputs.iter().filter_map(other));
    if changes.is_empty() { "what it reads changed".to_owned() } else { changes.join("; ") }
}

/// The keys of two tables, sorted, each once.
fn keys<'a>(a: &'a Json, b: &'a Json) -> BTreeSet<&'a str> {
    let tables = [a, b].into_iter().filter_map(Json::as_object);
    tables.flat_map(|table| table.keys().map(String::as_str)).collect()
}

/// Says how a parameter differs, as far as the key sees it: an edge and the place of data are not in the key.
fn differences(path: &str, was: Option<&Json>, is: Option<&Json>, out: &mut Vec<String>) {
    let mark = [INPUT, PATH, SEED].into_iter().find(|mark| {
        [was, is].iter().all(|value| value.is_some_and(|value| value.get(mark).is_some()))
    });
    let differ = |field: &str| was.and_then(|v| v.get(field)) != is.and_then(|v| v.get(field));
    match (mark, was, is) {
        (Some(PATH), ..) if differ("hash") => out.push(format!("the data at `{path}` changed")),
        (Some(PATH), ..) if differ(NAME) => out.push(format!("the name at `{path}` changed")),
        (Some(SEED), ..) if differ(SEED) => out.push(format!("`{path}` changed")),
        (None, Some(was), Some(is)) if was.is_object() && is.is_object() => {
            for key in keys(was, is) {
                differences(&format!("{path}.{key}"), was.get(key), is.get(key), out);
            }
        }
        (None, Some(Json::Array(was)), Some(Json::Array(is))) if was.len() == is.len() => {
            for (i, (was, is)) in was.iter().zip(is).enumerate() {
                differences(&format!("{path}[{i}]"), Some(was), Some(is), out);
            }
        }
        (None, was, is) if was != is => {
            let show = |value: Option<&Json>| value.map_or("nothing".to_owned(), Json::to_string);
            out.push(format!("`{path}` {} -> {}", show(was), show(is)));
        }
        // An edge, of which its content is compared, or what is equal.
        _ => (),
    }
}
