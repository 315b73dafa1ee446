//! A bench to try a single kind on: artifacts in, artifacts out, no graph.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::engine::checkpoint::Asked;
use crate::engine::context::{Bound, Context};
use crate::engine::stage::{Artifact, Files, MAIN, Stage};
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
        let stage: S = toml::from_str(parameters)?;
        let broken = stage.check();
        anyhow::ensure!(broken.is_empty(), "{broken:?}");
        let out = tempfile::tempdir_in(self.folder.path())?.keep();
        let never = Asked::default();
        let sink = |_: f64, _: String| ();
        let mut cx = Context::new(&self.inputs, &out, &sink, &never);
        stage.run(&mut cx)?;
        let left = cx.finish();
        assert_eq!(left.saved, stage.outputs().types, "every declared output is saved");
        let bench = Rc::clone(&self.folder);
        Ok(Results { folder: out.join("outputs"), metrics: left.metrics, _bench: bench })
    }
}

/// What a stage left.
#[derive(Debug)]
pub struct Results {
    folder: PathBuf,
    /// The folder goes when the last that needs it does.
    _bench: Rc<tempfile::TempDir>,
    /// Scalar results.
    pub metrics: BTreeMap<String, f64>,
}

impl Results {
    /// The main output.
    pub fn main<A: Artifact>(&self) -> A {
        self.output(MAIN)
    }

    /// An output by name.
    pub fn output<A: Artifact>(&self, name: &str) -> A {
        A::load(&listed(&self.folder.join(name))).unwrap()
    }
}

fn listed(folder: &Path) -> Files {
    let names = files::list(folder).unwrap();
    Files(names.into_iter().map(|name| (name.clone(), folder.join(name))).collect())
}
