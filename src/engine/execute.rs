//! One node, from inputs at hand to outputs in the store: what a worker does.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::checkpoint::{Asked, Keeper};
use super::context::{Bound, Context, ProgressSink, output_folder};
use super::desk::Desk;
use super::failure::{Failure, FailureKind};
use super::kind::Registry;
use super::parameter::PATH;
use super::stage::Outputs;
use crate::store::checkpoint::{Checkpoints, Maker};
use crate::store::files::FileError;
use crate::store::{ArtifactRecord, Hash, Store, files, hash};

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
    /// The objects that they consist of, and where each lies.
    pub objects: Vec<(Hash, PathBuf)>,
    /// The cache folder.
    pub cache: PathBuf,
    /// The folder in which the run's nodes work.
    pub scratch: PathBuf,
    /// Where its checkpoints lie.
    pub checkpoint: PathBuf,
    /// Seconds between two of them.
    pub checkpoint_every: f64,
    /// Seconds until the run is ended from outside.
    pub deadline: Option<f64>,
    /// What its slot adds to the worker's environment.
    pub environment: Vec<(String, String)>,
    /// Whether the worker may go on to another job afterwards.
    pub small: bool,
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
    /// Peak resident memory in bytes of the process that computed it; absent where the system does not tell.
    pub peak_memory: Option<u64>,
}

/// Computes a node. A panic of the stage is a failure like any other.
pub fn execute(
    job: &Job,
    registry: Registry,
    sink: &ProgressSink<'_>,
    asked: &Asked,
) -> Result<Produced, Failure> {
    let attempt = || compute(job, registry, sink, asked).map_err(Failure::from_error);
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
    asked: &Asked,
) -> anyhow::Result<Produced> {
    let kind = registry
        .get(&job.kind)
        .filter(|kind| kind.version == job.version)
        .ok_or_else(|| anyhow::anyhow!("this worker does not know {} {}", job.kind, job.version))?;
    let store = Store::open(&job.cache)?;
    let damaged = job.objects.iter().filter(|(object, path)| !hash::is(path, object));
    let damaged: Vec<Hash> = damaged.map(|(object, _)| *object).collect();
    anyhow::ensure!(damaged.is_empty(), Failure::damaged(damaged));
    let stage = (kind.revive)(job.parameters.clone())?;
    let declared = stage.outputs();
    let desk = Desk::at(&job.scratch, &declared)?;
    let checkpoints = Checkpoints::new(&job.checkpoint, Maker::this(&job.kind, job.version));
    let keeper = Keeper::new(checkpoints, job.checkpoint_every, job.deadline);
    let mut cx = Context::new(&job.inputs, desk.folder(), sink, asked).keeping(keeper);
    stage.run(&mut cx)?;
    // Before the outputs are mapped to be hashed: that takes no memory which another process could not have.
    let peak_memory = peak_memory();
    cx.check_cancelled()?;
    let left = cx.finish();
    check_saved(&declared, &left.saved)?;
    let mut stamps = LazyCell::new(|| store.stamps());
    check_unchanged(&job.parameters, &mut |path| stamps.data(path))?;
    let mut outputs = BTreeMap::new();
    for (name, kind) in &left.saved {
        let artifact = store.take_folder(&output_folder(desk.folder(), name), kind)?;
        outputs.insert(name.clone(), artifact);
    }
    Ok(Produced { outputs, metrics: left.metrics, peak_memory })
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
fn check_unchanged(
    parameters: &Json,
    content: &mut dyn FnMut(&Path) -> Result<Hash, FileError>,
) -> anyhow::Result<()> {
    match parameters {
        Json::Object(map) => match (map.get(PATH), map.get("resolved"), map.get("hash")) {
            (Some(written), Some(Json::String(path)), Some(Json::String(planned))) => {
                anyhow::ensure!(
                    content(Path::new(path))?.to_hex() == *planned,
                    Failure::data(format!("{written} changed while the run was under way"))
                        .hint("the same command runs what reads it again")
                );
                Ok(())
            }
            _ => map.values().try_for_each(|value| check_unchanged(value, content)),
        },
        Json::Array(items) => items.iter().try_for_each(|item| check_unchanged(item, content)),
        _ => Ok(()),
    }
}

/// Has the peak of memory counted from now on: what an earlier job took is not this one's.
pub fn forget_peak_memory() {
    // Where that cannot be done, the peak is one of all jobs of this worker.
    drop(files::write(Path::new("/proc/self/clear_refs"), b"5"));
}

/// Peak resident memory of this process, as Linux tells it.
fn peak_memory() -> Option<u64> {
    let status = files::read_text(Path::new("/proc/self/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
