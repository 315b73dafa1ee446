//! Arrows: the directions of a field.

use std::f64::consts::PI;

use crate::report::plot::{
    canvas::{Canvas, Edge, Marker, Stroke},
    chart::{Point, Series},
    layout::Frame,
    marks,
    palette::{Dash, Style},
    scale::Scale,
};

/// The shortest and the longest arrow.
const LENGTHS: (f64, f64) = (6.0, 22.0);

/// The part of the distance between neighbours that an arrow takes.
const PART: f64 = 0.8;

/// The length of the barbs, as a part of the arrow, and their angle to it.
const BARB: (f64, f64) = (0.36, PI / 7.0);

/// Draws an arrow about the middle of each point, all of one length; a dot where the step is zero.
pub fn draw(canvas: &mut Canvas, series: &Series, frame: &Frame, scales: &(Scale, Scale)) {
    let places: Vec<(f64, f64)> =
        series.points.iter().map(|point| marks::place(point, frame, scales)).collect();
    let length = length(&places);
    for (point, &(x, y)) in series.points.iter().zip(&places) {
        let [dx, dy] = point.step.unwrap_or_default();
        // A step of any length has the direction that a small one has, the axes being linear.
        let size = dx.abs().max(dy.abs());
        let unit = if size > 0.0 { 1.0 / size } else { 0.0 };
        let to = Point { x: point.x + dx * unit, y: point.y + dy * unit, ..*point };
        let (to_x, to_y) = marks::place(&to, frame, scales);
        let angle = (size > 0.0).then(|| libm::atan2(to_y - y, to_x - x));
        arrow(canvas, (x, y), angle, length, series.style);
    }
}

/// Draws an arrow in a direction, or a dot where there is none.
pub fn arrow(
    canvas: &mut Canvas,
    (x, y): (f64, f64),
    angle: Option<f64>,
    length: f64,
    style: Style,
) {
    let Style { color, muted, .. } = style;
    let Some(angle) = angle else {
        let dot = Marker { shape: style.shape, radius: 1.4, color, opacity: 1.0, edge: Edge::None };
        canvas.marker((x, y), dot);
        return;
    };
    let along = |from: (f64, f64), angle: f64, length: f64| {
        (from.0 + length * libm::cos(angle), from.1 + length * libm::sin(angle))
    };
    let (tail, tip) = (along((x, y), angle, -length / 2.0), along((x, y), angle, length / 2.0));
    let stroke = Stroke { color, width: if muted { 0.8 } else { 1.1 }, dash: Dash::Solid };
    canvas.line(&[tail, tip], stroke);
    let barb = |turn: f64| along(tip, angle + turn, -BARB.0 * length);
    canvas.line(&[barb(BARB.1), tip, barb(-BARB.1)], stroke);
}

/// Returns a length that leaves the arrows of a grid apart.
fn length(places: &[(f64, f64)]) -> f64 {
    let gap = |along: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = places.iter().map(along).collect();
        all.sort_by(f64::total_cmp);
        let gaps = all.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0.5);
        gaps.fold(f64::INFINITY, f64::min)
    };
    (PART * gap(|place| place.0).min(gap(|place| place.1))).clamp(LENGTHS.0, LENGTHS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_of_a_grid_do_not_touch() {
        let grid = |step: f64| -> Vec<(f64, f64)> {
            (0..25).map(|i| (f64::from(i % 5) * step, f64::from(i / 5) * 2.0 * step)).collect()
        };
        assert_eq!(length(&grid(10.0)), 8.0);
        assert_eq!(length(&grid(100.0)), LENGTHS.1);
        assert_eq!(length(&grid(1.0)), LENGTHS.0);
        assert_eq!(length(&[(3.0, 4.0)]), LENGTHS.1);
    }
}
