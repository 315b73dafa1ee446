//! The instances of stages: their placeholders filled, their parameters read. Each is made by itself, so that many are
//! made at once.

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;

use super::build::{Kinds, Known, Written};
use super::parameters::{self, Edge};
use super::placeholder::{Place, fill};
use super::sweep::{Sweep, Sweeps};
use crate::engine::graph::{Node, Parameters};
use crate::engine::kind::{AnyStage, Field, Kind};
use crate::engine::resources::{GpuRequest, Request};
use crate::engine::retry::Policy;
use crate::spec::axes::Axis;
use crate::spec::experiment::StageEntry;
use crate::spec::resources::Resources;
use crate::spec::value::Entry;
use crate::spec::{Diagnostic, Diagnostics, Experiment, Origin, Value, ValueKind};

/// What all instances are made from.
pub(super) struct Maker<'a, 'p> {
    pub(super) experiment: &'a Experiment,
    pub(super) kinds: &'a Kinds,
    pub(super) sweeps: &'a Sweeps<'a>,
    /// The parameters of every stage as written.
    pub(super) parameters: &'p [Value],
}

/// An instance of a stage.
#[derive(Clone)]
pub(super) struct Made<'a, 'p> {
    /// None where it has mistakes.
    pub(super) node: Option<Unfinished<'p>>,
    /// What it reads.
    pub(super) edges: Vec<Edge<'a>>,
    /// What is wrong with it.
    pub(super) errors: Diagnostics,
}

/// A node that is not in the graph yet.
#[derive(Clone)]
pub(super) struct Unfinished<'p> {
    pub(super) node: Node,
    pub(super) written: Written,
    /// Where its parameters name data, which are still to be found: what was written of them.
    pub(super) names_data: Option<Cow<'p, Value>>,
}

/// Fewer than this are sooner made than threads are started.
const FEW: usize = 256;
/// So many a thread makes at a time, at least.
const SHARE: usize = 32;

impl<'a, 'p> Maker<'a, 'p> {
    /// Makes instances, each named by its stage and its place among that stage's.
    pub(super) fn make_all(&self, all: &[(usize, usize)]) -> Vec<Made<'a, 'p>> {
        let [(first, _), ..] = all else { return Vec::new() };
        let stages = all.iter().fold(*first..*first, |stages, (stage, _)| stages.start..stage + 1);
        let alike: Vec<Option<Made<'_, '_>>> = stages.map(|stage| self.alike(stage)).collect();
        let make = |&(stage, instance): &(usize, usize)| {
            self.make(stage, instance, alike[stage - first].as_ref())
        };
        if all.len() < FEW {
            return all.iter().filter_map(make).collect();
        }
        let made: Vec<_> = all.par_iter().with_min_len(SHARE).map(make).collect();
        made.into_iter().flatten().collect()
    }

    /// What all instances of a stage are but for their names, where there are several, all with the same parameters.
    fn alike(&self, stage: usize) -> Option<Made<'a, 'p>> {
        let sweep = &self.sweeps[stage];
        let alike = !sweep.holes && sweep.instances() > 1;
        alike.then(|| self.read(stage, &Place::new())).flatten()
    }

    fn make(
        &self,
        stage: usize,
        instance: usize,
        alike: Option<&Made<'a, 'p>>,
    ) -> Option<Made<'a, 'p>> {
        let sweep = &self.sweeps[stage];
        let place = sweep.place(instance);
        let mut made = alike.cloned().or_else(|| self.read(stage, &place))?;
        if let Some(Unfinished { node, .. }) = &mut made.node {
            node.point = point(sweep, &place);
            node.name = name(&node.stage, &node.point);
        }
        Some(made)
    }

    /// Reads the parameters of an instance, which is yet to be named.
    fn read(&self, stage: usize, place: &Place<'_>) -> Option<Made<'a, 'p>> {
        let Known { kind, fields } = self.kinds[stage].as_ref()?;
        let (entry, parameters) = (&self.experiment.stages[stage], &self.parameters[stage]);
        let mut errors = Diagnostics::default();
        let (mut table, left_out) = if self.sweeps[stage].holes {
            filled(parameters, place, &mut errors)
        } else {
            (Cow::Borrowed(parameters), Vec::new())
        };
        let edges = parameters::edges(fields, &table);
        let parsed = parameters::parse(kind, fields, entry, &mut table, &left_out, &mut errors);
        let node = parsed.map(|parsed| {
            let origins = origins(fields, &table);
            let found = parameters::resolve_seeds(parsed.parameters(), self.experiment.seed);
            let names_data = parameters::name_data(&found);
            Unfinished {
                node: node(entry, kind, parsed.as_ref(), Parameters::of_text(found)),
                written: Written { fields: Arc::clone(fields), origins },
                names_data: names_data.then_some(table),
            }
        });
        Some(Made { node, edges, errors })
    }
}

/// The place of an instance, in words.
fn point(sweep: &Sweep<'_>, place: &Place<'_>) -> Vec<(String, String)> {
    let of = |axis: &&Axis| (axis.name.clone(), place[axis.name.as_str()].label.clone());
    sweep.axes.iter().map(of).collect()
}

/// A node without a name and a place.
fn node(
    stage: &StageEntry,
    kind: &'static Kind,
    parsed: &dyn AnyStage,
    parameters: Parameters,
) -> Node {
    Node {
        name: String::new(),
        stage: stage.name.clone(),
        point: Vec::new(),
        kind,
        parameters,
        outputs: Arc::new(parsed.outputs()),
        resources: request(&stage.terms.resources),
        retries: Policy::of(stage.terms.retries),
        timeout: stage.terms.timeout,
        keep: stage.terms.keep,
    }
}

/// Where each field of a kind was written.
fn origins(fields: &[Field], table: &Value) -> Arc<[Option<Origin>]> {
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
    let mut name = stage.to_owned();
    for (index, (axis, label)) in point.iter().enumerate() {
        for part in [if index == 0 { "[" } else { "," }, axis, "=", label] {
            name.push_str(part);
        }
    }
    if !point.is_empty() {
        name.push(']');
    }
    name
}
