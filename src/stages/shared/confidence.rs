//! How sure a linear classifier is of the labels of stimuli.

use crate::artifacts::activations::Activations;
use crate::artifacts::tensors::Tensors;
use crate::engine::failure::Failure;

/// Returns the softmax probability of each stimulus's own label, from one layer's answers.
pub fn of_labels(
    activations: &Activations,
    layer: &str,
    classifier: Tensors,
) -> anyhow::Result<Vec<f64>> {
    let names: Vec<&str> = activations.layers.iter().map(|layer| layer.name.as_str()).collect();
    let read = activations.layers.iter().find(|read| read.name == layer).ok_or_else(|| {
        Failure::user(format!("the activations have no layer `{layer}`"))
            .hint(format!("they have {}; name the layer that the probe reads", names.join(", ")))
    })?;
    let Tensors(mut file) = classifier;
    let ([classes, features], weights) = file.take_f32("weight")?;
    let ([biases], bias) = file.take_f32("bias")?;
    anyhow::ensure!(
        biases == classes && features == read.features,
        Failure::data(format!(
            "the classifier takes {features} features, and layer `{layer}` has {}",
            read.features
        ))
        .hint("give the activations of the encoder and of the layer that the probe was trained on")
    );
    let row = |i: usize| &read.values[i * features..(i + 1) * features];
    let confidence = |(i, label): (usize, &u32)| -> anyhow::Result<f64> {
        let label = *label as usize;
        anyhow::ensure!(
            label < classes,
            Failure::data(format!(
                "a stimulus has label {label}, and the classifier knows {classes}"
            ))
            .hint("give a probe that was trained on these classes")
        );
        let logit = |class: usize| -> f64 {
            let weights = &weights[class * features..(class + 1) * features];
            let products = weights.iter().zip(row(i)).map(|(w, x)| f64::from(*w) * f64::from(*x));
            products.sum::<f64>() + f64::from(bias[class])
        };
        let logits: Vec<f64> = (0..classes).map(logit).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().map(|logit| libm::exp(logit - largest)).sum();
        Ok(libm::exp(logits[label] - largest) / total)
    };
    activations.labels.iter().enumerate().map(confidence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::activations::Layer;
    use crate::artifacts::tensor::{Tensor, TensorFile};

    #[test]
    fn confidence_is_the_softmax_of_the_label() {
        let layer = Layer { name: "pooled".into(), features: 2, values: vec![1.0, 0.0, 0.0, 2.0] };
        let activations = Activations { count: 2, labels: vec![0, 0], layers: vec![layer] };
        let classifier = || {
            let file = TensorFile::default()
                .with("weight", Tensor::f32(&[2, 2], vec![1.0, 0.0, 0.0, 1.0]))
                .with("bias", Tensor::f32(&[2], vec![0.0, 1.0]));
            Tensors(file)
        };
        let found = of_labels(&activations, "pooled", classifier()).unwrap();
        // Logits (1, 1) and (0, 3).
        let expected = [0.5, 1.0 / (1.0 + 3f64.exp())];
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12), "{found:?}");
        let error = of_labels(&activations, "stem", classifier()).unwrap_err().to_string();
        assert!(error.contains("no layer `stem`"), "{error}");
        let other = Activations { labels: vec![0, 2], ..activations };
        let error = of_labels(&other, "pooled", classifier()).unwrap_err().to_string();
        assert!(error.contains("has label 2"), "{error}");
    }
}
