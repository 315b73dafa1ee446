//! Movies: frames over time.

use std::path::Path;

use serde_json::json;

use super::tensor::{Tensor, TensorFile};
use crate::engine::stage::{Artifact, Files};

/// Frames over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Movie {
    /// Number of frames.
    pub frames: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Columns of a frame.
    pub width: usize,
    /// Frames a second.
    pub rate: f64,
    /// Values, frame by frame and row by row.
    pub data: Vec<f32>,
}

const FILE: &str = "movie.safetensors";

impl Artifact for Movie {
    const TYPE: &'static str = "movie";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let shape = [self.frames, self.height, self.width];
        TensorFile::about(json!({ "rate_hz": self.rate }))
            .with("frames", Tensor::f32(&shape, self.data.clone()))
            .save(&folder.join(FILE))
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(FILE)?)?;
        let rate = file.about["rate_hz"].as_f64().unwrap_or(1.0);
        let ([frames, height, width], data) = file.take_f32("frames")?;
        Ok(Self { frames, height, width, rate, data })
    }
}
