//! The schedule under every order of events.

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
    assert!(names(&mut schedule).is_empty(), "the GPU is held for the second, not given in halves");
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
