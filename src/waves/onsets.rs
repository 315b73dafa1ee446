//! When single pixels become active, and how long they wait between.

use std::collections::BTreeMap;

/// What a pixel does over a movie.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pixel {
    /// Frames in which it is active.
    pub active: u64,
    /// How often it becomes active.
    pub onsets: u64,
    /// The mean time between, in frames; 0 without two onsets.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    squares: f64,
    last: Option<u32>,
}

impl Pixel {
    /// Mean time between onsets in frames, if there are two.
    pub fn interval(&self) -> Option<f64> {
        (self.onsets >= 2).then_some(self.mean)
    }

    /// Deviation of the times between onsets over their mean, if there are three onsets.
    pub fn variation(&self) -> Option<f64> {
        let intervals = self.onsets.saturating_sub(1);
        (intervals >= 2).then(|| (self.squares / (intervals - 1) as f64).sqrt() / self.mean)
    }
}

/// Follows single pixels through masks that come one after the other.
#[derive(Clone, Debug)]
pub struct Onsets {
    frame: u32,
    shortest: u32,
    before: Vec<u8>,
    pixels: Vec<Pixel>,
    intervals: BTreeMap<u32, u64>,
}

impl Onsets {
    /// Begins before the first frame; an onset less than `shortest` frames after the one before is part of it.
    pub fn new(area: usize, shortest: u32) -> Self {
        // What is active in the first frame began at no known time.
        let (before, pixels) = (vec![1; area], vec![Pixel::default(); area]);
        Self { frame: 0, shortest, before, pixels, intervals: BTreeMap::new() }
    }

    /// Takes the next frame, 1 where a pixel is active and 0 where not.
    pub fn push(&mut self, mask: &[u8]) {
        for ((pixel, before), now) in self.pixels.iter_mut().zip(&mut self.before).zip(mask) {
            pixel.active += u64::from(*now);
            if *now > *before {
                let waited = pixel.last.map(|last| self.frame - last);
                if waited.is_none_or(|frames| frames >= self.shortest) {
                    pixel.onsets += 1;
                    pixel.last = Some(self.frame);
                    if let Some(frames) = waited {
                        let (count, value) = ((pixel.onsets - 1) as f64, f64::from(frames));
                        let apart = value - pixel.mean;
                        pixel.mean += apart / count;
                        pixel.squares += apart * (value - pixel.mean);
                        *self.intervals.entry(frames).or_default() += 1;
                    }
                }
            }
            *before = *now;
        }
        self.frame += 1;
    }

    /// What each pixel did.
    pub fn pixels(&self) -> &[Pixel] {
        &self.pixels
    }

    /// How often each time between onsets of a pixel occurred, in frames, over all pixels.
    pub fn intervals(&self) -> &BTreeMap<u32, u64> {
        &self.intervals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(shortest: u32, pixels: &[&str]) -> Onsets {
        let mut onsets = Onsets::new(pixels.len(), shortest);
        for t in 0..pixels[0].len() {
            let mask: Vec<u8> = pixels.iter().map(|p| u8::from(p.as_bytes()[t] == b'#')).collect();
            onsets.push(&mask);
        }
        onsets
    }

    #[test]
    fn onsets_and_what_lies_between_are_counted() {
        let onsets = follow(0, &[".#..##...#", "##........", "..........", ".#.#......"]);
        let [first, second, third, fourth] = onsets.pixels() else { panic!("four pixels") };
        assert_eq!((first.active, first.onsets, first.interval()), (4, 3, Some(4.0)));
        // Waits of 3 and 5 frames: deviation √2.
        assert!((first.variation().unwrap() - 2f64.sqrt() / 4.0).abs() < 1e-15);
        assert_eq!((second.active, second.onsets, second.interval()), (2, 0, None));
        assert_eq!((third.active, third.interval(), third.variation()), (0, None, None));
        assert_eq!((fourth.interval(), fourth.variation()), (Some(2.0), None));
        assert_eq!(onsets.intervals(), &BTreeMap::from([(2, 1), (3, 1), (5, 1)]));
    }

    #[test]
    fn a_flicker_belongs_to_the_onset_before() {
        let onsets = follow(4, &[".#.#.#...#"]);
        let pixel = onsets.pixels()[0];
        assert_eq!((pixel.onsets, pixel.interval()), (3, Some(4.0)));
    }
}
