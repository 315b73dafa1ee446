//! The loss that landscape stages share: what network, under what cost, on what data.

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::failure::{Failure, FailureKind, Shortage};
use crate::engine::parameter::Input;
use crate::landscape;
use crate::landscape::data::{Data, Targets};
use crate::landscape::error::LandscapeError;
use crate::landscape::network::{Architecture, Cost, Network};
use crate::landscape::objective::{Objective, Quartic};
use crate::nn::memory::tells_out_of_memory;
use crate::store::hash;

/// A loss, as trajectories and points carry it along.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// That of a network on data.
    Network(NetworkProblem),
    /// A function of its parameters alone.
    Function(Function),
}

/// A loss that needs no data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// x^4/4 - 3x^2 + 9x + 0.9y^4 + 5y^2 + 40, the example of Frye 2020, thesis, ch. 3: its one critical point is (-3, 0),
    /// and it is gradient-flat at (-sqrt 2, 0) and (sqrt 2, 0) though no gradient vanishes there.
    #[default]
    Quartic,
}

/// A network's loss, as trajectories and points carry it along.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkProblem {
    /// Units a layer, from the inputs to the outputs.
    pub sizes: Vec<usize>,
    /// Whether units have biases.
    pub bias: bool,
    /// What hidden units apply.
    pub activation: Activation,
    /// What the outputs are compared with.
    pub target: Target,
    /// Coefficient of the mean of the squared parameters.
    pub l2: f64,
    /// BLAKE3 of the data that it was trained on.
    pub data: String,
}

/// The function that hidden units apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x: the network is linear.
    Linear,
    /// x / (1 + exp(-x)).
    Swish,
    /// The hyperbolic tangent.
    Tanh,
    /// max(x, 0).
    Relu,
    /// log(1 + exp(5x)) / 5.
    Softplus,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
}

/// What a network's outputs are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The inputs, by the mean squared error over samples and units: an autoencoder.
    Inputs,
    /// The labels, by the cross-entropy of a softmax: a classifier.
    Labels,
}

impl From<Activation> for landscape::activation::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Linear => Self::Linear,
            Activation::Swish => Self::Swish,
            Activation::Tanh => Self::Tanh,
            Activation::Relu => Self::Relu,
            Activation::Softplus => Self::Softplus,
            Activation::Sigmoid => Self::Sigmoid,
        }
    }
}

/// Samples to fit: `inputs` (samples x features) and, where there are any, `labels`.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// Features of a sample.
    pub features: usize,
    /// Sample by sample.
    pub inputs: Vec<f64>,
    /// A class for each sample; empty where there are none.
    pub labels: Vec<u32>,
}

impl Samples {
    /// Takes the samples out of tensors named `inputs` and `labels`.
    pub fn of(tensors: Tensors) -> anyhow::Result<Self> {
        let mut file = tensors.0;
        let named = || {
            Failure::data(
                "these tensors are no samples: `inputs` (samples x features, F64) is missing",
            )
        };
        let ([_, features], inputs) = file.take_f64("inputs").map_err(|_| named())?;
        let labels =
            if file.tensors.contains_key("labels") { file.take_u32("labels")? } else { Vec::new() };
        Ok(Self { features, inputs, labels })
    }

    /// One more than the largest label.
    pub fn classes(&self) -> usize {
        self.labels.iter().max().map_or(0, |largest| *largest as usize + 1)
    }

    /// Tells these samples from any others.
    pub fn fingerprint(&self) -> String {
        let mut bytes: Vec<u8> = self.features.to_le_bytes().to_vec();
        bytes.extend_from_slice(bytemuck::cast_slice(&self.inputs));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.labels));
        hash::bytes(&bytes).to_hex()
    }
}

/// What stands for a function where a network's problem has its layers.
const FUNCTION: &str = "function";

impl Problem {
    /// Reads the problem that an artifact carries.
    pub fn of(carried: &Json) -> anyhow::Result<Self> {
        let read = match carried.get(FUNCTION) {
            Some(function) => serde_json::from_value(function.clone()).map(Self::Function),
            None => serde_json::from_value(carried.clone()).map(Self::Network),
        };
        read.context("the points do not say what loss they belong to")
    }

    /// The problem as artifacts carry it.
    pub fn carried(&self) -> Json {
        let written = match self {
            Self::Network(network) => serde_json::to_value(network),
            Self::Function(function) => Ok(json!({ FUNCTION: function })),
        };
        written.expect("a problem is plain data")
    }

    /// The samples that a stage names: needed for the loss of a network, refused for a function.
    pub fn samples(
        &self,
        cx: &Context<'_>,
        data: Option<&Input<Tensors>>,
    ) -> anyhow::Result<Option<Samples>> {
        anyhow::ensure!(
            data.is_none() || matches!(self, Self::Network(_)),
            Failure::user("the points belong to a function, which has no data")
                .hint("leave `data` out")
        );
        data.map(|data| Samples::of(cx.load(data)?)).transpose()
    }

    /// The loss; samples that it does not belong to are refused.
    pub fn loss(&self, samples: Option<Samples>) -> anyhow::Result<Loss> {
        Ok(match (self, samples) {
            (Self::Network(network), Some(samples)) => Loss::Network(network.loss(samples)?),
            (Self::Network(_), None) => anyhow::bail!(
                Failure::user("the points belong to a network, whose loss needs `data`")
                    .hint("give `data` the edge that the network was trained on")
            ),
            (Self::Function(Function::Quartic), _) => Loss::Function(Box::new(Quartic)),
        })
    }
}

/// A loss, bound to its data.
pub enum Loss {
    /// That of a network.
    Network(Network),
    /// A function of its parameters alone.
    Function(Box<dyn Objective>),
}

impl Loss {
    /// The loss as searches see it.
    pub fn objective(&self) -> &dyn Objective {
        match self {
            Self::Network(network) => network,
            Self::Function(function) => &**function,
        }
    }
}

impl Function {
    /// What its parameters are called.
    pub fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Quartic => &["x", "y"],
        }
    }
}

impl NetworkProblem {
    /// The loss on the samples that it belongs to; other samples are refused.
    pub fn loss(&self, samples: Samples) -> anyhow::Result<Network> {
        anyhow::ensure!(
            samples.fingerprint() == self.data,
            Failure::user("the points belong to other data than these")
                .hint("give `data` the edge that the network was trained on")
        );
        let targets = match self.target {
            Target::Inputs => Targets::Inputs,
            Target::Labels => Targets::Labels(samples.labels.iter().map(|l| *l as usize).collect()),
        };
        let architecture = Architecture {
            sizes: self.sizes.clone(),
            bias: self.bias,
            activation: self.activation.into(),
            cost: match self.target {
                Target::Inputs => Cost::MeanSquaredError,
                Target::Labels => Cost::CrossEntropy,
            },
            l2: self.l2,
        };
        let count = samples.inputs.len() / samples.features.max(1);
        let data = Data { samples: count, inputs: samples.inputs, targets };
        Network::new(architecture, data).map_err(failure)
    }
}

/// Turns an error of the landscape computations into a failure that says what to do.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` takes")]
pub fn failure(error: LandscapeError) -> anyhow::Error {
    let message = error.to_string();
    match error {
        LandscapeError::Cancelled { .. } => Failure::interrupted().into(),
        LandscapeError::Diverged { .. } | LandscapeError::Eigenvalues { .. } => {
            Failure::numeric(message).into()
        }
        LandscapeError::Option { .. } => Failure::user(message).into(),
        LandscapeError::Device(_) if tells_out_of_memory(&message) => {
            Failure::new(FailureKind::Resource, message)
                .for_lack_of(Shortage::Gpu)
                .hint("end what else runs on the GPU, or leave `resources.gpu` out: searches run on the CPU as well")
                .into()
        }
        LandscapeError::Device(_) => anyhow::Error::msg(message),
        _ => Failure::data(message).into(),
    }
}
