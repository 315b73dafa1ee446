//! `wavecrest logs`: what the worker of a node wrote, while it runs and afterwards.

use std::path::Path;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::workspace::{Workspace, node, planned};
use super::{CacheArgs, CliError, ExperimentArgs, print, say};
use crate::engine::attempt::log_name;
use crate::engine::status::{Status, survey};
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
            if let Some(owner) = store.holder(key) {
                say(&format!("run {} on {} computes it", owner.run, owner.host));
                return follow(store, key, &store.run_folder(&owner.run).join(name), args.follow);
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
fn follow(store: &Store, key: &Hash, path: &Path, on: bool) -> Result<(), CliError> {
    let mut printed = 0;
    loop {
        // Looked at before the log: what is written last is printed too.
        let over = store.holder(key).is_none();
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
        if over || !on {
            return Ok(());
        }
        thread::sleep(GLANCE);
    }
}
