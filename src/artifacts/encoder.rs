//! Encoders: a network's shape and its weights.

use std::path::Path;

use serde_json::Value as Json;

use super::tensor::TensorFile;
use crate::engine::stage::{Artifact, Files};

/// A network that turns images into features.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoder {
    /// Weights and running statistics by their torchvision names, and the network's shape beside them.
    pub file: TensorFile,
}

const FILE: &str = "encoder.safetensors";

impl Encoder {
    /// The network's shape.
    pub fn shape(&self) -> &Json {
        &self.file.about
    }
}

impl Artifact for Encoder {
    const TYPE: &'static str = "encoder";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        self.file.save(&folder.join(FILE))
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        Ok(Self { file: TensorFile::load(files.path(FILE)?)? })
    }
}
