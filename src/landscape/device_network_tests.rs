//! The loss on a device beside the loss by our own kernels, and searches that compute as one beside those that do not.

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Device;

use crate::landscape::{
    activation::Activation,
    data::{Data, Targets},
    device_network::DeviceNetwork,
    error::LandscapeError,
    fixtures::{each_case, normal, relative},
    gathered::{Batch, search_all},
    gradient_norm::{self, GradientNormOptions},
    minres_qlp::SolverOptions,
    network::{Architecture, Cost, Network},
    newton_mr::{self, NewtonMrOptions},
    objective::{Matrix, Objective},
    search::{Control, Outcome, SearchOptions},
    vector,
};

fn autoencoder() -> Network {
    let data = Data { samples: 40, inputs: normal(40 * 4, "inputs"), targets: Targets::Inputs };
    let architecture = Architecture {
        sizes: vec![4, 3, 4],
        bias: true,
        activation: Activation::Swish,
        cost: Cost::MeanSquaredError,
        l2: 0.2,
    };
    Network::new(architecture, data).unwrap()
}

/// The CPU, and the first GPU where there is one and the program is built for it.
fn devices() -> impl Iterator<Item = Device> {
    [Some(Device::Cpu), Device::new_cuda_with_stream(0).ok()].into_iter().flatten()
}

fn on_device(network: &Network, device: &Device, seats: usize) -> DeviceNetwork {
    DeviceNetwork::new(network, device, seats).unwrap()
}

fn assert_near(found: &[f64], expected: &[f64], case: &str) {
    let error = relative(found, expected);
    assert!(error < 1e-13, "{case}: {error}");
}

#[test]
fn losses_gradients_and_products_are_those_of_our_own_kernels() {
    each_case(|network, case| {
        for device in devices() {
            compare(network, &device, case);
        }
    });
}

#[test]
fn a_single_unit_a_layer_and_a_single_sample_are_no_special_case() {
    for samples in [1, 3] {
        let inputs = normal(samples, "inputs");
        let targets = Targets::Values(normal(samples, "targets"));
        let architecture = Architecture {
            sizes: vec![1, 1, 1],
            bias: true,
            activation: Activation::Tanh,
            ..Architecture::default()
        };
        let network = Network::new(architecture, Data { samples, inputs, targets }).unwrap();
        for device in devices() {
            compare(&network, &device, "one unit");
        }
    }
}

/// Holds a device to our own kernels: seat 1 has moved, seat 0 is empty, and vectors come in an order of their own.
fn compare(network: &Network, device: &Device, case: &str) {
    let dim = network.dim();
    let mut batch = on_device(network, device, 3);
    let theta = |i: usize| normal(dim, &format!("theta{i}"));
    let thetas: Vec<Vec<f64>> = (0..3).map(theta).collect();
    let v = normal(dim, "v");
    batch.place(&[(2, &thetas[0]), (1, &thetas[1])]).unwrap();
    batch.place(&[(1, &thetas[2])]).unwrap();
    let all: Vec<&[f64]> = thetas.iter().map(Vec::as_slice).collect();
    let evaluated = batch.evaluate(&all).unwrap();
    for (theta, (loss, gradient)) in thetas.iter().zip(&evaluated) {
        let point = network.evaluate(theta);
        assert!((loss / point.loss() - 1.0).abs() < 1e-13, "{case}");
        assert_near(gradient, point.gradient(), case);
    }
    let asked: [(usize, &[f64]); 2] = [(2, &v), (1, &thetas[0])];
    for matrix in [Matrix::Hessian, Matrix::GaussNewton] {
        let products = batch.multiply(matrix, &asked).unwrap();
        for ((theta, (_, v)), found) in [0, 2].into_iter().zip(asked).zip(&products) {
            let (point, mut expected) = (network.evaluate(&thetas[theta]), vec![0.0; dim]);
            if matrix == Matrix::Hessian {
                point.hessian_vector(v, &mut expected);
            } else {
                point.gauss_newton_vectors(v, &mut expected).unwrap();
            }
            assert_near(found, &expected, &format!("{case} {matrix:?} {theta}"));
        }
    }
}

#[test]
fn more_points_than_a_batch_are_evaluated_and_placed_in_order() {
    let network = autoencoder();
    let thetas: Vec<Vec<f64>> =
        (0..70).map(|i| normal(network.dim(), &format!("theta{i}"))).collect();
    let all: Vec<&[f64]> = thetas.iter().map(Vec::as_slice).collect();
    for device in devices() {
        let mut batch = on_device(&network, &device, 70);
        let evaluated = batch.evaluate(&all).unwrap();
        let seats: Vec<(usize, &[f64])> = all.iter().copied().enumerate().collect();
        batch.place(&seats).unwrap();
        let products = batch.multiply(Matrix::Hessian, &seats).unwrap();
        for ((theta, (loss, _)), product) in thetas.iter().zip(&evaluated).zip(&products) {
            let point = network.evaluate(theta);
            assert!((loss / point.loss() - 1.0).abs() < 1e-13);
            let mut expected = vec![0.0; theta.len()];
            point.hessian_vector(theta, &mut expected);
            assert_near(product, &expected, "seat");
        }
    }
}

#[test]
fn as_many_points_are_taken_as_there_is_room_for() {
    let network = autoencoder();
    let needed = |seats: usize| {
        // By hand: 3 hidden units and 4 outputs of 40 samples, 31 parameters.
        let (state, passing) = ((4 * 3 + 2 * 4) * 40 + 4 * 31, (2 * 3 + 8 * 4) * 40 + 8 * 31);
        8 * (12 * 40 + seats * (state + passing) + seats.min(32) * state) as u64
    };
    for seats in [1, 2, 31, 32, 33, 500] {
        assert_eq!(DeviceNetwork::seats_within(&network, needed(seats)), seats);
        assert_eq!(DeviceNetwork::seats_within(&network, needed(seats) - 1), seats - 1);
    }
    assert_eq!(DeviceNetwork::seats_within(&network, 0), 0);
}

/// A search by a method that asks for points and products in turn.
fn search(i: usize, loss: &dyn Objective) -> Result<Outcome, LandscapeError> {
    let start =
        vector::moved(&vec![0.0; loss.dim()], 0.5, &normal(loss.dim(), &format!("start{i}")));
    let search = SearchOptions { iterations: 6 + i, ..SearchOptions::default() };
    if i.is_multiple_of(2) {
        // Without, the lost orthogonality of Lanczos vectors makes much of the last bits.
        let solver = SolverOptions { reorthogonalize: true, ..SolverOptions::default() };
        let options = NewtonMrOptions { solver, search, ..NewtonMrOptions::default() };
        return newton_mr::search(loss, &start, &options, &Control::default());
    }
    let options = GradientNormOptions { search, ..GradientNormOptions::default() };
    gradient_norm::search(loss, &start, &options, &Control::default())
}

#[test]
fn searches_that_compute_as_one_take_the_course_of_those_that_do_not() {
    let network = autoencoder();
    for device in devices() {
        let together = search_all(on_device(&network, &device, 3), 7, search).unwrap();
        for (i, found) in together.iter().enumerate() {
            let alone = search(i, &network).unwrap();
            assert_eq!((found.status, found.trace.len()), (alone.status, alone.trace.len()), "{i}");
            for (found, alone) in found.trace.iter().zip(&alone.trace) {
                // Rounding grows along a search; after six to twelve steps it is far below this.
                assert!((found.loss / alone.loss - 1.0).abs() < 1e-6, "{i} {found:?} {alone:?}");
            }
        }
    }
}

#[test]
fn a_search_has_the_same_bits_whoever_searches_beside_it() {
    let network = autoencoder();
    for device in devices() {
        // More than are evaluated at once.
        let seats = 40;
        let among = search_all(on_device(&network, &device, seats), seats, search).unwrap();
        for wanted in [0, 1, 17, 39] {
            let only = |i: usize, loss: &dyn Objective| {
                if i == wanted { search(i, loss).map(Some) } else { Ok(None) }
            };
            let alone = search_all(on_device(&network, &device, seats), seats, only).unwrap();
            assert_eq!(alone[wanted].as_ref(), Some(&among[wanted]), "{wanted}");
        }
    }
}

/// A batch that fails at its last evaluation.
struct Failing(AtomicUsize);

impl Batch for Failing {
    fn dim(&self) -> usize {
        1
    }

    fn seats(&self) -> usize {
        3
    }

    fn evaluate(&mut self, thetas: &[&[f64]]) -> Result<Vec<(f64, Vec<f64>)>, LandscapeError> {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(LandscapeError::Device("out of memory".to_owned()));
        }
        Ok(thetas.iter().map(|theta| (theta[0], vec![1.0])).collect())
    }

    fn place(&mut self, _: &[(usize, &[f64])]) -> Result<(), LandscapeError> {
        Ok(())
    }

    fn multiply(
        &mut self,
        _: Matrix,
        _: &[(usize, &[f64])],
    ) -> Result<Vec<Vec<f64>>, LandscapeError> {
        Err(LandscapeError::Device("no products here".to_owned()))
    }
}

#[test]
fn a_batch_that_fails_ends_all_searches_with_its_error() {
    let ended = AtomicUsize::new(0);
    // Search 0 ends in the first round, the others do not survive the third.
    let search = |i: usize, loss: &dyn Objective| {
        for round in 0..10 {
            assert_eq!(loss.evaluate(&[i as f64]).loss(), i as f64);
            if i == 0 && round == 0 {
                break;
            }
        }
        ended.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let error = search_all(Failing(AtomicUsize::new(2)), 3, search).unwrap_err();
    assert_eq!(error.to_string(), "out of memory");
    assert_eq!(ended.into_inner(), 1);
    let product = |_: usize, loss: &dyn Objective| {
        loss.evaluate(&[0.0]).hessian_vector(&[1.0], &mut [0.0]);
        Ok(())
    };
    let error = search_all(Failing(AtomicUsize::new(9)), 5, product).unwrap_err();
    assert_eq!(error.to_string(), "no products here");
}

#[test]
fn after_a_search_that_fails_none_begins() {
    let begun = AtomicUsize::new(0);
    let search = |i: usize, loss: &dyn Objective| {
        begun.fetch_add(1, Ordering::Relaxed);
        loss.evaluate(&[0.0]);
        if i == 2 { Err(LandscapeError::Eigenvalues { size: i }) } else { Ok(i) }
    };
    let error = search_all(Failing(AtomicUsize::new(99)), 1000, search).unwrap_err();
    assert_eq!(error, LandscapeError::Eigenvalues { size: 2 });
    // Three go on at once: those beside it may have ended and begun another.
    assert!(begun.into_inner() <= 5);
}

#[test]
#[should_panic(expected = "a defect of search 1")]
fn a_search_that_panics_is_not_lost_and_holds_nobody_up() {
    let search = |i: usize, loss: &dyn Objective| {
        let point = loss.evaluate(&[0.0]);
        assert!(i != 1, "a defect of search {i}");
        drop(point);
        Ok(loss.evaluate(&[1.0]).loss())
    };
    search_all(Failing(AtomicUsize::new(99)), 3, search).unwrap_err();
}
