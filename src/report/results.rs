//! The results of one stage, as tables and figures read them.

use std::collections::BTreeMap;

use polars::prelude::DataFrame;

use crate::report::{
    data::{self, AxisValue, Instance},
    error::ReportError,
    select::{self, Filter},
};

/// Rows of results under their columns, of which some are axes.
#[derive(Clone, Debug)]
pub struct Results {
    /// The axes of each row first, then what the stage yielded.
    pub frame: DataFrame,
    /// The axes that the frame has, in the order of the experiment file.
    pub axes: Vec<Axis>,
}

/// An axis as it was written.
#[derive(Clone, Debug)]
pub struct Axis {
    pub name: String,
    /// Its values in the order written.
    pub values: Vec<AxisValue>,
}

impl Results {
    /// Stacks the rows of all instances.
    pub fn of(instances: &[Instance], axes: &[Axis]) -> Result<Self, ReportError> {
        let frame = data::frame(instances)?;
        let has = |axis: &&Axis| instances.iter().any(|i| i.axes.iter().any(|a| a.0 == axis.name));
        let axes = axes.iter().filter(has).cloned().collect();
        Ok(Self { frame, axes })
    }

    /// Keeps the rows that match, and remarks on values that no row has.
    pub fn filter(&self, filter: &Filter) -> Result<(Self, Vec<String>), ReportError> {
        let (frame, notes) = select::filter(&self.frame, filter)?;
        Ok((Self { frame, axes: self.axes.clone() }, notes))
    }

    /// Ranks the cells of a column: first the values in `order`, then those of an axis as it lists them, then others by
    /// appearance; nulls last.
    pub fn ranks(
        &self,
        column: &str,
        order: Option<&Vec<AxisValue>>,
    ) -> Result<Vec<usize>, ReportError> {
        let cells = select::cells(&self.frame, column)?;
        let axis = self.axes.iter().find(|axis| axis.name == column);
        let listed = order.into_iter().chain(axis.map(|axis| &axis.values)).flatten();
        let mut ranks: BTreeMap<String, usize> = BTreeMap::new();
        for value in listed.chain(cells.iter().flatten()) {
            let next = ranks.len();
            ranks.entry(value.to_string()).or_insert(next);
        }
        let rank = |cell: &Option<AxisValue>| {
            cell.as_ref().map_or(usize::MAX, |value| ranks[&value.to_string()])
        };
        Ok(cells.iter().map(rank).collect())
    }

    /// Says over what rows that share the keys are summarized: ` over replicate`, or nothing where each stands alone.
    pub fn pooled(&self, keys: &[&str]) -> Result<String, ReportError> {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let groups = |more: &[&str]| {
            let mut columns = keys.clone();
            for name in more {
                if !columns.iter().any(|known| known == name) {
                    columns.push((*name).to_owned());
                }
            }
            select::group(&self.frame, &columns)
        };
        let cells = groups(&[])?;
        let mut varying = Vec::new();
        for axis in &self.axes {
            if groups(&[&axis.name])?.first.len() > cells.first.len() {
                varying.push(axis.name.clone());
            }
        }
        let all: Vec<&str> = self.axes.iter().map(|axis| axis.name.as_str()).collect();
        let instances = groups(&all)?;
        let names = listed(&varying);
        if instances.first.len() == self.frame.height() {
            return Ok(if names.is_empty() { names } else { format!(" over {names}") });
        }
        if self.axes.is_empty() {
            return Ok(" over rows".to_owned());
        }
        let mut counts = vec![0; cells.first.len()];
        instances.first.iter().for_each(|&row| counts[cells.of[row]] += 1);
        let (low, high) = (counts.iter().min(), counts.iter().max());
        let many = match (low.copied().unwrap_or(0), high.copied().unwrap_or(0)) {
            (_, 1) => "one instance".to_owned(),
            (low, high) if low == high => format!("{high} instances"),
            (low, high) => format!("{low} to {high} instances"),
        };
        let names = if names.is_empty() { names } else { format!(" ({names})") };
        Ok(format!(" over rows of {many}{names}"))
    }
}

impl From<DataFrame> for Results {
    /// Takes rows none of whose columns is an axis.
    fn from(frame: DataFrame) -> Self {
        Self { frame, axes: Vec::new() }
    }
}

/// Joins names as a sentence does.
fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use polars::df;

    use super::*;

    fn results() -> Results {
        let text = |text: &str| AxisValue::Text(text.to_owned());
        let frame = df!(
            "replicate" => [0i64, 0, 0, 1, 1, 1],
            "source" => ["a", "a", "b", "a", "a", "b"],
            "layer" => ["x", "y", "x", "x", "y", "x"],
        )
        .unwrap();
        let axes = vec![
            Axis {
                name: "replicate".to_owned(),
                values: vec![AxisValue::Int(0), AxisValue::Int(1)],
            },
            Axis { name: "source".to_owned(), values: vec![text("b"), text("a")] },
        ];
        Results { frame, axes }
    }

    #[test]
    fn what_is_summarized_is_said() {
        for (keys, expected) in [
            (&["replicate", "source", "layer"][..], ""),
            (&["source", "layer"], " over replicate"),
            (&["layer"], " over replicate and source"),
            (&["source"], " over rows of 2 instances (replicate)"),
            (&["replicate", "source"], " over rows of one instance"),
            (&[], " over rows of 4 instances (replicate and source)"),
        ] {
            assert_eq!(results().pooled(keys).unwrap(), expected, "{keys:?}");
        }
        // Where a key tells the axis apart, it is not summarized over.
        let told = Results {
            frame: df!("width" => [1i64, 2], "size" => [10i64, 40]).unwrap(),
            axes: vec![Axis { name: "width".to_owned(), values: Vec::new() }],
        };
        assert_eq!(told.pooled(&["size"]).unwrap(), "");
        assert_eq!(Results::from(results().frame).pooled(&["layer"]).unwrap(), " over rows");
    }

    #[test]
    fn axes_rank_as_written() {
        assert_eq!(results().ranks("source", None).unwrap(), [1, 1, 0, 1, 1, 0]);
        assert_eq!(results().ranks("layer", None).unwrap(), [0, 1, 0, 0, 1, 0]);
        let order = vec![AxisValue::Text("y".to_owned())];
        assert_eq!(results().ranks("layer", Some(&order)).unwrap(), [1, 0, 1, 1, 0, 1]);
    }
}
