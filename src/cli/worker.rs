//! `wavecrest worker`: the other end of a coordinator's channel; not for people.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;
use tracing_subscriber::EnvFilter;

use super::CliError;
use crate::engine::worker::serve;
use crate::stages::KINDS;

/// Serves one job.
pub fn worker() -> Result<(), CliError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Whoever sends it, the coordinator decides what an interrupt means.
    let ignored = Arc::new(AtomicBool::new(false));
    let failed = |e: std::io::Error| CliError::Failed(format!("the worker failed: {e}"));
    signal_hook::flag::register(SIGINT, ignored).map_err(failed)?;
    serve(KINDS).map_err(failed)
}
