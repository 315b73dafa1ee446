//! Rules of the sources that no lint checks: which way the arrows run, and how long files are.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests end where something is not as it should be, and read the sources"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// What each module may use of the others, as ARCHITECTURE.md draws it.
const ARROWS: [(&str, &[&str]); 15] = [
    ("rng", &[]),
    ("omit", &[]),
    ("colormap", &[]),
    ("waves", &["rng"]),
    ("manifold", &["rng"]),
    ("landscape", &["rng"]),
    ("nn", &["rng", "omit"]),
    ("spec", &[]),
    ("store", &[]),
    ("engine", &["spec", "store", "rng"]),
    ("artifacts", &["engine", "store"]),
    ("report", &["store", "colormap"]),
    ("plan", &["spec", "engine", "store", "report"]),
    (
        "stages",
        &[
            "engine",
            "artifacts",
            "nn",
            "waves",
            "manifold",
            "landscape",
            "rng",
            "omit",
            "colormap",
            "store",
        ],
    ),
    ("ui", &["engine", "store"]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The lines of a file that are no tests: what stands under `#[cfg(test)]`, up to the brace that closes it, is left out.
fn code(text: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        let space = line.len() - line.trim_start().len();
        // rustfmt closes an item at the indentation where it began; one without a body ends with its line.
        let closed =
            |l: &str| l.len() - l.trim_start().len() == space && l.trim_start().starts_with('}');
        let first = lines.find(|l| !l.trim_start().starts_with("#["));
        if first.is_some_and(|l| l.trim_end().ends_with(['{', '(', '['])) {
            lines.by_ref().find(|l| closed(l));
        }
    }
    kept.join("\n")
}

/// The modules of this crate that a file names, by `crate::` or by climbing above its own with `super::`.
///
/// `depth` is how many modules deep the file lies: one for `engine/key.rs`, none for `engine/mod.rs` and `rng.rs`.
fn uses(text: &str, depth: usize) -> Vec<String> {
    let climb = "super::".repeat(depth + 1);
    let bare = text.replace(&format!("{climb}super::"), "");
    [after(text, "crate::"), after(&bare, &climb)].concat()
}

/// The names that follow a path, also inside `{…}`.
fn after(text: &str, path: &str) -> Vec<String> {
    let name =
        |t: &str| t.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for part in text.split(path).skip(1) {
        let Some(group) = part.strip_prefix('{') else {
            found.push(name(part));
            continue;
        };
        let mut depth = 0;
        let mut item = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => item = true,
                c if item && c.is_alphabetic() => {
                    found.push(name(&group[at..]));
                    item = false;
                }
                _ => (),
            }
        }
    }
    found
}

#[test]
fn the_reader_of_uses_sees_groups_and_climbs() {
    let text =
        "use crate::{a::{b, c}, d};\nuse crate::e::f;\nuse super::{g, h};\nuse super::super::i;";
    assert_eq!(uses(text, 1), ["a", "d", "e", "i"]);
    assert_eq!(uses("use super::{g, h};\n", 0), ["g", "h"]);
}

#[test]
fn the_reader_of_code_skips_tests_only() {
    let text = "a\n#[cfg(test)]\nuse t;\nb\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n    t\n}\nc\n    \
                #[cfg(test)]\n    fn f(\n        t\n    ) {\n        t\n    }\n    d";
    assert_eq!(code(text), "a\nb\nc\n    d");
}

/// The modules that may use everything.
const TOP: [&str; 3] = ["cli", "lib", "main"];

#[test]
fn arrows_run_one_way() {
    let mut wrong = Vec::new();
    for path in sources(Path::new("src")) {
        let name =
            path.strip_prefix("src").unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let module = name.split('/').next().unwrap();
        if TOP.contains(&module)
            || ["engine/toys", "engine/run_tests", "engine/sweep_tests"].contains(&name.as_str())
        {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(m, _)| *m == module) else {
            wrong.push(format!("`{module}` has no arrows; ARCHITECTURE.md and ARROWS list them"));
            continue;
        };
        let depth = name.trim_end_matches("/mod").matches('/').count();
        let text = fs::read_to_string(&path).unwrap();
        for used in uses(&code(&text), depth) {
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", path.display()));
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_engine_knows_no_tensor_and_no_table() {
    for folder in ["src/engine", "src/store", "src/spec", "src/plan"] {
        for path in sources(Path::new(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            for word in ["candle", "polars", "faer"] {
                assert!(
                    !text.contains(&format!("{word}_")) && !text.contains(&format!("{word}::")),
                    "{} names {word}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn files_are_short() {
    for folder in ["src", "tests"] {
        for path in sources(Path::new(folder)) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 500, "{} has {lines} lines; split it", path.display());
        }
    }
}

#[test]
fn only_ui_and_cli_write_to_the_terminal() {
    for path in sources(Path::new("src")) {
        let inside =
            path.starts_with("src/cli") || path.starts_with("src/ui") || path.ends_with("main.rs");
        let text = fs::read_to_string(&path).unwrap();
        let prints = ["println!(", "eprintln!(", "io::stdout()", "io::stderr()"];
        assert!(inside || prints.iter().all(|p| !text.contains(p)), "{} prints", path.display());
    }
}
