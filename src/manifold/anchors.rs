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
    /// Whether each vector is followed by its mirror image, `t` by `−t`; an odd last draw gets one too.
    pub antithetic: bool,
    /// Whether the capacity is corrected by the squared length of `t`, whose mean is known: by Moreau's theorem it is
    /// the sum of the squared lengths of two projections, of which the capacity is one.
    pub control_variate: bool,
}

impl Default for AnchorOptions {
    fn default() -> Self {
        Self {
            kappa: 0.0,
            draws: 200,
            basis: DimensionBasis::Upstream,
            antithetic: false,
            control_variate: false,
        }
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
    if options.draws < 2 {
        return Err(AnchorError::Draws(options.draws));
    }
    let mut sampler = Sampler::new(cloud, options)?;
    sampler.draw(options.draws, stream)?;
    sampler.geometry()
}

/// Computes the same from given vectors, rows of `rank + 1` numbers with the center coordinate last.
pub fn anchor_geometry_of_draws(
    cloud: &PointCloud,
    kappa: f64,
    basis: DimensionBasis,
    draws: &[f64],
) -> Result<AnchorGeometry, AnchorError> {
    let rank = cloud.rank();
    let rows = draws.chunks_exact(rank + 1);
    let options = AnchorOptions { kappa, draws: rows.len(), basis, ..AnchorOptions::default() };
    if options.draws < 2 {
        return Err(AnchorError::Draws(options.draws));
    }
    let mut sampler = Sampler::new(cloud, &options)?;
    for row in rows {
        sampler.draw.within.copy_from_slice(&row[..rank]);
        sampler.draw.center = row[rank];
        sampler.anchors.push(&sampler.draw, &options)?;
    }
    sampler.geometry()
}

/// The anchor points of one manifold, more and more of them.
pub struct Sampler<'a> {
    anchors: Anchors<'a>,
    options: AnchorOptions,
    draw: Draw,
}

impl<'a> Sampler<'a> {
    /// Begins without any; how many are drawn is said later.
    pub fn new(cloud: &'a PointCloud, options: &AnchorOptions) -> Result<Self, AnchorError> {
        if !options.kappa.is_finite() {
            return Err(AnchorError::Margin(options.kappa));
        }
        let (anchors, draw) = (Anchors::new(cloud, options), cloud.empty_draw());
        Ok(Self { anchors, options: *options, draw })
    }

    /// Returns the number of draws so far.
    pub fn draws(&self) -> usize {
        self.anchors.squares.len()
    }

    /// Draws from a stream, always the same one, until there are as many as asked for.
    pub fn draw(&mut self, total: usize, stream: &mut Stream) -> Result<(), NotConverged> {
        while self.draws() < total {
            self.anchors.cloud.draw(stream, &mut self.draw);
            self.anchors.push(&self.draw, &self.options)?;
            if self.options.antithetic {
                self.draw.mirror();
                self.anchors.push(&self.draw, &self.options)?;
            }
        }
        Ok(())
    }

    /// Summarizes at least two draws; of mirrored ones, at least two pairs.
    pub fn geometry(&self) -> Result<AnchorGeometry, AnchorError> {
        let anchors = &self.anchors;
        let draws = self.draws();
        let samples = self.samples(&anchors.squares);
        let inverse_capacity = if self.options.control_variate {
            let kappa = self.options.kappa;
            let expected = (anchors.cloud.rank() + 1) as f64 + kappa * kappa;
            Estimate::controlled(&samples, &self.samples(&anchors.lengths), expected)
        } else {
            Estimate::of_samples(samples.into_iter())
        };
        if inverse_capacity.value <= 0.0 || anchors.interior == draws {
            return Err(AnchorError::Untouched(draws));
        }
        let dimensions = match self.options.basis {
            DimensionBasis::Upstream => anchors.cloud.dimensions(),
            DimensionBasis::Rank => anchors.cloud.rank(),
        };
        let cosine = Estimate::of_samples(self.samples(&anchors.cosines).into_iter());
        let deviations = self.samples(&anchors.squared_deviations());
        Ok(AnchorGeometry {
            capacity: inverse_capacity.inverse(),
            radius: Estimate::of_samples(deviations.into_iter()).sqrt(),
            dimension: cosine.scaled_square(dimensions as f64),
            support_mean: anchors.support as f64 / draws as f64,
            interior_fraction: anchors.interior as f64 / draws as f64,
        })
    }

    /// Returns independent samples: those of a draw and its mirror image are averaged.
    fn samples(&self, values: &[f64]) -> Vec<f64> {
        if self.options.antithetic {
            values.chunks_exact(2).map(|pair| f64::midpoint(pair[0], pair[1])).collect()
        } else {
            values.to_vec()
        }
    }
}

/// The anchor points of the draws so far.
struct Anchors<'a> {
    cloud: &'a PointCloud,
    nnls: Nnls,
    /// `⟨t, s⟩ + κ` of every point.
    linear: Vec<f64>,
    /// Squared lengths of the projections onto the cone.
    squares: Vec<f64>,
    /// Squared lengths of the vectors, in the dimensions of the cone.
    lengths: Vec<f64>,
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
            lengths: Vec::with_capacity(options.draws),
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
        self.lengths.push(dot(&draw.within, &draw.within) + shifted * shifted);
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
