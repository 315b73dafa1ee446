//! Gaussian blur.

/// Blurs each plane of an image by a Gaussian of `sigma` pixels, above 0, cut off `radius` pixels from its middle.
///
/// Planes are of `rows` rows of `columns`. As torchvision's `gaussian_blur` with a kernel of 2 · `radius` + 1 pixels:
/// the kernel is the density at whole pixels, scaled to sum to 1; beyond a border lies the image's reflection, which
/// does not repeat the border itself.
pub fn gaussian_blur(pixels: &mut [f32], [rows, columns]: [usize; 2], sigma: f64, radius: usize) {
    let kernel = kernel(sigma, radius);
    let mut across = vec![0.0; rows * columns];
    let mut padded = vec![0.0; columns + 2 * radius];
    for plane in pixels.chunks_exact_mut(rows * columns) {
        for (row, out) in plane.chunks_exact(columns).zip(across.chunks_exact_mut(columns)) {
            for (at, value) in padded.iter_mut().enumerate() {
                *value = row[reflected(at, radius, columns)];
            }
            out.fill(0.0);
            for (shift, weight) in kernel.iter().enumerate() {
                add_scaled(out, &padded[shift..], *weight);
            }
        }
        for (y, out) in plane.chunks_exact_mut(columns).enumerate() {
            out.fill(0.0);
            for (shift, weight) in kernel.iter().enumerate() {
                let row = reflected(y + shift, radius, rows);
                add_scaled(out, &across[row * columns..], *weight);
            }
        }
    }
}

fn add_scaled(out: &mut [f32], values: &[f32], weight: f32) {
    for (out, value) in out.iter_mut().zip(values) {
        *out += weight * value;
    }
}

/// Yields the 2 · `radius` + 1 weights of a Gaussian, which sum to 1.
fn kernel(sigma: f64, radius: usize) -> Vec<f32> {
    let density = |at: usize| {
        let distance = (at as f64 - radius as f64) / sigma;
        libm::exp(-0.5 * distance * distance)
    };
    let values: Vec<f64> = (0..=2 * radius).map(density).collect();
    let sum: f64 = values.iter().sum();
    values.iter().map(|value| (value / sum) as f32).collect()
}

/// Yields the place in `0..length` that lies at `at` of a line padded by `radius` reflected values on both sides.
fn reflected(at: usize, radius: usize, length: usize) -> usize {
    let period = (2 * (length - 1)).max(1);
    let place = (at as i64 - radius as i64).rem_euclid(period as i64) as usize;
    place.min(period - place)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_values, wave};
    use super::*;

    #[test]
    fn values_are_torchvisions() {
        let blurred = |sigma, radius| {
            let mut image = wave(144);
            gaussian_blur(&mut image, [6, 8], sigma, radius);
            image
        };
        check_values(
            "five pixels",
            &blurred(0.8, 2),
            [0.483_463_1, 0.441_110_9, 0.432_332_6, 0.453_647, 0.455_173_7, 0.368_220_2],
            70.805_286,
        );
        check_values(
            "three pixels",
            &blurred(2.0, 1),
            [0.395_681_3, 0.499_153_9, 0.499_154_2, 0.499_356_5, 0.499_355_9, 0.286_550_7],
            69.990_516,
        );
    }

    #[test]
    fn a_point_becomes_the_kernel() {
        let mut image = vec![0.0; 2 * 63];
        image[63 + 3 * 9 + 4] = 1.0;
        gaussian_blur(&mut image, [7, 9], 0.9, 2);
        let density = |d: i32| (-0.5 * (f64::from(d) / 0.9).powi(2)).exp();
        let sum: f64 = (-2..=2).map(density).sum();
        for (at, found) in image.iter().enumerate() {
            let (plane, y, x) = (at / 63, (at % 63 / 9) as i32 - 3, (at % 9) as i32 - 4);
            let inside = plane == 1 && y.abs() <= 2 && x.abs() <= 2;
            let expected = if inside { density(y) * density(x) / sum.powi(2) } else { 0.0 };
            assert!((f64::from(*found) - expected).abs() < 1e-7, "{at}: {found} {expected}");
        }
    }

    #[test]
    fn borders_reflect_and_flat_images_stay_flat() {
        let places = |length| (0..7).map(|at| reflected(at, 2, length)).collect::<Vec<_>>();
        assert_eq!(places(3), [2, 1, 0, 1, 2, 1, 0]);
        assert_eq!(places(2), [0, 1, 0, 1, 0, 1, 0]);
        assert_eq!(places(1), [0; 7]);
        let mut flat = [0.75; 12];
        gaussian_blur(&mut flat, [3, 4], 1.5, 4);
        assert!(flat.iter().all(|v| (v - 0.75).abs() < 1e-6));
        let (before, mut after) = (wave(12), wave(12));
        gaussian_blur(&mut after, [3, 4], 1.5, 0);
        assert_eq!(before, after);
    }
}
