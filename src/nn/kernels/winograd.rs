//! 3×3 convolutions of stride 1 with four times fewer multiplications (Winograd 1980; Lavin & Gray 2016).
//!
//! F(4×4, 3×3): the image is cut into tiles of 4×4 outputs, which depend on 6×6 inputs. Inputs and weights are
//! transformed to 36 numbers each, multiplied number by number, which is a matrix product over the channels for each
//! of the 36, and transformed back. The transforms evaluate polynomials at 0, ±5/8, ±3/2 and ∞ instead of the usual
//! 0, ±1, ±2 and ∞: all coefficients are exact, and the rounding error is half (twice that of a direct sum in `f32`).
//! Gradients are the exact adjoints of the forward pass.

use faer::Accum;
use rayon::prelude::*;

use super::convolution::Onto;
use super::simd::{Element, vectorize};
use super::transforms::{
    Block, Input, InputBack, OUT, Output, OutputBack, POINTS, Weights, WeightsBack,
};
use crate::nn::host::{Matrix, multiply};

/// Tiles that a task works on at least: as many rows as keep the matrix products fast.
const TILES: usize = 64;
/// Elements of transformed images that the backward pass holds at a time.
const HELD: usize = 4 << 20;

/// The shape of a convolution: n×h×w×c to n×h×w×m.
#[derive(Clone, Copy, Debug)]
pub struct Winograd {
    pub images: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub filters: usize,
}

impl Winograd {
    /// Tells whether this pays: vectors are full, and tiles too.
    pub fn pays(&self) -> bool {
        let tiles = self.images * self.tiles();
        let filled = self.height * self.width * 10 >= self.tiles() * OUT * OUT * 6;
        // Each product must have enough rows for the transformed weights, which are read once.
        let rows = tiles >= 128;
        filled && rows && self.channels.is_multiple_of(16) && self.filters.is_multiple_of(16)
    }

    /// Tiles of an image.
    fn tiles(&self) -> usize {
        self.height.div_ceil(OUT) * self.width.div_ceil(OUT)
    }

    fn images_per_task(&self) -> usize {
        TILES.div_ceil(self.tiles()).clamp(1, self.images.div_ceil(4).max(1))
    }

    fn block(&self, channels: usize) -> Block {
        Block {
            tiles_down: self.height.div_ceil(OUT),
            tiles_across: self.width.div_ceil(OUT),
            height: self.height,
            width: self.width,
            channels,
        }
    }

    /// Elements of the transformed weights.
    pub fn weights(&self) -> usize {
        POINTS * self.channels * self.filters
    }

    /// Transforms weights m×c×3×3 to 36×c×m.
    pub fn transform_weights<T: Element>(&self, weight: &[T], transformed: &mut [T]) {
        let (c, m) = (self.channels, self.filters);
        // A task takes some channels to all 36 planes, so the planes are cut alike.
        let mut planes: Vec<_> =
            transformed.chunks_mut(c * m).map(|p| p.chunks_mut(CHANNELS * m)).collect();
        let tasks: Vec<Vec<&mut [T]>> = (0..c.div_ceil(CHANNELS))
            .map(|_| planes.iter_mut().filter_map(Iterator::next).collect())
            .collect();
        tasks.into_par_iter().enumerate().for_each(|(task, mut planes)| {
            let first = task * CHANNELS;
            let channels = CHANNELS.min(c - first);
            let mut taps = vec![T::zero(); 9 * m];
            for channel in 0..channels {
                for (filter, weights) in weight.chunks_exact(9 * c).enumerate() {
                    for (tap, w) in weights[9 * (first + channel)..][..9].iter().enumerate() {
                        taps[tap * m + filter] = *w;
                    }
                }
                vectorize(Weights { taps: &taps, planes: &mut planes, at: channel * m });
            }
        });
    }

    /// Takes the gradient of the transformed weights, 36×c×m, to that of the weights, m×c×3×3.
    pub fn weight_gradient<T: Element>(&self, transformed: &[T], gradient: &mut [T]) {
        let (c, m) = (self.channels, self.filters);
        // Filters in blocks: a task writes whole filters, and reads runs of them in the planes.
        gradient.par_chunks_mut(FILTERS * 9 * c).enumerate().for_each(|(task, gradient)| {
            let first = task * FILTERS;
            let filters = FILTERS.min(m - first);
            let mut taps = vec![T::zero(); 9 * FILTERS];
            for channel in 0..c {
                let from = WeightsBack {
                    transformed,
                    at: channel * m + first,
                    plane: c * m,
                    filters,
                    taps: &mut taps,
                };
                vectorize(from);
                for (filter, gradient) in gradient.chunks_exact_mut(9 * c).enumerate() {
                    for (tap, g) in gradient[9 * channel..][..9].iter_mut().enumerate() {
                        *g = taps[tap * FILTERS + filter];
                    }
                }
            }
        });
    }

    /// Convolves images with transformed weights.
    pub fn forward<T: Element>(&self, x: &[T], transformed: &[T], y: &mut [T]) {
        let (c, m) = (self.channels, self.filters);
        let per_task = self.images_per_task();
        let area = self.height * self.width;
        y.par_chunks_mut(per_task * area * m).zip(x.par_chunks(per_task * area * c)).for_each_init(
            || (Vec::new(), Vec::new()),
            |(v, p), (y, x)| {
                let tiles = x.len() / (area * c) * self.tiles();
                resize(v, POINTS * tiles * c);
                resize(p, POINTS * tiles * m);
                vectorize(Input { block: self.block(c), x, out: v });
                for ((v, u), p) in v
                    .chunks_exact(tiles * c)
                    .zip(transformed.chunks_exact(c * m))
                    .zip(p.chunks_exact_mut(tiles * m))
                {
                    multiply(p, Accum::Replace, Matrix::new(v, c).view(), Matrix::new(u, m).view());
                }
                vectorize(Output { block: self.block(m), products: p, y });
            },
        );
    }

    /// Writes the gradient of x, or adds it to one begun, and writes that of the transformed weights to `du`.
    pub fn backward<T: Element>(
        &self,
        x: &[T],
        transformed: &[T],
        dy: &[T],
        mut dx: Option<Onto<T>>,
        du: &mut [T],
        scratch: &mut [Vec<T>; 2],
    ) {
        let (c, m) = (self.channels, self.filters);
        let per_task = self.images_per_task();
        let area = self.height * self.width;
        let tiles = per_task * self.tiles();
        let (v_size, z_size) = (POINTS * tiles * c, POINTS * tiles * m);
        let tasks = self.images.div_ceil(per_task);
        let at_once = (HELD / (v_size + z_size)).clamp(1, tasks);
        let [v, z] = scratch;
        resize(v, at_once * v_size);
        resize(z, at_once * z_size);
        let images = at_once * per_task;
        for (part, (x, dy)) in
            x.chunks(images * area * c).zip(dy.chunks(images * area * m)).enumerate()
        {
            let tasks = (x.len() / (area * c)).div_ceil(per_task);
            let of =
                |task: usize| per_task.min(x.len() / (area * c) - task * per_task) * self.tiles();
            let (v, z) = (&mut v[..tasks * v_size], &mut z[..tasks * z_size]);
            let images = x.par_chunks(per_task * area * c).zip(dy.par_chunks(per_task * area * m));
            v.par_chunks_mut(v_size)
                .zip(z.par_chunks_mut(z_size))
                .zip(images)
                .enumerate()
                .for_each(|(task, ((v, z), (x, dy)))| {
                    vectorize(Input {
                        block: self.block(c),
                        x,
                        out: &mut v[..POINTS * of(task) * c],
                    });
                    vectorize(OutputBack {
                        block: self.block(m),
                        dy,
                        out: &mut z[..POINTS * of(task) * m],
                    });
                });
            du.par_chunks_mut(c * m).enumerate().for_each(|(point, du)| {
                for (task, (v, z)) in v.chunks(v_size).zip(z.chunks(z_size)).enumerate() {
                    let tiles = of(task);
                    let v = Matrix::new(&v[point * tiles * c..][..tiles * c], c).view();
                    let z = Matrix::new(&z[point * tiles * m..][..tiles * m], m).view();
                    let accumulate = if part + task == 0 { Accum::Replace } else { Accum::Add };
                    multiply(du, accumulate, v.transpose(), z);
                }
            });
            let Some(Onto { values, begun }) = &mut dx else { continue };
            let begun = *begun;
            let dx = &mut values[part * at_once * per_task * area * c..][..x.len()];
            let tasks = dx
                .par_chunks_mut(per_task * area * c)
                .zip(v.par_chunks_mut(v_size).zip(z.par_chunks(z_size)));
            tasks.enumerate().for_each(|(task, (dx, (v, z)))| {
                let tiles = of(task);
                let v = &mut v[..POINTS * tiles * c];
                for ((v, u), z) in v
                    .chunks_exact_mut(tiles * c)
                    .zip(transformed.chunks_exact(c * m))
                    .zip(z.chunks_exact(tiles * m))
                {
                    multiply(
                        v,
                        Accum::Replace,
                        Matrix::new(z, m).view(),
                        Matrix::new(u, m).view().transpose(),
                    );
                }
                if !begun {
                    dx.fill(T::from_f64(0.0));
                }
                vectorize(InputBack { block: self.block(c), dv: v, dx });
            });
        }
    }
}

/// Channels of a task that transforms weights, and filters of one that takes their gradient back.
const CHANNELS: usize = 8;
const FILTERS: usize = 64;

fn resize<T: Element>(buffer: &mut Vec<T>, length: usize) {
    buffer.resize(length, T::zero());
}

#[cfg(test)]
mod tests {
    use crate::nn::kernels::convolution::{Convolution, Scratch};
    use crate::rng::Streams;

    /// The rounding error of the whole layer in `f32`, in units of its deviation, stays near that of direct sums: 4.5e-7
    /// for 576 summands, against 8e-7 at these points, and 1.9e-6 at 0, ±1 and ±2.
    #[test]
    fn single_precision_loses_little() {
        let (n, size, c) = (8, 16, 64);
        let convolution = Convolution::new([n, size, size, c], &[c, c, 3, 3], 1, 1).unwrap();
        let draw = |purpose: &str, count: usize| {
            let mut values = vec![0.0; count];
            Streams::new(5, "test").stream(purpose).fill_normal(&mut values);
            values.iter().map(|v| *v as f32).collect::<Vec<f32>>()
        };
        let (x, weight) = (draw("x", n * size * size * c), draw("weight", c * c * 9));
        let mut y = vec![0f32; x.len()];
        convolution.forward(&x, &weight, &mut y, &mut Scratch::default());
        let exact = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let mut expected = vec![0f64; x.len()];
        convolution.forward(&exact(&x), &exact(&weight), &mut expected, &mut Scratch::default());
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let error = square(&mut y.iter().zip(&expected).map(|(a, b)| f64::from(*a) - b));
        let error = (error / square(&mut expected.iter().copied())).sqrt();
        assert!(error > 1e-8 && error < 1.2e-6, "{error}");
    }
}
