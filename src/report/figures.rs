//! Figures: what is drawn against what, from which results.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::report::plot::chart::Mark;
use crate::report::{
    aggregate::Aggregate, check::Problem, data::AxisValue, error::ReportError,
    plot::canvas::Canvas, results::Results, select::Filter, series,
};

/// A figure over the results of one or several stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FigureSpec {
    /// Stage whose results are drawn: `capacity` for its table or metrics, `capacity.layers` for a named table.
    /// May be left out if there are `layers`.
    #[serde(default)]
    pub from: Option<String>,
    /// What the figure shows: its caption.
    #[serde(default)]
    pub about: Option<String>,
    /// A line above the figure. Default: none.
    #[serde(default)]
    pub title: Option<String>,
    /// How values are drawn. Lines and bars are means over all rows that share x, color and panel, tiles over those that
    /// share x, y and panel; points and arrows are rows. `ecdf` shows the share of rows up to each x, and has no `y`.
    #[serde(default)]
    pub mark: Mark,
    /// Column along the horizontal axis, of numbers or of names.
    #[serde(default)]
    pub x: Option<String>,
    /// Column along the vertical axis, of numbers; for tiles, of names too.
    #[serde(default)]
    pub y: Option<String>,
    /// Column whose values are told apart by color and shape. More than eight numbers become a continuous scale; tiles
    /// always have one, of numbers.
    #[serde(default)]
    pub color: Option<String>,
    /// Column whose values get a panel each, with axes in common, side by side in rows.
    #[serde(default)]
    pub panel: Option<String>,
    /// Error over all rows that share x, color and panel: a band around lines, bars elsewhere. With it, points are
    /// means too.
    #[serde(default)]
    pub error: Option<Spread>,
    /// Draws of each line the moving mean over so many points, half of them before and half behind, fewer at its ends.
    /// Layers have their own. Default: the line as it is.
    #[serde(default)]
    #[schemars(range(min = 2))]
    pub smooth: Option<usize>,
    /// Column with the step along x that arrows point to.
    #[serde(default)]
    pub dx: Option<String>,
    /// Column with the step along y that arrows point to.
    #[serde(default)]
    pub dy: Option<String>,
    /// Name in the legend. Default: the name of the stage, if there are several layers.
    #[serde(default)]
    pub label: Option<String>,
    /// Draws small and grey, as a background. Default: when a later layer has a `color` and this one has none.
    #[serde(default)]
    pub muted: Option<bool>,
    /// Label of the horizontal axis, with its unit; `$…$` is mathematics. Default: the column.
    #[serde(default)]
    pub x_label: Option<String>,
    /// Label of the vertical axis, with its unit; `$…$` is mathematics. Default: the column.
    #[serde(default)]
    pub y_label: Option<String>,
    #[serde(default)]
    pub x_scale: AxisScale,
    #[serde(default)]
    pub y_scale: AxisScale,
    /// The lowest and the highest number that is shown along the vertical axis, such as `[1e-30, 10]`; a note counts the
    /// points beyond. Default: all are shown.
    #[serde(default)]
    pub y_range: Option<[f64; 2]>,
    /// Whether a step along one axis is as long as the same step along the other. Default: `equal` for tiles whose
    /// places are the same distance apart along both axes, as pixels are; else `free`.
    #[serde(default)]
    pub aspect: Option<Aspect>,
    /// Values at the ends of the continuous colors, such as `[0, 2]`; values beyond have the color of the end. Default:
    /// the lowest and the highest value.
    #[serde(default)]
    pub color_range: Option<[f64; 2]>,
    /// Only rows whose columns have one of these values. Layers have filters of their own.
    #[serde(default)]
    pub r#where: Filter,
    /// More results in the same axes, each drawn above the ones before. They are drawn after the figure's own.
    #[serde(default)]
    pub layers: Vec<LayerSpec>,
    /// The order of a column's values on its axis, in the legend or over the panels. Default: numbers ascend, names
    /// come as in the results.
    #[serde(default)]
    pub order: BTreeMap<String, Vec<AxisValue>>,
    /// What axes and legends call columns instead of their names, such as `accuracy = "Top-1 accuracy"`. Plain text:
    /// `x_label` and `y_label` may hold mathematics.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Formats in which the figure is written.
    #[serde(default = "all_formats")]
    pub write: Vec<FigureFormat>,
    /// Width in CSS pixels: 96 to the inch, where text is 9 points high. Default: as the figure needs.
    #[serde(default)]
    #[schemars(range(min = 100, max = 4000))]
    pub width: Option<u32>,
    /// Height in CSS pixels. Default: as the figure needs.
    #[serde(default)]
    #[schemars(range(min = 100, max = 4000))]
    pub height: Option<u32>,
}

/// More results in the axes of a figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerSpec {
    /// Stage whose results are drawn.
    pub from: String,
    /// How values are drawn. Default: as in the figure.
    #[serde(default)]
    pub mark: Option<Mark>,
    /// Column along the horizontal axis. Default: the figure's.
    #[serde(default)]
    pub x: Option<String>,
    /// Column along the vertical axis. Default: the figure's.
    #[serde(default)]
    pub y: Option<String>,
    /// Column whose values are told apart by color and shape. Default: one color.
    #[serde(default)]
    pub color: Option<String>,
    /// Error over rows that share x, color and panel. Default: the figure's.
    #[serde(default)]
    pub error: Option<Spread>,
    /// Draws of each line the moving mean over so many points. Default: the line as it is.
    #[serde(default)]
    #[schemars(range(min = 2))]
    pub smooth: Option<usize>,
    /// Column with the step along x that arrows point to. Default: the figure's.
    #[serde(default)]
    pub dx: Option<String>,
    /// Column with the step along y that arrows point to. Default: the figure's.
    #[serde(default)]
    pub dy: Option<String>,
    /// Name in the legend. Default: the name of the stage.
    #[serde(default)]
    pub label: Option<String>,
    /// Draws small and grey, as a background. Default: when a later layer has a `color` and this one has none.
    #[serde(default)]
    pub muted: Option<bool>,
    /// Only rows whose columns have one of these values.
    #[serde(default)]
    pub r#where: Filter,
}

/// The error that is drawn around a mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Standard error of the mean.
    Sem,
    /// Standard deviation of the sample.
    Sd,
    /// Binomial error √(p (1 - p) / n) of the share of yes among yes and no (or 1 and 0).
    Binomial,
    /// Not of a mean: draws the entropy, in bits, of how often each value occurs, and its standard error.
    Entropy,
    /// None.
    None,
}

impl Spread {
    /// Returns the summary that is drawn.
    pub fn aggregate(self) -> Aggregate {
        match self {
            Self::Sem => Aggregate::MeanSem,
            Self::Sd => Aggregate::MeanSd,
            Self::Binomial => Aggregate::Rate,
            Self::Entropy => Aggregate::Entropy,
            Self::None => Aggregate::Mean,
        }
    }
}

/// The scale of an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AxisScale {
    #[default]
    Linear,
    /// Logarithmic: values that are not positive are left out, with a note.
    Log,
    /// Linear, the largest value first: so the rows of an image run downwards.
    Reversed,
}

/// How long steps along the two axes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// The same step is as long along both axes.
    Equal,
    /// Each axis fills the panel.
    Free,
}

/// A file format of figures.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FigureFormat {
    /// Lines and text, for pages and papers.
    Svg,
    /// Pixels, 288 to the inch.
    Png,
}

/// A drawn figure.
#[derive(Debug)]
pub struct Picture {
    canvas: Canvas,
    label: String,
    /// Remarks to be printed with the caption, such as how many values are missing.
    pub notes: Vec<String>,
}

/// One set of results to be drawn, with everything it inherits from its figure.
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    pub from: &'a str,
    pub mark: Mark,
    pub x: &'a str,
    pub y: &'a str,
    /// What tells its series apart; none for tiles.
    pub color: Option<&'a str>,
    /// What tiles show by their color; none for other marks.
    pub value: Option<&'a str>,
    pub error: Spread,
    /// Points of a line under one moving mean.
    pub smooth: Option<usize>,
    /// Columns with the steps that arrows point to.
    pub step: Option<[&'a str; 2]>,
    /// Rows that share x, color and panel become one mean.
    pub averaged: bool,
    pub label: Option<&'a str>,
    pub muted: bool,
    /// Number of layers before this one that have neither a color column nor are muted.
    pub plain_before: usize,
    pub filter: &'a Filter,
}

/// Draws a figure over the results of each stage that it names.
///
/// # Errors
/// Missing results, unknown columns, columns of text where numbers are needed, and figures that name nothing to draw.
pub fn evaluate(
    spec: &FigureSpec,
    frames: &BTreeMap<String, Results>,
) -> Result<Picture, ReportError> {
    if let Some(problem) = spec.check().into_iter().next() {
        return Err(problem.into());
    }
    let (chart, notes) = series::chart(spec, frames)?;
    let label = spec.title.clone().or_else(|| spec.about.clone());
    let label = label.unwrap_or_else(|| format!("{} against {}", chart.y.label, chart.x.label));
    Ok(Picture { canvas: chart.draw()?, label, notes })
}

impl FigureSpec {
    /// Returns the layers in drawing order: the figure's own results first, if it has any.
    pub fn resolved(&self) -> Result<Vec<Layer<'_>>, Problem> {
        let own = self.from.as_deref().map(|from| LayerRef {
            from,
            mark: None,
            x: None,
            y: None,
            color: self.color.as_deref(),
            error: None,
            smooth: self.smooth,
            step: [None, None],
            label: self.label.as_deref(),
            muted: self.muted,
            filter: &self.r#where,
        });
        let layers: Vec<LayerRef> =
            own.into_iter().chain(self.layers.iter().map(LayerRef::from)).collect();
        if layers.is_empty() {
            return Err(Problem::nothing_to_draw());
        }
        let is_tile = |layer: &LayerRef| layer.mark.unwrap_or(self.mark) == Mark::Tile;
        let last_color = layers.iter().rposition(|layer| layer.color.is_some() && !is_tile(layer));
        let mut resolved: Vec<Layer<'_>> = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let missing = |axis| {
                let number = index.checked_sub(usize::from(self.from.is_some()));
                Problem::lacks(axis, number, layer.from)
            };
            let mark = layer.mark.unwrap_or(self.mark);
            let error = layer.error.or(self.error).unwrap_or(Spread::None);
            let behind = mark != Mark::Tile
                && layer.color.is_none()
                && last_color.is_some_and(|last| index < last);
            let value = match mark {
                Mark::Tile => Some(layer.color.ok_or_else(|| missing("color"))?),
                Mark::Line | Mark::Scatter | Mark::Bar | Mark::Ecdf | Mark::Arrow => None,
            };
            let x = layer.x.or(self.x.as_deref()).ok_or_else(|| missing("x"))?;
            let y = match mark {
                // What is drawn is made of x alone.
                Mark::Ecdf => x,
                _ => layer.y.or(self.y.as_deref()).ok_or_else(|| missing("y"))?,
            };
            let step = (mark == Mark::Arrow).then(|| {
                let [dx, dy] = layer.step;
                let dx = dx.or(self.dx.as_deref()).ok_or_else(|| missing("dx"))?;
                Ok([dx, dy.or(self.dy.as_deref()).ok_or_else(|| missing("dy"))?])
            });
            let color = layer.color.filter(|_| mark != Mark::Tile);
            resolved.push(Layer {
                from: layer.from,
                mark,
                x,
                y,
                color,
                value,
                error,
                smooth: layer.smooth,
                step: step.transpose()?,
                averaged: match mark {
                    Mark::Line | Mark::Bar | Mark::Tile => true,
                    Mark::Scatter => error != Spread::None,
                    Mark::Ecdf | Mark::Arrow => false,
                },
                label: layer.label,
                muted: layer.muted.unwrap_or(behind),
                plain_before: resolved
                    .iter()
                    .filter(|earlier| {
                        earlier.color.is_none() && earlier.value.is_none() && !earlier.muted
                    })
                    .count(),
                filter: layer.filter,
            });
        }
        Ok(resolved)
    }
}

impl Picture {
    /// Returns the figure as SVG.
    pub fn svg(&self) -> String {
        self.canvas.svg(&self.label)
    }

    /// Encodes the figure in a format; the same figure always gives the same bytes.
    pub fn encode(&self, format: FigureFormat) -> Result<Vec<u8>, ReportError> {
        match format {
            FigureFormat::Svg => Ok(self.svg().into_bytes()),
            FigureFormat::Png => self.canvas.png(),
        }
    }
}

impl FigureFormat {
    /// Returns the extension of such files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Png => "png",
        }
    }
}

/// A layer as written, whether it is the figure's own or one of `layers`.
struct LayerRef<'a> {
    from: &'a str,
    mark: Option<Mark>,
    x: Option<&'a str>,
    y: Option<&'a str>,
    color: Option<&'a str>,
    error: Option<Spread>,
    smooth: Option<usize>,
    step: [Option<&'a str>; 2],
    label: Option<&'a str>,
    muted: Option<bool>,
    filter: &'a Filter,
}

impl<'a> From<&'a LayerSpec> for LayerRef<'a> {
    fn from(layer: &'a LayerSpec) -> Self {
        Self {
            from: &layer.from,
            mark: layer.mark,
            x: layer.x.as_deref(),
            y: layer.y.as_deref(),
            color: layer.color.as_deref(),
            error: layer.error,
            smooth: layer.smooth,
            step: [layer.dx.as_deref(), layer.dy.as_deref()],
            label: layer.label.as_deref(),
            muted: layer.muted,
            filter: &layer.r#where,
        }
    }
}

pub(crate) fn all_formats() -> Vec<FigureFormat> {
    vec![FigureFormat::Svg, FigureFormat::Png]
}
