//! Results that are not to be kept: their files go when nothing needs them any more, and they still count as hits.
//!
//! A cache is shared, so that one experiment does not keep a result says nothing of the others. Only what a run has made
//! itself goes, or an earlier run of the same file that came to no good end; and of that nothing which a pin names, or
//! which another run has found in the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::files::{self, FileError};
use super::index::Index;
use super::lease::Owner;
use super::record::Record;
use super::runs::{Outcome, Run};
use super::{Hash, Store, Summary};

/// What pins and other runs want of a store. They come and go, so it is looked at anew before each release; what does
/// not change is read once.
#[derive(Debug)]
pub struct Others {
    /// The run that releases.
    owner: Owner,
    /// The runs that are over, its own left out.
    over: BTreeMap<String, Run>,
    /// Sets that were read.
    sets: BTreeMap<Hash, BTreeSet<Hash>>,
    /// The results that pins name, and that runs have found which are going on; `None` where a pin cannot be read.
    wanted: Option<BTreeSet<Hash>>,
}

impl Others {
    /// All but this run.
    pub fn than(owner: &Owner) -> Self {
        let (over, sets) = (BTreeMap::new(), BTreeMap::new());
        Self { owner: owner.clone(), over, sets, wanted: None }
    }

    /// Looks at the pins and runs that there are now.
    fn look(&mut self, store: &Store) -> Result<(), FileError> {
        let mut wanted = BTreeSet::new();
        for id in store.run_ids()? {
            if id == self.owner.run || self.over.contains_key(&id) {
                continue;
            }
            let is_over = |run: &Run| {
                let gone = run.owner.as_ref().is_some_and(|owner| owner.is_gone(&self.owner.host));
                run.outcome != Outcome::Unfinished || gone
            };
            match store.run(&id).filter(is_over) {
                Some(run) => drop(self.over.insert(id, run)),
                None => wanted.extend(store.hits(&id)),
            }
        }
        let pins: Option<Vec<_>> = store.pins()?.into_values().collect();
        self.wanted = pins.map(|pins| {
            for pin in pins {
                wanted.extend(self.set(store, &pin.set));
            }
            wanted
        });
        Ok(())
    }

    fn set(&mut self, store: &Store, set: &Hash) -> &BTreeSet<Hash> {
        let read = || store.read_set(set).unwrap_or_default().into_values().collect();
        self.sets.entry(*set).or_insert_with(read)
    }

    /// Whether a result may go.
    fn spare(&mut self, store: &Store, record: &Record) -> bool {
        if self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&record.key)) {
            return false;
        }
        let made_by = &record.provenance.run;
        if *made_by == self.owner.run {
            return true;
        }
        let (Some(own), Some(run)) = (store.run(&self.owner.run), self.over.get(made_by)) else {
            return false;
        };
        let same = |run: &Run| (&run.experiment, &run.file) == (&own.experiment, &own.file);
        if run.outcome == Outcome::Done || !same(run) {
            return false;
        }
        let others = self.over.values().filter(|run| !same(run));
        let sets: BTreeSet<Hash> = others.filter_map(|run| run.set).collect();
        sets.iter().all(|set| !self.set(store, set).contains(&record.key))
    }
}

impl Store {
    /// Removes the files of a result and marks its record; yields what it is from then on, or `None` where it is not
    /// in this very store or others want it. Files that another result consists of stay: the ones that the index knows,
    /// and those `in_use`.
    pub fn release(
        &self,
        key: &Hash,
        others: &mut Others,
        in_use: &dyn Fn(&Hash) -> bool,
    ) -> Result<Option<Summary>, FileError> {
        let Ok(Some(mut record)) = self.record_here(key) else { return Ok(None) };
        others.look(self)?;
        if !others.spare(self, &record) {
            return Ok(None);
        }
        record.dropped = true;
        let summary = record.summary();
        // The mark first: with it, files that are gone are meant to be.
        files::replace(&self.record_path(key), &record.to_bytes())?;
        Index::add(&self.index_path(), &[Arc::new(summary.clone())])?;
        // Read anew: other runs have added to it.
        let results = Index::open(&self.index_path()).all();
        let is_wanted = |key: &Hash| others.wanted.as_ref().is_some_and(|all| all.contains(key));
        let others = results.iter().filter(|other| other.key != *key);
        let others = others.filter(|other| !other.dropped || is_wanted(&other.key));
        let named: BTreeSet<Hash> = others.flat_map(Summary::files).map(|f| f.hash).collect();
        for file in summary.files().filter(|file| !named.contains(&file.hash)) {
            if !in_use(&file.hash) {
                files::remove(&self.object_here(&file.hash))?;
            }
        }
        Ok(Some(summary))
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench;
    use super::super::pins::Pin;
    use super::super::runs::tests::run;
    use super::*;

    /// Others than the run `r`, which made what the bench puts into a store.
    fn others() -> Others {
        Others::than(&Owner::this("h", "r"))
    }

    fn is_released(store: &Store, record: &Record, others: &mut Others) -> bool {
        let released = store.release(&record.key, others, &|_| false).unwrap().is_some();
        let file = &record.outputs["main"].files[0];
        assert_eq!(store.has(&file.hash, file.len), !released);
        released
    }

    #[test]
    fn what_others_consist_of_stays() {
        let (_folder, store) = bench::store();
        let big = bench::put(&store, "big", &["only here", "shared", "in use"]);
        bench::put(&store, "other", &["shared"]);
        let files = big.outputs["main"].files.clone();
        let in_use = |hash: &Hash| *hash == files[2].hash;
        let summary = store.release(&big.key, &mut others(), &in_use).unwrap().unwrap();
        assert!(summary.dropped);
        let there: Vec<bool> = files.iter().map(|f| store.has(&f.hash, f.len)).collect();
        assert_eq!(there, [false, true, true]);
        // It is a hit still, for whoever looks at it anew as well.
        let fresh = Store::open(store.cache()).unwrap();
        assert_eq!(fresh.find(&big.key).unwrap(), Some(summary));
        assert_eq!(store.release(&bench::key("none"), &mut others(), &|_| false).unwrap(), None);
    }

    #[test]
    fn what_a_pin_names_stays_until_it_is_let_go_of() {
        let (_folder, store) = bench::store();
        let record = bench::put(&store, "a", &["one"]);
        let set = store.write_set(&BTreeMap::from([("a".to_owned(), record.key)])).unwrap();
        let text = String::new;
        let pin = Pin { set, experiment: text(), file: text(), since: text() };
        store.pin("p", &pin).unwrap();
        let mut others = others();
        assert!(!is_released(&store, &record, &mut others));
        // Nobody knows what a damaged one names.
        bench::flip(&store.root().join("pins/p"));
        assert!(!is_released(&store, &record, &mut others));
        store.unpin("p").unwrap();
        assert!(is_released(&store, &record, &mut others));
    }

    #[test]
    fn what_another_run_has_found_stays_while_it_goes_on() {
        let (_folder, store) = bench::store();
        let record = bench::put(&store, "a", &["one"]);
        let mut others = others();
        let (begun, owner) = (Outcome::Unfinished, Some(Owner::this("h", "y")));
        store.write_run(&Run { outcome: begun, owner, ..run("y") }).unwrap();
        store.note_hits("y", &[record.key]).unwrap();
        assert!(!is_released(&store, &record, &mut others));
        store.write_run(&run("y")).unwrap();
        assert!(is_released(&store, &record, &mut others));
    }

    #[test]
    fn of_earlier_runs_only_those_of_the_same_file_that_failed_count_as_this_one() {
        for (file, outcome, expected) in [
            ("x.toml", Outcome::Failed, true),
            ("x.toml", Outcome::Interrupted, true),
            ("x.toml", Outcome::Done, false),
            ("y.toml", Outcome::Failed, false),
        ] {
            let (_folder, store) = bench::store();
            let record = bench::put(&store, "a", &["one"]);
            store.write_run(&Run { outcome: Outcome::Unfinished, ..run("now") }).unwrap();
            store.write_run(&Run { file: file.into(), outcome, ..run("r") }).unwrap();
            let mut others = Others::than(&Owner::this("h", "now"));
            assert_eq!(is_released(&store, &record, &mut others), expected, "{file} {outcome:?}");
        }
        // Another experiment has taken it since.
        let (_folder, store) = bench::store();
        let record = bench::put(&store, "a", &["one"]);
        let set = store.write_set(&BTreeMap::from([("a".to_owned(), record.key)])).ok();
        store.write_run(&Run { outcome: Outcome::Unfinished, ..run("now") }).unwrap();
        store.write_run(&Run { outcome: Outcome::Failed, ..run("r") }).unwrap();
        store.write_run(&Run { file: "y.toml".into(), set, ..run("y") }).unwrap();
        assert!(!is_released(&store, &record, &mut Others::than(&Owner::this("h", "now"))));
    }
}
