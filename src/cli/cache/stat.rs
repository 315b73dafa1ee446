//! `wavecrest cache stat`: what is in a cache.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Serialize;

use super::{as_json, experiments, here, whose};
use crate::cli::workspace::refuse_absent;
use crate::cli::{CacheArgs, CliError, print};
use crate::store::survey::{Found, Survey};
use crate::store::{Hash, Store, files};
use crate::ui::words;

/// Arguments of `cache stat`.
#[derive(Debug, Args)]
pub struct StatArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is in a cache.
#[derive(Debug, Serialize)]
struct Stat {
    cache: String,
    results: usize,
    /// Results whose objects were not kept.
    dropped: usize,
    /// Records that this version cannot read.
    unreadable: usize,
    objects: usize,
    bytes: u64,
    record_bytes: u64,
    /// What would be needed besides, if each result had objects of its own.
    saved_bytes: u64,
    by_experiment: Vec<Group>,
    by_stage: Vec<Group>,
    by_age: Vec<Group>,
    /// Bytes of what else is there.
    besides: BTreeMap<&'static str, u64>,
    pins: Vec<Pinned>,
}

/// Some of the results.
#[derive(Debug, Serialize)]
struct Group {
    name: String,
    results: usize,
    /// Bytes of their objects, each counted once in a group.
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Pinned {
    name: String,
    experiment: String,
    results: usize,
    since: String,
}

/// What lies in a cache besides results, and what it is called.
const BESIDES: [&str; 6] = ["quarantine", "checkpoints", "scratch", "runs", "sets", "settled"];

/// Shows what is in a cache.
pub fn stat(args: &StatArgs, cache: &CacheArgs) -> Result<(), CliError> {
    refuse_absent(cache)?;
    let store = here(cache)?;
    let stat = look(&store)?;
    print(&if args.json { as_json(&stat) } else { describe(&stat) })
}

fn look(store: &Store) -> Result<Stat, CliError> {
    let survey = store.scan()?;
    let experiments = experiments(store)?;
    let now = files::now();
    let of = |found: &Found| whose(&found.summary, &experiments);
    let experiment = |found: &Found| of(found).split('/').next().unwrap_or_default().to_owned();
    let all: u64 =
        survey.results.iter().flat_map(|found| present(found, &survey)).map(|o| o.1).sum();
    let named: BTreeMap<Hash, u64> =
        survey.results.iter().flat_map(|found| present(found, &survey)).collect();
    let mut by_age = group(&survey, &|found| age(now - found.stamp.modified).to_owned());
    by_age.sort_by_key(|group| AGES.iter().position(|(name, _)| *name == group.name));
    let besides =
        BESIDES.map(|folder| (folder, files::size(&store.root().join(folder)))).into_iter();
    Ok(Stat {
        cache: store.cache().display().to_string(),
        results: survey.results.len(),
        dropped: survey.results.iter().filter(|found| found.summary.dropped).count(),
        unreadable: survey.unreadable.len(),
        objects: survey.objects.len(),
        bytes: survey.bytes(),
        record_bytes: survey.results.iter().map(|found| found.stamp.len).sum(),
        saved_bytes: all - named.values().sum::<u64>(),
        by_experiment: group(&survey, &experiment),
        by_stage: group(&survey, &of),
        by_age,
        besides: besides.filter(|(_, bytes)| *bytes > 0).collect(),
        pins: pins(store)?,
    })
}

/// The objects of a result that are there.
fn present<'a>(found: &'a Found, survey: &'a Survey) -> impl Iterator<Item = (Hash, u64)> + 'a {
    let files = found.summary.files().chain(&found.summary.log);
    files.filter_map(|file| survey.objects.get(&file.hash).map(|stamp| (file.hash, stamp.len)))
}

/// Counts results by a name, those of most bytes first.
fn group(survey: &Survey, name: &dyn Fn(&Found) -> String) -> Vec<Group> {
    let mut groups: BTreeMap<String, (usize, BTreeSet<(Hash, u64)>)> = BTreeMap::new();
    for found in &survey.results {
        let (count, objects) = groups.entry(name(found)).or_default();
        *count += 1;
        objects.extend(present(found, survey));
    }
    let group = |(name, (results, objects)): (String, (usize, BTreeSet<(Hash, u64)>))| {
        let bytes = objects.iter().map(|(_, len)| len).sum();
        Group { name, results, bytes }
    };
    let mut groups: Vec<Group> = groups.into_iter().map(group).collect();
    groups.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.name.cmp(&b.name)));
    groups
}

const DAY: i128 = 24 * 3600 * 1_000_000_000;
/// Ages by name, and what is younger than each.
const AGES: [(&str, i128); 4] = [
    ("up to a day", DAY),
    ("up to a week", 7 * DAY),
    ("up to a month", 30 * DAY),
    ("older", i128::MAX),
];

fn age(since: i128) -> &'static str {
    AGES.iter().find(|(_, most)| since <= *most).map_or("older", |(name, _)| name)
}

fn pins(store: &Store) -> Result<Vec<Pinned>, CliError> {
    let mut pins = Vec::new();
    for (name, pin) in store.pins()? {
        // One that is damaged keeps nothing, which `verify` says.
        let Some(pin) = pin else { continue };
        let results = store.read_set(&pin.set).unwrap_or_default().len();
        pins.push(Pinned { name, experiment: pin.experiment, results, since: pin.since });
    }
    Ok(pins)
}

fn describe(stat: &Stat) -> String {
    let mut text = format!("{}\n", stat.cache);
    let dropped = match stat.dropped {
        0 => String::new(),
        count => format!(", {count} of them without their files"),
    };
    text += &format!(
        "  {}{dropped}\n  {} of {}, and {} of records\n",
        words::count(stat.results, "result"),
        words::count(stat.objects, "object"),
        words::bytes(stat.bytes),
        words::bytes(stat.record_bytes),
    );
    if stat.saved_bytes > 0 {
        let saved = words::bytes(stat.saved_bytes);
        text += &format!("  {saved} saved, because equal files are kept once\n");
    }
    if stat.unreadable > 0 {
        let records = words::count(stat.unreadable, "record");
        text += &format!("  {records} cannot be read; `wavecrest cache verify` says why\n");
    }
    let groups = [
        ("by experiment", &stat.by_experiment),
        ("by stage", &stat.by_stage),
        ("by age", &stat.by_age),
    ];
    for (title, groups) in groups.into_iter().filter(|(_, groups)| !groups.is_empty()) {
        text += &format!("{title}\n");
        for Group { name, results, bytes } in groups {
            text += &format!("{results:>8}  {:>10}  {name}\n", words::bytes(*bytes));
        }
    }
    if !stat.besides.is_empty() {
        text += "besides\n";
        for (name, bytes) in &stat.besides {
            text += &format!("          {:>10}  {name}\n", words::bytes(*bytes));
        }
    }
    if !stat.pins.is_empty() {
        text += "pins\n";
        for Pinned { name, experiment, results, since } in &stat.pins {
            let day = since.get(..10).unwrap_or(since);
            text += &format!("{results:>8}  {name}: {experiment}, since {day}\n");
        }
    }
    text
}
