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
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::resources::DEVICE;
    use crate::engine::toys::graph;

    fn threads(threads: usize) -> Request {
        Request { threads: Some(threads), ..Request::default() }
    }

    /// A schedule of nodes on so many threads and GPUs, those that wait on nothing ready.
    fn schedule<'a>(graph: &'a Graph, capacity: &Capacity, known: &[Estimate]) -> Schedule<'a> {
        let (mut schedule, free) = Schedule::new(graph, capacity, known);
        for id in free {
            schedule.ready(id);
        }
        schedule
    }

    fn names(schedule: &mut Schedule<'_>) -> Vec<usize> {
        std::iter::from_fn(|| schedule.take_next()).map(|(id, _)| id.index()).collect()
    }

    #[test]
    fn the_longest_path_comes_first_in_expected_seconds() {
        let minute = Request { time: Some(Duration::from_mins(1)), ..threads(1) };
        let graph = graph(&[
            (vec![], threads(1)),
            (vec![], minute),
            (vec![], threads(1)),
            (vec![2], threads(1)),
        ]);
        let one = Capacity::of_threads(1);
        let first = |known: &[Estimate]| names(&mut schedule(&graph, &one, known))[0];
        let seconds = |seconds| Estimate { seconds: Some(seconds), memory: None };
        assert_eq!(first(&[]), 1);
        assert_eq!(first(&[Estimate::default(), seconds(0.5)]), 2);
        assert_eq!(first(&[seconds(3.0), seconds(0.5)]), 0);
    }

    #[test]
    fn threads_are_shared_among_those_that_can_start() {
        let gpu = Request { gpus: GpuRequest::Whole(1), ..Request::default() };
        let graph = graph(&[(vec![], gpu), (vec![], gpu), (vec![], Request::default())]);
        let capacity = Capacity { gpus: vec![0], ..Capacity::of_threads(9) };
        let mut schedule = schedule(&graph, &capacity, &[]);
        // Both that want the GPU count at first; the second does not any more once it is taken.
        let (_, slot) = schedule.take_next().unwrap();
        assert_eq!((slot.threads, slot.gpus.as_slice()), (3, [(0, DEVICE)].as_slice()));
        let (id, slot) = schedule.take_next().unwrap();
        assert_eq!((id.index(), slot.threads, slot.gpus.len()), (2, 6, 0));
    }

    #[test]
    fn a_big_node_is_passed_for_a_while_and_then_waited_for() {
        // The first wants both threads, and has a long path before it.
        let mut nodes = vec![(vec![], threads(1)), (vec![], threads(2)), (vec![1], threads(1))];
        nodes.extend((0..20).map(|_| (vec![], threads(1))));
        let graph = graph(&nodes);
        let long = Estimate { seconds: Some(100.0), memory: None };
        let known = [Estimate { seconds: Some(1000.0), memory: None }, long];
        let mut schedule = schedule(&graph, &Capacity::of_threads(2), &known);
        assert_eq!(names(&mut schedule), [0, 3], "the big one does not fit beside the first");
        for passed in 0..PATIENCE {
            schedule.done(NodeId::new(3 + passed as usize));
            let next = names(&mut schedule);
            assert_eq!(next.is_empty(), passed + 1 == PATIENCE, "{passed}");
        }
        schedule.done(NodeId::new(0));
        assert_eq!(names(&mut schedule), [1]);
    }

    #[test]
    fn threads_are_not_held_for_one_that_waits_for_a_gpu() {
        let gpu = Request { gpus: GpuRequest::Whole(1), ..threads(1) };
        let share = Request { gpus: GpuRequest::Share(500), ..threads(1) };
        let mut nodes = vec![(vec![], share), (vec![], gpu), (vec![], share)];
        nodes.extend((0..20).map(|_| (vec![], threads(1))));
        let graph = graph(&nodes);
        let long = |seconds| Estimate { seconds: Some(seconds), memory: None };
        let known = [long(1000.0), long(100.0), long(0.5)];
        let capacity = Capacity { gpus: vec![0], ..Capacity::of_threads(2) };
        let mut schedule = schedule(&graph, &capacity, &known);
        assert_eq!(names(&mut schedule), [0, 3]);
        for i in 3..22 {
            schedule.done(NodeId::new(i));
            assert_eq!(names(&mut schedule), [i + 1]);
        }
        schedule.done(NodeId::new(22));
        assert!(
            names(&mut schedule).is_empty(),
            "the GPU is held for the second, not given in halves"
        );
        schedule.done(NodeId::new(0));
        assert_eq!(names(&mut schedule), [1]);
    }

    #[test]
    fn the_next_attempt_gets_the_room_that_it_lacked() {
        let share = Request { gpus: GpuRequest::Share(400), ..Request::default() };
        let graph = graph(&[(vec![], share), (vec![], share)]);
        let capacity = Capacity { gpus: vec![0], ..Capacity::of_threads(2) };
        let mut schedule = schedule(&graph, &capacity, &[]);
        let (first, other) = (NodeId::new(0), NodeId::new(1));
        assert_eq!(names(&mut schedule), [0, 1]);
        schedule.again(first, Room::Device);
        assert_eq!(schedule.state(first), State::Resting);
        assert!(names(&mut schedule).is_empty());
        schedule.ready(first);
        assert!(names(&mut schedule).is_empty(), "the other holds a part of the device");
        schedule.again(other, Room::Machine);
        let (id, slot) = schedule.take_next().unwrap();
        assert_eq!((id, slot.gpus, slot.alone), (first, vec![(0, DEVICE)], false));
        schedule.ready(other);
        assert!(schedule.take_next().is_none());
        schedule.done(first);
        let (id, slot) = schedule.take_next().unwrap();
        assert_eq!((id, slot.threads, slot.alone), (other, 2, true));
        assert!(schedule.wind_down().is_empty());
    }

    #[test]
    fn what_has_started_goes_on_when_a_result_is_taken_back() {
        let nodes = [vec![], vec![0], vec![0], vec![1], vec![2], vec![3]];
        let nodes: Vec<_> = nodes.into_iter().map(|inputs| (inputs, threads(1))).collect();
        let graph = graph(&nodes);
        let mut schedule = schedule(&graph, &Capacity::of_threads(1), &[]);
        assert_eq!(names(&mut schedule), [0]);
        schedule.done(NodeId::new(0)).into_iter().for_each(|id| schedule.ready(id));
        assert_eq!(names(&mut schedule), [1]);
        // 1 runs, and 3 and 5 take its result; 2 is ready, and 4 takes its.
        assert_eq!(schedule.revoke(NodeId::new(0)), [NodeId::new(2), NodeId::new(4)]);
        assert_eq!(schedule.state(NodeId::new(0)), State::Failed);
        assert!(names(&mut schedule).is_empty());
        assert_eq!(schedule.done(NodeId::new(1)), [NodeId::new(3)]);
    }

    /// What a node asks for; often nothing, sometimes more than there is.
    fn requests() -> impl Strategy<Value = Request> {
        let gpus = prop_oneof![3 => Just(0u32), 1 => 1u32..1000, 1 => 1000u32..4000];
        let memory = prop::option::of(0u64..12);
        (prop::option::of(0usize..6), memory, gpus).prop_map(|(threads, memory, gpus)| {
            let gpus = GpuRequest::of_thousandths(gpus);
            Request { threads, memory, gpus, time: None, alone: false }
        })
    }

    /// What happens to a running node.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Done,
        Failed,
        Again(Room),
        Elsewhere,
        Revoked,
    }

    fn fates() -> impl Strategy<Value = Fate> {
        prop_oneof![
            12 => Just(Fate::Done),
            1 => Just(Fate::Failed),
            1 => Just(Fate::Again(Room::Same)),
            1 => Just(Fate::Again(Room::Device)),
            1 => Just(Fate::Again(Room::Machine)),
            1 => Just(Fate::Elsewhere),
            1 => Just(Fate::Revoked),
        ]
    }

    proptest! {
        /// Whatever the graph and whatever befalls its nodes: each starts after what it depends on, no more is held
        /// than there is, something runs as long as anything can, and only what depends on a failed node is left out.
        #[test]
        fn every_node_runs_in_order_within_the_capacity(
            nodes in prop::collection::vec(
                (prop::collection::vec(0usize..40, 0..4), requests()), 1..40),
            known in prop::collection::vec(
                (prop::option::of(0.0f64..9.0), prop::option::of(0u64..12)), 0..40),
            (cores, memory, gpus) in (1usize..5, prop::option::of(0u64..9), 0usize..3),
            fates in prop::collection::vec((any::<prop::sample::Index>(), fates()), 60),
        ) {
            let graph = graph(&nodes);
            let capacity = Capacity { threads: cores, memory, gpus: (0..gpus).collect() };
            let known: Vec<Estimate> =
                known.into_iter().map(|(seconds, memory)| Estimate { seconds, memory }).collect();
            let mut schedule = schedule(&graph, &capacity, &known);
            let whole = schedule.slots.clone();
            let mut fates = fates.into_iter();
            let (mut running, mut ends): (Vec<NodeId>, _) = (Vec::new(), 0);
            let mut revoked = false;
            loop {
                while let Some((id, slot)) = schedule.take_next() {
                    let started = graph.dependencies(id).iter().all(|d| {
                        schedule.state(*d) == State::Done || revoked
                    });
                    prop_assert!(started && slot.threads >= 1);
                    running.push(id);
                }
                let slots: Vec<Slot> = schedule.held.iter().flatten().cloned().collect();
                prop_assert_eq!(slots.len(), running.len());
                prop_assert!(slots.iter().map(|slot| slot.threads).sum::<usize>() <= cores);
                let taken = slots.iter().map(|slot| slot.memory).sum::<u64>();
                prop_assert!(memory.is_none_or(|memory| taken <= memory));
                for ordinal in 0..gpus {
                    let on = slots.iter().flat_map(|slot| &slot.gpus).filter(|(o, _)| *o == ordinal);
                    prop_assert!(on.map(|(_, share)| share).sum::<u32>() <= DEVICE);
                }
                if running.is_empty() {
                    break;
                }
                let (at, fate) =
                    fates.next().map_or((0, Fate::Done), |(at, fate)| (at.index(running.len()), fate));
                let id = running.remove(at);
                ends += 1;
                match fate {
                    Fate::Done => {
                        schedule.done(id).into_iter().for_each(|freed| schedule.ready(freed));
                    }
                    Fate::Failed => {
                        schedule.failed(id);
                    }
                    Fate::Again(room) => {
                        schedule.again(id, room);
                        schedule.ready(id);
                    }
                    Fate::Elsewhere => {
                        schedule.elsewhere(id);
                        schedule.ready(id);
                    }
                    Fate::Revoked => {
                        schedule.done(id).into_iter().for_each(|freed| schedule.ready(freed));
                        schedule.revoke(id);
                        revoked = true;
                    }
                }
            }
            prop_assert_eq!(&schedule.slots, &whole);
            prop_assert_eq!(ends, schedule.ended);
            for id in graph.ids() {
                let lacks = |d: &NodeId| {
                    matches!(schedule.state(*d), State::Failed | State::Skipped)
                };
                let cut = graph.dependencies(id).iter().any(lacks);
                match schedule.state(id) {
                    State::Done | State::Failed => prop_assert!(!cut || revoked),
                    State::Skipped => prop_assert!(cut),
                    other => prop_assert!(false, "{id:?} is {other:?}"),
                }
            }
        }
    }
}
