//! What a picture shows: panels of series over two axes, with a legend.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::error::ReportError;
use crate::report::plot::{
    arrows,
    axes::{self, Grid},
    canvas::{Anchor, Canvas, Text},
    layout::{self, Layout},
    legend, marks,
    palette::{Color, Style},
    scale::{Kind, Scale},
    tiles::{self, Tiles},
};

/// Panels over shared axes.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// A line above everything.
    pub title: Option<String>,
    pub x: Axis,
    pub y: Axis,
    /// One or more small multiples.
    pub panels: Vec<Panel>,
    /// What the colors and shapes stand for.
    pub legend: Vec<LegendGroup>,
    /// What the continuous colors stand for.
    pub color_bar: Option<ColorBar>,
    /// A step along one axis is as long as the same step along the other.
    pub square: bool,
    /// Width and height of the whole picture in CSS pixels (1/96 inch), where they are not to be chosen.
    pub size: (Option<f64>, Option<f64>),
}

/// One axis of all panels.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    pub label: String,
    pub kind: Kind,
}

/// One of the small multiples.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// What tells the panel apart; empty where there is only one.
    pub title: String,
    /// Under everything else.
    pub tiles: Vec<Tiles>,
    /// Drawn in order, later ones above earlier ones.
    pub series: Vec<Series>,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    pub mark: Mark,
    pub style: Style,
    /// In order of x for lines.
    pub points: Vec<Point>,
    /// Place and number of places among the series that stand side by side over one category.
    pub slot: (usize, usize),
    /// Points over one category stand side by side, for several may have the same value.
    pub scattered: bool,
    /// Number of points that share the panel as one cloud: the more, the smaller and fainter.
    pub crowd: usize,
}

/// How values are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Means joined by a line, in order of x.
    #[default]
    Line,
    /// A point for each row, or for each mean if `error` is given.
    Scatter,
    /// A bar for each mean, side by side where colors differ.
    Bar,
    /// The share of rows up to each value of x, from 0 to 1, as a line of steps: an empirical cumulative distribution.
    Ecdf,
    /// An arrow for each row, in the direction of its step `dx`, `dy`; all are as long, a step of zero is a dot.
    Arrow,
    /// A cell for each mean, in the continuous color of the column `color`: heat maps, maps, frames of movies.
    Tile,
}

/// One point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// A number, or the index of a category.
    pub x: f64,
    pub y: f64,
    /// Half the length of its error bar.
    pub spread: Option<f64>,
    /// The step that its arrow points to, in the units of the axes.
    pub step: Option<[f64; 2]>,
}

/// Legend entries under one heading.
#[derive(Clone, Debug)]
pub struct LegendGroup {
    pub title: Option<String>,
    pub entries: Vec<LegendEntry>,
}

/// The name of one series.
#[derive(Clone, Debug)]
pub struct LegendEntry {
    pub label: String,
    pub mark: Mark,
    pub style: Style,
    /// The series has a band or error bars.
    pub spread: bool,
    /// Number of points of the largest such series.
    pub points: usize,
}

/// The colors of a continuous quantity.
#[derive(Clone, Debug)]
pub struct ColorBar {
    pub title: String,
    pub ramp: Ramp,
}

/// A scale from the lowest to the highest of many numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    pub low: f64,
    pub high: f64,
    /// Equal ratios are equal steps; both ends are positive.
    pub log: bool,
}

impl Ramp {
    /// Returns the scale between ends that are asked for, if any are; a logarithmic one only where both are positive.
    #[must_use]
    pub fn within(self, range: Option<(f64, f64)>) -> Self {
        let (low, high) = range.unwrap_or((self.low, self.high));
        Self { low, high, log: self.log && low > 0.0 }
    }

    /// Returns the place of a value, from 0 to 1.
    pub fn place(&self, value: f64) -> f64 {
        let at = |value: f64| if self.log { libm::log10(value) } else { value };
        let [low, high, value] = [self.low, self.high, value].map(at);
        if high > low { (value - low) / (high - low) } else { 0.5 }
    }
}

/// The color of titles, labels and names.
pub const INK: Color = Color(0x22, 0x22, 0x22);

impl Chart {
    /// Draws the chart, or says why its sheet would be too large or too small for it.
    pub fn draw(&self) -> Result<Canvas, ReportError> {
        let scales = (self.x_scale(), self.y_scale());
        let layout = Layout::new(self, &scales.0, &scales.1);
        layout.check().map_err(ReportError::Draw)?;
        let mut canvas = Canvas::new(layout.width, layout.height);
        if let Some(title) = &self.title {
            let text = Text { size: layout::TITLE_SIZE, bold: true, ..Text::new(INK) };
            canvas.text((layout.panels[0].left, layout.title_baseline()), title, text);
        }
        let arrow = arrows::length(&self.panels, &layout.panels, &scales);
        for (panel, frame) in self.panels.iter().zip(&layout.panels) {
            for tiles in &panel.tiles {
                tiles::draw(&mut canvas, tiles, frame, &scales);
            }
            let grid = if panel.tiles.is_empty() { Grid::Faint } else { Grid::None };
            axes::draw(&mut canvas, frame, &layout, &scales, grid);
            if !panel.title.is_empty() {
                let text = Text {
                    size: layout::title_size(&panel.title, frame),
                    anchor: Anchor::Middle,
                    bold: true,
                    ..Text::new(INK)
                };
                canvas.text(
                    (f64::midpoint(frame.left, frame.right), frame.top - 7.0),
                    &panel.title,
                    text,
                );
            }
            for series in &panel.series {
                marks::draw(&mut canvas, series, frame, &scales, arrow);
            }
        }
        axes::labels(&mut canvas, self, &layout);
        legend::draw(&mut canvas, self, &layout);
        Ok(canvas)
    }

    fn points(&self) -> impl Iterator<Item = &Point> {
        self.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points)
    }

    /// Whether some panel has tiles.
    pub fn has_tiles(&self) -> bool {
        self.tiles().next().is_some()
    }

    fn tiles(&self) -> impl Iterator<Item = &Tiles> {
        self.panels.iter().flat_map(|panel| &panel.tiles)
    }

    /// Covers all values; where there are tiles, up to their edges.
    fn x_scale(&self) -> Scale {
        let points = self.points().map(|point| point.x);
        let cells = || self.tiles().map(|tiles| &tiles.x);
        if !self.has_tiles() {
            return Scale::new(&self.x.kind, points);
        }
        let ends = cells().flat_map(|cells| &cells.edges).copied().chain(points);
        Scale::fitting(&self.x.kind, ends, cells().all(|cells| cells.whole))
    }

    /// Covers all values and their errors, and zero under bars.
    fn y_scale(&self) -> Scale {
        let log = matches!(self.y.kind, Kind::Log);
        let ends = self.points().flat_map(|point| {
            let spread = point.spread.unwrap_or(0.0);
            // An error bar that reaches zero has no end on a logarithmic axis.
            let low = if log && point.y <= spread { point.y } else { point.y - spread };
            [low, point.y + spread]
        });
        if self.has_tiles() {
            let cells = || self.tiles().map(|tiles| &tiles.y);
            let ends = cells().flat_map(|cells| &cells.edges).copied().chain(ends);
            return Scale::fitting(&self.y.kind, ends, cells().all(|cells| cells.whole));
        }
        let scale = Scale::new(&self.y.kind, ends);
        if !log && self.has_bars() { scale.from_zero() } else { scale }
    }

    fn has_bars(&self) -> bool {
        self.panels.iter().flat_map(|panel| &panel.series).any(|series| series.mark == Mark::Bar)
    }
}
