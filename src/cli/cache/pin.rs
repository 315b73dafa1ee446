//! `wavecrest cache pin` and `unpin`: results that no cleaning removes.

use clap::Args;
use jiff::Timestamp;

use super::{Surveyed, here};
use crate::cli::workspace::refuse_absent;
use crate::cli::{CacheArgs, CliError, ExperimentArgs, print};
use crate::spec::suggest;
use crate::store::pins::{Pin, is_pin_name};
use crate::ui::words;

/// Arguments of `cache pin`.
#[derive(Debug, Args)]
pub struct PinArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// Name of the pin [default: the experiment's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Arguments of `cache unpin`.
#[derive(Debug, Args)]
pub struct UnpinArgs {
    /// The pin
    name: String,
}

/// Pins the results of an experiment.
pub fn pin(args: &PinArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let surveyed = Surveyed::of(&args.experiment, cache)?;
    let name = args.name.as_ref().unwrap_or(&surveyed.plan.experiment.name);
    if !is_pin_name(name) {
        let hint = "a name is 1 to 100 letters, digits, `_`, `-` and `.`";
        return Err(CliError::Usage(format!("no pin can be called `{name}`\n  hint: {hint}")));
    }
    let (set, of) = (surveyed.set(), surveyed.plan.graph.len());
    let file = args.experiment.file.display();
    if set.is_empty() {
        let text = format!("there is nothing to pin: {file} has no results");
        return Err(CliError::Failed(format!(
            "{text}\n  hint: `wavecrest run {file}` computes them"
        )));
    }
    let store = &surveyed.workspace.store;
    let pin = Pin {
        set: store.write_set(&set)?,
        experiment: surveyed.plan.experiment.name.clone(),
        file: file.to_string(),
        since: Timestamp::now().to_string(),
    };
    store.pin(name, &pin)?;
    let lacking = match of - set.len() {
        0 => String::new(),
        lacking => format!("; {lacking} more have no result yet"),
    };
    print(&format!("pinned {} as `{name}`{lacking}\n", words::count(set.len(), "result")))
}

/// Lets go of a pin.
pub fn unpin(args: &UnpinArgs, cache: &CacheArgs) -> Result<(), CliError> {
    refuse_absent(cache)?;
    let store = here(cache)?;
    let pins = store.pins()?;
    if !pins.contains_key(&args.name) {
        let hint = suggest::hint(&args.name, "pins", pins.keys().map(String::as_str));
        return Err(CliError::Usage(format!("no pin is called `{}`\n  hint: {hint}", args.name)));
    }
    store.unpin(&args.name)?;
    print(&format!("`{}` is pinned no longer\n", args.name))
}
