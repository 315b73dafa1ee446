//! `movie.stats`: the properties of a movie's waves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::film::{self, Calibration};
use super::shared::survey::{self, Raster, Scale};
use crate::artifacts::events::Events;
use crate::artifacts::movie_reader::MovieReader;
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::waves::events::Segmentation;
use crate::waves::survey::{Survey, SurveyOptions, Surveyed};

/// Measures the waves of a movie: how many, how large, how fast, how far apart, and how far correlations reach.
///
/// A wave is found as in the analysis of Lansdell et al. 2014 (code): active pixels that share a side in one frame, or
/// that are the same or share a side from one frame to the next; waves that meet are one, and small ones are left out.
/// The movie is read in windows of a few megabytes, however long it is; memory grows by four bytes a frame, by what the
/// waves under way hold, and by a row a wave.
///
/// The main output is one row for the movie, so that simulated and recorded waves stand in one table. Of duration, area,
/// speed and interval there are the median and the quartiles (`_q1`, `_q3`). `_se` is a standard error: of a median over
/// waves, from the ranks that hold it in 68 of 100 cases, 0 where these are ties; of `waves_per_minute` and `active_frames`, from ten blocks of
/// the movie; of correlation lengths, from the jackknife over these. Intervals have none, as neighbors wait for the same
/// waves. What cannot be measured is empty, and `missing` says why. Where the movie says how far its pixels are apart,
/// lengths are in mm too. `active_frames` is the share of frames with activity, `active_pixels` the mean share of pixels
/// that are active; censored waves, which were under way in the first or last frame, are counted with the others.
///
/// Speed is the inverse of the median slope of the arrival times, which are the first frame of the wave at each pixel: the
/// slope at a pixel is that of the plane which fits the 5 × 5 pixels around it best, of which the wave reaches at least
/// 15. An interval is the time between two onsets of one pixel. Correlations are covariances of all pairs of pixels at a
/// distance, or of a pixel and its past, over the product of deviations; their length is where they first fall to 1/e.
///
/// Tables: `waves`, a row for each (`event` is the one that holds its first frame; `x` and `y` are where it begins;
/// `no_speed` says `small` or `fast`); `intervals`, how often a wait occurs; `pixels`, a row for each; `fronts`, the
/// seconds after their beginning at which the largest waves come to each pixel; `activity`, the share of active pixels
/// in each frame; `raster`, the active pixels of some seconds; `correlations` over distance and time. Metrics: those of
/// `waves`, `waves_per_minute`, `active_frames`, `duration_s`, `area_px`, `speed_px_s`, `interval_s`, `correlation_px`
/// and `correlation_s` that are there.
///
/// Source: Lansdell, Ford and Kutz 2014, PLoS Comput. Biol. 10(12): e1003953, and their code (`wavecounts`, `wavedata`)
/// for waves, the threshold and intervals; the slope of arrival times is the eikonal equation's; jackknife over blocks:
/// Künsch 1989, Ann. Statist. 17: 1217.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovieStats {
    /// The movie, of one channel.
    movie: Input<MovieReader>,
    /// Events that waves are assigned to. All waves are measured either way.
    #[serde(default)]
    events: Option<Input<Events>>,
    /// Value above which a pixel is active, in the movie's unit: -60 mV for simulated waves (Lansdell et al. 2014).
    #[serde(default = "threshold")]
    threshold: f64,
    /// Active pixels that a frame has at least; one with fewer counts as silent.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    active_pixels: usize,
    /// Active pixels that a wave has at least, in all its frames together: 2 in the analysis of Lansdell et al. 2014.
    #[serde(default = "two")]
    #[schemars(range(min = 1))]
    smallest: u64,
    /// Seconds from one onset of a pixel to the next, at least; a sooner one belongs to the onset before. 2 in the
    /// analysis of Lansdell et al. 2014 (code).
    #[serde(default = "two_seconds")]
    #[schemars(range(min = 0.0), extend("x-unit" = "s"))]
    shortest_interval: f64,
    /// Width of a bin of the table `intervals`.
    #[serde(default = "five_seconds")]
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    interval_bin: f64,
    /// How many of the largest waves the table `fronts` holds.
    #[serde(default = "six")]
    fronts: usize,
    /// When the table `raster` begins.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "s"))]
    raster_start: f64,
    /// How long it lasts.
    #[serde(default = "a_minute")]
    #[schemars(range(min = 0.0), extend("x-unit" = "s"))]
    raster_seconds: f64,
}

fn threshold() -> f64 {
    Segmentation::default().threshold
}
fn one() -> usize {
    1
}
fn two() -> u64 {
    2
}
fn two_seconds() -> f64 {
    2.0
}
fn five_seconds() -> f64 {
    5.0
}
fn six() -> usize {
    6
}
fn a_minute() -> f64 {
    60.0
}

/// The numbers of the summary that are metrics too.
const METRICS: [&str; 9] = [
    "waves",
    "waves_per_minute",
    "active_frames",
    "duration_s",
    "area_px",
    "speed_px_s",
    "interval_s",
    "correlation_px",
    "correlation_s",
];

impl Stage for MovieStats {
    const KIND: &'static str = "movie.stats";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.stats]
        kind = "movie.stats"
        movie = "@retina"
    "#;

    fn check(&self) -> Vec<Violation> {
        violations([
            ("active_pixels", self.active_pixels >= 1, "must be at least 1"),
            ("smallest", self.smallest >= 1, "must be at least 1"),
            ("shortest_interval", self.shortest_interval >= 0.0, "must be at least 0"),
            ("interval_bin", self.interval_bin > 0.0, "must be above 0"),
            ("raster_start", self.raster_start >= 0.0, "must be at least 0"),
            ("raster_seconds", self.raster_seconds >= 0.0, "must be at least 0"),
        ])
    }

    fn outputs(&self) -> Outputs {
        let tables =
            ["waves", "intervals", "pixels", "fronts", "activity", "raster", "correlations"];
        tables.into_iter().fold(Outputs::main(Table::TYPE), |all, name| all.and(name, Table::TYPE))
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let movie = cx.load(&self.movie)?.gray()?;
        let events = match &self.events {
            Some(events) => Some(film::ranges(&cx.load(events)?, movie.frames)?),
            None => None,
        };
        let scale = Scale::from(Calibration { rate: movie.rate, pitch: movie.pitch });
        let width = movie.width;
        let (found, raster) = self.survey(cx, &movie)?;
        let summary = survey::summary(&found, scale);
        for (name, value) in &summary.values {
            if let Some(value) = value.filter(|_| METRICS.contains(&name.as_str())) {
                cx.metric(name, value)?;
            }
        }
        cx.save_as("waves", &survey::waves(&found, events.as_deref(), scale))?;
        cx.save_as("intervals", &survey::intervals(&found, self.interval_bin, scale))?;
        cx.save_as("pixels", &survey::pixels(&found, width, scale))?;
        cx.save_as("fronts", &survey::fronts(&found, width, scale))?;
        cx.save_as("activity", &survey::activity(&found, scale))?;
        cx.save_as("raster", &raster.table(width, scale))?;
        cx.save_as("correlations", &survey::correlations(&found, scale))?;
        cx.save(&summary.table())
    }
}

impl MovieStats {
    fn survey(&self, cx: &Context<'_>, movie: &MovieReader) -> anyhow::Result<(Surveyed, Raster)> {
        let Self { threshold, active_pixels, smallest, fronts, .. } = *self;
        let options = SurveyOptions {
            rule: Segmentation { threshold, active_pixels },
            smallest,
            shortest_interval: (self.shortest_interval * movie.rate).ceil() as u32,
            fronts,
        };
        let mut survey = Survey::new(options, movie.frames, movie.height, movie.width);
        let mut raster = Raster::default();
        let end = self.raster_start + self.raster_seconds;
        let shown = |frame: usize| {
            let seconds = frame as f64 / movie.rate;
            seconds >= self.raster_start && seconds < end
        };
        movie.each_window(|first, window| {
            survey.push(window);
            let frames = window.len() / movie.size();
            for index in (0..frames).filter(|index| shown(first + index)) {
                raster.push(first + index, survey.mask(index));
            }
            film::told(cx, first + frames, movie.frames)
        })?;
        Ok((survey.finish(), raster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::movie::Movie;
    use crate::stages::shared::bench::Bench;

    /// Plane fronts of 20 × 24 pixels that run right at 4 pixels a second and are active for a second, every 10 seconds.
    fn movie(pitch: Option<f64>) -> Movie {
        let value = |t: usize, x: usize| {
            let since = (t as f64 / 8.0 - x as f64 / 4.0 - 1.0).rem_euclid(10.0);
            if since < 1.0 && t >= 8 { 1.0 } else { 0.0 }
        };
        let frame = |t: usize| (0..20 * 24).map(move |at| value(t, at % 24));
        let data = (0..800).flat_map(frame).collect();
        Movie { frames: 800, channels: 1, height: 20, width: 24, rate: 8.0, pitch, data }
    }

    fn number(table: &Table, name: &str, row: usize) -> Option<f64> {
        let frame = table.frame().unwrap();
        let column = frame.column(name).unwrap().cast(&polars::prelude::DataType::Float64).unwrap();
        column.f64().unwrap().get(row)
    }

    #[test]
    fn fronts_have_their_speed_size_and_interval_in_both_units() {
        let events = Events { starts: vec![8, 169], ends: vec![80, 170] };
        let bench = Bench::new().put("movie", &movie(Some(0.1))).put("events", &events);
        let text = "movie = '@movie'\nevents = '@events'\nthreshold = 0.5\nraster_start = 1\n\
            raster_seconds = 2";
        let results = bench.run::<MovieStats>(text).unwrap();
        let summary: Table = results.main();
        let is = |name: &str, expected: f64, tolerance: f64| {
            let found = number(&summary, name, 0).unwrap_or(f64::NAN);
            assert!((found - expected).abs() <= tolerance, "{name}: {found}");
        };
        is("frames", 800.0, 0.0);
        is("waves", 10.0, 0.0);
        is("waves_per_minute", 6.0, 1e-9);
        is("speed_px_s", 4.0, 0.05);
        is("speed_mm_s", 0.4, 0.005);
        is("area_px", 480.0, 0.0);
        is("area_mm2", 4.8, 1e-9);
        is("interval_s", 10.0, 1e-9);
        is("interval_cv", 0.0, 1e-9);
        is("duration_s", 6.75, 0.13);
        assert_eq!(results.metrics["waves"], 10.0);
        let waves: Table = results.output("waves");
        assert_eq!(number(&waves, "start", 0), Some(8.0));
        assert_eq!(number(&waves, "event", 0), Some(0.0));
        assert_eq!(number(&waves, "event", 1), None);
        assert_eq!(number(&waves, "x", 0), Some(0.0));
        assert_eq!(number(&waves, "event", 2), None);
        assert_eq!(number(&waves, "censored", 9), Some(0.0));
        let fronts: Table = results.output("fronts");
        assert_eq!(fronts.frame().unwrap().height(), 6 * 480);
        assert_eq!(number(&fronts, "seconds", 23), Some(5.75));
        let raster: Table = results.output("raster");
        assert_eq!(number(&raster, "seconds", 0), Some(1.0));
        assert_eq!(results.output::<Table>("activity").frame().unwrap().height(), 800);
        let intervals: Table = results.output("intervals");
        assert_eq!(number(&intervals, "count", 2), Some(9.0 * 480.0));
    }

    #[test]
    fn what_cannot_be_measured_is_empty_and_said() {
        let mut silent = movie(None);
        silent.data.fill(-70.0);
        let results =
            Bench::new().put("movie", &silent).run::<MovieStats>("movie = '@movie'").unwrap();
        let summary: Table = results.main();
        for name in ["duration_s", "speed_px_s", "interval_s", "correlation_px", "area_mm2"] {
            assert_eq!(number(&summary, name, 0), None, "{name}");
            assert!(!results.metrics.contains_key(name));
        }
        let frame = summary.frame().unwrap();
        let missing = frame.column("missing").unwrap().str().unwrap().get(0).unwrap().to_owned();
        for said in ["there is no wave", "no pixel becomes active twice", "nothing varies", "mm:"] {
            assert!(missing.contains(said), "{missing}");
        }
        assert_eq!(results.metrics["waves"], 0.0);
        assert_eq!(results.output::<Table>("waves").frame().unwrap().height(), 0);
    }

    #[test]
    fn a_movie_of_several_channels_is_refused() {
        let color = Movie { channels: 2, height: 10, ..movie(None) };
        let bench = Bench::new().put("movie", &color);
        let error = bench.run::<MovieStats>("movie = '@movie'").unwrap_err();
        assert!(error.to_string().contains("2 channels"), "{error}");
    }
}
