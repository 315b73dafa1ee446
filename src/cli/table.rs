//! `wavecrest table`: tables in the terminal, from cached results.

use std::path::Path;

use clap::Args;

use super::reports::{self, Gathered};
use super::workspace::{Workspace, planned};
use super::{CliError, ExperimentArgs, print};
use crate::engine::status::{Status, survey};
use crate::report::{tables, terminal};
use crate::spec::suggest;
use crate::store::Record;

/// Arguments of `table`.
#[derive(Debug, Args)]
pub struct TableArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// The table; every table where absent
    #[arg(last = false)]
    name: Option<String>,
}

/// Prints tables.
pub fn table(args: &TableArgs, cache: Option<&Path>) -> Result<(), CliError> {
    let (plan, _) = planned(&args.experiment)?;
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let records: Vec<Option<Record>> = survey(&plan.graph, &workspace.store)
        .iter()
        .map(Status::record)
        .map(Option::<&Record>::cloned)
        .collect();
    let names = || plan.tables.iter().map(|t| t.name.as_str());
    if let Some(name) = &args.name
        && !names().any(|known| known == name)
    {
        let hint = suggest::hint(name, "tables", names());
        return Err(CliError::Usage(format!("no table is called `{name}`\n  hint: {hint}")));
    }
    let mut text = String::new();
    let mut missing = Vec::new();
    for entry in plan.tables.iter().filter(|t| args.name.as_ref().is_none_or(|n| *n == t.name)) {
        let gathered = reports::gather(&plan, &records, &workspace.store, &entry.from);
        if let Gathered::Incomplete { missing: count, .. } = gathered {
            missing.push(format!("table `{}` lacks {count} results", entry.name));
            continue;
        }
        let evaluated = tables::evaluate(&entry.spec, &gathered.frame()?)?;
        let title = entry.spec.about.as_deref().unwrap_or(&entry.name);
        text += &format!("{title}\n\n{}\n", terminal::table(&evaluated.grid));
    }
    print(&text)?;
    if missing.is_empty() {
        return Ok(());
    }
    let hint = format!("hint: `wavecrest run {}` computes them", args.experiment.file.display());
    Err(CliError::Failed(format!("{}\n  {hint}", missing.join("\n"))))
}
