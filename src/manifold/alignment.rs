//! How the anchors of different manifolds lie to each other.

use faer::{Mat, MatRef};

use super::effective::{Anchors, Centers};
use super::estimate::Estimate;
use super::joint::Joint;

/// Groups of draws that are left out in turn for the standard error of what depends on all draws at once.
const GROUPS: usize = 10;

/// A mean over pairs of different manifolds, in the conventions that are published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alignment {
    /// Mean cosine.
    pub cosine: Estimate,
    /// Mean absolute cosine.
    pub absolute: Estimate,
    /// Mean absolute inner product, in the layer's squared units.
    pub raw: Estimate,
}

/// The three alignments of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alignments {
    /// Of centers with centers.
    pub center: Alignment,
    /// Of axes with axes, a mean over draws.
    pub axes: Alignment,
    /// Of centers with axes, a mean over draws.
    pub center_axes: Alignment,
}

/// Means over pairs: of cosines, absolute cosines, absolute inner products.
type Means = [f64; 3];

/// The alignments of the draws so far.
pub(super) struct Sums<'a> {
    centers: &'a Mat<f64>,
    axes: Vec<Means>,
    center_axes: Vec<Means>,
}

impl<'a> Sums<'a> {
    /// Begins with the inner products of the centers.
    pub(super) fn new(centers: &'a Mat<f64>) -> Self {
        Self { centers, axes: Vec::new(), center_axes: Vec::new() }
    }

    /// Adds a draw: the inner products of its axes with each other and, as rows, with the centers.
    pub(super) fn push(&mut self, axes: &Mat<f64>, with_centers: &Mat<f64>) {
        let own = |products: &Mat<f64>| -> Vec<f64> {
            (0..products.nrows()).map(|i| products[(i, i)]).collect()
        };
        let (squares, center_squares) = (own(axes), own(self.centers));
        self.axes.push(means(axes.as_ref(), &squares, &squares));
        self.center_axes.push(means(with_centers.as_ref(), &squares, &center_squares));
    }

    /// Summarizes, given the standard errors of the centers' alignment.
    pub(super) fn finish(&self, errors: Means) -> Alignments {
        let squares: Vec<f64> = (0..self.centers.nrows()).map(|i| self.centers[(i, i)]).collect();
        let center = means(self.centers.as_ref(), &squares, &squares);
        let known = |i: usize| Estimate { value: center[i], standard_error: errors[i] };
        let mean = |draws: &[Means]| {
            let of = |i: usize| Estimate::of_samples(draws.iter().map(|means| means[i]));
            Alignment { cosine: of(0), absolute: of(1), raw: of(2) }
        };
        Alignments {
            center: Alignment { cosine: known(0), absolute: known(1), raw: known(2) },
            axes: mean(&self.axes),
            center_axes: mean(&self.center_axes),
        }
    }
}

/// Averages over pairs of different manifolds; what has no length has no cosine, which counts as 0.
fn means(products: MatRef<'_, f64>, row_squares: &[f64], column_squares: &[f64]) -> Means {
    let size = products.nrows();
    let mut sums = [0.0; 3];
    for j in 0..size {
        for i in (0..size).filter(|i| *i != j) {
            let product = products[(i, j)];
            let square = row_squares[i] * column_squares[j];
            let cosine = if square > 0.0 { product / square.sqrt() } else { 0.0 };
            sums[0] += cosine;
            sums[1] += cosine.abs();
            sums[2] += product.abs();
        }
    }
    sums.map(|sum| sum / (size * (size - 1)) as f64)
}

/// Returns the standard errors of the centers' alignment, by leaving out one group of draws after another.
pub(super) fn center_errors(joint: &Joint, anchors: &[Anchors]) -> Means {
    let groups = GROUPS.min(anchors.len());
    let without = |group: usize| -> Means {
        let left: Vec<&Anchors> = anchors
            .iter()
            .enumerate()
            .filter(|(k, _)| k % groups != group)
            .map(|(_, anchors)| anchors)
            .collect();
        let gram = Centers::mean(joint, left).gram;
        let squares: Vec<f64> = (0..gram.nrows()).map(|i| gram[(i, i)]).collect();
        means(gram.as_ref(), &squares, &squares)
    };
    let all: Vec<Means> = (0..groups).map(without).collect();
    std::array::from_fn(|i| {
        let estimate = Estimate::of_samples(all.iter().map(|means| means[i]));
        // The jackknife's variance is (g − 1)/g Σ(θ − mean)², g − 1 squared times that of a mean.
        estimate.standard_error * (groups - 1) as f64
    })
}
