//! `wavecrest kinds`: the kinds of stages, and the manual page of each.

pub mod words;

use clap::Args;

use super::{CliError, print};
use crate::engine::kind::{Field, Kind};
use crate::engine::stage::{Determinism, MAIN, Outputs};
use crate::spec::suggest;
use crate::stages::KINDS;
use words::{default_of, description, details, indent, type_of};

/// Arguments of `kinds`.
#[derive(Debug, Args)]
pub struct KindsArgs {
    /// The kind to explain; all are listed where absent
    kind: Option<String>,
}

/// Lists kinds, or explains one.
pub fn kinds(args: &KindsArgs) -> Result<(), CliError> {
    let Some(name) = &args.kind else {
        let width = KINDS.0.iter().map(|k| k.name.len()).max().unwrap_or(0);
        let line = |kind: &Kind| {
            format!("{:width$}  {}\n", kind.name, first_paragraph(&description(&kind.schema())))
        };
        return print(&KINDS.0.iter().map(line).collect::<String>());
    };
    match KINDS.get(name) {
        Some(kind) => print(&page(kind)),
        None => {
            let hint = suggest::hint(name, "kinds", KINDS.0.iter().map(|k| k.name));
            Err(CliError::Usage(format!("no kind is called `{name}`\n  hint: {hint}")))
        }
    }
}

/// The page of a kind: always these sections, in this order.
fn page(kind: &Kind) -> String {
    let description = description(&kind.schema());
    let (about, source) = description.rsplit_once(SOURCE).unwrap_or((&description, "unknown"));
    let (inputs, parameters): (Vec<Field>, Vec<Field>) =
        kind.fields().into_iter().partition(Field::is_input);
    let example = Example::of(kind);
    let sections = [
        ("inputs", inputs.iter().map(field).collect()),
        ("parameters", parameters.iter().map(field).collect()),
        ("outputs", example.as_ref().map_or_else(String::new, |e| outputs(e, &parameters))),
        ("determinism", determinism(kind.determinism)),
        ("source", indent(source, 2)),
        ("example", indent(&lines(kind.example), 2)),
    ];
    let mut text = format!("{} (version {})\n\n{}\n", kind.name, kind.version, about.trim_end());
    for (title, section) in sections {
        let section = if section.is_empty() { "  none\n" } else { &section };
        text += &format!("\n{title}\n{section}");
    }
    text
}

/// Begins the paragraph of a kind's doc comment that names the paper it comes from.
const SOURCE: &str = "\n\nSource: ";

fn field(field: &Field) -> String {
    let default = default_of(&field.schema, field.required);
    let mut text = format!("  {}: {}{default}\n", field.name, type_of(&field.schema));
    text += &indent(&description(&field.schema), 6);
    if !field.is_input() {
        text += &details(&field.schema, 6);
    }
    text
}

/// The outputs of the example, and how other stages name them.
fn outputs(example: &Example, parameters: &[Field]) -> String {
    let Outputs { main, types } = &example.outputs;
    let mut text = String::new();
    if parameters.iter().any(|field| field.name == "outputs") {
        text += "  those that the parameter `outputs` names; of the example below:\n";
    }
    let others = types.keys().filter(|name| Some(*name) != main.as_ref());
    for name in main.iter().chain(others) {
        let edge = match main {
            Some(main) if main == name => format!("@{}", example.stage),
            _ => format!("@{}.{name}", example.stage),
        };
        let named = if name == MAIN { String::new() } else { format!("{name}: ") };
        text += &format!("  {named}{}, taken as \"{edge}\"\n", types[name]);
    }
    text
}

fn determinism(class: Determinism) -> String {
    let equal = match class {
        Determinism::Bit => "two runs give the same bits on every machine",
        Determinism::Machine => {
            "two runs give the same bits on one machine, and the same within rounding elsewhere"
        }
        Determinism::External => "two runs give what the program gives",
    };
    format!("  {}: {equal}\n", class.name())
}

/// The example of a kind, read.
struct Example {
    stage: String,
    outputs: Outputs,
}

impl Example {
    /// Reads it; tests see to it that every kind has one that is valid.
    fn of(kind: &Kind) -> Option<Self> {
        let table: toml::Table = kind.example.parse().ok()?;
        let (stage, parameters) = table.get("stages")?.as_table()?.iter().next()?;
        let mut parameters = serde_json::to_value(parameters).ok()?;
        parameters.as_object_mut()?.remove("kind");
        let outputs = (kind.revive)(parameters).ok()?.outputs();
        Some(Self { stage: stage.clone(), outputs })
    }
}

/// An example without the space that sets it off in the sources.
fn lines(example: &str) -> String {
    example.trim().lines().map(|line| line.trim_start().to_owned() + "\n").collect()
}

fn first_paragraph(text: &str) -> String {
    text.split("\n\n").next().unwrap_or_default().replace('\n', " ")
}
