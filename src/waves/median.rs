//! The running median of each pixel over time.

use std::collections::VecDeque;

/// Pixels that are looked at together: a few vectors, which stay in registers.
const LANES: usize = 16;

/// Yields each frame's median with the frames around it, pixel by pixel.
///
/// The window holds `radius` frames on either side, and fewer at the movie's ends; of an even number of values the mean
/// of the middle two is the median, as in `ImageJ`. The values of each pixel are kept in order, for 16 pixels side by
/// side, so that a frame goes out and another in by walking over the window once each: `O(radius)` for each pixel and
/// frame, without a branch.
#[derive(Clone, Debug)]
pub struct RunningMedian {
    radius: usize,
    size: usize,
    /// The frames in the window, the oldest in front.
    window: VecDeque<Vec<[f32; LANES]>>,
    /// For each 16 pixels as many ranks as the window may hold, the lowest values first.
    ranks: Vec<[f32; LANES]>,
    /// Frames that came in, and medians that went out.
    taken: usize,
    given: usize,
    median: Vec<[f32; LANES]>,
}

impl RunningMedian {
    /// Begins before the first frame of so many pixels.
    pub fn new(radius: usize, size: usize) -> Self {
        let tiles = size.div_ceil(LANES);
        Self {
            radius,
            size,
            window: VecDeque::with_capacity(2 * radius + 1),
            ranks: vec![[0.0; LANES]; tiles * (2 * radius + 1)],
            taken: 0,
            given: 0,
            median: vec![[0.0; LANES]; tiles],
        }
    }

    /// Takes the next frame; hands over the median that is `radius` frames behind, if there is one.
    pub fn push<E>(
        &mut self,
        frame: &[f32],
        give: &mut impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let full = self.window.len() == 2 * self.radius + 1;
        let mut held = if full { self.leave() } else { vec![[0.0; LANES]; self.median.len()] };
        held.as_flattened_mut()[..self.size].copy_from_slice(frame);
        let count = self.window.len();
        for (new, ranks) in held.iter().zip(self.ranks.chunks_exact_mut(2 * self.radius + 1)) {
            enter(new, &mut ranks[..=count]);
        }
        self.window.push_back(held);
        self.taken += 1;
        if self.taken > self.radius {
            self.hand_over(give)?;
        }
        Ok(())
    }

    /// Ends the movie: hands over the medians that are left.
    pub fn finish<E>(mut self, give: &mut impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        while self.given < self.taken {
            // The frame `given` has `radius` frames before it, but for the first ones.
            while self.taken - self.window.len() + self.radius < self.given {
                self.leave();
            }
            self.hand_over(give)?;
        }
        Ok(())
    }

    fn hand_over<E>(&mut self, give: &mut impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        let count = self.window.len();
        let tiles = self.ranks.chunks_exact(2 * self.radius + 1);
        for (median, ranks) in self.median.iter_mut().zip(tiles) {
            let (low, high) = (&ranks[(count - 1) / 2], &ranks[count / 2]);
            // Of an odd number both are the same, and their mean is the value itself.
            *median = std::array::from_fn(|lane| 0.5 * (low[lane] + high[lane]));
        }
        self.given += 1;
        give(&self.median.as_flattened()[..self.size])
    }

    /// Takes the oldest frame out, and yields it.
    fn leave(&mut self) -> Vec<[f32; LANES]> {
        let count = self.window.len();
        let frame = self.window.pop_front().unwrap_or_default();
        for (old, ranks) in frame.iter().zip(self.ranks.chunks_exact_mut(2 * self.radius + 1)) {
            leave(old, &mut ranks[..count]);
        }
        frame
    }
}

/// Puts values in at their ranks: what is larger goes on to the next, and the last rank is free.
fn enter(new: &[f32; LANES], ranks: &mut [[f32; LANES]]) {
    let mut carried = *new;
    let last = ranks.len() - 1;
    for held in &mut ranks[..last] {
        let before = *held;
        // Two loops of one plain comparison each are a vector's minimum and maximum; together they would be branches.
        for (low, other) in held.iter_mut().zip(&carried) {
            *low = if *low < *other { *low } else { *other };
        }
        for (high, other) in carried.iter_mut().zip(&before) {
            *high = if *high > *other { *high } else { *other };
        }
    }
    ranks[last] = carried;
}

/// Takes values out: from where each is found, the ranks move down, and the last becomes free.
fn leave(old: &[f32; LANES], ranks: &mut [[f32; LANES]]) {
    // All bits of a pixel whose value was found.
    let mut found = [0u32; LANES];
    for rank in 1..ranks.len() {
        let next = ranks[rank];
        let held = &mut ranks[rank - 1];
        for ((held, next), (found, old)) in
            held.iter_mut().zip(&next).zip(found.iter_mut().zip(old))
        {
            *found |= if *held == *old { u32::MAX } else { 0 };
            *held = f32::from_bits(held.to_bits() & !*found | next.to_bits() & *found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    fn medians(radius: usize, movie: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut found = Vec::new();
        let mut running = RunningMedian::new(radius, movie[0].len());
        let mut give = |frame: &[f32]| {
            found.push(frame.to_vec());
            Ok::<(), ()>(())
        };
        for frame in movie {
            running.push(frame, &mut give).unwrap();
        }
        running.finish(&mut give).unwrap();
        found
    }

    fn by_sorting(radius: usize, movie: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let median = |t: usize, p: usize| {
            let around = t.saturating_sub(radius)..(t + radius + 1).min(movie.len());
            let mut values: Vec<f32> = around.map(|t| movie[t][p]).collect();
            values.sort_by(f32::total_cmp);
            let n = values.len();
            if n % 2 == 1 { values[n / 2] } else { 0.5 * (values[n / 2 - 1] + values[n / 2]) }
        };
        let frame = |t| (0..movie[0].len()).map(|p| median(t, p)).collect();
        (0..movie.len()).map(frame).collect()
    }

    #[test]
    fn running_medians_are_those_of_sorted_windows() {
        let mut stream = Streams::new(1, "test").stream("median");
        for (radius, frames) in [(0, 4), (1, 1), (1, 9), (5, 3), (5, 11), (5, 40), (20, 70)] {
            // Few values, so that many are equal.
            let mut value = || {
                if stream.below(2) == 0 { stream.below(4) as f32 } else { stream.normal() as f32 }
            };
            let movie: Vec<Vec<f32>> =
                (0..frames).map(|_| (0..7).map(|_| value()).collect()).collect();
            assert_eq!(medians(radius, &movie), by_sorting(radius, &movie), "{radius} {frames}");
        }
    }

    #[test]
    fn an_error_ends_the_work() {
        let mut running = RunningMedian::new(1, 1);
        let mut give = |_: &[f32]| Err("enough");
        assert_eq!(running.push(&[1.0], &mut give), Ok(()));
        assert_eq!(running.push(&[1.0], &mut give), Err("enough"));
        assert_eq!(running.finish(&mut give), Err("enough"));
    }
}
