//! The pages of movies that users bring, read one by one: stacks of TIFF, arrays of NumPy, folders of PNG.

mod npy;
mod png;
mod tiff;

use std::io::{BufReader, Read};
use std::path::Path;

use crate::engine::failure::Failure;
use crate::engine::parameter::DataPath;
use crate::store::files;
use crate::waves::pixels::Pixels;

/// Pages in their order; no more than one is in memory.
pub trait Pages {
    /// Passes over a page; false where there is none.
    fn skip(&mut self) -> Result<bool, Failure>;

    /// Reads the next page, if there is one; values are as they are in the file.
    fn next(&mut self) -> Result<Option<Pixels>, Failure>;
}

/// Opens a movie; its content tells the format, and a folder is one of PNG files.
pub fn open(path: &DataPath) -> anyhow::Result<Box<dyn Pages>> {
    let name = path.written();
    if path.path().is_dir() {
        return Ok(Box::new(png::Folder::open(name, path.path())?));
    }
    let mut magic = [0; 8];
    let mut file = files::open(path.path())?;
    let short = |error: std::io::Error| {
        Failure::data(format!("{name} cannot be read: {error}"))
            .hint("it is too short to be a movie: is it whole?")
    };
    file.read_exact(&mut magic).map_err(short)?;
    let again = BufReader::new(files::open(path.path())?);
    Ok(match &magic {
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => {
            Box::new(tiff::Stack::open(name, again)?)
        }
        b"\x89PNG\r\n\x1a\n" => Box::new(png::Folder::of_one(name, path.path())),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Box::new(npy::Array::open(name, again)?),
        _ => {
            return Err(Failure::data(format!("{name} is neither TIFF nor NPY nor PNG"))
                .hint("save the movie as a TIFF stack, with `numpy.save`, or as a folder of PNG files")
                .into());
        }
    })
}

/// Says that a file is not what it begins as.
fn broken(name: &str, error: &dyn std::fmt::Display, hint: &str) -> Failure {
    Failure::data(format!("{name} cannot be read: {error}")).hint(hint)
}

/// The last part of a path, as text.
fn last(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
