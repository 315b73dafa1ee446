//! How long what is to run would take here: its work, its longest path, and the time on this machine.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::graph::{Graph, NodeId};
use super::resources::{Capacity, DEVICE, Estimate, GpuRequest, Request};
use super::schedule::Schedule;

/// What is expected of the nodes that are to run. Of those without an estimate nothing is: they count as if they took no
/// time, so that with any of them each number is a lower bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// How many nodes would run.
    pub nodes: usize,
    /// How many of them have no estimate.
    pub unknown: usize,
    /// The seconds of all of them, one after the other.
    pub work: f64,
    /// The seconds of those along the longest path: no machine is faster.
    pub path: f64,
    /// The seconds on this machine.
    pub time: f64,
}

/// So many nodes are played through; with more of them how they fall into the slots matters little.
const MOST_PLAYED: usize = 2000;

/// Foresees a run of some nodes; the others have their results. Estimates are indexed as the graph is.
///
/// The time is that of a run played through with the schedule's own slots, in which a node takes its estimate whatever
/// the number of its threads. For more than 2000 nodes it is a bound instead: the longest path, or the work divided
/// among the threads, memory and GPUs that there are, whichever is most.
pub fn forecast(
    graph: &Graph,
    capacity: &Capacity,
    estimates: &[Estimate],
    runs: &dyn Fn(NodeId) -> bool,
) -> Forecast {
    let expected =
        |id: NodeId| estimates[id.index()].expected(&graph.node(id).resources).filter(|_| runs(id));
    let seconds = |id: NodeId| expected(id).unwrap_or(0.0);
    let chosen: Vec<NodeId> = graph.ids().filter(|id| runs(*id)).collect();
    let path = graph.heights(&seconds).into_iter().fold(0.0, f64::max);
    let work: f64 = chosen.iter().map(|id| seconds(*id)).sum();
    let time = if chosen.len() <= MOST_PLAYED {
        played(graph, capacity, estimates, runs, &seconds)
    } else {
        let request = |id: &NodeId| {
            let asked = &graph.node(*id).resources;
            (estimates[id.index()].complete(asked, capacity), seconds(*id))
        };
        bound(capacity, chosen.iter().map(request)).max(path)
    };
    let unknown = chosen.iter().filter(|id| expected(**id).is_none()).count();
    // A sum of nothing is -0.0.
    Forecast { nodes: chosen.len(), unknown, work: work + 0.0, path, time }
}

/// Plays a run through; yields when its last node ends.
fn played(
    graph: &Graph,
    capacity: &Capacity,
    estimates: &[Estimate],
    runs: &dyn Fn(NodeId) -> bool,
    seconds: &dyn Fn(NodeId) -> f64,
) -> f64 {
    let (mut schedule, mut freed) = Schedule::new(graph, capacity, estimates);
    // Bits of positive numbers are in the order of the numbers.
    let mut running: BTreeSet<Reverse<(u64, NodeId)>> = BTreeSet::new();
    let mut now = 0.0;
    loop {
        while let Some(id) = freed.pop() {
            if runs(id) {
                schedule.ready(id);
            } else {
                freed.extend(schedule.done(id));
            }
        }
        while let Some((id, _)) = schedule.take_next() {
            running.insert(Reverse(((now + seconds(id)).to_bits(), id)));
        }
        let Some(Reverse((at, id))) = running.pop_last() else { return now };
        now = f64::from_bits(at);
        freed = schedule.done(id);
    }
}

/// The least time in which a capacity can do some work: requests, each with its seconds.
fn bound(capacity: &Capacity, work: impl Iterator<Item = (Request, f64)>) -> f64 {
    let (mut threads, mut memory, mut gpus) = (0.0, 0.0, 0.0);
    for (request, seconds) in work {
        let held = if request.alone { capacity.threads } else { request.threads.unwrap_or(1) };
        threads += seconds * held as f64;
        memory += seconds * request.memory.unwrap_or(0) as f64;
        gpus += match request.gpus {
            GpuRequest::None => 0.0,
            GpuRequest::Share(share) => seconds * f64::from(share) / f64::from(DEVICE),
            GpuRequest::Whole(count) => seconds * count as f64,
        };
    }
    let memory = capacity.memory.map_or(0.0, |all| memory / all.max(1) as f64);
    let gpus = gpus / capacity.gpus.len().max(1) as f64;
    (threads / capacity.threads.max(1) as f64).max(memory).max(gpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::toys;

    const ONE: Request = Request {
        threads: Some(1),
        memory: None,
        gpus: GpuRequest::None,
        time: None,
        alone: false,
    };

    fn took(seconds: f64) -> Estimate {
        Estimate { seconds: Some(seconds), memory: None }
    }

    #[test]
    fn work_is_packed_into_slots() {
        // Three of a stage, and one that takes the first of them.
        let nodes = [(vec![], ONE), (vec![], ONE), (vec![], ONE), (vec![0], ONE)];
        let graph = toys::graph(&nodes);
        let estimates = [took(2.0), took(2.0), took(2.0), took(5.0)];
        let check = |threads, runs: &dyn Fn(usize) -> bool, expected| {
            let capacity = Capacity::of_threads(threads);
            let found = forecast(&graph, &capacity, &estimates, &|id| runs(id.index()));
            assert_eq!((found.work, found.path, found.time), expected);
            assert_eq!(found.unknown, 0);
        };
        check(1, &|_| true, (11.0, 7.0, 11.0));
        check(2, &|_| true, (11.0, 7.0, 7.0));
        check(2, &|id| id < 3, (6.0, 2.0, 4.0));
        check(9, &|_| true, (11.0, 7.0, 7.0));
        check(2, &|id| id == 3, (5.0, 5.0, 5.0));
        check(2, &|_| false, (0.0, 0.0, 0.0));
    }

    #[test]
    fn what_is_unknown_is_counted_and_takes_no_time() {
        let graph = toys::graph(&[(vec![], ONE), (vec![0], ONE)]);
        let estimates = [Estimate::default(), took(3.0)];
        let found = forecast(&graph, &Capacity::of_threads(2), &estimates, &|_| true);
        let expected = Forecast { nodes: 2, unknown: 1, work: 3.0, path: 3.0, time: 3.0 };
        assert_eq!(found, expected);
    }

    #[test]
    fn many_nodes_take_the_bound() {
        let nodes: Vec<_> = (0..MOST_PLAYED + 2).map(|_| (vec![], ONE)).collect();
        let graph = toys::graph(&nodes);
        let estimates = vec![took(1.0); graph.len()];
        let found = forecast(&graph, &Capacity::of_threads(2), &estimates, &|_| true);
        assert_eq!(found.time, (MOST_PLAYED + 2) as f64 / 2.0);
        let whole = Request { gpus: GpuRequest::Whole(1), ..ONE };
        let capacity = Capacity { threads: 8, memory: Some(10), gpus: vec![0, 1] };
        assert_eq!(bound(&capacity, [(whole, 6.0), (whole, 4.0)].into_iter()), 5.0);
        let big = Request { memory: Some(10), ..ONE };
        assert_eq!(bound(&capacity, [(big, 6.0), (big, 4.0)].into_iter()), 10.0);
    }
}
