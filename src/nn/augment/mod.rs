//! Random views of images, as SimCLR takes them (Chen et al. 2020, arXiv:2002.05709, appendix A).
//!
//! Each change of an image is a function of the image and of its parameters; what is random is drawn apart from it,
//! from a stream. Formulas and defaults are those of torchvision's transforms of tensors. Images are planes of rows of
//! values in [0, 1], gray or red, green and blue; for gray ones, changes of saturation and hue and the change to gray
//! are none.

pub mod view;

pub mod crop;
pub mod resize;

pub mod color;
pub mod jitter;

pub mod blur;

pub mod views;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the views of an image are drawn: crop, flip, colors, gray and blur, in this order.
///
/// The defaults are those of SimCLR on `ImageNet`. On CIFAR-10 it takes `jitter_strength = 0.5` and `blur = 0`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Least and largest share of the image's area that a view shows, above 0 and at most 1. The part is resized to
    /// the size of the image. `[1, 1]` with a `crop_aspect` of `[1, 1]` shows the whole of a square image.
    pub crop_area: [f64; 2],
    /// Least and largest width over height of that part, above 0; their logarithms bound a uniform draw.
    pub crop_aspect: [f64; 2],
    /// Probability that left and right are exchanged, from 0 to 1. The paper names none; half is torchvision's.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub flip: f64,
    /// Probability that brightness, contrast, saturation and hue change, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: f64,
    /// How much they change, from 0 to 2.5: factors from 1 − 0.8 s (0 at least) to 1 + 0.8 s, and turns of hue up to
    /// 0.2 s of the circle either way.
    #[schemars(range(min = 0.0, max = 2.5))]
    pub jitter_strength: f64,
    /// Probability that a color image turns gray, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub grayscale: f64,
    /// Probability of a blur, from 0 to 1. It reaches a twentieth of the image's shorter side, in whole pixels, so images
    /// below 20 pixels stay sharp.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub blur: f64,
    /// Least and largest standard deviation of the blur, above 0.
    #[schemars(extend("x-unit" = "pixels"))]
    pub blur_sigma: [f64; 2],
}

impl Default for Augmentation {
    /// The values of Chen et al. 2020, appendix A.
    fn default() -> Self {
        Self {
            crop_area: [0.08, 1.0],
            crop_aspect: [3.0 / 4.0, 4.0 / 3.0],
            flip: 0.5,
            jitter: 0.8,
            jitter_strength: 1.0,
            grayscale: 0.2,
            blur: 0.5,
            blur_sigma: [0.1, 2.0],
        }
    }
}

impl Augmentation {
    /// Every number that it has: its path, whether it is in its range, and that range.
    pub fn ranges(&self) -> Vec<(&'static str, bool, &'static str)> {
        let range = |[low, high]: [f64; 2], most: f64| 0.0 < low && low <= high && high <= most;
        let probability =
            |name, value: f64| (name, (0.0..=1.0).contains(&value), "must be from 0 to 1");
        let rising = "must be two finite numbers above 0, the first at most the second";
        let area = "must be two numbers above 0 and at most 1, the first at most the second";
        vec![
            ("crop_area", range(self.crop_area, 1.0), area),
            ("crop_aspect", range(self.crop_aspect, f64::MAX), rising),
            probability("flip", self.flip),
            probability("jitter", self.jitter),
            (
                "jitter_strength",
                (0.0..=2.5).contains(&self.jitter_strength),
                "must be from 0 to 2.5",
            ),
            probability("grayscale", self.grayscale),
            probability("blur", self.blur),
            ("blur_sigma", range(self.blur_sigma, f64::MAX), rising),
        ]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An image of `count` values, 0.5 + 0.5 sin(1.3 i + 0.2).
    pub(crate) fn wave(count: usize) -> Vec<f32> {
        (0..count).map(|i| (0.5 + 0.5 * (1.3 * i as f64 + 0.2).sin()) as f32).collect()
    }

    /// Compares six evenly spaced values and the sum of all with those of torchvision 0.29.2 (PyTorch 2.15.0), which
    /// computed them in f32 from the same image.
    pub(crate) fn check_values(name: &str, found: &[f32], expected: [f32; 6], sum: f64) {
        for (i, expected) in expected.into_iter().enumerate() {
            let found = found[i * (found.len() - 1) / 5];
            assert!((found - expected).abs() < 2e-6, "{name}, value {i}: {found}, not {expected}");
        }
        let slack = 2e-7 * found.len() as f64;
        let found: f64 = found.iter().map(|value| f64::from(*value)).sum();
        assert!((found - sum).abs() < slack, "{name}: sum {found}, not {sum}");
    }

    /// Asks that the mean of draws lies within five standard errors of what is expected.
    pub(crate) fn check_mean(name: &str, draws: &[f64], expected: f64, deviation: f64) {
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let error = deviation / (draws.len() as f64).sqrt();
        assert!((mean - expected).abs() < 5.0 * error, "{name}: {mean}, not {expected} ± {error}");
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let default = Augmentation::default();
        let broken = |augmentation: Augmentation| -> Vec<&str> {
            let ranges = augmentation.ranges().into_iter();
            ranges.filter(|(_, holds, _)| !holds).map(|(name, ..)| name).collect()
        };
        assert!(broken(default).is_empty());
        let nan = f64::NAN;
        for crop_area in [[0.0, 1.0], [0.5, 1.1], [0.6, 0.5], [nan, 1.0], [0.5, nan]] {
            assert_eq!(broken(Augmentation { crop_area, ..default }), ["crop_area"]);
        }
        for range in [[0.0, 1.0], [2.0, 1.0], [1.0, f64::INFINITY]] {
            assert_eq!(broken(Augmentation { crop_aspect: range, ..default }), ["crop_aspect"]);
            assert_eq!(broken(Augmentation { blur_sigma: range, ..default }), ["blur_sigma"]);
        }
        for p in [-0.1, 1.1, nan] {
            let all = Augmentation { flip: p, jitter: p, grayscale: p, blur: p, ..default };
            assert_eq!(broken(all), ["flip", "jitter", "grayscale", "blur"]);
        }
        assert_eq!(broken(Augmentation { jitter_strength: 2.6, ..default }), ["jitter_strength"]);
    }
}
