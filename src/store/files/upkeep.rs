//! What keeping a store in order needs: files read in pieces, listed with their stamps, copied with a look at what they
//! hold.
#![expect(clippy::disallowed_methods, reason = "a part of the one file that calls std::fs")]

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use super::{FileError, Stamp, fresh_beside, spend};

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

/// A file on its way to its place: nobody sees it before it is whole. Where it does not get there, it goes.
#[derive(Debug)]
pub struct Incoming {
    file: File,
    fresh: PathBuf,
    to: PathBuf,
    placed: bool,
}

impl Incoming {
    /// Begins a file beside the place where it will be.
    pub fn new(to: &Path) -> Result<Self, FileError> {
        let fresh = fresh_beside(to).map_err(|e| FileError::new("create", to, e));
        fresh.map(|(file, fresh)| Self { file, fresh, to: to.to_path_buf(), placed: false })
    }

    /// Puts it in its place, in the stead of what lies there; safe from a power cut once [`super::sync`] was called.
    pub fn place(mut self, access: Access) -> Result<(), FileError> {
        let mode = match access {
            Access::ReadOnly => 0o444,
            Access::Writable => 0o644,
        };
        let place = || -> io::Result<()> {
            spend(&self.to)?;
            self.file.set_permissions(Permissions::from_mode(mode))?;
            fs::rename(&self.fresh, &self.to)
        };
        place().map_err(|e| FileError::new("write", &self.to, e))?;
        self.placed = true;
        Ok(())
    }

    /// Fills it with the bytes of another file, which share their place on the disk where the file system can do that.
    pub fn copy(&mut self, from: &Path) -> Result<(), FileError> {
        let copied = spend(&self.to).and_then(|()| fs::copy(from, &self.fresh));
        copied.map(drop).map_err(|e| FileError::new("copy", from, e))
    }

    /// Adds bytes to it.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.write_all(bytes).map_err(|e| FileError::new("write", &self.to, e))
    }
}

/// Who may write to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody.
    ReadOnly,
    /// Its owner.
    Writable,
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        spend(&self.to)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.placed {
            // What cannot be removed is swept with the store.
            drop(fs::remove_file(&self.fresh));
        }
    }
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|e| FileError::new("read", path, e))
}

/// The time by the clock of the file system that holds a folder, in nanoseconds since 1970: that of a file made now.
pub fn moment(folder: &Path) -> Result<i128, FileError> {
    let moment = || -> io::Result<i128> {
        let (file, fresh) = fresh_beside(&folder.join("moment"))?;
        let stamp = Stamp::of(&file.metadata()?);
        fs::remove_file(&fresh)?;
        Ok(stamp.changed)
    };
    moment().map_err(|e| FileError::new("write to", folder, e))
}

/// The time by the machine's clock, in nanoseconds since 1970.
pub fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 trusts nothing.
    since.map_or(i128::MIN, |time| time.as_nanos() as i128)
}

/// Bytes of all files under a folder, or of a file; links are not followed, and what cannot be read counts as nothing.
pub fn size(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum()
}
