//! One column of a table's values: its summary for every cell, its heading, and what is to be noted of it.

use polars::prelude::{Column, DataFrame, NamedFrom, Series};

use crate::report::{
    aggregate::{self, Aggregate},
    data::{self, AxisValue},
    error::ReportError,
    grid::{Align, Cell, Header},
    select::{self, Groups},
    stat::Stat,
    tables::{Summarized, TableSpec, alignment, header},
};

/// One column of the results, aggregated for every cell of the table.
pub(crate) struct Value {
    pub(crate) name: String,
    pub(crate) aggregate: Aggregate,
    /// What stands above it.
    pub(crate) heading: String,
    align: Align,
    /// Cells by row group, then by column group.
    pub(crate) stats: Vec<Vec<Stat>>,
    pub(crate) notes: Vec<String>,
}

impl Value {
    /// Summarizes the column for every cell.
    pub(crate) fn compute(
        spec: &TableSpec,
        frame: &DataFrame,
        &Summarized { name, aggregate, ref heading }: &Summarized<'_>,
        rows: &Groups,
        spread: &Groups,
    ) -> Result<Self, ReportError> {
        let column = select::column(frame, name)?;
        if !matches!(aggregate, Aggregate::First | Aggregate::Count | Aggregate::Entropy) {
            select::refuse_text(column, &format!("`{aggregate}`"))?;
        }
        if aggregate == Aggregate::Rate {
            select::refuse_degrees(column, "`rate`")?;
        }
        let cells = select::cells(frame, name)?;
        let mut members = vec![vec![Vec::new(); spread.first.len()]; rows.first.len()];
        for (row, cell) in cells.iter().enumerate() {
            members[rows.of[row]][spread.of[row]].push(cell.as_ref());
        }
        let stats: Vec<Vec<Stat>> = members
            .iter()
            .map(|row| row.iter().map(|cells| Stat::of(aggregate, cells)).collect())
            .collect();
        let align = if aggregate == Aggregate::First { alignment(column) } else { Align::Right };
        let mut value = Self {
            name: name.to_owned(),
            aggregate,
            heading: heading.clone(),
            align,
            stats,
            notes: Vec::new(),
        };
        value.notes.extend(value.note_on_missing(spec, frame, rows, spread)?);
        if value.is_bare(spec) {
            spec.label(name).clone_into(&mut value.heading);
        }
        Ok(value)
    }

    /// Whether each cell holds one value, and its only summary is that value itself.
    fn is_bare(&self, spec: &TableSpec) -> bool {
        let itself = !matches!(
            self.aggregate,
            Aggregate::Count | Aggregate::Std | Aggregate::Sem | Aggregate::Entropy
        );
        let only = spec.values.iter().any(|(name, of)| name == self.name && of.0.len() == 1);
        itself && only && self.stats.iter().flatten().all(|stat| stat.n <= 1)
    }

    /// Says over what the values were summarized; nothing where each cell is a value as it is.
    pub(crate) fn remark(&self, spec: &TableSpec, over: &str) -> Option<String> {
        let counted = || self.stats.iter().flatten().filter(|stat| stat.n > 0);
        let counts = (counted().map(|stat| stat.n).min()?, counted().map(|stat| stat.n).max()?);
        match self.aggregate {
            Aggregate::Count => {
                Some(format!("number of values of {}{over}", spec.label(&self.name)))
            }
            Aggregate::First if !counted().any(|stat| stat.varied) => None,
            plain if plain.spread().is_none() && counts.1 == 1 => None,
            aggregate => Some(aggregate::remark(aggregate, over, counts)),
        }
    }

    /// Says how many values were left out because they are null, NaN or infinite, and where.
    fn note_on_missing(
        &self,
        spec: &TableSpec,
        frame: &DataFrame,
        rows: &Groups,
        spread: &Groups,
    ) -> Result<Option<String>, ReportError> {
        const LISTED: usize = 4;
        let mut places = Vec::new();
        let (mut missing, mut total) = (0, 0);
        for (row, stats) in self.stats.iter().enumerate() {
            for (group, stat) in stats.iter().enumerate() {
                (missing, total) = (missing + stat.missing, total + stat.missing + stat.n);
                if stat.missing > 0 {
                    let keys = [
                        select::label(frame, &spec.rows, rows.first[row], &|n| spec.label(n))?,
                        select::label(frame, &spec.columns, spread.first[group], &|n| {
                            spec.label(n)
                        })?,
                    ];
                    let place = keys
                        .iter()
                        .filter(|key| !key.is_empty())
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(", ");
                    places.push(format!("{place}: {} of {}", stat.missing, stat.missing + stat.n));
                }
            }
        }
        if missing == 0 {
            return Ok(None);
        }
        let note = format!("{}: {missing} of {total} values missing", spec.label(&self.name));
        if spec.rows.is_empty() && spec.columns.is_empty() {
            return Ok(Some(note));
        }
        let more = if places.len() > LISTED { "; …" } else { "" };
        places.truncate(LISTED);
        Ok(Some(format!("{note} ({}{more})", places.join("; "))))
    }

    /// Whether `sort` means this value: by the column that it summarizes, or by its own name in files.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        let (column, suffix) = (self.name.as_str(), self.aggregate.suffix());
        column == name || name.strip_prefix(column) == Some(suffix)
    }

    /// Builds the exact columns for one group of columns; `counted` where another summary tells the number of values.
    pub(crate) fn columns(
        &self,
        group: usize,
        label: &str,
        order: &[usize],
        counted: bool,
    ) -> Vec<Column> {
        let base =
            if label.is_empty() { self.name.clone() } else { format!("{}_{label}", self.name) };
        let stats: Vec<&Stat> = order.iter().map(|&row| &self.stats[row][group]).collect();
        let floats = |suffix: &str, of: fn(&Stat) -> Option<f64>| {
            let values: Vec<Option<f64>> = stats.iter().map(|stat| of(stat)).collect();
            Column::from(Series::new(format!("{base}{suffix}").into(), values))
        };
        let mean = |stat: &Stat| stat.value.as_ref().and_then(AxisValue::number);
        let suffix = self.aggregate.suffix();
        match (self.aggregate, self.aggregate.spread()) {
            (_, Some(spread)) => {
                let mut columns =
                    vec![floats(suffix, mean), floats(&format!("_{spread}"), |stat| stat.spread)];
                if !counted {
                    let n: Vec<i64> = stats.iter().map(|stat| stat.n as i64).collect();
                    columns.push(Series::new(format!("{base}_n").into(), n).into());
                }
                columns
            }
            (Aggregate::Mean | Aggregate::Median | Aggregate::Std | Aggregate::Sem, None) => {
                vec![floats(suffix, mean)]
            }
            _ => {
                let values: Vec<Option<&AxisValue>> =
                    stats.iter().map(|stat| stat.value.as_ref()).collect();
                vec![data::column_of(&format!("{base}{suffix}"), &values)]
            }
        }
    }

    /// Rounds the cells of one group of columns.
    pub(crate) fn printed(
        &self,
        group: usize,
        label: &str,
        order: &[usize],
        digits: Option<usize>,
    ) -> (Header, Vec<Cell>) {
        let cell = |stat: &Stat| match &stat.value {
            Some(AxisValue::Float(mean)) if self.aggregate.spread().is_some() => {
                Cell::spread(Some(*mean), stat.spread, stat.n, digits)
            }
            Some(AxisValue::Float(number)) => Cell::rounded(Some(*number), digits),
            value => Cell::raw(value.as_ref(), digits),
        };
        let header = if label.is_empty() {
            header("", &self.heading, self.align)
        } else {
            header(&self.heading, label, self.align)
        };
        (header, order.iter().map(|&row| cell(&self.stats[row][group])).collect())
    }
}
