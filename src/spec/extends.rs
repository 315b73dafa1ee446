//! The files of an experiment: one that others are laid under, as `extends` says.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::axes::Former;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::json;
use super::layers;
use super::source::{Origin, Sources};
use super::value::{self, Value, ValueKind};

/// Names the files that a file is laid over.
pub const EXTENDS: &str = "extends";
/// Stands for the standard input where a file is named.
pub const STDIN: &str = "-";

/// More files than this are not read: an experiment that needs them is written by a program.
const MOST_FILES: usize = 1000;

/// Reads a file and all that it extends into one table. Where one of them cannot be read, or is no TOML, there is none:
/// what follows a slip of syntax is misread, and its own mistakes would be noise.
pub fn read(
    file: &Path,
    former: &mut Former,
    sources: &mut Sources,
    errors: &mut Diagnostics,
) -> Option<Value> {
    let mut reader = Reader { open: Vec::new(), count: 0, former, sources, errors };
    reader.file(file, None)
}

/// Parses a text as what its name says it is; the standard input may be either.
pub fn parse(file: &Path, text: String, sources: &mut Sources, errors: &mut Diagnostics) -> Value {
    let is_json = match file.extension() {
        _ if file == Path::new(STDIN) => text.trim_start().starts_with('{'),
        extension => extension.is_some_and(|extension| extension == "json"),
    };
    let source = sources.add_file(file, text);
    let text = sources.text(source);
    if is_json {
        json::parse(sources, source, &text, errors)
    } else {
        value::parse(sources, source, &text, errors)
    }
}

struct Reader<'a> {
    /// The files that are being read, each extending the next: where they lie, and as the user named them.
    open: Vec<(PathBuf, PathBuf)>,
    /// How many were read.
    count: usize,
    former: &'a mut Former,
    sources: &'a mut Sources,
    errors: &'a mut Diagnostics,
}

impl Reader<'_> {
    /// Reads a file, named at `origin` by one that extends it.
    fn file(&mut self, file: &Path, origin: Option<Origin>) -> Option<Value> {
        let text = match text(file) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("cannot read {}: {error}", file.display());
                self.errors.push(Diagnostic { message, origin, hint: None });
                return None;
            }
        };
        self.count += 1;
        let before = self.errors.len();
        let mut own = parse(file, text, self.sources, self.errors);
        if self.errors.len() > before {
            return None;
        }
        let place = canonical(file);
        self.open.push((place, file.to_path_buf()));
        let base = self.bases(&mut own, file);
        self.open.pop();
        let mut base = base?;
        self.former.note(&base);
        layers::lay_over(&mut base, own, self.sources);
        Some(base)
    }

    /// Reads the files that a file extends, each laid over those before it; an empty table where there are none.
    fn bases(&mut self, own: &mut Value, file: &Path) -> Option<Value> {
        let mut base = Value { kind: ValueKind::Table(Vec::new()), origin: own.origin };
        let Some(written) = own.take(EXTENDS) else { return Some(base) };
        let names: Option<Vec<&Value>> = match &written.kind {
            ValueKind::Text(_) => Some(vec![&written]),
            ValueKind::List(items) => {
                let all_text = items.iter().all(|item| item.as_text().is_some());
                all_text.then(|| items.iter().collect())
            }
            _ => None,
        };
        let Some(names) = names else {
            let message = "`extends` is a file or a list of files";
            let hint = "`extends = \"base.toml\"`, relative to this file";
            self.errors.push(Diagnostic::at(written.origin, message).hint(hint));
            return None;
        };
        let folder = file.parent().unwrap_or(Path::new(""));
        let mut whole = true;
        for name in names {
            let path = folder.join(name.as_text().unwrap_or_default());
            match self.base(&path, name.origin) {
                Some(next) => {
                    self.former.note(&base);
                    layers::lay_over(&mut base, next, self.sources);
                }
                None => whole = false,
            }
        }
        whole.then_some(base)
    }

    fn base(&mut self, path: &Path, origin: Origin) -> Option<Value> {
        let place = canonical(path);
        if let Some(from) = self.open.iter().position(|(open, _)| *open == place) {
            let names = self.open[from..].iter().map(|(_, name)| name.as_path()).chain([path]);
            let names: Vec<String> = names.map(|name| name.display().to_string()).collect();
            let message = format!("files extend each other: {}", names.join(" -> "));
            self.errors.push(Diagnostic::at(origin, message));
            return None;
        }
        if self.count >= MOST_FILES {
            let message = format!("more than {MOST_FILES} files extend each other");
            self.errors.push(Diagnostic::at(origin, message));
            return None;
        }
        self.file(path, Some(origin))
    }
}

/// Where a file lies: it may be reached by several names.
fn canonical(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

fn text(file: &Path) -> io::Result<String> {
    if file == Path::new(STDIN) {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the user's file")]
    let bytes = fs::read(file)?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let lines = error.as_bytes()[..good].split(|byte| *byte == b'\n').count();
        io::Error::other(format!("line {lines} is not UTF-8; save the file as UTF-8 text"))
    })
}
