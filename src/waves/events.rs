//! Events: the stretches of a movie in which a wave is under way.

use std::ops::Range;

use super::Frames;

/// What counts as an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segmentation {
    /// A pixel is active above this value; for membrane potentials in mV, −60 (Lansdell et al. 2014).
    pub threshold: f64,
    /// A frame belongs to an event if at least this many pixels are active in it.
    pub active_pixels: usize,
}

impl Default for Segmentation {
    fn default() -> Self {
        Self { threshold: -60.0, active_pixels: 1 }
    }
}

impl Segmentation {
    /// Whether a frame belongs to an event.
    pub fn is_active(&self, frame: &[f32]) -> bool {
        let bound = self.bound();
        // Counts in whole numbers of the width of a value, so that the loop runs on vectors.
        let count = |chunk: &[f32]| chunk.iter().map(|v| u32::from(*v > bound)).sum::<u32>();
        let active: usize = frame.chunks(1 << 16).map(|chunk| count(chunk) as usize).sum();
        active >= self.active_pixels
    }

    /// The largest single-precision number that is not above the threshold: a value is above one if it is above the
    /// other, and single precision compares twice as many at a time.
    pub fn bound(&self) -> f32 {
        let near = self.threshold as f32;
        if f64::from(near) > self.threshold { near.next_down() } else { near }
    }
}

/// Tells of each frame whether it is active; `observe` is called after each with its index, and its error ends the work.
pub fn active_frames<E>(
    movie: &Frames,
    rule: &Segmentation,
    mut observe: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<bool>, E> {
    let mut active = Vec::with_capacity(movie.frames);
    for frame in 0..movie.frames {
        active.push(rule.is_active(movie.frame(frame)));
        observe(frame)?;
    }
    Ok(active)
}

/// Cuts a movie at its silent frames: an event is a run of active frames between them.
///
/// The first event also begins where the movie begins, and the last ends where it ends, if there is activity.
/// The rule of Ligeralde et al. 2023 for simulated waves (section 2.1), whose events lie between periods without any
/// active cell.
pub fn segment(active: &[bool], shortest: usize) -> Vec<Range<usize>> {
    let mut events = Vec::new();
    let mut start = None;
    for frame in 0..=active.len() {
        let busy = active.get(frame).copied().unwrap_or(false);
        match (busy, start) {
            (true, None) => start = Some(frame),
            (false, Some(first)) => {
                if frame - first >= shortest {
                    events.push(first..frame);
                }
                start = None;
            }
            (true, Some(_)) | (false, None) => (),
        }
    }
    events
}

/// The share of frames that belong to an event of any length.
pub fn active_fraction(active: &[bool]) -> f64 {
    active.iter().filter(|active| **active).count() as f64 / active.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_parts_events_and_short_ones_are_left_out() {
        // Active pixels a frame: 1 2 0 1 0 2 2 2
        let data = [9, 0, 9, 9, 0, 0, 0, 9, 0, 0, 9, 9, 9, 9, 9, 9].map(|v| v as f32);
        let active = |active_pixels| -> Vec<bool> {
            let rule = Segmentation { threshold: 5.0, active_pixels };
            data.chunks(2).map(|frame| rule.is_active(frame)).collect()
        };
        let check = |active_pixels, shortest, expected: &[Range<usize>]| {
            assert_eq!(segment(&active(active_pixels), shortest), expected);
        };
        check(1, 1, &[0..2, 3..4, 5..8]);
        check(1, 2, &[0..2, 5..8]);
        check(2, 1, &[1..2, 5..8]);
        check(3, 1, &[]);
        assert_eq!(active_fraction(&active(1)), 0.75);
    }

    #[test]
    fn a_threshold_between_two_values_of_single_precision_parts_them() {
        let threshold = 0.1;
        let bound = Segmentation { threshold, active_pixels: 1 }.bound();
        for value in [bound.next_down(), bound, bound.next_up(), bound.next_up().next_up()] {
            assert_eq!(value > bound, f64::from(value) > threshold, "{value}");
        }
        assert_eq!(Segmentation::default().bound(), -60.0);
    }
}
