//! The results that an experiment had in earlier runs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::build::Plan;
use crate::store::files::FileError;
use crate::store::runs::Run;
use crate::store::{Hash, Record, Store};

/// The sets of results of the newest earlier runs of an experiment, each once, and where each node is found in them.
pub struct Earlier<'a> {
    store: &'a Store,
    /// The newest run with each set, newest first.
    runs: Vec<(Run, Hash)>,
    /// The newest result of each node that is looked for, and the run that had it.
    newest: BTreeMap<String, Past>,
    /// Sets that were read whole; they are large, and few are needed.
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
        let mut is_new = |run: &Run| {
            run.experiment == plan.experiment.name && run.set.is_some_and(|set| seen.insert(set))
        };
        let runs: Vec<Run> = store.runs()?.into_iter().filter(|run| is_new(run)).collect();
        let with_set = |run: Run| run.set.map(|set| (run, set));
        let runs = runs.into_iter().filter_map(with_set).take(MOST_SETS).collect();
        let mut earlier = Self { store, runs, newest: BTreeMap::new(), sets: RefCell::default() };
        let names = plan.graph.ids().map(|id| plan.graph.node(id).name.as_str());
        let mut missing: BTreeSet<&str> = names.filter(|name| wanted(name)).collect();
        for run in 0..earlier.runs.len() {
            if missing.is_empty() {
                break;
            }
            for (name, key) in store.read_set(&earlier.runs[run].1).unwrap_or_default() {
                if missing.remove(name.as_str()) {
                    earlier.newest.insert(name, Past { key, run });
                }
            }
        }
        Ok(earlier)
    }

    /// The newest result that a node had.
    pub fn newest(&self, name: &str) -> Option<Past> {
        self.newest.get(name).copied()
    }

    /// The result that a node had in the run of another result.
    pub fn beside(&self, past: Past, name: &str) -> Option<Past> {
        self.set(past.run).get(name).map(|key| Past { key: *key, ..past })
    }

    /// The run that had a result.
    pub fn run(&self, past: Past) -> &Run {
        &self.runs[past.run].0
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

    fn set(&self, run: usize) -> Rc<Set> {
        let read = || Rc::new(self.store.read_set(&self.runs[run].1).unwrap_or_default());
        Rc::clone(self.sets.borrow_mut().entry(run).or_insert_with(read))
    }
}
