//! Every effect on the disk, each error with its path.
#![expect(clippy::disallowed_methods, reason = "the one file that calls std::fs")]

use std::fs::{self, DirEntry, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{self, Path, PathBuf};

use tempfile::TempDir;

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
}

/// Makes a path absolute without asking the disk.
pub fn absolute(path: &Path) -> Result<PathBuf, FileError> {
    path::absolute(path).map_err(|e| FileError::new("resolve", path, e))
}

/// Makes a folder and those above it.
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(|e| FileError::new("create", path, e))
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

/// Creates a file for a log that others write to.
pub fn create(path: &Path) -> Result<File, FileError> {
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    File::create(path).map_err(|e| FileError::new("create", path, e))
}

/// Writes a file of a working folder, where nobody else looks: neither synced nor atomic.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    fs::write(path, bytes).map_err(|e| FileError::new("write", path, e))
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
    fs::copy(from, to).map(drop).map_err(|e| FileError::new("copy", from, e))
}

/// Writes a file that appears whole or not at all: a temporary file beside it, synced, then renamed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let parent = path.parent().expect("a file has a folder");
    make_folder(parent)?;
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent)?;
        file.write_all(bytes)?;
        file.as_file().sync_data()?;
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        file.persist(path)?;
        sync_folder(parent)
    };
    write().map_err(|e| FileError::new("write", path, e))
}

/// Moves a finished file to its place in the store: synced and read-only.
///
/// A file that lies there already is replaced: its name says that the bytes are equal, and where that is no longer
/// true the new ones are the right ones.
pub fn settle(from: &Path, to: &Path) -> Result<(), FileError> {
    let parent = to.parent().expect("an object has a folder");
    make_folder(parent)?;
    File::open(from)
        .and_then(|file| file.sync_data())
        .and_then(|()| fs::set_permissions(from, Permissions::from_mode(0o444)))
        .and_then(|()| fs::rename(from, to))
        .and_then(|()| sync_folder(parent))
        .map_err(|e| FileError::new("store", to, e))
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
pub fn sync(path: &Path) -> Result<(), FileError> {
    let synced = File::open(path).and_then(|file| file.sync_data());
    synced.map_err(|e| FileError::new("sync", path, e))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Lists the files under a folder, sorted, as paths with `/` relative to it. Links are followed.
pub fn list(folder: &Path) -> Result<Vec<String>, FileError> {
    walk(folder, &|entry| Ok(entry.path().is_dir()))
}

/// Lists the files under a folder that holds nothing but files and folders of its own: a link out of it is an error.
pub fn list_own(folder: &Path) -> Result<Vec<String>, FileError> {
    walk(folder, &|entry| {
        let kind = entry.file_type()?;
        if kind.is_dir() || kind.is_file() {
            return Ok(kind.is_dir());
        }
        let message = "an output is made of plain files, not of links or devices";
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    })
}

/// Walks a folder; `enter` says of each entry whether it is a folder to walk too.
fn walk(
    folder: &Path,
    enter: &dyn Fn(&DirEntry) -> io::Result<bool>,
) -> Result<Vec<String>, FileError> {
    let mut out = Vec::new();
    let mut folders = vec![(folder.to_path_buf(), String::new())];
    while let Some((at, prefix)) = folders.pop() {
        let context = |e| FileError::new("list", &at, e);
        for entry in fs::read_dir(&at).map_err(context)? {
            let entry = entry.map_err(context)?;
            let name = entry.file_name().into_string().map_err(|name| {
                let message = format!("the name {} is not UTF-8", name.display());
                context(io::Error::new(io::ErrorKind::InvalidData, message))
            })?;
            let name = format!("{prefix}{name}");
            let path = entry.path();
            if enter(&entry).map_err(|e| FileError::new("take", &path, e))? {
                folders.push((path, format!("{name}/")));
            } else {
                out.push(name);
            }
        }
    }
    out.sort();
    Ok(out)
}

/// Lists the folders directly under a folder, sorted by name; none where it does not exist.
pub fn folders(folder: &Path) -> Result<Vec<String>, FileError> {
    let context = |e| FileError::new("list", folder, e);
    let mut names = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries.map_err(context)?,
    };
    for entry in entries {
        let entry = entry.map_err(context)?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.sort();
    Ok(names)
}

/// Removes a folder with everything in it; it may be gone already.
pub fn remove_folder(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", path, e)),
        _ => Ok(()),
    }
}

/// Makes a file that appears whole under a name that is free; `None` where the name is taken.
pub fn link_new(path: &Path, bytes: &[u8]) -> Result<Option<File>, FileError> {
    let parent = path.parent().expect("a file has a folder");
    make_folder(parent)?;
    let link = || -> io::Result<Option<File>> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent)?;
        file.write_all(bytes)?;
        file.as_file().sync_data()?;
        match fs::hard_link(file.path(), path) {
            Ok(()) => Ok(Some(file.into_file())),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(e),
        }
    };
    link().map_err(|e| FileError::new("create", path, e))
}

/// Gives a file a second name, if that is free.
pub fn link(from: &Path, to: &Path) -> Result<(), FileError> {
    match fs::hard_link(from, to) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(FileError::new("link", to, e)),
        _ => Ok(()),
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

/// Locks a file, made where it does not exist, for as long as the result lives; `None` where another process of this
/// host holds the lock.
pub fn try_lock(path: &Path) -> Result<Option<File>, FileError> {
    let context = |e| FileError::new("lock", path, e);
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(context)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(context(e)),
    }
}

/// Removes a file that may be gone already.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", path, e)),
        _ => Ok(()),
    }
}
