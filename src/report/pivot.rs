//! The cells of a table: results grouped by rows and columns, each group summarized.

use std::collections::BTreeSet;

use polars::prelude::{Column, DataFrame};

use crate::report::{
    aggregate::Aggregate,
    data,
    error::ReportError,
    grid::{Cell, Grid, Header},
    results::Results,
    select::{self, Groups},
    tables::{Evaluated, TableSpec, alignment, header, key_of, sort, take},
    value::Value,
};

/// Shows one row for each combination of the keys `rows`, and one cell for each value and combination of `columns`.
pub fn aggregated(spec: &TableSpec, results: &Results) -> Result<Evaluated, ReportError> {
    let frame = &results.frame;
    let rows = ordered(spec, results, &spec.rows)?;
    let spread = ordered(spec, results, &spec.columns)?;
    let over = results.pooled(&spec.keys())?;
    let values = spec
        .summaries()
        .map(|summary| Value::compute(spec, frame, &summary, &rows, &spread))
        .collect::<Result<Vec<_>, _>>()?;
    let order = row_order(spec, frame, &rows, &values)?;
    let firsts: Vec<usize> = order.iter().map(|&group| rows.first[group]).collect();

    let mut columns = Vec::new();
    let mut printed: Vec<(Header, Vec<Cell>)> = Vec::new();
    for name in &spec.rows {
        let column = select::column(frame, name)?;
        let cells = firsts.iter().map(|&row| Cell::key(data::cell(column, row).as_ref())).collect();
        printed.push((header("", spec.label(name), alignment(column)), cells));
        columns.push(take(column, &firsts)?);
    }
    for (index, value) in values.iter().enumerate() {
        let counted =
            values[..index].iter().any(|v| v.name == value.name && v.aggregate.spread().is_some());
        for (group, &first) in spread.first.iter().enumerate() {
            let label = select::label(frame, &spec.columns, first, &|name| name)?;
            let shown = select::label(frame, &spec.columns, first, &|name| spec.label(name))?;
            columns.extend(value.columns(group, &label, &order, counted));
            printed.push(value.printed(group, &shown, &order, spec.digits));
        }
    }
    refuse_duplicates(&columns)?;
    let (headers, cells): (Vec<Header>, Vec<Vec<Cell>>) = printed.into_iter().unzip();
    let rows = (0..order.len())
        .map(|row| cells.iter().map(|column| column[row].clone()).collect())
        .collect();
    let mut notes = remarks(spec, &values, &over);
    notes.extend(values.into_iter().flat_map(|value| value.notes));
    notes.dedup();
    Ok(Evaluated {
        frame: DataFrame::new(order.len(), columns)?,
        grid: Grid { headers, rows, notes },
    })
}

/// Groups the rows by the keys, in the order of each key's values.
fn ordered(spec: &TableSpec, results: &Results, keys: &[String]) -> Result<Groups, ReportError> {
    let groups = select::group(&results.frame, keys)?;
    let ranks = keys
        .iter()
        .map(|key| results.ranks(key, spec.order.get(key)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut order: Vec<usize> = (0..groups.first.len()).collect();
    order.sort_by_key(|&g| ranks.iter().map(|rank| rank[groups.first[g]]).collect::<Vec<_>>());
    let mut place = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, &group)| place[group] = at);
    Ok(Groups {
        first: order.iter().map(|&group| groups.first[group]).collect(),
        of: groups.of.iter().map(|&group| place.get(group).copied().unwrap_or(0)).collect(),
    })
}

/// Says how the values were summarized; columns of which the same is to be said share a note.
fn remarks(spec: &TableSpec, values: &[Value], over: &str) -> Vec<String> {
    let mut notes: Vec<(Vec<&str>, String)> = Vec::new();
    for value in values {
        let Some(text) = value.remark(spec, over) else { continue };
        let name = match value.aggregate {
            Aggregate::Count => &value.heading,
            _ => spec.label(&value.name),
        };
        match notes.iter_mut().find(|(_, known)| *known == text) {
            Some((names, _)) => names.push(name),
            None => notes.push((vec![name], text)),
        }
    }
    notes.into_iter().map(|(names, text)| format!("{}: {text}", names.join(", "))).collect()
}

/// Orders the row groups as `sort` says, else as they are.
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
            values.iter().find(|value| value.is_called(name) && spec.columns.is_empty())
        {
            value
                .stats
                .iter()
                .map(|stats| stats.first().and_then(|stat| stat.value.clone()))
                .collect()
        } else {
            return Err(spec.unsortable(name));
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
    use crate::report::{files, results::Axis, tables, terminal};

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
        let axes = vec![Axis { name: "replicate".to_owned(), values: Vec::new() }];
        let results = Results { frame: frame.clone(), axes };
        tables::evaluate(&toml::from_str(toml).unwrap(), &results).unwrap()
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
accuracy: mean ± s.e.m. over replicate, n = 2 to 3
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
    fn rates_come_with_binomial_errors() {
        let toml = "from = 'probe'\nrows = ['source']\nvalues = { converged = 'rate' }";
        check(
            toml,
            "
source    converged
──────  ───────────
waves   0.67 ± 0.27
noise   0.33 ± 0.27
converged: rate ± binomial error over replicate, n = 3
",
        );
        let table = evaluate(toml, &frame()).frame;
        let names: Vec<String> = table.get_column_names().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["source", "converged_rate", "converged_binomial", "converged_n"]);
        // √(2/3 · 1/3 / 3).
        let errors = select::numbers(&table, "converged_binomial", "").unwrap();
        assert!((errors[0].unwrap() - (2.0 / 27.0f64).sqrt()).abs() < 1e-15);
        let spec = toml::from_str("from = 'probe'\nvalues = { accuracy = 'rate' }").unwrap();
        let error = tables::evaluate(&spec, &frame().into()).map(drop).unwrap_err().to_string();
        assert!(error.contains("holds 0.8, but `rate` needs yes and no"), "{error}");
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
    fn an_entropy_and_a_mean_share_their_number_of_values() {
        let toml = "from = 'p'\nrows = ['source']\nvalues = { accuracy = ['mean±sem', 'entropy'] }";
        let names = evaluate(toml, &frame()).frame;
        assert_eq!(
            names.get_column_names()[1..],
            ["accuracy_mean", "accuracy_sem", "accuracy_n", "accuracy_entropy", "accuracy_se"]
        );
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
            [
                "replicate",
                "accuracy_waves_mean",
                "accuracy_noise_mean",
                "steps_waves_sum",
                "steps_noise_sum"
            ]
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
        assert_eq!(grid.rows[2][2], Cell::Missing);
        assert_eq!(grid.notes, ["n: number of values of converged"]);
    }

    #[test]
    fn rows_sort_by_values() {
        let toml = "from = 'probe'\nrows = ['source']\nvalues = { accuracy = 'mean' }\nsort = ['accuracy']";
        assert_eq!(evaluate(toml, &frame()).grid.rows[0][0].plain(), "noise");
    }

    #[test]
    fn headings_say_what_they_summarize() {
        let toml = "from = 'probe'\nrows = ['source']\nlabels = { source = 'Data', accuracy = 'Top-1' }\n\
                    values = { accuracy = ['mean±sem', 'median', 'max'], steps = ['median', 'count'] }\n\
                    where = { replicate = [0, 2] }\norder = { source = ['noise'] }\nsort = ['-accuracy_max']";
        check(
            toml,
            "
Data         Top-1  Top-1 (median)  Top-1 (max)  steps (median)  n
─────  ───────────  ──────────────  ───────────  ──────────────  ─
waves  0.90 ± 0.10          0.9000        1.000           10.00  1
noise  0.60 ± 0.10          0.6000       0.7000           6.000  2
Top-1: mean ± s.e.m. over replicate, n = 2
Top-1: median over replicate, n = 2
Top-1: max over replicate, n = 2
steps: median over replicate, n = 1 to 2
n: number of values of steps over replicate
steps: 1 of 4 values missing (waves: 1 of 2)
",
        );
        let names = evaluate(toml, &frame()).frame;
        assert_eq!(
            names.get_column_names(),
            [
                "source",
                "accuracy_mean",
                "accuracy_sem",
                "accuracy_n",
                "accuracy_median",
                "accuracy_max",
                "steps_median",
                "steps_count"
            ]
        );
        // Unsorted, the rows come in the given order.
        let toml = toml.replace("sort = ['-accuracy_max']", "");
        assert_eq!(evaluate(&toml, &frame()).grid.rows[0][0].plain(), "noise");
    }

    #[test]
    fn duplicate_names_are_refused() {
        let frame = df!("a" => [1.0], "a_mean" => [2.0]).unwrap();
        let spec =
            toml::from_str("from = 'p'\nrows = ['a_mean']\nvalues = { a = 'mean±sd' }").unwrap();
        let message = tables::evaluate(&spec, &frame.into()).unwrap_err().to_string();
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
