//! Geometry linked to untangling efficiency: capacity and effective geometry for given kinds of dichotomies.
//!
//! Where the mean-field theory of [`super::mftma`] takes manifolds one by one and random labels, this analysis projects
//! a Gaussian vector `t` onto the one cone that all points of all manifolds generate under the signs of a dichotomy, so
//! that all correlations count and nothing has to be removed (Chou, Kim, Arend, Yang, Mensh, Shim, Perich & Chung, *Geometry
//! linked to untangling efficiency reveals structure and computation in neural populations*, bioRxiv 2024.02.26.582157).
//! The anchor point of a manifold is the mean of its points under the weights of the projection. What follows from the
//! anchors is in [`super::effective`].

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use thiserror::Error;

use super::arithmetic::add_scaled;
use super::cone::{Generators, Projector};
use super::dichotomy::{Dichotomies, DichotomyError};
use super::effective::{self, EffectiveError, EffectiveGeometry};
use super::gram::{self, Points, PointsError};
use super::joint::{self, Joint};
use super::nnls::NotConverged;
use super::watch::Watch;
use crate::rng::Streams;

/// Inner products that a projection leaves below this fraction of the largest are rounding.
const INSIDE: f64 = 1e-9;

/// Options of the analysis of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlueOptions {
    /// Which manifolds are told from which.
    pub dichotomies: Dichotomies,
    /// Gaussian vectors, each with a dichotomy; at least 2.
    pub draws: usize,
}

/// Why a layer has no geometry.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum GlueError {
    /// The points make no layer.
    #[error(transparent)]
    Points(#[from] PointsError),
    /// There is nothing to tell apart.
    #[error(transparent)]
    Dichotomies(#[from] DichotomyError),
    /// Standard errors need at least two draws.
    #[error("at least 2 draws are needed, not {0}")]
    Draws(usize),
    /// All points are equal.
    #[error("all points coincide: nothing tells the manifolds apart")]
    Coincide,
    /// A projection failed.
    #[error(transparent)]
    Projection(#[from] NotConverged),
    /// The anchors have no geometry.
    #[error(transparent)]
    Effective(#[from] EffectiveError),
    /// The caller asked to stop.
    #[error("the analysis was cancelled")]
    Cancelled,
}

/// One draw: what the projection of `t` onto the cone rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// The points with a positive weight.
    pub support: Vec<usize>,
    /// Their weights.
    pub weights: Vec<f64>,
    /// The inner products of `t` with all points.
    pub along: Vec<f64>,
    /// The signs of the manifolds.
    pub signs: Vec<f64>,
    /// Whether the cone holds all of `t` that lies in the span of the points, so that the weights are not unique.
    pub inside: bool,
}

/// Measures the manifolds of a layer: at least two, each of at least one point.
///
/// Draw `k` has lanes of its own and every sum has a fixed order, so that the result does not depend on threads. Layers of
/// as many features that are given the same streams see the same draws.
pub fn analyze(
    manifolds: &[Points<'_>],
    options: &GlueOptions,
    streams: &Streams,
    watch: &Watch<'_>,
) -> Result<EffectiveGeometry, GlueError> {
    gram::check_points(manifolds)?;
    options.dichotomies.check(manifolds.len())?;
    if options.draws < 2 {
        return Err(GlueError::Draws(options.draws));
    }
    joint::check_finite(manifolds)?;
    let products = joint::multiply(manifolds, options.draws, streams, &watch.part(0.0, 0.3));
    let (joint, along) = products.ok_or(GlueError::Cancelled)?;
    if (0..joint.count()).all(|point| joint.row(point)[point] <= 0.0) {
        return Err(GlueError::Coincide);
    }
    let draws = along.chunks_exact(joint.count()).enumerate();
    let draws = draws
        .map(|(k, along)| (along, options.dichotomies.signs(k, joint.manifolds, streams)))
        .collect();
    geometry_of_draws(&joint, draws, watch)
}

/// Computes the same from given draws: the inner products of each vector with all points, and the manifolds' signs.
pub fn geometry_of_draws(
    joint: &Joint,
    draws: Vec<(&[f64], Vec<f64>)>,
    watch: &Watch<'_>,
) -> Result<EffectiveGeometry, GlueError> {
    let (done, total) = (AtomicUsize::new(0), draws.len() as f64);
    let project = |projector: &mut Projector, (along, signs): (&[f64], Vec<f64>)| {
        if watch.is_cancelled() {
            return Err(GlueError::Cancelled);
        }
        let projection = project(joint, along, signs, projector)?;
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        watch.part(0.3, 0.9).report(done as f64 / total);
        Ok(projection)
    };
    let projections: Vec<Projection> =
        draws.into_par_iter().map_init(Projector::new, project).collect::<Result<_, _>>()?;
    let geometry = effective::geometry(joint, &projections)?;
    watch.report(1.0);
    Ok(geometry)
}

/// Projects one vector onto the cone of all points under the signs of their manifolds.
fn project(
    joint: &Joint,
    along: &[f64],
    signs: Vec<f64>,
    projector: &mut Projector,
) -> Result<Projection, NotConverged> {
    let signed = Signed { joint, signs: joint.manifold.iter().map(|&i| signs[i]).collect() };
    let linear: Vec<f64> = along.iter().zip(&signed.signs).map(|(t, sign)| t * sign).collect();
    projector.project(&signed, &linear)?;
    let largest = linear.iter().fold(0.0f64, |largest, c| largest.max(c.abs()));
    let mut slack = linear.iter().zip(projector.products()).map(|(c, p)| (c - p).abs());
    Ok(Projection {
        inside: slack.all(|slack| slack <= INSIDE * largest),
        support: projector.support().to_vec(),
        weights: projector.weights().to_vec(),
        along: along.to_vec(),
        signs,
    })
}

/// The points of a layer, each times the sign of its manifold.
struct Signed<'a> {
    joint: &'a Joint,
    signs: Vec<f64>,
}

impl Generators for Signed<'_> {
    fn product(&self, i: usize, j: usize) -> f64 {
        self.signs[i] * self.signs[j] * self.joint.row(i)[j]
    }

    fn products_with(&self, indices: &[usize], weights: &[f64], products: &mut [f64]) {
        products.fill(0.0);
        for (&i, weight) in indices.iter().zip(weights) {
            add_scaled(products, weight * self.signs[i], self.joint.row(i));
        }
        products.iter_mut().zip(&self.signs).for_each(|(product, sign)| *product *= sign);
    }
}
