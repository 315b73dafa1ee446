//! `activations`: what the layers of an encoder answer to images.

use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::network::{device, from_artifact, view};
use super::shared::training::{failure, flow};
use crate::artifacts::activations::{Activations, Layer};
use crate::artifacts::encoder::Encoder;
use crate::artifacts::images::AnyImages;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Part, Stage, Violation};
use crate::nn::encoder::{TAP_NAMES, TAPS, is_tap};
use crate::nn::features::extract;

/// Reads the activations of an encoder's layers, in evaluation mode.
///
/// Layers are the input, the nine rectified layers of a ResNet-18 (the stem and each block; torchvision's names), the
/// pooled features, and those of the projector where the pre-training has kept it (`keep_projector`). Maps are
/// flattened in the order channel, row, column.
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208, whose layers are the default.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerActivations {
    /// The network that answers.
    encoder: Input<Encoder>,
    /// The images that are shown; of a dataset, the test part.
    images: Input<AnyImages>,
    /// The layers: `input`, `stem`, `layer1.0` to `layer4.1`, `pooled`; `layer1` and so on of a perceptron; `projector.2`
    /// and so on. The default is the paper's: the input and nine layers of a ResNet-18.
    #[serde(default = "paper_layers")]
    layers: Vec<String>,
}

fn paper_layers() -> Vec<String> {
    TAPS.iter().filter(|tap| **tap != "pooled").map(|tap| (*tap).to_owned()).collect()
}

impl Stage for LayerActivations {
    const KIND: &'static str = "activations";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.features]
        kind = "activations"
        encoder = "@encoder"
        images = "@objects"
    "#;

    fn check(&self) -> Vec<Violation> {
        let mut broken = Vec::new();
        let rule = format!("must hold names among {TAP_NAMES}");
        for (index, layer) in self.layers.iter().enumerate() {
            let at = Part::Item(index);
            if !is_tap(layer) {
                broken.push(Violation::new("layers", rule.as_str()).at(at));
            } else if self.layers[..index].contains(layer) {
                broken.push(Violation::new("layers", "must not name a layer twice").at(at));
            }
        }
        if self.layers.is_empty() {
            broken.push(Violation::new("layers", rule));
        }
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Activations::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let encoder = cx.load(&self.encoder)?;
        let AnyImages(images) = cx.load(&self.images)?;
        anyhow::ensure!(
            images.count > 0,
            Failure::data("there are no images to show to the encoder")
                .hint("of a dataset the test part is shown: look at its `test_fraction`")
        );
        let network = from_artifact(&encoder, &device())?;
        let names: Vec<&str> = self.layers.iter().map(String::as_str).collect();
        let total = images.count as f64;
        let mut observe = |done: usize| -> ControlFlow<()> {
            cx.progress(done as f64 / total, || format!("{done} images"));
            flow(cx)
        };
        let mut taps = extract(&network, view(&images)?, &names, &mut observe).map_err(failure)?;
        let layer = |name: &String| {
            let read = taps.remove(name).expect("every layer was asked for");
            Layer { name: name.clone(), features: read.columns, values: read.values }
        };
        let layers = self.layers.iter().map(layer).collect();
        cx.save(&Activations { count: images.count, labels: images.labels, layers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::dataset::Dataset;
    use crate::artifacts::images::Images;
    use crate::engine::failure::FailureKind;
    use crate::stages::encoder_random::EncoderRandom;
    use crate::stages::shared::bench::Bench;

    #[test]
    fn layers_have_the_sizes_of_the_paper() {
        let encoder: Encoder = Bench::new().run::<EncoderRandom>("width = 4").unwrap().main();
        let images = Images {
            count: 2,
            channels: 1,
            height: 32,
            width: 32,
            pixels: (0..2048).map(|i| (i % 7) as f32 / 7.0).collect(),
            labels: vec![3, 4],
        };
        let bench = Bench::new().put("encoder", &encoder).put("images", &images);
        let text = "encoder = '@encoder'\nimages = '@images'\n";
        let read: Activations = bench.run::<LayerActivations>(text).unwrap().main();
        // Flat sizes at 32 x 32 for width 64 are 3072, 16384, 4096 x 2, 2048 x 2, 1024 x 2, 512 x 2.
        let sizes: Vec<usize> = read.layers.iter().map(|l| l.features).collect();
        assert_eq!(sizes, [3072, 1024, 256, 256, 128, 128, 64, 64, 32, 32]);
        assert_eq!((read.count, read.labels), (2, vec![3, 4]));
        assert_eq!(read.layers[0].values[..1024], images.pixels[..1024]);
        assert!(bench.run::<LayerActivations>(&format!("{text}layers = ['a']")).is_err());
    }
    #[test]
    fn a_dataset_without_test_images_is_refused() {
        let encoder: Encoder = Bench::new().run::<EncoderRandom>("width = 1").unwrap().main();
        let empty = Images { count: 0, channels: 1, height: 8, width: 8, ..Images::default() };
        let train = Images { count: 1, pixels: vec![0.5; 64], labels: vec![0], ..empty.clone() };
        let data = Dataset { train, test: empty };
        let bench = Bench::new().put("encoder", &encoder).put("images", &data);
        let text = "encoder = '@encoder'\nimages = '@images'\n";
        let failure = Failure::from_error(bench.run::<LayerActivations>(text).unwrap_err());
        assert_eq!(failure.kind, FailureKind::Data);
        assert_eq!(failure.message, "there are no images to show to the encoder");
        assert!(failure.hint.is_some_and(|hint| hint.contains("`test_fraction`")));
    }
}
