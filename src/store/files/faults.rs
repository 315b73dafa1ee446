//! Disks that are full from a chosen write on: for tests.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Folder, writes left, and how many were asked for.
static DISKS: Mutex<Vec<(PathBuf, u64, u64)>> = Mutex::new(Vec::new());

/// Lets `writes` effects under a folder succeed, and no more; yields how many were asked for before.
pub(crate) fn fill_after(folder: &Path, writes: u64) -> u64 {
    let mut disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
    let at = disks.iter().position(|(disk, ..)| disk == folder);
    let before = at.map_or(0, |at| disks.remove(at).2);
    disks.push((folder.to_path_buf(), writes, 0));
    before
}

/// Counts one write; fails where the disk is full.
pub(super) fn spend(path: &Path) -> io::Result<()> {
    let mut disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
    for (folder, left, asked) in disks.iter_mut().filter(|(disk, ..)| path.starts_with(disk)) {
        *asked += 1;
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => {
                let _ = folder;
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
    }
    Ok(())
}
