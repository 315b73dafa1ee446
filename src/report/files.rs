//! Tables as the bytes of files.

use std::io::Write;

use polars::prelude::DataFrame;
use polars_io::{SerWriter, csv::write::CsvWriter, parquet::write::ParquetWriter};

use crate::report::{
    error::ReportError,
    latex, markdown,
    tables::{Evaluated, TableFormat},
};

/// Encodes a table in a format; the same table always gives the same bytes.
///
/// `caption` and `label` are for LaTeX.
pub fn encode(
    table: &Evaluated,
    format: TableFormat,
    caption: &str,
    label: &str,
) -> Result<Vec<u8>, ReportError> {
    let mut bytes = Vec::new();
    match format {
        TableFormat::Csv => csv(&table.frame, &mut bytes)?,
        TableFormat::Parquet => parquet(&table.frame, &mut bytes)?,
        TableFormat::Markdown => bytes = markdown::table(&table.grid).into_bytes(),
        TableFormat::Latex => bytes = latex::table(&table.grid, caption, label).into_bytes(),
    }
    Ok(bytes)
}

/// Writes all digits as comma-separated values; nulls are empty.
pub fn csv(frame: &DataFrame, writer: &mut dyn Write) -> Result<(), ReportError> {
    Ok(CsvWriter::new(writer).finish(&mut frame.clone())?)
}

/// Writes a Parquet file.
pub fn parquet(frame: &DataFrame, writer: &mut (dyn Write + Send)) -> Result<(), ReportError> {
    ParquetWriter::new(writer).finish(&mut frame.clone())?;
    Ok(())
}
