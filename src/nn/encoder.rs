//! Encoders: what turns images into features, in several architectures.

use std::collections::BTreeMap;
use std::result;

use candle_core::{DType, Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::NnError;
use super::layers::Mode;
use super::network::{Network, Shape};
use super::params::Init;
use super::projector::append;
use super::{mlp, resnet};
use crate::omit::is_default;
use crate::rng::Streams;

/// The shape of an encoder and how its first layer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// How deep the network is, and of which blocks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub architecture: Architecture,
    /// How a residual network begins; a perceptron has no stem.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stem: Stem,
    /// Channels of a residual network's first stage; the later ones have 2, 4 and 8 times as many. 64 is the standard
    /// network. Units of each layer of a perceptron.
    pub width: usize,
    /// Channels of an image: 1 or 3, or any other number.
    pub channels: usize,
    /// How the first layer starts.
    pub stem_init: StemInit,
}

/// How deep a network is: how many blocks its four stages have, and of which kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// One basic block a stage: nine convolutions, the classifier not counted.
    ResNet9,
    /// Two basic blocks a stage.
    #[default]
    ResNet18,
    /// 3, 4, 6 and 3 basic blocks.
    ResNet34,
    /// 3, 4, 6 and 3 bottlenecks, which end in four times the channels; stride in the 3×3 convolution, as in torchvision.
    ResNet50,
    /// A perceptron of several layers, for small images and quick trials.
    Mlp(Mlp),
}

impl Architecture {
    /// Every residual network.
    pub const RESIDUAL: [Self; 4] = [Self::ResNet9, Self::ResNet18, Self::ResNet34, Self::ResNet50];

    /// Blocks of each stage.
    pub(super) fn blocks(self) -> [usize; 4] {
        match self {
            Self::Mlp(_) => [0; 4],
            Self::ResNet9 => [1; 4],
            Self::ResNet18 => [2; 4],
            Self::ResNet34 | Self::ResNet50 => [3, 4, 6, 3],
        }
    }

    /// How many times the stage's channels a block ends in.
    pub(super) fn expansion(self) -> usize {
        if self == Self::ResNet50 { 4 } else { 1 }
    }
}

/// A perceptron of several layers: linear, batch norm, `ReLU`, each; the last one's result are the features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mlp {
    /// Rows and columns of the images, which are square, from 1 to 256. It sees no others.
    #[schemars(range(min = 1, max = 256), extend("x-unit" = "pixels"))]
    pub image: usize,
    /// How many layers, from 1 to 8, each of `width` units.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 8))]
    pub layers: usize,
}

fn two() -> usize {
    2
}

/// How a network begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// A 7×7 convolution of stride 2 and a 3×3 max pool of stride 2: a quarter of the image's size, as in torchvision.
    #[default]
    ImageNet,
    /// A 3×3 convolution of stride 1: the image's size, for small images (Chen et al. 2020, appendix B.9).
    Cifar,
}

/// How the first layer starts; all others are normal of variance 2 / (k²·outputs) (He et al. 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StemInit {
    /// Like the others, as in torchvision.
    Kaiming,
    /// Uniform within ±1/√(k²·inputs), `PyTorch`'s default of a new convolution.
    Conv2dDefault,
}

impl StemInit {
    /// Yields how weights of a shape start.
    pub(super) fn of(self, shape: Shape) -> Init {
        match self {
            Self::Kaiming => shape.kaiming(),
            Self::Conv2dDefault => Init::Uniform { bound: 1.0 / (shape.inputs() as f64).sqrt() },
        }
    }
}

impl Default for EncoderConfig {
    fn default() -> Self {
        let (architecture, stem) = (Architecture::default(), Stem::default());
        Self { architecture, stem, width: 64, channels: 3, stem_init: StemInit::Kaiming }
    }
}

impl EncoderConfig {
    /// Counts the features: 8 times the width, or 32 times with bottlenecks; the width of a perceptron.
    pub fn features(&self) -> usize {
        match self.architecture {
            Architecture::Mlp(_) => self.width,
            _ => 8 * self.width * self.architecture.expansion(),
        }
    }

    /// Every number that it has: its path, whether it is in its range, and that range.
    pub fn ranges(&self) -> Vec<(&'static str, bool, &'static str)> {
        let mut ranges = vec![
            ("width", (1..=1024).contains(&self.width), "must be from 1 to 1024"),
            ("channels", (1..=16).contains(&self.channels), "must be from 1 to 16"),
        ];
        if let Architecture::Mlp(Mlp { image, layers }) = self.architecture {
            let none = self.stem == Stem::default();
            ranges.extend([
                ("architecture.mlp.image", (1..=256).contains(&image), "must be from 1 to 256"),
                ("architecture.mlp.layers", (1..=8).contains(&layers), "must be from 1 to 8"),
                ("stem", none, "must be left out: a perceptron has none"),
            ]);
        }
        ranges
    }
}

/// The places of a ResNet-18 whose activations can be read, from the image to the features.
pub const TAPS: [&str; 11] = [
    "input", "stem", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1",
    "layer4.0", "layer4.1", "pooled",
];

/// Tells whether some network has a place of this name.
pub fn is_tap(name: &str) -> bool {
    let number = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.parse().ok());
    // Written as the networks write it: no sign and no zero before it.
    let is_written = |prefix: &str, number: usize| name == format!("{prefix}{number}");
    let layer = number("layer").is_some_and(|n| (1..=8).contains(&n) && is_written("layer", n));
    // Linear, norm, rectifier, and so on: a rectifier's place is 2, 5, …; the last linear layer's is 0, 3, ….
    let projector =
        number("projector.").is_some_and(|n| n <= 21 && n % 3 != 1 && is_written("projector.", n));
    let block = |stage: usize| (0..6).map(move |block| format!("layer{}.{block}", stage + 1));
    let blocks = |stage: usize| block(stage).take(Architecture::ResNet50.blocks()[stage]);
    let known = TAPS.contains(&name) || layer || projector;
    known || (0..4).flat_map(blocks).any(|known| known == name)
}

/// The names that [`is_tap`] knows, in words.
pub const TAP_NAMES: &str = "input, stem, layerS.B (stage S from 1 to 4, block B from 0: up to layer4.1 in a ResNet-18), \
                             layerN (of a perceptron), pooled, projector.N (where it was kept)";

/// A network that maps images, n×h×w×c, to features, n×[`EncoderConfig::features`]; its projector may follow them.
#[derive(Debug)]
pub struct EncoderNetwork {
    pub config: EncoderConfig,
    /// Widths of the projector's layers; empty where there is none.
    pub projector: Vec<usize>,
    pub network: Network,
}

impl EncoderNetwork {
    /// Draws a new encoder from the streams `init/PATH`.
    pub fn new(
        config: EncoderConfig,
        streams: &Streams,
        device: &Device,
        dtype: DType,
    ) -> result::Result<Self, NnError> {
        if let Some((name, _, condition)) = config.ranges().into_iter().find(|(_, holds, _)| !holds)
        {
            return Err(NnError::BrokenRule { name, condition });
        }
        let mut network = Network::new(streams, device, dtype);
        match config.architecture {
            Architecture::Mlp(mlp) => mlp::build(&mut network, config, mlp)?,
            _ => resnet::build(&mut network, config)?,
        }
        Ok(Self { config, projector: Vec::new(), network })
    }

    /// Draws a new encoder with a projector behind its features, whose layers can be read.
    pub fn with_projector(
        config: EncoderConfig,
        widths: &[usize],
        streams: &Streams,
        device: &Device,
        dtype: DType,
    ) -> result::Result<Self, NnError> {
        let mut encoder = Self::new(config, streams, device, dtype)?;
        if !widths.is_empty() {
            let features = encoder.network.tapped(FEATURES)?;
            append(&mut encoder.network, features, config.features(), widths)?;
            encoder.projector = widths.to_vec();
        }
        Ok(encoder)
    }

    /// Counts the features.
    pub fn features(&self) -> usize {
        self.config.features()
    }

    /// Maps images n×h×w×c, values in [0, 1], to features. No gradient is tracked.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> result::Result<Tensor, NnError> {
        Ok(self.network.forward_to(self.network.tapped(FEATURES)?, x, mode)?)
    }

    /// Reads activations, in evaluation mode, at some of the network's taps: maps as n×c×h×w, others as n×units.
    pub fn forward_taps(
        &self,
        x: &Tensor,
        names: &[&str],
    ) -> result::Result<BTreeMap<String, Tensor>, NnError> {
        self.network.forward_taps(x, names)
    }

    /// Fails if the network cannot see images of so many rows and columns.
    pub(super) fn check_size(&self, size: [usize; 2]) -> result::Result<(), NnError> {
        match self.config.architecture {
            Architecture::Mlp(Mlp { image, .. }) if size != [image; 2] => {
                Err(NnError::WrongSize { expected: image, height: size[0], width: size[1] })
            }
            _ => Ok(()),
        }
    }
}

/// The tap of what a projector and a probe see.
const FEATURES: &str = "pooled";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_are_told_from_other_names() {
        for name in ["input", "layer1", "layer3.5", "projector.0", "projector.2", "projector.21"] {
            assert!(is_tap(name), "{name}");
        }
        for name in ["layer0", "layer9", "layer01", "layer1.3", "projector.1", "projector.+2", ""] {
            assert!(!is_tap(name), "{name}");
        }
    }
}
