//! Networks and numbers that several tests share.

use crate::{
    landscape::{
        activation::Activation,
        data::{Data, Targets},
        network::{Architecture, Cost, Network},
        vector,
    },
    rng::Streams,
};

/// Every activation.
pub(super) const ACTIVATIONS: [Activation; 6] = [
    Activation::Linear,
    Activation::Swish,
    Activation::Tanh,
    Activation::Relu,
    Activation::Softplus,
    Activation::Sigmoid,
];

/// Standard normal numbers, others for each purpose.
pub(super) fn normal(n: usize, purpose: &str) -> Vec<f64> {
    let mut values = vec![0.0; n];
    Streams::new(11, "test").stream(purpose).fill_normal(&mut values);
    values
}

/// 150 samples, so that one block is full and the other padded.
pub(super) fn network(activation: Activation, cost: Cost, bias: bool, l2: f64) -> Network {
    let samples = 150;
    let targets = match cost {
        Cost::MeanSquaredError => Targets::Values(normal(samples * 3, "targets")),
        Cost::CrossEntropy => Targets::Labels((0..samples).map(|s| s * s % 3).collect()),
    };
    let inputs = normal(samples * 5, "inputs");
    let architecture = Architecture { sizes: vec![5, 7, 4, 3], bias, activation, cost, l2 };
    Network::new(architecture, Data { samples, inputs, targets }).unwrap()
}

/// Checks such networks of every activation and cost, with biases and with a regularizer.
pub(super) fn each_case(mut check: impl FnMut(&Network, &str)) {
    for activation in ACTIVATIONS {
        for cost in [Cost::MeanSquaredError, Cost::CrossEntropy] {
            for (bias, l2) in [(true, 0.0), (false, 0.7)] {
                let case = format!("{activation:?} {cost:?} bias {bias} l2 {l2}");
                check(&network(activation, cost, bias, l2), &case);
            }
        }
    }
}

/// The distance from what is expected, as a share of that.
pub(super) fn relative(found: &[f64], expected: &[f64]) -> f64 {
    vector::norm(&vector::moved(found, -1.0, expected)) / vector::norm(expected)
}
