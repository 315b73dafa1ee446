//! Plain lines, where there is no terminal: one when a node starts, one when it ends.

use std::io::{self, Write};

use super::Display;
use super::words;
use crate::engine::event::Event;
use crate::engine::graph::{Graph, NodeId};
use crate::store::lease::Owner;

/// Writes a line for each event that matters.
pub struct Lines<'a> {
    graph: &'a Graph,
    ended: usize,
}

impl<'a> Lines<'a> {
    /// Begins to watch a graph.
    pub fn new(graph: &'a Graph) -> Self {
        Self { graph, ended: 0 }
    }

    fn say(&self, what: &str, node: NodeId, more: &str) {
        let total = self.graph.len();
        let width = total.to_string().len();
        let name = &self.graph.node(node).name;
        // A closed standard error is no reason to stop computing.
        drop(writeln!(io::stderr(), "[{:width$}/{total}] {what} {name}{more}", self.ended));
    }
}

impl Display for Lines<'_> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Cached(_) => self.ended += 1,
            Event::Started { node, .. } => self.say("started ", *node, ""),
            Event::Awaited { node, owner } => self.say("awaited ", *node, &elsewhere(owner)),
            Event::Progress { .. } => (),
            Event::Computed { node, seconds, metrics } => {
                self.ended += 1;
                self.say("computed", *node, &outcome(*seconds, metrics));
            }
            Event::Failed { node, failure } => {
                self.ended += 1;
                self.say("failed  ", *node, &format!(": {}", failure.message));
            }
            Event::Skipped(nodes) => {
                self.ended += nodes.len();
                let more = match nodes.len() - 1 {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                self.say("skipped ", nodes[0], &more);
            }
            Event::Again { words, .. } => {
                self.ended = self.ended.saturating_sub(1);
                drop(writeln!(io::stderr(), "{words}"));
            }
            Event::Notice(words) | Event::Retrying { words, .. } => {
                drop(writeln!(io::stderr(), "{words}"));
            }
            Event::Interrupting => drop(writeln!(io::stderr(), "{INTERRUPTING}")),
        }
    }

    fn finish(&mut self) {}
}

/// Says who computes a node.
pub fn elsewhere(owner: &Owner) -> String {
    format!(": computed by run {} on {}", owner.run, owner.host)
}

/// What is said when the user asks to stop.
pub const INTERRUPTING: &str = "interrupted: ending the running nodes (again to end at once)";

/// How long a node took, and what it found.
pub fn outcome(seconds: f64, metrics: &[(String, f64)]) -> String {
    let metrics: Vec<String> =
        metrics.iter().map(|(name, value)| format!("{name} {}", words::number(*value))).collect();
    let found =
        if metrics.is_empty() { String::new() } else { format!(": {}", metrics.join(", ")) };
    format!(" in {}{found}", words::duration(seconds))
}
