//! Results that are not to be kept (`keep = false`): their files go as soon as everything that reads them is recorded.

use std::sync::Arc;

use super::graph::NodeId;
use super::schedule::State;
use super::walk::Walk;
use crate::store::{Hash, Summary};

impl Walk<'_> {
    /// Lets go of the files of results that are not to be kept, now that a node is done that read them.
    pub(super) fn release_around(&mut self, id: NodeId) {
        let around = self.graph.dependencies(id).into_iter().chain([id]);
        let loose: Vec<NodeId> = around.filter(|id| !self.graph.node(*id).keep).collect();
        for id in loose {
            let same = self.same(id);
            let is_loose = |id: &NodeId| !self.graph.node(*id).keep && self.is_used_up(*id);
            if !same.iter().all(is_loose) {
                continue;
            }
            let key = self.key(id);
            let whole = |result: &&Arc<Summary>| result.key != key && !result.dropped;
            let files = |hash: &Hash| {
                let others = self.results.records.iter().flatten().filter(whole);
                others.flat_map(|result| result.files()).any(|file| file.hash == *hash)
            };
            // What cannot be removed only takes room.
            if let Ok(Some(result)) = self.store.release(&key, &mut self.others, &files) {
                let result = Arc::new(result);
                for id in same {
                    self.results.records[id.index()] = Some(Arc::clone(&result));
                }
            }
        }
    }

    /// The nodes that have the key of this one, itself among them: they share one result.
    fn same(&self, id: NodeId) -> Vec<NodeId> {
        let key = self.keys[id.index()];
        self.graph.ids().filter(|other| self.keys[other.index()] == key).collect()
    }

    /// Whether a result is recorded that has its files, and so is that of every node that reads them.
    fn is_used_up(&self, id: NodeId) -> bool {
        let recorded =
            |id: NodeId| self.schedule.state(id) == State::Done && !self.committing.contains(&id);
        let result = self.results.records[id.index()].as_ref();
        result.is_some_and(|result| !result.dropped)
            && recorded(id)
            && self.graph.dependents(id).into_iter().all(recorded)
    }
}
