//! The networks of Frye et al. 2021 on samples made by a formula of whole numbers, which any program can repeat.

use wavecrest::landscape::activation::Activation;
use wavecrest::landscape::data::{Data, Targets};
use wavecrest::landscape::network::{Architecture, Cost, Network};
use wavecrest::landscape::objective::Objective as _;

/// A problem, with what the published program takes for it.
pub(crate) struct Problem {
    pub(crate) name: &'static str,
    pub(crate) sizes: &'static [usize],
    pub(crate) activation: Activation,
    pub(crate) bias: bool,
    pub(crate) cost: Cost,
    pub(crate) l2: f64,
    pub(crate) samples: usize,
    /// Newton-MR iterations of a run, and the published program's seconds for one of them.
    pub(crate) iterations: usize,
    pub(crate) published: f64,
    /// How many times faster ours is to be.
    pub(crate) target: f64,
}

const LINEAR: Problem = Problem {
    name: "linear autoencoder",
    sizes: &[16, 4, 16],
    activation: Activation::Linear,
    bias: false,
    cost: Cost::MeanSquaredError,
    l2: 0.0,
    samples: 10_000,
    iterations: 5,
    published: 0.431,
    target: 1000.0,
};

const SWISH: Problem = Problem { activation: Activation::Swish, target: 25.0, ..LINEAR };

/// E2 to E6 of the papers, but for the data.
pub(crate) const PROBLEMS: [Problem; 5] = [
    LINEAR,
    Problem {
        name: "autoencoder, Gaussian data",
        sizes: &[16, 16, 4, 16],
        l2: 1.0,
        samples: 200,
        iterations: 6,
        published: 1.086,
        ..SWISH
    },
    Problem {
        name: "autoencoder, images",
        sizes: &[16, 8, 16, 16],
        bias: true,
        samples: 500,
        iterations: 6,
        published: 2.270,
        ..SWISH
    },
    Problem {
        name: "classifier",
        sizes: &[16, 12, 8, 10],
        bias: true,
        cost: Cost::CrossEntropy,
        samples: 500,
        iterations: 6,
        published: 1.569,
        ..SWISH
    },
    Problem {
        name: "memorization",
        sizes: &[32, 32, 4, 2],
        cost: Cost::CrossEntropy,
        l2: 0.1,
        samples: 50,
        iterations: 6,
        published: 0.430,
        ..SWISH
    },
];

impl Problem {
    /// The loss.
    pub(crate) fn network(&self) -> Network {
        let (inputs, outputs) = (self.sizes[0], self.sizes[self.sizes.len() - 1]);
        let label = |s: usize| (3 * s * s + s) % 11 % outputs;
        let targets = match self.cost {
            Cost::MeanSquaredError => Targets::Inputs,
            Cost::CrossEntropy => Targets::Labels((0..self.samples).map(label).collect()),
        };
        let inputs = numbers(self.samples * inputs, 9973).into_iter().map(|x| 2.0 * x).collect();
        let architecture = Architecture {
            sizes: self.sizes.to_vec(),
            bias: self.bias,
            activation: self.activation,
            cost: self.cost,
            l2: self.l2,
        };
        Network::new(architecture, Data { samples: self.samples, inputs, targets })
            .expect("the samples fit the network")
    }
}

/// Where searches begin.
pub(crate) fn start(network: &Network) -> Vec<f64> {
    numbers(network.dim(), 997).into_iter().map(|x| 0.5 * x).collect()
}

/// Numbers in [-1, 1] without much of a pattern.
pub(crate) fn numbers(count: usize, modulus: u64) -> Vec<f64> {
    let number = |i: u64| ((7 * i * i + 13 * i + 5) % modulus) as f64 / (modulus - 1) as f64;
    (0..count as u64).map(|i| 2.0 * number(i) - 1.0).collect()
}
