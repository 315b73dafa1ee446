//! Frames as pictures in false colors: animated GIFs, and sheets of PNG.

use std::borrow::Cow;

use gif::{Encoder, Frame, Repeat};
use png::{BitDepth, ColorType};

use crate::colormap::{self, LEVELS};
use crate::engine::failure::Failure;
use crate::waves::Frames;

/// Pixels between the frames of a sheet.
pub const GAP: usize = 2;

/// The level of what is no frame: white.
const PAPER: u8 = LEVELS as u8;

/// How fast frames follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Playback {
    pub frames_a_second: f64,
}

/// Programs show a frame of a GIF for two hundredths of a second at least.
const FASTEST: f64 = 50.0;

impl Playback {
    /// How long so many frames play, in s.
    pub fn seconds(self, frames: usize) -> f64 {
        frames as f64 / self.frames_a_second
    }

    /// When a frame begins, in hundredths of a second.
    fn begin(self, frame: usize) -> f64 {
        libm::round(100.0 * self.seconds(frame))
    }
}

/// Finds two percentiles of all values in some frames: the values that stand at these parts of their order.
pub fn percentiles(movie: &Frames, frames: &[usize], percentiles: [f64; 2]) -> (f64, f64) {
    let mut values: Vec<f32> =
        frames.iter().flat_map(|frame| movie.frame(*frame)).copied().collect();
    let mut at = |percentile: f64| {
        let rank = libm::round(percentile / 100.0 * (values.len() - 1) as f64) as usize;
        f64::from(*values.select_nth_unstable_by(rank, f32::total_cmp).1)
    };
    (at(percentiles[0]), at(percentiles[1]))
}

/// Returns the level of color of each pixel.
pub fn levels(frame: &[f32], low: f64, high: f64) -> Vec<u8> {
    let place = |value: &f32| {
        let above = f64::from(*value) - low;
        if high > low { above / (high - low) } else { 0.5 }
    };
    frame.iter().map(|value| colormap::level(place(value))).collect()
}

/// Writes frames of levels as a GIF that plays in a loop; `observe` is told how much is done.
pub fn gif(
    frames: &[Vec<u8>],
    (width, height): (usize, usize),
    scale: usize,
    playback: Playback,
    observe: impl Fn(f64) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<u8>> {
    let rate = playback.frames_a_second;
    anyhow::ensure!(
        rate <= FASTEST,
        Failure::user(format!(
            "a GIF shows at most {FASTEST} frames a second, and this would have {rate}"
        ))
        .hint("give a smaller `speed`, or a larger `every`")
    );
    let side = |pixels: usize| (pixels * scale) as u16;
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, side(width), side(height), &palette())?;
    encoder.set_repeat(Repeat::Infinite)?;
    for (index, frame) in frames.iter().enumerate() {
        let delay = playback.begin(index + 1) - playback.begin(index);
        encoder.write_frame(&Frame {
            delay: delay as u16,
            width: side(width),
            height: side(height),
            buffer: Cow::Owned(enlarged(frame, width, scale)),
            ..Frame::default()
        })?;
        observe((index + 1) as f64 / frames.len() as f64)?;
    }
    drop(encoder);
    Ok(bytes)
}

/// Writes frames of levels as one PNG, in rows of so many.
pub fn sheet(
    frames: &[Vec<u8>],
    (width, height): (usize, usize),
    scale: usize,
    columns: usize,
) -> anyhow::Result<Vec<u8>> {
    let columns = columns.min(frames.len());
    let rows = frames.len().div_ceil(columns);
    let (step_x, step_y) = (width * scale + GAP, height * scale + GAP);
    let (wide, high) = (columns * step_x - GAP, rows * step_y - GAP);
    let mut sheet = vec![PAPER; wide * high];
    for (index, frame) in frames.iter().enumerate() {
        let corner = index / columns * step_y * wide + index % columns * step_x;
        for (y, row) in enlarged(frame, width, scale).chunks(width * scale).enumerate() {
            sheet[corner + y * wide..][..row.len()].copy_from_slice(row);
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, wide as u32, high as u32);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_palette(palette());
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&sheet)?;
    writer.finish()?;
    Ok(bytes)
}

/// The colors of all levels, and white.
fn palette() -> Vec<u8> {
    let mut palette = colormap::palette();
    palette.extend([0xFF; 3]);
    palette
}

/// Repeats each pixel along both sides.
fn enlarged(frame: &[u8], width: usize, scale: usize) -> Vec<u8> {
    let wide = |row: &[u8]| -> Vec<u8> {
        row.iter().flat_map(|level| std::iter::repeat_n(*level, scale)).collect()
    };
    frame.chunks(width).flat_map(|row| wide(row).repeat(scale)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_in_their_order() {
        let data = (0..202).map(|v| (v * 37 % 101) as f32).collect();
        let movie = Frames::new(2, 1, 101, data).unwrap();
        assert_eq!(percentiles(&movie, &[0], [0.0, 100.0]), (0.0, 100.0));
        assert_eq!(percentiles(&movie, &[1], [25.0, 50.0]), (25.0, 50.0));
    }

    #[test]
    fn what_does_not_vary_has_the_color_of_the_middle() {
        assert_eq!(levels(&[3.0, 3.0], 3.0, 3.0), [colormap::level(0.5); 2]);
        assert_eq!(levels(&[-1.0, 0.0, 9.0], 0.0, 2.0), [0, 0, colormap::level(1.0)]);
    }
}
