//! `movie.watershed`: the waves of a movie of calcium imaging.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::film;
use crate::artifacts::events::Events;
use crate::artifacts::movie_reader::MovieReader;
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::omit::is_default;
use crate::waves::calcium::{self, CalciumOptions, Segmenter};
use crate::waves::rise::{NoBackground, RiseOptions};

/// Finds waves in a movie of fluorescence: a background is divided out, and what rises above it is labeled.
///
/// The pipeline for recorded waves of Ligeralde et al. 2023, whose macros work on the microscope's own frames of 100 to
/// 800 pixels a side, before they are brought down to 32; on small frames, `blur` and `smallest` have to be small too.
/// The parameters stand in the order in which they act. The movie's values must be counts of light, above 0: not what
/// `movie.normalise` makes. For simulated waves there is `movie.segment`.
///
/// The last step of the macros is a watershed in three dimensions over 26 neighbors, of the mask itself, which is flat:
/// it labels what hangs together and parts nothing, and so does `relief = "flat"`.
///
/// Waves that share a frame are joined into one event, because events are apart from each other: an event runs from the
/// first frame of any of them to the last. The paper keeps a range of frames for each wave, even where they overlap;
/// these are in the table `waves`: `start`, `frames`, `seconds`, the `event` of each, `volume` (active pixels in all
/// frames together), `area` (pixels that it reaches) and `censored`, which is 1 for a wave that is under way in the
/// first or last frame. Metrics: `events`, `frames` in them, `waves`, those `dropped` as short or small, and the
/// `active_fraction` of all frames. Memory: the frames that the medians span, some 200 by default; with another relief
/// than `flat`, also some 20 bytes for each pixel of the longest run of frames with anything above `threshold`.
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208, section 2.1; the numbers are those of the macros that it names
/// (`Feller_Retinal_Wave_Analysis`). Flooding: Vincent & Soille 1991, IEEE Trans. Pattern Anal. Mach. Intell. 13: 583.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovieWatershed {
    /// The movie, of one channel.
    movie: Input<MovieReader>,
    /// Frames before and after each whose median with it frees it of noise: 5 in the macros.
    #[serde(default = "denoise")]
    #[schemars(range(max = 500), extend("x-unit" = "frames"))]
    denoise: usize,
    /// Every so many frames, one goes into the background: 5 in the macros.
    #[serde(default = "background_every")]
    #[schemars(range(min = 1), extend("x-unit" = "frames"))]
    background_every: usize,
    /// Frames of the background before and after each whose median with it takes out the waves: 20 in the macros, so
    /// that a pixel may be active for half of 200 frames. The background is straight between.
    #[serde(default = "background")]
    #[schemars(range(max = 500))]
    background: usize,
    /// Deviation of the Gaussian that blurs each frame after the division: 5 in the macros; 0 leaves it as it is.
    #[serde(default = "blur")]
    #[schemars(range(min = 0.0, max = 100.0), extend("x-unit" = "pixels"))]
    blur: f64,
    /// Ratio to the background from which on a pixel is active: 1.02 in the macros.
    #[serde(default = "threshold")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    threshold: f64,
    /// What the watershed floods: `"flat"`, the default and the macros', or `{ depth = { least = 2.0 } }`, which parts
    /// waves that touch.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "flat"))]
    relief: Relief,
    /// Frames that a wave has at least: 15 in the macro that looks for where waves begin.
    #[serde(default = "shortest")]
    #[schemars(range(min = 1), extend("x-unit" = "frames"))]
    shortest: usize,
    /// Active pixels that a wave has at least, in all its frames together: 9 x 15 in the same macro, a cell of 9 pixels
    /// for the shortest time.
    #[serde(default = "smallest")]
    #[schemars(range(min = 1), extend("x-unit" = "pixels"))]
    smallest: u64,
}

/// What the watershed floods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Relief {
    /// The mask itself: a wave is what hangs together over all 26 neighbors of a pixel in space and time.
    #[default]
    Flat,
    /// How far a pixel lies from the nearest silent one in space and time, a frame being as long as a pixel (chamfer
    /// distance 3-4-5, Borgefors 1986): waves that touch are parted where they are narrow, and what lies between belongs
    /// to neither.
    Depth {
        /// How much deeper than the pass between them each of two parts must be, at least 0; shallower ones are one
        /// wave.
        #[serde(default = "one")]
        #[schemars(range(min = 0.0), extend("x-unit" = "pixels"))]
        least: f64,
    },
}

fn denoise() -> usize {
    CalciumOptions::default().rise.denoise
}
fn background_every() -> usize {
    CalciumOptions::default().rise.every
}
fn background() -> usize {
    CalciumOptions::default().rise.background
}
fn blur() -> f64 {
    CalciumOptions::default().blur
}
fn threshold() -> f64 {
    CalciumOptions::default().threshold
}
fn shortest() -> usize {
    CalciumOptions::default().shortest
}
fn smallest() -> u64 {
    CalciumOptions::default().smallest
}
fn one() -> f64 {
    1.0
}

impl Stage for MovieWatershed {
    const KIND: &'static str = "movie.watershed";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.calcium_events]
        kind = "movie.watershed"
        movie = "@retina"
    "#;

    fn check(&self) -> Vec<Violation> {
        let deep = match self.relief {
            Relief::Flat => true,
            Relief::Depth { least } => least >= 0.0,
        };
        violations([
            ("denoise", self.denoise <= 500, "must be at most 500"),
            ("background_every", self.background_every >= 1, "must be at least 1"),
            ("background", self.background <= 500, "must be at most 500"),
            ("blur", (0.0..=100.0).contains(&self.blur), "must be from 0 to 100"),
            ("threshold", self.threshold > 0.0, "must be above 0"),
            ("relief.depth.least", deep, "must be at least 0"),
            ("shortest", self.shortest >= 1, "must be at least 1"),
            ("smallest", self.smallest >= 1, "must be at least 1"),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Events::TYPE).and("waves", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let movie = cx.load(&self.movie)?.gray()?;
        let (total, rate) = (movie.frames, movie.rate);
        let mut segmenter = Segmenter::new(self.options(), movie.height, movie.width);
        movie.each_window(|first, window| {
            let mut frames = window.chunks_exact(movie.size());
            let count = frames.len();
            frames.try_for_each(|frame| segmenter.push(frame)).map_err(refused)?;
            film::told(cx, first + count, total)
        })?;
        let labels = segmenter.finish().map_err(refused)?;
        anyhow::ensure!(
            labels.active < total,
            Failure::data(format!("none of the {total} frames is silent at {}", self.threshold))
                .hint("`threshold` is a ratio to the background: give a higher one, or look at the movie")
        );
        let (events, event_of) = labels.events();
        let waves = &labels.waves;
        cx.metric("events", events.len() as f64)?;
        cx.metric("frames", events.iter().map(ExactSizeIterator::len).sum::<usize>() as f64)?;
        cx.metric("waves", waves.len() as f64)?;
        cx.metric("dropped", labels.dropped as f64)?;
        cx.metric("active_fraction", labels.active as f64 / total as f64)?;
        let table = Table::new()
            .counts("wave", 0..waves.len())
            .counts("event", event_of)
            .counts("start", waves.iter().map(|wave| wave.start))
            .counts("frames", waves.iter().map(|wave| wave.frames))
            .floats("seconds", waves.iter().map(|wave| wave.frames as f64 / rate))
            .counts("volume", waves.iter().map(|wave| wave.volume as usize))
            .counts("area", waves.iter().map(|wave| wave.area))
            .counts("censored", waves.iter().map(|wave| usize::from(wave.censored)));
        cx.save_as("waves", &table)?;
        cx.save(&Events {
            starts: events.iter().map(|event| event.start as u32).collect(),
            ends: events.iter().map(|event| event.end as u32).collect(),
        })
    }
}

impl MovieWatershed {
    fn options(&self) -> CalciumOptions {
        let Self { denoise, background, blur, threshold, shortest, smallest, .. } = *self;
        CalciumOptions {
            rise: RiseOptions { denoise, every: self.background_every, background },
            blur,
            threshold,
            relief: match self.relief {
                Relief::Flat => calcium::Relief::Flat,
                Relief::Depth { least } => calcium::Relief::Depth { least },
            },
            shortest,
            smallest,
        }
    }
}

fn refused(error: NoBackground) -> anyhow::Error {
    Failure::data(error.to_string())
        .hint("give a movie of fluorescence; `movie.segment` finds events in others, such as simulated waves")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::movie::Movie;
    use crate::stages::shared::bench::Bench;

    /// A bright field of 12 × 12 pixels, in which squares light up for some frames.
    fn movie(lit: &[(std::ops::Range<usize>, std::ops::Range<usize>)]) -> Movie {
        let value = |t: usize, at: usize| {
            let (y, x) = (at / 12, at % 12);
            let on = |(frames, place): &(std::ops::Range<usize>, std::ops::Range<usize>)| {
                frames.contains(&t) && place.contains(&y) && place.contains(&x)
            };
            if lit.iter().any(on) { 150.0 } else { 100.0 + (at % 5) as f32 }
        };
        let data = (0..400).flat_map(|t| (0..144).map(move |at| value(t, at))).collect();
        Movie { frames: 400, channels: 1, height: 12, width: 12, rate: 10.0, pitch: None, data }
    }

    const SMALL: &str = "movie = '@movie'\nblur = 0\n";

    #[test]
    fn waves_that_share_a_frame_are_one_event() {
        let lit = [(100..130, 0..4), (120..150, 6..12), (250..280, 3..9), (330..340, 3..9)];
        let bench = Bench::new().put("movie", &movie(&lit));
        let results = bench.run::<MovieWatershed>(SMALL).unwrap();
        let events: Events = results.main();
        assert_eq!((events.starts, events.ends), (vec![100, 250], vec![150, 280]));
        let waves = results.output::<Table>("waves").frame().unwrap();
        let column = |name: &str| -> Vec<i64> {
            waves.column(name).unwrap().i64().unwrap().into_no_null_iter().collect()
        };
        assert_eq!(column("event"), [0, 0, 1]);
        assert_eq!(column("start"), [100, 120, 250]);
        assert_eq!(column("area"), [16, 36, 36]);
        assert_eq!(column("volume"), [480, 1080, 1080]);
        let metric = |name: &str| results.metrics[name];
        assert_eq!((metric("events"), metric("frames"), metric("waves")), (2.0, 80.0, 3.0));
        assert_eq!((metric("dropped"), metric("active_fraction")), (1.0, 90.0 / 400.0));
    }

    #[test]
    fn touching_waves_are_parted_where_asked() {
        let lit = [(100..130, 0..6), (100..130, 6..12)];
        let bench = Bench::new().put("movie", &movie(&lit));
        let waves = |more: &str| {
            let text = format!("{SMALL}{more}");
            bench.run::<MovieWatershed>(&text).unwrap().metrics["waves"]
        };
        assert_eq!(waves(""), 1.0);
        assert_eq!(waves("relief = { depth = {} }"), 2.0);
        assert_eq!(waves("relief = { depth = { least = 50 } }"), 1.0);
    }

    #[test]
    fn a_movie_that_is_no_fluorescence_is_refused_with_what_to_do() {
        let mut simulated = movie(&[]);
        for value in &mut simulated.data {
            *value -= 170.0;
        }
        let bench = Bench::new().put("movie", &simulated);
        let failure = Failure::from_error(bench.run::<MovieWatershed>(SMALL).unwrap_err());
        assert!(failure.message.contains("must be above 0"), "{failure}");
        assert!(failure.hint.is_some_and(|hint| hint.contains("movie.segment")));
        let bright = movie(&[]);
        let bench = Bench::new().put("movie", &bright);
        let text = format!("{SMALL}threshold = 0.5");
        let failure = Failure::from_error(bench.run::<MovieWatershed>(&text).unwrap_err());
        assert!(failure.message.contains("none of the 400 frames is silent"), "{failure}");
        assert!(bench.run::<MovieWatershed>(&format!("{SMALL}background_every = 0")).is_err());
    }
}
