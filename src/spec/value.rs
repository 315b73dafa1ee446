//! TOML values that remember where they were written.

use std::ops::Range;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::plain;
use super::source::{Origin, Sources};
use super::syntax;

/// A value and its origin.
#[derive(Clone, Debug)]
pub struct Value {
    /// What was written.
    pub kind: ValueKind,
    /// Where it was written.
    pub origin: Origin,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum ValueKind {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number with a fraction or an exponent.
    Float(f64),
    /// A string.
    Text(String),
    /// `[ … ]`.
    List(Vec<Value>),
    /// A table, in the order written.
    Table(Vec<Entry>),
}

impl ValueKind {
    /// The same value without its places.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Bool(flag) => (*flag).into(),
            Self::Int(number) => (*number).into(),
            Self::Float(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::List(items) => items.iter().map(|item| item.kind.to_json()).collect(),
            Self::Table(entries) => {
                entries.iter().map(|e| (e.key.clone(), e.value.kind.to_json())).collect()
            }
        }
    }
}

/// One `key = value` of a table.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub key_origin: Origin,
    /// The value.
    pub value: Value,
}

impl Value {
    /// Names the type as TOML users do.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            ValueKind::Bool(_) => "a boolean",
            ValueKind::Int(_) => "an integer",
            ValueKind::Float(_) => "a float",
            ValueKind::Text(_) => "a string",
            ValueKind::List(_) => "a list",
            ValueKind::Table(_) => "a table",
        }
    }

    /// Looks a key up, if this is a table that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|e| e.key == key).map(|e| &e.value)
    }

    /// Takes a key out, if this is a table that has it.
    pub fn take(&mut self, key: &str) -> Option<Self> {
        let ValueKind::Table(entries) = &mut self.kind else { return None };
        let at = entries.iter().position(|e| e.key == key)?;
        Some(entries.remove(at).value)
    }

    /// The entries of a table; none for any other value.
    pub fn entries(&self) -> &[Entry] {
        match &self.kind {
            ValueKind::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The entries of a table, to be changed; none for any other value.
    pub fn entries_mut(&mut self) -> &mut [Entry] {
        match &mut self.kind {
            ValueKind::Table(entries) => entries,
            _ => &mut [],
        }
    }

    /// The string, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Calls `f` on every string in this value.
    pub fn each_text<'a>(&'a self, f: &mut dyn FnMut(&'a str, Origin)) {
        match &self.kind {
            ValueKind::Text(text) => f(text, self.origin),
            ValueKind::List(items) => items.iter().for_each(|item| item.each_text(f)),
            ValueKind::Table(entries) => entries.iter().for_each(|e| e.value.each_text(f)),
            ValueKind::Bool(_) | ValueKind::Int(_) | ValueKind::Float(_) => (),
        }
    }
}

/// Parses TOML into a table; syntax errors go to `errors`, and what could be read comes back.
pub fn parse(sources: &mut Sources, text: usize, content: &str, errors: &mut Diagnostics) -> Value {
    let plain = plain::read(sources, text, content);
    plain.unwrap_or_else(|| parse_any(sources, text, content, errors))
}

/// Parses TOML as [`parse`] does, be it plain or not.
pub(super) fn parse_any(
    sources: &mut Sources,
    text: usize,
    content: &str,
    errors: &mut Diagnostics,
) -> Value {
    let (table, syntax) = DeTable::parse_recoverable(content);
    let mistaken = !syntax.is_empty();
    syntax::report(&syntax, content, (&mut *sources, text), errors);
    let span = table.span();
    // What follows a slip of syntax is misread: what would be said of it is not meant.
    let mut unsaid = Diagnostics::default();
    let errors = if mistaken { &mut unsaid } else { errors };
    let mut reader = Reader { sources, text, errors };
    let entries = reader.table(table.into_inner(), 0);
    Value { kind: ValueKind::Table(entries), origin: reader.sources.place(text, span) }
}

/// Tables nested deeper than this are refused: no experiment needs them, and recursion is bounded by it.
pub(super) const DEEPEST: usize = 32;

/// Which integers there are.
pub(super) const WHOLE_NUMBERS: &str =
    "integers lie between -9223372036854775808 and 9223372036854775807";

struct Reader<'a> {
    sources: &'a mut Sources,
    text: usize,
    errors: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn table(&mut self, table: DeTable<'_>, depth: usize) -> Vec<Entry> {
        let mut entries: Vec<(usize, Entry)> = Vec::new();
        for (key, value) in table {
            let start = key.span().start;
            let key_origin = self.sources.place(self.text, key.span());
            if let Some(value) = self.value(value, depth + 1) {
                let key = key.into_inner().into_owned();
                entries.push((start, Entry { key, key_origin, value }));
            }
        }
        entries.sort_by_key(|(start, _)| *start);
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    fn value(&mut self, value: Spanned<DeValue<'_>>, depth: usize) -> Option<Value> {
        let span = value.span();
        let origin = self.sources.place(self.text, span.clone());
        if depth > DEEPEST {
            let hint = "no experiment needs that many: is a bracket left open?";
            self.refuse(span, &format!("nested deeper than {DEEPEST} levels"), hint);
            return None;
        }
        let kind = match value.into_inner() {
            DeValue::String(text) => ValueKind::Text(text.into_owned()),
            DeValue::Integer(number) => ValueKind::Int(self.integer(&number, span)?),
            DeValue::Float(number) => ValueKind::Float(self.float(&number, span)?),
            DeValue::Boolean(flag) => ValueKind::Bool(flag),
            DeValue::Datetime(_) => {
                let hint = "as a text, it stands in quotes";
                self.refuse(span, "a date or time has no meaning in an experiment", hint);
                return None;
            }
            DeValue::Array(items) => ValueKind::List(
                items.into_iter().filter_map(|i| self.value(i, depth + 1)).collect(),
            ),
            DeValue::Table(table) => ValueKind::Table(self.table(table, depth)),
        };
        Some(Value { kind, origin })
    }

    fn integer(&mut self, number: &DeInteger<'_>, span: Range<usize>) -> Option<i64> {
        let parsed = i64::from_str_radix(number.as_str(), number.radix()).ok();
        if parsed.is_none() {
            self.refuse(span, "the integer does not fit into 64 bits", WHOLE_NUMBERS);
        }
        parsed
    }

    fn float(&mut self, number: &DeFloat<'_>, span: Range<usize>) -> Option<f64> {
        let parsed = number.as_str().parse::<f64>().ok().filter(|f| f.is_finite());
        if parsed.is_none() {
            let message = "parameters are finite numbers: NaN and infinities are refused";
            self.refuse(span, message, "the largest is about 1.8e308");
        }
        parsed
    }

    fn refuse(&mut self, span: Range<usize>, message: &str, hint: &str) {
        let origin = self.sources.place(self.text, span);
        self.errors.push(Diagnostic::at(origin, message).hint(hint));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spec::experiment::read_text;

    proptest! {
        /// No text may panic the reader, and whatever is wrong with it can be shown.
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
            read_text("x.toml".as_ref(), &text, &mut sources, &mut errors);
            prop_assert!(!errors.is_empty());
            errors.render(&sources, false);
        }

        /// Neither may any damage to a good experiment.
        #[test]
        fn a_damaged_experiment_is_read_or_refused(at in 0usize..400, junk in "[\\[\\]{}=\"'@$.,#a\\n0-9]{0,6}") {
            let good = "[experiment]\nname = \"x\"\nseed = 3\n[axes]\na = [1, 2]\nb = { range = [0, 3] }\n\
                        [stages.s]\nkind = \"k\"\np = \"${a}\"\nq = { r = [1.5, 2e3] }\n[tables.t]\nfrom = \"s\"\n";
            let at = at % good.len();
            let text = format!("{}{junk}{}", &good[..at], &good[at + 1..]);
            let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
            read_text("x.toml".as_ref(), &text, &mut sources, &mut errors);
            errors.render(&sources, false);
        }
    }

    #[test]
    fn what_no_parameter_can_be_is_refused() {
        let check = |text: &str, expected: &str| {
            let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
            let source = sources.add("x.toml", text);
            parse(&mut sources, source, text, &mut errors);
            let message = errors.render(&sources, false);
            assert!(message.contains(expected), "{message}");
        };
        check("a = inf", "NaN and infinities are refused");
        check("a = 99999999999999999999", "does not fit into 64 bits");
        check("a = 1979-05-27", "has no meaning in an experiment");
        check(&format!("a = {}1{}", "[".repeat(40), "]".repeat(40)), "nested deeper");
        check("a = 1\na = 2", "duplicate key");
    }
}
