//! What a run tells those who watch it.

use super::failure::Failure;
use super::graph::NodeId;
use crate::store::lease::Owner;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A node was found in the cache.
    Cached(NodeId),
    /// A node began to be computed.
    Started {
        /// The node.
        node: NodeId,
        /// CPU threads it was given.
        threads: usize,
    },
    /// Another run computes a node; its result is awaited.
    Awaited {
        /// The node.
        node: NodeId,
        /// Who computes it.
        owner: Owner,
    },
    /// A node is so far.
    Progress {
        /// The node.
        node: NodeId,
        /// In [0, 1].
        fraction: f64,
        /// A few words, such as a loss.
        note: String,
    },
    /// A node is computed and committed.
    Computed {
        /// The node.
        node: NodeId,
        /// How long it took.
        seconds: f64,
        /// Its scalar results.
        metrics: Vec<(String, f64)>,
    },
    /// A node failed.
    Failed {
        /// The node.
        node: NodeId,
        /// Why.
        failure: Failure,
    },
    /// A node failed and is tried again.
    Retrying {
        /// The node.
        node: NodeId,
        /// Why, and when.
        words: String,
    },
    /// Nodes, at least one, are left out: one that they depend on has no result, or the run winds down.
    Skipped(Vec<NodeId>),
    /// A node that was done is computed again, for its result is damaged or gone.
    Again {
        /// The node.
        node: NodeId,
        /// Why.
        words: String,
    },
    /// Something was found that the user is to know.
    Notice(String),
    /// The user asked to stop; running nodes are being ended.
    Interrupting,
}

/// Someone who watches.
pub type Watcher<'a> = dyn FnMut(&Event) + 'a;
