//! Searches that compute as one on a GPU, beside the same on all threads.

use candle_core::Device;
use wavecrest::landscape::device_network::DeviceNetwork;
use wavecrest::landscape::gathered::{Batch as _, search_all};
use wavecrest::landscape::network::Network;
use wavecrest::landscape::newton_mr::{self, NewtonMrOptions};
use wavecrest::landscape::objective::{Matrix, Objective};
use wavecrest::landscape::search::{Control, SearchOptions};
use wavecrest::nn::device;

use rayon::prelude::*;

use crate::problems::{PROBLEMS, Problem, numbers};
use crate::seconds;

/// Samples of the networks of images, twice those of the published searches.
const SAMPLES: usize = 20_000;

/// Iterations of each search.
const ITERATIONS: usize = 3;

/// Measures on the first GPU; says so where there is none.
pub(crate) fn searches() {
    let gpu = match device::first_gpu() {
        Ok(gpu) => gpu,
        Err(error) => {
            println!("searches on a device: there is no GPU ({error})");
            return;
        }
    };
    let name = device::name(&gpu).unwrap_or_default();
    for problem in &PROBLEMS[2..4] {
        let network = Problem { samples: SAMPLES, ..*problem }.network();
        compare(&network, &gpu, &name);
        for count in [16, 128, 512] {
            race(&network, &gpu, &name, problem.name, count);
        }
    }
}

/// How far losses, gradients and products of the GPU are from those of our own kernels.
fn compare(network: &Network, gpu: &Device, name: &str) {
    let seats = 40;
    let mut batch = DeviceNetwork::new(network, gpu, seats).expect("the device has room");
    let theta = |i: usize| start(network, i);
    let thetas: Vec<Vec<f64>> = (0..seats).map(theta).collect();
    let all: Vec<&[f64]> = thetas.iter().map(Vec::as_slice).collect();
    let seated: Vec<(usize, &[f64])> = all.iter().copied().enumerate().collect();
    let evaluated = batch.evaluate(&all).expect("an evaluation");
    batch.place(&seated).expect("a state");
    let mut largest = [0.0f64; 4];
    for matrix in [Matrix::Hessian, Matrix::GaussNewton] {
        let products = batch.multiply(matrix, &seated).expect("products");
        for ((theta, (loss, gradient)), product) in thetas.iter().zip(&evaluated).zip(&products) {
            let point = network.evaluate(theta);
            let mut expected = vec![0.0; theta.len()];
            let which = if matrix == Matrix::Hessian {
                point.hessian_vector(theta, &mut expected);
                2
            } else {
                point.gauss_newton_vectors(theta, &mut expected).expect("a cost of outputs");
                3
            };
            largest[0] = largest[0].max((loss / point.loss() - 1.0).abs());
            largest[1] = largest[1].max(difference(gradient, point.gradient()));
            largest[which] = largest[which].max(difference(product, &expected));
        }
    }
    let [loss, gradient, hessian, gauss_newton] = largest;
    println!(
        "{name} beside our own kernels, N = {}: loss {loss:.1e}, gradient {gradient:.1e}, Hessian products {hessian:.1e}, Gauss-Newton products {gauss_newton:.1e} (target 1e-12)",
        network.dim()
    );
    assert!(largest.iter().all(|error| *error < 1e-12), "the device computes something else");
}

fn difference(found: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let error = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    error / norm(&mut expected.iter().copied())
}

fn start(network: &Network, i: usize) -> Vec<f64> {
    numbers(network.dim(), 601 + i as u64).into_iter().map(|x| 0.6 * x).collect()
}

fn race(network: &Network, gpu: &Device, name: &str, problem: &str, count: usize) {
    let search = |i: usize, loss: &dyn Objective| {
        let search = SearchOptions { iterations: ITERATIONS, ..SearchOptions::default() };
        let options = NewtonMrOptions { search, ..NewtonMrOptions::default() };
        let outcome = newton_mr::search(loss, &start(network, i), &options, &Control::default());
        let outcome = outcome.expect("options are in range");
        Ok(outcome
            .trace
            .iter()
            .filter_map(|row| row.step?.solve)
            .map(|s| s.iterations)
            .sum::<usize>())
    };
    let (mut together, mut apart) = (0, 0);
    let on_gpu = seconds(|| {
        let batch = DeviceNetwork::new(network, gpu, count).expect("the device has room");
        together = search_all(batch, count, search).expect("a device that works").iter().sum();
    });
    let on_threads = seconds(|| {
        let found: Result<Vec<usize>, _> =
            (0..count).into_par_iter().map(|i| search(i, network)).collect();
        apart = found.expect("options are in range").iter().sum();
    });
    let [on_gpu, on_threads] = [on_gpu / together as f64, on_threads / apart as f64];
    println!(
        "{count} searches, {problem}, {SAMPLES} samples: a product takes {:.1} us on {name}, {:.1} us on {} threads, ratio {:.1}",
        1e6 * on_gpu,
        1e6 * on_threads,
        rayon::current_num_threads(),
        on_threads / on_gpu
    );
}
