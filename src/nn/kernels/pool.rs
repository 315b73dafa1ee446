//! The 3×3 max pool of stride 2 and padding 1 that ends a `ResNet`'s stem, and the average over an image.

use rayon::prelude::*;

use super::simd::{Element, vectorize};

/// Overlapping windows over images n×h×w×c, which give n×⌈h/2⌉×⌈w/2⌉×c.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    rows: usize,
    columns: usize,
    channels: usize,
}

impl Windows {
    /// Lays the windows over images of a shape.
    pub fn new([_, rows, columns, channels]: [usize; 4]) -> Self {
        Self { rows, columns, channels }
    }

    /// Rows, columns and channels of the result.
    pub fn out(&self) -> [usize; 3] {
        [self.rows.div_ceil(2), self.columns.div_ceil(2), self.channels]
    }

    fn image(&self) -> usize {
        self.rows * self.columns * self.channels
    }

    /// Takes the maximum of each window. NaN is the largest.
    pub fn maxima<T: Element>(&self, x: &[T], y: &mut [T]) {
        let c = self.channels;
        let out_image = self.out().iter().product::<usize>();
        y.par_chunks_mut(out_image).zip(x.par_chunks(self.image())).for_each(|(y, x)| {
            vectorize(
                #[inline(always)]
                || {
                    y.fill(T::from_f64(f64::NEG_INFINITY));
                    self.for_each_meeting(
                        #[inline(always)]
                        |out, at| {
                            for (y, x) in y[out..out + c].iter_mut().zip(&x[at..at + c]) {
                                *y = if *x > *y || x.is_undefined() { *x } else { *y };
                            }
                        },
                    );
                },
            );
        });
    }

    /// Adds the gradient of x: that of a window goes to its first maximum, as `PyTorch` has it. `dy` is used up.
    pub fn gradient<T: Element>(&self, x: &[T], y: &[T], dy: &mut [T], dx: &mut [T]) {
        let c = self.channels;
        let out_image = self.out().iter().product::<usize>();
        let images = x.par_chunks(self.image()).zip(y.par_chunks(out_image));
        let images = images.zip(dy.par_chunks_mut(out_image));
        dx.par_chunks_mut(self.image()).zip(images).for_each(|(dx, ((x, y), dy))| {
            vectorize(
                #[inline(always)]
                || {
                    // What a window has yet to give: all of dy before its first maximum, nothing after.
                    self.for_each_meeting(
                        #[inline(always)]
                        |out, at| {
                            let windows = y[out..out + c].iter().zip(&mut dy[out..out + c]);
                            let inputs = dx[at..at + c].iter_mut().zip(&x[at..at + c]);
                            for ((dx, x), (y, left)) in inputs.zip(windows) {
                                let (all, met) = (*left, *x == *y);
                                *dx += if met { all } else { T::from_f64(0.0) };
                                *left = if met { T::from_f64(0.0) } else { all };
                            }
                        },
                    );
                },
            );
        });
    }

    /// Calls `f` with the start of each output pixel and of each input pixel of its window, in scan order.
    #[inline(always)]
    fn for_each_meeting(&self, mut f: impl FnMut(usize, usize)) {
        let [out_rows, out_columns, _] = self.out();
        for out_row in 0..out_rows {
            for out_column in 0..out_columns {
                let out = (out_row * out_columns + out_column) * self.channels;
                for row in (2 * out_row).saturating_sub(1)..(2 * out_row + 2).min(self.rows) {
                    let columns =
                        (2 * out_column).saturating_sub(1)..(2 * out_column + 2).min(self.columns);
                    for column in columns {
                        f(out, (row * self.columns + column) * self.channels);
                    }
                }
            }
        }
    }
}

/// Averages n×(pixels)×c over the pixels.
pub fn average<T: Element>(x: &[T], pixels: usize, c: usize, y: &mut [T]) {
    let scale = T::from_f64(1.0 / pixels as f64);
    y.par_chunks_mut(c).zip(x.par_chunks(pixels * c)).for_each(|(y, x)| {
        y.fill(T::from_f64(0.0));
        for pixel in x.chunks_exact(c) {
            for (y, x) in y.iter_mut().zip(pixel) {
                *y += *x;
            }
        }
        for y in y {
            *y *= scale;
        }
    });
}

/// Adds the gradient of x, given that of the average.
pub fn average_gradient<T: Element>(dy: &[T], pixels: usize, c: usize, dx: &mut [T]) {
    let scale = T::from_f64(1.0 / pixels as f64);
    dx.par_chunks_mut(pixels * c).zip(dy.par_chunks(c)).for_each(|(dx, dy)| {
        for pixel in dx.chunks_exact_mut(c) {
            for (dx, dy) in pixel.iter_mut().zip(dy) {
                *dx += *dy * scale;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_maxima_takes_the_gradient() {
        let windows = Windows::new([1, 2, 2, 1]);
        let (mut y, mut dx) = ([1.0f32], [0.0; 4]);
        windows.maxima(&[0.0; 4], &mut y);
        windows.gradient(&[0.0; 4], &y, &mut [1.0], &mut dx);
        assert_eq!((y, dx), ([0.0], [1.0, 0.0, 0.0, 0.0]));
    }

    #[test]
    fn nan_is_not_lost() {
        let mut y = [0.0];
        Windows::new([1, 2, 2, 1]).maxima(&[1.0, f64::NAN, 2.0, 3.0], &mut y);
        assert!(y[0].is_nan());
    }
}
