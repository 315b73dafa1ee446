//! `wavecrest cache push` and `pull`: results copied between caches.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{as_json, reached};
use crate::cli::workspace::{existing, refuse_absent};
use crate::cli::{CacheArgs, CliError, print};
use crate::store::{Hash, Store};
use crate::ui::meter::Meter;
use crate::ui::words;

/// Arguments of `cache push` and `cache pull`.
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// The other cache, a folder
    path: PathBuf,
    /// Experiments whose results are copied; all results where absent
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Copies results to another cache.
pub fn push(args: &TransferArgs, cache: &CacheArgs) -> Result<(), CliError> {
    refuse_absent(cache)?;
    let (own, keys) = reached(&args.files, cache)?;
    let other = cache.opened.note(Store::open(&args.path)?);
    copy((&own, &other), keys, (args, cache), "pushed")
}

/// Copies results from another cache.
pub fn pull(args: &TransferArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let other = existing(&args.path, cache)?;
    // What the experiments reach is found with the results that are to come.
    let mut both = cache.clone();
    both.cache_from.push(args.path.clone());
    let (over_all, keys) = reached(&args.files, &both)?;
    let own = cache.opened.note(Store::open(over_all.cache())?);
    copy((&other, &own), keys, (args, cache), "pulled")
}

fn copy(
    (from, to): (&Store, &Store),
    keys: BTreeSet<Hash>,
    (args, cache): (&TransferArgs, &CacheArgs),
    done: &str,
) -> Result<(), CliError> {
    if from.root() == to.root() {
        let message = format!("{} is this very cache", args.path.display());
        return Err(CliError::Usage(message));
    }
    let keys = (!args.files.is_empty()).then_some(keys);
    let transfer = from.transfer(to, keys.as_ref())?;
    let meter = Meter::new("copying", transfer.bytes());
    let copied = from.copy_to(to, &transfer, &|bytes| meter.advance(bytes))?;
    drop(meter);
    if args.json {
        print(&as_json(&json!({
            "copied": copied, "known": transfer.known, "unreadable": transfer.unreadable,
        })))?;
    } else {
        let known = match transfer.known {
            0 => String::new(),
            known => format!("; {known} were there already"),
        };
        print(&format!(
            "{done} {} ({}, {}) from {} to {}{known}\n",
            words::count(copied.results, "result"),
            words::count(copied.objects, "object"),
            words::bytes(copied.bytes),
            from.cache().display(),
            to.cache().display(),
        ))?;
    }
    let mut wrong: Vec<String> =
        copied.left_out.iter().map(|(node, why)| left_out(node, why)).collect();
    wrong.extend(transfer.unreadable);
    // A record that was named and that is damaged has been met on the way.
    wrong.extend(cache.opened.notices().lines().map(str::to_owned));
    if wrong.is_empty() {
        return Ok(());
    }
    let of = from.cache().display();
    let hint = format!("`wavecrest cache verify --cache {of}` says what can be done about it");
    Err(CliError::Failed(format!("{}\n  hint: {hint}", wrong.join("\n"))))
}

fn left_out(node: &str, why: &str) -> String {
    format!("`{node}` was left out: {why}")
}
