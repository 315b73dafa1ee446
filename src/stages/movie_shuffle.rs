//! `movie.shuffle`: the controls that keep a movie's values and destroy its order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::film;
use crate::artifacts::movie::Movie;
use crate::engine::context::Context;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage};
use crate::waves::shuffle;

/// Shuffles a movie in time, in space, or in both.
///
/// In time, all frames are put into one random order; in space, the pixels of each frame into an order of its own
/// (Ligeralde et al. 2023, section 2.1). Events keep their boundaries: those of the original movie fit the shuffled one.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovieShuffle {
    /// The movie.
    movie: Input<Movie>,
    /// What is destroyed.
    axis: Axis,
    /// Seed of the orders.
    #[serde(default)]
    seed: Seed,
}

/// What a shuffle destroys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Axis {
    /// The order of frames.
    Time,
    /// The order of pixels in each frame.
    Space,
    /// First the order of frames, then that of pixels.
    Both,
}

impl Stage for MovieShuffle {
    const KIND: &'static str = "movie.shuffle";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;

    fn outputs(&self) -> Outputs {
        Outputs::main(Movie::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let (mut frames, rate) = film::from_movie(cx.load(&self.movie)?)?;
        let streams = self.seed.streams(Self::KIND);
        if self.axis != Axis::Space {
            shuffle::in_time(&mut frames, &streams);
        }
        if self.axis != Axis::Time {
            shuffle::in_space(&mut frames, &streams);
        }
        cx.save(&film::to_movie(frames, rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::shared::bench::Bench;

    #[test]
    fn each_axis_keeps_what_it_should() {
        let data: Vec<f32> = (0..80).map(|v| v as f32).collect();
        let movie = Movie { frames: 20, height: 2, width: 2, rate: 10.0, data };
        let bench = Bench::new().put("movie", &movie);
        let run = |axis: &str| -> Movie {
            let text = format!("movie = '@movie'\naxis = '{axis}'");
            bench.run::<MovieShuffle>(&text).unwrap().main()
        };
        let (time, space, both) = (run("time"), run("space"), run("both"));
        let frame_of = |movie: &Movie, f: usize| movie.data[f * 4] as usize / 4;
        let in_order = |movie: &Movie| (0..20).all(|f| frame_of(movie, f) == f);
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
}
