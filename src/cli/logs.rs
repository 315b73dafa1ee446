//! `wavecrest logs`: what the worker of a node wrote, while it runs and afterwards.

use std::path::Path;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::run::host;
use super::workspace::{Workspace, node, planned};
use super::{CacheArgs, CliError, ExperimentArgs, print, say};
use crate::engine::attempt::log_name;
use crate::engine::status::{Status, survey};
use crate::store::lease::{Owner, PATIENCE};
use crate::store::pulse::{Pulse, Watched};
use crate::store::record::Log;
use crate::store::{Hash, Store, files};

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// A node, such as 'probe[source=waves,replicate=0]', or the beginning of its key
    node: String,
    /// Go on printing as long as a run computes it
    #[arg(short, long)]
    follow: bool,
    /// Seconds after which a run that shows no sign of life is taken for dead; for tests
    #[arg(long, hide = true)]
    patience: Option<f64>,
}

/// How often a log is looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// Prints the log of a node: of its result, else of the run that computes it now, else of the last attempt that failed.
pub fn logs(args: &LogsArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let (plan, _) = planned(&args.experiment, &workspace)?;
    let store = &workspace.store;
    let statuses = survey(&plan.graph, store)?;
    let key = |id: crate::engine::graph::NodeId| statuses[id.index()].key().map(|key| key.to_hex());
    let id = node(&plan, &key, &args.node)?;
    let node = plan.graph.node(id);
    match &statuses[id.index()] {
        Status::Cached(result) => print(&kept(store, &result.key)?),
        Status::Missing(key) => {
            let name = log_name(&node.stage, key);
            let holder = store.holder(key).filter(|owner| !owner.is_gone(&host()));
            if let Some(owner) = holder {
                say(&format!("run {} on {} computes it", owner.run, owner.host));
                let log = store.run_folder(&owner.run).join(name);
                return follow(store, (key, &owner), &log, args);
            }
            match failed(store, &name)? {
                Some(text) => print(&text),
                None => Err(CliError::Failed(format!("`{}` was not computed yet", node.name))),
            }
        }
        Status::Waiting(on) => {
            let names: Vec<&str> = on.iter().map(|d| plan.graph.node(*d).name.as_str()).collect();
            Err(CliError::Failed(format!("`{}` waits on {}", node.name, names.join(", "))))
        }
    }
}

/// The log of a result.
fn kept(store: &Store, key: &Hash) -> Result<String, CliError> {
    match store.record(key)?.map(|record| record.log) {
        Some(Log::Text(text)) => Ok(text),
        Some(Log::Object(file)) => Ok(text_of(&store.object(&file.hash))?),
        None => Err(CliError::Failed("its record is gone".to_owned())),
    }
}

/// The log of the newest run in which a node failed.
fn failed(store: &Store, name: &str) -> Result<Option<String>, CliError> {
    for run in store.runs()? {
        let path = store.run_folder(&run.id).join(name);
        if files::is_plain(&path) {
            say(&format!("of run {}", run.id));
            return Ok(Some(text_of(&path)?));
        }
    }
    Ok(None)
}

fn text_of(path: &Path) -> Result<String, files::FileError> {
    Ok(String::from_utf8_lossy(&files::read(path)?).into_owned())
}

/// Prints a log that is being written; to its end if that is asked for.
fn follow(
    store: &Store,
    (key, owner): (&Hash, &Owner),
    path: &Path,
    args: &LogsArgs,
) -> Result<(), CliError> {
    let patience = args.patience.map_or(PATIENCE, Duration::from_secs_f64);
    let mut pulse = Pulse::new(&host(), patience);
    let mut printed = 0;
    loop {
        // Looked at before the log: what is written last is printed too.
        let state = pulse.of(store, key, owner);
        // Gone, once the result is recorded.
        let bytes = match files::read(path) {
            Ok(bytes) => bytes,
            Err(_) => match store.record(key)?.map(|_| kept(store, key)).transpose()? {
                Some(text) => text.into_bytes(),
                None => Vec::new(),
            },
        };
        if bytes.len() > printed {
            print(&String::from_utf8_lossy(&bytes[printed..]))?;
            printed = bytes.len();
        }
        match state {
            _ if !args.follow => return Ok(()),
            Watched::Beats => thread::sleep(GLANCE),
            Watched::Ended => return Ok(()),
            Watched::Dead => {
                let run = &owner.run;
                let text = format!("run {run} on {} ended without a word", owner.host);
                let file = args.experiment.file.display();
                let hint = format!("`wavecrest run {file}` goes on from where it was");
                return Err(CliError::Failed(format!("{text}\n  hint: {hint}")));
            }
        }
    }
}
