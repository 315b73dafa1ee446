//! `task.translate`: tell base images apart wherever they are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::canvas;
use crate::artifacts::dataset::Dataset;
use crate::artifacts::images::{Images, ImagesOrDataset};
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::rng::Streams;

/// Makes the spatial-translation task: a few base images, each shifted at random, to be told apart.
///
/// Each base image is a class; where the images are labeled, no two are of the same label while labels last. A sample is its base image centered on a black square canvas
/// and shifted by whole pixels, uniformly up to the largest shift each way; what leaves the canvas is lost
/// (Ligeralde et al. 2023, section 2.2: 10 images of different classes, up to 16 of 32 pixels, 5000 and 1000 samples
/// of each). Unlike the paper's code, which draws the shifts anew at every access, the samples are drawn once.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskTranslate {
    /// Where base images are taken from; of a dataset, from the training part.
    images: Input<ImagesOrDataset>,
    /// Number of base images.
    #[serde(default = "ten")]
    #[schemars(range(min = 2))]
    bases: usize,
    /// Largest shift in pixels, each way and in both directions.
    #[serde(default = "half")]
    max_shift: usize,
    /// Side of the canvas in pixels.
    #[serde(default = "side")]
    #[schemars(range(min = 1, max = 4096))]
    size: usize,
    /// Samples of each base image to train on.
    #[serde(default = "five_thousand")]
    #[schemars(range(min = 1))]
    train: usize,
    /// Samples of each base image to test with.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1))]
    test: usize,
    /// Seed of the choice of base images and of the shifts.
    #[serde(default)]
    seed: Seed,
}

fn ten() -> usize {
    10
}
fn half() -> usize {
    16
}
fn side() -> usize {
    32
}
fn five_thousand() -> usize {
    5000
}
fn thousand() -> usize {
    1000
}

impl Stage for TaskTranslate {
    const KIND: &'static str = "task.translate";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;

    fn check(&self) -> Vec<Violation> {
        violations([
            ("bases", self.bases >= 2, "must be at least 2"),
            ("size", (1..=4096).contains(&self.size), "must be from 1 to 4096"),
            ("max_shift", self.max_shift <= self.size, "must be at most `size`"),
            ("train", self.train >= 1, "must be at least 1"),
            ("test", self.test >= 1, "must be at least 1"),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Dataset::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let images = match cx.load(&self.images)? {
            ImagesOrDataset::Images(images) => images,
            ImagesOrDataset::Dataset(dataset) => dataset.train,
        };
        let streams = self.seed.streams(Self::KIND);
        let bases = choose(&images, self.bases, &streams)?;
        let train = self.samples(&images, &bases, self.train, "train", &streams);
        let test = self.samples(&images, &bases, self.test, "test", &streams);
        cx.save(&Dataset { train, test })
    }
}

/// Chooses images at random, of labels as different as possible.
pub(super) fn choose(
    images: &Images,
    count: usize,
    streams: &Streams,
) -> anyhow::Result<Vec<usize>> {
    anyhow::ensure!(
        images.count >= count,
        Failure::data(format!("{count} base images are asked for, and there are {}", images.count))
    );
    let order = streams.stream("bases").permutation(images.count);
    // How often each label was taken before an image comes up: rounds over the labels.
    let mut taken = vec![0usize; images.labels.iter().max().map_or(0, |l| *l as usize + 1)];
    let mut ranked: Vec<(usize, usize)> = Vec::with_capacity(order.len());
    for &image in &order {
        let round = images.labels.get(image).map_or(0, |label| {
            taken[*label as usize] += 1;
            taken[*label as usize] - 1
        });
        ranked.push((round, image));
    }
    ranked.sort_by_key(|(round, _)| *round);
    Ok(ranked[..count].iter().map(|(_, image)| *image).collect())
}

impl TaskTranslate {
    fn samples(
        &self,
        images: &Images,
        bases: &[usize],
        each: usize,
        part: &str,
        streams: &Streams,
    ) -> Images {
        let reach = self.max_shift as i64;
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for (class, base) in bases.iter().enumerate() {
            let mut stream = streams.indexed(part, class as u64);
            let mut shift = || stream.below(2 * self.max_shift as u64 + 1) as i64 - reach;
            for _ in 0..each {
                let by = (shift(), shift());
                pixels.extend(canvas::place(images, *base, self.size, by));
                labels.push(class as u32);
            }
        }
        let (count, channels) = (labels.len(), images.channels);
        Images { count, channels, height: self.size, width: self.size, pixels, labels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::shared::bench::Bench;

    fn bench() -> Bench {
        // Single bright pixels of as many brightnesses as there are labels.
        let labels: Vec<u32> = (0..12).map(|i| i % 4).collect();
        let pixels = labels.iter().map(|l| 0.2 + 0.2 * *l as f32).collect();
        let images = Images { count: 12, channels: 1, height: 1, width: 1, pixels, labels };
        Bench::new().put("images", &images)
    }

    const TEXT: &str =
        "images = '@images'\nbases = 4\nsize = 9\nmax_shift = 2\ntrain = 200\ntest = 50\n";

    #[test]
    fn samples_are_shifted_base_images_of_different_labels() {
        let task: Dataset = bench().run::<TaskTranslate>(TEXT).unwrap().main();
        assert_eq!((task.train.count, task.test.count, task.classes()), (800, 200, 4));
        let mut seen = [0usize; 81];
        let mut brightness = [0.0f32; 4];
        for i in 0..task.train.count {
            let image = task.train.image(i);
            let lit: Vec<usize> = (0..81).filter(|&p| image[p] > 0.0).collect();
            let [at] = lit[..] else { panic!("one pixel of the base image: {lit:?}") };
            assert!(at / 9 >= 2 && at / 9 <= 6 && at % 9 >= 2 && at % 9 <= 6);
            seen[at] += 1;
            let class = task.train.labels[i] as usize;
            assert!(brightness[class] == 0.0 || brightness[class] == image[at]);
            brightness[class] = image[at];
        }
        brightness.sort_by(f32::total_cmp);
        assert!(brightness.windows(2).all(|w| w[0] < w[1]), "four labels: {brightness:?}");
        // 25 places are equally likely: 32 of 800 each, within five standard deviations.
        let counts: Vec<usize> = seen.into_iter().filter(|n| *n > 0).collect();
        assert!(counts.len() == 25 && counts.iter().all(|n| (4..60).contains(n)), "{counts:?}");
    }

    #[test]
    fn too_few_images_are_refused() {
        let error = bench().run::<TaskTranslate>(&TEXT.replace("bases = 4", "bases = 13"));
        assert!(error.unwrap_err().to_string().contains("13 base images are asked for"));
    }
}
