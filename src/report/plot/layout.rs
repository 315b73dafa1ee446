//! Where everything stands: margins as wide as their text, panels in a grid, the legend on the right.

use crate::report::plot::{
    canvas::text_width,
    chart::Chart,
    legend,
    scale::{Scale, Tick},
};

/// The sheet divided up, in CSS pixels.
#[derive(Clone, Debug)]
pub struct Layout {
    pub width: f64,
    pub height: f64,
    /// One frame a panel, in reading order.
    pub panels: Vec<Frame>,
    pub x_ticks: Vec<Tick>,
    pub y_ticks: Vec<Tick>,
    /// Names under the x axis are turned because they would overlap.
    pub turned: bool,
    /// Middle of the lowest part of the x label.
    pub x_label: (f64, f64),
    /// Middle of the y label, which is turned.
    pub y_label: (f64, f64),
    /// Upper left corner of the legend.
    pub legend: (f64, f64),
    legend_height: f64,
}

/// The rectangle between the axes of one panel.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    /// The y axis has its numbers here.
    pub has_y_labels: bool,
    /// The x axis has its numbers or names here.
    pub has_x_labels: bool,
}

/// Font sizes in pixels: 9 points are 12 pixels.
pub const TICK_SIZE: u32 = 11;
pub const LABEL_SIZE: u32 = 12;
pub const TITLE_SIZE: u32 = 13;

/// Length of a tick.
pub const TICK: f64 = 4.0;

/// The turn of names that do not fit side by side, in degrees against the clock.
pub const TURN: f64 = 35.0;

/// The longest side of a sheet.
const LARGEST: f64 = 4000.0;

const EDGE: f64 = 10.0;
const COLUMN_GAP: f64 = 18.0;
const ROW_GAP: f64 = 34.0;
const LEGEND_GAP: f64 = 18.0;
const TITLE_HEIGHT: f64 = 24.0;
const PANEL_TITLE_HEIGHT: f64 = 20.0;

impl Frame {
    /// Returns the horizontal position of a place from 0 to 1.
    pub fn x(&self, place: f64) -> f64 {
        self.left + place * (self.right - self.left)
    }

    /// Returns the vertical position of a place from 0 to 1, counted from below.
    pub fn y(&self, place: f64) -> f64 {
        self.bottom - place * (self.bottom - self.top)
    }
}

impl Layout {
    /// Divides a sheet that is as large as asked for, or as large as the chart needs.
    pub fn new(chart: &Chart, x: &Scale, y: &Scale) -> Self {
        let count = chart.panels.len().max(1);
        let columns = if chart.has_tiles() { tile_columns(count) } else { columns_for(count) };
        let rows = count.div_ceil(columns);
        let names = x.ticks(1).len();

        let top = top_margin(chart);
        let (legend_width, legend_height) = legend::size(chart);
        let right = if legend_width > 0.0 { LEGEND_GAP + legend_width + EDGE } else { EDGE + 6.0 };
        let row_gaps = ROW_GAP * (rows - 1) as f64;
        let column_gaps = COLUMN_GAP * (columns - 1) as f64;

        // The names below the axis need a height that depends on the width, which depends on the numbers left of it,
        // which depend on the height: these numbers are chosen for names that are not turned.
        let upright = bottom_margin(chart, f64::from(TICK_SIZE));
        let panel_height = |bottom: f64| match chart.size.1 {
            Some(height) => ((height - top - bottom - row_gaps) / rows as f64).max(40.0),
            None => {
                let usual: f64 = match count {
                    1 => 250.0,
                    _ if chart.has_tiles() => tile_side(count).min(165.0),
                    _ => 165.0,
                };
                let names = if y.is_categorical() { 18.0 * y.ticks(1).len() as f64 } else { 0.0 };
                usual.max(names).max((legend_height - 20.0 - row_gaps) / rows as f64)
            }
        };
        let y_ticks = y.ticks((panel_height(upright) / 32.0) as usize);
        let left = EDGE
            + if chart.y.label.is_empty() { 0.0 } else { f64::from(LABEL_SIZE) + 8.0 }
            + widest(&y_ticks)
            + TICK
            + 4.0;
        let panel_width = match chart.size.0 {
            Some(width) => ((width - left - right - column_gaps) / columns as f64).max(40.0),
            None => usual_width(chart, count).max(if x.is_categorical() {
                34.0 * names as f64
            } else {
                0.0
            }),
        };
        let x_ticks = x.ticks((panel_width / 62.0) as usize);
        let slot = panel_width / names as f64;
        let turned = x.is_categorical() && widest(&x_ticks) + 6.0 > slot;
        let bottom = if turned { bottom_margin(chart, turned_height(&x_ticks)) } else { upright };
        // The first name, when turned, may need more room on the left than the numbers do.
        let overhang =
            if turned { (first_reach(&x_ticks) - left - slot / 2.0).max(0.0) } else { 0.0 };
        let left = left + overhang;
        let panel_width = if chart.size.0.is_some() {
            (panel_width - overhang / columns as f64).max(40.0)
        } else {
            panel_width
        };
        let panel_height = panel_height(bottom);
        let (panel_width, panel_height) = if chart.square {
            let sides = (chart.size.0.map(|_| panel_width), chart.size.1.map(|_| panel_height));
            square(sides, y.span() / x.span(), tile_side(count))
        } else {
            (panel_width, panel_height)
        };

        let panels = frames(count, columns, (left, top), (panel_width, panel_height));
        let inner_right = left + columns as f64 * panel_width + column_gaps;
        let inner_bottom = top + rows as f64 * panel_height + row_gaps;
        // Squares do not grow with the legend: the sheet does.
        let lowest = if legend_height > 0.0 { top + legend_height + EDGE } else { 0.0 };
        let height = chart.size.1.unwrap_or((inner_bottom + bottom).max(lowest));
        let below = if chart.square { inner_bottom + bottom } else { height };
        Self {
            width: chart.size.0.unwrap_or(inner_right + right).ceil(),
            height: height.ceil(),
            panels,
            x_ticks,
            y_ticks,
            turned,
            x_label: (f64::midpoint(left, inner_right), below - EDGE - 2.0),
            y_label: (EDGE + f64::from(LABEL_SIZE) - 2.0, f64::midpoint(top, inner_bottom)),
            legend: (inner_right + LEGEND_GAP, top),
            legend_height,
        }
    }

    /// Refuses a sheet that is too large to be drawn, or too low for its legend.
    pub fn check(&self) -> Result<(), String> {
        if self.width > LARGEST || self.height > LARGEST {
            return Err(format!(
                "it would be {} x {} pixels, but at most {LARGEST} x {LARGEST} are drawn\n\
                 hint: leave out values with `where`, or give `width` and `height`",
                self.width, self.height
            ));
        }
        let lowest = (self.legend.1 + self.legend_height).ceil();
        if self.legend_height > 0.0 && lowest > self.height {
            return Err(format!(
                "its legend is {lowest} pixels high, but `height` is {}\n\
                 hint: give it more height, or leave `height` out",
                self.height
            ));
        }
        Ok(())
    }

    /// Returns the baseline of the title.
    pub fn title_baseline(&self) -> f64 {
        EDGE + f64::from(TITLE_SIZE)
    }
}

/// Returns the size of a panel's title: smaller where it is wider than its panel.
pub fn title_size(title: &str, frame: &Frame) -> u32 {
    /// Titles are bold, which is wider.
    const BOLD: f64 = 1.12;
    const SMALLEST: u32 = 8;
    let room = frame.right - frame.left + COLUMN_GAP - 4.0;
    let part = room / (text_width(title, LABEL_SIZE) * BOLD);
    ((f64::from(LABEL_SIZE) * part) as u32).clamp(SMALLEST, LABEL_SIZE)
}

/// Moves a line to the middle of a pixel, where it is sharp.
pub fn snap(position: f64) -> f64 {
    position.floor() + 0.5
}

/// Places panels of one size in rows, from their upper left corner.
fn frames(
    count: usize,
    columns: usize,
    corner: (f64, f64),
    (width, height): (f64, f64),
) -> Vec<Frame> {
    let frame = |index| {
        let (row, column) = (index / columns, index % columns);
        let left = corner.0 + column as f64 * (width + COLUMN_GAP);
        let top = corner.1 + row as f64 * (height + ROW_GAP);
        Frame {
            left: snap(left),
            right: snap(left + width),
            top: snap(top),
            bottom: snap(top + height),
            has_y_labels: column == 0,
            has_x_labels: index + columns >= count,
        }
    };
    (0..count).map(frame).collect()
}

fn top_margin(chart: &Chart) -> f64 {
    let title = if chart.title.is_some() { TITLE_HEIGHT } else { 0.0 };
    let panel_titles = chart.panels.iter().any(|panel| !panel.title.is_empty());
    EDGE + title + if panel_titles { PANEL_TITLE_HEIGHT } else { 0.0 }
}

fn columns_for(panels: usize) -> usize {
    match panels {
        4 => 2,
        n => n.clamp(1, 3),
    }
}

/// Returns how many panels of tiles stand side by side: more than others, for they are smaller.
fn tile_columns(panels: usize) -> usize {
    match panels {
        ..=3 => panels,
        4 => 2,
        5..=8 => 4,
        9..=15 => 5,
        16..=36 => 6,
        _ => 8,
    }
}

/// Returns the longer side of a panel of square tiles: the more there are, the smaller.
fn tile_side(panels: usize) -> f64 {
    match panels {
        0..=1 => 300.0,
        2..=4 => 215.0,
        5..=8 => 165.0,
        9..=15 => 130.0,
        16..=36 => 108.0,
        _ => 84.0,
    }
}

fn usual_width(chart: &Chart, panels: usize) -> f64 {
    match panels {
        1 => 380.0,
        _ if chart.has_tiles() => tile_side(panels),
        _ => 215.0,
    }
}

/// Chooses width and height of a panel that is `ratio` times as high as wide, within the sides that are asked for.
fn square(asked: (Option<f64>, Option<f64>), ratio: f64, side: f64) -> (f64, f64) {
    let width = match asked {
        (None, None) => side / ratio.max(1.0),
        (Some(width), None) => width,
        (None, Some(height)) => height / ratio,
        (Some(width), Some(height)) => width.min(height / ratio),
    };
    // A lattice of one row or column would vanish.
    (width.max(8.0), (width * ratio).max(8.0))
}

fn bottom_margin(chart: &Chart, names: f64) -> f64 {
    let label = if chart.x.label.is_empty() { 0.0 } else { f64::from(LABEL_SIZE) + 8.0 };
    TICK + 5.0 + names + label + EDGE
}

fn widest(ticks: &[Tick]) -> f64 {
    ticks.iter().map(|tick| text_width(&tick.label, TICK_SIZE)).fold(0.0, f64::max)
}

/// Returns how far the first name reaches to the left when turned.
fn first_reach(ticks: &[Tick]) -> f64 {
    ticks
        .first()
        .map_or(0.0, |tick| text_width(&tick.label, TICK_SIZE) * libm::cos(TURN.to_radians()))
}

fn turned_height(ticks: &[Tick]) -> f64 {
    let angle = TURN.to_radians();
    widest(ticks) * libm::sin(angle) + 4.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_keep_their_proportions_within_what_is_asked_for() {
        assert_eq!(square((None, None), 0.5, 100.0), (100.0, 50.0));
        assert_eq!(square((None, None), 2.0, 100.0), (50.0, 100.0));
        assert_eq!(square((Some(80.0), None), 0.5, 100.0), (80.0, 40.0));
        assert_eq!(square((None, Some(80.0)), 0.5, 100.0), (160.0, 80.0));
        assert_eq!(square((Some(300.0), Some(80.0)), 0.5, 100.0), (160.0, 80.0));
    }

    #[test]
    fn titles_shrink_into_their_panels() {
        let frame = |width| Frame {
            left: 0.0,
            right: width,
            top: 0.0,
            bottom: 9.0,
            has_y_labels: true,
            has_x_labels: true,
        };
        assert_eq!(title_size("short", &frame(200.0)), LABEL_SIZE);
        assert_eq!(title_size("seconds = 123.45", &frame(90.0)), 10);
        assert_eq!(title_size(&"long".repeat(50), &frame(90.0)), 8);
    }
}
