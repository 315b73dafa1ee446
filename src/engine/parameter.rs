//! Parameter types with a meaning to the engine: edges, seeds and paths of data.
//!
//! In TOML they are a string, an integer and a string. Serialized, each is an object with one telling key (`$input`,
//! `$seed`, `$path`), which is how planning and hashing find them in any parameter struct.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::stage::Source;
use crate::rng::Streams;

/// Marks an edge in serialized parameters.
pub const INPUT: &str = "$input";
/// Marks a seed in serialized parameters.
pub const SEED: &str = "$seed";
/// Marks a path of user data in serialized parameters.
pub const PATH: &str = "$path";
/// Holds the name of a [`NamedPath`] in serialized parameters.
pub const NAME: &str = "name";
/// Holds what a Python script imports from beside it, in serialized parameters.
pub const IMPORTS: &str = "imports";
/// Names the accepted artifact types in the JSON Schema of an input field.
pub const ACCEPTS: &str = "x-artifact";
/// Names the unit in the JSON Schema of a quantity.
pub const UNIT_SCHEMA: &str = "x-unit";
/// Says in the JSON Schema of a path of user data where users get such data: told where there is nothing.
pub const OBTAIN_SCHEMA: &str = "x-obtain";
/// Marks the JSON Schema of a path of user data.
pub const PATH_SCHEMA: &str = "x-path";

/// A typed edge: a parameter that takes the output of another stage, written `"@stage"` or `"@stage.output"`.
pub struct Input<S> {
    edge: String,
    source: PhantomData<fn() -> S>,
}

impl<S: Source> Input<S> {
    /// The edge as written, `@` included.
    pub fn edge(&self) -> &str {
        &self.edge
    }
}

impl<S> fmt::Debug for Input<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.edge)
    }
}

impl<S: Source> Input<S> {
    /// Serializes the edge with more that is said of it.
    pub(super) fn serialize_with<T: Serializer>(
        &self,
        serializer: T,
        more: impl FnOnce(&mut T::SerializeMap) -> Result<(), T::Error>,
    ) -> Result<T::Ok, T::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(INPUT, &self.edge)?;
        map.serialize_entry("accepts", S::ACCEPTS)?;
        more(&mut map)?;
        map.end()
    }
}

/// An edge from its text, `@` included.
pub(super) fn marked<S>(edge: String) -> Result<Input<S>, &'static str> {
    if !edge.starts_with('@') {
        return Err("expected an edge such as \"@stage\": it begins with `@`");
    }
    Ok(Input { edge, source: PhantomData })
}

impl<S: Source> Serialize for Input<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        self.serialize_with(serializer, |_| Ok(()))
    }
}

impl<'de, S: Source> Deserialize<'de> for Input<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let edge = deserializer.deserialize_any(Marked::<String> {
            key: INPUT,
            expected: "an edge such as \"@stage\"",
            value: PhantomData,
        })?;
        marked(edge).map_err(de::Error::custom)
    }
}

impl<S: Source> JsonSchema for Input<S> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Input".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[@$]", "x-artifact": S::ACCEPTS })
    }
}

/// A seed as written (0 where absent), mixed with the experiment's root seed at planning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// Opens the streams of a kind. Inside `run` the seed is the resolved one.
    pub fn streams(self, kind: &str) -> Streams {
        Streams::new(self.0, kind)
    }

    /// Mixes a written seed with the experiment's.
    pub fn resolve(experiment: u64, written: u64) -> u64 {
        let mut hash = blake3::Hasher::new_derive_key("wavecrest-seed-v1");
        hash.update(&experiment.to_le_bytes()).update(&written.to_le_bytes());
        let bytes = *hash.finalize().as_bytes();
        u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes of thirty-two"))
    }
}

impl Serialize for Seed {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(SEED, &self.0)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a seed: a whole number of at least 0";
        deserializer
            .deserialize_any(Marked::<u64> { key: SEED, expected, value: PhantomData })
            .map(Self)
    }
}

impl JsonSchema for Seed {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Seed".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }
}

/// A file or folder of the user's, relative to the experiment file; its content is part of the key, its name is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPath {
    written: String,
    resolved: Option<PathBuf>,
    /// The hash of its content, as planned.
    planned: Option<String>,
    /// What a Python script imports.
    imports: Vec<NamedPath>,
}

impl DataPath {
    /// The path as written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The path to read. Inside `run` it is absolute.
    pub fn path(&self) -> &Path {
        self.resolved.as_deref().unwrap_or(Path::new(&self.written))
    }

    /// Whether a copy of it is what was planned with.
    fn is_planned(&self, copy: &Path) -> bool {
        let found = || crate::store::hash::data(copy).map(|hash| hash.to_hex());
        self.planned.as_ref().is_none_or(|planned| found().is_ok_and(|found| found == *planned))
    }
}

impl Serialize for DataPath {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(PATH, &self.written)?;
        if let Some(resolved) = &self.resolved {
            map.serialize_entry("resolved", resolved)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for DataPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathVisitor;
        impl<'de> Visitor<'de> for PathVisitor {
            type Value = DataPath;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, relative to the experiment file")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<DataPath, E> {
                Ok(DataPath {
                    written: text.to_owned(),
                    resolved: None,
                    planned: None,
                    imports: Vec::new(),
                })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DataPath, A::Error> {
                let (mut written, mut resolved, mut planned) = (None, None, None);
                let mut imports = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        PATH => written = Some(map.next_value()?),
                        "resolved" => resolved = Some(map.next_value()?),
                        "hash" => planned = Some(map.next_value()?),
                        IMPORTS => imports = map.next_value()?,
                        _ => {
                            map.next_value::<de::IgnoredAny>()?;
                        }
                    }
                }
                let written = written.ok_or_else(|| de::Error::missing_field(PATH))?;
                Ok(DataPath { written, resolved, planned, imports })
            }
        }
        deserializer.deserialize_any(PathVisitor)
    }
}

impl JsonSchema for DataPath {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "DataPath".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", PATH_SCHEMA: true })
    }
}

/// A file or folder of the user's whose name matters too: a program finds it under the path as written, so that path
/// is part of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPath(DataPath);

impl NamedPath {
    /// The path as written.
    pub fn written(&self) -> &str {
        self.0.written()
    }

    /// The path to read. Inside `run` it is absolute.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// What it imports from beside it, if it is a Python script.
    pub fn imports(&self) -> &[Self] {
        &self.0.imports
    }

    /// Whether a copy of it is what was planned with: it may have been edited since, even if it is put back later.
    pub fn is_planned(&self, copy: &Path) -> bool {
        self.0.is_planned(copy)
    }
}

impl Serialize for NamedPath {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(PATH, &self.0.written)?;
        map.serialize_entry(NAME, &self.0.written)?;
        if let Some(resolved) = &self.0.resolved {
            map.serialize_entry("resolved", resolved)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for NamedPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DataPath::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for NamedPath {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "NamedPath".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        DataPath::json_schema(generator)
    }
}

/// Reads a plain value, or the object that holds it under its telling key.
struct Marked<T> {
    key: &'static str,
    expected: &'static str,
    value: PhantomData<T>,
}

impl<'de, T: Deserialize<'de> + FromPlain> Visitor<'de> for Marked<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).ok_or_else(|| E::invalid_type(de::Unexpected::Str(text), &self))
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let made = u64::try_from(number).ok().and_then(T::from_number);
        made.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        T::from_number(number)
            .ok_or_else(|| E::invalid_type(de::Unexpected::Unsigned(number), &self))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.key {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<de::IgnoredAny>()?;
            }
        }
        found.ok_or_else(|| de::Error::invalid_type(de::Unexpected::Map, &self))
    }
}

trait FromPlain: Sized {
    fn from_text(_text: &str) -> Option<Self> {
        None
    }
    fn from_number(_number: u64) -> Option<Self> {
        None
    }
}
impl FromPlain for String {
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}
impl FromPlain for u64 {
    fn from_number(number: u64) -> Option<Self> {
        Some(number)
    }
}
