//! Products of a small matrix with the features of a block of samples.
//!
//! Features lie feature by feature: entry `s` of feature `f` is `features[f * samples + s]`, with `samples` a multiple
//! of [`LANES`]. The loops run over samples in vector registers as wide as the processor has (dispatched by `pulp`,
//! which faer brings along), but without fused multiply-add and in an order fixed by the shapes, so that the results
//! have the same bits on every machine.
#![expect(
    clippy::inline_always,
    reason = "the loops must be compiled inside the dispatched function"
)]

use std::array;

use faer::traits::pulp::{Arch, NullaryFnOnce};

/// What the number of samples of a block is a multiple of.
pub const LANES: usize = 8;

/// Partial sums of an inner product over samples.
const SUM_LANES: usize = 4;

/// A matrix of weights, or its transpose, as a strided view.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    values: &'a [f64],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Weights<'a> {
    /// Views a row-major `rows` x `columns` matrix.
    pub fn new(values: &'a [f64], rows: usize, columns: usize) -> Self {
        debug_assert_eq!(values.len(), rows * columns, "a matrix has rows x columns entries");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Views the transpose.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    #[inline(always)]
    fn starting_at(self, row: usize) -> &'a [f64] {
        &self.values[row * self.row_stride..]
    }
}

/// Adds `weights` times `features` to `out`, which has one feature a row of the matrix.
pub fn add_product(weights: Weights, features: &[f64], out: &mut [f64], samples: usize) {
    debug_assert_eq!(features.len(), weights.columns * samples, "one feature a column");
    debug_assert_eq!(out.len(), weights.rows * samples, "one result a row");
    Arch::new().dispatch(Product { weights, features, out, samples });
}

struct Product<'a> {
    weights: Weights<'a>,
    features: &'a [f64],
    out: &'a mut [f64],
    samples: usize,
}

impl NullaryFnOnce for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { weights, features, out, samples } = self;
        let mut row = 0;
        while row < weights.rows {
            let (values, out) = (weights.starting_at(row), &mut out[row * samples..]);
            match weights.rows - row {
                1 => product_rows::<1>(weights, values, features, out, samples, &mut row),
                2 | 3 => product_rows::<2>(weights, values, features, out, samples, &mut row),
                _ => product_rows::<4>(weights, values, features, out, samples, &mut row),
            }
        }
    }
}

/// Computes `R` rows of a product, whose weights begin at `values`.
#[inline(always)]
fn product_rows<const R: usize>(
    weights: Weights,
    values: &[f64],
    features: &[f64],
    out: &mut [f64],
    samples: usize,
    row: &mut usize,
) {
    for start in (0..samples).step_by(LANES) {
        let mut sums: [[f64; LANES]; R] = array::from_fn(|r| lanes(out, r * samples + start));
        for column in 0..weights.columns {
            let feature: [f64; LANES] = lanes(features, column * samples + start);
            for (r, sums) in sums.iter_mut().enumerate() {
                let weight = values[r * weights.row_stride + column * weights.column_stride];
                for (sum, feature) in sums.iter_mut().zip(feature) {
                    *sum += weight * feature;
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            out[r * samples + start..][..LANES].copy_from_slice(sums);
        }
    }
    *row += R;
}

#[inline(always)]
fn lanes<const N: usize>(values: &[f64], start: usize) -> [f64; N] {
    let mut lanes = [0.0; N];
    lanes.copy_from_slice(&values[start..start + N]);
    lanes
}

/// Adds the sum over samples of `left` times `right` to the row-major matrix `out` (features of left x of right).
pub fn add_outer(left: &[f64], right: &[f64], out: &mut [f64], samples: usize) {
    debug_assert_eq!(
        out.len() * samples * samples,
        left.len() * right.len(),
        "one entry a pair of features"
    );
    Arch::new().dispatch(Outer { left, right, out, samples });
}

struct Outer<'a> {
    left: &'a [f64],
    right: &'a [f64],
    out: &'a mut [f64],
    samples: usize,
}

impl NullaryFnOnce for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { left, right, out, samples } = self;
        let (rows, columns) = (left.len() / samples, right.len() / samples);
        let mut row = 0;
        while row < rows {
            let height = if rows - row >= 4 { 4 } else { 1 };
            let left = &left[row * samples..];
            let mut column = 0;
            while column < columns {
                let width = if columns - column >= 4 { 4 } else { 1 };
                let right = &right[column * samples..];
                let out = &mut out[row * columns + column..];
                match (height, width) {
                    (4, 4) => outer_tile::<4, 4>(left, right, out, columns, samples),
                    (4, _) => outer_tile::<4, 1>(left, right, out, columns, samples),
                    (_, 4) => outer_tile::<1, 4>(left, right, out, columns, samples),
                    _ => outer_tile::<1, 1>(left, right, out, columns, samples),
                }
                column += width;
            }
            row += height;
        }
    }
}

/// Indexed on purpose: iterators over the same arrays take three times as long.
#[inline(always)]
fn outer_tile<const R: usize, const C: usize>(
    left: &[f64],
    right: &[f64],
    out: &mut [f64],
    stride: usize,
    samples: usize,
) {
    let left: [&[[f64; SUM_LANES]]; R] = array::from_fn(|r| chunks(left, r, samples));
    let right: [&[[f64; SUM_LANES]]; C] = array::from_fn(|c| chunks(right, c, samples));
    let mut sums = [[[0.0; SUM_LANES]; C]; R];
    for s in 0..samples / SUM_LANES {
        for r in 0..R {
            let left = left[r][s];
            for c in 0..C {
                let right = &right[c][s];
                for l in 0..SUM_LANES {
                    sums[r][c][l] += left[l] * right[l];
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (out, [a, b, c, d]) in out[r * stride..].iter_mut().zip(sums) {
            *out += (a + c) + (b + d);
        }
    }
}

#[inline(always)]
fn chunks(values: &[f64], feature: usize, samples: usize) -> &[[f64; SUM_LANES]] {
    values[feature * samples..(feature + 1) * samples].as_chunks().0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(n: usize, salt: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * 7 + salt) % 11) as f64 - 5.0).collect()
    }

    #[test]
    fn products_of_integers_are_exact_for_every_shape() {
        for (rows, columns) in [(1, 1), (2, 3), (3, 2), (4, 4), (5, 9), (7, 4), (16, 10)] {
            for samples in [8, 24] {
                let weights = integers(rows * columns, 1);
                let (features, deltas) =
                    (integers(columns * samples, 2), integers(rows * samples, 3));
                let view = Weights::new(&weights, rows, columns);
                let (mut forward, mut backward, mut outer) =
                    (deltas.clone(), features.clone(), weights.clone());
                add_product(view, &features, &mut forward, samples);
                add_product(view.transposed(), &deltas, &mut backward, samples);
                add_outer(&deltas, &features, &mut outer, samples);
                for r in 0..rows {
                    for c in 0..columns {
                        let sum: f64 = (0..samples)
                            .map(|s| deltas[r * samples + s] * features[c * samples + s])
                            .sum();
                        assert_eq!(outer[r * columns + c], weights[r * columns + c] + sum);
                    }
                    for s in 0..samples {
                        let sum: f64 = (0..columns)
                            .map(|c| weights[r * columns + c] * features[c * samples + s])
                            .sum();
                        assert_eq!(forward[r * samples + s], deltas[r * samples + s] + sum);
                    }
                }
                for (c, s) in (0..columns).flat_map(|c| (0..samples).map(move |s| (c, s))) {
                    let sum: f64 =
                        (0..rows).map(|r| weights[r * columns + c] * deltas[r * samples + s]).sum();
                    assert_eq!(backward[c * samples + s], features[c * samples + s] + sum);
                }
            }
        }
    }
}
