//! Movie artifacts and the frames that the wave functions take.

use std::ops::Range;

use crate::artifacts::events::Events;
use crate::artifacts::movie::Movie;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::waves::Frames;

/// How frames and pixels of a movie relate to time and length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Frames a second.
    pub rate: f64,
    /// Distance between neighboring pixels in mm, if it is known.
    pub pitch: Option<f64>,
}

/// Takes the frames of a movie.
pub fn from_movie(movie: Movie) -> Result<(Frames, Calibration), Failure> {
    let Movie { frames, channels, height, width, rate, pitch, data } = movie;
    let frames = Frames::with_channels(frames, channels, height, width, data);
    let frames = frames.map_err(|error| {
        Failure::data(format!("the movie is damaged: {error}"))
            .hint("a movie holds at least one pixel a frame")
    })?;
    Ok((frames, Calibration { rate, pitch }))
}

/// Takes the frames of a movie of one channel; fails if it has more.
pub fn from_gray(movie: Movie) -> Result<(Frames, Calibration), Failure> {
    if movie.channels != 1 {
        let found = format!("the movie has {} channels, and one is asked for", movie.channels);
        return Err(Failure::data(found).hint("give the movie before its channels were repeated"));
    }
    from_movie(movie)
}

/// Takes the ranges of a movie's events; fails unless they lie within the movie, in order and apart.
pub fn ranges(events: &Events, frames: usize) -> Result<Vec<Range<usize>>, Failure> {
    let mut ranges: Vec<Range<usize>> = Vec::with_capacity(events.starts.len());
    for (&start, &end) in events.starts.iter().zip(&events.ends) {
        let (start, end) = (start as usize, end as usize);
        let after = ranges.last().map_or(0, |last| last.end);
        if start < after || end < start || end > frames {
            let at = ranges.len();
            let found = format!("event {at} spans frames {start}..{end} of a movie of {frames}");
            return Err(Failure::data(format!("{found}, and the event before ends at {after}"))
                .hint("give the events of this movie, or of the movie that it was made from"));
        }
        ranges.push(start..end);
    }
    Ok(ranges)
}

/// Tells how far a stage is that takes one window of frames after the other, and ends it if the run was interrupted.
pub fn told(cx: &Context<'_>, done: usize, total: usize) -> anyhow::Result<()> {
    cx.progress(done as f64 / total as f64, || format!("{done} of {total} frames"));
    cx.check_cancelled()
}

/// Makes a movie of frames.
pub fn to_movie(frames: Frames, calibration: Calibration) -> Movie {
    let Frames { frames, channels, height, width, data } = frames;
    let Calibration { rate, pitch } = calibration;
    Movie { frames, channels, height, width, rate, pitch, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_lie_in_the_movie_in_order() {
        let of = |starts: &[u32], ends: &[u32]| {
            ranges(&Events { starts: starts.to_vec(), ends: ends.to_vec() }, 9)
        };
        assert_eq!(of(&[1, 4], &[4, 9]).unwrap(), [1..4, 4..9]);
        for (starts, ends) in [([1, 3], [4, 9]), ([1, 4], [4, 10]), ([1, 6], [4, 5])] {
            assert!(of(&starts, &ends).unwrap_err().message.starts_with("event 1 spans frames"));
        }
    }

    #[test]
    fn a_movie_that_does_not_fill_its_shape_is_a_failure_of_the_data() {
        let movie = Movie {
            frames: 2,
            channels: 1,
            height: 1,
            width: 2,
            rate: 1.0,
            pitch: None,
            data: vec![0.0; 3],
        };
        let failure = from_movie(movie).unwrap_err();
        assert_eq!(failure.kind, crate::engine::failure::FailureKind::Data);
        assert!(failure.message.contains("3 values cannot be 2 frames"), "{failure}");
    }
}
