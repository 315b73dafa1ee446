//! In what the parameters of two nodes differ, as far as a key sees it, and how a parameter is written.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use serde_json::{Value as Json, json};

use crate::engine::parameter::{IMPORTS, INPUT, NAME, PATH, SEED};

/// One place at which two sets of parameters differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Where: `epochs`, `optimizer.momentum`, `layers[1]`.
    pub path: String,
    /// In what.
    pub change: Change,
}

/// In what a parameter differs.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// In its value; none on a side that lacks it.
    Value(Option<Json>, Option<Json>),
    /// In the edge, as it is written on either side.
    Edge(String, String),
    /// In a list of edges: those that only the first side has, and those that only the second has.
    Edges(Vec<String>, Vec<String>),
    /// In the seed that comes of it and the experiment's.
    Seed,
    /// In the content of the user's data that it names, a hash on either side.
    Data(String, String),
    /// In the name under which a program sees the user's data.
    Name(Option<String>, Option<String>),
}

/// Finds every place at which the parameters of two nodes of one kind differ. What is in no key is left out: the place
/// of data, and the types that an input accepts. Edges that are written differently are told: whether they lead to
/// other contents, the parameters do not say.
pub fn differences(was: &Json, is: &Json) -> Vec<Difference> {
    let mut found = Vec::new();
    for name in keys(was, is) {
        compare(name, was.get(name), is.get(name), &mut found);
    }
    found
}

impl Difference {
    /// The parameter that it is part of.
    pub fn parameter(&self) -> &str {
        self.path.split(['.', '[']).next().unwrap_or(&self.path)
    }

    /// The edges that only the first side has, and those that only the second has, if it is between edges.
    pub fn edges(&self) -> Option<(&[String], &[String])> {
        match &self.change {
            Change::Edge(was, is) => Some((slice::from_ref(was), slice::from_ref(is))),
            Change::Edges(fewer, more) => Some((fewer, more)),
            _ => None,
        }
    }

    /// Whether it is between edges, or values with edges in them.
    pub fn concerns_edges(&self) -> bool {
        match &self.change {
            Change::Edge(..) | Change::Edges(..) => true,
            Change::Value(was, is) => was.iter().chain(is).any(holds_edge),
            Change::Seed | Change::Data(..) | Change::Name(..) => false,
        }
    }

    /// It in words: `` `epochs` 5 -> 10 ``.
    pub fn words(&self) -> String {
        let path = &self.path;
        match &self.change {
            Change::Seed => format!("`{path}` changed"),
            Change::Data(..) => format!("the data at `{path}` changed"),
            Change::Name(..) => format!("the name at `{path}` changed"),
            Change::Edges(fewer, more) => {
                let part = |what: &str, edges: &[String]| match edges {
                    [] => None,
                    edges => Some(format!("{what} {}", cut(&edges.join(", ")))),
                };
                let parts = [part("no longer takes", fewer), part("now takes", more)];
                let parts: Vec<String> = parts.into_iter().flatten().collect();
                format!("`{path}` {}", parts.join(" and "))
            }
            Change::Value(..) | Change::Edge(..) => {
                let (was, is) = self.sides();
                format!("`{path}` {was} -> {is}")
            }
        }
    }

    /// What stands on either side, in words.
    pub fn sides(&self) -> (String, String) {
        let value = |value: &Option<Json>| match value {
            None | Some(Json::Null) => "nothing".to_owned(),
            Some(value) => shown(value),
        };
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "nothing".to_owned());
        match &self.change {
            Change::Value(was, is) => (value(was), value(is)),
            Change::Edge(was, is) => (was.clone(), is.clone()),
            Change::Edges(fewer, more) => {
                let edges = |edges: &[String]| match edges {
                    [] => "nothing".to_owned(),
                    edges => cut(&edges.join(", ")),
                };
                (edges(fewer), edges(more))
            }
            Change::Seed => ("one seed".to_owned(), "another".to_owned()),
            Change::Data(was, is) => {
                let short = |hash: &str| format!("data {}", hash.get(..12).unwrap_or(hash));
                (short(was), short(is))
            }
            Change::Name(was, is) => (name(was), name(is)),
        }
    }

    /// What stands on either side, for scripts; null for seeds, which are mixed with the experiment's.
    pub fn values(&self) -> (Json, Json) {
        match &self.change {
            Change::Value(was, is) => (json!(was), json!(is)),
            Change::Edge(was, is) | Change::Data(was, is) => (json!(was), json!(is)),
            Change::Edges(was, is) => (json!(was), json!(is)),
            Change::Name(was, is) => (json!(was), json!(is)),
            Change::Seed => (Json::Null, Json::Null),
        }
    }

    /// It for scripts: the parameter, what differs, and both sides.
    pub fn to_json(&self) -> Json {
        let what = match &self.change {
            Change::Value(..) => "value",
            Change::Edge(..) => "edge",
            Change::Edges(..) => "edges",
            Change::Seed => "seed",
            Change::Data(..) => "data",
            Change::Name(..) => "name",
        };
        let (before, after) = self.values();
        json!({ "parameter": self.path, "what": what, "before": before, "after": after })
    }
}

/// Writes a parameter as it would stand in TOML.
pub fn written(value: &Json) -> String {
    if let Some(edge) = value.get(INPUT).and_then(Json::as_str) {
        return format!("\"{edge}\"");
    }
    if let Some(path) = value.get(PATH) {
        let hash = value["hash"].as_str().unwrap_or_default();
        return format!("{path} (content {})", &hash[..hash.len().min(12)]);
    }
    if let Some(seed) = value.get(SEED) {
        return format!("{seed} (resolved)");
    }
    match value {
        Json::Object(map) if map.is_empty() => "{}".to_owned(),
        Json::Object(map) => {
            let parts: Vec<String> =
                map.iter().map(|(name, v)| format!("{name} = {}", written(v))).collect();
            format!("{{ {} }}", parts.join(", "))
        }
        Json::Array(items) => {
            let parts: Vec<String> = items.iter().map(written).collect();
            format!("[{}]", parts.join(", "))
        }
        plain => plain.to_string(),
    }
}

/// A value in one line that can be read.
fn shown(value: &Json) -> String {
    cut(&written(value))
}

/// The beginning of a long text.
fn cut(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn holds_edge(value: &Json) -> bool {
    match value {
        Json::Object(map) => map.contains_key(INPUT) || map.values().any(holds_edge),
        Json::Array(items) => items.iter().any(holds_edge),
        _ => false,
    }
}

/// The keys of two tables, sorted, each once.
fn keys<'a>(a: &'a Json, b: &'a Json) -> BTreeSet<&'a str> {
    let tables = [a, b].into_iter().filter_map(Json::as_object);
    tables.flat_map(|table| table.keys().map(String::as_str)).collect()
}

/// What a script imports: the content of each file by its path.
fn imports(side: Option<&Json>) -> BTreeMap<String, String> {
    let list = side.and_then(|side| side.get(IMPORTS)).and_then(Json::as_array);
    let text = |file: &Json, key: &str| file.get(key).and_then(Json::as_str).map(str::to_owned);
    let files = list.into_iter().flatten();
    files.filter_map(|file| Some((text(file, PATH)?, text(file, "hash")?))).collect()
}

fn compare(path: &str, was: Option<&Json>, is: Option<&Json>, out: &mut Vec<Difference>) {
    let mark = [INPUT, PATH, SEED].into_iter().find(|mark| {
        [was, is].iter().all(|value| value.is_some_and(|value| value.get(mark).is_some()))
    });
    let text = |side: Option<&Json>, field: &str| {
        side.and_then(|value| value.get(field)).and_then(Json::as_str).map(str::to_owned)
    };
    let both = |field: &str| (text(was, field), text(is, field));
    let mut add = |change: Change| out.push(Difference { path: path.to_owned(), change });
    if let (None, Some(Json::Array(was)), Some(Json::Array(is))) = (mark, was, is)
        && let Some((fewer, more)) = lists(was, is)
    {
        add(Change::Edges(fewer, more));
        return;
    }
    match (mark, was, is) {
        (Some(INPUT), ..) => {
            if let (Some(was), Some(is)) = both(INPUT)
                && was != is
            {
                add(Change::Edge(was, is));
                return;
            }
            // Whatever else is said of an edge, but for what it accepts, is in the key.
            if let Some((was, is)) = was.zip(is) {
                for key in keys(was, is).into_iter().filter(|key| ![INPUT, "accepts"].contains(key))
                {
                    compare(&format!("{path}.{key}"), was.get(key), is.get(key), out);
                }
            }
        }
        (Some(PATH), ..) => {
            let (before, after) = both("hash");
            if before != after {
                add(Change::Data(before.unwrap_or_default(), after.unwrap_or_default()));
            }
            let (before, after) = both(NAME);
            if before != after {
                add(Change::Name(before, after));
            }
            let (before, after) = (imports(was), imports(is));
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
                let hash =
                    |side: &BTreeMap<String, String>| side.get(name).cloned().unwrap_or_default();
                let change = Change::Data(hash(&before), hash(&after));
                out.push(Difference { path: name.clone(), change });
            }
        }
        (Some(_), Some(was), Some(is)) if was.get(SEED) != is.get(SEED) => add(Change::Seed),
        (None, Some(was), Some(is)) if was.is_object() && is.is_object() => {
            for key in keys(was, is) {
                compare(&format!("{path}.{key}"), was.get(key), is.get(key), out);
            }
        }
        (None, Some(Json::Array(was)), Some(Json::Array(is))) if was.len() == is.len() => {
            for (i, (was, is)) in was.iter().zip(is).enumerate() {
                compare(&format!("{path}[{i}]"), Some(was), Some(is), out);
            }
        }
        (_, was, is) if was != is => add(Change::Value(was.cloned(), is.cloned())),
        _ => (),
    }
}

/// The edges that only one of two lists has; none where they are no lists of edges, or differ in one place alone.
fn lists(was: &[Json], is: &[Json]) -> Option<(Vec<String>, Vec<String>)> {
    let text = |item: &Json| item.get(INPUT)?.as_str().map(str::to_owned);
    let texts = |items: &[Json]| items.iter().map(text).collect::<Option<Vec<String>>>();
    let (was, is) = (texts(was)?, texts(is)?);
    let places = was.iter().zip(&is).filter(|(was, is)| was != is).count();
    if was.len() == is.len() && places <= 1 {
        return None;
    }
    let only = |these: &[String], others: &[String]| -> Vec<String> {
        let others: BTreeSet<&String> = others.iter().collect();
        these.iter().filter(|edge| !others.contains(edge)).cloned().collect()
    };
    let (fewer, more) = (only(&was, &is), only(&is, &was));
    (!fewer.is_empty() || !more.is_empty()).then_some((fewer, more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_sees_differs_and_nothing_else() {
        let check = |was: Json, is: Json, expected: &[&str]| {
            let found = differences(&json!({ "p": was }), &json!({ "p": is }));
            let words: Vec<String> = found.iter().map(Difference::words).collect();
            assert_eq!(words, expected);
            assert!(found.iter().all(|difference| difference.parameter() == "p"));
        };
        check(json!(1), json!(1), &[]);
        check(json!(1), json!(2), &["`p` 1 -> 2"]);
        check(json!("a"), Json::Null, &["`p` \"a\" -> nothing"]);
        check(
            json!({ "x": 1, "y": 2 }),
            json!({ "x": 1, "z": 2 }),
            &["`p.y` 2 -> nothing", "`p.z` nothing -> 2"],
        );
        check(
            json!({ "a": {} }),
            json!({ "b": {} }),
            &["`p.a` {} -> nothing", "`p.b` nothing -> {}"],
        );
        check(json!([1, 2]), json!([1, 3]), &["`p[1]` 2 -> 3"]);
        check(json!([1]), json!([1, 3]), &["`p` [1] -> [1, 3]"]);
        let edge = |to: &str| json!({ INPUT: to, "accepts": ["movie"] });
        check(edge("@a"), edge("@b"), &["`p` @a -> @b"]);
        check(edge("@a"), json!({ INPUT: "@a", "accepts": [] }), &[]);
        let list = |edges: &[&str]| edges.iter().map(|to| edge(to)).collect::<Json>();
        check(list(&["@a"]), list(&[]), &["`p` no longer takes @a"]);
        check(list(&["@a", "@b"]), list(&["@a", "@c"]), &["`p[1]` @b -> @c"]);
        let both = "`p` no longer takes @a and now takes @c";
        check(list(&["@a", "@b"]), list(&["@b", "@c"]), &[both]);
        check(list(&["@a", "@b"]), list(&["@b", "@a"]), &["`p[0]` @a -> @b", "`p[1]` @b -> @a"]);
        let at = |place: u8| json!({ INPUT: "@a", "accepts": [], "place": place });
        check(at(1), at(2), &["`p.place` 1 -> 2"]);
        check(json!({ SEED: 1 }), json!({ SEED: 2 }), &["`p` changed"]);
        let data = |path: &str, hash: &str| json!({ PATH: path, "hash": hash, "resolved": path });
        check(data("x", "1"), data("y", "1"), &[]);
        check(data("x", "1"), data("x", "2"), &["the data at `p` changed"]);
        check(edge("@a"), json!(3), &["`p` \"@a\" -> 3"]);
    }

    #[test]
    fn long_values_are_cut() {
        let long = differences(&json!({ "p": "ä".repeat(100) }), &json!({ "p": 1 }));
        assert_eq!(long[0].sides().0, format!("\"{}...", "ä".repeat(59)));
    }
}
