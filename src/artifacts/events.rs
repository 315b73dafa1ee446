//! Events: stretches of a movie.

use std::path::Path;

use anyhow::ensure;

use super::tensor::{TensorFile, TensorView, TensorViews};
use crate::engine::stage::{Artifact, Files};

/// Stretches of a movie, in order and apart from each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// First frame of each event.
    pub starts: Vec<u32>,
    /// The frame after the last of each event.
    pub ends: Vec<u32>,
}

const FILE: &str = "events.safetensors";

impl Artifact for Events {
    const TYPE: &'static str = "events";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        TensorViews::default()
            .with("start", TensorView::u32(&self.starts))
            .with("end", TensorView::u32(&self.ends))
            .save(&folder.join(FILE))
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(FILE)?)?;
        let (starts, ends) = (file.take_u32("start")?, file.take_u32("end")?);
        ensure!(starts.len() == ends.len(), "events have as many starts as ends");
        Ok(Self { starts, ends })
    }
}
