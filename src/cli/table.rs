//! `wavecrest table`: tables in the terminal, from cached results.

use std::sync::Arc;

use clap::Args;

use super::reports::{self, Gathered};
use super::workspace::{Workspace, planned};
use super::{CacheArgs, CliError, ExperimentArgs, print};
use crate::engine::status::survey;
use crate::report::{tables, terminal};
use crate::spec::suggest;
use crate::store::Summary;

/// Arguments of `table`.
#[derive(Debug, Args)]
pub struct TableArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// The table; every table where absent
    name: Option<String>,
}

/// Prints tables.
pub fn table(args: &TableArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let (plan, _) = planned(&args.experiment, &workspace)?;
    let records: Vec<Option<Arc<Summary>>> = survey(&plan.graph, &workspace.store)?
        .iter()
        .map(|status| status.record().cloned())
        .collect();
    let names = || plan.tables.iter().map(|t| t.name.as_str());
    if let Some(name) = &args.name
        && !names().any(|known| known == name)
    {
        let hint = suggest::hint(name, "tables", names());
        return Err(CliError::Usage(format!("no table is called `{name}`\n  hint: {hint}")));
    }
    let mut text = String::new();
    let (mut wrong, mut missing) = (Vec::new(), false);
    for entry in plan.tables.iter().filter(|t| args.name.as_ref().is_none_or(|n| *n == t.name)) {
        let evaluated = match reports::gather(&plan, &records, &workspace.store, &entry.from) {
            Gathered::Incomplete { missing: count, all } => {
                wrong.push(format!("table `{}` {}", entry.name, reports::lack(count, all)));
                missing = true;
                continue;
            }
            Gathered::Complete(part) if part.quarantine(&workspace.store) > 0 => {
                wrong.push(format!("table `{}`: a result that it reads was damaged", entry.name));
                missing = true;
                continue;
            }
            Gathered::Complete(part) => {
                part.results().and_then(|results| tables::evaluate(&entry.spec, &results))
            }
        };
        match evaluated {
            Ok(evaluated) => {
                let title = entry.spec.about.as_deref().unwrap_or(&entry.name);
                text += &format!("{title}\n\n{}\n", terminal::table(&evaluated.grid));
            }
            Err(error) => wrong.push(format!("table `{}`: {error}", entry.name)),
        }
    }
    print(&text)?;
    if wrong.is_empty() {
        return Ok(());
    }
    if missing {
        let file = args.experiment.file.display();
        wrong.push(format!("  hint: `wavecrest run {file}` computes them"));
    }
    Err(CliError::Failed(wrong.join("\n")))
}
