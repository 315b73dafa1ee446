//! Changes of color, with torchvision's formulas for tensors. Values are in [0, 1], before and after.

/// What the planes of an image mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// One plane.
    Gray,
    /// Red, green and blue.
    Rgb,
}

/// What red, green and blue give to gray (ITU-R BT.601, as torchvision writes it: the sum is 0.9999).
const LUMA: [f32; 3] = [0.2989, 0.587, 0.114];

impl Color {
    /// Counts the planes.
    pub fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
        }
    }
}

/// Multiplies all values by a factor, at least 0.
pub fn adjust_brightness(pixels: &mut [f32], factor: f64) {
    for value in pixels {
        *value = blend(*value, 0.0, factor);
    }
}

/// Multiplies all distances from the image's mean gray by a factor, at least 0.
pub fn adjust_contrast(pixels: &mut [f32], color: Color, factor: f64) {
    let mean = |values: &mut dyn Iterator<Item = f32>, count: usize| {
        (values.map(f64::from).sum::<f64>() / count as f64) as f32
    };
    let gray = match color {
        Color::Gray => mean(&mut pixels.iter().copied(), pixels.len()),
        Color::Rgb => {
            let [red, green, blue] = planes(pixels);
            let pixels = red.iter().zip(green.iter()).zip(blue.iter());
            mean(&mut pixels.map(|((r, g), b)| gray_of([*r, *g, *b])), red.len())
        }
    };
    for value in pixels {
        *value = blend(*value, gray, factor);
    }
}

/// Multiplies each pixel's distances from its gray by a factor, at least 0. A gray image stays as it is.
pub fn adjust_saturation(pixels: &mut [f32], color: Color, factor: f64) {
    each_rgb(pixels, color, |rgb| {
        let gray = gray_of(rgb);
        rgb.map(|value| blend(value, gray, factor))
    });
}

/// Turns each pixel's hue by a part of the circle, in [−0.5, 0.5]. A gray image stays as it is.
///
/// 1/3 turns red to green, green to blue and blue to red. Saturation and value, those of HSV, stay.
pub fn adjust_hue(pixels: &mut [f32], color: Color, turn: f64) {
    each_rgb(pixels, color, |rgb| {
        let [hue, saturation, value] = to_hsv(rgb);
        from_hsv([(hue + turn as f32).rem_euclid(1.0), saturation, value])
    });
}

/// Puts each pixel's gray into its three channels. A gray image stays as it is.
pub fn to_grayscale(pixels: &mut [f32], color: Color) {
    each_rgb(pixels, color, |rgb| [gray_of(rgb); 3]);
}

fn gray_of([red, green, blue]: [f32; 3]) -> f32 {
    LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
}

/// Goes from `other` to `value` and by `factor` as far, within [0, 1].
fn blend(value: f32, other: f32, factor: f64) -> f32 {
    (factor as f32 * value + (1.0 - factor) as f32 * other).clamp(0.0, 1.0)
}

fn planes(pixels: &mut [f32]) -> [&mut [f32]; 3] {
    let (red, others) = pixels.split_at_mut(pixels.len() / 3);
    let (green, blue) = others.split_at_mut(red.len());
    [red, green, blue]
}

fn each_rgb(pixels: &mut [f32], color: Color, change: impl Fn([f32; 3]) -> [f32; 3]) {
    if color == Color::Gray {
        return;
    }
    let [red, green, blue] = planes(pixels);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        [*r, *g, *b] = change([*r, *g, *b]);
    }
}

/// Yields hue, saturation and value, each in [0, 1]. The hue of gray is 0.
fn to_hsv([red, green, blue]: [f32; 3]) -> [f32; 3] {
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    let spread = most - least;
    if spread == 0.0 {
        return [0.0, 0.0, most];
    }
    let [r, g, b] = [red, green, blue].map(|value| (most - value) / spread);
    let sixths = if most == red {
        b - g
    } else if most == green {
        2.0 + r - b
    } else {
        4.0 + g - r
    };
    [(sixths / 6.0 + 1.0) % 1.0, spread / most, most]
}

fn from_hsv([hue, saturation, value]: [f32; 3]) -> [f32; 3] {
    let sixth = (hue * 6.0).floor();
    let along = hue * 6.0 - sixth;
    let dimmed = |share: f32| (value * (1.0 - saturation * share)).clamp(0.0, 1.0);
    let (p, q, t) = (dimmed(1.0), dimmed(along), dimmed(1.0 - along));
    match sixth as usize % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_values, wave};
    use super::*;

    fn changed(pixels: &[f32], change: impl Fn(&mut [f32])) -> Vec<f32> {
        let mut pixels = pixels.to_vec();
        change(&mut pixels);
        pixels
    }

    #[test]
    fn values_are_torchvisions() {
        let (rgb, gray) = (wave(144), wave(48));
        check_values(
            "brightness",
            &changed(&rgb, |x| adjust_brightness(x, 1.4)),
            [0.839_068_5, 0.076_437_1, 0.076_719_8, 0.225_802_1, 0.225_345, 0.224_888_2],
            87.844_305,
        );
        check_values(
            "contrast",
            &changed(&rgb, |x| adjust_contrast(x, Color::Rgb, 1.4)),
            [0.637_877_3, 0.0, 0.0, 0.024_610_9, 0.024_153_8, 0.023_697],
            72.442_446,
        );
        check_values(
            "contrast of gray",
            &changed(&gray, |x| adjust_contrast(x, Color::Gray, 0.6)),
            [0.560_512_1, 0.315_470_2, 0.201_128_5, 0.233_670_1, 0.223_976_1, 0.201_138_8],
            24.109_358,
        );
        check_values(
            "saturation",
            &changed(&rgb, |x| adjust_saturation(x, Color::Rgb, 1.7)),
            [0.719_908_7, 0.078_203_1, 0.030_660_9, 0.172_235_5, 0.244_987_3, 0.244_525_1],
            72.516_198,
        );
        check_values(
            "hue",
            &changed(&rgb, |x| adjust_hue(x, Color::Rgb, 0.13)),
            [0.495_823_1, 0.054_597_9, 0.190_931_4, 0.038_441_4, 0.160_960_7, 0.160_634_4],
            72.502_385,
        );
        check_values(
            "hue back",
            &changed(&rgb, |x| adjust_hue(x, Color::Rgb, -0.4)),
            [0.222_167_5, 0.000_396_6, 0.022_235_8, 0.346_326_4, 0.000_362, 0.000_379_1],
            72.598_747,
        );
        check_values(
            "gray",
            &changed(&rgb, |x| to_grayscale(x, Color::Rgb)),
            [0.427_086, 0.020_876_2, 0.089_284_2, 0.145_646_9, 0.040_922_7, 0.040_790_7],
            72.428_843,
        );
    }

    /// The planes of one pixel of each of some colors.
    fn colors<const N: usize>(colors: [[f32; 3]; N]) -> Vec<f32> {
        (0..3).flat_map(|channel| colors.map(|color| color[channel])).collect()
    }

    #[test]
    fn a_third_of_the_circle_turns_red_green_and_blue_around() {
        const RED: [f32; 3] = [1.0, 0.0, 0.0];
        const GREEN: [f32; 3] = [0.0, 1.0, 0.0];
        const BLUE: [f32; 3] = [0.0, 0.0, 1.0];
        let pale = [0.9, 0.3, 0.6];
        let gray = [0.4; 3];
        let check = |turn: f64, expected: [[f32; 3]; 5]| {
            let before = colors([RED, GREEN, BLUE, pale, gray]);
            let found = changed(&before, |x| adjust_hue(x, Color::Rgb, turn));
            for (found, expected) in found.iter().zip(colors(expected)) {
                assert!((found - expected).abs() < 1e-6, "{turn}: {found} {expected}");
            }
        };
        let third = 1.0 / 3.0;
        check(0.0, [RED, GREEN, BLUE, pale, gray]);
        check(third, [GREEN, BLUE, RED, [0.6, 0.9, 0.3], gray]);
        check(-third, [BLUE, RED, GREEN, [0.3, 0.6, 0.9], gray]);
        // Half the circle: the complement within the same largest and smallest value.
        let [cyan, magenta, yellow] = [RED, GREEN, BLUE].map(|color| color.map(|v| 1.0 - v));
        check(0.5, [cyan, magenta, yellow, [0.3, 0.9, 0.6], gray]);
    }

    #[test]
    fn factors_do_what_they_say() {
        let close = |found: Vec<f32>, expected: &[f32]| {
            let near = found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6);
            assert!(near && found.len() == expected.len(), "{found:?} {expected:?}");
        };
        let x = [0.2, 0.4, 0.9];
        close(changed(&x, |x| adjust_brightness(x, 1.5)), &[0.3, 0.6, 1.0]);
        close(changed(&x, |x| adjust_brightness(x, 0.0)), &[0.0; 3]);
        // About the mean, 0.5.
        close(changed(&x, |x| adjust_contrast(x, Color::Gray, 0.5)), &[0.35, 0.45, 0.7]);
        close(changed(&x, |x| adjust_contrast(x, Color::Gray, 2.0)), &[0.0, 0.3, 1.0]);
        let gray = 0.2989 * 0.2 + 0.587 * 0.4 + 0.114 * 0.9;
        close(changed(&x, |x| adjust_contrast(x, Color::Rgb, 0.0)), &[gray; 3]);
        close(changed(&x, |x| adjust_saturation(x, Color::Rgb, 0.0)), &[gray; 3]);
        close(changed(&x, |x| to_grayscale(x, Color::Rgb)), &[gray; 3]);
        let doubled = [0.4 - gray, 0.8 - gray, 1.0].map(|v: f32| v.clamp(0.0, 1.0));
        close(changed(&x, |x| adjust_saturation(x, Color::Rgb, 2.0)), &doubled);
        close(changed(&x, |x| adjust_contrast(x, Color::Rgb, 1.0)), &x);
    }

    #[test]
    fn a_gray_image_has_no_saturation_and_no_hue() {
        let x = wave(9);
        assert_eq!(changed(&x, |x| adjust_saturation(x, Color::Gray, 0.3)), x);
        assert_eq!(changed(&x, |x| adjust_hue(x, Color::Gray, 0.3)), x);
        assert_eq!(changed(&x, |x| to_grayscale(x, Color::Gray)), x);
    }
}
