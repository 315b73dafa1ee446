//! One cell of a table: the values that fall into it, summarized.

use crate::report::{
    aggregate::{self, Aggregate, Summary},
    data::{self, AxisValue},
};

/// What an aggregate says about the rows of one cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stat {
    pub(crate) value: Option<AxisValue>,
    pub(crate) spread: Option<f64>,
    pub(crate) n: usize,
    pub(crate) missing: usize,
    /// Not all values are the same.
    pub(crate) varied: bool,
}

impl Stat {
    /// Summarizes the cells in their order.
    pub(crate) fn of(aggregate: Aggregate, cells: &[Option<&AxisValue>]) -> Self {
        let numbers: Vec<Option<f64>> =
            cells.iter().map(|cell| cell.and_then(AxisValue::number)).collect();
        let present = || cells.iter().flatten().copied();
        let summary = Summary::of(&numbers);
        let n = present().count();
        let (value, spread) = match aggregate {
            Aggregate::Mean => (summary.mean.map(AxisValue::Float), None),
            Aggregate::MeanSem => (summary.mean.map(AxisValue::Float), summary.sem()),
            Aggregate::MeanSd => (summary.mean.map(AxisValue::Float), summary.sd),
            Aggregate::Rate => (summary.mean.map(AxisValue::Float), summary.binomial()),
            Aggregate::Entropy => {
                let compare = |a: &&AxisValue, b: &&AxisValue| data::compare(Some(a), Some(b));
                let entropy = aggregate::entropy(present().collect(), compare);
                (
                    entropy.map(|(bits, _)| AxisValue::Float(bits)),
                    entropy.and_then(|(_, error)| error),
                )
            }
            Aggregate::Std => (summary.sd.map(AxisValue::Float), None),
            Aggregate::Sem => (summary.sem().map(AxisValue::Float), None),
            Aggregate::Median => (aggregate::median(&numbers).map(AxisValue::Float), None),
            Aggregate::Min => {
                (present().min_by(|a, b| data::compare(Some(a), Some(b))).cloned(), None)
            }
            Aggregate::Max => {
                (present().max_by(|a, b| data::compare(Some(a), Some(b))).cloned(), None)
            }
            Aggregate::Sum => (sum(present()), None),
            Aggregate::Count => ((!cells.is_empty()).then_some(AxisValue::Int(n as i64)), None),
            Aggregate::First => (present().next().cloned(), None),
        };
        let mut present = present();
        let first = present.next();
        let varied = present.any(|value| Some(value) != first);
        Self { value, spread, n, missing: cells.len() - n, varied }
    }
}

/// Adds integers exactly and other numbers in their order; none without values.
fn sum<'a>(values: impl Iterator<Item = &'a AxisValue> + Clone) -> Option<AxisValue> {
    values.clone().next()?;
    let mut exact: Option<i64> = Some(0);
    for value in values.clone() {
        exact = match (exact, value) {
            (Some(sum), AxisValue::Int(term)) => sum.checked_add(*term),
            (Some(sum), AxisValue::Bool(term)) => sum.checked_add(i64::from(*term)),
            _ => None,
        };
    }
    let float = || values.filter_map(AxisValue::number).sum::<f64>();
    Some(exact.map_or_else(|| AxisValue::Float(float()), AxisValue::Int))
}
