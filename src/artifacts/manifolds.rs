//! Manifolds: groups of stimuli, each group one object under a variation.

use std::path::Path;

use super::images::Images;
use super::tensor::{TensorFile, TensorViews};
use crate::engine::stage::{Artifact, Files};

/// Stimuli in groups; the label of each is the number of its manifold, from 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifolds {
    /// The stimuli, one manifold after the other.
    pub stimuli: Images,
}

const FILE: &str = "manifolds.safetensors";

impl Artifact for Manifolds {
    const TYPE: &'static str = "manifolds";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        self.stimuli.put(TensorViews::default(), "").save(&folder.join(FILE))
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        Ok(Self { stimuli: Images::take(&mut TensorFile::load(files.path(FILE)?)?, "")? })
    }
}
