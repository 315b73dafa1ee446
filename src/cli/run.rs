//! `wavecrest run`: compute what is not cached, then write the reports.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use super::capacity::{self, CapacityArgs, refuse_unmeetable};
use super::select::SelectionArgs;
use super::workspace::{Workspace, planned};
use super::{CacheArgs, CliError, ExperimentArgs, reports, say, settled};
use crate::engine::checkpoint::{Checkpointing, EVERY};
use crate::engine::executor::Processes;
use crate::engine::graph::NodeId;
use crate::engine::machine::Machine;
use crate::engine::resources::Capacity;
use crate::engine::run::{self as engine, Commit, Later, Options, Results};
use crate::plan::Plan;
use crate::spec::quantity;
use crate::store::lease::{Owner, PATIENCE};
use crate::store::runs::{Outcome, Run};
use crate::store::settled::Settled;
use crate::ui::{self, words};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    #[command(flatten)]
    capacity: CapacityArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    /// After a failure, go on with everything that does not depend on it
    #[arg(short = 'k', long)]
    keep_going: bool,
    /// Seconds between two checkpoints of a long stage, more where writing one takes long; 0 saves one at every step
    /// [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    checkpoint_every: Option<Duration>,
    /// The run will be ended from outside after so long, such as 4h: long stages save a checkpoint shortly before
    /// [default: what Slurm says, inside a job]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    deadline: Option<Duration>,
    /// Seconds after which another run that shows no sign of life is taken for dead; for tests
    #[arg(long, hide = true)]
    patience: Option<f64>,
}

/// Runs an experiment.
pub fn run(args: &RunArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let since = Instant::now();
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let fingerprint = settled::fingerprint(&args.experiment, &workspace);
    let repository = repository(&args.experiment.file);
    let mut stamps = workspace.store.stamps();
    // A selection may name what is not there.
    let whole = fingerprint.filter(|_| args.selection.is_all());
    let done = whole.and_then(|print| workspace.store.settled(&print, &mut stamps));
    if let Some(Settled { head, .. }) = done {
        let mut run = begin(args, &head.experiment);
        (run.cached, run.set) = (head.nodes, Some(head.set));
        end(&mut run, Outcome::Done, &repository, since);
        note(&workspace, &run);
        say(&summary(
            &head.experiment,
            &Results { cached: head.nodes, ..Results::default() },
            since,
        ));
        say(&head.words);
        return Ok(());
    }
    let (plan, sources) = planned(&args.experiment, &workspace)?;
    let machine = capacity::machine(&plan, &args.capacity);
    let capacity = args.capacity.of(&machine)?;
    refuse_unmeetable(&plan, &sources, &workspace.store, &capacity)?;
    let wanted = args.selection.wanted(&plan, &workspace.store)?;
    let mut run = begin(args, &plan.experiment.name);
    // Said once, at the end, where it cannot be written.
    drop(workspace.store.write_run(&run));
    let compute = || {
        let given = (machine.clone(), capacity.clone(), wanted.clone());
        compute(args, &plan, &workspace, (&run, &repository), given)
    };
    let mut results = compute()?;
    let mut written = reports::write(&plan, &results.records, &workspace);
    if written.as_ref().is_ok_and(|written| written.damaged > 0) && !results.interrupted {
        // A result that no node reads, and that a report has found damaged.
        let first = results.computed;
        results = compute()?;
        results.computed += first;
        results.cached = results.cached.saturating_sub(first);
        written = reports::write(&plan, &results.records, &workspace);
    }
    let outcome = match (results.interrupted, results.failures.is_empty()) {
        (true, _) => Outcome::Interrupted,
        (false, true) => Outcome::Done,
        (false, false) => Outcome::Failed,
    };
    (run.computed, run.cached) = (results.computed, results.cached);
    run.failed = results.failures.len();
    let name = |id: NodeId| plan.graph.node(id).name.clone();
    run.failures = results.failures.iter().map(|(id, _)| name(*id)).collect();
    let keys = plan.graph.ids().filter_map(|id| {
        let result = results.records[id.index()].as_ref()?;
        Some((plan.graph.node(id).name.clone(), result.key))
    });
    run.set = workspace.store.write_set(&keys.collect()).ok();
    end(&mut run, outcome, &repository, since);
    note(&workspace, &run);
    if let (Outcome::Done, Ok(written), Some(set), Some(print)) =
        (outcome, &written, run.set, fingerprint.filter(|_| results.left_out == 0))
        && let Some(words) = written.words_when_current()
    {
        let reports = (written.files.clone(), words);
        settled::note(&print, (&plan, &sources), &results.records, set, reports, &workspace);
    }
    conclude(&plan, &results, &written, since)
}

/// Computes what is not cached.
fn compute(
    args: &RunArgs,
    plan: &Plan,
    workspace: &Workspace,
    (run, repository): (&Run, &Repository),
    (machine, capacity, wanted): (Machine, Capacity, Option<Vec<bool>>),
) -> Result<Results, CliError> {
    let interrupt = interrupts()?;
    let scratch = workspace.store.scratch(&run.host);
    let (repository, nowhere) = (Arc::clone(repository), workspace.store.root().join("scratch"));
    // What has a record needs none; where they cannot be removed, they only take room.
    drop(workspace.store.sweep_checkpoints());
    let options = Options {
        run: run.id.clone(),
        capacity,
        machine,
        wanted,
        keep_going: args.keep_going,
        owner: Owner::this(&run.host, &run.id),
        patience: args.patience.map_or(PATIENCE, Duration::from_secs_f64),
        commit: Later::new(Box::new(move || repository.wait().clone())),
        // Where there can be none, each node that would need it says why: what is cached is of use all the same.
        scratch: scratch.as_ref().map_or_else(|_| nowhere, |s| s.path().to_path_buf()),
        checkpoints: checkpointing(args)?,
    };
    let mut display = ui::display(&plan.graph);
    // candle's pool for element-wise operations spins, and knows nothing of a slot's threads.
    let executor = Processes::of_this_program().with("CANDLE_NUM_THREADS", "1");
    let store = &workspace.store;
    let results = engine::run(&plan.graph, store, &executor, &options, &interrupt, &mut |event| {
        display.event(event);
    });
    display.finish();
    Ok(results)
}

/// Writes the record of a run; where that cannot be done, the run goes on: it may find everything that it needs.
fn note(workspace: &Workspace, run: &Run) {
    if let Err(error) = workspace.store.write_run(run) {
        say(&format!("this run is not recorded: {error}"));
    }
}

/// Raises a flag on the first Ctrl-C, and ends the program at once on the second.
fn interrupts() -> Result<Arc<AtomicBool>, CliError> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|e| CliError::Failed(format!("cannot watch for signals: {e}")))?;
    }
    Ok(flag)
}

/// Reads a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "expected a number of at least 0".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let read = quantity::duration(text);
    read.map_err(|misread| format!("{}\n  hint: {}", misread.message, misread.hint))
}

/// How long the job of a batch system that this run is in still has.
#[expect(clippy::disallowed_methods, reason = "how long there is no part of any result")]
fn end_of_job() -> Option<Duration> {
    let end: u64 = std::env::var("SLURM_JOB_END_TIME").ok()?.parse().ok()?;
    let now = Timestamp::now().as_second();
    Some(Duration::from_secs(end.saturating_sub(u64::try_from(now).ok()?)))
}

/// When running nodes save checkpoints: by time, and on SIGUSR1.
fn checkpointing(args: &RunArgs) -> Result<Checkpointing, CliError> {
    let every = args.checkpoint_every.unwrap_or(EVERY);
    let deadline = args.deadline.or_else(end_of_job).and_then(|d| Instant::now().checked_add(d));
    let checkpointing = Checkpointing { every, deadline, ..Checkpointing::default() };
    signal_hook::flag::register(SIGUSR1, Arc::clone(&checkpointing.asked))
        .map_err(|e| CliError::Failed(format!("cannot watch for signals: {e}")))?;
    Ok(checkpointing)
}

fn begin(args: &RunArgs, experiment: &str) -> Run {
    let (now, host) = (Timestamp::now(), host());
    let id = format!("{}-{}", now.strftime("%Y%m%d-%H%M%S-%3f"), std::process::id());
    Run {
        owner: Some(Owner::this(&host, &id)),
        id,
        experiment: experiment.to_owned(),
        file: args.experiment.file.display().to_string(),
        overlays: args.experiment.overlays().words(),
        started: now.to_string(),
        seconds: None,
        outcome: Outcome::Unfinished,
        computed: 0,
        cached: 0,
        failed: 0,
        failures: Vec::new(),
        host,
        commit: None,
        dirty: None,
        set: None,
    }
}

fn end(run: &mut Run, outcome: Outcome, repository: &Repository, since: Instant) {
    run.outcome = outcome;
    let commit = repository.wait().as_ref();
    (run.commit, run.dirty) = (commit.map(|c| c.id.clone()), commit.map(|c| c.dirty));
    run.seconds = Some(since.elapsed().as_secs_f64());
}

/// The line that counts.
fn summary(experiment: &str, results: &Results, since: Instant) -> String {
    let mut summary = format!("{experiment}: {} run, {} cached", results.computed, results.cached);
    let counts = [
        (results.failures.len(), "failed"),
        (results.skipped, "skipped"),
        (results.left_out, "left out"),
    ];
    for (count, what) in counts {
        if count > 0 {
            summary += &format!(", {count} {what}");
        }
    }
    summary + &format!(" in {}", words::duration(since.elapsed().as_secs_f64()))
}

/// Says what came of a run: every failure, a line that counts, and where the reports are. Whatever went wrong with the
/// reports, the rest is said too.
fn conclude(
    plan: &Plan,
    results: &Results,
    written: &Result<reports::Written, CliError>,
    since: Instant,
) -> Result<(), CliError> {
    let mut text = String::new();
    for (id, failure) in &results.failures {
        text += &format!("{}\n", words::failure(&plan.graph.node(*id).name, failure));
    }
    let (reported, reports) = match written {
        Ok(written) => (written.errors.is_empty(), written.words()),
        Err(error) => (false, format!("the reports could not be written: {error}")),
    };
    text += &format!("{}\n{reports}", summary(&plan.experiment.name, results, since));
    if results.interrupted {
        let hint = "interrupted; what is computed is kept, and the same command goes on from there";
        return Err(CliError::Interrupted(format!("{text}\n{hint}")));
    }
    if results.failures.is_empty() && reported {
        // Said on standard error, as all that is no data.
        say(&text);
        return Ok(());
    }
    Err(CliError::Failed(text))
}

/// The name of this machine.
pub fn host() -> String {
    let name = crate::store::files::read_text("/proc/sys/kernel/hostname".as_ref());
    name.map_or("unknown".to_owned(), |name| name.trim().to_owned())
}

/// Where the experiment's repository stands, found out while other things go on.
type Repository = Arc<OnceLock<Option<Commit>>>;

fn repository(file: &Path) -> Repository {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).to_path_buf();
    let found = Repository::default();
    let slot = Arc::clone(&found);
    // Nobody else fills it.
    thread::spawn(move || drop(slot.set(commit(&folder))));
    found
}

/// The commit of the repository that holds a folder, and whether files differ from it.
fn commit(folder: &Path) -> Option<Commit> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let id = git(&["rev-parse", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(Commit { id, dirty: !changed.is_empty() })
}
