//! Why a node runs, down to what it all comes from.
//!
//! A node whose inputs are there runs for what differs from its newest result in an earlier run. Where that is the
//! content of an input, the node that made it is told next: why it came to other bytes than in that run. A node that
//! waits on others may run: they are told, and may come to the bytes that it has a result for.

use std::collections::{BTreeMap, BTreeSet};

use super::earlier::{Earlier, Found, Past};
use super::reason::{Cause, View, against, causes, words};
use crate::engine::graph::NodeId;
use crate::engine::status::Status;

/// What is told of a node, or of several of one stage of which the same is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// How many nodes above it lead from it to the one that was asked for.
    pub depth: usize,
    /// The nodes.
    pub nodes: Vec<NodeId>,
    /// Where they stand.
    pub state: State,
    /// Why.
    pub causes: Vec<Cause>,
    /// The nodes that they wait on.
    pub waits: Vec<NodeId>,
    /// For a node that was never computed, the nearest one that was.
    pub nearest: Option<Nearest>,
}

/// Where a node stands that is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Its result is there.
    Cached,
    /// Its result is there, and has another content than in an earlier run.
    Changed,
    /// It runs.
    Runs,
    /// It may run: that is known when those that it waits on have run.
    Waits,
}

impl State {
    /// It in one word, as scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Changed => "changed",
            Self::Runs => "run",
            Self::Waits => "waits",
        }
    }
}

/// The result of an earlier run that differs least from a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// The name of the node that had it.
    pub node: String,
    /// The run.
    pub run: String,
    /// In what the node differs from it.
    pub causes: Vec<Cause>,
}

/// A node to be told of, and the result that one before it had: in the run of that, what has it been itself?
type Next = (NodeId, Option<Past>);

/// Tells why a node runs: the node itself, then what it comes from, each node once, behind the one that it explains.
pub fn explain(view: &View<'_>, earlier: &Earlier<'_>, id: NodeId) -> Vec<Told> {
    let mut seen = BTreeSet::from([id]);
    let mut told = Vec::new();
    // Without recursion: a chain may have thousands of nodes.
    let mut open = vec![step(view, earlier, (id, None))];
    while let Some((mut entry, next)) = open.pop() {
        if entry.causes == [Cause::Never] && entry.state != State::Changed {
            entry.nearest = nearest(view, earlier, entry.nodes[0]);
        }
        let fresh: Vec<Next> = next.into_iter().filter(|(id, _)| seen.insert(*id)).collect();
        let steps = fresh.into_iter().map(|next| step(view, earlier, next));
        let stage = |id: NodeId| view.plan.graph.node(id).stage.as_str();
        let mut groups = grouped(&stage, steps);
        for (group, _) in &mut groups {
            group.depth = entry.depth + 1;
        }
        open.extend(groups.into_iter().rev());
        told.push(entry);
    }
    told
}

/// Tells of one node, and which are to be told of next.
fn step(view: &View<'_>, earlier: &Earlier<'_>, (id, reader): Next) -> (Told, Vec<Next>) {
    let name = &view.plan.graph.node(id).name;
    let (state, causes, waits, past) = match &view.statuses[id.index()] {
        Status::Cached(result) => match reader {
            None => (State::Cached, Vec::new(), Vec::new(), None),
            Some(reader) => {
                let causes = match earlier.record(earlier.beside(reader, name)) {
                    Found::Nothing => vec![Cause::Never],
                    Found::Gone => vec![Cause::Forgotten],
                    Found::Record(record) if record.key == result.key => vec![Cause::OtherBytes],
                    Found::Record(record) => against(view, id, &record),
                };
                (State::Changed, causes, Vec::new(), Some(reader))
            }
        },
        Status::Missing(_) => {
            (State::Runs, causes(view, earlier, id), Vec::new(), earlier.newest(name))
        }
        Status::Waiting(on) => {
            (State::Waits, causes(view, earlier, id), on.clone(), earlier.newest(name))
        }
    };
    let changed = causes.iter().filter_map(|cause| match cause {
        Cause::Input { edge, .. } => Some(edge.as_str()),
        _ => None,
    });
    let changed: BTreeSet<&str> = changed.collect();
    let inputs = view.plan.graph.inputs(id).into_iter();
    let changed = inputs.filter(|(_, link)| changed.contains(link.edge.as_str()));
    let next = waits.iter().map(|id| (*id, None)).chain(changed.map(|(from, _)| (from, past)));
    let next = next.collect();
    (Told { depth: 0, nodes: vec![id], state, causes, waits, nearest: None }, next)
}

/// Joins the nodes of one stage of which the same is to be told, in the order in which they come.
fn grouped<'a>(
    stage: &dyn Fn(NodeId) -> &'a str,
    steps: impl Iterator<Item = (Told, Vec<Next>)>,
) -> Vec<(Told, Vec<Next>)> {
    let mut groups: Vec<(Told, Vec<Next>)> = Vec::new();
    let mut known: BTreeMap<_, usize> = BTreeMap::new();
    for (told, next) in steps {
        let waits: BTreeSet<&str> = told.waits.iter().map(|id| stage(*id)).collect();
        let alike = (stage(told.nodes[0]), told.state, words(&told.causes), waits);
        match known.get(&alike) {
            Some(at) => {
                let (group, nexts): &mut (Told, Vec<Next>) = &mut groups[*at];
                group.nodes.extend(told.nodes);
                group.waits.extend(told.waits);
                nexts.extend(next);
            }
            None => {
                known.insert(alike, groups.len());
                groups.push((told, next));
            }
        }
    }
    for (group, _) in &mut groups {
        group.waits.sort_unstable();
        group.waits.dedup();
    }
    groups
}

/// Finds the result of the same stage and kind in earlier runs from which a node differs least; of several the newest.
/// There is none where nothing differs that is known: then those that the node waits on decide.
fn nearest(view: &View<'_>, earlier: &Earlier<'_>, id: NodeId) -> Option<Nearest> {
    let node = view.plan.graph.node(id);
    let mut best: Option<Nearest> = None;
    for (name, past) in earlier.of_stage(&node.stage) {
        let Found::Record(record) = earlier.record(Some(past)) else { continue };
        if record.kind != node.kind.name {
            continue;
        }
        let causes = against(view, id, &record);
        if best.as_ref().is_none_or(|best| causes.len() < best.causes.len()) {
            best = Some(Nearest { node: name, run: earlier.run(past).id.clone(), causes });
        }
    }
    best.filter(|best| !best.causes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_for_a_stage_is_told_once() {
        let told = |node: usize, causes: &[Cause], waits: &[usize]| {
            let nodes = vec![NodeId::new(node)];
            let waits: Vec<NodeId> = waits.iter().map(|id| NodeId::new(*id)).collect();
            let next: Vec<Next> = waits.iter().map(|id| (*id, None)).collect();
            let state = State::Waits;
            let causes = causes.to_vec();
            (Told { depth: 1, nodes, state, causes, waits, nearest: None }, next)
        };
        // Nodes from 10 on are of another stage.
        let stage = |id: NodeId| if id.index() < 10 { "a" } else { "b" };
        let steps = [
            told(1, &[], &[10, 11]),
            told(12, &[], &[13]),
            told(2, &[], &[11]),
            told(3, &[Cause::Removed], &[11]),
            told(4, &[], &[5]),
        ];
        let groups = grouped(&stage, steps.into_iter());
        let nodes = |ids: &[NodeId]| ids.iter().map(|id| id.index()).collect::<Vec<usize>>();
        let found: Vec<_> =
            groups.iter().map(|(told, _)| (nodes(&told.nodes), nodes(&told.waits))).collect();
        let expected = [
            (vec![1, 2], vec![10, 11]),
            (vec![12], vec![13]),
            (vec![3], vec![11]),
            (vec![4], vec![5]),
        ];
        assert_eq!(found, expected);
        assert_eq!(groups[0].1.len(), 3);
    }
}
