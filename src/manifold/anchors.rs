//! Capacity, radius and dimension of one manifold from its anchor points.
//!
//! For a Gaussian vector `t` the anchor point is the point of the manifold's convex hull on which the projection of
//! `t` onto the cone over the manifold rests (Chung, Lee & Sompolinsky 2018, section III). Averages over `t` of the
//! projection's squared length, of the anchor's position and of its angle to `t` are 1/capacity (eq. 16–17), radius
//! (eq. 28) and dimension (eq. 29). A margin `κ` shifts the center coordinate of `t`.

use thiserror::Error;

use super::arithmetic::{add_scaled, dot};
use super::cloud::{Draw, PointCloud};
use super::estimate::Estimate;
use super::nnls::{Nnls, NotConverged};
use super::spectrum::SpectrumError;
use crate::rng::Stream;

/// A draw that the constraints move by less than this was feasible.
const INTERIOR_DISTANCE: f64 = 1e-8;
/// Added to an anchor's squared length where its direction is needed, for anchors at the center.
const DIRECTION_FLOOR: f64 = 1e-12;

/// Which number of dimensions multiplies the mean angle in the manifold's dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DimensionBasis {
    /// min(features, points), which counts the null direction that centering leaves: the published values.
    #[default]
    Upstream,
    /// The rank of the points about their center: 1 for a segment, where the published convention says 0.81.
    Rank,
}

/// How anchor points are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnchorOptions {
    /// Margin, in units of the center norm; finite; 0 by default.
    pub kappa: f64,
    /// Gaussian vectors a manifold, at least 2; 200 by default.
    pub draws: usize,
    /// Which number of dimensions enters the manifold's dimension.
    pub basis: DimensionBasis,
}

impl Default for AnchorOptions {
    fn default() -> Self {
        Self { kappa: 0.0, draws: 200, basis: DimensionBasis::Upstream }
    }
}

/// What the anchor points say about one manifold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnchorGeometry {
    /// Manifolds of this geometry that a readout can split per feature; 2 for points at margin 0.
    pub capacity: Estimate,
    /// Root mean square distance of the anchor points from their mean, in units of the center norm.
    ///
    /// About the mean of the drawn anchors and divided by their number, as published: low by the factor
    /// `sqrt(1 - 1/draws)`.
    pub radius: Estimate,
    /// Dimension of the anchor points.
    pub dimension: Estimate,
    /// Mean number of points on which an anchor rests, 0 for a draw that met no constraint.
    pub support_mean: f64,
    /// Fraction of draws that met no constraint.
    pub interior_fraction: f64,
}

/// Why a manifold has no geometry.
#[derive(Debug, Error, Clone, Copy, PartialEq)]
pub enum AnchorError {
    /// The margin is not a finite number.
    #[error("the margin must be finite, not {0}")]
    Margin(f64),
    /// Standard errors need at least two draws.
    #[error("at least 2 draws are needed, not {0}")]
    Draws(usize),
    /// No draw touched the manifold, so that its capacity is beyond measure.
    #[error("none of {0} draws met a constraint: the capacity is too large to measure with so few")]
    Untouched(usize),
    /// A projection failed.
    #[error(transparent)]
    Projection(#[from] NotConverged),
    /// The coordinates of the points could not be found.
    #[error(transparent)]
    Spectrum(#[from] SpectrumError),
}

/// Draws the anchor points of a manifold and summarizes them.
///
/// The first draws of a stream are the same whatever `options.draws` says.
pub fn anchor_geometry(
    cloud: &PointCloud,
    options: &AnchorOptions,
    stream: &mut Stream,
) -> Result<AnchorGeometry, AnchorError> {
    summarize(cloud, options, |draw| cloud.draw(stream, draw))
}

/// Computes the same from given vectors, rows of `rank + 1` numbers with the center coordinate last.
pub fn anchor_geometry_of_draws(
    cloud: &PointCloud,
    kappa: f64,
    basis: DimensionBasis,
    draws: &[f64],
) -> Result<AnchorGeometry, AnchorError> {
    let rank = cloud.rank();
    let mut rows = draws.chunks_exact(rank + 1);
    let options = AnchorOptions { kappa, draws: rows.len(), basis };
    summarize(cloud, &options, |draw| {
        if let Some(row) = rows.next() {
            draw.within.copy_from_slice(&row[..rank]);
            draw.center = row[rank];
        }
    })
}

fn summarize(
    cloud: &PointCloud,
    options: &AnchorOptions,
    mut next: impl FnMut(&mut Draw),
) -> Result<AnchorGeometry, AnchorError> {
    if !options.kappa.is_finite() {
        return Err(AnchorError::Margin(options.kappa));
    }
    if options.draws < 2 {
        return Err(AnchorError::Draws(options.draws));
    }
    let mut anchors = Anchors::new(cloud, options);
    let mut draw = cloud.empty_draw();
    for _ in 0..options.draws {
        next(&mut draw);
        anchors.push(&draw, options)?;
    }
    let inverse_capacity = Estimate::of_samples(anchors.squares.iter().copied());
    if inverse_capacity.value <= 0.0 {
        return Err(AnchorError::Untouched(options.draws));
    }
    let dimensions = match options.basis {
        DimensionBasis::Upstream => cloud.dimensions(),
        DimensionBasis::Rank => cloud.rank(),
    };
    let cosine = Estimate::of_samples(anchors.cosines.iter().copied());
    Ok(AnchorGeometry {
        capacity: inverse_capacity.inverse(),
        radius: Estimate::of_samples(anchors.squared_deviations().into_iter()).sqrt(),
        dimension: cosine.scaled_square(dimensions as f64),
        support_mean: anchors.support as f64 / options.draws as f64,
        interior_fraction: anchors.interior as f64 / options.draws as f64,
    })
}

/// The anchor points of the draws so far.
struct Anchors<'a> {
    cloud: &'a PointCloud,
    nnls: Nnls,
    /// `⟨t, s⟩ + κ` of every point.
    linear: Vec<f64>,
    /// Squared lengths of the projections onto the cone.
    squares: Vec<f64>,
    /// Cosines between draw and anchor, the center coordinate left out.
    cosines: Vec<f64>,
    /// `draws × rank`, row-major: the anchor points about the center.
    positions: Vec<f64>,
    support: usize,
    interior: usize,
}

impl<'a> Anchors<'a> {
    fn new(cloud: &'a PointCloud, options: &AnchorOptions) -> Self {
        Self {
            cloud,
            nnls: Nnls::new(cloud.points()),
            linear: vec![0.0; cloud.points()],
            squares: Vec::with_capacity(options.draws),
            cosines: Vec::with_capacity(options.draws),
            positions: Vec::with_capacity(options.draws * cloud.rank()),
            support: 0,
            interior: 0,
        }
    }

    fn push(&mut self, draw: &Draw, options: &AnchorOptions) -> Result<(), NotConverged> {
        let shifted = draw.center + options.kappa;
        for (i, linear) in self.linear.iter_mut().enumerate() {
            *linear = dot(self.cloud.point(i), &draw.within) + shifted;
        }
        let farthest = first_maximum(&self.linear);
        let mut square = 0.0;
        if self.linear[farthest] >= 0.0 {
            self.nnls.solve(self.cloud.cone_gram(), &self.linear)?;
            let weights = self.nnls.support().iter().zip(self.nnls.weights());
            // At the minimum αᵀGα = αᵀc.
            square = weights.map(|(&i, weight)| weight * self.linear[i]).sum();
        }
        let start = self.positions.len();
        if square < INTERIOR_DISTANCE * INTERIOR_DISTANCE {
            square = 0.0;
            self.interior += 1;
            self.positions.extend_from_slice(self.cloud.point(farthest));
        } else {
            let total: f64 = self.nnls.weights().iter().sum();
            self.support += self.nnls.support().len();
            self.positions.resize(start + self.cloud.rank(), 0.0);
            for (&i, weight) in self.nnls.support().iter().zip(self.nnls.weights()) {
                add_scaled(&mut self.positions[start..], weight / total, self.cloud.point(i));
            }
        }
        self.squares.push(square);
        self.cosines.push(cosine(draw, &self.positions[start..], options.basis));
        Ok(())
    }

    /// Returns the squared distance of each anchor from their mean.
    fn squared_deviations(&self) -> Vec<f64> {
        let (count, rank) = (self.squares.len(), self.cloud.rank());
        if rank == 0 {
            return vec![0.0; count];
        }
        let mut mean = vec![0.0; rank];
        for position in self.positions.chunks_exact(rank) {
            add_scaled(&mut mean, 1.0 / count as f64, position);
        }
        let square = |(x, mean): (&f64, &f64)| (x - mean).powi(2);
        let positions = self.positions.chunks_exact(rank);
        positions.map(|position| position.iter().zip(&mean).map(square).sum()).collect()
    }
}

fn cosine(draw: &Draw, anchor: &[f64], basis: DimensionBasis) -> f64 {
    let outside = match basis {
        DimensionBasis::Upstream => draw.outside,
        DimensionBasis::Rank => 0.0,
    };
    let draw_length = (dot(&draw.within, &draw.within) + outside).sqrt();
    let length = draw_length * (dot(anchor, anchor) + DIRECTION_FLOOR).sqrt();
    if length > 0.0 { dot(&draw.within, anchor) / length } else { 0.0 }
}

fn first_maximum(values: &[f64]) -> usize {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use faer::Mat;

    use super::*;
    use crate::rng::Streams;

    fn sampled(cloud: &PointCloud, options: &AnchorOptions) -> AnchorGeometry {
        let mut stream = Streams::new(11, "test").stream("anchors");
        anchor_geometry(cloud, options, &mut stream).unwrap()
    }

    fn check(name: &str, estimate: Estimate, expected: f64) {
        let error = (estimate.value - expected).abs();
        assert!(
            error <= 4.5 * estimate.standard_error + 1e-12,
            "{name}: {estimate:?}, not {expected}"
        );
        assert!(
            estimate.standard_error < 0.05 * expected.max(1e-3),
            "{name}: {estimate:?} says little"
        );
    }

    fn segment(half_length: f64) -> PointCloud {
        PointCloud::from_coordinates(&[-half_length, half_length], 2)
    }

    /// Points on a circle of radius 1.
    fn ring(points: usize) -> PointCloud {
        let angle = |i: usize| 2.0 * PI * i as f64 / points as f64;
        let circle: Vec<f64> = (0..points).flat_map(|i| [angle(i).cos(), angle(i).sin()]).collect();
        PointCloud::from_coordinates(&circle, points)
    }

    /// The points ±r along each of ten axes.
    fn cross_polytope(radius: f64) -> PointCloud {
        let axes = |length: f64| (0..100).map(move |i| if i % 11 == 0 { length } else { 0.0 });
        let rows: Vec<f64> = axes(radius).chain(axes(-radius)).collect();
        PointCloud::from_coordinates(&rows, 20)
    }

    #[test]
    fn capacity_of_a_point_is_that_of_the_perceptron() {
        // Gardner 1988: 1/capacity = ∫ (t + κ)² over t > -κ.
        let point = PointCloud::from_coordinates(&[], 1);
        for kappa in [0.0, 0.5, 1.0, 1.5] {
            let options = AnchorOptions { kappa, draws: 20_000, ..AnchorOptions::default() };
            let below = 0.5 * (1.0 + libm::erf(kappa / 2f64.sqrt()));
            let density = (-0.5 * kappa * kappa).exp() / (2.0 * PI).sqrt();
            let expected = 1.0 / ((1.0 + kappa * kappa) * below + kappa * density);
            let geometry = sampled(&point, &options);
            check("capacity", geometry.capacity, expected);
            assert_eq!((geometry.radius.value, geometry.dimension.value), (0.0, 0.0));
        }
    }

    #[test]
    fn segments_follow_the_angle_of_their_cone() {
        let options = AnchorOptions { draws: 20_000, ..AnchorOptions::default() };
        for half_length in [0.25, 1.0, 4.0f64] {
            let angle = half_length.atan();
            let geometry = sampled(&segment(half_length), &options);
            check("capacity", geometry.capacity.inverse(), 0.5 + 2.0 / PI * angle);
            // The anchor is the tangent of the angle of t within the cone, and an end point outside.
            let square = (half_length - angle + (PI - angle) * half_length.powi(2)) / PI;
            check("radius", geometry.radius, square.sqrt());
            assert!((geometry.dimension.value - 1.0).abs() < 1e-6, "{:?}", geometry.dimension);
        }
    }

    #[test]
    fn the_published_dimension_counts_the_null_direction() {
        let gram = Mat::from_fn(2, 2, |i, j| if i == j { 1.0 } else { -1.0 });
        let cloud = PointCloud::from_gram(gram.as_ref(), 500, 1.0).unwrap();
        let options = AnchorOptions { draws: 20_000, ..AnchorOptions::default() };
        // E|cos| = 2/π in two dimensions. replicaMFT @d56eda1 gives 0.8111 for 40 segments.
        check("published", sampled(&cloud, &options).dimension, 8.0 / (PI * PI));
        let options = AnchorOptions { basis: DimensionBasis::Rank, ..options };
        assert!((sampled(&cloud, &options).dimension.value - 1.0).abs() < 1e-6);
    }

    #[test]
    fn capacity_of_a_disk_is_that_of_a_self_dual_cone() {
        // A ball of radius 1 in D dimensions: 2 / (D + 1).
        let options = AnchorOptions { draws: 4_000, ..AnchorOptions::default() };
        check("capacity", sampled(&ring(720), &options).capacity, 2.0 / 3.0);
    }

    #[test]
    fn capacity_of_orthogonal_generators_counts_them() {
        // A simplex so large that points and center make right angles: each adds E[t₊²] = 1/2.
        let gram = Mat::from_fn(6, 6, |i, j| if i == j { 5.0 } else { -1.0 });
        let cloud = PointCloud::from_gram(gram.as_ref(), 100, 5.0).unwrap();
        let options = AnchorOptions { draws: 4_000, ..AnchorOptions::default() };
        let geometry = sampled(&cloud, &options);
        check("capacity", geometry.capacity, 2.0 / 6.0);
        assert!((geometry.support_mean - 3.0).abs() < 5.0 * (1.5f64 / 4_000.0).sqrt());
        assert!(
            (geometry.interior_fraction - 1.0 / 64.0).abs()
                < 5.0 * (1.0f64 / 64.0 / 4_000.0).sqrt()
        );
    }

    #[test]
    fn a_cross_polytope_agrees_with_the_reference_implementation() {
        // replicaMFT @d56eda1, D = 10, R = 1.5, 400 draws of its own: 0.2576, 0.9891, 7.309.
        let cloud = cross_polytope(1.5);
        let geometry = sampled(&cloud, &AnchorOptions { draws: 400, ..AnchorOptions::default() });
        for (ours, theirs) in [
            (geometry.capacity, 0.257_629),
            (geometry.radius, 0.989_130),
            (geometry.dimension, 7.309_132),
        ] {
            assert!(
                (ours.value - theirs).abs() < 4.5 * 2f64.sqrt() * ours.standard_error,
                "{ours:?}"
            );
        }
    }

    #[test]
    fn given_draws_have_their_reference_values() {
        // Made by an independent program: the support by scipy.optimize.nnls, then the normal equations on it and all
        // averages in 60 digits (mpmath), the optimality of each draw checked to 40.
        let residue = |n: usize, modulus: usize| (n % modulus) as f64;
        let draw = |i: usize, d: usize| (residue(37 * i + 101 * d + 13 * i * d, 199) - 99.0) / 50.0;
        let draws: Vec<f64> = (0..200).map(|n| draw(n / 5, n % 5)).collect();
        let corner = |n: usize| if n / 4 % 4 == n % 4 { 1.5 } else { 0.0 };
        let polytope: Vec<f64> =
            (0..32).map(|n| if n < 16 { corner(n) } else { -corner(n) }).collect();
        let scattered = |i: usize, d: usize| {
            (residue(29 * i * i + 17 * d * d + 7 * i * d + 3 * i + 11 * d, 61) - 30.0) / 16.0
        };
        let scattered: Vec<f64> = (0..48).map(|n| scattered(n / 4, n % 4)).collect();
        let check = |rows: &[f64], kappa: f64, expected: [f64; 5]| {
            let cloud = PointCloud::from_coordinates(rows, rows.len() / 4);
            let basis = DimensionBasis::Upstream;
            let found = anchor_geometry_of_draws(&cloud, kappa, basis, &draws).unwrap();
            let (capacity, radius, dimension) = (found.capacity, found.radius, found.dimension);
            let found = [
                capacity.value,
                radius.value,
                dimension.value,
                found.interior_fraction,
                found.support_mean,
            ];
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-12 * expected.abs(), "{found} {expected}");
            }
        };
        let (a, b) = (0.348_124_529_796_932_6, 1.049_523_370_720_191_6);
        check(&polytope, 0.0, [a, b, 3.467_199_173_066_104_5, 0.05, 2.825]);
        let (a, b) = (0.245_304_358_316_832_12, 0.961_624_330_424_601);
        check(&polytope, 0.5, [a, b, 3.705_201_017_924_781_4, 0.0, 3.1]);
        let (a, b) = (0.262_085_831_794_301_9, 1.867_368_874_416_056);
        check(&scattered, 0.0, [a, b, 3.210_543_182_130_415, 0.0, 2.725]);
        let (a, b) = (0.205_785_422_051_790_26, 1.689_988_655_741_568_6);
        check(&scattered, 0.5, [a, b, 3.415_852_541_354_087, 0.0, 3.0]);
    }

    fn given_draws(width: usize, count: usize) -> Vec<f64> {
        let mut draws = vec![0.0; width * count];
        Streams::new(5, "test").stream("draws").fill_normal(&mut draws);
        draws
    }

    fn assert_equal(a: &AnchorGeometry, b: &AnchorGeometry) {
        for (a, b) in [(a.capacity, b.capacity), (a.radius, b.radius), (a.dimension, b.dimension)] {
            assert!(
                (a.value - b.value).abs() < 1e-9
                    && (a.standard_error - b.standard_error).abs() < 1e-9
            );
        }
    }

    #[test]
    fn order_copies_and_orientation_of_the_points_change_nothing() {
        let mut points = vec![0.0; 12 * 3];
        Streams::new(6, "test").stream("points").fill_normal(&mut points);
        let draws = given_draws(4, 300);
        let geometry = |points: &[f64], draws: &[f64]| {
            let cloud = PointCloud::from_coordinates(points, points.len() / 3);
            anchor_geometry_of_draws(&cloud, 0.2, DimensionBasis::Upstream, draws).unwrap()
        };
        let expected = geometry(&points, &draws);
        let backwards: Vec<f64> = points.chunks(3).rev().flatten().copied().collect();
        assert_equal(&geometry(&backwards, &draws), &expected);
        assert_equal(&geometry(&[points.clone(), points.clone()].concat(), &draws), &expected);
        let rotate = |row: &[f64]| {
            let mut row = row.to_vec();
            (row[0], row[1]) = (0.6 * row[0] - 0.8 * row[1], 0.8 * row[0] + 0.6 * row[1]);
            row
        };
        let turned: Vec<f64> = points.chunks(3).flat_map(rotate).collect();
        let turned_draws: Vec<f64> = draws.chunks(4).flat_map(rotate).collect();
        assert_equal(&geometry(&turned, &turned_draws), &expected);
    }

    #[test]
    fn a_margin_shifts_the_center_coordinate() {
        let draws = given_draws(11, 200);
        let shifted: Vec<f64> = draws
            .iter()
            .enumerate()
            .map(|(i, t)| if i % 11 == 10 { t + 0.5 } else { *t })
            .collect();
        let geometry = |kappa, draws: &[f64]| {
            let cloud = cross_polytope(1.5);
            anchor_geometry_of_draws(&cloud, kappa, DimensionBasis::Rank, draws).unwrap()
        };
        assert_equal(&geometry(0.5, &draws), &geometry(0.0, &shifted));
    }

    #[test]
    fn what_cannot_be_measured_is_an_error() {
        let mut stream = Streams::new(1, "test").stream("anchors");
        let mut failure = |kappa, draws| {
            let options = AnchorOptions { kappa, draws, ..AnchorOptions::default() };
            anchor_geometry(&segment(1.0), &options, &mut stream).unwrap_err()
        };
        assert!(matches!(failure(f64::NAN, 10), AnchorError::Margin(_)));
        assert_eq!(failure(0.0, 1), AnchorError::Draws(1));
        assert_eq!(failure(-50.0, 10), AnchorError::Untouched(10));
    }
}
