//! `movie.shuffle`: the controls that keep a movie's values and destroy its order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::film;
use crate::artifacts::events::Events;
use crate::artifacts::movie::Movie;
use crate::engine::context::Context;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage};
use crate::omit::is_default;
use crate::waves::shuffle::{self, Scope};

/// Shuffles a movie in time, in space, or in both.
///
/// In time, frames are put into one random order; in space, the pixels of each frame into an order of its own
/// (Ligeralde et al. 2023, section 2.1). The paper shuffles what it trains on: its code joins the frames of all events
/// and permutes those. Give `events` for that; without them, the silent frames between events, which are all much the
/// same, get into the events. Events keep their boundaries: those of the original movie fit the shuffled one, and an
/// event is then frames from any events. In space, the paper says that pixels are permuted; its code repeats a frame in
/// three channels first and permutes each on its own (`per_channel`), so that they are equal no longer. Both are done
/// once, before training. What is shuffled in both ways is shuffled in time first.
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208, section 2.1.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovieShuffle {
    /// The movie.
    movie: Input<Movie>,
    /// The events whose frames are put into a new order in time, all together; frames outside stay where they are.
    /// Without events, all frames of the movie. In space, pixels are permuted in every frame either way.
    #[serde(default)]
    events: Option<Input<Events>>,
    /// What is destroyed.
    axis: Axis,
    /// Whether each channel of a frame is put into an order of its own in space, as in the paper's code; give it the
    /// movie that `movie.normalise` makes with `channels = 3`. Off where absent: all channels of a frame share one
    /// order. Without effect on a movie of one channel, and in time.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false))]
    per_channel: bool,
    /// Seed of the orders.
    #[serde(default)]
    seed: Seed,
}

/// What a shuffle destroys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Axis {
    /// Nothing: the movie as it is, so that a sweep over controls has the original among them.
    None,
    /// The order of frames.
    Time,
    /// The order of pixels in each frame.
    Space,
    /// First the order of frames, then that of pixels.
    Both,
}

impl Axis {
    fn in_time(self) -> bool {
        matches!(self, Self::Time | Self::Both)
    }

    fn in_space(self) -> bool {
        matches!(self, Self::Space | Self::Both)
    }
}

impl Stage for MovieShuffle {
    const KIND: &'static str = "movie.shuffle";
    const VERSION: u32 = 3;
    const DETERMINISM: Determinism = Determinism::Bit;
    const SMALL: bool = true;
    const EXAMPLE: &'static str = r#"
        [stages.shuffled]
        kind = "movie.shuffle"
        movie = "@movie"
        axis = "time"
    "#;

    fn outputs(&self) -> Outputs {
        Outputs::main(Movie::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let (mut frames, calibration) = film::from_movie(cx.load(&self.movie)?)?;
        let streams = self.seed.streams(Self::KIND);
        if self.axis.in_time() {
            let places: Vec<usize> = match &self.events {
                Some(events) => {
                    film::ranges(&cx.load(events)?, frames.frames)?.into_iter().flatten().collect()
                }
                None => (0..frames.frames).collect(),
            };
            shuffle::in_time(&mut frames, &places, &streams);
            cx.progress(0.5, || "shuffled in time".into());
            cx.check_cancelled()?;
        }
        if self.axis.in_space() {
            let total = frames.frames as f64;
            let scope = if self.per_channel { Scope::Channel } else { Scope::Frame };
            shuffle::in_space(&mut frames, scope, &streams, |frame| {
                cx.progress(0.5 + 0.5 * (frame + 1) as f64 / total, || format!("{frame} frames"));
                cx.check_cancelled()
            })?;
        }
        cx.save(&film::to_movie(frames, calibration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::shared::bench::Bench;

    /// Twenty frames of four pixels; the first pixel is four times the frame's index.
    fn movie() -> Movie {
        let data: Vec<f32> = (0..80).map(|v| v as f32).collect();
        Movie { frames: 20, channels: 1, height: 2, width: 2, rate: 10.0, pitch: None, data }
    }

    /// The frame that each frame of a shuffled movie comes from, if its pixels still tell.
    fn sources(movie: &Movie) -> Vec<usize> {
        movie.data.chunks(4).map(|frame| frame[0] as usize / 4).collect()
    }

    #[test]
    fn each_axis_keeps_what_it_should() {
        let bench = Bench::new().put("movie", &movie());
        let run = |axis: &str| -> Movie {
            let text = format!("movie = '@movie'\naxis = '{axis}'");
            bench.run::<MovieShuffle>(&text).unwrap().main()
        };
        let (time, space, both) = (run("time"), run("space"), run("both"));
        assert_eq!(run("none"), movie());
        let in_order = |movie: &Movie| sources(movie).into_iter().eq(0..20);
        let whole =
            |movie: &Movie| movie.data.chunks(4).all(|f| f.windows(2).all(|w| w[1] == w[0] + 1.0));
        assert!(!in_order(&time) && whole(&time));
        assert!(in_order(&space) && !whole(&space));
        assert!(!in_order(&both) && !whole(&both));
        for mut movie in [time, space, both] {
            movie.data.sort_by(f32::total_cmp);
            assert!(movie.data.iter().enumerate().all(|(i, v)| *v == i as f32));
        }
    }
    #[test]
    fn with_events_only_their_frames_move() {
        let events = Events { starts: vec![2, 11], ends: vec![8, 19] };
        let bench = Bench::new().put("movie", &movie()).put("events", &events);
        let run = |axis: &str| -> Movie {
            let text = format!("movie = '@movie'\nevents = '@events'\naxis = '{axis}'");
            bench.run::<MovieShuffle>(&text).unwrap().main()
        };
        let inside: Vec<usize> = (2..8).chain(11..19).collect();
        for axis in ["time", "both"] {
            let found = sources(&run(axis));
            assert!((0..20).all(|f| inside.contains(&f) || found[f] == f), "{axis}: {found:?}");
            let mut moved: Vec<usize> = inside.iter().map(|f| found[*f]).collect();
            assert_ne!(moved, inside, "{axis}");
            moved.sort_unstable();
            assert_eq!(moved, inside, "{axis}");
        }
        assert_eq!(run("space"), {
            let text = "movie = '@movie'\naxis = 'space'";
            bench.run::<MovieShuffle>(text).unwrap().main::<Movie>()
        });
    }

    #[test]
    fn channels_are_permuted_alike_or_each_on_its_own() {
        let gray = movie();
        let data = gray.data.chunks(4).flat_map(|frame| [frame, frame, frame].concat()).collect();
        let bench = Bench::new().put("movie", &Movie { channels: 3, data, ..gray });
        let run = |more: &str| -> Movie {
            let text = format!("movie = '@movie'\naxis = 'space'\n{more}");
            bench.run::<MovieShuffle>(&text).unwrap().main()
        };
        let alike =
            |movie: &Movie| movie.data.chunks(12).all(|f| f[..4] == f[4..8] && f[..4] == f[8..]);
        let (together, apart) = (run(""), run("per_channel = true"));
        assert!(alike(&together) && !alike(&apart));
        for frame in apart.data.chunks(4) {
            let mut values = frame.to_vec();
            values.sort_by(f32::total_cmp);
            assert!(values.windows(2).all(|w| w[1] == w[0] + 1.0));
        }
    }

    #[test]
    fn events_of_another_movie_are_refused() {
        let events = Events { starts: vec![2], ends: vec![21] };
        let bench = Bench::new().put("movie", &movie()).put("events", &events);
        let text = "movie = '@movie'\nevents = '@events'\naxis = 'time'";
        let error = bench.run::<MovieShuffle>(text).unwrap_err();
        let failure = crate::engine::failure::Failure::from_error(error);
        assert_eq!(failure.kind, crate::engine::failure::FailureKind::Data);
        assert!(failure.hint.is_some() && failure.message.contains("2..21"), "{failure}");
    }
}
