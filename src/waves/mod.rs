//! Retinal waves: the movies that networks are pre-trained on.
//!
//! [`lansdell`], [`godfrey_swindale`] and [`automaton`] simulate spontaneous waves, [`exposure`] makes movies of recorded
//! spikes on a [`grid`], [`events`] and [`calcium`] cut a movie into waves, [`survey`] measures them, [`shuffle`] destroys
//! their order in time or space, and [`normalize`] brings a movie into the range a network expects. All bits are the
//! same on every machine and for any number of threads.

#![expect(
    clippy::inline_always,
    reason = "vector code is compiled anew for each instruction set by being inlined"
)]

pub mod automaton;
pub mod blur;
pub mod calcium;
pub mod correlation;
pub mod events;
pub mod exposure;
pub mod flood;
pub mod front;
pub mod godfrey_swindale;
pub mod grid;
pub mod lansdell;
pub mod math;
pub mod median;
pub mod normalize;
pub mod onsets;
pub mod pixels;
pub mod quantiles;
pub mod rise;
pub mod shuffle;
pub mod simulation;
pub mod survey;
pub mod tracker;

use thiserror::Error;

/// A movie.
#[derive(Clone, Debug, PartialEq)]
pub struct Frames {
    /// Number of frames.
    pub frames: usize,
    /// Channels of a frame.
    pub channels: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Columns of a frame.
    pub width: usize,
    /// Pixels, frame-major: (frames, channels, height, width).
    pub data: Vec<f32>,
}

/// Pixels that do not fill a movie of the stated shape.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{pixels} values cannot be {frames} frames of {channels} x {height} x {width} pixels")]
pub struct ShapeError {
    pixels: usize,
    frames: usize,
    channels: usize,
    height: usize,
    width: usize,
}

impl Frames {
    /// Wraps pixels of one channel in (frames, height, width) order, as [`Frames::with_channels`].
    pub fn new(
        frames: usize,
        height: usize,
        width: usize,
        data: Vec<f32>,
    ) -> Result<Self, ShapeError> {
        Self::with_channels(frames, 1, height, width, data)
    }

    /// Wraps pixels in (frames, channels, height, width) order; fails unless a frame has pixels and they fill that
    /// shape.
    pub fn with_channels(
        frames: usize,
        channels: usize,
        height: usize,
        width: usize,
        data: Vec<f32>,
    ) -> Result<Self, ShapeError> {
        let size = channels.checked_mul(height).and_then(|rows| rows.checked_mul(width));
        match size.and_then(|size| Some((size, size.checked_mul(frames)?))) {
            Some((size, expected)) if expected == data.len() && size > 0 => {
                Ok(Self { frames, channels, height, width, data })
            }
            _ => Err(ShapeError { pixels: data.len(), frames, channels, height, width }),
        }
    }

    /// Number of pixels in a channel of a frame.
    pub fn area(&self) -> usize {
        self.height * self.width
    }

    /// Number of values in a frame: pixels in all channels.
    pub fn size(&self) -> usize {
        self.channels * self.area()
    }

    /// Values of frame `index`, channel by channel and row by row; panics if there is no such frame.
    pub fn frame(&self, index: usize) -> &[f32] {
        &self.data[index * self.size()..][..self.size()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_movie_is_filled_exactly() {
        let movie = Frames::new(2, 1, 3, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!(movie.frame(1), [3.0, 4.0, 5.0]);
        let error = Frames::new(2, 2, 2, vec![0.0; 6]).unwrap_err();
        assert_eq!(error.to_string(), "6 values cannot be 2 frames of 1 x 2 x 2 pixels");
        for (frames, height, width) in [(usize::MAX, 2, 2), (5, 0, 3), (0, usize::MAX, 0)] {
            assert!(Frames::new(frames, height, width, vec![]).is_err());
        }
        assert!(Frames::new(0, 2, 3, vec![]).is_ok());
    }
}
