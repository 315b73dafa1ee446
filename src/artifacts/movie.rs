//! Movies: frames over time.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value as Json, json};

use super::tensor::{TensorFile, TensorView, TensorViews};
use crate::engine::stage::{Artifact, Files};

/// Frames over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Movie {
    /// Number of frames.
    pub frames: usize,
    /// Channels of a frame: 1 but for movies that repeat it for a network.
    pub channels: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Columns of a frame.
    pub width: usize,
    /// Frames a second, above 0.
    pub rate: f64,
    /// Distance between neighboring pixels in mm, above 0, if it is known.
    pub pitch: Option<f64>,
    /// Values, frame by frame, channel by channel and row by row.
    pub data: Vec<f32>,
}

/// The file's name inside the artifact.
pub(super) const FILE: &str = "movie.safetensors";
/// The name of the one tensor in it.
pub(super) const FRAMES: &str = "frames";

/// What a movie's file says beside its values.
pub(super) struct Header {
    /// Frames a second.
    pub(super) rate: f64,
    /// Distance between neighboring pixels in mm, if it is known.
    pub(super) pitch: Option<f64>,
}

impl Header {
    /// Reads what a file says; fails without a rate, and where a number is not above 0.
    pub(super) fn of(about: &Json) -> anyhow::Result<Self> {
        let positive = |value: &Json| value.as_f64().filter(|value| *value > 0.0);
        let rate = positive(&about["rate_hz"])
            .context("a movie says in `rate_hz`, above 0, how many frames a second has")?;
        let pitch = match &about["pitch_mm"] {
            Json::Null => None,
            value => Some(positive(value).context("`pitch_mm` of a movie is a number above 0")?),
        };
        Ok(Self { rate, pitch })
    }
}

impl Artifact for Movie {
    const TYPE: &'static str = "movie";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let shape = [self.frames, self.channels, self.height, self.width];
        let mut about = json!({ "rate_hz": self.rate });
        if let Some(pitch) = self.pitch {
            about["pitch_mm"] = json!(pitch);
        }
        let frames = TensorView::f32(&shape, &self.data);
        TensorViews::about(about).with(FRAMES, frames).save(&folder.join(FILE))
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(FILE)?)?;
        let Header { rate, pitch } = Header::of(&file.about)?;
        let ([frames, channels, height, width], data) = file.take_f32(FRAMES)?;
        Ok(Self { frames, channels, height, width, rate, pitch, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::tensor::Tensor;

    #[test]
    fn a_movie_without_a_rate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let files = Files([(FILE.to_owned(), path.clone())].into());
        let load = |about: serde_json::Value| {
            let tensor = Tensor::f32(&[1, 1, 1, 2], vec![0.5, 1.0]);
            TensorFile::about(about).with("frames", tensor).save(&path).unwrap();
            Movie::load(&files)
        };
        assert_eq!(load(json!({ "rate_hz": 12.5 })).unwrap().rate, 12.5);
        let close = json!({ "rate_hz": 1, "pitch_mm": 0.042 });
        assert_eq!(load(close).unwrap().pitch, Some(0.042));
        let refused = json!({ "rate_hz": 1, "pitch_mm": 0 });
        assert!(load(refused).unwrap_err().to_string().contains("`pitch_mm`"));
        for about in [json!({}), json!({ "rate_hz": 0.0 }), json!({ "rate_hz": "fast" })] {
            assert!(load(about).unwrap_err().to_string().contains("`rate_hz`"));
        }
    }
}
