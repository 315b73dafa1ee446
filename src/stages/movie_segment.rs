//! `movie.segment`: the events of a movie.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::film;
use crate::artifacts::events::Events;
use crate::artifacts::movie::Movie;
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::waves::events::{Segmentation, active_fraction, segment};

/// Finds the events of a movie: runs of frames between silent ones.
///
/// A pixel is active above a threshold; a frame without enough active pixels is silent. For simulated waves the
/// threshold is -60 mV (Lansdell et al. 2014) and one active cell is enough (Ligeralde et al. 2023, section 2.1).
/// Metrics: number of `events`, `frames` in them, and the `active_fraction` of all frames.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovieSegment {
    /// The movie.
    movie: Input<Movie>,
    /// Value above which a pixel is active, in the movie's unit (mV for simulated waves).
    #[serde(default = "threshold")]
    threshold: f64,
    /// Active pixels that a frame of an event has at least.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    active_pixels: usize,
    /// Frames that an event has at least.
    #[serde(default = "two")]
    #[schemars(range(min = 1))]
    shortest: usize,
}

fn threshold() -> f64 {
    Segmentation::default().threshold
}
fn one() -> usize {
    1
}
fn two() -> usize {
    2
}

impl Stage for MovieSegment {
    const KIND: &'static str = "movie.segment";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;

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
        let (frames, rate) = film::from_movie(cx.load(&self.movie)?)?;
        let Self { threshold, active_pixels, shortest, .. } = *self;
        let rule = Segmentation { threshold, active_pixels, shortest };
        let events = segment(&frames, &rule);
        cx.metric("events", events.len() as f64)?;
        cx.metric("frames", events.iter().map(ExactSizeIterator::len).sum::<usize>() as f64)?;
        cx.metric("active_fraction", active_fraction(&frames, &rule))?;
        let table = Table::new()
            .counts("event", 0..events.len())
            .counts("start", events.iter().map(|e| e.start))
            .counts("frames", events.iter().map(ExactSizeIterator::len))
            .floats("seconds", events.iter().map(|e| e.len() as f64 / rate));
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
    use crate::stages::shared::bench::Bench;

    #[test]
    fn events_lie_between_silent_frames() {
        let data = [-70., -50., -40., -70., -70., -30., -70.].map(|v: f32| v).to_vec();
        let movie = Movie { frames: 7, height: 1, width: 1, rate: 10.0, data };
        let bench = Bench::new().put("movie", &movie);
        let results = bench.run::<MovieSegment>("movie = '@movie'\nshortest = 1").unwrap();
        let events: Events = results.main();
        assert_eq!((events.starts, events.ends), (vec![1, 5], vec![3, 6]));
        assert_eq!((results.metrics["events"], results.metrics["frames"]), (2.0, 3.0));
        let longer: Events = bench.run::<MovieSegment>("movie = '@movie'").unwrap().main();
        assert_eq!(longer.starts, [1]);
    }
}
