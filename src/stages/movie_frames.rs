//! `movie.frames`: frames of a movie as a table, to be looked at in figures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::excerpt::Excerpt;
use super::shared::film::{self, Calibration};
use crate::artifacts::events::Events;
use crate::artifacts::movie::Movie;
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation};

/// Writes frames of a movie as a table, with a row for each pixel.
///
/// Columns: `frame`, counted from 0; `seconds` since the movie began, and `elapsed` since the first frame taken;
/// `x` and `y` of the pixel's middle, in mm where the movie says how large its pixels are, else in pixels, with `y`
/// growing downwards; and `value`, in the movie's unit. A figure with `mark = "tile"`, `x = "x"`, `y = "y"`,
/// `y_scale = "reversed"`, `color = "value"` and `panel = "elapsed"` shows the frames side by side.
///
/// Source: none.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovieFrames {
    /// The movie.
    movie: Input<Movie>,
    /// The movie's events, of which `event` chooses one.
    #[serde(default)]
    events: Option<Input<Events>>,
    /// The event whose frames are taken, counted from 0. Default: those of the whole movie.
    #[serde(default)]
    event: Option<usize>,
    /// The first frame taken, counted from the first of the event, or of the movie.
    #[serde(default)]
    first: usize,
    /// Number of frames in which to choose, from `first`. Default: all to the end of the event, or of the movie.
    #[serde(default)]
    #[schemars(range(min = 1))]
    frames: Option<usize>,
    /// One frame in this many is taken.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    every: usize,
}

fn one() -> usize {
    1
}

/// A table of more rows than this is for no figure.
const MOST_ROWS: usize = 1 << 22;

impl MovieFrames {
    fn excerpt(&self) -> Excerpt {
        let Self { event, first, frames, every, .. } = *self;
        Excerpt { event, first, frames, every }
    }
}

impl Stage for MovieFrames {
    const KIND: &'static str = "movie.frames";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const SMALL: bool = true;
    const EXAMPLE: &'static str = r#"
        [stages.mosaic]
        kind = "movie.frames"
        movie = "@retina"
        frames = 24
    "#;

    fn check(&self) -> Vec<Violation> {
        self.excerpt().check(self.events.is_some())
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let events = self.events.as_ref().map(|events| cx.load(events)).transpose()?;
        let (movie, Calibration { rate, pitch }) = film::from_gray(cx.load(&self.movie)?)?;
        let taken = self.excerpt().of(movie.frames, events.as_ref())?;
        let rows = taken.len().saturating_mul(movie.area());
        anyhow::ensure!(
            rows <= MOST_ROWS,
            Failure::user(format!(
                "{} frames of {} x {} pixels would be {rows} rows, more than {MOST_ROWS}",
                taken.len(),
                movie.height,
                movie.width
            ))
            .hint("take fewer: a smaller `frames`, or a larger `every`")
        );
        cx.metric("frames", taken.len() as f64)?;
        let seconds = |frames: usize| libm::round(frames as f64 / rate * 1e6) / 1e6;
        let middle =
            |index: usize| pitch.map_or(index as f64, |pitch| (index as f64 + 0.5) * pitch);
        let (area, width, start) = (movie.area(), movie.width, taken[0]);
        let places = || taken.iter().flat_map(|frame| (0..area).map(move |pixel| (*frame, pixel)));
        let table = Table::new()
            .counts("frame", places().map(|(frame, _)| frame))
            .floats("seconds", places().map(|(frame, _)| seconds(frame)))
            .floats("elapsed", places().map(|(frame, _)| seconds(frame - start)))
            .floats("x", places().map(|(_, pixel)| middle(pixel % width)))
            .floats("y", places().map(|(_, pixel)| middle(pixel / width)))
            .floats("value", places().map(|(frame, pixel)| f64::from(movie.frame(frame)[pixel])));
        cx.save(&table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::shared::bench::Bench;

    fn column(table: &Table, name: &str) -> Vec<f64> {
        let frame = table.frame().unwrap();
        let column = frame.column(name).unwrap();
        let values = column.cast(&polars::prelude::DataType::Float64).unwrap();
        values.f64().unwrap().iter().map(Option::unwrap).collect()
    }

    #[test]
    fn every_pixel_of_a_taken_frame_is_a_row() {
        let data = (0..24).map(|v| v as f32).collect();
        let movie = Movie {
            frames: 6,
            channels: 1,
            height: 2,
            width: 2,
            rate: 3.0,
            pitch: Some(0.1),
            data,
        };
        let events = Events { starts: vec![0, 3], ends: vec![2, 6] };
        let bench = Bench::new().put("movie", &movie).put("events", &events);
        let text = "movie = '@movie'\nevents = '@events'\nevent = 1\nevery = 2";
        let results = bench.run::<MovieFrames>(text).unwrap();
        let table: Table = results.main();
        assert_eq!(column(&table, "frame"), [3.0, 3.0, 3.0, 3.0, 5.0, 5.0, 5.0, 5.0]);
        assert_eq!(column(&table, "seconds")[3..5], [1.0, 1.666_667]);
        assert_eq!(column(&table, "elapsed")[3..5], [0.0, 0.666_667]);
        let [x, y] = ["x", "y"].map(|name| column(&table, name)[..4].to_vec());
        let (near, far) = (0.5 * 0.1, 1.5 * 0.1);
        assert_eq!((x, y), (vec![near, far, near, far], vec![near, near, far, far]));
        assert_eq!(column(&table, "value"), [12., 13., 14., 15., 20., 21., 22., 23.]);
        assert_eq!(results.metrics["frames"], 2.0);
        let error = bench.run::<MovieFrames>("movie = '@movie'\nfirst = 6").unwrap_err();
        assert!(error.to_string().contains("there is no frame from 6 on"), "{error}");
    }
}
