//! Why a node has to run: what differs from its result in an earlier run, one step of it.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::build::Plan;
use super::difference::{Difference, differences};
use super::earlier::{Earlier, Found};
use crate::engine::graph::NodeId;
use crate::engine::status::{Status, contents};
use crate::spec::Sources;
use crate::store::lack::{Fate, Lack};
use crate::store::{Hash, Record, Store};

/// An experiment as it stands beside its store.
pub struct View<'a> {
    /// What is planned.
    pub plan: &'a Plan,
    /// Where it was written.
    pub sources: &'a Sources,
    /// Where results are.
    pub store: &'a Store,
    /// Where each node stands; indexed as the graph is.
    pub statuses: &'a [Status],
}

/// One reason why a node has another key than in an earlier run, or no result.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// It was never computed under its name.
    Never,
    /// It was computed, and the record of that is gone: what has changed since cannot be told.
    Forgotten,
    /// Its kind is another.
    Kind {
        /// The name of the kind then.
        was: String,
        /// The name of the kind now.
        is: String,
    },
    /// The results of its kind have changed.
    Version {
        /// The kind.
        kind: String,
        /// Its version then.
        was: u32,
        /// Its version now.
        is: u32,
    },
    /// A parameter differs.
    Parameter {
        /// Which, and in what.
        difference: Difference,
        /// Where it is written now; none for one that is left at its default.
        place: Option<String>,
    },
    /// What an edge leads to has another content.
    Input {
        /// The edge.
        edge: String,
        /// Its content then.
        was: Hash,
        /// Its content now.
        is: Hash,
    },
    /// The record of its result was removed.
    Removed,
    /// Something of its result is gone.
    Lost(Lack),
    /// It was computed again with the same key, and came to other bytes.
    OtherBytes,
    /// Nothing of what is recorded differs.
    Unknown,
}

impl Cause {
    /// It in words that follow "because".
    pub fn words(&self) -> String {
        match self {
            Self::Never => "not computed yet".to_owned(),
            Self::Forgotten => "what it was before is no longer recorded".to_owned(),
            Self::Kind { was, is } => format!("kind {was} -> {is}"),
            Self::Version { kind, was, is } => {
                format!("the results of {kind} changed with version {was} -> {is}")
            }
            Self::Parameter { difference, place } => {
                let place = place.as_ref().map(|place| format!(" ({place})"));
                difference.words() + &place.unwrap_or_default()
            }
            Self::Input { edge, .. } => format!("`{edge}` changed"),
            Self::Removed => "its result was removed".to_owned(),
            Self::Lost(Lack::DamagedRecord) => "its record was damaged".to_owned(),
            Self::Lost(Lack::Outputs(outputs)) => {
                let words = |(name, fate): &(String, Fate)| match fate {
                    Fate::Removed => format!("its output `{name}` was removed"),
                    Fate::Damaged => format!("its output `{name}` was damaged"),
                };
                outputs.iter().map(words).collect::<Vec<_>>().join(", ")
            }
            Self::OtherBytes => "it was computed again, to other bytes".to_owned(),
            Self::Unknown => {
                "its key is another, though nothing that is recorded differs".to_owned()
            }
        }
    }

    /// It for scripts: which cause it is, its values, and the words.
    pub fn to_json(&self) -> Json {
        let mut told = match self {
            Self::Never => json!({ "cause": "never_computed" }),
            Self::Forgotten => json!({ "cause": "forgotten" }),
            Self::Kind { was, is } => json!({ "cause": "kind", "before": was, "after": is }),
            Self::Version { kind, was, is } => {
                json!({ "cause": "version", "kind": kind, "before": was, "after": is })
            }
            Self::Parameter { difference, place } => {
                let mut told = difference.to_json();
                told["cause"] = "parameter".into();
                told["place"] = json!(place);
                told
            }
            Self::Input { edge, was, is } => {
                json!({ "cause": "input", "edge": edge, "before": was, "after": is })
            }
            Self::Removed => json!({ "cause": "removed" }),
            Self::Lost(Lack::DamagedRecord) => json!({ "cause": "damaged_record" }),
            Self::Lost(Lack::Outputs(outputs)) => {
                let names = |wanted: Fate| -> Vec<&str> {
                    let those = outputs.iter().filter(|(_, fate)| *fate == wanted);
                    those.map(|(name, _)| name.as_str()).collect()
                };
                let (removed, damaged) = (names(Fate::Removed), names(Fate::Damaged));
                json!({ "cause": "lost_outputs", "removed": removed, "damaged": damaged })
            }
            Self::OtherBytes => json!({ "cause": "other_bytes" }),
            Self::Unknown => json!({ "cause": "unknown" }),
        };
        told["words"] = self.words().into();
        told
    }

    /// Whether it gives the node another key, whatever becomes of its inputs.
    pub fn is_certain(&self) -> bool {
        match self {
            Self::Parameter { difference, .. } => !difference.concerns_edges(),
            Self::Kind { .. } | Self::Version { .. } => true,
            _ => false,
        }
    }
}

/// Several causes in words.
pub fn words(causes: &[Cause]) -> String {
    causes.iter().map(Cause::words).collect::<Vec<_>>().join("; ")
}

/// Says why a node has no result: what differs from its newest result in an earlier run. Of one that waits on others,
/// what is known already; nothing, where they alone decide.
pub fn causes(view: &View<'_>, earlier: &Earlier<'_>, id: NodeId) -> Vec<Cause> {
    let past = earlier.newest(&view.plan.graph.node(id).name);
    let key = view.statuses[id.index()].key();
    if let Some(lack) = key.and_then(|key| view.store.lack(&key)) {
        return vec![Cause::Lost(lack)];
    }
    match earlier.record(past) {
        Found::Nothing => vec![Cause::Never],
        Found::Gone if past.map(|past| past.key) == key => vec![Cause::Removed],
        Found::Gone => vec![Cause::Forgotten],
        Found::Record(record) => {
            let found = against(view, id, &record);
            if found.is_empty() && key.is_some() { vec![Cause::Unknown] } else { found }
        }
    }
}

/// Finds in what a node, as it is planned now, differs from a record: all that is known of it.
pub fn against(view: &View<'_>, id: NodeId, record: &Record) -> Vec<Cause> {
    let node = view.plan.graph.node(id);
    if record.kind != node.kind.name {
        return vec![Cause::Kind { was: record.kind.clone(), is: node.kind.name.to_owned() }];
    }
    let mut causes = Vec::new();
    if record.version != node.kind.version {
        let (was, is) = (record.version, node.kind.version);
        causes.push(Cause::Version { kind: record.kind.clone(), was, is });
    }
    let known = contents(&view.plan.graph, id, &|d| view.statuses[d.index()].record());
    // A result is that of every node with its key. Where another stage computed it, its edges have other names.
    let is_own = record.provenance.stage() == node.stage;
    for difference in differences(&record.parameters, &node.parameters.to_json()) {
        if let Some((fewer, more)) = difference.edges() {
            let was: Vec<Option<Hash>> = sorted(fewer, &record.inputs);
            let is: Vec<Option<Hash>> = sorted(more, &known);
            let is_known = !was.contains(&None) && !is.contains(&None);
            match (is_own, is_known, was.as_slice(), is.as_slice()) {
                // They lead to what they led to, under other names.
                (_, true, was, is) if was == is => continue,
                (false, false, ..) => continue,
                (false, true, [Some(was), ..], [Some(is), ..]) => {
                    let edge = more.join(", ");
                    causes.push(Cause::Input { edge, was: *was, is: *is });
                    continue;
                }
                _ => (),
            }
        }
        let origin = view.plan.origin(id, difference.parameter());
        let place = origin.map(|origin| view.sources.describe(origin));
        causes.push(Cause::Parameter { difference, place });
    }
    causes.extend(known.iter().filter_map(|(edge, is)| {
        let was = record.inputs.get(edge).filter(|was| *was != is)?;
        Some(Cause::Input { edge: edge.clone(), was: *was, is: *is })
    }));
    causes
}

/// The contents that edges lead to, as far as they are known, in an order that does not depend on the edges' names.
fn sorted(edges: &[String], contents: &BTreeMap<String, Hash>) -> Vec<Option<Hash>> {
    let mut found: Vec<Option<Hash>> =
        edges.iter().map(|edge| contents.get(edge).copied()).collect();
    found.sort_unstable();
    found
}
