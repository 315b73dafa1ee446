//! Cleaning: results that nothing reaches go, and then the objects that no result names.
//!
//! What is reached: what the caller names, what the pins keep, and what the newest runs have used or computed. Runs that
//! are going on are safe: what they have found in the cache is reached, and nothing that has changed since they began is
//! touched. Records go first, then the records are read again, and only objects that none of them names go, so that a
//! result that is committed meanwhile keeps its own. Were a cleaning to win a race all the same, the run that misses an
//! object computes it again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use rayon::prelude::*;
use serde::Serialize;

use super::files::{self, FileError};
use super::hash::Hash;
use super::record::Summary;
use super::rest::Rest;
use super::roots::{Roots, SECOND};
use super::runs::Run;
use super::survey::{Found, Survey};
use super::{Store, StoreError};

/// What is to stay.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Results to keep.
    pub keep: BTreeSet<Hash>,
    /// How many of the newest runs keep theirs.
    pub keep_runs: usize,
    /// As much is removed as brings the store down to this many bytes.
    pub max_size: Option<u64>,
    /// What was used or made more recently stays.
    pub older_than: Option<Duration>,
    /// This machine.
    pub here: String,
    /// Clocks of machines that share the store may differ by so much.
    pub margin: Duration,
}

/// Clocks of machines that share a store may differ by so much.
pub const MARGIN: Duration = Duration::from_mins(1);

/// What a cleaning removes.
#[derive(Debug, Default)]
pub struct Cleaning {
    /// Runs that are going on.
    pub live: Vec<Run>,
    /// Results, the least recently used first.
    pub results: Vec<Doomed>,
    /// Objects that no result will name, with their lengths.
    pub objects: BTreeMap<Hash, u64>,
    /// What else has no value any more.
    pub rest: Vec<Rest>,
    /// How many results stay.
    pub kept: usize,
    /// Bytes of the records and objects that stay.
    pub kept_bytes: u64,
    /// Only what has not changed since is removed.
    pub(super) limit: i128,
    /// What was to stay.
    pub(super) terms: Terms,
}

/// A result to be removed.
#[derive(Clone, Debug)]
pub struct Doomed {
    /// The result.
    pub summary: Summary,
    /// The bytes that this frees: of its record, and of the objects that only results to be removed name, each counted
    /// once.
    pub bytes: u64,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Freed {
    /// How many results.
    pub results: usize,
    /// How many objects.
    pub objects: usize,
    /// Bytes of everything.
    pub bytes: u64,
}

/// An object that no result names may be on its way into a store for so long.
const ARRIVING: i128 = 3600 * SECOND;

impl Cleaning {
    /// Bytes that it frees.
    pub fn bytes(&self) -> u64 {
        let records: u64 = self.results.iter().map(|doomed| doomed.bytes).sum();
        records + self.unnamed().1 + self.rest.iter().map(|rest| rest.bytes).sum::<u64>()
    }

    /// How many of the objects no result names even now, and their bytes.
    pub fn unnamed(&self) -> (usize, u64) {
        let named: BTreeSet<Hash> =
            self.results.iter().flat_map(|doomed| named(&doomed.summary)).collect();
        let unnamed = self.objects.iter().filter(|(hash, _)| !named.contains(hash));
        unnamed.fold((0, 0), |(count, bytes), (_, len)| (count + 1, bytes + len))
    }

    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty() && self.objects.is_empty() && self.rest.is_empty()
    }

    /// Leaves what is not in another one as well.
    #[must_use]
    pub fn within(mut self, other: &Self) -> Self {
        let keys: BTreeSet<Hash> = other.results.iter().map(|d| d.summary.key).collect();
        self.results.retain(|doomed| keys.contains(&doomed.summary.key));
        self.objects.retain(|hash, _| other.objects.contains_key(hash));
        self.rest.retain(|rest| other.rest.iter().any(|shown| shown.path == rest.path));
        self
    }
}

/// The objects that a result names; those of a dropped one are gone.
fn named(summary: &Summary) -> impl Iterator<Item = Hash> {
    let files = summary.files().filter(|_| !summary.dropped).chain(&summary.log);
    files.map(|file| file.hash)
}

impl Store {
    /// Finds out what a cleaning would remove.
    pub fn cleaning(&self, terms: &Terms) -> Result<Cleaning, StoreError> {
        // Of the machine's clock where nothing is there, or nothing can be removed.
        let moment = if self.root().is_dir() { files::moment(self.root()).ok() } else { None };
        let now = moment.unwrap_or_else(files::now);
        let roots = self.roots(terms, now)?;
        let used = self.last_uses()?;
        let survey = self.scan()?;
        survey.refuse_newer()?;
        let last = |found: &Found| {
            let made = found.stamp.modified;
            used.get(&found.summary.key).map_or(made, |used| made.max(*used))
        };
        let before = terms.older_than.map(|age| now - age.as_nanos() as i128);
        let may_go = |found: &&Found| {
            !roots.reaches(&found.summary)
                && found.stamp.changed < roots.limit
                && before.is_none_or(|before| last(found) < before)
        };
        let mut candidates: Vec<&Found> = survey.results.iter().filter(may_go).collect();
        candidates.sort_by_key(|found| last(found));
        let mut cleaning = select(&survey, &roots, candidates, (terms.max_size, now));
        cleaning.rest = self.rest(terms, &roots, (&survey, &cleaning), now)?;
        cleaning.limit = roots.limit;
        cleaning.live = roots.live;
        cleaning.terms.clone_from(terms);
        Ok(cleaning)
    }

    /// Removes what a cleaning names and nobody has touched since.
    pub fn clean(&self, cleaning: &Cleaning) -> Result<Freed, StoreError> {
        // What runs have found that have begun since stays too.
        let roots = self.roots(&cleaning.terms, cleaning.limit)?;
        let limit = roots.limit;
        let results = cleaning.results.par_iter().map(|doomed| &doomed.summary);
        let results = results.filter(|summary| !roots.reaches(summary));
        let records = results.map(|summary| remove_old(&self.record_path(&summary.key), limit));
        let records: Vec<Option<u64>> = records.collect::<Result<_, _>>()?;
        // A result that was committed meanwhile keeps its objects.
        let survey = self.scan()?;
        survey.refuse_newer()?;
        let still: BTreeSet<Hash> = survey.results.iter().flat_map(|f| named(&f.summary)).collect();
        let objects = cleaning.objects.par_iter().filter(|(hash, _)| !still.contains(hash));
        let objects = objects.map(|(hash, _)| remove_old(&self.object_here(hash), limit));
        let objects: Vec<Option<u64>> = objects.collect::<Result<_, _>>()?;
        let mut freed = Freed {
            results: records.iter().flatten().count(),
            objects: objects.iter().flatten().count(),
            bytes: records.iter().chain(&objects).flatten().sum(),
        };
        for rest in &cleaning.rest {
            freed.bytes += rest.remove(&cleaning.terms.here, limit)?;
        }
        self.rewrite_index(survey)?;
        Ok(freed)
    }
}

/// Removes a file that has not changed since the limit; yields its length, if it was there.
fn remove_old(path: &Path, limit: i128) -> Result<Option<u64>, FileError> {
    match files::stamp(path) {
        Ok(stamp) if stamp.changed < limit => {
            files::remove(path)?;
            Ok(Some(stamp.len))
        }
        _ => Ok(None),
    }
}

/// Chooses among the candidates, of which the least recently used comes first.
fn select(
    survey: &Survey,
    roots: &Roots,
    candidates: Vec<&Found>,
    (max_size, now): (Option<u64>, i128),
) -> Cleaning {
    let mut count: BTreeMap<Hash, usize> = BTreeMap::new();
    let (mut size, mut ever) = (0, BTreeSet::new());
    for found in &survey.results {
        size += found.stamp.len;
        for hash in named(&found.summary) {
            *count.entry(hash).or_default() += 1;
        }
        ever.extend(found.summary.files().chain(&found.summary.log).map(|file| file.hash));
        if found.summary.dropped && roots.pinned.contains(&found.summary.key) {
            // The rest of a packed result: it says that it is dropped, and what a report reads of it is there.
            for file in found.summary.files() {
                *count.entry(file.hash).or_default() += 1;
            }
        }
    }
    // Whether an object that nobody names any more may go.
    let may_go = |hash: &Hash| {
        survey.objects.get(hash).filter(|stamp| {
            let arriving = !ever.contains(hash) && now - stamp.changed < ARRIVING;
            stamp.changed < roots.limit && !arriving
        })
    };
    let mut cleaning = Cleaning::default();
    for hash in survey.objects.keys().filter(|hash| !count.contains_key(hash)) {
        if let Some(stamp) = may_go(hash) {
            cleaning.objects.insert(*hash, stamp.len);
        }
    }
    size += survey.bytes() - cleaning.objects.values().sum::<u64>();
    for found in candidates {
        if max_size.is_some_and(|most| size <= most) {
            break;
        }
        let mut bytes = found.stamp.len;
        for hash in named(&found.summary) {
            let left = count.get_mut(&hash).expect("every name was counted");
            *left -= 1;
            if let (0, Some(stamp)) = (*left, may_go(&hash)) {
                bytes += stamp.len;
                cleaning.objects.insert(hash, stamp.len);
            }
        }
        size -= bytes;
        cleaning.results.push(Doomed { summary: found.summary.clone(), bytes });
    }
    cleaning.kept = survey.results.len() - cleaning.results.len();
    cleaning.kept_bytes = size;
    cleaning
}

#[cfg(test)]
mod tests {
    use super::super::bench::{age, commit, key, put, rest, result, store};
    use super::super::lease::Owner;
    use super::super::pins::Pin;
    use super::super::record::Record;
    use super::super::runs::Outcome;
    use super::super::runs::tests::run;
    use super::*;

    fn terms(keep: &[&str]) -> Terms {
        let keep = keep.iter().map(|node| key(node)).collect();
        let here = "h".to_owned();
        Terms { keep, keep_runs: 10, here, margin: MARGIN, ..Terms::default() }
    }

    /// Cleans; yields the nodes whose results are gone, the least recently used first.
    fn clean(store: &Store, terms: &Terms) -> Vec<String> {
        rest();
        let cleaning = store.cleaning(terms).unwrap();
        let freed = store.clean(&cleaning).unwrap();
        assert_eq!(
            (freed.results, freed.objects),
            (cleaning.results.len(), cleaning.objects.len())
        );
        assert_eq!(freed.bytes, cleaning.bytes());
        let verified = store.verify(&store.scan().unwrap(), &|_| ()).unwrap();
        assert_eq!(verified.problems, []);
        cleaning.results.into_iter().map(|doomed| doomed.summary.provenance.node).collect()
    }

    /// Writes down a run that has used the results of some nodes.
    fn used(store: &Store, id: &str, nodes: &[&str]) -> Run {
        let set = nodes.iter().map(|node| ((*node).to_owned(), key(node))).collect();
        let run = Run { set: Some(store.write_set(&set).unwrap()), ..run(id) };
        store.write_run(&run).unwrap();
        run
    }

    #[test]
    fn what_is_reached_stays_and_the_rest_goes_with_what_only_it_names() {
        let (_folder, store) = store();
        put(&store, "a", &["one", "shared"]);
        put(&store, "b", &["two", "shared"]);
        put(&store, "c", &["three"]);
        used(&store, "r1", &["c"]);
        assert_eq!(clean(&store, &terms(&["a"])), ["b"]);
        assert!(
            store.find(&key("a")).unwrap().is_some() && store.find(&key("c")).unwrap().is_some()
        );
        assert_eq!(store.scan().unwrap().objects.len(), 3);
        assert_eq!(Store::open(store.cache()).unwrap().results().len(), 2, "written anew");
        assert_eq!(clean(&store, &Terms { keep_runs: 0, ..terms(&["a"]) }), ["c"]);
    }

    #[test]
    fn what_a_killed_run_has_found_and_computed_stays() {
        let (_folder, store) = store();
        put(&store, "found", &["one"]);
        let mut record = result(&store, "computed", &["two"]);
        record.provenance.run = "r1".to_owned();
        commit(&store, &record);
        put(&store, "other", &["three"]);
        let owner = Owner {
            system: super::super::lease::system().map(str::to_owned),
            host: "h".into(),
            process: 1,
            since: Some(0),
            run: "r1".into(),
        };
        let killed = Run { owner: Some(owner), outcome: Outcome::Unfinished, ..run("r1") };
        store.write_run(&killed).unwrap();
        store.note_hits("r1", &[key("found")]).unwrap();
        rest();
        assert!(store.cleaning(&terms(&[])).unwrap().live.is_empty());
        assert_eq!(clean(&store, &terms(&[])), ["other"]);
    }

    #[test]
    fn nothing_that_changed_since_a_run_began_goes() {
        let (_folder, store) = store();
        put(&store, "a", &["one"]);
        for owner in [None, Some(Owner::this("h", "r1")), Some(Owner::this("far", "r1"))] {
            let live = Run { owner, outcome: Outcome::Unfinished, ..run("r1") };
            store.write_run(&live).unwrap();
            rest();
            let cleaning = store.cleaning(&terms(&[])).unwrap();
            assert_eq!((cleaning.live.len(), cleaning.results.len()), (1, 0), "{live:?}");
        }
        // One of this system is there as long as its process is.
        let live =
            Run { owner: Some(Owner::this("h", "r1")), outcome: Outcome::Unfinished, ..run("r1") };
        store.write_run(&live).unwrap();
        age(&store.run_path("r1"), 8 * 24);
        assert_eq!(store.cleaning(&terms(&[])).unwrap().live.len(), 1);
        // A run of another machine that never ended is not going on for ever.
        store.write_run(&Run { owner: Some(Owner::this("far", "r1")), ..live }).unwrap();
        age(&store.run_path("r1"), 8 * 24);
        assert_eq!(clean(&store, &Terms { keep_runs: 0, ..terms(&[]) }), ["a"]);
    }

    #[test]
    fn what_is_wanted_again_meanwhile_stays() {
        let (_folder, store) = store();
        for node in ["a", "b", "c"] {
            put(&store, node, &[node, "shared"]);
        }
        rest();
        let cleaning = store.cleaning(&terms(&[])).unwrap();
        assert_eq!((cleaning.results.len(), cleaning.objects.len()), (3, 4));
        // Another run has the same bytes, and commits them before or after the objects are looked at.
        rest();
        put(&store, "d", &["a"]);
        result(&store, "e", &["b"]);
        // The very result is computed again.
        put(&store, "c", &["c"]);
        let freed = store.clean(&cleaning).unwrap();
        assert_eq!((freed.results, freed.objects), (2, 1), "only the shared one");
        let verified = store.verify(&store.scan().unwrap(), &|_| ()).unwrap();
        assert_eq!(verified.problems, []);
    }

    #[test]
    fn what_a_run_finds_that_begins_meanwhile_stays() {
        let (_folder, store) = store();
        for node in ["a", "b"] {
            put(&store, node, &[node]);
        }
        rest();
        let terms = Terms { margin: Duration::ZERO, ..terms(&[]) };
        let cleaning = store.cleaning(&terms).unwrap();
        assert_eq!(cleaning.results.len(), 2);
        let live = Run { owner: None, outcome: Outcome::Unfinished, ..run("r1") };
        store.write_run(&live).unwrap();
        store.note_hits("r1", &[key("a")]).unwrap();
        let freed = store.clean(&cleaning).unwrap();
        assert_eq!((freed.results, freed.objects), (1, 1));
        assert!(store.find(&key("a")).unwrap().is_some());
    }

    #[test]
    fn age_counts_from_the_last_use() {
        let (_folder, store) = store();
        for node in ["used", "made", "old", "older"] {
            put(&store, node, &[node]);
        }
        for (node, hours) in [("used", 99), ("old", 99), ("older", 200)] {
            age(&store.record_path(&key(node)), hours);
        }
        used(&store, "r1", &["used"]);
        used(&store, "r2", &["older"]);
        age(&store.run_path("r2"), 150);
        let day = Some(Duration::from_hours(24));
        let terms = Terms { keep_runs: 0, older_than: day, ..terms(&[]) };
        assert_eq!(clean(&store, &terms), ["older", "old"]);
        assert_eq!(clean(&store, &Terms { older_than: None, ..terms }).len(), 2);
    }

    #[test]
    fn the_least_recently_used_go_until_the_store_is_small_enough() {
        let (_folder, store) = store();
        let text = "x".repeat(10_000);
        for (node, hours) in [("a", 1), ("b", 3), ("c", 2), ("kept", 9)] {
            put(&store, node, &[&format!("{node}{text}"), &text]);
            age(&store.record_path(&key(node)), hours);
        }
        rest();
        let chosen = |max_size: u64| -> Vec<String> {
            let terms = Terms { max_size: Some(max_size), ..terms(&["kept"]) };
            let results = store.cleaning(&terms).unwrap().results;
            results.into_iter().map(|doomed| doomed.summary.provenance.node).collect()
        };
        let size = store.cleaning(&terms(&["a", "b", "c", "kept"])).unwrap().kept_bytes;
        assert!(chosen(size).is_empty());
        assert_eq!(chosen(size - 1), ["b"]);
        assert_eq!(chosen(size - 12_000), ["b", "c"]);
        assert_eq!(chosen(0), ["b", "c", "a"]);
        let terms = Terms { max_size: Some(size - 1), ..terms(&["kept"]) };
        clean(&store, &terms);
        assert!(store.cleaning(&terms).unwrap().is_empty());
    }

    #[test]
    fn a_pin_keeps_results_and_what_is_there_of_those_that_were_dropped() {
        let (_folder, store) = store();
        put(&store, "a", &["one"]);
        for node in ["pinned", "dropped"] {
            commit(&store, &Record { dropped: true, ..result(&store, node, &[node]) });
        }
        let nodes = ["a", "pinned"].map(|node| (node.to_owned(), key(node)));
        let set = store.write_set(&BTreeMap::from(nodes)).unwrap();
        let pin = Pin { set, experiment: "x".into(), file: "x.toml".into(), since: "now".into() };
        store.pin("paper", &pin).unwrap();
        assert_eq!(clean(&store, &terms(&[])), ["dropped"]);
        assert_eq!(store.scan().unwrap().objects.len(), 2);
        assert!(store.unpin("paper").unwrap() && !store.unpin("paper").unwrap());
        assert_eq!(clean(&store, &terms(&[])).len(), 2);
        assert_eq!(store.scan().unwrap().objects.len(), 0);
    }

    #[test]
    fn a_store_with_records_of_a_later_format_is_not_cleaned() {
        let (_folder, store) = store();
        put(&store, "a", &["one"]);
        commit(&store, &Record { format: 3, ..result(&store, "b", &["two"]) });
        assert!(matches!(store.cleaning(&terms(&[])), Err(StoreError::Newer(_))));
    }

    #[test]
    fn an_object_that_no_result_names_yet_may_be_arriving() {
        let (_folder, store) = store();
        result(&store, "a", &["one"]);
        rest();
        assert!(store.cleaning(&terms(&[])).unwrap().is_empty());
    }
}
