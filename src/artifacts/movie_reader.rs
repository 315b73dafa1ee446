//! A movie read window by window, for kinds whose memory must not grow with its length.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use safetensors::Dtype;

use super::movie::{FILE, FRAMES, Header, Movie};
use super::tensor;
use crate::engine::failure::Failure;
use crate::engine::stage::{Artifact, Files, Source};
use crate::store::files;

/// An open movie: its header is read, its frames are not.
///
/// A field of type `Input<MovieReader>` takes what one of type `Input<Movie>` takes. Windows are read with plain reads at
/// offsets, so that a damaged disk is an error and not a signal; values that are not finite are refused.
#[derive(Debug)]
pub struct MovieReader {
    /// Number of frames.
    pub frames: usize,
    /// Channels of a frame.
    pub channels: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Columns of a frame.
    pub width: usize,
    /// Frames a second.
    pub rate: f64,
    /// Distance between neighboring pixels in mm, if it is known.
    pub pitch: Option<f64>,
    file: File,
    path: PathBuf,
    /// Where the first value lies in the file, in bytes.
    start: u64,
}

/// Values in a window: 2 MiB of them, so that a read costs little beside the copy, and a window stays in the cache of
/// the processor as it is used.
const WINDOW: usize = 1 << 19;

impl MovieReader {
    /// Opens the file of a movie and checks its header and length.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = files::open(path)?;
        let length = files::length(path)?;
        let name = || format!("`{}` is no movie", path.display());
        let (metadata, first) = tensor::header(&file, length).with_context(name)?;
        let Header { rate, pitch } = Header::of(&tensor::about(&metadata).with_context(name)?)?;
        let info = metadata.info(FRAMES).with_context(|| format!("{}: no `{FRAMES}`", name()))?;
        let &[frames, channels, height, width] = info.shape.as_slice() else {
            anyhow::bail!("`{FRAMES}` has {} dimensions, not 4", info.shape.len());
        };
        ensure!(info.dtype == Dtype::F32, "`{FRAMES}` is {:?}, not F32", info.dtype);
        let (start, end) = info.data_offsets;
        let (start, end) = ((first + start) as u64, (first + end) as u64);
        ensure!(
            end <= length,
            Failure::data(format!("{}: it ends at byte {length} of {end}", name()))
                .hint("the file is cut short: make it again")
        );
        let values = info.shape.iter().try_fold(size_of::<f32>(), |all, n| all.checked_mul(*n));
        ensure!(
            values.is_some_and(|bytes| start + bytes as u64 == end),
            "{}: {frames} x {channels} x {height} x {width} values do not fill it",
            name()
        );
        ensure!(
            channels * height * width > 0,
            Failure::data("the movie is damaged: its frames have no pixels")
                .hint("a movie holds at least one pixel a frame")
        );
        let path = path.to_owned();
        Ok(Self { frames, channels, height, width, rate, pitch, file, path, start })
    }

    /// Fails unless the movie has one channel.
    pub fn gray(self) -> Result<Self, Failure> {
        if self.channels == 1 {
            return Ok(self);
        }
        let found = format!("the movie has {} channels, and one is asked for", self.channels);
        Err(Failure::data(found).hint("give the movie before its channels were repeated"))
    }

    /// Number of values in a frame.
    pub fn size(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Reads some frames into a buffer that they fill; fails if there is no such frame or a value is not finite.
    pub fn read(&self, first: usize, out: &mut [f32]) -> anyhow::Result<()> {
        let size = self.size();
        debug_assert!(out.len().is_multiple_of(size), "a window holds whole frames");
        let last = first + out.len() / size;
        ensure!(last <= self.frames, "frames {first}..{last} of a movie of {}", self.frames);
        let place = self.start + (first * size * size_of::<f32>()) as u64;
        self.file
            .read_exact_at(bytemuck::cast_slice_mut(out), place)
            .with_context(|| format!("cannot read `{}`", self.path.display()))?;
        if all_finite(out) {
            return Ok(());
        }
        let at = out.iter().position(|value| !value.is_finite()).unwrap_or(0);
        let (frame, value) = (first + at / size, out[at]);
        let place = format!("frame {frame} of the movie holds {value} at value {}", at % size);
        Err(Failure::data(place).hint("look for missing or infinite values in what made it").into())
    }

    /// Hands over windows of whole frames, in order, each with the index of its first frame.
    pub fn each_window(
        &self,
        mut take: impl FnMut(usize, &[f32]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let size = self.size();
        let count = (WINDOW / size).clamp(1, self.frames.max(1));
        let mut window = vec![0.0; count * size];
        for first in (0..self.frames).step_by(count) {
            let held = count.min(self.frames - first);
            let window = &mut window[..held * size];
            self.read(first, window)?;
            take(first, window)?;
        }
        Ok(())
    }

    /// Hands over the frames one by one, in order, each with its index; the memory is that of a window.
    pub fn each_frame(
        &self,
        mut take: impl FnMut(usize, &[f32]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let size = self.size();
        self.each_window(|first, window| {
            let mut frames = window.chunks_exact(size).enumerate();
            frames.try_for_each(|(index, frame)| take(first + index, frame))
        })
    }
}

impl Source for MovieReader {
    const ACCEPTS: &'static [&'static str] = &[Movie::TYPE];
    fn read(_kind: &str, files: &Files) -> anyhow::Result<Self> {
        Self::open(files.path(FILE)?)
    }
}

/// Whether no value is infinite or no number, without a branch for each.
fn all_finite(values: &[f32]) -> bool {
    // All bits of the exponent are set in what is infinite or no number, and in nothing else.
    const EXPONENT: u32 = 0x7f80_0000;
    let odd = |value: &f32| u32::from(value.to_bits() & EXPONENT == EXPONENT);
    values.iter().fold(0, |any, value| any | odd(value)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn movie(frames: usize) -> Movie {
        let data = (0..frames * 12).map(|v| v as f32 - 7.5).collect();
        Movie { frames, channels: 2, height: 2, width: 3, rate: 12.5, pitch: Some(0.042), data }
    }

    fn saved(movie: &Movie) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        movie.save(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        (folder, path)
    }

    #[test]
    fn frames_are_those_of_the_movie_whatever_the_window() {
        let movie = movie(101);
        let (_folder, path) = saved(&movie);
        let reader = MovieReader::open(&path).unwrap();
        assert_eq!((reader.frames, reader.channels, reader.height, reader.width), (101, 2, 2, 3));
        assert_eq!((reader.rate, reader.pitch), (12.5, Some(0.042)));
        let mut all = Vec::new();
        let take = |index: usize, frame: &[f32]| {
            assert_eq!(index * 12, all.len());
            all.extend_from_slice(frame);
            Ok(())
        };
        reader.each_frame(take).unwrap();
        assert_eq!(all, movie.data);
        for (first, count) in [(0, 1), (17, 5), (100, 1), (0, 101)] {
            let mut window = vec![0.0; count * 12];
            reader.read(first, &mut window).unwrap();
            assert_eq!(window, movie.data[first * 12..][..count * 12]);
        }
        assert!(reader.read(100, &mut [0.0; 24]).unwrap_err().to_string().contains("100..102"));
        assert!(reader.gray().unwrap_err().message.contains("2 channels"));
    }

    #[test]
    fn an_empty_movie_has_no_frames() {
        let (_folder, path) = saved(&movie(0));
        MovieReader::open(&path).unwrap().each_frame(|_, _| panic!("there is none")).unwrap();
    }

    #[test]
    fn what_is_not_finite_is_named_by_its_frame() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut movie = movie(40);
            movie.data[12 * 31 + 4] = bad;
            let (_folder, path) = saved(&movie);
            let reader = MovieReader::open(&path).unwrap();
            let error = reader.each_frame(|_, _| Ok(())).unwrap_err();
            let failure = Failure::from_error(error);
            let expected = format!("frame 31 of the movie holds {bad} at value 4");
            assert_eq!((failure.message.as_str(), failure.hint.is_some()), (&*expected, true));
        }
        assert!(all_finite(&[f32::MAX; 100]) && all_finite(&[]) && all_finite(&[-0.0, f32::MIN]));
    }

    #[test]
    fn a_cut_file_is_refused_with_what_to_do() {
        let (_folder, path) = saved(&movie(9));
        let whole = files::read(&path).unwrap();
        for length in [0, 5, 20, whole.len() - 1] {
            files::write(&path, &whole[..length]).unwrap();
            assert!(MovieReader::open(&path).is_err(), "{length}");
        }
        let failure = Failure::from_error(MovieReader::open(&path).unwrap_err());
        assert!(failure.hint.is_some_and(|hint| hint.contains("cut short")), "{}", failure.message);
    }
}
