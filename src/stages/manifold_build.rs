//! `manifold.build`: stimuli in groups, each group one object under a variation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::exemplars::{self, Stimuli};
use super::shared::{canvas, confidence, film};
use super::task_translate::choose;
use crate::artifacts::activations::Activations;
use crate::artifacts::events::Events;
use crate::artifacts::images::{Images, ImagesOrDataset};
use crate::artifacts::manifolds::Manifolds;
use crate::artifacts::movie::Movie;
use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::rng::Streams;

/// Largest side of a canvas, in pixels.
const LARGEST: usize = 4096;

/// Builds object manifolds: groups of stimuli, to be shown to encoders.
///
/// Class manifolds are different images of a class, drawn at random or those of which a probe is surest. Exemplar
/// manifolds are one image each, under small shifts, changes of color, turns or changes of size (Ligeralde et al. 2023,
/// section 2.3: 50 manifolds of 20 points, shifts up to 3 pixels). Event manifolds are the frames of a movie's events, one
/// manifold an event, with as many points as it has frames.
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208, section 2.3.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifoldBuild {
    /// Where stimuli are taken from, but for events; of a dataset, from the test part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    images: Option<Input<ImagesOrDataset>>,
    /// Of events, the movie whose frames are the stimuli: one as the encoder was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    movie: Option<Input<Movie>>,
    /// Of events, where they lie in the movie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<Input<Events>>,
    /// Of classes by confidence, an encoder's answers to these very images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activations: Option<Input<Activations>>,
    /// Of classes by confidence, a probe that reads those answers (`probe.linear`, with `batch_norm = "frozen"`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    classifier: Option<Input<Tensors>>,
    /// What varies within a manifold.
    variation: Variation,
    /// Number of manifolds (P).
    #[serde(default = "fifty")]
    #[schemars(range(min = 2))]
    manifolds: usize,
    /// Points of each manifold (M), but of events, which have one for each frame.
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
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Variation {
    /// Different images of one class.
    Classes(Classes),
    /// One image, shifted by whole pixels on a black canvas.
    Translation(Translation),
    /// One image in different colors, by brightness, contrast, saturation and hue in random order.
    Color(Coloring),
    /// One image, turned about its middle.
    Rotation(Rotation),
    /// One image in different sizes.
    Scale(Scaling),
    /// The frames of one event of a movie.
    Events(EventFrames),
}

/// Different images of one class.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Classes {
    /// Takes the images of whose label the `classifier` is surest; drawn at random where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confident: Option<Confident>,
}

/// The images of whose label a classifier is surest, by its softmax.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Confident {
    /// The layer of the activations that the classifier reads.
    #[serde(default = "pooled")]
    layer: String,
}

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

/// One image in different colors.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Coloring {
    /// Strength s of the change, above 0 and at most 2.5: brightness, contrast and saturation by factors in [max(0, 1 - 0.8 s),
    /// 1 + 0.8 s], hue by a turn in [-0.2 s, 0.2 s] (Chen et al. 2020, appendix A). Gray images change in the first two.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 2.5))]
    strength: f64,
}

/// One image, turned about its middle.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// Largest angle either way, above 0 and at most 180. Ours: the paper does not give it.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0.0, max = 180.0))]
    #[schemars(extend("x-unit" = "degrees"))]
    max_angle: f64,
}

/// One image in different sizes, evenly on a logarithmic scale.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Scaling {
    /// Smallest factor, at least 0.01.
    #[serde(default = "four_fifths")]
    #[schemars(range(min = 0.01, max = 100.0))]
    smallest: f64,
    /// Largest factor, above the smallest and at most 100.
    #[serde(default = "five_fourths")]
    #[schemars(range(min = 0.01, max = 100.0))]
    largest: f64,
}

/// The frames of one event of a movie: of the first events that are neither too short nor too long.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EventFrames {
    /// Fewest frames of an event, from 1; published: 50.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1))]
    shortest: usize,
    /// Most frames of an event, at least the fewest; published: 132.
    #[serde(default = "longest")]
    #[schemars(range(min = 1))]
    longest: usize,
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
fn longest() -> usize {
    132
}
fn pooled() -> String {
    "pooled".to_owned()
}
fn half() -> f64 {
    0.5
}
fn thirty() -> f64 {
    30.0
}
fn four_fifths() -> f64 {
    0.8
}
fn five_fourths() -> f64 {
    1.25
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
        let size = self.size.is_none_or(|n| (1..=LARGEST).contains(&n));
        let mut broken = self.variation.check(self.size.unwrap_or(LARGEST));
        broken.extend(self.check_inputs());
        broken.extend(violations([
            ("manifolds", self.manifolds >= 2, "must be at least 2"),
            ("points", self.points >= 1, "must be at least 1"),
            ("size", size, "must be from 1 to 4096"),
        ]));
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Manifolds::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let streams = self.seed.streams(Self::KIND);
        let stimuli = match self.variation {
            Variation::Events(events) => self.events(cx, events)?,
            _ => self.of_images(cx, &streams)?,
        };
        cx.save(&Manifolds { stimuli })
    }
}

impl Variation {
    fn check(&self, canvas: usize) -> Vec<Violation> {
        let within = |value: f64, most: f64| value > 0.0 && value <= most;
        match *self {
            Self::Classes(_) => Vec::new(),
            Self::Translation(Translation { max_shift }) => {
                let rule = format!("must be at most the canvas's side, {canvas}");
                violations([(
                    "variation.translation.max_shift",
                    max_shift <= canvas,
                    rule.as_str(),
                )])
            }
            Self::Color(Coloring { strength }) => violations([(
                "variation.color.strength",
                within(strength, 2.5),
                "must be above 0 and at most 2.5",
            )]),
            Self::Rotation(Rotation { max_angle }) => violations([(
                "variation.rotation.max_angle",
                within(max_angle, 180.0),
                "must be above 0 and at most 180",
            )]),
            Self::Scale(Scaling { smallest, largest }) => violations([
                ("variation.scale.smallest", smallest >= 0.01, "must be at least 0.01"),
                (
                    "variation.scale.largest",
                    largest > smallest && largest <= 100.0,
                    "must be above `smallest` and at most 100",
                ),
            ]),
            Self::Events(EventFrames { shortest, longest }) => violations([
                ("variation.events.shortest", shortest >= 1, "must be at least 1"),
                ("variation.events.longest", longest >= shortest, "must be at least `shortest`"),
            ]),
        }
    }
}

impl ManifoldBuild {
    /// Every variation has inputs of its own.
    fn check_inputs(&self) -> Vec<Violation> {
        let events = matches!(self.variation, Variation::Events(_));
        let confident =
            matches!(&self.variation, Variation::Classes(Classes { confident: Some(_) }));
        let rule = |given: bool, wanted: bool, of: &str| -> String {
            debug_assert!(given != wanted);
            if wanted { format!("is needed for {of}") } else { format!("is for {of} only") }
        };
        let of_events = "`variation = { events = … }`";
        let of_classes = "`variation = { classes = { confident = … } }`";
        let inputs = [
            ("images", self.images.is_some(), !events, "all variations but `events`"),
            ("movie", self.movie.is_some(), events, of_events),
            ("events", self.events.is_some(), events, of_events),
            ("activations", self.activations.is_some(), confident, of_classes),
            ("classifier", self.classifier.is_some(), confident, of_classes),
        ];
        let wrong = inputs.into_iter().filter(|(_, given, wanted, _)| given != wanted);
        wrong
            .map(|(name, given, wanted, of)| Violation::new(name, rule(given, wanted, of)))
            .collect()
    }

    fn of_images(&self, cx: &Context<'_>, streams: &Streams) -> anyhow::Result<Images> {
        let images = self.images.as_ref().expect("`check` asks for images");
        let images = match cx.load(images)? {
            ImagesOrDataset::Images(images) => images,
            ImagesOrDataset::Dataset(dataset) => dataset.test,
        };
        let size = self.size.unwrap_or(images.height.max(images.width));
        let mut stimuli = Stimuli::new(size, images.channels);
        if let Variation::Classes(Classes { confident }) = &self.variation {
            let ranks = match confident {
                Some(confident) => Some(self.ranks(cx, &images, confident)?),
                None => None,
            };
            let (manifolds, points) = (self.manifolds, self.points);
            for group in exemplars::classes(&images, manifolds, points, ranks.as_deref(), streams)?
            {
                let place = |image: usize| canvas::place(&images, image, size, (0, 0));
                stimuli.push(group.into_iter().map(place));
            }
            return Ok(stimuli.finish());
        }
        if let Variation::Translation(Translation { max_shift }) = self.variation {
            exemplars::check_shifts(&images, size, max_shift, self.points)?;
        }
        let bases = choose(&images, self.manifolds, streams)?;
        for (manifold, base) in bases.into_iter().enumerate() {
            cx.progress(manifold as f64 / self.manifolds as f64, || {
                format!("{manifold} manifolds")
            });
            cx.check_cancelled()?;
            stimuli.push(self.exemplar(&images, base, size, manifold, streams)?);
        }
        Ok(stimuli.finish())
    }

    /// The points of one image's manifold.
    fn exemplar(
        &self,
        images: &Images,
        base: usize,
        size: usize,
        manifold: usize,
        streams: &Streams,
    ) -> anyhow::Result<Vec<Vec<f32>>> {
        let (points, lane) = (self.points, manifold as u64);
        Ok(match self.variation {
            Variation::Translation(Translation { max_shift }) => {
                let mut stream = streams.indexed("shifts", lane);
                exemplars::shifted(images, base, size, max_shift, points, &mut stream)
            }
            Variation::Color(Coloring { strength }) => {
                let mut stream = streams.indexed("colors", lane);
                exemplars::colored(images, base, size, strength, points, &mut stream)?
            }
            Variation::Rotation(Rotation { max_angle }) => {
                let mut stream = streams.indexed("angles", lane);
                exemplars::turned(images, base, size, max_angle, points, &mut stream)
            }
            Variation::Scale(Scaling { smallest, largest }) => {
                let mut stream = streams.indexed("sizes", lane);
                exemplars::scaled(images, base, size, (smallest, largest), points, &mut stream)
            }
            Variation::Classes(_) | Variation::Events(_) => {
                unreachable!("these manifolds are of many images")
            }
        })
    }

    /// How sure the classifier is of each image's label.
    fn ranks(
        &self,
        cx: &Context<'_>,
        images: &Images,
        confident: &Confident,
    ) -> anyhow::Result<Vec<f64>> {
        let inputs = self.activations.as_ref().zip(self.classifier.as_ref());
        let (activations, classifier) = inputs.expect("`check` asks for both");
        let (activations, classifier) = (cx.load(activations)?, cx.load(classifier)?);
        anyhow::ensure!(
            activations.labels == images.labels,
            Failure::data("the activations are not of the images that manifolds are built of")
                .hint("show the encoder the same `images`; of a dataset both take the test part")
        );
        confidence::of_labels(&activations, &confident.layer, classifier)
    }

    fn events(&self, cx: &Context<'_>, rule: EventFrames) -> anyhow::Result<Images> {
        let inputs = self.movie.as_ref().zip(self.events.as_ref());
        let (movie, events) = inputs.expect("`check` asks for both");
        let (movie, events) = (cx.load(movie)?, cx.load(events)?);
        let ranges = film::ranges(&events, movie.frames)?;
        let total = ranges.len();
        let fits = |length: usize| (rule.shortest..=rule.longest).contains(&length);
        let ranges: Vec<_> = ranges.into_iter().filter(|range| fits(range.len())).collect();
        anyhow::ensure!(
            ranges.len() >= self.manifolds,
            Failure::data(format!(
                "{} manifolds are asked for, and {} of {total} events have {} to {} frames",
                self.manifolds,
                ranges.len(),
                rule.shortest,
                rule.longest
            ))
            .hint("ask for fewer `manifolds`, allow other lengths, or give a longer movie")
        );
        let Movie { frames, channels, height, width, data, .. } = movie;
        let frames =
            Images { count: frames, channels, height, width, pixels: data, labels: Vec::new() };
        let size = self.size.unwrap_or(height.max(width));
        let mut stimuli = Stimuli::new(size, channels);
        for range in ranges.into_iter().take(self.manifolds) {
            stimuli.push(range.map(|frame| canvas::place(&frames, frame, size, (0, 0))));
        }
        Ok(stimuli.finish())
    }
}
