//! `movie.split`: the events of a movie in two sets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encoder_random::STREAMS;
use super::shared::training::failure;
use crate::artifacts::events::Events;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::nn::sampler;

/// Splits the events of a movie at random into two sets of whole events.
///
/// The main output holds the events to train on, `held_out` the others; both are events of the same movie, which is not
/// copied. The number to train on is rounded to the nearest. Metrics: `events` and `frames` of the main output,
/// `held_out_events` and `held_out_frames` of the other.
///
/// `pretrain.simclr` splits the events that it is given by itself (`train_fraction`), to report a held-out loss. With the
/// same seed and share, both choose the same events. Split here where something else is to see the held-out waves too,
/// as a `movie.stats` of each part or the wave manifolds of events that no network was trained on, and give
/// `train_fraction = 1.0` to a pre-training that should use all of the main output.
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208 (code): whole events, at random by the seed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovieSplit {
    /// The events.
    events: Input<Events>,
    /// Share of the events in the main output, above 0 and below 1. In the paper's code 0.8, the default, for simulated
    /// waves and 0.9 for recorded ones.
    #[serde(default = "most")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    fraction: f64,
    /// Seed of the draw.
    #[serde(default)]
    seed: Seed,
}

fn most() -> f64 {
    0.8
}

impl Stage for MovieSplit {
    const KIND: &'static str = "movie.split";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const SMALL: bool = true;
    const EXAMPLE: &'static str = r#"
        [stages.parts]
        kind = "movie.split"
        events = "@events"
    "#;

    fn check(&self) -> Vec<Violation> {
        let share = self.fraction > 0.0 && self.fraction < 1.0;
        violations([("fraction", share, "must be above 0 and below 1")])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Events::TYPE).and("held_out", Events::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let events = cx.load(&self.events)?;
        let total = events.starts.len();
        let streams = self.seed.streams(STREAMS);
        let (kept, held_out) = sampler::split(total, self.fraction, &streams).map_err(failure)?;
        anyhow::ensure!(
            !kept.is_empty() && !held_out.is_empty(),
            Failure::data(format!(
                "{total} events split into {} and {}: a part is empty",
                kept.len(),
                held_out.len()
            ))
            .hint("give events of a longer movie, or another `fraction`")
        );
        let (kept, held_out) = (select(&events, &kept), select(&events, &held_out));
        cx.metric("events", kept.starts.len() as f64)?;
        cx.metric("frames", frames(&kept))?;
        cx.metric("held_out_events", held_out.starts.len() as f64)?;
        cx.metric("held_out_frames", frames(&held_out))?;
        cx.save_as("held_out", &held_out)?;
        cx.save(&kept)
    }
}

/// The events at some places, in that order.
fn select(events: &Events, places: &[usize]) -> Events {
    let pick = |frames: &[u32]| places.iter().map(|place| frames[*place]).collect();
    Events { starts: pick(&events.starts), ends: pick(&events.ends) }
}

/// The number of frames in all events.
fn frames(events: &Events) -> f64 {
    let lengths = events.starts.iter().zip(&events.ends).map(|(start, end)| end - start);
    lengths.map(f64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::shared::bench::Bench;

    /// Events of 1, 2, 3, … frames.
    fn events(count: u32) -> Events {
        let starts = (0..count).map(|event| event * 100).collect();
        Events { starts, ends: (0..count).map(|event| event * 101 + 1).collect() }
    }

    #[test]
    fn each_event_is_whole_and_in_one_part() {
        let all = events(40);
        let bench = Bench::new().put("events", &all);
        let run =
            |more: &str| bench.run::<MovieSplit>(&format!("events = '@events'\n{more}")).unwrap();
        let results = run("");
        let (kept, held_out): (Events, Events) = (results.main(), results.output("held_out"));
        assert_eq!((kept.starts.len(), held_out.starts.len()), (32, 8));
        let pairs = |events: &Events| -> Vec<(u32, u32)> {
            events.starts.iter().copied().zip(events.ends.iter().copied()).collect()
        };
        assert!(pairs(&kept).is_sorted() && pairs(&held_out).is_sorted());
        let mut both = [pairs(&kept), pairs(&held_out)].concat();
        both.sort_unstable();
        assert_eq!(both, pairs(&all));
        let metric = |name: &str| results.metrics[name];
        assert_eq!((metric("events"), metric("held_out_events")), (32.0, 8.0));
        assert_eq!(metric("frames") + metric("held_out_frames"), 40.0 * 41.0 / 2.0);
        assert_eq!(run("").main::<Events>(), kept);
        assert_ne!(run("seed = 1").main::<Events>(), kept);
        assert_eq!(run("fraction = 0.9").metrics["events"], 36.0);
    }

    #[test]
    fn a_pre_training_of_the_same_seed_chooses_the_same_events() {
        let bench = Bench::new().put("events", &events(25));
        let text = "events = '@events'\nfraction = 0.6\nseed = 4";
        let kept: Events = bench.run::<MovieSplit>(text).unwrap().main();
        let stage: MovieSplit = toml::from_str(text).unwrap();
        let (trained, _) = sampler::split(25, 0.6, &stage.seed.streams(STREAMS)).unwrap();
        assert_eq!(kept, select(&events(25), &trained));
    }

    #[test]
    fn an_empty_part_is_refused() {
        let bench = Bench::new().put("events", &events(2));
        let error = bench.run::<MovieSplit>("events = '@events'\nfraction = 0.9").unwrap_err();
        let failure = Failure::from_error(error);
        assert_eq!(failure.message, "2 events split into 2 and 0: a part is empty");
        assert!(failure.hint.is_some());
        for fraction in ["0.0", "1.0", "-0.5"] {
            let text = format!("events = '@events'\nfraction = {fraction}");
            assert!(bench.run::<MovieSplit>(&text).is_err(), "{fraction}");
        }
    }
}
