//! Colors and shapes that readers of all kinds of sight can tell apart, in print too.

use crate::colormap;

/// Red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

/// How one series looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub color: Color,
    pub shape: Shape,
    pub dash: Dash,
    /// Small and grey, as the background of other series.
    pub muted: bool,
}

/// The shape of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    InvertedTriangle,
}

/// The stroke of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dash {
    Solid,
    Dashed,
}

/// The eight colors of Okabe and Ito (2008), the yellow last because it is faint on white.
const OKABE_ITO: [Color; 8] = [
    Color(0x00, 0x72, 0xB2),
    Color(0xD5, 0x5E, 0x00),
    Color(0x00, 0x9E, 0x73),
    Color(0xCC, 0x79, 0xA7),
    Color(0xE6, 0x9F, 0x00),
    Color(0x56, 0xB4, 0xE9),
    Color(0x00, 0x00, 0x00),
    Color(0xF0, 0xE4, 0x42),
];

const SHAPES: [Shape; 5] =
    [Shape::Circle, Shape::Square, Shape::Triangle, Shape::Diamond, Shape::InvertedTriangle];

/// The number of categories that differ in color alone.
pub const COLORS: usize = OKABE_ITO.len();

impl Style {
    /// Returns the look of the series at a place in the legend; past the last color, lines are dashed and colors are
    /// darker, but for black, which is grey.
    pub fn nth(index: usize) -> Self {
        let color = OKABE_ITO[index % COLORS];
        Self {
            color: match (index / COLORS).is_multiple_of(2) {
                true => color,
                false if color == Color(0, 0, 0) => Color(0x8C, 0x8C, 0x8C),
                false => dim(color),
            },
            shape: SHAPES[index % SHAPES.len()],
            dash: if (index / COLORS).is_multiple_of(2) { Dash::Solid } else { Dash::Dashed },
            muted: false,
        }
    }

    /// Returns the look at a place, from 0 to 1, of a continuous quantity.
    pub fn ramp(place: f64) -> Self {
        // One of few colors, so that points of one color may be drawn as one.
        let place = f64::from(colormap::level(place)) / (colormap::LEVELS - 1) as f64;
        Self { color: viridis(place), ..Self::nth(0) }
    }

    /// Returns a darker variant, for points over an area of the same color.
    #[must_use]
    pub fn darker(self) -> Self {
        Self { color: dim(self.color), ..self }
    }

    /// Returns the look of what has no color beside others that have: nearly black.
    pub fn ink() -> Self {
        Self { color: Color(0x22, 0x22, 0x22), ..Self::nth(0) }
    }

    /// Returns the look of a background.
    pub fn background() -> Self {
        Self { color: Color(0xA8, 0xA8, 0xA8), muted: true, ..Self::nth(0) }
    }
}

fn dim(Color(red, green, blue): Color) -> Color {
    let dim = |channel: u8| (f64::from(channel) * 0.55).round() as u8;
    Color(dim(red), dim(green), dim(blue))
}

/// Returns the color at a place, from 0 to 1, of a continuous quantity.
pub fn viridis(place: f64) -> Color {
    let [red, green, blue] = colormap::viridis(place);
    Color(red, green, blue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_looks_differ_in_color_and_the_next_in_dash() {
        for (left, right) in [(0, 1), (0, 7), (0, 8), (3, 11)] {
            let [left, right] = [left, right].map(Style::nth);
            assert_ne!((left.color, left.dash), (right.color, right.dash));
        }
    }

    #[test]
    fn twice_as_many_bars_as_colors_differ() {
        let colors: Vec<Color> = (0..2 * COLORS).map(|index| Style::nth(index).color).collect();
        for (index, color) in colors.iter().enumerate() {
            assert!(!colors[..index].contains(color), "{index}");
        }
    }
}
