//! Keys: the identity of a node.
//!
//! | hashed | not hashed |
//! |---|---|
//! | the kind's name and version | the names of stage, node and experiment |
//! | every parameter, defaults included, numbers by their bits | comments, order, spelling of numbers |
//! | for an input, the content hash of the artifact; for a gathered one, its values on the axes too | which stage made it, and how |
//! | for a path of user data, the content hash | the path, unless the program sees it (`NamedPath`) |
//! | for a seed, its resolved value | the seed as written |
//! | | a parameter that its kind got later, where it is at its default and says so (`skip_serializing_if`) |
//! | | resources, `retries`, `timeout`, `keep`, devices, threads, clocks, hosts, the binary |

use serde_json::{Map, Value as Json};

use super::inputs::AT;
use super::parameter::{IMPORTS, INPUT, NAME, PATH, SEED};
use crate::store::Hash;

/// Computes the key of a node, if every input's content is known.
///
/// `content` yields the content hash of an edge, such as `@waves.history`.
pub fn key(
    kind: &str,
    version: u32,
    parameters: &Json,
    content: &dyn Fn(&str) -> Option<Hash>,
) -> Option<Hash> {
    let mut hasher = blake3::Hasher::new_derive_key("wavecrest key v1");
    text(&mut hasher, kind);
    hasher.update(&version.to_le_bytes());
    encode(&mut hasher, parameters, content)?;
    Some(hasher.finalize().into())
}

fn encode(
    hasher: &mut blake3::Hasher,
    value: &Json,
    content: &dyn Fn(&str) -> Option<Hash>,
) -> Option<()> {
    match value {
        Json::Null => {
            hasher.update(b"n");
        }
        Json::Bool(flag) => {
            hasher.update(&[b'b', u8::from(*flag)]);
        }
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(whole), _) => {
                hasher.update(b"u").update(&whole.to_le_bytes());
            }
            (None, Some(whole)) => {
                hasher.update(b"i").update(&whole.to_le_bytes());
            }
            (None, None) => {
                let float = number.as_f64().expect("a JSON number is whole or a float");
                // -0.0 + 0.0 is 0.0, so both zeros are one number.
                hasher.update(b"f").update(&(float + 0.0).to_bits().to_le_bytes());
            }
        },
        Json::String(string) => {
            hasher.update(b"s");
            text(hasher, string);
        }
        Json::Array(items) => {
            hasher.update(b"a").update(&(items.len() as u64).to_le_bytes());
            for item in items {
                encode(hasher, item, content)?;
            }
        }
        Json::Object(map) => object(hasher, map, content)?,
    }
    Some(())
}

fn object(
    hasher: &mut blake3::Hasher,
    map: &Map<String, Json>,
    content: &dyn Fn(&str) -> Option<Hash>,
) -> Option<()> {
    if let Some(edge) = map.get(INPUT).and_then(Json::as_str) {
        hasher.update(b"@").update(content(edge)?.as_bytes());
        // Where it was gathered from: what is read means another thing at another place.
        return map.get(AT).map_or(Some(()), |at| encode(hasher, at, content));
    }
    if map.contains_key(PATH) {
        hasher.update(b"p");
        text(hasher, map.get("hash").and_then(Json::as_str)?);
        if let Some(name) = map.get(NAME).and_then(Json::as_str) {
            text(hasher, name);
        }
        if let Some(imports) = map.get(IMPORTS) {
            encode(hasher, imports, content)?;
        }
        return Some(());
    }
    if let Some(seed) = map.get(SEED).and_then(Json::as_u64) {
        hasher.update(b"r").update(&seed.to_le_bytes());
        return Some(());
    }
    // Sorted here: the map's own order depends on a feature that any crate in the tree can switch on.
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(name, _)| *name);
    hasher.update(b"o").update(&(entries.len() as u64).to_le_bytes());
    for (name, value) in entries {
        text(hasher, name);
        encode(hasher, value, content)?;
    }
    Some(())
}

fn text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(kind: &str, version: u32, parameters: &Json, content: u8) -> Hash {
        let content = move |_: &str| Some(crate::store::hash::bytes(&[content]));
        key(kind, version, parameters, &content).expect("all inputs are known")
    }

    fn base() -> Json {
        json!({ "epochs": 5, "rate": 0.5, "layers": [1, 2], "movie": { "$input": "@waves" },
                "seed": { "$seed": 7 }, "root": { "$path": "a", "resolved": "/x/a", "hash": "00" },
                "script": { "$path": "b.py", "name": "b.py", "resolved": "/x/b.py", "hash": "00" } })
    }

    /// Each row changes one thing and says whether the key changes with it.
    #[test]
    fn a_key_holds_what_the_table_says() {
        let first = of("k", 1, &base(), 0);
        let changed = |path: &str, value: Json| {
            let mut parameters = base();
            *parameters.pointer_mut(path).expect("the path exists") = value;
            of("k", 1, &parameters, 0) != first
        };
        let cases = [
            ("kind", of("l", 1, &base(), 0) != first, true),
            ("version", of("k", 2, &base(), 0) != first, true),
            ("a whole number", changed("/epochs", json!(6)), true),
            ("a float", changed("/rate", json!(0.25)), true),
            ("the order of a list", changed("/layers", json!([2, 1])), true),
            ("input content", of("k", 1, &base(), 1) != first, true),
            ("the name behind an edge", changed("/movie/$input", json!("@other")), false),
            ("a resolved seed", changed("/seed/$seed", json!(8)), true),
            ("the content of a path", changed("/root/hash", json!("11")), true),
            ("a path", changed("/root/$path", json!("b")), false),
            ("the place of a path", changed("/root/resolved", json!("/y/b")), false),
            ("the name of a named path", changed("/script/name", json!("c.py")), true),
            ("the place of a named path", changed("/script/resolved", json!("/y/b.py")), false),
        ];
        for (what, changes, expected) in cases {
            assert_eq!(changes, expected, "{what}");
        }
    }

    #[test]
    fn zeros_are_one_number_and_types_are_told_apart() {
        let of = |value: Json| of("k", 1, &value, 0);
        assert_eq!(of(json!([0.0])), of(json!([-0.0])));
        let distinct = [json!(1), json!(1.0), json!("1"), json!([1]), json!(null), json!(true)];
        for (i, a) in distinct.iter().enumerate() {
            for b in &distinct[..i] {
                assert_ne!(of(a.clone()), of(b.clone()), "{a} {b}");
            }
        }
        assert_ne!(of(json!(["ab", "c"])), of(json!(["a", "bc"])));
    }

    #[test]
    fn an_unknown_input_leaves_no_key() {
        assert_eq!(key("k", 1, &base(), &|_| None), None);
    }
}
