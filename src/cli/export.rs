//! `wavecrest export`: the files of a result copied out of the cache.

use std::path::{Component, Path, PathBuf};

use clap::Args;

use super::workspace::{Workspace, node, planned};
use super::{CacheArgs, CliError, ExperimentArgs, print};
use crate::engine::graph::NodeId;
use crate::engine::status::survey;
use crate::store::files::{self, Access, Incoming};
use crate::store::{FileRecord, Record, Store, hash};
use crate::ui::words;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// A node, such as 'probe[source=waves,replicate=0]', or the beginning of its key
    node: String,
    /// The folder to copy to: DIR/FILE where the node has one output, else DIR/OUTPUT/FILE
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Replace files that are there and differ
    #[arg(long)]
    force: bool,
}

/// What the record of the result is called.
const RECORD: &str = "record.json";

/// Copies a result out.
pub fn export(args: &ExportArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let (plan, _) = planned(&args.experiment, &workspace)?;
    let statuses = survey(&plan.graph, &workspace.store)?;
    let key = |id: NodeId| statuses[id.index()].key().map(|key| key.to_hex());
    let id = node(&plan, &key, &args.node)?;
    let name = &plan.graph.node(id).name;
    let hint = format!("`wavecrest run {}` computes it", args.experiment.file.display());
    let store = &workspace.store;
    let found = statuses[id.index()].record();
    let Some(record) = found.map(|r| store.record(&r.key)).transpose()?.flatten() else {
        let text = format!("`{name}` has no result yet\n  hint: {hint}");
        return Err(CliError::Failed(text));
    };
    if record.dropped && !store.holds(&record.summary()) {
        return Err(CliError::Failed(dropped(&record, name, &hint)));
    }
    let files = places(&record, &args.folder)?;
    check_sound(store, &files, name, &hint)?;
    let text = serde_json::to_vec_pretty(&record).expect("a record is plain data");
    let target = args.folder.join(RECORD);
    let is_same = |path: &Path, is: bool| is || !path.exists();
    let mut other: Vec<&Path> = files
        .iter()
        .filter(|(path, file)| !is_same(path, hash::is(path, &file.hash)))
        .map(|(path, _)| path.as_path())
        .collect();
    if !is_same(&target, files::read(&target).is_ok_and(|known| known == text)) {
        other.push(&target);
    }
    if !args.force && !other.is_empty() {
        let mut text = String::new();
        for path in other {
            text += &format!("{} is there and differs\n", path.display());
        }
        return Err(CliError::Failed(text + "  hint: `--force` replaces it"));
    }
    for (path, file) in &files {
        if !hash::is(path, &file.hash) {
            let mut incoming = Incoming::new(path)?;
            incoming.copy(&store.object(&file.hash))?;
            incoming.place(Access::Writable)?;
        }
    }
    files::write_atomic(&target, &text)?;
    let bytes = files.iter().map(|(_, file)| file.len).sum();
    let (count, size) = (words::count(files.len(), "file"), words::bytes(bytes));
    print(&format!("{name}: {count} ({size}) and {RECORD} in {}\n", args.folder.display()))
}

/// Says why the files of a result are not there, and how to come by them.
fn dropped(record: &Record, name: &str, run: &str) -> String {
    if record.packed {
        return format!(
            "the pack that `{name}` came with left out its files\n  hint: `wavecrest cache pack --all`, where it was \
             made, packs them too"
        );
    }
    format!(
        "the files of `{name}` were not kept\n  hint: its stage says `keep = false`; without that, {run} again"
    )
}

/// Where each file of a result goes.
fn places<'a>(
    record: &'a Record,
    folder: &Path,
) -> Result<Vec<(PathBuf, &'a FileRecord)>, CliError> {
    let names = record.outputs.values().flat_map(|output| &output.files);
    // An output's own folder also where a file would take the record's name.
    let alone = record.outputs.len() == 1 && names.into_iter().all(|file| file.path != RECORD);
    let mut places = Vec::new();
    for (output, artifact) in &record.outputs {
        let folder = if alone { folder.to_path_buf() } else { folder.join(output) };
        for file in &artifact.files {
            let path = Path::new(&file.path);
            if !path.components().all(|part| matches!(part, Component::Normal(_))) {
                let message = format!("a file of the result leads elsewhere: {}", path.display());
                return Err(CliError::Failed(message));
            }
            places.push((folder.join(path), file));
        }
    }
    Ok(places)
}

/// Fails where an object is damaged or gone; what is damaged is put aside.
fn check_sound(
    store: &Store,
    files: &[(PathBuf, &FileRecord)],
    name: &str,
    hint: &str,
) -> Result<(), CliError> {
    let lost = |file: &FileRecord| !hash::is(&store.object(&file.hash), &file.hash);
    let lost: Vec<_> = files.iter().map(|(_, file)| file).filter(|file| lost(file)).collect();
    for file in &lost {
        store.quarantine(&file.hash);
    }
    match lost.as_slice() {
        [] => Ok(()),
        [file, ..] => {
            let message = format!("`{name}` has lost its file {}", file.path);
            Err(CliError::Failed(format!("{message}\n  hint: {hint} again")))
        }
    }
}
