//! The graph: one node for each stage instance, one edge for each input.

use std::sync::Arc;
use std::time::Duration;

use petgraph::Direction;
use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use serde_json::Value as Json;

use super::kind::Kind;
use super::resources::Request;
use super::retry::Policy;
use super::stage::Outputs;

/// One stage instance.
#[derive(Clone)]
pub struct Node {
    /// Its name, such as `probe[source=waves,replicate=2]`.
    pub name: String,
    /// The stage it is an instance of.
    pub stage: String,
    /// Its place on each axis it has: the axis and the label of the value, in the order of `[axes]`.
    pub point: Vec<(String, String)>,
    /// The kind that computes it.
    pub kind: &'static Kind,
    /// The parameters: seeds resolved, paths of data absolute and hashed.
    pub parameters: Parameters,
    /// What it saves.
    pub outputs: Arc<Outputs>,
    /// What it occupies while it runs.
    pub resources: Request,
    /// How often it is tried again.
    pub retries: Policy,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// Whether its outputs are worth keeping once all that takes them is computed.
    pub keep: bool,
}

/// The parameters of a node, as compact text: a tree of ten thousand nodes' would be most of the memory. Nodes with the same
/// ones may share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters(Arc<str>);

impl Parameters {
    /// Keeps parameters.
    pub fn of(json: &Json) -> Self {
        Self::of_text(json.to_string())
    }

    /// Keeps parameters that are JSON already.
    pub fn of_text(json: String) -> Self {
        Self(json.into())
    }

    /// Reads them.
    pub fn to_json(&self) -> Json {
        serde_json::from_str(&self.0).expect("it was written as JSON")
    }
}

/// One input of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The edge as written, such as `@waves`.
    pub edge: String,
    /// The output it takes.
    pub output: String,
}

/// Every node of an experiment, without cycles.
#[derive(Default)]
pub struct Graph {
    inner: DiGraph<Node, Link>,
}

/// A node's place in the graph.
pub type NodeId = NodeIndex;

impl Graph {
    /// Adds a node.
    pub fn add(&mut self, node: Node) -> NodeId {
        self.inner.add_node(node)
    }

    /// Has the files of a node kept, whatever was asked for.
    pub fn keep(&mut self, id: NodeId) {
        self.inner[id].keep = true;
    }

    /// Changes the parameters of a node.
    pub fn set_parameters(&mut self, id: NodeId, parameters: Parameters) {
        self.inner[id].parameters = parameters;
    }

    /// Adds an input of `to`.
    pub fn link(&mut self, from: NodeId, to: NodeId, link: Link) {
        self.inner.add_edge(from, to, link);
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.inner.node_count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inner.node_count() == 0
    }

    /// The node at a place.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.inner[id]
    }

    /// Every node, in the order added.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        self.inner.node_indices()
    }

    /// Finds a node by name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.inner.node_indices().find(|id| self.inner[*id].name == name)
    }

    /// The instances of a stage, in the order added.
    pub fn instances<'a>(&'a self, stage: &'a str) -> impl Iterator<Item = NodeId> + 'a {
        self.inner.node_indices().filter(move |id| self.inner[*id].stage == stage)
    }

    /// The inputs of a node, sorted by edge.
    pub fn inputs(&self, id: NodeId) -> Vec<(NodeId, &Link)> {
        let edges = self.inner.edges_directed(id, Direction::Incoming);
        let mut inputs: Vec<_> = edges.map(|e| (e.source(), e.weight())).collect();
        inputs.sort_by(|a, b| a.1.edge.cmp(&b.1.edge));
        inputs
    }

    /// The nodes that take an output of this one, each once.
    pub fn dependents(&self, id: NodeId) -> Vec<NodeId> {
        let mut ids: Vec<_> = self.inner.neighbors_directed(id, Direction::Outgoing).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// The nodes this one takes an output of, each once.
    pub fn dependencies(&self, id: NodeId) -> Vec<NodeId> {
        let mut ids: Vec<_> = self.inner.neighbors_directed(id, Direction::Incoming).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Every node after those it depends on.
    pub fn order(&self) -> Vec<NodeId> {
        toposort(&self.inner, None).expect("planning refuses cycles")
    }

    /// For each node, the weight of the heaviest path from it, itself included: what to start first.
    pub fn heights(&self, weight: &dyn Fn(NodeId) -> f64) -> Vec<f64> {
        let mut heights = vec![0.0; self.len()];
        for id in self.order().into_iter().rev() {
            let above = self.dependents(id).into_iter().map(|d| heights[d.index()]);
            heights[id.index()] = weight(id) + above.fold(0.0, f64::max);
        }
        heights
    }
}
