//! The effective geometry that the anchor points of many dichotomies have.
//!
//! For each draw of `t` the anchors of all manifolds are the rows of `S`, zero where a manifold has no weight. With their
//! mean `S₀` over draws (the *centers*) and `S₁ = S − S₀` (the *axes*), pseudo-inverses of Gram matrices give
//!
//! ```text
//! a = (St)ᵀ(SSᵀ)†(St),  b = (S₁t)ᵀ(S₁S₁ᵀ)†(S₁t),  c = (S₁t)ᵀ(S₀S₀ᵀ + S₁S₁ᵀ)†(S₁t)
//! ```
//!
//! and from them capacity `P / E[a]`, dimension `D = E[b] / P`, radius `R = √(E[c] / E[b − c])` and utility
//! `Ψ = E[c] / E[a]`, so that capacity is `Ψ (1 + R⁻²) / D` (Chou et al. 2024, bioRxiv 2024.02.26.582157). `a` is the
//! squared length of the projection onto the cone. All is computed from inner products of points.

use faer::Mat;
use thiserror::Error;

use super::alignment::{self, Alignments};
use super::arithmetic::{add_scaled, dot};
use super::estimate::Estimate;
use super::glue::Projection;
use super::joint::Joint;
use super::spectrum::{self, SpectrumError};

/// A pivot or an eigenvalue below this fraction of the largest is rounding.
const RANK_TOLERANCE: f64 = 1e-12;

/// An axis whose squared length is below this fraction of its center's is rounding.
const ROUNDING: f64 = 1e-13;

/// The effective geometry of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveGeometry {
    /// Manifolds per feature that can be told apart as the dichotomies ask.
    ///
    /// The standard errors are those of the draws for the given points, the centers taken for known.
    pub capacity: Estimate,
    /// Effective dimension of the axes, a manifold.
    pub dimension: Estimate,
    /// Effective radius, the size of axes against centers.
    pub radius: Estimate,
    /// The part of the capacity that the signal along the axes makes use of.
    pub utility: Estimate,
    /// How anchors of different manifolds lie to each other.
    pub alignments: Alignments,
    /// Mean number of points that a projection rests on.
    pub support_mean: f64,
    /// Fraction of draws that lie inside the cone, as happens where dimensions are few. Their weights are not unique, and
    /// neither are dimension, radius, utility and alignments; capacity is.
    pub inside: f64,
    /// Each manifold's part.
    pub manifolds: Vec<ManifoldEffect>,
    /// Numbers a point: the ambient dimension.
    pub features: usize,
    /// Number of points of the layer.
    pub points: usize,
}

/// The part of one manifold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ManifoldEffect {
    /// What it adds to `E[a]`, which is P over the capacity.
    pub load: Estimate,
    /// Fraction of draws in which it has weight.
    pub touched: f64,
    /// Mean number of its points that a projection rests on.
    pub support_mean: f64,
    /// Length of its center, in the layer's units.
    pub center_norm: f64,
    /// Root mean square length of its axes, in the layer's units.
    pub axes_norm: f64,
    /// Number of its points.
    pub points: usize,
}

/// Why anchors have no geometry.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum EffectiveError {
    /// No draw touched the cone.
    #[error("none of {0} draws met a constraint: the capacity is too large to measure with so few")]
    Untouched(usize),
    /// The radius would be infinite, or of nothing.
    #[error(
        "the anchors of {0} draws have no centers apart from their axes: the radius is undefined"
    )]
    NoCenters(usize),
    /// A pseudo-inverse could not be computed.
    #[error(transparent)]
    Spectrum(#[from] SpectrumError),
}

/// Summarizes at least two draws.
pub fn geometry(
    joint: &Joint,
    projections: &[Projection],
) -> Result<EffectiveGeometry, EffectiveError> {
    let anchors: Vec<Anchors> = projections.iter().map(|p| Anchors::of(joint, p)).collect();
    let count = anchors.len();
    let squares = || anchors.iter().map(|anchors| anchors.square);
    let square = Estimate::of_samples(squares());
    if square.value <= 0.0 {
        return Err(EffectiveError::Untouched(count));
    }
    let centers = Centers::mean(joint, &anchors);
    let mut samples = Vec::with_capacity(count);
    let mut alignment = alignment::Sums::new(&centers.gram);
    let mut axes_squares = vec![0.0; joint.manifolds];
    for (projection, anchors) in projections.iter().zip(&anchors) {
        let axes = Axes::of(joint, projection, anchors, &centers);
        samples.push([anchors.square, axes.b()?, axes.c(&centers)?]);
        for (i, sum) in axes_squares.iter_mut().enumerate() {
            *sum += axes.gram[(i, i)] / count as f64;
        }
        alignment.push(&axes.gram, &axes.with_centers);
    }
    let of = |pick: fn(&[f64; 3]) -> f64| -> Vec<f64> { samples.iter().map(pick).collect() };
    let (a, b, c) = (of(|s| s[0]), of(|s| s[1]), of(|s| s[2]));
    let rest: Vec<f64> = b.iter().zip(&c).map(|(b, c)| b - c).collect();
    let ratio = Estimate::ratio(&c, &rest);
    if !(ratio.value.is_finite() && ratio.value >= 0.0) {
        return Err(EffectiveError::NoCenters(count));
    }
    let manifolds = joint.manifolds as f64;
    let jackknifed = alignment::center_errors(joint, &anchors);
    Ok(EffectiveGeometry {
        capacity: square.scaled(1.0 / manifolds).inverse(),
        dimension: Estimate::of_samples(b.into_iter()).scaled(1.0 / manifolds),
        radius: ratio.sqrt(),
        utility: Estimate::ratio(&c, &a),
        alignments: alignment.finish(jackknifed),
        support_mean: projections.iter().map(|p| p.support.len() as f64).sum::<f64>()
            / count as f64,
        inside: projections.iter().filter(|p| p.inside).count() as f64 / count as f64,
        manifolds: effects(joint, &anchors, &centers, &axes_squares),
        features: joint.features,
        points: joint.count(),
    })
}

fn effects(
    joint: &Joint,
    anchors: &[Anchors],
    centers: &Centers,
    axes_squares: &[f64],
) -> Vec<ManifoldEffect> {
    let count = anchors.len() as f64;
    let effect = |i: usize| ManifoldEffect {
        load: Estimate::of_samples(anchors.iter().map(|anchors| anchors.loads[i])),
        touched: anchors.iter().filter(|anchors| anchors.touched[i] > 0).count() as f64 / count,
        support_mean: anchors.iter().map(|anchors| anchors.touched[i] as f64).sum::<f64>() / count,
        center_norm: centers.gram[(i, i)].max(0.0).sqrt(),
        axes_norm: axes_squares[i].max(0.0).sqrt(),
        points: joint.manifold.iter().filter(|manifold| **manifold == i).count(),
    };
    (0..joint.manifolds).map(effect).collect()
}

/// The anchors of one draw.
pub(super) struct Anchors {
    /// The points that they are means of, with their weights, which sum to 1 in each manifold.
    pub(super) points: Vec<(usize, f64)>,
    /// Squared length of the projection onto the cone.
    square: f64,
    /// What each manifold adds to it.
    loads: Vec<f64>,
    /// Points of each manifold that have weight.
    touched: Vec<usize>,
}

impl Anchors {
    fn of(joint: &Joint, projection: &Projection) -> Self {
        let Projection { support, weights, along, signs, .. } = projection;
        let (mut totals, mut loads) = (vec![0.0; joint.manifolds], vec![0.0; joint.manifolds]);
        let mut touched = vec![0; joint.manifolds];
        for (&point, weight) in support.iter().zip(weights) {
            let manifold = joint.manifold[point];
            totals[manifold] += weight;
            // At the projection Σλ⟨t, yz⟩ is its squared length.
            loads[manifold] += weight * along[point] * signs[manifold];
            touched[manifold] += 1;
        }
        let points = support.iter().zip(weights);
        let points = points.map(|(&i, weight)| (i, weight / totals[joint.manifold[i]])).collect();
        Self { points, square: loads.iter().sum(), loads, touched }
    }
}

/// The mean anchors.
pub(super) struct Centers {
    /// The weight of each point in its manifold's center.
    weights: Vec<f64>,
    /// `⟨z, s₀⟩` of all points and centers, `points × manifolds`, row-major.
    with_points: Vec<f64>,
    /// `S₀S₀ᵀ`.
    pub(super) gram: Mat<f64>,
}

impl Centers {
    pub(super) fn mean<'a>(
        joint: &Joint,
        anchors: impl IntoIterator<Item = &'a Anchors, IntoIter: ExactSizeIterator>,
    ) -> Self {
        let anchors = anchors.into_iter();
        let share = 1.0 / anchors.len() as f64;
        let (count, manifolds) = (joint.count(), joint.manifolds);
        let mut weights = vec![0.0; count];
        for &(point, weight) in anchors.flat_map(|anchors| &anchors.points) {
            weights[point] += share * weight;
        }
        // ⟨z, s₀⟩ by rows of the Gram, manifold by manifold: first transposed.
        let mut by_manifold = vec![0.0; manifolds * count];
        for (point, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            let sum = &mut by_manifold[joint.manifold[point] * count..][..count];
            add_scaled(sum, weight, joint.row(point));
        }
        let with_points: Vec<f64> = (0..count * manifolds)
            .map(|n| by_manifold[n % manifolds * count + n / manifolds])
            .collect();
        let mut gram = Mat::zeros(manifolds, manifolds);
        for (point, &weight) in weights.iter().enumerate() {
            for j in 0..manifolds {
                gram[(joint.manifold[point], j)] += weight * with_points[point * manifolds + j];
            }
        }
        Self { weights, with_points, gram }
    }
}

/// The axes of one draw.
struct Axes {
    /// `S₁S₁ᵀ`.
    gram: Mat<f64>,
    /// `S₁S₀ᵀ`.
    with_centers: Mat<f64>,
    /// `S₁t`.
    along: Vec<f64>,
}

impl Axes {
    fn of(joint: &Joint, projection: &Projection, anchors: &Anchors, centers: &Centers) -> Self {
        let manifolds = joint.manifolds;
        let mut along = vec![0.0; manifolds];
        for (point, (weight, product)) in centers.weights.iter().zip(&projection.along).enumerate()
        {
            along[joint.manifold[point]] -= weight * product;
        }
        let mut products = Mat::<f64>::zeros(manifolds, manifolds);
        let mut with_centers = Mat::<f64>::zeros(manifolds, manifolds);
        for &(point, weight) in &anchors.points {
            let own = joint.manifold[point];
            along[own] += weight * projection.along[point];
            let row = joint.row(point);
            for &(other, other_weight) in &anchors.points {
                products[(own, joint.manifold[other])] += weight * other_weight * row[other];
            }
            let row = &centers.with_points[point * manifolds..][..manifolds];
            for (j, product) in row.iter().enumerate() {
                with_centers[(own, j)] += weight * product;
            }
        }
        // S₁S₁ᵀ = SSᵀ − SS₀ᵀ − S₀Sᵀ + S₀S₀ᵀ.
        let gram = Mat::from_fn(manifolds, manifolds, |i, j| {
            let cross = with_centers[(i, j)] + with_centers[(j, i)];
            0.5 * (products[(i, j)] + products[(j, i)]) - cross
                + 0.5 * (centers.gram[(i, j)] + centers.gram[(j, i)])
        });
        with_centers -= &centers.gram;
        let mut axes = Self { gram, with_centers, along };
        axes.clear_rounding(centers);
        axes
    }

    /// Sets to zero what an anchor that is the same in all draws leaves: the difference of equal numbers.
    fn clear_rounding(&mut self, centers: &Centers) {
        for i in 0..self.along.len() {
            if self.gram[(i, i)] <= ROUNDING * centers.gram[(i, i)] {
                self.along[i] = 0.0;
                self.gram.row_mut(i).fill(0.0);
                self.gram.col_mut(i).fill(0.0);
                self.with_centers.row_mut(i).fill(0.0);
            }
        }
    }

    /// `b`.
    fn b(&self) -> Result<f64, SpectrumError> {
        pseudo_inverse_form(&self.gram, &self.along)
    }

    /// `c`.
    fn c(&self, centers: &Centers) -> Result<f64, SpectrumError> {
        pseudo_inverse_form(&(&self.gram + &centers.gram), &self.along)
    }
}

/// Returns `vᵀA†v` of a positive semidefinite matrix.
fn pseudo_inverse_form(matrix: &Mat<f64>, v: &[f64]) -> Result<f64, SpectrumError> {
    let size = v.len();
    let largest = (0..size).map(|i| matrix[(i, i)]).fold(0.0, f64::max);
    if let Some(value) = inverse_form(matrix, v, largest * RANK_TOLERANCE.sqrt()) {
        return Ok(value);
    }
    // Not of full rank, or close to it.
    let spectrum = spectrum::positive_part(matrix.as_ref(), largest * RANK_TOLERANCE)?;
    let part = |(k, value): (usize, &f64)| dot(spectrum.vectors.col_as_slice(k), v).powi(2) / value;
    Ok(spectrum.values.iter().enumerate().map(part).sum())
}

/// Returns `vᵀA⁻¹v` by Cholesky's factorization; `None` where a pivot is not above `least`.
fn inverse_form(matrix: &Mat<f64>, v: &[f64], least: f64) -> Option<f64> {
    let size = v.len();
    let mut factor = vec![0.0; size * size];
    let mut forward = vec![0.0; size];
    for i in 0..size {
        let (above, row) = factor.split_at_mut(i * size);
        let row = &mut row[..size];
        for j in 0..i {
            let done = &above[j * size..][..=j];
            row[j] = (matrix[(i, j)] - dot(&done[..j], &row[..j])) / done[j];
        }
        let pivot = matrix[(i, i)] - dot(&row[..i], &row[..i]);
        if pivot <= least {
            return None;
        }
        row[i] = pivot.sqrt();
        forward[i] = (v[i] - dot(&row[..i], &forward[..i])) / row[i];
    }
    Some(dot(&forward, &forward))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_agree_with_the_pseudo_inverse() {
        let matrix = faer::mat![[4.0, 2.0, 0.0], [2.0, 5.0, 0.0], [0.0, 0.0, 2.0]];
        // (4 2; 2 5)⁻¹ = (5 -2; -2 4) / 16.
        let value = pseudo_inverse_form(&matrix, &[1.0, 2.0, 4.0]).unwrap();
        assert!((value - ((5.0 - 8.0 + 16.0) / 16.0 + 8.0)).abs() < 1e-14, "{value}");
        // A copy of a direction counts once: (vv')† = vv' / |v|⁴.
        let copies = faer::mat![[1.0, 1.0], [1.0, 1.0]];
        let value = pseudo_inverse_form(&copies, &[3.0, 3.0]).unwrap();
        assert!((value - 9.0).abs() < 1e-13, "{value}");
        assert_eq!(pseudo_inverse_form(&Mat::zeros(2, 2), &[0.0, 0.0]).unwrap(), 0.0);
    }
}
