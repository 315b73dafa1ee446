//! `movie.segment`: the events of a movie.

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
use crate::waves::events::{Segmentation, active_fraction, segment};

/// Finds the events of a movie: runs of frames between silent ones.
///
/// A pixel is active above a threshold; a frame without enough active pixels is silent. For simulated waves the
/// threshold is -60 mV (Lansdell et al. 2014) and one active cell is enough (Ligeralde et al. 2023, section 2.1).
/// Metrics: number of `events`, `frames` in them, and the `active_fraction` of all frames. The table `durations` has
/// a row for each event: `start`, `frames`, `seconds`, and `censored`, which is 1 for an event that touches the
/// first or last frame of the movie, so that its true length is unknown. Such events are kept. A movie without a
/// silent frame is refused, because it has no events but itself. The movie is read in windows of a few megabytes,
/// however long it is. Waves in movies of fluorescence are found by `movie.watershed`.
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208, section 2.1; the threshold is that of Lansdell, Ford and Kutz 2014,
/// PLoS Comput. Biol. 10(12): e1003953.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovieSegment {
    /// The movie.
    movie: Input<MovieReader>,
    /// Value above which a pixel is active, in the movie's unit. -60 mV fits simulated waves as `waves.simulate` yields
    /// them (Lansdell et al. 2014); segment those, not the movie that `movie.normalise` makes of them.
    #[serde(default = "threshold")]
    threshold: f64,
    /// Active pixels that a frame of an event has at least.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    active_pixels: usize,
    /// Frames that an event has at least, from 1. The paper names no shortest event; 2 is the fewest that have a
    /// positive pair.
    #[serde(default = "two")]
    #[schemars(range(min = 1))]
    shortest: usize,
}

fn threshold() -> f64 {
    Segmentation::default().threshold
}
fn one() -> usize {
    Segmentation::default().active_pixels
}
fn two() -> usize {
    2
}

impl Stage for MovieSegment {
    const KIND: &'static str = "movie.segment";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.events]
        kind = "movie.segment"
        movie = "@retina"
    "#;

    fn check(&self) -> Vec<Violation> {
        violations([
            ("active_pixels", self.active_pixels >= 1, "must be at least 1"),
            ("shortest", self.shortest >= 1, "must be at least 1"),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Events::TYPE).and("durations", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let movie = cx.load(&self.movie)?.gray()?;
        let Self { threshold, active_pixels, shortest, .. } = *self;
        let rule = Segmentation { threshold, active_pixels };
        let (total, rate) = (movie.frames, movie.rate);
        let mut active = Vec::with_capacity(total);
        movie.each_window(|_, window| {
            active.extend(window.chunks_exact(movie.size()).map(|frame| rule.is_active(frame)));
            film::told(cx, active.len(), total)
        })?;
        anyhow::ensure!(
            !active.iter().all(|active| *active),
            Failure::data(format!("none of the {total} frames is silent at a threshold of {threshold}"))
                .hint("`threshold` is in the unit of the movie: -60 mV fits the movie that `waves.simulate` yields, not a normalized one")
        );
        let events = segment(&active, shortest);
        cx.metric("events", events.len() as f64)?;
        cx.metric("frames", events.iter().map(ExactSizeIterator::len).sum::<usize>() as f64)?;
        cx.metric("active_fraction", active_fraction(&active))?;
        let table = Table::new()
            .counts("event", 0..events.len())
            .counts("start", events.iter().map(|e| e.start))
            .counts("frames", events.iter().map(ExactSizeIterator::len))
            .floats("seconds", events.iter().map(|e| e.len() as f64 / rate))
            .counts("censored", events.iter().map(|e| usize::from(e.start == 0 || e.end == total)));
        cx.save_as("durations", &table)?;
        cx.save(&Events {
            starts: events.iter().map(|e| e.start as u32).collect(),
            ends: events.iter().map(|e| e.end as u32).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::movie::Movie;
    use crate::stages::shared::bench::Bench;

    #[test]
    fn events_lie_between_silent_frames() {
        let data = [-70., -50., -40., -70., -70., -30., -70.].map(|v: f32| v).to_vec();
        let movie =
            Movie { frames: 7, channels: 1, height: 1, width: 1, rate: 10.0, pitch: None, data };
        let bench = Bench::new().put("movie", &movie);
        let results = bench.run::<MovieSegment>("movie = '@movie'\nshortest = 1").unwrap();
        let events: Events = results.main();
        assert_eq!((events.starts, events.ends), (vec![1, 5], vec![3, 6]));
        assert_eq!((results.metrics["events"], results.metrics["frames"]), (2.0, 3.0));
        let longer: Events = bench.run::<MovieSegment>("movie = '@movie'").unwrap().main();
        assert_eq!(longer.starts, [1]);
    }

    #[test]
    fn events_at_the_ends_of_the_movie_are_censored() {
        let data = [-50., -50., -70., -50., -50., -70., -50., -50.].map(|v: f32| v).to_vec();
        let movie =
            Movie { frames: 8, channels: 1, height: 1, width: 1, rate: 10.0, pitch: None, data };
        let bench = Bench::new().put("movie", &movie);
        let results = bench.run::<MovieSegment>("movie = '@movie'").unwrap();
        let durations = results.output::<Table>("durations").frame().unwrap();
        let censored = durations.column("censored").unwrap().i64().unwrap();
        assert_eq!(censored.iter().collect::<Vec<_>>(), [Some(1), Some(0), Some(1)]);
    }

    #[test]
    fn a_movie_without_silence_is_refused() {
        let movie = Movie {
            frames: 3,
            channels: 1,
            height: 1,
            width: 1,
            rate: 10.0,
            pitch: None,
            data: vec![0.0, 0.5, 1.0],
        };
        let bench = Bench::new().put("movie", &movie);
        let error = bench.run::<MovieSegment>("movie = '@movie'").unwrap_err();
        let failure = Failure::from_error(error);
        assert_eq!(failure.message, "none of the 3 frames is silent at a threshold of -60");
        assert_eq!(failure.kind, crate::engine::failure::FailureKind::Data);
        assert!(failure.hint.is_some_and(|hint| hint.contains("normalized")));
    }
}
