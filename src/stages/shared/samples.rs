//! Samples from wherever they come: tensors, images, or what the layers of an encoder answer.

use super::problem::Samples;
use crate::artifacts::activations::Activations;
use crate::artifacts::dataset::Dataset;
use crate::artifacts::images::Images;
use crate::artifacts::tensor::{Tensor, TensorFile};
use crate::artifacts::tensors::Tensors;
use crate::engine::failure::Failure;
use crate::engine::stage::{Artifact, Files, Source};

/// Samples, or layers to choose them from.
#[derive(Clone, Debug)]
pub enum AnySamples {
    /// Those of tensors `inputs` and `labels`, of images, or of the training part of a dataset.
    Samples(Samples),
    /// The answers of an encoder's layers, each to the same stimuli.
    Layers(Activations),
}

impl Source for AnySamples {
    const ACCEPTS: &'static [&'static str] =
        &[Tensors::TYPE, Images::TYPE, Dataset::TYPE, Activations::TYPE];
    fn read(kind: &str, files: &Files) -> anyhow::Result<Self> {
        Ok(match kind {
            Activations::TYPE => Self::Layers(Activations::load(files)?),
            Images::TYPE => Self::Samples(of_images(Images::load(files)?)),
            Dataset::TYPE => Self::Samples(of_images(Dataset::load(files)?.train)),
            _ => Self::Samples(Samples::of(Tensors::load(files)?)?),
        })
    }
}

fn of_images(images: Images) -> Samples {
    let features = images.size();
    let inputs = images.pixels.into_iter().map(f64::from).collect();
    Samples { features, inputs, labels: images.labels }
}

impl AnySamples {
    /// The samples, of activations those of a layer, which need not be named where there is only one.
    pub fn choose(self, layer: Option<&str>) -> anyhow::Result<Samples> {
        let activations = match (self, layer) {
            (Self::Samples(samples), None) => return Ok(samples),
            (Self::Samples(_), Some(_)) => anyhow::bail!(
                Failure::user(
                    "`layer` chooses among activations, and these samples have no layers"
                )
                .hint("leave `layer` out")
            ),
            (Self::Layers(activations), _) => activations,
        };
        let Activations { labels, mut layers, .. } = activations;
        let names: Vec<String> = layers.iter().map(|layer| format!("`{}`", layer.name)).collect();
        let place = match layer {
            Some(wanted) => layers.iter().position(|layer| layer.name == wanted),
            None => (layers.len() == 1).then_some(0),
        };
        let Some(place) = place else {
            let message = match layer {
                Some(wanted) => format!("the activations have no layer `{wanted}`"),
                None => format!("the activations have {} layers", layers.len()),
            };
            let hint = format!("give `layer` one of {}", names.join(", "));
            anyhow::bail!(Failure::user(message).hint(hint));
        };
        let layer = layers.swap_remove(place);
        let inputs = layer.values.into_iter().map(f64::from).collect();
        Ok(Samples { features: layer.features, inputs, labels })
    }
}

impl Samples {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.inputs.len() / self.features.max(1)
    }

    /// The samples as tensors `inputs` and, where there are any, `labels`.
    pub fn to_file(&self) -> TensorFile {
        let shape = [self.count(), self.features];
        let file = TensorFile::default().with("inputs", Tensor::f64(&shape, self.inputs.clone()));
        if self.labels.is_empty() {
            file
        } else {
            file.with("labels", Tensor::u32(self.labels.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::activations::Layer;

    #[test]
    fn layers_are_chosen_by_name_or_where_there_is_one() {
        let layer = |name: &str, values: Vec<f32>| Layer {
            name: name.to_owned(),
            features: values.len() / 2,
            values,
        };
        let two = vec![layer("stem", vec![1.0, 2.0]), layer("pooled", vec![0.5, 1.0, 2.0, 4.0])];
        let activations = |layers: &[Layer]| {
            AnySamples::Layers(Activations {
                count: 2,
                labels: vec![3, 4],
                layers: layers.to_vec(),
            })
        };
        let samples = activations(&two).choose(Some("pooled")).unwrap();
        assert_eq!((samples.features, samples.count()), (2, 2));
        assert_eq!((samples.inputs, samples.labels), (vec![0.5, 1.0, 2.0, 4.0], vec![3, 4]));
        assert_eq!(activations(&two[..1]).choose(None).unwrap().inputs, [1.0, 2.0]);
        for (name, expected) in [(Some("layer4"), "no layer `layer4`"), (None, "have 2 layers")] {
            let error = Failure::from_error(activations(&two).choose(name).unwrap_err());
            assert!(error.message.contains(expected), "{error}");
            assert_eq!(error.hint.as_deref(), Some("give `layer` one of `stem`, `pooled`"));
        }
        let samples = Samples { features: 1, inputs: vec![1.0], labels: Vec::new() };
        let error = AnySamples::Samples(samples).choose(Some("stem")).unwrap_err().to_string();
        assert!(error.contains("have no layers"), "{error}");
    }
}
