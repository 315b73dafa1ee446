//! `wavecrest check`: every mistake at once, nothing run.

use std::path::Path;

use super::workspace::{Workspace, planned};
use super::{CliError, ExperimentArgs, print};
use crate::ui::words;

/// Checks an experiment.
pub fn check(args: &ExperimentArgs, cache: Option<&Path>) -> Result<(), CliError> {
    let (plan, _) = planned(args, &Workspace::of(&args.file, cache)?)?;
    let stages = words::count(plan.experiment.stages.len(), "stage");
    let nodes = words::count(plan.graph.len(), "node");
    print(&format!("{}: {stages}, {nodes}, no mistakes\n", plan.experiment.name))
}
