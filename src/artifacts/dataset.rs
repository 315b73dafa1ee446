//! Datasets: labeled images to train on and to test with.

use std::path::Path;

use super::images::Images;
use super::tensor::{TensorFile, TensorViews};
use crate::engine::stage::{Artifact, Files};

/// Labeled images in two parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// The images to train on.
    pub train: Images,
    /// The images to test with.
    pub test: Images,
}

impl Dataset {
    /// One more than the largest label.
    pub fn classes(&self) -> usize {
        let labels = self.train.labels.iter().chain(&self.test.labels);
        labels.max().map_or(0, |&largest| largest as usize + 1)
    }
}

const FILE: &str = "dataset.safetensors";

impl Artifact for Dataset {
    const TYPE: &'static str = "dataset";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let file = self.train.put(TensorViews::default(), "train_");
        self.test.put(file, "test_").save(&folder.join(FILE))
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(FILE)?)?;
        Ok(Self {
            train: Images::take(&mut file, "train_")?,
            test: Images::take(&mut file, "test_")?,
        })
    }
}
