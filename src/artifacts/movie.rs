//! Movies: frames over time.

use std::path::Path;

use anyhow::Context as _;
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
    /// Frames a second, above 0.
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
        let rate = file.about["rate_hz"].as_f64().filter(|rate| *rate > 0.0);
        let rate =
            rate.context("a movie says in `rate_hz`, above 0, how many frames a second has")?;
        let ([frames, height, width], data) = file.take_f32("frames")?;
        Ok(Self { frames, height, width, rate, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_movie_without_a_rate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let files = Files([(FILE.to_owned(), path.clone())].into());
        let load = |about: serde_json::Value| {
            let tensor = Tensor::f32(&[1, 1, 2], vec![0.5, 1.0]);
            TensorFile::about(about).with("frames", tensor).save(&path).unwrap();
            Movie::load(&files)
        };
        assert_eq!(load(json!({ "rate_hz": 12.5 })).unwrap().rate, 12.5);
        for about in [json!({}), json!({ "rate_hz": 0.0 }), json!({ "rate_hz": "fast" })] {
            assert!(load(about).unwrap_err().to_string().contains("`rate_hz`"));
        }
    }
}
