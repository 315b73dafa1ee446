//! Square convolutions and their gradients, as matrix products of the cheapest form that a shape allows.

use candle_core::{Result, bail};
use faer::{Accum, MatMut};
use rayon::prelude::*;

use super::simd::Element;
use super::unfold::{Axis, Unfolding};
use super::winograd::Winograd;
use crate::nn::host::{Matrix, multiply, multiply_into};

/// A convolution of images n×h×w×c with weights m×c×k×k, in torchvision's layout, to n×h'×w'×m.
#[derive(Clone, Debug)]
pub struct Convolution {
    images: usize,
    filters: usize,
    kernel: usize,
    unfolding: Unfolding,
    winograd: Option<Winograd>,
}

/// Memory that convolutions of any shape use one after the other.
#[derive(Debug)]
pub struct Scratch<T> {
    weights: Vec<T>,
    gradient: Vec<T>,
    blocks: [Vec<T>; 2],
}

/// A gradient to be written, or added to where another has begun it.
#[derive(Debug)]
pub struct Onto<'a, T> {
    pub values: &'a mut [T],
    pub begun: bool,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self { weights: Vec::new(), gradient: Vec::new(), blocks: [Vec::new(), Vec::new()] }
    }
}

/// Elements of the unfolded input that one task works on: half of a second-level cache of 1 MiB, in `f32`.
const UNFOLDED: usize = 128 * 1024;
/// Rows that a matrix product has at least: each reads all weights.
const ROWS: usize = 128;
/// Elements of all partial weight gradients together, beyond which fewer tasks share the images.
const PARTIALS: usize = 1 << 20;
/// Rows or columns of a block of a large product of matrices.
const SIDE: usize = 512;

impl Convolution {
    /// Lays weights m×c×k×k or m×c over images n×h×w×c. Fails if the shapes do not fit.
    pub fn new(x: [usize; 4], weight: &[usize], stride: usize, padding: usize) -> Result<Self> {
        let [images, height, width, channels] = x;
        let (filters, c, kernel) = match *weight {
            [m, c] => (m, c, 1),
            [m, c, k, l] if k == l && k > 0 => (m, c, k),
            _ => bail!("convolution with weights {weight:?}: expected m×c×k×k or m×c"),
        };
        if c != channels || height.min(width) + 2 * padding < kernel || height * width * c == 0 {
            bail!("convolution of {x:?} with {weight:?}, padding {padding}: shapes do not fit")
        }
        let rows = Axis::new(height, kernel, stride, padding);
        let columns = Axis::new(width, kernel, stride, padding);
        let winograd = Winograd { images, height, width, channels, filters };
        let fits = kernel == 3 && stride == 1 && padding == 1 && winograd.pays();
        let unfolding = Unfolding { rows, columns, channels };
        Ok(Self { images, filters, kernel, unfolding, winograd: fits.then_some(winograd) })
    }

    /// The shape of the result.
    pub fn out(&self) -> [usize; 4] {
        [self.images, self.unfolding.rows.out, self.unfolding.columns.out, self.filters]
    }

    /// Convolves.
    pub fn forward<T: Element>(
        &self,
        x: &[T],
        weight: &[T],
        y: &mut [T],
        scratch: &mut Scratch<T>,
    ) {
        if let Some(winograd) = &self.winograd {
            let weights = sized(&mut scratch.weights, winograd.weights());
            winograd.transform_weights(weight, weights);
            return winograd.forward(x, weights, y);
        }
        let weight = self.reordered(weight, &mut scratch.weights);
        let row = self.unfolding.row();
        let weight = Matrix::new(weight, row);
        if self.unfolding.is_identity() {
            return product(y, self.filters, Accum::Replace, Matrix::new(x, row), weight, true);
        }
        let (per_task, pixels) = (self.images_per_task(), self.unfolding.pixels());
        let tasks = y
            .par_chunks_mut(per_task * pixels * self.filters)
            .zip(x.par_chunks(per_task * self.unfolding.image()));
        tasks.for_each_init(Vec::new, |unfolded, (y, x)| {
            let x = Matrix::new(self.unfolding.unfold(x, unfolded), row);
            multiply(y, Accum::Replace, x.view(), weight.view().transpose());
        });
    }

    /// Writes the gradient of the weights, and writes that of the images or adds it to one begun.
    pub fn backward<T: Element>(
        &self,
        x: &[T],
        weight: &[T],
        dy: &[T],
        dx: Option<Onto<T>>,
        d_weight: &mut [T],
        scratch: &mut Scratch<T>,
    ) {
        if let Some(winograd) = &self.winograd {
            let Scratch { weights, gradient, blocks } = scratch;
            let weights = sized(weights, winograd.weights());
            winograd.transform_weights(weight, weights);
            let gradient = sized(gradient, winograd.weights());
            winograd.backward(x, weights, dy, dx, gradient, blocks);
            return winograd.weight_gradient(gradient, d_weight);
        }
        self.weight_gradient(x, dy, d_weight, &mut scratch.gradient);
        if let Some(dx) = dx {
            self.input_gradient(self.reordered(weight, &mut scratch.weights), dy, dx);
        }
    }

    /// Images of one task: by shape alone, so that the order of no sum depends on the threads.
    fn images_per_task(&self) -> usize {
        let pixels = self.unfolding.pixels();
        let cached = UNFOLDED / (pixels * self.unfolding.row());
        cached.max(ROWS.div_ceil(pixels)).clamp(1, self.images.div_ceil(4).max(1))
    }

    fn input_gradient<T: Element>(&self, weight: &[T], dy: &[T], dx: Onto<T>) {
        let Onto { values, begun } = dx;
        let row = self.unfolding.row();
        let weight = Matrix::new(weight, row);
        if self.unfolding.is_identity() {
            let accumulate = if begun { Accum::Add } else { Accum::Replace };
            return product(values, row, accumulate, Matrix::new(dy, self.filters), weight, false);
        }
        let (per_task, pixels) = (self.images_per_task(), self.unfolding.pixels());
        let tasks = values
            .par_chunks_mut(per_task * self.unfolding.image())
            .zip(dy.par_chunks(per_task * pixels * self.filters));
        tasks.for_each_init(Vec::new, |unfolded: &mut Vec<T>, (dx, dy)| {
            let dy = Matrix::new(dy, self.filters);
            let unfolded = sized(unfolded, dy.rows * row);
            multiply(unfolded, Accum::Replace, dy.view(), weight.view());
            if !begun {
                dx.fill(T::from_f64(0.0));
            }
            self.unfolding.fold(unfolded, dx);
        });
    }

    fn weight_gradient<T: Element>(
        &self,
        x: &[T],
        dy: &[T],
        d_weight: &mut [T],
        sums: &mut Vec<T>,
    ) {
        let (filters, row) = (self.filters, self.unfolding.row());
        let size = filters * row;
        let whole = row == d_weight.len() / filters;
        if self.unfolding.is_identity() && size > PARTIALS / 4 {
            let sum = if whole { &mut *d_weight } else { sized(sums, size) };
            let (x, dy) = (Matrix::new(x, row).view(), Matrix::new(dy, filters).view());
            sum.par_chunks_mut(SIDE / 4 * row).enumerate().for_each(|(i, sum)| {
                let dy = dy.subcols(i * SIDE / 4, sum.len() / row);
                multiply(sum, Accum::Replace, dy.transpose(), x);
            });
            if !whole {
                self.restore(&sums[..size], d_weight);
            }
            return;
        }
        let (per_task, pixels) = (self.images_per_task(), self.unfolding.pixels());
        let tasks = self.images.div_ceil(per_task).max(1);
        let groups = tasks.min((PARTIALS / size).clamp(4, 16));
        let per_group = tasks.div_ceil(groups) * per_task;
        let sums = sized(sums, self.images.div_ceil(per_group).max(1) * size);
        let images = x
            .par_chunks(per_group * self.unfolding.image())
            .zip(dy.par_chunks(per_group * pixels * filters));
        sums.par_chunks_mut(size).zip(images).for_each_init(
            Vec::new,
            |unfolded, (sum, (x, dy))| {
                let parts = x.chunks(per_task * self.unfolding.image());
                for (i, (x, dy)) in parts.zip(dy.chunks(per_task * pixels * filters)).enumerate() {
                    let x = if self.unfolding.is_identity() {
                        x
                    } else {
                        self.unfolding.unfold(x, unfolded)
                    };
                    let accumulate = if i == 0 { Accum::Replace } else { Accum::Add };
                    let dy = Matrix::new(dy, filters).view();
                    multiply(sum, accumulate, dy.transpose(), Matrix::new(x, row).view());
                }
            },
        );
        let (total, others) = sums.split_at_mut(size);
        total.par_chunks_mut(UNFOLDED / 8).enumerate().for_each(|(i, total)| {
            for group in others.chunks(size) {
                for (t, g) in total.iter_mut().zip(&group[i * UNFOLDED / 8..]) {
                    *t += *g;
                }
            }
        });
        self.restore(total, d_weight);
    }

    /// Brings weights from m×c×k×k to rows of (kept tap, channel), as the unfolded input has them.
    fn reordered<'a, T: Element>(&self, weight: &'a [T], into: &'a mut Vec<T>) -> &'a [T] {
        if self.kernel == 1 {
            return weight;
        }
        let row = self.unfolding.row();
        let into = sized(into, self.filters * row);
        let per_filter = weight.len() / self.filters;
        into.par_chunks_mut(row).zip(weight.par_chunks(per_filter)).for_each(|(into, weight)| {
            self.unfolding.reorder(self.kernel, weight, into);
        });
        into
    }

    /// The inverse of [`Self::reordered`]; taps that were left out have gradient 0.
    fn restore<T: Element>(&self, reordered: &[T], weight: &mut [T]) {
        let (row, per_filter) = (self.unfolding.row(), weight.len() / self.filters);
        weight.par_chunks_mut(per_filter).zip(reordered.par_chunks(row)).for_each(
            |(weight, from)| {
                if row < per_filter {
                    weight.fill(T::from_f64(0.0));
                }
                self.unfolding.restore(self.kernel, from, weight);
            },
        );
    }
}

/// Writes or adds left · right, or left · rightᵀ, to a row-major matrix of some columns, in blocks on all threads.
fn product<T: Element>(
    out: &mut [T],
    columns: usize,
    accumulate: Accum,
    left: Matrix<T>,
    right: Matrix<T>,
    transposed: bool,
) {
    let right = if transposed { right.view().transpose() } else { right.view() };
    if left.rows > columns {
        let rows = SIDE.min(left.rows.div_ceil(16)).max(16);
        out.par_chunks_mut(rows * columns).enumerate().for_each(|(i, out)| {
            let left = left.view().subrows(i * rows, out.len() / columns);
            multiply(out, accumulate, left, right);
        });
    } else {
        let out = MatMut::from_row_major_slice_mut(out, left.rows, columns);
        let width = SIDE.min(columns.div_ceil(16)).max(16);
        out.par_col_chunks_mut(width).enumerate().for_each(|(i, out)| {
            let right = right.subcols(i * width, out.ncols());
            multiply_into(out, accumulate, left.view(), right);
        });
    }
}

/// Makes a buffer long enough, and yields as much of it as is needed; what it holds is undefined.
fn sized<T: Element>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    if buffer.len() < length {
        buffer.resize(length, T::from_f64(0.0));
    }
    &mut buffer[..length]
}
