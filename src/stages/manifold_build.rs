//! `manifold.build`: stimuli in groups, each group one object under a variation.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::canvas;
use super::task_translate::choose;
use crate::artifacts::images::{Images, ImagesOrDataset};
use crate::artifacts::manifolds::Manifolds;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::rng::{Stream, Streams};

/// Largest side of a canvas, in pixels.
const LARGEST: usize = 4096;

/// Builds object manifolds: groups of stimuli, to be shown to encoders.
///
/// Class manifolds are different images of a class; translation manifolds are one image each, under small shifts
/// (Ligeralde et al. 2023, section 2.3: 50 manifolds of 20 points, shifts up to 3 pixels).
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208, section 2.3.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifoldBuild {
    /// Where stimuli are taken from; of a dataset, from the test part.
    images: Input<ImagesOrDataset>,
    /// What varies within a manifold.
    variation: Variation,
    /// Number of manifolds (P).
    #[serde(default = "fifty")]
    #[schemars(range(min = 2))]
    manifolds: usize,
    /// Points of each manifold (M).
    #[serde(default = "twenty")]
    #[schemars(range(min = 1))]
    points: usize,
    /// Side of the square canvas that stimuli are centered on, in pixels, from 1 to 4096; as large as the images where
    /// absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4096))]
    #[schemars(extend("x-unit" = "pixels"))]
    size: Option<usize>,
    /// Seed of the choice of images and of the variation.
    #[serde(default)]
    seed: Seed,
}

/// What varies within a manifold.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Variation {
    /// Different images of one class, drawn at random.
    Classes(Classes),
    /// One image, shifted by whole pixels on a black canvas.
    Translation(Translation),
}

/// Different images of one class, drawn at random.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Classes {}

/// One image, shifted by whole pixels on a black canvas.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Translation {
    /// Largest shift in pixels, each way and in both directions; published: 3. At most the canvas's side, and less
    /// than takes an image off it; pixels that leave the canvas are lost.
    #[serde(default = "three")]
    #[schemars(range(max = 4096))]
    #[schemars(extend("x-unit" = "pixels"))]
    max_shift: usize,
}

fn fifty() -> usize {
    50
}
fn twenty() -> usize {
    20
}
fn three() -> usize {
    3
}

impl Stage for ManifoldBuild {
    const KIND: &'static str = "manifold.build";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.objects]
        kind = "manifold.build"
        images = "@digits"
        variation = { translation = { max_shift = 3 } }
    "#;

    fn check(&self) -> Vec<Violation> {
        let canvas = self.size.unwrap_or(LARGEST);
        let shift = match self.variation {
            Variation::Classes(_) => 0,
            Variation::Translation(Translation { max_shift }) => max_shift,
        };
        let shift_rule = format!("must be at most the canvas's side, {canvas}");
        violations([
            ("variation.translation.max_shift", shift <= canvas, shift_rule.as_str()),
            ("manifolds", self.manifolds >= 2, "must be at least 2"),
            ("points", self.points >= 1, "must be at least 1"),
            (
                "size",
                self.size.is_none_or(|n| (1..=LARGEST).contains(&n)),
                "must be from 1 to 4096",
            ),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Manifolds::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let images = match cx.load(&self.images)? {
            ImagesOrDataset::Images(images) => images,
            ImagesOrDataset::Dataset(dataset) => dataset.test,
        };
        let size = self.size.unwrap_or(images.height.max(images.width));
        let streams = self.seed.streams(Self::KIND);
        let stimuli = match self.variation {
            Variation::Classes(_) => self.classes(&images, size, &streams)?,
            Variation::Translation(Translation { max_shift }) => {
                self.translations(&images, size, max_shift, &streams)?
            }
        };
        cx.save(&Manifolds { stimuli })
    }
}

impl ManifoldBuild {
    fn classes(&self, images: &Images, size: usize, streams: &Streams) -> anyhow::Result<Images> {
        let count = images.labels.iter().max().map_or(0, |largest| *largest as usize + 1);
        let members = |class: usize| -> Vec<usize> {
            (0..images.count).filter(|&i| images.labels[i] as usize == class).collect()
        };
        let large: Vec<usize> =
            (0..count).filter(|&class| members(class).len() >= self.points).collect();
        anyhow::ensure!(
            large.len() >= self.manifolds,
            Failure::data(format!(
                "{} manifolds of {} points are asked for, and {} classes have as many images",
                self.manifolds,
                self.points,
                large.len()
            ))
            .hint("ask for fewer `manifolds` or `points`")
        );
        let order = streams.stream("classes").permutation(large.len());
        let mut chosen: Vec<usize> = order[..self.manifolds].iter().map(|&i| large[i]).collect();
        chosen.sort_unstable();
        let mut groups = Vec::new();
        for class in chosen {
            let mut rows = members(class);
            streams.indexed("members", class as u64).shuffle(&mut rows);
            groups.push(rows[..self.points].iter().map(|&i| (i, (0, 0))).collect());
        }
        Ok(stimuli(images, size, &groups))
    }

    fn translations(
        &self,
        images: &Images,
        size: usize,
        max_shift: usize,
        streams: &Streams,
    ) -> anyhow::Result<Images> {
        let reach = reach(images, size);
        anyhow::ensure!(
            max_shift <= reach,
            Failure::user(format!(
                "shifts of {max_shift} pixels take an image of {} x {} off a canvas of {size} x {size}",
                images.height, images.width
            ))
            .hint(format!("a `max_shift` of {reach} leaves a part of it; or give a larger `size`"))
        );
        let side = 2 * max_shift + 1;
        anyhow::ensure!(
            self.points <= side * side,
            Failure::user(format!(
                "{} points are asked for, and shifts up to {max_shift} pixels give {}",
                self.points,
                side * side
            ))
            .hint("ask for fewer `points`, or a larger `max_shift`")
        );
        let bases = choose(images, self.manifolds, streams)?;
        let mut groups = Vec::new();
        for (manifold, base) in bases.into_iter().enumerate() {
            // Different shifts: a point drawn twice would add nothing to its manifold.
            let mut stream = streams.indexed("shifts", manifold as u64);
            let places = distinct(&mut stream, self.points, side * side);
            let shift = |place: usize| {
                let reach = max_shift as i64;
                ((place / side) as i64 - reach, (place % side) as i64 - reach)
            };
            groups.push(places.into_iter().map(|place| (base, shift(place))).collect());
        }
        Ok(stimuli(images, size, &groups))
    }
}

/// The largest shift, each way, that leaves at least a pixel's breadth of centered images on a canvas.
fn reach(images: &Images, size: usize) -> usize {
    let along = |length: usize| {
        let top = (size as i64 - length as i64).div_euclid(2);
        (size as i64 - top).min(top + length as i64) - 1
    };
    along(images.height).min(along(images.width)).max(0) as usize
}

/// Draws `count` different numbers below `n`, in random order: the first entries of a shuffle, without the others.
fn distinct(stream: &mut Stream, count: usize, n: usize) -> Vec<usize> {
    let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
    let draw = |i: usize| {
        let from = i + stream.below((n - i) as u64) as usize;
        let here = moved.get(&i).copied().unwrap_or(i);
        let drawn = moved.insert(from, here);
        // Where `from` is `i` itself the entry that was put in is read no more.
        drawn.unwrap_or(from)
    };
    (0..count).map(draw).collect()
}

/// Draws groups of images, each shifted.
fn stimuli(images: &Images, size: usize, groups: &[Vec<(usize, (i64, i64))>]) -> Images {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for (manifold, group) in groups.iter().enumerate() {
        for (image, shift) in group {
            pixels.extend(canvas::place(images, *image, size, *shift));
            labels.push(manifold as u32);
        }
    }
    let (count, channels) = (labels.len(), images.channels);
    Images { count, channels, height: size, width: size, pixels, labels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::shared::bench::Bench;

    fn bench() -> Bench {
        let pixels = (0..12 * 4).map(|i| (i / 4 + 1) as f32).collect();
        let labels = (0..12).map(|i| i % 3).collect();
        Bench::new()
            .put("images", &Images { count: 12, channels: 1, height: 2, width: 2, pixels, labels })
    }

    #[test]
    fn class_manifolds_hold_different_images_of_one_class() {
        let text = "images = '@images'\nvariation = { classes = {} }\nmanifolds = 3\npoints = 4";
        let built: Manifolds = bench().run::<ManifoldBuild>(text).unwrap().main();
        assert_eq!(built.stimuli.labels, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
        for manifold in 0..3usize {
            let mut images: Vec<u32> =
                (0..4).map(|m| built.stimuli.image(manifold * 4 + m)[0] as u32 - 1).collect();
            images.sort_unstable();
            let class = manifold as u32;
            assert_eq!(images, [class, class + 3, class + 6, class + 9]);
        }
        let error = bench().run::<ManifoldBuild>(&text.replace("points = 4", "points = 5"));
        assert!(error.unwrap_err().to_string().contains("0 classes have as many images"));
    }

    #[test]
    fn translation_manifolds_are_one_image_at_different_places() {
        let text = "images = '@images'\nvariation = { translation = { max_shift = 1 } }\n\
                    manifolds = 2\npoints = 9\nsize = 4";
        let built: Manifolds = bench().run::<ManifoldBuild>(text).unwrap().main();
        let images: Vec<&[f32]> = (0..9).map(|i| built.stimuli.image(i)).collect();
        for (i, image) in images.iter().enumerate() {
            assert_eq!(image.iter().sum::<f32>(), images[0].iter().sum::<f32>());
            assert!(images[..i].iter().all(|other| other != image));
        }
        let error = bench().run::<ManifoldBuild>(&text.replace("points = 9", "points = 10"));
        assert!(error.unwrap_err().to_string().contains("give 9"));
    }

    #[test]
    fn shifts_off_the_canvas_are_refused() {
        let text = "images = '@images'\nmanifolds = 2\npoints = 2";
        let error = |shift: usize| {
            let variation = format!("variation = {{ translation = {{ max_shift = {shift} }} }}");
            let run = |size: &str| {
                bench().run::<ManifoldBuild>(&format!("{text}\n{variation}\n{size}")).map(drop)
            };
            [run(""), run("size = 5")].map(|run| run.err().map(|error| error.to_string()))
        };
        // Two of two pixels: a shift of 1 leaves one. Centered on five, the second and third: 2 down, 3 up.
        assert_eq!(error(1), [None, None]);
        let [own, larger] = error(2);
        assert!(own.unwrap().contains("off a canvas of 2 x 2") && larger.is_none());
        assert!(error(3)[1].as_ref().unwrap().contains("off a canvas of 5 x 5"));
        assert!(error(6)[1].as_ref().unwrap().contains("at most the canvas's side, 5"));
        assert!(error(5000)[0].as_ref().unwrap().contains("at most the canvas's side, 4096"));
    }

    #[test]
    fn distinct_numbers_are_drawn_evenly_from_any_range() {
        let mut counts = [0; 6];
        let streams = Streams::new(1, "test");
        for lane in 0..6000 {
            let drawn = distinct(&mut streams.indexed("draw", lane), 2, 6);
            assert!(drawn[0] != drawn[1]);
            counts[drawn[1]] += 1;
        }
        // Five standard deviations of a binomial of 6000 and 1/6.
        assert!(counts.iter().all(|count| (1000i32 - count).abs() < 145), "{counts:?}");
        let mut all = distinct(&mut streams.stream("all"), 50, 50);
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<usize>>());
        let far = distinct(&mut streams.stream("far"), 3, usize::MAX / 2);
        assert!(far.iter().all(|place| *place > 1 << 40), "{far:?}");
    }
}
