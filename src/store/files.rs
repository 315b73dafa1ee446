//! Every effect on the disk, each error with its path.
#![expect(clippy::disallowed_methods, reason = "the one file that calls std::fs")]

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{self, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

mod listing;
mod upkeep;

pub use listing::{are_there, folders, is_empty_folder, list, list_own, names};
pub use upkeep::{Access, Entry, Incoming, entries, moment, now, open, read_pieces, size, touch};

/// An I/O error with what was tried and where.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    pub(super) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// Whether the disk is full or the quota used up.
    pub fn is_disk_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the place cannot be written to by this user at all.
    pub fn is_refused(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
        )
    }

    /// What can be done about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        if self.is_disk_full() {
            return Some("free some space; what is computed already is safe");
        }
        if self.is_refused() {
            return Some(
                "this user cannot do that there: ask the folder's owner, or work on another cache with --cache",
            );
        }
        are_too_many_open(&self.source).then_some(TOO_MANY_OPEN)
    }

    /// Whether there is nothing at the path.
    pub fn is_absent(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// What helps where too many files are open.
pub const TOO_MANY_OPEN: &str =
    "`ulimit -n 4096` lets more files be open, and `-j` has fewer nodes run at a time";

/// Whether this process, or the whole machine, has as many files open as it may.
pub fn are_too_many_open(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| code == Some(errno.raw_os_error()))
}

/// What a file's system says of it without reading it: while this stays as it was, so do the contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The device.
    pub device: u64,
    /// The number of the file on it.
    pub inode: u64,
    /// Length in bytes.
    pub len: u64,
    /// When the contents were last written, in nanoseconds since 1970.
    pub modified: i128,
    /// When anything about the file last changed; nobody can set it.
    pub changed: i128,
}

/// Reads the stamp of a file; links are followed.
pub fn stamp(path: &Path) -> Result<Stamp, FileError> {
    fs::metadata(path).map(|meta| Stamp::of(&meta)).map_err(|e| FileError::new("look at", path, e))
}

/// Reads the stamp of a plain file, or of one that a link leads to; anything else is an error, for to read a pipe or a
/// device may take for ever.
pub fn plain_stamp(path: &Path) -> Result<Stamp, FileError> {
    let meta = fs::metadata(path).map_err(|e| FileError::new("look at", path, e))?;
    if meta.is_file() {
        return Ok(Stamp::of(&meta));
    }
    let message = "it is a pipe, a socket or a device, and data are plain files; move it elsewhere";
    let error = io::Error::new(io::ErrorKind::InvalidData, message);
    Err(FileError::new("take as data", path, error))
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        let nanos =
            |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            modified: nanos(meta.mtime(), meta.mtime_nsec()),
            changed: nanos(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Makes a path absolute without asking the disk.
pub fn absolute(path: &Path) -> Result<PathBuf, FileError> {
    path::absolute(path).map_err(|e| FileError::new("resolve", path, e))
}

/// Makes a folder and those above it.
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    spend(path)
        .and_then(|()| fs::create_dir_all(path))
        .map_err(|e| FileError::new("create", path, e))
}

/// Makes a folder in one that is there; false where it is there already.
pub fn make_one_folder(path: &Path) -> Result<bool, FileError> {
    match spend(path).and_then(|()| fs::create_dir(path)) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(FileError::new("create", path, e)),
    }
}

/// Makes a new folder under a name of its own in another.
pub fn make_new_folder(within: &Path) -> Result<PathBuf, FileError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = within.join(format!("{}-{number}", std::process::id()));
        if make_one_folder(&path)? {
            return Ok(path);
        }
    }
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|e| FileError::new("read", path, e))
}

/// Reads a whole text file.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|e| FileError::new("read", path, e))
}

/// The length of a file.
pub fn length(path: &Path) -> Result<u64, FileError> {
    let meta = fs::metadata(path).map_err(|e| FileError::new("look at", path, e))?;
    Ok(meta.len())
}

/// Whether a plain file lies at a path: neither a folder nor a link.
pub fn is_plain(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
}

/// Whether a file that may be run lies at a path.
pub fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Creates a file for a log that others write to.
pub fn create(path: &Path) -> Result<File, FileError> {
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    spend(path).and_then(|()| File::create(path)).map_err(|e| FileError::new("create", path, e))
}

/// Opens a log to add to it; made where it does not exist.
pub fn open_log(path: &Path) -> Result<File, FileError> {
    spend(path)
        .and_then(|()| File::options().create(true).append(true).open(path))
        .map_err(|e| FileError::new("open", path, e))
}

/// Writes a file of a working folder, where nobody else looks: neither synced nor atomic.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_pieces(path, &[bytes])
}

/// The same of pieces that lie apart, one after another.
pub fn write_pieces(path: &Path, pieces: &[&[u8]]) -> Result<(), FileError> {
    let write = |mut file: File| pieces.iter().try_for_each(|piece| file.write_all(piece));
    spend(path)
        .and_then(|()| File::create(path))
        .and_then(write)
        .map_err(|e| FileError::new("write", path, e))
}

/// Copies a file, or a folder with everything in it, into a working folder.
pub fn copy(from: &Path, to: &Path) -> Result<(), FileError> {
    if from.is_dir() {
        make_folder(to)?;
        return list(from)?.iter().try_for_each(|name| copy(&from.join(name), &to.join(name)));
    }
    if let Some(parent) = to.parent() {
        make_folder(parent)?;
    }
    spend(to)
        .and_then(|()| fs::copy(from, to))
        .map(drop)
        .map_err(|e| FileError::new("copy", from, e))
}

/// Makes a symbolic link in a working folder.
pub fn point(target: &Path, link: &Path) -> Result<(), FileError> {
    if let Some(parent) = link.parent() {
        make_folder(parent)?;
    }
    std::os::unix::fs::symlink(target, link).map_err(|e| FileError::new("link", link, e))
}

/// Writes a file that appears whole or not at all: a temporary file beside it, synced, then renamed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        replace_file(path, bytes, File::sync_data)?;
        sync_folder(path.parent().expect("a file has a folder"))
    };
    write().map_err(|e| FileError::new("write", path, e))
}

/// Writes a file that appears whole or not at all, but that is safe from a power cut only once [`sync`] was called.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace_file(path, bytes, |_| Ok(())).map(drop).map_err(|e| FileError::new("write", path, e))
}

fn replace_file(
    path: &Path,
    bytes: &[u8],
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let (mut file, fresh) = fresh_beside(path)?;
    let written = spend(path)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| finish(&file))
        .and_then(|()| spend(path))
        .and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        // What cannot be removed either is swept with the store.
        drop(fs::remove_file(&fresh));
    }
    written
}

/// Files being written have this prefix; one that stays behind belongs to a process that was killed.
pub const FRESH: &str = ".new-";

/// Makes a new file beside a path; the folder too, where it is not there.
fn fresh_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let parent = path.parent().expect("a file has a folder");
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Hosts that share a folder have processes of one number: a random part tells them apart.
        let random = fastrand(number);
        let fresh = parent.join(format!("{FRESH}{}-{number}-{random:08x}", std::process::id()));
        spend(path)?;
        match File::options().write(true).read(true).create_new(true).open(&fresh) {
            Ok(file) => return Ok((file, fresh)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => (),
            Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir_all(parent)?,
            Err(e) => return Err(e),
        }
    }
}

/// A number that two processes hardly ever share; it names temporary files and nothing else.
fn fastrand(salt: u64) -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(salt) as u32
}

/// Adds bytes to the end of a file, made where it does not exist.
pub fn append(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let append = || -> io::Result<()> {
        spend(path)?;
        let mut file = File::options().create(true).append(true).open(path)?;
        file.write_all(bytes)
    };
    append().map_err(|e| FileError::new("add to", path, e))
}

/// Makes everything that was written to the file system of a folder safe from a power cut: one call for a whole batch.
pub fn sync(folder: &Path) -> Result<(), FileError> {
    let sync = || -> io::Result<()> {
        spend(folder)?;
        Ok(rustix::fs::syncfs(File::open(folder)?)?)
    };
    sync().map_err(|e| FileError::new("sync", folder, e))
}

/// Moves a finished file to its place in the store, read-only; safe from a power cut once [`sync`] was called.
pub fn settle(from: &Path, to: &Path) -> Result<(), FileError> {
    let settle = || -> io::Result<()> {
        spend(to)?;
        fs::set_permissions(from, Permissions::from_mode(0o444))?;
        match fs::rename(from, to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(to.parent().expect("an object has a folder"))?;
                fs::rename(from, to)
            }
            moved => moved,
        }
    };
    settle().map_err(|e| FileError::new("store", to, e))
}

/// Makes an empty folder under a temporary name, in a folder that is made where it does not exist; it goes with the value.
pub fn new_folder(parent: &Path) -> Result<TempDir, FileError> {
    make_folder(parent)?;
    let all_read = Permissions::from_mode(0o755);
    let made = tempfile::Builder::new().prefix(".new-").permissions(all_read).tempdir_in(parent);
    made.map_err(|e| FileError::new("create a folder in", parent, e))
}

/// Gives a new folder its name, which must be free. Its files are synced already.
pub fn settle_folder(folder: TempDir, to: &Path) -> Result<(), FileError> {
    let parent = to.parent().expect("a folder that is named has one above it");
    let settle = || -> io::Result<()> {
        sync_folder(folder.path())?;
        fs::rename(folder.path(), to)?;
        sync_folder(parent)
    };
    settle().map_err(|e| FileError::new("name", to, e))?;
    // Nothing lies under the temporary name any more.
    drop(folder.keep());
    Ok(())
}

/// Waits until a file's bytes are on the disk.
pub fn sync_file(path: &Path) -> Result<(), FileError> {
    let synced = File::open(path).and_then(|file| file.sync_data());
    synced.map_err(|e| FileError::new("sync", path, e))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes a folder with everything in it; it may be gone already.
pub fn remove_folder(path: &Path) -> Result<(), FileError> {
    // Most are empty by now.
    if fs::remove_dir(path).is_ok() {
        return Ok(());
    }
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", path, e)),
        _ => Ok(()),
    }
}

/// Makes a new file under a name of its own in a folder.
pub fn create_new(folder: &Path, text: &str) -> Result<(File, PathBuf), FileError> {
    let create = || -> io::Result<(File, PathBuf)> {
        let (mut file, path) = fresh_beside(&folder.join("new"))?;
        file.write_all(text.as_bytes())?;
        Ok((file, path))
    };
    create().map_err(|e| FileError::new("create a file in", folder, e))
}

/// What tells a file from all others, under whatever name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

/// Finds out which file has a name.
pub fn id(path: &Path) -> Result<FileId, FileError> {
    let meta = fs::symlink_metadata(path).map_err(|e| FileError::new("look at", path, e))?;
    Ok(FileId { device: meta.dev(), inode: meta.ino() })
}

/// Gives a file a second name; false where that is taken.
pub fn link(from: &Path, to: &Path) -> Result<bool, FileError> {
    let link = || -> io::Result<()> {
        spend(to)?;
        match fs::hard_link(from, to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(to.parent().expect("a file has a folder"))?;
                fs::hard_link(from, to)
            }
            linked => linked,
        }
    };
    match link() {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(FileError::new("link", to, e)),
    }
}

/// Renames a file; false where it is gone.
pub fn rename_if_there(from: &Path, to: &Path) -> Result<bool, FileError> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(FileError::new("rename", from, e)),
    }
}

/// Removes a file that may be gone already.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", path, e)),
        _ => Ok(()),
    }
}

/// Where a disk that is full is acted out; outside tests there is nothing to it.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "in tests it fails")]
fn spend(_path: &Path) -> io::Result<()> {
    Ok(())
}
#[cfg(test)]
use faults::spend;
#[cfg(test)]
pub(crate) mod faults;
