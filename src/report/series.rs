//! From results to the series of a chart: grouping by panel and color, means, and the legend.

use std::collections::BTreeMap;

use polars::prelude::DataFrame;

use crate::report::{
    aggregate::Summary,
    data::AxisValue,
    domains::{Colors, Domains, kind_of, literal, position, words},
    error::ReportError,
    figures::{FigureSpec, Layer, Mark, Spread},
    plot::chart::{self, Axis, Chart, LegendEntry, LegendGroup, Panel, Point, Series},
    select,
};

/// Builds the chart of a figure, and the notes that belong to it.
pub fn chart(
    spec: &FigureSpec,
    frames: &BTreeMap<String, DataFrame>,
) -> Result<(Chart, Vec<String>), ReportError> {
    let layers = spec.resolved()?;
    refuse_unused_order(spec, &layers)?;
    refuse_odd_size(spec)?;
    let mut notes = Vec::new();
    let rows = layers
        .iter()
        .map(|layer| Rows::read(layer, spec.panel.as_deref(), frames, &mut notes))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(panel) =
        spec.panel.as_deref().filter(|_| rows.iter().all(|rows| rows.panel.is_none()))
    {
        // None of the results has the column: the first ones say which there are.
        select::column(&frames[layers[0].from], panel)?;
    }
    let domains = Domains::new(spec, &layers, &rows)?;
    let titles = domains.panel_titles(spec);
    let mut panels: Vec<Panel> =
        titles.into_iter().map(|title| Panel { title, series: Vec::new() }).collect();
    let mut legend = Legend::default();
    for (layer, rows) in layers.iter().zip(&rows) {
        let mut counts = Counts::default();
        for (index, panel) in panels.iter_mut().enumerate() {
            for drawn in layer_series(layer, rows, index, &domains, &mut counts) {
                legend.add(layer, &drawn, &domains, layers.len());
                panel.series.push(drawn.series);
            }
        }
        counts.note(layer, &mut notes);
    }
    notes.dedup();
    let chart = Chart {
        title: spec.title.clone(),
        x: Axis { label: x_label(spec, &layers), kind: domains.x_kind(spec) },
        y: Axis { label: y_label(spec, &layers), kind: kind_of(spec.y_scale) },
        panels,
        legend: legend.groups,
        color_bar: domains.color_bar(),
        size: (spec.width.map(f64::from), spec.height.map(f64::from)),
    };
    Ok((chart, notes))
}

/// Finds names in `order` that are no column of the figure.
fn refuse_unused_order(spec: &FigureSpec, layers: &[Layer<'_>]) -> Result<(), ReportError> {
    let used: Vec<String> = layers
        .iter()
        .flat_map(|layer| [Some(layer.x), layer.color])
        .chain([spec.panel.as_deref()])
        .flatten()
        .map(str::to_owned)
        .collect();
    match spec.order.keys().find(|column| !used.contains(column)) {
        Some(column) => Err(ReportError::unknown_column(column, &used)),
        None => Ok(()),
    }
}

/// Refuses pictures that nothing fits into, and those that do not fit into memory.
fn refuse_odd_size(spec: &FigureSpec) -> Result<(), ReportError> {
    let odd = |length: Option<u32>| length.is_some_and(|pixels| !(100..=4000).contains(&pixels));
    match [("width", spec.width), ("height", spec.height)]
        .into_iter()
        .find(|(_, length)| odd(*length))
    {
        Some((name, _)) => {
            Err(ReportError::Incomplete(format!("`{name}` must be between 100 and 4000 pixels")))
        }
        None => Ok(()),
    }
}

/// The rows of one layer, column by column.
pub struct Rows {
    pub x: Vec<Option<AxisValue>>,
    pub x_is_numeric: bool,
    pub y: Vec<Option<f64>>,
    pub color: Option<Vec<Option<AxisValue>>>,
    /// None where the results lack the column: then they belong to every panel.
    pub panel: Option<Vec<Option<AxisValue>>>,
}

impl Rows {
    fn read(
        layer: &Layer<'_>,
        panel: Option<&str>,
        frames: &BTreeMap<String, DataFrame>,
        notes: &mut Vec<String>,
    ) -> Result<Self, ReportError> {
        let frame = frames.get(layer.from).ok_or_else(|| {
            ReportError::unknown_source(layer.from, &frames.keys().cloned().collect::<Vec<_>>())
        })?;
        if frame.width() == 0 {
            return Err(ReportError::NoResults { name: layer.from.to_owned() });
        }
        let (frame, remarks) = select::filter(frame, layer.filter)?;
        notes.extend(remarks);
        let cells = |name: &str| select::cells(&frame, name);
        Ok(Self {
            x: cells(layer.x)?,
            x_is_numeric: select::is_numeric(select::column(&frame, layer.x)?),
            y: select::numbers(&frame, layer.y, "the vertical axis")?,
            color: layer.color.map(cells).transpose()?,
            panel: panel.filter(|panel| frame.column(panel).is_ok()).map(cells).transpose()?,
        })
    }
}

/// How many values a layer could and could not show.
#[derive(Default)]
struct Counts {
    total: usize,
    missing: usize,
    not_positive: usize,
    /// Fewest and most values under one mean.
    n: Option<(usize, usize)>,
}

impl Counts {
    fn note(&self, layer: &Layer<'_>, notes: &mut Vec<String>) {
        let spread = match layer.error {
            Spread::Sem => Some("s.e.m."),
            Spread::Sd => Some("s.d."),
            Spread::None => None,
        };
        if let (Some(spread), Some((low, high))) = (spread, self.n) {
            let range = if low == high { low.to_string() } else { format!("{low} to {high}") };
            notes.push(format!("{}: mean ± {spread}, n = {range}", layer.y));
        }
        if self.missing > 0 {
            notes.push(format!("{}: {} of {} values missing", layer.y, self.missing, self.total));
        }
        if self.not_positive > 0 {
            let points = if self.not_positive == 1 {
                "1 point is"
            } else {
                &format!("{} points are", self.not_positive)
            };
            notes.push(format!(
                "{}: {points} not positive and cannot be shown on a logarithmic axis",
                layer.y
            ));
        }
    }
}

struct Drawn {
    series: Series,
    /// Index among the values of the layer's color column.
    color: Option<usize>,
}

/// Builds the series of one layer in one panel, one a color.
fn layer_series(
    layer: &Layer<'_>,
    rows: &Rows,
    panel: usize,
    domains: &Domains,
    counts: &mut Counts,
) -> Vec<Drawn> {
    let colors = domains.colors_of(layer);
    let groups = colors.map_or(1, |colors| colors.values.len());
    let mut members: Vec<Vec<(f64, Option<f64>)>> = vec![Vec::new(); groups];
    for row in 0..rows.y.len() {
        if !rows
            .panel
            .as_ref()
            .is_none_or(|values| is_in(values[row].as_ref(), domains.panels.get(panel)))
        {
            continue;
        }
        let group = match (&rows.color, colors) {
            (Some(values), Some(colors)) => {
                values[row].as_ref().and_then(|value| position(&colors.values, value))
            }
            _ => Some(0),
        };
        let x = rows.x[row].as_ref().and_then(|value| domains.x_place(value));
        if let (Some(group), Some(x)) = (group, x) {
            members[group].push((x, rows.y[row]));
        } else {
            (counts.total, counts.missing) = (counts.total + 1, counts.missing + 1);
        }
    }
    // Series stand side by side over a category, but for lines and the points on them.
    let beside = match layer.mark {
        Mark::Bar => true,
        Mark::Scatter => domains.x.is_some() && !domains.has_lines,
        Mark::Line => false,
    };
    members
        .into_iter()
        .enumerate()
        .map(|(index, members)| {
            let points = if layer.averaged {
                means(members, layer.error, counts)
            } else {
                points(members, counts)
            };
            let color = colors.map(|_| index);
            let series = Series {
                mark: layer.mark.into(),
                style: domains.style(layer, color),
                points: drop_not_positive(points, domains.logs, counts),
                slot: if beside { (index, groups) } else { (0, 1) },
                scattered: beside && !layer.averaged,
            };
            Drawn { series, color }
        })
        .filter(|drawn| !drawn.series.points.is_empty())
        .collect()
}

/// Keeps every row as a point.
fn points(members: Vec<(f64, Option<f64>)>, counts: &mut Counts) -> Vec<Point> {
    counts.total += members.len();
    counts.missing += members.iter().filter(|(_, y)| y.is_none()).count();
    members.into_iter().filter_map(|(x, y)| Some(Point { x, y: y?, spread: None })).collect()
}

/// Averages the rows at each x, in order of x.
fn means(mut members: Vec<(f64, Option<f64>)>, error: Spread, counts: &mut Counts) -> Vec<Point> {
    members.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut points = Vec::new();
    for run in members.chunk_by(|left, right| left.0 == right.0) {
        let values: Vec<Option<f64>> = run.iter().map(|(_, y)| *y).collect();
        let summary = Summary::of(&values);
        counts.total += run.len();
        counts.missing += summary.missing;
        let Some(y) = summary.mean else { continue };
        counts.n = Some(counts.n.map_or((summary.n, summary.n), |(low, high)| {
            (low.min(summary.n), high.max(summary.n))
        }));
        let spread = match error {
            Spread::Sem => summary.sem(),
            Spread::Sd => summary.sd,
            Spread::None => None,
        };
        points.push(Point { x: run[0].0, y, spread });
    }
    points
}

fn drop_not_positive(
    points: Vec<Point>,
    (log_x, log_y): (bool, bool),
    counts: &mut Counts,
) -> Vec<Point> {
    let before = points.len();
    let shown: Vec<Point> = points
        .into_iter()
        .filter(|point| (!log_x || point.x > 0.0) && (!log_y || point.y > 0.0))
        .collect();
    counts.not_positive += before - shown.len();
    shown
}

/// The legend as it grows.
#[derive(Default)]
struct Legend {
    groups: Vec<LegendGroup>,
}

impl Legend {
    /// Adds the name of a series, unless it is there, alone, or on the color bar.
    fn add(&mut self, layer: &Layer<'_>, drawn: &Drawn, domains: &Domains, layers: usize) {
        let colors = domains.colors_of(layer);
        let (title, label, rank) = match (colors, drawn.color) {
            (Some(Colors { ramp: Some(_), .. }), _) => return,
            (Some(colors), Some(index)) => {
                let title =
                    layer.label.map_or_else(|| literal(&words(&colors.column)), str::to_owned);
                (Some(title), literal(&colors.values[index].to_string()), index)
            }
            _ if layers == 1 && layer.label.is_none() => return,
            _ => (None, layer.label.map_or_else(|| literal(&words(layer.from)), str::to_owned), 0),
        };
        let known = self.groups.iter().position(|group| group.title == title);
        let group = known.unwrap_or(self.groups.len());
        if known.is_none() {
            self.groups.push(LegendGroup { title, entries: Vec::new() });
        }
        let entries = &mut self.groups[group].entries;
        let points = drawn.series.points.len();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.label == label) {
            entry.points = entry.points.max(points);
            return;
        }
        let mark: chart::Mark = layer.mark.into();
        let spread = layer.error != Spread::None;
        // A later panel may show a color that an earlier one lacks: entries keep the order of the values.
        let at = match colors {
            Some(colors) => {
                let names: Vec<String> =
                    colors.values.iter().map(|value| literal(&value.to_string())).collect();
                let before = |entry: &LegendEntry| names[..rank].contains(&entry.label);
                entries.iter().rposition(before).map_or(0, |index| index + 1)
            }
            None => entries.len(),
        };
        entries.insert(at, LegendEntry { label, mark, style: drawn.series.style, spread, points });
    }
}

fn x_label(spec: &FigureSpec, layers: &[Layer<'_>]) -> String {
    spec.x_label.clone().unwrap_or_else(|| literal(&words(layers[0].x)))
}

fn y_label(spec: &FigureSpec, layers: &[Layer<'_>]) -> String {
    let spread = match layers[0].error {
        Spread::Sem => " (mean ± s.e.m.)",
        Spread::Sd => " (mean ± s.d.)",
        Spread::None => "",
    };
    spec.y_label.clone().unwrap_or_else(|| format!("{}{spread}", literal(&words(layers[0].y))))
}

fn is_in(value: Option<&AxisValue>, panel: Option<&AxisValue>) -> bool {
    value.zip(panel).is_some_and(|(value, panel)| select::matches(value, panel))
}

#[cfg(test)]
mod tests {
    use polars::df;

    use super::*;
    use crate::report::plot::scale::Kind;

    fn frames() -> BTreeMap<String, DataFrame> {
        let probe = df!(
            "source" => ["waves", "waves", "noise", "noise", "waves"],
            "epoch" => [1i64, 1, 1, 0, 0],
            "accuracy" => [0.2, 0.4, 0.5, 0.1, 0.0],
        )
        .unwrap();
        let theory = df!("epoch" => [0.5], "accuracy" => [0.3]).unwrap();
        BTreeMap::from([("probe".to_owned(), probe), ("theory".to_owned(), theory)])
    }

    fn build(toml: &str) -> (Chart, Vec<String>) {
        chart(&toml::from_str(toml).unwrap(), &frames()).unwrap()
    }

    fn names(chart: &Chart) -> Vec<Vec<&str>> {
        chart
            .legend
            .iter()
            .map(|group| group.entries.iter().map(|entry| entry.label.as_str()).collect())
            .collect()
    }

    fn points(chart: &Chart, panel: usize, series: usize) -> Vec<(f64, f64)> {
        chart.panels[panel].series[series].points.iter().map(|point| (point.x, point.y)).collect()
    }

    #[test]
    fn lines_are_means_in_order_of_x() {
        let (chart, notes) =
            build("from = 'probe'\nx = 'epoch'\ny = 'accuracy'\ncolor = 'source'\nerror = 'sd'");
        let [(x0, y0), (x1, y1)] = points(&chart, 0, 0)[..] else { panic!("two epochs") };
        assert_eq!((x0, y0, x1), (0.0, 0.0, 1.0));
        assert!((y1 - 0.3).abs() < 1e-15);
        // The deviation of 0.2 and 0.4 is 0.1 √2.
        let spreads: Vec<Option<f64>> =
            chart.panels[0].series[0].points.iter().map(|point| point.spread).collect();
        assert!(spreads[0].is_none() && (spreads[1].unwrap() - 0.02f64.sqrt()).abs() < 1e-15);
        assert_eq!(names(&chart), [["waves", "noise"]]);
        assert_eq!(notes, ["accuracy: mean ± s.d., n = 1 to 2"]);
    }

    #[test]
    fn points_are_rows() {
        let (chart, _) = build("from = 'probe'\nmark = 'scatter'\nx = 'epoch'\ny = 'accuracy'");
        assert_eq!(
            points(&chart, 0, 0),
            [(1.0, 0.2), (1.0, 0.4), (1.0, 0.5), (0.0, 0.1), (0.0, 0.0)]
        );
        assert!(chart.legend.is_empty());
    }

    #[test]
    fn order_arranges_categories_legends_and_panels() {
        let order = "order = { source = ['noise'], epoch = [1] }";
        let (chart, _) = build(&format!(
            "from = 'probe'\nmark = 'bar'\nx = 'source'\ny = 'accuracy'\ncolor = 'epoch'\n{order}"
        ));
        assert_eq!(chart.x.kind, Kind::Categories(vec!["noise".to_owned(), "waves".to_owned()]));
        assert_eq!(names(&chart), [["1", "0"]]);
        let slots: Vec<_> = chart.panels[0].series.iter().map(|series| series.slot).collect();
        assert_eq!(slots, [(0, 2), (1, 2)]);
        let (chart, _) = build(&format!(
            "from = 'probe'\nx = 'epoch'\ny = 'accuracy'\npanel = 'source'\n{order}"
        ));
        let titles: Vec<&str> = chart.panels.iter().map(|panel| panel.title.as_str()).collect();
        assert_eq!(titles, ["noise", "waves"]);
        assert_eq!(points(&chart, 0, 0), [(0.0, 0.1), (1.0, 0.5)]);
    }

    #[test]
    fn a_layer_without_the_panel_column_is_in_every_panel() {
        let (chart, _) = build(
            "from = 'probe'\nmark = 'scatter'\nx = 'epoch'\ny = 'accuracy'\npanel = 'source'\n\
             layers = [{ from = 'theory', label = 'prediction' }]",
        );
        assert_eq!(points(&chart, 0, 1), points(&chart, 1, 1));
        assert_eq!(names(&chart), [["probe", "prediction"]]);
    }

    #[test]
    fn layers_without_colors_differ() {
        let toml =
            "x = 'epoch'\ny = 'accuracy'\nlayers = [{ from = 'probe' }, { from = 'theory' }]";
        let (chart, _) = build(toml);
        assert_ne!(chart.panels[0].series[0].style, chart.panels[0].series[1].style);
        assert_eq!(names(&chart), [["probe", "theory"]]);
        let behind = build(&toml.replace("'theory' }", "'probe', color = 'source' }")).0;
        assert!(behind.panels[0].series[0].style.muted && !behind.panels[0].series[1].style.muted);
    }

    #[test]
    fn logarithms_leave_out_what_is_not_positive() {
        let (chart, notes) = build(
            "from = 'probe'\nmark = 'scatter'\nx = 'epoch'\ny = 'accuracy'\ny_scale = 'log'\nx_scale = 'log'",
        );
        assert_eq!(chart.panels[0].series[0].points.len(), 3);
        assert_eq!(
            notes,
            ["accuracy: 2 points are not positive and cannot be shown on a logarithmic axis"]
        );
    }

    #[test]
    fn many_numbers_become_a_continuous_scale() {
        let values: Vec<f64> = (0..20).map(f64::from).collect();
        let frame = df!("x" => &values, "y" => &values, "z" => &values).unwrap();
        let spec =
            toml::from_str("from = 's'\nmark = 'scatter'\nx = 'x'\ny = 'y'\ncolor = 'z'").unwrap();
        let (chart, _) = chart(&spec, &BTreeMap::from([("s".to_owned(), frame)])).unwrap();
        let bar = chart.color_bar.as_ref().unwrap();
        assert_eq!(
            (bar.title.as_str(), bar.low, bar.high, chart.legend.len()),
            ("z", 0.0, 19.0, 0)
        );
    }

    #[test]
    fn nothing_to_show_is_still_a_picture() {
        let (chart, notes) = build(
            "from = 'probe'\nx = 'epoch'\ny = 'accuracy'\npanel = 'source'\nwhere = { source = ['light'] }",
        );
        assert_eq!(notes, ["no row has source = light"]);
        assert!(chart.draw().svg("empty").contains("</svg>"));
    }
}
