//! Tables: rows and named columns, as Parquet.

use std::path::Path;

use polars::prelude::{Column, DataFrame, NamedFrom, Series};
use polars_io::SerReader;
use polars_io::csv::read::CsvReadOptions;
use polars_io::parquet::read::ParquetReader;
use polars_io::parquet::write::ParquetWriter;

use crate::engine::stage::{Artifact, Files};
use crate::store::files;

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    columns: Vec<Column>,
}

/// The file's name inside the artifact.
pub const FILE: &str = "table.parquet";

impl Table {
    /// A table without columns.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a column of numbers; one that is not finite becomes an empty cell.
    #[must_use]
    pub fn floats(self, name: &str, values: impl IntoIterator<Item = f64>) -> Self {
        self.maybe_floats(name, values.into_iter().map(Some))
    }

    /// Adds a column of numbers, some of them missing.
    #[must_use]
    pub fn maybe_floats(
        mut self,
        name: &str,
        values: impl IntoIterator<Item = Option<f64>>,
    ) -> Self {
        let finite = |v: Option<f64>| v.filter(|v| v.is_finite());
        let values: Vec<Option<f64>> = values.into_iter().map(finite).collect();
        self.columns.push(Series::new(name.into(), values).into());
        self
    }

    /// Adds a column of whole numbers.
    #[must_use]
    pub fn counts(mut self, name: &str, values: impl IntoIterator<Item = usize>) -> Self {
        let values: Vec<i64> = values.into_iter().map(|v| v as i64).collect();
        self.columns.push(Series::new(name.into(), values).into());
        self
    }

    /// Adds a column of whole numbers, some of them missing.
    #[must_use]
    pub fn maybe_counts(
        mut self,
        name: &str,
        values: impl IntoIterator<Item = Option<usize>>,
    ) -> Self {
        let values: Vec<Option<i64>> = values.into_iter().map(|v| v.map(|v| v as i64)).collect();
        self.columns.push(Series::new(name.into(), values).into());
        self
    }

    /// Adds a column of text.
    #[must_use]
    pub fn texts(
        mut self,
        name: &str,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        self.columns.push(Series::new(name.into(), values).into());
        self
    }

    /// Adds a column of text, some of it missing.
    #[must_use]
    pub fn maybe_texts(
        mut self,
        name: &str,
        values: impl IntoIterator<Item = Option<String>>,
    ) -> Self {
        let values: Vec<Option<String>> = values.into_iter().collect();
        self.columns.push(Series::new(name.into(), values).into());
        self
    }

    /// Adds a column of yes and no.
    #[must_use]
    pub fn flags(mut self, name: &str, values: impl IntoIterator<Item = bool>) -> Self {
        let values: Vec<bool> = values.into_iter().collect();
        self.columns.push(Series::new(name.into(), values).into());
        self
    }

    /// Reads CSV with a line of names; a column's type is the narrowest that all its values have.
    pub fn of_csv(bytes: Vec<u8>) -> anyhow::Result<Self> {
        let frame = CsvReadOptions::default()
            .with_infer_schema_length(None)
            .into_reader_with_file_handle(std::io::Cursor::new(bytes))
            .finish()?;
        Ok(Self { columns: frame.into_columns() })
    }

    /// The table as Polars sees it.
    pub fn frame(&self) -> anyhow::Result<DataFrame> {
        Ok(DataFrame::new_infer_height(self.columns.clone())?)
    }
}

impl Artifact for Table {
    const TYPE: &'static str = "table";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes).finish(&mut self.frame()?)?;
        Ok(files::write(&folder.join(FILE), &bytes)?)
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        let bytes = files::read(files.path(FILE)?)?;
        let frame = ParquetReader::new(std::io::Cursor::new(bytes)).finish()?;
        Ok(Self { columns: frame.into_columns() })
    }
}
