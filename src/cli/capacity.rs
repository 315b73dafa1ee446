//! What a run may use of this machine, and what an experiment asks for beyond it.

use std::str::FromStr;

use clap::Args;

use super::{CliError, say};
use crate::engine::graph::NodeId;
use crate::engine::machine::{Machine, VISIBLE};
use crate::engine::resources::{Capacity, GpuRequest, Unmet, unmeetable};
use crate::engine::status::{Status, survey};
use crate::plan::Plan;
use crate::spec::{Diagnostic, Diagnostics, Origin, Sources, quantity};
use crate::store::Store;
use crate::ui;

/// The flags that bound what a run may use.
#[derive(Debug, Default, Args)]
pub struct CapacityArgs {
    /// CPU threads, all stages together [default: one for each core]
    #[arg(short = 'j', long, value_name = "N")]
    threads: Option<usize>,
    /// Memory that stages may be given together, such as 12GiB [default: all of this machine]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// GPUs that stages may be given, such as 0,2, or `none` [default: all of this machine]
    #[arg(long, value_name = "LIST")]
    gpus: Option<Gpus>,
}

/// Ordinals of GPUs; none where the list is empty.
#[derive(Clone, Debug)]
struct Gpus(Vec<usize>);

impl FromStr for Gpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let ordinal = |part: &str| part.trim().parse().ok();
        let list: Option<Vec<usize>> = text.split(',').map(ordinal).collect();
        let mut list = list.ok_or("write numbers with commas between them, or `none`")?;
        list.sort_unstable();
        list.dedup();
        Ok(Self(list))
    }
}

fn size(text: &str) -> Result<u64, String> {
    quantity::size(text).map_err(|misread| format!("{}\n  hint: {}", misread.message, misread.hint))
}

/// Looks at this machine, for GPUs only where a stage asks for one: the driver takes its time to answer.
pub fn machine(plan: &Plan, args: &CapacityArgs) -> Machine {
    let asks = |id: NodeId| plan.graph.node(id).resources.gpus != GpuRequest::None;
    let named = args.gpus.as_ref().is_some_and(|gpus| !gpus.0.is_empty());
    let machine = Machine::here();
    if !named && !plan.graph.ids().any(asks) {
        return machine;
    }
    let visible = std::env::var_os(VISIBLE);
    machine.with_gpus(visible.as_ref().map(|list| list.to_string_lossy()).as_deref())
}

impl CapacityArgs {
    /// What a run may use: what the machine has, and what the flags say instead.
    pub fn of(&self, machine: &Machine) -> Result<Capacity, CliError> {
        let all = machine.capacity();
        let gpus = match &self.gpus {
            None => all.gpus,
            Some(Gpus(list)) => match list.iter().find(|gpu| !all.gpus.contains(gpu)) {
                None => list.clone(),
                Some(missing) => {
                    let found: Vec<String> = all.gpus.iter().map(ToString::to_string).collect();
                    let found = if found.is_empty() { "none".into() } else { found.join(", ") };
                    let message = format!("there is no GPU {missing}\n  hint: GPUs: {found}");
                    return Err(CliError::Usage(message));
                }
            },
        };
        let threads = self.threads.unwrap_or(all.threads).max(1);
        Ok(Capacity { threads, memory: self.memory.or(all.memory), gpus })
    }
}

/// Refuses a run in which a node asks for more than there is, unless its result is there.
pub fn refuse_unmeetable(
    plan: &Plan,
    sources: &Sources,
    store: &Store,
    capacity: &Capacity,
) -> Result<(), CliError> {
    let mut unmet = unmeetable(&plan.graph, capacity);
    if unmet.is_empty() {
        return Ok(());
    }
    let statuses = survey(&plan.graph, store)?;
    unmet.retain(|unmet| !matches!(statuses[unmet.node.index()], Status::Cached(_)));
    let mut errors = Diagnostics::default();
    for Unmet { node, message, most } in unmet {
        let (stage, origin) = asked(plan, node);
        let hint = format!(
            "ask for less, as with `--set stages.{stage}.resources.{most}`, or run it where there is more"
        );
        let message = format!("`{stage}` {message}");
        errors.push(Diagnostic { message, origin, hint: Some(hint) });
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(CliError::Usage(errors.render(sources, ui::colored())))
}

/// What this machine has for an experiment.
pub fn here(plan: &Plan) -> Capacity {
    machine(plan, &CapacityArgs::default()).capacity()
}

/// Warns of stages that could not run with a capacity, for commands that run nothing.
pub fn warn_of_unmeetable(plan: &Plan, sources: &Sources, capacity: &Capacity) {
    let mut warnings: Vec<String> = Vec::new();
    for Unmet { node, message, .. } in unmeetable(&plan.graph, capacity) {
        let (stage, origin) = asked(plan, node);
        let place = origin.map(|origin| format!(" ({})", sources.describe(origin)));
        let warning = format!("warning: `{stage}` {message}{}", place.unwrap_or_default());
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    say(&warnings.join("\n"));
}

/// The stage of a node, and where it says what it asks for.
fn asked(plan: &Plan, id: NodeId) -> (&str, Option<Origin>) {
    let name = &plan.graph.node(id).stage;
    let stage = plan.experiment.stages.iter().find(|stage| stage.name == *name);
    (name, stage.and_then(|stage| stage.terms.resources.origin))
}
