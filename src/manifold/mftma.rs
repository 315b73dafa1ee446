//! Mean-field theoretic manifold analysis of a layer.
//!
//! The replica analysis of Chung, Lee & Sompolinsky (Phys. Rev. X 8, 031003, 2018) with the correction for correlated
//! centers of Cohen, Chung, Lee & Sompolinsky (Nat. Commun. 11, 746, 2020): center the points, remove the directions
//! that the centers share, measure each manifold in units of the distance of its center from the mean of all points.
//! All steps work on inner products and are exact for any number of features: no random projection is needed.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use thiserror::Error;

use super::anchors::{AnchorError, AnchorGeometry, AnchorOptions, DimensionBasis, Sampler};
use super::centers::{self, CenterCorrection, CenterError, CenterGeometry};
use super::cloud::PointCloud;
use super::dimensions::{self, Pooled, PooledDimensions};
use super::estimate::Estimate;
use super::gram::{self, LayerGram, Pairs, PointSource, PointsError};
use super::residual::{ManifoldError, ManifoldGeometry, Residual};
use super::spectrum::SpectrumError;
use super::watch::Watch;
use crate::rng::{Stream, Streams};

/// Draws of each manifold before their standard error is looked at for the first time.
const FIRST_DRAWS: usize = 100;

/// Options of the analysis of a layer; the defaults are the published ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MftmaOptions {
    /// Margin, in units of the center norm; 0 by default.
    pub kappa: f64,
    /// Gaussian vectors a manifold, at least 2; 200 by default. With a `standard_error`, at most so many.
    pub draws: usize,
    /// Drawing ends where the standard error of the layer's capacity falls to this fraction of it; above 0.
    pub standard_error: Option<f64>,
    /// Whether each vector is followed by its mirror image.
    pub antithetic: bool,
    /// Whether capacities are corrected by the lengths of the vectors.
    pub control_variate: bool,
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
            standard_error: None,
            antithetic: false,
            control_variate: false,
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
    /// Vectors that were drawn for each manifold.
    pub draws: usize,
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
    /// The standard error that is asked for makes no sense.
    #[error("the standard error must be a fraction above 0, not {0}")]
    StandardError(f64),
    /// Mirror images come in pairs, and errors need two of them.
    #[error("at least 4 mirrored draws are needed, not {0}")]
    Pairs(usize),
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
    manifolds: &(impl PointSource + ?Sized),
    options: &MftmaOptions,
    streams: &Streams,
    watch: &Watch<'_>,
) -> Result<LayerGeometry, MftmaError> {
    check_options(options)?;
    manifolds.check()?;
    let features = manifolds.features();
    let pairs = match options.pooled {
        Pooled::None => Pairs::Within,
        Pooled::ParticipationRatio | Pooled::Both { .. } => dimensions::pairs_needed(manifolds),
    };
    let gram = gram::layer_gram(manifolds, pairs, &watch.part(0.0, 0.3))?;
    let gram = gram.ok_or(MftmaError::Cancelled)?;
    gram.check_finite()?;
    let (pooled, measured) = rayon::join(
        || dimensions::layer_dimensions(manifolds, &gram, options.pooled, watch),
        || measure(&gram, features, options, streams, watch),
    );
    let (centers, manifolds, draws) = measured?;
    summarize(manifolds, centers, pooled?, features, draws)
}

fn check_options(options: &MftmaOptions) -> Result<(), MftmaError> {
    if !options.kappa.is_finite() {
        return Err(MftmaError::Anchors(AnchorError::Margin(options.kappa)));
    }
    if options.draws < 2 {
        return Err(MftmaError::Anchors(AnchorError::Draws(options.draws)));
    }
    if options.antithetic && options.draws < 4 {
        return Err(MftmaError::Pairs(options.draws));
    }
    if let Some(target) = options.standard_error.filter(|e| !(*e > 0.0 && e.is_finite())) {
        return Err(MftmaError::StandardError(target));
    }
    match options.pooled {
        Pooled::Both { fraction } if !(fraction > 0.0 && fraction <= 1.0) => {
            Err(MftmaError::Fraction(fraction))
        }
        _ => Ok(()),
    }
}

type Manifolds = Vec<Result<ManifoldGeometry, ManifoldError>>;
type Measured = (CenterGeometry, Manifolds, usize);

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
    let residual = Residual::new(gram, &centers, features);
    let clouds: Vec<Result<(PointCloud, f64), ManifoldError>> =
        (0..gram.manifolds.len()).into_par_iter().map(|i| residual.cloud(i)).collect();
    let (manifolds, draws) = sample(&clouds, options, streams, &watch.part(0.7, 1.0))?;
    Ok((centers, manifolds, draws))
}

/// A manifold that is being measured.
struct Sampling<'a> {
    sampler: Sampler<'a>,
    stream: Stream,
    cloud: &'a PointCloud,
    center_norm: f64,
}

impl Sampling<'_> {
    fn geometry(&self) -> Result<ManifoldGeometry, ManifoldError> {
        Ok(ManifoldGeometry {
            anchors: self.sampler.geometry()?,
            center_norm: self.center_norm,
            points: self.cloud.points(),
            rank: self.cloud.rank(),
        })
    }
}

/// Draws anchors of all manifolds, as many of each, until the layer's capacity is known well enough.
fn sample(
    clouds: &[Result<(PointCloud, f64), ManifoldError>],
    options: &MftmaOptions,
    streams: &Streams,
    watch: &Watch<'_>,
) -> Result<(Manifolds, usize), MftmaError> {
    let anchor_options = AnchorOptions {
        kappa: options.kappa,
        draws: options.draws,
        basis: options.dimension_basis,
        antithetic: options.antithetic,
        control_variate: options.control_variate,
    };
    let mut all: Vec<Result<Sampling<'_>, ManifoldError>> = clouds
        .iter()
        .enumerate()
        .map(|(i, cloud)| {
            let (cloud, center_norm) = cloud.as_ref().map_err(|error| *error)?;
            let sampler = Sampler::new(cloud, &anchor_options)?;
            let stream = streams.indexed("anchors", i as u64);
            Ok(Sampling { sampler, stream, cloud, center_norm: *center_norm })
        })
        .collect();
    let first = if options.standard_error.is_some() { FIRST_DRAWS } else { options.draws };
    let mut total = first.min(options.draws);
    let done = AtomicUsize::new(0);
    loop {
        all.par_iter_mut().for_each(|one| {
            if watch.is_cancelled() {
                return;
            }
            if let Ok(Sampling { sampler, stream, .. }) = one
                && let Err(error) = sampler.draw(total, stream)
            {
                *one = Err(AnchorError::from(error).into());
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            watch.report(f64::min(done as f64 / clouds.len() as f64, 1.0));
        });
        if watch.is_cancelled() {
            return Err(MftmaError::Cancelled);
        }
        let measured = all.par_iter().map(|one| one.as_ref().map_err(|e| *e)?.geometry());
        let measured: Manifolds = measured.collect();
        match more_draws(&measured, total, options) {
            Some(more) => total = more,
            None => return Ok((measured, total)),
        }
    }
}

/// Returns how many draws there are to be in all; `None` where there are enough.
fn more_draws(measured: &Manifolds, total: usize, options: &MftmaOptions) -> Option<usize> {
    let target = options.standard_error.filter(|_| total < options.draws)?;
    let each = measured.iter().flatten().map(|manifold| manifold.anchors.capacity.inverse());
    let each: Vec<Estimate> = each.collect();
    if each.is_empty() {
        return Some((4 * total).min(options.draws));
    }
    let inverse = Estimate::mean(each.into_iter());
    let ratio = inverse.standard_error / inverse.value / target;
    // Errors fall with the root of the draws; a first guess at them may be poor.
    let wanted = (total as f64 * ratio * ratio * 1.05).ceil().min(4.0 * total as f64) as usize;
    let wanted = wanted.max(total + 2).next_multiple_of(2);
    (ratio > 1.0).then_some(wanted.min(options.draws))
}

fn summarize(
    manifolds: Vec<Result<ManifoldGeometry, ManifoldError>>,
    centers: CenterGeometry,
    pooled: Option<PooledDimensions>,
    features: usize,
    draws: usize,
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
        draws,
    })
}
