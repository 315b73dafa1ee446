//! `wavecrest run`: compute what is not cached, then write the reports.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::capacity::{self, CapacityArgs, refuse_unmeetable};
use super::workspace::{Workspace, planned};
use super::{CliError, ExperimentArgs, reports, say};
use crate::engine::executor::Processes;
use crate::engine::run::{self as engine, Options, Results};
use crate::plan::Plan;
use crate::store::lease::{Owner, PATIENCE};
use crate::store::runs::{Outcome, Run};
use crate::ui::{self, words};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    #[command(flatten)]
    capacity: CapacityArgs,
    /// After a failure, go on with everything that does not depend on it
    #[arg(short = 'k', long)]
    keep_going: bool,
    /// Seconds after which another run that shows no sign of life is taken for dead; for tests
    #[arg(long, hide = true)]
    patience: Option<f64>,
}

/// Runs an experiment.
pub fn run(args: &RunArgs, cache: Option<&Path>) -> Result<(), CliError> {
    let since = Instant::now();
    let (plan, sources) = planned(&args.experiment)?;
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let machine = capacity::machine(&plan, &args.capacity);
    let capacity = args.capacity.of(&machine)?;
    refuse_unmeetable(&plan, &sources, &workspace.store, &capacity)?;
    let interrupt = interrupts()?;
    let mut run = begin(args, &plan);
    workspace.store.write_run(&run)?;
    let scratch = workspace.store.scratch(&run.host)?;
    let options = Options {
        run: run.id.clone(),
        capacity,
        machine,
        keep_going: args.keep_going,
        owner: Owner::this(&run.host, &run.id),
        patience: args.patience.map_or(PATIENCE, Duration::from_secs_f64),
        commit: run.commit.clone(),
        scratch: scratch.path().to_path_buf(),
    };
    let mut display = ui::display(&plan.graph);
    // candle's pool for element-wise operations spins, and knows nothing of a slot's threads.
    let executor = Processes::of_this_program().with("CANDLE_NUM_THREADS", "1");
    let results =
        engine::run(&plan.graph, &workspace.store, &executor, &options, &interrupt, &mut |event| {
            display.event(event);
        });
    display.finish();
    drop((display, scratch));
    end(&mut run, &plan, &results, since);
    workspace.store.write_run(&run)?;
    let written = reports::write(&plan, &results.records, &workspace);
    conclude(&plan, &results, &written, since)
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

fn begin(args: &RunArgs, plan: &Plan) -> Run {
    let now = Timestamp::now();
    Run {
        id: format!("{}-{}", now.strftime("%Y%m%d-%H%M%S-%3f"), std::process::id()),
        experiment: plan.experiment.name.clone(),
        file: args.experiment.file.display().to_string(),
        overlays: plan.experiment.overlays.clone(),
        started: now.to_string(),
        seconds: None,
        outcome: Outcome::Unfinished,
        computed: 0,
        cached: 0,
        failed: 0,
        host: host(),
        commit: commit(&plan.experiment.folder),
        nodes: BTreeMap::new(),
    }
}

fn end(run: &mut Run, plan: &Plan, results: &Results, since: Instant) {
    run.seconds = Some(since.elapsed().as_secs_f64());
    run.outcome = match (results.interrupted, results.failures.is_empty()) {
        (true, _) => Outcome::Interrupted,
        (false, true) => Outcome::Done,
        (false, false) => Outcome::Failed,
    };
    run.computed = results.computed;
    run.cached = results.cached;
    run.failed = results.failures.len();
    for id in plan.graph.ids() {
        if let Some(record) = &results.records[id.index()] {
            run.nodes.insert(plan.graph.node(id).name.clone(), record.key);
        }
    }
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
    let mut summary =
        format!("{}: {} run, {} cached", plan.experiment.name, results.computed, results.cached);
    for (count, what) in [(results.failures.len(), "failed"), (results.skipped, "skipped")] {
        if count > 0 {
            summary += &format!(", {count} {what}");
        }
    }
    let (reported, reports) = match written {
        Ok(written) => (written.errors.is_empty(), written.words()),
        Err(error) => (false, format!("the reports could not be written: {error}")),
    };
    text += &format!("{summary} in {}\n{reports}", words::duration(since.elapsed().as_secs_f64()));
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

fn host() -> String {
    let name = crate::store::files::read_text("/proc/sys/kernel/hostname".as_ref());
    name.map_or("unknown".to_owned(), |name| name.trim().to_owned())
}

/// The commit of the repository that holds a folder, with `+` where files differ from it.
fn commit(folder: &Path) -> Option<String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { commit + "+" })
}
