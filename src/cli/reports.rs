//! Tables, figures and the page of an experiment, written from the results that are there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::CliError;
use super::page;
use super::workspace::Workspace;
use crate::plan::Plan;
use crate::plan::reports::{FigureEntry, From, TableEntry};
use crate::report::data::{AxisValue, Instance, Source};
use crate::report::error::ReportError;
use crate::report::memo::{self, Memo};
use crate::report::page::{PageFigure, PageTable};
use crate::report::results::{Axis, Results};
use crate::report::{figures, files, tables};
use crate::spec::ValueKind;
use crate::spec::axes::Point;
use crate::store::{Hash, Store, Summary, hash};

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    folder: PathBuf,
    made: usize,
    current: usize,
    /// Reports that could not be evaluated, and why.
    pub errors: Vec<(String, String)>,
    /// Reports that lack results, and what they lack.
    incomplete: Vec<(String, String)>,
    /// How many files of results were found damaged, and put aside: to be computed again.
    pub damaged: usize,
    /// Every file of the reports, each with its content.
    pub files: Vec<(PathBuf, Hash)>,
}

impl Written {
    /// What is to be said the next time, if nothing changes; `None` where something is lacking.
    pub fn words_when_current(&self) -> Option<String> {
        let whole = self.errors.is_empty() && self.incomplete.is_empty();
        let current =
            Self { made: 0, current: self.made + self.current, ..Self::empty(&self.folder) };
        whole.then(|| current.words())
    }

    fn empty(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), ..Self::default() }
    }

    /// Says where the reports are, and which could not be made.
    pub fn words(&self) -> String {
        let mut lines = Vec::new();
        for (name, why) in self.errors.iter().chain(&self.incomplete) {
            lines.push(format!("{name} not written: {why}"));
        }
        let folder = self.folder.display();
        match (self.made, self.current) {
            (0, 0) => (),
            (0, _) => lines.push(format!("reports in {folder} are up to date")),
            (made, _) => {
                let reports = crate::ui::words::count(made, "report");
                lines.push(format!("{reports} written to {folder}; open {folder}/index.html"));
            }
        }
        lines.join("\n")
    }
}

/// The results that a table or figure reads.
pub enum Gathered {
    /// Every instance is there.
    Complete(Parts),
    /// Some instances have no result.
    Incomplete {
        /// How many.
        missing: usize,
        /// Of how many.
        all: usize,
    },
}

/// The results of one stage, and what they are made of.
pub struct Parts {
    instances: Vec<Instance>,
    axes: Vec<Axis>,
    /// Axis values and content of each instance, in order.
    contents: Vec<(String, Hash)>,
    /// The objects that are read.
    objects: Vec<Hash>,
}

impl Parts {
    /// Puts aside what is damaged of the objects, and says how many those are.
    pub fn quarantine(&self, store: &Store) -> usize {
        let is_sound = |object: &&Hash| hash::is(&store.object(object), object);
        let damaged: Vec<&Hash> = self.objects.iter().filter(|o| !is_sound(o)).collect();
        for object in &damaged {
            store.quarantine(object);
        }
        damaged.len()
    }

    /// Reads the rows.
    pub fn results(&self) -> Result<Results, ReportError> {
        Results::of(&self.instances, &self.axes)
    }
}

/// Gathers what a table or figure reads.
pub fn gather(
    plan: &Plan,
    records: &[Option<Arc<Summary>>],
    store: &Store,
    from: &From,
) -> Gathered {
    let (mut instances, mut contents, mut missing) = (Vec::new(), Vec::new(), 0);
    let mut objects = Vec::new();
    let axes: Vec<Axis> = plan.experiment.axes.iter().map(axis).collect();
    for id in plan.graph.instances(&from.stage) {
        let node = plan.graph.node(id);
        let read = |output: &String, record: &Summary| record.outputs[output].files[0].clone();
        let is_there = |record: &&Arc<Summary>| {
            let file = from.output.as_ref().map(|output| read(output, record));
            file.is_none_or(|file| store.has(&file.hash, file.len))
        };
        let Some(record) = records[id.index()].as_ref().filter(is_there) else {
            missing += 1;
            continue;
        };
        let axes: Vec<(String, AxisValue)> = node
            .point
            .iter()
            .map(|(axis, label)| (axis.clone(), value(plan, axis, label)))
            .collect();
        let (source, hash) = match &from.output {
            Some(output) => {
                let artifact = &record.outputs[output];
                objects.push(artifact.files[0].hash);
                (Source::Parquet(store.object(&artifact.files[0].hash)), artifact.hash)
            }
            None => (Source::Metrics(record.metrics.clone()), memo::key("", &(), &record.metrics)),
        };
        contents.push((format!("{axes:?}"), hash));
        instances.push(Instance { axes, source });
    }
    if missing > 0 {
        Gathered::Incomplete { missing, all: missing + instances.len() }
    } else {
        Gathered::Complete(Parts { instances, axes, contents, objects })
    }
}

fn axis(axis: &crate::spec::axes::Axis) -> Axis {
    Axis { name: axis.name.clone(), values: axis.points.iter().map(typed).collect() }
}

/// The typed value of a point on an axis.
fn value(plan: &Plan, axis: &str, label: &str) -> AxisValue {
    let axis = plan.experiment.axes.iter().find(|a| a.name == axis);
    let point = axis.and_then(|a| a.points.iter().find(|p| p.label == label));
    point.map_or_else(|| AxisValue::Text(label.to_owned()), typed)
}

fn typed(point: &Point) -> AxisValue {
    match point.shown() {
        ValueKind::Int(number) => AxisValue::Int(*number),
        ValueKind::Float(number) => AxisValue::Float(*number),
        ValueKind::Bool(flag) => AxisValue::Bool(*flag),
        _ => AxisValue::Text(point.label.clone()),
    }
}

/// Writes every table and figure whose results are all there, and the page that shows them.
///
/// Only what changed is evaluated. A report that cannot be made leaves no files: the page says why, and the others are
/// written all the same.
pub fn write(
    plan: &Plan,
    records: &[Option<Arc<Summary>>],
    workspace: &Workspace,
) -> Result<Written, CliError> {
    let folder = workspace.reports.join(&plan.experiment.name);
    let mut written = Written::empty(&shown(&folder));
    let mut memo = Memo::open(&folder);
    let reports = Report::all(plan);
    if reports.is_empty() {
        memo.close(&[])?;
        return Ok(written);
    }
    let mut sections = Vec::new();
    for report in &reports {
        let gather = |from: &&From| gather(plan, records, &workspace.store, from);
        let gathered: Vec<Gathered> = report.from().iter().map(gather).collect();
        sections.push(section((*report, &workspace.store), &gathered, &mut memo, &mut written)?);
    }
    let mut page = page::facts(plan, records);
    let key = memo::key(PAGE, &format!("{page:?}"), &sections);
    if !memo.is_current(PAGE, &key) {
        for (report, section) in reports.iter().zip(&sections) {
            let part = match section {
                Section::Shown(_) => memo.read(&report.fragment())?,
                Section::Absent(why) => report.absent(why),
            };
            match report {
                Report::Figure(_) => page.figures.push(part),
                Report::Table(_) => page.tables.push(part),
            }
        }
        let html = crate::report::page::html(&page).into_bytes();
        memo.write(PAGE, key, &[("index.html".to_owned(), html)])?;
    }
    let names = reports.iter().map(Report::name).chain([PAGE.to_owned()]);
    written.files = memo.close(&names.collect::<Vec<_>>())?;
    Ok(written)
}

/// What the page shows of a report.
#[derive(Serialize)]
enum Section {
    /// The report made with this key.
    Shown(Hash),
    /// Why it was not made.
    Absent(String),
}

/// Brings the files of one report up to date.
fn section(
    (report, store): (Report<'_>, &Store),
    gathered: &[Gathered],
    memo: &mut Memo,
    written: &mut Written,
) -> Result<Section, CliError> {
    let name = report.name();
    let parts = match complete(gathered) {
        Ok(parts) => parts,
        Err(why) => {
            memo.forget(&name)?;
            written.incomplete.push((name, why.clone()));
            return Ok(Section::Absent(why));
        }
    };
    let contents: Vec<_> = parts.iter().map(|part| &part.contents).collect();
    let key = memo::key(&name, &report.definition(), &contents);
    if memo.is_current(&name, &key) {
        written.current += 1;
        return Ok(Section::Shown(key));
    }
    let damaged: usize = parts.iter().map(|part| part.quarantine(store)).sum();
    if damaged > 0 {
        memo.forget(&name)?;
        written.damaged += damaged;
        let why = "a result that it reads is damaged, and is to be computed again".to_owned();
        written.incomplete.push((name, why.clone()));
        return Ok(Section::Absent(why));
    }
    match report.make(&parts) {
        Ok(files) => {
            memo.write(&name, key, &files)?;
            written.made += 1;
            Ok(Section::Shown(key))
        }
        Err(error) => {
            memo.forget(&name)?;
            written.errors.push((name, error.to_string()));
            Ok(Section::Absent(error.to_string()))
        }
    }
}

const PAGE: &str = "page";

/// The folder as the user would write it.
fn shown(folder: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    folder.strip_prefix(here).unwrap_or(folder).to_path_buf()
}

/// The parts where every result is there, or what is lacking.
fn complete(gathered: &[Gathered]) -> Result<Vec<&Parts>, String> {
    let mut parts = Vec::new();
    let (mut lacking, mut of) = (0, 0);
    for part in gathered {
        match part {
            Gathered::Complete(part) => {
                of += part.instances.len();
                parts.push(part);
            }
            Gathered::Incomplete { missing, all } => (lacking, of) = (lacking + missing, of + all),
        }
    }
    if lacking > 0 { Err(lack(lacking, of)) } else { Ok(parts) }
}

/// Says how many results are not there.
pub fn lack(missing: usize, all: usize) -> String {
    format!("lacks {missing} of {}", crate::ui::words::count(all, "result"))
}

#[derive(Clone, Copy)]
enum Report<'a> {
    Table(&'a TableEntry),
    Figure(&'a FigureEntry),
}

impl<'a> Report<'a> {
    fn all(plan: &'a Plan) -> Vec<Self> {
        let tables = plan.tables.iter().map(Report::Table);
        tables.chain(plan.figures.iter().map(Report::Figure)).collect()
    }

    fn name(&self) -> String {
        match self {
            Self::Table(entry) => format!("table `{}`", entry.name),
            Self::Figure(entry) => format!("figure `{}`", entry.name),
        }
    }

    fn from(&self) -> Vec<&From> {
        match self {
            Self::Table(entry) => vec![&entry.from],
            Self::Figure(entry) => entry.from.iter().collect(),
        }
    }

    /// What was written of it, as text: the order of its values counts.
    fn definition(&self) -> String {
        match self {
            Self::Table(entry) => serde_json::to_string(&entry.spec),
            Self::Figure(entry) => serde_json::to_string(&entry.spec),
        }
        .expect("definitions are plain data")
    }

    /// The file that keeps its part of the page; hidden, for it is nobody's result.
    fn fragment(&self) -> String {
        match self {
            Self::Table(entry) => format!(".page/table-{}.html", entry.name),
            Self::Figure(entry) => format!(".page/figure-{}.html", entry.name),
        }
    }

    fn absent(&self, why: &str) -> String {
        let (name, about) = match self {
            Self::Table(entry) => (&entry.name, &entry.spec.about),
            Self::Figure(entry) => (&entry.name, &entry.spec.about),
        };
        crate::report::page::absent(name, about.as_deref(), why)
    }

    /// Makes its files, its part of the page among them.
    fn make(&self, parts: &[&Parts]) -> Result<Contents, ReportError> {
        let (mut contents, part) = match self {
            Self::Table(entry) => table(entry, parts[0])?,
            Self::Figure(entry) => figure(entry, parts)?,
        };
        contents.push((self.fragment(), part.into_bytes()));
        Ok(contents)
    }
}

/// The files of a report, by name.
type Contents = Vec<(String, Vec<u8>)>;

fn table(entry: &TableEntry, part: &Parts) -> Result<(Contents, String), ReportError> {
    let evaluated = tables::evaluate(&entry.spec, &part.results()?)?;
    let caption = entry.spec.about.as_deref().unwrap_or(&entry.name);
    let label = format!("tab:{}", entry.name);
    let mut contents = Vec::new();
    for format in &entry.spec.write {
        let bytes = files::encode(&evaluated, *format, caption, &label)?;
        contents.push((format!("{}.{}", entry.name, format.extension()), bytes));
    }
    let page = PageTable {
        name: entry.name.clone(),
        caption: entry.spec.about.clone(),
        grid: evaluated.grid,
        files: contents.iter().map(|(file, _)| file.clone()).collect(),
    };
    Ok((contents, crate::report::page::table(&page)))
}

fn figure(entry: &FigureEntry, parts: &[&Parts]) -> Result<(Contents, String), ReportError> {
    let mut results = BTreeMap::new();
    for (from, part) in entry.from.iter().zip(parts) {
        results.insert(from.text.clone(), part.results()?);
    }
    let picture = figures::evaluate(&entry.spec, &results)?;
    let mut contents = Vec::new();
    for format in &entry.spec.write {
        contents.push((format!("{}.{}", entry.name, format.extension()), picture.encode(*format)?));
    }
    let page = PageFigure {
        name: entry.name.clone(),
        caption: entry.spec.about.clone(),
        svg: picture.svg(),
        notes: picture.notes,
        files: contents.iter().map(|(file, _)| file.clone()).collect(),
    };
    Ok((contents, crate::report::page::figure(&page)))
}
