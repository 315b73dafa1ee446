//! Arrays of NumPy, as `numpy.save` writes them.
//!
//! The format is described at <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>: a magic word, a
//! version, the length of the header, the header, which is a literal of Python, and the values.

use std::fs::File;
use std::io::{BufReader, Read};

use super::{Pages, broken};
use crate::engine::failure::Failure;
use crate::waves::pixels::Pixels;

/// An array of frames, rows and columns.
pub(super) struct Array {
    name: String,
    file: BufReader<File>,
    kind: Number,
    frames: usize,
    height: usize,
    width: usize,
    /// Frames read or passed over.
    at: usize,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    U8,
    U16,
    F32,
    F64,
}

/// Headers are short; a longer one is damaged.
const LONGEST_HEADER: usize = 1 << 16;

impl Array {
    /// Reads the header.
    pub(super) fn open(name: &str, mut file: BufReader<File>) -> Result<Self, Failure> {
        let whole = "it begins as NPY does: the file must be whole";
        let cut = |error: std::io::Error| broken(name, &error, whole);
        let mut start = [0; 8];
        file.read_exact(&mut start).map_err(cut)?;
        // Version 1 has the length of the header in two bytes, later ones in four.
        let mut length = [0; 4];
        let digits = if start[6] == 1 { 2 } else { 4 };
        file.read_exact(&mut length[..digits]).map_err(cut)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > LONGEST_HEADER {
            return Err(broken(name, &format!("its header has {length} bytes"), whole));
        }
        let mut header = vec![0; length];
        file.read_exact(&mut header).map_err(cut)?;
        let header = String::from_utf8_lossy(&header).into_owned();
        let Header { descr, fortran, shape } = Header::parse(&header)
            .ok_or_else(|| broken(name, &format!("its header is {}", header.trim()), whole))?;
        let kind = match descr.as_str() {
            "|u1" => Number::U8,
            "<u2" => Number::U16,
            "<f4" => Number::F32,
            "<f8" => Number::F64,
            _ => {
                return Err(Failure::data(format!("{name} holds values of type `{descr}`")).hint(
                    "movies are of `|u1`, `<u2`, `<f4` or `<f8`: `numpy.save(path, movie.astype(\"<f4\"))` writes one",
                ));
            }
        };
        let &[frames, height, width] = shape.as_slice() else {
            return Err(Failure::data(format!("{name} has {} dimensions", shape.len()))
                .hint("a movie has three: frames, rows and columns"));
        };
        if fortran {
            return Err(Failure::data(format!("{name} is in Fortran's order")).hint(
                "frames come one after the other in C's order: `numpy.save(path, numpy.ascontiguousarray(movie))`",
            ));
        }
        let size = height.checked_mul(width).filter(|size| (1..1 << 32).contains(size));
        if size.is_none() {
            return Err(broken(name, &format!("a frame has {height} x {width} pixels"), whole));
        }
        Ok(Self { name: name.to_owned(), file, kind, frames, height, width, at: 0 })
    }

    /// Reads the bytes of the next frame; none after the last.
    fn bytes(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        if self.at == self.frames {
            return Ok(None);
        }
        let mut bytes = vec![0; self.height * self.width * self.kind.size()];
        self.file.read_exact(&mut bytes).map_err(|error| {
            let error = format!("frame {} of {}: {error}", self.at, self.frames);
            broken(&self.name, &error, "it begins as NPY does: the file must be whole")
        })?;
        self.at += 1;
        Ok(Some(bytes))
    }
}

impl Pages for Array {
    fn skip(&mut self) -> Result<bool, Failure> {
        Ok(self.bytes()?.is_some())
    }

    fn next(&mut self) -> Result<Option<Pixels>, Failure> {
        let Self { height, width, kind, .. } = *self;
        let page = |bytes: Vec<u8>| Pixels { height, width, values: kind.values(&bytes) };
        Ok(self.bytes()?.map(page))
    }
}

impl Number {
    fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn values(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::U8 => bytes.iter().copied().map(f32::from).collect(),
            Self::U16 => each(bytes, |bytes| f32::from(u16::from_le_bytes(bytes))),
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F64 => each(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        }
    }
}

/// Turns every `N` bytes into a value.
fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (groups, _) = bytes.as_chunks::<N>();
    groups.iter().map(|group| value(*group)).collect()
}

/// What a header says.
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (9, 32, 32), }`; keys may come in any order.
    fn parse(text: &str) -> Option<Self> {
        let after = |key: &str| {
            let rest = text.split_once(&format!("'{key}'"))?.1;
            Some(rest.trim_start().strip_prefix(':')?.trim_start())
        };
        let descr = after("descr")?.strip_prefix('\'')?.split_once('\'')?.0.to_owned();
        let fortran = match after("fortran_order")? {
            rest if rest.starts_with("True") => true,
            rest if rest.starts_with("False") => false,
            _ => return None,
        };
        let shape = after("shape")?.strip_prefix('(')?.split_once(')')?.0;
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape = sizes.map(|size| size.parse().ok()).collect::<Option<Vec<usize>>>()?;
        Some(Self { descr, fortran, shape })
    }
}
