//! Records of runs: one folder an invocation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Store;
use super::files::{self, FileError};
use super::hash::Hash;

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
    /// The machine.
    pub host: String,
    /// The commit of the experiment's repository.
    pub commit: Option<String>,
    /// Key by node name, of every node that has a result.
    pub nodes: BTreeMap<String, Hash>,
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

impl Store {
    /// The folder of a run.
    pub fn run_folder(&self, id: &str) -> PathBuf {
        self.root().join("runs").join(id)
    }

    /// Writes the record of a run.
    pub fn write_run(&self, run: &Run) -> Result<(), FileError> {
        let text = serde_json::to_vec_pretty(run).expect("a run is plain data");
        files::write_atomic(&self.run_folder(&run.id).join("run.json"), &text)
    }

    /// Reads the records of past runs, newest first; those that cannot be read are left out.
    pub fn runs(&self) -> Result<Vec<Run>, FileError> {
        let mut ids = files::folders(&self.root().join("runs"))?;
        ids.reverse();
        let read = |id: &String| {
            let text = files::read(&self.run_folder(id).join("run.json")).ok()?;
            serde_json::from_slice(&text).ok()
        };
        Ok(ids.iter().filter_map(read).collect())
    }
}
