//! The properties of a movie's waves, measured while its frames come in.

use super::correlation::{BLOCKS, InSpace, InTime};
use super::events::Segmentation;
use super::front::{FrontSpeed, NoSpeed, speed};
use super::onsets::Onsets;
use super::tracker::{Neighbors, Tracker, Wave};

/// What counts as a wave, and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SurveyOptions {
    /// What is active.
    pub rule: Segmentation,
    /// Active pixels that a wave has at least, in all its frames together.
    pub smallest: u64,
    /// Frames from one onset of a pixel to the next at least.
    pub shortest_interval: u32,
    /// How many of the largest waves are kept with all their arrivals.
    pub fronts: usize,
}

/// What is known of a wave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WaveRow {
    /// Its first frame.
    pub start: usize,
    /// Its frames.
    pub frames: usize,
    /// Pixels that it reaches.
    pub area: usize,
    /// Most pixels that are active at one time.
    pub peak: u32,
    /// The longer side of the smallest upright rectangle around it, in pixels.
    pub extent: usize,
    /// Row and column where it begins: the mean over its first frame, in pixels.
    pub origin: [f64; 2],
    /// Its speed, or why there is none.
    pub speed: Result<FrontSpeed, NoSpeed>,
    /// Whether it was under way in the first or last frame of the movie.
    pub censored: bool,
    /// How many waves ended before it.
    number: usize,
}

/// Measures waves, pixels and correlations of a movie of known length, a window at a time.
#[derive(Clone, Debug)]
pub struct Survey {
    width: usize,
    bound: f32,
    options: SurveyOptions,
    tracker: Tracker,
    waves: Waves,
    onsets: Onsets,
    in_space: InSpace,
    in_time: InTime,
    active: Vec<u32>,
    /// Which pixels of the last window are active.
    masks: Vec<u8>,
}

/// The waves that have ended.
#[derive(Clone, Debug, Default)]
struct Waves {
    rows: Vec<WaveRow>,
    dropped: usize,
    /// The largest so far, the largest first, each with how many ended before it.
    largest: Vec<(usize, Wave)>,
}

/// What a survey finds.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// Waves, by their first frame.
    pub waves: Vec<WaveRow>,
    /// How many were too small.
    pub dropped: usize,
    /// The largest waves with all their arrivals, the largest first, each with its place among the waves.
    pub largest: Vec<(usize, Wave)>,
    /// What single pixels do.
    pub onsets: Onsets,
    /// Correlations between pixels.
    pub in_space: InSpace,
    /// Correlations of pixels with their past.
    pub in_time: InTime,
    /// The number of active pixels in each frame.
    pub active: Vec<u32>,
}

impl Survey {
    /// Begins before the first of some frames.
    pub fn new(options: SurveyOptions, frames: usize, height: usize, width: usize) -> Self {
        Self {
            width,
            bound: options.rule.bound(),
            options,
            tracker: Tracker::new(height, width, Neighbors::Sides),
            waves: Waves::default(),
            onsets: Onsets::new(height * width, options.shortest_interval),
            in_space: InSpace::new(height, width, frames),
            in_time: InTime::new(height * width, frames),
            active: Vec::with_capacity(frames),
            masks: Vec::new(),
        }
    }

    /// Takes the next frames, one after the other. What they are measured for is measured side by side.
    pub fn push(&mut self, window: &[f32]) {
        let area = self.masks_of(window);
        let first = self.active.len() - window.len() / area;
        let Self { tracker, waves, onsets, in_space, in_time, masks, options, width, .. } = self;
        let track = || {
            let mut ended = |wave| waves.take(wave, *width, options);
            masks.chunks_exact(area).for_each(|mask| tracker.push(mask, &mut ended));
            masks.chunks_exact(area).for_each(|mask| onsets.push(mask));
        };
        let correlate = || {
            for (index, frame) in window.chunks_exact(area).enumerate() {
                in_space.push(first + index, frame);
                in_time.push(first + index, frame);
            }
        };
        rayon::join(track, correlate);
    }

    /// Tells which pixels of a window are active; yields how many a frame has.
    fn masks_of(&mut self, window: &[f32]) -> usize {
        let area = self.onsets.pixels().len();
        let bound = self.bound;
        self.masks.clear();
        self.masks.extend(window.iter().map(|value| u8::from(*value > bound)));
        for mask in self.masks.chunks_exact_mut(area) {
            let mut active = mask.chunks(255).map(|part| u32::from(part.iter().sum::<u8>())).sum();
            // A frame with too few active pixels is silent.
            if (active as usize) < self.options.rule.active_pixels {
                mask.fill(0);
                active = 0;
            }
            self.active.push(active);
        }
        area
    }

    /// The mask of a frame of the last window, counted from its first.
    pub fn mask(&self, index: usize) -> &[u8] {
        let area = self.onsets.pixels().len();
        &self.masks[index * area..][..area]
    }

    /// Ends the movie.
    pub fn finish(self) -> Surveyed {
        let Self { tracker, mut waves, onsets, in_space, in_time, active, width, options, .. } =
            self;
        tracker.finish(&mut |wave| waves.take(wave, width, &options));
        let Waves { mut rows, dropped, largest } = waves;
        rows.sort_by_key(|row| (row.start, row.number));
        let place = |number| rows.iter().position(|row| row.number == number).unwrap_or(0);
        let largest = largest.into_iter().map(|(number, wave)| (place(number), wave)).collect();
        Surveyed { waves: rows, dropped, largest, onsets, in_space, in_time, active }
    }
}

impl Surveyed {
    /// Waves that begin in each of the blocks of the movie, and the share of its frames that are active.
    pub fn blocks(&self) -> Vec<(f64, f64)> {
        let frames = self.active.len();
        let ends = |block: usize| (block * frames).div_ceil(BLOCKS);
        let blocks = (0..BLOCKS).map(|block| ends(block)..ends(block + 1));
        blocks
            .filter(|block| !block.is_empty())
            .map(|block| {
                let waves = self.waves.iter().filter(|wave| block.contains(&wave.start)).count();
                let active = self.active[block.clone()].iter().filter(|n| **n > 0).count();
                (waves as f64 / block.len() as f64, active as f64 / block.len() as f64)
            })
            .collect()
    }
}

impl Waves {
    fn take(&mut self, wave: Wave, width: usize, options: &SurveyOptions) {
        if wave.volume() < options.smallest {
            self.dropped += 1;
            return;
        }
        let number = self.rows.len();
        self.rows.push(row(&wave, number, width));
        // Of two as large, the one that ended first comes first.
        let at = self.largest.partition_point(|(_, other)| other.area() >= wave.area());
        if at < options.fronts {
            self.largest.insert(at, (number, wave));
            self.largest.truncate(options.fronts);
        }
    }
}

fn row(wave: &Wave, number: usize, width: usize) -> WaveRow {
    let places = wave.arrivals.iter().map(|(at, _)| [*at as usize / width, *at as usize % width]);
    let side = |axis: usize| {
        let along = places.clone().map(|place| place[axis]);
        along.clone().max().unwrap_or(0) + 1 - along.min().unwrap_or(0)
    };
    let start = wave.start;
    let begins = wave.arrivals.iter().filter(|(_, frame)| *frame as usize == start);
    let count = begins.clone().count() as f64;
    let mean = |axis: fn(usize, usize) -> usize| {
        begins.clone().map(|(at, _)| axis(*at as usize, width) as f64).sum::<f64>() / count
    };
    WaveRow {
        start,
        frames: wave.frames(),
        area: wave.area(),
        peak: wave.areas.iter().max().copied().unwrap_or(0),
        extent: side(0).max(side(1)),
        origin: [mean(|at, width| at / width), mean(|at, width| at % width)],
        speed: speed(&wave.arrivals, width),
        censored: wave.censored,
        number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: SurveyOptions = SurveyOptions {
        rule: Segmentation { threshold: 0.5, active_pixels: 1 },
        smallest: 2,
        shortest_interval: 0,
        fronts: 2,
    };

    /// Rings of 20 × 20 pixels that grow by a half pixel a frame and pass in four frames, each from its own place.
    fn movie() -> Vec<f32> {
        let rings = [(5, [10.0, 10.0]), (60, [0.0, 0.0]), (140, [19.0, 4.0])];
        let value = |t: usize, p: usize| {
            let (y, x) = ((p / 20) as f64, (p % 20) as f64);
            let lit = |(start, [cy, cx]): &(usize, [f64; 2])| {
                let since =
                    t as f64 - *start as f64 - 2.0 * ((y - cy).powi(2) + (x - cx).powi(2)).sqrt();
                (0.0..4.0).contains(&since)
            };
            f32::from(u8::from(rings.iter().any(lit)))
        };
        (0..200).flat_map(|t| (0..400).map(move |p| value(t, p))).collect()
    }

    fn survey(options: SurveyOptions, window: usize) -> Surveyed {
        let mut survey = Survey::new(options, 200, 20, 20);
        movie().chunks(window * 400).for_each(|window| survey.push(window));
        survey.finish()
    }

    #[test]
    fn waves_have_their_size_speed_and_place() {
        let found = survey(OPTIONS, 7);
        let starts: Vec<usize> = found.waves.iter().map(|wave| wave.start).collect();
        assert_eq!(starts, [5, 60, 140]);
        let first = &found.waves[0];
        assert_eq!(
            (first.area, first.extent, first.origin, first.censored),
            (400, 20, [10.0, 10.0], false)
        );
        // The farthest corner is √200 pixels away, 28.3 frames, and lit for four.
        assert_eq!(first.frames, 33);
        for wave in &found.waves {
            let speed = wave.speed.unwrap();
            assert!((speed.speed - 0.5).abs() < 0.03, "{speed:?}");
        }
        assert_eq!(found.largest.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1]);
        let map = &found.largest[0].1.arrivals;
        assert_eq!((map.len(), map[0]), (400, (0, 34)));
        // A pixel waits as long as the rings need: that at (10, 10) from frame 5 to 60 + 28.3.
        let pixel = found.onsets.pixels()[210];
        assert_eq!((pixel.onsets, pixel.active), (3, 12));
        let waits: u64 = found.onsets.intervals().values().sum();
        assert_eq!(waits, 800);
        let active = found.active.iter().filter(|n| **n > 0).count();
        let frames: usize = found.waves.iter().map(|wave| wave.frames).sum();
        assert_eq!(active, frames);
        let rate: f64 = found.blocks().iter().map(|(waves, _)| waves * 20.0).sum();
        assert!((rate - 3.0).abs() < 1e-12);
    }

    #[test]
    fn windows_and_threads_change_nothing() {
        let whole = survey(OPTIONS, 200);
        for window in [1, 13] {
            let found = survey(OPTIONS, window);
            assert_eq!(found.waves, whole.waves);
            assert_eq!(found.active, whole.active);
            assert_eq!(found.in_space.reach(), whole.in_space.reach());
            assert_eq!(found.in_time.curve(), whole.in_time.curve());
            assert_eq!(found.onsets.pixels(), whole.onsets.pixels());
        }
    }

    #[test]
    fn what_is_too_small_is_dropped_or_silent() {
        let found = survey(SurveyOptions { smallest: 1601, ..OPTIONS }, 50);
        assert_eq!((found.waves.len(), found.dropped), (0, 3));
        let rule = Segmentation { active_pixels: 401, ..OPTIONS.rule };
        let found = survey(SurveyOptions { rule, ..OPTIONS }, 50);
        assert_eq!((found.waves.len(), found.dropped), (0, 0));
        assert!(found.active.iter().all(|active| *active == 0));
        assert!(found.onsets.intervals().is_empty());
    }
}
