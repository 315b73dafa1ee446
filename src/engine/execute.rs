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
use super::parameter::{IMPORTS, NAME, PATH};
use super::stage::Outputs;
use crate::store::checkpoint::{Checkpoints, Maker};
use crate::store::files::{FileError, Stamp};
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
    /// What the user is to be told.
    pub notices: Vec<String>,
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
    let watched = Watched::begin(&job.parameters, &store)?;
    stage.run(&mut cx)?;
    // Before the outputs are mapped to be hashed: that takes no memory which another process could not have.
    let peak_memory = peak_memory();
    cx.check_cancelled()?;
    let left = cx.finish();
    check_saved(&declared, &left.saved)?;
    if let Err(edited) = watched.end(&store) {
        // Nor may anything go on from what was computed of it.
        drop(files::remove_folder(&job.checkpoint));
        return Err(edited);
    }
    let mut outputs = BTreeMap::new();
    for (name, kind) in &left.saved {
        let artifact = store.take_folder(&output_folder(desk.folder(), name), kind)?;
        outputs.insert(name.clone(), artifact);
    }
    Ok(Produced { outputs, metrics: left.metrics, notices: left.notices, peak_memory })
}

fn check_saved(declared: &Outputs, saved: &BTreeMap<String, String>) -> anyhow::Result<()> {
    anyhow::ensure!(
        declared.types == *saved,
        "the stage declares the outputs {:?} and saved {saved:?}",
        declared.types
    );
    Ok(())
}

/// The user's data that a node reads, watched while it does: what was edited is not what the key says, even if it was
/// put back since, so nothing is recorded then.
struct Watched<'a> {
    /// As written, where it lies, and the hash that was planned with.
    data: Vec<(&'a str, &'a Path, &'a str)>,
    /// What the file system said of the files of each before the node ran; nothing of what the node has a copy of.
    stamps: Vec<Vec<Stamp>>,
}

impl<'a> Watched<'a> {
    fn begin(parameters: &'a Json, store: &Store) -> anyhow::Result<Self> {
        let mut data = Vec::new();
        each_path(parameters, &mut |written, path, planned, is_copied| {
            data.push((written, path, planned, is_copied));
        });
        let stamps = data.iter().map(
            |(_, path, _, is_copied)| {
                if *is_copied { Ok(Vec::new()) } else { stamps(path) }
            },
        );
        let stamps = stamps.collect::<Result<_, _>>()?;
        let data = data.into_iter().map(|(written, path, hash, _)| (written, path, hash)).collect();
        let watched = Self { data, stamps };
        watched.check(store)?;
        Ok(watched)
    }

    /// Whether everything is still as it was planned with, and was all the time.
    fn end(&self, store: &Store) -> anyhow::Result<()> {
        self.check(store)?;
        for ((written, path, _), before) in self.data.iter().zip(&self.stamps) {
            let same = before.is_empty() || stamps(path)? == *before;
            anyhow::ensure!(same, Failure::edited(written));
        }
        Ok(())
    }

    fn check(&self, store: &Store) -> anyhow::Result<()> {
        let mut known = LazyCell::new(|| store.stamps());
        for (written, path, planned) in &self.data {
            let same = known.data(path)?.to_hex() == *planned;
            anyhow::ensure!(same, Failure::edited(written));
        }
        Ok(())
    }
}

/// The stamps of a file, or of those in a folder. When anything else about a file changed than its contents, such as
/// its owner, is left out.
fn stamps(path: &Path) -> Result<Vec<Stamp>, FileError> {
    let stamp = |path: &Path| files::stamp(path).map(|stamp| Stamp { changed: 0, ..stamp });
    if !path.is_dir() {
        return Ok(vec![stamp(path)?]);
    }
    files::list(path)?.iter().map(|name| stamp(&path.join(name))).collect()
}

/// Calls `f` on every path of user data in parameters: as written, where it lies, the hash that was planned with, and
/// whether the program works on a copy.
fn each_path<'a>(parameters: &'a Json, f: &mut dyn FnMut(&'a str, &'a Path, &'a str, bool)) {
    match parameters {
        Json::Object(map) => {
            let text = |key: &str| map.get(key).and_then(Json::as_str);
            match (text(PATH), text("resolved"), text("hash")) {
                (Some(written), Some(path), Some(planned)) => {
                    f(written, Path::new(path), planned, map.contains_key(NAME));
                    map.get(IMPORTS).into_iter().for_each(|imports| each_path(imports, f));
                }
                _ => map.values().for_each(|value| each_path(value, f)),
            }
        }
        Json::Array(items) => items.iter().for_each(|item| each_path(item, f)),
        _ => (),
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use serde_json::json;

    use super::*;

    #[test]
    fn data_that_were_edited_meanwhile_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("cache")).unwrap();
        let data = folder.path().join("data");
        let file = data.join("a.csv");
        files::make_folder(&data).unwrap();
        files::write(&file, b"1,2").unwrap();
        let hash = hash::data(&data).unwrap().to_hex();
        let path = |name: Option<&str>| {
            let mut map = json!({ "$path": "data", "resolved": data, "hash": hash });
            if let Some(name) = name {
                map["name"] = name.into();
            }
            json!({ "root": [map] })
        };
        let check = |parameters: &Json, edit: &dyn Fn(), kept: bool| {
            let watched = Watched::begin(parameters, &store).unwrap();
            edit();
            let ended = watched.end(&store);
            assert_eq!(ended.is_ok(), kept, "{ended:?}");
            files::write(&file, b"1,2").unwrap();
        };
        let (in_place, copied) = (path(None), path(Some("data")));
        check(&in_place, &|| (), true);
        check(&in_place, &|| files::write(&file, b"1,3").unwrap(), false);
        // Put back: the file was written to all the same, whatever time it bears.
        let put_back = || {
            files::write(&file, b"1,3").unwrap();
            files::write(&file, b"1,2").unwrap();
            let later = SystemTime::now() + Duration::from_secs(5);
            std::fs::File::options().append(true).open(&file).unwrap().set_modified(later).unwrap();
        };
        check(&in_place, &put_back, false);
        check(&copied, &put_back, true);
        files::write(&file, b"1,3").unwrap();
        assert!(Watched::begin(&in_place, &store).is_err());
    }
}
