//! One node, from inputs at hand to outputs in the store: what a worker does.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::context::{Bound, Context, ProgressSink};
use super::failure::{Failure, FailureKind};
use super::kind::Registry;
use super::parameter::PATH;
use super::stage::Outputs;
use crate::store::{ArtifactRecord, Store, files, hash};

/// Everything a worker needs to compute one node: paths, never tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The node's name, for messages.
    pub node: String,
    /// The kind.
    pub kind: String,
    /// The version that was planned with.
    pub version: u32,
    /// The parameters.
    pub parameters: Json,
    /// Where each edge's artifact lies.
    pub inputs: BTreeMap<String, Bound>,
    /// The cache folder.
    pub cache: PathBuf,
    /// The folder in which the run's nodes work.
    pub scratch: PathBuf,
    /// What its slot adds to the worker's environment.
    pub environment: Vec<(String, String)>,
    /// Where the log goes.
    pub log: PathBuf,
}

/// What a node left in the store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Produced {
    /// Artifacts by output name.
    pub outputs: BTreeMap<String, ArtifactRecord>,
    /// Scalar results.
    pub metrics: BTreeMap<String, f64>,
    /// Peak resident memory of the worker in bytes.
    pub peak_memory: Option<u64>,
}

/// Computes a node. A panic of the stage is a failure like any other.
pub fn execute(
    job: &Job,
    registry: Registry,
    sink: &ProgressSink<'_>,
    cancel: &AtomicBool,
) -> Result<Produced, Failure> {
    let attempt = || compute(job, registry, sink, cancel).map_err(Failure::from_error);
    panic::catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Failure::new(FailureKind::Internal, format!("the stage panicked: {words}"))
            .hint("this is a defect of the program; please report it with the log"))
    })
}

fn compute(
    job: &Job,
    registry: Registry,
    sink: &ProgressSink<'_>,
    cancel: &AtomicBool,
) -> anyhow::Result<Produced> {
    let kind = registry
        .get(&job.kind)
        .filter(|kind| kind.version == job.version)
        .ok_or_else(|| anyhow::anyhow!("this worker does not know {} {}", job.kind, job.version))?;
    let store = Store::open(&job.cache)?;
    let folder = tempfile::Builder::new().prefix("node-").tempdir_in(&job.scratch)?;
    let stage = (kind.revive)(job.parameters.clone())?;
    let mut cx = Context::new(&job.inputs, folder.path(), sink, cancel);
    stage.run(&mut cx)?;
    cx.check_cancelled()?;
    let declared = stage.outputs();
    let left = cx.finish();
    check_saved(&declared, &left.saved)?;
    check_unchanged(&job.parameters)?;
    let mut outputs = BTreeMap::new();
    for (name, kind) in &left.saved {
        let artifact = store.take_folder(&folder.path().join("outputs").join(name), kind)?;
        outputs.insert(name.clone(), artifact);
    }
    Ok(Produced { outputs, metrics: left.metrics, peak_memory: peak_memory() })
}

fn check_saved(declared: &Outputs, saved: &BTreeMap<String, String>) -> anyhow::Result<()> {
    anyhow::ensure!(
        declared.types == *saved,
        "the stage declares the outputs {:?} and saved {saved:?}",
        declared.types
    );
    Ok(())
}

/// Hashes the user's data again: what changed since planning is not what the key says, so nothing is recorded.
fn check_unchanged(parameters: &Json) -> anyhow::Result<()> {
    match parameters {
        Json::Object(map) => match (map.get(PATH), map.get("resolved"), map.get("hash")) {
            (Some(written), Some(Json::String(path)), Some(Json::String(planned))) => {
                anyhow::ensure!(
                    hash::data(Path::new(path))?.to_hex() == *planned,
                    Failure::data(format!("{written} changed while the run was under way"))
                        .hint("the same command runs what reads it again")
                );
                Ok(())
            }
            _ => map.values().try_for_each(check_unchanged),
        },
        Json::Array(items) => items.iter().try_for_each(check_unchanged),
        _ => Ok(()),
    }
}

/// Peak resident memory of this process, as Linux tells it.
fn peak_memory() -> Option<u64> {
    let status = files::read_text(Path::new("/proc/self/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
