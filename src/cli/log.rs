//! `wavecrest log`: past runs, newest first.

use std::path::Path;

use clap::Args;

use super::workspace::{Workspace, refuse_absent};
use super::{CacheArgs, CliError, print};
use crate::store::runs::{Outcome, Run};
use crate::ui::words;

/// Arguments of `log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Show at most this many runs
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists past runs.
pub fn log(args: &LogArgs, cache: &CacheArgs) -> Result<(), CliError> {
    refuse_absent(cache)?;
    let workspace = Workspace::of(Path::new("."), cache)?;
    let mut runs = workspace.store.runs()?;
    runs.truncate(args.limit);
    if args.json {
        let text = serde_json::to_string_pretty(&runs).expect("runs are plain data");
        return print(&(text + "\n"));
    }
    if runs.is_empty() {
        return print("no runs yet\n");
    }
    print(&runs.iter().map(line).collect::<String>())
}

fn line(run: &Run) -> String {
    let outcome = match run.outcome {
        Outcome::Unfinished => "unfinished",
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::Interrupted => "interrupted",
    };
    let took = run.seconds.map_or("-".to_owned(), words::duration);
    let short = run.commit.as_deref().map(|commit| &commit[..commit.len().min(12)]);
    let commit = words::commit(short, run.dirty);
    let overlays = run.overlays.join(" ");
    format!(
        "{}  {}  {outcome:11} {took:>12}  {} run, {} cached, {} failed  {commit}  {} {overlays}\n",
        run.id,
        &run.started[..run.started.len().min(19)],
        run.computed,
        run.cached,
        run.failed,
        run.file,
    )
}
