//! Slips of syntax, in words that somebody who does not know TOML can act on.

use std::collections::BTreeSet;

use toml::de::Error;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::Sources;
use super::value::DEEPEST;

/// Reports what is wrong with the syntax of a text: the first thing on each line, for what follows on it is misread.
pub(super) fn report(
    syntax: &[Error],
    content: &str,
    (sources, text): (&mut Sources, usize),
    errors: &mut Diagnostics,
) {
    let mut lines = BTreeSet::new();
    for error in syntax {
        let span = error.span().unwrap_or(0..0);
        let at = content.floor_char_boundary(span.start);
        let line = content[..at].rfind('\n').map_or(0, |end| end + 1);
        if !lines.insert(line) {
            continue;
        }
        let word = content.get(span.clone()).unwrap_or_default();
        let (message, hint) = explained(error.message(), word);
        let origin = sources.place(text, span);
        let diagnostic = Diagnostic::at(origin, format!("invalid TOML: {message}"));
        errors.push(Diagnostic { hint, ..diagnostic });
    }
}

/// What is said of a slip: what the parser says, put in other words where it is hard to understand, and what to do.
fn explained(message: &str, word: &str) -> (String, Option<String>) {
    let starts = |with: &str| message.starts_with(with);
    if message.contains("recursi") {
        let message = format!("nested deeper than {DEEPEST} levels");
        return (
            message,
            Some("no experiment needs that many: is a bracket left open?".to_owned()),
        );
    }
    let hint = if starts("string values must be quoted") || starts("invalid boolean") {
        match word.to_lowercase().as_str() {
            "" => "a value is lacking",
            "true" | "false" => "`true` and `false` are written in small letters",
            "yes" | "no" | "on" | "off" => "write `true` or `false`; other texts stand in quotes",
            _ => {
                "a text stands in quotes; of a number, only the digits, `.`, `_` and an exponent may stand here"
            }
        }
    } else if starts("duplicate key") {
        "a key, and the header of a table, stand once in a file"
    } else if starts("missing escaped value") || starts("invalid escape") {
        "a backslash begins an escape: write `\\\\` for it, or the text in single quotes"
    } else if starts("invalid basic string, expected `\"`") {
        "a text ends with quotes on its line; one of several lines stands between `\"\"\"`"
    } else if starts("invalid basic string") {
        "write a control character as an escape, such as `\\u001b`"
    } else if starts("invalid unquoted key") || starts("key with no value") {
        "a line is `key = value` or `[table]`; a key with other characters stands in quotes"
    } else if starts("unexpected key or value") {
        "a line holds one `key = value`"
    } else if starts("carriage return") {
        "save the file with the line ends of Unix or Windows"
    } else if starts("invalid key-value pair") && word.starts_with('{') {
        "JSON is read from files whose names end in `.json`"
    } else if starts("missing comma") || starts("unclosed") {
        "is a bracket left open?"
    } else {
        return (plain(message), None);
    };
    (plain(message), Some(hint.to_owned()))
}

/// A message of the parser without what says nothing.
fn plain(message: &str) -> String {
    message.trim_end_matches(", expected nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use crate::spec::value::parse;
    use crate::spec::{Diagnostics, Sources};

    fn check(text: &str, count: usize, expected: &str) {
        let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
        let source = sources.add("x.toml", text);
        parse(&mut sources, source, text, &mut errors);
        let message = errors.render(&sources, false);
        assert!(message.contains(expected) && errors.len() == count, "{message}");
    }

    #[test]
    fn a_slip_is_said_once_a_line_with_what_to_do() {
        check("a = 007", 1, "unexpected leading zero");
        check("a = 1.", 1, "invalid fraction");
        check("a = [1, 2\n[b]\nc = 1\n", 2, "is a bracket left open?");
        check("a: 1", 1, "a line is `key = value`");
        check("a = yes\nb = True", 2, "small letters");
        let deep = format!("a = {}{}", "[".repeat(10_000), "]".repeat(10_000));
        check(&deep, 1, "nested deeper than 32 levels");
        check(&format!("[{}b]", "a.".repeat(10_000)), 1, "nested deeper than 32 levels");
    }
}
