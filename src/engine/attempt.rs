//! One node being computed in a run: the job that is sent to a worker, and the record of what comes back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Instant;

use jiff::Timestamp;

use super::context::Bound;
use super::execute::{Job, Produced};
use super::graph::{Graph, Link, NodeId};
use super::machine::environment;
use super::run::Options;
use super::slots::Slot;
use super::status::contents;
use crate::store::record::{self, Log, Provenance};
use crate::store::{FileRecord, Hash, Record, Store, Summary, hash};

/// A node being computed.
pub struct Attempt {
    /// Which attempt of the run it is, from 1.
    pub number: u32,
    inputs: BTreeMap<String, Hash>,
    /// What it holds of the machine.
    pub slot: Slot,
    /// Where the worker writes its log.
    pub log: PathBuf,
    /// When it began.
    pub since: Instant,
    started: Timestamp,
}

/// What the results that a node reads are.
pub type Known<'a> = dyn Fn(NodeId) -> Option<&'a std::sync::Arc<Summary>> + 'a;

/// Prepares the job of a node whose inputs all have results.
pub fn prepare(
    (graph, store, options): (&Graph, &Store, &Options),
    (id, key): (NodeId, &Hash),
    (slot, number): (Slot, u32),
    known: &Known<'_>,
) -> (Job, Attempt) {
    let node = graph.node(id);
    let (mut inputs, mut objects) = (BTreeMap::new(), Vec::new());
    for (from, link) in graph.inputs(id) {
        let artifact = artifact(from, link, known);
        let bound = Bound { kind: artifact.kind.clone(), files: store.locate(artifact) };
        let place = |file: &FileRecord| (file.hash, bound.files.0[&file.path].clone());
        objects.extend(artifact.files.iter().map(place));
        inputs.insert(link.edge.clone(), bound);
    }
    // Named by stage and key: the name of an instance may be long, and may hold what a file's name cannot.
    let log = store.run_folder(&options.run).join(log_name(&node.stage, key));
    let job = Job {
        node: node.name.clone(),
        kind: node.kind.name.to_owned(),
        version: node.kind.version,
        parameters: node.parameters.to_json(),
        inputs,
        objects,
        cache: store.cache().to_path_buf(),
        scratch: options.scratch.clone(),
        checkpoint: store.checkpoints(key),
        checkpoint_every: options.checkpoints.every.as_secs_f64(),
        deadline: options.checkpoints.seconds_left(),
        environment: environment(&slot, &options.machine),
        small: node.kind.small,
        log: log.clone(),
    };
    let inputs = contents(graph, id, known);
    let started = Timestamp::now();
    (job, Attempt { number, inputs, slot, log, since: Instant::now(), started })
}

/// The name of the log of a node in the folder of its run.
pub fn log_name(stage: &str, key: &Hash) -> String {
    format!("{stage}-{}.log", key.short())
}

fn artifact<'a>(from: NodeId, link: &Link, known: &Known<'a>) -> &'a crate::store::ArtifactRecord {
    let result = known(from).expect("a node runs once everything that it reads has a result");
    &result.outputs[&link.output]
}

/// The dependencies of which an output that this node reads is not wholly in the store, or is among the `damaged`.
pub fn lacking(
    (graph, store): (&Graph, &Store),
    id: NodeId,
    damaged: &[Hash],
    known: &Known<'_>,
) -> Vec<NodeId> {
    let mut lacking: Vec<NodeId> = Vec::new();
    for (from, link) in graph.inputs(id) {
        let files = &artifact(from, link, known).files;
        let whole = files.iter().all(|f| !damaged.contains(&f.hash) && store.has(&f.hash, f.len));
        if !whole && !lacking.contains(&from) {
            lacking.push(from);
        }
    }
    lacking
}

impl Attempt {
    /// The models of the GPUs that it was given.
    fn gpus(&self, options: &Options) -> Vec<String> {
        let model = |ordinal: usize| {
            let gpu = options.machine.gpus.iter().find(|gpu| gpu.ordinal == ordinal);
            gpu.map_or_else(|| format!("GPU {ordinal}"), |gpu| gpu.name.clone())
        };
        self.slot.gpus.iter().map(|(ordinal, _)| model(*ordinal)).collect()
    }

    /// The record of what the worker left.
    pub fn record(
        &self,
        (graph, options): (&Graph, &Options),
        (id, key): (NodeId, Hash),
        produced: Produced,
    ) -> Record {
        let node = graph.node(id);
        let commit = options.commit.as_ref();
        Record {
            format: record::FORMAT,
            key,
            kind: node.kind.name.to_owned(),
            version: node.kind.version,
            parameters: node.parameters.to_json(),
            inputs: self.inputs.clone(),
            outputs: produced.outputs,
            dropped: false,
            packed: false,
            metrics: produced.metrics,
            provenance: Provenance {
                run: options.run.clone(),
                node: node.name.clone(),
                started: self.started.to_string(),
                seconds: self.since.elapsed().as_secs_f64(),
                attempt: self.number,
                peak_memory: produced.peak_memory,
                threads: self.slot.threads,
                host: options.owner.host.clone(),
                cpu: options.machine.cpu.clone(),
                driver: options.machine.driver.clone().filter(|_| !self.slot.gpus.is_empty()),
                gpus: self.gpus(options),
                determinism: node.kind.determinism.name().to_owned(),
                program: env!("CARGO_PKG_VERSION").to_owned(),
                binary: *BINARY,
                commit: commit.map(|commit| commit.id.clone()),
                dirty: commit.map(|commit| commit.dirty),
            },
            log: Log::Text(String::new()),
        }
    }
}

/// The hash of this program's binary, computed once there is something to record. It is read and not mapped, or all of
/// it would be in memory at once.
pub static BINARY: LazyLock<Option<Hash>> = LazyLock::new(|| {
    hash::by_reading("/proc/self/exe".as_ref(), &|_| ()).ok().map(|(hash, _)| hash)
});
