//! What a stage is, and what travels on its edges.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::Context;
pub use crate::store::Files;

/// One kind of stage. The struct that implements it holds the parameters: it is at once the TOML schema, the manual,
/// the identity (serialized and hashed), the edges (its [`Input`](super::parameter::Input) fields) and the code.
pub trait Stage: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The name that experiments use.
    const KIND: &'static str;
    /// Moves whenever `run` may give another result for the same parameters and inputs.
    const VERSION: u32;
    /// How equal two runs of it are.
    const DETERMINISM: Determinism;
    /// Whether one worker may compute several of them, one after the other: for kinds so small that a process of its
    /// own would cost more than the work.
    const SMALL: bool = false;
    /// The least that has to be written of such a stage, as TOML under a `[stages.NAME]`: for the manual, which names
    /// its outputs after it.
    const EXAMPLE: &'static str = "";

    /// Rules that the types cannot say.
    fn check(&self) -> Vec<Violation> {
        Vec::new()
    }

    /// Names and types of what `run` saves.
    fn outputs(&self) -> Outputs;

    /// Computes the stage: loads inputs, reports progress and saves every declared output through the context.
    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()>;
}

/// How equal the results of two runs of a stage are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Determinism {
    /// The same bits on every machine.
    Bit,
    /// The same bits on one machine; within rounding elsewhere.
    Machine,
    /// Whatever the program that it runs promises.
    External,
}

impl Determinism {
    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bit => "bit",
            Self::Machine => "machine",
            Self::External => "external",
        }
    }
}

/// A rule that a parameter breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The parameter, or what lies in it: `epochs`, `method.newton_mr.alpha`.
    pub field: String,
    /// What within that is to blame; all of it where absent.
    pub part: Option<Part>,
    /// What must hold, as in `must be at least 1`.
    pub rule: String,
}

/// What within a parameter is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// An item of a list.
    Item(usize),
    /// A key of a table.
    Key(String),
    /// The value of a key of a table.
    Value(String),
}

impl Violation {
    /// Names the parameter and what must hold.
    pub fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), part: None, rule: rule.into() }
    }

    /// Names what within the parameter is to blame.
    #[must_use]
    pub fn at(self, part: Part) -> Self {
        Self { part: Some(part), ..self }
    }
}

/// Blames the first item of a list for which something does not hold.
pub fn each<T>(
    field: &'static str,
    items: &[T],
    holds: impl Fn(&T) -> bool,
    rule: &str,
) -> Option<Violation> {
    let first = items.iter().position(|item| !holds(item))?;
    Some(Violation::new(field, rule).at(Part::Item(first)))
}

/// Collects the rules that do not hold: `(field, holds, rule)`.
pub fn violations<const N: usize>(rules: [(&'static str, bool, &str); N]) -> Vec<Violation> {
    let broken = rules.into_iter().filter(|(_, holds, _)| !holds);
    broken.map(|(field, _, rule)| Violation::new(field, rule)).collect()
}

/// The name of the main output of a built-in kind.
pub const MAIN: &str = "main";

/// What a stage saves: a main artifact, and others by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// The output that `@stage` alone refers to.
    pub main: Option<String>,
    /// Type by output name.
    pub types: BTreeMap<String, String>,
}

impl Outputs {
    /// One main artifact of the given type.
    pub fn main(kind: &str) -> Self {
        Self {
            main: Some(MAIN.to_owned()),
            types: BTreeMap::from([(MAIN.to_owned(), kind.to_owned())]),
        }
    }

    /// Adds a named output.
    #[must_use]
    pub fn and(mut self, name: &str, kind: &str) -> Self {
        self.types.insert(name.to_owned(), kind.to_owned());
        self
    }
}

/// A value that a stage leaves in the store for others to read.
pub trait Artifact: Sized + 'static {
    /// The type that edges are checked by.
    const TYPE: &'static str;
    /// Writes the value as files into an empty folder; the same value gives the same bytes.
    fn save(&self, folder: &Path) -> anyhow::Result<()>;
    /// Reads it back.
    fn load(files: &Files) -> anyhow::Result<Self>;
}

/// What an input field takes: one type of artifact, or a closed union of several.
pub trait Source: Sized + 'static {
    /// The artifact types accepted; `*` takes any.
    const ACCEPTS: &'static [&'static str];
    /// Reads an artifact of one of those types.
    fn read(kind: &str, files: &Files) -> anyhow::Result<Self>;
}

impl<A: Artifact> Source for A {
    const ACCEPTS: &'static [&'static str] = &[A::TYPE];
    fn read(_kind: &str, files: &Files) -> anyhow::Result<Self> {
        A::load(files)
    }
}

/// Any artifact, as the files it consists of.
#[derive(Clone, Debug)]
pub struct AnyArtifact {
    /// Its type.
    pub kind: String,
    /// Its files.
    pub files: Files,
}

impl Source for AnyArtifact {
    const ACCEPTS: &'static [&'static str] = &["*"];
    fn read(kind: &str, files: &Files) -> anyhow::Result<Self> {
        Ok(Self { kind: kind.to_owned(), files: files.clone() })
    }
}
