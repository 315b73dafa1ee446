//! The graph built: every instance of every stage, linked.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::link::Pending;
use super::parameters::{self, DataHashes, Resolver};
use super::placeholder::{Place, fill};
use super::reports::{self, FigureEntry, TableEntry};
use super::sweep::{self, Sweeps};
use super::swept::Swept;
use crate::engine::graph::{Graph, Node, NodeId, Parameters};
use crate::engine::kind::{AnyStage, Field, Kind, Registry};
use crate::engine::resources::{GpuRequest, Request};
use crate::engine::retry::Policy;
use crate::spec::axes::Axis;
use crate::spec::experiment::{RESERVED, StageEntry};
use crate::spec::resources::Resources;
use crate::spec::value::Entry;
use crate::spec::{
    Diagnostic, Diagnostics, Experiment, Origin, Sources, Value, ValueKind, suggest,
};
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
    sources: &Sources,
    registry: Registry,
    stamps: &mut Stamps,
    errors: &mut Diagnostics,
) -> Option<Plan> {
    // Each is let go as soon as the nodes of its stage are there: both at once would be most of the memory.
    let parameters: Vec<Value> =
        experiment.stages.iter_mut().map(StageEntry::take_parameters).collect();
    let names = experiment.stages.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let kinds = kinds(&experiment, registry, errors);
    check_defaults(&experiment, registry, errors);
    let sweeps = sweep::sweeps(&experiment, &parameters, &names, &kinds, errors);
    if !few_enough(&names, &sweeps, errors) {
        return None;
    }
    let mut builder = Builder {
        experiment: &experiment,
        sources,
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
            errors.push(no_kind(name, *origin, registry));
            return None;
        };
        let fields = described.entry(kind.name).or_insert_with(|| Rc::new(kind.fields()));
        Some(Known { kind, fields: Rc::clone(fields) })
    };
    experiment.stages.iter().map(known).collect()
}

/// Reports defaults of kinds that there are not. Those of the others were laid under the stages of the kind, and are
/// checked with them; where it has none, their names are checked here.
fn check_defaults(experiment: &Experiment, registry: Registry, errors: &mut Diagnostics) {
    for defaults in &experiment.defaults {
        let Some(kind) = registry.get(&defaults.key) else {
            let mistake = no_kind(&defaults.key, defaults.key_origin, registry);
            // `[defaults.a.b]` is the table `b` in the table `a`.
            let inner = defaults.value.entries().first();
            let inner = inner.map(|inner| format!("{}.{}", defaults.key, inner.key));
            errors.push(match inner.filter(|name| registry.get(name).is_some()) {
                Some(name) => {
                    mistake.hint(format!("a kind stands in quotes: `[defaults.\"{name}\"]`"))
                }
                None => mistake,
            });
            continue;
        };
        let is_used =
            |stage: &StageEntry| stage.kind.as_ref().is_some_and(|(k, _)| *k == kind.name);
        if !experiment.stages.iter().any(is_used) {
            let entries = defaults.value.entries().iter();
            let parameters = entries.filter(|entry| !RESERVED.contains(&entry.key.as_str()));
            for diagnostic in parameters::unknown_keys(kind, &kind.fields(), parameters) {
                errors.push(diagnostic);
            }
        }
    }
}

fn no_kind(name: &str, origin: Origin, registry: Registry) -> Diagnostic {
    if name.contains("${") {
        let hint = "write a stage of each kind, and sweep what reads them: `\"@${axis}\"`";
        let message = "`kind` takes no `${…}`: it is the same for all instances";
        return Diagnostic::at(origin, message).hint(hint);
    }
    let hint = suggest::hint(name, "kinds", registry.0.iter().map(|kind| kind.name));
    Diagnostic::at(origin, format!("no kind is called `{name}`")).hint(hint)
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
            let hint = "shorten an axis, or let fewer stages name it";
            errors.push(Diagnostic::at(sweep.axes[0].origin, message).hint(hint));
            return false;
        }
    }
    true
}

pub(super) struct Builder<'a> {
    pub(super) experiment: &'a Experiment,
    sources: &'a Sources,
    pub(super) names: &'a Names<'a>,
    kinds: &'a Kinds,
    pub(super) sweeps: &'a Sweeps<'a>,
    hashes: DataHashes<'a>,
    pub(super) graph: Graph,
    written: Vec<Written>,
    /// For each stage, where its instances begin in `nodes`; then where the last one's end.
    pub(super) first: Vec<usize>,
    /// Every instance of every stage; none where it has mistakes.
    pub(super) nodes: Vec<Option<NodeId>>,
    pub(super) edges: Vec<Pending<'a>>,
}

impl Builder<'_> {
    fn instances(&mut self, stage: usize, parameters: &Value, errors: &mut Diagnostics) {
        self.first.push(self.nodes.len());
        let (Some(known), sweep) = (&self.kinds[stage], &self.sweeps[stage]) else { return };
        let shared = (!sweep.holes).then(|| origins(&known.fields, parameters));
        let mut swept = Swept::default();
        for instance in 0..sweep.instances() as usize {
            let mut own = Diagnostics::default();
            let node = self.instance(stage, instance, parameters, shared.as_ref(), &mut own);
            self.nodes.push(node);
            swept.add(instance, own);
        }
        swept.report(sweep, errors);
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
        let mut resolver = Resolver {
            seed: self.experiment.seed,
            folder: &|origin| folder(self.experiment, self.sources, origin),
            hashes: &mut self.hashes,
            report: &mut |origin, message| {
                let at = Diagnostic::at(origin.unwrap_or(stage.origin), message);
                errors.push(at.hint("paths start at the file in which they are written"));
            },
        };
        resolver.resolve(&mut resolved, Some(table));
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
}

/// The folder that paths start from: that of the file in which they are written.
fn folder(experiment: &Experiment, sources: &Sources, origin: Option<Origin>) -> PathBuf {
    let file = origin.and_then(|origin| sources.locate(origin).0.file.as_deref());
    file.and_then(Path::parent).unwrap_or(&experiment.folder).to_path_buf()
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
