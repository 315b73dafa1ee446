//! `wavecrest cache gc`: results that nothing reaches any more are removed.

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value as Json, json};

use super::{as_json, experiments, reached, whose};
use crate::cli::run::host;
use crate::cli::workspace::refuse_absent;
use crate::cli::{CacheArgs, CliError, print, say};
use crate::spec::quantity::{self, Misread};
use crate::store::Store;
use crate::store::gc::{Cleaning, Freed, MARGIN, Terms};
use crate::store::rest::Part;
use crate::ui::words;

/// Arguments of `cache gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Experiments whose results stay
    files: Vec<PathBuf>,
    /// Keep what the newest N runs have used or computed
    #[arg(long, value_name = "N", default_value_t = 10)]
    keep_runs: usize,
    /// Remove what was used least recently, and only until the cache is as small as this, such as 10GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Remove only what was neither used nor made for so long, such as 30d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Say what would be removed, and remove nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Seconds by which the clocks of machines that share the cache may differ; for tests
    #[arg(long, hide = true)]
    margin: Option<f64>,
    /// Print JSON; removes nothing without --yes
    #[arg(long)]
    json: bool,
}

fn size(text: &str) -> Result<u64, String> {
    quantity::size(text).map_err(|misread| told(&misread))
}

fn duration(text: &str) -> Result<Duration, String> {
    quantity::duration(text).map_err(|misread| told(&misread))
}

fn told(misread: &Misread) -> String {
    format!("{}; {}", misread.message, misread.hint)
}

/// Cleans a cache.
pub fn gc(args: &GcArgs, cache: &CacheArgs) -> Result<(), CliError> {
    refuse_absent(cache)?;
    let (store, keep) = reached(&args.files, cache)?;
    let terms = Terms {
        keep,
        keep_runs: args.keep_runs,
        max_size: args.max_size,
        older_than: args.older_than,
        here: host(),
        margin: args.margin.map_or(MARGIN, Duration::from_secs_f64),
    };
    let cleaning = store.cleaning(&terms)?;
    if args.json {
        let freed = if args.yes { Some(store.clean(&cleaning)?) } else { None };
        return print(&as_json(&data(&cleaning, freed, &store)?));
    }
    print(&describe(&cleaning, &store)?)?;
    if cleaning.is_empty() || args.dry_run {
        return Ok(());
    }
    let freed = match if args.yes { Some(true) } else { ask("remove all this? [y/N] ") } {
        Some(true) if args.yes => store.clean(&cleaning)?,
        // What has changed while the question stood there is looked at again.
        Some(true) => store.clean(&store.cleaning(&terms)?.within(&cleaning))?,
        Some(false) => {
            say("nothing was removed");
            return Ok(());
        }
        None => {
            say("nothing was removed\n  hint: `--yes` removes it");
            return Ok(());
        }
    };
    let results = words::count(freed.results, "result");
    let objects = words::count(freed.objects, "object");
    print(&format!("removed {results} and {objects}: {} freed\n", words::bytes(freed.bytes)))
}

/// Asks a person; `None` where there is nobody to ask.
fn ask(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return None;
    }
    let mut answer = String::new();
    write!(io::stderr(), "{question}").ok()?;
    io::stdin().lock().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// What would be removed, how often, and what it takes.
fn parts(cleaning: &Cleaning, store: &Store) -> Result<Vec<(String, usize, u64)>, CliError> {
    let experiments = experiments(store)?;
    let mut results: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for doomed in &cleaning.results {
        let group = results.entry(whose(&doomed.summary, &experiments)).or_default();
        *group = (group.0 + 1, group.1 + doomed.bytes);
    }
    let mut rest: BTreeMap<Part, (usize, u64)> = BTreeMap::new();
    for part in &cleaning.rest {
        let group = rest.entry(part.part).or_default();
        *group = (group.0 + 1, group.1 + part.bytes);
    }
    let results =
        results.into_iter().map(|(whose, (n, bytes))| (format!("results of {whose}"), n, bytes));
    let (count, bytes) = cleaning.unnamed();
    let unnamed = (count > 0).then(|| ("objects that no result names".to_owned(), count, bytes));
    let rest = rest.into_iter().map(|(part, (n, bytes))| (part.words().to_owned(), n, bytes));
    Ok(results.chain(unnamed).chain(rest).collect())
}

fn describe(cleaning: &Cleaning, store: &Store) -> Result<String, CliError> {
    let parts = parts(cleaning, store)?;
    let mut text = String::new();
    for run in &cleaning.live {
        let place = format!("{} on {}", run.experiment, run.host);
        text += &format!("a run of {place} is going on: what it may need stays\n");
    }
    let kept = format!(
        "{} ({}) stay in {}",
        words::count(cleaning.kept, "result"),
        words::bytes(cleaning.kept_bytes),
        store.cache().display()
    );
    if parts.is_empty() {
        return Ok(text + &format!("nothing to remove; {kept}\n"));
    }
    text += "would remove\n";
    for (what, count, bytes) in parts {
        text += &format!("{count:>8}  {:>10}  {what}\n", words::bytes(bytes));
    }
    Ok(text + &format!("in all {}; {kept}\n", words::bytes(cleaning.bytes())))
}

fn data(cleaning: &Cleaning, freed: Option<Freed>, store: &Store) -> Result<Json, CliError> {
    let parts = parts(cleaning, store)?.into_iter();
    let parts = parts.map(|(what, n, bytes)| json!({ "what": what, "count": n, "bytes": bytes }));
    let results = cleaning.results.iter().map(|doomed| {
        let summary = &doomed.summary;
        json!({ "key": summary.key, "node": summary.provenance.node, "bytes": doomed.bytes })
    });
    Ok(json!({
        "remove": parts.collect::<Vec<_>>(),
        "results": results.collect::<Vec<_>>(),
        "bytes": cleaning.bytes(),
        "kept_results": cleaning.kept,
        "kept_bytes": cleaning.kept_bytes,
        "runs_going_on": cleaning.live.iter().map(|run| &run.id).collect::<Vec<_>>(),
        "removed": freed,
    }))
}
