//! Finished results as one data frame: the axes of each instance as columns, the rows of all instances stacked.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    path::{Path, PathBuf},
};

use polars::prelude::{AnyValue, ArrowDataType, Column, DataFrame, DataType, NamedFrom, Series};
use polars_io::{SerReader, parquet::read::ParquetReader};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::report::error::ReportError;

/// One instance's contribution to a table or figure.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Axis names and values, in the order of the experiment file.
    pub axes: Vec<(String, AxisValue)>,
    /// What the instance yielded.
    pub source: Source,
}

/// Where an instance's rows come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A table of any number of rows.
    Parquet(PathBuf),
    /// Scalar metrics: one row.
    Metrics(BTreeMap<String, f64>),
}

/// A value of an axis, or a value that a column is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum AxisValue {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// Stacks the instances' rows under leading columns for their axes.
///
/// Instances may differ in axes and columns: what one of them lacks is null in its rows.
///
/// # Errors
/// An axis named as a column of a table, columns whose types cannot be unified, or an unreadable file.
pub fn frame(instances: &[Instance]) -> Result<DataFrame, ReportError> {
    let tables = instances.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    for (instance, table) in instances.iter().zip(&tables) {
        refuse_clash(instance, table)?;
    }
    let heights: Vec<usize> = tables.iter().map(DataFrame::height).collect();
    let mut columns = Vec::new();
    for name in union(
        instances.iter().flat_map(|instance| instance.axes.iter().map(|(name, _)| name.as_str())),
    ) {
        columns.push(axis_column(name, instances, &heights));
    }
    for name in union(
        tables.iter().flat_map(|table| table.columns().iter().map(|column| column.name().as_str())),
    ) {
        columns.push(stacked_column(name, &tables)?);
    }
    Ok(DataFrame::new(heights.iter().sum(), columns)?)
}

/// Reads the cell of a column; null and types without a counterpart in an experiment file are `None` and text.
pub fn cell(column: &Column, row: usize) -> Option<AxisValue> {
    match column.get(row).ok()? {
        AnyValue::Null => None,
        AnyValue::Boolean(value) => Some(AxisValue::Bool(value)),
        AnyValue::String(text) => Some(AxisValue::Text(text.to_owned())),
        AnyValue::StringOwned(text) => Some(AxisValue::Text(text.to_string())),
        AnyValue::Float64(value) => Some(AxisValue::Float(value)),
        AnyValue::Float32(value) => Some(AxisValue::Float(shortest_double(value))),
        other => Some(match other.extract::<i64>() {
            Some(value) if column.dtype().is_integer() => AxisValue::Int(value),
            _ => AxisValue::Text(other.to_string()),
        }),
    }
}

/// Orders two cells: numbers by value, then booleans, then text, then nulls.
pub fn compare(left: Option<&AxisValue>, right: Option<&AxisValue>) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) => left.order(right),
        _ => left.is_none().cmp(&right.is_none()),
    }
}

/// Builds a column in the narrowest type that holds all the values.
pub fn column_of(name: &str, values: &[Option<&AxisValue>]) -> Column {
    let present = || values.iter().flatten();
    let series = if present().all(|value| matches!(value, AxisValue::Int(_))) {
        let integer =
            |value: &AxisValue| if let AxisValue::Int(value) = value { Some(*value) } else { None };
        Series::new(
            name.into(),
            values.iter().map(|value| value.and_then(integer)).collect::<Vec<_>>(),
        )
    } else if present().all(|value| matches!(value, AxisValue::Int(_) | AxisValue::Float(_))) {
        Series::new(
            name.into(),
            values.iter().map(|value| value.and_then(AxisValue::number)).collect::<Vec<_>>(),
        )
    } else if present().all(|value| matches!(value, AxisValue::Bool(_))) {
        let truth = |value: &AxisValue| *value == AxisValue::Bool(true);
        Series::new(name.into(), values.iter().map(|value| value.map(truth)).collect::<Vec<_>>())
    } else {
        Series::new(
            name.into(),
            values.iter().map(|value| value.map(ToString::to_string)).collect::<Vec<_>>(),
        )
    };
    series.into()
}

impl AxisValue {
    /// Returns the value as a number; booleans are 0 and 1, text is none.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::Text(_) => None,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => left.cmp(right),
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            _ => self.rank().cmp(&other.rank()).then_with(|| {
                let [left, right] = [self, other].map(|value| value.number().unwrap_or_default());
                left.total_cmp(&right)
            }),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Int(_) | Self::Float(_) => 0,
            Self::Bool(_) => 1,
            Self::Text(_) => 2,
        }
    }
}

impl fmt::Display for AxisValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) if *value != 0.0 && !(1e-4..1e6).contains(&value.abs()) => {
                write!(f, "{value:e}")
            }
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

// Written by hand because a value is read by its own type, without buffering it first as an untagged enum would.
impl<'de> Deserialize<'de> for AxisValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = AxisValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean, a number or a string")
            }

            fn visit_bool<E>(self, value: bool) -> Result<AxisValue, E> {
                Ok(AxisValue::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<AxisValue, E> {
                Ok(AxisValue::Int(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<AxisValue, E> {
                i64::try_from(value)
                    .map(AxisValue::Int)
                    .map_err(|_| E::custom("integer above 2^63 - 1"))
            }

            fn visit_f64<E>(self, value: f64) -> Result<AxisValue, E> {
                Ok(AxisValue::Float(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<AxisValue, E> {
                Ok(AxisValue::Text(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for AxisValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
        }
    }
}

impl JsonSchema for AxisValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AxisValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "number", "string"] })
    }
}

fn load(instance: &Instance) -> Result<DataFrame, ReportError> {
    match &instance.source {
        Source::Parquet(path) => read(path),
        Source::Metrics(metrics) => {
            let columns = metrics
                .iter()
                .map(|(name, value)| Column::new(name.as_str().into(), [*value]))
                .collect();
            Ok(DataFrame::new(1, columns)?)
        }
    }
}

fn read(path: &Path) -> Result<DataFrame, ReportError> {
    let file =
        File::open(path).map_err(|source| ReportError::Open { path: path.to_owned(), source })?;
    let failed = |source| ReportError::Read { path: path.to_owned(), source };
    let mut reader = ParquetReader::new(file);
    for field in reader.schema().map_err(failed)?.iter_values() {
        if !is_readable(&field.dtype) {
            return Err(ReportError::ColumnType {
                path: path.to_owned(),
                column: field.name.to_string(),
                dtype: format!("{:?}", field.dtype),
            });
        }
    }
    reader.finish().map_err(failed)
}

/// Tells whether the features of Polars that are compiled in can hold a type; on some others Polars would panic.
fn is_readable(dtype: &ArrowDataType) -> bool {
    use ArrowDataType as Type;
    match dtype {
        Type::Null
        | Type::Boolean
        | Type::Int32
        | Type::Int64
        | Type::UInt32
        | Type::UInt64
        | Type::Float32
        | Type::Float64
        | Type::Utf8
        | Type::LargeUtf8
        | Type::Utf8View
        | Type::Binary
        | Type::LargeBinary
        | Type::BinaryView => true,
        Type::List(field) | Type::LargeList(field) => is_readable(&field.dtype),
        Type::Struct(fields) => fields.iter().all(|field| is_readable(&field.dtype)),
        _ => false,
    }
}

fn refuse_clash(instance: &Instance, table: &DataFrame) -> Result<(), ReportError> {
    for (axis, _) in &instance.axes {
        if table.column(axis).is_ok() {
            let origin = match &instance.source {
                Source::Parquet(path) => path.display().to_string(),
                Source::Metrics(_) => "of metrics".to_owned(),
            };
            return Err(ReportError::AxisClash { axis: axis.clone(), origin });
        }
    }
    Ok(())
}

/// Collects names without repeats, in order of first appearance.
fn union<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

/// Repeats each instance's value of an axis over its rows.
fn axis_column(name: &str, instances: &[Instance], heights: &[usize]) -> Column {
    let values: Vec<Option<&AxisValue>> = instances
        .iter()
        .map(|instance| instance.axes.iter().find(|(axis, _)| axis == name).map(|(_, value)| value))
        .zip(heights)
        .flat_map(|(value, &height)| std::iter::repeat_n(value, height))
        .collect();
    column_of(name, &values)
}

/// Appends one column of every table, null where a table lacks it.
fn stacked_column(name: &str, tables: &[DataFrame]) -> Result<Column, ReportError> {
    let mut dtype: Option<DataType> = None;
    for column in tables.iter().filter_map(|table| table.column(name).ok()) {
        dtype = Some(match dtype {
            None => column.dtype().clone(),
            Some(first) => unify(name, &first, column.dtype())?,
        });
    }
    let dtype = dtype.unwrap_or(DataType::Null);
    let mut stacked = Column::new_empty(name.into(), &dtype);
    for table in tables {
        match table.column(name) {
            Ok(column) => stacked.append_owned(column.cast(&dtype)?)?,
            Err(_) => {
                stacked.append_owned(Column::full_null(name.into(), table.height(), &dtype))?
            }
        };
    }
    Ok(stacked)
}

/// Finds the type that holds both; numbers are never turned into text.
fn unify(column: &str, first: &DataType, second: &DataType) -> Result<DataType, ReportError> {
    match (first, second) {
        _ if first == second => Ok(first.clone()),
        (DataType::Null, other) | (other, DataType::Null) => Ok(other.clone()),
        _ if first.is_integer() && second.is_integer() => Ok(DataType::Int64),
        _ if first.is_primitive_numeric() && second.is_primitive_numeric() => Ok(DataType::Float64),
        _ => Err(ReportError::TypeClash {
            column: column.to_owned(),
            first: first.to_string(),
            second: second.to_string(),
        }),
    }
}

/// Widens a single to the double with the same shortest decimal, so that 0.1 stays 0.1.
fn shortest_double(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use polars::df;
    use polars_io::parquet::write::ParquetWriter;
    use tempfile::NamedTempFile;

    use super::*;

    fn metrics(axes: &[(&str, AxisValue)], metrics: &[(&str, f64)]) -> Instance {
        Instance {
            axes: axes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            source: Source::Metrics(
                metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            ),
        }
    }

    fn text(text: &str) -> AxisValue {
        AxisValue::Text(text.to_owned())
    }

    #[test]
    fn rows_are_stacked_under_axes() {
        let instances = [
            metrics(
                &[("source", text("waves")), ("replicate", AxisValue::Int(0))],
                &[("accuracy", 0.5)],
            ),
            metrics(&[("source", text("noise"))], &[("accuracy", 0.25), ("loss", 1.0)]),
        ];
        let expected = df!(
            "source" => ["waves", "noise"],
            "replicate" => [Some(0i64), None],
            "accuracy" => [0.5, 0.25],
            "loss" => [None, Some(1.0)],
        )
        .unwrap();
        assert!(frame(&instances).unwrap().equals_missing(&expected));
    }

    #[test]
    fn axes_take_the_narrowest_type() {
        for (values, dtype) in [
            ([AxisValue::Int(1), AxisValue::Int(2)], DataType::Int64),
            ([AxisValue::Int(1), AxisValue::Float(0.5)], DataType::Float64),
            ([AxisValue::Bool(true), AxisValue::Bool(false)], DataType::Boolean),
            ([AxisValue::Int(1), text("a")], DataType::String),
        ] {
            let instances = values.map(|value| metrics(&[("axis", value)], &[("loss", 0.0)]));
            assert_eq!(frame(&instances).unwrap().column("axis").unwrap().dtype(), &dtype);
        }
    }

    #[test]
    fn tables_are_read_and_widened() {
        let tables = [
            df!("layer" => ["conv1", "conv2"], "dimension" => [3i64, 4]).unwrap(),
            df!("layer" => ["conv1"], "dimension" => [2.5]).unwrap(),
        ];
        let files = tables.map(|mut table| {
            let mut file = NamedTempFile::new().unwrap();
            ParquetWriter::new(&mut file).finish(&mut table).unwrap();
            file
        });
        let instances: Vec<Instance> = files
            .iter()
            .enumerate()
            .map(|(index, file)| Instance {
                axes: vec![("run".to_owned(), AxisValue::Int(index as i64))],
                source: Source::Parquet(file.path().to_owned()),
            })
            .collect();
        let expected = df!(
            "run" => [0i64, 0, 1],
            "layer" => ["conv1", "conv2", "conv1"],
            "dimension" => [3.0, 4.0, 2.5],
        )
        .unwrap();
        assert!(frame(&instances).unwrap().equals_missing(&expected));
    }

    #[test]
    fn clashes_and_bad_files_are_named() {
        let clash = frame(&[metrics(&[("loss", AxisValue::Int(1))], &[("loss", 0.0)])])
            .unwrap_err()
            .to_string();
        assert!(clash.contains("axis `loss`") && clash.contains("column `loss`"), "{clash}");
        let parquet =
            |path: &Path| Instance { axes: vec![], source: Source::Parquet(path.to_owned()) };
        assert!(matches!(frame(&[parquet(Path::new("/nowhere"))]), Err(ReportError::Open { .. })));
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(b"not a table").unwrap();
        assert!(matches!(frame(&[parquet(file.path())]), Err(ReportError::Read { .. })));
    }

    #[test]
    fn types_that_polars_cannot_hold_are_refused() {
        let field = polars::prelude::ArrowField::new("item".into(), ArrowDataType::Int8, true);
        for (dtype, expected) in [
            (ArrowDataType::Utf8View, true),
            (ArrowDataType::UInt32, true),
            (ArrowDataType::Date32, false),
            (ArrowDataType::Decimal(10, 2), false),
            (ArrowDataType::LargeList(Box::new(field)), false),
        ] {
            assert_eq!(is_readable(&dtype), expected, "{dtype:?}");
        }
    }

    #[test]
    fn values_are_ordered_with_nulls_last() {
        let mut values = [
            None,
            Some(text("b")),
            Some(AxisValue::Float(1.5)),
            Some(AxisValue::Int(2)),
            Some(text("a")),
        ];
        values.sort_by(|left, right| compare(left.as_ref(), right.as_ref()));
        let shown: Vec<String> = values
            .iter()
            .map(|value| value.as_ref().map_or("null".to_owned(), ToString::to_string))
            .collect();
        assert_eq!(shown, ["1.5", "2", "a", "b", "null"]);
    }

    #[test]
    fn values_survive_json() {
        let text = r#"[true,3,0.5,"waves"]"#;
        let values: Vec<AxisValue> = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&values).unwrap(), text);
        assert!(
            serde_json::from_str::<AxisValue>("[1]")
                .unwrap_err()
                .to_string()
                .contains("a boolean, a number or a string")
        );
    }
}
