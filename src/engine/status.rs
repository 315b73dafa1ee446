//! What is cached and what would run, without running anything.

use std::collections::BTreeMap;

use super::graph::{Graph, NodeId};
use super::key::key;
use crate::store::{Hash, Record, Store};

/// Where a node stands.
#[derive(Clone, Debug)]
pub enum Status {
    /// Its result is in the store.
    Cached(Box<Record>),
    /// Its inputs are known and no result has its key.
    Missing(Hash),
    /// It waits on nodes whose results are not there; its key is not known yet.
    Waiting(Vec<NodeId>),
}

impl Status {
    /// The record, if the result is there.
    pub fn record(&self) -> Option<&Record> {
        match self {
            Self::Cached(record) => Some(record),
            Self::Missing(_) | Self::Waiting(_) => None,
        }
    }
}

/// Finds out where every node stands; indexed as the graph is.
pub fn survey(graph: &Graph, store: &Store) -> Vec<Status> {
    let mut known: Vec<Option<Status>> = vec![None; graph.len()];
    for id in graph.order() {
        let missing =
            |d: &NodeId| known[d.index()].as_ref().is_none_or(|status| status.record().is_none());
        let waits: Vec<NodeId> = graph.dependencies(id).into_iter().filter(missing).collect();
        let status = if waits.is_empty() {
            let record = |d: NodeId| known[d.index()].as_ref().and_then(Status::record);
            let key = identity(graph, id, &record);
            match lookup(graph, store, id, &key) {
                Some(record) => Status::Cached(Box::new(record)),
                None => Status::Missing(key),
            }
        } else {
            Status::Waiting(waits)
        };
        known[id.index()] = Some(status);
    }
    known.into_iter().map(|s| s.expect("the order holds every node")).collect()
}

/// Finds the result of a node: the record of its key, if it holds every output that the node declares.
pub fn lookup(graph: &Graph, store: &Store, id: NodeId, key: &Hash) -> Option<Record> {
    let declared = &graph.node(id).outputs.types;
    let holds = |record: &Record| {
        let has = |(name, kind): (&String, &String)| {
            record.outputs.get(name).is_some_and(|output| output.kind == *kind)
        };
        declared.iter().all(has)
    };
    store.find(key).filter(holds)
}

/// Content hash by edge, for a node whose inputs all have records.
pub fn contents<'a>(
    graph: &Graph,
    id: NodeId,
    record: &dyn Fn(NodeId) -> Option<&'a Record>,
) -> BTreeMap<String, Hash> {
    let content = |(from, link): (NodeId, &super::graph::Link)| {
        let artifact = record(from)?.outputs.get(&link.output)?;
        Some((link.edge.clone(), artifact.hash))
    };
    graph.inputs(id).into_iter().filter_map(content).collect()
}

/// The key of a node whose inputs all have records.
pub fn identity<'a>(
    graph: &Graph,
    id: NodeId,
    record: &dyn Fn(NodeId) -> Option<&'a Record>,
) -> Hash {
    let node = graph.node(id);
    let contents = contents(graph, id, record);
    key(node.kind.name, node.kind.version, &node.parameters, &|edge| contents.get(edge).copied())
        .expect("every edge of the parameters is linked at planning")
}
