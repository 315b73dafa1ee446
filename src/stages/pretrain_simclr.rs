//! `pretrain.simclr`: contrastive pre-training on the events of a movie.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::encoder_random::{STREAMS, recreated, standard_width, three};
use super::shared::STATE;
use super::shared::network::{device, to_artifact, to_candle, to_plain};
use super::shared::training::{failure, pause};
use crate::artifacts::encoder::Encoder;
use crate::artifacts::events::Events;
use crate::artifacts::movie::Movie;
use crate::artifacts::table::Table;
use crate::artifacts::tensor::{Tensor as Plain, TensorFile};
use crate::engine::checkpoint::Checkpoint;
use crate::engine::context::Context;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{
    Artifact, Determinism, Files, Outputs, Stage, Violation, each, violations,
};
use crate::nn::images::Images;
use crate::nn::objective::Objective;
use crate::nn::optimizer::AdamConfig;
use crate::nn::resnet::{Architecture, ResNetConfig, Stem, StemInit, is_default};
use crate::nn::sampler::SamplerConfig;
use crate::nn::simclr::{EpochRow, PretrainConfig, Pretrained, Progress, Training, pretrain};
use crate::nn::simclr_state::{PretrainState, Reached};

/// Pre-trains a residual network so that neighboring frames of an event are alike and frames of other events are not.
///
/// No augmentation: positives come from time alone. As in Ligeralde et al. 2023 (PMLR 243:194-208), sections 2.1 and
/// 2.3: torchvision's ResNet-18, a projector of linear layers with batch normalization, Adam, whole events drawn at
/// random until a batch is full (its code draws them in the order of the file, the same in each epoch). Defaults are
/// the paper's where it gives a value, else those of its code: each parameter says which. Frames are expected in
/// [0, 1] (see `movie.normalise`).
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208, sections 2.1 and 2.3. Other objectives: NT-Xent, Chen et al. 2020
/// (arXiv:2002.05709); Barlow Twins, Zbontar et al. 2021 (arXiv:2103.03230); `VICReg`, Bardes et al. 2022
/// (arXiv:2105.04906).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PretrainSimclr {
    /// The frames to learn from.
    movie: Input<Movie>,
    /// The events in them; for a shuffled movie, those of the movie it was made from.
    events: Input<Events>,
    /// How deep the network is, and of which blocks.
    #[serde(default, skip_serializing_if = "is_default")]
    architecture: Architecture,
    /// How the network begins: `cifar` keeps the size of small images.
    #[serde(default, skip_serializing_if = "is_default")]
    stem: Stem,
    /// Channels of the first stage; the network ends in 8 times as many features, a ResNet-50 in 32 times. 64 is the
    /// standard network.
    #[serde(default = "standard_width")]
    #[schemars(range(min = 1, max = 1024))]
    width: usize,
    /// Channels of the network's input; gray frames are repeated in each.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 16))]
    channels: usize,
    /// How the first convolution starts. The default is the paper's code's; `kaiming` is the paper's words.
    #[serde(default = "recreated")]
    stem_init: StemInit,
    /// Widths of the projector's layers, the last one included: from 1 to 8 layers of 1 to 65536 units. The default is
    /// the paper's.
    #[serde(default = "paper_projector")]
    projector: Vec<usize>,
    /// What is asked of neighboring frames: what is contrasted, and at which `temperature` (0.5 in the paper's code), or
    /// a loss without negatives. The default is the paper's.
    #[serde(default)]
    objective: Objective,
    /// Passes over the events; 100 in the paper.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1_000_000))]
    epochs: usize,
    /// Frames at which a batch is full, at least 2. Events are whole, so that most batches hold more. 3000 in the paper.
    #[serde(default = "paper_batch")]
    #[schemars(range(min = 2))]
    batch_frames: usize,
    /// Longest run of frames that an event gives to an epoch, at least 2, drawn anew in each. Whole events where absent,
    /// as in the paper.
    #[serde(default)]
    max_event_frames: Option<usize>,
    /// Share of the events that is trained on, above 0 and at most 1; the others give the held-out loss. 0.8 is the
    /// value for simulated waves in the paper's code.
    #[serde(default = "most")]
    #[schemars(range(min = 0.0, max = 1.0))]
    train_fraction: f64,
    /// Learning rate of Adam, at least 0; 1e-4 in the paper.
    #[serde(default = "paper_rate")]
    #[schemars(range(min = 0.0))]
    learning_rate: f64,
    /// Multiple of each weight that is added to its gradient, at least 0; 1e-6 in the paper's code.
    #[serde(default = "paper_decay")]
    #[schemars(range(min = 0.0))]
    weight_decay: f64,
    /// Seed of weights, split and batches. An `encoder.random` of the same seed is the network it starts from.
    #[serde(default)]
    seed: Seed,
}

fn paper_projector() -> Vec<usize> {
    vec![8192; 3]
}
fn hundred() -> usize {
    100
}
fn paper_batch() -> usize {
    3000
}
fn most() -> f64 {
    0.8
}
fn paper_rate() -> f64 {
    1e-4
}
fn paper_decay() -> f64 {
    1e-6
}

impl Stage for PretrainSimclr {
    const KIND: &'static str = "pretrain.simclr";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.encoder]
        kind = "pretrain.simclr"
        movie = "@movie"
        events = "@events"
    "#;

    fn check(&self) -> Vec<Violation> {
        let widths = "must hold 1 to 8 widths, each from 1 to 65536";
        let mut broken = violations([
            ("width", (1..=1024).contains(&self.width), "must be from 1 to 1024"),
            ("channels", (1..=16).contains(&self.channels), "must be from 1 to 16"),
            ("projector", (1..=8).contains(&self.projector.len()), widths),
            ("epochs", (1..=1_000_000).contains(&self.epochs), "must be from 1 to 1000000"),
            ("batch_frames", self.batch_frames >= 2, "must be at least 2"),
            (
                "max_event_frames",
                self.max_event_frames.is_none_or(|n| n >= 2),
                "must be at least 2",
            ),
            ("learning_rate", self.learning_rate >= 0.0, "must be at least 0"),
            ("weight_decay", self.weight_decay >= 0.0, "must be at least 0"),
        ]);
        let ranges = self.objective.ranges().into_iter().filter(|(_, holds, _)| !holds);
        broken.extend(
            ranges.map(|(path, _, rule)| Violation::new(format!("objective.{path}"), rule)),
        );
        let is_width = |width: &usize| (1..=65_536).contains(width);
        broken.extend(each("projector", &self.projector, is_width, widths));
        let share = self.train_fraction > 0.0 && self.train_fraction <= 1.0;
        broken.extend(violations([("train_fraction", share, "must be above 0 and at most 1")]));
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Encoder::TYPE).and("history", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let movie = cx.load(&self.movie)?;
        let events = cx.load(&self.events)?;
        let trained = self.train(cx, &movie, &events, &device())?;
        let last = trained.rows.last().expect("there is at least one epoch");
        cx.metric("loss", last.train_loss)?;
        cx.metric("alignment", last.alignment)?;
        cx.metric("uniformity", last.uniformity)?;
        if let Some(loss) = last.held_out_loss {
            cx.metric("held_out_loss", loss)?;
        }
        cx.save_as("history", &history(&trained.rows))?;
        cx.save(&to_artifact(&trained.encoder)?)
    }
}

impl PretrainSimclr {
    fn train(
        &self,
        cx: &Context<'_>,
        movie: &Movie,
        events: &Events,
        device: &Device,
    ) -> anyhow::Result<Pretrained> {
        let frames = Images::gray(&movie.data, movie.height, movie.width).map_err(failure)?;
        let ranges = events.starts.iter().zip(&events.ends);
        let ranges: Vec<_> = ranges.map(|(start, end)| *start as usize..*end as usize).collect();
        let steps_done = |epoch: usize, step: usize, steps: usize| {
            (epoch as f64 - 1.0 + step as f64 / steps as f64) / self.epochs as f64
        };
        let mut observe = |progress: Progress<'_>, training: &Training<'_>| {
            if let Progress::Step(step) = progress {
                let fraction = steps_done(step.epoch, step.step, step.steps);
                cx.progress(fraction, || {
                    format!("epoch {}/{}  loss {:.4}", step.epoch, self.epochs, step.loss)
                });
            }
            pause(cx, || Ok(Box::new(training.state()?)))
        };
        let streams = self.seed.streams(STREAMS);
        let config = self.config();
        pretrain(frames, &ranges, &config, &streams, device, cx.resume(), &mut observe)
            .map_err(failure)
    }

    fn config(&self) -> PretrainConfig {
        PretrainConfig {
            encoder: ResNetConfig {
                architecture: self.architecture,
                stem: self.stem,
                width: self.width,
                channels: self.channels,
                stem_init: self.stem_init,
            },
            projector: self.projector.clone(),
            objective: self.objective,
            epochs: self.epochs,
            sampler: SamplerConfig {
                batch_frames: self.batch_frames,
                max_event_frames: self.max_event_frames,
            },
            train_fraction: self.train_fraction,
            optimizer: AdamConfig {
                learning_rate: self.learning_rate,
                weight_decay: self.weight_decay,
                ..AdamConfig::default()
            },
        }
    }
}

impl Checkpoint for PretrainState {
    const FORMAT: u32 = 1;

    fn place(&self) -> String {
        format!("epoch {}, step {}", self.reached.rows.len() + 1, self.reached.steps + 1)
    }

    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let Reached { rows, steps, sums, anchors, frames_seen } = &self.reached;
        let row = |r: &EpochRow| {
            let held_out = r.held_out_loss.unwrap_or(f64::NAN);
            [r.train_loss, r.alignment, r.uniformity, r.gradient_norm, held_out]
        };
        let mut file = TensorFile::about(json!({ "steps": steps, "frames_seen": frames_seen }))
            .with("rows", Plain::rows(rows.iter().map(row)))
            .with("sums", Plain::rows([*sums]))
            .with("anchors", Plain::rows([[*anchors]]));
        for (part, tensors) in
            PARTS.into_iter().zip([&self.encoder, &self.projector, &self.optimizer])
        {
            for (name, tensor) in tensors {
                file.tensors.insert(format!("{part}/{name}"), to_plain(tensor)?);
            }
        }
        file.save(&folder.join(STATE))
    }

    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(STATE)?)?;
        let number = |name: &str| {
            let number = file.about[name].as_u64().map(|number| number as usize);
            number.with_context(|| format!("`{name}` is missing"))
        };
        let (steps, frames_seen) = (number("steps")?, number("frames_seen")?);
        let row = |(i, row): (usize, [f64; 5])| {
            let [train_loss, alignment, uniformity, gradient_norm, held_out] = row;
            let held_out_loss = (!held_out.is_nan()).then_some(held_out);
            EpochRow {
                epoch: i + 1,
                train_loss,
                alignment,
                uniformity,
                gradient_norm,
                held_out_loss,
            }
        };
        let rows = file.take_rows("rows")?.into_iter().enumerate().map(row).collect();
        let sums = *file.take_rows("sums")?.first().context("`sums` is empty")?;
        let [anchors] = *file.take_rows("anchors")?.first().context("`anchors` is empty")?;
        let part = |part: &str| -> anyhow::Result<BTreeMap<String, Tensor>> {
            let prefix = format!("{part}/");
            let own = file.tensors.iter().filter_map(|(n, t)| Some((n.strip_prefix(&prefix)?, t)));
            own.map(|(name, plain)| Ok((name.to_owned(), to_candle(plain, &Device::Cpu)?)))
                .collect()
        };
        let [encoder, projector, optimizer] = PARTS;
        Ok(Self {
            encoder: part(encoder)?,
            projector: part(projector)?,
            optimizer: part(optimizer)?,
            reached: Reached { rows, steps, sums, anchors, frames_seen },
        })
    }
}

/// What a state's tensors belong to.
const PARTS: [&str; 3] = ["encoder", "projector", "optimizer"];

fn history(rows: &[EpochRow]) -> Table {
    Table::new()
        .counts("epoch", rows.iter().map(|r| r.epoch))
        .floats("loss", rows.iter().map(|r| r.train_loss))
        .maybe_floats("held_out_loss", rows.iter().map(|r| r.held_out_loss))
        .floats("alignment", rows.iter().map(|r| r.alignment))
        .floats("uniformity", rows.iter().map(|r| r.uniformity))
        .floats("gradient_norm", rows.iter().map(|r| r.gradient_norm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::encoder_random::EncoderRandom;
    use crate::stages::shared::bench::Bench;

    /// A bar that drifts in its own direction in each of eight events of six frames.
    fn bench() -> Bench {
        let value = |event: usize, frame: usize, at: usize| {
            let along = if event.is_multiple_of(2) { at % 8 } else { at / 8 };
            f32::from(u8::from((along + frame * (1 + event / 4)) % 8 < 2))
        };
        let data = (0..48).flat_map(|t| (0..64).map(move |at| value(t / 6, t % 6, at))).collect();
        let starts: Vec<u32> = (0..8).map(|event| event * 6).collect();
        let ends = starts.iter().map(|start| start + 6).collect();
        Bench::new()
            .put("movie", &Movie { frames: 48, height: 8, width: 8, rate: 10.0, data })
            .put("events", &Events { starts, ends })
    }

    const SMALL: &str = "movie = '@movie'\nevents = '@events'\nwidth = 2\nchannels = 1\n\
        projector = [8, 4]\nbatch_frames = 12\n";

    #[test]
    fn pre_training_repeats_and_starts_from_the_random_network() {
        let run = |more: &str| bench().run::<PretrainSimclr>(&format!("{SMALL}{more}")).unwrap();
        let first = run("epochs = 2");
        assert_eq!(first.main::<Encoder>(), run("epochs = 2").main::<Encoder>());
        assert_ne!(first.main::<Encoder>(), run("epochs = 2\nseed = 1").main::<Encoder>());
        assert_eq!(first.output::<Table>("history").frame().unwrap().height(), 2);
        let still: Encoder = run("epochs = 1\nlearning_rate = 0\nweight_decay = 0").main();
        let random: Encoder =
            Bench::new().run::<EncoderRandom>("width = 2\nchannels = 1").unwrap().main();
        assert_eq!(still.file.tensors["conv1.weight"], random.file.tensors["conv1.weight"]);
    }

    #[test]
    fn a_training_that_is_broken_off_goes_on_to_the_same_bytes() {
        let text = format!("{SMALL}epochs = 4\nlearning_rate = 0.01\nmax_event_frames = 4");
        for (at, least) in [(1, 10), (2, 5), (5, 3), (1000, 1)] {
            let attempts = bench().check_resumption::<PretrainSimclr>(&text, at);
            assert!(attempts >= least && (attempts == 1) == (at == 1000), "{at}: {attempts}");
        }
    }

    #[test]
    fn every_objective_learns_and_bad_parameters_are_refused() {
        for objective in [
            "wave_contrast = { temperature = 0.2 }",
            "nt_xent = { temperature = 0.2 }",
            "barlow_twins = {}",
            "vicreg = { invariance = 10 }",
        ] {
            let more = format!("learning_rate = 1e-2\nepochs = 20\nobjective = {{ {objective} }}");
            let results = bench().run::<PretrainSimclr>(&format!("{SMALL}{more}")).unwrap();
            let history = results.output::<Table>("history").frame().unwrap();
            let losses = history.column("loss").unwrap().f64().unwrap();
            let (first, last) = (losses.get(0).unwrap(), losses.get(19).unwrap());
            assert!(last < first - 0.3, "{objective}: {first} {last}");
            assert_eq!(last, results.metrics["loss"]);
        }
        let lines = [
            "epochs = 0",
            "train_fraction = 0.0",
            "max_event_frames = 1",
            "objective = { nt_xent = { temperature = 0 } }",
            "objective = { barlow_twins = { redundancy = -1 } }",
            "objective = { vicreg = { variance = -1 } }",
        ];
        let lines = lines.map(|line| format!("{SMALL}{line}"));
        let widths = ["[]", "[70000]"].map(|widths| SMALL.replace("[8, 4]", widths));
        for text in lines.into_iter().chain(widths) {
            assert!(bench().run::<PretrainSimclr>(&text).is_err(), "{text}");
        }
    }
}
