//! Placeholders: `${axis}` and `${axis.key}` in the strings of a stage; `$${` stands for a plain `${`.

use std::collections::BTreeMap;

use crate::spec::axes::{self, Point};
use crate::spec::value::Entry;
use crate::spec::{Value, ValueKind};

/// A piece of a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text to be kept.
    Text(&'a str),
    /// `${axis}` or `${axis.key}`.
    Hole {
        /// The axis.
        axis: &'a str,
        /// The key of a table-valued point.
        key: Option<&'a str>,
    },
}

/// Splits a string into text and holes; an opening without an end is an error.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            pieces.push(Piece::Text(&rest[..at - 1]));
            pieces.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        pieces.push(Piece::Text(&rest[..at]));
        let inside = &rest[at + 2..];
        let end = inside
            .find('}')
            .ok_or("the placeholder has no closing `}`; a plain `${` is written `$${`")?;
        let (axis, key) = match inside[..end].split_once('.') {
            Some((axis, key)) => (axis.trim(), Some(key.trim())),
            None => (inside[..end].trim(), None),
        };
        pieces.push(Piece::Hole { axis, key });
        rest = &inside[end + 1..];
    }
    pieces.push(Piece::Text(rest));
    pieces.retain(|p| *p != Piece::Text(""));
    Ok(pieces)
}

/// A place on the axes: the point chosen on each.
pub type Place<'a> = BTreeMap<&'a str, &'a Point>;

/// Why a placeholder cannot be filled; `None` where the search for the stage's axes has said so already.
pub type Unfilled = Option<String>;

/// Replaces every placeholder in a value. A string that is one placeholder takes the point's value with its type and
/// origin, so that a message about it points into `[axes]`.
pub fn fill(value: &Value, place: &Place<'_>) -> Result<Value, Unfilled> {
    let kind = match &value.kind {
        // Most texts hold none.
        ValueKind::Text(text) if text.contains('$') => return fill_text(text, value, place),
        ValueKind::List(items) => {
            ValueKind::List(items.iter().map(|i| fill(i, place)).collect::<Result<_, _>>()?)
        }
        ValueKind::Table(entries) => {
            let filled = |entry: &Entry| {
                let (key, key_origin) = (entry.key.clone(), entry.key_origin);
                Ok(Entry { key, key_origin, value: fill(&entry.value, place)? })
            };
            ValueKind::Table(entries.iter().map(filled).collect::<Result<_, Unfilled>>()?)
        }
        plain => plain.clone(),
    };
    Ok(Value { kind, origin: value.origin })
}

fn fill_text(text: &str, value: &Value, place: &Place<'_>) -> Result<Value, Unfilled> {
    let pieces = pieces(text).map_err(|_| None)?;
    if let [Piece::Hole { axis, key }] = pieces.as_slice() {
        return lookup(axis, *key, place).cloned();
    }
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Hole { axis, key } => {
                let found = lookup(axis, key, place)?;
                let label = axes::label(found);
                let hole = key.map_or(axis.to_owned(), |key| format!("{axis}.{key}"));
                let refused =
                    || Some(format!("`${{{hole}}}` is {}, no part of a text", found.type_name()));
                out.push_str(&label.ok_or_else(refused)?);
            }
        }
    }
    Ok(Value { kind: ValueKind::Text(out), origin: value.origin })
}

fn lookup<'a>(axis: &str, key: Option<&str>, place: &Place<'a>) -> Result<&'a Value, Unfilled> {
    let point = place.get(axis).ok_or(None)?;
    match key {
        None => Ok(&point.value),
        Some(key) => point.value.get(key).ok_or_else(|| {
            Some(format!("the value `{}` of axis `{axis}` has no key `{key}`", point.label))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_holes_are_told_apart() {
        let hole = |axis, key| Piece::Hole { axis, key };
        let check = |text, expected: &[Piece<'_>]| assert_eq!(pieces(text).unwrap(), expected);
        check("plain", &[Piece::Text("plain")]);
        check("${a}", &[hole("a", None)]);
        check("@${a}.b", &[Piece::Text("@"), hole("a", None), Piece::Text(".b")]);
        check("${ a.b }", &[hole("a", Some("b"))]);
        check("$${a}", &[Piece::Text("${"), Piece::Text("a}")]);
        assert!(pieces("${a").is_err());
    }
}
