//! `wavecrest cache verify`: everything read again.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{as_json, here, pack};
use crate::cli::workspace::refuse_absent;
use crate::cli::{CacheArgs, CliError, print};
use crate::store::Store;
use crate::store::verify::{Problem, Verified, What};
use crate::ui::meter::Meter;
use crate::ui::words;

/// Arguments of `cache verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// An archive that `cache pack` wrote, checked as it is; the cache where absent
    archive: Option<PathBuf>,
    /// Put aside what is damaged, and forget the results that it belongs to: the next run computes them again
    #[arg(long, conflicts_with = "archive")]
    repair: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Verifies a cache.
pub fn verify(args: &VerifyArgs, cache: &CacheArgs) -> Result<(), CliError> {
    if let Some(archive) = &args.archive {
        return pack::verify(archive, args.json);
    }
    refuse_absent(cache)?;
    let store = here(cache)?;
    let survey = store.scan()?;
    let meter = Meter::new("verifying", survey.bytes());
    let verified = store.verify(&survey, &|bytes| meter.advance(bytes))?;
    drop(meter);
    if args.repair {
        store.repair(&verified)?;
    }
    let is_left = |problem: &&Problem| !args.repair || problem.what == What::Newer;
    let left: Vec<&Problem> = verified.problems.iter().filter(is_left).collect();
    if args.json {
        print(&as_json(&json!({ "verified": verified, "repaired": args.repair })))?;
    } else {
        print(&summary(&verified, args, &store))?;
    }
    if left.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    if !args.json {
        for problem in &left {
            text += &format!("{}\n", problem.words);
        }
    }
    text += &format!("{} in {}", words::count(left.len(), "problem"), store.cache().display());
    if !args.repair && left.iter().any(|problem| problem.what != What::Newer) {
        text += "\n  hint: `wavecrest cache verify --repair` puts aside what is damaged; what is then lacking is computed \
                 again by the run that needs it";
    }
    if left.iter().any(|problem| problem.what == What::Newer) {
        text += "\n  hint: what a later version wrote can be verified with that version only";
    }
    Err(CliError::Failed(text))
}

/// What was looked at, and what was done.
fn summary(verified: &Verified, args: &VerifyArgs, store: &Store) -> String {
    let mut text = String::new();
    if args.repair {
        for problem in verified.problems.iter().filter(|problem| problem.what != What::Newer) {
            text += &format!("{}: {}\n", problem.words, remedy(problem.what));
        }
    }
    let unfinished: u64 = verified.leftovers.iter().map(|(_, len)| len).sum();
    if !verified.leftovers.is_empty() {
        text += &format!(
            "{} left by killed processes ({}){}\n",
            words::count(verified.leftovers.len(), "unfinished file"),
            words::bytes(unfinished),
            if args.repair { ": removed" } else { "" }
        );
    }
    for path in &verified.strays {
        text += &format!("{} does not belong there, and stays\n", path.display());
    }
    let sound = if verified.problems.is_empty() { ": all sound" } else { "" };
    text + &format!(
        "verified {} ({}) and {} in {}{sound}\n",
        words::count(verified.objects, "object"),
        words::bytes(verified.bytes),
        words::count(verified.records, "record"),
        store.cache().display()
    )
}

/// What is done about a problem.
fn remedy(what: What) -> &'static str {
    match what {
        What::Object | What::Record | What::Set | What::Run | What::Pin => {
            "put aside in quarantine/"
        }
        What::Result => "forgotten, so that it is computed again",
        What::Settled | What::Stamps => "removed",
        What::Index => "written anew",
        What::Newer => "left alone",
    }
}
