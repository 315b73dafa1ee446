//! The legend, to the right of the panels, where it covers no data.

use crate::report::plot::{
    arrows,
    canvas::{Anchor, Canvas, Marker, Stroke, Text, text_width},
    chart::{Chart, ColorBar, INK, LegendEntry, Mark},
    layout::{Layout, TICK_SIZE},
    marks,
    palette::{self, Dash},
    scale::{Kind, Scale},
};

const ROW: f64 = 18.0;
const GROUP_GAP: f64 = 8.0;
const KEY: f64 = 22.0;
const KEY_GAP: f64 = 7.0;
const BAR_WIDTH: f64 = 12.0;
const BAR_HEIGHT: f64 = 140.0;

/// Returns the width and height of the legend; nothing where there is none.
pub fn size(chart: &Chart) -> (f64, f64) {
    let mut width: f64 = 0.0;
    let mut height = 0.0;
    for group in &chart.legend {
        if let Some(title) = &group.title {
            // The title is bold, which is wider.
            width = width.max(text_width(title, TICK_SIZE) * 1.12);
            height += ROW;
        }
        for entry in &group.entries {
            width = width.max(KEY + KEY_GAP + text_width(&entry.label, TICK_SIZE));
            height += ROW;
        }
        height += GROUP_GAP;
    }
    if let Some(bar) = &chart.color_bar {
        let numbers =
            ticks(bar).iter().map(|(_, label)| text_width(label, TICK_SIZE)).fold(0.0, f64::max);
        width = width.max(BAR_WIDTH + 8.0 + numbers).max(text_width(&bar.title, TICK_SIZE) * 1.12);
        height += ROW + BAR_HEIGHT;
    }
    (width, height)
}

/// Draws the legend.
pub fn draw(canvas: &mut Canvas, chart: &Chart, layout: &Layout) {
    let (left, mut top) = layout.legend;
    let plain = Text { size: TICK_SIZE, ..Text::new(INK) };
    for group in &chart.legend {
        if let Some(title) = &group.title {
            canvas.text((left, top + 11.0), title, Text { bold: true, ..plain });
            top += ROW;
        }
        for entry in &group.entries {
            key(canvas, entry, (left, top + 7.0));
            canvas.text((left + KEY + KEY_GAP, top + 11.0), &entry.label, plain);
            top += ROW;
        }
        top += GROUP_GAP;
    }
    if let Some(bar) = &chart.color_bar {
        color_bar(canvas, bar, (left, top));
    }
}

/// Draws a sample of a series.
fn key(canvas: &mut Canvas, entry: &LegendEntry, (left, middle): (f64, f64)) {
    let style = entry.style;
    let center = left + KEY / 2.0;
    match entry.mark {
        Mark::Line => {
            if entry.spread {
                let corners = [(left, -6.0), (left + KEY, -6.0), (left + KEY, 6.0), (left, 6.0)];
                canvas.polygon(&corners.map(|(x, dy)| (x, middle + dy)), style.color, 0.18);
            }
            let width = if style.muted { 1.2 } else { 1.8 };
            canvas.line(
                &[(left, middle), (left + KEY, middle)],
                Stroke { color: style.color, width, dash: style.dash },
            );
            if marks::has_markers(style, entry.points) {
                canvas.marker((center, middle), marks::line_marker(style));
            }
        }
        Mark::Ecdf => {
            canvas.line(&[(left, middle), (left + KEY, middle)], marks::step_stroke(style));
        }
        Mark::Scatter => {
            let marker = marks::scatter_marker(style, entry.points);
            canvas.marker((center, middle), Marker { opacity: 1.0, ..marker });
        }
        Mark::Arrow => arrows::arrow(canvas, (center, middle), Some(0.0), 0.7 * KEY, style),
        // Their colors are on the bar.
        Mark::Tile => (),
        Mark::Bar => canvas.rectangle(
            (center - 6.0, middle - 6.0),
            (center + 6.0, middle + 6.0),
            style.color,
        ),
    }
}

fn color_bar(canvas: &mut Canvas, bar: &ColorBar, (left, top): (f64, f64)) {
    const STEPS: usize = BAR_HEIGHT as usize;
    let plain = Text { size: TICK_SIZE, ..Text::new(INK) };
    canvas.text((left, top + 11.0), &bar.title, Text { bold: true, ..plain });
    let (left, top) = (left.round(), (top + ROW + 2.0).round());
    for step in 0..STEPS {
        let y = |step: usize| top + BAR_HEIGHT * (1.0 - step as f64 / STEPS as f64);
        let color = palette::viridis((step as f64 + 0.5) / STEPS as f64);
        canvas.rectangle((left, y(step)), (left + BAR_WIDTH, y(step + 1)), color);
    }
    for (place, label) in ticks(bar) {
        let y = top + BAR_HEIGHT * (1.0 - place);
        let stroke = Stroke { color: INK, width: 1.0, dash: Dash::Solid };
        canvas.line(&[(left + BAR_WIDTH, y), (left + BAR_WIDTH + 3.0, y)], stroke);
        canvas.text(
            (left + BAR_WIDTH + 7.0, y + 4.0),
            &label,
            Text { anchor: Anchor::Start, ..plain },
        );
    }
}

/// Returns the ticks that lie inside the bar, with their places.
fn ticks(bar: &ColorBar) -> Vec<(f64, String)> {
    let kind = if bar.ramp.log { Kind::Log } else { Kind::Linear };
    let scale = Scale::new(&kind, [bar.ramp.low, bar.ramp.high].into_iter());
    let placed = scale.ticks(6).into_iter().map(|tick| (bar.ramp.place(tick.value), tick.label));
    placed.filter(|(place, label)| (0.0..=1.0).contains(place) && !label.is_empty()).collect()
}
