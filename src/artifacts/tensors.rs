//! Named tensors: data for the loss-landscape stages, and what other programs make.

use std::path::Path;

use super::tensor::TensorFile;
use crate::engine::stage::{Artifact, Files};

/// Named tensors in one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensors(pub TensorFile);

/// The file's name inside the artifact.
pub const FILE: &str = "tensors.safetensors";

impl Artifact for Tensors {
    const TYPE: &'static str = "tensors";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        self.0.save(&folder.join(FILE))
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        Ok(Self(TensorFile::load(files.path(FILE)?)?))
    }
}
