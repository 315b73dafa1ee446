//! One side of a comparison: an experiment as it stands, or a past run.

use std::collections::BTreeMap;
use std::path::Path;

use super::compare::{Details, Side};
use crate::cli::workspace::{Workspace, planned};
use crate::cli::{CliError, ExperimentArgs};
use crate::engine::graph::NodeId;
use crate::engine::status::{Status, survey};
use crate::plan::Plan;
use crate::spec::extends::STDIN;
use crate::spec::suggest;
use crate::store::Store;
use crate::store::runs::Run;

/// What is compared.
pub enum Subject {
    /// An experiment, planned.
    Planned {
        /// The plan.
        plan: Box<Plan>,
        /// Where each node stands; indexed as the graph is.
        statuses: Vec<Status>,
    },
    /// A past run.
    Past {
        /// The run.
        run: Box<Run>,
        /// Where its records are.
        store: Store,
    },
}

impl Subject {
    /// Plans an experiment.
    pub fn planned(args: &ExperimentArgs, workspace: &Workspace) -> Result<Self, CliError> {
        let (plan, _) = planned(args, workspace)?;
        let statuses = survey(&plan.graph, &workspace.store)?;
        Ok(Self::Planned { plan: Box::new(plan), statuses })
    }

    /// Finds a past run by its id, or the beginning of that.
    pub fn past(id: &str, workspace: &Workspace) -> Result<Self, CliError> {
        let runs = workspace.store.runs()?;
        let run = find(id, &runs)?.clone();
        Ok(Self::Past { run: Box::new(run), store: workspace.store.clone() })
    }

    /// What it is, in words.
    pub fn title(&self) -> String {
        match self {
            Self::Planned { plan, .. } => {
                let file = plan.experiment.file.display().to_string();
                [&[file], plan.experiment.overlays.as_slice()].concat().join(" ")
            }
            Self::Past { run, .. } => {
                let what = [std::slice::from_ref(&run.file), run.overlays.as_slice()].concat();
                format!("run {} of {}", run.id, what.join(" "))
            }
        }
    }

    /// Its nodes. A run has the set of its results, without which it cannot be compared.
    pub fn side(&self) -> Result<Side<'_>, CliError> {
        match self {
            Self::Planned { plan, statuses } => Ok(of_plan(plan, statuses)),
            Self::Past { run, store } => of_run(run, store),
        }
    }
}

/// Whether an argument names an experiment file rather than a run.
pub fn is_file(argument: &Path) -> bool {
    let is_named = argument.extension().is_some_and(|e| e == "toml" || e == "json");
    argument == Path::new(STDIN) || argument.is_file() || is_named
}

fn find<'a>(id: &str, runs: &'a [Run]) -> Result<&'a Run, CliError> {
    let matches: Vec<&Run> = runs.iter().filter(|run| run.id.starts_with(id)).collect();
    let exact = matches.iter().find(|run| run.id == id);
    match (exact, matches.as_slice()) {
        (Some(run), _) | (None, [run]) => Ok(run),
        (None, []) => {
            let hint = if runs.is_empty() {
                "there are no runs here yet".to_owned()
            } else {
                let near =
                    suggest::hint(id, "runs", runs.iter().map(|run| run.id.as_str()).take(5));
                format!("`wavecrest log` lists them; {near}")
            };
            let message = format!("`{id}` is no experiment file, and no run has this id");
            Err(CliError::Usage(format!("{message}\n  hint: {hint}")))
        }
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|run| run.id.as_str()).take(5).collect();
            let more = if several.len() > names.len() { ", ..." } else { "" };
            let message = format!("`{id}` begins the ids of {} runs", several.len());
            Err(CliError::Usage(format!("{message}\n  hint: {}{more}", names.join(", "))))
        }
    }
}

fn of_plan<'a>(plan: &'a Plan, statuses: &'a [Status]) -> Side<'a> {
    let name = |id: NodeId| plan.graph.node(id).name.clone();
    let keys = plan.graph.ids().map(|id| (name(id), statuses[id.index()].key())).collect();
    let places: BTreeMap<String, NodeId> = plan.graph.ids().map(|id| (name(id), id)).collect();
    let details = move |name: &str| {
        let id = *places.get(name)?;
        let node = plan.graph.node(id);
        let result = statuses[id.index()].record();
        Some(Details {
            kind: node.kind.name.to_owned(),
            version: node.kind.version,
            parameters: node.parameters.to_json(),
            metrics: result.map(|result| result.metrics.clone()).unwrap_or_default(),
        })
    };
    Side { keys, details: Box::new(details) }
}

fn of_run<'a>(run: &Run, store: &'a Store) -> Result<Side<'a>, CliError> {
    let set = run.set.map(|set| store.read_set(&set));
    let Some(Some(nodes)) = set else {
        let why = match set {
            Some(_) => "the list of its results is gone: it was removed by a cleaning, or damaged",
            None => "it has left no list of its results: it is not over, or was killed",
        };
        let hint = format!("`wavecrest diff` takes the experiment file as well: {}", run.file);
        return Err(CliError::Failed(format!("run {}: {why}\n  hint: {hint}", run.id)));
    };
    let keys = nodes.iter().map(|(name, key)| (name.clone(), Some(*key))).collect();
    let details = move |name: &str| {
        let record = store.record(nodes.get(name)?).ok()??;
        let (kind, version) = (record.kind, record.version);
        Some(Details { kind, version, parameters: record.parameters, metrics: record.metrics })
    };
    Ok(Side { keys, details: Box::new(details) })
}
