//! Trajectories: the path of a network's parameters in training.

use std::path::Path;

use serde_json::Value as Json;

use super::tensor::{TensorFile, TensorView, TensorViews};
use crate::engine::stage::{Artifact, Files};

/// Parameters along training.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// The loss: network, cost and the hash of its data, as the loss-landscape stages write it.
    pub problem: Json,
    /// Number of parameters.
    pub dimension: usize,
    /// The step that each kept point belongs to.
    pub steps: Vec<u32>,
    /// The loss at each kept point.
    pub losses: Vec<f64>,
    /// The parameters at each kept point, point by point.
    pub thetas: Vec<f64>,
}

const FILE: &str = "trajectory.safetensors";

impl Artifact for Trajectory {
    const TYPE: &'static str = "trajectory";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let count = self.losses.len();
        TensorViews::about(self.problem.clone())
            .with("step", TensorView::u32(&self.steps))
            .with("loss", TensorView::f64(&[count], &self.losses))
            .with("theta", TensorView::f64(&[count, self.dimension], &self.thetas))
            .save(&folder.join(FILE))
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(FILE)?)?;
        let ([_, dimension], thetas) = file.take_f64("theta")?;
        let (_, losses) = file.take_f64::<1>("loss")?;
        let steps = file.take_u32("step")?;
        Ok(Self { problem: file.about, dimension, steps, losses, thetas })
    }
}
