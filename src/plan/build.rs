//! The graph built: every instance of every stage, linked.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::parameters::{self, DataHashes};
use super::placeholder::{Place, fill};

use super::reports::{self, FigureEntry, TableEntry};
use super::sweep::{self, Sweeps, stage_of};
use crate::engine::graph::{Graph, Link, Node, NodeId};
use crate::engine::kind::{AnyStage, Field, Kind, Registry};
use crate::engine::resources::{GpuRequest, Request};
use crate::engine::retry::Policy;
use crate::spec::experiment::StageEntry;
use crate::spec::resources::Resources;
use crate::spec::value::Entry;
use crate::spec::{Diagnostic, Diagnostics, Experiment, Origin, suggest};

/// An experiment, ready to run.
pub struct Plan {
    /// What was written.
    pub experiment: Experiment,
    /// Every node.
    pub graph: Graph,
    /// Where each parameter of a node was written; indexed as the graph is.
    pub origins: Vec<BTreeMap<String, Origin>>,
    /// The tables to write.
    pub tables: Vec<TableEntry>,
    /// The figures to write.
    pub figures: Vec<FigureEntry>,
}

/// More instances than this are refused.
pub const MOST_NODES: u128 = 1_000_000;

/// Builds the plan, or reports all that is wrong.
pub fn build(experiment: Experiment, registry: Registry, errors: &mut Diagnostics) -> Option<Plan> {
    let kinds = kinds(&experiment, registry, errors);
    let sweeps = sweep::sweeps(&experiment, &kinds, errors);
    if !few_enough(&sweeps, errors) {
        return None;
    }
    let mut builder = Builder {
        experiment: &experiment,
        kinds: &kinds,
        sweeps: &sweeps,
        hashes: DataHashes::default(),
        graph: Graph::default(),
        origins: Vec::new(),
        nodes: BTreeMap::new(),
        edges: Vec::new(),
    };
    for stage in &experiment.stages {
        builder.instances(stage, errors);
    }
    builder.link(errors);
    let Builder { graph, origins, .. } = builder;

    let tables = reports::tables(&experiment, &graph, errors);
    let figures = reports::figures(&experiment, &graph, errors);
    errors.is_empty().then_some(Plan { experiment, graph, origins, tables, figures })
}

/// A kind that stages name, and its parameters.
pub struct Known {
    /// The kind.
    pub kind: &'static Kind,
    /// Its parameters, described once for all stages.
    pub fields: Rc<Vec<Field>>,
}

/// The kind of every stage that names one, by stage.
pub type Kinds<'a> = BTreeMap<&'a str, Known>;

fn kinds<'a>(
    experiment: &'a Experiment,
    registry: Registry,
    errors: &mut Diagnostics,
) -> Kinds<'a> {
    let mut kinds = BTreeMap::new();
    let mut described: BTreeMap<&str, Rc<Vec<Field>>> = BTreeMap::new();
    for stage in &experiment.stages {
        let Some((name, origin)) = &stage.kind else { continue };
        match registry.get(name) {
            Some(kind) => {
                let fields = described.entry(kind.name).or_insert_with(|| Rc::new(kind.fields()));
                kinds.insert(stage.name.as_str(), Known { kind, fields: Rc::clone(fields) });
            }
            None => {
                let names = registry.0.iter().map(|k| k.name);
                let message = format!("no kind is called `{name}`");
                let hint = suggest::hint(name, "kinds", names);
                errors.push(Diagnostic::at(*origin, message).hint(hint));
            }
        }
    }
    kinds
}

fn few_enough(sweeps: &Sweeps<'_>, errors: &mut Diagnostics) -> bool {
    for (stage, axes) in sweeps {
        let count = sweep::combinations(axes);
        if count > MOST_NODES {
            let factors: Vec<String> =
                axes.iter().map(|a| format!("{} {}", a.points.len(), a.name)).collect();
            let message = format!(
                "stage `{stage}` would have {count} instances ({}), more than {MOST_NODES}",
                factors.join(" x ")
            );
            errors.push(Diagnostic::at(axes[0].origin, message));
            return false;
        }
    }
    true
}

/// An edge to be checked, and linked, once every node is there.
struct Pending {
    /// The node that it leads to; none where that has mistakes of its own.
    to: Option<NodeId>,
    /// The place of that node on its axes.
    point: Vec<(String, String)>,
    edge: parameters::Edge,
    origin: Origin,
}

struct Builder<'a> {
    experiment: &'a Experiment,
    kinds: &'a Kinds<'a>,
    sweeps: &'a Sweeps<'a>,
    hashes: DataHashes,
    graph: Graph,
    origins: Vec<BTreeMap<String, Origin>>,
    /// Node by stage and the labels of its point.
    nodes: BTreeMap<(String, Vec<String>), NodeId>,
    edges: Vec<Pending>,
}

impl Builder<'_> {
    fn instances(&mut self, stage: &StageEntry, errors: &mut Diagnostics) {
        let Some(Known { kind, fields }) = self.kinds.get(stage.name.as_str()) else { return };
        for place in sweep::places(&self.sweeps[stage.name.as_str()]) {
            self.instance(stage, kind, fields, &place, errors);
        }
    }

    fn instance(
        &mut self,
        stage: &StageEntry,
        kind: &'static Kind,
        fields: &[Field],
        place: &Place<'_>,
        errors: &mut Diagnostics,
    ) {
        let (mut filled, mut left_out) = (Vec::new(), Vec::new());
        for entry in &stage.parameters {
            match fill(&entry.value, place) {
                Ok(value) => filled.push(Entry { value, ..entry.clone() }),
                Err(why) => {
                    left_out.push(entry.key.as_str());
                    if let Some(message) = why {
                        errors.push(Diagnostic::at(entry.value.origin, message));
                    }
                }
            }
        }
        let axes = &self.sweeps[stage.name.as_str()];
        let point: Vec<(String, String)> =
            axes.iter().map(|a| (a.name.clone(), place[a.name.as_str()].label.clone())).collect();
        let (origins, texts) = parameters::origins(&filled);
        let edges = parameters::edges(fields, &filled);
        let parsed = parameters::parse(kind, fields, stage, filled, &left_out, errors);
        let to = parsed.map(|parsed| {
            self.origins.push(origins);
            self.node(stage, kind, parsed.as_ref(), point.clone(), &texts, errors)
        });
        self.edges.extend(edges.into_iter().map(|(edge, origin)| Pending {
            to,
            point: point.clone(),
            edge,
            origin,
        }));
    }

    fn node(
        &mut self,
        stage: &StageEntry,
        kind: &'static Kind,
        parsed: &dyn AnyStage,
        point: Vec<(String, String)>,
        texts: &BTreeMap<String, Origin>,
        errors: &mut Diagnostics,
    ) -> NodeId {
        let at = |text: &str| texts.get(text).copied().unwrap_or(stage.origin);
        let mut resolved = parsed.parameters();
        let (seed, folder) = (self.experiment.seed, &self.experiment.folder);
        parameters::resolve(&mut resolved, seed, folder, &mut self.hashes, &mut |text, message| {
            errors
                .push(Diagnostic::at(at(text), message).hint("paths start at the experiment file"));
        });
        let labels = point.iter().map(|(_, label)| label.clone()).collect();
        let id = self.graph.add(Node {
            name: name(&stage.name, &point),
            stage: stage.name.clone(),
            point,
            kind,
            parameters: resolved,
            outputs: parsed.outputs(),
            resources: request(&stage.terms.resources),
            retries: Policy::of(stage.terms.retries),
            timeout: stage.terms.timeout,
            keep: stage.terms.keep,
        });
        self.nodes.insert((stage.name.clone(), labels), id);
        id
    }

    fn link(&mut self, errors: &mut Diagnostics) {
        for Pending { to, point, edge, origin } in std::mem::take(&mut self.edges) {
            match self.source(&point, &edge) {
                Ok(Some((from, output))) => {
                    if let Some(to) = to {
                        self.graph.link(from, to, Link { edge: edge.text, output });
                    }
                }
                // The target has mistakes of its own, reported already.
                Ok(None) => (),
                Err((message, hint)) => {
                    errors.push(Diagnostic { message, origin: Some(origin), hint });
                }
            }
        }
    }

    /// Finds the node and the output that an edge takes.
    fn source(
        &self,
        point: &[(String, String)],
        edge: &parameters::Edge,
    ) -> Result<Option<(NodeId, String)>, Refusal> {
        let stage = stage_of(&edge.text).unwrap_or_default();
        let Some(axes) = self.sweeps.get(stage) else {
            let names = self.experiment.stages.iter().map(|s| s.name.as_str());
            let hint = suggest::hint(stage, "stages", names);
            return Err((format!("no stage is called `{stage}`"), Some(hint)));
        };
        let point: BTreeMap<&str, &str> =
            point.iter().map(|(axis, label)| (axis.as_str(), label.as_str())).collect();
        let label = |axis: &&crate::spec::axes::Axis| {
            point.get(axis.name.as_str()).map(|label| (*label).to_owned())
        };
        let Some(labels) = axes.iter().map(label).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let Some(from) = self.nodes.get(&(stage.to_owned(), labels)) else { return Ok(None) };
        let outputs = &self.graph.node(*from).outputs;
        let named = edge.text.split_once('.').map(|(_, output)| output.to_owned());
        let output = named.or_else(|| outputs.main.clone());
        let listed = || outputs.types.keys().map(String::as_str);
        let Some(output) = output else {
            let choices: Vec<String> = listed().map(|o| format!("`@{stage}.{o}`")).collect();
            let message = format!("`{stage}` yields several outputs and none is the main one");
            return Err((message, Some(format!("write {}", choices.join(" or ")))));
        };
        let Some(kind) = outputs.types.get(&output) else {
            let hint = suggest::hint(&output, "outputs", listed());
            return Err((format!("`{stage}` has no output `{output}`"), Some(hint)));
        };
        if !edge.accepts.iter().any(|accepted| accepted == "*" || accepted == kind) {
            let wanted = edge.accepts.join(" or ");
            let message = format!("`{}` is of type {kind}; this input takes {wanted}", edge.text);
            return Err((message, None));
        }
        Ok(Some((*from, output)))
    }
}

/// What is wrong with an edge, and what to do about it.
type Refusal = (String, Option<String>);

/// What is asked for, as the engine has it.
fn request(written: &Resources) -> Request {
    Request {
        threads: written.cpu,
        memory: written.memory,
        gpus: GpuRequest::of_thousandths(written.gpu),
        time: written.time,
        alone: false,
    }
}

/// The name of an instance: `probe[source=waves,replicate=2]`.
fn name(stage: &str, point: &[(String, String)]) -> String {
    if point.is_empty() {
        return stage.to_owned();
    }
    let parts: Vec<String> = point.iter().map(|(axis, label)| format!("{axis}={label}")).collect();
    format!("{stage}[{}]", parts.join(","))
}
