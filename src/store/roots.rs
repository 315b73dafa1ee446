//! What is reached: the results that a cleaning keeps, and why.

use std::collections::{BTreeMap, BTreeSet};

use super::Store;
use super::files::{self, FileError};
use super::gc::Terms;
use super::hash::Hash;
use super::record::Summary;
use super::runs::{Outcome, Run};

/// In nanoseconds.
pub(super) const SECOND: i128 = 1_000_000_000;
/// An unfinished run of another system whose record was not touched for so long is not going on.
pub(super) const LONGEST: i128 = 7 * 24 * 3600 * SECOND;

/// What the newest runs, the pins and the caller reach.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// Runs that are going on.
    pub live: Vec<Run>,
    /// Runs whose results are kept, those going on among them.
    pub runs: BTreeSet<String>,
    /// Sets that are kept.
    pub sets: BTreeSet<Hash>,
    /// Results that are kept.
    pub keys: BTreeSet<Hash>,
    /// Results whose objects are kept as far as they are there, though the result says that they are gone.
    pub pinned: BTreeSet<Hash>,
    /// Everything that has changed since may belong to a run that is going on.
    pub limit: i128,
}

impl Roots {
    /// Whether a result is kept.
    pub(super) fn reaches(&self, summary: &Summary) -> bool {
        self.keys.contains(&summary.key)
            || self.pinned.contains(&summary.key)
            || self.runs.contains(&summary.provenance.run)
    }
}

impl Store {
    /// Finds out what is reached; `now` is by the file system's clock.
    pub(super) fn roots(&self, terms: &Terms, now: i128) -> Result<Roots, FileError> {
        let mut roots = Roots { keys: terms.keep.clone(), limit: now, ..Roots::default() };
        let mut others = 0;
        for run in self.runs()? {
            let Ok(stamp) = files::stamp(&self.run_path(&run.id)) else { continue };
            let owner = run.owner.as_ref();
            // One of this system is known to be there, or gone; one of another touches its record now and then.
            let going_on = run.outcome == Outcome::Unfinished
                && match owner.filter(|owner| owner.is_here(&terms.here)) {
                    Some(owner) => !owner.is_gone(&terms.here),
                    None => now - stamp.modified < LONGEST,
                };
            if !going_on {
                others += 1;
                if others > terms.keep_runs {
                    continue;
                }
            }
            roots.keys.extend(self.results_of(&run).into_values());
            // A run that was killed has no set: what it has found and computed is what it will go on from.
            roots.keys.extend(self.hits(&run.id));
            roots.sets.extend(run.set);
            roots.runs.insert(run.id.clone());
            if going_on {
                roots.limit = roots.limit.min(stamp.changed - terms.margin.as_nanos() as i128);
                roots.live.push(run);
            }
        }
        for pin in self.pins()?.into_values().flatten() {
            roots.pinned.extend(self.read_set(&pin.set).unwrap_or_default().into_values());
            roots.sets.insert(pin.set);
        }
        Ok(roots)
    }

    /// When a run last used each result, as the records of runs say.
    pub(super) fn last_uses(&self) -> Result<BTreeMap<Hash, i128>, FileError> {
        let mut sets: BTreeMap<Hash, i128> = BTreeMap::new();
        for run in self.runs()? {
            if let (Some(set), Ok(stamp)) = (run.set, files::stamp(&self.run_path(&run.id))) {
                let last = sets.entry(set).or_insert(stamp.modified);
                *last = stamp.modified.max(*last);
            }
        }
        let mut uses: BTreeMap<Hash, i128> = BTreeMap::new();
        for (set, at) in sets {
            for key in self.read_set(&set).unwrap_or_default().into_values() {
                let last = uses.entry(key).or_insert(at);
                *last = at.max(*last);
            }
        }
        Ok(uses)
    }
}
