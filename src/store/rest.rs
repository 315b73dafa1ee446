//! What else lies in a store and has no value any more: of runs that are over, of results that are gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Store;
use super::files::{self, FileError};
use super::gc::{Cleaning, Terms};
use super::hash::Hash;
use super::lease;
use super::record::Unreadable;
use super::roots::{LONGEST, Roots};
use super::runs::{self, Run};
use super::scratch;
use super::settled::Settled;
use super::survey::Survey;

/// A file or folder without value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rest {
    /// What it is.
    pub part: Part,
    /// Where it lies.
    pub path: PathBuf,
    /// Its bytes, and those of everything in it.
    pub bytes: u64,
}

/// What a part of a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Files that killed processes left unfinished.
    Unfinished,
    /// Working folders of killed runs.
    Scratch,
    /// Checkpoints of nodes that have a result.
    Checkpoints,
    /// Logs of nodes that failed in earlier runs.
    Logs,
    /// Sets of earlier runs, of which no other result is left.
    Sets,
    /// Notes of what was done in earlier runs.
    Settled,
    /// Records of an earlier format.
    Records,
    /// Leases of killed runs.
    Leases,
    /// What was found damaged.
    Quarantine,
}

/// A path, and the bytes of what lies there.
type Weighed = (PathBuf, u64);

impl Part {
    /// It in words, after a number.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unfinished => "unfinished files of killed processes",
            Self::Scratch => "working folders of killed runs",
            Self::Checkpoints => "checkpoints of nodes that have a result",
            Self::Logs => "logs of nodes that failed in earlier runs",
            Self::Sets => "sets of earlier runs",
            Self::Settled => "notes of what was done in earlier runs",
            Self::Records => "records of an earlier format",
            Self::Leases => "leases of killed runs",
            Self::Quarantine => "damaged files put aside",
        }
    }

    /// Whether it has to have stood still since before any run that is going on.
    fn is_shared(self) -> bool {
        matches!(self, Self::Sets | Self::Settled | Self::Records | Self::Logs)
    }
}

impl Rest {
    /// Removes it; yields its bytes, if it was there and nobody has touched it.
    pub(super) fn remove(&self, here: &str, limit: i128) -> Result<u64, FileError> {
        let Ok(stamp) = files::stamp(&self.path) else { return Ok(0) };
        if self.part.is_shared() && stamp.changed >= limit {
            return Ok(0);
        }
        match self.part {
            Part::Scratch | Part::Checkpoints => files::remove_folder(&self.path)?,
            Part::Leases => lease::remove_dead(&self.path, here)?,
            _ => files::remove(&self.path)?,
        }
        Ok(self.bytes)
    }
}

impl Store {
    /// Finds what else can go besides the results and objects that a cleaning has chosen.
    pub(super) fn rest(
        &self,
        terms: &Terms,
        roots: &Roots,
        (survey, cleaning): (&Survey, &Cleaning),
        now: i128,
    ) -> Result<Vec<Rest>, FileError> {
        let mut rest = Vec::new();
        let mut add = |part: Part, path: PathBuf, bytes: u64| rest.push(Rest { part, path, bytes });
        for (path, bytes) in self.remains(survey, now)?.0 {
            add(Part::Unfinished, path, bytes);
        }
        for (path, why) in &survey.unreadable {
            if let (Unreadable::Older, Ok(stamp)) = (why, files::stamp(path)) {
                add(Part::Records, path.clone(), stamp.len);
            }
        }
        for path in self.dead_scratch(&terms.here, now, &roots.live)? {
            let bytes = files::size(&path);
            add(Part::Scratch, path, bytes);
        }
        for (path, bytes) in self.done_checkpoints(survey)? {
            add(Part::Checkpoints, path, bytes);
        }
        for id in files::folders(&self.root().join("runs"))? {
            let folder = self.run_folder(&id);
            for entry in files::entries(&folder)?.iter().filter(|_| !roots.runs.contains(&id)) {
                let is_log = Path::new(&entry.name).extension().is_some_and(|e| e == "log");
                if is_log || entry.name == runs::HITS {
                    add(Part::Logs, folder.join(&entry.name), entry.stamp.len);
                }
            }
        }
        let sets = self.idle_sets((terms, roots), survey, cleaning)?;
        for (path, bytes) in sets.0 {
            add(Part::Sets, path, bytes);
        }
        for (path, bytes) in self.idle_notes(&sets.1)? {
            add(Part::Settled, path, bytes);
        }
        for path in self.dead_leases(&terms.here)? {
            add(Part::Leases, path, 0);
        }
        if let Some(age) = terms.older_than {
            let folder = self.root().join("quarantine");
            for entry in files::entries(&folder)? {
                if entry.stamp.changed < now - age.as_nanos() as i128 {
                    add(Part::Quarantine, folder.join(&entry.name), entry.stamp.len);
                }
            }
        }
        Ok(rest)
    }

    /// The checkpoints of nodes that have a record.
    fn done_checkpoints(&self, survey: &Survey) -> Result<Vec<Weighed>, FileError> {
        let keys: BTreeSet<Hash> = survey.results.iter().map(|f| f.summary.key).collect();
        let all = self.root().join("checkpoints");
        let mut done = Vec::new();
        for shard in files::folders(&all)? {
            for name in files::folders(&all.join(&shard))? {
                if Hash::from_hex(name.as_bytes()).is_some_and(|key| keys.contains(&key)) {
                    let path = all.join(&shard).join(name);
                    let bytes = files::size(&path);
                    done.push((path, bytes));
                }
            }
        }
        Ok(done)
    }

    /// The sets that no run, pin or named experiment has now, and that name no other result that stays; and the sets
    /// that stay.
    fn idle_sets(
        &self,
        (terms, roots): (&Terms, &Roots),
        survey: &Survey,
        cleaning: &Cleaning,
    ) -> Result<(Vec<Weighed>, BTreeSet<Hash>), FileError> {
        let gone: BTreeSet<Hash> = cleaning.results.iter().map(|d| d.summary.key).collect();
        let stays = |key: &Hash| !gone.contains(key);
        let extra: BTreeSet<Hash> = survey
            .results
            .iter()
            .filter(|found| !roots.reaches(&found.summary) && stays(&found.summary.key))
            .map(|found| found.summary.key)
            .collect();
        let folder = self.root().join("sets");
        let (mut idle, mut kept) = (Vec::new(), roots.sets.clone());
        for entry in files::entries(&folder)? {
            let Some(hash) = Hash::from_hex(entry.name.as_bytes()) else { continue };
            if kept.contains(&hash) {
                continue;
            }
            let nodes = self.read_set(&hash).unwrap_or_default();
            let is_named = !nodes.is_empty() && nodes.values().all(|key| terms.keep.contains(key));
            if is_named || nodes.values().any(|key| extra.contains(key)) {
                kept.insert(hash);
            } else {
                idle.push((folder.join(&entry.name), entry.stamp.len));
            }
        }
        Ok((idle, kept))
    }

    /// The notes of experiments that were done with a set that goes.
    fn idle_notes(&self, sets: &BTreeSet<Hash>) -> Result<Vec<Weighed>, FileError> {
        let folder = self.root().join("settled");
        let mut idle = Vec::new();
        for entry in files::entries(&folder)? {
            let path = folder.join(&entry.name);
            let note = files::read(&path).ok().and_then(|bytes| Settled::from_bytes(&bytes));
            let is_fresh = entry.name.starts_with(files::FRESH);
            if !is_fresh && note.is_none_or(|note| !sets.contains(&note.head.set)) {
                idle.push((path, entry.stamp.len));
            }
        }
        Ok(idle)
    }

    /// The working folders of runs of this machine that are dead, and of others from long ago that are not going on.
    fn dead_scratch(&self, here: &str, now: i128, live: &[Run]) -> Result<Vec<PathBuf>, FileError> {
        let all = self.root().join("scratch");
        let mut dead = self.dead_folders(here)?;
        for entry in files::entries(&all)?.iter().filter(|entry| entry.is_folder) {
            let path = all.join(&entry.name);
            let away = !scratch::is_of_this(&entry.name, here);
            let busy = live.iter().any(|run| scratch::is_of(&entry.name, &run.host));
            if away && !busy && now - entry.stamp.changed > LONGEST {
                dead.push(path);
            }
        }
        Ok(dead)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::bench::{commit, key, put, rest, result, store};
    use super::super::gc::MARGIN;
    use super::super::lease::{Claim, Owner};
    use super::super::record::Record;
    use super::super::runs::Outcome;
    use super::super::runs::tests::run;
    use super::*;

    /// Makes a file under a store's folder.
    fn make(store: &Store, name: &str) -> PathBuf {
        let path = store.root().join(name);
        files::make_folder(path.parent().unwrap()).unwrap();
        files::write(&path, b"some").unwrap();
        path
    }

    #[test]
    fn what_is_over_goes_and_what_goes_on_stays() {
        let (_folder, store) = store();
        put(&store, "a", &["one"]);
        commit(&store, &Record { format: 1, ..result(&store, "old", &[]) });
        let checkpoint = |node: &str| {
            let hex = key(node).to_hex();
            make(&store, &format!("checkpoints/{}/{hex}/1/manifest.json", &hex[..2]))
        };
        let (done, going) = (checkpoint("a"), checkpoint("b"));
        for id in ["r1", "r2"] {
            store.write_run(&run(id)).unwrap();
        }
        let logs = ["runs/r1/a.log", "runs/r2/b.log"].map(|name| make(&store, name));
        let dead = Owner {
            system: lease::system().map(str::to_owned),
            host: "h".into(),
            process: 1,
            since: Some(0),
            run: "r1".into(),
        };
        let mut killed = store.enter(dead).unwrap();
        assert!(matches!(store.claim(&key("a"), &mut killed).unwrap(), Claim::Mine(_)));
        let there = Owner {
            system: lease::system().map(str::to_owned),
            host: "far".into(),
            process: 1,
            since: Some(0),
            run: "r9".into(),
        };
        let mut living = store.enter(there).unwrap();
        assert!(matches!(store.claim(&key("b"), &mut living).unwrap(), Claim::Mine(_)));
        let aside = make(&store, "quarantine/x");
        let dead = format!("scratch/h-{}-4194305-7-0/file", lease::system().unwrap());
        let scratch = make(&store, &dead);
        let own = store.scratch("h").unwrap();
        assert!(!scratch.exists() && own.path().exists(), "a run sweeps");
        let scratch = make(&store, &dead);
        rest();
        let terms = Terms {
            keep: BTreeSet::from([key("a")]),
            keep_runs: 1,
            here: "h".to_owned(),
            margin: MARGIN,
            ..Terms::default()
        };
        let cleaning = store.cleaning(&terms).unwrap();
        let mut parts: Vec<Part> = cleaning.rest.iter().map(|rest| rest.part).collect();
        parts.sort();
        let expected = [Part::Scratch, Part::Checkpoints, Part::Logs, Part::Records, Part::Leases];
        assert_eq!(parts, expected);
        store.clean(&cleaning).unwrap();
        assert!(store.cleaning(&terms).unwrap().is_empty());
        for (path, stays) in [
            (&done, false),
            (&going, true),
            (&logs[0], false),
            (&logs[1], true),
            (&aside, true),
            (&scratch, false),
            (&own.path().to_path_buf(), true),
        ] {
            assert_eq!(path.exists(), stays, "{}", path.display());
        }
        assert!(store.holder(&key("a")).is_none() && store.holder(&key("b")).is_some());
        let old = Terms { older_than: Some(Duration::ZERO), ..terms };
        store.clean(&store.cleaning(&old).unwrap()).unwrap();
        assert!(!aside.exists());
    }

    #[test]
    fn what_a_live_run_has_found_is_not_forgotten() {
        let (_folder, store) = store();
        let live = super::super::runs::Run { outcome: Outcome::Unfinished, ..run("r1") };
        store.write_run(&live).unwrap();
        store.note_hits("r1", &[key("a")]).unwrap();
        rest();
        let terms = Terms { here: "h".to_owned(), ..Terms::default() };
        assert!(store.cleaning(&terms).unwrap().is_empty());
    }
}
