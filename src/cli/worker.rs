//! `wavecrest worker`: the other end of a coordinator's channel; not for people.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use tracing_subscriber::EnvFilter;

use super::CliError;
use crate::engine::checkpoint::Asked;
use crate::engine::worker::serve;
use crate::stages::KINDS;

/// Serves one job.
pub fn worker() -> Result<(), CliError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Whoever sends it, the coordinator decides what an interrupt means.
    let ignored = Arc::new(AtomicBool::new(false));
    let failed = |e: std::io::Error| CliError::Failed(format!("the worker failed: {e}"));
    let asked = Asked::default();
    for (signal, flag) in
        [(SIGINT, &ignored), (SIGTERM, &asked.cancel), (SIGUSR1, &asked.checkpoint)]
    {
        signal_hook::flag::register(signal, Arc::clone(flag)).map_err(failed)?;
    }
    serve(KINDS, &asked).map_err(failed)
}
