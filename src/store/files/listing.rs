//! What lies in folders.

use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

use super::FileError;

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

/// Whether all of these files lie directly in a folder; what is in them is not looked at.
///
/// A folder that holds hardly more than these is read once; otherwise each is looked up.
pub fn are_there(folder: &Path, names: &[String]) -> bool {
    /// What a long name takes in a folder, at least, in bytes; file systems differ, and it decides speed only.
    const ENTRY: u64 = 32;
    let look = || -> io::Result<bool> {
        let few = fs::metadata(folder)?.len() > 8 * ENTRY * (names.len() as u64 + 64);
        if few {
            let there = |name: &String| fs::symlink_metadata(folder.join(name)).is_ok();
            return Ok(names.iter().all(there));
        }
        let mut found = Vec::with_capacity(names.len());
        for entry in fs::read_dir(folder)? {
            found.extend(entry?.file_name().into_string());
        }
        found.sort_unstable();
        Ok(names.iter().all(|name| found.binary_search(name).is_ok()))
    };
    look().unwrap_or(false)
}

/// Whether a folder is there and holds nothing.
pub fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Lists the plain files directly in a folder, sorted by name.
pub fn names(folder: &Path) -> Result<Vec<String>, FileError> {
    let context = |e| FileError::new("list", folder, e);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(context)? {
        let entry = entry.map_err(context)?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.sort();
    Ok(names)
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
