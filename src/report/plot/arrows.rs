//! Arrows: the directions of a field.

use std::f64::consts::PI;

use crate::report::plot::{
    canvas::{Canvas, Edge, Marker, Stroke},
    chart::{Mark, Panel, Series},
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

/// Draws an arrow of some length about the middle of each point; a dot where the step is zero.
pub fn draw(
    canvas: &mut Canvas,
    series: &Series,
    frame: &Frame,
    scales: &(Scale, Scale),
    length: f64,
) {
    // Both axes are linear: a step along one is as long everywhere.
    let along_x = frame.x(scales.0.place(1.0)) - frame.x(scales.0.place(0.0));
    let along_y = frame.y(scales.1.place(1.0)) - frame.y(scales.1.place(0.0));
    for point in &series.points {
        let [dx, dy] = point.step.unwrap_or_default();
        // Long and short steps have the direction of one of a size that cannot overflow.
        let size = dx.abs().max(dy.abs());
        let angle = (size > 0.0).then(|| libm::atan2(dy / size * along_y, dx / size * along_x));
        arrow(canvas, marks::place(point, frame, scales), angle, length, series.style);
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

/// Returns a length that leaves the arrows of a grid apart, in each panel and in all colors.
pub fn length(panels: &[Panel], frames: &[Frame], scales: &(Scale, Scale)) -> f64 {
    let of_panel = |(panel, frame): (&Panel, &Frame)| {
        let arrows = panel.series.iter().filter(|series| series.mark == Mark::Arrow);
        let places: Vec<(f64, f64)> = arrows
            .flat_map(|series| &series.points)
            .map(|point| marks::place(point, frame, scales))
            .collect();
        gap(&places, |place| place.0).min(gap(&places, |place| place.1))
    };
    let gap = panels.iter().zip(frames).map(of_panel).fold(f64::INFINITY, f64::min);
    (PART * gap).clamp(LENGTHS.0, LENGTHS.1)
}

/// The smallest distance between places along one axis; those of a grid's row are the same but for rounding.
fn gap(places: &[(f64, f64)], along: fn(&(f64, f64)) -> f64) -> f64 {
    let mut all: Vec<f64> = places.iter().map(along).collect();
    all.sort_by(f64::total_cmp);
    let gaps = all.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0.5);
    gaps.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::{chart::Point, scale::Kind};

    #[test]
    fn arrows_of_a_grid_do_not_touch() {
        let frame = Frame {
            left: 0.0,
            right: 400.0,
            top: 0.0,
            bottom: 400.0,
            has_x_labels: true,
            has_y_labels: true,
        };
        let ends = || [0.0, 400.0].into_iter();
        let scales = (
            Scale::fitting(&Kind::Linear, ends(), true),
            Scale::fitting(&Kind::Linear, ends(), true),
        );
        let arrow = |x: f64, y: f64| Point { x, y, step: Some([1.0, 0.0]), ..Point::default() };
        // Each of its own color, as on a continuous scale.
        let grid = |step: f64| -> f64 {
            let series = (0..25u8).map(|i| {
                let points = vec![arrow(f64::from(i % 5) * step, f64::from(i / 5) * 2.0 * step)];
                Series {
                    mark: Mark::Arrow,
                    style: Style::ink(),
                    points,
                    slot: (0, 1),
                    scattered: false,
                    crowd: 1,
                }
            });
            let panel = Panel { series: series.collect(), ..Panel::default() };
            length(&[panel], &[frame], &scales)
        };
        assert!((grid(10.0) - 8.0).abs() < 1e-9, "{}", grid(10.0));
        assert_eq!(grid(90.0), LENGTHS.1);
        assert_eq!(grid(1.0), LENGTHS.0);
    }
}
