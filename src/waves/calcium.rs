//! Waves in movies of calcium imaging: the segmentation of Ligeralde et al. 2023.

use std::ops::Range;

use super::blur::Blur;
use super::flood::flood;
use super::rise::{NoBackground, Rise, RiseOptions};
use super::tracker::{Neighbors, Tracker, Wave};

/// How waves are found; defaults are those of the macros that the paper names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalciumOptions {
    /// How noise and background are taken out.
    pub rise: RiseOptions,
    /// Deviation of the Gaussian blur, in pixels.
    pub blur: f64,
    /// A pixel is active from this ratio to its background on.
    pub threshold: f64,
    /// What the watershed floods.
    pub relief: Relief,
    /// Frames that a wave has at least.
    pub shortest: usize,
    /// Active pixels that a wave has at least, in all its frames together.
    pub smallest: u64,
}

/// What the watershed floods.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Relief {
    /// The mask itself, which is flat: waves are what hangs together over 26 neighbors.
    Flat,
    /// How deep a voxel lies in the mask, so that waves which touch are parted; see [`flood`].
    Depth {
        /// How much deeper than the pass between them each of two parts must be, in pixels.
        least: f64,
    },
}

impl Default for CalciumOptions {
    fn default() -> Self {
        Self {
            rise: RiseOptions { denoise: 5, every: 5, background: 20 },
            blur: 5.0,
            threshold: 1.02,
            relief: Relief::Flat,
            shortest: 15,
            smallest: 9 * 15,
        }
    }
}

/// A wave that the segmentation labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its first frame.
    pub start: usize,
    /// Its frames.
    pub frames: usize,
    /// Active pixels in all its frames together.
    pub volume: u64,
    /// Pixels that it reaches.
    pub area: usize,
    /// Whether it was under way in the first or last frame of the movie.
    pub censored: bool,
}

/// What a segmentation finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Waves, by their first frame.
    pub waves: Vec<Label>,
    /// How many were left out because they are short or small.
    pub dropped: usize,
    /// Frames with an active pixel.
    pub active: usize,
}

/// Finds waves while frames come in.
///
/// Holds the frames that the medians span (see [`Rise`]), and the waves that are under way; for a relief that is not
/// flat, the masks of the frames since the last without any active pixel.
#[derive(Clone, Debug)]
pub struct Segmenter {
    rise: Rise,
    masks: Masks,
}

/// What follows the division by the background.
#[derive(Clone, Debug)]
struct Masks {
    options: CalciumOptions,
    height: usize,
    width: usize,
    /// The least single-precision number that is not below the threshold.
    bound: f32,
    blur: Blur,
    blurred: Vec<f32>,
    mask: Vec<u8>,
    frame: usize,
    tracker: Tracker,
    /// Masks since the last empty one.
    block: Vec<u8>,
    found: Labels,
}

impl Segmenter {
    /// Begins before the first frame.
    pub fn new(options: CalciumOptions, height: usize, width: usize) -> Self {
        let near = options.threshold as f32;
        let below = f64::from(near) < options.threshold;
        let masks = Masks {
            options,
            height,
            width,
            bound: if below { near.next_up() } else { near },
            blur: Blur::new(options.blur, height, width),
            blurred: Vec::new(),
            mask: vec![0; height * width],
            frame: 0,
            tracker: Tracker::new(height, width, Neighbors::Corners),
            block: Vec::new(),
            found: Labels::default(),
        };
        Self { rise: Rise::new(options.rise, height * width), masks }
    }

    /// Takes the next frame.
    pub fn push(&mut self, frame: &[f32]) -> Result<(), NoBackground> {
        let masks = &mut self.masks;
        self.rise.push(frame, &mut |rise| {
            masks.push(rise);
            Ok(())
        })
    }

    /// Ends the movie; yields what was found.
    pub fn finish(self) -> Result<Labels, NoBackground> {
        let Self { rise, mut masks } = self;
        rise.finish(&mut |rise| {
            masks.push(rise);
            Ok::<(), NoBackground>(())
        })?;
        Ok(masks.finish())
    }
}

impl Masks {
    fn push(&mut self, rise: &[f32]) {
        self.blurred.clear();
        self.blurred.extend_from_slice(rise);
        self.blur.apply(&mut self.blurred);
        let mut active = 0;
        for (mask, value) in self.mask.iter_mut().zip(&self.blurred) {
            *mask = u8::from(*value >= self.bound);
            active |= *mask;
        }
        self.found.active += usize::from(active);
        match self.options.relief {
            Relief::Flat => {
                let (found, options) = (&mut self.found, &self.options);
                self.tracker.push(&self.mask, &mut |wave| found.keep(wave.into(), options));
            }
            Relief::Depth { least } if active == 0 => self.part(least, false),
            Relief::Depth { .. } => self.block.extend_from_slice(&self.mask),
        }
        self.frame += 1;
    }

    fn finish(mut self) -> Labels {
        if let Relief::Depth { least } = self.options.relief {
            self.part(least, true);
        }
        let (mut found, options) = (self.found, self.options);
        self.tracker.finish(&mut |wave| found.keep(wave.into(), &options));
        found.waves.sort_by_key(|wave| (wave.start, wave.frames, wave.volume, wave.area));
        found
    }

    /// Parts the block of masks before this frame, and begins another.
    fn part(&mut self, least: f64, last: bool) {
        let area = self.height * self.width;
        let frames = self.block.len() / area;
        let start = self.frame - frames;
        let labels = flood(&self.block, self.height, self.width, least);
        self.block.clear();
        for label in gather(&labels, area) {
            let end = label.start + label.frames;
            let censored = start + label.start == 0 || last && end == frames;
            let label = Label { start: start + label.start, censored, ..label };
            self.found.keep(label, &self.options);
        }
    }
}

/// Gathers what each label of a block has, in the order of labels.
fn gather(labels: &[u32], area: usize) -> Vec<Label> {
    let count = labels.iter().max().copied().unwrap_or(0) as usize;
    let none = Label { start: usize::MAX, frames: 0, volume: 0, area: 0, censored: false };
    let mut found = vec![none; count];
    // The end of each label's frames stands in `frames` until all are known.
    let mut seen = Vec::new();
    for pixel in 0..area {
        seen.clear();
        for (t, label) in labels[pixel.min(labels.len())..].iter().step_by(area).enumerate() {
            let Some(one) = (*label as usize).checked_sub(1) else { continue };
            let wave = &mut found[one];
            wave.start = wave.start.min(t);
            wave.frames = wave.frames.max(t + 1);
            wave.volume += 1;
            if !seen.contains(label) {
                seen.push(*label);
                wave.area += 1;
            }
        }
    }
    for wave in &mut found {
        wave.frames -= wave.start;
    }
    found
}

impl From<Wave> for Label {
    fn from(wave: Wave) -> Self {
        Self {
            start: wave.start,
            frames: wave.frames(),
            volume: wave.volume(),
            area: wave.area(),
            censored: wave.censored,
        }
    }
}

impl Labels {
    fn keep(&mut self, label: Label, options: &CalciumOptions) {
        if label.frames >= options.shortest && label.volume >= options.smallest {
            self.waves.push(label);
        } else {
            self.dropped += 1;
        }
    }

    /// Joins waves that share a frame into events, in order and apart; yields them, and the event of each wave.
    ///
    /// A wave that begins in the very frame in which all before have ended begins an event of its own.
    pub fn events(&self) -> (Vec<Range<usize>>, Vec<usize>) {
        let mut events: Vec<Range<usize>> = Vec::new();
        let mut event_of = Vec::with_capacity(self.waves.len());
        for wave in &self.waves {
            let range = wave.start..wave.start + wave.frames;
            match events.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => events.push(range),
            }
            event_of.push(events.len() - 1);
        }
        (events, event_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    const SIDE: usize = 32;
    const FRAMES: usize = 540;

    /// Waves that run over a field of fluorescence: when and where each begins.
    const PLANTED: [(usize, [f64; 2]); 4] =
        [(90, [20.0, 8.0]), (260, [8.0, 21.0]), (430, [24.0, 21.0]), (455, [6.0, 6.0])];
    const LASTS: usize = 40;

    /// A movie with a background that drifts and bleaches, noise, and discs that move and shine by a third.
    fn movie(noise: f64) -> Vec<Vec<f32>> {
        let mut stream = Streams::new(5, "test").stream("calcium");
        let frame = |t: usize| -> Vec<f32> {
            let mut value = |p: usize| {
                let (y, x) = ((p / SIDE) as f64, (p % SIDE) as f64);
                let level = (200.0 + 3.0 * x - y) * (1.0 - 2e-4 * t as f64);
                let lit = PLANTED.iter().any(|(start, [cy, cx])| {
                    let since = t.wrapping_sub(*start);
                    let shift = 0.1 * since as f64;
                    since < LASTS && (y - cy).powi(2) + (x - cx - shift).powi(2) < 36.0
                });
                (level * if lit { 1.3 } else { 1.0 } + noise * stream.normal()) as f32
            };
            (0..SIDE * SIDE).map(&mut value).collect()
        };
        (0..FRAMES).map(frame).collect()
    }

    fn segment(options: CalciumOptions, movie: &[Vec<f32>]) -> Labels {
        let mut segmenter = Segmenter::new(options, SIDE, SIDE);
        for frame in movie {
            segmenter.push(frame).unwrap();
        }
        segmenter.finish().unwrap()
    }

    const OPTIONS: CalciumOptions = CalciumOptions {
        rise: RiseOptions { denoise: 5, every: 5, background: 20 },
        blur: 1.0,
        threshold: 1.05,
        relief: Relief::Flat,
        shortest: 15,
        smallest: 135,
    };

    #[test]
    fn planted_waves_are_found_where_they_are() {
        let movie = movie(2.0);
        for relief in [Relief::Flat, Relief::Depth { least: 4.0 }] {
            let found = segment(CalciumOptions { relief, ..OPTIONS }, &movie);
            assert_eq!(found.waves.len(), PLANTED.len(), "{relief:?} {found:?}");
            for (wave, (start, _)) in found.waves.iter().zip(PLANTED) {
                // The median over 11 frames moves no edge in time; a blur of one pixel lights no earlier frame.
                assert_eq!((wave.start, wave.frames), (start, LASTS), "{relief:?}");
                assert!(!wave.censored && wave.area > 113 && wave.volume > 113 * 30);
            }
            assert_eq!(found.active, LASTS * 4 - 15);
            let (events, event_of) = found.events();
            assert_eq!((events, event_of), (vec![90..130, 260..300, 430..495], vec![0, 1, 2, 2]));
        }
    }

    #[test]
    fn short_and_small_waves_are_dropped() {
        let movie = &movie(0.0)[..200];
        let found = segment(CalciumOptions { shortest: LASTS + 1, ..OPTIONS }, movie);
        assert_eq!((found.waves.len(), found.dropped), (0, 1));
        let found = segment(CalciumOptions { smallest: 1_000_000, ..OPTIONS }, movie);
        assert_eq!((found.waves.len(), found.dropped), (0, 1));
        // A flash of five frames is gone with the median over eleven.
        let mut flash = vec![vec![100.0; SIDE * SIDE]; 60];
        flash[30..35].iter_mut().for_each(|frame| frame[520..530].fill(200.0));
        let options = CalciumOptions { shortest: 1, smallest: 1, blur: 0.0, ..OPTIONS };
        assert_eq!(segment(options, &flash), Labels::default());
        flash[30..36].iter_mut().for_each(|frame| frame[520..530].fill(200.0));
        assert_eq!(segment(options, &flash).waves.len(), 1);
    }

    #[test]
    fn touching_waves_are_one_on_a_flat_relief_and_two_on_depths() {
        // Two discs that stand beside each other and overlap by a little, over the same frames.
        let lit = |p: usize| {
            let (y, x) = ((p / SIDE) as f64, (p % SIDE) as f64);
            [8.0, 23.0].iter().any(|cx| (y - 16.0).powi(2) + (x - cx).powi(2) < 64.0)
        };
        let frame = |t: usize| -> Vec<f32> {
            let on = (200..230).contains(&t);
            (0..SIDE * SIDE).map(|p| if on && lit(p) { 130.0 } else { 100.0 }).collect()
        };
        let movie: Vec<Vec<f32>> = (0..400).map(frame).collect();
        let options = CalciumOptions { blur: 0.0, ..OPTIONS };
        let flat = segment(options, &movie);
        assert_eq!((flat.waves.len(), flat.waves[0].start, flat.waves[0].frames), (1, 200, 30));
        let relief = Relief::Depth { least: 2.0 };
        let parted = segment(CalciumOptions { relief, ..options }, &movie);
        assert_eq!(parted.waves.len(), 2);
        assert!(parted.waves.iter().all(|wave| (wave.start, wave.frames) == (200, 30)));
        // The dam between stands on one side of the middle.
        assert!(parted.waves[0].area.abs_diff(parted.waves[1].area) < 15);
        assert_eq!(parted.events().0, flat.events().0);
        assert_eq!(parted.events().1, [0, 0]);
    }
}
