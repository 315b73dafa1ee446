//! Tables that users bring: Parquet, or comma-separated values, gzipped or not.

use std::io::{Cursor, Read};
use std::sync::Arc;

use flate2::read::GzDecoder;
use polars::prelude::{ArrowDataType, Column, DataFrame, DataType};
use polars_io::SerReader;
use polars_io::csv::read::CsvReadOptions;
use polars_io::parquet::read::ParquetReader;
use polars_parquet::parquet::metadata::SchemaDescriptor;
use polars_parquet::parquet::schema::types::{ParquetType, PrimitiveType};

use crate::engine::failure::Failure;
use crate::engine::parameter::DataPath;
use crate::store::files;

/// Whether the first line of a CSV file names the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// It does.
    Names,
    /// It holds values as the others do.
    None,
}

/// Reads a table; the columns of a CSV file are text, which [`numbers`] reads.
///
/// The content tells the format, not the name, which is no part of a stage's identity.
pub fn read(path: &DataPath, header: Header) -> anyhow::Result<DataFrame> {
    let name = path.written();
    let mut bytes = files::read(path.path())?;
    if bytes.starts_with(b"PAR1") {
        return parquet(name, &bytes);
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).map_err(|error| {
            unreadable(name, &error, "it begins as gzip does: the file must be whole")
        })?;
        bytes = plain;
    }
    // Types inferred from the first rows may not fit later ones.
    CsvReadOptions::default()
        .with_has_header(header == Header::Names)
        .with_infer_schema_length(Some(0))
        .into_reader_with_file_handle(Cursor::new(bytes))
        .finish()
        .map_err(|error| {
            unreadable(
                name,
                &error,
                "a CSV file has as many values in each line, with commas between",
            )
        })
}

/// Finds a column, or says which ones there are.
pub fn column<'a>(
    frame: &'a DataFrame,
    path: &DataPath,
    name: &str,
) -> Result<&'a Column, Failure> {
    frame.column(name).map_err(|_| {
        let names: Vec<String> =
            frame.get_column_names().iter().map(|name| format!("`{name}`")).collect();
        Failure::data(format!("{} has no column `{name}`", path.written()))
            .hint(format!("its columns are {}", names.join(", ")))
    })
}

/// Reads a column of finite numbers; `hint` says what they are.
pub fn numbers(column: &Column, hint: &str) -> Result<Vec<f64>, Failure> {
    let name = column.name();
    let wrong = |row: Option<usize>| {
        let place = row.map_or(String::new(), |row| format!(" in row {}", row + 1));
        Failure::data(format!("column `{name}` holds something that is no number{place}"))
            .hint(hint)
    };
    let cast = column.cast(&DataType::Float64).map_err(|_| wrong(None))?;
    let values = cast.f64().map_err(|_| wrong(None))?;
    let finite = |(row, v): (usize, Option<f64>)| {
        v.filter(|v| v.is_finite()).ok_or_else(|| wrong(Some(row)))
    };
    values.iter().enumerate().map(finite).collect()
}

/// Reads a Parquet file, whole numbers of 8 and 16 bits as wider ones.
fn parquet(name: &str, bytes: &[u8]) -> anyhow::Result<DataFrame> {
    let broken =
        |error| unreadable(name, &error, "it begins as Parquet does: the file must be whole");
    let mut reader = ParquetReader::new(Cursor::new(bytes));
    let schema = reader.schema().map_err(broken)?;
    let narrow: Vec<&str> = schema
        .iter_values()
        .filter(|field| is_narrow(&field.dtype))
        .map(|field| field.name.as_str())
        .collect();
    if narrow.is_empty() {
        return reader.finish().map_err(broken);
    }
    // They lie in the file as numbers of 32 bits, with a remark that they are narrow; without it they are read as they
    // lie. With it Polars would panic, for it is built without columns of such types.
    let mut metadata = reader.get_metadata().map_err(broken)?.as_ref().clone();
    let descriptor = &metadata.schema_descr;
    let fields = descriptor.fields().iter().cloned().map(|field| widened(field, &narrow));
    metadata.schema_descr = SchemaDescriptor::new(descriptor.name().into(), fields.collect());
    metadata.key_value_metadata = None;
    let mut reader = ParquetReader::new(Cursor::new(bytes));
    reader.set_metadata(Arc::new(metadata));
    reader.finish().map_err(broken)
}

fn is_narrow(dtype: &ArrowDataType) -> bool {
    use ArrowDataType as Type;
    matches!(dtype, Type::Int8 | Type::Int16 | Type::UInt8 | Type::UInt16)
}

/// Takes the remark off a column that is named as narrow.
fn widened(field: ParquetType, narrow: &[&str]) -> ParquetType {
    match field {
        ParquetType::PrimitiveType(primitive) if narrow.contains(&&*primitive.field_info.name) => {
            let plain = PrimitiveType { logical_type: None, converted_type: None, ..primitive };
            ParquetType::PrimitiveType(plain)
        }
        other => other,
    }
}

fn unreadable(name: &str, error: &dyn std::error::Error, hint: &str) -> anyhow::Error {
    Failure::data(format!("{name} cannot be read: {error}")).hint(hint).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `tests/fixtures/narrow.py` writes it with Polars for Python.
    const NARROW: &[u8] = include_bytes!("../../../tests/fixtures/narrow.parquet");

    #[test]
    fn narrow_whole_numbers_are_read_as_they_are() {
        let frame = parquet("narrow.parquet", NARROW).unwrap();
        let column = |name: &str| frame.column(name).unwrap();
        for (name, expected) in [
            ("u8", [0.0, 255.0, 7.0]),
            ("i16", [-32768.0, 32767.0, 7.0]),
            ("u16", [0.0, 65535.0, 7.0]),
            ("time", [0.5, 1.5, 2.5]),
        ] {
            assert_eq!(numbers(column(name), "").unwrap(), expected, "{name}");
        }
        let missing = numbers(column("i8"), "a hint").unwrap_err();
        assert_eq!(missing.message, "column `i8` holds something that is no number in row 3");
        let names: Vec<_> = column("name").str().unwrap().iter().collect();
        assert_eq!(names, ["a", "b", "c"].map(Some));
    }
}
