//! `wavecrest cache pack`: one archive with what the reports of an experiment are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Surveyed, as_json};
use crate::cli::{CacheArgs, CliError, ExperimentArgs, print, reports};
use crate::plan::Plan;
use crate::report::memo;
use crate::spec::extends::STDIN;
use crate::store::pack::{Content, Pack, PackError, Wanted};
use crate::store::unpack::{Checked, check};
use crate::store::{files, hash};
use crate::ui::meter::Meter;
use crate::ui::words;

/// Arguments of `cache pack`.
#[derive(Debug, Args)]
pub struct PackArgs {
    /// The archive to write, such as paper.tar
    out: PathBuf,
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// Pack the files of every result, not only what tables and figures read
    #[arg(long)]
    all: bool,
    /// Pack the data that the experiment reads too
    #[arg(long)]
    data: bool,
}

impl From<PackError> for CliError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Store(error) => error.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Packs an experiment.
pub fn pack(args: &PackArgs, cache: &CacheArgs) -> Result<(), CliError> {
    if args.experiment.file == Path::new(STDIN) {
        let message =
            "a pack holds the experiment's file: it cannot be read from the standard input";
        return Err(CliError::Usage(message.to_owned()));
    }
    let surveyed = Surveyed::of(&args.experiment, cache)?;
    let Surveyed { plan, sources, workspace, statuses } = &surveyed;
    let (set, all) = (surveyed.set(), plan.graph.len());
    let run = format!("`wavecrest run {}` computes them", args.experiment.file.display());
    if set.len() < all {
        let lack = reports::lack(all - set.len(), all);
        return Err(CliError::Failed(format!("{} {lack}\n  hint: {run}", plan.experiment.name)));
    }
    // Brought up to date first, so that they are those of the results that are packed.
    let records: Vec<_> = statuses.iter().map(|status| status.record().cloned()).collect();
    let written = reports::write(plan, &records, workspace)?;
    if written.words_when_current().is_none() {
        return Err(CliError::Failed(format!("nothing is packed\n{}", written.words())));
    }
    let root = workspace.reports.parent().unwrap_or(&workspace.reports);
    let file = inside(&args.experiment.file, root)?;
    let mut pack = Pack::new(&plan.experiment.name, &file, &plan.experiment.overlays);
    for (path, text) in sources.files() {
        pack.add(&inside(path, root)?, text.as_bytes().to_vec());
    }
    let outputs = outputs_of_reports(plan);
    pack.add_results(&workspace.store, &set, &|node| {
        let stage = plan.graph.find(node).map_or("", |id| plan.graph.node(id).stage.as_str());
        match outputs.get(stage) {
            _ if args.all => Wanted::All,
            Some(names) => Wanted::Outputs(names.iter().cloned().collect()),
            None => Wanted::Outputs(Vec::new()),
        }
    })?;
    let list = memo::list(&workspace.reports.join(&plan.experiment.name));
    if list.exists() {
        pack.add(&inside(&list, root)?, files::read(&list)?);
    }
    for (path, hash) in written.files {
        let content = Content { len: files::length(&path)?, hash };
        pack.add_file(&inside(&path, root)?, path, content);
    }
    let left = add_data(&mut pack, plan, root, args.data)?;
    let meter = Meter::new("packing", pack.bytes());
    pack.write(&args.out, &|bytes| meter.advance(bytes))?;
    drop(meter);
    print(&format!(
        "packed {} of {} ({}) in {}\n{left}",
        words::count(pack.len(), "file"),
        plan.experiment.name,
        words::bytes(pack.bytes()),
        args.out.display(),
    ))
}

/// The outputs that tables and figures read, by stage.
fn outputs_of_reports(plan: &Plan) -> BTreeMap<&str, BTreeSet<String>> {
    let mut outputs: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let tables = plan.tables.iter().map(|table| &table.from);
    for from in tables.chain(plan.figures.iter().flat_map(|figure| &figure.from)) {
        outputs.entry(&from.stage).or_default().extend(from.output.clone());
    }
    outputs
}

/// Where a file lies in the pack: as it lies in the project.
fn inside(path: &Path, root: &Path) -> Result<String, CliError> {
    let full = files::absolute(path)?;
    let relative = full.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned);
    relative.ok_or_else(|| {
        let message = format!("{} lies outside of {}", path.display(), root.display());
        CliError::Failed(format!(
            "{message}\n  hint: a pack holds what lies in the project's folder"
        ))
    })
}

/// Adds the user's data, or says how much they are.
fn add_data(pack: &mut Pack, plan: &Plan, root: &Path, add: bool) -> Result<String, CliError> {
    let mut bytes = 0;
    for (path, _) in &plan.data {
        let names = if path.is_dir() { files::list(path)? } else { vec![String::new()] };
        for name in names {
            let file = if name.is_empty() { path.clone() } else { path.join(name) };
            bytes += files::length(&file)?;
            if add {
                let (hash, len) = hash::by_reading(&file, &|_| ())?;
                pack.add_file(&inside(&file, root)?, file, Content { len, hash });
            }
        }
    }
    if add || plan.data.is_empty() {
        return Ok(String::new());
    }
    // As it is found from where the pack is unpacked; what lies elsewhere keeps its place.
    let place =
        |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    pack.add_absent(plan.data.iter().map(|(path, hash)| (place(path), *hash)).collect());
    let bytes = words::bytes(bytes);
    Ok(format!(
        "the data that it reads ({bytes}) are not in it, and only what is computed anew needs them; `--data` packs \
         them too\n"
    ))
}

/// Checks a pack without unpacking it.
pub fn verify(archive: &Path, json: bool) -> Result<(), CliError> {
    let meter = Meter::new("verifying", files::length(archive)?);
    let mut checked = check(archive, &memo::is_list, &|bytes| meter.advance(bytes))?;
    drop(meter);
    let found = check_reports(&checked);
    checked.problems.extend(found);
    if json {
        print(&as_json(&json!({
            "pack": checked.manifest.as_ref().map(|m| (&m.experiment, &m.file, m.set)),
            "files": checked.files, "bytes": checked.bytes, "problems": checked.problems,
        })))?;
    } else if checked.problems.is_empty() {
        let manifest = checked.manifest.as_ref().expect("a pack without one has a problem");
        print(&format!(
            "verified {} ({}) of {}: all sound\nunpacked with `tar`, it is a cache: \
             `wavecrest table DIR/{} --cache DIR`\n",
            words::count(checked.files, "file"),
            words::bytes(checked.bytes),
            manifest.experiment,
            manifest.file,
        ))?;
    }
    if checked.problems.is_empty() {
        return Ok(());
    }
    let count = words::count(checked.problems.len(), "problem");
    let words = if json { String::new() } else { checked.problems.join("\n") + "\n" };
    Err(CliError::Failed(format!("{words}{count} in {}", archive.display())))
}

/// Compares the files of the reports with what the packed list of them says.
fn check_reports(checked: &Checked) -> Vec<String> {
    let Some(manifest) = &checked.manifest else { return Vec::new() };
    let mut problems = Vec::new();
    for (path, text) in &checked.texts {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let Some(list) = memo::listed(text) else {
            problems.push(format!("{path} is no list of reports"));
            continue;
        };
        for (name, hash) in list {
            let path = format!("{folder}/{name}");
            match manifest.files.get(&path) {
                Some(content) if content.hash == hash => (),
                Some(_) => problems.push(format!("{path} is not what was written")),
                None => problems.push(format!("{path} is missing, and was written")),
            }
        }
    }
    problems
}
