//! Marks: lines with bands, points, and bars with error bars.

use crate::report::plot::{
    arrows,
    canvas::{Canvas, Edge, Marker, Stroke},
    chart::{Mark, Point, Series},
    layout::Frame,
    palette::{Color, Dash, Style},
    scale::Scale,
};

/// The part of a category's width that its bars or points take.
const GROUP: f64 = 0.78;

/// The opacity of a band of errors.
const BAND: f64 = 0.18;

const BAR_ERROR: Color = Color(0x33, 0x33, 0x33);

/// Markers on a line stop helping where they touch.
const MOST_MARKERS: usize = 16;

/// More points than this are drawn as one cloud of small dots.
const CROWD: usize = 2000;

/// Draws one series into its panel; `arrow` is the length of arrows.
pub fn draw(
    canvas: &mut Canvas,
    series: &Series,
    frame: &Frame,
    scales: &(Scale, Scale),
    arrow: f64,
) {
    match series.mark {
        Mark::Line => line(canvas, series, frame, scales),
        Mark::Ecdf => steps(canvas, series, frame, scales),
        Mark::Scatter => scatter(canvas, series, frame, scales),
        Mark::Bar => bars(canvas, series, frame, scales),
        Mark::Arrow => arrows::draw(canvas, series, frame, scales, arrow),
        // They are no series: every panel has its own.
        Mark::Tile => (),
    }
}

/// Tells whether a line has markers at its points.
pub fn has_markers(style: Style, points: usize) -> bool {
    points == 1 || (points <= MOST_MARKERS && !style.muted)
}

/// Returns the marker of a scatter plot: the more points, the smaller and fainter.
pub fn scatter_marker(style: Style, points: usize) -> Marker {
    let (radius, opacity, edge) = match (style.muted, points) {
        (true, _) => (1.7, 0.7, Edge::None),
        (false, ..=200) => (3.9, 0.9, Edge::White),
        (false, 201..=CROWD) => (2.8, 0.65, Edge::None),
        (false, ..=8000) => (1.5, 1.0, Edge::None),
        (false, _) => (0.9, 1.0, Edge::None),
    };
    Marker { shape: style.shape, radius, color: style.color, opacity, edge }
}

/// Returns the marker at the points of a line.
pub fn line_marker(style: Style) -> Marker {
    Marker { shape: style.shape, radius: 3.0, color: style.color, opacity: 1.0, edge: Edge::None }
}

fn line(canvas: &mut Canvas, series: &Series, frame: &Frame, scales: &(Scale, Scale)) {
    let Style { color, dash, muted, .. } = series.style;
    for run in series.points.chunk_by(|left, right| left.spread.is_some() == right.spread.is_some())
    {
        if run.len() > 1 && run[0].spread.is_some() {
            let ends: Vec<((f64, f64), (f64, f64))> =
                run.iter().map(|point| ends(point, frame, scales)).collect();
            let upper = ends.iter().map(|(_, high)| *high);
            let lower = ends.iter().rev().map(|(low, _)| *low);
            canvas.polygon(&upper.chain(lower).collect::<Vec<_>>(), color, BAND);
        } else if let [point @ Point { spread: Some(_), .. }] = run {
            error_bar(canvas, ends(point, frame, scales), color);
        }
    }
    let points: Vec<(f64, f64)> =
        series.points.iter().map(|point| place(point, frame, scales)).collect();
    if points.len() > 1 {
        canvas.line(&points, Stroke { color, width: if muted { 1.2 } else { 1.8 }, dash });
    }
    if points.len() == 1 || has_markers(series.style, series.crowd) {
        for &point in &points {
            canvas.marker(point, line_marker(series.style));
        }
    }
}

fn steps(canvas: &mut Canvas, series: &Series, frame: &Frame, scales: &(Scale, Scale)) {
    let points: Vec<(f64, f64)> =
        series.points.iter().map(|point| place(point, frame, scales)).collect();
    canvas.line(&points, step_stroke(series.style));
}

/// Returns how a line of steps is drawn.
pub fn step_stroke(Style { color, dash, muted, .. }: Style) -> Stroke {
    Stroke { color, width: if muted { 1.2 } else { 1.8 }, dash }
}

fn scatter(canvas: &mut Canvas, series: &Series, frame: &Frame, scales: &(Scale, Scale)) {
    let marker = scatter_marker(series.style, series.crowd);
    let shift = if scales.0.is_categorical() { shift(series, frame, scales) } else { 0.0 };
    let offsets = if series.scattered {
        offsets(series, frame, scales)
    } else {
        vec![0.0; series.points.len()]
    };
    let places = series.points.iter().zip(offsets).map(|(point, offset)| {
        let (x, y) = place(point, frame, scales);
        (x + shift + offset, y)
    });
    let places: Vec<(f64, f64)> = places.collect();
    for point in series.points.iter().filter(|point| point.spread.is_some()) {
        let (low, high) = ends(point, frame, scales);
        error_bar(canvas, ((low.0 + shift, low.1), (high.0 + shift, high.1)), marker.color);
    }
    if series.crowd > CROWD {
        canvas.crowd(&places, marker);
    } else {
        for place in places {
            canvas.marker(place, marker);
        }
    }
}

fn bars(canvas: &mut Canvas, series: &Series, frame: &Frame, scales: &(Scale, Scale)) {
    let width = GROUP * category_width(frame, scales) / series.slot.1 as f64;
    let width = (width * 0.94).min(48.0);
    let shift = shift(series, frame, scales);
    let base = if scales.1.is_log() { 0.0 } else { scales.1.place(0.0).clamp(0.0, 1.0) };
    for point in &series.points {
        let (x, y) = place(point, frame, scales);
        let x = x + shift;
        canvas.rectangle(
            (x - width / 2.0, y),
            (x + width / 2.0, frame.y(base)),
            series.style.color,
        );
        if point.spread.is_some() {
            let (low, high) = ends(point, frame, scales);
            error_bar(canvas, ((x, low.1), (x, high.1)), BAR_ERROR);
        }
    }
}

fn error_bar(canvas: &mut Canvas, (low, high): ((f64, f64), (f64, f64)), color: Color) {
    const CAP: f64 = 3.0;
    let stroke = Stroke { color, width: 1.3, dash: Dash::Solid };
    canvas.line(&[low, high], stroke);
    for (x, y) in [low, high] {
        canvas.line(&[(x - CAP, y), (x + CAP, y)], stroke);
    }
}

pub(super) fn place(point: &Point, frame: &Frame, (x, y): &(Scale, Scale)) -> (f64, f64) {
    (frame.x(x.place(point.x)), frame.y(y.place(point.y)))
}

/// Returns the ends of a point's error bar; one that would leave the panel stops at its edge.
fn ends(point: &Point, frame: &Frame, scales: &(Scale, Scale)) -> ((f64, f64), (f64, f64)) {
    let spread = point.spread.unwrap_or(0.0);
    let end = |y: f64| {
        let (x, y) = place(&Point { y, ..*point }, frame, scales);
        (x, y.clamp(frame.top, frame.bottom))
    };
    (end(point.y - spread), end(point.y + spread))
}

/// Returns how far a series stands from the middle of its category.
fn shift(series: &Series, frame: &Frame, scales: &(Scale, Scale)) -> f64 {
    let (slot, slots) = series.slot;
    let slots = slots.max(1) as f64;
    let width = (GROUP * category_width(frame, scales) / slots).min(48.0 / 0.94);
    width * (slot as f64 + 0.5 - slots / 2.0)
}

/// Spreads the points of each category evenly over its place, in their order.
fn offsets(series: &Series, frame: &Frame, scales: &(Scale, Scale)) -> Vec<f64> {
    const SPREAD: f64 = 0.7;
    let width =
        SPREAD * (GROUP * category_width(frame, scales) / series.slot.1.max(1) as f64).min(48.0);
    let mut seen: Vec<usize> = Vec::new();
    let rank: Vec<usize> = series
        .points
        .iter()
        .map(|point| {
            let category = point.x.max(0.0) as usize;
            seen.resize(seen.len().max(category + 1), 0);
            seen[category] += 1;
            seen[category] - 1
        })
        .collect();
    let offset = |(point, rank): (&Point, usize)| {
        let count = seen[point.x.max(0.0) as usize];
        width * ((rank as f64 + 0.5) / count as f64 - 0.5)
    };
    series.points.iter().zip(rank).map(offset).collect()
}

fn category_width(frame: &Frame, (x, _): &(Scale, Scale)) -> f64 {
    (x.place(1.0) - x.place(0.0)) * (frame.right - frame.left)
}
