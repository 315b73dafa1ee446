//! `movie.export`: a movie to look at, as an animated GIF or a sheet of frames.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::excerpt::Excerpt;
use super::shared::film::{self, Calibration};
use super::shared::picture::{self, Playback};
use crate::artifacts::events::Events;
use crate::artifacts::file::PlainFile;
use crate::artifacts::movie::Movie;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};

/// Draws a movie in false colors: an animated GIF, or its frames side by side in one PNG.
///
/// The colors are those of figures, from the darkest for `low` to the brightest for `high`, which are metrics, as are
/// `frames` and, of a GIF, the `seconds` that it plays. The result is one file called `file`:
/// `wavecrest export EXPERIMENT.toml STAGE FOLDER` copies it out, to be renamed to `.gif` or `.png`. The same movie always
/// gives the same bytes.
///
/// Source: none; GIF is that of CompuServe 1990 (89a), the colors are viridis.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovieExport {
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
    /// What is made of the frames.
    #[serde(default)]
    format: Format,
    /// Side of a pixel of the movie in pixels of the picture.
    #[serde(default = "scale")]
    #[schemars(range(min = 1, max = 64))]
    scale: usize,
    /// The values of the darkest and of the brightest color, in the movie's unit. Default: by `percentiles`.
    #[serde(default)]
    range: Option<[f64; 2]>,
    /// Where `range` is absent: these percentiles of all values taken, so that few extreme ones leave the others color.
    #[serde(default = "percentiles")]
    percentiles: [f64; 2],
}

/// What is made of frames.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// A GIF that plays in a loop.
    Gif(Gif),
    /// A PNG of all frames in rows, the first in the upper left corner.
    Sheet(Sheet),
}

/// How a GIF plays.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Gif {
    /// How many times faster than it was the movie plays.
    #[serde(default = "real_time")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    speed: f64,
}

/// How frames lie on a sheet.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sheet {
    /// Frames in a row. Default: about as many as there are rows.
    #[serde(default)]
    #[schemars(range(min = 1))]
    columns: Option<usize>,
}

impl Default for Format {
    fn default() -> Self {
        Self::Gif(Gif { speed: real_time() })
    }
}

fn one() -> usize {
    1
}
fn scale() -> usize {
    4
}
fn real_time() -> f64 {
    1.0
}
fn percentiles() -> [f64; 2] {
    [0.5, 99.5]
}

/// Pictures of more pixels than this are for no eye.
const MOST_PIXELS: usize = 1 << 29;

impl Stage for MovieExport {
    const KIND: &'static str = "movie.export";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.film]
        kind = "movie.export"
        movie = "@retina"
        frames = 200
    "#;

    fn check(&self) -> Vec<Violation> {
        let [low, high] = self.percentiles;
        let (speed, columns) = match self.format {
            Format::Gif(Gif { speed }) => (speed, None),
            Format::Sheet(Sheet { columns }) => (1.0, columns),
        };
        let ascends = |[low, high]: [f64; 2]| low < high && (high - low).is_finite();
        let own = violations([
            ("format.gif.speed", speed > 0.0 && speed.is_finite(), "must be above 0"),
            ("format.sheet.columns", columns.is_none_or(|n| n > 0), "must be at least 1"),
            ("scale", (1..=64).contains(&self.scale), "must be from 1 to 64"),
            ("range", self.range.is_none_or(ascends), "must be a lower and a higher number"),
            ("percentiles", 0.0 <= low && low < high && high <= 100.0, "must ascend from 0 to 100"),
        ]);
        [self.excerpt().check(self.events.is_some()), own].concat()
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(PlainFile::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let events = self.events.as_ref().map(|events| cx.load(events)).transpose()?;
        let (movie, Calibration { rate, .. }) = film::from_gray(cx.load(&self.movie)?)?;
        let taken = self.excerpt().of(movie.frames, events.as_ref())?;
        let pixels =
            taken.len().saturating_mul(movie.area()).saturating_mul(self.scale * self.scale);
        let longest = movie.height.max(movie.width).saturating_mul(self.scale);
        if pixels > MOST_PIXELS || longest > usize::from(u16::MAX) {
            let found = format!("{} frames would be pictures of {pixels} pixels", taken.len());
            return Err(Failure::user(found)
                .hint("take fewer with `frames` or `every`, or give a smaller `scale`")
                .into());
        }
        let (low, high) = match self.range {
            Some([low, high]) => (low, high),
            None => picture::percentiles(&movie, &taken, self.percentiles),
        };
        cx.metric("frames", taken.len() as f64)?;
        cx.metric("low", low)?;
        cx.metric("high", high)?;
        let frames: Vec<Vec<u8>> =
            taken.iter().map(|frame| picture::levels(movie.frame(*frame), low, high)).collect();
        let size = (movie.width, movie.height);
        let bytes = match self.format {
            Format::Gif(Gif { speed }) => {
                let playback = Playback { frames_a_second: rate * speed / self.every as f64 };
                cx.metric("seconds", playback.seconds(taken.len()))?;
                picture::gif(&frames, size, self.scale, playback, |done| {
                    cx.progress(done, || "writing".into());
                    cx.check_cancelled()
                })?
            }
            Format::Sheet(Sheet { columns }) => {
                let square = libm::ceil(libm::sqrt(taken.len() as f64)) as usize;
                picture::sheet(&frames, size, self.scale, columns.unwrap_or(square))?
            }
        };
        cx.save(&PlainFile(bytes))
    }
}

impl MovieExport {
    fn excerpt(&self) -> Excerpt {
        let Self { event, first, frames, every, .. } = *self;
        Excerpt { event, first, frames, every }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::colormap;
    use crate::stages::shared::bench::{Bench, Results};

    /// Five frames of 2 x 3 pixels, from 0 to 29, 10 a second.
    fn run(more: &str) -> anyhow::Result<Results> {
        let data = (0..30).map(|v| v as f32).collect();
        let movie =
            Movie { frames: 5, channels: 1, height: 2, width: 3, rate: 10.0, pitch: None, data };
        let events = Events { starts: vec![1], ends: vec![4] };
        let bench = Bench::new().put("movie", &movie).put("events", &events);
        bench.run::<MovieExport>(&format!("movie = '@movie'\nevents = '@events'\n{more}"))
    }

    fn bytes(more: &str) -> Vec<u8> {
        run(more).unwrap().main::<PlainFile>().0
    }

    #[test]
    fn a_gif_plays_the_frames_at_their_speed() {
        let text = "event = 0\nscale = 2\nrange = [0, 29]\nformat = { gif = { speed = 1.5 } }";
        let mut decoder = gif::DecodeOptions::new().read_info(Cursor::new(bytes(text))).unwrap();
        assert_eq!((decoder.width(), decoder.height()), (6, 4));
        assert_eq!(decoder.global_palette().unwrap()[..765], colormap::palette());
        let mut delays = Vec::new();
        let mut first = Vec::new();
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            delays.push(frame.delay);
            first.push(frame.buffer[..6].to_vec());
        }
        // 15 frames a second: 6.67 hundredths each, the errors not added up.
        assert_eq!(delays, [7, 6, 7]);
        let level = |value: f64| colormap::level(value / 29.0);
        let row = [6.0, 6.0, 7.0, 7.0, 8.0, 8.0].map(level);
        assert_eq!(first[0], row);
        let results = run(text).unwrap();
        assert_eq!((results.metrics["frames"], results.metrics["seconds"]), (3.0, 0.2));
        assert_eq!((results.metrics["low"], results.metrics["high"]), (0.0, 29.0));
        assert_eq!(bytes(text), bytes(text));
    }

    #[test]
    fn a_sheet_holds_the_frames_in_rows() {
        let text =
            "scale = 1\nevery = 2\nformat = { sheet = { columns = 2 } }\npercentiles = [0, 100]";
        let bytes = bytes(text);
        let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
        let mut levels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut levels).unwrap();
        // Two frames of 3 x 2 with a gap between, in two rows.
        let gap = picture::GAP;
        assert_eq!((info.width as usize, info.height as usize), (6 + gap, 4 + gap));
        let at = |x: usize, y: usize| levels[y * (6 + gap) + x];
        let level = |value: f64| colormap::level(value / 29.0);
        assert_eq!([at(0, 0), at(2, 1), at(3 + gap, 0)], [level(0.0), level(5.0), level(12.0)]);
        assert_eq!([at(3, 0), at(3 + gap, 2 + gap)], [255, 255]);
        assert_eq!(at(0, 2 + gap), level(24.0));
    }

    #[test]
    fn what_cannot_be_shown_is_said() {
        let message = |more: &str| run(more).unwrap_err().to_string();
        assert!(message("format = { gif = { speed = 30 } }").contains("would have 300"));
        assert!(message("first = 5").contains("there is no frame from 5 on"));
        assert!(message("range = [1, 1]").contains("range"));
        assert!(message("percentiles = [5, 101]").contains("percentiles"));
        assert!(message("format = { sheet = { columns = 0 } }").contains("format.sheet.columns"));
    }
}
