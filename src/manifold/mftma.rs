//! Mean-field theoretic manifold analysis of a layer.
//!
//! The replica analysis of Chung, Lee & Sompolinsky (Phys. Rev. X 8, 031003, 2018) with the correction for correlated
//! centers of Cohen, Chung, Lee & Sompolinsky (Nat. Commun. 11, 746, 2020): center the points, remove the directions
//! that the centers share, measure each manifold in units of the distance of its center from the mean of all points.
//! All steps work on inner products and are exact for any number of features: no random projection is needed.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use thiserror::Error;

use super::anchors::{AnchorError, AnchorGeometry, AnchorOptions, DimensionBasis};
use super::centers::{self, CenterCorrection, CenterError, CenterGeometry};
use super::dimensions::{self, Pooled, PooledDimensions};
use super::estimate::Estimate;
use super::gram::{self, LayerGram, Pairs, Points, PointsError};
use super::residual::{ManifoldError, ManifoldGeometry, Residual};
use super::spectrum::SpectrumError;
use super::watch::Watch;
use crate::rng::Streams;

/// Options of the analysis of a layer; the defaults are the published ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MftmaOptions {
    /// Margin, in units of the center norm; 0 by default.
    pub kappa: f64,
    /// Gaussian vectors a manifold, at least 2; 200 by default.
    pub draws: usize,
    /// What is done about correlated centers.
    pub center_correction: CenterCorrection,
    /// Which number of dimensions enters a manifold's dimension.
    pub dimension_basis: DimensionBasis,
    /// Which dimensions of all points together are measured; both by default, at 0.9 of the variance.
    pub pooled: Pooled,
}

impl Default for MftmaOptions {
    fn default() -> Self {
        Self {
            kappa: 0.0,
            draws: 200,
            center_correction: CenterCorrection::default(),
            dimension_basis: DimensionBasis::default(),
            pooled: Pooled::Both { fraction: 0.9 },
        }
    }
}

/// The geometry of a layer.
#[derive(Clone, Debug)]
pub struct LayerGeometry {
    /// Each manifold's geometry, in the order given, or why it has none.
    pub manifolds: Vec<Result<ManifoldGeometry, ManifoldError>>,
    /// Manifolds that have a geometry and enter the means below.
    pub measured: usize,
    /// Harmonic mean of the capacities, which is the capacity of the mixture.
    ///
    /// The standard errors are those of the draws for the given points and removed directions; manifolds count as
    /// fixed, not as a sample.
    pub capacity: Estimate,
    /// Mean radius.
    pub radius: Estimate,
    /// Mean dimension.
    pub dimension: Estimate,
    /// The correlations between the centers and what was removed.
    pub centers: CenterGeometry,
    /// Dimensions of all points together, where asked for.
    pub pooled: Option<PooledDimensions>,
    /// Numbers a point: the ambient dimension.
    pub features: usize,
}

/// Why a layer has no geometry.
#[derive(Debug, Error, Clone, Copy, PartialEq)]
pub enum MftmaError {
    /// The points make no layer.
    #[error(transparent)]
    Points(#[from] PointsError),
    /// The fraction of the variance makes no sense.
    #[error("the fraction of the variance must lie in (0, 1], not {0}")]
    Fraction(f64),
    /// The anchor options make no sense.
    #[error(transparent)]
    Anchors(AnchorError),
    /// The correlations of the centers could not be found.
    #[error(transparent)]
    Centers(CenterError),
    /// The pooled dimensions could not be found.
    #[error(transparent)]
    Spectrum(#[from] SpectrumError),
    /// Every manifold failed.
    #[error("no manifold has a geometry; of the first: {0}")]
    NoneMeasured(ManifoldError),
    /// The caller asked to stop.
    #[error("the analysis was cancelled")]
    Cancelled,
}

impl From<CenterError> for MftmaError {
    fn from(error: CenterError) -> Self {
        match error {
            CenterError::Cancelled => Self::Cancelled,
            other => Self::Centers(other),
        }
    }
}

/// Measures the manifolds of a layer: at least two, each of at least one point.
///
/// Manifold `i` draws from lane `i` of one stream and every reduction has a fixed order, so that the result depends
/// neither on threads nor on the features' rotation beyond rounding. Layers that are given the same streams see the same
/// draws: differences between them are more certain than their standard errors say.
pub fn analyze(
    manifolds: &[Points<'_>],
    options: &MftmaOptions,
    streams: &Streams,
    watch: &Watch<'_>,
) -> Result<LayerGeometry, MftmaError> {
    check_options(options)?;
    gram::check_points(manifolds)?;
    let features = manifolds[0].features;
    let pairs = match options.pooled {
        Pooled::None => Pairs::Within,
        Pooled::ParticipationRatio | Pooled::Both { .. } => dimensions::pairs_needed(manifolds),
    };
    let gram = gram::layer_gram(manifolds, pairs, &watch.part(0.0, 0.3));
    let gram = gram.ok_or(MftmaError::Cancelled)?;
    gram.check_finite()?;
    let (pooled, measured) = rayon::join(
        || dimensions::layer_dimensions(manifolds, &gram, options.pooled, watch),
        || measure(&gram, features, options, streams, watch),
    );
    let (centers, manifolds) = measured?;
    summarize(manifolds, centers, pooled?, features)
}

fn check_options(options: &MftmaOptions) -> Result<(), MftmaError> {
    if !options.kappa.is_finite() {
        return Err(MftmaError::Anchors(AnchorError::Margin(options.kappa)));
    }
    if options.draws < 2 {
        return Err(MftmaError::Anchors(AnchorError::Draws(options.draws)));
    }
    match options.pooled {
        Pooled::Both { fraction } if !(fraction > 0.0 && fraction <= 1.0) => {
            Err(MftmaError::Fraction(fraction))
        }
        _ => Ok(()),
    }
}

type Measured = (CenterGeometry, Vec<Result<ManifoldGeometry, ManifoldError>>);

/// Finds the correlated directions and measures each manifold without them.
fn measure(
    gram: &LayerGram,
    features: usize,
    options: &MftmaOptions,
    streams: &Streams,
    watch: &Watch<'_>,
) -> Result<Measured, MftmaError> {
    let centers = centers::correlated_directions(
        gram.centers.as_ref(),
        &options.center_correction,
        streams,
        &watch.part(0.3, 0.7),
    )?;
    let anchor_options = AnchorOptions {
        kappa: options.kappa,
        draws: options.draws,
        basis: options.dimension_basis,
    };
    let residual = Residual::new(gram, &centers, features);
    let done = AtomicUsize::new(0);
    let manifolds = (0..gram.manifolds.len())
        .into_par_iter()
        .map(|i| {
            if watch.is_cancelled() {
                return Err(MftmaError::Cancelled);
            }
            let mut stream = streams.indexed("anchors", i as u64);
            let geometry = residual.geometry(i, &anchor_options, &mut stream);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            watch.part(0.7, 1.0).report(done as f64 / gram.manifolds.len() as f64);
            Ok(geometry)
        })
        .collect::<Result<_, _>>()?;
    Ok((centers, manifolds))
}

fn summarize(
    manifolds: Vec<Result<ManifoldGeometry, ManifoldError>>,
    centers: CenterGeometry,
    pooled: Option<PooledDimensions>,
    features: usize,
) -> Result<LayerGeometry, MftmaError> {
    let measured: Vec<AnchorGeometry> =
        manifolds.iter().flatten().map(|manifold| manifold.anchors).collect();
    if measured.is_empty() {
        let first = manifolds.iter().find_map(|manifold| manifold.as_ref().err());
        return Err(MftmaError::NoneMeasured(*first.expect("there are at least two manifolds")));
    }
    let inverse = Estimate::mean(measured.iter().map(|anchors| anchors.capacity.inverse()));
    Ok(LayerGeometry {
        measured: measured.len(),
        capacity: inverse.inverse(),
        radius: Estimate::mean(measured.iter().map(|anchors| anchors.radius)),
        dimension: Estimate::mean(measured.iter().map(|anchors| anchors.dimension)),
        manifolds,
        centers,
        pooled,
        features,
    })
}
