//! Several edges in one parameter: `"@s"`, `["@a", "@b"]`, or all instances of a stage along some axes, gathered as
//! `{ stage = "s", over = ["replicate"] }`.
//!
//! Planning writes a gathering out: each instance becomes an edge of its own, with its values on those axes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value as Json;

use super::parameter::{Input, marked};
use super::stage::Source;

/// Marks a gathering in serialized parameters that is not written out yet.
pub const GATHER: &str = "$gather";
/// Holds the axes of a gathering.
pub const OVER: &str = "over";
/// Holds the values of a gathered edge on those axes.
pub const AT: &str = "at";

/// One or several typed edges.
pub enum Inputs<S> {
    /// One edge.
    One(Input<S>),
    /// A list of edges.
    Each(Vec<Member<S>>),
    /// All instances of a stage along some axes; not after planning.
    Gather(Gather<S>),
}

/// One of several edges.
pub struct Member<S> {
    /// The edge.
    pub input: Input<S>,
    /// Its values on the axes that were gathered over; none where it was written by itself.
    pub at: BTreeMap<String, Json>,
}

/// A gathering as written.
pub struct Gather<S> {
    /// The stage, or `stage.output`, without `@`.
    stage: String,
    over: Vec<String>,
    source: std::marker::PhantomData<fn() -> S>,
}

impl<S> fmt::Debug for Inputs<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(input) => input.fmt(f),
            Self::Each(members) => {
                f.debug_list().entries(members.iter().map(|m| &m.input)).finish()
            }
            Self::Gather(Gather { stage, over, .. }) => {
                write!(f, "{stage} over {}", over.join(", "))
            }
        }
    }
}

impl<S: Source> Serialize for Inputs<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        match self {
            Self::One(input) => input.serialize(serializer),
            Self::Each(members) => members.serialize(serializer),
            Self::Gather(gather) => {
                let mut map = serializer.serialize_map(Some(3))?;
                map.serialize_entry(GATHER, &gather.stage)?;
                map.serialize_entry(OVER, &gather.over)?;
                map.serialize_entry("accepts", S::ACCEPTS)?;
                map.end()
            }
        }
    }
}

impl<S: Source> Serialize for Member<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        self.input.serialize_with(serializer, |map| {
            if self.at.is_empty() { Ok(()) } else { map.serialize_entry(AT, &self.at) }
        })
    }
}

impl<'de, S: Source> Deserialize<'de> for Inputs<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputsVisitor(std::marker::PhantomData))
    }
}

struct InputsVisitor<S>(std::marker::PhantomData<fn() -> S>);

impl<'de, S: Source> Visitor<'de> for InputsVisitor<S> {
    type Value = Inputs<S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an edge such as \"@stage\", a list of edges, or `{ stage = \"stage\", over = [\"axis\"] }`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Inputs<S>, E> {
        Input::deserialize(text.into_deserializer()).map(Inputs::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Inputs<S>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = list.next_element::<Member<S>>()? {
            members.push(member);
        }
        if members.is_empty() {
            return Err(de::Error::custom("the list holds no edge"));
        }
        Ok(Inputs::Each(members))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Inputs<S>, A::Error> {
        let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
        let Fields { stage, gather, input, over, .. } = fields;
        if let Some(edge) = input {
            return marked(edge).map(Inputs::One).map_err(de::Error::custom);
        }
        let stage = stage.or(gather).ok_or_else(|| de::Error::missing_field("stage"))?;
        let over = over.ok_or_else(|| de::Error::missing_field(OVER))?;
        if stage.starts_with('@') {
            let rest = stage.trim_start_matches('@');
            return Err(de::Error::custom(format!(
                "a gathering names its stage without `@`: `{rest}`"
            )));
        }
        Ok(Inputs::Gather(Gather { stage, over, source: std::marker::PhantomData }))
    }
}

/// The keys of a table that is a gathering as written, one as serialized, or an edge as serialized.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    stage: Option<String>,
    over: Option<Vec<String>>,
    #[serde(rename = "$gather")]
    gather: Option<String>,
    #[serde(rename = "$input")]
    input: Option<String>,
    #[serde(rename = "accepts")]
    _accepts: Option<Vec<String>>,
    #[serde(rename = "at")]
    at: Option<BTreeMap<String, Json>>,
}

impl<'de, S: Source> Deserialize<'de> for Member<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MemberVisitor<S>(std::marker::PhantomData<fn() -> S>);
        impl<'de, S: Source> Visitor<'de> for MemberVisitor<S> {
            type Value = Member<S>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an edge such as \"@stage\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Member<S>, E> {
                let input = Input::deserialize(text.into_deserializer())?;
                Ok(Member { input, at: BTreeMap::new() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Member<S>, A::Error> {
                let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
                let edge = fields.input.ok_or_else(|| {
                    de::Error::custom("a gathering stands by itself, not in a list of edges")
                })?;
                let input = marked(edge).map_err(de::Error::custom)?;
                Ok(Member { input, at: fields.at.unwrap_or_default() })
            }
        }
        deserializer.deserialize_any(MemberVisitor(std::marker::PhantomData))
    }
}

impl<S: Source> JsonSchema for Inputs<S> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Inputs".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-artifact": S::ACCEPTS,
            "anyOf": [
                { "type": "string", "pattern": "^[@$]" },
                { "type": "array", "items": { "type": "string", "pattern": "^[@$]" }, "minItems": 1 },
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["stage", "over"],
                    "properties": {
                        "stage": { "type": "string", "description": "The stage, or `stage.output`." },
                        "over": {
                            "type": "array",
                            "items": { "type": "string" },
                            "description": "The axes along which all its instances are taken."
                        }
                    }
                }
            ]
        })
    }
}
