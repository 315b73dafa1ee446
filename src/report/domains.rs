//! What the axes, colors and panels of a figure range over, through all its layers.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::{
    data::{self, AxisValue},
    error::ReportError,
    figures::{AxisScale, FigureSpec, Layer, Mark},
    plot::{
        chart::{ColorBar, Ramp},
        palette::{self, Style},
        scale::Kind,
    },
    rows::Rows,
    select,
};

/// The values that x, colors and panels take over all layers.
pub struct Domains {
    /// None where x is a number.
    pub x: Option<Values>,
    /// The names along y, the first above; none where y is a number.
    y: Option<Values>,
    /// For each color column its values, and the look of the first of them.
    colors: Vec<Colors>,
    pub panels: Values,
    /// The first look that no color has taken.
    next_style: usize,
    has_bars: bool,
    pub has_lines: bool,
    /// The horizontal and vertical axis are logarithmic.
    pub logs: (bool, bool),
    /// The lowest and the highest number that is shown along y; all are where absent.
    pub y_range: Option<[f64; 2]>,
}

/// The values of one color column.
pub struct Colors {
    pub column: String,
    pub values: Values,
    first_style: usize,
    /// Too many numbers for a legend: a continuous scale.
    pub ramp: Option<Ramp>,
}

/// Values without repeats in their order, and the place of each.
pub struct Values {
    pub list: Vec<AxisValue>,
    places: BTreeMap<String, usize>,
}

impl Values {
    fn new(list: Vec<AxisValue>) -> Self {
        let places = list.iter().enumerate().map(|(place, value)| (value.to_string(), place));
        let places = places.collect();
        Self { list, places }
    }

    /// Returns the place of a value; values that print alike are the same.
    pub fn place(&self, value: &AxisValue) -> Option<usize> {
        self.places.get(&value.to_string()).copied()
    }
}

impl Colors {
    fn is_numeric(&self) -> bool {
        self.values.list.iter().all(|value| value.number().is_some())
    }
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
        for (mark, what) in [(Mark::Ecdf, "cumulative shares"), (Mark::Arrow, "arrows")] {
            if categorical && layers.iter().any(|layer| layer.mark == mark) {
                return Err(ReportError::Incomplete(format!(
                    "{what} need numbers along x, but the horizontal axis has categories"
                )));
            }
        }
        let x = categorical.then(|| {
            let values = rows.iter().flat_map(|rows| rows.x.iter().flatten());
            ordered(values, layers.iter().find_map(|layer| spec.order.get(layer.x)))
        });
        let y = Self::names_along_y(spec, layers, rows)?;
        let mut colors: Vec<Colors> = Vec::new();
        let mut next_style = 0;
        for column in layers.iter().filter_map(|layer| layer.color) {
            if colors.iter().any(|known| known.column == column) {
                continue;
            }
            let same = layers.iter().zip(rows).filter(|(layer, _)| layer.color == Some(column));
            let values = same.flat_map(|(_, rows)| rows.color.iter().flatten().flatten());
            let values = ordered(values, spec.order.get(column));
            let ramp = ramp_of(&values.list);
            let bars = layers.iter().any(|l| l.color == Some(column) && l.mark == Mark::Bar);
            if bars && ramp.is_none() && values.list.len() > MOST_BARS {
                return Err(ReportError::Incomplete(format!(
                    "`{column}` has {} values, but bars have only {MOST_BARS} colors\n\
                     hint: choose some with `where`, or give `{column}` to `x` or `panel`",
                    values.list.len()
                )));
            }
            let first_style = next_style;
            next_style += if ramp.is_some() { 0 } else { values.list.len() };
            colors.push(Colors { column: column.to_owned(), values, first_style, ramp });
        }
        let panels = rows.iter().flat_map(|rows| rows.panel.iter().flatten().flatten());
        let order = spec.panel.as_ref().and_then(|panel| spec.order.get(panel));
        Ok(Self {
            x,
            y,
            colors,
            next_style,
            panels: ordered(panels, order),
            has_bars,
            has_lines: layers.iter().any(|layer| layer.mark == Mark::Line),
            logs: (spec.x_scale == AxisScale::Log, spec.y_scale == AxisScale::Log),
            y_range: spec.y_range,
        })
    }

    fn names_along_y(
        spec: &FigureSpec,
        layers: &[Layer<'_>],
        rows: &[Rows],
    ) -> Result<Option<Values>, ReportError> {
        let tiles = || rows.iter().filter_map(|rows| rows.tiles.as_ref());
        if tiles().all(|tiles| tiles.y_is_numeric) {
            return Ok(None);
        }
        let names = "tiles have names along the vertical axis";
        if let Some(layer) = layers.iter().find(|layer| layer.value.is_none()) {
            return Err(ReportError::Incomplete(format!(
                "{names}, on which `{}` of `{}` has no place\nhint: draw it in a figure of its own",
                layer.y, layer.from
            )));
        }
        if spec.y_scale != AxisScale::Linear {
            return Err(ReportError::Incomplete(format!("`y_scale` needs numbers, but {names}")));
        }
        let values = tiles().flat_map(|tiles| tiles.y.iter().flatten());
        Ok(Some(ordered(values, layers.iter().find_map(|layer| spec.order.get(layer.y)))))
    }

    /// Returns a title for each panel; one empty title without `panel`.
    pub fn panel_titles(&self, spec: &FigureSpec) -> Vec<String> {
        let Some(column) = spec.panel.as_ref().filter(|_| !self.panels.list.is_empty()) else {
            return vec![String::new()];
        };
        let title = |(value, short): (&AxisValue, String)| match value {
            AxisValue::Text(text) => literal(text),
            _ => format!("{} = {}", called(spec, column), literal(&short)),
        };
        self.panels.list.iter().zip(shortened(&self.panels.list)).map(title).collect()
    }

    /// Returns what the horizontal axis measures.
    pub fn x_kind(&self, spec: &FigureSpec) -> Kind {
        match &self.x {
            Some(values) => {
                let names = values.list.iter().map(|value| literal(&value.to_string()));
                Kind::Categories(names.collect())
            }
            None => kind_of(spec.x_scale),
        }
    }

    /// Returns what the vertical axis measures.
    pub fn y_kind(&self, spec: &FigureSpec) -> Kind {
        match &self.y {
            Some(values) => {
                let names = values.list.iter().rev().map(|value| literal(&value.to_string()));
                Kind::Categories(names.collect())
            }
            None => kind_of(spec.y_scale),
        }
    }

    /// Returns the place of a value of y, if it has one.
    pub fn y_place(&self, value: &AxisValue) -> Option<f64> {
        match &self.y {
            Some(values) => values.place(value).map(|index| (values.list.len() - 1 - index) as f64),
            None => value.number(),
        }
    }

    /// Returns how many names stand along y, if any do.
    pub fn y_names(&self) -> Option<usize> {
        self.y.as_ref().map(|names| names.list.len())
    }

    /// Gives the colors of tiles to whatever else shows the same column; a figure has one continuous scale.
    pub fn share_colors(
        &mut self,
        spec: &FigureSpec,
        tiles: Option<(&str, Ramp)>,
    ) -> Result<(), ReportError> {
        let Some((column, ramp)) = tiles else {
            let range = spec.color_range.map(|[low, high]| (low, high));
            for ramp in self.colors.iter_mut().filter_map(|colors| colors.ramp.as_mut()) {
                *ramp = ramp.within(range);
            }
            return Ok(());
        };
        for colors in &mut self.colors {
            if colors.column == column && colors.is_numeric() {
                colors.ramp = Some(ramp);
            } else if colors.ramp.is_some() {
                return Err(ReportError::Incomplete(format!(
                    "a figure has one continuous scale of colors, but `{}` needs one beside that of the tiles\n\
                     hint: draw it in a figure of its own",
                    colors.column
                )));
            }
        }
        Ok(())
    }

    /// Returns the continuous scale of colors, if there is one.
    pub fn color_bar(&self, spec: &FigureSpec) -> Option<ColorBar> {
        let colors = self.colors.iter().find(|colors| colors.ramp.is_some())?;
        Some(ColorBar { title: called(spec, &colors.column), ramp: colors.ramp? })
    }

    /// Returns the colors of a layer, if it has a color column.
    pub fn colors_of(&self, layer: &Layer<'_>) -> Option<&Colors> {
        self.colors.iter().find(|colors| Some(colors.column.as_str()) == layer.color)
    }

    /// Returns the place of a value of x, if it has one.
    pub fn x_place(&self, value: &AxisValue) -> Option<f64> {
        match &self.x {
            Some(values) => values.place(value).map(|index| index as f64),
            None => value.number(),
        }
    }

    /// Returns the look of a layer's series with the given color.
    pub fn style(&self, layer: &Layer<'_>, color: Option<usize>) -> Style {
        let over_bars = layer.mark == Mark::Scatter && self.has_bars;
        match (self.colors_of(layer), color) {
            _ if layer.muted => Style::background(),
            (Some(Colors { ramp: Some(ramp), values, .. }), Some(index)) => {
                Style::ramp(ramp.place(values.list[index].number().unwrap_or(ramp.low)))
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
        AxisScale::Reversed => Kind::Reversed,
    }
}

/// Writes the name of a column as words.
pub fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// Writes what a figure calls a column: its label, or its name as words.
pub fn called(spec: &FigureSpec, column: &str) -> String {
    literal(&spec.labels.get(column).cloned().unwrap_or_else(|| words(column)))
}

/// Marks text from the results as plain: a dollar in it begins no mathematics.
pub fn literal(text: &str) -> String {
    text.replace('$', "\\$")
}

/// Collects values without repeats: those that `order` names first, then numbers ascending or names as they come.
fn ordered<'a>(
    values: impl Iterator<Item = &'a AxisValue>,
    order: Option<&Vec<AxisValue>>,
) -> Values {
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
    seen.sort_by_cached_key(rank);
    Values::new(seen)
}

/// Writes values; long numbers with four digits, if these tell all apart.
fn shortened(values: &[AxisValue]) -> Vec<String> {
    let whole: Vec<String> = values.iter().map(ToString::to_string).collect();
    let short = |value: &AxisValue| match value {
        AxisValue::Float(number) if (1e-3..1e4).contains(&number.abs()) => {
            let digits = 3 - libm::floor(libm::log10(number.abs())) as i32;
            format!("{number:.*}", usize::try_from(digits).unwrap_or(0))
        }
        other => other.to_string(),
    };
    let short: Vec<String> = values.iter().map(short).collect();
    let distinct = short.iter().collect::<BTreeSet<_>>().len() == short.len();
    if whole.iter().any(|text| text.len() > 6) && distinct { short } else { whole }
}

/// Returns a continuous scale for more numbers than there are colors.
fn ramp_of(values: &[AxisValue]) -> Option<Ramp> {
    let numeric =
        values.iter().all(|value| matches!(value, AxisValue::Int(_) | AxisValue::Float(_)));
    if !numeric || values.len() <= palette::COLORS {
        return None;
    }
    ramp_over(values.iter().filter_map(AxisValue::number).collect())
}

/// Returns a continuous scale over numbers; none where there are none.
///
/// It is logarithmic where that brings the middle one of the numbers nearer to the middle of the scale.
pub fn ramp_over(mut numbers: Vec<f64>) -> Option<Ramp> {
    numbers.sort_by(f64::total_cmp);
    numbers.first()?;
    let (low, high, middle) = (numbers[0], numbers[numbers.len() - 1], numbers[numbers.len() / 2]);
    let [linear, log] = [false, true].map(|log| Ramp { low, high, log });
    let off = |ramp: &Ramp| (ramp.place(middle) - 0.5).abs();
    Some(if low > 0.0 && off(&log) < off(&linear) - 0.1 { log } else { linear })
}

/// The number of colors that bars can be told apart by.
const MOST_BARS: usize = 2 * palette::COLORS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_follows_its_numbers() {
        let ramp = |of: &dyn Fn(i32) -> f64| {
            let values: Vec<AxisValue> = (0..20).map(|i| AxisValue::Float(of(i))).collect();
            ramp_of(&values).unwrap().log
        };
        assert!(ramp(&|i| 10f64.powi(i)) && ramp(&|i| 1.5f64.powi(i)));
        assert_eq!(ramp_over(Vec::new()), None);
        assert!(!ramp(&f64::from) && !ramp(&|i| 1.0 + 50.0 * f64::from(i)));
    }

    #[test]
    fn titles_have_few_digits_if_these_tell_all_apart() {
        let check = |values: &[f64], expected: &[&str]| {
            let values: Vec<AxisValue> = values.iter().map(|v| AxisValue::Float(*v)).collect();
            assert_eq!(shortened(&values), expected);
        };
        check(&[0.0, 0.428_571_4, 12.857_143], &["0", "0.4286", "12.86"]);
        check(&[0.5, 1.0], &["0.5", "1"]);
        check(&[1.00001, 1.00002], &["1.00001", "1.00002"]);
    }
}
