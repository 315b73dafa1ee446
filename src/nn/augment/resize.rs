//! Bilinear resampling with antialiasing, as PyTorch does it.

use super::crop::Crop;

/// Resizes a part of an image to `height`×`width`: bilinear, with antialiasing where it shrinks.
///
/// `pixels` are planes of rows of `columns` values, `rows` of them a plane; the part lies inside. As
/// `torchvision.transforms.functional.resized_crop(…, antialias=True)`: where a side shrinks by a factor f > 1, an
/// output value is the mean of the input under a triangle of half-width f, else under one of half-width 1; weights
/// are scaled to sum to 1 at the borders.
pub fn resized_crop(
    pixels: &[f32],
    [rows, columns]: [usize; 2],
    part: Crop,
    [height, width]: [usize; 2],
) -> Vec<f32> {
    let (across, down) = (taps(part.width, width), taps(part.height, height));
    let planes = pixels.len() / (rows * columns);
    let mut narrow = vec![0.0; part.height * width];
    let mut out = vec![0.0; planes * height * width];
    for (plane, out) in
        pixels.chunks_exact(rows * columns).zip(out.chunks_exact_mut(height * width))
    {
        let source = plane[part.top * columns..].chunks(columns);
        for (row, narrow) in source.zip(narrow.chunks_exact_mut(width)) {
            let row = &row[part.left..part.left + part.width];
            for (value, tap) in narrow.iter_mut().zip(&across) {
                let under = row[tap.start..].iter().zip(&tap.weights);
                *value = under.map(|(value, weight)| value * weight).sum();
            }
        }
        for (out, tap) in out.chunks_exact_mut(width).zip(&down) {
            for (row, weight) in narrow[tap.start * width..].chunks(width).zip(&tap.weights) {
                for (out, value) in out.iter_mut().zip(row) {
                    *out += weight * value;
                }
            }
        }
    }
    out
}

/// What an output value is made of: input values from `start` on, each with its weight.
struct Tap {
    start: usize,
    weights: Vec<f32>,
}

/// Computes what each of `to` values is made of when `from` values are resampled.
fn taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let tap = |at: usize| {
        let center = scale * (at as f64 + 0.5);
        let start = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let distance = |at: usize| ((at as f64 + 0.5 - center) / support).abs();
        let weights: Vec<f64> = (start..end).map(|at| (1.0 - distance(at)).max(0.0)).collect();
        let sum: f64 = weights.iter().sum();
        Tap { start, weights: weights.iter().map(|weight| (weight / sum) as f32).collect() }
    };
    (0..to).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_values, wave};
    use super::*;

    fn part(top: usize, left: usize, height: usize, width: usize) -> Crop {
        Crop { top, left, height, width }
    }

    #[test]
    fn values_are_torchvisions() {
        let crop = |part, size| resized_crop(&wave(144), [6, 8], part, size);
        check_values(
            "smaller",
            &crop(part(1, 2, 5, 6), [3, 3]),
            [0.597_085_2, 0.591_752_1, 0.559_739_2, 0.424_807_1, 0.345_054_9, 0.398_466_9],
            13.215_788,
        );
        check_values(
            "larger",
            &crop(part(2, 3, 3, 2), [6, 8]),
            [0.384_677_1, 0.252_162_9, 0.230_515_5, 0.604_031_1, 0.402_220_4, 0.917_352_3],
            73.792_934,
        );
        check_values(
            "lower and wider",
            &crop(part(0, 1, 6, 3), [4, 8]),
            [0.695_816_5, 0.651_897_7, 0.544_122_3, 0.411_203_8, 0.343_052_5, 0.339_235_3],
            47.986_645,
        );
    }

    #[test]
    fn a_part_of_the_size_asked_for_is_cut_out() {
        let image: Vec<f32> = (0..24).map(|v| v as f32).collect();
        let found = resized_crop(&image, [3, 4], part(1, 2, 2, 2), [2, 2]);
        assert_eq!(found, [6.0, 7.0, 10.0, 11.0, 18.0, 19.0, 22.0, 23.0]);
    }

    #[test]
    fn a_ramp_stays_a_ramp() {
        // Away from the borders every tap is symmetric about its center where a side shrinks by a whole factor or
        // grows, so that output i shows the ramp at scale · (i + ½) − ½.
        let image: Vec<f32> = (0..40 * 40).map(|at| (at % 40 + 3 * (at / 40)) as f32).collect();
        for (height, width, to) in [(28, 30, [14, 10]), (10, 8, [33, 19]), (32, 7, [8, 25])] {
            let found = resized_crop(&image, [40, 40], part(4, 5, height, width), to);
            let at =
                |i: usize, from: usize, to: usize| from as f32 / to as f32 * (i as f32 + 0.5) - 0.5;
            for (y, x) in (3..to[0] - 3).flat_map(|y| (3..to[1] - 3).map(move |x| (y, x))) {
                let expected = 5.0 + at(x, width, to[1]) + 3.0 * (4.0 + at(y, height, to[0]));
                let found = found[y * to[1] + x];
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
    }

    #[test]
    fn a_flat_image_stays_flat() {
        for from in 1..12 {
            for to in 1..12 {
                let found = resized_crop(&[0.75; 144], [12, 12], part(1, 0, from, from), [to, to]);
                assert!(found.iter().all(|v| (v - 0.75).abs() < 1e-6), "{from} {to}");
            }
        }
    }
}
