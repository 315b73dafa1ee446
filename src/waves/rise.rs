//! The relative rise of fluorescence over its own background.

use std::collections::VecDeque;

use thiserror::Error;

use super::median::RunningMedian;

/// How a movie is freed of noise and of its background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RiseOptions {
    /// Frames on either side of a frame whose median is taken to free it of noise.
    pub denoise: usize,
    /// Every so many frames, one goes into the background.
    pub every: usize,
    /// Frames of the background on either side whose median is taken.
    pub background: usize,
}

/// A background that nothing can be divided by.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[error("the background of pixel {pixel} is {value} in frame {frame}, and must be above 0")]
pub struct NoBackground {
    frame: usize,
    pixel: usize,
    value: f32,
}

/// Divides each frame by its background while frames come in.
///
/// As the macros of the Feller laboratory do that Ligeralde et al. 2023 segment with: the frame is the running median of
/// the raw movie; the background is the running median of every so many raw frames, drawn back to full length by straight
/// lines between them. ("Bilinear" there: `ImageJ` resizes the stack, which moves the background by a quarter of a
/// sample; here each sample stands at its own frame.) Holds as many frames as the windows of the medians span.
#[derive(Clone, Debug)]
pub struct Rise {
    options: RiseOptions,
    smooth: RunningMedian,
    background: RunningMedian,
    taken: usize,
    given: usize,
    /// Frames that wait for their background.
    frames: VecDeque<Vec<f32>>,
    /// Samples of the background, and the number of the first.
    samples: VecDeque<Vec<f32>>,
    first: usize,
    out: Vec<f32>,
}

impl Rise {
    /// Begins before the first frame of so many pixels.
    pub fn new(options: RiseOptions, size: usize) -> Self {
        Self {
            options,
            smooth: RunningMedian::new(options.denoise, size),
            background: RunningMedian::new(options.background, size),
            taken: 0,
            given: 0,
            frames: VecDeque::new(),
            samples: VecDeque::new(),
            first: 0,
            out: vec![0.0; size],
        }
    }

    /// Takes the next frame; hands over those that are ready.
    pub fn push<E: From<NoBackground>>(
        &mut self,
        frame: &[f32],
        give: &mut impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (frames, samples) = (&mut self.frames, &mut self.samples);
        self.smooth.push(frame, &mut |median| {
            frames.push_back(median.to_vec());
            Ok::<(), E>(())
        })?;
        if self.taken.is_multiple_of(self.options.every) {
            self.background.push(frame, &mut |median| {
                samples.push_back(median.to_vec());
                Ok::<(), E>(())
            })?;
        }
        self.taken += 1;
        self.hand_over(false, give)
    }

    /// Ends the movie: hands over the frames that are left.
    pub fn finish<E: From<NoBackground>>(
        mut self,
        give: &mut impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let none = RunningMedian::new(0, 0);
        let (frames, samples) = (&mut self.frames, &mut self.samples);
        std::mem::replace(&mut self.smooth, none.clone()).finish(&mut |median| {
            frames.push_back(median.to_vec());
            Ok::<(), E>(())
        })?;
        std::mem::replace(&mut self.background, none).finish(&mut |median| {
            samples.push_back(median.to_vec());
            Ok::<(), E>(())
        })?;
        self.hand_over(true, give)
    }

    fn hand_over<E: From<NoBackground>>(
        &mut self,
        last: bool,
        give: &mut impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(frame) = self.frames.front() {
            let sample = self.given / self.options.every;
            while self.first < sample && self.samples.len() > 1 {
                self.samples.pop_front();
                self.first += 1;
            }
            let share = self.given % self.options.every;
            let near = self.samples.get(sample - self.first);
            // Behind the last sample, the background stays as it is.
            let next = self.samples.get(sample + 1 - self.first).or(near.filter(|_| last));
            let (near, next) = match (near, next) {
                (Some(near), Some(next)) => (near, next),
                (Some(near), None) if share == 0 => (near, near),
                _ => return Ok(()),
            };
            let share = share as f32 / self.options.every as f32;
            let mut least = f32::INFINITY;
            let values = self.out.iter_mut().zip(frame).zip(near.iter().zip(next));
            for ((out, value), (near, next)) in values {
                let background = near + (next - near) * share;
                least = least.min(background);
                *out = value / background;
            }
            if least <= 0.0 {
                return Err(self.refused(near, next, share).into());
            }
            give(&self.out)?;
            self.frames.pop_front();
            self.given += 1;
        }
        Ok(())
    }

    /// Names the first pixel whose background is not above 0.
    fn refused(&self, near: &[f32], next: &[f32], share: f32) -> NoBackground {
        let background = near.iter().zip(next).map(|(near, next)| near + (next - near) * share);
        let (pixel, value) =
            background.enumerate().find(|(_, value)| *value <= 0.0).unwrap_or_default();
        NoBackground { frame: self.given, pixel, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    fn rises(options: RiseOptions, movie: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, NoBackground> {
        let mut found = Vec::new();
        let mut rise = Rise::new(options, movie[0].len());
        let mut give = |frame: &[f32]| {
            found.push(frame.to_vec());
            Ok(())
        };
        movie.iter().try_for_each(|frame| rise.push(frame, &mut give))?;
        rise.finish(&mut give)?;
        Ok(found)
    }

    fn median(values: impl Iterator<Item = f32>) -> f32 {
        let mut values: Vec<f32> = values.collect();
        values.sort_by(f32::total_cmp);
        let n = values.len();
        if n % 2 == 1 { values[n / 2] } else { 0.5 * (values[n / 2 - 1] + values[n / 2]) }
    }

    #[test]
    fn a_rise_is_what_the_whole_movie_says() {
        let mut stream = Streams::new(1, "test").stream("rise");
        for (frames, every, background, denoise) in [
            (60, 5, 2, 2),
            (61, 5, 4, 1),
            (33, 4, 20, 5),
            (7, 5, 1, 0),
            (1, 5, 3, 3),
            (20, 1, 2, 2),
        ] {
            let movie: Vec<Vec<f32>> = (0..frames)
                .map(|_| (0..3).map(|_| 100.0 + 10.0 * stream.uniform() as f32).collect())
                .collect();
            let found = rises(RiseOptions { denoise, every, background }, &movie).unwrap();
            assert_eq!(found.len(), frames);
            let kept: Vec<&Vec<f32>> = movie.iter().step_by(every).collect();
            for (t, found) in found.iter().enumerate() {
                for p in 0..3 {
                    let around = |at: usize, radius: usize, n: usize| {
                        at.saturating_sub(radius)..(at + radius + 1).min(n)
                    };
                    let sample =
                        |s: usize| median(around(s, background, kept.len()).map(|s| kept[s][p]));
                    let (near, next) = (t / every, (t / every + 1).min(kept.len() - 1));
                    let share = (t % every) as f32 / every as f32;
                    let level = sample(near) + (sample(next) - sample(near)) * share;
                    let expected = median(around(t, denoise, frames).map(|t| movie[t][p])) / level;
                    assert!((found[p] - expected).abs() < 1e-6, "{frames} {every} {t}");
                }
            }
        }
    }

    #[test]
    fn a_background_of_nothing_is_refused_by_its_place() {
        let options = RiseOptions { denoise: 1, every: 2, background: 1 };
        let mut movie = vec![vec![5.0, 5.0]; 20];
        movie[10..].iter_mut().for_each(|frame| frame[1] = -3.0);
        let error = rises(options, &movie).unwrap_err();
        assert!(error.to_string().starts_with("the background of pixel 1 is -"), "{error}");
    }
}
