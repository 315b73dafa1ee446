//! Where a random resized crop lies.

use crate::rng::Stream;

/// A part of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

/// Draws of an area and an aspect that may not fit the image, as in torchvision.
const TRIES: usize = 10;

impl Crop {
    /// Draws a part of an image of `height`×`width`, as torchvision's `RandomResizedCrop`.
    ///
    /// Its share of the image's area is uniform in `area`, the logarithm of width over height uniform between those of
    /// `aspect`, its place uniform. After ten draws that do not fit, it is the largest part in the middle whose aspect
    /// is in range.
    pub fn draw(
        [height, width]: [usize; 2],
        area: [f64; 2],
        aspect: [f64; 2],
        stream: &mut Stream,
    ) -> Self {
        let whole = (height * width) as f64;
        for _ in 0..TRIES {
            let target = whole * between(area, stream);
            let ratio = libm::exp(between(aspect.map(libm::log), stream));
            let w = (target * ratio).sqrt().round_ties_even() as usize;
            let h = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = stream.below((height - h) as u64 + 1) as usize;
                let left = stream.below((width - w) as u64 + 1) as usize;
                return Self { top, left, height: h, width: w };
            }
        }
        Self::centered([height, width], aspect)
    }

    /// Yields the largest part in the middle of an image of `height`×`width` whose aspect is in a range.
    fn centered([height, width]: [usize; 2], [narrowest, widest]: [f64; 2]) -> Self {
        let ratio = width as f64 / height as f64;
        let side = |length: f64| (length.round_ties_even() as usize).max(1);
        let (h, w) = if ratio < narrowest {
            (side(width as f64 / narrowest), width)
        } else if ratio > widest {
            (height, side(height as f64 * widest))
        } else {
            (height, width)
        };
        Self { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
    }
}

/// Draws uniformly from a range; its end may be its beginning.
pub(super) fn between([low, high]: [f64; 2], stream: &mut Stream) -> f64 {
    low + (high - low) * stream.uniform()
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_mean;
    use super::*;
    use crate::rng::Streams;

    fn draws(size: [usize; 2], area: [f64; 2], aspect: [f64; 2]) -> Vec<Crop> {
        let mut stream = Streams::new(3, "test").stream("crop");
        (0..20_000).map(|_| Crop::draw(size, area, aspect, &mut stream)).collect()
    }

    #[test]
    fn area_and_aspect_have_their_distributions() {
        // So large that rounding does not show, and every draw fits.
        let crops = draws([20_000, 20_000], [0.1, 0.5], [0.75, 4.0 / 3.0]);
        let each = |f: &dyn Fn(&Crop) -> f64| crops.iter().map(f).collect::<Vec<_>>();
        let area = each(&|c| (c.height * c.width) as f64 / 4e8);
        let deviation = 0.4 / 12f64.sqrt();
        check_mean("area", &area, 0.3, deviation);
        // The fourth moment of a uniform distribution is 9/5 of its squared variance.
        let squares: Vec<f64> = area.iter().map(|a| (a - 0.3).powi(2)).collect();
        check_mean("its variance", &squares, deviation.powi(2), 0.8f64.sqrt() * deviation.powi(2));
        let aspect = each(&|c| (c.width as f64 / c.height as f64).ln());
        let deviation = 2.0 * (4.0f64 / 3.0).ln() / 12f64.sqrt();
        check_mean("aspect", &aspect, 0.0, deviation);
        let squares: Vec<f64> = aspect.iter().map(|a| a * a).collect();
        check_mean("its variance", &squares, deviation.powi(2), 0.8f64.sqrt() * deviation.powi(2));
        let uniform = 1.0 / 12f64.sqrt();
        check_mean("top", &each(&|c| c.top as f64 / (20_000 - c.height) as f64), 0.5, uniform);
        check_mean("left", &each(&|c| c.left as f64 / (20_000 - c.width) as f64), 0.5, uniform);
    }

    #[test]
    fn crops_lie_inside_and_reach_the_borders() {
        let crops = draws([7, 9], [0.08, 1.0], [0.75, 4.0 / 3.0]);
        assert!(crops.iter().all(|c| c.top + c.height <= 7 && c.left + c.width <= 9));
        assert!(crops.iter().all(|c| c.height > 0 && c.width > 0));
        assert!(crops.iter().any(|c| c.top == 0) && crops.iter().any(|c| c.top + c.height == 7));
        assert!(crops.iter().any(|c| c.left == 0) && crops.iter().any(|c| c.left + c.width == 9));
    }

    #[test]
    fn what_never_fits_is_the_largest_in_the_middle() {
        let check = |size, aspect, [top, left, height, width]: [usize; 4]| {
            let expected = Crop { top, left, height, width };
            assert_eq!(draws(size, [1.0, 1.0], aspect)[0], expected);
        };
        check([8, 20], [0.75, 1.25], [0, 5, 8, 10]);
        check([20, 8], [0.75, 1.25], [4, 0, 11, 8]);
        check([1, 50], [3.0, 4.0], [0, 23, 1, 4]);
        check([10, 10], [1.0, 1.0], [0, 0, 10, 10]);
    }
}
