//! Where things are: the experiment planned, its cache, its reports.

use std::path::{Path, PathBuf};

use super::{CliError, ExperimentArgs};
use crate::engine::graph::NodeId;
use crate::plan::{self, Plan};
use crate::spec::experiment::{Overlays, load};
use crate::spec::{Diagnostics, Sources, suggest};
use crate::stages::KINDS;
use crate::store::{Store, files};
use crate::ui;

/// Plans an experiment, or reports everything that is wrong with it.
pub fn planned(args: &ExperimentArgs) -> Result<(Plan, Sources), CliError> {
    let overlays = Overlays { profile: args.profile.clone(), set: args.set.clone() };
    let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
    let experiment = load(&args.file, &overlays, &mut sources, &mut errors);
    let plan = experiment.and_then(|e| plan::build(e, KINDS, &mut errors));
    match plan {
        Some(plan) if errors.is_empty() => Ok((plan, sources)),
        _ => Err(CliError::Usage(errors.render(&sources, ui::colored()))),
    }
}

/// The folder that holds `cache` and `reports`.
pub struct Workspace {
    /// The cached results.
    pub store: Store,
    /// The folder of reports.
    pub reports: PathBuf,
}

impl Workspace {
    /// Finds the workspace of a file or folder: `--cache`, or beside the nearest `cache` or Cargo.toml above it.
    pub fn of(place: &Path, cache: Option<&Path>) -> Result<Self, CliError> {
        let cache = match cache {
            Some(cache) => files::absolute(cache)?,
            None => {
                let place = files::absolute(place)?;
                let marks = |f: &&Path| f.join("cache").is_dir() || f.join("Cargo.toml").is_file();
                let here = if place.is_dir() { Some(place.as_path()) } else { place.parent() };
                let above = here.into_iter().flat_map(Path::ancestors).find(marks);
                above.or(here).unwrap_or(Path::new(".")).join("cache")
            }
        };
        let reports = cache.parent().unwrap_or(Path::new(".")).join("reports");
        Ok(Self { store: Store::open(&cache)?, reports })
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
    let by_key =
        |id: &NodeId| text.len() >= 4 && keys(*id).is_some_and(|key| key.starts_with(text));
    let matches: Vec<NodeId> = plan.graph.ids().filter(by_key).collect();
    match matches.as_slice() {
        [id] => Ok(*id),
        [] => {
            let names = plan.graph.ids().map(|id| plan.graph.node(id).name.as_str());
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
