//! `wavecrest show`: one result, what made it and what it is.

use clap::Args;

use super::resolved::resolved;
use super::workspace::{Workspace, node, planned};
use super::{CacheArgs, CliError, ExperimentArgs, print};
use crate::engine::graph::NodeId;
use crate::engine::status::survey;
use crate::plan::Plan;
use crate::plan::difference::written;
use crate::store::{Record, Store};
use crate::ui::words;

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// A node, such as 'probe[source=waves,replicate=0]', or the beginning of its key
    #[arg(required_unless_present = "resolved", conflicts_with = "resolved")]
    node: Option<String>,
    /// Print the experiment itself, with all its layers and defaults, and where each value came from
    #[arg(long)]
    resolved: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows one result, or the experiment itself.
pub fn show(args: &ShowArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let Some(wanted) = &args.node else { return resolved(&args.experiment, args.json) };
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let (plan, _) = planned(&args.experiment, &workspace)?;
    let statuses = survey(&plan.graph, &workspace.store)?;
    let key = |id: NodeId| statuses[id.index()].key().map(|key| key.to_hex());
    let id = node(&plan, &key, wanted)?;
    let found = statuses[id.index()].record();
    let Some(record) = found.map(|r| workspace.store.record(&r.key)).transpose()?.flatten() else {
        let name = &plan.graph.node(id).name;
        let file = args.experiment.file.display();
        let text =
            format!("`{name}` has no result yet\n  hint: `wavecrest run {file}` computes it");
        return Err(CliError::Failed(text));
    };
    if args.json {
        let text = serde_json::to_string_pretty(&record).expect("a record is plain data");
        return print(&(text + "\n"));
    }
    print(&describe(&plan, id, &record, &workspace.store))
}

fn describe(plan: &Plan, id: NodeId, record: &Record, store: &Store) -> String {
    let from = &record.provenance;
    let mut text = format!(
        "{}\n  kind      {} (version {})\n  key       {}\n",
        plan.graph.node(id).name,
        record.kind,
        record.version,
        record.key.to_hex()
    );
    let memory = from.peak_memory.map_or(String::new(), |m| format!(", {} peak", words::bytes(m)));
    text += &format!(
        "  made      {} on {} in {} on {}{memory}\n",
        from.started.get(..19).unwrap_or(&from.started),
        from.host,
        words::duration(from.seconds),
        words::count(from.threads, "thread"),
    );
    let binary = from.binary.map_or("unknown".to_owned(), |hash| hash.short());
    let commit = words::commit(from.commit.as_deref(), from.dirty);
    text += &format!("  by        wavecrest {} (binary {binary}), commit {commit}\n", from.program);
    let mut machine = vec![from.cpu.clone()];
    machine.extend(from.gpus.iter().cloned());
    machine.extend(from.driver.iter().map(|driver| format!("driver {driver}")));
    text += &format!("  machine   {}\n", machine.join(", "));
    let attempt =
        if from.attempt > 1 { format!(", attempt {}", from.attempt) } else { String::new() };
    text += &format!("  run       {} as {}{attempt}\n", from.run, from.node);
    text += &format!("  equality  {}\n", from.determinism);
    text += "parameters\n";
    for (name, value) in record.parameters.as_object().into_iter().flatten() {
        text += &format!("  {name} = {}\n", written(value));
    }
    if !record.inputs.is_empty() {
        text += "inputs\n";
        for (edge, hash) in &record.inputs {
            text += &format!("  {edge}  {}\n", hash.short());
        }
    }
    text += "outputs\n";
    for (name, artifact) in &record.outputs {
        text += &format!(
            "  {name}  {}  {}  {}\n",
            artifact.kind,
            words::bytes(artifact.bytes()),
            artifact.hash.short()
        );
        for file in &artifact.files {
            text += &format!("    {}  {}\n", file.path, store.object(&file.hash).display());
        }
    }
    if !record.metrics.is_empty() {
        text += "metrics\n";
        for (name, value) in &record.metrics {
            text += &format!("  {name}  {value}\n");
        }
    }
    text
}
