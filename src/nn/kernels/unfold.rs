//! Patches of images as rows of a matrix: what turns a convolution into a matrix product.

use std::ops::Range;

use super::simd::Element;

/// One axis of the image: output position `o` meets input `o·stride + tap − padding` at each kept tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    pub size: usize,
    pub out: usize,
    /// Kernel positions that meet the image at some output position; the others see padding only.
    pub taps: Range<usize>,
    pub stride: usize,
    pub padding: usize,
}

impl Axis {
    /// Lays a kernel along an axis. `size + 2·padding ≥ kernel` must hold.
    pub fn new(size: usize, kernel: usize, stride: usize, padding: usize) -> Self {
        let out = (size + 2 * padding - kernel) / stride + 1;
        let meets =
            |tap: &usize| (0..out).any(|o| (padding..padding + size).contains(&(o * stride + tap)));
        let first = (0..kernel).find(meets).unwrap_or(0);
        let last = (0..kernel).rev().find(meets).unwrap_or(kernel - 1);
        Self { size, out, taps: first..last + 1, stride, padding }
    }

    /// Tells whether each output is the input at its place: one tap, and no step.
    pub fn is_identity(&self) -> bool {
        self.taps.len() == 1
            && self.out == self.size
            && self.taps.start == self.padding
            && (self.stride == 1 || self.size == 1)
    }

    /// Taps of an output position that lie inside the image, as a range of padded inputs.
    fn inside(&self, position: usize) -> Range<usize> {
        let start = position * self.stride + self.taps.start;
        let end = position * self.stride + self.taps.end;
        start.max(self.padding)..end.min(self.padding + self.size)
    }
}

/// How images n×h×w×c unfold to rows: (image, output pixel) × (kept tap, channel).
#[derive(Clone, Debug)]
pub struct Unfolding {
    pub rows: Axis,
    pub columns: Axis,
    pub channels: usize,
}

impl Unfolding {
    /// Length of an unfolded row: kept taps times channels.
    pub fn row(&self) -> usize {
        self.rows.taps.len() * self.columns.taps.len() * self.channels
    }

    /// Output pixels of one image.
    pub fn pixels(&self) -> usize {
        self.rows.out * self.columns.out
    }

    /// Elements of one image.
    pub fn image(&self) -> usize {
        self.rows.size * self.columns.size * self.channels
    }

    /// Tells whether the images are their own rows.
    pub fn is_identity(&self) -> bool {
        self.rows.is_identity() && self.columns.is_identity()
    }

    /// Lays out images as rows.
    ///
    /// `unfolded` is empty or was used by this unfolding before: its zeros, for the padding, lie at the same places.
    pub fn unfold<'a, T: Element>(&self, x: &[T], unfolded: &'a mut Vec<T>) -> &'a [T] {
        let images = x.len() / self.image();
        let length = images * self.pixels() * self.row();
        if unfolded.len() < length {
            unfolded.resize(length, T::from_f64(0.0));
        }
        self.for_each_run(images, |to, from, length| {
            unfolded[to..to + length].copy_from_slice(&x[from..from + length]);
        });
        &unfolded[..length]
    }

    /// The adjoint of [`Self::unfold`]: adds rows to images.
    pub fn fold<T: Element>(&self, unfolded: &[T], dx: &mut [T]) {
        self.for_each_run(dx.len() / self.image(), |from, to, length| {
            for (d, u) in dx[to..to + length].iter_mut().zip(&unfolded[from..from + length]) {
                *d += *u;
            }
        });
    }

    /// Calls `f` with each run of elements that lie together both in unfolded rows and in the images: where it begins
    /// there, where it begins here, and its length.
    fn for_each_run(&self, images: usize, mut f: impl FnMut(usize, usize, usize)) {
        let (rows, columns, c) = (&self.rows, &self.columns, self.channels);
        let (tap_row, line) = (columns.taps.len() * c, columns.size * c);
        let mut unfolded = 0;
        for image in 0..images {
            for out_row in 0..rows.out {
                let met_rows = rows.inside(out_row);
                let first_row = out_row * rows.stride + rows.taps.start;
                for out_column in 0..columns.out {
                    let met = columns.inside(out_column);
                    let first_column = out_column * columns.stride + columns.taps.start;
                    if !met.is_empty() {
                        for row in met_rows.clone() {
                            let to = unfolded
                                + (row - first_row) * tap_row
                                + (met.start - first_column) * c;
                            let from = image * self.image()
                                + (row - rows.padding) * line
                                + (met.start - columns.padding) * c;
                            f(to, from, met.len() * c);
                        }
                    }
                    unfolded += self.row();
                }
            }
        }
    }

    /// Brings one filter's weights from c×k×k, for a kernel of k×k, to the order of an unfolded row.
    pub fn reorder<T: Element>(&self, kernel: usize, weight: &[T], reordered: &mut [T]) {
        for (tap, to) in self.kept(kernel).zip(reordered.chunks_exact_mut(self.channels)) {
            let from = weight[tap..].iter().step_by(kernel * kernel);
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
        }
    }

    /// The inverse of [`Self::reorder`]. Taps that were left out are not written.
    pub fn restore<T: Element>(&self, kernel: usize, reordered: &[T], weight: &mut [T]) {
        for (tap, from) in self.kept(kernel).zip(reordered.chunks_exact(self.channels)) {
            let to = weight[tap..].iter_mut().step_by(kernel * kernel);
            for (to, from) in to.zip(from) {
                *to = *from;
            }
        }
    }

    /// The places of the kept taps in a kernel of k×k, in order.
    fn kept(&self, kernel: usize) -> impl Iterator<Item = usize> {
        let rows = self.rows.taps.clone();
        rows.flat_map(move |row| self.columns.taps.clone().map(move |column| row * kernel + column))
    }
}
