//! `encoder.random`: a network as it was drawn, the control of every pre-training.

use candle_core::{DType, Device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::network::to_artifact;
use super::shared::pretrained::broken;
use super::shared::training::failure;
use crate::artifacts::encoder::Encoder;
use crate::engine::context::Context;
use crate::engine::parameter::Seed;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation};
use crate::nn::encoder::{Architecture, EncoderConfig, EncoderNetwork, Stem, StemInit};
use crate::omit::is_default;

/// Draws a network, by default a ResNet-18, that is never trained.
///
/// Convolutions are Kaiming-normal over the fan-out, batch normalization is the identity: the control condition of
/// retinal-wave pre-training (Ligeralde et al. 2023). The paper says He initialization; its code makes the first
/// convolution anew, in the random and in the pre-trained networks, so that it starts as PyTorch's `Conv2d` does. That
/// is the default here too.
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncoderRandom {
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
    /// Channels of an input image; a gray image is repeated in each.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 16))]
    channels: usize,
    /// How the first convolution starts. The default is the paper's code's; `kaiming` is the paper's words.
    #[serde(default = "recreated")]
    stem_init: StemInit,
    /// Seed of the weights. A pre-training with the same seed starts from the same network.
    #[serde(default)]
    seed: Seed,
}

pub(super) fn standard_width() -> usize {
    64
}
pub(super) fn three() -> usize {
    3
}
pub(super) fn recreated() -> StemInit {
    StemInit::Conv2dDefault
}

/// Encoders of one seed are the same whatever they are to be used for.
pub(super) const STREAMS: &str = "encoder";

impl Stage for EncoderRandom {
    const KIND: &'static str = "encoder.random";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.random]
        kind = "encoder.random"
    "#;

    fn check(&self) -> Vec<Violation> {
        broken(self.config().ranges())
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Encoder::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let streams = self.seed.streams(STREAMS);
        let network = EncoderNetwork::new(self.config(), &streams, &Device::Cpu, DType::F32)
            .map_err(failure)?;
        cx.metric("parameters", network.network.parameters.count() as f64)?;
        cx.save(&to_artifact(&network)?)
    }
}

impl EncoderRandom {
    fn config(&self) -> EncoderConfig {
        EncoderConfig {
            architecture: self.architecture,
            stem: self.stem,
            width: self.width,
            channels: self.channels,
            stem_init: self.stem_init,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::tensor::Data;
    use crate::stages::shared::bench::Bench;

    #[test]
    fn the_standard_network_has_torchvisions_number_of_parameters() {
        // torchvision's resnet18 has 11,689,512, of which 513,000 are the classifier's.
        let results = Bench::new().run::<EncoderRandom>("").unwrap();
        assert_eq!(results.metrics["parameters"], 11_176_512.0);
        let encoder: Encoder = results.main();
        let stem = &encoder.file.tensors["conv1.weight"];
        assert_eq!(stem.shape, [64, 3, 7, 7]);
        assert_eq!(Bench::new().run::<EncoderRandom>("").unwrap().main::<Encoder>(), encoder);
    }

    #[test]
    fn the_stem_starts_as_in_the_papers_code() {
        let stem = |text: &str| {
            let encoder: Encoder = Bench::new().run::<EncoderRandom>(text).unwrap().main();
            let Data::F32(values) = &encoder.file.tensors["conv1.weight"].data else { panic!() };
            values.iter().fold(0f32, |most, v| most.max(v.abs()))
        };
        // Uniform within 1/sqrt(147) against a normal of deviation sqrt(2 / (49 * 8)).
        let bound = 1.0 / 147f32.sqrt();
        assert!(stem("width = 8") <= bound && stem("width = 8") > 0.99 * bound);
        assert!(stem("width = 8\nstem_init = 'kaiming'") > 2.0 * bound);
    }

    #[test]
    fn seeds_and_ranges_matter() {
        let encoder =
            |text: &str| -> Encoder { Bench::new().run::<EncoderRandom>(text).unwrap().main() };
        assert_ne!(encoder("width = 2\nseed = 1"), encoder("width = 2\nseed = 2"));
        for bad in [
            "width = 0",
            "architecture = { mlp = { image = 0 } }",
            "architecture = { mlp = { image = 8, layers = 9 } }",
            "architecture = { mlp = { image = 8 } }\nstem = 'cifar'",
        ] {
            assert!(Bench::new().run::<EncoderRandom>(bad).is_err(), "{bad}");
        }
    }
}
