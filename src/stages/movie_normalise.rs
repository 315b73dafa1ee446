//! `movie.normalise`: a movie in the range that networks expect.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::film;
use crate::artifacts::movie::Movie;
use crate::engine::context::Context;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::omit::is_one;
use crate::waves::normalize::{repeat_channels, standardize_and_scale};

/// Standardizes each pixel over all frames, then brings all values into [0, 1] by one minimum and maximum.
///
/// The preprocessing of Ligeralde et al. 2023 for simulated and recorded waves. Their code then repeats the frame in
/// three equal channels: `channels`. A network repeats a gray frame by itself, so one channel and a third of the
/// space do for all but a spatial shuffle of each channel on its own (`per_channel` of `movie.shuffle`).
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovieNormalise {
    /// The movie.
    movie: Input<Movie>,
    /// Equal channels that each frame is repeated in, from 1, the default, to 16; 3 in the paper's code. A movie that
    /// has several already takes no more.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 16), extend("default" = 1))]
    channels: usize,
}

fn one() -> usize {
    1
}

impl Stage for MovieNormalise {
    const KIND: &'static str = "movie.normalise";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Bit;
    const SMALL: bool = true;
    const EXAMPLE: &'static str = r#"
        [stages.movie]
        kind = "movie.normalise"
        movie = "@retina"
    "#;

    fn check(&self) -> Vec<Violation> {
        violations([("channels", (1..=16).contains(&self.channels), "must be from 1 to 16")])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Movie::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let movie = cx.load(&self.movie)?;
        let repeated = self.channels > 1;
        let (mut frames, calibration) =
            if repeated { film::from_gray(movie)? } else { film::from_movie(movie)? };
        standardize_and_scale(&mut frames);
        if repeated {
            frames = repeat_channels(frames, self.channels);
        }
        cx.save(&film::to_movie(frames, calibration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::shared::bench::Bench;

    #[test]
    fn values_fill_zero_to_one() {
        let data: Vec<f32> = (0..60).map(|v| (v * v % 13) as f32 - 70.0).collect();
        let movie =
            Movie { frames: 15, channels: 1, height: 2, width: 2, rate: 10.0, pitch: None, data };
        let bench = Bench::new().put("movie", &movie);
        let scaled: Movie = bench.run::<MovieNormalise>("movie = '@movie'").unwrap().main();
        let (least, most) =
            scaled.data.iter().fold((1f32, 0f32), |(a, b), v| (a.min(*v), b.max(*v)));
        assert_eq!((least, most, scaled.rate), (0.0, 1.0, 10.0));
        let color: Movie =
            bench.run::<MovieNormalise>("movie = '@movie'\nchannels = 3").unwrap().main();
        assert_eq!((color.channels, color.data.len()), (3, 180));
        for (gray, color) in scaled.data.chunks(4).zip(color.data.chunks(12)) {
            assert!(color.chunks(4).all(|channel| channel == gray));
        }
        let bench = Bench::new().put("movie", &color);
        let error = bench.run::<MovieNormalise>("movie = '@movie'\nchannels = 2").unwrap_err();
        assert!(error.to_string().contains("3 channels"), "{error}");
    }

    #[test]
    fn a_single_channel_is_no_part_of_the_identity() {
        let written = |text: &str| {
            serde_json::to_string(&toml::from_str::<MovieNormalise>(text).unwrap()).unwrap()
        };
        assert_eq!(written("movie = '@m'"), written("movie = '@m'\nchannels = 1"));
        assert!(!written("movie = '@m'").contains("channels"));
        assert!(written("movie = '@m'\nchannels = 3").contains("channels"));
    }
}
