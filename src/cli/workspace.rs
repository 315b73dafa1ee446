//! Where things are: the experiment planned, its cache, its reports.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{CacheArgs, CliError, ExperimentArgs};
use crate::engine::graph::NodeId;
use crate::plan::select::select;
use crate::plan::{self, Plan};
use crate::spec::experiment::load;
use crate::spec::{Diagnostics, Sources, suggest};
use crate::stages::KINDS;
use crate::store::{Store, files};
use crate::ui;

/// Plans an experiment, or reports everything that is wrong with it.
pub fn planned(args: &ExperimentArgs, workspace: &Workspace) -> Result<(Plan, Sources), CliError> {
    let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
    let experiment = load(&args.file, &args.overlays(), &mut sources, &mut errors);
    let mut stamps = workspace.store.stamps();
    let plan = experiment.and_then(|e| plan::build(e, &sources, KINDS, &mut stamps, &mut errors));
    // Only a memory: data that it lacks are hashed again. A store that cannot be written to says so where it matters.
    drop(stamps.save());
    match plan {
        Some(plan) if errors.is_empty() => Ok((plan, sources)),
        _ => Err(CliError::Usage(errors.render(&sources, ui::colored()))),
    }
}

/// Where results and reports are kept.
pub struct Workspace {
    /// The cached results.
    pub store: Store,
    /// The folder of reports.
    pub reports: PathBuf,
}

impl Workspace {
    /// Finds the workspace of a file or folder: `cache` and `reports` beside the nearest `cache` or Cargo.toml above it.
    ///
    /// `--cache` names another cache, which several projects may share; their reports stay their own. Results are also
    /// taken from the caches that `--cache-from` names.
    pub fn of(place: &Path, cache: &CacheArgs) -> Result<Self, CliError> {
        let place = files::absolute(place)?;
        refuse_other_than_text(&place)?;
        let marks = |f: &&Path| f.join("cache").is_dir() || f.join("Cargo.toml").is_file();
        let here = if place.is_dir() { Some(place.as_path()) } else { place.parent() };
        let above = here.into_iter().flat_map(Path::ancestors).find(marks);
        let root = above.or(here).unwrap_or(Path::new("."));
        let own = Store::open(cache.cache.as_deref().unwrap_or(&root.join("cache")))?;
        refuse_other_than_text(own.cache())?;
        if own.cache().exists() && !own.cache().is_dir() {
            let message = format!("{} is no folder, and a cache is one", own.cache().display());
            return Err(CliError::Usage(format!("{message}\n  hint: name a folder with --cache")));
        }
        let lower = cache.cache_from.iter().map(|path| existing(path, cache));
        let store = cache.opened.note(own.over(lower.collect::<Result<_, _>>()?));
        Ok(Self { store, reports: root.join("reports") })
    }
}

/// The stores that a command has opened, so that what they have to say is not forgotten.
#[derive(Clone, Debug, Default)]
pub struct Opened(Arc<Mutex<Vec<Store>>>);

impl Opened {
    /// Notes that a store was opened.
    pub fn note(&self, store: Store) -> Store {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(store.clone());
        store
    }

    /// What the stores found damaged and nobody has been told yet, each once, a line each.
    pub fn notices(&self) -> String {
        let opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<String> = opened.iter().flat_map(Store::take_notices).collect();
        lines.sort();
        lines.dedup();
        lines.join("\n")
    }
}

/// Refuses a path that is no text: records, and what is sent to workers, hold paths as text.
fn refuse_other_than_text(path: &Path) -> Result<(), CliError> {
    if path.to_str().is_some() {
        return Ok(());
    }
    let message = format!("the path {} is not UTF-8", path.display());
    Err(CliError::Usage(format!(
        "{message}\n  hint: give the folder another name, or work in another one"
    )))
}

/// Refuses a cache that `--cache` names and that is not there, for those who only look at one: it is a slip.
pub fn refuse_absent(cache: &CacheArgs) -> Result<(), CliError> {
    cache.cache.as_deref().map_or(Ok(()), |path| existing(path, cache).map(drop))
}

/// Opens a cache that has to be there already, to read from it.
pub fn existing(path: &Path, cache: &CacheArgs) -> Result<Store, CliError> {
    let store = Store::read_only(path)?;
    refuse_other_than_text(store.cache())?;
    if store.root().is_dir() {
        return Ok(cache.opened.note(store));
    }
    let hint = "a cache is a folder that holds `v1`";
    Err(CliError::Usage(format!("there is no cache in {}\n  hint: {hint}", path.display())))
}

/// Finds the one node that a selector such as `probe[source=waves]` names.
fn only_one(plan: &Plan, text: &str) -> Result<NodeId, CliError> {
    let found = select(&plan.graph, text)
        .map_err(|wrong| CliError::Usage(format!("{}\n  hint: {}", wrong.message, wrong.hint)))?;
    let names: Vec<&str> = found.iter().map(|id| plan.graph.node(*id).name.as_str()).collect();
    match found.first() {
        Some(id) if found.len() == 1 => Ok(*id),
        _ => {
            let hint = suggest::hint("", "nodes", names.iter().copied());
            Err(CliError::Usage(format!("`{text}` names {} nodes\n  hint: {hint}", names.len())))
        }
    }
}

/// Finds the node that a name, or the beginning of a key, stands for.
pub fn node(
    plan: &Plan,
    keys: &dyn Fn(NodeId) -> Option<String>,
    text: &str,
) -> Result<NodeId, CliError> {
    if let Some(id) = plan.graph.find(text) {
        return Ok(id);
    }
    if text.contains('[') {
        return only_one(plan, text);
    }
    let by_key =
        |id: &NodeId| text.len() >= 4 && keys(*id).is_some_and(|key| key.starts_with(text));
    let matches: Vec<NodeId> = plan.graph.ids().filter(by_key).collect();
    match matches.as_slice() {
        [id] => Ok(*id),
        [] => {
            let name = |id: NodeId| plan.graph.node(id).name.as_str();
            // A stage is named where one of its instances is meant.
            let mut names: Vec<&str> = plan.graph.instances(text).map(name).collect();
            if names.is_empty() {
                names = plan.graph.ids().map(name).collect();
            }
            let hint = suggest::hint(text, "nodes", names);
            Err(CliError::Usage(format!("no node is called `{text}`\n  hint: {hint}")))
        }
        several => {
            let names: Vec<_> =
                several.iter().map(|id| plan.graph.node(*id).name.as_str()).collect();
            Err(CliError::Usage(format!("`{text}` may be {}", names.join(" or "))))
        }
    }
}
