//! Working folders of one invocation: gone when it ends, and when it was killed, with the next one on that host.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::Store;
use super::files::{self, FileError};
use super::lease;

/// The folder in which the nodes of one invocation work.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    host: String,
    /// Held as long as the invocation lives: the system lets go of it even when the process is killed.
    _lock: File,
}

const LOCK: &str = "lock";

impl Store {
    /// Makes the working folder of this process, and removes those that dead ones of the same host left behind.
    pub fn scratch(&self, host: &str) -> Result<Scratch, FileError> {
        let all = self.root().join("scratch");
        sweep(&all, host)?;
        let mut number = 0;
        while all.join(name(host, number)).exists() {
            number += 1;
        }
        let folder = all.join(name(host, number));
        files::make_folder(&folder)?;
        let lock = files::try_lock(&folder.join(LOCK))?.expect("the name is this process's own");
        Ok(Scratch { folder, host: host.to_owned(), _lock: lock })
    }

    /// The working folders that dead processes of a host left behind.
    pub(super) fn dead_folders(&self, host: &str) -> Result<Vec<PathBuf>, FileError> {
        dead(&self.root().join("scratch"), host)
    }
}

fn dead(all: &Path, host: &str) -> Result<Vec<PathBuf>, FileError> {
    let mut dead = Vec::new();
    for name in files::folders(all)?.iter().filter(|name| is_of(name, host)) {
        let folder = all.join(name);
        let is_dead = if folder.join(LOCK).exists() {
            files::try_lock(&folder.join(LOCK))?.is_some()
        } else {
            // It is being made, or was removed in part while a worker that was about to end still wrote to it.
            !process(name).is_some_and(lease::is_running)
        };
        if is_dead {
            dead.push(folder);
        }
    }
    Ok(dead)
}

/// Removes what dead processes of a host left behind; what cannot be removed now goes the next time.
fn sweep(all: &Path, host: &str) -> Result<(), FileError> {
    for folder in dead(all, host)? {
        drop(files::remove_folder(&folder));
    }
    Ok(())
}

/// The process that a working folder's name says it is of.
fn process(name: &str) -> Option<u32> {
    name.rsplit('-').nth(1)?.parse().ok()
}

/// Whether a working folder's name says that it is of a host.
pub(super) fn is_of(name: &str, host: &str) -> bool {
    name.starts_with(&prefix(host))
}

fn prefix(host: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    host.chars().map(plain).collect::<String>() + "-"
}

fn name(host: &str, number: usize) -> String {
    format!("{}{}-{number}", prefix(host), std::process::id())
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now goes with the next run. Workers of a run that was killed may have gone on for a
        // moment: by now they have ended.
        drop(files::remove_folder(&self.folder));
        if let Some(all) = self.folder.parent() {
            drop(sweep(all, &self.host));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_left_goes_and_the_living_keep_theirs() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let all = store.root().join("scratch");
        let living = store.scratch("here").unwrap();
        for dead in ["here-1-0", "there-1-0"] {
            files::make_folder(&all.join(dead)).unwrap();
            files::write(&all.join(dead).join(LOCK), b"").unwrap();
        }
        // Without a lock: of a process that is there, and of one that is not.
        let own = format!("here-{}-9", std::process::id());
        for name in [own.as_str(), "here-4194305-0"] {
            files::make_folder(&all.join(name)).unwrap();
        }
        let second = store.scratch("here").unwrap();
        assert!(all.join(&own).exists() && !all.join("here-4194305-0").exists());
        files::remove_folder(&all.join(own)).unwrap();
        assert!(living.path().exists() && second.path().exists());
        assert!(!all.join("here-1-0").exists(), "nobody holds its lock");
        assert!(all.join("there-1-0").exists(), "another host's lock says nothing here");
        drop((living, second));
        assert_eq!(files::folders(&all).unwrap(), ["there-1-0"]);
    }
}
