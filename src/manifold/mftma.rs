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
use super::dimensions::{self, PooledDimensions};
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
    /// The fraction of the variance, in (0, 1], that defines the explained variance dimension of all points together;
    /// 0.9 by default. `None` leaves the pooled dimensions out, whose time grows with the cube of the points or the
    /// features, whichever are fewer.
    pub pooled_fraction: Option<f64>,
}

impl Default for MftmaOptions {
    fn default() -> Self {
        Self {
            kappa: 0.0,
            draws: 200,
            center_correction: CenterCorrection::default(),
            dimension_basis: DimensionBasis::default(),
            pooled_fraction: Some(0.9),
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
    let pairs = match options.pooled_fraction {
        Some(_) => dimensions::pairs_needed(manifolds),
        None => Pairs::Within,
    };
    let gram = gram::layer_gram(manifolds, pairs, &watch.part(0.0, 0.3));
    let gram = gram.ok_or(MftmaError::Cancelled)?;
    gram.check_finite()?;
    let (pooled, measured) = rayon::join(
        || {
            let measure = |fraction| dimensions::layer_dimensions(manifolds, &gram, fraction);
            options.pooled_fraction.map(measure).transpose()
        },
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
    match options.pooled_fraction {
        Some(fraction) if !(fraction > 0.0 && fraction <= 1.0) => {
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

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;
    use std::sync::Mutex;

    use super::*;
    use crate::manifold::centers::{LowRank, RankChoice};

    /// Equally many points of each manifold, all features of a point together.
    struct Layer {
        features: usize,
        manifolds: Vec<Vec<f32>>,
    }

    impl Layer {
        /// Fills `(manifold, point, feature)` from a formula.
        fn from_fn(
            shape: (usize, usize, usize),
            value: impl Fn(usize, usize, usize) -> f64,
        ) -> Self {
            let (manifolds, points, features) = shape;
            let row = |i, j| (0..features).map(move |f| (i, j, f));
            let manifold = |i| -> Vec<f32> {
                let entries = (0..points).flat_map(|j| row(i, j));
                entries.map(|(i, j, f)| value(i, j, f) as f32).collect()
            };
            Self { features, manifolds: (0..manifolds).map(manifold).collect() }
        }

        /// Segments about orthonormal centers, along directions orthogonal to everything else.
        fn segments(count: usize, half_length: f64) -> Self {
            Self::from_fn((count, 2, 2 * count), |i, j, f| {
                let sign = if j == 0 { half_length } else { -half_length };
                f64::from(f == i) + if f == count + i { sign } else { 0.0 }
            })
        }

        /// Clouds about random centers with common directions; numbers of few bits, so that shifts are exact.
        fn random(count: usize, points: usize, features: usize) -> Self {
            let streams = Streams::new(3, "test");
            let normals = |purpose, index: usize, number| {
                let mut normals = vec![0.0; number];
                streams.indexed(purpose, index as u64).fill_normal(&mut normals);
                normals
            };
            let common = normals("common", 0, features);
            let centers: Vec<Vec<f64>> =
                (0..count).map(|i| normals("center", i, features + 1)).collect();
            let clouds: Vec<Vec<f64>> =
                (0..count).map(|i| normals("cloud", i, points * features)).collect();
            Self::from_fn((count, points, features), |i, j, f| {
                let center = centers[i][f] + 3.0 * centers[i][features] * common[f];
                ((center + 0.3 * clouds[i][j * features + f]) * 256.0).round() / 256.0
            })
        }

        fn points(&self) -> Vec<Points<'_>> {
            let features = self.features;
            self.manifolds.iter().map(|values| Points { values, features }).collect()
        }

        fn map(&self, value: impl Fn(usize, f32) -> f32) -> Self {
            let entries = |values: &Vec<f32>| {
                values.iter().enumerate().map(|(f, &x)| value(f % self.features, x)).collect()
            };
            Self {
                features: self.features,
                manifolds: self.manifolds.iter().map(entries).collect(),
            }
        }

        fn analyze(&self, options: &MftmaOptions) -> Result<LayerGeometry, MftmaError> {
            analyze(&self.points(), options, &Streams::new(1, "test"), &Watch::none())
        }
    }

    fn uncorrected(draws: usize) -> MftmaOptions {
        MftmaOptions { draws, center_correction: CenterCorrection::None, ..MftmaOptions::default() }
    }

    fn check(name: &str, estimate: Estimate, expected: f64) {
        let error = (estimate.value - expected).abs();
        assert!(
            error <= 4.5 * estimate.standard_error + 1e-7,
            "{name}: {estimate:?}, not {expected}"
        );
    }

    #[test]
    fn segments_have_their_closed_form() {
        // Centered, the centers have the squared norm 1 − 1/P, and the half length is 1 in its units.
        let norm = (1.0f64 - 1.0 / 20.0).sqrt();
        let layer = Layer::segments(20, norm).analyze(&uncorrected(2000)).unwrap();
        check("capacity", layer.capacity, 1.0);
        check("radius", layer.radius, (0.5 + 1.0 / PI).sqrt());
        check("dimension", layer.dimension, 8.0 / (PI * PI));
        assert!(layer.capacity.standard_error < 0.01);
        assert_eq!((layer.measured, layer.features, layer.centers.k), (20, 40, 0));
        let first = layer.manifolds[0].as_ref().unwrap();
        assert!((first.center_norm - norm).abs() < 1e-6);
        assert_eq!((first.points, first.rank), (2, 1));
    }

    #[test]
    fn segments_agree_with_the_reference_implementation() {
        // replicaMFT @d56eda1 on 40 segments of half length 1 about random centers in 500 dimensions, K = 1: capacity
        // 0.9931, radius 0.9274, dimension 0.811 from 2000 draws. The centers here are orthogonal, the rest as there.
        let options = MftmaOptions { draws: 2000, ..MftmaOptions::default() };
        let layer = Layer::segments(40, 1.0).analyze(&options).unwrap();
        assert_eq!(layer.centers.k, 1);
        for (ours, theirs) in
            [(layer.capacity, 0.9931), (layer.radius, 0.9274), (layer.dimension, 0.811)]
        {
            assert!(
                (ours.value - theirs).abs() < 6.0 * ours.standard_error + 0.01,
                "{ours:?} {theirs}"
            );
        }
    }

    #[test]
    fn points_have_the_capacity_of_the_perceptron() {
        for count in [2, 3, 30] {
            let layer = Layer::random(count, 1, 50).analyze(&MftmaOptions::default()).unwrap();
            check("capacity", layer.capacity, 2.0);
            assert_eq!((layer.radius.value, layer.dimension.value), (0.0, 0.0));
            assert!(layer.centers.k <= count - 2);
        }
    }

    #[test]
    fn copies_of_points_leave_a_point() {
        let single = Layer::random(6, 1, 50);
        let copies = Layer::from_fn((6, 4, 50), |i, _, f| f64::from(single.manifolds[i][f]));
        let layer = copies.analyze(&uncorrected(500)).unwrap();
        assert_eq!(layer.radius.value, 0.0);
        check("capacity", layer.capacity, 2.0);
    }

    /// Asserts equality up to a relative tolerance, with another unit of length.
    fn assert_same(a: &LayerGeometry, b: &LayerGeometry, unit: f64, tolerance: f64) {
        let close = |a: f64, b: f64| assert!((a - b).abs() <= tolerance * a.abs(), "{a} {b}");
        for (a, b) in a.manifolds.iter().zip(&b.manifolds) {
            let (a, b) = (a.as_ref().unwrap(), b.as_ref().unwrap());
            close(a.anchors.capacity.value, b.anchors.capacity.value);
            close(a.anchors.radius.value, b.anchors.radius.value);
            close(a.anchors.dimension.value, b.anchors.dimension.value);
            close(a.center_norm * unit, b.center_norm);
        }
        let (a, b) = (a.pooled.unwrap(), b.pooled.unwrap());
        close(a.participation_ratio, b.participation_ratio);
        assert_eq!(a.explained_variance, b.explained_variance);
    }

    #[test]
    fn units_origin_and_axes_change_nothing() {
        let layer = Layer::random(8, 10, 60);
        // Upside down and in reverse: a rotation that loses no bits.
        let rotated =
            Layer::from_fn((8, 10, 60), |i, j, f| -f64::from(layer.manifolds[i][j * 60 + 59 - f]));
        let shifted = layer.map(|f, x| x + f as f32);
        for (options, tolerance) in [(uncorrected(200), 1e-9), (MftmaOptions::default(), 1e-4)] {
            let expected = layer.analyze(&options).unwrap();
            let scaled = layer.map(|_, x| 0.1 * x).analyze(&options).unwrap();
            assert_same(&expected, &layer.map(|_, x| 4.0 * x).analyze(&options).unwrap(), 4.0, 0.0);
            assert_same(&expected, &scaled, 0.1, f64::max(tolerance, 1e-4));
            assert_same(&expected, &shifted.analyze(&options).unwrap(), 1.0, tolerance);
            assert_same(&expected, &rotated.analyze(&options).unwrap(), 1.0, tolerance);
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let layer = Layer::random(12, 20, 5000);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            format!("{:?}", pool.install(|| layer.analyze(&MftmaOptions::default()).unwrap()))
        };
        let expected = run(1);
        for threads in [2, 3] {
            assert!(run(threads) == expected, "{threads} threads change the result");
        }
    }

    #[test]
    fn a_common_direction_is_removed() {
        let layer = Layer::random(15, 12, 80);
        let options = MftmaOptions::default();
        let corrected = layer.analyze(&options).unwrap();
        assert_eq!(corrected.centers.k, 1);
        assert!(corrected.centers.trials[1].residual < 0.5 * corrected.centers.correlation);
        let fixed =
            CenterCorrection::LowRank(LowRank { rank: RankChoice::Fixed(0), ..LowRank::default() });
        let fixed = layer.analyze(&MftmaOptions { center_correction: fixed, ..options }).unwrap();
        assert_same(&layer.analyze(&uncorrected(200)).unwrap(), &fixed, 1.0, 0.0);
    }

    #[test]
    fn a_manifold_at_the_mean_fails_alone() {
        let layer = Layer::from_fn((5, 2, 12), |i, j, f| {
            let center = if i < 4 && f == i / 2 { [1.0, -1.0][i % 2] } else { 0.0 };
            center + if f == 4 + i { [0.25, -0.25][j] } else { 0.0 }
        });
        let geometry = layer.analyze(&uncorrected(100)).unwrap();
        assert_eq!(geometry.measured, 4);
        assert_eq!(geometry.manifolds[4], Err(ManifoldError::CenterAtMean));
        assert!(geometry.manifolds[..4].iter().all(Result::is_ok));
    }

    #[test]
    fn input_that_makes_no_sense_is_an_error() {
        let fail = |rows: &[&[f32]], options: &MftmaOptions| {
            let points: Vec<Points<'_>> =
                rows.iter().map(|values| Points { values, features: 2 }).collect();
            analyze(&points, options, &Streams::new(1, "test"), &Watch::none())
                .unwrap_err()
                .to_string()
        };
        let options = MftmaOptions::default();
        let (one, other): (&[f32], &[f32]) = (&[1.0, 2.0, 3.0, 4.0], &[5.0, -2.0]);
        for (rows, options, expected) in [
            (vec![one], options, "at least 2 manifolds are needed, not 1"),
            (vec![one, &[1.0, f32::NAN]], options, "manifold 1 has a number that is not finite"),
            (
                vec![one, one],
                options,
                "the manifolds' centers coincide: no direction tells them apart",
            ),
            (
                vec![one, other],
                MftmaOptions { kappa: f64::NAN, ..options },
                "the margin must be finite, not NaN",
            ),
            (
                vec![one, other],
                MftmaOptions { draws: 1, ..options },
                "at least 2 draws are needed, not 1",
            ),
            (
                vec![one, other],
                MftmaOptions { pooled_fraction: Some(1.5), ..options },
                "the fraction of the variance must lie in (0, 1], not 1.5",
            ),
            (
                vec![one, other],
                MftmaOptions { kappa: -1e3, ..options },
                "no manifold has a geometry; of the first: none of 200 draws met a constraint: the \
                 capacity is too large to measure with so few",
            ),
        ] {
            assert_eq!(fail(&rows, &options), expected);
        }
    }

    #[test]
    fn progress_reaches_its_end_and_a_cancelled_analysis_stops() {
        let layer = Layer::random(6, 5, 30);
        let largest = Mutex::new(0.0f64);
        let note = |fraction: f64| {
            let mut largest = largest.lock().unwrap();
            assert!((0.0..=1.0).contains(&fraction));
            *largest = largest.max(fraction);
        };
        let run = |watch: &Watch<'_>| {
            analyze(&layer.points(), &MftmaOptions::default(), &Streams::new(1, "test"), watch)
        };
        run(&Watch::new(&note, &|| false)).unwrap();
        assert_eq!(*largest.lock().unwrap(), 1.0);
        // Stops wherever it is: once the products are done, once the centers are.
        for reached in [0.0, 0.3, 0.5, 0.7] {
            *largest.lock().unwrap() = 0.0;
            let stop = || *largest.lock().unwrap() >= reached;
            assert_eq!(run(&Watch::new(&note, &stop)).unwrap_err(), MftmaError::Cancelled);
        }
    }
}
