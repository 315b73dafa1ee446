//! The cells of a table: results grouped by rows and columns, each group summarized.

use std::collections::BTreeSet;

use polars::prelude::{Column, DataFrame, NamedFrom, Series};

use crate::report::{
    aggregate::{self, Aggregate, Summary},
    data::{self, AxisValue},
    error::ReportError,
    grid::{Align, Cell, Grid, Header},
    select::{self, Groups},
    tables::{Evaluated, TableSpec, alignment, header, key_of, sort, take},
};

/// Shows one row for each combination of the keys `rows`, and one cell for each value and combination of `columns`.
pub fn aggregated(spec: &TableSpec, frame: &DataFrame) -> Result<Evaluated, ReportError> {
    let rows = select::group(frame, &spec.rows)?;
    let spread = select::group(frame, &spec.columns)?;
    let values = spec
        .values
        .iter()
        .map(|(name, &aggregate)| Value::compute(spec, frame, name, aggregate, &rows, &spread))
        .collect::<Result<Vec<_>, _>>()?;
    let order = row_order(spec, frame, &rows, &values)?;
    let firsts: Vec<usize> = order.iter().map(|&group| rows.first[group]).collect();

    let mut columns = Vec::new();
    let mut printed: Vec<(Header, Vec<Cell>)> = Vec::new();
    for name in &spec.rows {
        let column = select::column(frame, name)?;
        let cells = firsts.iter().map(|&row| Cell::key(data::cell(column, row).as_ref())).collect();
        printed.push((header("", name, alignment(column)), cells));
        columns.push(take(column, &firsts)?);
    }
    for value in &values {
        for (group, &first) in spread.first.iter().enumerate() {
            let label = select::label(frame, &spec.columns, first)?;
            columns.extend(value.columns(group, &label, &order));
            printed.push(value.printed(group, &label, &order, spec.digits));
        }
    }
    refuse_duplicates(&columns)?;
    let (headers, cells): (Vec<Header>, Vec<Vec<Cell>>) = printed.into_iter().unzip();
    let rows = (0..order.len())
        .map(|row| cells.iter().map(|column| column[row].clone()).collect())
        .collect();
    let notes = values.into_iter().flat_map(|value| value.notes).collect();
    Ok(Evaluated {
        frame: DataFrame::new(order.len(), columns)?,
        grid: Grid { headers, rows, notes },
    })
}

/// One column of the results, aggregated for every cell of the table.
struct Value {
    name: String,
    aggregate: Aggregate,
    align: Align,
    /// Cells by row group, then by column group.
    stats: Vec<Vec<Stat>>,
    notes: Vec<String>,
}

/// What an aggregate says about the rows of one cell.
#[derive(Clone, Debug, Default)]
struct Stat {
    value: Option<AxisValue>,
    spread: Option<f64>,
    n: usize,
    missing: usize,
}

impl Value {
    fn compute(
        spec: &TableSpec,
        frame: &DataFrame,
        name: &str,
        aggregate: Aggregate,
        rows: &Groups,
        spread: &Groups,
    ) -> Result<Self, ReportError> {
        let column = select::column(frame, name)?;
        if !matches!(aggregate, Aggregate::First | Aggregate::Count) {
            select::refuse_text(column, &format!("`{aggregate}`"))?;
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
        let mut value = Self { name: name.to_owned(), aggregate, align, stats, notes: Vec::new() };
        value.notes.extend(value.note_on_spread());
        value.notes.extend(value.note_on_missing(spec, frame, rows, spread)?);
        Ok(value)
    }

    /// Says what stands after ± and over how many values it was taken.
    fn note_on_spread(&self) -> Option<String> {
        let spread = match self.aggregate.spread()? {
            "sem" => "s.e.m.",
            _ => "s.d.",
        };
        let counts = || self.stats.iter().flatten().map(|stat| stat.n).filter(|&n| n > 0);
        Some(match (counts().min()?, counts().max()?) {
            (low, high) if low == high => format!("{}: mean ± {spread}, n = {low}", self.name),
            (low, high) => format!("{}: mean ± {spread}, n = {low} to {high}", self.name),
        })
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
                        select::label(frame, &spec.rows, rows.first[row])?,
                        select::label(frame, &spec.columns, spread.first[group])?,
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
        let note = format!("{}: {missing} of {total} values missing", self.name);
        if spec.rows.is_empty() && spec.columns.is_empty() {
            return Ok(Some(note));
        }
        let more = if places.len() > LISTED { "; …" } else { "" };
        places.truncate(LISTED);
        Ok(Some(format!("{note} ({}{more})", places.join("; "))))
    }

    /// Builds the exact columns for one group of columns.
    fn columns(&self, group: usize, label: &str, order: &[usize]) -> Vec<Column> {
        let base =
            if label.is_empty() { self.name.clone() } else { format!("{}_{label}", self.name) };
        let stats: Vec<&Stat> = order.iter().map(|&row| &self.stats[row][group]).collect();
        let floats = |suffix: &str, of: fn(&Stat) -> Option<f64>| {
            let values: Vec<Option<f64>> = stats.iter().map(|stat| of(stat)).collect();
            Column::from(Series::new(format!("{base}{suffix}").into(), values))
        };
        let mean = |stat: &Stat| stat.value.as_ref().and_then(AxisValue::number);
        match (self.aggregate, self.aggregate.spread()) {
            (_, Some(spread)) => {
                let n: Vec<i64> = stats.iter().map(|stat| stat.n as i64).collect();
                vec![
                    floats("_mean", mean),
                    floats(&format!("_{spread}"), |stat| stat.spread),
                    Series::new(format!("{base}_n").into(), n).into(),
                ]
            }
            (Aggregate::Mean | Aggregate::Median | Aggregate::Std | Aggregate::Sem, None) => {
                vec![floats("", mean)]
            }
            _ => {
                let values: Vec<Option<&AxisValue>> =
                    stats.iter().map(|stat| stat.value.as_ref()).collect();
                vec![data::column_of(&base, &values)]
            }
        }
    }

    /// Rounds the cells of one group of columns.
    fn printed(
        &self,
        group: usize,
        label: &str,
        order: &[usize],
        digits: Option<usize>,
    ) -> (Header, Vec<Cell>) {
        let cell = |stat: &Stat| match &stat.value {
            Some(AxisValue::Float(mean)) if self.aggregate.spread().is_some() => {
                Cell::spread(Some(*mean), stat.spread, digits)
            }
            Some(AxisValue::Float(number)) => Cell::rounded(Some(*number), digits),
            value => Cell::raw(value.as_ref(), digits),
        };
        let header = if label.is_empty() {
            header("", &self.name, self.align)
        } else {
            header(&self.name, label, self.align)
        };
        (header, order.iter().map(|&row| cell(&self.stats[row][group])).collect())
    }
}

impl Stat {
    fn of(aggregate: Aggregate, cells: &[Option<&AxisValue>]) -> Self {
        let numbers: Vec<Option<f64>> =
            cells.iter().map(|cell| cell.and_then(AxisValue::number)).collect();
        let present = || cells.iter().flatten().copied();
        let summary = Summary::of(&numbers);
        let n = present().count();
        let (value, spread) = match aggregate {
            Aggregate::Mean => (summary.mean.map(AxisValue::Float), None),
            Aggregate::MeanSem => (summary.mean.map(AxisValue::Float), summary.sem()),
            Aggregate::MeanSd => (summary.mean.map(AxisValue::Float), summary.sd),
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
        Self { value, spread, n, missing: cells.len() - n }
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

/// Orders the row groups as `sort` says, else by appearance.
fn row_order(
    spec: &TableSpec,
    frame: &DataFrame,
    rows: &Groups,
    values: &[Value],
) -> Result<Vec<usize>, ReportError> {
    let mut keys = Vec::new();
    for name in &spec.sort {
        let (name, direction) = key_of(name);
        let cells = if spec.rows.iter().any(|row| row == name) {
            let column = select::column(frame, name)?;
            rows.first.iter().map(|&row| data::cell(column, row)).collect()
        } else if let Some(value) =
            values.iter().find(|value| value.name == name && spec.columns.is_empty())
        {
            value
                .stats
                .iter()
                .map(|stats| stats.first().and_then(|stat| stat.value.clone()))
                .collect()
        } else {
            return Err(ReportError::Incomplete(format!(
                "the table cannot be sorted by `{name}`; it can by its `rows`{}",
                if spec.columns.is_empty() { " and its `values`" } else { "" }
            )));
        };
        keys.push((cells, direction));
    }
    let mut order: Vec<usize> = (0..rows.first.len()).collect();
    sort(&mut order, &keys);
    Ok(order)
}

fn refuse_duplicates(columns: &[Column]) -> Result<(), ReportError> {
    let mut seen = BTreeSet::new();
    match columns.iter().find(|column| !seen.insert(column.name().as_str())) {
        Some(column) => Err(ReportError::DuplicateColumn { name: column.name().to_string() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use polars::df;

    use super::*;
    use crate::report::{files, tables, terminal};

    fn frame() -> DataFrame {
        df!(
            "source" => ["waves", "waves", "waves", "noise", "noise", "noise"],
            "replicate" => [0i64, 1, 2, 0, 1, 2],
            "accuracy" => [0.8, 0.9, 1.0, 0.5, f64::NAN, 0.7],
            "steps" => [Some(10i64), Some(20), None, Some(5), Some(5), Some(7)],
            "converged" => [true, true, false, true, false, false],
        )
        .unwrap()
    }

    fn evaluate(toml: &str, frame: &DataFrame) -> Evaluated {
        tables::evaluate(&toml::from_str(toml).unwrap(), frame).unwrap()
    }

    fn check(toml: &str, expected: &str) {
        let evaluated = evaluate(toml, &frame());
        assert_eq!(terminal::table(&evaluated.grid), expected.trim_start_matches('\n'), "{toml}");
    }

    #[test]
    fn means_come_with_their_errors() {
        // waves: 0.9, s.e.m. 0.1/√3; noise: 0.6, s.e.m. (0.1 √2)/√2, the failed run left out.
        let toml = "from = 'probe'\nrows = ['source']\nvalues = { accuracy = 'mean±sem' }";
        check(
            toml,
            "
source       accuracy
──────  ─────────────
waves   0.900 ± 0.058
noise     0.60 ± 0.10
accuracy: mean ± s.e.m., n = 2 to 3
accuracy: 1 of 6 values missing (noise: 1 of 3)
",
        );
        let table = evaluate(toml, &frame()).frame;
        let expected = df!(
            "source" => ["waves", "noise"],
            "accuracy_mean" => [0.9, 0.6],
            "accuracy_sem" => [0.1 / 3f64.sqrt(), 0.1],
            "accuracy_n" => [3i64, 2],
        )
        .unwrap();
        assert_eq!(table.get_column_names(), expected.get_column_names());
        for name in ["accuracy_mean", "accuracy_sem"] {
            let [found, wanted] =
                [&table, &expected].map(|frame| select::numbers(frame, name, "").unwrap());
            for (found, wanted) in found.iter().zip(wanted) {
                assert!(
                    (found.unwrap() - wanted.unwrap()).abs() < 1e-15,
                    "{name}: {found:?} {wanted:?}"
                );
            }
        }
        assert_eq!(table.column("accuracy_n").unwrap(), expected.column("accuracy_n").unwrap());
    }

    #[test]
    fn every_aggregate_has_its_value() {
        // steps of waves: 10, 20; of noise: 5, 5, 7.
        for (aggregate, waves, noise) in [
            ("mean", "15.00", "5.667"),
            ("mean±sd", "15.0 ± 7.1", "5.7 ± 1.2"),
            ("median", "15.00", "5.000"),
            ("min", "10", "5"),
            ("max", "20", "7"),
            ("sum", "30", "17"),
            ("count", "2", "3"),
            ("first", "10", "5"),
            ("std", "7.071", "1.155"),
            ("sem", "5.000", "0.6667"),
        ] {
            let toml =
                format!("from = 'probe'\nrows = ['source']\nvalues = {{ steps = '{aggregate}' }}");
            let grid = evaluate(&toml, &frame()).grid;
            assert_eq!(
                grid.rows.iter().map(|row| row[1].plain()).collect::<Vec<_>>(),
                [waves, noise],
                "{aggregate}"
            );
        }
        let grid =
            evaluate("from = 'probe'\nvalues = { converged = 'mean', source = 'first' }", &frame())
                .grid;
        assert_eq!(grid.rows, [[Cell::rounded(Some(0.5), None), Cell::Text("waves".to_owned())]]);
    }

    #[test]
    fn a_single_value_has_no_error() {
        let toml = "from = 'probe'\nrows = ['source']\nvalues = { accuracy = 'mean±sem' }\nwhere = { replicate = [0] }";
        check(
            toml,
            "
source      accuracy
──────  ────────────
waves   0.8000 (n=1)
noise   0.5000 (n=1)
accuracy: mean ± s.e.m., n = 1
",
        );
        let table = evaluate(toml, &frame()).frame;
        assert_eq!(table.column("accuracy_sem").unwrap().null_count(), 2);
    }

    #[test]
    fn columns_spread_values() {
        let toml = "from = 'probe'\nrows = ['replicate']\ncolumns = ['source']\nsort = ['-replicate']\n\
                    values = { accuracy = 'mean', steps = 'sum' }";
        check(
            toml,
            "
              accuracy        steps
replicate   waves   noise  waves  noise
─────────  ──────  ──────  ─────  ─────
        2   1.000  0.7000      –      7
        1  0.9000       –     20      5
        0  0.8000  0.5000     10      5
accuracy: 1 of 6 values missing (replicate=1, noise: 1 of 1)
steps: 1 of 6 values missing (replicate=2, waves: 1 of 1)
",
        );
        let names: Vec<String> = evaluate(toml, &frame())
            .frame
            .get_column_names()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            names,
            ["replicate", "accuracy_waves", "accuracy_noise", "steps_waves", "steps_noise"]
        );
    }

    #[test]
    fn absent_combinations_are_missing_without_a_note() {
        let holes = frame().slice(0, 5);
        let grid = evaluate(
            "from = 'probe'\nrows = ['replicate']\ncolumns = ['source']\nvalues = { converged = 'count' }",
            &holes,
        )
        .grid;
        assert_eq!((grid.rows[2][2].clone(), grid.notes.len()), (Cell::Missing, 0));
    }

    #[test]
    fn rows_sort_by_values() {
        let toml = "from = 'probe'\nrows = ['source']\nvalues = { accuracy = 'mean' }\nsort = ['accuracy']";
        assert_eq!(evaluate(toml, &frame()).grid.rows[0][0].plain(), "noise");
    }

    #[test]
    fn duplicate_names_are_refused() {
        let frame = df!("a" => [1.0], "a_mean" => [2.0]).unwrap();
        let spec =
            toml::from_str("from = 'p'\nrows = ['a_mean']\nvalues = { a = 'mean±sd' }").unwrap();
        let message = tables::evaluate(&spec, &frame).unwrap_err().to_string();
        assert_eq!(message, "two columns of the table would be called `a_mean`");
    }

    #[test]
    fn bytes_are_the_same_every_time() {
        let toml = "from = 'probe'\nrows = ['source']\nvalues = { accuracy = 'mean±sem' }";
        let spec: TableSpec = toml::from_str(toml).unwrap();
        let encode = |format| {
            files::encode(&evaluate(toml, &frame()), format, "Accuracy", "accuracy").unwrap()
        };
        for format in spec.write {
            assert_eq!(encode(format), encode(format), "{format:?}");
        }
        assert_eq!(
            String::from_utf8(encode(tables::TableFormat::Csv)).unwrap(),
            "source,accuracy_mean,accuracy_sem,accuracy_n\n\
             waves,0.9,0.05773502691896257,3\n\
             noise,0.6,0.09999999999999998,2\n"
        );
    }
}
