//! `wavecrest diff`: two experiments, runs or overrides side by side.

pub mod compare;
pub mod side;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value as Json, json};

use super::workspace::Workspace;
use super::{CacheArgs, CliError, ExperimentArgs, print};
use crate::ui::words;
use compare::{Comparison, Metric, Parameter, compare, stage_of};
use side::{Subject, is_file};

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// An experiment file, or the id of a past run or its beginning
    a: PathBuf,
    /// Another one [default: A again, for other overrides]
    b: Option<PathBuf>,
    /// Lay the profile NAME over A
    #[arg(long, value_name = "NAME")]
    profile_a: Option<String>,
    /// Override one value of A, such as stages.probe.epochs=30; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    set_a: Vec<String>,
    /// Lay the profile NAME over B
    #[arg(long, value_name = "NAME")]
    profile_b: Option<String>,
    /// Override one value of B; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    set_b: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows in what two sides differ.
pub fn diff(args: &DiffArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let (a, b) = (&args.a, args.b.as_ref().unwrap_or(&args.a));
    // A run is looked for where the experiment beside it has its results.
    let place = [a, b].into_iter().find(|side| is_file(side));
    let place = place.map_or(Path::new("."), PathBuf::as_path);
    let subject = |what: &Path, letter: &str, profile: &Option<String>, set: &Vec<String>| {
        if is_file(what) {
            let (file, profile, set) = (what.to_path_buf(), profile.clone(), set.clone());
            let workspace = Workspace::of(what, cache)?;
            return Subject::planned(&ExperimentArgs { file, profile, set }, &workspace);
        }
        if profile.is_some() || !set.is_empty() {
            let message = format!("`--set-{letter}` and `--profile-{letter}` go with a file");
            let hint =
                "a past run is what it was; name its experiment file to lay something over it";
            return Err(CliError::Usage(format!("{message}\n  hint: {hint}")));
        }
        Subject::past(&what.to_string_lossy(), &Workspace::of(place, cache)?)
    };
    let a = subject(a, "a", &args.profile_a, &args.set_a)?;
    let b = subject(b, "b", &args.profile_b, &args.set_b)?;
    let found = compare(&a.side()?, &b.side()?);
    let titles = [a.title(), b.title()];
    print(&if args.json { as_json(&titles, &found) } else { as_text(&titles, &found) })
}

fn as_text([a, b]: &[String; 2], found: &Comparison) -> String {
    let mut text = format!("A: {a}\nB: {b}\n");
    let gone = |letter: &str, names: &[String]| match names {
        [] => String::new(),
        names => format!("not compared, because records in {letter} are gone: {}\n", listed(names)),
    };
    let gone = gone("A", &found.gone_a) + &gone("B", &found.gone_b);
    if found.is_empty() {
        return text + &format!("nothing differs: {}\n", words::count(found.both, "node")) + &gone;
    }
    if !found.parameters.is_empty() {
        text += &format!("parameters\n{}", parameters(&found.parameters));
    }
    let nodes = [
        ("only in A", &found.only_a),
        ("only in B", &found.only_b),
        ("changed", &found.changed),
        ("may differ, they wait on others", &found.unknown),
    ];
    if nodes.iter().any(|(_, names)| !names.is_empty()) {
        text += "nodes\n";
    }
    for (what, names) in nodes.iter().filter(|(_, names)| !names.is_empty()) {
        text += &format!("  {what}: {}\n", listed(names));
    }
    text += &format!("  the same: {} of {} on both sides\n", same(found), found.both);
    if !found.metrics.is_empty() {
        text += &format!("metrics\n{}", metrics(&found.metrics));
    }
    text + &gone
}

/// How many nodes are known to be the same on both sides, or to differ in nothing that is known.
fn same(found: &Comparison) -> usize {
    found.both - found.changed.len() - found.unknown.len()
}

/// So many names of a stage are written out.
const MOST_NAMES: usize = 3;

/// Nodes by their names, of a stage with many by their number.
fn listed(names: &[String]) -> String {
    let mut stages: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in names {
        stages.entry(stage_of(name)).or_default().push(name);
    }
    let part = |(stage, names): (String, Vec<&str>)| {
        if names.len() > MOST_NAMES {
            return format!("{} of {stage}", words::count(names.len(), "node"));
        }
        names.join(", ")
    };
    stages.into_iter().map(part).collect::<Vec<_>>().join(", ")
}

/// A parameter that takes more pairs of values than this is not written out for the rest of them; JSON has them all.
const MOST_PAIRS: usize = 20;

fn parameters(all: &[Parameter]) -> String {
    let mut rows = Vec::new();
    // They are sorted by stage and parameter.
    for pairs in all.chunk_by(|a, b| (&a.stage, &a.part.parameter) == (&b.stage, &b.part.parameter))
    {
        let (shown, rest) = pairs.split_at(pairs.len().min(MOST_PAIRS));
        let row = |p: &Parameter, change: String, instances: usize| {
            let instances = words::count(instances, "instance");
            [p.stage.clone(), p.part.parameter.clone(), change, instances]
        };
        for pair in shown {
            let (was, is) = &pair.part.words;
            rows.push(row(pair, format!("{was} -> {is}"), pair.instances));
        }
        if let Some(first) = rest.first() {
            let change = words::count(rest.len(), "other pair");
            rows.push(row(first, change, rest.iter().map(|pair| pair.instances).sum()));
        }
    }
    aligned(&rows)
}

fn metrics(all: &[Metric]) -> String {
    let row = |m: &Metric| {
        let moved = format!("{} -> {}", words::number(m.a), words::number(m.b));
        let by = words::number(m.difference);
        let by = if m.difference > 0.0 { format!("+{by}") } else { by };
        let spread = match m.standard_error {
            Some(error) => format!("{by} ± {} (paired, n = {})", words::number(error), m.instances),
            None if m.instances > 1 => format!("{by} (n = {})", m.instances),
            None => by,
        };
        [m.stage.clone(), m.metric.clone(), moved, spread]
    };
    aligned(&all.iter().map(row).collect::<Vec<_>>())
}

/// Rows with their columns below each other.
fn aligned(rows: &[[String; 4]]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second, third) = (width(0), width(1), width(2));
    let line = |[a, b, c, d]: &[String; 4]| {
        let line = format!("  {a:first$}  {b:second$}  {c:third$}  {d}");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

fn as_json([a, b]: &[String; 2], found: &Comparison) -> String {
    let parameter = |p: &Parameter| {
        json!({
            "stage": p.stage,
            "parameter": p.part.parameter,
            "a": p.part.values.0,
            "b": p.part.values.1,
            "instances": p.instances,
        })
    };
    let metric = |m: &Metric| {
        json!({
            "stage": m.stage,
            "metric": m.metric,
            "instances": m.instances,
            "a": m.a,
            "b": m.b,
            "difference": m.difference,
            "standard_error": m.standard_error,
        })
    };
    let whole = json!({
        "a": a,
        "b": b,
        "differs": !found.is_empty(),
        "parameters": found.parameters.iter().map(parameter).collect::<Vec<Json>>(),
        "nodes": {
            "both": found.both,
            "same": same(found),
            "only_a": found.only_a,
            "only_b": found.only_b,
            "changed": found.changed,
            "unknown": found.unknown,
            "gone_a": found.gone_a,
            "gone_b": found.gone_b,
        },
        "metrics": found.metrics.iter().map(metric).collect::<Vec<Json>>(),
    });
    serde_json::to_string_pretty(&whole).expect("it is plain data") + "\n"
}
