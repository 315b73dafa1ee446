//! Images turned and scaled on a canvas.

use crate::artifacts::images::Images;

/// Puts one image, centered, scaled by a factor and turned counterclockwise by an angle in radians, on a black square canvas.
///
/// Values between pixels are interpolated bilinearly; outside of the image all is black. The canvas has the image's
/// channels and `size` x `size` pixels. Unturned and unscaled, the image lies where [`super::canvas::place`] puts it.
pub fn place(images: &Images, index: usize, size: usize, factor: f64, angle: f64) -> Vec<f32> {
    let (height, width) = (images.height, images.width);
    let image = images.image(index);
    let top = (size as i64 - height as i64).div_euclid(2) as f64;
    let left = (size as i64 - width as i64).div_euclid(2) as f64;
    let middle = ((height - 1) as f64 / 2.0, (width - 1) as f64 / 2.0);
    let (sine, cosine) = (libm::sin(angle) / factor, libm::cos(angle) / factor);
    let mut canvas = vec![0.0; images.channels * size * size];
    for row in 0..size {
        for column in 0..size {
            // Where the canvas's pixel is in the image: back by the shift, the turn and the factor.
            let (down, right) = (row as f64 - top - middle.0, column as f64 - left - middle.1);
            let y = middle.0 + cosine * down + sine * right;
            let x = middle.1 - sine * down + cosine * right;
            for channel in 0..images.channels {
                let plane = &image[channel * height * width..][..height * width];
                canvas[(channel * size + row) * size + column] = between(plane, width, y, x);
            }
        }
    }
    canvas
}

/// Interpolates a plane at a place, black outside.
fn between(plane: &[f32], width: usize, y: f64, x: f64) -> f32 {
    let height = plane.len() / width;
    let (above, before) = (y.floor(), x.floor());
    let (down, right) = (y - above, x - before);
    let mut sum = 0.0;
    for (row, by_row) in [(above, 1.0 - down), (above + 1.0, down)] {
        for (column, by_column) in [(before, 1.0 - right), (before + 1.0, right)] {
            let inside =
                row >= 0.0 && row < height as f64 && column >= 0.0 && column < width as f64;
            if inside {
                sum +=
                    by_row * by_column * f64::from(plane[row as usize * width + column as usize]);
            }
        }
    }
    sum as f32
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;
    use crate::stages::shared::canvas;

    fn images(height: usize, width: usize) -> Images {
        let pixels = (0..2 * height * width).map(|i| (i % 7) as f32 + 1.0).collect();
        Images { count: 1, channels: 2, height, width, pixels, labels: vec![] }
    }

    #[test]
    fn unturned_images_lie_where_they_are_placed() {
        for (height, width, size) in [(3, 3, 5), (3, 4, 6), (4, 2, 4), (5, 5, 3)] {
            let images = images(height, width);
            let (warped, placed) =
                (place(&images, 0, size, 1.0, 0.0), canvas::place(&images, 0, size, (0, 0)));
            assert_eq!(warped, placed, "{height} x {width} on {size}");
        }
    }

    #[test]
    fn a_quarter_turn_moves_each_pixel_to_another() {
        let images = images(3, 3);
        let (plain, turned) =
            (canvas::place(&images, 0, 5, (0, 0)), place(&images, 0, 5, 1.0, PI / 2.0));
        for row in 0..5 {
            for column in 0..5 {
                // Counterclockwise: the right column becomes the top row.
                let (found, expected) = (turned[row * 5 + column], plain[column * 5 + 4 - row]);
                assert!((found - expected).abs() < 1e-6, "{row} {column}: {found} {expected}");
            }
        }
    }

    #[test]
    fn scaled_images_keep_their_middle_and_change_their_mass() {
        let bright = Images {
            count: 1,
            channels: 1,
            height: 9,
            width: 9,
            pixels: vec![1.0; 81],
            labels: vec![],
        };
        for factor in [0.5, 1.5, 2.0] {
            let scaled = place(&bright, 0, 25, factor, 0.3);
            assert!((scaled[12 * 25 + 12] - 1.0).abs() < 1e-6);
            // Interpolated, the image ends as a slope about its edge: its mass is that of its area.
            let mass: f32 = scaled.iter().sum();
            assert!((f64::from(mass) / (81.0 * factor * factor) - 1.0).abs() < 0.05, "{mass}");
        }
    }
}
