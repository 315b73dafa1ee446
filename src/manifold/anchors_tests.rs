//! Anchor points against closed forms, reference values, and invariances.

use std::f64::consts::PI;

use faer::Mat;

use super::anchors::*;
use super::cloud::PointCloud;
use super::estimate::Estimate;
use crate::rng::Streams;

fn sampled(cloud: &PointCloud, options: &AnchorOptions) -> AnchorGeometry {
    let mut stream = Streams::new(11, "test").stream("anchors");
    anchor_geometry(cloud, options, &mut stream).unwrap()
}

fn check(name: &str, estimate: Estimate, expected: f64) {
    let error = (estimate.value - expected).abs();
    assert!(error <= 4.5 * estimate.standard_error + 1e-12, "{name}: {estimate:?}, not {expected}");
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
        (geometry.interior_fraction - 1.0 / 64.0).abs() < 5.0 * (1.0f64 / 64.0 / 4_000.0).sqrt()
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
        assert!((ours.value - theirs).abs() < 4.5 * 2f64.sqrt() * ours.standard_error, "{ours:?}");
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
    let polytope: Vec<f64> = (0..32).map(|n| if n < 16 { corner(n) } else { -corner(n) }).collect();
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
            (a.value - b.value).abs() < 1e-9 && (a.standard_error - b.standard_error).abs() < 1e-9
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
    let shifted: Vec<f64> =
        draws.iter().enumerate().map(|(i, t)| if i % 11 == 10 { t + 0.5 } else { *t }).collect();
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

#[test]
fn mirrored_draws_and_known_lengths_leave_the_values_and_lower_the_errors() {
    // A cone close to a half space and one close to a ray, in nine and two dimensions.
    let round = PointCloud::from_gram(simplex_gram(10).as_ref(), 500, 4.0).unwrap();
    for (cloud, expected) in [(&round, None), (&segment(1.0), Some(1.0))] {
        let plain = AnchorOptions { draws: 20_000, ..AnchorOptions::default() };
        let expected = expected.unwrap_or_else(|| sampled(cloud, &plain).capacity.value);
        let few = AnchorOptions { draws: 4000, ..plain };
        let independent = sampled(cloud, &few);
        for (antithetic, control_variate) in [(true, false), (false, true), (true, true)] {
            let found = sampled(cloud, &AnchorOptions { antithetic, control_variate, ..few });
            let spread = f64::hypot(found.capacity.standard_error, 0.01 * expected);
            assert!((found.capacity.value - expected).abs() < 4.5 * spread, "{found:?}");
            let gain = independent.capacity.standard_error / found.capacity.standard_error;
            assert!(gain > 1.1, "{antithetic} {control_variate}: {gain}");
            let spread = f64::hypot(found.radius.standard_error, independent.radius.standard_error);
            assert!((found.radius.value - independent.radius.value).abs() < 4.5 * spread);
        }
    }
}

fn simplex_gram(points: usize) -> Mat<f64> {
    Mat::from_fn(points, points, |i, j| 0.4 * (f64::from(i == j) * points as f64 - 1.0))
}

#[test]
fn errors_of_mirrored_draws_are_what_they_scatter_by() {
    let cloud = cross_polytope(1.5);
    let options = AnchorOptions {
        draws: 100,
        antithetic: true,
        control_variate: true,
        ..AnchorOptions::default()
    };
    let streams = Streams::new(12, "test");
    let runs: Vec<AnchorGeometry> = (0..400)
        .map(|lane| anchor_geometry(&cloud, &options, &mut streams.indexed("runs", lane)).unwrap())
        .collect();
    let of: [fn(&AnchorGeometry) -> Estimate; 3] = [|a| a.capacity, |a| a.radius, |a| a.dimension];
    for of in of {
        let scatter = Estimate::of_samples(runs.iter().map(|run| of(run).value));
        let scatter = scatter.standard_error * 20.0;
        let told = runs.iter().map(|run| of(run).standard_error).sum::<f64>() / 400.0;
        // A deviation of 400 normals is known to 3.5 %; fifty pairs tell theirs to 10 %, with a bias of some 4 %.
        assert!((told / scatter - 1.0).abs() < 0.16, "{told} {scatter}");
    }
}

#[test]
fn a_sampler_goes_on_where_it_was() {
    let cloud = cross_polytope(1.0);
    for antithetic in [false, true] {
        let options = AnchorOptions { draws: 90, antithetic, ..AnchorOptions::default() };
        let whole = sampled(&cloud, &options);
        let mut stream = Streams::new(11, "test").stream("anchors");
        let mut sampler = Sampler::new(&cloud, &options).unwrap();
        for total in [1, 30, 30, 90] {
            sampler.draw(total, &mut stream).unwrap();
        }
        assert_eq!((sampler.geometry().unwrap(), sampler.draws()), (whole, 90));
    }
}
