//! Points: places in the parameter space of a loss.

use std::path::Path;

use serde_json::Value as Json;

use super::tensor::{TensorFile, TensorView, TensorViews};
use crate::engine::stage::{Artifact, Files};

/// Places in the parameter space of one loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Points {
    /// The loss: network, cost and the hash of its data, as the loss-landscape stages write it.
    pub problem: Json,
    /// Number of parameters.
    pub dimension: usize,
    /// The parameters, point by point.
    pub thetas: Vec<f64>,
}

const FILE: &str = "points.safetensors";

impl Points {
    /// How many points there are.
    pub fn count(&self) -> usize {
        self.thetas.len() / self.dimension.max(1)
    }

    /// The parameters of each point.
    pub fn each(&self) -> std::slice::ChunksExact<'_, f64> {
        self.thetas.chunks_exact(self.dimension.max(1))
    }
}

impl Artifact for Points {
    const TYPE: &'static str = "points";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        TensorViews::about(self.problem.clone())
            .with("theta", TensorView::f64(&[self.count(), self.dimension], &self.thetas))
            .save(&folder.join(FILE))
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(FILE)?)?;
        let ([_, dimension], thetas) = file.take_f64("theta")?;
        Ok(Self { problem: file.about, dimension, thetas })
    }
}
