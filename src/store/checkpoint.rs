//! Checkpoints: how far a long node has come, kept beside the records until the node has one.
//!
//! A checkpoint is a folder that appears whole or not at all: its files are written under a temporary name and synced,
//! then a manifest that holds the length and hash of each, then the folder is renamed to its number. It is no part of
//! any identity, and never trusted further than its manifest: one that is damaged, or that another version made, is
//! as good as none, and the one before it is taken. The last two are kept for that.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Store;
use super::files::{self, FileError};
use super::hash::{self, Hash};
use super::record::{FileRecord, Files};

/// The format of manifests written by this program.
const FORMAT: u32 = 1;

/// The manifest's name inside the checkpoint.
pub const MANIFEST: &str = "manifest.json";

/// Who can go on from a checkpoint: whoever would have written it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// The kind of the node.
    pub kind: String,
    /// The version of the kind.
    pub version: u32,
    /// The version of the program.
    pub program: String,
}

impl Maker {
    /// This program, for a kind of a version.
    pub fn this(kind: &str, version: u32) -> Self {
        Self { kind: kind.to_owned(), version, program: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// What a checkpoint consists of.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// The format of this manifest.
    format: u32,
    maker: Maker,
    /// The format of the files, which the kind defines.
    state: u32,
    files: Vec<FileRecord>,
}

/// The checkpoints of one node.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    maker: Maker,
}

/// A checkpoint that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Its number: later ones have higher ones.
    pub number: u64,
    /// Where its files are to be read.
    pub files: Files,
}

impl Store {
    /// Where the checkpoints of a key lie, whether or not there are any.
    pub fn checkpoints(&self, key: &Hash) -> PathBuf {
        let hex = key.to_hex();
        self.root().join("checkpoints").join(&hex[..2]).join(hex)
    }

    /// Removes the checkpoints of a key; of no value once it has a record.
    pub fn forget_checkpoints(&self, key: &Hash) -> Result<(), FileError> {
        files::remove_folder(&self.checkpoints(key))
    }

    /// Removes the checkpoints of keys that have a record: whoever committed it was killed before it could.
    pub fn sweep_checkpoints(&self) -> Result<(), FileError> {
        let all = self.root().join("checkpoints");
        for shelf in files::folders(&all)? {
            for name in files::folders(&all.join(shelf))? {
                if let Some(key) = Hash::from_hex(name.as_bytes())
                    && self.has_record(&key)
                {
                    self.forget_checkpoints(&key)?;
                }
            }
        }
        Ok(())
    }
}

impl Checkpoints {
    /// The checkpoints that lie in a folder, as far as `maker` can go on from them.
    pub fn new(folder: &Path, maker: Maker) -> Self {
        Self { folder: folder.to_owned(), maker }
    }

    /// Finds the newest whole checkpoint of a format, if `before` is given among those of lower number.
    pub fn newest(&self, state: u32, before: Option<u64>) -> Option<Whole> {
        let numbers = self.numbers().ok()?;
        let mut earlier =
            numbers.into_iter().rev().filter(|n| before.is_none_or(|before| *n < before));
        earlier.find_map(|number| self.whole(state, number))
    }

    /// Saves a checkpoint: `write` puts its files into an empty folder. Yields its number.
    ///
    /// Of earlier ones only `good` is kept, the last that was known to be whole.
    pub fn save(
        &self,
        state: u32,
        good: Option<u64>,
        write: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        let number = self.numbers()?.last().map_or(1, |last| last + 1);
        let folder = files::new_folder(&self.folder)?;
        write(folder.path())?;
        let mut entries = Vec::new();
        for path in files::list_own(folder.path())? {
            let full = folder.path().join(&path);
            files::sync_file(&full)?;
            let (hash, len) = hash::file(&full)?;
            entries.push(FileRecord { path, len, hash });
        }
        let manifest =
            Manifest { format: FORMAT, maker: self.maker.clone(), state, files: entries };
        let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
        files::write_atomic(&folder.path().join(MANIFEST), &text)?;
        files::settle_folder(folder, &self.folder.join(number.to_string()))?;
        // What cannot be removed now goes with the next one.
        drop(self.keep(&[Some(number), good]));
        Ok(number)
    }

    /// Removes all but some checkpoints, and what was left half written.
    fn keep(&self, numbers: &[Option<u64>]) -> Result<(), FileError> {
        for name in files::folders(&self.folder)? {
            if !name.parse().is_ok_and(|number| numbers.contains(&Some(number))) {
                files::remove_folder(&self.folder.join(name))?;
            }
        }
        Ok(())
    }

    /// The numbers of what looks like a checkpoint, in ascending order.
    fn numbers(&self) -> Result<Vec<u64>, FileError> {
        let names = files::folders(&self.folder)?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads a checkpoint, if every byte of it is what was written, and by the like of us.
    fn whole(&self, state: u32, number: u64) -> Option<Whole> {
        let folder = self.folder.join(number.to_string());
        let text = files::read(&folder.join(MANIFEST)).ok()?;
        let manifest: Manifest = serde_json::from_slice(&text).ok()?;
        if (manifest.format, &manifest.maker, manifest.state) != (FORMAT, &self.maker, state) {
            return None;
        }
        let mut found = Files::default();
        for FileRecord { path, len, hash } in manifest.files {
            let full = folder.join(&path);
            // The length first, because it is cheaper, and what is cut short while it is mapped ends the process.
            if files::length(&full).ok()? != len || hash::file(&full).ok()?.0 != hash {
                return None;
            }
            found.0.insert(path, full);
        }
        Some(Whole { number, files: found })
    }
}
