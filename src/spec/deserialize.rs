//! From values with origins to typed structs: a serde deserializer whose errors say where.

use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::source::Origin;
use super::suggest;
use super::value::{Entry, Value, ValueKind};

/// Reads a typed value.
///
/// # Errors
/// The first thing that does not fit, with its message, its place and the top-level key it lies under.
pub fn from_value<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, Error> {
    T::deserialize(value)
}

/// Reads a typed table, and reports every mistake in it at once: each is reported with its key, the key is left out,
/// and the rest is read again until only what was left out is missing.
pub fn from_table<T: for<'de> Deserialize<'de>>(
    value: &Value,
    report: &mut dyn FnMut(Error),
) -> Option<T> {
    let mut rest = value.clone();
    let mut whole = true;
    loop {
        match from_value(&rest) {
            Ok(read) => return whole.then_some(read),
            Err(error) => {
                let (key, first) = (error.key.clone(), whole);
                if key.is_some() || first {
                    report(error);
                }
                whole = false;
                match (key, &mut rest.kind) {
                    (Some(key), ValueKind::Table(entries)) => entries.retain(|e| e.key != key),
                    _ => return None,
                }
            }
        }
    }
}

/// Why a value does not fit its type.
#[derive(Debug)]
pub struct Error {
    /// What serde says.
    pub message: String,
    /// The innermost value that it is about.
    pub origin: Option<Origin>,
    /// The outermost key on the way to it.
    pub key: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Error {
    fn within(mut self, origin: Origin) -> Self {
        self.origin.get_or_insert(origin);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Error {}
impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), origin: None, key: None, hint: None }
    }
    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected.to_string();
        Self::custom(format!("expected {}, found {}", words(&expected), found(unexpected)))
    }
    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }
    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        // Those that begin with `$`, and those behind them, are for programs.
        let keys = expected.iter().copied().take_while(|key| !key.starts_with('$'));
        let hint = suggest::hint(field, "keys", keys);
        Self { hint: Some(hint), ..Self::custom(format!("unknown key `{field}`")) }
    }
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = suggest::hint(variant, "choices", expected.iter().copied());
        Self { hint: Some(hint), ..Self::custom(format!("unknown choice `{variant}`")) }
    }
    fn invalid_length(length: usize, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {}, found {length} of them", words(&expected.to_string())))
    }
    fn missing_field(field: &'static str) -> Self {
        Self::custom(format!("`{field}` is missing"))
    }
}

/// Says in words what was found.
fn found(unexpected: de::Unexpected<'_>) -> String {
    match unexpected {
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Map => "a table".to_owned(),
        de::Unexpected::Float(number) => format!("number `{number:?}`"),
        other => other.to_string(),
    }
}

/// Says in words what Rust's name of a type asks for.
fn words(expected: &str) -> &str {
    match expected {
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number of at least 0",
        "isize" | "i64" | "i32" | "i16" | "i8" => "a whole number",
        "f64" | "f32" => "a number",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "a map" => "a table",
        other => other.strip_prefix("struct ").map_or(other, |_| "a table"),
    }
}

impl<'de> Deserializer<'de> for &'de Value {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match &self.kind {
            ValueKind::Bool(flag) => visitor.visit_bool(*flag),
            ValueKind::Int(number) => visitor.visit_i64(*number),
            ValueKind::Float(number) => visitor.visit_f64(*number),
            ValueKind::Text(text) => visitor.visit_borrowed_str(text),
            ValueKind::List(items) => visitor.visit_seq(List(items.iter())),
            ValueKind::Table(entries) => {
                visitor.visit_map(Table { entries: entries.iter(), value: None })
            }
        };
        result.map_err(|e| e.within(self.origin))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self).map_err(|e| e.within(self.origin))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let result = match &self.kind {
            ValueKind::Text(variant) => {
                let named: StrDeserializer<'_, Error> = variant.as_str().into_deserializer();
                visitor.visit_enum(named).map_err(|error| parameters_missing(variant, error))
            }
            ValueKind::Table(entries) => match entries.as_slice() {
                [entry] => visitor.visit_enum(Variant(entry)),
                _ => Err(de::Error::custom(format!(
                    "expected a table with exactly one key that names the variant, found {} keys",
                    entries.len()
                ))),
            },
            _ => Err(de::Error::custom(format!(
                "expected a string or a table that names the variant, found {}",
                self.type_name()
            ))),
        };
        result.map_err(|e| e.within(self.origin))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// A variant that has parameters was named by a string alone: says how to give them.
fn parameters_missing(variant: &str, error: Error) -> Error {
    if !error.message.ends_with("found unit variant") {
        return error;
    }
    let hint =
        format!("write `{{ {variant} = {{ … }} }}`, with the parameters in the inner braces");
    Error { hint: Some(hint), ..de::Error::custom(format!("`{variant}` takes parameters")) }
}

struct List<'de>(std::slice::Iter<'de, Value>);

impl<'de> de::SeqAccess<'de> for List<'de> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|value| seed.deserialize(value)).transpose()
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Table<'de> {
    entries: std::slice::Iter<'de, Entry>,
    value: Option<&'de Entry>,
}

impl<'de> de::MapAccess<'de> for Table<'de> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(entry);
        let key = StrDeserializer::<Error>::new(&entry.key);
        seed.deserialize(key).map(Some).map_err(|mut e| {
            e.key = Some(entry.key.clone());
            e.within(entry.key_origin)
        })
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let entry = self.value.take().expect("serde asks for a key before its value");
        seed.deserialize(&entry.value).map_err(|mut e| {
            e.key = Some(entry.key.clone());
            e.within(entry.value.origin)
        })
    }
}

struct Variant<'de>(&'de Entry);

impl<'de> de::EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = &'de Value;
    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Error> {
        let name = StrDeserializer::<Error>::new(&self.0.key);
        let name = seed.deserialize(name).map_err(|e| e.within(self.0.key_origin))?;
        Ok((name, &self.0.value))
    }
}

impl<'de> de::VariantAccess<'de> for &'de Value {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        match &self.kind {
            ValueKind::Table(entries) if entries.is_empty() => Ok(()),
            _ => Err(de::Error::custom("this variant takes no parameters")),
        }
        .map_err(|e: Error| e.within(self.origin))
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}
