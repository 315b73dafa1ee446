//! What a running stage sees of the world: its inputs, its outputs, and someone to tell how far it is.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::checkpoint::{Asked, Checkpoint, Keeper};
use super::failure::Failure;
use super::inputs::Inputs;
use super::parameter::Input;
use super::stage::{Artifact, MAIN, Source};
use crate::store::{Files, files};

/// Told of a stage's progress: a fraction in [0, 1] and a few words.
pub type ProgressSink<'a> = dyn Fn(f64, String) + Sync + 'a;

/// What a running stage sees of the world.
pub struct Context<'a> {
    inputs: &'a BTreeMap<String, Bound>,
    folder: &'a Path,
    sink: &'a ProgressSink<'a>,
    asked: &'a Asked,
    keeper: Option<Keeper>,
    /// Pause points that are left until the stage is interrupted, where a test does so.
    #[cfg(test)]
    left: Option<std::sync::atomic::AtomicUsize>,
    told: Mutex<Option<Instant>>,
    saved: BTreeMap<String, String>,
    metrics: BTreeMap<String, f64>,
    notices: Vec<String>,
}

/// An input at hand: the artifact's type and its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The artifact's type.
    pub kind: String,
    /// Where its files are to be read.
    pub files: Files,
}

/// Whether a name may be that of an output: it is a folder's name and a part of `@stage.name`.
pub fn is_output_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name.len() <= 100 && name.chars().all(fits)
}

/// Where a stage that works in a folder leaves an output: beside it, so that its own folder holds what it put there.
pub fn output_folder(folder: &Path, name: &str) -> PathBuf {
    let mut path = folder.as_os_str().to_owned();
    path.push(".");
    path.push(name);
    path.into()
}

/// What a stage left: type by output name, and scalars.
pub struct Left {
    /// Type of each output saved.
    pub saved: BTreeMap<String, String>,
    /// Scalar metrics by name.
    pub metrics: BTreeMap<String, f64>,
    /// What the user is to be told.
    pub notices: Vec<String>,
}

impl<'a> Context<'a> {
    /// Prepares a context over bound inputs and an empty folder.
    pub fn new(
        inputs: &'a BTreeMap<String, Bound>,
        folder: &'a Path,
        sink: &'a ProgressSink<'a>,
        asked: &'a Asked,
    ) -> Self {
        Self {
            inputs,
            folder,
            sink,
            asked,
            keeper: None,
            #[cfg(test)]
            left: None,
            told: Mutex::new(None),
            saved: BTreeMap::new(),
            metrics: BTreeMap::new(),
            notices: Vec::new(),
        }
    }

    /// Has checkpoints kept; without this there are none.
    #[must_use]
    pub fn keeping(self, keeper: Keeper) -> Self {
        Self { keeper: Some(keeper), ..self }
    }

    /// Interrupts the stage at one of its pause points, counted from 1.
    #[cfg(test)]
    #[must_use]
    pub fn interrupted_at(self, point: usize) -> Self {
        Self { left: Some(point.into()), ..self }
    }

    #[cfg(test)]
    fn count_down(&self) {
        use std::sync::atomic::Ordering::SeqCst;
        if self.left.as_ref().is_some_and(|left| left.fetch_sub(1, SeqCst) == 1) {
            self.asked.cancel.store(true, SeqCst);
        }
    }

    /// Loads what an input field points at.
    pub fn load<S: Source>(&self, input: &Input<S>) -> anyhow::Result<S> {
        let bound = self.inputs.get(input.edge());
        let bound = bound.ok_or_else(|| anyhow!("input `{}` is not bound", input.edge()))?;
        S::read(&bound.kind, &bound.files)
            .with_context(|| format!("cannot load `{}`", input.edge()))
    }

    /// Loads everything that an input field of several edges points at, each with its values on the axes that were
    /// gathered over.
    pub fn load_all<'b, S: Source>(
        &self,
        inputs: &'b Inputs<S>,
    ) -> anyhow::Result<Vec<(&'b BTreeMap<String, Json>, S)>> {
        static NOWHERE: BTreeMap<String, Json> = BTreeMap::new();
        match inputs {
            Inputs::One(input) => Ok(vec![(&NOWHERE, self.load(input)?)]),
            Inputs::Each(members) => {
                members.iter().map(|one| Ok((&one.at, self.load(&one.input)?))).collect()
            }
            Inputs::Gather(_) => Err(anyhow!("a gathering was not written out at planning")),
        }
    }

    /// Saves the main output.
    pub fn save<A: Artifact>(&mut self, artifact: &A) -> anyhow::Result<()> {
        self.save_as(MAIN, artifact)
    }

    /// Saves a named output.
    pub fn save_as<A: Artifact>(&mut self, name: &str, artifact: &A) -> anyhow::Result<()> {
        let folder = self.output_folder(name)?;
        artifact.save(&folder).with_context(|| format!("cannot save output `{name}`"))?;
        self.saved.insert(name.to_owned(), A::TYPE.to_owned());
        Ok(())
    }

    /// Makes the folder of an output, for a stage that has its files written by another program.
    pub fn output_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        ensure!(is_output_name(name), "`{name}` cannot be the name of an output");
        let folder = output_folder(self.folder, name);
        files::make_folder(&folder)?;
        Ok(folder)
    }

    /// Declares that the files of an output now lie in its folder.
    pub fn declare_saved(&mut self, name: &str, kind: &str) {
        self.saved.insert(name.to_owned(), kind.to_owned());
    }

    /// A folder that is the stage's own and goes when it ends.
    pub fn scratch(&self) -> &Path {
        self.folder
    }

    /// Records a scalar result. A number that is not finite is a failure, not a metric.
    pub fn metric(&mut self, name: &str, value: f64) -> anyhow::Result<()> {
        ensure!(value.is_finite(), Failure::numeric(format!("metric `{name}` is {value}")));
        self.metrics.insert(name.to_owned(), value);
        Ok(())
    }

    /// Has the user told, when the stage has ended, of something that makes its results less than they seem. It is in
    /// the log too, and should be in the results, for a cached result says nothing.
    pub fn notice(&mut self, words: impl Into<String>) {
        let words = words.into();
        tracing::warn!("{words}");
        self.notices.push(words);
    }

    /// Tells how far the stage is; told at most ten times a second, so it may be called once a batch.
    pub fn progress(&self, fraction: f64, note: impl FnOnce() -> String) {
        let mut told = self.told.lock().expect("no holder of this lock panics");
        let due = told.is_none_or(|t| t.elapsed() > Duration::from_millis(100));
        if due || fraction >= 1.0 {
            *told = Some(Instant::now());
            drop(told);
            // JSON has no word for what is not a number.
            let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
            (self.sink)(fraction, note());
        }
    }

    /// The sink behind [`Self::progress`], for code that reports from several threads.
    pub fn sink(&self) -> &'a ProgressSink<'a> {
        self.sink
    }

    /// The flag that asks the stage to stop.
    pub fn cancel(&self) -> &'a AtomicBool {
        &self.asked.cancel
    }

    /// Ends the stage if the run was interrupted; to be asked once a batch.
    pub fn check_cancelled(&self) -> anyhow::Result<()> {
        ensure!(!self.asked.is_cancelled(), Failure::interrupted());
        Ok(())
    }

    /// What an earlier attempt came to that was broken off, if it left a checkpoint.
    pub fn resume<C: Checkpoint>(&self) -> Option<C> {
        self.keeper.as_ref()?.resume()
    }

    /// Says where the stage could go on from: the one line of a long loop.
    ///
    /// Saves the state where a checkpoint is due, was asked for, or the run was interrupted; then ends the stage if it
    /// was. The state is made only when it is saved.
    pub fn pause_point<C: Checkpoint, S: Deref<Target = C>>(
        &self,
        state: impl FnOnce() -> anyhow::Result<S>,
    ) -> anyhow::Result<()> {
        #[cfg(test)]
        self.count_down();
        if let Some(keeper) = &self.keeper {
            keeper.pause_point(self.asked, state);
        }
        self.check_cancelled()
    }

    /// What the stage left.
    pub fn finish(self) -> Left {
        Left { saved: self.saved, metrics: self.metrics, notices: self.notices }
    }
}
