//! The short way: an experiment whose results and reports were all there, and of which nothing has changed since, is not
//! planned again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ExperimentArgs;
use super::workspace::Workspace;
use crate::plan::Plan;
use crate::spec::Sources;
use crate::spec::extends::STDIN;
use crate::store::settled::{Head, Settled};
use crate::store::{Hash, Summary, files, hash};

/// What identifies an experiment as it stands: its text, what is laid over it, where it and its reports lie, and the
/// program; `None` where the file cannot be read, which planning explains, or only once.
pub fn fingerprint(args: &ExperimentArgs, workspace: &Workspace) -> Option<Hash> {
    if args.file == Path::new(STDIN) {
        return None;
    }
    let text = files::read(&args.file).ok()?;
    let program = files::stamp(Path::new("/proc/self/exe")).ok()?;
    let overlays = (&args.profile, &args.set);
    let places = (files::absolute(&args.file).ok()?, &args.file, &workspace.reports);
    let head = (env!("CARGO_PKG_VERSION"), program, overlays, places);
    let head = serde_json::to_vec(&head).ok()?;
    let mut hasher = blake3::Hasher::new_derive_key("wavecrest settled v2");
    hasher.update(&(head.len() as u64).to_le_bytes()).update(&head).update(&text);
    Some(hasher.finalize().into())
}

/// Notes that everything is there.
pub fn note(
    fingerprint: &Hash,
    (plan, sources): (&Plan, &Sources),
    records: &[Option<Arc<Summary>>],
    set: Hash,
    (reports, words): (Vec<(PathBuf, Hash)>, String),
    workspace: &Workspace,
) {
    // The first is the experiment itself, which the fingerprint covers.
    let extended = sources.files().skip(1).filter_map(|(file, text)| {
        Some((files::absolute(file).ok()?, hash::bytes(text.as_bytes())))
    });
    let head = Head {
        experiment: plan.experiment.name.clone(),
        nodes: plan.graph.len(),
        set,
        data: plan.data.iter().cloned().chain(extended).collect(),
        reports,
        words,
    };
    let results = records.iter().flatten().map(AsRef::as_ref);
    // It only saves time.
    drop(workspace.store.settle(fingerprint, &Settled::new(head, results)));
}
