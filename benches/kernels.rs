//! The time of the arithmetic that dominates landscapes and geometry, a line each.
//!
//! `cargo bench --bench kernels`. Numbers are the medians of repeated runs, on one thread but for the last line.
#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::hint::black_box;
use std::time::Instant;

use wavecrest::landscape::activation::Activation;
use wavecrest::landscape::data::{Data, Targets};
use wavecrest::landscape::network::{Architecture, Network};
use wavecrest::landscape::objective::Objective as _;
use wavecrest::manifold::anchors::{AnchorOptions, anchor_geometry};
use wavecrest::manifold::cloud::PointCloud;
use wavecrest::manifold::gram::Points;
use wavecrest::manifold::mftma::{MftmaOptions, analyze};
use wavecrest::manifold::watch::Watch;
use wavecrest::rng::Streams;

fn main() {
    hessian_products();
    projections();
    layer();
}

fn normals(count: usize, purpose: &str) -> Vec<f64> {
    let mut values = vec![0.0; count];
    Streams::new(1, "bench").stream(purpose).fill_normal(&mut values);
    values
}

/// Returns the median time of a run, in seconds.
fn median(runs: usize, mut run: impl FnMut()) -> f64 {
    let time = |()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    let mut times: Vec<f64> = std::iter::repeat_n((), runs).map(time).collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

fn hessian_products() {
    let samples = 1000;
    let architecture = Architecture {
        sizes: vec![16, 8, 16],
        bias: true,
        activation: Activation::Swish,
        ..Architecture::default()
    };
    let data = Data { samples, inputs: normals(samples * 16, "inputs"), targets: Targets::Inputs };
    let network = Network::new(architecture, data).expect("the data fit the network");
    let point = network.evaluate(&network.initialize(&Streams::new(1, "bench")));
    let v = normals(network.dim(), "v");
    let mut out = vec![0.0; v.len()];
    let seconds = median(2001, || point.hessian_vector(black_box(&v), &mut out));
    println!(
        "Hessian product, 16-8-16 Swish, 1000 samples, evaluated point: {:.1} us",
        1e6 * seconds
    );
}

fn projections() {
    let (points, draws) = (20, 2000);
    let coordinates: Vec<f64> =
        normals(points * (points - 1), "points").iter().map(|x| 0.3 * x).collect();
    let cloud = PointCloud::from_coordinates(&coordinates, points);
    let options = AnchorOptions { draws, ..AnchorOptions::default() };
    let streams = Streams::new(1, "bench");
    let seconds = median(21, || {
        let mut stream = streams.stream("draws");
        black_box(
            anchor_geometry(&cloud, &options, &mut stream).expect("a manifold in general position"),
        );
    });
    let each = 1e6 * seconds / draws as f64;
    println!("anchor point, 20 points in 19 dimensions, drawing included: {each:.2} us");
}

fn layer() {
    let (manifolds, points, features) = (50, 20, 4096);
    let centers = normals(manifolds * features, "centers");
    let noise = normals(manifolds * points * features, "noise");
    let value = |n: usize| {
        let (manifold, feature) = (n / (points * features), n % features);
        (centers[manifold * features + feature] + 0.5 * noise[n]) as f32
    };
    let values: Vec<f32> = (0..noise.len()).map(value).collect();
    let groups: Vec<Points<'_>> =
        values.chunks(points * features).map(|values| Points { values, features }).collect();
    let (options, streams) = (MftmaOptions::default(), Streams::new(1, "bench"));
    let seconds = median(3, || {
        let geometry = analyze(&groups[..], &options, &streams, &Watch::none());
        black_box(geometry.expect("manifolds in general position"));
    });
    let threads = rayon::current_num_threads();
    println!(
        "layer of 50 manifolds, 20 points, 4096 features, 200 draws, {threads} threads: {seconds:.2} s"
    );
}
