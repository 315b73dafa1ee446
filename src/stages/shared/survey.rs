//! What a survey of waves finds, as tables.

use std::ops::Range;

use crate::artifacts::table::Table;
use crate::waves::correlation::Reach;
use crate::waves::front::NoSpeed;
use crate::waves::onsets::Pixel;
use crate::waves::quantiles::{Quartiles, mean_of_blocks};
use crate::waves::survey::{Surveyed, WaveRow};

use super::film::Calibration;

/// What turns frames and pixels into seconds and millimeters.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    rate: f64,
    pitch: Option<f64>,
}

impl From<Calibration> for Scale {
    fn from(Calibration { rate, pitch }: Calibration) -> Self {
        Self { rate, pitch }
    }
}

impl Scale {
    fn seconds(self, frames: f64) -> f64 {
        frames / self.rate
    }

    fn mm(self, pixels: f64) -> Option<f64> {
        Some(pixels * self.pitch?)
    }

    fn mm2(self, pixels: f64) -> Option<f64> {
        Some(pixels * self.pitch?.powi(2))
    }

    /// Pixels and millimeters a second.
    fn speed(self, pixels_a_frame: f64) -> (f64, Option<f64>) {
        let speed = pixels_a_frame * self.rate;
        (speed, self.mm(speed))
    }
}

/// A row for each wave.
pub fn waves(found: &Surveyed, events: Option<&[Range<usize>]>, scale: Scale) -> Table {
    let rows = &found.waves;
    let event = |row: &WaveRow| {
        let events = events?;
        let after = events.partition_point(|event| event.start <= row.start);
        after.checked_sub(1).filter(|event| events[*event].contains(&row.start))
    };
    let all = |value: fn(&WaveRow) -> usize| rows.iter().map(value);
    let speed = |row: &WaveRow| row.speed.ok().map(|found| scale.speed(found.speed));
    let error = |row: &WaveRow| row.speed.ok()?.error.map(|error| scale.speed(error));
    Table::new()
        .counts("wave", 0..rows.len())
        .maybe_counts("event", rows.iter().map(event))
        .counts("start", all(|row| row.start))
        .counts("frames", all(|row| row.frames))
        .floats("start_s", rows.iter().map(|row| scale.seconds(row.start as f64)))
        .floats("duration_s", rows.iter().map(|row| scale.seconds(row.frames as f64)))
        .counts("area_px", all(|row| row.area))
        .maybe_floats("area_mm2", rows.iter().map(|row| scale.mm2(row.area as f64)))
        .counts("peak_px", all(|row| row.peak as usize))
        .counts("extent_px", all(|row| row.extent))
        .maybe_floats("extent_mm", rows.iter().map(|row| scale.mm(row.extent as f64)))
        .floats("x", rows.iter().map(|row| row.origin[1]))
        .floats("y", rows.iter().map(|row| row.origin[0]))
        .maybe_floats("speed_px_s", rows.iter().map(|row| Some(speed(row)?.0)))
        .maybe_floats("speed_px_s_se", rows.iter().map(|row| Some(error(row)?.0)))
        .maybe_floats("speed_mm_s", rows.iter().map(|row| speed(row)?.1))
        .maybe_floats("speed_mm_s_se", rows.iter().map(|row| error(row)?.1))
        .maybe_texts("no_speed", rows.iter().map(|row| row.speed.err().map(why)))
        .counts("censored", all(|row| usize::from(row.censored)))
}

fn why(reason: NoSpeed) -> String {
    match reason {
        NoSpeed::Small => "small".into(),
        NoSpeed::Fast => "fast".into(),
    }
}

/// Numbers of one row, each by its name; some are missing.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Numbers by name, in order.
    pub values: Vec<(String, Option<f64>)>,
    /// Why those are missing that could be there.
    pub missing: Vec<&'static str>,
}

impl Summary {
    fn put(&mut self, name: impl Into<String>, value: Option<f64>) {
        self.values.push((name.into(), value.filter(|value| value.is_finite())));
    }

    /// Quartiles and the error of the median, each turned into another unit.
    fn put_quartiles(&mut self, name: &str, of: &Quartiles, unit: impl Fn(f64) -> Option<f64>) {
        let Quartiles { low, median, high, error, .. } = *of;
        for (end, value) in [("_q1", low), ("", median), ("_q3", high), ("_se", error)] {
            self.put(format!("{name}{end}"), value.and_then(&unit));
        }
    }

    fn put_reach(&mut self, name: &str, reach: Option<Reach>, unit: impl Fn(f64) -> Option<f64>) {
        self.put(name, reach.and_then(|reach| unit(reach.length)));
        self.put(format!("{name}_se"), reach.and_then(|reach| unit(reach.error?)));
    }

    /// Says why something is missing, if it is.
    fn explain(&mut self, is_missing: bool, reason: &'static str) {
        if is_missing {
            self.missing.push(reason);
        }
    }

    /// The numbers in one row of a table.
    pub fn table(&self) -> Table {
        let table = Table::new();
        let row = |table: Table, (name, value): &(String, Option<f64>)| {
            table.maybe_floats(name, [*value])
        };
        let missing = (!self.missing.is_empty()).then(|| self.missing.join("; "));
        self.values.iter().fold(table, row).maybe_texts("missing", [missing])
    }
}

/// One row for the whole movie.
pub fn summary(found: &Surveyed, scale: Scale) -> Summary {
    let mut sum = Summary::default();
    let frames = found.active.len();
    let pixels = found.onsets.pixels().len();
    let (rates, shares): (Vec<f64>, Vec<f64>) = found.blocks().into_iter().unzip();
    let (rate, share) = (mean_of_blocks(&rates), mean_of_blocks(&shares));
    let active = found.active.iter().filter(|n| **n > 0).count();
    let voxels: u64 = found.active.iter().map(|n| u64::from(*n)).sum();
    let per_minute = 60.0 * scale.rate;
    let each = frames.max(1) as f64;
    sum.put("frames", Some(frames as f64));
    sum.put("seconds", Some(scale.seconds(frames as f64)));
    sum.put("waves", Some(found.waves.len() as f64));
    sum.put("small_waves", Some(found.dropped as f64));
    sum.put("censored_waves", Some(found.waves.iter().filter(|w| w.censored).count() as f64));
    sum.put("waves_per_minute", Some(found.waves.len() as f64 / each * per_minute));
    sum.put("waves_per_minute_se", rate.map(|(_, error)| error * per_minute));
    sum.put("active_frames", Some(active as f64 / each));
    sum.put("active_frames_se", share.map(|(_, error)| error));
    sum.put("active_pixels", Some(voxels as f64 / each / pixels as f64));
    put_waves(&mut sum, found, scale);
    put_intervals(&mut sum, found, scale);
    let (space, time) = (found.in_space.reach(), found.in_time.reach());
    sum.put_reach("correlation_px", space, Some);
    sum.put_reach("correlation_mm", space, |pixels| scale.mm(pixels));
    sum.put_reach("correlation_s", time, |frames| Some(scale.seconds(frames)));
    sum.explain(
        space.is_none(),
        "correlation_px: nothing varies, or pixels half of the movie apart are correlated by more than 1/e",
    );
    sum.explain(
        time.is_none(),
        "correlation_s: nothing varies, or pixels stay correlated by more than 1/e over the longest lag",
    );
    sum.explain(scale.pitch.is_none(), "mm: the movie does not say how far its pixels are apart");
    sum
}

fn put_waves(sum: &mut Summary, found: &Surveyed, scale: Scale) {
    let of = |value: fn(&WaveRow) -> f64| Quartiles::of(found.waves.iter().map(value).collect());
    let (durations, areas) = (of(|wave| wave.frames as f64), of(|wave| wave.area as f64));
    let speeds = found.waves.iter().filter_map(|wave| wave.speed.ok()).map(|speed| speed.speed);
    let speeds = Quartiles::of(speeds.collect());
    sum.put_quartiles("duration_s", &durations, |frames| Some(scale.seconds(frames)));
    sum.put_quartiles("area_px", &areas, Some);
    sum.put_quartiles("area_mm2", &areas, |pixels| scale.mm2(pixels));
    sum.put("waves_with_speed", Some(speeds.count as f64));
    sum.put_quartiles("speed_px_s", &speeds, |speed| Some(scale.speed(speed).0));
    sum.put_quartiles("speed_mm_s", &speeds, |speed| scale.speed(speed).1);
    sum.explain(found.waves.is_empty(), "duration_s, area_px, speed_px_s: there is no wave");
    sum.explain(
        !found.waves.is_empty() && speeds.count == 0,
        "speed_px_s: each wave is too small or comes everywhere within a frame",
    );
}

fn put_intervals(sum: &mut Summary, found: &Surveyed, scale: Scale) {
    let counts: Vec<(f64, u64)> =
        found.onsets.intervals().iter().map(|(frames, n)| (f64::from(*frames), *n)).collect();
    let quartiles = Quartiles::of_counts(&counts);
    let total: f64 = counts.iter().map(|(frames, n)| frames * *n as f64).sum();
    let mean = (quartiles.count > 0).then(|| scale.seconds(total / quartiles.count as f64));
    let variations = found.onsets.pixels().iter().filter_map(Pixel::variation);
    sum.put("intervals", Some(quartiles.count as f64));
    sum.put_quartiles("interval_s", &quartiles, |frames| Some(scale.seconds(frames)));
    sum.put("interval_s_mean", mean);
    sum.put("interval_cv", Quartiles::of(variations.collect()).median);
    // Neighbors wait for the same waves: intervals are not independent, and the error of their median is not known.
    sum.values.retain(|(name, _)| name != "interval_s_se");
    sum.explain(mean.is_none(), "interval_s: no pixel becomes active twice");
}

/// How often pixels wait so long between onsets, in bins of equal width.
pub fn intervals(found: &Surveyed, bin: f64, scale: Scale) -> Table {
    let counts = found.onsets.intervals();
    let bin_of = |frames: u32| (scale.seconds(f64::from(frames)) / bin) as usize;
    let bins = counts.last_key_value().map_or(0, |(frames, _)| bin_of(*frames) + 1);
    let mut sums = vec![0u64; bins];
    for (frames, count) in counts {
        sums[bin_of(*frames)] += count;
    }
    let total: u64 = sums.iter().sum();
    Table::new()
        .floats("interval_s", (0..bins).map(|at| (at as f64 + 0.5) * bin))
        .counts("count", sums.iter().map(|count| *count as usize))
        .floats("fraction", sums.iter().map(|count| *count as f64 / total as f64))
}

/// A row for each pixel.
pub fn pixels(found: &Surveyed, width: usize, scale: Scale) -> Table {
    let pixels = found.onsets.pixels();
    let frames = found.active.len().max(1) as f64;
    let all = || pixels.iter();
    Table::new()
        .counts("x", (0..pixels.len()).map(|at| at % width))
        .counts("y", (0..pixels.len()).map(|at| at / width))
        .counts("onsets", all().map(|pixel| pixel.onsets as usize))
        .floats("active", all().map(|pixel| pixel.active as f64 / frames))
        .maybe_floats(
            "interval_s",
            all().map(|pixel| pixel.interval().map(|frames| scale.seconds(frames))),
        )
        .maybe_floats("interval_cv", all().map(Pixel::variation))
}

/// When the largest waves come to each pixel, from their beginning on.
pub fn fronts(found: &Surveyed, width: usize, scale: Scale) -> Table {
    let all: Vec<(usize, usize, u32)> = found
        .largest
        .iter()
        .flat_map(|(place, wave)| {
            let since = move |frame: u32| frame - wave.start as u32;
            wave.arrivals.iter().map(move |(at, frame)| (*place, *at as usize, since(*frame)))
        })
        .collect();
    Table::new()
        .counts("wave", all.iter().map(|(place, ..)| *place))
        .counts("x", all.iter().map(|(_, at, _)| at % width))
        .counts("y", all.iter().map(|(_, at, _)| at / width))
        .floats("seconds", all.iter().map(|(.., frames)| scale.seconds(f64::from(*frames))))
}

/// The share of active pixels in each frame.
pub fn activity(found: &Surveyed, scale: Scale) -> Table {
    let pixels = found.onsets.pixels().len() as f64;
    let seconds = (0..found.active.len()).map(|frame| scale.seconds(frame as f64));
    Table::new()
        .floats("seconds", seconds)
        .floats("active", found.active.iter().map(|count| f64::from(*count) / pixels))
}

/// The correlations over distance and over time.
pub fn correlations(found: &Surveyed, scale: Scale) -> Table {
    let space = found.in_space.curve();
    let time = found.in_time.curve();
    let (n, m) = (space.len(), time.len());
    let both = || space.iter().chain(&time);
    let known = |at: usize, value: Option<f64>, wanted: bool| value.filter(|_| (at < n) == wanted);
    let at = || both().enumerate().map(|(at, (distance, _))| (at, *distance));
    Table::new()
        .texts("along", std::iter::repeat_n("space", n).chain(std::iter::repeat_n("time", m)))
        .maybe_floats("distance_px", at().map(|(at, d)| known(at, Some(d), true)))
        .maybe_floats("distance_mm", at().map(|(at, d)| known(at, scale.mm(d), true)))
        .maybe_floats("lag_s", at().map(|(at, d)| known(at, Some(scale.seconds(d)), false)))
        .floats("correlation", both().map(|(_, correlation)| *correlation))
}

/// The active pixels of some frames, a row each.
#[derive(Clone, Debug, Default)]
pub struct Raster {
    rows: Vec<(usize, usize)>,
}

impl Raster {
    /// Takes the mask of a frame.
    pub fn push(&mut self, frame: usize, mask: &[u8]) {
        let active = mask.iter().enumerate().filter(|(_, active)| **active != 0);
        self.rows.extend(active.map(|(at, _)| (frame, at)));
    }

    /// The rows as a table.
    pub fn table(&self, width: usize, scale: Scale) -> Table {
        let all = || self.rows.iter();
        Table::new()
            .floats("seconds", all().map(|(frame, _)| scale.seconds(*frame as f64)))
            .counts("pixel", all().map(|(_, at)| *at))
            .counts("x", all().map(|(_, at)| at % width))
            .counts("y", all().map(|(_, at)| at / width))
    }
}
