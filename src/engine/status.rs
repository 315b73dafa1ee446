//! What is cached and what would run, without running anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::graph::{Graph, NodeId};
use super::key::key;
use crate::store::{Hash, NewerFormat, Store, Summary};

/// Where a node stands.
#[derive(Clone, Debug)]
pub enum Status {
    /// Its result is in the store.
    Cached(Arc<Summary>),
    /// Its inputs are known and no result has its key.
    Missing(Hash),
    /// It waits on nodes whose results are not there; its key is not known yet.
    Waiting(Vec<NodeId>),
}

impl Status {
    /// The key, once it is known.
    pub fn key(&self) -> Option<Hash> {
        match self {
            Self::Cached(record) => Some(record.key),
            Self::Missing(key) => Some(*key),
            Self::Waiting(_) => None,
        }
    }

    /// The result, if it is there.
    pub fn record(&self) -> Option<&Arc<Summary>> {
        match self {
            Self::Cached(record) => Some(record),
            Self::Missing(_) | Self::Waiting(_) => None,
        }
    }
}

/// Finds out where every node stands; indexed as the graph is.
///
/// What a result consisted of is known where its files were dropped: the nodes that read it have their keys then, and may
/// be cached.
pub fn survey(graph: &Graph, store: &Store) -> Result<Vec<Status>, NewerFormat> {
    let mut known: Vec<Option<Status>> = vec![None; graph.len()];
    let mut results: Vec<Option<Arc<Summary>>> = vec![None; graph.len()];
    for id in graph.order() {
        let missing =
            |d: &NodeId| known[d.index()].as_ref().is_none_or(|status| status.record().is_none());
        let waits: Vec<NodeId> = graph.dependencies(id).into_iter().filter(missing).collect();
        let unknown = |d: &NodeId| results[d.index()].is_none();
        let status = if waits.iter().any(unknown) {
            Status::Waiting(waits)
        } else {
            let key = identity(graph, id, &|d: NodeId| results[d.index()].as_ref());
            let found = lookup(graph, store, id, &key)?;
            results[id.index()] = found.result().cloned();
            match found {
                Lookup::Hit(summary) => Status::Cached(summary),
                Lookup::Dropped(_) | Lookup::Miss if waits.is_empty() => Status::Missing(key),
                Lookup::Dropped(_) | Lookup::Miss => Status::Waiting(waits),
            }
        };
        known[id.index()] = Some(status);
    }
    Ok(known.into_iter().map(|s| s.expect("the order holds every node")).collect())
}

/// What a store has of a node.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// Its result.
    Hit(Arc<Summary>),
    /// A result whose files were dropped, and the node's are to be kept: it is computed again.
    Dropped(Arc<Summary>),
    /// Nothing.
    Miss,
}

impl Lookup {
    /// What the result consists of, or consisted of.
    fn result(&self) -> Option<&Arc<Summary>> {
        match self {
            Self::Hit(result) | Self::Dropped(result) => Some(result),
            Self::Miss => None,
        }
    }
}

/// Finds the result of a node: that of its key, if it holds every output that the node declares, and has its files or may
/// do without.
pub fn lookup(graph: &Graph, store: &Store, id: NodeId, key: &Hash) -> Result<Lookup, NewerFormat> {
    let node = graph.node(id);
    let declared = &node.outputs.types;
    let holds = |result: &Summary| {
        let has = |(name, kind): (&String, &String)| {
            result.outputs.get(name).is_some_and(|output| output.kind == *kind)
        };
        declared.iter().all(has)
    };
    // Those that a pack left out are where it was made. Where equal files are there, nothing is lacking.
    let does =
        |result: &Summary| !node.keep || !result.dropped || result.packed || store.holds(result);
    let Some(found) = store.find(key)?.filter(holds) else { return Ok(Lookup::Miss) };
    Ok(if does(&found) { Lookup::Hit(found.into()) } else { Lookup::Dropped(found.into()) })
}

/// Content hash by edge, for a node whose inputs all have records.
pub fn contents<'a>(
    graph: &Graph,
    id: NodeId,
    record: &dyn Fn(NodeId) -> Option<&'a Arc<Summary>>,
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
    record: &dyn Fn(NodeId) -> Option<&'a Arc<Summary>>,
) -> Hash {
    let node = graph.node(id);
    let contents = contents(graph, id, record);
    key(node.kind.name, node.kind.version, &node.parameters.to_json(), &|edge| {
        contents.get(edge).copied()
    })
    .expect("every edge of the parameters is linked at planning")
}
