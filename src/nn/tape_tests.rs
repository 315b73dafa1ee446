//! The tape against candle's operations and central differences, in `f64`.

use candle_core::{DType, Device, Tensor, Var};
use rayon::ThreadPoolBuilder;

use super::composed::tracked;
use super::encoder::{Architecture, EncoderConfig, EncoderNetwork, Stem};
use super::layers::tests::{check_close, normal, weigh};
use super::network::{After, Network, Shape};
use super::params::Init;
use super::tape::{Gradients, Tape};
use crate::rng::Streams;

const PLAIN: After = After { norm: None, residual: None, relu: false };
const DRAWN: Init = Init::Normal { deviation: 0.3 };

fn empty() -> Network {
    Network::new(&Streams::new(3, "test"), &Device::Cpu, DType::F64)
}

/// The gradients of a weighted sum of the result, and that of the input under the name `x`, by our own kernels.
fn by_tape(tape: &mut Tape<f64>, network: &Network, x: &Tensor) -> (Tensor, Gradients) {
    let y = tape.forward(network, x).unwrap();
    let leaf = Var::from_tensor(&y).unwrap();
    let dy = weigh(&leaf).backward().unwrap().remove(&leaf).unwrap();
    let mut gradients = Gradients::new();
    let dx = tape.backward(network, &dy, true, &mut gradients).unwrap().unwrap();
    gradients.insert("x".to_owned(), dx);
    (y, gradients)
}

/// The same by candle.
fn by_candle(network: &Network, x: &Tensor) -> (Tensor, Gradients) {
    let x = Var::from_tensor(x).unwrap();
    let y = tracked(network, &x).unwrap();
    let mut store = weigh(&y).backward().unwrap();
    let weights = network.parameters.weights().iter();
    let mut gradients: Gradients =
        weights.map(|(name, var)| (name.clone(), store.remove(var).unwrap())).collect();
    gradients.insert("x".to_owned(), store.remove(&x).unwrap());
    (y, gradients)
}

fn largest(x: &Tensor) -> f64 {
    let largest = x.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    largest.to_scalar::<f64>().unwrap()
}

/// Compares values and gradients of both ways, relative to the largest of each tensor.
fn compare(name: &str, network: &Network, x: &Tensor, tolerance: f64) {
    // Once through f32, so that putting it back changes nothing.
    let before = network.parameters.to_tensors().unwrap();
    network.parameters.load(&before).unwrap();
    let (theirs, expected) = by_candle(network, x);
    let moved = network.parameters.to_tensors().unwrap();
    network.parameters.load(&before).unwrap();
    let (ours, found) = by_tape(&mut Tape::default(), network, x);
    check_close(name, &ours, &theirs, tolerance * largest(&theirs));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (of, gradient) in &expected {
        let most = tolerance * largest(gradient);
        check_close(&format!("{name}, gradient of {of}"), &found[of], gradient, most);
    }
    for (of, statistic) in network.parameters.to_tensors().unwrap() {
        check_close(&format!("{name}, {of}"), &statistic, &moved[&of], 1e-6);
    }
}

/// Checks our gradient against central differences of our forward pass, at up to forty places of each tensor.
fn differentiate(name: &str, network: &Network, x: &Tensor) {
    let mut tape = Tape::default();
    let (_, gradients) = by_tape(&mut tape, network, x);
    let x = Var::from_tensor(x).unwrap();
    let value = |tape: &mut Tape<f64>| {
        weigh(&tape.forward(network, &x).unwrap()).to_scalar::<f64>().unwrap()
    };
    let weights = network.parameters.weights().iter().map(|(of, var)| (of.as_str(), var));
    for (of, var) in weights.chain([("x", &x)]) {
        let at: Vec<f64> = var.flatten_all().unwrap().to_vec1().unwrap();
        let gradient: Vec<f64> = gradients[of].flatten_all().unwrap().to_vec1().unwrap();
        for i in (0..at.len()).step_by(at.len().div_ceil(40)) {
            let mut moved = |step: f64| {
                let mut values = at.clone();
                values[i] += step;
                let tensor = Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap();
                var.set(&tensor).unwrap();
                value(&mut tape)
            };
            let step = 2e-6;
            let difference = (moved(step) - moved(-step)) / (2.0 * step);
            moved(0.0);
            let error = (difference - gradient[i]).abs();
            assert!(error < 1e-7 * (1.0 + largest(&gradients[of])), "{name}, {of} {i}: {error}");
        }
    }
}

/// Height, width, channels, filters, kernel, stride: all convolutions of residual networks, on odd sizes too.
///
/// The last are cut into enough full tiles for Winograd's algorithm, and into parts of tiles.
const CONVOLUTIONS: [[usize; 6]; 15] = [
    [9, 8, 3, 2, 7, 2],
    [8, 8, 1, 4, 7, 2],
    [5, 4, 3, 2, 3, 1],
    [5, 4, 2, 3, 3, 2],
    [2, 2, 3, 2, 3, 2],
    [2, 3, 3, 2, 3, 1],
    [1, 1, 3, 2, 3, 1],
    [1, 1, 3, 2, 3, 2],
    [4, 5, 3, 2, 1, 2],
    [3, 3, 2, 2, 1, 1],
    [16, 16, 16, 32, 3, 1],
    [8, 12, 32, 16, 3, 1],
    [15, 13, 16, 16, 3, 1],
    [7, 5, 16, 16, 3, 1],
    [32, 32, 1, 16, 3, 1],
];

#[test]
fn convolutions_are_those_of_candle() {
    for [h, w, c, f, k, stride] in CONVOLUTIONS {
        let mut network = empty();
        network.unit("conv", 0, Shape::convolution(c, f, k, stride), DRAWN, PLAIN).unwrap();
        let images = if c >= 16 { 33 } else { 3 };
        let x = normal("x", &[images, h, w, c]).as_detached_tensor();
        let name = format!("{h}×{w}×{c} to {f}, {k}×{k}/{stride}");
        compare(&name, &network, &x, 1e-12);
        differentiate(&name, &network, &x.narrow(0, 0, 2).unwrap());
    }
}

#[test]
fn many_tasks_and_wide_products_are_those_of_candle() {
    let mut network = empty();
    network.unit("conv", 0, Shape::convolution(4, 8, 3, 1), DRAWN, PLAIN).unwrap();
    compare("70 images", &network, &normal("x", &[70, 16, 16, 4]), 1e-12);
    for [rows, inputs, outputs] in [[3, 5, 4], [600, 40, 30], [20, 700, 600]] {
        let mut network = empty();
        network.unit("linear", 0, Shape::linear(inputs, outputs), DRAWN, PLAIN).unwrap();
        let name = format!("{rows}×{inputs} to {outputs}");
        compare(&name, &network, &normal("x", &[rows, inputs]), 1e-12);
    }
}

/// A convolution with all that may follow it, and the pools.
#[test]
fn every_layer_has_the_gradient_of_its_values() {
    for (h, w) in [(4, 6), (5, 7), (1, 3), (8, 8)] {
        let mut network = empty();
        let unit = |network: &mut Network, path: &str, input, residual, relu| {
            let norm = format!("{path}.norm");
            let after = After { norm: Some(&norm), residual, relu };
            network.unit(path, input, Shape::convolution(3, 3, 3, 1), DRAWN, after).unwrap()
        };
        let first = unit(&mut network, "first", 0, None, true);
        let pooled = network.max_pool(first);
        let second = unit(&mut network, "second", pooled, None, false);
        let third = unit(&mut network, "third", second, Some(pooled), true);
        let last = unit(&mut network, "fourth", third, Some(second), false);
        let features = network.average_pool(last);
        network.unit("head", features, Shape::linear(3, 2), DRAWN, PLAIN).unwrap();
        for (name, var) in network.parameters.weights() {
            if var.rank() == 1 {
                var.set(&(normal(name, &[3]).as_tensor() + 0.5).unwrap()).unwrap();
            }
        }
        let x = normal("x", &[3, h, w, 3]).as_detached_tensor();
        compare(&format!("{h}×{w}"), &network, &x, 1e-10);
        differentiate(&format!("{h}×{w}"), &network, &x);
    }
}

#[test]
fn residual_networks_are_those_of_candle() {
    use Architecture::{ResNet9, ResNet18, ResNet34, ResNet50};
    for (architecture, stem, width, images) in [
        (ResNet9, Stem::Cifar, 16, 8),
        (ResNet18, Stem::Cifar, 16, 8),
        (ResNet18, Stem::ImageNet, 4, 6),
        (ResNet34, Stem::Cifar, 2, 3),
        (ResNet50, Stem::ImageNet, 2, 6),
    ] {
        let config = EncoderConfig { architecture, stem, width, channels: 2, ..Default::default() };
        let net = EncoderNetwork::new(config, &Streams::new(3, "test"), &Device::Cpu, DType::F64)
            .unwrap();
        let x = normal("x", &[images, 16, 16, 2]).as_detached_tensor();
        compare(&format!("{architecture:?} {stem:?}"), &net.network, &x, 1e-9);
    }
}

#[test]
fn a_tape_serves_batches_of_any_size_with_the_same_bits_on_any_threads() {
    let config = EncoderConfig { stem: Stem::Cifar, width: 16, channels: 1, ..Default::default() };
    let net =
        EncoderNetwork::new(config, &Streams::new(3, "test"), &Device::Cpu, DType::F32).unwrap();
    let x = normal("x", &[12, 16, 16, 1]).to_dtype(DType::F32).unwrap().detach();
    let bits = |threads: usize, sizes: &[usize]| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut tape, mut gradients) = (Tape::<f32>::default(), Gradients::new());
            for size in sizes {
                let y = tape.forward(&net.network, &x.narrow(0, 0, *size).unwrap()).unwrap();
                tape.backward(&net.network, &y, false, &mut gradients).unwrap();
            }
            let values =
                gradients.values().map(|g| g.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            values.flatten().map(f32::to_bits).collect::<Vec<u32>>()
        })
    };
    let expected = bits(1, &[8]);
    assert!(bits(2, &[8]) == expected && bits(3, &[12, 5, 8]) == expected);
}

#[test]
fn what_cannot_be_normalized_is_refused_and_nan_is_not_lost() {
    let mut network = empty();
    let after = After { norm: Some("norm"), residual: None, relu: true };
    network.unit("linear", 0, Shape::linear(2, 2), DRAWN, after).unwrap();
    let error = Tape::<f64>::default().forward(&network, &normal("x", &[1, 2])).unwrap_err();
    let expected = "batch norm in training needs at least 2 values a channel, found 1";
    assert!(error.to_string().contains(expected), "{error}");
    assert!(Tape::<f64>::default().forward(&network, &normal("x", &[4, 3])).is_err());
    let nan = (normal("x", &[4, 2]).as_tensor() * f64::NAN).unwrap();
    let y = Tape::<f64>::default().forward(&network, &nan).unwrap();
    assert!(y.to_vec2::<f64>().unwrap().concat().iter().all(|v| v.is_nan()));
    let mut gradients = Gradients::new();
    assert!(Tape::<f64>::default().backward(&network, &nan, false, &mut gradients).is_err());
}
