//! Edges linked, once every node is there: checked, and gatherings written out.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::build::Builder;
use super::parameters;
use super::sweep::stage_of;
use crate::engine::graph::{Link, NodeId, Parameters};
use crate::engine::inputs::{AT, GATHER, OVER};
use crate::engine::parameter::INPUT;
use crate::engine::stage::Outputs;
use crate::spec::axes::Point;
use crate::spec::{Diagnostic, Diagnostics, Origin, suggest};

/// An edge to be checked, and linked.
pub(super) struct Pending<'a> {
    /// The node that it leads to; none where that has mistakes of its own.
    pub(super) to: Option<NodeId>,
    pub(super) stage: usize,
    /// Which of the stage's instances.
    pub(super) instance: usize,
    pub(super) edge: parameters::Edge<'a>,
}

/// What is wrong with an edge, and what to do about it; where that is not the edge as a whole, its place.
struct Refusal {
    message: String,
    hint: Option<String>,
    origin: Option<Origin>,
}

fn refusal<T>(message: String, hint: Option<String>) -> Result<T, Refusal> {
    Err(Refusal { message, hint, origin: None })
}

/// One edge of a gathering.
struct Gathered {
    from: NodeId,
    link: Link,
    at: BTreeMap<String, Json>,
}

impl Builder<'_> {
    pub(super) fn link(&mut self, errors: &mut Diagnostics) {
        for pending in std::mem::take(&mut self.edges) {
            let linked = match &pending.edge.over {
                None => self.link_one(&pending),
                Some(over) => self.link_all(&pending, over),
            };
            if let Err(Refusal { message, hint, origin }) = linked {
                let origin = origin.or(Some(pending.edge.origin));
                errors.push(Diagnostic { message, origin, hint });
            }
        }
    }

    fn link_one(&mut self, pending: &Pending<'_>) -> Result<(), Refusal> {
        let from = self.stage(pending)?;
        let instance = self.sweeps[pending.stage].project(pending.instance, &self.sweeps[from]);
        // Where there is no node, the stage has mistakes of its own, reported already.
        let Some(from) = instance.and_then(|instance| self.node_of(from, instance)) else {
            return Ok(());
        };
        let output = self.output(pending, from)?;
        if let Some(to) = pending.to {
            self.graph.link(from, to, Link { edge: pending.edge.text.clone(), output });
        }
        Ok(())
    }

    /// Links all the instances that an edge gathers, and writes them into the parameters.
    fn link_all(
        &mut self,
        pending: &Pending<'_>,
        over: &[(String, Origin)],
    ) -> Result<(), Refusal> {
        let target = self.stage(pending)?;
        let (own, other) = (&self.sweeps[pending.stage], &self.sweeps[target]);
        let axes = other.axes.iter().map(|axis| axis.name.as_str());
        if over.is_empty() {
            let hint =
                "name the axes to gather along; `\"@stage\"` takes the instance at the same place";
            return refusal("`over` names no axis".to_owned(), Some(hint.to_owned()));
        }
        for (axis, origin) in over {
            if !axes.clone().any(|name| name == axis) {
                let stage = &self.experiment.stages[target].name;
                let message = format!("stage `{stage}` has no axis `{axis}`");
                let hint = Some(suggest::hint(axis, "axes", axes));
                return Err(Refusal { message, hint, origin: Some(*origin) });
            }
        }
        let names: Vec<&str> = over.iter().map(|(axis, _)| axis.as_str()).collect();
        let combination = own.combination(pending.instance);
        let instances = own.gather(combination, &names, other).unwrap_or_default();
        let mut gathered = Vec::new();
        for instance in instances {
            let Some(from) = self.node_of(target, instance) else { return Ok(()) };
            let output = self.output(pending, from)?;
            let place = other.place(instance);
            let at = names.iter().map(|axis| (*axis, place[axis])).collect::<Vec<_>>();
            gathered.push(member(pending, from, output, &at));
        }
        gathered.sort_by(|a, b| order(&a.at).cmp(&order(&b.at)));
        if let Some(to) = pending.to {
            self.write_out(to, pending, &names, &gathered);
            for Gathered { from, link, .. } in gathered {
                self.graph.link(from, to, link);
            }
        }
        Ok(())
    }

    /// Puts the edges of a gathering in its place in the parameters of a node.
    fn write_out(&mut self, to: NodeId, pending: &Pending<'_>, over: &[&str], all: &[Gathered]) {
        let mut parameters = self.graph.node(to).parameters.to_json();
        let members: Vec<Json> = all
            .iter()
            .map(|one| json!({ INPUT: one.link.edge, "accepts": pending.edge.accepts, AT: one.at }))
            .collect();
        let stage = pending.edge.text.trim_start_matches('@');
        replace(&mut parameters, stage, over, &members);
        self.graph.set_parameters(to, Parameters::of(&parameters));
    }

    /// The stage that an edge names.
    fn stage(&self, pending: &Pending<'_>) -> Result<usize, Refusal> {
        let stage = stage_of(&pending.edge.text).unwrap_or_default();
        if let Some(&found) = self.names.get(stage) {
            return Ok(found);
        }
        let names = self.experiment.stages.iter().map(|s| s.name.as_str());
        let hint = if stage.contains('[') {
            "an edge names a stage alone; `{ stage = \"…\", over = [\"axis\"] }` gathers instances"
                .to_owned()
        } else {
            suggest::hint(stage, "stages", names)
        };
        refusal(format!("no stage is called `{stage}`"), Some(hint))
    }

    fn node_of(&self, stage: usize, instance: usize) -> Option<NodeId> {
        let instances = &self.nodes[self.first[stage]..self.first[stage + 1]];
        *instances.get(instance)?
    }

    /// The output that an edge takes of a node, if the input takes that type.
    fn output(&self, pending: &Pending<'_>, from: NodeId) -> Result<String, Refusal> {
        let edge = &pending.edge;
        let stage = stage_of(&edge.text).unwrap_or_default();
        let Outputs { main, types } = self.graph.node(from).outputs.as_ref();
        let named = edge.text.split_once('.').map(|(_, output)| output.to_owned());
        let listed = || types.keys().map(String::as_str);
        let Some(output) = named.or_else(|| main.clone()) else {
            let choices: Vec<String> = listed().map(|o| format!("`@{stage}.{o}`")).collect();
            let message = format!("`{stage}` yields several outputs and none is the main one");
            return refusal(message, Some(format!("write {}", choices.join(" or "))));
        };
        let Some(kind) = types.get(&output) else {
            let hint = suggest::hint(&output, "outputs", listed());
            return refusal(format!("`{stage}` has no output `{output}`"), Some(hint));
        };
        if !edge.accepts.iter().any(|accepted| accepted == "*" || accepted == kind) {
            let wanted = edge.accepts.join(" or ");
            let message = format!("`{}` is of type {kind}; this input takes {wanted}", edge.text);
            return refusal(message, None);
        }
        Ok(output)
    }
}

/// One edge of a gathering, named by its place.
fn member(pending: &Pending<'_>, from: NodeId, output: String, at: &[(&str, &Point)]) -> Gathered {
    let place: Vec<String> =
        at.iter().map(|(axis, point)| format!("{axis}={}", point.label)).collect();
    let text = &pending.edge.text;
    let (stage, rest) = text.split_once('.').unwrap_or((text, ""));
    let named = if rest.is_empty() { String::new() } else { format!(".{rest}") };
    let edge = format!("{stage}[{}]{named}", place.join(","));
    let at = at.iter().map(|(axis, point)| ((*axis).to_owned(), point.shown().to_json())).collect();
    Gathered { from, link: Link { edge, output }, at }
}

/// Replaces the gatherings of a stage over some axes by a list.
fn replace(json: &mut Json, stage: &str, over: &[&str], members: &[Json]) {
    let is_it = |json: &Json| {
        let axes = json.get(OVER).and_then(Json::as_array);
        json.get(GATHER).and_then(Json::as_str) == Some(stage)
            && axes
                .is_some_and(|axes| axes.iter().filter_map(Json::as_str).eq(over.iter().copied()))
    };
    if is_it(json) {
        *json = members.to_vec().into();
        return;
    }
    match json {
        Json::Object(map) => map.values_mut().for_each(|v| replace(v, stage, over, members)),
        Json::Array(items) => items.iter_mut().for_each(|v| replace(v, stage, over, members)),
        _ => (),
    }
}

/// What gathered edges are sorted by: the order in which values were written on an axis changes nothing.
fn order(at: &BTreeMap<String, Json>) -> Vec<(&str, u64, String)> {
    // Numbers in their order: the bits of a float are, once those of negative ones are turned.
    let rank = |number: f64| {
        let bits = number.to_bits();
        if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
    };
    let value = |json: &Json| (json.as_f64().map_or(u64::MAX, rank), json.to_string());
    at.iter().map(|(axis, json)| (axis.as_str(), value(json).0, value(json).1)).collect()
}
