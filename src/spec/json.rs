//! Experiments in JSON, as programs write them: the same structure as in TOML, read into the same values.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jsonc_parser::ast::{self, Object};
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::{Origin, Sources};
use super::value::{DEEPEST, Entry, Value, ValueKind, WHOLE_NUMBERS};

/// JSON as its standard has it: programs write it, so that no leniency is needed.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Parses JSON into a table; what is wrong with it goes to `errors`, and what could be read comes back.
pub fn parse(sources: &mut Sources, text: usize, content: &str, errors: &mut Diagnostics) -> Value {
    let whole = sources.place(text, 0..0);
    let nothing = Value { kind: ValueKind::Table(Vec::new()), origin: whole };
    // Some programs begin a text with a byte order mark; in spaces, it changes no place.
    let content = match content.strip_prefix('\u{feff}') {
        Some(rest) => Cow::Owned(format!("   {rest}")),
        None => Cow::Borrowed(content),
    };
    let parsed = match parse_to_ast(&content, &CollectOptions::default(), &STRICT) {
        Ok(parsed) => parsed.value,
        Err(error) => {
            let Range { start, end } = error.range();
            let origin = sources.place(text, start..end);
            errors.push(Diagnostic::at(origin, format!("invalid JSON: {}", error.kind())));
            return nothing;
        }
    };
    let Some(ast::Value::Object(object)) = parsed else {
        let message = "an experiment in JSON is an object: `{ \"experiment\": { … }, … }`";
        errors.push(Diagnostic::at(whole, message));
        return nothing;
    };
    let mut reader = Reader { content: &content, sources, text, errors };
    let entries = reader.object(object, 0);
    Value { kind: ValueKind::Table(entries), origin: whole }
}

struct Reader<'a> {
    content: &'a str,
    sources: &'a mut Sources,
    text: usize,
    errors: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn place(&mut self, Range { start, end }: Range) -> Origin {
        self.sources.place(self.text, start..end)
    }

    fn refuse<T>(&mut self, origin: Origin, message: impl Into<String>) -> Option<T> {
        self.errors.push(Diagnostic::at(origin, message));
        None
    }

    fn object(&mut self, object: Object<'_>, depth: usize) -> Vec<Entry> {
        let mut seen = BTreeSet::new();
        let mut entries = Vec::with_capacity(object.properties.len());
        for property in object.properties {
            let key_origin = self.place(property.name.range());
            self.refuse_controls(property.name.range(), key_origin);
            let key = property.name.into_string();
            if !seen.insert(key.clone()) {
                self.refuse::<()>(key_origin, format!("the key `{key}` stands here twice"));
                continue;
            }
            if let Some(value) = self.value(property.value, depth + 1) {
                entries.push(Entry { key, key_origin, value });
            }
        }
        entries
    }

    fn value(&mut self, value: ast::Value<'_>, depth: usize) -> Option<Value> {
        let origin = self.place(value.range());
        if depth > DEEPEST {
            return self.refuse(origin, format!("nested deeper than {DEEPEST} levels"));
        }
        let kind = match value {
            ast::Value::StringLit(text) => {
                self.refuse_controls(text.range, origin);
                ValueKind::Text(text.value.into_owned())
            }
            ast::Value::BooleanLit(flag) => ValueKind::Bool(flag.value),
            ast::Value::NumberLit(number) => self.number(number.value, origin)?,
            ast::Value::Array(array) => ValueKind::List(
                array.elements.into_iter().filter_map(|item| self.value(item, depth + 1)).collect(),
            ),
            ast::Value::Object(object) => ValueKind::Table(self.object(object, depth)),
            ast::Value::NullKeyword(_) => {
                return self.refuse(origin, "`null` is no value here: leave the key out");
            }
        };
        Some(Value { kind, origin })
    }

    /// Reports a string that holds a line end or the like as it is: the crate lets it pass, the standard does not.
    fn refuse_controls(&mut self, Range { start, end }: Range, origin: Origin) {
        if self.content[start..end].contains(|c: char| c < ' ') {
            let message = "a string in JSON holds no control characters";
            let hint = "write a line end as `\\n`, a tab as `\\t`";
            self.errors.push(Diagnostic::at(origin, message).hint(hint));
        }
    }

    fn number(&mut self, text: &str, origin: Origin) -> Option<ValueKind> {
        if !text.contains(['.', 'e', 'E']) {
            return match text.parse() {
                Ok(whole) => Some(ValueKind::Int(whole)),
                Err(_) => {
                    let message = "the integer does not fit into 64 bits";
                    self.errors.push(Diagnostic::at(origin, message).hint(WHOLE_NUMBERS));
                    None
                }
            };
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Some(ValueKind::Float(number)),
            _ => self.refuse(origin, "the number is too large"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text is read as, and what is said of it.
    fn read(text: &str) -> (Value, String) {
        let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
        let source = sources.add("x.json", text);
        let value = parse(&mut sources, source, text, &mut errors);
        (value, errors.render(&sources, false))
    }

    #[test]
    fn values_come_with_their_types() {
        let (value, errors) =
            read(r#"{ "a": [1, -2.5, 1e3, true], "b": { "c": "\u00e9\n" }, "d": -0 }"#);
        assert!(errors.starts_with("0 errors"), "{errors}");
        let ValueKind::List(items) = &value.get("a").unwrap().kind else { panic!("a list") };
        assert!(matches!(
            items.iter().map(|item| &item.kind).collect::<Vec<_>>()[..],
            [ValueKind::Int(1), ValueKind::Float(_), ValueKind::Float(_), ValueKind::Bool(true)]
        ));
        assert_eq!(value.get("b").unwrap().get("c").unwrap().as_text(), Some("é\n"));
        assert!(matches!(value.get("d").unwrap().kind, ValueKind::Int(0)));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let deep = format!("{{ \"a\": {}{} }}", "[".repeat(40), "]".repeat(40));
        let deepest = "[".repeat(100_000);
        let check = |text: &str, expected: &str| {
            let (_, errors) = read(text);
            assert!(errors.contains(expected), "{text}: {errors}");
        };
        check("", "an experiment in JSON is an object");
        check("[1]", "an experiment in JSON is an object");
        check(r#"{ "a": 1, "a": 2 }"#, "the key `a` stands here twice");
        check(r#"{ "a": null }"#, "`null` is no value here");
        check(r#"{ "a": 9223372036854775808 }"#, "does not fit into 64 bits");
        check(r#"{ "a": 1e999 }"#, "the number is too large");
        check(r#"{ "a": NaN }"#, "invalid JSON");
        check(r#"{ "a": 1, }"#, "invalid JSON");
        check("\u{feff}{ \"a\": nul }", "x.json:1:8]");
        check("{ 'a': 1 }", "invalid JSON");
        check("{ \"a\": 1 // no\n }", "invalid JSON");
        check(&deep, "nested deeper than 32 levels");
        check(&deepest, "invalid JSON");
    }
}
