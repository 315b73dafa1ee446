//! Batch normalization over the last axis, with the residual sum and the `ReLU` that follow it.

use rayon::prelude::*;

use super::simd::{Element, vectorize};

/// Added to the variance before the root; `PyTorch`'s default.
pub const EPSILON: f64 = 1e-5;
/// Rows of a partial sum: fixed, so that the order of a sum depends on the shape alone.
const BLOCK: usize = 256;

/// Computes the mean and the biased variance of each of `c` channels.
///
/// Two passes over blocks of rows, which are merged in order (Chan et al. 1983).
pub fn moments<T: Element>(x: &[T], c: usize) -> (Vec<f64>, Vec<f64>) {
    let blocks: Vec<_> = x
        .par_chunks(BLOCK * c)
        .map(|x| {
            let (mut mean, mut square) = (vec![zero::<T>(); c], vec![zero::<T>(); c]);
            vectorize(
                #[inline(always)]
                || block_moments(x, &mut mean, &mut square),
            );
            ((x.len() / c) as f64, mean, square)
        })
        .collect();
    let (mut rows, mut mean, mut square) = (0.0, vec![0.0; c], vec![0.0; c]);
    for (n, block_mean, block_square) in blocks {
        let total = rows + n;
        for i in 0..c {
            let difference = block_mean[i].to_f64() - mean[i];
            mean[i] += difference * n / total;
            square[i] += block_square[i].to_f64() + difference * difference * rows * n / total;
        }
        rows = total;
    }
    for s in &mut square {
        *s /= rows;
    }
    (mean, square)
}

#[inline(always)]
fn block_moments<T: Element>(x: &[T], mean: &mut [T], square: &mut [T]) {
    let c = mean.len();
    let square = &mut square[..c];
    for row in x.chunks_exact(c) {
        for i in 0..c {
            mean[i] += row[i];
        }
    }
    let scale = T::from_f64(c as f64 / x.len() as f64);
    for m in mean.iter_mut() {
        *m *= scale;
    }
    for row in x.chunks_exact(c) {
        for i in 0..c {
            let difference = row[i] - mean[i];
            square[i] += difference * difference;
        }
    }
}

/// What becomes of the gradient that a `ReLU` passes.
#[derive(Debug)]
pub enum Passed<'a, T> {
    /// It is left in dy.
    Left,
    /// And it is added to another gradient.
    Added(&'a mut [T]),
}

/// Normalization by a mean and a variance of each channel.
#[derive(Clone, Debug)]
pub struct Normalization {
    mean: Vec<f64>,
    inverse_deviation: Vec<f64>,
    relu: bool,
}

impl Normalization {
    /// Takes each channel's mean and biased variance, and whether a `ReLU` follows.
    pub fn new(mean: Vec<f64>, variance: &[f64], relu: bool) -> Self {
        let inverse_deviation = variance.iter().map(|v| 1.0 / (v + EPSILON).sqrt()).collect();
        Self { mean, inverse_deviation, relu }
    }

    /// Normalizes, adds the residual, and activates. NaN stays NaN.
    pub fn forward<T: Element>(
        &self,
        x: &[T],
        weight: &[T],
        bias: &[T],
        residual: Option<&[T]>,
        y: &mut [T],
    ) {
        let c = self.mean.len();
        let (scale, shift) = self.affine(weight, bias);
        y.par_chunks_mut(BLOCK * c).enumerate().for_each(|(block, y)| {
            let start = block * BLOCK * c;
            let x = &x[start..][..y.len()];
            let residual = residual.map(|r| &r[start..][..y.len()]);
            vectorize(
                #[inline(always)]
                || {
                    let places = (&scale[..c], &shift[..c]);
                    match (residual, self.relu) {
                        (None, false) => apply::<T, false, false>(x, x, places, y),
                        (None, true) => apply::<T, false, true>(x, x, places, y),
                        (Some(r), false) => apply::<T, true, false>(x, r, places, y),
                        (Some(r), true) => apply::<T, true, true>(x, r, places, y),
                    }
                },
            );
        });
    }

    /// Each channel's factor and summand.
    fn affine<T: Element>(&self, weight: &[T], bias: &[T]) -> (Vec<T>, Vec<T>) {
        let c = self.mean.len();
        let scale: Vec<f64> =
            (0..c).map(|i| weight[i].to_f64() * self.inverse_deviation[i]).collect();
        let shift =
            (0..c).map(|i| T::from_f64(bias[i].to_f64() - self.mean[i] * scale[i])).collect();
        (scale.iter().map(|s| T::from_f64(*s)).collect(), shift)
    }

    /// Overwrites x by its gradient, given that of y, and yields those of weight and bias.
    ///
    /// The statistics are taken to be those of x itself. `y` is what came out; without a `ReLU` it is not looked at.
    /// What the `ReLU` passes is the gradient of the residual: `passed` says what becomes of it.
    pub fn backward<T: Element>(
        &self,
        x: &mut [T],
        weight: &[T],
        y: &[T],
        dy: &mut [T],
        passed: Passed<T>,
    ) -> (Vec<f64>, Vec<f64>) {
        let c = self.mean.len();
        let (d_weight, d_bias) = self.channel_sums(x, y, dy);
        // dx = w/σ · (dy − mean(dy) − x̂ · mean(dy · x̂)), which is a·dy + b·x + e a channel.
        let rows = (x.len() / c) as f64;
        let coefficient =
            |f: &dyn Fn(usize) -> f64| -> Vec<T> { (0..c).map(|i| T::from_f64(f(i))).collect() };
        let gain = |i: usize| weight[i].to_f64() * self.inverse_deviation[i];
        let slope = |i: usize| -gain(i) * self.inverse_deviation[i] * d_weight[i] / rows;
        let (a, b) = (coefficient(&gain), coefficient(&slope));
        let e = coefficient(&|i| -gain(i) * d_bias[i] / rows - slope(i) * self.mean[i]);
        let tasks = x.par_chunks_mut(BLOCK * c).zip(dy.par_chunks(BLOCK * c));
        let input = |x: &mut [T], dy: &[T]| {
            vectorize(
                #[inline(always)]
                || input(x, [&a[..c], &b[..c], &e[..c]], dy),
            );
        };
        match passed {
            Passed::Left => tasks.for_each(|(x, dy)| input(x, dy)),
            Passed::Added(sum) => {
                tasks.zip(sum.par_chunks_mut(BLOCK * c)).for_each(|((x, dy), sum)| {
                    input(x, dy);
                    vectorize(
                        #[inline(always)]
                        || sum.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += *dy),
                    );
                });
            }
        }
        (d_weight, d_bias)
    }

    /// Leaves of dy what the `ReLU` passes, and sums it, times the normalized x and alone, over each channel.
    fn channel_sums<T: Element>(&self, x: &[T], y: &[T], dy: &mut [T]) -> (Vec<f64>, Vec<f64>) {
        let c = self.mean.len();
        let mean: Vec<T> = self.mean.iter().map(|m| T::from_f64(*m)).collect();
        let block = |(block, (dy, x)): (usize, (&mut [T], &[T]))| {
            let (mut sum, mut product) = (vec![zero::<T>(); c], vec![zero::<T>(); c]);
            vectorize(
                #[inline(always)]
                || {
                    if self.relu {
                        stop(&y[block * BLOCK * c..], dy);
                    }
                    sums(x, dy, &mean[..c], (&mut sum[..c], &mut product[..c]));
                },
            );
            (sum, product)
        };
        let blocks = dy.par_chunks_mut(BLOCK * c).zip(x.par_chunks(BLOCK * c)).enumerate();
        let (mut d_weight, mut d_bias) = (vec![0.0; c], vec![0.0; c]);
        for (sum, product) in blocks.map(block).collect::<Vec<_>>() {
            for i in 0..c {
                d_bias[i] += sum[i].to_f64();
                d_weight[i] += product[i].to_f64() * self.inverse_deviation[i];
            }
        }
        (d_weight, d_bias)
    }
}

fn zero<T: Element>() -> T {
    T::from_f64(0.0)
}

#[inline(always)]
fn apply<T: Element, const RESIDUAL: bool, const RELU: bool>(
    x: &[T],
    residual: &[T],
    (scale, shift): (&[T], &[T]),
    y: &mut [T],
) {
    let c = scale.len();
    let shift = &shift[..c];
    for ((y, x), r) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(residual.chunks_exact(c)) {
        for i in 0..c {
            let mut value = x[i] * scale[i] + shift[i];
            if RESIDUAL {
                value += r[i];
            }
            // Not `value > 0`, which is false of NaN and would turn it into 0.
            y[i] = if RELU && value < zero() { zero() } else { value };
        }
    }
}

#[inline(always)]
fn sums<T: Element>(x: &[T], dy: &[T], mean: &[T], (sum, product): (&mut [T], &mut [T])) {
    let c = mean.len();
    let (sum, product) = (&mut sum[..c], &mut product[..c]);
    for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
        for i in 0..c {
            sum[i] += dy[i];
            product[i] += dy[i] * (x[i] - mean[i]);
        }
    }
}

/// Leaves of a gradient what the `ReLU` passes.
#[inline(always)]
fn stop<T: Element>(y: &[T], dy: &mut [T]) {
    for (dy, y) in dy.iter_mut().zip(y) {
        *dy = if *y > zero() { *dy } else { zero() };
    }
}

#[inline(always)]
fn input<T: Element>(x: &mut [T], [a, b, e]: [&[T]; 3], dy: &[T]) {
    let c = a.len();
    let (b, e) = (&b[..c], &e[..c]);
    for (x, dy) in x.chunks_exact_mut(c).zip(dy.chunks_exact(c)) {
        for i in 0..c {
            x[i] = a[i] * dy[i] + b[i] * x[i] + e[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    #[test]
    fn moments_keep_their_digits_far_from_zero() {
        let mut values = vec![0.0; 3000 * 8];
        Streams::new(5, "test").stream("x").fill_normal(&mut values);
        let far: Vec<f32> = values.iter().map(|v| (v + 1000.0) as f32).collect();
        let exact: Vec<f64> = far.iter().map(|v| f64::from(*v)).collect();
        // One part in 1e7 of the mean against a deviation of 1, averaged over many rows.
        for (found, expected) in moments(&far, 8).1.iter().zip(moments(&exact, 8).1) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }
}
