//! Why a node has to run: what differs from its result in an earlier run.

use serde_json::{Map, Value as Json};

use super::build::Plan;
use crate::engine::graph::NodeId;
use crate::engine::parameter::{INPUT, PATH, SEED};
use crate::spec::Sources;
use crate::store::runs::Run;
use crate::store::{Record, Store};

/// Finds the record that a node had in the newest earlier run of the experiment.
pub fn earlier(plan: &Plan, store: &Store, runs: &[Run], id: NodeId) -> Option<Record> {
    let name = &plan.graph.node(id).name;
    let same = runs.iter().filter(|run| run.experiment == plan.experiment.name);
    let mut keys = same.filter_map(|run| run.nodes.get(name));
    store.find(keys.next()?)
}

/// Says in a few words why a node whose inputs are known has no result.
pub fn reason(plan: &Plan, sources: &Sources, id: NodeId, earlier: Option<&Record>) -> String {
    let node = plan.graph.node(id);
    let Some(earlier) = earlier else { return "not computed yet".to_owned() };
    if earlier.kind != node.kind.name {
        return format!("kind {} -> {}", earlier.kind, node.kind.name);
    }
    if earlier.version != node.kind.version {
        let (was, is) = (earlier.version, node.kind.version);
        return format!("the results of {} changed with version {was} -> {is}", node.kind.name);
    }
    let (Some(was), Some(is)) = (earlier.parameters.as_object(), node.parameters.as_object())
    else {
        return "its parameters changed".to_owned();
    };
    let mut changes: Vec<String> = Vec::new();
    for name in keys(was, is) {
        if let Some(change) = change(name, was.get(name), is.get(name)) {
            let origin = plan.origins[id.index()].get(name);
            let place = origin.map(|o| format!(" ({})", sources.describe(*o))).unwrap_or_default();
            changes.push(change + &place);
        }
    }
    if changes.is_empty() { "what it reads changed".to_owned() } else { changes.join("; ") }
}

fn keys<'a>(a: &'a Map<String, Json>, b: &'a Map<String, Json>) -> Vec<&'a String> {
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Describes how one parameter differs; edges differ by content only, which is not seen here.
fn change(name: &str, was: Option<&Json>, is: Option<&Json>) -> Option<String> {
    let marked = |value: Option<&Json>, key: &str| value.is_some_and(|v| v.get(key).is_some());
    if was == is || marked(was, INPUT) {
        return None;
    }
    if marked(was, SEED) {
        return Some(format!("`{name}` changed"));
    }
    if marked(was, PATH) {
        let hash = |value: Option<&Json>| value.and_then(|v| v["hash"].as_str()).map(str::to_owned);
        return (hash(was) != hash(is)).then(|| format!("the data at `{name}` changed"));
    }
    let show = |value: Option<&Json>| value.map_or("nothing".to_owned(), Json::to_string);
    Some(format!("`{name}` {} -> {}", show(was), show(is)))
}
