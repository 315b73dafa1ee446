//! `movie.normalise`: a movie in the range that networks expect.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::film;
use crate::artifacts::movie::Movie;
use crate::engine::context::Context;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage};
use crate::waves::normalize::standardize_and_scale;

/// Standardizes each pixel over all frames, then brings all values into [0, 1] by one minimum and maximum.
///
/// The preprocessing of Ligeralde et al. 2023 for simulated and recorded waves.
///
/// Source: Ligeralde et al. 2023, PMLR 243:194-208.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovieNormalise {
    /// The movie.
    movie: Input<Movie>,
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

    fn outputs(&self) -> Outputs {
        Outputs::main(Movie::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let (mut frames, calibration) = film::from_movie(cx.load(&self.movie)?)?;
        standardize_and_scale(&mut frames);
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
    }
}
