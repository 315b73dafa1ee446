//! What can be wrong with a table, a figure, or the results they are made of.

use std::path::PathBuf;

use polars::error::PolarsError;

use crate::report::data::AxisValue;

/// A reason why a table or figure cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A table or figure names a column that the results do not have.
    #[error("no column `{name}`; the columns are {}{}", ticked(available), did_you_mean(nearest.as_deref()))]
    UnknownColumn { name: String, available: Vec<String>, nearest: Option<String> },
    /// A table or figure reads a stage whose results were not given.
    #[error("no results of `{name}`; there are results of {}{}", ticked(available), did_you_mean(nearest.as_deref()))]
    UnknownSource { name: String, available: Vec<String>, nearest: Option<String> },
    /// Nothing is there to be tabulated or drawn.
    #[error("`{name}` has no finished result")]
    NoResults { name: String },
    /// An axis and a column of a stage's table have the same name.
    #[error(
        "axis `{axis}` has the same name as column `{axis}` of the table {origin}\n\
         hint: rename the axis; axes become columns of every table"
    )]
    AxisClash { axis: String, origin: String },
    /// The tables of two instances disagree about the type of a column.
    #[error("column `{column}` is {first} in one instance and {second} in another")]
    TypeClash { column: String, first: String, second: String },
    /// A column of text is asked for a number.
    #[error("column `{column}` holds {holds}, but {purpose} needs numbers")]
    NotNumeric { column: String, holds: String, purpose: String },
    /// A filter compares a column with a value of another type.
    #[error("`where` asks for `{column}` = {value}, but `{column}` holds {holds}")]
    Filter { column: String, value: AxisValue, holds: String },
    /// A specification that names nothing to compute.
    #[error("{0}")]
    Incomplete(String),
    /// Two output columns would have the same name.
    #[error("two columns of the table would be called `{name}`")]
    DuplicateColumn { name: String },
    /// A stage's table cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open { path: PathBuf, source: std::io::Error },
    /// A stage's table is not a readable Parquet file.
    #[error("cannot read {} as a Parquet table: {source}", path.display())]
    Read { path: PathBuf, source: PolarsError },
    /// A stage's table has a column of a type that is neither number, boolean nor text.
    #[error(
        "column `{column}` of {} is of type {dtype}, but tables hold numbers, booleans and text\n\
         hint: convert the column where the table is written", path.display()
    )]
    ColumnType { path: PathBuf, column: String, dtype: String },
    /// A picture cannot be drawn.
    #[error("cannot draw the figure: {0}")]
    Draw(String),
    /// Polars refused an operation.
    #[error("cannot evaluate the table: {0}")]
    Polars(#[from] PolarsError),
}

impl ReportError {
    /// Describes a column that does not exist, with the nearest one that does.
    pub fn unknown_column(name: &str, available: &[String]) -> Self {
        Self::UnknownColumn {
            name: name.to_owned(),
            available: available.to_vec(),
            nearest: nearest(name, available),
        }
    }

    /// Describes a stage that has no results, with the nearest one that has.
    pub fn unknown_source(name: &str, available: &[String]) -> Self {
        Self::UnknownSource {
            name: name.to_owned(),
            available: available.to_vec(),
            nearest: nearest(name, available),
        }
    }
}

fn ticked(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("\nhint: did you mean `{name}`?")).unwrap_or_default()
}

/// Finds the candidate with the fewest edits, if these are at most a third of the name.
pub(crate) fn nearest(name: &str, candidates: &[String]) -> Option<String> {
    candidates
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= name.chars().count().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_columns_are_answered_with_a_guess() {
        let columns = ["source".to_owned(), "capacity".to_owned()];
        assert_eq!(
            ReportError::unknown_column("capacty", &columns).to_string(),
            "no column `capacty`; the columns are `source`, `capacity`\nhint: did you mean `capacity`?"
        );
        assert_eq!(
            ReportError::unknown_column("loss", &columns).to_string(),
            "no column `loss`; the columns are `source`, `capacity`"
        );
    }
}
