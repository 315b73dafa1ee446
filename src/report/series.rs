//! From results to the series of a chart: grouping by panel and color, means, and the legend.

use std::collections::BTreeMap;

use crate::report::{
    aggregate::{self, Summary},
    domains::{Domains, called},
    entries::Legend,
    error::ReportError,
    figures::{FigureSpec, Layer, Mark, Spread},
    plot::chart::{Axis, Chart, ColorBar, Panel, Point, Series},
    results::Results,
    rows::{Members, Rows},
    select,
    slots::Slots,
    tiles::Maps,
};

/// Builds the chart of a figure, and the notes that belong to it.
pub fn chart(
    spec: &FigureSpec,
    frames: &BTreeMap<String, Results>,
) -> Result<(Chart, Vec<String>), ReportError> {
    let layers = spec.resolved()?;
    let mut notes = Vec::new();
    let rows = layers
        .iter()
        .map(|layer| Rows::read(layer, spec.panel.as_deref(), frames, &mut notes))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(panel) =
        spec.panel.as_deref().filter(|_| rows.iter().all(|rows| rows.panel.is_none()))
    {
        // None of the results has the column: the first ones say which there are.
        select::column(&frames[layers[0].from].frame, panel)?;
    }
    let mut domains = Domains::new(spec, &layers, &rows)?;
    let mut maps = Maps::new(spec, &layers, &rows, &domains)?;
    domains
        .share_colors(spec, maps.colors.as_ref().map(|(column, ramp)| (column.as_str(), *ramp)))?;
    let titles = domains.panel_titles(spec);
    let mut panels: Vec<Panel> =
        titles.into_iter().map(|title| Panel { title, ..Panel::default() }).collect();
    let mut legend = Legend::default();
    let slots = Slots::of(&layers, &domains);
    for ((index, layer), rows) in layers.iter().enumerate().zip(&rows) {
        if let Some(map) = maps.take(index) {
            for (panel, tiles) in panels.iter_mut().zip(map.panels) {
                panel.tiles.extend(tiles);
            }
            map.counts.note(&called_plainly(spec, &map.column), layer, &rows.over, &mut notes);
            continue;
        }
        let mut counts = Counts::default();
        let members = rows.members(layer, &domains, &mut counts);
        for (panel, members) in panels.iter_mut().zip(members) {
            for drawn in layer_series(layer, members, &domains, slots.of[index], &mut counts) {
                legend.add(spec, layer, &drawn, &domains, layers.len());
                panel.series.push(drawn.series);
            }
        }
        counts.note(&called_plainly(spec, layer.y), layer, &rows.over, &mut notes);
    }
    notes.extend(maps.beyond.take());
    notes.dedup();
    let chart = Chart {
        title: spec.title.clone(),
        x: Axis { label: x_label(spec, &layers), kind: domains.x_kind(spec) },
        y: Axis { label: y_label(spec, &layers), kind: domains.y_kind(spec) },
        panels,
        legend: legend.groups,
        color_bar: match maps.colors {
            Some((column, ramp)) => Some(ColorBar { title: called(spec, &column), ramp }),
            None => domains.color_bar(spec),
        },
        square: maps.square,
        size: (spec.width.map(f64::from), spec.height.map(f64::from)),
    };
    Ok((chart, notes))
}

/// How many values a layer could and could not show.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) total: usize,
    pub(crate) missing: usize,
    pub(crate) not_positive: usize,
    /// Points outside of the range that was asked for.
    pub(crate) beyond: usize,
    /// Fewest and most values under one mean.
    pub(crate) n: Option<(usize, usize)>,
}

impl Counts {
    pub(crate) fn note(&self, name: &str, layer: &Layer<'_>, over: &str, notes: &mut Vec<String>) {
        let several = self.n.filter(|(_, high)| layer.error != Spread::None || *high > 1);
        if let Some(counts) = several {
            let remark = aggregate::remark(layer.error.aggregate(), over, counts);
            notes.push(format!("{name}: {remark}"));
        }
        if self.missing > 0 {
            notes.push(format!("{name}: {} of {} values missing", self.missing, self.total));
        }
        let hidden = [
            (self.not_positive, "not positive and cannot be shown on a logarithmic axis"),
            (self.beyond, "beyond the axis and not shown"),
        ];
        for (count, why) in hidden.into_iter().filter(|(count, _)| *count > 0) {
            let points = if count == 1 { "1 point is" } else { &format!("{count} points are") };
            notes.push(format!("{name}: {points} {why}"));
        }
    }
}

/// A series, and what it is of.
pub(crate) struct Drawn {
    pub(crate) series: Series,
    /// Index among the values of the layer's color column.
    pub(crate) color: Option<usize>,
}

/// Builds the series of one layer in one panel, one a color.
fn layer_series(
    layer: &Layer<'_>,
    members: Vec<Members>,
    domains: &Domains,
    slot: Option<(usize, usize)>,
    counts: &mut Counts,
) -> Vec<Drawn> {
    let colors = domains.colors_of(layer);
    // Colors of a continuous scale are one cloud.
    let ramp = colors.is_some_and(|colors| colors.ramp.is_some());
    let crowd = members.iter().map(Vec::len).sum();
    members
        .into_iter()
        .enumerate()
        .map(|(index, members)| {
            let points = match layer.mark {
                Mark::Ecdf => steps(&members, domains.logs.0, counts),
                _ if layer.averaged => means(members, layer.error, counts),
                _ => points(members, counts),
            };
            let color = colors.map(|_| index);
            let points = drop_not_positive(points, domains.logs, counts);
            let points = drop_beyond(points, domains.y_range, counts);
            let series = Series {
                mark: layer.mark,
                style: domains.style(layer, color),
                slot: slot.map_or((0, 1), |(first, slots)| (first + index, slots)),
                scattered: slot.is_some() && !layer.averaged,
                crowd: if ramp { crowd } else { points.len() },
                points,
            };
            Drawn { series, color }
        })
        .filter(|drawn| !drawn.series.points.is_empty())
        .fold(Vec::new(), |series, drawn| joined(series, drawn, ramp && slot.is_none()))
}

/// Adds a series; to the one before where they look alike on a continuous scale, so that a crowd is few elements.
fn joined(mut all: Vec<Drawn>, next: Drawn, alike: bool) -> Vec<Drawn> {
    match all.last_mut().filter(|last| alike && last.series.style == next.series.style) {
        Some(last) => last.series.points.extend(next.series.points),
        None => all.push(next),
    }
    all
}

/// Keeps every row as a point.
fn points(members: Members, counts: &mut Counts) -> Vec<Point> {
    counts.total += members.len();
    counts.missing += members.iter().filter(|(_, y)| y.is_none()).count();
    members.into_iter().filter_map(|(x, y)| Some(Point { x, y: y?, spread: None })).collect()
}

/// Climbs by one share of the rows at each x, from 0 to 1; on a logarithmic axis the line begins at the first x above 0.
fn steps(members: &Members, log: bool, counts: &mut Counts) -> Vec<Point> {
    let mut values: Vec<f64> = members.iter().map(|(x, _)| *x).collect();
    values.sort_by(f64::total_cmp);
    let n = values.len();
    counts.total += n;
    let hidden = if log { values.partition_point(|x| *x <= 0.0) } else { 0 };
    counts.not_positive += hidden;
    let mut points = Vec::new();
    let mut below = hidden;
    for run in values[hidden..].chunk_by(|left, right| left == right) {
        for count in [below, below + run.len()] {
            points.push(Point { x: run[0], y: count as f64 / n as f64, spread: None });
        }
        below += run.len();
    }
    points
}

/// Averages the rows at each x, in order of x.
fn means(mut members: Members, error: Spread, counts: &mut Counts) -> Vec<Point> {
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
            Spread::Binomial => summary.binomial(),
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

fn drop_beyond(points: Vec<Point>, range: Option<[f64; 2]>, counts: &mut Counts) -> Vec<Point> {
    let Some([low, high]) = range else { return points };
    let before = points.len();
    let shown: Vec<Point> =
        points.into_iter().filter(|point| (low..=high).contains(&point.y)).collect();
    counts.beyond += before - shown.len();
    shown
}

fn x_label(spec: &FigureSpec, layers: &[Layer<'_>]) -> String {
    spec.x_label.clone().unwrap_or_else(|| called(spec, layers[0].x))
}

fn y_label(spec: &FigureSpec, layers: &[Layer<'_>]) -> String {
    let Layer { y, error, mark, .. } = layers[0];
    spec.y_label.clone().unwrap_or_else(|| match error {
        _ if mark == Mark::Ecdf => "cumulative share".to_owned(),
        Spread::None => called(spec, y),
        error => format!("{} ({})", called(spec, y), error.aggregate().words()),
    })
}

/// What notes, which hold no mathematics, call a column.
fn called_plainly<'a>(spec: &'a FigureSpec, column: &'a str) -> String {
    spec.labels.get(column).map_or(column, String::as_str).to_owned()
}

#[cfg(test)]
mod tests {
    use polars::df;

    use super::*;
    use crate::report::plot::scale::Kind;

    fn frames() -> BTreeMap<String, Results> {
        let probe = df!(
            "source" => ["waves", "waves", "noise", "noise", "waves"],
            "epoch" => [1i64, 1, 1, 0, 0],
            "accuracy" => [0.2, 0.4, 0.5, 0.1, 0.0],
        )
        .unwrap();
        let theory = df!("epoch" => [0.5], "accuracy" => [0.3]).unwrap();
        BTreeMap::from([("probe".to_owned(), probe.into()), ("theory".to_owned(), theory.into())])
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
        assert_eq!(notes, ["accuracy: mean ± s.d. over rows, n = 1 to 2"]);
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
    fn cumulative_shares_climb_from_zero_to_one() {
        let spec = "from = 'probe'\nmark = 'ecdf'\nx = 'accuracy'\ncolor = 'source'";
        let (chart, notes) = build(spec);
        // Of waves 0.2, 0.4 and 0.0, of noise 0.5 and 0.1.
        let third = 1.0 / 3.0;
        let waves =
            [(0.0, 0.0), (0.0, third), (0.2, third), (0.2, 2.0 * third), (0.4, 2.0 * third)];
        assert_eq!(points(&chart, 0, 0)[..5], waves);
        assert_eq!(points(&chart, 0, 0)[5..], [(0.4, 1.0)]);
        assert_eq!(points(&chart, 0, 1), [(0.1, 0.0), (0.1, 0.5), (0.5, 0.5), (0.5, 1.0)]);
        assert_eq!((chart.y.label.as_str(), notes.len()), ("cumulative share", 0));
        assert_eq!(names(&chart), [["waves", "noise"]]);
        // On a logarithmic axis the row at zero is below what is shown, and counts.
        let (chart, notes) = build(&format!("{spec}\nx_scale = 'log'"));
        assert_eq!(points(&chart, 0, 0)[..2], [(0.2, third), (0.2, 2.0 * third)]);
        assert_eq!(notes.len(), 1);
        assert!(chart.draw().unwrap().svg("shares").contains("</svg>"));
        // Equal values are one step.
        let (chart, _) = build("from = 'probe'\nmark = 'ecdf'\nx = 'epoch'");
        assert_eq!(points(&chart, 0, 0), [(0.0, 0.0), (0.0, 0.4), (1.0, 0.4), (1.0, 1.0)]);
        let text = toml::from_str("from = 'probe'\nmark = 'ecdf'\nx = 'source'").unwrap();
        let error = super::chart(&text, &frames()).map(drop).unwrap_err().to_string();
        assert!(error.contains("holds text, but a cumulative share needs numbers"), "{error}");
    }

    #[test]
    fn rates_are_drawn_with_binomial_errors() {
        let frame =
            df!("kind" => ["a", "a", "a", "a", "b"], "ok" => [true, true, true, false, true]);
        let results = BTreeMap::from([("s".to_owned(), frame.unwrap().into())]);
        let spec = "from = 's'\nmark = 'bar'\nx = 'kind'\ny = 'ok'\nerror = 'binomial'";
        let (drawn, notes) = chart(&toml::from_str(spec).unwrap(), &results).unwrap();
        let bars = &drawn.panels[0].series[0].points;
        assert_eq!((bars[0].y, bars[1].spread), (0.75, Some(0.0)));
        assert!((bars[0].spread.unwrap() - (0.75 * 0.25 / 4.0f64).sqrt()).abs() < 1e-15);
        assert_eq!(notes, ["ok: rate ± binomial error over rows, n = 1 to 4"]);
        let degrees = "from = 'probe'\nx = 'epoch'\ny = 'accuracy'\nerror = 'binomial'";
        let error = chart(&toml::from_str(degrees).unwrap(), &frames()).map(drop).unwrap_err();
        assert!(error.to_string().contains("a binomial error needs yes and no"), "{error}");
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
        let range = "y_range = [0.15, 0.4]";
        let (chart, notes) = build(&format!(
            "from = 'probe'\nmark = 'scatter'\nx = 'epoch'\ny = 'accuracy'\n{range}"
        ));
        assert_eq!(points(&chart, 0, 0), [(1.0, 0.2), (1.0, 0.4)]);
        assert_eq!(notes, ["accuracy: 3 points are beyond the axis and not shown"]);
    }

    #[test]
    fn many_numbers_become_a_continuous_scale() {
        let values: Vec<f64> = (0..20).map(f64::from).collect();
        let frame = df!("x" => &values, "y" => &values, "z" => &values).unwrap();
        let spec =
            toml::from_str("from = 's'\nmark = 'scatter'\nx = 'x'\ny = 'y'\ncolor = 'z'").unwrap();
        let (chart, _) = chart(&spec, &BTreeMap::from([("s".to_owned(), frame.into())])).unwrap();
        let bar = chart.color_bar.as_ref().unwrap();
        assert_eq!(
            (bar.title.as_str(), bar.ramp.low, bar.ramp.high, chart.legend.len()),
            ("z", 0.0, 19.0, 0)
        );
    }

    #[test]
    fn bars_of_several_layers_stand_beside_each_other() {
        let (chart, _) = build(
            "mark = 'bar'\nx = 'epoch'\ny = 'accuracy'\nlayers = [{ from = 'probe', color = 'source' }, \
             { from = 'theory' }, { from = 'probe', mark = 'scatter', color = 'source' }]",
        );
        let slots: Vec<_> = chart.panels[0].series.iter().map(|series| series.slot).collect();
        assert_eq!(slots, [(0, 3), (1, 3), (2, 3), (0, 3), (1, 3)]);
    }

    #[test]
    fn rows_without_a_panel_are_counted() {
        let frame = df!("p" => [Some("a"), None, Some("b")], "x" => [1.0, 2.0, 3.0], "y" => [1.0, 2.0, 3.0]);
        let spec = toml::from_str("from = 's'\nmark = 'scatter'\nx = 'x'\ny = 'y'\npanel = 'p'");
        let results = BTreeMap::from([("s".to_owned(), frame.unwrap().into())]);
        let (chart, notes) = chart(&spec.unwrap(), &results).unwrap();
        assert_eq!((chart.panels.len(), notes), (2, vec!["y: 1 of 3 values missing".to_owned()]));
    }

    #[test]
    fn sheets_hold_their_legends_and_have_an_end() {
        let names: Vec<String> = (0..300).map(|i| format!("n{i}")).collect();
        let draw = |toml: &str, count: usize| {
            let values: Vec<f64> = (0..count).map(|i| i as f64).collect();
            let panel: Vec<&str> = (0..count).map(|i| ["a", "b"][i % 2]).collect();
            let frame = df!("n" => &names[..count], "p" => panel, "v" => values).unwrap();
            let results = BTreeMap::from([("s".to_owned(), frame.into())]);
            chart(&toml::from_str(toml).unwrap(), &results)
                .unwrap()
                .0
                .draw()
                .map(drop)
                .map_err(|e| e.to_string())
        };
        let scatter = "from = 's'\nmark = 'scatter'\nx = 'v'\ny = 'v'\ncolor = 'n'\npanel = 'p'";
        assert_eq!(draw(scatter, 40), Ok(()));
        let low = draw(&format!("{scatter}\nheight = 200"), 40).unwrap_err();
        assert!(low.contains("pixels high, but `height` is 200"), "{low}");
        let wide = draw("from = 's'\nmark = 'bar'\nx = 'n'\ny = 'v'", 300).unwrap_err();
        assert!(wide.contains("at most 4000 x 4000"), "{wide}");
        let bars =
            toml::from_str("from = 's'\nmark = 'bar'\nx = 'p'\ny = 'v'\ncolor = 'n'").unwrap();
        let frame = df!("n" => &names[..17], "p" => ["a"; 17], "v" => [1.0; 17]).unwrap();
        let message =
            chart(&bars, &BTreeMap::from([("s".to_owned(), frame.into())])).map(drop).unwrap_err();
        assert!(message.to_string().contains("bars have only 16 colors"), "{message}");
    }

    #[test]
    fn labels_name_axes_legends_and_notes() {
        let (chart, notes) = build(
            "from = 'probe'\nx = 'epoch'\ny = 'accuracy'\ncolor = 'source'\n\
             labels = { accuracy = 'Top-1 ($)', source = 'Trained on' }",
        );
        assert_eq!(chart.y.label, "Top-1 (\\$)");
        assert_eq!(chart.legend[0].title.as_deref(), Some("Trained on"));
        assert_eq!(notes, ["Top-1 ($): mean over rows, n = 1 to 2"]);
    }

    #[test]
    fn nothing_to_show_is_still_a_picture() {
        let (chart, notes) = build(
            "from = 'probe'\nx = 'epoch'\ny = 'accuracy'\npanel = 'source'\nwhere = { source = ['light'] }",
        );
        assert_eq!(notes, ["no row has source = light"]);
        assert!(chart.draw().unwrap().svg("empty").contains("</svg>"));
    }
}
