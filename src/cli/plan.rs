//! `wavecrest plan`: what would run and why, what is cached, and how long it would take.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::{Value as Json, json};

use super::capacity::{here, warn_of_unmeetable};
use super::select::SelectionArgs;
use super::workspace::{Workspace, planned};
use super::{CacheArgs, CliError, ExperimentArgs, print};
use crate::engine::experience::Experience;
use crate::engine::forecast::{Forecast, forecast};
use crate::engine::graph::NodeId;
use crate::engine::resources::{Capacity, DEVICE, Estimate, GpuRequest, Request};
use crate::engine::status::{Status, survey};
use crate::plan::earlier::Earlier;
use crate::plan::reason::{Cause, View, causes, words as because};
use crate::ui::words;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows the plan of an experiment.
pub fn plan(args: &PlanArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let (plan, sources) = planned(&args.experiment, &workspace)?;
    let capacity = here(&plan);
    warn_of_unmeetable(&plan, &sources, &capacity);
    let store = &workspace.store;
    let statuses = survey(&plan.graph, store)?;
    let view = View { plan: &plan, sources: &sources, store, statuses: &statuses };
    let mut rows = rows(&view, &capacity)?;
    let wanted = args.selection.wanted(&plan, store)?;
    let is_wanted = |id: NodeId| wanted.as_ref().is_none_or(|wanted| wanted[id.index()]);
    for row in rows.iter_mut().filter(|row| row.state != "cached" && !is_wanted(row.id)) {
        (row.state, row.why, row.seconds) = ("skip", "not selected".to_owned(), None);
    }
    let estimates: Vec<Estimate> = rows.iter().map(|row| row.estimate).collect();
    let runs = |id: NodeId| statuses[id.index()].record().is_none() && is_wanted(id);
    let forecast = forecast(&plan.graph, &capacity, &estimates, &runs);
    let text = if args.json {
        as_json(&view, &rows, &forecast, &capacity)
    } else {
        as_text(&view, &rows, &forecast, &capacity)
    };
    print(&text)
}

/// Where one node stands, and what is expected of it.
struct Row<'a> {
    id: NodeId,
    stage: &'a str,
    node: &'a str,
    state: &'static str,
    why: String,
    causes: Vec<Cause>,
    estimate: Estimate,
    /// What it is given, as far as that is known.
    request: Request,
    /// How long it takes, if that is known.
    seconds: Option<f64>,
}

/// Where every node stands; indexed as the graph is.
fn rows<'a>(view: &View<'a>, capacity: &Capacity) -> Result<Vec<Row<'a>>, CliError> {
    let graph = &view.plan.graph;
    let missing = graph.ids().filter(|id| matches!(view.statuses[id.index()], Status::Missing(_)));
    let missing: BTreeSet<&str> = missing.map(|id| graph.node(id).name.as_str()).collect();
    let earlier = Earlier::of(view.plan, view.store, &|name| missing.contains(name))?;
    let is_done = |status: &Status| status.record().is_some();
    let experience = if view.statuses.iter().all(is_done) {
        Experience::default()
    } else {
        Experience::of(view.store)
    };
    let row = |id: NodeId| {
        let node = graph.node(id);
        let mut causes_of = Vec::new();
        let (state, why) = match &view.statuses[id.index()] {
            Status::Cached(_) => ("cached", String::new()),
            Status::Missing(key) if view.store.is_dropped(key) => {
                ("run", "its files were not kept".to_owned())
            }
            Status::Missing(_) => {
                causes_of = causes(view, &earlier, id);
                ("run", because(&causes_of))
            }
            Status::Waiting(on) => {
                let mut names: Vec<&str> =
                    on.iter().map(|d| graph.node(*d).stage.as_str()).collect();
                names.dedup();
                ("waits", format!("on {}", names.join(", ")))
            }
        };
        let estimate = experience.estimate(node);
        let mut request = estimate.complete(&node.resources, capacity);
        request.threads = request
            .threads
            .or_else(|| experience.threads(node).map(|threads| threads.clamp(1, capacity.threads)));
        let seconds = estimate.expected(&node.resources).filter(|_| state != "cached");
        let (stage, node) = (node.stage.as_str(), node.name.as_str());
        Row { id, stage, node, state, why, causes: causes_of, estimate, request, seconds }
    };
    Ok(graph.ids().map(row).collect())
}

/// Reasons for which instances of a stage run are told one by one up to this number; JSON has them all.
const MOST_LINES: usize = 20;

/// One line for each group of instances of a stage that stand alike, and one or two about all of them.
fn as_text(view: &View<'_>, rows: &[Row<'_>], forecast: &Forecast, capacity: &Capacity) -> String {
    let experiment = &view.plan.experiment;
    let mut text = String::new();
    let width = experiment.stages.iter().map(|s| s.name.len()).max().unwrap_or(0);
    let mut stages: BTreeMap<&str, BTreeMap<(&str, &str), Vec<&Row<'_>>>> = BTreeMap::new();
    for row in rows {
        let groups = stages.entry(row.stage).or_default();
        groups.entry((row.state, &row.why)).or_default().push(row);
    }
    for stage in &experiment.stages {
        let mut others: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        let mut lines_of: BTreeMap<&str, usize> = BTreeMap::new();
        for ((state, why), group) in stages.remove(stage.name.as_str()).unwrap_or_default() {
            let lines = lines_of.entry(state).or_default();
            *lines += 1;
            if *lines > MOST_LINES {
                let (reasons, nodes) = others.entry(state).or_default();
                (*reasons, *nodes) = (*reasons + 1, *nodes + group.len());
                continue;
            }
            let line = format!("{state:6}  {:width$}  {:>4}  {why}", stage.name, group.len());
            text += line.trim_end();
            if let Some(cost) = cost(&group) {
                text += &format!("; {cost}");
            }
            text += "\n";
        }
        for (state, (reasons, nodes)) in others {
            let why = format!("for {} like these", words::count(reasons, "other reason"));
            text += &format!("{state:6}  {:width$}  {nodes:>4}  {why}\n", stage.name);
        }
    }
    let count = |state: &str| rows.iter().filter(|row| row.state == state).count();
    let results = view.statuses.iter().filter_map(Status::record);
    let spent: f64 = results.map(|result| result.provenance.seconds).sum();
    text += &format!(
        "{}: {} to run, {} waiting on them, {} cached (worth {})",
        experiment.name,
        count("run"),
        count("waits"),
        count("cached"),
        words::duration(spent)
    );
    text += &match count("skip") {
        0 => "\n".to_owned(),
        skipped => format!(", {skipped} not selected\n"),
    };
    text + &expected(forecast, capacity)
}

/// What each of some instances of a stage is expected to take: they are all expected to take the same.
fn cost(group: &[&Row<'_>]) -> Option<String> {
    let row = group.first()?;
    let each = if group.len() > 1 { " each" } else { "" };
    let mut parts = vec![format!("about {}{each}", words::duration(row.seconds?))];
    parts.extend(row.request.threads.map(|threads| words::count(threads, "thread")));
    parts.extend(row.request.gpus.words());
    Some(parts.join(", "))
}

/// How long it all would take: nothing is said where nothing is to run.
fn expected(forecast: &Forecast, capacity: &Capacity) -> String {
    let Forecast { nodes, unknown, work, path, time } = *forecast;
    if nodes == 0 {
        return String::new();
    }
    let lacking = format!("no estimate for {unknown} of {nodes}");
    if unknown == nodes {
        return lacking + "\n";
    }
    let (about, rest) =
        if unknown > 0 { ("at least", format!("; {lacking}")) } else { ("about", String::new()) };
    let threads = words::count(capacity.threads, "thread");
    let [work, path, time] = [work, path, time].map(words::duration);
    format!("{about} {time} on {threads}: {work} of work, {path} along the longest path{rest}\n")
}

fn as_json(view: &View<'_>, rows: &[Row<'_>], forecast: &Forecast, capacity: &Capacity) -> String {
    let row = |row: &Row<'_>| {
        let gpus = match row.request.gpus {
            GpuRequest::None => 0.0,
            GpuRequest::Share(share) => f64::from(share) / f64::from(DEVICE),
            GpuRequest::Whole(count) => count as f64,
        };
        let waits: Vec<&str> = match &view.statuses[row.id.index()] {
            Status::Waiting(on) => {
                on.iter().map(|id| view.plan.graph.node(*id).name.as_str()).collect()
            }
            Status::Cached(_) | Status::Missing(_) => Vec::new(),
        };
        json!({
            "node": row.node,
            "stage": row.stage,
            "state": row.state,
            "why": row.why,
            "causes": row.causes.iter().map(Cause::to_json).collect::<Vec<Json>>(),
            "waits_on": waits,
            "seconds": row.seconds,
            "threads": row.request.threads,
            "memory": row.request.memory,
            "gpus": gpus,
        })
    };
    let whole = json!({
        "experiment": view.plan.experiment.name,
        "nodes": rows.iter().map(row).collect::<Vec<Json>>(),
        "expected": {
            "nodes": forecast.nodes,
            "without_estimate": forecast.unknown,
            "work_seconds": forecast.work,
            "path_seconds": forecast.path,
            "seconds": forecast.time,
            "threads": capacity.threads,
        },
    });
    serde_json::to_string_pretty(&whole).expect("it is plain data") + "\n"
}
