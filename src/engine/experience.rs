//! What earlier runs tell of stages: how long their nodes took, and on how much.

use std::collections::BTreeMap;

use super::graph::Node;
use super::resources::Estimate;
use crate::store::{Store, Summary};

/// What the nodes of stages took, by kind and stage.
#[derive(Debug, Default)]
pub struct Experience(BTreeMap<String, BTreeMap<String, Took>>);

/// What the nodes of one stage took, all together.
#[derive(Debug, Default)]
struct Took {
    count: usize,
    seconds: f64,
    threads: usize,
    /// The most that one had.
    memory: Option<u64>,
}

/// So many of the newest results tell what the stages take.
const ENOUGH: usize = 2000;

impl Experience {
    /// Learns from the newest results of a store.
    pub fn of(store: &Store) -> Self {
        Self::from(store.latest_results(ENOUGH))
    }

    /// What is known of a node: the mean time of its stage with its kind, and the most memory.
    pub fn estimate(&self, node: &Node) -> Estimate {
        self.took(node).map_or_else(Estimate::default, |took| Estimate {
            seconds: Some(took.seconds / took.count as f64),
            memory: took.memory,
        })
    }

    /// On how many threads the nodes of its stage ran with its kind, on average and rounded.
    pub fn threads(&self, node: &Node) -> Option<usize> {
        self.took(node).map(|took| (took.threads + took.count / 2) / took.count)
    }

    fn took(&self, node: &Node) -> Option<&Took> {
        self.0.get(node.kind.name)?.get(&node.stage)
    }
}

impl From<Vec<Summary>> for Experience {
    fn from(results: Vec<Summary>) -> Self {
        let mut kinds: BTreeMap<String, BTreeMap<String, Took>> = BTreeMap::new();
        for result in results {
            let from = &result.provenance;
            let stages = kinds.entry(result.kind).or_default();
            let took = stages.entry(from.stage().to_owned()).or_default();
            took.count += 1;
            took.seconds += from.seconds;
            took.threads += from.threads;
            took.memory = took.memory.max(from.peak_memory);
        }
        Self(kinds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::graph::NodeId;
    use crate::engine::resources::Request;
    use crate::engine::toys;
    use crate::store::bench;

    #[test]
    fn a_stage_is_known_by_its_mean_time_and_its_largest_memory() {
        let (_folder, store) = bench::store();
        let graph = toys::graph(&[(Vec::new(), Request::default())]);
        let node = graph.node(NodeId::new(0));
        let result = |seconds, threads, memory| {
            let mut summary = bench::result(&store, "x", &[]).summary();
            node.kind.name.clone_into(&mut summary.kind);
            summary.provenance.node = format!("{}[n=1]", node.stage);
            let from = &mut summary.provenance;
            (from.seconds, from.threads, from.peak_memory) = (seconds, threads, memory);
            summary
        };
        let of = |results: Vec<Summary>| {
            let experience = Experience::from(results);
            (experience.estimate(node), experience.threads(node))
        };
        assert_eq!(of(Vec::new()), (Estimate::default(), None));
        let known = Estimate { seconds: Some(3.0), memory: Some(7) };
        let results = vec![result(2.0, 1, None), result(4.0, 2, Some(7))];
        assert_eq!(of(results), (known, Some(2)));
        let mut other = result(2.0, 1, None);
        other.kind = "another".to_owned();
        assert_eq!(of(vec![other]), (Estimate::default(), None));
    }
}
