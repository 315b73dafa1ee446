//! Two sides compared: a pure function of what is known of their nodes.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::plan::difference::{Difference, differences};
use crate::report::aggregate::Summary;
use crate::store::Hash;

/// One side: its nodes by name.
pub struct Side<'a> {
    /// The key of each node; none where it waits on others, and is not known yet.
    pub keys: BTreeMap<String, Option<Hash>>,
    /// What is known of a node besides; none where its record is gone.
    pub details: Box<Find<'a>>,
}

/// Finds what is known of a node by its name.
pub type Find<'a> = dyn Fn(&str) -> Option<Details> + 'a;

/// What a node is, and what it left.
#[derive(Clone, Debug)]
pub struct Details {
    /// Its kind.
    pub kind: String,
    /// The version of the kind.
    pub version: u32,
    /// Its parameters, seeds resolved.
    pub parameters: Json,
    /// Its metrics; none without a result.
    pub metrics: BTreeMap<String, f64>,
}

/// In what two sides differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// How many nodes are on both sides.
    pub both: usize,
    /// Parameters, kinds among them, that differ for nodes on both sides.
    pub parameters: Vec<Parameter>,
    /// Nodes that only the first side has.
    pub only_a: Vec<String>,
    /// Nodes that only the second side has.
    pub only_b: Vec<String>,
    /// Nodes on both sides whose keys differ.
    pub changed: Vec<String>,
    /// Nodes on both sides that may differ: they wait on others, on one side at least, and have no key there yet.
    pub unknown: Vec<String>,
    /// Metrics that differ for a node on both sides.
    pub metrics: Vec<Metric>,
    /// Nodes with different keys that cannot be compared: their record on the first side is gone.
    pub gone_a: Vec<String>,
    /// The same of the second side.
    pub gone_b: Vec<String>,
}

/// A parameter that differs in the same way for some instances of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The stage.
    pub stage: String,
    /// In what.
    pub part: Part,
    /// For how many instances.
    pub instances: usize,
}

/// One thing in which two nodes differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The parameter, down to the part that differs; `kind` where that does.
    pub parameter: String,
    /// What stands on either side, in words.
    pub words: (String, String),
    /// What stands on either side, for scripts; null where it has no value that could be compared.
    pub values: (Json, Json),
    /// Whether the keys differ for it, whatever the inputs are.
    pub is_certain: bool,
}

/// A metric of a stage that moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// The stage.
    pub stage: String,
    /// The metric.
    pub metric: String,
    /// How many instances with different keys have it on both sides.
    pub instances: usize,
    /// Its mean on the first side.
    pub a: f64,
    /// Its mean on the second side.
    pub b: f64,
    /// The mean of the differences, instance by instance.
    pub difference: f64,
    /// The standard error of that mean; none of a single instance.
    pub standard_error: Option<f64>,
}

impl Comparison {
    /// Whether nothing is known to differ.
    pub fn is_empty(&self) -> bool {
        let nodes = [&self.only_a, &self.only_b, &self.changed, &self.unknown];
        self.parameters.is_empty() && self.metrics.is_empty() && nodes.iter().all(|n| n.is_empty())
    }
}

/// Compares two sides: nodes of the same name with each other. Those with the same key differ in nothing, and are left
/// out of the means of metrics, in which they would only hide what moved.
pub fn compare(a: &Side<'_>, b: &Side<'_>) -> Comparison {
    let mut found = Comparison::default();
    let mut parameters: BTreeMap<(String, String, String), Parameter> = BTreeMap::new();
    let mut metrics: BTreeMap<(String, String), Vec<(f64, f64)>> = BTreeMap::new();
    for (name, key_a) in &a.keys {
        let Some(key_b) = b.keys.get(name) else {
            found.only_a.push(name.clone());
            continue;
        };
        found.both += 1;
        if key_a.is_some() && key_a == key_b {
            continue;
        }
        let (side_a, side_b) = ((a.details)(name), (b.details)(name));
        let (mut differs, mut is_certain) = (false, false);
        match (&side_a, &side_b) {
            (Some(side_a), Some(side_b)) => {
                let stage = stage_of(name);
                for part in parts(side_a, side_b) {
                    (differs, is_certain) = (true, is_certain || part.is_certain);
                    let values = format!("{:?} {:?}", part.values, part.words);
                    let alike = (stage.clone(), part.parameter.clone(), values);
                    let new = || Parameter { stage: stage.clone(), part, instances: 0 };
                    parameters.entry(alike).or_insert_with(new).instances += 1;
                }
                for (metric, was) in &side_a.metrics {
                    if let Some(is) = side_b.metrics.get(metric) {
                        let values = metrics.entry((stage.clone(), metric.clone())).or_default();
                        values.push((*was, *is));
                    }
                }
            }
            _ => {
                found.gone_a.extend(side_a.is_none().then(|| name.clone()));
                found.gone_b.extend(side_b.is_none().then(|| name.clone()));
            }
        }
        match (key_a, key_b) {
            (Some(_), Some(_)) => found.changed.push(name.clone()),
            _ if is_certain => found.changed.push(name.clone()),
            (None, None) if !differs => (),
            _ => found.unknown.push(name.clone()),
        }
    }
    found.only_b = b.keys.keys().filter(|name| !a.keys.contains_key(*name)).cloned().collect();
    found.parameters = parameters.into_values().collect();
    found.metrics = metrics.into_iter().filter_map(|(of, values)| moved(of, &values)).collect();
    found
}

/// The stage of a node, by its name.
pub fn stage_of(name: &str) -> String {
    name.split('[').next().unwrap_or(name).to_owned()
}

/// In what two nodes differ.
fn parts(a: &Details, b: &Details) -> Vec<Part> {
    let kind = |details: &Details| format!("{} version {}", details.kind, details.version);
    let mut found = Vec::new();
    if (&a.kind, a.version) != (&b.kind, b.version) {
        let words = (kind(a), kind(b));
        let values = (words.0.clone().into(), words.1.clone().into());
        found.push(Part { parameter: "kind".to_owned(), words, values, is_certain: true });
    }
    if a.kind != b.kind {
        return found;
    }
    let part = |difference: Difference| Part {
        words: difference.sides(),
        values: difference.values(),
        is_certain: !difference.concerns_edges(),
        parameter: difference.path,
    };
    found.extend(differences(&a.parameters, &b.parameters).into_iter().map(part));
    found
}

/// A metric of a stage; none where it is the same for every instance.
fn moved((stage, metric): (String, String), values: &[(f64, f64)]) -> Option<Metric> {
    if values.iter().all(|(a, b)| a.to_bits() == b.to_bits()) {
        return None;
    }
    let instances = values.len();
    let mean =
        |of: &dyn Fn(&(f64, f64)) -> f64| values.iter().map(of).sum::<f64>() / instances as f64;
    let differences: Vec<Option<f64>> = values.iter().map(|(a, b)| Some(b - a)).collect();
    let summary = Summary::of(&differences);
    Some(Metric {
        stage,
        metric,
        instances,
        a: mean(&|(a, _)| *a),
        b: mean(&|(_, b)| *b),
        difference: mean(&|(a, b)| b - a),
        standard_error: summary.sem().filter(|_| summary.n == instances && instances > 1),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A node: its name, its key, and what is known of it.
    type Known<'a> = (&'a str, Option<u8>, Option<Details>);

    fn side<'a>(nodes: &'a [Known<'a>]) -> Side<'a> {
        let key = |key: &u8| Hash::from_bytes([*key; 32]);
        let keys = nodes.iter().map(|(name, k, _)| ((*name).to_owned(), k.as_ref().map(key)));
        let find = move |name: &str| nodes.iter().find(|(other, ..)| *other == name)?.2.clone();
        Side { keys: keys.collect(), details: Box::new(find) }
    }

    fn details(epochs: u32, loss: Option<f64>) -> Details {
        let metrics = loss.map(|loss| ("loss".to_owned(), loss)).into_iter().collect();
        let parameters = json!({ "epochs": epochs, "rate": 0.1 });
        Details { kind: "k".to_owned(), version: 1, parameters, metrics }
    }

    #[test]
    fn instances_are_grouped_and_paired() {
        let a = [
            ("p[n=0]", Some(1), Some(details(5, Some(1.0)))),
            ("p[n=1]", Some(2), Some(details(5, Some(2.0)))),
            ("q", Some(3), None),
            ("r", Some(4), Some(details(5, None))),
        ];
        let b = [
            ("p[n=0]", Some(11), Some(details(9, Some(2.0)))),
            ("p[n=1]", Some(12), Some(details(9, Some(5.0)))),
            ("q", Some(3), None),
            ("s", Some(5), Some(details(5, None))),
        ];
        let found = compare(&side(&a), &side(&b));
        let text = str::to_owned;
        assert_eq!((found.both, found.changed.len()), (3, 2), "the same key, the same node");
        assert_eq!((found.only_a, found.only_b), (vec![text("r")], vec![text("s")]));
        let part = Part {
            parameter: text("epochs"),
            words: (text("5"), text("9")),
            values: (json!(5), json!(9)),
            is_certain: true,
        };
        assert_eq!(found.parameters, [Parameter { stage: text("p"), part, instances: 2 }]);
        let metric = &found.metrics[0];
        assert_eq!((metric.instances, metric.a, metric.b, metric.difference), (2, 1.5, 3.5, 2.0));
        // Differences 1 and 3: their deviation is the root of 2.
        assert!((metric.standard_error.unwrap() - 1.0).abs() < 1e-12);
        assert!(found.gone_a.is_empty() && found.gone_b.is_empty());
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let a = [
            ("p", Some(1), None),
            ("q", None, Some(details(5, None))),
            ("r", None, Some(details(5, None))),
        ];
        let b = [
            ("p", Some(2), Some(details(5, None))),
            ("q", None, Some(details(5, None))),
            ("r", Some(1), None),
        ];
        let found = compare(&side(&a), &side(&b));
        assert_eq!((found.gone_a, found.gone_b), (vec!["p".to_owned()], vec!["r".to_owned()]));
        assert_eq!((found.changed, found.unknown), (vec!["p".to_owned()], vec!["r".to_owned()]));
    }

    #[test]
    fn a_side_is_equal_to_itself() {
        let nodes =
            [("p", Some(1), Some(details(5, Some(1.0)))), ("q", None, Some(details(5, None)))];
        let found = compare(&side(&nodes), &side(&nodes));
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_number_that_is_none_moves_too() {
        let of = ("p".to_owned(), "loss".to_owned());
        assert_eq!(moved(of.clone(), &[(f64::NAN, f64::NAN)]), None);
        let found = moved(of, &[(f64::NAN, 1.0), (1.0, 1.0)]).unwrap();
        assert!(found.a.is_nan() && found.b == 1.0 && found.standard_error.is_none());
    }
}
