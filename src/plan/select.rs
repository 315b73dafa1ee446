//! Selectors: nodes named by stage and by their values on axes.
//!
//! | selector | nodes |
//! |---|---|
//! | `probe` or `probe[*]` | every instance of the stage |
//! | `probe[source=waves]` | those with that value, whatever they have on other axes |
//! | `+probe` | also everything that they need |
//! | `probe+` | also everything that needs them |

use std::collections::BTreeSet;

use crate::engine::graph::{Graph, NodeId};
use crate::spec::suggest;

/// Why a selector names no node, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// What of a graph is wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only these, and what they need; everything where it is empty.
    pub only: Vec<String>,
    /// Not these, nor what needs them.
    pub except: Vec<String>,
    /// Only those of these names, and what they need.
    pub named: Option<Vec<String>>,
}

impl Selection {
    /// Which nodes are wanted, indexed as the graph is; none where all are.
    ///
    /// # Errors
    /// Everything that is wrong with the selectors.
    pub fn wanted(&self, graph: &Graph) -> Result<Option<Vec<bool>>, Vec<Unmatched>> {
        if self.only.is_empty() && self.except.is_empty() && self.named.is_none() {
            return Ok(None);
        }
        let mut wrong = Vec::new();
        let mut all = |selectors: &[String]| -> Vec<NodeId> {
            let mut found = Vec::new();
            for selector in selectors {
                match select(graph, selector) {
                    Ok(nodes) => found.extend(nodes),
                    Err(unmatched) => wrong.push(unmatched),
                }
            }
            found
        };
        let (only, except) = (all(&self.only), all(&self.except));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let mut wanted: BTreeSet<NodeId> = graph.ids().collect();
        if !self.only.is_empty() {
            wanted = spread(only, &|id| graph.dependencies(id));
        }
        if let Some(named) = &self.named {
            let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
            let of_name = |id: &NodeId| named.contains(graph.node(*id).name.as_str());
            let named = graph.ids().filter(of_name).collect();
            wanted = &wanted & &spread(named, &|id| graph.dependencies(id));
        }
        let unwanted = spread(except, &|id| graph.dependents(id));
        let is_wanted = |id: NodeId| wanted.contains(&id) && !unwanted.contains(&id);
        Ok(Some(graph.ids().map(is_wanted).collect()))
    }
}

/// Finds the nodes that a selector names.
///
/// # Errors
/// If it names none.
pub fn select(graph: &Graph, text: &str) -> Result<BTreeSet<NodeId>, Unmatched> {
    let inner = text.strip_prefix('+').unwrap_or(text);
    let (up, inner) = (inner.len() < text.len(), inner);
    let name = inner.strip_suffix('+').unwrap_or(inner);
    let down = name.len() < inner.len();
    let named = named(graph, name)?;
    let mut found: BTreeSet<NodeId> = named.iter().copied().collect();
    if up {
        found.extend(spread(named.clone(), &|id| graph.dependencies(id)));
    }
    if down {
        found.extend(spread(named, &|id| graph.dependents(id)));
    }
    Ok(found)
}

/// Some nodes, those next to them, and so on.
fn spread(from: Vec<NodeId>, next: &dyn Fn(NodeId) -> Vec<NodeId>) -> BTreeSet<NodeId> {
    let mut found: BTreeSet<NodeId> = from.iter().copied().collect();
    let mut open = from;
    while let Some(id) = open.pop() {
        open.extend(next(id).into_iter().filter(|id| found.insert(*id)));
    }
    found
}

/// The instances that `stage` or `stage[axis=value,…]` names.
fn named(graph: &Graph, text: &str) -> Result<Vec<NodeId>, Unmatched> {
    let (stage, values) = match text.split_once('[') {
        None => (text, Vec::new()),
        Some((stage, rest)) => (stage, values(rest).ok_or_else(|| malformed(text))?),
    };
    let instances: Vec<NodeId> = graph.instances(stage).collect();
    let Some(first) = instances.first() else {
        let names: BTreeSet<&str> = graph.ids().map(|id| graph.node(id).stage.as_str()).collect();
        let message = format!("no stage is called `{stage}`");
        return Err(Unmatched { message, hint: suggest::hint(stage, "stages", names) });
    };
    let axes = || graph.node(*first).point.iter().map(|(axis, _)| axis.as_str());
    for (axis, value) in &values {
        if !axes().any(|name| name == *axis) {
            let message = format!("stage `{stage}` has no axis `{axis}`");
            return Err(Unmatched { message, hint: suggest::hint(axis, "axes", axes()) });
        }
        let of_axis = |id: &NodeId| {
            let point = graph.node(*id).point.iter();
            point.into_iter().find(|(name, _)| name == axis).map(|(_, label)| label.as_str())
        };
        let labels: BTreeSet<&str> = instances.iter().filter_map(of_axis).collect();
        if *value != "*" && !labels.contains(value) {
            let message = format!("no instance of `{stage}` has `{axis}={value}`");
            return Err(Unmatched { message, hint: suggest::hint(value, "values", labels) });
        }
    }
    let fits = |id: &NodeId| {
        let point = &graph.node(*id).point;
        let holds = |(axis, value): &(&str, &str)| {
            *value == "*" || point.iter().any(|(name, label)| name == axis && label == value)
        };
        values.iter().all(holds)
    };
    let found: Vec<NodeId> = instances.into_iter().filter(fits).collect();
    if found.is_empty() {
        let message = format!("no node is called `{text}`");
        return Err(Unmatched {
            message,
            hint: "the stage does not exist for these values".into(),
        });
    }
    Ok(found)
}

/// The values in brackets, the first bracket taken off; all instances are meant by `*`.
fn values(text: &str) -> Option<Vec<(&str, &str)>> {
    let inside = text.strip_suffix(']')?.trim();
    if inside == "*" || inside.is_empty() {
        return Some(Vec::new());
    }
    inside.split(',').map(halves).collect()
}

/// An axis and a value, neither empty.
fn halves(part: &str) -> Option<(&str, &str)> {
    let (axis, value) = part.split_once('=')?;
    let (axis, value) = (axis.trim(), value.trim());
    (!axis.is_empty() && !value.is_empty()).then_some((axis, value))
}

fn malformed(text: &str) -> Unmatched {
    Unmatched {
        message: format!("`{text}` names no node"),
        hint: "write `stage`, `stage[axis=value]` or `stage[*]`, with `+` before it for what it needs and behind it \
               for what needs it"
            .to_owned(),
    }
}
