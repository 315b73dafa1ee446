//! From results to the series of a chart: grouping by panel and color, means, and the legend.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::{
    aggregate::{self, Summary},
    domains::{Domains, called},
    entries::Legend,
    error::ReportError,
    figures::{FigureSpec, Layer, Mark, Spread},
    plot::chart::{Axis, Chart, ColorBar, Panel, Point, Series},
    results::Results,
    rows::{Member, Members, Rows},
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
        let columns = [layer.y].into_iter().chain(layer.step.into_iter().flatten());
        let name =
            columns.map(|column| called_plainly(spec, column)).collect::<Vec<_>>().join(", ");
        notes.extend(layer.smooth.map(|over| format!("{name}: moving mean over {over} points")));
        counts.note(&name, layer, &rows.over, &mut notes);
    }
    notes.extend(maps.beyond.take());
    let mut said = BTreeSet::new();
    notes.retain(|note| said.insert(note.clone()));
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
                Mark::Arrow => arrows(members, counts),
                _ if layer.averaged => smoothed(means(members, layer.error, counts), layer.smooth),
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
    counts.missing += members.iter().filter(|member| member.y.is_none()).count();
    let point = |member: Member| Some(Point { x: member.x, y: member.y?, ..Point::default() });
    members.into_iter().filter_map(point).collect()
}

/// Keeps every row with a step as a point with a direction.
fn arrows(members: Members, counts: &mut Counts) -> Vec<Point> {
    counts.total += members.len();
    let arrow = |Member { x, y, step }: Member| {
        Some(Point { x, y: y?, step: Some(step?), ..Point::default() })
    };
    let all = members.len();
    let points: Vec<Point> = members.into_iter().filter_map(arrow).collect();
    counts.missing += all - points.len();
    points
}

/// Replaces each y by the mean over the points around it: half before it, half behind, of an even number one more behind.
fn smoothed(points: Vec<Point>, over: Option<usize>) -> Vec<Point> {
    let Some(over) = over else { return points };
    let (before, behind) = ((over - 1) / 2, over / 2);
    let mean = |(i, point): (usize, &Point)| {
        let around = &points[i.saturating_sub(before)..points.len().min(i + behind + 1)];
        let y = around.iter().map(|point| point.y).sum::<f64>() / around.len() as f64;
        Point { y, ..*point }
    };
    points.iter().enumerate().map(mean).collect()
}

/// Climbs by one share of the rows at each x, from 0 to 1; on a logarithmic axis the line begins at the first x above 0.
fn steps(members: &Members, log: bool, counts: &mut Counts) -> Vec<Point> {
    let mut values: Vec<f64> = members.iter().map(|member| member.x).collect();
    values.sort_by(f64::total_cmp);
    let n = values.len();
    counts.total += n;
    let hidden = if log { values.partition_point(|x| *x <= 0.0) } else { 0 };
    counts.not_positive += hidden;
    let mut points = Vec::new();
    let mut below = hidden;
    for run in values[hidden..].chunk_by(|left, right| left == right) {
        for count in [below, below + run.len()] {
            points.push(Point { x: run[0], y: count as f64 / n as f64, ..Point::default() });
        }
        below += run.len();
    }
    points
}

/// Averages the rows at each x, in order of x.
fn means(mut members: Members, error: Spread, counts: &mut Counts) -> Vec<Point> {
    members.sort_by(|left, right| left.x.total_cmp(&right.x));
    let mut points = Vec::new();
    for run in members.chunk_by(|left, right| left.x == right.x) {
        let values: Vec<Option<f64>> = run.iter().map(|member| member.y).collect();
        let summary = Summary::of(&values);
        counts.total += run.len();
        counts.missing += summary.missing;
        let Some(y) = summary.mean else { continue };
        counts.n = Some(counts.n.map_or((summary.n, summary.n), |(low, high)| {
            (low.min(summary.n), high.max(summary.n))
        }));
        let (y, spread) = match error {
            Spread::Sem => (y, summary.sem()),
            Spread::Sd => (y, summary.sd),
            Spread::Binomial => (y, summary.binomial()),
            Spread::Entropy => {
                let finite = values.iter().flatten().copied().filter(|value| value.is_finite());
                let entropy = aggregate::entropy(finite.collect(), f64::total_cmp);
                entropy.unwrap_or((y, None))
            }
            Spread::None => (y, None),
        };
        points.push(Point { x: run[0].x, y, spread, ..Point::default() });
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
