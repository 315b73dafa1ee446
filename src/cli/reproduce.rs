//! `wavecrest reproduce`: a node computed again aside, and compared with its result.

use std::path::Path;
use std::sync::mpsc;

use clap::Args;

use super::workspace::{Workspace, node, planned};
use super::{CacheArgs, CliError, ExperimentArgs, capacity, differences, print};
use crate::engine::attempt;
use crate::engine::checkpoint::Checkpointing;
use crate::engine::execute::Produced;
use crate::engine::executor::{Executor as _, Processes, Report};
use crate::engine::graph::NodeId;
use crate::engine::run::{Later, Options};
use crate::engine::slots::Slots;
use crate::engine::status::{Status, survey};
use crate::plan::Plan;
use crate::store::lease::{Owner, PATIENCE};
use crate::store::{ArtifactRecord, Record, Store};
use crate::ui::words;

/// Arguments of `reproduce`.
#[derive(Debug, Args)]
pub struct ReproduceArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// A node, such as 'probe[source=waves,replicate=0]', or the beginning of its key
    node: String,
    #[command(flatten)]
    capacity: capacity::CapacityArgs,
}

/// Computes a node again and says in what it differs; nothing in the cache changes.
pub fn reproduce(args: &ReproduceArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let (plan, _) = planned(&args.experiment, &workspace)?;
    let store = &workspace.store;
    let statuses = survey(&plan.graph, store)?;
    let key = |id: NodeId| statuses[id.index()].record().map(|result| result.key.to_hex());
    let id = node(&plan, &key, &args.node)?;
    let name = &plan.graph.node(id).name;
    let known = |id: NodeId| match &statuses[id.index()] {
        Status::Cached(result) => Some(result),
        Status::Missing(_) | Status::Waiting(_) => None,
    };
    let Some(record) = known(id).map(|r| store.record(&r.key)).transpose()?.flatten() else {
        let message = format!("`{name}` has no result to compare with");
        return Err(CliError::Failed(message));
    };
    let lacking = attempt::lacking((&plan.graph, store), id, &[], &known);
    if !lacking.is_empty() {
        let names: Vec<&str> = lacking.iter().map(|d| plan.graph.node(*d).name.as_str()).collect();
        let message = format!("the files of {} are not in the cache", names.join(", "));
        let hint = "`keep = true` keeps them, and a run that needs them computes them again";
        return Err(CliError::Failed(format!("{message}\n  hint: {hint}")));
    }
    let aside = tempfile::Builder::new().prefix("wavecrest-").tempdir();
    let aside = aside.map_err(|e| CliError::Failed(format!("cannot work aside: {e}")))?;
    let place = (&plan, store, args);
    let (produced, seconds) = compute(place, (id, &record), aside.path(), &known)?;
    let other = Store::open(&aside.path().join("cache"))?;
    let found = compare(&record, &produced, store, &other);
    let took = words::duration(seconds);
    let was = words::duration(record.provenance.seconds);
    if found.is_empty() {
        return print(&format!("{name}: the same to the last bit (in {took}; recorded {was})\n"));
    }
    let machine = match plan.graph.node(id).kind.determinism.name() {
        "bit" => "its kind promises the same bits everywhere",
        "machine" => "its kind promises the same bits on one machine and binary",
        _ => "its kind promises what its program does",
    };
    let from = &record.provenance;
    let origin = format!("recorded on {} ({}), {machine}", from.host, from.cpu);
    Err(CliError::Failed(format!("{name} differs:\n{}\n  {origin}", found.join("\n"))))
}

/// Computes the node into a store aside; yields what it left, and how long it took.
fn compute(
    (plan, store, args): (&Plan, &Store, &ReproduceArgs),
    (id, record): (NodeId, &Record),
    aside: &Path,
    known: &attempt::Known<'_>,
) -> Result<(Produced, f64), CliError> {
    let machine = capacity::machine(plan, &args.capacity);
    let capacity = args.capacity.of(&machine)?;
    let run = "reproduce".to_owned();
    let options = Options {
        owner: Owner::this(&machine.host, &run),
        run,
        capacity: capacity.clone(),
        machine,
        wanted: None,
        keep_going: false,
        patience: PATIENCE,
        commit: Later::new(Box::new(|| None)),
        scratch: aside.to_path_buf(),
        checkpoints: Checkpointing::default(),
    };
    let request = &plan.graph.node(id).resources;
    let threads = capacity.threads;
    let slot = Slots::new(capacity).take(request, threads).ok_or_else(|| {
        CliError::Failed("this machine lacks what the stage asks for in `resources`".to_owned())
    })?;
    let place = (&plan.graph, store, &options);
    let (mut job, attempt) = attempt::prepare(place, (id, &record.key), (slot, 1), known);
    job.cache = aside.join("cache");
    job.checkpoint = aside.join("checkpoint");
    job.log = aside.join("log");
    let (reports, inbox) = mpsc::channel();
    let executor = Processes::of_this_program().with("CANDLE_NUM_THREADS", "1");
    let _running = executor.start(id, job, reports);
    for (_, report) in inbox {
        if let Report::Ended(outcome) = report {
            let seconds = attempt.since.elapsed().as_secs_f64();
            let failed = |failure| {
                let name = &plan.graph.node(id).name;
                CliError::Failed(words::failure(name, &failure))
            };
            return outcome.map(|produced| (produced, seconds)).map_err(failed);
        }
    }
    Err(CliError::Failed("the worker said nothing".to_owned()))
}

/// Says in what two results differ, a line each.
fn compare(record: &Record, produced: &Produced, store: &Store, other: &Store) -> Vec<String> {
    let mut found = Vec::new();
    for (name, was) in &record.outputs {
        match produced.outputs.get(name) {
            Some(is) if is.hash == was.hash => (),
            Some(is) => files(name, (was, store), (is, other), &mut found),
            None => found.push(format!("  output `{name}` is lacking")),
        }
    }
    for (name, was) in &record.metrics {
        match produced.metrics.get(name) {
            Some(is) if is.to_bits() == was.to_bits() => (),
            Some(is) => found.push(format!("  metric `{name}`: {was} and now {is}")),
            None => found.push(format!("  metric `{name}` is lacking")),
        }
    }
    found
}

/// Says in what the files of two artifacts differ.
fn files(
    output: &str,
    (was, store): (&ArtifactRecord, &Store),
    (is, other): (&ArtifactRecord, &Store),
    found: &mut Vec<String>,
) {
    for before in &was.files {
        let place = format!("  output `{output}`, {}", before.path);
        let Some(now) = is.files.iter().find(|now| now.path == before.path) else {
            found.push(format!("{place}: lacking"));
            continue;
        };
        if now.hash != before.hash {
            let (a, b) = (store.object(&before.hash), other.object(&now.hash));
            let by = differences::between(&before.path, &a, &b);
            found.push(format!("{place}: {by}"));
        }
    }
    for now in is.files.iter().filter(|now| was.files.iter().all(|b| b.path != now.path)) {
        found.push(format!("  output `{output}`, {}: not there before", now.path));
    }
}
