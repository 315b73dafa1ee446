//! `wavecrest check`: every mistake at once, nothing run.

use super::capacity::{here, warn_of_unmeetable};
use super::workspace::{Workspace, planned};
use super::{CacheArgs, CliError, ExperimentArgs, print};
use crate::ui::words;

/// Checks an experiment.
pub fn check(args: &ExperimentArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let (plan, sources) = planned(args, &Workspace::of(&args.file, cache)?)?;
    warn_of_unmeetable(&plan, &sources, &here(&plan));
    let stages = words::count(plan.experiment.stages.len(), "stage");
    let nodes = words::count(plan.graph.len(), "node");
    let name = plan.experiment.name.clone();
    // Nothing follows that needs the memory.
    std::mem::forget((plan, sources));
    print(&format!("{name}: {stages}, {nodes}, no mistakes\n"))
}
