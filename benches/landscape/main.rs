//! The time of critical-point searches beside the published program's, a line each.
//!
//! `cargo bench --bench landscape` measures everything; with names, such as `-- product runs`, only that. The times of
//! the published program (autocrit @a43a44b, Python 3.11, numpy 1.26, autograd 1.9, one thread, on this machine) are
//! typed in: it is not part of this repository. Times are of one thread but where two are named.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program of its own, which asks the system for its memory"
)]

mod device;
mod problems;

use std::hint::black_box;
use std::time::Instant;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use wavecrest::landscape::data::{Data, Targets, centered_gaussian};
use wavecrest::landscape::descent::{DescentOptions, Progress, Watch, descend};
use wavecrest::landscape::hessian;
use wavecrest::landscape::network::{Architecture, Network};
use wavecrest::landscape::newton_mr::{self, NewtonMrOptions};
use wavecrest::landscape::objective::Objective as _;
use wavecrest::landscape::search::{Control, Outcome, SearchOptions};
use wavecrest::landscape::starts::{Selection, StartOptions, select};
use wavecrest::rng::Streams;

use crate::problems::{PROBLEMS, Problem, numbers, start};

/// What can be measured, by name.
const FIGURES: [(&str, fn()); 6] = [
    ("product", product),
    ("products", products),
    ("iteration", iteration),
    ("spectrum", spectrum),
    ("runs", runs),
    ("device", device::searches),
];

fn main() {
    // Cargo itself adds `--bench`.
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
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

/// A product of the Hessian and a vector, beside its matrix products alone.
fn product() {
    for problem in &PROBLEMS {
        let network = problem.network();
        let theta = start(&network);
        let point = network.evaluate(&theta);
        let (v, mut out) = (numbers(network.dim(), 991), vec![0.0; network.dim()]);
        let repeats = 200;
        let ours = median(21, || {
            for _ in 0..repeats {
                point.hessian_vector(black_box(&v), &mut out);
            }
            black_box(&out);
        }) / repeats as f64;
        let samples = network.samples();
        let multiplications = Multiplications::new(problem.sizes, samples);
        let (flops, floor) = (multiplications.flops(), multiplications.time(repeats));
        println!(
            "product, {}, N = {}, {samples} samples: {:.2} us, {:.1} Gflop/s, its matrix products alone {:.2} us, ratio {:.2} (target 1.5)",
            problem.name,
            network.dim(),
            1e6 * ours,
            1e-9 * flops / ours,
            1e6 * floor,
            ours / floor
        );
    }
}

/// Products of a Hessian and many vectors at once, beside as many one by one.
fn products() {
    let count = 16;
    for samples in [500, 5000] {
        for problem in &PROBLEMS[2..4] {
            let network = Problem { samples, ..*problem }.network();
            let theta = start(&network);
            let point = network.evaluate(&theta);
            let vectors = numbers(count * network.dim(), 991);
            let mut out = vec![0.0; vectors.len()];
            let together = median(21, || point.hessian_vectors(black_box(&vectors), &mut out));
            let alone = median(21, || {
                let pairs = vectors.chunks(network.dim()).zip(out.chunks_mut(network.dim()));
                for (v, out) in pairs {
                    point.hessian_vector(black_box(v), out);
                }
            });
            println!(
                "{count} products at once, {}, {samples} samples: {:.2} us each, one by one {:.2} us, ratio {:.2}",
                problem.name,
                1e6 * together / count as f64,
                1e6 * alone / count as f64,
                alone / together
            );
        }
    }
}

/// The matrix products of one product with the Hessian, by faer.
struct Multiplications(Vec<[Mat<f64>; 3]>);

impl Multiplications {
    fn new(sizes: &[usize], samples: usize) -> Self {
        let of = |rows: usize, inner: usize, columns: usize| {
            let fill = |rows, columns| Mat::from_fn(rows, columns, |i, j| ((i + 3 * j) % 7) as f64);
            [fill(rows, inner), fill(inner, columns), Mat::zeros(rows, columns)]
        };
        let layers = sizes.windows(2).enumerate().flat_map(|(layer, sizes)| {
            let (inputs, outputs) = (sizes[0], sizes[1]);
            // The inputs have no derivative along v, and nothing lies below them.
            let times = if layer == 0 { 1 } else { 2 };
            let forward = (0..times).map(move |_| (outputs, inputs, samples));
            let weights = (0..times).map(move |_| (outputs, samples, inputs));
            let back = (0..2 * (times - 1)).map(move |_| (inputs, outputs, samples));
            forward.chain(weights).chain(back)
        });
        Self(layers.map(|(rows, inner, columns)| of(rows, inner, columns)).collect())
    }

    fn flops(&self) -> f64 {
        let each =
            self.0.iter().map(|[left, right, _]| left.nrows() * left.ncols() * right.ncols());
        2.0 * each.sum::<usize>() as f64
    }

    fn time(mut self, repeats: usize) -> f64 {
        median(21, || {
            for _ in 0..repeats {
                for [left, right, out] in &mut self.0 {
                    matmul(&mut *out, Accum::Add, &*left, &*right, 1.0, Par::Seq);
                }
            }
            black_box(&self.0);
        }) / repeats as f64
    }
}

/// An iteration of Newton-MR, from the same start and for as many iterations as the published program's.
fn iteration() {
    for problem in &PROBLEMS {
        let network = problem.network();
        let from = start(&network);
        let mut inner = 0;
        let time = median(5, || {
            let outcome = search(&network, &from, problem);
            inner =
                outcome.trace.iter().filter_map(|row| row.step?.solve).map(|s| s.iterations).sum();
            black_box(outcome);
        });
        let each = time / problem.iterations as f64;
        println!(
            "iteration of Newton-MR, {}, {} samples, {} iterations with {inner} products: {:.3} ms, published {:.0} ms, ratio {:.0} (target {:.0})",
            problem.name,
            problem.samples,
            problem.iterations,
            1e3 * each,
            1e3 * problem.published,
            problem.published / each,
            problem.target,
        );
    }
}

fn search(network: &Network, start: &[f64], problem: &Problem) -> Outcome {
    let search = SearchOptions { iterations: problem.iterations, ..SearchOptions::default() };
    let options = NewtonMrOptions { search, ..NewtonMrOptions::default() };
    newton_mr::search(network, start, &options, &Control::default()).expect("options are in range")
}

/// All eigenvalues of the largest network's Hessian.
fn spectrum() {
    let problem = &PROBLEMS[4];
    let network = problem.network();
    let point = network.evaluate(&start(&network));
    let matrix = hessian::hessian(&*point);
    let whole = median(3, || drop(black_box(hessian::hessian(&*point))));
    let values = median(3, || drop(black_box(hessian::eigenvalues(matrix.as_ref()))));
    let vectors = median(3, || drop(black_box(hessian::eigen(matrix.as_ref()))));
    let of = |ours: f64, published: f64, target: f64| {
        let ratio = ours / published;
        format!(
            "{ours:.3} s, LAPACK (OpenBLAS, 1 thread) {published:.3} s, ratio {ratio:.2} (target {target})"
        )
    };
    println!("Hessian, N = {}, all threads: {:.3} s", network.dim(), whole);
    println!("its eigenvalues: {}", of(values, LAPACK[0], 2.3));
    println!("with eigenvectors: {}", of(vectors, LAPACK[1], 1.4));
}

/// Seconds for the eigenvalues of such a matrix, and with eigenvectors, by numpy.
const LAPACK: [f64; 2] = [0.0866, 0.238];

/// The linear autoencoder of the thesis: 100 searches of 500 iterations from one trajectory.
fn runs() {
    let streams = Streams::new(1, "bench");
    let variances: Vec<f64> = (1..=16).map(f64::from).collect();
    let inputs = centered_gaussian(10_000, &variances, &streams);
    let data = Data { samples: 10_000, inputs, targets: Targets::Inputs };
    let network = Network::new(Architecture::default(), data).expect("an autoencoder");
    // As published: variance 1 / 64, and 10,000 steps of gradient descent.
    let theta: Vec<f64> = network.initialize(&streams).iter().map(|w| w * 2f64.sqrt()).collect();
    let descent = DescentOptions::default();
    let start = Progress::start(&theta, descent.rule);
    let trajectory = descend(&network, start, &descent, &Watch::default());
    let trajectory = trajectory.expect("a descent");
    let starts =
        StartOptions { count: 100, selection: Selection::UniformHeight, noise_variance: 0.0 };
    let starts = select(&trajectory, &starts, &streams).expect("a trajectory");
    let options = NewtonMrOptions::default();
    for threads in [1, 2] {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let mut outcomes = Vec::new();
        let time = seconds(|| {
            outcomes = pool.install(|| {
                let search = |start: &[f64]| {
                    newton_mr::search(&network, start, &options, &Control::default())
                };
                let all = starts.par_iter().map(|start| search(&start.theta));
                all.collect::<Result<Vec<_>, _>>().expect("options are in range")
            });
        });
        let steps: usize = outcomes.iter().map(|outcome| outcome.iterations).sum();
        let last = |o: &Outcome| o.trace[o.trace.len() - 1].squared_gradient_norm;
        let critical = outcomes.iter().filter(|outcome| last(outcome) < 1e-10).count();
        println!(
            "100 searches of the linear autoencoder, {steps} iterations, {critical} critical, {threads} threads: {time:.1} s (published 27 h; target 120 s on 2)"
        );
    }
    let peak = peak_mebibytes().map_or("unknown".to_owned(), |peak| format!("{peak:.0} MiB"));
    println!("peak memory of this program: {peak} (target 500)");
}

fn peak_mebibytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim_end().parse().ok().map(|kib: f64| kib / 1024.0)
}
