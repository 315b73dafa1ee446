//! Kinds, erased: what the engine knows of a stage type; and the registry of them.

use schemars::{Schema, generate::SchemaSettings};
use serde_json::Value as Json;

use super::context::Context;
use super::parameter::ACCEPTS;
use super::stage::{Determinism, Outputs, Stage, Violation};
use crate::spec::Value;
use crate::spec::deserialize::{self, from_value};

/// A stage with its parameters, its type forgotten.
pub trait AnyStage: Send + Sync {
    /// The parameters, defaults included, serialized as JSON.
    fn parameters(&self) -> String;
    /// Rules that do not hold.
    fn check(&self) -> Vec<Violation>;
    /// Names and types of what it saves.
    fn outputs(&self) -> Outputs;
    /// Computes it.
    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()>;
}

impl<S: Stage> AnyStage for S {
    fn parameters(&self) -> String {
        serde_json::to_string(self).expect("parameters are plain data with string keys")
    }
    fn check(&self) -> Vec<Violation> {
        Stage::check(self)
    }
    fn outputs(&self) -> Outputs {
        Stage::outputs(self)
    }
    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        Stage::run(self, cx)
    }
}

/// A stage type, erased.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The name that experiments use.
    pub name: &'static str,
    /// The version of its results.
    pub version: u32,
    /// How equal two runs are.
    pub determinism: Determinism,
    /// Whether one worker may compute several of them.
    pub small: bool,
    /// The least that has to be written of a stage, as TOML.
    pub example: &'static str,
    /// Reads parameters as written.
    pub parse: fn(&Value) -> Result<Box<dyn AnyStage>, deserialize::Error>,
    /// Reads parameters as serialized.
    pub revive: fn(Json) -> Result<Box<dyn AnyStage>, serde_json::Error>,
    schema: fn() -> Schema,
}

impl Kind {
    /// Erases a stage type.
    pub const fn of<S: Stage>() -> Self {
        Self {
            name: S::KIND,
            version: S::VERSION,
            determinism: S::DETERMINISM,
            small: S::SMALL,
            example: S::EXAMPLE,
            parse: |value| Ok(Box::new(from_value::<S>(value)?)),
            revive: |json| Ok(Box::new(serde_json::from_value::<S>(json)?)),
            schema: || {
                let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
                settings.into_generator().into_root_schema_for::<S>()
            },
        }
    }

    /// Describes the parameters.
    pub fn schema(&self) -> Json {
        (self.schema)().to_value()
    }

    /// The parameters with their schemas, in the order declared.
    pub fn fields(&self) -> Vec<Field> {
        let schema = self.schema();
        let required: Vec<&str> = schema["required"]
            .as_array()
            .map(|names| names.iter().filter_map(Json::as_str).collect())
            .unwrap_or_default();
        let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
        let field = |(name, schema): (&String, &Json)| Field {
            name: name.clone(),
            required: required.contains(&name.as_str()),
            accepts: accepts(schema),
            schema: schema.clone(),
        };
        properties.iter().map(field).collect()
    }
}

/// One parameter of a kind.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Whether it must be written.
    pub required: bool,
    /// The artifact types that edges in it may have; empty where strings are plain strings.
    pub accepts: Vec<String>,
    /// Its JSON Schema.
    pub schema: Json,
}

/// The artifact types that a schema names anywhere in it.
fn accepts(schema: &Json) -> Vec<String> {
    match schema {
        Json::Object(map) => match map.get(ACCEPTS).and_then(Json::as_array) {
            Some(types) => types.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
            None => map.values().flat_map(accepts).collect(),
        },
        Json::Array(items) => items.iter().flat_map(accepts).collect(),
        _ => Vec::new(),
    }
}

impl Field {
    /// Whether strings in it that begin with `@` are edges.
    pub fn is_input(&self) -> bool {
        !self.accepts.is_empty()
    }
}

/// Every kind that experiments may name.
#[derive(Clone, Copy)]
pub struct Registry(pub &'static [Kind]);

impl Registry {
    /// Finds a kind by name.
    pub fn get(&self, name: &str) -> Option<&'static Kind> {
        self.0.iter().find(|k| k.name == name)
    }
}
