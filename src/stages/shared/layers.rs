//! The layers of activations, and the manifolds in them.

use crate::artifacts::activations::{Activations, Layer};
use crate::engine::failure::Failure;

/// Leaves the layers that are named; all of them where none are. Fails where there is no such layer, or no manifold.
pub fn choose(activations: &mut Activations, wanted: Option<&[String]>) -> anyhow::Result<()> {
    if let Some(wanted) = wanted {
        let layers = &mut activations.layers;
        let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
        if let Some(unknown) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
            let message = format!("the activations have no layer `{unknown}`");
            let hint = format!("they have {}", names.join(", "));
            anyhow::bail!(Failure::user(message).hint(hint));
        }
        layers.retain(|layer| wanted.contains(&layer.name));
    }
    anyhow::ensure!(
        !activations.labels.is_empty(),
        Failure::data("the stimuli have no labels, so there are no manifolds")
            .hint("show the encoder stimuli of `manifold.build`, or labeled images")
    );
    Ok(())
}

/// The rows of each manifold of a layer, in the order of their labels.
pub fn groups(layer: &Layer, labels: &[u32]) -> Vec<Vec<f32>> {
    let mut known: Vec<u32> = labels.to_vec();
    known.sort_unstable();
    known.dedup();
    let mut groups = vec![Vec::new(); known.len()];
    for (row, label) in labels.iter().enumerate() {
        let group = known.binary_search(label).expect("every label is known");
        groups[group].extend_from_slice(&layer.values[row * layer.features..][..layer.features]);
    }
    groups
}
