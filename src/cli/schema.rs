//! `wavecrest schema`: the JSON Schema of experiment files, for editors.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value as Json, json};

use super::{CliError, print};
use crate::engine::kind::{Field, Kind};
use crate::report::figures::FigureSpec;
use crate::report::tables::TableSpec;
use crate::spec::quantity::{DURATION_PATTERN, SIZE_PATTERN};
use crate::stages::KINDS;

/// Prints the schema.
pub fn schema() -> Result<(), CliError> {
    print(&text())
}

/// Writes the schema out.
pub fn text() -> String {
    serde_json::to_string_pretty(&sorted(&experiment())).expect("a schema is plain data") + "\n"
}

fn experiment() -> Json {
    // A stage without a kind changes one of a file that this one extends.
    let without_kind = json!({ "type": "object", "not": { "required": ["kind"] } });
    let stages: Vec<Json> = KINDS.0.iter().map(stage).chain([without_kind]).collect();
    let defaults: Map<String, Json> =
        KINDS.0.iter().map(|kind| (kind.name.to_owned(), parameters(kind))).collect();
    let definitions: Map<String, Json> = KINDS.0.iter().flat_map(definitions).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Wavecrest experiment",
        "$defs": definitions,
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "extends": {
                "description": "The file, or the files, that this one is laid over: relative to it, the last of several over the first.",
                "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
            },
            "experiment": {
                "description": "What the experiment is called and where its randomness starts.",
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "name": { "type": "string", "description": "Names the folder of its reports.", "pattern": "^[A-Za-z0-9_-]{1,100}$" },
                    "about": { "type": "string", "description": "One sentence on its purpose." },
                    "seed": { "type": "integer", "minimum": 0, "default": 0, "description": "The root seed, mixed into every stage's own." }
                }
            },
            "axes": {
                "description": "Named sweeps. A stage has one instance for each combination of the axes that it, or anything it depends on, names.",
                "type": "object",
                "properties": {
                    "exclude": { "type": "array", "items": { "type": "object", "minProperties": 1 }, "description": "Combinations that do not exist, such as `{ source = \"waves\", size = [8, 16] }`: an instance that has all these axes, with one of the values named, is left out." },
                    "include": { "type": "array", "items": { "type": "object", "minProperties": 1 }, "description": "Combinations that exist besides, such as `{ source = \"noise\", size = 64 }`; their values need not be listed on the axes." }
                },
                "additionalProperties": { "oneOf": [
                    { "type": "array", "minItems": 1 },
                    { "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1, "properties": {
                        "range": { "type": "array", "items": { "type": "integer" }, "minItems": 2, "maxItems": 2, "description": "Whole numbers from the first up to, not including, the second." },
                        "linspace": { "type": "array", "items": { "type": "number" }, "minItems": 3, "maxItems": 3, "description": "First, last, and how many numbers at equal steps." },
                        "logspace": { "type": "array", "items": { "type": "number" }, "minItems": 3, "maxItems": 3, "description": "First, last, and how many numbers at equal ratios." }
                    } }
                ] }
            },
            "stages": {
                "description": "The stages, by name. A value that begins with `@` is the output of another stage.",
                "type": "object",
                "additionalProperties": { "oneOf": stages }
            },
            "defaults": {
                "description": "Parameters that all stages of a kind have unless they say otherwise, by kind.",
                "type": "object",
                "additionalProperties": false,
                "properties": defaults
            },
            "tables": { "description": "Tables over the results.", "type": "object", "additionalProperties": inlined::<TableSpec>() },
            "figures": { "description": "Figures over the results.", "type": "object", "additionalProperties": inlined::<FigureSpec>() },
            "profiles": {
                "description": "Values laid over the file by `--profile NAME`.",
                "type": "object",
                "additionalProperties": { "type": "object" }
            }
        }
    })
}

/// A stage of a kind. What it lacks may be in `[defaults]`, or in a file that this one extends: `check` looks for that.
fn stage(kind: &Kind) -> Json {
    let mut schema = parameters(kind);
    schema["properties"]["kind"] = json!({ "const": kind.name });
    schema["properties"]["about"] =
        json!({ "type": "string", "description": "One sentence on its purpose." });
    schema["properties"]["when"] = json!({
        "type": "object",
        "description": "The values of axes for which the stage exists, such as `{ source = [\"waves\"] }`, or `{ source = { model = \"lansdell\" } }` for what a key of the values holds. What reads it exists only where it does."
    });
    schema["required"] = json!(["kind"]);
    schema
}

/// What may stand in a stage of a kind and in its defaults.
fn parameters(kind: &Kind) -> Json {
    let mut schema = kind.schema();
    let map = schema.as_object_mut().expect("parameters are a table");
    for key in ["$schema", "required"] {
        map.remove(key);
    }
    map.insert("title".into(), kind.name.into());
    let fields = kind.fields();
    let field = |field: &Field| {
        let reference = json!({ "$ref": format!("#/$defs/{}.{}", kind.name, field.name) });
        (field.name.clone(), reference)
    };
    let mut properties: Map<String, Json> = fields.iter().map(field).collect();
    properties.extend(terms());
    map.insert("properties".into(), properties.into());
    schema
}

/// The parameters of a kind, each under the name that stages and defaults refer to.
fn definitions(kind: &Kind) -> Vec<(String, Json)> {
    let name = |field: &Field| format!("{}.{}", kind.name, field.name);
    kind.fields().iter().map(|field| (name(field), or_placeholder(field.schema.clone()))).collect()
}

/// The keys of a stage that say how its nodes are run. They take no placeholders.
fn terms() -> Map<String, Json> {
    let duration = |description: &str| json!({ "type": "string", "pattern": DURATION_PATTERN, "description": description });
    let terms = json!({
        "resources": {
            "description": "What a node occupies while it runs; never part of its identity.",
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "cpu": { "type": "integer", "minimum": 1, "description": "CPU threads; an equal share of the free ones where absent. On a smaller machine it is given fewer." },
                "memory": { "type": "string", "pattern": SIZE_PATTERN, "description": "Memory with its unit, such as \"4 GiB\" or \"500 MB\"; where absent, what earlier runs took and a quarter more." },
                "gpu": { "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "number", "minimum": 0, "maximum": 1 }], "default": 0, "description": "GPUs: a whole number of devices, or a share of one device between 0 and 1. A stage that asks for none sees none." },
                "time": duration("About how long a node runs, such as \"30 min\" or \"4h\": what takes longest starts first. Nothing is ended by it.")
            }
        },
        "retries": { "type": "integer", "minimum": 0, "maximum": u32::MAX, "default": 2, "description": "How often a node is tried again after a failure that may pass, such as a killed worker or a disk that does not answer. Where it is written, a program of `exec` that fails and a node that times out are tried again too; a mistake in parameters or data never is." },
        "timeout": duration("How long a node may run before it is ended and has failed, such as \"90s\" or \"1h30m\"."),
        "keep": { "type": "boolean", "default": true, "description": "Whether the outputs are worth keeping once all that takes them is computed." }
    });
    match terms {
        Json::Object(terms) => terms,
        _ => unreachable!("written as a table above"),
    }
}

/// A parameter, or a string that holds a placeholder for it; so for every value inside it.
fn or_placeholder(schema: Json) -> Json {
    let mut schema = inner(schema);
    let free = ["enum", "const", "pattern"].iter().all(|key| schema.get(key).is_none());
    if schema["type"] == "string" && free {
        return schema;
    }
    let mut outer = Map::new();
    for key in ["description", "default"] {
        if let Some(value) = schema.as_object_mut().and_then(|map| map.remove(key)) {
            outer.insert(key.into(), value);
        }
    }
    let placeholder = json!({ "type": "string", "pattern": "\\$\\{.+\\}" });
    outer.insert("anyOf".into(), json!([schema, placeholder]));
    Json::Object(outer)
}

/// Lets placeholders stand for the values inside a table, a list or a variant, but not for the whole.
fn inner(mut schema: Json) -> Json {
    let Some(map) = schema.as_object_mut() else { return schema };
    if let Some(Json::Object(properties)) = map.get_mut("properties") {
        for schema in properties.values_mut() {
            *schema = or_placeholder(schema.take());
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(schema) = map.get_mut(key).filter(|schema| schema.is_object()) {
            *schema = or_placeholder(schema.take());
        }
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(Json::Array(variants)) = map.get_mut(key) {
            for variant in variants {
                *variant = inner(variant.take());
            }
        }
    }
    schema
}

fn inlined<T: JsonSchema>() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    schema.as_object_mut().expect("a table's schema").remove("$schema");
    schema
}

/// Sorts every table by key, so that the text does not depend on how the map keeps its order.
fn sorted(value: &Json) -> Json {
    match value {
        Json::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(entries.into_iter().collect())
        }
        Json::Array(items) => Json::Array(items.iter().map(sorted).collect()),
        plain => plain.clone(),
    }
}
