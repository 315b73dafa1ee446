//! What keeping a store in order needs: files read in pieces, listed with their stamps, copied with a look at what they
//! hold.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use super::{FileError, Stamp, spend};

/// Files are read in pieces of this many bytes.
const PIECE: usize = 4 << 20;

/// Reads a file piece by piece.
pub fn read_pieces(path: &Path, take: &mut dyn FnMut(&[u8])) -> Result<(), FileError> {
    let mut read = || -> io::Result<()> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        // One byte more, so that the end of a small file is seen in the same call.
        let mut buffer =
            vec![0; PIECE.min(usize::try_from(len).unwrap_or(PIECE).saturating_add(1))];
        loop {
            let count = match file.read(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            if count == 0 {
                return Ok(());
            }
            take(&buffer[..count]);
        }
    };
    read().map_err(|e| FileError::new("read", path, e))
}

/// What lies in a folder under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// What the file system says of it; of the link itself, where it leads nowhere.
    pub stamp: Stamp,
}

/// Lists what lies directly in a folder, sorted by name; nothing where it does not exist. What goes meanwhile is left
/// out.
pub fn entries(folder: &Path) -> Result<Vec<Entry>, FileError> {
    let list = || -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(meta) = fs::metadata(entry.path()).or_else(|_| entry.metadata()) else {
                continue;
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push(Entry { name, is_folder: meta.is_dir(), stamp: Stamp::of(&meta) });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    };
    match list() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|e| FileError::new("list", folder, e)),
    }
}

/// Sets the times of a file to now; false where it is gone.
pub fn touch(path: &Path) -> Result<bool, FileError> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    let touched = spend(path).and_then(|()| Ok(utimensat(CWD, path, &times, AtFlags::empty())?));
    match touched {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(FileError::new("touch", path, e)),
    }
}
