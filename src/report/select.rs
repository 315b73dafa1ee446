//! Which rows and columns of a frame a table or figure is about.

use std::collections::BTreeMap;

use polars::prelude::{
    BooleanChunked, Column, DataFrame, DataType, GroupsIndicator, NewChunkedArray,
};

use crate::report::{
    data::{self, AxisValue},
    error::ReportError,
};

/// The values that a row may have in some columns: every column must match one of its values.
pub type Filter = BTreeMap<String, Vec<AxisValue>>;

/// The rows of a frame sorted into groups of equal keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// The first row of each group, in order of appearance.
    pub first: Vec<usize>,
    /// The group of each row.
    pub of: Vec<usize>,
}

/// Finds a column, or says which ones there are.
pub fn column<'a>(frame: &'a DataFrame, name: &str) -> Result<&'a Column, ReportError> {
    frame.column(name).map_err(|_| {
        let available: Vec<String> =
            frame.get_column_names().iter().map(ToString::to_string).collect();
        ReportError::unknown_column(name, &available)
    })
}

/// Reads a whole column; nulls, NaN and infinities are `None`.
pub fn cells(frame: &DataFrame, name: &str) -> Result<Vec<Option<AxisValue>>, ReportError> {
    let column = column(frame, name)?;
    let finite = |value: &AxisValue| value.number().is_none_or(f64::is_finite);
    Ok((0..frame.height()).map(|row| data::cell(column, row).filter(finite)).collect())
}

/// Reads a column of numbers or booleans; nulls, NaN and infinities are `None`.
pub fn numbers(
    frame: &DataFrame,
    name: &str,
    purpose: &str,
) -> Result<Vec<Option<f64>>, ReportError> {
    refuse_text(column(frame, name)?, purpose)?;
    Ok(cells(frame, name)?.iter().map(|cell| cell.as_ref().and_then(AxisValue::number)).collect())
}

/// Fails for a column without numbers, saying what needs them.
pub fn refuse_text(column: &Column, purpose: &str) -> Result<(), ReportError> {
    if is_numeric(column) || column.dtype().is_bool() {
        return Ok(());
    }
    Err(ReportError::NotNumeric {
        column: column.name().to_string(),
        holds: holds(column.dtype()),
        purpose: purpose.to_owned(),
    })
}

/// Fails for a column of other numbers than 0 and 1, saying what needs yes and no.
pub fn refuse_degrees(column: &Column, purpose: &str) -> Result<(), ReportError> {
    refuse_text(column, purpose)?;
    let cells = (0..column.len()).filter_map(|row| data::cell(column, row)?.number());
    match cells.into_iter().find(|number| number.is_finite() && *number != 0.0 && *number != 1.0) {
        Some(number) => Err(ReportError::Incomplete(format!(
            "column `{}` holds {number}, but {purpose} needs yes and no, or 1 and 0",
            column.name()
        ))),
        None => Ok(()),
    }
}

/// Tells whether a column holds numbers, or nothing at all.
pub fn is_numeric(column: &Column) -> bool {
    column.dtype().is_primitive_numeric() || column.dtype().is_null()
}

/// Keeps the rows that match, and remarks on values that no row has.
pub fn filter(frame: &DataFrame, filter: &Filter) -> Result<(DataFrame, Vec<String>), ReportError> {
    let mut keep = vec![true; frame.height()];
    let mut notes = Vec::new();
    for (name, allowed) in filter {
        let column = column(frame, name)?;
        for value in allowed {
            refuse_mismatch(column, value)?;
        }
        let mut seen = vec![false; allowed.len()];
        for (row, keep) in keep.iter_mut().enumerate() {
            let cell = data::cell(column, row);
            let found = allowed
                .iter()
                .position(|value| cell.as_ref().is_some_and(|cell| matches(cell, value)));
            *keep &= found.is_some();
            if let Some(index) = found {
                seen[index] = true;
            }
        }
        for (value, _) in allowed.iter().zip(&seen).filter(|(_, seen)| !**seen) {
            notes.push(format!("no row has {name} = {value}"));
        }
    }
    if keep.iter().all(|keep| *keep) {
        return Ok((frame.clone(), notes));
    }
    Ok((frame.filter(&BooleanChunked::from_slice("keep".into(), &keep))?, notes))
}

/// Groups the rows by equal values in the columns; without columns, all rows are one group.
pub fn group(frame: &DataFrame, columns: &[String]) -> Result<Groups, ReportError> {
    let height = frame.height();
    if columns.is_empty() || height == 0 {
        return Ok(Groups { first: (0..height.min(1)).collect(), of: vec![0; height] });
    }
    let grouped = frame.group_by_stable(columns.iter().map(String::as_str))?;
    let mut groups = Groups { first: Vec::new(), of: vec![0; height] };
    for (index, group) in grouped.get_groups().iter().enumerate() {
        groups.first.push(group.first() as usize);
        match group {
            GroupsIndicator::Idx((_, rows)) => {
                for &row in rows.iter() {
                    groups.of[row as usize] = index;
                }
            }
            GroupsIndicator::Slice([start, length]) => {
                groups.of[start as usize..(start + length) as usize].fill(index);
            }
        }
    }
    Ok(groups)
}

/// Names a group by its values: text alone, anything else as `name=value`, with the name that `called` gives a column.
pub fn label<'a>(
    frame: &DataFrame,
    columns: &'a [String],
    row: usize,
    called: &dyn Fn(&'a str) -> &'a str,
) -> Result<String, ReportError> {
    let parts = columns.iter().map(|name| {
        Ok(match data::cell(column(frame, name)?, row) {
            Some(AxisValue::Text(text)) => text,
            Some(value) => format!("{}={value}", called(name)),
            None => format!("{}=–", called(name)),
        })
    });
    Ok(parts.collect::<Result<Vec<_>, ReportError>>()?.join(", "))
}

fn refuse_mismatch(column: &Column, value: &AxisValue) -> Result<(), ReportError> {
    let comparable = match value {
        AxisValue::Int(_) | AxisValue::Float(_) => is_numeric(column) || column.dtype().is_string(),
        AxisValue::Bool(_) => column.dtype().is_bool() || column.dtype().is_string(),
        AxisValue::Text(_) => !is_numeric(column) && !column.dtype().is_bool(),
    };
    if comparable || column.dtype().is_null() {
        return Ok(());
    }
    Err(ReportError::Filter {
        column: column.name().to_string(),
        value: value.clone(),
        holds: holds(column.dtype()),
    })
}

/// Compares numbers by value; an axis of mixed types is a column of text, so text is compared as it is printed.
pub fn matches(cell: &AxisValue, value: &AxisValue) -> bool {
    match (cell, value) {
        (AxisValue::Text(cell), AxisValue::Text(value)) => cell == value,
        (AxisValue::Text(cell), value) => *cell == value.to_string(),
        (AxisValue::Int(cell), AxisValue::Int(value)) => cell == value,
        (cell, value) => cell.number() == value.number(),
    }
}

fn holds(dtype: &DataType) -> String {
    match dtype {
        DataType::String => "text".to_owned(),
        DataType::Boolean => "booleans".to_owned(),
        numeric if numeric.is_primitive_numeric() => "numbers".to_owned(),
        other => format!("values of type {other}"),
    }
}

#[cfg(test)]
mod tests {
    use polars::df;

    use super::*;

    fn frame() -> DataFrame {
        df!(
            "source" => ["waves", "noise", "waves", "noise"],
            "depth" => [1i64, 1, 2, 2],
            "loss" => [Some(0.5), Some(f64::NAN), None, Some(2.0)],
        )
        .unwrap()
    }

    fn check_filter(column: &str, allowed: &[AxisValue], rows: usize, notes: &[&str]) {
        let wanted = Filter::from([(column.to_owned(), allowed.to_vec())]);
        let (kept, found) = filter(&frame(), &wanted).unwrap();
        assert_eq!((kept.height(), found.as_slice()), (rows, notes.map_owned().as_slice()));
    }

    trait MapOwned {
        fn map_owned(&self) -> Vec<String>;
    }

    impl MapOwned for [&str] {
        fn map_owned(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }

    #[test]
    fn filters_keep_matching_rows() {
        check_filter("source", &[AxisValue::Text("waves".to_owned())], 2, &[]);
        check_filter("depth", &[AxisValue::Float(2.0)], 2, &[]);
        check_filter("depth", &[AxisValue::Int(1), AxisValue::Int(2)], 4, &[]);
        check_filter(
            "depth",
            &[AxisValue::Int(2), AxisValue::Int(3)],
            2,
            &["no row has depth = 3"],
        );
        check_filter("source", &[AxisValue::Int(1)], 0, &["no row has source = 1"]);
    }

    #[test]
    fn mismatches_are_errors() {
        let wanted = Filter::from([("depth".to_owned(), vec![AxisValue::Text("two".to_owned())])]);
        let message = filter(&frame(), &wanted).unwrap_err().to_string();
        assert_eq!(message, "`where` asks for `depth` = two, but `depth` holds numbers");
        let message = numbers(&frame(), "source", "`mean`").unwrap_err().to_string();
        assert_eq!(message, "column `source` holds text, but `mean` needs numbers");
        assert!(
            column(&frame(), "los")
                .unwrap_err()
                .to_string()
                .ends_with("hint: did you mean `loss`?")
        );
    }

    #[test]
    fn degrees_are_no_rates() {
        let frame = frame();
        let error = refuse_degrees(column(&frame, "depth").unwrap(), "`rate`").unwrap_err();
        let expected = "column `depth` holds 2, but `rate` needs yes and no, or 1 and 0";
        assert_eq!(error.to_string(), expected);
        assert!(refuse_degrees(column(&frame, "source").unwrap(), "`rate`").is_err());
    }

    #[test]
    fn groups_come_in_order_of_appearance() {
        let by = |names: &[&str]| group(&frame(), &names.map_owned()).unwrap();
        assert_eq!(by(&["source"]), Groups { first: vec![0, 1], of: vec![0, 1, 0, 1] });
        assert_eq!(
            by(&["depth", "source"]),
            Groups { first: vec![0, 1, 2, 3], of: vec![0, 1, 2, 3] }
        );
        assert_eq!(by(&[]), Groups { first: vec![0], of: vec![0; 4] });
        assert_eq!(
            label(&frame(), &["source".to_owned(), "depth".to_owned()], 2, &|name| name).unwrap(),
            "waves, depth=2"
        );
    }

    #[test]
    fn failed_values_are_none() {
        assert_eq!(
            numbers(&frame(), "loss", "`mean`").unwrap(),
            [Some(0.5), None, None, Some(2.0)]
        );
    }
}
