//! Products of a small matrix with the features of a block of samples.
//!
//! Features lie feature by feature: entry `s` of feature `f` is `features[f * samples + s]`, with `samples` a multiple
//! of [`LANES`]. The loops run over samples in vector registers as wide as the processor has (dispatched by `pulp`,
//! which faer brings along), in an order fixed by the shapes. Each product is added in with one rounding, as IEEE 754
//! defines it, so that the results have the same bits on every machine; one without an instruction for that is slow.
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

    /// Lays the weights of `R` rows side by side, for as many columns as there is room for.
    #[inline(always)]
    fn pack<const R: usize>(self, row: usize, column: usize, panel: &mut [[f64; R]]) {
        let values = &self.values[row * self.row_stride..];
        for (c, panel) in panel.iter_mut().enumerate() {
            let values = &values[(column + c) * self.column_stride..];
            *panel = array::from_fn(|r| values[r * self.row_stride]);
        }
    }
}

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Nothing: what was there is overwritten.
    Zero,
    /// A number for each row of the matrix; zero where there are none.
    Biases(&'a [f64]),
    /// What is there.
    Kept,
}

/// A matrix and the features that it multiplies, one a column.
pub type Factor<'a> = (Weights<'a>, &'a [f64]);

/// Writes the product of a matrix and features, added to `start`, into `out`, which has one feature a row.
pub fn product(factor: Factor, start: Start, out: &mut [f64], samples: usize) {
    products(&[factor], start, out, samples);
}

/// Writes the sum of two products, added to `start`, into `out`: as one after the other, with the same bits.
pub fn product_pair(factors: [Factor; 2], start: Start, out: &mut [f64], samples: usize) {
    products(&factors, start, out, samples);
}

fn products(factors: &[Factor], start: Start, out: &mut [f64], samples: usize) {
    for (weights, features) in factors {
        debug_assert_eq!(features.len(), weights.columns * samples, "one feature a column");
        debug_assert_eq!(out.len(), weights.rows * samples, "one result a row");
    }
    Arch::new().dispatch(Product { factors, start, out, samples });
}

struct Product<'a> {
    factors: &'a [Factor<'a>],
    start: Start<'a>,
    out: &'a mut [f64],
    samples: usize,
}

impl NullaryFnOnce for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { factors, start, out, samples } = self;
        let (mut row, rows) = (0, out.len() / samples);
        while row < rows {
            match rows - row {
                1 => product_rows::<1>(factors, start, out, samples, &mut row),
                2 | 3 => product_rows::<2>(factors, start, out, samples, &mut row),
                _ => product_rows::<4>(factors, start, out, samples, &mut row),
            }
        }
    }
}

/// Columns whose weights are laid side by side at a time.
const PANEL: usize = 64;

/// Computes `R` rows of a sum of products, from `row` on.
#[inline(always)]
fn product_rows<const R: usize>(
    factors: &[Factor],
    start: Start,
    out: &mut [f64],
    samples: usize,
    row: &mut usize,
) {
    let out = &mut out[*row * samples..][..R * samples];
    let mut first = match start {
        Start::Zero => Some([0.0; R]),
        Start::Biases(biases) => Some(array::from_fn(|r| biases.get(*row + r).map_or(0.0, |b| *b))),
        Start::Kept => None,
    };
    let mut panel = [[0.0; R]; PANEL];
    if let [(one, of_one), (other, of_other)] = factors
        && one.columns + other.columns <= PANEL
    {
        let (left, right) = panel.split_at_mut(one.columns);
        let right = &mut right[..other.columns];
        one.pack(*row, 0, left);
        other.pack(*row, 0, right);
        for start in (0..samples).step_by(LANES) {
            let mut sums = begin(first, out, samples, start);
            accumulate(left, of_one, &mut sums, samples, start);
            accumulate(right, of_other, &mut sums, samples, start);
            store(&sums, out, samples, start);
        }
        *row += R;
        return;
    }
    for (weights, features) in factors {
        for column in (0..weights.columns).step_by(PANEL) {
            let width = PANEL.min(weights.columns - column);
            let panel = &mut panel[..width];
            weights.pack(*row, column, panel);
            let features = &features[column * samples..][..width * samples];
            for start in (0..samples).step_by(LANES) {
                let mut sums = begin(first, out, samples, start);
                accumulate(panel, features, &mut sums, samples, start);
                store(&sums, out, samples, start);
            }
            first = None;
        }
    }
    *row += R;
}

/// What the sums of `R` rows of [`LANES`] samples begin with.
#[inline(always)]
fn begin<const R: usize>(
    first: Option<[f64; R]>,
    out: &[f64],
    samples: usize,
    start: usize,
) -> [[f64; LANES]; R] {
    match first {
        Some(first) => first.map(|first| [first; LANES]),
        None => array::from_fn(|r| lanes(out, r * samples + start)),
    }
}

/// Adds the products of some columns.
#[inline(always)]
fn accumulate<const R: usize>(
    panel: &[[f64; R]],
    features: &[f64],
    sums: &mut [[f64; LANES]; R],
    samples: usize,
    start: usize,
) {
    for (weights, features) in panel.iter().zip(features.chunks_exact(samples)) {
        let features: [f64; LANES] = lanes(features, start);
        for r in 0..R {
            for l in 0..LANES {
                sums[r][l] = weights[r].mul_add(features[l], sums[r][l]);
            }
        }
    }
}

#[inline(always)]
fn store<const R: usize>(sums: &[[f64; LANES]; R], out: &mut [f64], samples: usize, start: usize) {
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(samples)) {
        out[start..start + LANES].copy_from_slice(sums);
    }
}

#[inline(always)]
fn lanes<const N: usize>(values: &[f64], start: usize) -> [f64; N] {
    let mut lanes = [0.0; N];
    lanes.copy_from_slice(&values[start..start + N]);
    lanes
}

/// Writes `left` times `right`, entry by entry, into `out`.
pub fn multiply(left: &[f64], right: &[f64], out: &mut [f64]) {
    Arch::new().dispatch(|| {
        for ((out, left), right) in out.iter_mut().zip(left).zip(right) {
            *out = left * right;
        }
    });
}

/// Writes `factor` times `values` into `out`.
pub fn scale(factor: f64, values: &[f64], out: &mut [f64]) {
    Arch::new().dispatch(|| {
        for (out, value) in out.iter_mut().zip(values) {
            *out = factor * value;
        }
    });
}

/// Multiplies `out` by `factor` and adds `left` times `right`, entry by entry.
pub fn scale_and_add(factor: &[f64], left: &[f64], right: &[f64], out: &mut [f64]) {
    Arch::new().dispatch(|| {
        for (((out, factor), left), right) in out.iter_mut().zip(factor).zip(left).zip(right) {
            *out = left.mul_add(*right, *out * factor);
        }
    });
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
                let width = if columns - column >= 2 { 2 } else { 1 };
                let right = &right[column * samples..];
                let out = &mut out[row * columns + column..];
                match (height, width) {
                    (4, 2) => outer_tile::<4, 2>(left, right, out, columns, samples),
                    (4, _) => outer_tile::<4, 1>(left, right, out, columns, samples),
                    (_, 2) => outer_tile::<1, 2>(left, right, out, columns, samples),
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
    let count = samples / SUM_LANES;
    // Slices of a length that the compiler sees to be the loop's, so that no index is checked.
    let left: [_; R] = array::from_fn(|r| &chunks(left, r, samples)[..count]);
    let right: [_; C] = array::from_fn(|c| &chunks(right, c, samples)[..count]);
    let mut sums = [[[0.0; SUM_LANES]; C]; R];
    for s in 0..count {
        for r in 0..R {
            let left = left[r][s];
            for c in 0..C {
                let right = &right[c][s];
                for l in 0..SUM_LANES {
                    sums[r][c][l] = left[l].mul_add(right[l], sums[r][c][l]);
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
                product((view, &features), Start::Kept, &mut forward, samples);
                product((view.transposed(), &deltas), Start::Kept, &mut backward, samples);
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
