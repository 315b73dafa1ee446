//! The graph built: every instance of every stage, linked.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use super::parameters::{self, DataHashes};
use super::placeholder::{Place, fill};
use super::reports::{self, FigureEntry, TableEntry};
use super::sweep::{self, Sweeps, stage_of};
use crate::engine::graph::{Graph, Link, Node, NodeId, Parameters};
use crate::engine::kind::{AnyStage, Field, Kind, Registry};
use crate::engine::resources::{GpuRequest, Request};
use crate::engine::retry::Policy;
use crate::spec::axes::Axis;
use crate::spec::experiment::StageEntry;
use crate::spec::resources::Resources;
use crate::spec::value::Entry;
use crate::spec::{Diagnostic, Diagnostics, Experiment, Origin, Value, ValueKind, suggest};
use crate::store::Hash;
use crate::store::stamps::Stamps;

/// An experiment, ready to run.
pub struct Plan {
    /// What was written, but for the parameters of stages: those are in the nodes.
    pub experiment: Experiment,
    /// Every node.
    pub graph: Graph,
    /// The user's data that were read, each with its content.
    pub data: Vec<(PathBuf, Hash)>,
    /// The tables to write.
    pub tables: Vec<TableEntry>,
    /// The figures to write.
    pub figures: Vec<FigureEntry>,
    /// Where the parameters of each node were written; indexed as the graph is.
    written: Vec<Written>,
}

impl Plan {
    /// Where a parameter of a node was written; none for one that was left at its default.
    pub fn origin(&self, id: NodeId, parameter: &str) -> Option<Origin> {
        let Written { fields, origins } = &self.written[id.index()];
        origins[fields.iter().position(|field| field.name == parameter)?]
    }
}

/// Where the parameters of a node were written.
struct Written {
    fields: Rc<Vec<Field>>,
    /// The origin of each field; one list for all instances that share it.
    origins: Rc<[Option<Origin>]>,
}

/// More instances than this are refused.
pub const MOST_NODES: u128 = 1_000_000;

/// Builds the plan, or reports all that is wrong.
pub fn build(
    mut experiment: Experiment,
    registry: Registry,
    stamps: &mut Stamps,
    errors: &mut Diagnostics,
) -> Option<Plan> {
    // Each is let go as soon as the nodes of its stage are there: both at once would be most of the memory.
    let parameters: Vec<Value> =
        experiment.stages.iter_mut().map(StageEntry::take_parameters).collect();
    let names = experiment.stages.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let kinds = kinds(&experiment, registry, errors);
    let sweeps = sweep::sweeps(&experiment, &parameters, &names, &kinds, errors);
    if !few_enough(&names, &sweeps, errors) {
        return None;
    }
    let mut builder = Builder {
        experiment: &experiment,
        names: &names,
        kinds: &kinds,
        sweeps: &sweeps,
        hashes: DataHashes::new(stamps),
        graph: Graph::default(),
        written: Vec::new(),
        first: Vec::new(),
        nodes: Vec::new(),
        edges: Vec::new(),
    };
    for (stage, parameters) in parameters.into_iter().enumerate() {
        builder.instances(stage, &parameters, errors);
    }
    builder.first.push(builder.nodes.len());
    builder.link(errors);
    let Builder { mut graph, written, hashes, .. } = builder;
    let data = hashes.found();

    let tables = reports::tables(&experiment, &graph, errors);
    let figures = reports::figures(&experiment, &graph, errors);
    keep_what_reports_read(&mut graph, &tables, &figures);
    errors.is_empty().then_some(Plan { experiment, graph, data, tables, figures, written })
}

/// Has outputs kept that tables or figures read: they are evaluated again whenever they are changed.
fn keep_what_reports_read(graph: &mut Graph, tables: &[TableEntry], figures: &[FigureEntry]) {
    let read = tables.iter().map(|table| &table.from);
    let read = read.chain(figures.iter().flat_map(|figure| &figure.from));
    for from in read.filter(|from| from.output.is_some()) {
        let instances: Vec<NodeId> = graph.instances(&from.stage).collect();
        for id in instances {
            graph.keep(id);
        }
    }
}

/// The place of every stage among all, by its name.
pub type Names<'a> = BTreeMap<&'a str, usize>;

/// A kind that stages name, and its parameters.
pub struct Known {
    /// The kind.
    pub kind: &'static Kind,
    /// Its parameters, described once for all stages.
    pub fields: Rc<Vec<Field>>,
}

/// The kind of every stage that names one; indexed as the stages are.
pub type Kinds = Vec<Option<Known>>;

fn kinds(experiment: &Experiment, registry: Registry, errors: &mut Diagnostics) -> Kinds {
    let mut described: BTreeMap<&str, Rc<Vec<Field>>> = BTreeMap::new();
    let known = |stage: &StageEntry| {
        let (name, origin) = stage.kind.as_ref()?;
        let Some(kind) = registry.get(name) else {
            let names = registry.0.iter().map(|k| k.name);
            let message = format!("no kind is called `{name}`");
            let hint = suggest::hint(name, "kinds", names);
            errors.push(Diagnostic::at(*origin, message).hint(hint));
            return None;
        };
        let fields = described.entry(kind.name).or_insert_with(|| Rc::new(kind.fields()));
        Some(Known { kind, fields: Rc::clone(fields) })
    };
    experiment.stages.iter().map(known).collect()
}

fn few_enough(names: &Names<'_>, sweeps: &Sweeps<'_>, errors: &mut Diagnostics) -> bool {
    for (name, stage) in names {
        let sweep = &sweeps[*stage];
        let count = sweep.instances();
        if count > MOST_NODES {
            let factors: Vec<String> =
                sweep.axes.iter().map(|a| format!("{} {}", a.points.len(), a.name)).collect();
            let message = format!(
                "stage `{name}` would have {count} instances ({}), more than {MOST_NODES}",
                factors.join(" x ")
            );
            errors.push(Diagnostic::at(sweep.axes[0].origin, message));
            return false;
        }
    }
    true
}

/// An edge to be checked, and linked, once every node is there.
struct Pending<'a> {
    /// The node that it leads to; none where that has mistakes of its own.
    to: Option<NodeId>,
    stage: usize,
    /// Which of the stage's instances.
    instance: usize,
    edge: parameters::Edge<'a>,
}

struct Builder<'a> {
    experiment: &'a Experiment,
    names: &'a Names<'a>,
    kinds: &'a Kinds,
    sweeps: &'a Sweeps<'a>,
    hashes: DataHashes<'a>,
    graph: Graph,
    written: Vec<Written>,
    /// For each stage, where its instances begin in `nodes`; then where the last one's end.
    first: Vec<usize>,
    /// Every instance of every stage; none where it has mistakes.
    nodes: Vec<Option<NodeId>>,
    edges: Vec<Pending<'a>>,
}

impl Builder<'_> {
    fn instances(&mut self, stage: usize, parameters: &Value, errors: &mut Diagnostics) {
        self.first.push(self.nodes.len());
        let (Some(known), sweep) = (&self.kinds[stage], &self.sweeps[stage]) else { return };
        let shared = (!sweep.holes).then(|| origins(&known.fields, parameters));
        for instance in 0..sweep.instances() as usize {
            let node = self.instance(stage, instance, parameters, shared.as_ref(), errors);
            self.nodes.push(node);
        }
    }

    /// Makes an instance of a stage; `shared` are the origins of its parameters, where all instances have the same.
    fn instance(
        &mut self,
        stage: usize,
        instance: usize,
        parameters: &Value,
        shared: Option<&Rc<[Option<Origin>]>>,
        errors: &mut Diagnostics,
    ) -> Option<NodeId> {
        let (entry, sweep) = (&self.experiment.stages[stage], &self.sweeps[stage]);
        let Known { kind, fields } = self.kinds[stage].as_ref()?;
        let place = sweep.place(instance);
        let (mut table, left_out) = if sweep.holes {
            filled(parameters, &place, errors)
        } else {
            (Cow::Borrowed(parameters), Vec::new())
        };
        let edges = parameters::edges(fields, &table);
        let parsed = parameters::parse(kind, fields, entry, &mut table, &left_out, errors);
        let to = parsed.map(|parsed| {
            let origins = shared.map_or_else(|| origins(fields, &table), Rc::clone);
            self.written.push(Written { fields: Rc::clone(fields), origins });
            let point = |axis: &&Axis| (axis.name.clone(), place[axis.name.as_str()].label.clone());
            let point = sweep.axes.iter().map(point).collect();
            self.node(entry, kind, parsed.as_ref(), point, &table, errors)
        });
        self.edges.extend(edges.into_iter().map(|edge| Pending { to, stage, instance, edge }));
        to
    }

    fn node(
        &mut self,
        stage: &StageEntry,
        kind: &'static Kind,
        parsed: &dyn AnyStage,
        point: Vec<(String, String)>,
        table: &Value,
        errors: &mut Diagnostics,
    ) -> NodeId {
        let mut resolved = parsed.parameters();
        let (seed, folder) = (self.experiment.seed, &self.experiment.folder);
        parameters::resolve(&mut resolved, seed, folder, &mut self.hashes, &mut |text, message| {
            let at = parameters::origin_of(table, text).unwrap_or(stage.origin);
            errors.push(Diagnostic::at(at, message).hint("paths start at the experiment file"));
        });
        self.graph.add(Node {
            name: name(&stage.name, &point),
            stage: stage.name.clone(),
            point,
            kind,
            parameters: Parameters::of(&resolved),
            outputs: parsed.outputs(),
            resources: request(&stage.terms.resources),
            retries: Policy::of(stage.terms.retries),
            timeout: stage.terms.timeout,
            keep: stage.terms.keep,
        })
    }

    fn link(&mut self, errors: &mut Diagnostics) {
        for pending in std::mem::take(&mut self.edges) {
            match self.source(&pending) {
                Ok(Some((from, output))) => {
                    if let Some(to) = pending.to {
                        self.graph.link(from, to, Link { edge: pending.edge.text, output });
                    }
                }
                // The target has mistakes of its own, reported already.
                Ok(None) => (),
                Err((message, hint)) => {
                    errors.push(Diagnostic { message, origin: Some(pending.edge.origin), hint });
                }
            }
        }
    }

    /// Finds the node and the output that an edge takes.
    fn source(&self, pending: &Pending<'_>) -> Result<Option<(NodeId, String)>, Refusal> {
        let edge = &pending.edge;
        let stage = stage_of(&edge.text).unwrap_or_default();
        let Some(&from) = self.names.get(stage) else {
            let names = self.experiment.stages.iter().map(|s| s.name.as_str());
            let hint = suggest::hint(stage, "stages", names);
            return Err((format!("no stage is called `{stage}`"), Some(hint)));
        };
        let instance = self.sweeps[pending.stage].project(pending.instance, &self.sweeps[from]);
        let instances = &self.nodes[self.first[from]..self.first[from + 1]];
        let node = |instance: usize| *instances.get(instance)?;
        let Some(from) = instance.and_then(node) else { return Ok(None) };
        let outputs = &self.graph.node(from).outputs;
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
        Ok(Some((from, output)))
    }
}

/// Where each field of a kind was written.
fn origins(fields: &[Field], table: &Value) -> Rc<[Option<Origin>]> {
    fields.iter().map(|field| table.get(&field.name).map(|value| value.origin)).collect()
}

/// Fills the placeholders in a stage's parameters; those where that fails are left out, and named.
fn filled<'a>(
    parameters: &'a Value,
    place: &Place<'_>,
    errors: &mut Diagnostics,
) -> (Cow<'a, Value>, Vec<&'a str>) {
    let (mut entries, mut left_out) = (Vec::new(), Vec::new());
    for entry in parameters.entries() {
        match fill(&entry.value, place) {
            Ok(value) => {
                let (key, key_origin) = (entry.key.clone(), entry.key_origin);
                entries.push(Entry { key, key_origin, value });
            }
            Err(why) => {
                left_out.push(entry.key.as_str());
                if let Some(message) = why {
                    errors.push(Diagnostic::at(entry.value.origin, message));
                }
            }
        }
    }
    let kind = ValueKind::Table(entries);
    (Cow::Owned(Value { kind, origin: parameters.origin }), left_out)
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
