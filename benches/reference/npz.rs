//! Archives of arrays as numpy writes them, as far as the reference files use them.

use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use flate2::read::DeflateDecoder;
use wavecrest::store::files;

/// An archive of named arrays.
pub(crate) struct Npz {
    bytes: Vec<u8>,
    /// Name, compression method, compressed size and position of the local header.
    entries: Vec<(String, u16, usize, usize)>,
}

/// An array of numbers, row-major.
pub(crate) struct Array {
    /// Entries along each axis.
    pub(crate) shape: Vec<usize>,
    /// The entries; whole numbers and truth values as numbers.
    pub(crate) data: Vec<f64>,
}

impl Array {
    /// The entries along the last of two axes.
    pub(crate) fn row(&self, i: usize) -> &[f64] {
        let width = self.data.len() / self.shape[0];
        &self.data[i * width..(i + 1) * width]
    }

    /// Exchanges two axes.
    pub(crate) fn transposed(&self) -> Vec<f64> {
        let (rows, columns) = (self.shape[0], self.shape[1]);
        (0..rows * columns).map(|n| self.data[n % rows * columns + n / rows]).collect()
    }
}

impl Npz {
    /// Reads an archive's list of arrays.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let bytes = files::read(path)?;
        let end = bytes.windows(4).rposition(|w| w == b"PK\x05\x06").context("no zip archive")?;
        let (count, mut at) = (word(&bytes, end + 10, 2), word(&bytes, end + 16, 4));
        let mut entries = Vec::new();
        for _ in 0..count {
            ensure!(&bytes[at..at + 4] == b"PK\x01\x02", "a broken zip archive");
            let length = |offset| word(&bytes, at + offset, 2);
            let name = String::from_utf8(bytes[at + 46..at + 46 + length(28)].to_vec())?;
            let size = word(&bytes, at + 20, 4);
            entries.push((name, length(10) as u16, size, word(&bytes, at + 42, 4)));
            at += 46 + length(28) + length(30) + length(32);
        }
        Ok(Self { bytes, entries })
    }

    /// Counts the arrays.
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Reads an array.
    pub(crate) fn get(&self, name: &str) -> anyhow::Result<Array> {
        let file = format!("{name}.npy");
        let entry = self.entries.iter().find(|(entry, ..)| *entry == file);
        let &(_, method, size, at) = entry.with_context(|| format!("no array `{name}`"))?;
        let start = at + 30 + word(&self.bytes, at + 26, 2) + word(&self.bytes, at + 28, 2);
        let packed = &self.bytes[start..start + size];
        let mut plain = Vec::new();
        match method {
            0 => plain.extend_from_slice(packed),
            8 => drop(DeflateDecoder::new(packed).read_to_end(&mut plain)?),
            _ => bail!("array `{name}` is packed by method {method}"),
        }
        array(&plain).with_context(|| format!("array `{name}`"))
    }
}

/// Reads an array in the npy format, version 1: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
fn array(bytes: &[u8]) -> anyhow::Result<Array> {
    ensure!(bytes.starts_with(b"\x93NUMPY\x01"), "not of npy's version 1");
    let start = 10 + word(bytes, 8, 2);
    let header = std::str::from_utf8(&bytes[10..start])?;
    let after = |key: &str| header.split(key).nth(1).context("a broken npy header");
    let shape = after("'shape': (")?.split(')').next().unwrap_or_default();
    let shape = shape.split(',').map(str::trim).filter(|n| !n.is_empty());
    let shape: Vec<usize> = shape.map(str::parse).collect::<Result<_, _>>()?;
    let kind = after("'descr': '")?.split('\'').next().unwrap_or_default();
    let body = &bytes[start..];
    let eights = || body.chunks_exact(8).map(|b| b.try_into().expect("eight bytes"));
    let data: Vec<f64> = match kind {
        "<f8" => eights().map(f64::from_le_bytes).collect(),
        "<i8" => eights().map(|b| i64::from_le_bytes(b) as f64).collect(),
        "|b1" => body.iter().map(|b| f64::from(*b)).collect(),
        _ => bail!("numbers of type `{kind}`"),
    };
    ensure!(
        data.len() == shape.iter().product::<usize>(),
        "{} numbers of shape {shape:?}",
        data.len()
    );
    if header.contains("'fortran_order': True") {
        ensure!(shape.len() == 2, "{} axes in Fortran's order", shape.len());
        let by_column = Array { shape: vec![shape[1], shape[0]], data };
        return Ok(Array { data: by_column.transposed(), shape });
    }
    Ok(Array { shape, data })
}

/// Reads a little-endian number of some bytes.
fn word(bytes: &[u8], at: usize, size: usize) -> usize {
    bytes[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}
