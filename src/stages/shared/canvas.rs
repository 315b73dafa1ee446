//! Images moved on a canvas.

use crate::artifacts::images::Images;

/// Puts one image, centered and then shifted by whole pixels, on a black square canvas; what leaves it is lost.
///
/// `shift` is (down, right). The canvas has the image's channels and `size` x `size` pixels.
pub fn place(images: &Images, index: usize, size: usize, shift: (i64, i64)) -> Vec<f32> {
    let mut canvas = vec![0.0; images.channels * size * size];
    draw(images, index, size, shift, &mut canvas);
    canvas
}

/// The same on a canvas that is black already.
pub fn draw(images: &Images, index: usize, size: usize, shift: (i64, i64), canvas: &mut [f32]) {
    let (height, width) = (images.height, images.width);
    let image = images.image(index);
    let top = (size as i64 - height as i64).div_euclid(2) + shift.0;
    let left = (size as i64 - width as i64).div_euclid(2) + shift.1;
    for channel in 0..images.channels {
        for y in 0..height {
            for x in 0..width {
                let (row, column) = (top + y as i64, left + x as i64);
                let inside = 0..size as i64;
                if inside.contains(&row) && inside.contains(&column) {
                    let to = (channel * size + row as usize) * size + column as usize;
                    canvas[to] = image[(channel * height + y) * width + x];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_centered_shifted_and_cut() {
        let images = Images {
            count: 1,
            channels: 1,
            height: 2,
            width: 2,
            pixels: vec![1.0, 2.0, 3.0, 4.0],
            labels: vec![],
        };
        let expect = |shift, expected: [f32; 16]| assert_eq!(place(&images, 0, 4, shift), expected);
        expect((0, 0), [0., 0., 0., 0., 0., 1., 2., 0., 0., 3., 4., 0., 0., 0., 0., 0.]);
        expect((-1, 1), [0., 0., 1., 2., 0., 0., 3., 4., 0., 0., 0., 0., 0., 0., 0., 0.]);
        expect((2, 0), [0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 1., 2., 0.]);
        expect((9, 9), [0.0; 16]);
    }
}
