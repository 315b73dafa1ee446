//! `pretrain.images`: contrastive pre-training on views of images.

use candle_core::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encoder_random::{STREAMS, recreated, standard_width, three};
use super::shared::network::device;
use super::shared::pretrained::{leave, ranges, rules, watch};
use super::shared::training::failure;
use crate::artifacts::encoder::Encoder;
use crate::artifacts::images::{Images, ImagesOrDataset};
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::nn::augment::Augmentation;
use crate::nn::augment::views::Views;
use crate::nn::encoder::{Architecture, EncoderConfig, Stem, StemInit};
use crate::nn::images::Images as Seen;
use crate::nn::objective::{Objective, Temperature};
use crate::nn::optimizer::{Algorithm, OptimizerConfig};
use crate::nn::pace::Pace;
use crate::nn::precision::Precision;
use crate::nn::sampler::{Order, SamplerConfig};
use crate::nn::schedule::Schedule;
use crate::nn::simclr::{PretrainConfig, Pretrained, pretrain};
use crate::nn::source::view_events;
use crate::omit::is_default;

/// Pre-trains a residual network so that two random views of an image are alike and views of other images are not.
///
/// SimCLR as Chen et al. 2020 define it: each image of a batch gives two views, cropped, flipped, recolored and blurred
/// at random and drawn anew in each epoch; a projector is trained along and dropped. It needs no labels and reads none; of a
/// dataset it reads the training images. Images are gray or of three channels, with values in [0, 1]; for gray ones,
/// changes of saturation and hue and the change to gray are none. Views are made while the step before is computed. What is
/// left at the end of an epoch is a smaller batch; a single image joins the batch before. The defaults suit small batches;
/// the paper's training is `optimizer = { lars = {} }`, `schedule = { cosine = { warmup_epochs = 10 } }` and the
/// `learning_rate` that goes with the batch. `history` has one row an epoch.
///
/// Source: Chen et al. 2020 (arXiv:2002.05709), sections 2 and 3, appendices A and B.6. Other objectives: Barlow Twins,
/// Zbontar et al. 2021 (arXiv:2103.03230); `VICReg`, Bardes et al. 2022 (arXiv:2105.04906); MMCR, Yerxa et al. 2023
/// (arXiv:2303.03307); `wave_contrast`, which leaves the positive out of the denominator, is here the decoupled loss of
/// Yeh et al. 2022 (arXiv:2110.06848).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PretrainImages {
    /// The images to learn from.
    images: Input<ImagesOrDataset>,
    /// How the two views of an image are drawn. The defaults are the paper's for `ImageNet`; for CIFAR-10 it takes
    /// `{ jitter_strength = 0.5, blur = 0 }`.
    #[serde(default)]
    augmentation: Augmentation,
    /// How deep the network is, and of which blocks: `resnet9`, `resnet18` (the default), `resnet34` or `resnet50`, the
    /// paper's. Or
    /// `{ mlp = { image = 8, layers = 2 } }`, a perceptron of `width` units a layer for square images of one size, for
    /// quick trials.
    #[serde(default)]
    architecture: Architecture,
    /// How the network begins: `cifar` keeps the size of small images, as in the paper for CIFAR-10.
    #[serde(default)]
    stem: Stem,
    /// Channels of the first stage; the network ends in 8 times as many features, a ResNet-50 in 32 times, a perceptron in
    /// as many. 64 is the standard network.
    #[serde(default = "standard_width")]
    #[schemars(range(min = 1, max = 1024))]
    width: usize,
    /// Channels of the network's input; gray images are repeated in each.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 16))]
    channels: usize,
    /// How the first convolution starts. The default is that of `encoder.random`; `kaiming` is torchvision's.
    #[serde(default = "recreated")]
    stem_init: StemInit,
    /// Widths of the projector's layers, the last one included: from 1 to 8 layers of 1 to 65536 units. The paper's has one
    /// hidden layer as wide as the features, and 128 units.
    #[serde(default = "projector")]
    projector: Vec<usize>,
    /// Whether the encoder keeps its projector, so that `activations` and `probe.linear` can read its layers as
    /// `projector.2` (the first one after its rectifier), `projector.5` and so on; the last one is `projector.6` where there
    /// are three. Off where absent, as in the paper: it is thrown away.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false))]
    keep_projector: bool,
    /// What is asked of the two views of an image, which count as frames that follow each other: what is contrasted, and at
    /// which `temperature` (0.1 in the paper for `ImageNet` and large batches, 0.5 for CIFAR-10), or a loss without negatives.
    #[serde(default = "nt_xent")]
    objective: Objective,
    /// Passes over the images; from 100 to 1000 in the paper.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1_000_000))]
    epochs: usize,
    /// Images of a batch, each seen twice, at least 2; from 256 to 8192 in the paper.
    #[serde(default = "batch")]
    #[schemars(range(min = 2))]
    batch_images: usize,
    /// Share of the images that is trained on, above 0 and at most 1; the others give the held-out loss, over the same
    /// views after each epoch. The paper trains on all.
    #[serde(default = "all")]
    #[schemars(range(min = 0.0, max = 1.0))]
    train_fraction: f64,
    /// Learning rate, at least 0. The paper's, with `lars`, is 0.3 · `batch_images` / 256.
    #[serde(default = "rate")]
    #[schemars(range(min = 0.0))]
    learning_rate: f64,
    /// Multiple of each weight that is added to its gradient, at least 0; 1e-6 in the paper. With `adamw`, weights shrink by its
    /// product with the learning rate instead; with `lars`, biases and batch norm are spared.
    #[serde(default = "decay")]
    #[schemars(range(min = 0.0))]
    weight_decay: f64,
    /// How a gradient moves the weights: `{ adam = {} }`, `{ adamw = {} }`, `{ sgd = { momentum = 0.9, nesterov = true } }`
    /// or `{ lars = {} }`, the paper's.
    #[serde(default)]
    optimizer: Algorithm,
    /// How the learning rate goes: `"constant"`, or `{ cosine = { warmup_epochs = 10 } }`, the paper's: from 0 up to it and by
    /// half a cosine to 0, step by step.
    #[serde(default)]
    schedule: Schedule,
    /// Euclidean length, above 0, to which a longer gradient of all weights together is scaled down. Gradients are taken as
    /// they are where absent, as in the paper. `gradient_norm` in the history is the length before.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0))]
    clip_norm: Option<f64>,
    /// Batches whose gradients are averaged for one step, at least 1. Each keeps its own negatives and its own statistics of
    /// batch norm: this is not the same as a larger `batch_images`, which takes more memory.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    accumulate: usize,
    /// What the factors of convolutions and matrix products are rounded to in training: `f32` (not at all, the
    /// default), `tf32` or `bf16`, for GPUs of compute capability 8.0 and later, or `f16`, for 7.0 and later, with a factor
    /// on the loss that halves at an overflow and doubles after 2000 batches without. Weights, statistics and the loss are
    /// of 32 bits anyway, and held-out losses are never of 16. A device that cannot do it is an error.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "f32"))]
    precision: Precision,
    /// Seed of weights, split, batches and views. An `encoder.random` of the same seed is the network it starts from.
    #[serde(default)]
    seed: Seed,
}

fn projector() -> Vec<usize> {
    vec![512, 128]
}
fn nt_xent() -> Objective {
    Objective::NtXent(Temperature::default())
}
fn hundred() -> usize {
    100
}
fn batch() -> usize {
    256
}
fn all() -> f64 {
    1.0
}
fn rate() -> f64 {
    1e-3
}
fn decay() -> f64 {
    1e-6
}
fn one() -> usize {
    1
}

impl Stage for PretrainImages {
    const KIND: &'static str = "pretrain.images";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.augmented]
        kind = "pretrain.images"
        images = "@photos"
    "#;

    fn check(&self) -> Vec<Violation> {
        let mut broken = rules(&self.config());
        broken.extend(violations([("batch_images", self.batch_images >= 2, "must be at least 2")]));
        broken.extend(ranges("augmentation", self.augmentation.ranges()));
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Encoder::TYPE).and("history", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let images = match cx.load(&self.images)? {
            ImagesOrDataset::Images(images) => images,
            ImagesOrDataset::Dataset(dataset) => dataset.train,
        };
        check_images(&images, self.train_fraction)?;
        let trained = self.train(cx, &images, &device())?;
        leave(cx, &trained, self.keep_projector.then_some(&self.projector))
    }
}

/// Fails if no views can be drawn of images, or if too few of them would be trained on.
fn check_images(images: &Images, train_fraction: f64) -> anyhow::Result<()> {
    anyhow::ensure!(
        [1, 3].contains(&images.channels),
        Failure::data(format!("views need gray or RGB images, found {} channels", images.channels))
            .hint("the channels of color changes are red, green and blue")
    );
    let trained = (train_fraction * images.count as f64).round();
    anyhow::ensure!(
        trained >= 2.0,
        Failure::data(format!("pre-training needs at least 2 images, found {trained}"))
            .hint("give the stage more images, or a larger `train_fraction`")
    );
    if let Some(value) = images.pixels.iter().find(|value| !(0.0..=1.0).contains(*value)) {
        return Err(Failure::data(format!("views need values in [0, 1], found {value}"))
            .hint("`white` of `images.table` and `movie.normalise` bring values there")
            .into());
    }
    Ok(())
}

impl PretrainImages {
    fn train(
        &self,
        cx: &Context<'_>,
        images: &Images,
        device: &Device,
    ) -> anyhow::Result<Pretrained> {
        let Images { count, channels, height, width, ref pixels, .. } = *images;
        let streams = self.seed.streams(STREAMS);
        let seen = Seen::new(pixels, channels, height, width).map_err(failure)?;
        let views = Views::new(seen, self.augmentation, &streams).map_err(failure)?;
        let mut observe = watch(cx, self.epochs);
        let (events, config) = (view_events(count), self.config());
        pretrain(views, &events, &config, &streams, device, cx.resume(), &mut observe)
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
                batch_frames: self.batch_images.saturating_mul(2),
                max_event_frames: None,
                order: Order::Shuffled,
                balanced: false,
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
    use std::ops::Range;

    use super::*;
    use crate::artifacts::dataset::Dataset;
    use crate::stages::encoder_random::EncoderRandom;
    use crate::stages::shared::bench::{Bench, Results};

    /// Twelve images of 8×8: bars of four widths in red, green and blue.
    fn images(channels: usize) -> Images {
        let value = |image: usize, channel: usize, at: usize| {
            let bar = (at % 8 / (1 + image / 3)).is_multiple_of(2);
            if bar && channel == image % channels { 0.9 } else { 0.1 }
        };
        let planes = (0..12).flat_map(|i| (0..channels).map(move |c| (i, c)));
        let pixels = planes.flat_map(|(i, c)| (0..64).map(move |at| value(i, c, at))).collect();
        Images { count: 12, channels, height: 8, width: 8, pixels, labels: Vec::new() }
    }

    const SMALL: &str = "images = '@images'\nwidth = 2\nprojector = [8, 4]\nbatch_images = 4\n";

    fn run(images: &Images, more: &str) -> anyhow::Result<Results> {
        Bench::new().put("images", images).run::<PretrainImages>(&format!("{SMALL}{more}"))
    }

    #[test]
    fn pre_training_repeats_and_starts_from_the_random_network() {
        let encoder = |more: &str| -> Encoder { run(&images(3), more).unwrap().main() };
        let first = encoder("epochs = 2");
        assert_eq!(first, encoder("epochs = 2"));
        assert_ne!(first, encoder("epochs = 2\nseed = 1"));
        assert_ne!(first, encoder("epochs = 2\naugmentation = { flip = 1 }"));
        let still = encoder("epochs = 1\nlearning_rate = 0\nweight_decay = 0");
        let random: Encoder = Bench::new().run::<EncoderRandom>("width = 2").unwrap().main();
        assert_eq!(still.file.tensors["conv1.weight"], random.file.tensors["conv1.weight"]);
        // Of a dataset, the images to train on; gray ones fit any network.
        let dataset = Dataset { train: images(3), test: images(1) };
        let text = format!("{SMALL}epochs = 2");
        let of_dataset = Bench::new().put("images", &dataset).run::<PretrainImages>(&text);
        assert_eq!(of_dataset.unwrap().main::<Encoder>(), first);
        run(&images(1), "epochs = 1").unwrap();
    }

    #[test]
    fn every_objective_learns() {
        for objective in
            ["nt_xent = {}", "wave_contrast = {}", "barlow_twins = {}", "vicreg = {}", "mmcr = {}"]
        {
            let text = format!(
                "images = '@images'\nwidth = 4\nprojector = [16, 8]\nbatch_images = 12\nepochs = 60\n\
                 learning_rate = 0.01\nobjective = {{ {objective} }}\n\
                 augmentation = {{ crop_area = [0.5, 1], jitter_strength = 0.2, grayscale = 0 }}"
            );
            let bench = Bench::new().put("images", &images(3));
            let results = bench.run::<PretrainImages>(&text).unwrap();
            let history = results.output::<Table>("history").frame().unwrap();
            let losses = history.column("loss").unwrap().f64().unwrap();
            let mean = |epochs: Range<usize>| {
                epochs.map(|epoch| losses.get(epoch).unwrap()).sum::<f64>() / 10.0
            };
            let (first, last) = (mean(0..10), mean(50..60));
            assert!(last < first - 0.03 * first.abs(), "{objective}: {first} {last}");
            assert_eq!(losses.get(59).unwrap(), results.metrics["loss"]);
        }
        let paper = "optimizer = { lars = {} }\nschedule = { cosine = { warmup_epochs = 1 } }\n\
            train_fraction = 0.5\nchannels = 1\nepochs = 2\naccumulate = 2\nclip_norm = 10";
        let results = run(&images(1), paper).unwrap();
        assert!(results.metrics["held_out_loss"].is_finite());
    }

    #[test]
    fn a_training_that_is_broken_off_goes_on_to_the_same_bytes() {
        let text = format!("{SMALL}epochs = 3\ntrain_fraction = 0.7");
        for (at, least) in [(1, 8), (2, 4), (5, 2), (1000, 1)] {
            let bench = Bench::new().put("images", &images(3));
            let attempts = bench.check_resumption::<PretrainImages>(&text, at);
            assert!(attempts >= least && (attempts == 1) == (at == 1000), "{at}: {attempts}");
        }
    }

    #[test]
    fn bad_parameters_and_images_are_refused() {
        for more in [
            "epochs = 0",
            "batch_images = 1",
            "train_fraction = 0",
            "projector = []",
            "objective = { nt_xent = { temperature = 0 } }",
            "augmentation = { flip = 2 }",
            "augmentation = { crop_area = [0, 1] }",
            "augmentation = { blur_sigma = [2, 1] }",
            "augmentation = { crop = 1 }",
            "schedule = { cosine = { warmup_epochs = 200 } }",
            "clip_norm = 0",
            "accumulate = 0",
        ] {
            let text = format!("images = '@images'\n{more}");
            let bench = Bench::new().put("images", &images(3));
            assert!(bench.run::<PretrainImages>(&text).is_err(), "{more}");
        }
        let message = |images: Images| run(&images, "epochs = 1").err().unwrap().to_string();
        let mut bright = images(3);
        bright.pixels[7] = 1.5;
        assert_eq!(message(bright), "views need values in [0, 1], found 1.5");
        assert_eq!(message(images(2)), "views need gray or RGB images, found 2 channels");
        let single = images(3).select(&[0]);
        assert_eq!(message(single), "pre-training needs at least 2 images, found 1");
    }
}
