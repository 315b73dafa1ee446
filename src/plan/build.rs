//! The graph built: every instance of every stage, linked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::instance::{Made, Maker, Unfinished};
use super::link::Pending;
use super::parameters::{self, DataHashes, Resolver};
use super::reports::{self, FigureEntry, TableEntry};
use super::sweep::{self, Sweeps};
use super::swept::Swept;
use crate::engine::graph::{Graph, NodeId, Parameters};
use crate::engine::kind::{Field, Kind, Registry};
use crate::engine::parameter::OBTAIN_SCHEMA;
use crate::spec::experiment::StageEntry;
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
#[derive(Clone)]
pub(super) struct Written {
    pub(super) fields: Arc<Vec<Field>>,
    /// The origin of each field; one list for all instances that share it.
    pub(super) origins: Arc<[Option<Origin>]>,
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
    builder.instances(parameters, errors);
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
    pub fields: Arc<Vec<Field>>,
}

/// The kind of every stage that names one; indexed as the stages are.
pub type Kinds = Vec<Option<Known>>;

fn kinds(experiment: &Experiment, registry: Registry, errors: &mut Diagnostics) -> Kinds {
    let mut described: BTreeMap<&str, Arc<Vec<Field>>> = BTreeMap::new();
    let known = |stage: &StageEntry| {
        let (name, origin) = stage.kind.as_ref()?;
        let Some(kind) = registry.get(name) else {
            errors.push(no_kind(name, *origin, registry));
            return None;
        };
        let fields = described.entry(kind.name).or_insert_with(|| Arc::new(kind.fields()));
        Some(Known { kind, fields: Arc::clone(fields) })
    };
    experiment.stages.iter().map(known).collect()
}

/// Reports defaults of kinds that there are not. Those of the others were laid under the stages of the kind, and are
/// checked with them; where it has none, they are checked here.
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
            for diagnostic in parameters::misfits(kind, &defaults.value) {
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
    /// Every instance of every stage, in order; none where it has mistakes.
    pub(super) nodes: Vec<Option<NodeId>>,
    pub(super) edges: Vec<Pending<'a>>,
}

impl<'a> Builder<'a> {
    /// Makes every instance of every stage, blocks of them at once.
    fn instances(&mut self, mut parameters: Vec<Value>, errors: &mut Diagnostics) {
        let (experiment, kinds, sweeps) = (self.experiment, self.kinds, self.sweeps);
        let count = |stage: usize| kinds[stage].as_ref().map_or(0, |_| sweeps[stage].instances());
        self.first.push(0);
        for stage in 0..parameters.len() {
            self.first.push(self.first[stage] + count(stage) as usize);
        }
        let all = (0..parameters.len()).flat_map(|s| (0..count(s) as usize).map(move |i| (s, i)));
        let mut left = all.peekable();
        let (mut swept, mut let_go) = (Swept::default(), 0);
        while left.peek().is_some() {
            let block: Vec<(usize, usize)> = left.by_ref().take(BLOCK).collect();
            let maker = Maker { experiment, kinds, sweeps, parameters: &parameters };
            for ((stage, instance), made) in block.iter().copied().zip(maker.make_all(&block)) {
                self.add(stage, instance, made, &mut swept);
                if self.nodes.len() == self.first[stage + 1] {
                    std::mem::take(&mut swept).report(&sweeps[stage], errors);
                }
            }
            // Each is let go as soon as the nodes of its stage are there: both at once would be most of the memory.
            let done = left.peek().map_or(parameters.len(), |(stage, _)| *stage);
            for used in &mut parameters[let_go..done] {
                used.kind = ValueKind::Table(Vec::new());
            }
            let_go = done;
        }
    }

    /// Adds an instance that was made.
    fn add(&mut self, stage: usize, instance: usize, made: Made<'a, '_>, swept: &mut Swept) {
        let Made { node, edges, mut errors } = made;
        let to = node.map(|Unfinished { mut node, written, names_data }| {
            if let Some(table) = names_data {
                let mut parameters = node.parameters.to_json();
                let StageEntry { origin, ref about, .. } = self.experiment.stages[stage];
                let mut resolver = Resolver {
                    folder: &|origin| folder(self.experiment, self.sources, origin),
                    hashes: &mut self.hashes,
                    report: &mut |at, message| {
                        let hint = hint_to_data(&written, at, about.as_deref());
                        errors.push(Diagnostic::at(at.unwrap_or(origin), message).hint(hint));
                    },
                };
                resolver.resolve(&mut parameters, Some(&table));
                node.parameters = Parameters::of(&parameters);
            }
            self.written.push(written);
            self.graph.add(node)
        });
        self.nodes.push(to);
        self.edges.extend(edges.into_iter().map(|edge| Pending { to, stage, instance, edge }));
        swept.add(instance, errors);
    }
}

/// So many instances are made before they are added. What one holds until then is much more than a node.
const BLOCK: usize = 1024;

/// Says where data are looked for, where such data are to be had, and what the stage says about its own.
fn hint_to_data(written: &Written, at: Option<Origin>, about: Option<&str>) -> String {
    let field = written.origins.iter().position(|origin| origin.is_some() && *origin == at);
    let obtain = field.and_then(|field| written.fields[field].schema[OBTAIN_SCHEMA].as_str());
    let mut hint = "paths start at the file in which they are written".to_owned();
    if let Some(obtain) = obtain {
        hint.push_str(&format!("; {obtain}"));
    }
    if let Some(about) = about {
        hint.push_str(&format!("; about this stage: {about}"));
    }
    hint
}

/// The folder that paths start from: that of the file in which they are written.
fn folder(experiment: &Experiment, sources: &Sources, origin: Option<Origin>) -> PathBuf {
    let file = origin.and_then(|origin| sources.locate(origin).0.file.as_deref());
    file.and_then(Path::parent).unwrap_or(&experiment.folder).to_path_buf()
}
