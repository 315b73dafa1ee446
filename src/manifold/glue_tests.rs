//! The analysis by dichotomies against closed forms, its definition, and invariances.

use std::f64::consts::PI;

use faer::{Mat, MatRef};

use super::dichotomy::Dichotomies;
use super::effective::EffectiveGeometry;
use super::estimate::Estimate;
use super::glue::{GlueError, GlueOptions, analyze, geometry_of_draws};
use super::gram::Points;
use super::joint::Joint;
use super::nnls::Nnls;
use super::watch::Watch;
use crate::rng::Streams;

/// Points by coordinates, with draws of `t` and of signs.
struct Case {
    points: Mat<f64>,
    manifold: Vec<usize>,
    draws: Mat<f64>,
    dichotomies: Dichotomies,
}

impl Case {
    fn new(points: Mat<f64>, each: usize, draws: usize) -> Self {
        let mut stream = Streams::new(3, "test").stream("t");
        let draws = Mat::from_fn(points.ncols(), draws, |_, _| stream.normal());
        let manifold = (0..points.nrows()).map(|i| i / each).collect();
        Self { points, manifold, draws, dichotomies: Dichotomies::Balanced }
    }

    /// Clouds about random centers.
    fn random(manifolds: usize, each: usize, dimensions: usize, draws: usize) -> Self {
        let mut stream = Streams::new(4, "test").stream("points");
        let centers = Mat::from_fn(manifolds, dimensions, |_, _| stream.normal());
        let points = Mat::from_fn(manifolds * each, dimensions, |i, k| {
            centers[(i / each, k)] + 0.4 * stream.normal()
        });
        Self::new(points, each, draws)
    }

    fn signs(&self, draw: usize) -> Vec<f64> {
        let manifolds = self.manifold[self.manifold.len() - 1] + 1;
        self.dichotomies.signs(draw, manifolds, &Streams::new(5, "test"))
    }

    fn geometry(&self) -> EffectiveGeometry {
        let joint = Joint::from_coordinates(self.points.as_ref(), self.manifold.clone());
        let along = &self.points * &self.draws;
        let draws = (0..along.ncols()).map(|k| (along.col_as_slice(k), self.signs(k)));
        geometry_of_draws(&joint, draws.collect(), &Watch::none()).unwrap()
    }
}

fn numbers(g: &EffectiveGeometry) -> Vec<f64> {
    let alignments = [g.alignments.center, g.alignments.axes, g.alignments.center_axes];
    let alignments = alignments.iter().flat_map(|a| [a.cosine, a.absolute, a.raw]);
    let estimates = [g.capacity, g.dimension, g.radius, g.utility].into_iter().chain(alignments);
    let estimates = estimates.flat_map(|e| [e.value, e.standard_error]);
    let manifolds = g.manifolds.iter();
    let manifolds = manifolds.flat_map(|m| [m.load.value, m.touched, m.center_norm, m.axes_norm]);
    estimates.chain(manifolds).collect()
}

fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "number {i}: {a} {b}");
    }
}

fn check(name: &str, estimate: Estimate, expected: f64) {
    let error = (estimate.value - expected).abs();
    assert!(error <= 4.5 * estimate.standard_error + 1e-9, "{name}: {estimate:?}, not {expected}");
    assert!(estimate.standard_error < 0.03 * expected, "{name}: {estimate:?} says little");
}

#[test]
fn orthogonal_points_are_those_of_the_perceptron() {
    // Each anchor is its point in half of the draws: S₀ = z/2, S₁ = ±z/2.
    let mut case = Case::new(Mat::identity(12, 12), 1, 2000);
    for dichotomies in [Dichotomies::Balanced, Dichotomies::OneVersusRest] {
        case.dichotomies = dichotomies;
        let geometry = case.geometry();
        check("capacity", geometry.capacity, 2.0);
        check("dimension", geometry.dimension, 1.0);
        check("radius", geometry.radius, 1.0);
        check("utility", geometry.utility, 1.0);
        assert!(geometry.alignments.center.absolute.value < 1e-12);
        for manifold in &geometry.manifolds {
            assert!((manifold.touched - 0.5).abs() < 4.5 * (0.25f64 / 2000.0).sqrt());
            assert!((manifold.load.value - 0.5).abs() < 4.5 * manifold.load.standard_error);
        }
    }
}

#[test]
fn orthogonal_segments_have_the_capacity_of_their_angle() {
    for half_length in [0.5, 1.0, 3.0f64] {
        // Point j of manifold i: e_i ± r f_i; the cone is a product of planar cones.
        let points = Mat::from_fn(16, 16, |row, k| {
            let sign = if row % 2 == 0 { half_length } else { -half_length };
            f64::from(k == row / 2) + if k == 8 + row / 2 { sign } else { 0.0 }
        });
        let geometry = Case::new(points, 2, 2000).geometry();
        check("capacity", geometry.capacity, 1.0 / (0.5 + 2.0 / PI * half_length.atan()));
    }
}

/// The definition, in coordinates and with pseudo-inverses from singular values.
fn defined(case: &Case) -> [f64; 4] {
    let (count, dimensions) = (case.points.nrows(), case.points.ncols());
    let (draws, manifolds) = (case.draws.ncols(), case.manifold[count - 1] + 1);
    let gram = |signs: &[f64]| -> Vec<f64> {
        let whole = &case.points * case.points.transpose();
        let sign = |i: usize| signs[case.manifold[i]];
        (0..count * count)
            .map(|n| whole[(n / count, n % count)] * sign(n / count) * sign(n % count))
            .collect()
    };
    let mut anchors = Vec::new();
    for k in 0..draws {
        let signs = case.signs(k);
        let along = &case.points * case.draws.col(k);
        let linear: Vec<f64> = (0..count).map(|i| signs[case.manifold[i]] * along[i]).collect();
        let mut nnls = Nnls::new(count);
        nnls.solve(&gram(&signs), &linear).unwrap();
        let (mut s, mut totals) = (Mat::<f64>::zeros(manifolds, dimensions), vec![0.0; manifolds]);
        for (&i, weight) in nnls.support().iter().zip(nnls.weights()) {
            totals[case.manifold[i]] += weight;
            for d in 0..dimensions {
                s[(case.manifold[i], d)] += weight * case.points[(i, d)];
            }
        }
        anchors.push(Mat::from_fn(manifolds, dimensions, |i, d| {
            if totals[i] > 0.0 { s[(i, d)] / totals[i] } else { 0.0 }
        }));
    }
    let center = Mat::from_fn(manifolds, dimensions, |i, d| {
        anchors.iter().map(|s| s[(i, d)]).sum::<f64>() / draws as f64
    });
    let form = |gram: Mat<f64>, v: &Mat<f64>| -> f64 {
        let eigen = gram.self_adjoint_eigen(faer::Side::Lower).unwrap();
        let (values, vectors) = (eigen.S().column_vector(), eigen.U());
        let parts = (0..manifolds).filter(|&k| values[k] > 1e-11 * values[manifolds - 1]);
        parts.map(|k| (vectors.col(k).transpose() * v)[0].powi(2) / values[k]).sum()
    };
    let mut sums = [0.0; 3];
    for (k, s) in anchors.iter().enumerate() {
        let t = MatRef::from_column_major_slice(case.draws.col_as_slice(k), dimensions, 1);
        let axes = s - &center;
        let (along, axes_along) = (s * t, &axes * t);
        let axes_gram = &axes * axes.transpose();
        sums[0] += form(s * s.transpose(), &along);
        sums[1] += form(axes_gram.clone(), &axes_along);
        sums[2] += form(&axes_gram + &center * center.transpose(), &axes_along);
    }
    let [a, b, c] = sums.map(|sum| sum / draws as f64);
    let p = manifolds as f64;
    [p / a, b / p, (c / (b - c)).sqrt(), c / a]
}

#[test]
fn geometry_matches_its_definition() {
    // More and fewer dimensions than points.
    for (manifolds, each, dimensions) in [(6, 5, 40), (6, 5, 14), (4, 12, 9)] {
        let case = Case::random(manifolds, each, dimensions, 60);
        let g = case.geometry();
        assert_eq!(g.inside, 0.0);
        let found = [g.capacity, g.dimension, g.radius, g.utility].map(|e| e.value);
        assert_close(&found, &defined(&case), 1e-9);
        // The identity of Chou et al. 2024: capacity = Ψ (1 + R⁻²) / D.
        let identity = found[3] * (1.0 + found[2].powi(-2)) / found[1];
        assert!((identity - found[0]).abs() < 1e-12 * found[0], "{identity} {found:?}");
        let loads: f64 = g.manifolds.iter().map(|m| m.load.value).sum();
        assert!((manifolds as f64 / loads - found[0]).abs() < 1e-12);
    }
}

#[test]
fn vectors_inside_the_cone_are_told() {
    // Ten random points in the plane: their cone is all of it, but for those of one half plane.
    let geometry = Case::random(10, 1, 2, 200).geometry();
    assert!(geometry.inside > 0.9, "{}", geometry.inside);
    // All of a vector in the cone is in its projection.
    let square = |k: usize| geometry_square(&Case::random(10, 1, 2, 200), k);
    let mean = (0..200).map(square).sum::<f64>() / 200.0;
    assert!((10.0 / geometry.capacity.value / mean - 1.0).abs() < 0.05);
}

fn geometry_square(case: &Case, draw: usize) -> f64 {
    case.draws.col(draw).squared_norm_l2()
}

#[test]
fn order_copies_and_axes_change_nothing() {
    let case = Case::random(5, 6, 30, 100);
    let expected = numbers(&case.geometry());
    let with = |points: Mat<f64>, manifold: Vec<usize>, draws: Mat<f64>| {
        numbers(&Case { points, manifold, draws, dichotomies: Dichotomies::Balanced }.geometry())
    };
    let rows = |order: &[usize]| Mat::from_fn(order.len(), 30, |i, k| case.points[(order[i], k)]);
    let order: Vec<usize> = (0..30).map(|i| i / 6 * 6 + (i + 2) % 6).collect();
    assert_close(&with(rows(&order), case.manifold.clone(), case.draws.clone()), &expected, 1e-9);
    let twice: Vec<usize> = (0..60).map(|i| i / 12 * 6 + i % 6).collect();
    let manifold = (0..60).map(|i| i / 12).collect();
    assert_close(&with(rows(&twice), manifold, case.draws.clone()), &expected, 1e-9);
    let mut stream = Streams::new(6, "test").stream("rotation");
    let rotation = Mat::from_fn(30, 30, |_, _| stream.normal()).qr().compute_thin_Q();
    let (points, draws) = (&case.points * &rotation, rotation.transpose() * &case.draws);
    assert_close(&with(points, case.manifold.clone(), draws), &expected, 1e-8);
}

/// Manifolds of a layer as an encoder yields them.
fn layer(manifolds: usize, each: usize, features: usize) -> Vec<Vec<f32>> {
    let mut stream = Streams::new(7, "test").stream("layer");
    let mut normal = || (256.0 * stream.normal()).round() as f32 / 256.0;
    let manifold = |_| {
        let center: Vec<f32> = (0..features).map(|_| normal()).collect();
        (0..each * features).map(|n| center[n % features] + 0.5 * normal()).collect()
    };
    (0..manifolds).map(manifold).collect()
}

fn measure(
    rows: &[Vec<f32>],
    features: usize,
    dichotomies: Dichotomies,
) -> Result<EffectiveGeometry, GlueError> {
    let points: Vec<Points<'_>> = rows.iter().map(|values| Points { values, features }).collect();
    let options = GlueOptions { dichotomies, draws: 60 };
    analyze(&points, &options, &Streams::new(1, "test"), &Watch::none())
}

#[test]
fn units_and_origin_change_nothing() {
    let rows = layer(6, 8, 50);
    let of = |map: &dyn Fn(usize, f32) -> f32| {
        let mapped: Vec<Vec<f32>> = rows
            .iter()
            .map(|row| row.iter().enumerate().map(|(n, x)| map(n % 50, *x)).collect())
            .collect();
        let g = measure(&mapped, 50, Dichotomies::Balanced).unwrap();
        [g.capacity, g.dimension, g.radius, g.utility, g.alignments.axes.cosine]
            .map(|e| [e.value, e.standard_error])
            .concat()
    };
    let expected = of(&|_, x| x);
    assert_close(&of(&|_, x| 4.0 * x), &expected, 1e-12);
    assert_close(&of(&|f, x| x + f as f32), &expected, 1e-9);
}

#[test]
fn threads_change_no_bit() {
    let rows = layer(10, 20, 300);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        format!("{:?}", pool.install(|| measure(&rows, 300, Dichotomies::Balanced).unwrap()))
    };
    let expected = run(1);
    for threads in [2, 3] {
        assert!(run(threads) == expected, "{threads} threads");
    }
}

#[test]
fn degenerate_manifolds_have_a_geometry_or_a_reason() {
    // Ragged, two points alike, one manifold without extent.
    let mut rows = layer(4, 3, 20);
    let copy = rows[1][..20].to_vec();
    rows[1][20..40].copy_from_slice(&copy);
    rows[2].truncate(20);
    let sparse = measure(&rows, 20, Dichotomies::OneVersusRest).unwrap();
    assert!(numbers(&sparse).iter().all(|number| number.is_finite()), "{sparse:?}");
    let points: Vec<usize> = sparse.manifolds.iter().map(|manifold| manifold.points).collect();
    assert_eq!(points, [3, 3, 1, 3]);
    let fail = |rows: &[Vec<f32>], dichotomies| {
        measure(rows, 20, dichotomies).map(|g| g.capacity).unwrap_err().to_string()
    };
    let same = vec![vec![1.0; 20]; 3];
    let message = "all points coincide: nothing tells the manifolds apart";
    assert_eq!(fail(&same, Dichotomies::Balanced), message);
    let mut broken = layer(3, 2, 20);
    broken[2][5] = f32::INFINITY;
    let message = "manifold 2 has a number that is not finite";
    assert_eq!(fail(&broken, Dichotomies::Balanced), message);
    let fixed = Dichotomies::Fixed(vec![vec![true; 4]]);
    assert_eq!(fail(&rows, fixed), "dichotomy 0 has all manifolds on one side");
    assert!(fail(&rows[..1], Dichotomies::Balanced).contains("at least 2 manifolds"));
}
