//! Activations: what the layers of a network answer to stimuli.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Value as Json, json};

use super::tensor::{TensorFile, TensorView, TensorViews};
use crate::engine::stage::{Artifact, Files};

/// The answers of some layers to the same stimuli.
#[derive(Clone, Debug, PartialEq)]
pub struct Activations {
    /// Number of stimuli.
    pub count: usize,
    /// The label of each stimulus (its manifold or class); empty where there are none.
    pub labels: Vec<u32>,
    /// The layers, from the input on.
    pub layers: Vec<Layer>,
}

/// The answers of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its name, such as `layer2.1`.
    pub name: String,
    /// Units.
    pub features: usize,
    /// Answers, stimulus by stimulus.
    pub values: Vec<f32>,
}

/// A layer by its name and size, wherever its answers are.
pub trait Named {
    /// Its name, such as `layer2.1`.
    fn name(&self) -> &str;
    /// Units.
    fn features(&self) -> usize;
}

impl Named for Layer {
    fn name(&self) -> &str {
        &self.name
    }

    fn features(&self) -> usize {
        self.features
    }
}

pub(super) const FILE: &str = "activations.safetensors";
pub(super) const LABELS: &str = "labels";

impl Activations {
    /// The names of the layers in what a file says about them.
    pub(super) fn names(about: &Json) -> anyhow::Result<Vec<String>> {
        serde_json::from_value(about["layers"].clone()).context("activations name their layers")
    }
}

impl Artifact for Activations {
    const TYPE: &'static str = "activations";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let names: Vec<&str> = self.layers.iter().map(|l| l.name.as_str()).collect();
        let mut file = TensorViews::about(json!({ "layers": names }))
            .with(LABELS, TensorView::u32(&self.labels));
        for layer in &self.layers {
            let values = TensorView::f32(&[self.count, layer.features], &layer.values);
            file = file.with(&layer.name, values);
        }
        file.save(&folder.join(FILE))
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(FILE)?)?;
        let names = Self::names(&file.about)?;
        let labels = file.take_u32(LABELS)?;
        let mut layers = Vec::new();
        let mut count = None;
        for name in names {
            let ([rows, features], values) = file.take_f32(&name)?;
            ensure!(*count.get_or_insert(rows) == rows, "layer `{name}` has other stimuli");
            layers.push(Layer { name, features, values });
        }
        Ok(Self { count: count.unwrap_or(0), labels, layers })
    }
}
