//! What keeping a store in order needs: files read in pieces, listed with their stamps, copied with a look at what they
//! hold.
#![expect(clippy::disallowed_methods, reason = "a part of the one file that calls std::fs")]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use super::{FileError, spend};

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
