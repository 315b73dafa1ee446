//! Which node runs next, and on how many threads: a state machine without effects.

use std::collections::BTreeSet;

use super::graph::{Graph, NodeId};

/// Where a node stands in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits on others.
    Waiting,
    /// It can run as soon as threads are free.
    Ready,
    /// It runs.
    Running {
        /// The threads it occupies.
        threads: usize,
    },
    /// Another run computes it.
    Elsewhere,
    /// Its result is there.
    Done,
    /// It failed.
    Failed,
    /// It is left out: something it depends on has no result.
    Skipped,
}

/// The state of every node, and the free threads.
pub struct Schedule<'a> {
    graph: &'a Graph,
    states: Vec<State>,
    /// How many dependencies of each node have no result yet.
    pending: Vec<usize>,
    heights: Vec<usize>,
    /// Ready nodes, the one with the longest path before it first.
    ready: BTreeSet<(usize, usize)>,
    threads: usize,
    free: usize,
}

impl<'a> Schedule<'a> {
    /// A schedule over `threads` CPU threads, and the nodes that wait on nothing.
    pub fn new(graph: &'a Graph, threads: usize) -> (Self, Vec<NodeId>) {
        let pending: Vec<usize> = graph.ids().map(|id| graph.dependencies(id).len()).collect();
        let free = graph.ids().filter(|id| pending[id.index()] == 0).collect();
        let schedule = Self {
            graph,
            states: vec![State::Waiting; graph.len()],
            pending,
            heights: graph.heights(),
            ready: BTreeSet::new(),
            threads: threads.max(1),
            free: threads.max(1),
        };
        (schedule, free)
    }

    /// Where a node stands.
    pub fn state(&self, id: NodeId) -> State {
        self.states[id.index()]
    }

    /// Marks a node as one that has to run.
    pub fn ready(&mut self, id: NodeId) {
        self.states[id.index()] = State::Ready;
        self.ready.insert(self.rank(id));
    }

    /// Takes the next node to start, with its threads. A node that names no number gets an equal share of what is
    /// free among the ready ones: two nodes on two cores get one each, a single one gets both.
    pub fn take_next(&mut self) -> Option<(NodeId, usize)> {
        if self.free == 0 {
            return None;
        }
        let fits = |&&(_, index): &&(usize, usize)| match self.asked(index) {
            Some(threads) => threads <= self.free,
            None => true,
        };
        let entry = *self.ready.iter().find(fits)?;
        let share = (self.free / self.ready.len()).max(1);
        let threads = self.asked(entry.1).unwrap_or(share);
        self.ready.remove(&entry);
        self.free -= threads;
        self.states[entry.1] = State::Running { threads };
        Some((NodeId::new(entry.1), threads))
    }

    /// What a node asks for, at most what there is.
    fn asked(&self, index: usize) -> Option<usize> {
        let asked = self.graph.node(NodeId::new(index)).threads;
        asked.map(|threads| threads.clamp(1, self.threads))
    }

    /// Marks a node that was to be started as one that another run computes; its threads are free again.
    pub fn elsewhere(&mut self, id: NodeId) {
        self.leave(id, State::Elsewhere);
    }

    /// Marks a node's result as there; yields the nodes that now wait on nothing.
    pub fn done(&mut self, id: NodeId) -> Vec<NodeId> {
        self.leave(id, State::Done);
        let mut freed = Vec::new();
        for dependent in self.graph.dependents(id) {
            self.pending[dependent.index()] -= 1;
            if self.pending[dependent.index()] == 0 && self.state(dependent) == State::Waiting {
                freed.push(dependent);
            }
        }
        freed
    }

    /// Takes back that results are there which a running node needs: they are to be computed again, and it waits, as do
    /// all that have not begun.
    pub fn reopen(&mut self, lost: &[NodeId], running: NodeId) {
        self.leave(running, State::Waiting);
        for id in lost {
            self.states[id.index()] = State::Waiting;
            for dependent in self.graph.dependents(*id) {
                self.pending[dependent.index()] += 1;
                if self.state(dependent) == State::Ready {
                    self.ready.remove(&self.rank(dependent));
                    self.states[dependent.index()] = State::Waiting;
                }
            }
        }
    }

    fn rank(&self, id: NodeId) -> (usize, usize) {
        (usize::MAX - self.heights[id.index()], id.index())
    }

    /// Marks a node as failed; yields the nodes that are left out for it.
    pub fn failed(&mut self, id: NodeId) -> Vec<NodeId> {
        self.leave(id, State::Failed);
        let mut skipped = Vec::new();
        let mut next = self.graph.dependents(id);
        while let Some(dependent) = next.pop() {
            if self.state(dependent) == State::Waiting {
                self.states[dependent.index()] = State::Skipped;
                skipped.push(dependent);
                next.extend(self.graph.dependents(dependent));
            }
        }
        skipped.sort();
        skipped
    }

    /// Leaves out every node that has not started; yields them.
    pub fn wind_down(&mut self) -> Vec<NodeId> {
        self.ready.clear();
        let mut skipped = Vec::new();
        for id in self.graph.ids() {
            if matches!(self.state(id), State::Waiting | State::Ready | State::Elsewhere) {
                self.states[id.index()] = State::Skipped;
                skipped.push(id);
            }
        }
        skipped
    }

    fn leave(&mut self, id: NodeId, state: State) {
        if let State::Running { threads } = self.states[id.index()] {
            self.free += threads;
        }
        self.states[id.index()] = state;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;
    use crate::engine::graph::{Link, Node};
    use crate::engine::stage::Outputs;
    use crate::engine::toys::TOYS;

    /// A graph whose node `i` may depend on nodes before it, and may ask for threads.
    fn graph(nodes: &[(Vec<usize>, Option<usize>)]) -> Graph {
        let mut graph = Graph::default();
        for (i, (inputs, threads)) in nodes.iter().enumerate() {
            let id = graph.add(Node {
                name: format!("n{i}"),
                stage: format!("n{i}"),
                point: Vec::new(),
                kind: &TOYS.0[0],
                parameters: Json::Null,
                outputs: Outputs::main("number"),
                threads: *threads,
            });
            for input in inputs.iter().filter(|_| i > 0) {
                let from = NodeId::new(input % i.max(1));
                graph.link(from, id, Link { edge: format!("@n{input}"), output: "main".into() });
            }
        }
        graph
    }

    proptest! {
        /// Whatever the graph, every node runs once, after what it depends on, and threads are never exceeded;
        /// of a failed node, exactly the descendants are left out.
        #[test]
        fn every_node_runs_once_in_order_within_the_threads(
            nodes in prop::collection::vec(
                (prop::collection::vec(0usize..40, 0..4), prop::option::of(0usize..6)), 1..40),
            threads in 1usize..5,
            failing in prop::option::of(0usize..40),
        ) {
            let graph = graph(&nodes);
            let failing = failing.map(|f| NodeId::new(f % nodes.len()));
            let (mut schedule, free) = Schedule::new(&graph, threads);
            for id in free {
                schedule.ready(id);
            }
            let mut running: Vec<(NodeId, usize)> = Vec::new();
            let mut ended = vec![false; nodes.len()];
            loop {
                while let Some((id, share)) = schedule.take_next() {
                    prop_assert!(graph.dependencies(id).iter().all(|d| ended[d.index()]));
                    prop_assert!(share >= 1);
                    running.push((id, share));
                }
                prop_assert!(running.iter().map(|(_, share)| share).sum::<usize>() <= threads);
                let Some((id, _)) = running.pop() else { break };
                if Some(id) == failing {
                    let skipped = schedule.failed(id);
                    let all = skipped.iter().all(|s| schedule.state(*s) == State::Skipped);
                    prop_assert!(all);
                } else {
                    prop_assert!(!ended[id.index()]);
                    ended[id.index()] = true;
                    schedule.done(id).into_iter().for_each(|freed| schedule.ready(freed));
                }
            }
            prop_assert_eq!(schedule.free, schedule.threads);
            for id in graph.ids() {
                let cut = graph.dependencies(id).iter().any(|d| !ended[d.index()]);
                prop_assert_eq!(ended[id.index()], !cut && Some(id) != failing);
            }
        }
    }
}
