//! Records of runs: one folder an invocation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Store;
use super::files::{self, FileError};
use super::hash::{self, Hash};
use super::lease::Owner;
use super::sealed;

/// One invocation of `run`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Its name: time of start and process number.
    pub id: String,
    /// The experiment's name.
    pub experiment: String,
    /// The experiment file as the user named it.
    pub file: String,
    /// Profile and `--set` in force.
    pub overlays: Vec<String>,
    /// When it started, in UTC.
    pub started: String,
    /// How long it took; absent while it runs, and for one that was killed.
    pub seconds: Option<f64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Nodes computed.
    pub computed: usize,
    /// Nodes taken from the cache.
    pub cached: usize,
    /// Nodes that failed.
    pub failed: usize,
    /// Their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// The machine.
    pub host: String,
    /// The process, as others can tell whether it is still there.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// The commit of the experiment's repository.
    pub commit: Option<String>,
    /// Whether files of that repository differ from the commit.
    pub dirty: Option<bool>,
    /// The set of its results: keys by node name, of every node that has one.
    pub set: Option<Hash>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has not ended, or was killed.
    Unfinished,
    /// Everything is there.
    Done,
    /// At least one node failed.
    Failed,
    /// The user interrupted it.
    Interrupted,
}

/// What a run under way has taken from the cache, in its folder.
pub(super) const HITS: &str = "hits";

impl Store {
    /// The folder of a run.
    pub fn run_folder(&self, id: &str) -> PathBuf {
        self.root().join("runs").join(id)
    }

    pub(super) fn run_path(&self, id: &str) -> PathBuf {
        self.run_folder(id).join("run.json")
    }

    /// Writes the record of a run.
    pub fn write_run(&self, run: &Run) -> Result<(), FileError> {
        files::replace(&self.run_path(&run.id), &sealed::to_bytes(run))?;
        if run.outcome == Outcome::Unfinished {
            return Ok(());
        }
        // From here on its set says what it has.
        files::remove(&self.hits_path(&run.id))
    }

    /// Touches the record of a run that is going on: a cleaning on another system takes one that stands still for dead.
    pub fn touch_run(&self, id: &str) -> Result<(), FileError> {
        files::touch(&self.run_path(id)).map(drop)
    }

    fn hits_path(&self, run: &str) -> PathBuf {
        self.run_folder(run).join(HITS)
    }

    /// Adds to the results that a run under way has taken from the cache: a cleaning leaves them.
    pub fn note_hits(&self, run: &str, keys: &[Hash]) -> Result<(), FileError> {
        let lines: String = keys.iter().map(|key| key.to_hex() + "\n").collect();
        files::append(&self.hits_path(run), lines.as_bytes())
    }

    /// The results that a run under way has taken from the cache.
    pub fn hits(&self, run: &str) -> BTreeSet<Hash> {
        let text = files::read(&self.hits_path(run)).unwrap_or_default();
        text.split(|byte| *byte == b'\n').filter_map(Hash::from_hex).collect()
    }

    fn set_path(&self, hash: &Hash) -> PathBuf {
        self.root().join("sets").join(hash.to_hex())
    }

    /// Writes a set of results, keys by node name; runs with the same results share one.
    pub fn write_set(&self, nodes: &BTreeMap<String, Hash>) -> Result<Hash, FileError> {
        let text = serde_json::to_vec(nodes).expect("a set is plain data");
        let hash = hash::bytes(&text);
        let path = self.set_path(&hash);
        // Touched, so that a cleaning under way sees that it is wanted.
        if self.read_set(&hash).is_none() || !files::touch(&path).is_ok_and(|there| there) {
            files::replace(&path, &text)?;
        }
        Ok(hash)
    }

    /// Reads a set of results; `None` where it is damaged or not there.
    pub fn read_set(&self, hash: &Hash) -> Option<BTreeMap<String, Hash>> {
        let text = files::read(&self.set_path(hash)).ok()?;
        (hash::bytes(&text) == *hash).then(|| serde_json::from_slice(&text).ok()).flatten()
    }

    /// The results of a run.
    pub fn results_of(&self, run: &Run) -> BTreeMap<String, Hash> {
        run.set.and_then(|set| self.read_set(&set)).unwrap_or_default()
    }

    /// Reads the records of past runs, newest first; those that cannot be read are left out.
    pub fn runs(&self) -> Result<Vec<Run>, FileError> {
        let mut ids = self.run_ids()?;
        ids.reverse();
        Ok(ids.iter().filter_map(|id| self.run(id)).collect())
    }

    /// The names of all runs, oldest first.
    pub(super) fn run_ids(&self) -> Result<Vec<String>, FileError> {
        files::folders(&self.root().join("runs"))
    }

    /// Reads the record of a run; `None` where it cannot be read.
    pub(super) fn run(&self, id: &str) -> Option<Run> {
        sealed::from_bytes(&files::read(&self.run_path(id)).ok()?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::bench::{flip, key, store};
    use super::*;

    pub(crate) fn run(id: &str) -> Run {
        Run {
            id: id.to_owned(),
            experiment: "x".into(),
            file: "x.toml".into(),
            overlays: Vec::new(),
            started: "2026-01-01T00:00:00Z".into(),
            seconds: Some(1.0),
            outcome: Outcome::Done,
            computed: 1,
            cached: 0,
            failed: 0,
            failures: Vec::new(),
            host: "h".into(),
            owner: None,
            commit: None,
            dirty: None,
            set: None,
        }
    }

    #[test]
    fn hits_are_known_until_the_run_has_ended() {
        let (_folder, store) = store();
        let begun = Run { outcome: Outcome::Unfinished, ..run("r") };
        store.write_run(&begun).unwrap();
        store.note_hits("r", &[key("a")]).unwrap();
        store.note_hits("r", &[key("b")]).unwrap();
        assert_eq!(store.hits("r"), BTreeSet::from([key("a"), key("b")]));
        store.write_run(&run("r")).unwrap();
        assert!(store.hits("r").is_empty());
    }

    #[test]
    fn a_damaged_record_of_a_run_is_left_out() {
        let (_folder, store) = store();
        for id in ["r1", "r2"] {
            store.write_run(&run(id)).unwrap();
        }
        flip(&store.run_path("r1"));
        let ids: Vec<String> = store.runs().unwrap().into_iter().map(|run| run.id).collect();
        assert_eq!(ids, ["r2"]);
    }
}
