//! A bench to try a single kind on: artifacts in, artifacts out, no graph.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::engine::checkpoint::{Asked, Keeper};
use crate::engine::context::{Bound, Context, output_folder};
use crate::engine::failure::{Failure, FailureKind};
use crate::engine::stage::{Artifact, Files, MAIN, Stage};
use crate::store::checkpoint::{Checkpoints, Maker};
use crate::store::files;

/// A folder with the inputs and outputs of one stage.
pub struct Bench {
    folder: Rc<tempfile::TempDir>,
    inputs: BTreeMap<String, Bound>,
}

impl Bench {
    /// An empty bench.
    #[expect(clippy::new_without_default, reason = "a default would be a folder on the disk")]
    pub fn new() -> Self {
        Self { folder: Rc::new(tempfile::tempdir().unwrap()), inputs: BTreeMap::new() }
    }

    /// Puts an artifact where `@name` finds it.
    #[must_use]
    pub fn put<A: Artifact>(mut self, name: &str, artifact: &A) -> Self {
        let folder = self.folder.path().join("inputs").join(name);
        files::make_folder(&folder).unwrap();
        artifact.save(&folder).unwrap();
        let bound = Bound { kind: A::TYPE.to_owned(), files: listed(&folder) };
        self.inputs.insert(format!("@{name}"), bound);
        self
    }

    /// Runs a stage with parameters as TOML; yields its outputs and metrics, or its error.
    pub fn run<S: Stage>(&self, parameters: &str) -> anyhow::Result<Results> {
        self.attempt::<S>(parameters, None)
    }

    /// Breaks a stage off at its pause point `at`, goes on and breaks it off again until it ends; fails unless it
    /// leaves the same bytes as when it is not broken off. Yields the number of attempts.
    pub fn check_resumption<S: Stage>(&self, parameters: &str, at: usize) -> usize {
        let whole = self.run::<S>(parameters).unwrap();
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        for attempt in 1..1000 {
            match self.attempt::<S>(parameters, Some((folder.path(), at))) {
                Ok(results) => {
                    results.assert_same(&whole);
                    return attempt;
                }
                Err(error) => {
                    let failure = Failure::from_error(error);
                    assert_eq!(failure.kind, FailureKind::Interrupted, "{failure}");
                }
            }
        }
        panic!("broken off at pause point {at}, the stage never ends");
    }

    /// Runs a stage; with `broken` its checkpoints are kept in a folder, and it is broken off at a pause point.
    fn attempt<S: Stage>(
        &self,
        parameters: &str,
        broken: Option<(&Path, usize)>,
    ) -> anyhow::Result<Results> {
        let stage: S = toml::from_str(parameters)?;
        let violations = stage.check();
        anyhow::ensure!(violations.is_empty(), "{violations:?}");
        let out = tempfile::tempdir_in(self.folder.path())?.keep();
        let asked = Asked::default();
        let sink = |_: f64, _: String| ();
        let mut cx = Context::new(&self.inputs, &out, &sink, &asked);
        if let Some((folder, point)) = broken {
            let checkpoints = Checkpoints::new(folder, Maker::this(S::KIND, S::VERSION));
            cx = cx.keeping(Keeper::new(checkpoints, 1e6, None)).interrupted_at(point);
        }
        stage.run(&mut cx)?;
        let left = cx.finish();
        assert_eq!(left.saved, stage.outputs().types, "every declared output is saved");
        let bench = Rc::clone(&self.folder);
        let outputs = left.saved.into_keys().collect();
        let (metrics, notices) = (left.metrics, left.notices);
        Ok(Results { folder: out, outputs, metrics, notices, _bench: bench })
    }
}

/// What a stage left.
#[derive(Debug)]
pub struct Results {
    folder: PathBuf,
    outputs: Vec<String>,
    /// The folder goes when the last that needs it does.
    _bench: Rc<tempfile::TempDir>,
    /// Scalar results.
    pub metrics: BTreeMap<String, f64>,
    /// What the user is told.
    pub notices: Vec<String>,
}

impl Results {
    /// The main output.
    pub fn main<A: Artifact>(&self) -> A {
        self.output(MAIN)
    }

    /// Fails unless files and metrics are the same to the last bit.
    fn assert_same(&self, other: &Self) {
        assert_eq!(self.outputs, other.outputs);
        for output in &self.outputs {
            let place = |results: &Self| output_folder(&results.folder, output);
            let names = files::list(&place(self)).unwrap();
            assert_eq!(names, files::list(&place(other)).unwrap());
            for name in names {
                let read = |results: &Self| files::read(&place(results).join(&name)).unwrap();
                assert!(read(self) == read(other), "{output}/{name} differs");
            }
        }
        let bits = |results: &Self| -> Vec<(String, u64)> {
            results.metrics.iter().map(|(name, value)| (name.clone(), value.to_bits())).collect()
        };
        assert_eq!(bits(self), bits(other));
    }

    /// An output by name.
    pub fn output<A: Artifact>(&self, name: &str) -> A {
        A::load(&listed(&output_folder(&self.folder, name))).unwrap()
    }
}

fn listed(folder: &Path) -> Files {
    let names = files::list(folder).unwrap();
    Files(names.into_iter().map(|name| (name.clone(), folder.join(name))).collect())
}
