//! The whole analysis of a layer against closed forms and invariances.

use std::f64::consts::PI;
use std::sync::Mutex;

use super::centers::{CenterCorrection, LowRank, RankChoice};
use super::dimensions::Pooled;
use super::estimate::Estimate;
use super::gram::Points;
use super::mftma::{LayerGeometry, MftmaError, MftmaOptions, analyze};
use super::residual::ManifoldError;
use super::watch::Watch;
use crate::rng::Streams;

/// Equally many points of each manifold, all features of a point together.
struct Layer {
    features: usize,
    manifolds: Vec<Vec<f32>>,
}

impl Layer {
    /// Fills `(manifold, point, feature)` from a formula.
    fn from_fn(shape: (usize, usize, usize), value: impl Fn(usize, usize, usize) -> f64) -> Self {
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
        Self { features: self.features, manifolds: self.manifolds.iter().map(entries).collect() }
    }

    fn analyze(&self, options: &MftmaOptions) -> Result<LayerGeometry, MftmaError> {
        analyze(&self.points()[..], options, &Streams::new(1, "test"), &Watch::none())
    }
}

fn uncorrected(draws: usize) -> MftmaOptions {
    MftmaOptions { draws, center_correction: CenterCorrection::None, ..MftmaOptions::default() }
}

fn check(name: &str, estimate: Estimate, expected: f64) {
    let error = (estimate.value - expected).abs();
    assert!(error <= 4.5 * estimate.standard_error + 1e-7, "{name}: {estimate:?}, not {expected}");
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
fn segments_keep_their_closed_form_once_a_direction_is_removed() {
    let options = MftmaOptions { draws: 2000, ..MftmaOptions::default() };
    let layer = Layer::segments(40, 1.0).analyze(&options).unwrap();
    assert_eq!(layer.centers.k, 1);
    // Each center keeps its own share of the length, which is the unit of its segment.
    let norms: Vec<f64> =
        layer.manifolds.iter().map(|manifold| manifold.as_ref().unwrap().center_norm).collect();
    // Forty orthonormal centers about their mean have 39 directions of length 1, one of which is gone.
    let squares: f64 = norms.iter().map(|norm| norm * norm).sum();
    assert!((squares - 38.0).abs() < 1e-9, "{squares}");
    let mean =
        |of: &dyn Fn(f64) -> f64| norms.iter().map(|norm| of(1.0 / norm)).sum::<f64>() / 40.0;
    check("capacity", layer.capacity, 1.0 / mean(&|half| 0.5 + 2.0 / PI * half.atan()));
    let radius = |half: f64| ((half - half.atan() + (PI - half.atan()) * half * half) / PI).sqrt();
    check("radius", layer.radius, mean(&radius));
    // replicaMFT @d56eda1 gives 0.811 for such segments.
    check("dimension", layer.dimension, 8.0 / (PI * PI));
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
    // Fewer points than features, and more of them than features that fill more than one tile.
    for features in [5000, 150] {
        let layer = Layer::random(12, 20, features);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            format!("{:?}", pool.install(|| layer.analyze(&MftmaOptions::default()).unwrap()))
        };
        let expected = run(1);
        for threads in [2, 3] {
            assert!(run(threads) == expected, "{threads} threads, {features} features");
        }
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
        analyze(&points[..], options, &Streams::new(1, "test"), &Watch::none())
            .unwrap_err()
            .to_string()
    };
    let options = MftmaOptions::default();
    let (one, other): (&[f32], &[f32]) = (&[1.0, 2.0, 3.0, 4.0], &[5.0, -2.0]);
    for (rows, options, expected) in [
        (vec![one], options, "at least 2 manifolds are needed, not 1"),
        (vec![one, &[1.0, f32::NAN]], options, "manifold 1 has a number that is not finite"),
        (vec![one, one], options, "the manifolds' centers coincide: no direction tells them apart"),
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
            MftmaOptions { pooled: Pooled::Both { fraction: 1.5 }, ..options },
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
        analyze(&layer.points()[..], &MftmaOptions::default(), &Streams::new(1, "test"), watch)
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

#[test]
fn drawing_ends_at_the_standard_error_that_is_asked_for() {
    let layer = Layer::random(10, 8, 60);
    let options = MftmaOptions { draws: 20_000, ..uncorrected(0) };
    let known = layer.analyze(&options).unwrap();
    for (target, antithetic, control_variate) in
        [(0.02, false, false), (0.01, false, true), (0.005, true, true)]
    {
        let standard_error = Some(target);
        let found = layer
            .analyze(&MftmaOptions { standard_error, antithetic, control_variate, ..options })
            .unwrap();
        let capacity = found.capacity;
        assert!(capacity.standard_error <= target * capacity.value, "{target}: {capacity:?}");
        // Not many more than are needed.
        assert!(capacity.standard_error > 0.8 * target * capacity.value, "{target}: {capacity:?}");
        assert!((100..20_000).contains(&found.draws), "{}", found.draws);
        let spread = f64::hypot(capacity.standard_error, known.capacity.standard_error);
        assert!((capacity.value - known.capacity.value).abs() < 4.5 * spread);
    }
    // An error that is not reached ends at the draws that are allowed.
    let standard_error = Some(1e-9);
    let found = layer.analyze(&MftmaOptions { standard_error, draws: 300, ..options }).unwrap();
    assert_eq!(found.draws, 300);
    let plain = layer.analyze(&MftmaOptions { draws: 300, ..options }).unwrap();
    assert_same(&plain, &found, 1.0, 0.0);
    let error = |options| layer.analyze(&options).unwrap_err().to_string();
    let standard_error = Some(0.0);
    assert!(error(MftmaOptions { standard_error, ..options }).contains("above 0, not 0"));
    assert!(error(MftmaOptions { draws: 3, antithetic: true, ..options }).contains("at least 4"));
}
