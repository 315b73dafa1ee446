//! `network.train`: a small network trained on the full batch, its whole path kept.

use std::path::Path;

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::shared::STATE;
use super::shared::problem::{Activation, NetworkProblem, Problem, Samples, Target, failure};
use crate::artifacts::table::Table;
use crate::artifacts::tensor::{Tensor, TensorFile};
use crate::artifacts::tensors::Tensors;
use crate::artifacts::trajectory::Trajectory;
use crate::engine::checkpoint::Checkpoint;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{
    Artifact, Determinism, Files, Outputs, Stage, Violation, each, violations,
};
use crate::landscape::descent::{self, DescentOptions, Progress, Rule, Watch, descend};
use crate::landscape::network::Network;
use crate::landscape::objective::Objective;
use crate::omit::is_default;

/// The most numbers that a trajectory may hold: 2 GiB of them.
const LARGEST: usize = 1 << 28;
/// The most units of a hidden layer.
const WIDEST: usize = 1 << 16;

/// Trains a small fully connected network on the full batch in f64, and keeps its trajectory.
///
/// Weights and biases start normal, of a variance that `scale` gives. The loss is the mean squared error over samples and outputs for an autoencoder, the mean cross-entropy for a
/// classifier, plus `l2` times the mean of the squared parameters.
///
/// The data may be what a pre-trained encoder answers (`data.select` takes `activations`): with `hidden = []` the network
/// is then a linear probe, else a small head.
///
/// Source: Frye et al. 2021, Neural Computation 33; Frye et al. 2019, arXiv:1901.10603; Adam by Kingma and Ba 2015, ICLR.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkTrain {
    /// Samples: tensors `inputs` (samples x features) and, for a classifier, `labels`.
    data: Input<Tensors>,
    /// Units of each hidden layer, from 1 to 65536; published: 4 for the linear autoencoder of 4 x 4 pixels, or none.
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
    /// Number of steps, from 1 to 4294967295; 10000 as in Frye et al. 2019 (arXiv:1901.10603).
    #[serde(default = "ten_thousand")]
    #[schemars(range(min = 1))]
    steps: usize,
    /// Every how many steps a point is kept; the last is kept in any case. What is kept may be 2 GiB at most.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    keep_every: usize,
    /// The variance of weights and biases at the start.
    #[serde(default, skip_serializing_if = "is_default")]
    scale: Scale,
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
    /// By the mean gradient over the root of the mean squared gradient, parameter by parameter.
    Adam(Adam),
}

/// Down the gradient.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GradientDescent {
    /// Step size, above 0; published for the linear autoencoder: 0.01 (Frye et al. 2019).
    #[schemars(extend("exclusiveMinimum" = 0))]
    rate: f64,
}

/// Down the gradient, with inertia.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Momentum {
    /// Step size, above 0. What Frye et al. 2021 took for images is not published.
    #[schemars(extend("exclusiveMinimum" = 0))]
    rate: f64,
    /// What is kept of the velocity, at least 0 and below 1.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    momentum: f64,
}

/// By the mean gradient over the root of the mean squared gradient, as `PyTorch` has it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Adam {
    /// Step size, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    rate: f64,
    /// What is kept of the mean gradient, at least 0 and below 1.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    beta1: f64,
    /// What is kept of the mean squared gradient, at least 0 and below 1.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    beta2: f64,
    /// What is added to the root, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    epsilon: f64,
}

impl Default for Adam {
    fn default() -> Self {
        let descent::Adam { rate, beta1, beta2, epsilon } = descent::Adam::default();
        Self { rate, beta1, beta2, epsilon }
    }
}

/// The variance of weights and biases at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Scale {
    /// 1 over the number of parameters, as autocrit has it, the program of Frye et al. 2021.
    #[default]
    Parameters,
    /// 1 over inputs times units of the first hidden layer, as the linear autoencoder of Frye et al. 2019 starts.
    Hidden,
    /// A number, above 0.
    Variance(f64),
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
    fn rule(self) -> Rule {
        match self {
            Self::GradientDescent(GradientDescent { rate }) => {
                Rule::Momentum { rate, momentum: 0.0 }
            }
            Self::Momentum(Momentum { rate, momentum }) => Rule::Momentum { rate, momentum },
            Self::Adam(Adam { rate, beta1, beta2, epsilon }) => {
                Rule::Adam(descent::Adam { rate, beta1, beta2, epsilon })
            }
        }
    }

    fn check(self) -> Vec<Violation> {
        let above = |x: f64| x > 0.0 && x.is_finite();
        let share = |x: f64| (0.0..1.0).contains(&x);
        let (size, part) = ("must be finite and above 0", "must be at least 0 and below 1");
        match self {
            Self::GradientDescent(GradientDescent { rate }) => {
                violations([("optimizer.gradient_descent.rate", above(rate), size)])
            }
            Self::Momentum(Momentum { rate, momentum }) => violations([
                ("optimizer.momentum.rate", above(rate), size),
                ("optimizer.momentum.momentum", share(momentum), part),
            ]),
            Self::Adam(Adam { rate, beta1, beta2, epsilon }) => violations([
                ("optimizer.adam.rate", above(rate), size),
                ("optimizer.adam.beta1", share(beta1), part),
                ("optimizer.adam.beta2", share(beta2), part),
                ("optimizer.adam.epsilon", above(epsilon), size),
            ]),
        }
    }
}

impl Stage for NetworkTrain {
    const KIND: &'static str = "network.train";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.training]
        kind = "network.train"
        data = "@pixels"
        hidden = [4]
        activation = "swish"
    "#;

    fn check(&self) -> Vec<Violation> {
        let mut broken = violations([
            ("hidden", self.hidden.len() <= 64, "must hold at most 64 numbers"),
            ("l2", self.l2 >= 0.0 && self.l2.is_finite(), "must be finite and at least 0"),
            (
                "steps",
                (1..=u32::MAX as usize).contains(&self.steps),
                "must be from 1 to 4294967295",
            ),
            ("keep_every", self.keep_every > 0, "must be at least 1"),
            (
                "scale",
                self.scale != Scale::Hidden || !self.hidden.is_empty(),
                "must not be `hidden` where there is no hidden layer",
            ),
            ("scale.variance", self.variance_fits(), "must be finite and above 0"),
        ]);
        broken.extend(self.optimizer.check());
        let rule = "must hold numbers from 1 to 65536";
        broken.extend(each("hidden", &self.hidden, |n| (1..=WIDEST).contains(n), rule));
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Trajectory::TYPE).and("history", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let samples = Samples::of(cx.load(&self.data)?)?;
        let problem = self.problem(&samples)?;
        let loss = problem.loss(samples)?;
        self.expect_room(loss.dim())?;
        let rule = self.optimizer.rule();
        let start = cx.resume().unwrap_or_else(|| Progress::start(&self.initialize(&loss), rule));
        let options = DescentOptions { rule, steps: self.steps, keep_every: self.keep_every };
        let parameters = loss.dim();
        let observe = |step: usize, loss: f64| {
            let fraction = step as f64 / self.steps as f64;
            cx.progress(fraction, || format!("{parameters} parameters  loss {loss:.4e}"));
        };
        let paused = |at: &Progress| cx.pause_point(|| Ok(at)).is_err();
        let watch = Watch { paused: &paused, observe: &observe };
        let path = descend(&loss, start, &options, &watch).map_err(failure)?;
        let steps: Vec<u32> = path.steps.iter().map(|step| *step as u32).collect();
        cx.metric("loss", *path.losses.last().expect("the last step is kept"))?;
        cx.metric("parameters", path.dim as f64)?;
        let table = Table::new()
            .counts("step", path.steps.iter().copied())
            .floats("loss", path.losses.iter().copied());
        cx.save_as("history", &table)?;
        let problem = Problem::Network(problem).carried();
        let (dimension, losses, thetas) = (path.dim, path.losses, path.thetas);
        cx.save(&Trajectory { problem, dimension, steps, losses, thetas })
    }
}

impl Checkpoint for Progress {
    const FORMAT: u32 = 2;

    fn place(&self) -> String {
        format!("step {}", self.step)
    }

    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let Self { step, theta, velocity, squares, kept } = self;
        let (dim, count) = (kept.dim, kept.steps.len());
        let steps = kept.steps.iter().map(|step| *step as u32).collect();
        TensorFile::about(json!({ "step": step }))
            .with("theta", Tensor::f64(&[dim], theta.clone()))
            .with("velocity", Tensor::f64(&[dim], velocity.clone()))
            .with("squares", Tensor::f64(&[squares.len()], squares.clone()))
            .with("kept.steps", Tensor::u32(steps))
            .with("kept.losses", Tensor::f64(&[count], kept.losses.clone()))
            .with("kept.thetas", Tensor::f64(&[count, dim], kept.thetas.clone()))
            .save(&folder.join(STATE))
    }

    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(STATE)?)?;
        let step = file.about["step"].as_u64().context("`step` is missing")? as usize;
        let ([_], theta) = file.take_f64("theta")?;
        let ([_], velocity) = file.take_f64("velocity")?;
        let ([_], squares) = file.take_f64("squares")?;
        let steps = file.take_u32("kept.steps")?.into_iter().map(|step| step as usize).collect();
        let ([_], losses) = file.take_f64("kept.losses")?;
        let ([_, dim], thetas) = file.take_f64("kept.thetas")?;
        let kept = descent::Trajectory { dim, steps, losses, thetas };
        Ok(Self { step, theta, velocity, squares, kept })
    }
}

impl NetworkTrain {
    fn variance_fits(&self) -> bool {
        let Scale::Variance(variance) = self.scale else { return true };
        variance > 0.0 && variance.is_finite()
    }

    /// Draws the weights and biases of the start.
    fn initialize(&self, loss: &Network) -> Vec<f64> {
        let mut theta = loss.initialize(&self.seed.streams(Self::KIND));
        let sizes = &loss.architecture().sizes;
        let variance = match self.scale {
            Scale::Parameters => return theta,
            Scale::Hidden => 1.0 / (sizes[0] * sizes[1]) as f64,
            Scale::Variance(variance) => variance,
        };
        let factor = (variance * loss.dim() as f64).sqrt();
        for value in &mut theta {
            *value *= factor;
        }
        theta
    }

    /// Refuses a trajectory that would fill the memory.
    fn expect_room(&self, parameters: usize) -> anyhow::Result<()> {
        let kept = self.steps.div_ceil(self.keep_every) + 1;
        anyhow::ensure!(
            parameters.saturating_mul(kept) <= LARGEST,
            Failure::user(format!(
                "{kept} points of {parameters} parameters are to be kept, more than 2 GiB"
            ))
            .hint("keep fewer: raise `keep_every`, or train a smaller network")
        );
        Ok(())
    }

    fn problem(&self, samples: &Samples) -> anyhow::Result<NetworkProblem> {
        let outputs = match self.target {
            Target::Inputs => samples.features,
            Target::Labels => samples.classes(),
        };
        anyhow::ensure!(outputs > 0, Failure::data("a classifier needs labeled samples"));
        let mut sizes = vec![samples.features];
        sizes.extend(&self.hidden);
        sizes.push(outputs);
        Ok(NetworkProblem {
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
    fn the_start_has_the_variance_asked_for() {
        let text = "data = '@data'\nhidden = [3]\nactivation = 'linear'\nbias = false\nsteps = 1\nscale = ";
        let first = |scale: &str| -> Vec<f64> {
            let path: Trajectory =
                bench().run::<NetworkTrain>(&format!("{text}{scale}")).unwrap().main();
            path.thetas[..24].to_vec()
        };
        // 24 parameters, 4 inputs times 3 units; the draws are the same.
        let usual = first("'parameters'");
        for (scale, variance) in [("'hidden'", 1.0 / 12.0), ("{ variance = 0.25 }", 0.25)] {
            for (scaled, usual) in first(scale).iter().zip(&usual) {
                let ratio = (variance * 24f64).sqrt();
                assert!((scaled / usual - ratio).abs() < 1e-14, "{scale}");
            }
        }
        let stage = |text: &str| toml::from_str::<NetworkTrain>(text).unwrap();
        let plain = "data = '@data'\nhidden = []\nactivation = 'linear'";
        let json = serde_json::to_value(stage(plain)).unwrap();
        assert!(json.get("scale").is_none(), "keys of earlier results stay: {json}");
        let broken = stage(&format!("{plain}\nscale = 'hidden'")).check();
        assert_eq!(broken[0].field, "scale");
        let broken = stage(&format!("{plain}\nscale = {{ variance = -1.0 }}")).check();
        assert_eq!(broken[0].field, "scale.variance");
    }

    #[test]
    fn adam_trains_and_checks_its_numbers() {
        let text = "data = '@data'\nhidden = [2]\nactivation = 'swish'\nsteps = 200\noptimizer = { adam = ";
        let path: Trajectory =
            bench().run::<NetworkTrain>(&format!("{text}{{ rate = 0.02 }} }}")).unwrap().main();
        assert!(path.losses[200] < 0.8 * path.losses[0]);
        let bad = format!("{text}{{ rate = 0.0, beta1 = 1.0, beta2 = -0.5, epsilon = 0.0 }} }}");
        let error = bench().run::<NetworkTrain>(&bad).unwrap_err().to_string();
        for field in ["rate", "beta1", "beta2", "epsilon"] {
            assert!(error.contains(&format!("optimizer.adam.{field}")), "{error}");
        }
    }

    #[test]
    fn a_training_that_is_broken_off_goes_on_to_the_same_bytes() {
        let text = "data = '@data'\nhidden = [2]\nactivation = 'swish'\nsteps = 45\n\
                    keep_every = 10\noptimizer = { momentum = { rate = 0.1, momentum = 0.9 } }";
        for (at, attempts) in [(2, 46), (3, 23), (11, 5), (46, 2), (47, 1)] {
            assert_eq!(bench().check_resumption::<NetworkTrain>(text, at), attempts, "{at}");
        }
        let adam = text.replace("momentum = { rate = 0.1, momentum = 0.9 }", "adam = {}");
        assert_ne!(adam, text);
        assert_eq!(bench().check_resumption::<NetworkTrain>(&adam, 11), 5);
    }

    #[test]
    fn a_path_too_large_to_keep_is_refused_before_it_begins() {
        let text = "data = '@data'\nhidden = [60000, 1000]\nactivation = 'linear'";
        let error = bench().run::<NetworkTrain>(text).unwrap_err().to_string();
        assert!(error.contains("10001 points of 60305004 parameters are to be kept"), "{error}");
        let error = bench().run::<NetworkTrain>(&text.replace("60000", "70000")).unwrap_err();
        assert!(error.to_string().contains("from 1 to 65536"));
        let text = format!("{text}\noptimizer = {{ momentum = {{ rate = 0.0, momentum = 1.0 }} }}");
        let error = bench().run::<NetworkTrain>(&text).unwrap_err().to_string();
        assert!(error.contains("momentum.rate") && error.contains("momentum.momentum"), "{error}");
    }

    #[test]
    fn a_rate_that_diverges_is_named() {
        let text = "data = '@data'\nhidden = [2]\nactivation = 'linear'\nbias = false\n\
                    optimizer = { gradient_descent = { rate = 1e6 } }";
        let error = bench().run::<NetworkTrain>(text).unwrap_err().to_string();
        assert!(error.contains("a smaller rate may help"), "{error}");
    }
}
