//! Movie artifacts and the frames that the wave functions take.

use crate::artifacts::movie::Movie;
use crate::waves::{Frames, ShapeError};

/// Takes the frames of a movie, and its rate in frames a second.
pub fn from_movie(movie: Movie) -> Result<(Frames, f64), ShapeError> {
    let Movie { frames, height, width, rate, data } = movie;
    Ok((Frames::new(frames, height, width, data)?, rate))
}

/// Makes a movie of frames.
pub fn to_movie(frames: Frames, rate: f64) -> Movie {
    let Frames { frames, height, width, data } = frames;
    Movie { frames, height, width, rate, data }
}
