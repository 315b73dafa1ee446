//! `data.downsample`: images made small enough for exact Hessians.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifacts::images::{Images, ImagesOrDataset};
use crate::artifacts::tensor::{Tensor, TensorFile};
use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};

/// Crops images, averages them to a few pixels, and brings each pixel to mean 0 and variance 1.
///
/// After the image experiments of Frye et al. 2021 (Neural Computation 33): digits cropped to 20 x 20, rescaled to
/// 4 x 4 and z-scored. Means of blocks stand in for the paper's rescaling, which PyTorch did by an interpolation that
/// is not published, so that pixels are alike and not equal. Yields tensors `inputs` (images x pixels, F64) and, for
/// labeled images, `labels`.
///
/// Source: Frye et al. 2021, Neural Computation 33.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataDownsample {
    /// The images; of a dataset, the training part.
    images: Input<ImagesOrDataset>,
    /// Side of the central square that is kept, in pixels; a multiple of `size`, at most the images' sides.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1))]
    #[schemars(extend("x-unit" = "pixels"))]
    crop: usize,
    /// Side of the result in pixels; each is the mean of a block.
    #[serde(default = "four")]
    #[schemars(range(min = 1))]
    #[schemars(extend("x-unit" = "pixels"))]
    size: usize,
    /// Whether each pixel is brought to mean 0 and variance 1 over the images.
    #[serde(default = "yes")]
    standardize: bool,
    /// At most this many images, from the first, at least 2; all where absent. Published: 10000.
    #[serde(default)]
    #[schemars(range(min = 2))]
    limit: Option<usize>,
}

fn twenty() -> usize {
    20
}
fn four() -> usize {
    4
}
fn yes() -> bool {
    true
}

impl Stage for DataDownsample {
    const KIND: &'static str = "data.downsample";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const SMALL: bool = true;
    const EXAMPLE: &'static str = r#"
        [stages.pixels]
        kind = "data.downsample"
        images = "@digits"
    "#;

    fn check(&self) -> Vec<Violation> {
        let fits = self.size > 0 && self.crop > 0 && self.crop.is_multiple_of(self.size);
        violations([
            ("size", self.size > 0, "must be at least 1"),
            ("crop", fits, "must be a multiple of `size`, at least 1"),
            ("limit", self.limit.is_none_or(|n| n > 1), "must be at least 2"),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Tensors::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let images = match cx.load(&self.images)? {
            ImagesOrDataset::Images(images) => images,
            ImagesOrDataset::Dataset(dataset) => dataset.train,
        };
        let (least, count) = (images.height.min(images.width), images.count);
        anyhow::ensure!(
            self.crop <= least,
            Failure::data(format!(
                "`crop` is {}, but the images are {} x {}",
                self.crop, images.height, images.width
            ))
        );
        let kept = self.limit.unwrap_or(count).min(count);
        let features = images.channels * self.size * self.size;
        let mut inputs: Vec<f64> = (0..kept).flat_map(|i| self.blocks(&images, i)).collect();
        if self.standardize {
            standardize(&mut inputs, features)?;
        }
        let mut file = TensorFile::default().with("inputs", Tensor::f64(&[kept, features], inputs));
        if !images.labels.is_empty() {
            file = file.with("labels", Tensor::u32(images.labels[..kept].to_vec()));
        }
        cx.save(&Tensors(file))
    }
}

impl DataDownsample {
    /// The means of the blocks of one image's central square.
    fn blocks(&self, images: &Images, index: usize) -> Vec<f64> {
        let image = images.image(index);
        let block = self.crop / self.size;
        let (top, left) = ((images.height - self.crop) / 2, (images.width - self.crop) / 2);
        let mut means = Vec::with_capacity(images.channels * self.size * self.size);
        for channel in 0..images.channels {
            for row in 0..self.size {
                for column in 0..self.size {
                    let mut sum = 0.0;
                    for y in 0..block {
                        for x in 0..block {
                            let (y, x) = (top + row * block + y, left + column * block + x);
                            sum +=
                                f64::from(image[(channel * images.height + y) * images.width + x]);
                        }
                    }
                    means.push(sum / (block * block) as f64);
                }
            }
        }
        means
    }
}

/// Brings every column to mean 0 and variance 1 (divided by the number of samples).
fn standardize(inputs: &mut [f64], features: usize) -> anyhow::Result<()> {
    let count = (inputs.len() / features.max(1)) as f64;
    for feature in 0..features {
        let column = || (feature..inputs.len()).step_by(features);
        let mean = column().map(|i| inputs[i]).sum::<f64>() / count;
        let variance = column().map(|i| (inputs[i] - mean).powi(2)).sum::<f64>() / count;
        anyhow::ensure!(
            variance > 0.0,
            Failure::data(format!(
                "pixel {feature} is the same in every image, so it cannot be standardized"
            ))
            .hint("set `standardize = false`, or a smaller `crop`")
        );
        let scale = variance.sqrt();
        for i in (feature..inputs.len()).step_by(features) {
            inputs[i] = (inputs[i] - mean) / scale;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::shared::bench::Bench;

    fn bench(value: impl Fn(usize, usize) -> f32) -> Bench {
        let pixels = (0..4).flat_map(|n| (0..36).map(move |p| (n, p))).map(|(n, p)| value(n, p));
        let images = Images {
            count: 4,
            channels: 1,
            height: 6,
            width: 6,
            pixels: pixels.collect(),
            labels: vec![0, 1, 0, 1],
        };
        Bench::new().put("images", &images)
    }

    #[test]
    fn blocks_of_the_center_are_averaged() {
        let bench = bench(|n, p| (n * 36 + p) as f32);
        let text = "images = '@images'\ncrop = 4\nsize = 2\nstandardize = false\nlimit = 3";
        let Tensors(mut file) = bench.run::<DataDownsample>(text).unwrap().main();
        let (shape, inputs) = file.take_f64::<2>("inputs").unwrap();
        assert_eq!(shape, [3, 4]);
        // The block of rows 1 and 2, columns 1 and 2 of a 6 x 6 image holds 7, 8, 13 and 14.
        assert_eq!(inputs[..4], [10.5, 12.5, 22.5, 24.5]);
        assert_eq!(file.take_u32("labels").unwrap(), [0, 1, 0]);
    }

    #[test]
    fn columns_are_standardized_and_constant_ones_refused() {
        let text = "images = '@images'\ncrop = 4\nsize = 2";
        let Tensors(mut file) =
            bench(|n, p| ((n * 7 + p * 3) % 5) as f32).run::<DataDownsample>(text).unwrap().main();
        let (_, inputs) = file.take_f64::<2>("inputs").unwrap();
        for feature in 0..4 {
            let column: Vec<f64> = (0..4).map(|n| inputs[n * 4 + feature]).collect();
            let (sum, squares) =
                (column.iter().sum::<f64>(), column.iter().map(|v| v * v).sum::<f64>());
            assert!(sum.abs() < 1e-14 && (squares - 4.0).abs() < 1e-13, "{column:?}");
        }
        let error = bench(|_, _| 1.0).run::<DataDownsample>(text).unwrap_err().to_string();
        assert!(error.contains("the same in every image"), "{error}");
    }
}
