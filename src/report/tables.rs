//! Tables: rows and columns by axis values, cells by aggregates.

use std::collections::{BTreeMap, BTreeSet};

use polars::prelude::{Column, DataFrame, IdxSize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::{
    aggregate::{Aggregate, Aggregates},
    data::{self, AxisValue},
    error::ReportError,
    grid::{Align, Cell, Grid, Header},
    ordered::Ordered,
    pivot,
    results::Results,
    select::{self, Filter},
};

/// A table over the results of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// Stage whose results are tabulated: `probe` for its table, or its metrics as one row an instance;
    /// `probe.layers` for the table that it calls `layers`. Axes are columns of it.
    pub from: String,
    /// What the table shows: its caption.
    #[serde(default)]
    pub about: Option<String>,
    /// Columns whose values tell the rows apart. Without `rows` and `values`, the results are shown as they are.
    #[serde(default)]
    pub rows: Vec<String>,
    /// Columns whose values are spread over the width of the table, such as `layer`.
    #[serde(default)]
    pub columns: Vec<String>,
    /// What is shown: columns and how to summarize the values that fall into one cell, such as `accuracy = "mean±sem"`
    /// or `loss = ["median", "max"]`.
    #[serde(default)]
    pub values: Ordered<Aggregates>,
    /// What stands above columns instead of their names, such as `accuracy = "Top-1 accuracy"`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Only rows whose columns have one of these values.
    #[serde(default)]
    pub r#where: Filter,
    /// Columns to sort by, the first one foremost; `-loss` sorts downwards, `loss_max` is one of several summaries.
    /// Default: the order of the axes.
    #[serde(default)]
    pub sort: Vec<String>,
    /// The order of a key's values, where it is not that of its axis.
    #[serde(default)]
    pub order: BTreeMap<String, Vec<AxisValue>>,
    /// Digits after the decimal point. Default: two significant digits of the error, or else four of the number.
    #[serde(default)]
    pub digits: Option<usize>,
    /// Formats in which the table is written.
    #[serde(default = "all_formats")]
    pub write: Vec<TableFormat>,
}

/// A file format of tables.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TableFormat {
    /// Comma-separated values with all digits; a mean and its error are columns of their own.
    Csv,
    /// The same columns with their types.
    Parquet,
    /// For README files and issues.
    Markdown,
    /// For papers; needs the package `booktabs`.
    Latex,
}

/// An evaluated table, for machines and for people.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// All digits; `NAME_max` for a maximum; `NAME_mean`, `NAME_sem` and `NAME_n` for a mean with its error; `NAME_rate`,
    /// `NAME_binomial` and `NAME_n` for a rate; `NAME_entropy`, `NAME_se` and `NAME_n` for an entropy.
    pub frame: DataFrame,
    /// Rounded, with notes.
    pub grid: Grid,
}

/// Evaluates a table over the rows of its stage.
///
/// Values that are null, NaN or infinite are left out of every aggregate, and a note says how many there were.
///
/// # Errors
/// Unknown columns, aggregates of text, and specifications that name nothing to compute.
pub fn evaluate(spec: &TableSpec, results: &Results) -> Result<Evaluated, ReportError> {
    if results.frame.width() == 0 {
        return Err(ReportError::NoResults { name: spec.from.clone() });
    }
    if let Some(problem) = spec.check().into_iter().next() {
        return Err(problem.into());
    }
    for name in spec.columns_used() {
        select::column(&results.frame, &name)?;
    }
    let (results, notes) = results.filter(&spec.r#where)?;
    let mut evaluated = if spec.values.is_empty() {
        listed(spec, &results.frame)?
    } else {
        pivot::aggregated(spec, &results)?
    };
    evaluated.grid.notes.extend(notes);
    Ok(evaluated)
}

impl TableSpec {
    /// Returns the names of all columns that the table needs, without repeats.
    pub fn columns_used(&self) -> Vec<String> {
        let named = self.rows.iter().chain(&self.columns).chain(self.r#where.keys());
        let mut names: Vec<String> = named.cloned().collect();
        if self.values.is_empty() {
            names.extend(self.sort.iter().map(|name| key_of(name).0.to_owned()));
            names.extend(self.labels.keys().cloned());
        }
        names.extend(self.values.iter().map(|(name, _)| name.to_owned()));
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }

    /// Returns the columns whose values tell rows and columns of the table apart.
    pub(crate) fn keys(&self) -> Vec<&str> {
        self.rows.iter().chain(&self.columns).map(String::as_str).collect()
    }

    /// Returns what people read for a column.
    pub(crate) fn label<'a>(&'a self, name: &'a str) -> &'a str {
        self.labels.get(name).map_or(name, String::as_str)
    }

    /// Returns everything that is summarized, in order, with its heading: a mean or rate with its error and a first value bear
    /// the column's name alone, a count is `n`, and the others say what they are (but where each cell is a single value).
    pub(crate) fn summaries(&self) -> impl Iterator<Item = Summarized<'_>> {
        let pairs =
            || self.values.iter().flat_map(|(name, of)| of.0.iter().map(move |a| (name, *a)));
        let counts = pairs().filter(|(_, aggregate)| *aggregate == Aggregate::Count).count();
        pairs().map(move |(name, aggregate)| {
            let label = self.label(name);
            let heading = match aggregate {
                Aggregate::MeanSem | Aggregate::MeanSd | Aggregate::Rate | Aggregate::First => {
                    label.to_owned()
                }
                Aggregate::Count if counts == 1 => "n".to_owned(),
                Aggregate::Count => format!("n ({label})"),
                other => format!("{label} ({})", other.words()),
            };
            Summarized { name, aggregate, heading }
        })
    }

    /// Whether the rows can be sorted by a column: a key of theirs, or a value that each row has once.
    pub(crate) fn is_sortable(&self, name: &str) -> bool {
        let named = |s: Summarized<'_>| {
            s.name == name || name.strip_prefix(s.name) == Some(s.aggregate.suffix())
        };
        self.rows.iter().any(|row| row == name)
            || (self.columns.is_empty() && self.summaries().any(named))
    }

    /// Says by what the table can be sorted.
    pub(crate) fn unsortable(&self, name: &str) -> ReportError {
        ReportError::Incomplete(format!(
            "the table cannot be sorted by `{name}`; it can by its `rows`{}",
            if self.columns.is_empty() { " and its `values`" } else { "" }
        ))
    }
}

/// A column of the results and one summary of it.
pub(crate) struct Summarized<'a> {
    pub(crate) name: &'a str,
    pub(crate) aggregate: Aggregate,
    /// What stands above it.
    pub(crate) heading: String,
}

impl TableFormat {
    /// Returns the extension of such files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Markdown => "md",
            Self::Latex => "tex",
        }
    }
}

fn all_formats() -> Vec<TableFormat> {
    vec![TableFormat::Csv, TableFormat::Parquet, TableFormat::Markdown, TableFormat::Latex]
}

/// Shows rows as they are: all columns, or those named by `rows`.
fn listed(spec: &TableSpec, frame: &DataFrame) -> Result<Evaluated, ReportError> {
    let mut order: Vec<usize> = (0..frame.height()).collect();
    let keys =
        spec.sort.iter().map(|name| Ok((select::cells(frame, key_of(name).0)?, key_of(name).1)));
    sort(&mut order, &keys.collect::<Result<Vec<_>, ReportError>>()?);
    let chosen = if spec.rows.is_empty() { frame.clone() } else { frame.select(&spec.rows)? };
    let columns = chosen
        .columns()
        .iter()
        .map(|column| take(column, &order))
        .collect::<Result<Vec<_>, _>>()?;
    let grid = Grid {
        headers: columns
            .iter()
            .map(|column| header("", spec.label(column.name()), alignment(column)))
            .collect(),
        rows: (0..order.len())
            .map(|row| {
                columns
                    .iter()
                    .map(|c| Cell::raw(data::cell(c, row).as_ref(), spec.digits))
                    .collect()
            })
            .collect(),
        notes: Vec::new(),
    };
    Ok(Evaluated { frame: DataFrame::new(order.len(), columns)?, grid })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Splits `-loss` into the column and the direction.
pub(crate) fn key_of(name: &str) -> (&str, Direction) {
    name.strip_prefix('-').map_or((name, Direction::Up), |name| (name, Direction::Down))
}

/// Sorts indices by the keys, the first one foremost; missing values are last in both directions.
pub(crate) fn sort(order: &mut [usize], keys: &[(Vec<Option<AxisValue>>, Direction)]) {
    order.sort_by(|&left, &right| {
        keys.iter()
            .map(|(cells, direction)| match (&cells[left], &cells[right], direction) {
                (Some(left), Some(right), Direction::Down) => {
                    data::compare(Some(right), Some(left))
                }
                (left, right, _) => data::compare(left.as_ref(), right.as_ref()),
            })
            .find(|ordering| ordering.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    });
}

pub(crate) fn take(column: &Column, rows: &[usize]) -> Result<Column, ReportError> {
    Ok(column.take_slice(&rows.iter().map(|&row| row as IdxSize).collect::<Vec<_>>())?)
}

pub(crate) fn header(group: &str, label: &str, align: Align) -> Header {
    Header { group: group.to_owned(), label: label.to_owned(), align }
}

pub(crate) fn alignment(column: &Column) -> Align {
    if select::is_numeric(column) { Align::Right } else { Align::Left }
}

#[cfg(test)]
mod tests {
    use polars::df;

    use super::*;
    use crate::report::terminal;

    fn spec(toml: &str) -> TableSpec {
        toml::from_str(toml).unwrap()
    }

    fn frame() -> DataFrame {
        df!(
            "source" => ["waves", "waves", "noise"],
            "rate" => [0.1, 0.01, 0.1],
            "loss" => [Some(0.123_456), None, Some(2.0)],
        )
        .unwrap()
    }

    fn check(toml: &str, expected: &str) {
        let evaluated = evaluate(&spec(toml), &frame().into()).unwrap();
        assert_eq!(terminal::table(&evaluated.grid), expected.trim_start_matches('\n'), "{toml}");
    }

    fn check_error(toml: &str, expected: &str) {
        assert_eq!(
            evaluate(&spec(toml), &frame().into()).unwrap_err().to_string(),
            expected,
            "{toml}"
        );
    }

    #[test]
    fn without_values_rows_are_listed() {
        check(
            "from = 'probe'\nsort = ['source', '-loss']",
            "
source  rate    loss
──────  ────  ──────
noise    0.1       2
waves    0.1  0.1235
waves   0.01       –
",
        );
        check(
            "from = 'probe'\nrows = ['loss']\nwhere = { source = ['waves', 'nois'] }\ndigits = 1",
            "
loss
────
 0.1
   –
no row has source = nois
",
        );
    }

    #[test]
    fn mistakes_are_explained() {
        check_error(
            "from = 'probe'\nvalues = { los = 'mean' }",
            "no column `los`; the columns are `source`, `rate`, `loss`\nhint: did you mean `loss`?",
        );
        check_error(
            "from = 'probe'\nvalues = { source = 'mean' }",
            "column `source` holds text, but `mean` needs numbers",
        );
        check_error(
            "from = 'probe'\ncolumns = ['source']",
            "`columns` spreads values over the table, but `values` names none",
        );
        check_error(
            "from = 'probe'\nrows = ['source']\nvalues = { loss = 'mean' }\nsort = ['rate']",
            "the table cannot be sorted by `rate`; it can by its `rows` and its `values`",
        );
        let empty = evaluate(&spec("from = 'probe'"), &DataFrame::empty().into()).unwrap_err();
        assert_eq!(empty.to_string(), "`probe` has no finished result");
    }

    #[test]
    fn specifications_are_read_strictly() {
        let table = spec(
            "from = 'probe'\nrows = ['source']\nvalues = { loss = 'mean+-sem' }\nsort = ['-loss']",
        );
        assert_eq!(table.columns_used(), ["source", "loss"]);
        assert_eq!(table.write, all_formats());
        assert_eq!(
            serde_json::from_str::<TableSpec>(&serde_json::to_string(&table).unwrap()).unwrap(),
            table
        );
        for (toml, expected) in [
            ("from = 'probe'\nrow = ['source']", "unknown field `row`"),
            (
                "from = 'probe'\nvalues = { loss = 'average' }",
                "unknown aggregate `average`, expected one of",
            ),
            (
                "from = 'probe'\nwrite = ['tex']",
                "unknown variant `tex`, expected one of `csv`, `parquet`",
            ),
        ] {
            let message = toml::from_str::<TableSpec>(toml).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let schema = serde_json::to_string(&schemars::schema_for!(TableSpec)).unwrap();
        assert!(
            schema.contains("\"additionalProperties\":false") && schema.contains("mean±sem"),
            "{schema}"
        );
    }
}
