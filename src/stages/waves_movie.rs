//! `waves.movie`: a movie that was recorded with a camera.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::film::{self, Calibration};
use super::shared::pages;
use crate::artifacts::movie::Movie;
use crate::engine::context::Context;
use crate::engine::failure::{Failure, FailureKind};
use crate::engine::parameter::DataPath;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::waves::Frames;
use crate::waves::pixels::{Pixels, Turn};

/// Reads a movie, such as one of calcium imaging, from a file or a folder.
///
/// A stack of TIFF pages (gray, of 8, 16 or 32 bits, plain or compressed as LZW, Deflate or PackBits), an array that
/// `numpy.save` wrote (frames, rows and columns; `|u1`, `<u2`, `<f4` or `<f8`), or a folder of gray PNG files of 8 or 16
/// bits, one a frame, in the order of their names, in which numbers count as numbers; what the file holds tells which.
/// Values stay as they are, as 32-bit floats. Frames are read one by one, and may be averaged over blocks of pixels on
/// the way, so that a movie may be larger than memory as long as what is left of it fits.
///
/// The movies of Ligeralde et al. 2023 had 128 x 128 pixels, averaged 4 x 4 to 32 x 32; their code also trained on copies
/// turned by 90, 180 and 270 degrees. `rotate` swept over an axis makes such copies. Metrics: `frames`, `height`, `width`.
///
/// Source: averages and turns are those of the code of Ligeralde et al. 2023, PMLR 243:194-208; the formats are anybody's.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WavesMovie {
    /// A file of TIFF or NPY, or a folder of PNG files.
    path: DataPath,
    /// Frames a second, above 0.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "1/s"))]
    rate: f64,
    /// Distance between neighboring pixels of the file, in µm, if it is known; speeds of waves need it.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "µm"))]
    pitch: Option<f64>,
    /// Side of the blocks of pixels that are averaged; rows and columns are multiples of it.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    bin: usize,
    /// Turn in degrees, clockwise: 0, 90, 180 or 270.
    #[serde(default)]
    #[schemars(extend("enum" = [0, 90, 180, 270], "x-unit" = "degrees"))]
    rotate: u16,
    /// The first frame taken, counted from 0.
    #[serde(default)]
    first: usize,
    /// Number of frames taken at most. Default: all that follow.
    #[serde(default)]
    #[schemars(range(min = 1))]
    frames: Option<usize>,
}

fn one() -> usize {
    1
}

impl Stage for WavesMovie {
    const KIND: &'static str = "waves.movie";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.imaging]
        kind = "waves.movie"
        path = "data/imaging.tif"
        rate = 10
    "#;

    fn check(&self) -> Vec<Violation> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        violations([
            ("rate", positive(self.rate), "must be above 0"),
            ("pitch", self.pitch.is_none_or(positive), "must be above 0"),
            ("bin", self.bin > 0, "must be at least 1"),
            ("rotate", self.turn().is_some(), "must be 0, 90, 180 or 270"),
            ("frames", self.frames.is_none_or(|frames| frames > 0), "must be at least 1"),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Movie::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let name = self.path.written();
        let mut pages = pages::open(&self.path)?;
        for skipped in 0..self.first {
            if !pages.skip()? {
                return Err(Failure::user(format!("{name} has {skipped} frames"))
                    .hint("frames are counted from 0; give a smaller `first`")
                    .into());
            }
            cx.check_cancelled()?;
        }
        let mut size = None;
        let mut data = Vec::new();
        let mut count = 0;
        while self.frames.is_none_or(|frames| count < frames) {
            let Some(page) = pages.next()? else { break };
            let frame = self.first + count;
            let found = (page.height, page.width);
            let expected = *size.get_or_insert(found);
            anyhow::ensure!(
                found == expected,
                Failure::data(format!(
                    "frame {frame} of {name} has {found:?} pixels, those before it {expected:?}"
                ))
                .hint("all frames of a movie have one size")
            );
            anyhow::ensure!(
                page.values.iter().all(|value| value.is_finite()),
                Failure::data(format!("frame {frame} of {name} holds a value that is no finite number"))
                    .hint("replace what is missing before, or choose other frames with `first` and `frames`")
            );
            let pixels = self.small(page)?;
            data.try_reserve(pixels.values.len()).map_err(|_| {
                Failure::new(FailureKind::Resource, format!("no memory for {} frames", count + 1))
                    .hint("take fewer with `frames`, or average them with `bin`")
            })?;
            data.extend_from_slice(&pixels.values);
            count += 1;
            let part = self.frames.map_or(0.5, |frames| count as f64 / frames as f64);
            cx.progress(part, || format!("{count} frames"));
            cx.check_cancelled()?;
        }
        let (height, width) = size.ok_or_else(|| {
            Failure::data(format!("there is no frame {} in {name}", self.first))
                .hint("frames are counted from 0; is the file whole?")
        })?;
        let (height, width) = match self.rotate {
            90 | 270 => (width / self.bin, height / self.bin),
            _ => (height / self.bin, width / self.bin),
        };
        for (metric, value) in [("frames", count), ("height", height), ("width", width)] {
            cx.metric(metric, value as f64)?;
        }
        let frames = Frames::new(count, height, width, data)?;
        let pitch = self.pitch.map(|pitch| pitch * self.bin as f64 / 1000.0);
        cx.save(&film::to_movie(frames, Calibration { rate: self.rate, pitch }))
    }
}

impl WavesMovie {
    fn turn(&self) -> Option<Turn> {
        match self.rotate {
            0 => Some(Turn::None),
            90 => Some(Turn::Quarter),
            180 => Some(Turn::Half),
            270 => Some(Turn::ThreeQuarters),
            _ => None,
        }
    }

    /// Averages and turns a page.
    fn small(&self, page: Pixels) -> Result<Pixels, Failure> {
        let (height, width) = (page.height, page.width);
        let pixels = if self.bin == 1 { Some(page) } else { page.averaged(self.bin) };
        let pixels = pixels.ok_or_else(|| {
            let found =
                format!("{height} x {width} pixels are no whole blocks of {0} x {0}", self.bin);
            Failure::data(found).hint("give a `bin` that divides rows and columns")
        })?;
        Ok(pixels.turned(self.turn().expect("`check` asked for a right angle")))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;

    use tiff::encoder::{TiffEncoder, colortype};

    use super::*;
    use crate::stages::shared::bench::{Bench, Results};
    use crate::store::files;

    fn run(path: &Path, more: &str) -> anyhow::Result<Results> {
        let text = format!("path = '{}'\nrate = 10\n{more}", path.display());
        Bench::new().run::<WavesMovie>(&text)
    }

    fn read(name: &str, bytes: &[u8], more: &str) -> anyhow::Result<Movie> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        files::write(&path, bytes).unwrap();
        run(&path, more).map(|results| results.main())
    }

    /// Three frames of 2 x 4 pixels, the first from 0 to 7.
    fn values() -> Vec<u16> {
        (0..24).collect()
    }

    fn stack() -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
        for page in values().chunks(8) {
            encoder.write_image::<colortype::Gray16>(4, 2, page).unwrap();
        }
        bytes.into_inner()
    }

    fn array(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values);
        bytes
    }

    fn picture(page: &[u16], wide: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 4, 2);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(if wide { png::BitDepth::Sixteen } else { png::BitDepth::Eight });
        let values: Vec<u8> = if wide {
            page.iter().flat_map(|value| value.to_be_bytes()).collect()
        } else {
            page.iter().map(|value| *value as u8).collect()
        };
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&values).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn every_format_holds_the_same_movie() {
        let movie = read("a", &stack(), "pitch = 5").unwrap();
        assert_eq!((movie.frames, movie.height, movie.width), (3, 2, 4));
        assert_eq!((movie.rate, movie.pitch), (10.0, Some(0.005)));
        let expected: Vec<f32> = values().into_iter().map(f32::from).collect();
        assert_eq!(movie.data, expected);
        let numbers = |bytes: &dyn Fn(u16) -> Vec<u8>| -> Vec<u8> {
            values().into_iter().flat_map(bytes).collect()
        };
        for (descr, bytes) in [
            ("|u1", numbers(&|value| vec![value as u8])),
            ("<u2", numbers(&|value| value.to_le_bytes().to_vec())),
            ("<f4", numbers(&|value| f32::from(value).to_le_bytes().to_vec())),
            ("<f8", numbers(&|value| f64::from(value).to_le_bytes().to_vec())),
        ] {
            let movie = read("a", &array(descr, "(3, 2, 4)", &bytes), "").unwrap();
            assert_eq!((movie.data, movie.pitch), (expected.clone(), None), "{descr}");
        }
        let folder = tempfile::tempdir().unwrap();
        // Wide and narrow, and in the order of numbers; other files are none of its frames.
        for (index, page) in values().chunks(8).enumerate() {
            let name = format!("f{}.png", 9 + index);
            files::write(&folder.path().join(name), &picture(page, index > 0)).unwrap();
        }
        files::write(&folder.path().join("notes.txt"), b"").unwrap();
        assert_eq!(run(folder.path(), "").unwrap().main::<Movie>().data, expected);
        assert_eq!(read("a", &picture(&values()[..8], false), "").unwrap().data, expected[..8]);
    }

    #[test]
    fn frames_are_chosen_averaged_and_turned() {
        let movie = read("a", &stack(), "first = 1\nframes = 1\nbin = 2\npitch = 5").unwrap();
        assert_eq!((movie.frames, movie.height, movie.width), (1, 1, 2));
        // 8 9 10 11 / 12 13 14 15
        assert_eq!((movie.data, movie.pitch), (vec![10.5, 12.5], Some(0.01)));
        let turned = read("a", &stack(), "first = 1\nframes = 1\nbin = 2\nrotate = 180").unwrap();
        assert_eq!(turned.data, [12.5, 10.5]);
        let turned = read("a", &stack(), "first = 2\nrotate = 90").unwrap();
        assert_eq!((turned.frames, turned.height, turned.width), (1, 4, 2));
        assert_eq!(turned.data[..2], [20.0, 16.0]);
    }

    #[test]
    fn movies_that_cannot_be_read_are_failures_of_the_data() {
        let check = |name: &str, bytes: &[u8], more: &str, message: &str| {
            let failure = Failure::from_error(read(name, bytes, more).unwrap_err());
            assert!([FailureKind::Data, FailureKind::User].contains(&failure.kind), "{failure}");
            assert!(failure.message.contains(message) && failure.hint.is_some(), "{failure:?}");
        };
        check("a", b"text and no movie", "", "is neither TIFF nor NPY nor PNG");
        check("a", b"short", "", "cannot be read");
        let whole = stack();
        check("a.tif", &whole[..whole.len() - 20], "", "cannot be read");
        check("a.tif", &[b"II*\0".as_slice(), &[9; 40]].concat(), "", "cannot be read");
        check("a", &array("<i8", "(1, 1, 1)", &[0; 8]), "", "holds values of type `<i8`");
        check("a", &array("|u1", "(1, 8)", &[0; 8]), "", "has 2 dimensions");
        check("a", &array("|u1", "(3, 2, 4)", &[0; 20]), "", "frame 2 of 3");
        check("a", &array("<f4", "(1, 1, 1)", &f32::NAN.to_le_bytes()), "", "no finite number");
        check("a", b"\x93NUMPY\x01\x00\x02\x00{}", "", "its header is {}");
        let fortran = array("|u1", "(1, 1, 1)", &[0]);
        let fortran = String::from_utf8_lossy(&fortran).replace("False", "True ");
        let fortran = [b"\x93".as_slice(), &fortran.as_bytes()[3..]].concat();
        check("a", &fortran, "", "is in Fortran's order");
        check("a", &stack(), "first = 3", "there is no frame 3");
        check("a", &stack(), "first = 9", "has 3 frames");
        check("a", &stack(), "bin = 3", "2 x 4 pixels are no whole blocks of 3 x 3");
        let mut colors = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut colors).unwrap();
        encoder.write_image::<colortype::RGB8>(1, 1, &[0, 0, 0]).unwrap();
        check("a", &colors.into_inner(), "", "is of RGB(8)");
        let folder = tempfile::tempdir().unwrap();
        let failure = Failure::from_error(run(folder.path(), "").unwrap_err());
        assert!(failure.message.contains("ends in `.png`") && failure.hint.is_some(), "{failure}");
    }

    #[test]
    fn what_imagej_leaves_out_of_a_large_stack_is_missed() {
        let mut bytes = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
        let mut image = encoder.new_image::<colortype::Gray8>(1, 1).unwrap();
        let about = "ImageJ=1.54f\nimages=7\nslices=7\n";
        image.encoder().write_tag(tiff::tags::Tag::ImageDescription, about).unwrap();
        image.write_data(&[0]).unwrap();
        let error = read("a", &bytes.into_inner(), "").unwrap_err().to_string();
        assert!(error.contains("says that it has 7 pages, and has 1"), "{error}");
    }
}
