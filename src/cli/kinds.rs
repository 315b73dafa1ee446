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
    text += &indent(&description(&kind.schema()), "");
    let equal = match kind.determinism {
        Determinism::Bit => "the same bits on every machine",
        Determinism::Machine => "the same bits on one machine, within rounding elsewhere",
        Determinism::External => "as the program that it runs",
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
            text +=
                &format!("  {}: {}{}\n", field.name, type_of(&field.schema), default_of(&field));
            text += &indent(&description(&field.schema), "      ");
            for variant in variants(&field.schema) {
                text += &variant;
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

fn indent(text: &str, by: &str) -> String {
    text.lines().map(|line| format!("{by}{line}").trim_end().to_owned() + "\n").collect()
}

fn default_of(field: &Field) -> String {
    match field.schema.get("default") {
        Some(Json::Null) => ", optional".to_owned(),
        Some(default) => format!(" = {}", plain(default)),
        None if field.required => ", required".to_owned(),
        None => ", optional".to_owned(),
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

/// The variants of an externally tagged table, with their parameters.
fn variants(schema: &Json) -> Vec<String> {
    let mut lines = Vec::new();
    for variant in schema["oneOf"].as_array().into_iter().flatten() {
        if let Some(name) = variant["const"].as_str() {
            lines
                .push(format!("      \"{name}\"\n{}", indent(&description(variant), "          ")));
        }
        for (name, inner) in variant["properties"].as_object().into_iter().flatten() {
            let about = [description(variant), description(inner)];
            let about = about.iter().find(|a| !a.is_empty()).cloned().unwrap_or_default();
            let mut line =
                format!("      {{ {name} = {{ ... }} }}\n{}", indent(&about, "          "));
            for (field, schema) in inner["properties"].as_object().into_iter().flatten() {
                let required = inner["required"]
                    .as_array()
                    .is_some_and(|r| r.contains(&Json::from(field.as_str())));
                let field = Field {
                    name: field.clone(),
                    required,
                    accepts: Vec::new(),
                    schema: schema.clone(),
                };
                line += &format!(
                    "          {}: {}{}\n",
                    field.name,
                    type_of(schema),
                    default_of(&field)
                );
                line += &indent(&description(schema), "              ");
            }
            lines.push(line);
        }
    }
    lines
}
