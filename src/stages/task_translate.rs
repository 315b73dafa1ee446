//! `task.translate`: tell base images apart wherever they are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::canvas;
use crate::artifacts::dataset::Dataset;
use crate::artifacts::images::{Images, ImagesOrDataset};
use crate::engine::context::Context;
use crate::engine::failure::{Failure, FailureKind};
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::rng::{Stream, Streams};

/// Makes the spatial-translation task: a few base images, each shifted at random, to be told apart.
///
/// Each base image is a class; where the images are labeled, no two are of the same label while labels last. A sample is
/// its base image centered on a black square canvas and shifted by whole pixels, uniformly up to the largest shift each
/// way; what leaves the canvas is lost (Ligeralde et al. 2023, section 2.2: 10 images of different classes, up to 16 of
/// 32 pixels, 5000 and 1000 samples of each). Unlike the paper's code, which draws the shifts anew at every access, the
/// samples are drawn once.
///
/// As in the paper, both parts show the same base images and draw their shifts alike, so that many a test sample is in
/// the training part too: the task asks what a representation keeps under translation, not whether it generalizes. The
/// metric `test_seen_in_training` is the share of test samples whose shift was drawn for the same base image in training.
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208, section 2.2.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskTranslate {
    /// Where base images are taken from; of a dataset, from the training part.
    images: Input<ImagesOrDataset>,
    /// Number of base images, at least 2.
    #[serde(default = "ten")]
    #[schemars(range(min = 2))]
    bases: usize,
    /// Largest shift in pixels, each way and in both directions; at most `size`.
    #[serde(default = "half")]
    #[schemars(extend("x-unit" = "pixels"))]
    max_shift: usize,
    /// Side of the canvas in pixels.
    #[serde(default = "side")]
    #[schemars(range(min = 1, max = 4096))]
    #[schemars(extend("x-unit" = "pixels"))]
    size: usize,
    /// Samples of each base image to train on.
    #[serde(default = "five_thousand")]
    #[schemars(range(min = 1, max = 10_000_000))]
    train: usize,
    /// Samples of each base image to test with.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 10_000_000))]
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

/// Samples of a base image at most.
const MOST: usize = 10_000_000;

/// A shift in pixels: down, right.
type Shift = (i64, i64);

impl Stage for TaskTranslate {
    const KIND: &'static str = "task.translate";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.translation]
        kind = "task.translate"
        images = "@digits"
    "#;

    fn check(&self) -> Vec<Violation> {
        violations([
            ("bases", self.bases >= 2, "must be at least 2"),
            ("size", (1..=4096).contains(&self.size), "must be from 1 to 4096"),
            ("max_shift", self.max_shift <= self.size, "must be at most `size`"),
            ("train", (1..=MOST).contains(&self.train), "must be from 1 to 10000000"),
            ("test", (1..=MOST).contains(&self.test), "must be from 1 to 10000000"),
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
        let shifts = |part: &str, each: usize| -> Vec<Vec<Shift>> {
            let of_class = |class| self.shifts(each, &mut streams.indexed(part, class as u64));
            (0..self.bases).map(of_class).collect()
        };
        let (train, test) = (shifts("train", self.train), shifts("test", self.test));
        cx.metric("test_seen_in_training", seen(&train, &test))?;
        let all = (self.train + self.test) as f64;
        let train = self.samples(cx, &images, &bases, &train, 0.0..self.train as f64 / all)?;
        let test = self.samples(cx, &images, &bases, &test, self.train as f64 / all..1.0)?;
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
            .hint("ask for fewer, or give the stage more images")
    );
    let order = streams.stream("bases").permutation(images.count);
    // How often each label was taken before an image comes up: rounds over the labels.
    let mut taken: BTreeMap<u32, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, usize)> = Vec::with_capacity(order.len());
    for &image in &order {
        let round = images.labels.get(image).map_or(0, |label| {
            let taken = taken.entry(*label).or_default();
            *taken += 1;
            *taken - 1
        });
        ranked.push((round, image));
    }
    ranked.sort_by_key(|(round, _)| *round);
    Ok(ranked[..count].iter().map(|(_, image)| *image).collect())
}

impl TaskTranslate {
    fn shifts(&self, each: usize, stream: &mut Stream) -> Vec<Shift> {
        let reach = self.max_shift as i64;
        let mut shift = || stream.below(2 * self.max_shift as u64 + 1) as i64 - reach;
        (0..each).map(|_| (shift(), shift())).collect()
    }

    /// Draws the samples of one part, class by class.
    fn samples(
        &self,
        cx: &Context<'_>,
        images: &Images,
        bases: &[usize],
        shifts: &[Vec<Shift>],
        progress: Range<f64>,
    ) -> anyhow::Result<Images> {
        let area = images.channels * self.size * self.size;
        let count: usize = shifts.iter().map(Vec::len).sum();
        let mut pixels: Vec<f32> = Vec::new();
        let fits = count.checked_mul(area).is_some_and(|n| pixels.try_reserve_exact(n).is_ok());
        if !fits {
            let what = format!("no memory for {count} samples of {0} x {0} pixels", self.size);
            let failure = Failure::new(FailureKind::Resource, what);
            return Err(failure.hint("lower `train`, `test` or `size`").into());
        }
        pixels.resize(count * area, 0.0);
        let samples =
            bases.iter().zip(shifts).flat_map(|(base, by)| by.iter().map(move |by| (*base, *by)));
        for (i, ((base, by), canvas)) in samples.zip(pixels.chunks_exact_mut(area)).enumerate() {
            canvas::draw(images, base, self.size, by, canvas);
            if i.is_multiple_of(256) {
                let done = i as f64 / count as f64;
                let fraction = progress.start + done * (progress.end - progress.start);
                cx.progress(fraction, || format!("{i} samples"));
                cx.check_cancelled()?;
            }
        }
        let labels = (0..).zip(shifts).flat_map(|(class, by)| by.iter().map(move |_| class));
        let labels: Vec<u32> = labels.collect();
        let channels = images.channels;
        Ok(Images { count, channels, height: self.size, width: self.size, pixels, labels })
    }
}

/// Computes the share of test shifts that training holds of the same base image.
fn seen(train: &[Vec<Shift>], test: &[Vec<Shift>]) -> f64 {
    let (mut seen, mut all) = (0, 0);
    for (train, test) in train.iter().zip(test) {
        let known: BTreeSet<&Shift> = train.iter().collect();
        seen += test.iter().filter(|shift| known.contains(shift)).count();
        all += test.len();
    }
    f64::from(seen as u32) / all as f64
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
        let results = bench().run::<TaskTranslate>(TEXT).unwrap();
        // 200 draws leave out one of the 25 shifts with probability 3e-4.
        assert_eq!(results.metrics["test_seen_in_training"], 1.0);
        let task: Dataset = results.main();
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
    fn the_share_of_test_samples_seen_in_training_is_counted() {
        let train = [vec![(0, 1), (2, 2)], vec![(1, 0)]];
        let test = [vec![(2, 2), (1, 0)], vec![(0, 0), (1, 0)]];
        assert_eq!(seen(&train, &test), 0.5);
    }

    #[test]
    fn samples_beyond_memory_are_refused() {
        let text =
            TEXT.replace("size = 9", "size = 4096").replace("train = 200", "train = 1000000");
        let failure = Failure::from_error(bench().run::<TaskTranslate>(&text).unwrap_err());
        assert_eq!(failure.kind, FailureKind::Resource, "{failure}");
    }

    #[test]
    fn too_few_images_are_refused() {
        let error = bench().run::<TaskTranslate>(&TEXT.replace("bases = 4", "bases = 13"));
        assert!(error.unwrap_err().to_string().contains("13 base images are asked for"));
    }
}
