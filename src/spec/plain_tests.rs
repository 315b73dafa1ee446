//! Plain TOML read both ways: by the reader of plain texts, and by `toml`.

use proptest::prelude::*;

use super::diagnostic::Diagnostics;
use super::plain::read;
use super::source::{Origin, Sources};
use super::value::{Value, ValueKind, parse_any};

/// Writes a value with the places of all its parts.
fn shown(value: &Value, sources: &Sources, out: &mut String) {
    let place = |origin: Origin| format!("{:?}", sources.locate(origin).1);
    *out += &place(value.origin);
    match &value.kind {
        ValueKind::List(items) => {
            *out += "[";
            for item in items {
                shown(item, sources, out);
            }
            *out += "]";
        }
        ValueKind::Table(entries) => {
            *out += "{";
            for entry in entries {
                *out += &format!("{:?}{}=", entry.key, place(entry.key_origin));
                shown(&entry.value, sources, out);
            }
            *out += "}";
        }
        plain => *out += &format!("{plain:?}"),
    }
}

/// Reads a text both ways, which must agree, and says whether it is plain.
fn is_plain(text: &str) -> bool {
    let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
    let source = sources.add("x.toml", text);
    let Some(plain) = read(&mut sources, source, text) else {
        assert_eq!(sources.places(), 0, "{text}");
        return false;
    };
    let any = parse_any(&mut sources, source, text, &mut errors);
    assert!(errors.is_empty(), "{}", errors.render(&sources, false));
    let (mut first, mut second) = (String::new(), String::new());
    shown(&plain, &sources, &mut first);
    shown(&any, &sources, &mut second);
    assert_eq!(first, second, "{text}");
    true
}

#[test]
fn what_people_write_is_plain() {
    let plain = [
        "",
        "a = 1\n[b.c] # d\n\"e f\" = -2\n[b.c.d]\n[b.e]\n[[f]]\nx = 1\n[[f]]\n[[b.g]]\n[[b.g]]",
        "a = [1, 2.5e3, -0.0, +7, true, [\"x\\n\\\"\", 'y\\'], # c\n\n { b = 1 , cd = 2 },\n]",
        "s = \"\"\"\nlines\n \"of\" text\"\"\"\nl = '''it's \\ so'''\ne = ''\nt = {}\nv = []\n",
        "\t[a]\t\n e = 1\n\n#\n# ünïcode\nf = \"naïve\"",
    ];
    for text in plain {
        assert!(is_plain(text), "{text}");
    }
}

#[test]
fn what_is_wrong_or_rare_is_not_plain() {
    let other = [
        "a = 1\na = 2",
        "[a]\n[a]",
        "[a.b]\n[a]",
        "[a]\nb = 1\n[a.b]",
        "[a]\nb = {}\n[a.b.c]",
        "a = 1\n[a.b]",
        "[[a]]\n[a.b]",
        "[[a]]\n[a]",
        "[a]\n[[a]]",
        "a = []\n[[a]]",
        "[a.b]\n[c]\n[a.d]\n[a.b.e]",
        "a.b = 1",
        "['a']",
        "[a ]",
        "[a.]",
        "[]",
        "= 1",
        "a =",
        "a = 1 b = 2",
        "a = [1",
        "a = [1 2]",
        "a = { b = 1, }",
        "a = { b = 1, b = 2 }",
        "a = 01",
        "a = 1.",
        "a = .5",
        "a = 1_000",
        "a = 0x10",
        "a = inf",
        "a = 1979-05-27",
        "a = 99999999999999999999",
        "a = 1e999",
        "a = \"\\u0041\"",
        "a = \"b",
        "a = 'b\nc'",
        "a = \"\"\"b\"\"\"\"",
        "a = \"\"\"\\n\"\"\"",
        "a = 1\r\n",
        "a = 1 # \u{1}",
        "\u{feff}a = 1",
    ];
    for text in other {
        assert!(!is_plain(text), "{text}");
    }
    assert!(!is_plain(&format!("a = {}1{}", "[".repeat(20), "]".repeat(20))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is read here `toml` reads too, and alike, places included.
    #[test]
    fn both_readers_agree(lines in prop::collection::vec(line(), 0..12)) {
        is_plain(&lines.join("\n"));
    }

    /// So with any damage to a good text.
    #[test]
    fn both_readers_agree_on_damage(
        at in 0usize..300,
        junk in "[\\[\\]{}=\"'\\\\@$.,#ae\n0-9_+ -]{0,4}",
    ) {
        let good = "x = 'é'\n[experiment]\nname = \"x\"\nseed = 3\n[axes]\na = [1, 2]\nb = { range = [0, 3] }\n\
                    [stages.s]\nkind = \"k\"\nq = { r = [1.5, 2e3], t = '''u\n''' }\n[stages.s.v]\n\
                    w = \"\"\"\n1\"\"\"\n[[figures.f.layers]]\nfrom = \"s\" # c\n[[figures.f.layers]]\n";
        assert!(is_plain(good));
        let at = good.floor_char_boundary(at % good.len());
        let rest = good[at..].chars().next().map_or(at, |c| at + c.len_utf8());
        is_plain(&format!("{}{junk}{}", &good[..at], &good[rest..]));
    }
}

/// A line of TOML, or nearly so.
fn line() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a", "b", "c", "stages", "\"d e\"", "a.b", "1"]);
    let value = prop_oneof![
        "[+-]?[0-9]{1,3}(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?",
        "(true|false|inf|nan|0x1f|1_0|1979-05-27|07:32:00)",
        "['\"]{1,3}[a-z \\\\#'\"\n]{0,5}['\"]{1,3}",
        "\\[ ?([0-9],? ?#?\n?){0,3}\\]",
        "\\{ ?(a = 1,? ?){0,2}\\}",
    ];
    prop_oneof![
        (name(), value).prop_map(|(name, value)| format!("{name} = {value}")),
        (name(), name()).prop_map(|(a, b)| format!("[{a}.{b}]")),
        name().prop_map(|name| format!("[{name}]")),
        (name(), name()).prop_map(|(a, b)| format!("[[{a}.{b}]]")),
        name().prop_map(|name| format!("[[{name}]]")),
        Just(" # comment".to_owned()),
    ]
}
