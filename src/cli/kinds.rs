//! `wavecrest kinds`: the kinds of stages, and the manual page of each.

use clap::Args;
use serde_json::Value as Json;

use super::{CliError, print};
use crate::engine::kind::{Field, Kind};
use crate::engine::parameter::ACCEPTS;
use crate::engine::stage::Determinism;
use crate::spec::suggest;
use crate::stages::KINDS;

/// Arguments of `kinds`.
#[derive(Debug, Args)]
pub struct KindsArgs {
    /// The kind to explain; all are listed where absent
    kind: Option<String>,
}

/// Lists kinds, or explains one.
pub fn kinds(args: &KindsArgs) -> Result<(), CliError> {
    let Some(name) = &args.kind else {
        let width = KINDS.0.iter().map(|k| k.name.len()).max().unwrap_or(0);
        let line = |kind: &Kind| {
            format!("{:width$}  {}\n", kind.name, first_paragraph(&description(&kind.schema())))
        };
        return print(&KINDS.0.iter().map(line).collect::<String>());
    };
    match KINDS.get(name) {
        Some(kind) => print(&page(kind)),
        None => {
            let hint = suggest::hint(name, "kinds", KINDS.0.iter().map(|k| k.name));
            Err(CliError::Usage(format!("no kind is called `{name}`\n  hint: {hint}")))
        }
    }
}

fn page(kind: &Kind) -> String {
    let mut text = format!("{} (version {})\n\n", kind.name, kind.version);
    text += &indent(&description(&kind.schema()), 0);
    let equal = match kind.determinism {
        Determinism::Bit => "the same bits on every machine",
        Determinism::Machine => "the same bits on one machine, within rounding elsewhere",
        Determinism::External => "whatever the program that it runs makes of the same inputs",
    };
    text += &format!("\nTwo runs give {equal}.\n");
    let (inputs, parameters): (Vec<Field>, Vec<Field>) =
        kind.fields().into_iter().partition(Field::is_input);
    for (title, fields) in [("inputs", inputs), ("parameters", parameters)] {
        if fields.is_empty() {
            continue;
        }
        text += &format!("\n{title}\n");
        for field in fields {
            let default = default_of(&field.schema, field.required);
            text += &format!("  {}: {}{default}\n", field.name, type_of(&field.schema));
            text += &indent(&description(&field.schema), 6);
            if !field.is_input() {
                text += &details(&field.schema, 6);
            }
        }
    }
    text
}

fn description(schema: &Json) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

fn first_paragraph(text: &str) -> String {
    text.split("\n\n").next().unwrap_or_default().replace('\n', " ")
}

fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}", "").trim_end().to_owned() + "\n").collect()
}

fn default_of(schema: &Json, required: bool) -> String {
    match schema.get("default") {
        Some(Json::Null) => ", optional".to_owned(),
        Some(default) => format!(" = {}", brief(default)),
        None if required => ", required".to_owned(),
        None => ", optional".to_owned(),
    }
}

/// Writes a default; of a long table only the name, for its fields are explained with their own defaults.
fn brief(value: &Json) -> String {
    const LONGEST: usize = 100;
    let whole = plain(value);
    match value.as_object().and_then(|map| map.keys().next()) {
        Some(name) if whole.len() > LONGEST => format!("{{ {name} = {{ ... }} }}"),
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
                format!("{{ {} }}", parts.join(", "))
            }
        },
        other => other.to_string(),
    }
}

/// Names the type of a parameter as users of TOML do.
fn type_of(schema: &Json) -> String {
    if let Some(accepts) = schema.get(ACCEPTS).and_then(Json::as_array) {
        let types: Vec<&str> = accepts.iter().filter_map(Json::as_str).collect();
        return if types == ["*"] { "any artifact".to_owned() } else { types.join(" or ") };
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
    let bound = |key: &str| schema.get(key).filter(|v| v.as_f64().is_some()).map(Json::to_string);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" of at least {least}"),
        (None, Some(most)) => format!(" of at most {most}"),
        (None, None) => String::new(),
    }
}

/// What a value may hold: the variants of an externally tagged table, and the fields of a plain one.
fn details(schema: &Json, by: usize) -> String {
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
            let about = [description(variant), description(inner)];
            text += &indent(about.iter().find(|a| !a.is_empty()).map_or("", |a| a), by + 4);
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
