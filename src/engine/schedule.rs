//! Which node runs next, and in which slot: a state machine without effects.

use std::collections::BTreeSet;

use super::graph::{Graph, NodeId};
use super::resources::{Capacity, Estimate, GpuRequest, Request};
use super::retry::Room;
use super::slots::{Lack, Slot, Slots};

/// Where a node stands in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits on others.
    Waiting,
    /// It can run as soon as there is a slot for it.
    Ready,
    /// It runs.
    Running,
    /// It failed, and is to be tried again in a while.
    Resting,
    /// Another run computes it.
    Elsewhere,
    /// Its result is there.
    Done,
    /// It failed.
    Failed,
    /// It is left out: something it depends on has no result.
    Skipped,
}

/// The state of every node, and the free slots.
pub struct Schedule<'a> {
    graph: &'a Graph,
    states: Vec<State>,
    /// How many dependencies of each node have no result yet.
    pending: Vec<usize>,
    /// What each node is given; what it asks for, completed.
    requests: Vec<Request>,
    /// What each running node holds.
    held: Vec<Option<Slot>>,
    /// Expected seconds of the longest path from each node.
    heights: Vec<f64>,
    /// Ready nodes, the one with the longest path before it first.
    ready: BTreeSet<(u64, usize)>,
    slots: Slots,
    /// How many nodes have given their slot back.
    ended: u64,
    /// That number when a ready node first found no slot.
    passed_since: Vec<Option<u64>>,
}

/// So many nodes may end and give their place to others while a node that comes before them finds no slot. Then what
/// it lacks is held for it: a big node waits, but not for ever.
const PATIENCE: u64 = 8;

impl<'a> Schedule<'a> {
    /// A schedule over a capacity, and the nodes that wait on nothing. What is known of earlier runs is indexed as the
    /// graph is; a node beyond its end is one of which nothing is known.
    pub fn new(
        graph: &'a Graph,
        capacity: &Capacity,
        estimates: &[Estimate],
    ) -> (Self, Vec<NodeId>) {
        let pending: Vec<usize> = graph.ids().map(|id| graph.dependencies(id).len()).collect();
        let free = graph.ids().filter(|id| pending[id.index()] == 0).collect();
        let mut schedule = Self {
            graph,
            states: vec![State::Waiting; graph.len()],
            pending,
            requests: Vec::new(),
            held: vec![None; graph.len()],
            heights: Vec::new(),
            ready: BTreeSet::new(),
            slots: Slots::new(capacity.clone()),
            ended: 0,
            passed_since: vec![None; graph.len()],
        };
        schedule.learn(capacity, estimates);
        (schedule, free)
    }

    /// Takes note of what is known of earlier runs, before anything is started.
    pub fn learn(&mut self, capacity: &Capacity, estimates: &[Estimate]) {
        let known = |id: NodeId| estimates.get(id.index()).copied().unwrap_or_default();
        let asked = |id: NodeId| &self.graph.node(id).resources;
        let requests = self.graph.ids().map(|id| known(id).complete(asked(id), capacity));
        self.requests = requests.collect();
        self.heights = self.graph.heights(&|id| known(id).weight(asked(id)));
        let ready = std::mem::take(&mut self.ready);
        self.ready = ready.iter().map(|(_, index)| self.place(*index)).collect();
    }

    /// Where a node stands.
    pub fn state(&self, id: NodeId) -> State {
        self.states[id.index()]
    }

    /// Whether a node could start if there is a slot for it.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Marks a node as one that has to run.
    pub fn ready(&mut self, id: NodeId) {
        self.states[id.index()] = State::Ready;
        self.passed_since[id.index()] = None;
        self.ready.insert(self.place(id.index()));
    }

    /// Takes the next node to start, with its slot: the first that fits, unless it would take what is held for one
    /// before it. A node that names no threads gets an equal share of the free ones among those that could start: two
    /// nodes on two cores get one each, a single one gets both.
    pub fn take_next(&mut self) -> Option<(NodeId, Slot)> {
        let index = self.next()?;
        let share = self.share();
        let slot = self.slots.take(&self.requests[index], share)?;
        self.ready.remove(&self.place(index));
        self.states[index] = State::Running;
        self.held[index] = Some(slot.clone());
        Some((NodeId::new(index), slot))
    }

    /// Marks a node that was to be started as one that another run computes; its slot is free again.
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
                    self.ready.remove(&self.place(dependent.index()));
                    self.states[dependent.index()] = State::Waiting;
                }
            }
        }
    }

    /// Marks a node as failed; yields the nodes that are left out for it.
    pub fn failed(&mut self, id: NodeId) -> Vec<NodeId> {
        self.leave(id, State::Failed);
        self.leave_out_after(id)
    }

    /// Leaves out a node that has not started, and what depends on it; yields them all.
    pub fn leave_out(&mut self, id: NodeId) -> Vec<NodeId> {
        self.states[id.index()] = State::Skipped;
        let mut skipped = self.leave_out_after(id);
        skipped.push(id);
        skipped
    }

    /// Marks a running node as one to be tried again in that room; its slot is free until the caller makes it ready.
    pub fn again(&mut self, id: NodeId, room: Room) {
        self.leave(id, State::Resting);
        let request = &mut self.requests[id.index()];
        if room != Room::Same && matches!(request.gpus, GpuRequest::Share(_)) {
            request.gpus = GpuRequest::Whole(1);
        }
        request.alone |= room == Room::Machine;
    }

    /// Takes back that a node is done, because its result could not be kept; yields the nodes that are left out for it.
    /// Those that have started go on: what they read is there.
    pub fn revoke(&mut self, id: NodeId) -> Vec<NodeId> {
        self.states[id.index()] = State::Failed;
        self.leave_out_after(id)
    }

    /// Leaves out every node that has not started; yields them.
    pub fn wind_down(&mut self) -> Vec<NodeId> {
        self.ready.clear();
        let mut skipped = Vec::new();
        for id in self.graph.ids() {
            let open = [State::Waiting, State::Ready, State::Resting, State::Elsewhere];
            if open.contains(&self.state(id)) {
                self.states[id.index()] = State::Skipped;
                skipped.push(id);
            }
        }
        skipped
    }

    /// Where a node stands among the ready ones: bits of positive numbers are in the order of the numbers.
    fn place(&self, index: usize) -> (u64, usize) {
        (u64::MAX - self.heights[index].to_bits(), index)
    }

    /// The ready node to start.
    fn next(&mut self) -> Option<usize> {
        if self.slots.free_threads() == 0 {
            return None;
        }
        let mut held = Lack::default();
        for (_, index) in &self.ready {
            let request = &self.requests[*index];
            let lack = self.slots.lack(request);
            if lack.is_none() && !held.concerns(request) {
                return Some(*index);
            }
            if !lack.is_none() {
                let since = self.passed_since[*index].get_or_insert(self.ended);
                if self.ended - *since >= PATIENCE {
                    held = held.or(lack);
                }
            }
            if held.threads {
                break;
            }
        }
        None
    }

    /// An equal share of the free threads among the nodes that could start.
    fn share(&self) -> usize {
        let free = self.slots.free_threads();
        let fits = |(_, index): &&(u64, usize)| self.slots.lack(&self.requests[*index]).is_none();
        let able = self.ready.iter().filter(fits).take(free).count();
        (free / able.max(1)).max(1)
    }

    /// Leaves out what depends on a node and has not started, and what depends on that.
    fn leave_out_after(&mut self, id: NodeId) -> Vec<NodeId> {
        let mut skipped = Vec::new();
        let mut next = self.graph.dependents(id);
        while let Some(dependent) = next.pop() {
            if matches!(self.state(dependent), State::Waiting | State::Ready | State::Resting) {
                self.ready.remove(&self.place(dependent.index()));
                self.states[dependent.index()] = State::Skipped;
                skipped.push(dependent);
                next.extend(self.graph.dependents(dependent));
            }
        }
        skipped.sort();
        skipped
    }

    fn leave(&mut self, id: NodeId, state: State) {
        if let Some(slot) = self.held[id.index()].take() {
            self.slots.give_back(&slot);
            self.ended += 1;
        }
        self.states[id.index()] = state;
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
