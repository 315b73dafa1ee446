//! Working folders of one invocation: gone when it ends, and when it was killed, with the next one on that host.

use std::path::{Path, PathBuf};

use super::Store;
use super::files::{self, FileError};
use super::lease;

/// The folder in which the nodes of one invocation work.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    host: String,
}

impl Store {
    /// Makes the working folder of this process, and removes those that dead ones of the same system left behind.
    pub fn scratch(&self, host: &str) -> Result<Scratch, FileError> {
        let all = self.root().join("scratch");
        sweep(&all, host)?;
        files::make_folder(&all)?;
        let mut number = 0;
        loop {
            let folder = all.join(name(host, number));
            if files::make_one_folder(&folder)? {
                return Ok(Scratch { folder, host: host.to_owned() });
            }
            number += 1;
        }
    }

    /// The working folders that dead processes of a host left behind.
    pub(super) fn dead_folders(&self, host: &str) -> Result<Vec<PathBuf>, FileError> {
        dead(&self.root().join("scratch"), host)
    }
}

/// The folders of processes of this system that are gone: a name says which process it is of, and no lock is needed.
fn dead(all: &Path, host: &str) -> Result<Vec<PathBuf>, FileError> {
    let here = here(host);
    let is_dead = |name: &String| {
        let process = name.strip_prefix(&here).and_then(|rest| rest.split_once('-'));
        let process = process.and_then(|(number, rest)| {
            Some((number.parse::<u32>().ok()?, rest.split('-').next()?.parse::<u64>().ok()))
        });
        process.is_some_and(|(number, since)| lease::started(number) != since)
    };
    let names = files::folders(all)?;
    Ok(names.iter().filter(|name| is_dead(name)).map(|name| all.join(name)).collect())
}

/// Removes what dead processes of this system left behind; what cannot be removed now goes the next time.
fn sweep(all: &Path, host: &str) -> Result<(), FileError> {
    for folder in dead(all, host)? {
        drop(files::remove_folder(&folder));
    }
    Ok(())
}

/// Whether a working folder's name says that it is of this system, or of another of the same name.
pub(super) fn is_of(name: &str, host: &str) -> bool {
    name.starts_with(&prefix(host))
}

/// Whether a working folder's name says that it is of this very system.
pub(super) fn is_of_this(name: &str, host: &str) -> bool {
    name.starts_with(&here(host))
}

fn prefix(host: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    host.chars().map(plain).collect::<String>() + "-"
}

fn here(host: &str) -> String {
    format!("{}{}-", prefix(host), lease::system().unwrap_or("unknown"))
}

fn name(host: &str, number: usize) -> String {
    let process = std::process::id();
    let since = lease::started(process).map_or_else(|| "x".to_owned(), |ticks| ticks.to_string());
    format!("{}{process}-{since}-{number}", here(host))
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
        let system = lease::system().unwrap();
        let (own, since) = (std::process::id(), lease::started(std::process::id()).unwrap());
        // A process that is not there, one whose number another has now, and some that nobody here can tell of.
        let dead =
            [format!("here-{system}-4194305-7-0"), format!("here-{system}-{own}-{}-0", since + 1)];
        let others = [
            format!("here-{system}-{own}-{since}-9"),
            "here-0123456789ab-1-7-0".to_owned(),
            format!("there-{system}-1-7-0"),
            "here-1-0".to_owned(),
        ];
        for name in dead.iter().chain(&others) {
            files::make_folder(&all.join(name)).unwrap();
        }
        let second = store.scratch("here").unwrap();
        assert!(living.path().exists() && second.path().exists());
        assert!(dead.iter().all(|name| !all.join(name).exists()));
        assert!(others.iter().all(|name| all.join(name).exists()));
        drop((living, second));
        let mut left = others.to_vec();
        left.sort();
        assert_eq!(files::folders(&all).unwrap(), left);
    }
}
