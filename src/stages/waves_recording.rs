//! `waves.recording`: retinal waves from the spikes of a multi-electrode array.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::film::{self, Calibration};
use super::shared::recording::{Columns, Recording};
use crate::artifacts::movie::Movie;
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::failure::{Failure, FailureKind};
use crate::engine::parameter::DataPath;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::waves::Frames;
use crate::waves::exposure::{Exposure, ExposureError, Kernel, Spike, expose};
use crate::waves::grid::{Extent, Grid, Resolution};
use crate::waves::simulation::MACROSCOPE_RATE;

/// Makes a movie of a multi-electrode recording, as a camera would see it that looks at a calcium indicator.
///
/// The recording is a table of spikes, one row a spike: its time in s, its unit, and where that unit lies, in µm. It is
/// Parquet, or comma-separated values under a line of names, gzipped or not: its content tells which. Each spike adds a
/// trace of area 1 that rises and decays exponentially; a frame is the mean of all traces over its duration, without any
/// rounding of times. So a pixel holds a firing rate in spikes/s, smoothed in time; it is 0 where no unit lies. Row 0 of
/// the movie has the smallest y.
///
/// Recordings of waves are published, such as those of Maccione et al. 2014 (J. Physiol. 592: 1545-1563; 64 x 64
/// electrodes 42 µm apart) in the collection of Eglen et al. 2014 (GigaScience 3: 3), `https://github.com/sje30/waverepo`.
/// They are HDF5 there; two lines of Python make a table of one:
/// `f = h5py.File("P6.h5"); n = f["sCount"][:]; u = numpy.repeat(range(len(n)), n); x, y = f["epos"][:]` and
/// `pandas.DataFrame(dict(t_s=f["spikes"][:], unit=u, x_um=x[u], y_um=y[u])).to_parquet("P6.parquet")`.
///
/// The table `spikes` has the spikes that the movie shows: `seconds` since it begins, `x` and `y` in mm from its upper left
/// corner, and `unit`, a number from 0 in the order of y and then x, so that neighbors on the array are neighbors in a
/// raster plot: `mark = "scatter"`, `x = "seconds"`, `y = "unit"`.
///
/// Metrics: `spikes` that the frames cover, `units` in the grid, `units_outside` it, `frames`, `seconds`, and
/// `empty_pixels`, in which no unit lies.
///
/// Source: none for the movie; waves from such arrays are described in Maccione et al. 2014, J. Physiol. 592: 1545-1563.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WavesRecording {
    /// The table of spikes.
    #[schemars(extend("x-obtain" = OBTAIN))]
    path: DataPath,
    /// Column of the spikes' times, in s.
    #[serde(default = "time_column")]
    time: String,
    /// Column of the units that spiked, numbers or names.
    #[serde(default = "unit_column")]
    unit: String,
    /// Column of the units' horizontal positions, in µm.
    #[serde(default = "x_column")]
    x: String,
    /// Column of the units' vertical positions, in µm.
    #[serde(default = "y_column")]
    y: String,
    /// Pixels along each side of the movie, which is square. Default: 32, unless `pitch` is given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4096))]
    size: Option<usize>,
    /// Side of a pixel in µm; the movie has as many as `extent` needs. Give this or `size`.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "µm"))]
    pitch: Option<f64>,
    /// What the movie shows, in µm: `{ x = [0, 2688], y = [0, 2688] }`. A movie of other proportions has this in its
    /// middle; units outside the movie are left out. Default: all units, and half the smallest distance between them
    /// along either axis, so that the electrodes of a lattice stand in the middles of squares. Give it where the
    /// movies of several recordings of one array shall fit over each other.
    #[serde(default)]
    extent: Option<Window>,
    /// Frames a second, above 0. The default, 35/3, is that of the macroscope of Ligeralde et al. 2023, who equate 3 s
    /// with 35 frames.
    #[serde(default = "macroscope")]
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "1/s"))]
    output_rate: f64,
    /// When the first frame begins, in s. Spikes before it count with what is left of their traces.
    #[serde(default)]
    #[schemars(extend("x-unit" = "s"))]
    start: f64,
    /// When the movie ends, in s: the last frame ends there or less than a frame before. Default: with the frame of
    /// the last spike.
    #[serde(default)]
    #[schemars(extend("x-unit" = "s"))]
    stop: Option<f64>,
    /// Time constant with which the trace of a spike decays, in s, above 0. The default is about that of a calcium
    /// indicator's.
    #[serde(default = "second")]
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    decay: f64,
    /// Time constant with which it rises, in s, from 0, for a jump, to below `decay`.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "s"))]
    rise: f64,
    /// Whose firing rate a pixel holds.
    #[serde(default)]
    rate_of: RateOf,
}

/// Whose firing rate a pixel holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum RateOf {
    /// That of all its units together: where more units were recorded, it is higher.
    #[default]
    Pixel,
    /// The mean of its units, silent ones included, if they spike at any time of the recording.
    Unit,
}

/// A rectangle in µm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Window {
    /// From left to right.
    x: [f64; 2],
    /// From the first row to the last.
    y: [f64; 2],
}

fn time_column() -> String {
    "t_s".to_owned()
}
fn unit_column() -> String {
    "unit".to_owned()
}
fn x_column() -> String {
    "x_um".to_owned()
}
fn y_column() -> String {
    "y_um".to_owned()
}
fn macroscope() -> f64 {
    MACROSCOPE_RATE
}
fn second() -> f64 {
    1.0
}

/// Where recordings are to be had.
const OBTAIN: &str = "published recordings of waves are at https://github.com/sje30/waverepo, and \
                      `wavecrest kinds waves.recording` says how a table is made of one";

/// Pixels along each side where nothing is said.
const SIZE: usize = 32;

impl Stage for WavesRecording {
    const KIND: &'static str = "waves.recording";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.recording]
        kind = "waves.recording"
        path = "data/P6.parquet"
    "#;

    fn check(&self) -> Vec<Violation> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let ends = |ends: fn(&Window) -> [f64; 2]| {
            self.extent
                .as_ref()
                .map(ends)
                .is_none_or(|[low, high]| low < high && positive(high - low))
        };
        let rises = self.rise == 0.0 || (0.0..self.decay).contains(&self.rise);
        violations([
            ("size", self.size.is_none_or(|n| (1..=4096).contains(&n)), "must be from 1 to 4096"),
            ("pitch", self.pitch.is_none_or(positive), "must be above 0"),
            ("pitch", self.pitch.is_none() || self.size.is_none(), "and `size` exclude each other"),
            ("extent.x", ends(|window| window.x), "must ascend"),
            ("extent.y", ends(|window| window.y), "must ascend"),
            ("output_rate", positive(self.output_rate), "must be above 0"),
            ("start", self.start.is_finite(), "must be finite"),
            (
                "stop",
                self.stop.is_none_or(|stop| stop.is_finite() && stop > self.start),
                "must be above `start`",
            ),
            ("decay", positive(self.decay), "must be above 0"),
            ("rise", rises, "must be from 0 to below `decay`"),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Movie::TYPE).and("spikes", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let columns = Columns { time: &self.time, unit: &self.unit, x: &self.x, y: &self.y };
        let recording = Recording::read(&self.path, columns)?;
        cx.progress(0.1, || format!("read {} spikes", recording.times.len()));
        let grid = self.grid(&recording)?;
        let pixels: Vec<Option<usize>> =
            recording.positions.iter().map(|position| grid.pixel(*position)).collect();
        let exposure = self.exposure(&recording)?;
        let (begin, end) = (exposure.start, exposure.begin(exposure.frames));
        let spike = |(&time, &unit): (&f64, &usize)| Some(Spike { time, pixel: pixels[unit]? });
        let spikes: Vec<Spike> =
            recording.times.iter().zip(&recording.units).filter_map(spike).collect();
        let shown = spikes.iter().filter(|spike| (begin..end).contains(&spike.time)).count();
        if shown == 0 {
            return Err(Failure::data(format!(
                "no spike lies between {begin} s and {end} s and in the grid"
            ))
            .hint("look at `start`, `stop` and `extent`; times are in s and positions in µm")
            .into());
        }
        let mut units = vec![0usize; grid.area()];
        pixels.iter().flatten().for_each(|pixel| units[*pixel] += 1);
        let kernel = Kernel { decay: self.decay, rise: self.rise };
        let total = exposure.frames as f64;
        let data = expose(spikes, grid.area(), kernel, exposure, |frame| {
            cx.progress(0.1 + 0.8 * (frame + 1) as f64 / total, || format!("{frame} frames"));
            cx.check_cancelled()
        });
        let mut data = data.map_err(|error| match error {
            ExposureError::Memory => too_long(exposure.frames, &grid).into(),
            ExposureError::Stopped(error) => error,
        })?;
        if self.rate_of == RateOf::Unit {
            for (at, value) in data.iter_mut().enumerate() {
                *value /= units[at % units.len()].max(1) as f32;
            }
        }
        let inside = pixels.iter().flatten().count();
        for (name, count) in [
            ("spikes", shown),
            ("units", inside),
            ("units_outside", pixels.len() - inside),
            ("frames", exposure.frames),
            ("empty_pixels", units.iter().filter(|units| **units == 0).count()),
        ] {
            cx.metric(name, count as f64)?;
        }
        cx.save_as("spikes", &recording.raster(&grid, &pixels, begin..end))?;
        cx.metric("seconds", exposure.frames as f64 / exposure.rate)?;
        let frames = Frames::new(exposure.frames, grid.height, grid.width, data)
            .expect("every frame has as many values as the grid has pixels");
        let pitch = Some(grid.pitch / 1000.0);
        cx.save(&film::to_movie(frames, Calibration { rate: self.output_rate, pitch }))
    }
}

impl WavesRecording {
    fn grid(&self, recording: &Recording) -> anyhow::Result<Grid> {
        let extent = match &self.extent {
            Some(Window { x, y }) => Some(Extent { x: x[0]..=x[1], y: y[0]..=y[1] }),
            None => Extent::around(&recording.positions),
        };
        let resolution = match (self.pitch, self.size) {
            (Some(pitch), _) => Resolution::Pitch(pitch),
            (None, size) => Resolution::Size(size.unwrap_or(SIZE)),
        };
        let grid = extent.and_then(|extent| Grid::over(&extent, resolution)).ok_or_else(|| {
            Failure::data("all units lie at one place, so that pixels have no size")
                .hint("give `pitch` or `extent`, in µm")
        })?;
        anyhow::ensure!(
            grid.width.max(grid.height) <= 4096,
            Failure::data(format!("the movie would have {} x {} pixels", grid.width, grid.height))
                .hint("give a larger `pitch`, in µm, or `extent`; at most 4096 pixels a side")
        );
        Ok(grid)
    }

    fn exposure(&self, recording: &Recording) -> Result<Exposure, Failure> {
        let Self { start, output_rate: rate, .. } = *self;
        let last = recording.times.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let frames = match self.stop {
            // A quotient that is whole but for rounding is whole.
            Some(stop) => libm::floor((stop - start) * rate + 1e-6),
            None => libm::floor((last - start) * rate) + 1.0,
        };
        if frames < 1.0 {
            return Err(Failure::data(format!("there is no frame: the last spike is at {last} s"))
                .hint("look at `start`, `stop` and `output_rate`; times are in s"));
        }
        Ok(Exposure { start, rate, frames: frames as usize })
    }
}

fn too_long(frames: usize, grid: &Grid) -> Failure {
    let (width, height) = (grid.width, grid.height);
    let message = format!("no memory for {frames} frames of {width} x {height} pixels");
    Failure::new(FailureKind::Resource, message)
        .hint("choose a part with `start` and `stop`; times are in s")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use polars::df;
    use polars_io::parquet::write::ParquetWriter;

    use super::*;
    use crate::stages::shared::bench::{Bench, Results};
    use crate::store::files;

    /// Four units at the corners of a square of 100 µm; the last spikes twice.
    const SPIKES: &str = "t_s,unit,x_um,y_um,quality\n0.05,a,0,0,1\n0.15,b,100,0,1\n0.31,c,0,100,1\n0.55,d,100,100,1\n0.55,d,100,100,1\n";

    fn run(bytes: &[u8], more: &str) -> anyhow::Result<Results> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spikes");
        files::write(&path, bytes).unwrap();
        let text = format!("path = '{}'\noutput_rate = 10\n{more}", path.display());
        Bench::new().run::<WavesRecording>(&text)
    }

    #[test]
    fn spikes_become_a_movie_of_firing_rates() {
        let results = run(SPIKES.as_bytes(), "size = 2").unwrap();
        let movie: Movie = results.main();
        assert_eq!((movie.frames, movie.height, movie.width), (6, 2, 2));
        assert_eq!((movie.rate, movie.pitch), (10.0, Some(0.1)));
        let metrics: Vec<(&str, f64)> =
            results.metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(
            metrics,
            [
                ("empty_pixels", 0.0),
                ("frames", 6.0),
                ("seconds", 0.6),
                ("spikes", 5.0),
                ("units", 4.0),
                ("units_outside", 0.0)
            ]
        );
        // The spike at 0.05 s is seen for half of the first frame; then 0.1 s of a decay that began at 1.
        let first = (1.0 - libm::exp(-0.05)) / 0.1;
        let second = (libm::exp(-0.05) - libm::exp(-0.15)) / 0.1;
        for (found, expected) in [(movie.data[0], first), (movie.data[4], second)] {
            assert!((f64::from(found) - expected).abs() < 1e-6, "{found} {expected}");
        }
        let raster = results.output::<Table>("spikes").frame().unwrap();
        let units: Vec<Option<i64>> =
            raster.column("unit").unwrap().i64().unwrap().iter().collect();
        assert_eq!(units, [0, 1, 2, 3, 3].map(Some));
        let y: Vec<Option<f64>> = raster.column("y").unwrap().f64().unwrap().iter().collect();
        assert_eq!(y, [0.05, 0.05, 0.15, 0.15, 0.15].map(Some));
        // Frames before a unit's spike show nothing of it; two spikes at once count twice.
        assert_eq!(movie.data[3], 0.0);
        assert!((f64::from(movie.data[23]) - 2.0 * first).abs() < 1e-6);
    }

    #[test]
    fn every_format_holds_the_same_movie() {
        let expected: Movie = run(SPIKES.as_bytes(), "").unwrap().main();
        let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
        zipped.write_all(SPIKES.as_bytes()).unwrap();
        assert_eq!(run(&zipped.finish().unwrap(), "").unwrap().main::<Movie>(), expected);
        let mut table = df!(
            "when" => [0.05, 0.15, 0.31, 0.55, 0.55],
            "unit" => [0i32, 1, 2, 3, 3],
            "x_um" => [0.0f32, 100.0, 0.0, 100.0, 100.0],
            "y_um" => [0i64, 0, 100, 100, 100],
        )
        .unwrap();
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes).finish(&mut table).unwrap();
        assert_eq!(run(&bytes, "time = 'when'").unwrap().main::<Movie>(), expected);
    }

    #[test]
    fn a_window_in_time_and_space_is_chosen() {
        let more = "extent = { x = [50, 150], y = [-50, 50] }\npitch = 50\nstart = 0.1\nstop = 0.3";
        let results = run(SPIKES.as_bytes(), more).unwrap();
        let movie: Movie = results.main();
        assert_eq!((movie.frames, movie.height, movie.width, movie.pitch), (2, 2, 2, Some(0.05)));
        assert_eq!((results.metrics["units"], results.metrics["units_outside"]), (1.0, 3.0));
        assert_eq!((results.metrics["spikes"], results.metrics["empty_pixels"]), (1.0, 3.0));
        // What a spike before the start has left is seen: 0.1 s after the second unit's.
        let later: Movie = run(SPIKES.as_bytes(), "size = 2\nstart = 0.25").unwrap().main();
        let expected = (libm::exp(-0.1) - libm::exp(-0.2)) / 0.1;
        assert!((f64::from(later.data[1]) - expected).abs() < 1e-6);
    }

    #[test]
    fn a_pixel_may_hold_the_mean_of_its_units() {
        let both: Movie = run(SPIKES.as_bytes(), "size = 1").unwrap().main();
        let mean: Movie = run(SPIKES.as_bytes(), "size = 1\nrate_of = 'unit'").unwrap().main();
        assert!(both.data.iter().zip(&mean.data).all(|(both, mean)| *mean == both / 4.0));
    }

    #[test]
    fn recordings_that_cannot_be_used_are_failures_of_the_data() {
        let check = |text: &str, more: &str, message: &str| {
            let failure = Failure::from_error(run(text.as_bytes(), more).unwrap_err());
            assert_eq!(failure.kind, FailureKind::Data, "{failure}");
            assert!(failure.message.contains(message) && failure.hint.is_some(), "{failure:?}");
        };
        check("t_s,unit,x,y_um\n1,1,1,1\n", "", "has no column `x_um`");
        check("t_s,unit,x_um,y_um\n", "", "holds no spike");
        check("t_s,unit,x_um,y_um\n1,1,1,1\nNaN,1,1,1\n", "", "no number in row 2");
        check("t_s,unit,x_um,y_um\n1,1,1,here\n", "", "no number in row 1");
        check("t_s,unit,x_um,y_um\n1,,1,1\n", "", "column `unit` is empty in row 1");
        check("t_s,unit,x_um,y_um\n1,7,1,1\n2,7,1,2\n", "", "unit 7 lies at (1.0, 1.0)");
        check("t_s,unit,x_um,y_um\n1,7,1,1\n", "", "all units lie at one place");
        check(SPIKES, "pitch = 0.001", "200000 x 200000 pixels");
        check(SPIKES, "start = 7", "the last spike is at 0.55 s");
        check(SPIKES, "start = 7\nstop = 8", "no spike lies between 7 s and 8 s");
        check("PAR1", "", "cannot be read");
        let failure = Failure::from_error(run(SPIKES.as_bytes(), "stop = 1e15").unwrap_err());
        assert_eq!(failure.kind, FailureKind::Resource, "{failure}");
    }

    #[test]
    fn parameters_that_exclude_each_other_are_refused() {
        let check = |text: &str, field: &str| {
            let stage: WavesRecording = toml::from_str(&format!("path = 'x'\n{text}")).unwrap();
            let fields: Vec<String> = stage.check().into_iter().map(|v| v.field).collect();
            assert_eq!(fields, [field], "{text}");
        };
        check("size = 8\npitch = 84", "pitch");
        check("rise = 1", "rise");
        check("start = 5\nstop = 5", "stop");
        check("extent = { x = [3, 3], y = [0, 1] }", "extent.x");
        check("decay = 0", "decay");
    }
}
