//! The results that an experiment had in earlier runs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::build::Plan;
use crate::store::files::FileError;
use crate::store::runs::{Outcome, Run};
use crate::store::{Hash, Record, Store};

/// The sets of results of the newest earlier runs of an experiment, each once, and where each node is found in them.
///
/// A run that was killed, or goes on, has no set yet: what it computed stands for it.
pub struct Earlier<'a> {
    store: &'a Store,
    /// The newest run with each set, newest first.
    runs: Vec<Run>,
    /// The newest result of each node that is looked for, and the run that had it.
    newest: BTreeMap<String, Past>,
    /// Sets that are kept in memory, by the place of their run; they are large, and few are needed.
    sets: RefCell<BTreeMap<usize, Rc<Set>>>,
}

/// Keys by node name.
type Set = BTreeMap<String, Hash>;

/// A result of a node in an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// The key that it had.
    pub key: Hash,
    /// The run: a place in the list of runs.
    run: usize,
}

/// A result that is there no more, or that nobody ever had.
#[derive(Clone, Debug)]
pub enum Found {
    /// The record of it.
    Record(Box<Record>),
    /// There was a result, and its record is gone.
    Gone,
    /// There was none.
    Nothing,
}

/// So many sets are looked through: what a node was before that tells nobody anything.
const MOST_SETS: usize = 64;

/// So many of the newest results are looked through for those of runs that were killed.
const MOST_COMPUTED: usize = 10_000;

/// So many records are looked at to find the one that is nearest to a node.
const MOST_RELATIVES: usize = 1000;

impl<'a> Earlier<'a> {
    /// Reads the sets of its runs, newest first, until every node that is `wanted` is found.
    pub fn of(
        plan: &Plan,
        store: &'a Store,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Self, FileError> {
        let mut seen = BTreeSet::new();
        let is_new = |run: &Run| {
            run.experiment == plan.experiment.name
                && run.set.is_none_or(|set| seen.insert(set))
                && (run.set.is_some() || run.outcome == Outcome::Unfinished)
        };
        let runs: Vec<Run> = store.runs()?.into_iter().filter(is_new).take(MOST_SETS).collect();
        let sets = RefCell::new(computed(store, &runs));
        let mut earlier = Self { store, runs, newest: BTreeMap::new(), sets };
        let names = plan.graph.ids().map(|id| plan.graph.node(id).name.as_str());
        let mut missing: BTreeSet<&str> = names.filter(|name| wanted(name)).collect();
        for run in 0..earlier.runs.len() {
            if missing.is_empty() {
                break;
            }
            for (name, key) in earlier.read(run).iter() {
                if missing.remove(name.as_str()) {
                    earlier.newest.insert(name.clone(), Past { key: *key, run });
                }
            }
        }
        Ok(earlier)
    }

    /// The newest result that a node had.
    pub fn newest(&self, name: &str) -> Option<Past> {
        self.newest.get(name).copied()
    }

    /// The result that a node had in the run of another result, or before it: a run that was killed may have taken it
    /// from the cache.
    pub fn beside(&self, past: Past, name: &str) -> Option<Past> {
        let of = |run: usize| self.set(run).get(name).map(|key| Past { key: *key, run });
        (past.run..self.runs.len()).find_map(of)
    }

    /// The run that had a result.
    pub fn run(&self, past: Past) -> &Run {
        &self.runs[past.run]
    }

    /// Reads the record of a result.
    pub fn record(&self, past: Option<Past>) -> Found {
        let Some(past) = past else { return Found::Nothing };
        let record = self.store.record(&past.key).ok().flatten();
        record.map_or(Found::Gone, |record| Found::Record(Box::new(record)))
    }

    /// The results that instances of a stage had, each with the node's name: each record once, newest first.
    pub fn of_stage(&self, stage: &str) -> Vec<(String, Past)> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for run in 0..self.runs.len() {
            for (name, key) in self.set(run).iter() {
                if name.split('[').next() == Some(stage) && seen.insert(*key) {
                    found.push((name.clone(), Past { key: *key, run }));
                }
            }
            if found.len() >= MOST_RELATIVES {
                break;
            }
        }
        found.truncate(MOST_RELATIVES);
        found
    }

    /// The results of a run, kept for the next time.
    fn set(&self, run: usize) -> Rc<Set> {
        let set = self.read(run);
        self.sets.borrow_mut().insert(run, Rc::clone(&set));
        set
    }

    fn read(&self, run: usize) -> Rc<Set> {
        let known = self.sets.borrow().get(&run).cloned();
        known.unwrap_or_else(|| Rc::new(self.store.results_of(&self.runs[run])))
    }
}

/// What those runs computed that have no set, by their place.
fn computed(store: &Store, runs: &[Run]) -> BTreeMap<usize, Rc<Set>> {
    let open = runs.iter().enumerate().filter(|(_, run)| run.set.is_none());
    let places: BTreeMap<&str, usize> = open.map(|(place, run)| (run.id.as_str(), place)).collect();
    let mut sets: BTreeMap<usize, Set> = places.values().map(|at| (*at, Set::new())).collect();
    if !places.is_empty() {
        for result in store.latest_results(MOST_COMPUTED) {
            if let Some(at) = places.get(result.provenance.run.as_str()) {
                sets.entry(*at).or_default().insert(result.provenance.node, result.key);
            }
        }
    }
    sets.into_iter().map(|(at, set)| (at, Rc::new(set))).collect()
}
