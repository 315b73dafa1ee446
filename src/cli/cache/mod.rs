//! `wavecrest cache`: the results themselves, kept whole, small and shared.

pub mod gc;
pub mod pack;
pub mod pin;
pub mod stat;
pub mod transfer;
pub mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::workspace::{Workspace, planned};
use super::{CacheArgs, CliError, ExperimentArgs};
use crate::engine::status::{Status, survey};
use crate::plan::Plan;
use crate::spec::Sources;
use crate::store::{Hash, Store, Summary};

/// What to do with a cache.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show what is in it: by experiment, by stage, by age
    Stat(stat::StatArgs),
    /// Read everything again, and report what is damaged or missing
    Verify(verify::VerifyArgs),
    /// Remove results that no experiment named, no pin and no recent run reaches; says what, and asks
    Gc(gc::GcArgs),
    /// Keep the results that an experiment has now, whatever is removed
    Pin(pin::PinArgs),
    /// Let go of what a pin keeps
    Unpin(pin::UnpinArgs),
    /// Copy results to another cache that lacks them
    Push(transfer::TransferArgs),
    /// Copy results from another cache that are lacking here
    Pull(transfer::TransferArgs),
    /// Write one archive with what the reports of an experiment are made of; `verify` checks it elsewhere
    Pack(pack::PackArgs),
}

/// Does something with a cache.
pub fn cache(command: &CacheCommand, cache: &CacheArgs) -> Result<(), CliError> {
    match command {
        CacheCommand::Stat(args) => stat::stat(args, cache),
        CacheCommand::Verify(args) => verify::verify(args, cache),
        CacheCommand::Gc(args) => gc::gc(args, cache),
        CacheCommand::Pin(args) => pin::pin(args, cache),
        CacheCommand::Unpin(args) => pin::unpin(args, cache),
        CacheCommand::Push(args) => transfer::push(args, cache),
        CacheCommand::Pull(args) => transfer::pull(args, cache),
        CacheCommand::Pack(args) => pack::pack(args, cache),
    }
}

/// The cache that is meant where no experiment is named.
fn here(cache: &CacheArgs) -> Result<Store, CliError> {
    Ok(Workspace::of(Path::new("."), cache)?.store)
}

/// An experiment as it is now, and what its cache holds of it.
struct Surveyed {
    plan: Plan,
    sources: Sources,
    workspace: Workspace,
    statuses: Vec<Status>,
}

impl Surveyed {
    fn of(args: &ExperimentArgs, cache: &CacheArgs) -> Result<Self, CliError> {
        let workspace = Workspace::of(&args.file, cache)?;
        let (plan, sources) = planned(args, &workspace)?;
        let statuses = survey(&plan.graph, &workspace.store)?;
        Ok(Self { plan, sources, workspace, statuses })
    }

    /// The results that are there.
    fn results(&self) -> impl Iterator<Item = &Summary> {
        self.statuses.iter().filter_map(Status::record).map(AsRef::as_ref)
    }

    /// Keys by node name, of the nodes that have a result.
    fn set(&self) -> BTreeMap<String, Hash> {
        let named = self.plan.graph.ids().zip(&self.statuses);
        let key = named.filter_map(|(id, status)| {
            Some((self.plan.graph.node(id).name.clone(), status.record()?.key))
        });
        key.collect()
    }
}

/// The cache of some experiments, and the results that they have in it; the cache here where none is named.
fn reached(files: &[PathBuf], cache: &CacheArgs) -> Result<(Store, BTreeSet<Hash>), CliError> {
    let (mut store, mut keys): (Option<Store>, _) = (None, BTreeSet::new());
    for file in files {
        let args = ExperimentArgs { file: file.clone(), profile: None, set: Vec::new() };
        let surveyed = Surveyed::of(&args, cache)?;
        keys.extend(surveyed.results().map(|result| result.key));
        let own = surveyed.workspace.store;
        if store.as_ref().is_some_and(|store| store.root() != own.root()) {
            let message = format!("{} has a cache of its own", file.display());
            return Err(CliError::Usage(format!("{message}\n  hint: name one with --cache")));
        }
        store = Some(own);
    }
    Ok((store.map_or_else(|| here(cache), Ok)?, keys))
}

/// The experiment of each run, for what is said of the results that it computed.
fn experiments(store: &Store) -> Result<BTreeMap<String, String>, CliError> {
    Ok(store.runs()?.into_iter().map(|run| (run.id, run.experiment)).collect())
}

/// Whose result it is, as `experiment/stage`; the run that made it may have been elsewhere, or be long forgotten.
fn whose(summary: &Summary, experiments: &BTreeMap<String, String>) -> String {
    let experiment = experiments.get(&summary.provenance.run);
    format!(
        "{}/{}",
        experiment.map_or("(run not known here)", String::as_str),
        summary.provenance.stage()
    )
}

/// Data as JSON.
fn as_json(data: &impl Serialize) -> String {
    serde_json::to_string_pretty(data).expect("what is reported is plain data") + "\n"
}
