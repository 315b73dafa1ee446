//! An experiment as its author wrote it: named, with axes, stages, tables and figures.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::axes::{self, Axis, Former};
use super::combinations::{self, Combinations, EXCLUDE, INCLUDE, Rule};
use super::deserialize::{from_table, from_value};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::resources::{self, Terms};
use super::source::{Origin, Sources};
use super::suggest;
use super::value::{Entry, Value, ValueKind};
use super::{extends, layers};

/// The parsed file, before any kind has looked at its parameters.
#[derive(Debug)]
pub struct Experiment {
    /// Names the folder of its reports.
    pub name: String,
    /// One sentence on its purpose.
    pub about: Option<String>,
    /// The root seed, mixed into every stage's own.
    pub seed: u64,
    /// What was laid over the file, as given: `--profile smoke`, `--set a=b`.
    pub overlays: Vec<String>,
    /// The file it was read from, as the user named it.
    pub file: PathBuf,
    /// The folder that the file's relative paths start from.
    pub folder: PathBuf,
    /// The sweeps, in the order written.
    pub axes: Vec<Axis>,
    /// Combinations of their values that do not exist, or exist besides.
    pub combinations: Combinations,
    /// The stages, in the order written.
    pub stages: Vec<StageEntry>,
    /// The parameters that all stages of a kind have, by kind; the stages hold them already.
    pub defaults: Vec<Entry>,
    /// The tables, in the order written.
    pub tables: Vec<Entry>,
    /// The figures, in the order written.
    pub figures: Vec<Entry>,
}

/// One `[stages.NAME]`.
#[derive(Debug)]
pub struct StageEntry {
    /// Its name.
    pub name: String,
    /// Where the name was written.
    pub origin: Origin,
    /// The kind it names, and where; absent where that is missing or no string.
    pub kind: Option<(String, Origin)>,
    /// One sentence on its purpose.
    pub about: Option<String>,
    /// The points of axes for which it exists; all where it is empty.
    pub when: Rule,
    /// How its nodes are run.
    pub terms: Terms,
    /// A table of everything else: parameters of the kind, placeholders still in them.
    pub parameters: Value,
}

impl StageEntry {
    /// Takes the parameters out; an empty table is left.
    pub fn take_parameters(&mut self) -> Value {
        let nothing = Value { kind: ValueKind::Table(Vec::new()), origin: self.origin };
        std::mem::replace(&mut self.parameters, nothing)
    }
}

/// The layers over the file.
#[derive(Clone, Debug, Default)]
pub struct Overlays {
    /// The profile chosen.
    pub profile: Option<String>,
    /// Every `--set`, in order.
    pub set: Vec<String>,
}

impl Overlays {
    /// Writes each as it was given on the command line.
    pub fn words(&self) -> Vec<String> {
        let profile = self.profile.iter().map(|p| format!("--profile {p}"));
        profile.chain(self.set.iter().map(|s| format!("--set {s}"))).collect()
    }
}

/// Reads an experiment; what is wrong with it goes to `errors`, and what could be read comes back.
pub fn load(
    file: &Path,
    overlays: &Overlays,
    sources: &mut Sources,
    errors: &mut Diagnostics,
) -> Option<Experiment> {
    let (root, former) = layered(file, overlays, sources, errors)?;
    let overlays = overlays.words();
    Some(Experiment { overlays, ..read(root, &former, file, errors) })
}

/// Reads the files of an experiment and lays all layers over each other; the section of profiles is used up. Also yields
/// what the axes were in between.
pub fn layered(
    file: &Path,
    overlays: &Overlays,
    sources: &mut Sources,
    errors: &mut Diagnostics,
) -> Option<(Value, Former)> {
    let mut former = Former::default();
    let mut root = extends::read(file, &mut former, sources, errors)?;
    let profile = layers::take_profile(&mut root, overlays.profile.as_deref(), errors);
    if let Some(profile) = profile {
        former.note(&root);
        layers::overlay(&mut root, &profile, sources, errors);
    }
    for set in &overlays.set {
        if let Some(top) = layers::parse_set(sources, set, errors) {
            former.note(&root);
            layers::overlay(&mut root, &top, sources, errors);
        }
    }
    layers::apply_defaults(&mut root, sources, errors);
    Some((root, former))
}

/// Reads an experiment from its text, without layers over it.
pub fn read_text(
    file: &Path,
    text: &str,
    sources: &mut Sources,
    errors: &mut Diagnostics,
) -> Experiment {
    let mut root = extends::parse(file, text.to_owned(), sources, errors);
    layers::take_profile(&mut root, None, errors);
    layers::apply_defaults(&mut root, sources, errors);
    read(root, &Former::default(), file, errors)
}

const SECTIONS: [&str; 8] =
    ["extends", "experiment", "axes", "defaults", "stages", "tables", "figures", "profiles"];

fn read(mut root: Value, former: &Former, file: &Path, errors: &mut Diagnostics) -> Experiment {
    for entry in root.entries() {
        if !SECTIONS.contains(&entry.key.as_str()) {
            let message = format!("unknown section `{}`", entry.key);
            let hint = suggest::hint(&entry.key, "sections", SECTIONS);
            errors.push(Diagnostic::at(entry.key_origin, message).hint(hint));
        }
    }
    let head = head(&root, errors);
    let (axes, combinations) = sweeps(&take_section(&mut root, "axes", errors), former, errors);
    let stages = take_section(&mut root, "stages", errors);
    if stages.is_empty() && errors.is_empty() {
        errors
            .push(Diagnostic::whole("the experiment has no stages").hint("add a `[stages.NAME]`"));
    }
    let folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
    Experiment {
        name: head.name,
        about: head.about,
        seed: head.seed,
        overlays: Vec::new(),
        file: file.to_path_buf(),
        folder,
        stages: stages.into_iter().filter_map(|e| stage(e, &axes, errors)).collect(),
        axes,
        combinations,
        defaults: root
            .take(layers::DEFAULTS)
            .map(|section| section.entries().to_vec())
            .unwrap_or_default(),
        tables: take_section(&mut root, "tables", errors),
        figures: take_section(&mut root, "figures", errors),
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Head {
    name: String,
    about: Option<String>,
    #[serde(default)]
    seed: u64,
}

fn head(root: &Value, errors: &mut Diagnostics) -> Head {
    let Some(value) = root.get("experiment") else {
        errors.push(
            Diagnostic::whole("the file has no `[experiment]`")
                .hint("begin with `[experiment]` and a `name`"),
        );
        return Head::default();
    };
    if let Some(name) = value.get("name")
        && let Some(text) = name.as_text()
    {
        check_name(text, "an experiment's name", name.origin, errors);
    }
    let head = from_table::<Head>(value, &mut |error| errors.push_error(error, value.origin));
    head.unwrap_or_default()
}

/// Takes out the entries of a section, with names that can be file names, shell words and parts of `a[b=c]`.
fn take_section(root: &mut Value, name: &str, errors: &mut Diagnostics) -> Vec<Entry> {
    let Some(value) = root.take(name) else { return Vec::new() };
    let ValueKind::Table(entries) = value.kind else {
        let message = format!("`{name}` is a table, not {}", value.type_name());
        errors.push(Diagnostic::at(value.origin, message));
        return Vec::new();
    };
    for entry in &entries {
        check_name(&entry.key, "a name", entry.key_origin, errors);
    }
    entries
}

fn check_name(name: &str, what: &str, origin: Origin, errors: &mut Diagnostics) {
    if !is_name(name) {
        errors.push(Diagnostic::at(origin, format!("{what} is {NAMES}")));
    }
}

/// Reads `[axes]`.
fn sweeps(
    section: &[Entry],
    former: &Former,
    errors: &mut Diagnostics,
) -> (Vec<Axis>, Combinations) {
    let is_rule = |entry: &&Entry| [EXCLUDE, INCLUDE].contains(&entry.key.as_str());
    let axes = section.iter().filter(|entry| !is_rule(entry));
    let mut axes: Vec<Axis> = axes.map(|entry| axes::read(entry, errors)).collect();
    former.tell(&mut axes);
    let rule = |name: &str| section.iter().find(|e| e.key == name).map(|e| &e.value);
    let combinations = combinations::read(rule(EXCLUDE), rule(INCLUDE), &mut axes, errors);
    (axes, combinations)
}

/// What a name consists of, in words.
pub const NAMES: &str = "1 to 100 letters, digits, `_` and `-`";

/// Whether a text may name an experiment, an axis or a stage.
pub fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !text.is_empty() && text.len() <= 100 && text.chars().all(fits)
}

fn stage(entry: Entry, axes: &[Axis], errors: &mut Diagnostics) -> Option<StageEntry> {
    let Entry { key: name, key_origin: origin, value: mut parameters } = entry;
    if !matches!(parameters.kind, ValueKind::Table(_)) {
        let message = format!("a stage is a table, not {}", parameters.type_name());
        errors.push(Diagnostic::at(parameters.origin, message));
        return None;
    }
    let terms = resources::read(&parameters, errors);
    let [kind, about, when, ..] = RESERVED.map(|key| parameters.take(key));
    let when = when.and_then(|when| combinations::condition(&when, axes, errors));
    if kind.is_none() {
        let message = format!("stage `{name}` has no `kind`");
        let hint = "`wavecrest kinds` lists the kinds";
        errors.push(Diagnostic::at(origin, message).hint(hint));
    }
    let kind = typed(kind.as_ref(), errors).zip(kind.as_ref().map(|kind| kind.origin));
    let about = typed(about.as_ref(), errors);
    // What is wrong with the parameters as a whole is shown at the stage's name.
    parameters.origin = origin;
    let when = when.unwrap_or_default();
    Some(StageEntry { name, origin, kind, about, when, terms, parameters })
}

/// Keys of a stage that are no parameters.
pub const RESERVED: [&str; 7] = {
    let [resources, retries, timeout, keep] = resources::KEYS;
    ["kind", "about", "when", resources, retries, timeout, keep]
};

fn typed<'a, T: Deserialize<'a>>(value: Option<&'a Value>, errors: &mut Diagnostics) -> Option<T> {
    let value = value?;
    match from_value(value) {
        Ok(typed) => Some(typed),
        Err(error) => {
            errors.push_error(error, value.origin);
            None
        }
    }
}
