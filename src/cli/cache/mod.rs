//! `wavecrest cache`: the results themselves, kept whole, small and shared.

pub mod verify;

use std::path::Path;

use clap::Subcommand;

use super::workspace::Workspace;
use super::{CacheArgs, CliError};
use crate::store::Store;

/// What to do with a cache.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Read everything again, and report what is damaged or missing
    Verify(verify::VerifyArgs),
}

/// Does something with a cache.
pub fn cache(command: &CacheCommand, cache: &CacheArgs) -> Result<(), CliError> {
    match command {
        CacheCommand::Verify(args) => verify::verify(args, cache),
    }
}

/// The cache that is meant where no experiment is named.
fn here(cache: &CacheArgs) -> Result<Store, CliError> {
    Ok(Workspace::of(Path::new("."), cache)?.store)
}

/// Data as JSON.
fn as_json(data: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(data).expect("what is reported is plain data") + "\n"
}
