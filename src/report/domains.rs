//! What the axes, colors and panels of a figure range over, through all its layers.

use std::collections::BTreeSet;

use crate::report::{
    data::{self, AxisValue},
    error::ReportError,
    figures::{AxisScale, FigureSpec, Layer, Mark},
    plot::{
        chart::ColorBar,
        palette::{self, Style},
        scale::Kind,
    },
    select,
    series::Rows,
};

/// The values that x, colors and panels take over all layers.
pub struct Domains {
    /// None where x is a number.
    pub x: Option<Vec<AxisValue>>,
    /// For each color column its values, and the look of the first of them.
    colors: Vec<Colors>,
    pub panels: Vec<AxisValue>,
    /// The first look that no color has taken.
    next_style: usize,
    has_bars: bool,
    pub has_lines: bool,
    /// The horizontal and vertical axis are logarithmic.
    pub logs: (bool, bool),
}

/// The values of one color column.
pub struct Colors {
    pub column: String,
    pub values: Vec<AxisValue>,
    first_style: usize,
    /// Too many numbers for a legend: the ends of a continuous scale.
    pub ramp: Option<(f64, f64)>,
}

impl Domains {
    /// Collects the values of all layers.
    pub fn new(
        spec: &FigureSpec,
        layers: &[Layer<'_>],
        rows: &[Rows],
    ) -> Result<Self, ReportError> {
        let has_bars = layers.iter().any(|layer| layer.mark == Mark::Bar);
        let categorical = has_bars || rows.iter().any(|rows| !rows.x_is_numeric);
        if categorical && spec.x_scale == AxisScale::Log {
            let reason = if has_bars { "bars stand over" } else { "the horizontal axis has" };
            return Err(ReportError::Incomplete(format!(
                "`x_scale = \"log\"` needs numbers, but {reason} categories"
            )));
        }
        let x = categorical.then(|| {
            let values = rows.iter().flat_map(|rows| rows.x.iter().flatten());
            ordered(values, layers.iter().find_map(|layer| spec.order.get(layer.x)))
        });
        let mut colors: Vec<Colors> = Vec::new();
        let mut next_style = 0;
        for column in layers.iter().filter_map(|layer| layer.color) {
            if colors.iter().any(|known| known.column == column) {
                continue;
            }
            let same = layers.iter().zip(rows).filter(|(layer, _)| layer.color == Some(column));
            let values = same.flat_map(|(_, rows)| rows.color.iter().flatten().flatten());
            let values = ordered(values, spec.order.get(column));
            let ramp = ramp_of(&values);
            let first_style = next_style;
            next_style += if ramp.is_some() { 0 } else { values.len() };
            colors.push(Colors { column: column.to_owned(), values, first_style, ramp });
        }
        let panels = rows.iter().flat_map(|rows| rows.panel.iter().flatten().flatten());
        let order = spec.panel.as_ref().and_then(|panel| spec.order.get(panel));
        Ok(Self {
            x,
            colors,
            next_style,
            panels: ordered(panels, order),
            has_bars,
            has_lines: layers.iter().any(|layer| layer.mark == Mark::Line),
            logs: (spec.x_scale == AxisScale::Log, spec.y_scale == AxisScale::Log),
        })
    }

    /// Returns a title for each panel; one empty title without `panel`.
    pub fn panel_titles(&self, spec: &FigureSpec) -> Vec<String> {
        let Some(column) = spec.panel.as_ref().filter(|_| !self.panels.is_empty()) else {
            return vec![String::new()];
        };
        let title = |value: &AxisValue| match value {
            AxisValue::Text(text) => literal(text),
            other => literal(&format!("{} = {other}", words(column))),
        };
        self.panels.iter().map(title).collect()
    }

    /// Returns what the horizontal axis measures.
    pub fn x_kind(&self, spec: &FigureSpec) -> Kind {
        match &self.x {
            Some(values) => {
                Kind::Categories(values.iter().map(|value| literal(&value.to_string())).collect())
            }
            None => kind_of(spec.x_scale),
        }
    }

    /// Returns the continuous scale of colors, if there is one.
    pub fn color_bar(&self) -> Option<ColorBar> {
        let colors = self.colors.iter().find(|colors| colors.ramp.is_some())?;
        let (low, high) = colors.ramp?;
        Some(ColorBar { title: literal(&words(&colors.column)), low, high })
    }

    /// Returns the colors of a layer, if it has a color column.
    pub fn colors_of(&self, layer: &Layer<'_>) -> Option<&Colors> {
        self.colors.iter().find(|colors| Some(colors.column.as_str()) == layer.color)
    }

    /// Returns the place of a value of x, if it has one.
    pub fn x_place(&self, value: &AxisValue) -> Option<f64> {
        match &self.x {
            Some(values) => position(values, value).map(|index| index as f64),
            None => value.number(),
        }
    }

    /// Returns the look of a layer's series with the given color.
    pub fn style(&self, layer: &Layer<'_>, color: Option<usize>) -> Style {
        let over_bars = layer.mark == Mark::Scatter && self.has_bars;
        match (self.colors_of(layer), color) {
            _ if layer.muted => Style::background(),
            (Some(Colors { ramp: Some((low, high)), values, .. }), Some(index)) => {
                let value = values[index].number().unwrap_or(*low);
                Style::ramp((value - low) / (high - low))
            }
            // Points over bars of their own color would vanish.
            (Some(colors), Some(index)) if over_bars => {
                Style::nth(colors.first_style + index).darker()
            }
            (Some(colors), Some(index)) => Style::nth(colors.first_style + index),
            _ if over_bars || (layer.plain_before == 0 && !self.colors.is_empty()) => Style::ink(),
            _ => Style::nth(self.next_style + layer.plain_before),
        }
    }
}

/// Returns the kind of an axis of numbers.
pub fn kind_of(scale: AxisScale) -> Kind {
    match scale {
        AxisScale::Linear => Kind::Linear,
        AxisScale::Log => Kind::Log,
    }
}

/// Finds a value among the known ones.
pub fn position(values: &[AxisValue], value: &AxisValue) -> Option<usize> {
    values.iter().position(|known| select::matches(known, value))
}

/// Writes the name of a column as words.
pub fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// Marks text from the results as plain: a dollar in it begins no mathematics.
pub fn literal(text: &str) -> String {
    text.replace('$', "\\$")
}

/// Collects values without repeats: those that `order` names first, then numbers ascending or names as they come.
fn ordered<'a>(
    values: impl Iterator<Item = &'a AxisValue>,
    order: Option<&Vec<AxisValue>>,
) -> Vec<AxisValue> {
    let mut names = BTreeSet::new();
    let mut seen: Vec<AxisValue> =
        values.filter(|value| names.insert(value.to_string())).cloned().collect();
    if seen.iter().all(|value| matches!(value, AxisValue::Int(_) | AxisValue::Float(_))) {
        seen.sort_by(|left, right| data::compare(Some(left), Some(right)));
    }
    let rank = |value: &AxisValue| {
        order
            .and_then(|order| order.iter().position(|wanted| select::matches(value, wanted)))
            .unwrap_or(usize::MAX)
    };
    seen.sort_by_key(rank);
    seen
}

/// Returns the ends of a continuous scale for more numbers than there are colors.
fn ramp_of(values: &[AxisValue]) -> Option<(f64, f64)> {
    let numeric =
        values.iter().all(|value| matches!(value, AxisValue::Int(_) | AxisValue::Float(_)));
    let numbers = || values.iter().filter_map(AxisValue::number);
    (numeric && values.len() > palette::COLORS).then(|| {
        (numbers().fold(f64::INFINITY, f64::min), numbers().fold(f64::NEG_INFINITY, f64::max))
    })
}
