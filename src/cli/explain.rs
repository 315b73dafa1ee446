//! `wavecrest explain`: why a node runs, down to what it all comes from.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value as Json, json};

use super::workspace::{Workspace, node, planned};
use super::{CacheArgs, CliError, ExperimentArgs, print};
use crate::engine::graph::NodeId;
use crate::engine::status::{Status, survey};
use crate::plan::Plan;
use crate::plan::earlier::Earlier;
use crate::plan::explain::{State, Told, explain as tell};
use crate::plan::reason::{Cause, View, words as because};
use crate::store::runs::Run;
use crate::store::{Store, Summary};
use crate::ui::words;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// A node, such as 'probe[source=waves,replicate=0]', or the beginning of its key
    node: String,
    /// For a cached node, say which result it takes: made when, by which run, in how long
    #[arg(long)]
    why_hit: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Explains why a node runs, or that it does not.
pub fn explain(args: &ExplainArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let (plan, sources) = planned(&args.experiment, &workspace)?;
    let store = &workspace.store;
    let statuses = survey(&plan.graph, store)?;
    let key = |id: NodeId| statuses[id.index()].key().map(|key| key.to_hex());
    let id = node(&plan, &key, &args.node)?;
    let earlier = Earlier::of(&plan, store, &|_| true)?;
    let view = View { plan: &plan, sources: &sources, store, statuses: &statuses };
    let told = tell(&view, &earlier, id);
    let hit = match &statuses[id.index()] {
        Status::Cached(result) if args.why_hit => Some(Hit::of(result, store)?),
        _ => None,
    };
    if args.json {
        return print(&as_json(&plan, id, &told, hit.as_ref()));
    }
    let mut text: String = told.iter().map(|told| lines(&plan, told)).collect();
    if let Some(hit) = hit {
        text += &hit.lines(&plan, id);
    }
    print(&text)
}

/// Deeper lines are no further to the right than this: nobody reads them there.
const DEEPEST: usize = 20;

/// So many names are written out.
const MOST_NAMES: usize = 3;

/// What is told of one node, or of several.
fn lines(plan: &Plan, told: &Told) -> String {
    let space = "  ".repeat(told.depth.min(DEEPEST));
    let mut text = format!("{space}{}\n", line(plan, told));
    if let Some(nearest) = &told.nearest {
        let (node, run, why) = (&nearest.node, &nearest.run, because(&nearest.causes));
        text += &format!("{space}  nearest: `{node}` of run {run}, from which it differs: {why}\n");
    }
    text
}

fn line(plan: &Plan, told: &Told) -> String {
    let first = format!("`{}`", plan.graph.node(told.nodes[0]).name);
    let one = told.nodes.len() == 1;
    let who = if one {
        first
    } else {
        let stage = &plan.graph.node(told.nodes[0]).stage;
        format!("{first} and {} more of `{stage}`", told.nodes.len() - 1)
    };
    let choose = |single: &'static str, several: &'static str| if one { single } else { several };
    let why = because(&told.causes);
    let on = names(plan, &told.waits);
    let never = told.causes == [Cause::Never];
    let certain = told.causes.iter().any(Cause::is_certain);
    let was = choose("was", "were");
    match told.state {
        State::Cached => format!("{who} {} cached", choose("is", "are")),
        State::Changed if never => format!("{who} {was} not part of that run"),
        State::Changed => format!("{who} changed because {why}"),
        State::Runs if never => format!("{who} {was} never computed"),
        State::Runs => format!("{who} {} because {why}", choose("reruns", "rerun")),
        State::Waits if never => {
            format!("{who} {was} never computed, and {} on {on}", choose("waits", "wait"))
        }
        State::Waits if certain => {
            let (reruns, wait) = (choose("reruns", "rerun"), choose("it waits", "they wait"));
            format!("{who} {reruns} because {why}; {wait} on {on}")
        }
        State::Waits => {
            let waits = choose("it waits", "they wait");
            let also = if why.is_empty() { String::new() } else { format!("; {why}") };
            format!("{who} may rerun: {waits} on {on}{also}")
        }
    }
}

/// Some nodes by their names; many by their stages.
fn names(plan: &Plan, nodes: &[NodeId]) -> String {
    if nodes.len() <= MOST_NAMES {
        let names: Vec<String> =
            nodes.iter().map(|id| format!("`{}`", plan.graph.node(*id).name)).collect();
        return names.join(", ");
    }
    let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
    for id in nodes {
        *stages.entry(&plan.graph.node(*id).stage).or_default() += 1;
    }
    let part =
        |(stage, count): (&str, usize)| format!("{} of `{stage}`", words::count(count, "node"));
    stages.into_iter().map(part).collect::<Vec<_>>().join(", ")
}

/// Where a result comes from.
struct Hit<'a> {
    result: &'a Summary,
    /// The run that computed it; none where it is not recorded here.
    run: Option<Run>,
}

impl<'a> Hit<'a> {
    fn of(result: &'a Summary, store: &Store) -> Result<Self, CliError> {
        let run = store.runs()?.into_iter().find(|run| run.id == result.provenance.run);
        Ok(Self { result, run })
    }

    /// The experiment that it was computed for, if it is known to be another.
    fn other_experiment(&self, plan: &Plan) -> Option<&str> {
        let experiment = self.run.as_ref()?.experiment.as_str();
        (experiment != plan.experiment.name).then_some(experiment)
    }

    fn lines(&self, plan: &Plan, id: NodeId) -> String {
        let from = &self.result.provenance;
        let name = &plan.graph.node(id).name;
        let experiment = match (&self.run, self.other_experiment(plan)) {
            (None, _) => "which is not recorded here".to_owned(),
            (Some(_), Some(other)) => format!("of another experiment: {other}"),
            (Some(run), None) => format!("of {}", run.experiment),
        };
        let node = if from.node == *name { "the same name" } else { "another name" };
        let dropped = if self.result.dropped { "  its files were not kept\n" } else { "" };
        format!(
            "  key     {}\n  made    {} in {} on {}\n  run     {}, {experiment}\n  node    {} ({node})\n  commit  {}\n{dropped}",
            self.result.key.to_hex(),
            from.started.get(..19).unwrap_or(&from.started),
            words::duration(from.seconds),
            from.host,
            from.run,
            from.node,
            words::commit(from.commit.as_deref(), from.dirty),
        )
    }

    fn to_json(&self, plan: &Plan, id: NodeId) -> Json {
        let from = &self.result.provenance;
        json!({
            "key": self.result.key,
            "started": from.started,
            "seconds": from.seconds,
            "host": from.host,
            "run": from.run,
            "experiment": self.run.as_ref().map(|run| &run.experiment),
            "other_experiment": self.other_experiment(plan).is_some(),
            "node": from.node,
            "other_node": from.node != plan.graph.node(id).name,
            "commit": from.commit,
            "dirty": from.dirty,
            "dropped": self.result.dropped,
        })
    }
}

fn as_json(plan: &Plan, id: NodeId, told: &[Told], hit: Option<&Hit<'_>>) -> String {
    let names = |nodes: &[NodeId]| -> Vec<String> {
        nodes.iter().map(|id| plan.graph.node(*id).name.clone()).collect()
    };
    let causes = |causes: &[Cause]| -> Vec<Json> { causes.iter().map(Cause::to_json).collect() };
    let entry = |told: &Told| {
        let nearest = told.nearest.as_ref().map(|nearest| {
            json!({ "node": nearest.node, "run": nearest.run, "causes": causes(&nearest.causes) })
        });
        json!({
            "depth": told.depth,
            "stage": plan.graph.node(told.nodes[0]).stage,
            "nodes": names(&told.nodes),
            "state": told.state.as_str(),
            "causes": causes(&told.causes),
            "waits_on": names(&told.waits),
            "nearest": nearest,
        })
    };
    let whole = json!({
        "node": plan.graph.node(id).name,
        "state": told[0].state.as_str(),
        "told": told.iter().map(entry).collect::<Vec<_>>(),
        "hit": hit.map(|hit| hit.to_json(plan, id)),
    });
    serde_json::to_string_pretty(&whole).expect("it is plain data") + "\n"
}
