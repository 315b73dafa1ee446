//! Parameters in words: their types, ranges, defaults, and what is inside them.

use serde_json::Value as Json;

use crate::engine::parameter::{ACCEPTS, PATH_SCHEMA, UNIT_SCHEMA};

/// What a schema says of itself.
pub fn description(schema: &Json) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

/// Moves every line to the right.
pub fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}", "").trim_end().to_owned() + "\n").collect()
}

/// Says what a parameter is where it is not written.
pub fn default_of(schema: &Json, required: bool) -> String {
    match schema.get("default") {
        Some(Json::Null) => ", optional".to_owned(),
        Some(default) => format!(" = {}", brief(default)),
        None if required => ", required".to_owned(),
        None => ", optional".to_owned(),
    }
}

/// Writes a default; of a long table at most its one name, for its fields are explained with their own defaults.
fn brief(value: &Json) -> String {
    const LONGEST: usize = 100;
    let whole = plain(value);
    match value.as_object() {
        Some(map) if whole.len() > LONGEST => match map.keys().next() {
            Some(name) if map.len() == 1 => format!("{{ {name} = {{ ... }} }}"),
            _ => "{ ... }".to_owned(),
        },
        _ => whole,
    }
}

/// Writes a default as it would stand in TOML.
fn plain(value: &Json) -> String {
    match value {
        Json::Object(map) => match map.get("$seed") {
            Some(seed) => seed.to_string(),
            None => {
                let parts: Vec<String> =
                    map.iter().map(|(name, v)| format!("{name} = {}", plain(v))).collect();
                if parts.is_empty() {
                    "{}".to_owned()
                } else {
                    format!("{{ {} }}", parts.join(", "))
                }
            }
        },
        other => other.to_string(),
    }
}

/// Names the type of a parameter as users of TOML do.
pub fn type_of(schema: &Json) -> String {
    if let Some(accepts) = schema.get(ACCEPTS).and_then(Json::as_array) {
        let types: Vec<&str> = accepts.iter().filter_map(Json::as_str).collect();
        return if types == ["*"] { "any artifact".to_owned() } else { types.join(" or ") };
    }
    if schema.get(PATH_SCHEMA).is_some() {
        return "path".to_owned();
    }
    if schema.get("oneOf").is_some() {
        return "one of".to_owned();
    }
    if let Some(values) = schema.get("enum").and_then(Json::as_array) {
        let values: Vec<String> = values.iter().map(plain).collect();
        return values.join(" or ");
    }
    if let Some(any) = schema.get("anyOf").and_then(Json::as_array) {
        let types: Vec<String> = any.iter().filter(|s| s["type"] != "null").map(type_of).collect();
        return types.join(" or ");
    }
    let range = range(schema);
    let named = match &schema["type"] {
        Json::String(name) => vec![name.as_str()],
        Json::Array(names) => {
            names.iter().filter_map(Json::as_str).filter(|n| *n != "null").collect()
        }
        _ => vec!["value"],
    };
    let named: Vec<String> = named
        .into_iter()
        .map(|name| match name {
            "array" => format!("list of {}", type_of(&schema["items"])),
            "object" => match schema.get("additionalProperties") {
                Some(Json::Object(inner)) => {
                    format!("table of {}", type_of(&Json::Object(inner.clone())))
                }
                _ => "table".to_owned(),
            },
            "number" => "float".to_owned(),
            other => other.to_owned(),
        })
        .collect();
    named.join(" or ") + &range
}

fn range(schema: &Json) -> String {
    // `1.0` is `1` to a reader.
    let bound = |key: &str| Some(schema.get(key)?.as_f64()?.to_string());
    let (least, most) = (bound("minimum"), bound("maximum"));
    let (above, below) = (bound("exclusiveMinimum"), bound("exclusiveMaximum"));
    let range = match (least, most, above, below) {
        (Some(least), Some(most), ..) => format!(" from {least} to {most}"),
        (least, most, above, below) => {
            let least = least.map(|least| format!("of at least {least}"));
            let above = above.map(|above| format!("above {above}"));
            let most = most.map(|most| format!("at most {most}"));
            let below = below.map(|below| format!("below {below}"));
            let both: Vec<String> = least.or(above).into_iter().chain(most.or(below)).collect();
            if both.is_empty() { String::new() } else { format!(" {}", both.join(" and ")) }
        }
    };
    match schema.get(UNIT_SCHEMA).and_then(Json::as_str) {
        Some(unit) => format!("{range}, in {unit}"),
        None => range,
    }
}

/// What a value may hold: the variants of an externally tagged table, and the fields of a plain one.
pub fn details(schema: &Json, by: usize) -> String {
    let mut text = String::new();
    let space = " ".repeat(by);
    for variant in schema["oneOf"].as_array().into_iter().flatten() {
        if let Some(name) = variant["const"].as_str() {
            text += &format!("{space}\"{name}\"\n");
            text += &indent(&description(variant), by + 4);
        }
        for (name, inner) in variant["properties"].as_object().into_iter().flatten() {
            let is_table = inner["properties"].is_object();
            let holds = if is_table { "{ ... }".to_owned() } else { type_of(inner) };
            text += &format!("{space}{{ {name} = {holds} }}\n");
            let (about, more) = (description(variant), description(inner));
            text += &indent(&about, by + 4);
            if more != about {
                text += &indent(&more, by + 4);
            }
            text += &details(inner, by + 4);
        }
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let required = schema["required"].as_array();
        let required = required.is_some_and(|names| names.iter().any(|n| n == name.as_str()));
        let default = default_of(field, required);
        text += &format!("{space}{name}: {}{default}\n", type_of(field));
        text += &indent(&description(field), by + 4);
        text += &details(field, by + 4);
    }
    for part in schema["anyOf"].as_array().into_iter().flatten() {
        text += &details(part, by);
    }
    for part in ["items", "additionalProperties"].iter().filter_map(|key| schema.get(key)) {
        text += &details(part, by);
    }
    text
}
