//! Retinal waves: the movies that networks are pre-trained on.
//!
//! [`lansdell`] simulates spontaneous waves, [`events`] cuts a movie into waves, [`shuffle`] destroys its order in
//! time or space, and [`normalize`] brings it into the range a network expects. All bits are the same on every
//! machine and for any number of threads.

mod checks;
pub mod diffusion;
pub mod events;
pub mod lansdell;
pub mod math;
pub mod normalize;
pub mod parameters;
pub mod reaction;
pub mod shuffle;

use thiserror::Error;

/// A movie in one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Frames {
    /// Number of frames.
    pub frames: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Columns of a frame.
    pub width: usize,
    /// Pixels, frame-major: (frames, height, width).
    pub data: Vec<f32>,
}

/// Pixels that do not fill a movie of the stated shape.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{pixels} pixels cannot be {frames} frames of {height} x {width} pixels")]
pub struct ShapeError {
    pixels: usize,
    frames: usize,
    height: usize,
    width: usize,
}

impl Frames {
    /// Wraps pixels in (frames, height, width) order; fails unless a frame has pixels and they fill that shape.
    pub fn new(
        frames: usize,
        height: usize,
        width: usize,
        data: Vec<f32>,
    ) -> Result<Self, ShapeError> {
        let pixels = data.len();
        match frames.checked_mul(height).and_then(|rows| rows.checked_mul(width)) {
            Some(expected) if expected == pixels && height > 0 && width > 0 => {
                Ok(Self { frames, height, width, data })
            }
            _ => Err(ShapeError { pixels, frames, height, width }),
        }
    }

    /// Number of pixels in a frame.
    pub fn area(&self) -> usize {
        self.height * self.width
    }

    /// Pixels of frame `index`, row by row; panics if there is no such frame.
    pub fn frame(&self, index: usize) -> &[f32] {
        &self.data[index * self.area()..][..self.area()]
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
        assert_eq!(error.to_string(), "6 pixels cannot be 2 frames of 2 x 2 pixels");
        for (frames, height, width) in [(usize::MAX, 2, 2), (5, 0, 3), (0, usize::MAX, 0)] {
            assert!(Frames::new(frames, height, width, vec![]).is_err());
        }
        assert!(Frames::new(0, 2, 3, vec![]).is_ok());
    }
}
