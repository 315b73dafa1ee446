//! `network.train`: a small network trained on the full batch, its whole path kept.

use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::problem::{Activation, Problem, Samples, Target, failure};
use crate::artifacts::table::Table;
use crate::artifacts::tensors::Tensors;
use crate::artifacts::trajectory::Trajectory;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::landscape::descent::{DescentOptions, descend};

/// Trains a small fully connected network on the full batch in f64, and keeps its trajectory.
///
/// Weights start normal with variance 1 over the number of parameters, as in the experiments of Frye et al. 2021. The
/// loss is the mean squared error over samples and outputs for an autoencoder, the mean cross-entropy for a
/// classifier, plus `l2` times the mean of the squared parameters.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkTrain {
    /// Samples: tensors `inputs` (samples x features) and, for a classifier, `labels`.
    data: Input<Tensors>,
    /// Units of each hidden layer.
    hidden: Vec<usize>,
    /// The function that hidden units apply; outputs are linear.
    activation: Activation,
    /// Whether units have biases.
    #[serde(default = "yes")]
    bias: bool,
    /// What the outputs are compared with.
    #[serde(default = "inputs")]
    target: Target,
    /// Coefficient of the mean of the squared parameters.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    l2: f64,
    /// How steps are taken.
    #[serde(default)]
    optimizer: Optimizer,
    /// Number of steps.
    #[serde(default = "ten_thousand")]
    #[schemars(range(min = 1))]
    steps: usize,
    /// Every how many steps a point is kept; the last is kept in any case.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    keep_every: usize,
    /// Seed of the weights.
    #[serde(default)]
    seed: Seed,
}

/// How steps are taken.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Optimizer {
    /// Down the gradient.
    GradientDescent(GradientDescent),
    /// Down the gradient, with inertia.
    Momentum(Momentum),
}

/// Down the gradient.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GradientDescent {
    /// Step size.
    rate: f64,
}

/// Down the gradient, with inertia.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Momentum {
    /// Step size.
    rate: f64,
    /// What is kept of the velocity, below 1.
    momentum: f64,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::GradientDescent(GradientDescent { rate: 0.01 })
    }
}

fn yes() -> bool {
    true
}
fn inputs() -> Target {
    Target::Inputs
}
fn ten_thousand() -> usize {
    10_000
}
fn one() -> usize {
    1
}

impl Optimizer {
    fn rate_and_momentum(self) -> (f64, f64) {
        match self {
            Self::GradientDescent(GradientDescent { rate }) => (rate, 0.0),
            Self::Momentum(Momentum { rate, momentum }) => (rate, momentum),
        }
    }
}

impl Stage for NetworkTrain {
    const KIND: &'static str = "network.train";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Machine;

    fn check(&self) -> Vec<Violation> {
        let (rate, momentum) = self.optimizer.rate_and_momentum();
        let steps = rate > 0.0 && (0.0..1.0).contains(&momentum);
        violations([
            ("hidden", self.hidden.iter().all(|n| *n > 0), "must hold numbers of at least 1"),
            ("l2", self.l2 >= 0.0, "must be at least 0"),
            ("optimizer", steps, "must have a rate above 0 and a momentum from 0 to below 1"),
            (
                "steps",
                (1..=u32::MAX as usize).contains(&self.steps),
                "must be from 1 to 4294967295",
            ),
            ("keep_every", self.keep_every > 0, "must be at least 1"),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Trajectory::TYPE).and("history", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let samples = Samples::of(cx.load(&self.data)?)?;
        let problem = self.problem(&samples)?;
        let loss = problem.loss(samples)?;
        let start = loss.initialize(&self.seed.streams(Self::KIND));
        let (rate, momentum) = self.optimizer.rate_and_momentum();
        let options =
            DescentOptions { rate, momentum, steps: self.steps, keep_every: self.keep_every };
        cx.progress(0.0, || format!("{} parameters", start.len()));
        let cancel = cx.cancel();
        let path = descend(&loss, &start, &options, &|| cancel.load(Ordering::Relaxed))
            .map_err(failure)?;
        let steps: Vec<u32> = path.steps.iter().map(|step| *step as u32).collect();
        cx.metric("loss", *path.losses.last().expect("the last step is kept"))?;
        cx.metric("parameters", path.dim as f64)?;
        let table = Table::new()
            .counts("step", path.steps.iter().copied())
            .floats("loss", path.losses.iter().copied());
        cx.save_as("history", &table)?;
        let (dimension, losses, thetas) = (path.dim, path.losses, path.thetas);
        cx.save(&Trajectory { problem: problem.carried(), dimension, steps, losses, thetas })
    }
}

impl NetworkTrain {
    fn problem(&self, samples: &Samples) -> anyhow::Result<Problem> {
        let outputs = match self.target {
            Target::Inputs => samples.features,
            Target::Labels => samples.classes(),
        };
        anyhow::ensure!(outputs > 0, Failure::data("a classifier needs labeled samples"));
        let mut sizes = vec![samples.features];
        sizes.extend(&self.hidden);
        sizes.push(outputs);
        Ok(Problem {
            sizes,
            bias: self.bias,
            activation: self.activation,
            target: self.target,
            l2: self.l2,
            data: samples.fingerprint(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::tensor::{Tensor, TensorFile};
    use crate::stages::shared::bench::Bench;

    fn bench() -> Bench {
        let inputs = (0..80).map(|i| ((i * i % 17) as f64 - 8.0) / 8.0).collect();
        let file = TensorFile::default()
            .with("inputs", Tensor::f64(&[20, 4], inputs))
            .with("labels", Tensor::u32((0..20).map(|i| i % 3).collect()));
        Bench::new().put("data", &Tensors(file))
    }

    #[test]
    fn training_lowers_the_loss_and_keeps_the_path() {
        let text = "data = '@data'\nhidden = [2]\nactivation = 'swish'\nsteps = 205\n\
                    keep_every = 10\noptimizer = { momentum = { rate = 0.1, momentum = 0.9 } }";
        let results = bench().run::<NetworkTrain>(text).unwrap();
        let path: Trajectory = results.main();
        assert_eq!(
            (path.steps.len(), path.steps[21], path.dimension),
            (22, 205, 4 * 2 + 2 + 2 * 4 + 4)
        );
        assert!(path.losses[21] < 0.8 * path.losses[0]);
        let classifier = format!("{text}\ntarget = 'labels'");
        let path: Trajectory = bench().run::<NetworkTrain>(&classifier).unwrap().main();
        assert_eq!(path.dimension, 4 * 2 + 2 + 2 * 3 + 3);
    }

    #[test]
    fn a_rate_that_diverges_is_named() {
        let text = "data = '@data'\nhidden = [2]\nactivation = 'linear'\nbias = false\n\
                    optimizer = { gradient_descent = { rate = 1e6 } }";
        let error = bench().run::<NetworkTrain>(text).unwrap_err().to_string();
        assert!(error.contains("a smaller rate may help"), "{error}");
    }
}
