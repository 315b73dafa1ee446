//! `pretrain.simclr`: contrastive pre-training on the events of a movie.

use candle_core::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encoder_random::{STREAMS, recreated, standard_width, three};
use super::shared::network::device;
use super::shared::pretrained::{leave, rules, watch};
use super::shared::training::failure;
use crate::artifacts::encoder::Encoder;
use crate::artifacts::events::Events;
use crate::artifacts::movie::Movie;
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::nn::encoder::{Architecture, EncoderConfig, Stem, StemInit};
use crate::nn::images;
use crate::nn::objective::Objective;
use crate::nn::optimizer::{Algorithm, OptimizerConfig};
use crate::nn::pace::Pace;
use crate::nn::precision::Precision;
use crate::nn::sampler::{Order, SamplerConfig};
use crate::nn::schedule::Schedule;
use crate::nn::simclr::{PretrainConfig, Pretrained, pretrain};
use crate::omit::{is_default, is_one};

/// Pre-trains a residual network so that neighboring frames of an event are alike and frames of other events are not.
///
/// No augmentation: positives come from time alone. As in Ligeralde et al. 2023 (PMLR 243:194-208), sections 2.1 and
/// 2.3: torchvision's ResNet-18, a projector of linear layers with batch normalization, Adam, whole events drawn at
/// random until a batch is full (its code draws them in the order of the file, the same in each epoch: `order`).
/// Defaults are the paper's where it gives a value, else those of its code: each parameter says which. Frames are
/// expected in [0, 1] (see `movie.normalise`). `history` has one row an epoch; how many frames a second are trained on
/// is told while it runs and kept nowhere, as it is no property of the result.
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208, sections 2.1 and 2.3. Other objectives: NT-Xent, Chen et al. 2020
/// (arXiv:2002.05709); Barlow Twins, Zbontar et al. 2021 (arXiv:2103.03230); `VICReg`, Bardes et al. 2022
/// (arXiv:2105.04906); MMCR, Yerxa et al. 2023 (arXiv:2303.03307). Optimizers: Adam, Kingma & Ba 2015
/// (arXiv:1412.6980); `AdamW` and the cosine, Loshchilov & Hutter 2019 and 2017 (arXiv:1711.05101, 1608.03983);
/// momentum, Sutskever et al. 2013; LARS, You et al. 2017 (arXiv:1708.03888).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PretrainSimclr {
    /// The frames to learn from.
    movie: Input<Movie>,
    /// The events in them; for a shuffled movie, those of the movie it was made from.
    events: Input<Events>,
    /// How deep the network is, and of which blocks: `resnet9`, `resnet18` (the default), `resnet34` or `resnet50`. Or
    /// `{ mlp = { image = 8, layers = 2 } }`, a perceptron of `width` units a layer for square images of one size, for
    /// quick trials.
    #[serde(default, skip_serializing_if = "is_default")]
    architecture: Architecture,
    /// How the network begins: `cifar` keeps the size of small images.
    #[serde(default, skip_serializing_if = "is_default")]
    stem: Stem,
    /// Channels of the first stage; the network ends in 8 times as many features, a ResNet-50 in 32 times, a perceptron in
    /// as many. 64 is the standard network.
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
    /// Whether the encoder keeps its projector, so that `activations` and `probe.linear` can read its layers as
    /// `projector.2` (the first one after its rectifier), `projector.5` and so on; the last one is `projector.6` where there
    /// are three. Off where absent, as in the paper: it is thrown away.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false))]
    keep_projector: bool,
    /// What is asked of neighboring frames: what is contrasted, and at which `temperature` (0.5 in the paper's code),
    /// or a loss without negatives. The default is the paper's. `neighbors` is how many frames on each side are
    /// positives.
    #[serde(default)]
    objective: Objective,
    /// Passes over the events; 100 in the paper.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1_000_000))]
    epochs: usize,
    /// Frames at which a batch is full, at least 2. Events are whole, so that most batches hold more. 3000 in the
    /// paper.
    #[serde(default = "paper_batch")]
    #[schemars(range(min = 2))]
    batch_frames: usize,
    /// Longest run of frames that an event gives to an epoch, at least 2, drawn anew in each. Whole events where
    /// absent, as in the paper.
    #[serde(default)]
    max_event_frames: Option<usize>,
    /// `shuffled`, the default and the paper's: events in random order, drawn anew in each epoch. `file`, as the
    /// paper's code: events in the order of the file and the same batches in each epoch, each closed where it holds
    /// more than `batch_frames` frames and a multiple of 4; the last event is left out, and the rest before it is a
    /// batch of any size. With `max_event_frames`, an event then gives its first frames in each epoch. Unlike in that
    /// code, a batch always holds two events, and a rest that does not joins the batch before. The held-out loss goes
    /// by the same rule.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "shuffled"))]
    order: Order,
    /// Whether each event gives exactly `max_event_frames` frames, which must then be given: no event weighs more than
    /// another, as anchor or as negative, and all batches but the last of an epoch are equally large. Shorter events
    /// are left out, of the held-out loss too. Off where absent, as in the paper: long events weigh more.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false))]
    balanced: bool,
    /// Share of the events that is trained on, above 0 and at most 1; the others give the held-out loss. 0.8 is the
    /// value for simulated waves in the paper's code, 0.9 that for recorded ones. `movie.split` of the same seed and
    /// share chooses the same events; give 1 to train on all that it leaves.
    #[serde(default = "most")]
    #[schemars(range(min = 0.0, max = 1.0))]
    train_fraction: f64,
    /// Learning rate, at least 0; 1e-4 in the paper.
    #[serde(default = "paper_rate")]
    #[schemars(range(min = 0.0))]
    learning_rate: f64,
    /// Multiple of each weight that is added to its gradient, at least 0; 1e-6 in the paper's code. With `adamw`,
    /// weights shrink by its product with the learning rate instead; with `lars`, biases and batch norm are spared.
    #[serde(default = "paper_decay")]
    #[schemars(range(min = 0.0))]
    weight_decay: f64,
    /// How a gradient moves the weights: `{ adam = {} }`, the default and the paper's, `{ adamw = {} }`,
    /// `{ sgd = { momentum = 0.9, nesterov = true } }` or `{ lars = {} }`, as in `PyTorch`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = { "adam": {} }))]
    optimizer: Algorithm,
    /// How the learning rate goes: `"constant"`, the default and the paper's, or `{ cosine = { warmup_epochs = 10 }
    /// }`, from 0 up to it and by half a cosine to 0, step by step.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "constant"))]
    schedule: Schedule,
    /// Euclidean length, above 0, to which a longer gradient of all weights together is scaled down. Gradients are
    /// taken as they are where absent, as in the paper. `gradient_norm` in the history is the length before.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    clip_norm: Option<f64>,
    /// Batches whose gradients are averaged for one step, at least 1, the default. Each keeps its own negatives and
    /// its own statistics of batch norm: this is not the same as a larger `batch_frames`, which takes more memory.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1), extend("default" = 1))]
    accumulate: usize,
    /// What the factors of convolutions and matrix products are rounded to in training: `f32` (not at all, the
    /// default), `tf32` or `bf16`, for GPUs of compute capability 8.0 and later, or `f16`, for 7.0 and later, with a factor
    /// on the loss that halves at an overflow and doubles after 2000 batches without. Weights, statistics and the loss are
    /// of 32 bits anyway, and held-out losses are never of 16. A device that cannot do it is an error.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "f32"))]
    precision: Precision,
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
fn one() -> usize {
    1
}

impl Stage for PretrainSimclr {
    const KIND: &'static str = "pretrain.simclr";
    const VERSION: u32 = 4;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.encoder]
        kind = "pretrain.simclr"
        movie = "@movie"
        events = "@events"
    "#;

    fn check(&self) -> Vec<Violation> {
        let mut broken = rules(&self.config());
        let long_enough = self.max_event_frames.is_none_or(|n| n >= 2);
        let equal = !self.balanced || self.max_event_frames.is_some();
        broken.extend(violations([
            ("batch_frames", self.batch_frames >= 2, "must be at least 2"),
            ("max_event_frames", long_enough, "must be at least 2"),
            ("balanced", equal, "needs `max_event_frames`, the frames that each event gives"),
        ]));
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Encoder::TYPE).and("history", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let movie = cx.load(&self.movie)?;
        let events = cx.load(&self.events)?;
        let trained = self.train(cx, &movie, &events, &device())?;
        leave(cx, &trained, self.keep_projector.then_some(&self.projector))
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
        let frames = images::Images::new(&movie.data, movie.channels, movie.height, movie.width)
            .map_err(failure)?;
        let ranges = events.starts.iter().zip(&events.ends);
        let ranges: Vec<_> = ranges.map(|(start, end)| *start as usize..*end as usize).collect();
        let mut observe = watch(cx, self.epochs);
        let streams = self.seed.streams(STREAMS);
        let config = self.config();
        pretrain(frames, &ranges, &config, &streams, device, cx.resume(), &mut observe)
            .map_err(failure)
    }

    fn config(&self) -> PretrainConfig {
        PretrainConfig {
            encoder: EncoderConfig {
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
                order: self.order,
                balanced: self.balanced,
            },
            train_fraction: self.train_fraction,
            optimizer: OptimizerConfig {
                algorithm: self.optimizer,
                weight_decay: self.weight_decay,
            },
            pace: Pace {
                learning_rate: self.learning_rate,
                schedule: self.schedule,
                clip_norm: self.clip_norm,
                accumulate: self.accumulate,
            },
            precision: self.precision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::activations::Activations;
    use crate::artifacts::images::Images;
    use crate::artifacts::tensor::Data;
    use crate::stages::activations::LayerActivations;
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
            .put(
                "movie",
                &Movie {
                    frames: 48,
                    channels: 1,
                    height: 8,
                    width: 8,
                    rate: 10.0,
                    pitch: None,
                    data,
                },
            )
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
        for optimizer in ["sgd = {}", "adamw = {}", "lars = {}"] {
            let text = format!(
                "{text}\naccumulate = 2\nclip_norm = 0.5\nbalanced = true\n\
                schedule = {{ cosine = {{ warmup_epochs = 1.5 }} }}\noptimizer = {{ {optimizer} }}"
            );
            let attempts = bench().check_resumption::<PretrainSimclr>(&text, 2);
            assert!(attempts >= 3, "{optimizer}: {attempts}");
        }
    }

    /// Parameters that came after version 2 are not hashed at their defaults, written or not.
    #[test]
    fn later_parameters_leave_keys_alone() {
        let parameters = |more: &str| {
            let stage: PretrainSimclr = toml::from_str(&format!("{SMALL}{more}")).unwrap();
            serde_json::to_value(stage).unwrap()
        };
        let plain = parameters("");
        let mut names: Vec<&String> = plain.as_object().unwrap().keys().collect();
        let mut expected = [
            "movie",
            "events",
            "width",
            "channels",
            "stem_init",
            "projector",
            "objective",
            "epochs",
            "batch_frames",
            "max_event_frames",
            "train_fraction",
            "learning_rate",
            "weight_decay",
            "seed",
        ];
        expected.sort_unstable();
        names.sort_unstable();
        assert_eq!(names, expected);
        let objective = serde_json::json!({ "wave_contrast": { "temperature": 0.5 } });
        assert_eq!(plain["objective"], objective);
        let defaults = "order = 'shuffled'\nbalanced = false\noptimizer = { adam = {} }\n\
            schedule = 'constant'\naccumulate = 1\nprecision = 'f32'\nobjective = { wave_contrast = { neighbors = 1 } }";
        assert_eq!(parameters(defaults), plain);
        for other in [
            "order = 'file'",
            "balanced = true",
            "optimizer = { adam = { beta1 = 0.8 } }",
            "schedule = { cosine = {} }",
            "accumulate = 2",
            "clip_norm = 1.0",
            "precision = 'tf32'",
            "objective = { wave_contrast = { neighbors = 2 } }",
            "keep_projector = true",
            "architecture = { mlp = { image = 8 } }",
        ] {
            assert_ne!(parameters(other), plain, "{other}");
        }
    }

    #[test]
    fn the_history_tells_the_learning_rate() {
        let more = "epochs = 2\nlearning_rate = 0.5\nschedule = { cosine = {} }\norder = 'file'\n\
            optimizer = { sgd = { nesterov = true } }\naccumulate = 10";
        let results = bench().run::<PretrainSimclr>(&format!("{SMALL}{more}")).unwrap();
        let history = results.output::<Table>("history").frame().unwrap();
        let rates = history.column("learning_rate").unwrap().f64().unwrap();
        assert_eq!((rates.get(0), rates.get(1)), (Some(0.5), Some(0.25)));
    }

    #[test]
    fn a_kept_projector_can_be_read() {
        let text = format!("{SMALL}epochs = 2\nkeep_projector = true");
        let kept: Encoder = bench().run::<PretrainSimclr>(&text).unwrap().main();
        let plain: Encoder =
            bench().run::<PretrainSimclr>(&format!("{SMALL}epochs = 2")).unwrap().main();
        assert!(plain.file.tensors.iter().all(|(name, weight)| kept.file.tensors[name] == *weight));
        let images = Images { count: 3, channels: 1, height: 8, width: 8, ..Images::default() };
        let images = Images { pixels: (0..192).map(|i| (i % 5) as f32 / 5.0).collect(), ..images };
        let bench = Bench::new().put("kept", &kept).put("plain", &plain).put("images", &images);
        let layers = "images = '@images'\nlayers = ['pooled', 'projector.2', 'projector.3']";
        let read = |encoder: &str| {
            bench.run::<LayerActivations>(&format!("encoder = '@{encoder}'\n{layers}"))
        };
        let Activations { layers, .. } = read("kept").unwrap().main();
        assert_eq!(layers.iter().map(|l| l.features).collect::<Vec<_>>(), [16, 8, 4]);
        // The last layer is linear.
        let Data::F32(weight) = &kept.file.tensors["projector.3.weight"].data else { panic!() };
        for (hidden, out) in layers[1].values.chunks(8).zip(layers[2].values.chunks(4)) {
            for (row, out) in weight.chunks(8).zip(out) {
                let sum: f32 = row.iter().zip(hidden).map(|(w, h)| w * h).sum();
                assert!((sum - out).abs() < 1e-5, "{sum} {out}");
            }
        }
        let error = read("plain").unwrap_err().to_string();
        assert!(error.starts_with("unknown tap `projector.2`; the network has: input"), "{error}");
    }

    #[test]
    fn a_perceptron_learns_and_goes_on_to_the_same_bytes() {
        let text = SMALL.replace("width = 2", "width = 16\narchitecture = { mlp = { image = 8 } }");
        let text = format!("{text}epochs = 10\nlearning_rate = 1e-2\n");
        let results = bench().run::<PretrainSimclr>(&text).unwrap();
        let history = results.output::<Table>("history").frame().unwrap();
        let losses = history.column("loss").unwrap().f64().unwrap();
        let (first, last) = (losses.get(0).unwrap(), losses.get(9).unwrap());
        assert!(last < first - 0.3, "{first} {last}");
        let random = "width = 16\nchannels = 1\narchitecture = { mlp = { image = 8, layers = 2 } }";
        let random: Encoder = Bench::new().run::<EncoderRandom>(random).unwrap().main();
        assert_eq!(random.shape(), results.main::<Encoder>().shape());
        assert!(bench().check_resumption::<PretrainSimclr>(&text, 7) > 2);
        let other = bench().run::<PretrainSimclr>(&text.replace("image = 8", "image = 7"));
        let error = other.unwrap_err().to_string();
        assert_eq!(error, "a perceptron for images of 7×7 pixels cannot see 8×8");
    }

    #[test]
    fn every_objective_learns_and_bad_parameters_are_refused() {
        // The nuclear norm of two centroids lies between 1 and 2, so there is less to gain.
        for (objective, least) in [
            ("wave_contrast = { temperature = 0.2 }", 0.3),
            ("nt_xent = { temperature = 0.2 }", 0.3),
            ("barlow_twins = {}", 0.3),
            ("vicreg = { invariance = 10 }", 0.3),
            ("mmcr = {}", 0.15),
        ] {
            let more = format!("learning_rate = 1e-2\nepochs = 20\nobjective = {{ {objective} }}");
            let results = bench().run::<PretrainSimclr>(&format!("{SMALL}{more}")).unwrap();
            let history = results.output::<Table>("history").frame().unwrap();
            let losses = history.column("loss").unwrap().f64().unwrap();
            let (first, last) = (losses.get(0).unwrap(), losses.get(19).unwrap());
            assert!(last < first - least, "{objective}: {first} {last}");
            assert_eq!(last, results.metrics["loss"]);
        }
        let lines = [
            "epochs = 0",
            "train_fraction = 0.0",
            "max_event_frames = 1",
            "objective = { nt_xent = { temperature = 0 } }",
            "objective = { barlow_twins = { redundancy = -1 } }",
            "objective = { vicreg = { variance = -1 } }",
            "objective = { wave_contrast = { neighbors = 0 } }",
            "objective = { mmcr = { local_weight = -1 } }",
            "optimizer = { lars = { trust = 0 } }",
            "optimizer = { sgd = { momentum = 0, nesterov = true } }",
            "schedule = { cosine = { warmup_epochs = 101 } }",
            "clip_norm = 0",
            "accumulate = 0",
            "precision = 'f8'",
            "balanced = true",
        ];
        let lines = lines.map(|line| format!("{SMALL}{line}"));
        let widths = ["[]", "[70000]"].map(|widths| SMALL.replace("[8, 4]", widths));
        for text in lines.into_iter().chain(widths) {
            assert!(bench().run::<PretrainSimclr>(&text).is_err(), "{text}");
        }
    }
}
