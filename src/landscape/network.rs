//! Losses of fully connected networks over a fixed set of samples.

use std::ops::Range;

use crate::{
    landscape::{
        activation::Activation,
        data::{self, Data, Targets},
        error::{LandscapeError, expect_finite, expect_length, expect_option},
        network_point::NetworkPoint,
        objective::{Objective, Point},
        products::LANES,
    },
    rng::Streams,
};

/// Samples of a block; it fixes the order of sums over samples, hence the last bits of every result.
const BLOCK: usize = 128;

/// A fully connected network with a linear output layer, and its loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Units a layer, from the inputs to the outputs.
    pub sizes: Vec<usize>,
    /// Whether every layer but the first adds a bias to each unit.
    pub bias: bool,
    /// What the units of the hidden layers apply.
    pub activation: Activation,
    pub cost: Cost,
    /// The coefficient of mean(theta^2), which is added to the cost; at least 0.
    pub l2: f64,
}

impl Default for Architecture {
    /// The linear autoencoder 16-4-16 of Frye et al. 2019 (arXiv:1901.10603).
    fn default() -> Self {
        Self {
            sizes: vec![16, 4, 16],
            bias: false,
            activation: Activation::Linear,
            cost: Cost::MeanSquaredError,
            l2: 0.0,
        }
    }
}

/// What compares outputs with targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cost {
    /// The mean of the squared error over all samples and outputs.
    #[default]
    MeanSquaredError,
    /// The mean over samples of minus the logarithm of the softmax at the label.
    CrossEntropy,
}

/// The loss of an architecture on data, a function of the parameters.
///
/// The parameters are, layer by layer, the weights (outputs x inputs, row-major) and then the biases if there are any.
#[derive(Clone, Debug)]
pub struct Network {
    pub(super) architecture: Architecture,
    pub(super) layers: Vec<Layer>,
    pub(super) blocks: Vec<Block>,
    /// How many samples the blocks hold, padding left out.
    pub(super) samples: usize,
    dim: usize,
}

/// Where a layer's parameters lie.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) weights: Range<usize>,
    pub(super) bias: Range<usize>,
}

/// A block of samples, stored feature by feature and padded with zeros to a multiple of [`LANES`].
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Samples with padding.
    pub(super) length: usize,
    /// Samples without padding.
    pub(super) samples: usize,
    pub(super) inputs: Vec<f64>,
    pub(super) targets: BlockTargets,
}

#[derive(Clone, Debug)]
pub(super) enum BlockTargets {
    Inputs,
    Values(Vec<f64>),
    Labels(Vec<usize>),
}

impl Network {
    /// Binds an architecture to data, checking that they fit.
    ///
    /// A linear network without biases under the mean squared error is given few samples of the same second moments
    /// ([`data::with_same_second_moments`]): its loss is the same function, hundreds of times faster.
    pub fn new(architecture: Architecture, data: Data) -> Result<Self, LandscapeError> {
        let (inputs, outputs) = check(&architecture, &data)?;
        let moments_suffice = architecture.activation == Activation::Linear
            && architecture.cost == Cost::MeanSquaredError
            && !architecture.bias;
        let data = if moments_suffice {
            data::with_same_second_moments(data, inputs, outputs)
        } else {
            data
        };
        Self::from_samples(architecture, &data)
    }

    /// Binds an architecture to data, checking that they fit, and goes over every sample each time.
    pub fn from_samples(architecture: Architecture, data: &Data) -> Result<Self, LandscapeError> {
        check(&architecture, data)?;
        let mut dim = 0;
        let mut take = |n: usize| {
            dim += n;
            dim - n..dim
        };
        let layers = architecture
            .sizes
            .windows(2)
            .map(|pair| Layer {
                inputs: pair[0],
                outputs: pair[1],
                weights: take(pair[0] * pair[1]),
                bias: take(if architecture.bias { pair[1] } else { 0 }),
            })
            .collect();
        let blocks = (0..data.samples)
            .step_by(BLOCK)
            .map(|start| Block::new(data, &architecture, start..data.samples.min(start + BLOCK)))
            .collect();
        Ok(Self { architecture, layers, blocks, samples: data.samples, dim })
    }

    /// Returns the architecture.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Returns the number of samples that the loss goes over, fewer than were given where few with the same second
    /// moments take their place.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Draws parameters from the standard normal distribution, divided by the square root of their number.
    ///
    /// This is how autocrit, the program of Frye et al. 2021, starts a network. The runs of Frye et al. 2019 on the
    /// linear autoencoder divide by the square root of inputs times hidden units instead: by 8 for 16-4-16.
    pub fn initialize(&self, streams: &Streams) -> Vec<f64> {
        let mut theta = vec![0.0; self.dim];
        streams.stream("initialize").fill_normal(&mut theta);
        let scale = 1.0 / (self.dim as f64).sqrt();
        for value in &mut theta {
            *value *= scale;
        }
        theta
    }

    pub(super) fn output_and_hidden(&self) -> (&Layer, &[Layer]) {
        self.layers.split_last().expect("`check` demands two sizes, hence a layer")
    }
}

impl Objective for Network {
    fn dim(&self) -> usize {
        self.dim
    }

    fn evaluate(&self, theta: &[f64]) -> Box<dyn Point + '_> {
        assert_eq!(theta.len(), self.dim, "theta has one entry a parameter");
        Box::new(NetworkPoint::new(self, theta))
    }
}

impl Block {
    fn new(data: &Data, architecture: &Architecture, range: Range<usize>) -> Self {
        let samples = range.len();
        let length = samples.next_multiple_of(LANES);
        let by_feature = |values: &[f64], width: usize| -> Vec<f64> {
            let mut features = vec![0.0; width * length];
            for (s, row) in values[range.start * width..range.end * width].chunks(width).enumerate()
            {
                for (feature, value) in row.iter().enumerate() {
                    features[feature * length + s] = *value;
                }
            }
            features
        };
        let sizes = &architecture.sizes;
        Self {
            length,
            samples,
            inputs: by_feature(&data.inputs, sizes[0]),
            targets: match &data.targets {
                Targets::Inputs => BlockTargets::Inputs,
                Targets::Values(values) => {
                    BlockTargets::Values(by_feature(values, sizes[sizes.len() - 1]))
                }
                Targets::Labels(labels) => BlockTargets::Labels(labels[range.clone()].to_vec()),
            },
        }
    }
}

/// Checks an architecture and its data; returns the numbers of inputs and outputs.
fn check(architecture: &Architecture, data: &Data) -> Result<(usize, usize), LandscapeError> {
    let sizes = &architecture.sizes;
    let (&[inputs, .., outputs], true) = (sizes.as_slice(), !sizes.contains(&0)) else {
        let (option, requirement) = ("sizes", "two or more layers of one or more units");
        return Err(LandscapeError::Option { option, requirement, value: sizes.len() as f64 });
    };
    expect_option("samples", "at least 1", data.samples as f64, |n| n >= 1.0)?;
    expect_option("l2", "finite and at least 0", architecture.l2, |l2| {
        l2.is_finite() && l2 >= 0.0
    })?;
    expect_length("inputs", data.samples * inputs, data.inputs.len())?;
    expect_finite("inputs", &data.inputs)?;
    match (architecture.cost, &data.targets) {
        (Cost::MeanSquaredError, Targets::Inputs) => {
            expect_length("an autoencoder's output layer", inputs, outputs)?;
        }
        (Cost::MeanSquaredError, Targets::Values(values)) => {
            expect_length("targets", data.samples * outputs, values.len())?;
            expect_finite("targets", values)?;
        }
        (Cost::CrossEntropy, Targets::Labels(labels)) => {
            expect_length("labels", data.samples, labels.len())?;
            if let Some(sample) = labels.iter().position(|label| *label >= outputs) {
                let label = labels[sample];
                return Err(LandscapeError::Label { sample, label, classes: outputs });
            }
        }
        (Cost::MeanSquaredError, Targets::Labels(_)) => {
            let (cost, needed) = ("the mean squared error", "values");
            return Err(LandscapeError::Targets { cost, needed });
        }
        (Cost::CrossEntropy, _) => {
            let (cost, needed) = ("the cross-entropy", "class labels");
            return Err(LandscapeError::Targets { cost, needed });
        }
    }
    Ok((inputs, outputs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landscape::{
        fixtures::{each_case, network, normal, relative},
        hessian, vector,
    };

    #[test]
    fn gradients_are_those_of_finite_differences() {
        each_case(|network, case| {
            let theta = normal(network.dim(), "theta");
            let direction = normal(network.dim(), "direction");
            let at = |t: f64| network.evaluate(&vector::moved(&theta, t, &direction)).loss();
            // A fourth-order difference, short enough not to cross a kink of relu; rounding leaves some 1e-10 / h.
            let h = 1e-5;
            let difference = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            let slope = vector::dot(network.evaluate(&theta).gradient(), &direction);
            assert!((difference / slope - 1.0).abs() < 1e-8, "{case}: {difference} {slope}");
        });
    }

    #[test]
    fn hessian_products_are_those_of_finite_differences_and_of_the_hessian() {
        each_case(|network, case| {
            let theta = normal(network.dim(), "theta");
            let direction = normal(network.dim(), "direction");
            let point = network.evaluate(&theta);
            let mut product = vec![0.0; network.dim()];
            point.hessian_vector(&direction, &mut product);
            let at = |t: f64| network.evaluate(&vector::moved(&theta, t, &direction));
            let h = 1e-6;
            let difference: Vec<f64> = vector::moved(at(h).gradient(), -1.0, at(-h).gradient())
                .into_iter()
                .map(|difference| difference / (2.0 * h))
                .collect();
            assert!(relative(&difference, &product) < 1e-6, "{case}");
            let matrix = hessian::hessian(&*point);
            let rows = 0..network.dim();
            let by_matrix: Vec<f64> = rows
                .map(|i| (0..network.dim()).map(|j| matrix[(i, j)] * direction[j]).sum())
                .collect();
            assert!(relative(&by_matrix, &product) < 1e-12, "{case}");
        });
    }

    #[test]
    fn losses_are_closed_forms_in_small_cases() {
        let build = |cost, targets, l2| {
            let architecture =
                Architecture { sizes: vec![1, 2], bias: true, cost, l2, ..Architecture::default() };
            Network::new(architecture, Data { samples: 2, inputs: vec![1.0, -1.0], targets })
                .unwrap()
        };
        // Outputs (2x + 0.5, -x): (2.5, -1) and (-1.5, 1).
        let theta = [2.0, -1.0, 0.5, 0.0];
        let targets = Targets::Values(vec![0.5, 0.0, 0.5, 0.0]);
        let squared = build(Cost::MeanSquaredError, targets, 0.4).evaluate(&theta).loss();
        assert!((squared - (2.0 + 0.4 * 5.25 / 4.0 + 1.0 / 4.0 * 2.0)).abs() < 1e-15, "{squared}");
        let labels = Targets::Labels(vec![0, 0]);
        let entropy = build(Cost::CrossEntropy, labels, 0.0).evaluate(&theta).loss();
        let expected = f64::midpoint((-3.5f64).exp().ln_1p(), 2.5f64.exp().ln_1p());
        assert!((entropy - expected).abs() < 1e-15, "{entropy}");
    }

    #[test]
    fn second_moments_give_the_same_function() {
        let inputs = normal(300 * 5, "inputs");
        for targets in [Targets::Inputs, Targets::Values(normal(300 * 5, "targets"))] {
            let data = Data { samples: 300, inputs: inputs.clone(), targets };
            let architecture =
                Architecture { sizes: vec![5, 3, 4, 5], l2: 0.1, ..Architecture::default() };
            let full = Network::from_samples(architecture.clone(), &data).unwrap();
            let reduced = Network::new(architecture, data).unwrap();
            assert!(reduced.samples <= 10 && full.samples == 300);
            let (theta, v) = (normal(full.dim(), "theta"), normal(full.dim(), "v"));
            let (full, reduced) = (full.evaluate(&theta), reduced.evaluate(&theta));
            assert!((full.loss() / reduced.loss() - 1.0).abs() < 1e-14);
            assert!(relative(reduced.gradient(), full.gradient()) < 1e-14);
            let (mut a, mut b) = (v.clone(), v.clone());
            full.hessian_vector(&v, &mut a);
            reduced.hessian_vector(&v, &mut b);
            assert!(relative(&b, &a) < 1e-14);
        }
    }

    #[test]
    fn extreme_parameters_yield_no_panic() {
        each_case(|network, case| {
            for scale in [1e3, 1e200, f64::NAN] {
                let theta: Vec<f64> =
                    normal(network.dim(), "theta").iter().map(|t| scale * t).collect();
                let point = network.evaluate(&theta);
                assert!(point.is_finite() || scale > 1e3 || scale.is_nan(), "{case} {scale}");
            }
        });
    }

    #[test]
    fn a_start_has_the_norm_of_a_unit_vector() {
        let network = network(Activation::Tanh, Cost::CrossEntropy, true, 0.0);
        let theta = network.initialize(&Streams::new(1, "test"));
        // ||theta||^2 has mean 1 and variance 2 / N.
        let deviation = 5.0 * (2.0 / network.dim() as f64).sqrt();
        assert!((vector::norm_squared(&theta) - 1.0).abs() < deviation);
    }

    #[test]
    fn misfits_are_refused() {
        let architecture = Architecture { sizes: vec![2, 1], ..Architecture::default() };
        let data =
            Data { samples: 2, inputs: vec![1.0; 4], targets: Targets::Values(vec![0.0; 2]) };
        let check = |architecture: &Architecture, data: &Data, message: &str| {
            let error = Network::new(architecture.clone(), data.clone()).unwrap_err();
            assert_eq!(error.to_string(), message);
        };
        check(
            &Architecture { sizes: vec![2], ..architecture.clone() },
            &data,
            "sizes must be two or more layers of one or more units: 1",
        );
        check(
            &architecture,
            &Data { samples: 3, ..data.clone() },
            "inputs has 4 entries, expected 6",
        );
        check(
            &architecture,
            &Data { targets: Targets::Inputs, ..data.clone() },
            "an autoencoder's output layer has 1 entries, expected 2",
        );
        check(
            &Architecture { cost: Cost::CrossEntropy, ..architecture.clone() },
            &data,
            "the cross-entropy needs class labels as targets",
        );
        check(
            &Architecture { cost: Cost::CrossEntropy, ..architecture.clone() },
            &Data { targets: Targets::Labels(vec![0, 1]), ..data.clone() },
            "sample 1 has label 1, but the network has 1 outputs",
        );
        check(
            &architecture,
            &Data { inputs: vec![1.0, f64::NAN, 0.0, 0.0], ..data.clone() },
            "inputs holds a number that is not finite, at entry 1",
        );
    }
}
