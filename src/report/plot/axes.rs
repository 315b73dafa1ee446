//! Axes: lines, ticks, a faint grid, and labels.

use crate::report::plot::{
    canvas::{Anchor, Canvas, Stroke, Text, text_width},
    chart::{Chart, INK},
    layout::{Frame, LABEL_SIZE, Layout, TICK, TICK_SIZE, TURN, snap},
    palette::{Color, Dash},
    scale::Scale,
};

const GRID: Stroke = Stroke { color: Color(0xE8, 0xE8, 0xE8), width: 1.0, dash: Dash::Solid };
const LINE: Stroke = Stroke { color: Color(0x44, 0x44, 0x44), width: 1.0, dash: Dash::Solid };

/// The smallest font to which a label is reduced that is longer than the picture.
const SMALLEST: u32 = 8;

/// What stands behind the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// Faint lines at the ticks.
    Faint,
    /// Nothing, for they would cross what is drawn.
    None,
}

/// Draws the axes of one panel.
pub fn draw(
    canvas: &mut Canvas,
    frame: &Frame,
    layout: &Layout,
    (x, y): &(Scale, Scale),
    grid: Grid,
) {
    let numbers = Text { size: TICK_SIZE, ..Text::new(INK) };
    for tick in &layout.y_ticks {
        let at = snap(frame.y(y.place(tick.value)));
        let major = !tick.label.is_empty();
        if major && !y.is_categorical() && grid == Grid::Faint {
            canvas.line(&[(frame.left, at), (frame.right, at)], GRID);
        }
        let length = if major { TICK } else { TICK / 2.0 };
        canvas.line(&[(frame.left - length, at), (frame.left, at)], LINE);
        if frame.has_y_labels {
            let text = Text { anchor: Anchor::End, ..numbers };
            canvas.text((frame.left - TICK - 4.0, at + 4.0), &tick.label, text);
        }
    }
    for tick in &layout.x_ticks {
        let at = snap(frame.x(x.place(tick.value)));
        let major = !tick.label.is_empty();
        if major && !x.is_categorical() && grid == Grid::Faint {
            canvas.line(&[(at, frame.top), (at, frame.bottom)], GRID);
        }
        let length = if major { TICK } else { TICK / 2.0 };
        canvas.line(&[(at, frame.bottom), (at, frame.bottom + length)], LINE);
        if frame.has_x_labels && layout.turned {
            let text = Text { anchor: Anchor::End, angle: TURN, ..numbers };
            canvas.text((at + 4.0, frame.bottom + TICK + 9.0), &tick.label, text);
        } else if frame.has_x_labels {
            let text = Text { anchor: Anchor::Middle, ..numbers };
            canvas.text((at, frame.bottom + TICK + 4.0 + f64::from(TICK_SIZE)), &tick.label, text);
        }
    }
    canvas.line(&[(frame.left, frame.top), (frame.left, frame.bottom)], LINE);
    canvas.line(&[(frame.left - 0.5, frame.bottom), (frame.right, frame.bottom)], LINE);
}

/// Writes the labels that all panels share.
pub fn labels(canvas: &mut Canvas, chart: &Chart, layout: &Layout) {
    let text = Text { size: LABEL_SIZE, anchor: Anchor::Middle, ..Text::new(INK) };
    let fitted = |label: &str, length: f64| {
        let size = f64::from(LABEL_SIZE) * (length / text_width(label, LABEL_SIZE)).min(1.0);
        Text { size: (size as u32).max(SMALLEST), ..text }
    };
    canvas.text(layout.x_label, &chart.x.label, fitted(&chart.x.label, layout.width));
    let y_text = Text { angle: 90.0, ..fitted(&chart.y.label, layout.height - 8.0) };
    let half = text_width(&chart.y.label, y_text.size) / 2.0 + 4.0;
    let (x, y) = layout.y_label;
    // The label is as near to the middle of the panels as the sheet allows.
    let y = y.min(layout.height - half).max(half);
    canvas.text((x, y), &chart.y.label, y_text);
}
