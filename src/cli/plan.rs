//! `wavecrest plan`: what would run and why, what is cached.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value as Json, json};

use super::capacity::warn_of_unmeetable;
use super::workspace::{Workspace, planned};
use super::{CacheArgs, CliError, ExperimentArgs, print};
use crate::engine::graph::NodeId;
use crate::engine::status::{Status, contents, survey};
use crate::plan::Plan;
use crate::plan::reason::{Earlier, reason};
use crate::spec::Sources;
use crate::ui::words;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows the plan of an experiment.
pub fn plan(args: &PlanArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let (plan, sources) = planned(&args.experiment, &workspace)?;
    warn_of_unmeetable(&plan, &sources);
    let statuses = survey(&plan.graph, &workspace.store)?;
    let lines = lines(&plan, &sources, &workspace, &statuses)?;
    let text = if args.json { as_json(&lines) } else { as_text(&plan, &lines, &statuses) };
    print(&text)
}

/// Where one node stands, in words.
struct Line {
    stage: String,
    node: String,
    state: &'static str,
    why: String,
}

fn lines(
    plan: &Plan,
    sources: &Sources,
    workspace: &Workspace,
    statuses: &[Status],
) -> Result<Vec<Line>, CliError> {
    let earlier_runs = Earlier::of(plan, &workspace.store)?;
    let line = |id: NodeId| {
        let node = plan.graph.node(id);
        let (state, why) = match &statuses[id.index()] {
            Status::Cached(_) => ("cached", String::new()),
            Status::Missing(key) if workspace.store.is_dropped(key) => {
                ("run", "its files were not kept".to_owned())
            }
            Status::Missing(_) => {
                let earlier = earlier_runs.find(&workspace.store, &node.name);
                let record = |d: NodeId| statuses[d.index()].record();
                let inputs = contents(&plan.graph, id, &record);
                ("run", reason(plan, sources, id, &inputs, earlier.as_ref()))
            }
            Status::Waiting(on) => {
                let mut names: Vec<&str> =
                    on.iter().map(|d| plan.graph.node(*d).stage.as_str()).collect();
                names.dedup();
                ("waits", format!("on {}", names.join(", ")))
            }
        };
        Line { stage: node.stage.clone(), node: node.name.clone(), state, why }
    };
    Ok(plan.graph.ids().map(line).collect())
}

/// One line for each group of instances of a stage that stand alike.
fn as_text(plan: &Plan, lines: &[Line], statuses: &[Status]) -> String {
    let mut text = String::new();
    let width = plan.experiment.stages.iter().map(|s| s.name.len()).max().unwrap_or(0);
    let mut stages: BTreeMap<&str, BTreeMap<(&str, &str), usize>> = BTreeMap::new();
    for line in lines {
        let groups = stages.entry(&line.stage).or_default();
        *groups.entry((line.state, &line.why)).or_default() += 1;
    }
    for stage in &plan.experiment.stages {
        for ((state, why), count) in stages.remove(stage.name.as_str()).unwrap_or_default() {
            let line = format!("{state:6}  {:width$}  {count:>4}  {why}", stage.name);
            text += line.trim_end();
            text += "\n";
        }
    }
    let count = |state: &str| lines.iter().filter(|l| l.state == state).count();
    let spent: f64 = statuses.iter().filter_map(Status::record).map(|r| r.provenance.seconds).sum();
    text + &format!(
        "{}: {} to run, {} waiting on them, {} cached (worth {})\n",
        plan.experiment.name,
        count("run"),
        count("waits"),
        count("cached"),
        words::duration(spent)
    )
}

fn as_json(lines: &[Line]) -> String {
    let rows: Vec<Json> = lines
        .iter()
        .map(|l| json!({ "node": l.node, "stage": l.stage, "state": l.state, "why": l.why }))
        .collect();
    serde_json::to_string_pretty(&rows).expect("rows are plain data") + "\n"
}
