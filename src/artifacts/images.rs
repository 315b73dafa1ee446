//! Images, labeled or not.

use std::path::Path;

use anyhow::ensure;

use super::dataset::Dataset;
use super::manifolds::Manifolds;
use super::movie::Movie;
use super::tensor::{TensorFile, TensorView, TensorViews};
use crate::engine::stage::{Artifact, Files, Source};

/// Images of one size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Images {
    /// How many.
    pub count: usize,
    /// Channels of each: 1 is gray, 3 is red, green and blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values, image by image, channel by channel, row by row; as a rule in [0, 1].
    pub pixels: Vec<f32>,
    /// A label for each image; empty where there are none.
    pub labels: Vec<u32>,
}

impl Images {
    /// Values of one image.
    pub fn size(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The values of image `i`.
    pub fn image(&self, i: usize) -> &[f32] {
        &self.pixels[i * self.size()..(i + 1) * self.size()]
    }

    /// The images at some places, in that order.
    #[must_use]
    pub fn select(&self, places: &[usize]) -> Self {
        let labels = if self.labels.is_empty() {
            Vec::new()
        } else {
            places.iter().map(|&i| self.labels[i]).collect()
        };
        let pixels = places.iter().flat_map(|&i| self.image(i)).copied().collect();
        Self { count: places.len(), pixels, labels, ..*self }
    }

    /// Puts the images into a file under a prefix.
    pub fn put<'a>(&'a self, file: TensorViews<'a>, prefix: &str) -> TensorViews<'a> {
        let shape = [self.count, self.channels, self.height, self.width];
        file.with(&format!("{prefix}images"), TensorView::f32(&shape, &self.pixels))
            .with(&format!("{prefix}labels"), TensorView::u32(&self.labels))
    }

    /// Takes the images under a prefix out of a file.
    pub fn take(file: &mut TensorFile, prefix: &str) -> anyhow::Result<Self> {
        let ([count, channels, height, width], pixels) =
            file.take_f32(&format!("{prefix}images"))?;
        let labels = file.take_u32(&format!("{prefix}labels"))?;
        ensure!(labels.is_empty() || labels.len() == count, "every image has a label, or none");
        Ok(Self { count, channels, height, width, pixels, labels })
    }
}

const FILE: &str = "images.safetensors";

impl Artifact for Images {
    const TYPE: &'static str = "images";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        self.put(TensorViews::default(), "").save(&folder.join(FILE))
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        Self::take(&mut TensorFile::load(files.path(FILE)?)?, "")
    }
}

/// Anything that holds images: plain ones, the test part of a dataset, manifolds, the frames of a movie.
#[derive(Clone, Debug)]
pub struct AnyImages(pub Images);

impl Source for AnyImages {
    const ACCEPTS: &'static [&'static str] =
        &[Images::TYPE, Dataset::TYPE, Manifolds::TYPE, Movie::TYPE];
    fn read(kind: &str, files: &Files) -> anyhow::Result<Self> {
        Ok(Self(match kind {
            Dataset::TYPE => Dataset::load(files)?.test,
            Manifolds::TYPE => Manifolds::load(files)?.stimuli,
            Movie::TYPE => {
                let movie = Movie::load(files)?;
                Images {
                    count: movie.frames,
                    channels: movie.channels,
                    height: movie.height,
                    width: movie.width,
                    pixels: movie.data,
                    labels: Vec::new(),
                }
            }
            _ => Images::load(files)?,
        }))
    }
}

/// Images to make something of: plain ones, or both parts of a dataset.
#[derive(Clone, Debug)]
pub enum ImagesOrDataset {
    /// Plain images.
    Images(Images),
    /// Images to train on and to test with.
    Dataset(Dataset),
}

impl Source for ImagesOrDataset {
    const ACCEPTS: &'static [&'static str] = &[Images::TYPE, Dataset::TYPE];
    fn read(kind: &str, files: &Files) -> anyhow::Result<Self> {
        Ok(match kind {
            Dataset::TYPE => Self::Dataset(Dataset::load(files)?),
            _ => Self::Images(Images::load(files)?),
        })
    }
}
