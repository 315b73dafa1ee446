//! `probe.linear`: how much of a task a representation gives away.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::shared::STATE;
use super::shared::network::{device, from_artifact, view};
use super::shared::training::{failure, flow, pause};
use crate::artifacts::dataset::Dataset;
use crate::artifacts::encoder::Encoder;
use crate::artifacts::images::Images;
use crate::artifacts::table::Table;
use crate::artifacts::tensor::{Tensor, TensorFile};
use crate::artifacts::tensors::Tensors;
use crate::engine::checkpoint::Checkpoint;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Files, Outputs, Stage, Violation, violations};
use crate::nn::encoder::{EncoderNetwork, TAP_NAMES, is_tap};
use crate::nn::features::{Features, adapt, extract};
use crate::nn::linear_probe::{
    Probe, ProbeConfig, ProbeProgress, ProbeRow, Samples, Scaling, train_probe,
};
use crate::nn::optimizer::adam::AdamConfig;

/// Trains a softmax classifier on the frozen features of an encoder.
///
/// Linear, with bias, cross-entropy, Adam (Ligeralde et al. 2023, section 2.2, whose values are the defaults). The
/// encoder is in evaluation mode; see `batch_norm` for the statistics that it normalizes by. Metrics: `accuracy`
/// on the test part after the last epoch; `best_accuracy`, the best of all epochs and thus selected on the test part,
/// which is what the paper's code reports; `train_accuracy` and `loss` over the last epoch.
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208, section 2.2.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeLinear {
    /// The network whose features are read.
    encoder: Input<Encoder>,
    /// The task: labeled images to train on and to test with.
    images: Input<Dataset>,
    /// The layer that is read: `input`, `stem`, `layer1.0` to `layer4.1`, or `pooled`; `layer1` and so on of a perceptron;
    /// `projector.2` and so on where the pre-training has kept its projector.
    #[serde(default = "pooled")]
    layer: String,
    /// Passes over the training images; 100 in the paper.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1_000_000))]
    epochs: usize,
    /// Images of a step, at least 1; 100 in the paper.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1))]
    batch: usize,
    /// Learning rate of Adam, at least 0; 1e-4 in the paper.
    #[serde(default = "paper_rate")]
    #[schemars(range(min = 0.0))]
    learning_rate: f64,
    /// Multiple of each weight that is added to its gradient, at least 0. The paper names none; its code has 1e-6.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    weight_decay: f64,
    /// What is done to features beforehand.
    #[serde(default)]
    scaling: FeatureScaling,
    /// The statistics that the encoder's batch normalization uses. The paper freezes the encoder; its code adapts.
    #[serde(default)]
    batch_norm: Statistics,
    /// Seed of the classifier's weights and of the order of images.
    #[serde(default)]
    seed: Seed,
}

/// What is done to features before they are classified.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum FeatureScaling {
    /// Nothing, as in the paper.
    #[default]
    None,
    /// Each is brought to mean 0 and variance 1 over the training images.
    Standardize,
}

/// The statistics that a probed encoder's batch normalization uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Statistics {
    /// Those of pre-training; for a random network, mean 0 and variance 1.
    #[default]
    Frozen,
    /// Those of the task's training images, before the probe is trained: each layer's mean and variance become their
    /// averages over batches of up to 256 training images, each passed through as in training. The paper's code probes
    /// in training mode, where every batch is normalized by its own statistics, test batches too; here test images do
    /// not depend on each other.
    Adapt,
}

fn pooled() -> String {
    "pooled".to_owned()
}
fn hundred() -> usize {
    100
}
fn paper_rate() -> f64 {
    1e-4
}

impl Stage for ProbeLinear {
    const KIND: &'static str = "probe.linear";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.probe]
        kind = "probe.linear"
        encoder = "@encoder"
        images = "@digits"
    "#;

    fn check(&self) -> Vec<Violation> {
        let mut broken = violations([
            ("epochs", (1..=1_000_000).contains(&self.epochs), "must be from 1 to 1000000"),
            ("batch", self.batch >= 1, "must be at least 1"),
            ("learning_rate", self.learning_rate >= 0.0, "must be at least 0"),
            ("weight_decay", self.weight_decay >= 0.0, "must be at least 0"),
        ]);
        if !is_tap(&self.layer) {
            broken.push(Violation::new("layer", format!("must be one of {TAP_NAMES}")));
        }
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Tensors::TYPE).and("history", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let encoder = cx.load(&self.encoder)?;
        let data = cx.load(&self.images)?;
        let network = from_artifact(&encoder, &device())?;
        let probe = self.train(cx, &network, &data)?;
        let last = probe.rows.last().expect("there is at least one epoch");
        cx.metric("accuracy", probe.final_test_accuracy)?;
        cx.metric("best_accuracy", probe.best_test_accuracy)?;
        cx.metric("train_accuracy", last.train_accuracy)?;
        cx.metric("loss", last.train_loss)?;
        let table = Table::new()
            .counts("epoch", probe.rows.iter().map(|r| r.epoch))
            .floats("loss", probe.rows.iter().map(|r| r.train_loss))
            .floats("train_accuracy", probe.rows.iter().map(|r| r.train_accuracy))
            .floats("accuracy", probe.rows.iter().map(|r| r.test_accuracy));
        cx.save_as("history", &table)?;
        let classes = probe.biases.len();
        let features = probe.weights.len() / classes;
        let file = TensorFile::default()
            .with("weight", Tensor::f32(&[classes, features], probe.weights))
            .with("bias", Tensor::f32(&[classes], probe.biases));
        cx.save(&Tensors(file))
    }
}

impl Checkpoint for ProbeProgress {
    const FORMAT: u32 = 1;

    fn place(&self) -> String {
        format!("epoch {}", self.rows.len() + 1)
    }

    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let vector = |values: &[f32]| Tensor::f32(&[values.len()], values.to_vec());
        let rows = self.rows.iter().map(|r| [r.train_loss, r.train_accuracy, r.test_accuracy]);
        TensorFile::about(json!({ "steps": self.steps }))
            .with("weights", vector(&self.weights))
            .with("biases", vector(&self.biases))
            .with("first", vector(&self.first))
            .with("second", vector(&self.second))
            .with("rows", Tensor::rows(rows))
            .save(&folder.join(STATE))
    }

    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(STATE)?)?;
        let row = |(i, row): (usize, [f64; 3])| {
            let [train_loss, train_accuracy, test_accuracy] = row;
            ProbeRow { epoch: i + 1, train_loss, train_accuracy, test_accuracy }
        };
        let rows = file.take_rows("rows")?.into_iter().enumerate().map(row).collect();
        let steps = file.about["steps"].as_u64().context("`steps` is missing")?;
        let mut vector = |name: &str| anyhow::Ok(file.take_f32::<1>(name)?.1);
        let (weights, biases) = (vector("weights")?, vector("biases")?);
        let (first, second) = (vector("first")?, vector("second")?);
        Ok(Self { rows, steps, weights, biases, first, second })
    }
}

/// Share of the progress that reading the features takes.
const READING: f64 = 0.5;

impl ProbeLinear {
    fn train(
        &self,
        cx: &Context<'_>,
        network: &EncoderNetwork,
        data: &Dataset,
    ) -> anyhow::Result<Probe> {
        for part in [&data.train, &data.test] {
            anyhow::ensure!(
                part.labels.len() == part.count && part.count > 0,
                Failure::data("a probe needs labeled images in both parts of its dataset")
                    .hint("look at `test_fraction`, `train` and `test` of the stage that made it")
            );
        }
        let streams = self.seed.streams(Self::KIND);
        if self.batch_norm == Statistics::Adapt {
            adapt(network, view(&data.train)?, &streams, &mut |done| {
                cx.progress(0.0, || format!("adapting to {done} images"));
                flow(cx)
            })
            .map_err(failure)?;
        }
        let total = (data.train.count + data.test.count) as f64;
        let train = self.features(cx, network, &data.train, 0.0, total)?;
        let test = self.features(cx, network, &data.test, data.train.count as f64, total)?;
        let config = ProbeConfig {
            classes: data.classes(),
            epochs: self.epochs,
            batch: self.batch,
            optimizer: AdamConfig {
                learning_rate: self.learning_rate,
                weight_decay: self.weight_decay,
                ..AdamConfig::default()
            },
            scaling: match self.scaling {
                FeatureScaling::None => Scaling::None,
                FeatureScaling::Standardize => Scaling::Standardize,
            },
        };
        let train = Samples { features: &train, labels: &data.train.labels };
        let test = Samples { features: &test, labels: &data.test.labels };
        train_probe(&config, train, test, &streams, cx.resume(), &mut |at| {
            let row = at.rows.last().expect("an epoch is done");
            let done = row.epoch as f64 / self.epochs as f64;
            cx.progress(READING + (1.0 - READING) * done, || {
                format!("epoch {}/{}  accuracy {:.4}", row.epoch, self.epochs, row.test_accuracy)
            });
            pause(cx, || Ok(at))
        })
        .map_err(failure)
    }

    fn features(
        &self,
        cx: &Context<'_>,
        network: &EncoderNetwork,
        images: &Images,
        before: f64,
        total: f64,
    ) -> anyhow::Result<Features> {
        let mut observe = |done: usize| -> ControlFlow<()> {
            cx.progress(READING * (before + done as f64) / total, || "reading features".into());
            flow(cx)
        };
        let mut taps = extract(network, view(images)?, &[self.layer.as_str()], &mut observe)
            .map_err(failure)?;
        Ok(taps.remove(&self.layer).expect("the layer was asked for"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::encoder_random::EncoderRandom;
    use crate::stages::shared::bench::Bench;

    /// Bright and dark images: even a random network tells them apart.
    fn bench() -> Bench {
        let part = |count: usize| Images {
            count,
            channels: 1,
            height: 8,
            width: 8,
            pixels: (0..count * 64).map(|i| if i / 64 % 2 == 0 { 0.9 } else { 0.1 }).collect(),
            labels: (0..count as u32).map(|i| i % 2).collect(),
        };
        let encoder: Encoder =
            Bench::new().run::<EncoderRandom>("width = 2\nchannels = 1").unwrap().main();
        let data = Dataset { train: part(20), test: part(10) };
        Bench::new().put("encoder", &encoder).put("images", &data)
    }

    #[test]
    fn a_separable_task_is_solved() {
        let text = "encoder = '@encoder'\nimages = '@images'\nbatch = 5\nlearning_rate = 0.1\n\
                    epochs = 60\nscaling = 'standardize'";
        let results = bench().run::<ProbeLinear>(text).unwrap();
        assert_eq!(results.metrics["accuracy"], 1.0);
        assert_eq!(results.output::<Table>("history").frame().unwrap().height(), 60);
        assert_eq!(results.main::<Tensors>().0.tensors["weight"].shape, [2, 16]);
    }

    #[test]
    fn a_training_that_is_broken_off_goes_on_to_the_same_bytes() {
        let text = "encoder = '@encoder'\nimages = '@images'\nbatch = 7\nlearning_rate = 0.01\n\
                    epochs = 9\nbatch_norm = 'adapt'";
        for (at, attempts) in [(1, 10), (2, 5), (4, 3), (10, 1)] {
            assert_eq!(bench().check_resumption::<ProbeLinear>(text, at), attempts, "{at}");
        }
    }

    #[test]
    fn statistics_stay_or_are_the_tasks() {
        let text = "encoder = '@encoder'\nimages = '@images'\nepochs = 3\n";
        let loss = |more: &str| {
            bench().run::<ProbeLinear>(&format!("{text}{more}")).unwrap().metrics["loss"]
        };
        assert_eq!(loss(""), loss("batch_norm = 'frozen'"));
        assert_ne!(loss(""), loss("batch_norm = 'adapt'"));
        assert_eq!(loss("batch_norm = 'adapt'"), loss("batch_norm = 'adapt'"));
    }

    #[test]
    fn an_unknown_layer_is_refused() {
        let text = "encoder = '@encoder'\nimages = '@images'\nlayer = 'layer9'";
        let error = bench().run::<ProbeLinear>(text).unwrap_err().to_string();
        assert!(error.contains("must be one of input, stem, layerS.B"), "{error}");
    }
}
