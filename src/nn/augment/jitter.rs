//! Color jitter: brightness, contrast, saturation and hue in random order.

use super::color::{Color, adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation};
use super::crop::between;
use crate::rng::Stream;

/// One change of color with its parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Adjustment {
    /// A factor.
    Brightness(f64),
    /// A factor.
    Contrast(f64),
    /// A factor.
    Saturation(f64),
    /// A part of the circle.
    Hue(f64),
}

impl Adjustment {
    /// Changes an image in place.
    pub fn apply(self, pixels: &mut [f32], color: Color) {
        match self {
            Self::Brightness(factor) => adjust_brightness(pixels, factor),
            Self::Contrast(factor) => adjust_contrast(pixels, color, factor),
            Self::Saturation(factor) => adjust_saturation(pixels, color, factor),
            Self::Hue(turn) => adjust_hue(pixels, color, turn),
        }
    }
}

/// Draws the four adjustments of an image, in random order, as torchvision's `ColorJitter`.
///
/// With strength s (Chen et al. 2020, appendix A), brightness, contrast and saturation are uniform in
/// [max(0, 1 − 0.8 s), 1 + 0.8 s], the turn of hue in [−0.2 s, 0.2 s]; s is in [0, 2.5].
pub fn draw(strength: f64, stream: &mut Stream) -> [Adjustment; 4] {
    let factors = [(1.0 - 0.8 * strength).max(0.0), 1.0 + 0.8 * strength];
    let turns = [-0.2 * strength, 0.2 * strength];
    let mut adjustments = [
        Adjustment::Brightness(between(factors, stream)),
        Adjustment::Contrast(between(factors, stream)),
        Adjustment::Saturation(between(factors, stream)),
        Adjustment::Hue(between(turns, stream)),
    ];
    stream.shuffle(&mut adjustments);
    adjustments
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_mean;
    use super::*;
    use crate::rng::Streams;

    #[test]
    fn factors_turns_and_their_order_have_their_distributions() {
        let mut stream = Streams::new(4, "test").stream("jitter");
        for (strength, [low, high], widest) in
            [(0.5, [0.6, 1.4], 0.1), (1.0, [0.2, 1.8], 0.2), (2.0, [0.0, 2.6], 0.4)]
        {
            // Values of brightness, contrast, saturation and hue, and the place of each.
            let (mut values, mut places) = ([const { Vec::new() }; 4], [const { Vec::new() }; 4]);
            for _ in 0..10_000 {
                for (place, adjustment) in draw(strength, &mut stream).into_iter().enumerate() {
                    let (which, value) = match adjustment {
                        Adjustment::Brightness(factor) => (0, factor),
                        Adjustment::Contrast(factor) => (1, factor),
                        Adjustment::Saturation(factor) => (2, factor),
                        Adjustment::Hue(turn) => (3, turn),
                    };
                    values[which].push(value);
                    places[which].push(place as f64);
                }
            }
            for (which, (values, places)) in values.iter().zip(&places).enumerate() {
                let [low, high] = if which == 3 { [-widest, widest] } else { [low, high] };
                assert!(values.iter().all(|v| (low..=high).contains(v)), "{which}");
                let (mean, deviation) = (f64::midpoint(low, high), (high - low) / 12f64.sqrt());
                check_mean("value", values, mean, deviation);
                let squares: Vec<f64> = values.iter().map(|v| (v - mean).powi(2)).collect();
                let variance = deviation * deviation;
                check_mean("variance", &squares, variance, 0.8f64.sqrt() * variance);
                check_mean("place", places, 1.5, 1.25f64.sqrt());
                assert_eq!(places.len(), 10_000);
            }
        }
    }
}
