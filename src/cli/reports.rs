//! Tables, figures and the page of an experiment, written from the results that are there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use polars::prelude::DataFrame;

use super::CliError;
use super::page;
use super::workspace::Workspace;
use crate::plan::Plan;
use crate::plan::reports::{FigureEntry, From, TableEntry};
use crate::report::data::{AxisValue, Instance, Source, frame};
use crate::report::error::ReportError;
use crate::report::memo::{self, Memo};
use crate::report::page::{PageFigure, PageTable};
use crate::report::{figures, files, tables};
use crate::spec::ValueKind;
use crate::spec::axes::Point;
use crate::store::{Hash, Record, Store};

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    folder: PathBuf,
    made: usize,
    current: usize,
    /// Reports that lack results, and how many.
    incomplete: Vec<(String, usize)>,
}

impl Written {
    /// Says where the reports are.
    pub fn words(&self) -> String {
        let mut text = String::new();
        for (name, missing) in &self.incomplete {
            text += &format!("{name} not written: {missing} results are missing\n");
        }
        let folder = self.folder.display();
        text + &match (self.made, self.current) {
            (0, 0) => String::new(),
            (0, _) => format!("reports in {folder} are up to date"),
            (made, _) => {
                let reports = crate::ui::words::count(made, "report");
                format!("{reports} written to {folder}; open {folder}/index.html")
            }
        }
    }
}

/// The results that a table or figure reads.
pub enum Gathered {
    /// Every instance is there.
    Complete {
        /// The rows.
        instances: Vec<Instance>,
        /// What they are made of: axis values and content.
        contents: Vec<(String, Hash)>,
    },
    /// Some instances have no result.
    Incomplete {
        /// How many.
        missing: usize,
    },
}

impl Gathered {
    /// The rows as one frame.
    pub fn frame(&self) -> Result<DataFrame, ReportError> {
        match self {
            Self::Complete { instances, .. } => frame(instances),
            Self::Incomplete { .. } => frame(&[]),
        }
    }
}

/// Gathers what a table or figure reads.
pub fn gather(plan: &Plan, records: &[Option<Record>], store: &Store, from: &From) -> Gathered {
    let (mut instances, mut contents, mut missing) = (Vec::new(), Vec::new(), 0);
    for id in plan.graph.instances(&from.stage) {
        let node = plan.graph.node(id);
        let Some(record) = &records[id.index()] else {
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
                (Source::Parquet(store.object(&artifact.files[0].hash)), artifact.hash)
            }
            None => (Source::Metrics(record.metrics.clone()), memo::key("", &(), &record.metrics)),
        };
        contents.push((format!("{axes:?}"), hash));
        instances.push(Instance { axes, source });
    }
    if missing > 0 {
        Gathered::Incomplete { missing }
    } else {
        Gathered::Complete { instances, contents }
    }
}

/// The typed value of a point on an axis.
fn value(plan: &Plan, axis: &str, label: &str) -> AxisValue {
    let axis = plan.experiment.axes.iter().find(|a| a.name == axis);
    let point = axis.and_then(|a| a.points.iter().find(|p| p.label == label));
    match point.map(Point::shown) {
        Some(ValueKind::Int(number)) => AxisValue::Int(*number),
        Some(ValueKind::Float(number)) => AxisValue::Float(*number),
        Some(ValueKind::Bool(flag)) => AxisValue::Bool(*flag),
        _ => AxisValue::Text(label.to_owned()),
    }
}

/// Writes every table and figure whose results are all there, and the page that shows them.
///
/// Where nothing changed, nothing is evaluated.
pub fn write(
    plan: &Plan,
    records: &[Option<Record>],
    workspace: &Workspace,
) -> Result<Written, CliError> {
    let folder = workspace.reports.join(&plan.experiment.name);
    let mut written = Written { folder: shown(&folder), ..Written::default() };
    let tables: Vec<_> = plan.tables.iter().map(Report::Table).collect();
    let figures: Vec<_> = plan.figures.iter().map(Report::Figure).collect();
    let mut due = Vec::new();
    for report in tables.into_iter().chain(figures) {
        let name = report.name();
        let gather = |from: &&From| gather(plan, records, &workspace.store, from);
        let gathered: Vec<Gathered> = report.from().iter().map(gather).collect();
        match contents(&gathered) {
            Ok(contents) => {
                let key = memo::key(&name, &report.definition(), &contents);
                due.push(Due { report, name, key, gathered });
            }
            Err(missing) => written.incomplete.push((name, missing)),
        }
    }
    if due.is_empty() {
        return Ok(written);
    }
    let mut memo = Memo::open(&folder);
    let keys: Vec<Hash> = due.iter().map(|d| d.key).collect();
    let facts = page::facts(plan, records);
    let page_key = memo::key(PAGE, &format!("{facts:?}"), &keys);
    written.current = due.iter().filter(|d| memo.is_current(&d.name, &d.key)).count();
    if written.current == due.len() && memo.is_current(PAGE, &page_key) {
        return Ok(written);
    }
    let mut page = facts;
    for Due { report, name, key, gathered } in &due {
        let wrong = |e: ReportError| CliError::Failed(format!("{name}: {e}"));
        let contents = match report {
            Report::Table(entry) => table(entry, gathered, &mut page.tables).map_err(wrong)?,
            Report::Figure(entry) => figure(entry, gathered, &mut page.figures).map_err(wrong)?,
        };
        if !memo.is_current(name, key) {
            memo.write(name, *key, &contents)?;
            written.made += 1;
        }
    }
    let html = crate::report::page::html(&page).into_bytes();
    memo.write(PAGE, page_key, &[("index.html".to_owned(), html)])?;
    let mut asked: Vec<String> = due.into_iter().map(|d| d.name).collect();
    asked.push(PAGE.to_owned());
    asked.extend(written.incomplete.iter().map(|(name, _)| name.clone()));
    memo.close(&asked)?;
    Ok(written)
}

const PAGE: &str = "page";

/// The folder as the user would write it.
fn shown(folder: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    folder.strip_prefix(here).unwrap_or(folder).to_path_buf()
}

#[derive(Clone, Copy)]
enum Report<'a> {
    Table(&'a TableEntry),
    Figure(&'a FigureEntry),
}

/// A report whose results are all there.
struct Due<'a> {
    report: Report<'a>,
    name: String,
    key: Hash,
    gathered: Vec<Gathered>,
}

impl Report<'_> {
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

    fn definition(&self) -> serde_json::Value {
        match self {
            Self::Table(entry) => serde_json::to_value(&entry.spec),
            Self::Figure(entry) => serde_json::to_value(&entry.spec),
        }
        .expect("definitions are plain data")
    }
}

/// What the parts are made of, or how many results they lack.
fn contents(gathered: &[Gathered]) -> Result<Vec<&Vec<(String, Hash)>>, usize> {
    let mut contents = Vec::new();
    let mut lacking = 0;
    for part in gathered {
        match part {
            Gathered::Complete { contents: part, .. } => contents.push(part),
            Gathered::Incomplete { missing } => lacking += missing,
        }
    }
    if lacking > 0 { Err(lacking) } else { Ok(contents) }
}

/// The files of a report, by name.
type Contents = Vec<(String, Vec<u8>)>;

fn table(
    entry: &TableEntry,
    gathered: &[Gathered],
    page: &mut Vec<PageTable>,
) -> Result<Contents, ReportError> {
    let evaluated = tables::evaluate(&entry.spec, &gathered[0].frame()?)?;
    let caption = entry.spec.about.as_deref().unwrap_or(&entry.name);
    let label = format!("tab:{}", entry.name);
    let mut contents = Vec::new();
    for format in &entry.spec.write {
        let bytes = files::encode(&evaluated, *format, caption, &label)?;
        contents.push((format!("{}.{}", entry.name, format.extension()), bytes));
    }
    page.push(PageTable {
        name: entry.name.clone(),
        caption: entry.spec.about.clone(),
        grid: evaluated.grid,
        files: contents.iter().map(|(file, _)| file.clone()).collect(),
    });
    Ok(contents)
}

fn figure(
    entry: &FigureEntry,
    gathered: &[Gathered],
    page: &mut Vec<PageFigure>,
) -> Result<Contents, ReportError> {
    let mut frames = BTreeMap::new();
    for (from, part) in entry.from.iter().zip(gathered) {
        frames.insert(from.text.clone(), part.frame()?);
    }
    let picture = figures::evaluate(&entry.spec, &frames)?;
    let mut contents = Vec::new();
    for format in &entry.spec.write {
        contents.push((format!("{}.{}", entry.name, format.extension()), picture.encode(*format)?));
    }
    page.push(PageFigure {
        name: entry.name.clone(),
        caption: entry.spec.about.clone(),
        svg: picture.svg(),
        notes: picture.notes,
        files: contents.iter().map(|(file, _)| file.clone()).collect(),
    });
    Ok(contents)
}
