//! `wavecrest check`: every mistake at once, nothing run.

use super::capacity::warn_of_unmeetable;
use super::workspace::planned;
use super::{CliError, ExperimentArgs, print};
use crate::ui::words;

/// Checks an experiment.
pub fn check(args: &ExperimentArgs) -> Result<(), CliError> {
    let (plan, sources) = planned(args)?;
    warn_of_unmeetable(&plan, &sources);
    let stages = words::count(plan.experiment.stages.len(), "stage");
    let nodes = words::count(plan.graph.len(), "node");
    print(&format!("{}: {stages}, {nodes}, no mistakes\n", plan.experiment.name))
}
