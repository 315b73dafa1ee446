//! The time and memory of manifold analysis beside the published program's, a line each.
//!
//! `cargo bench --bench manifold` measures everything; with names, such as `-- layer glue`, only that. The
//! times of the published program (replicaMFT @d56eda1, Python 3.10, numpy 1.22, cvxopt 1.3, pymanopt 0.2.5, one BLAS
//! thread, on a machine of the same kind) are typed in: it is not part of this repository, and two BLAS threads make it
//! slower. Ours are medians on all threads of the pool but where one is named.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program of its own, which asks the system for its memory"
)]

mod layers;

use std::hint::black_box;
use std::time::Instant;

use wavecrest::manifold::anchors::{AnchorOptions, anchor_geometry};
use wavecrest::manifold::centers::{CenterCorrection, correlated_directions};
use wavecrest::manifold::cloud::PointCloud;
use wavecrest::manifold::dichotomy::Dichotomies;
use wavecrest::manifold::dimensions::Pooled;
use wavecrest::manifold::glue::{self, GlueOptions};
use wavecrest::manifold::gram::{Pairs, layer_gram};
use wavecrest::manifold::mftma::{MftmaOptions, analyze};
use wavecrest::manifold::simulated::{SimulationOptions, simulate};
use wavecrest::manifold::watch::Watch;
use wavecrest::rng::Streams;

use crate::layers::{Layer, normals, paper};

/// What can be measured, by name.
const FIGURES: [(&str, fn()); 7] = [
    // First, for the peak is that of all that was measured before.
    ("memory", memory),
    ("kernel", kernel),
    ("centers", centers),
    ("layer", layer),
    ("glue", joint_cone),
    ("simulated", simulated),
    ("matrix", matrix),
];

fn main() {
    // Cargo itself adds `--bench`.
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    println!("{} threads", rayon::current_num_threads());
    for (name, figure) in FIGURES {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            figure();
        }
    }
}

fn seconds(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// Returns the median time of a run, in seconds.
fn median(runs: usize, mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs).map(|_| seconds(&mut run)).collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

fn streams() -> Streams {
    Streams::new(1, "bench")
}

/// The projection of one vector.
fn kernel() {
    // Seconds of a projection that meets a constraint, by cvxopt; 132 points were frames of waves, which fill few dimensions.
    let cases =
        [(20, 19, Some(0.8e-3)), (50, 49, Some(1.4e-3)), (132, 12, Some(2.4e-3)), (132, 131, None)];
    for (points, rank, published) in cases {
        let coordinates = normals(points * rank, "points");
        let coordinates: Vec<f64> = coordinates.iter().map(|x| 0.3 * x).collect();
        let cloud = PointCloud::from_coordinates(&coordinates, points);
        let options = AnchorOptions { draws: 1000, ..AnchorOptions::default() };
        let time = median(21, || {
            let mut stream = streams().stream("draws");
            let geometry = anchor_geometry(&cloud, &options, &mut stream);
            black_box(geometry.expect("a manifold in general position"));
        });
        let each = time / 1000.0;
        let beside = published.map_or(String::new(), |published: f64| {
            let ratio = published / each;
            format!(", published {:.0} us, ratio {ratio:.0} (target 200)", 1e6 * published)
        });
        println!(
            "projection, {points} points in {rank} dimensions, drawing included, 1 thread: {:.2} us{beside}",
            1e6 * each
        );
    }
}

/// The removal of correlated directions.
fn centers() {
    let layer = paper(2048);
    let gram = layer_gram(&layer.points()[..], Pairs::Within, &Watch::none());
    let gram = gram.expect("they are in memory").expect("nobody stops it");
    let correction = CenterCorrection::default();
    let time = median(5, || {
        let found =
            correlated_directions(gram.centers.as_ref(), &correction, &streams(), &Watch::none());
        black_box(found.expect("the centers differ"));
    });
    // Ten starts for each number of directions, as here: 52 to 120 s for such a layer, in three runs.
    println!(
        "center step, P = 50, 10 starts: {time:.3} s, published 52 s at least, ratio {:.0} (target 60)",
        52.0 / time
    );
}

/// A layer as in the paper, from its points to its numbers.
fn layer() {
    for features in [2048, 16_384, 65_536] {
        let layer = paper(features);
        let time = median(5, || {
            let options = MftmaOptions::default();
            let found = analyze(&layer.points()[..], &options, &streams(), &Watch::none());
            black_box(found.expect("manifolds in general position"));
        });
        let target = if features == 2048 { " (target 0.4 s; published 60 to 127 s)" } else { "" };
        println!("layer, P = 50, M = 20, N = {features}, 200 draws: {time:.3} s{target}");
    }
}

/// The analysis by dichotomies.
fn joint_cone() {
    for (manifolds, points, features) in [(10, 50, 512), (50, 20, 2048)] {
        let layer = Layer::of(manifolds, points, features);
        let dichotomies = Dichotomies::Balanced;
        let options = GlueOptions { dichotomies, draws: 200 };
        let time = median(3, || {
            let found = glue::analyze(&layer.points(), &options, &streams(), &Watch::none());
            black_box(found.expect("manifolds in general position"));
        });
        let published = if manifolds == 10 { ", published 120 s" } else { "" };
        println!(
            "GLUE, P = {manifolds}, M = {points}, N = {features}, 200 draws: {time:.2} s{published}"
        );
    }
}

/// The capacity by simulation.
fn simulated() {
    for (manifolds, points, features) in [(50, 1, 500), (50, 20, 2048)] {
        let layer = Layer::of(manifolds, points, features);
        let options = SimulationOptions { dichotomies: Dichotomies::Balanced, trials: 100 };
        let time = seconds(|| {
            let found = simulate(&layer.points(), &options, &streams(), &Watch::none());
            black_box(found.expect("manifolds in general position"));
        });
        println!(
            "simulated capacity, P = {manifolds}, M = {points}, N = {features}, 100 trials: {time:.2} s"
        );
    }
}

/// The most memory that a large layer takes beside its points, which are views of one buffer.
fn memory() {
    let layer = Layer::overlapping(100, 100, 100_000);
    let options = MftmaOptions { pooled: Pooled::None, ..MftmaOptions::default() };
    let time = seconds(|| {
        let found = analyze(&layer.points()[..], &options, &streams(), &Watch::none());
        black_box(found.expect("manifolds in general position"));
    });
    let peak = peak_mebibytes().map_or("unknown".to_owned(), |peak| format!("{peak:.0} MiB"));
    println!(
        "layer, P = M = 100, N = 100000, no pooled dimensions: {time:.1} s, peak memory of this program without 3815 MiB of points {peak} (target 2048)"
    );
}

/// One of the 81 networks and tasks of the paper's matrix: the ten layers that a ResNet-18 has at 32 x 32.
fn matrix() {
    const FEATURES: [usize; 10] = [3072, 16_384, 4096, 4096, 2048, 2048, 1024, 1024, 512, 512];
    let layers = FEATURES.map(paper);
    let options = MftmaOptions { draws: 500, ..MftmaOptions::default() };
    let time = median(3, || {
        for layer in &layers {
            let found = analyze(&layer.points()[..], &options, &streams(), &Watch::none());
            black_box(found.expect("manifolds in general position"));
        }
    });
    println!(
        "ten layers of a ResNet-18, P = 50, M = 20, 500 draws: {time:.2} s, 81 times that {:.0} s (target 600 s)",
        81.0 * time
    );
}

fn peak_mebibytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim_end().parse().ok().map(|kib: f64| kib / 1024.0)
}
