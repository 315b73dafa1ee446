//! The modules that a Python script imports from beside it: they are part of what it computes.
//!
//! What is imported is read from the text and not by running it: a module that is imported under a condition, or named in
//! a string, counts too if there is such a file; one that is named only at run time is to be listed by the user.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// More modules than this are not followed.
const MOST: usize = 1000;

/// The files that a script imports, and those that these import, relative to the script's folder and sorted. `read`
/// yields the text of a file, or nothing where there is none.
pub(super) fn local_imports(
    script: &Path,
    read: &mut dyn FnMut(&Path) -> Option<String>,
) -> Vec<PathBuf> {
    let root = script.parent().unwrap_or(Path::new("")).to_path_buf();
    let mut found: BTreeSet<PathBuf> = BTreeSet::new();
    let mut open: Vec<(PathBuf, String)> = Vec::new();
    if let Some(text) = read(script) {
        open.push((PathBuf::from(script.file_name().unwrap_or_default()), text));
    }
    while let Some((file, text)) = open.pop() {
        let package = file.parent().unwrap_or(Path::new("")).to_path_buf();
        for candidate in modules(&text).iter().flat_map(|module| module.files(&package)) {
            if found.len() >= MOST || found.contains(&candidate) {
                continue;
            }
            if let Some(text) = read(&root.join(&candidate)) {
                found.insert(candidate.clone());
                open.push((candidate, text));
            }
        }
    }
    found.into_iter().filter(|file| root.join(file) != script).collect()
}

/// A module that is imported: how many folders up it starts, none for an absolute one, and its dotted name.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    up: Option<usize>,
    name: String,
}

impl Module {
    /// Where it may lie, for a file of this package: the packages on the way to it, and itself.
    fn files(&self, package: &Path) -> Vec<PathBuf> {
        let mut at = match self.up {
            None => PathBuf::new(),
            Some(up) => package.ancestors().nth(up).unwrap_or(Path::new("")).to_path_buf(),
        };
        let mut files = Vec::new();
        if self.up.is_some() {
            files.push(at.join("__init__.py"));
        }
        for part in self.name.split('.').filter(|part| !part.is_empty()) {
            files.push(at.join(format!("{part}.py")));
            at.push(part);
            files.push(at.join("__init__.py"));
        }
        files
    }
}

/// The modules that a text imports; of `from a import b`, `b` may be a module of the package `a`.
fn modules(text: &str) -> Vec<Module> {
    // Lines that go on are one.
    let text = text.replace("\\\n", " ");
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        for statement in line.split(';').map(str::trim) {
            if let Some(names) = statement.strip_prefix("import ") {
                let names = names.split('#').next().unwrap_or_default().split(',');
                found.extend(names.map(|name| absolute(first_word(name))));
            } else if let Some((from, names)) =
                statement.strip_prefix("from ").and_then(|rest| rest.split_once(" import "))
            {
                let mut names = names.split('#').next().unwrap_or_default().to_owned();
                if names.trim_start().starts_with('(') {
                    while !names.contains(')') {
                        let Some(next) = lines.next() else { break };
                        names += next.split('#').next().unwrap_or_default();
                    }
                }
                let names = names.trim_matches(|c: char| c.is_whitespace() || "()".contains(c));
                let from = from.trim();
                found.push(relative(from, ""));
                found.extend(names.split(',').map(|name| relative(from, first_word(name))));
            }
        }
    }
    found.retain(|module| module.up.is_some() || !module.name.is_empty());
    found
}

fn first_word(text: &str) -> &str {
    let text = text.trim();
    text.split(|c: char| c.is_whitespace() || c == ')').next().unwrap_or(text)
}

fn absolute(name: &str) -> Module {
    Module { up: None, name: name.to_owned() }
}

/// `name` of a package: `.` is the file's own package, each further dot the one above it.
fn relative(from: &str, name: &str) -> Module {
    let inner = from.trim_start_matches('.');
    let dots = from.len() - inner.len();
    Module { up: dots.checked_sub(1), name: format!("{inner}.{name}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn imports(files: &[(&str, &str)]) -> Vec<String> {
        let files: BTreeMap<PathBuf, String> =
            files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        let found = local_imports(Path::new("s/main.py"), &mut |path| files.get(path).cloned());
        found.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn what_lies_beside_a_script_is_found_and_followed() {
        let main = "import os, helpers as h  # and more\nfrom shapes import circle, \\\n  square\n\
                    from shapes.solid import (\n    cube,  # one\n    ball,\n)\nif x: import late\n";
        let files = [
            ("s/main.py", main),
            ("s/helpers.py", "import deep\nimport main\n"),
            ("s/deep.py", ""),
            ("s/late.py", ""),
            ("s/other.py", ""),
            ("s/shapes/__init__.py", "from .base import Base\nfrom . import extra\n"),
            ("s/shapes/base.py", "from ..up import y\n"),
            ("s/shapes/extra.py", ""),
            ("s/shapes/circle.py", ""),
            ("s/shapes/solid/__init__.py", ""),
            ("s/shapes/solid/cube.py", "from ..base import Base\n"),
            ("s/up.py", ""),
        ];
        let expected = [
            "deep.py",
            "helpers.py",
            "shapes/__init__.py",
            "shapes/base.py",
            "shapes/circle.py",
            "shapes/extra.py",
            "shapes/solid/__init__.py",
            "shapes/solid/cube.py",
            "up.py",
        ];
        assert_eq!(imports(&files), expected);
        assert!(
            imports(&[("s/main.py", "import os\nimport\nfrom x\nfrom . import\nimport ,\n")])
                .is_empty()
        );
        assert!(imports(&[]).is_empty());
    }
}
