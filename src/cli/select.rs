//! The part of an experiment that a command is about.

use clap::Args;

use super::CliError;
use crate::plan::Plan;
use crate::plan::select::{Selection, Unmatched};
use crate::store::Store;

/// Which nodes are meant.
#[derive(Clone, Debug, Args)]
pub struct SelectionArgs {
    /// Only these nodes and what they need, such as 'probe[source=waves]', or 'probe+' for all that needs them too; may
    /// be repeated
    #[arg(long, value_name = "SELECTOR")]
    only: Vec<String>,
    /// Not these nodes, nor what needs them; may be repeated
    #[arg(long, value_name = "SELECTOR")]
    except: Vec<String>,
    /// Only the nodes that failed in the newest run of the experiment, and what they need
    #[arg(long)]
    failed: bool,
}

impl SelectionArgs {
    /// Whether everything is meant.
    pub fn is_all(&self) -> bool {
        self.only.is_empty() && self.except.is_empty() && !self.failed
    }

    /// Which nodes are wanted, indexed as the graph is; none where all are.
    pub fn wanted(&self, plan: &Plan, store: &Store) -> Result<Option<Vec<bool>>, CliError> {
        let named = if self.failed { Some(failed(plan, store)?) } else { None };
        let (only, except) = (self.only.clone(), self.except.clone());
        let wanted = Selection { only, except, named }.wanted(&plan.graph);
        wanted.map_err(|all| {
            let words =
                |Unmatched { message, hint }: Unmatched| format!("{message}\n  hint: {hint}");
            CliError::Usage(all.into_iter().map(words).collect::<Vec<_>>().join("\n"))
        })
    }
}

/// The names of the nodes that failed in the newest run.
fn failed(plan: &Plan, store: &Store) -> Result<Vec<String>, CliError> {
    let runs = store.runs()?;
    let newest = runs.into_iter().find(|run| run.experiment == plan.experiment.name);
    newest.map(|run| run.failures).ok_or_else(|| {
        CliError::Failed(format!("there is no earlier run of {}", plan.experiment.name))
    })
}
