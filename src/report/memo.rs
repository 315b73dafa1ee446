//! What has been written already: a report is made again only when its definition or what it reads has changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::files::{self, FileError};
use crate::store::{Hash, hash};

/// Moves whenever the same results would be written differently.
pub const VERSION: u32 = 3;

/// The reports of one experiment, and what they were made from.
#[derive(Debug)]
pub struct Memo {
    folder: PathBuf,
    written: BTreeMap<String, Entry>,
    /// The list differs from the one on the disk.
    changed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    key: Hash,
    files: BTreeMap<String, Hash>,
}

/// The list's name; hidden, for it is nobody's result.
const LIST: &str = ".written.json";

/// Where the list of a folder of reports lies.
pub fn list(folder: &Path) -> PathBuf {
    folder.join(LIST)
}

/// Whether a path is that of such a list.
pub fn is_list(path: &str) -> bool {
    path.rsplit('/').next() == Some(LIST)
}

/// The files that a list names, each with its content; `None` where it cannot be read.
pub fn listed(list: &[u8]) -> Option<BTreeMap<String, Hash>> {
    let written: BTreeMap<String, Entry> = serde_json::from_slice(list).ok()?;
    Some(written.into_values().flat_map(|entry| entry.files).collect())
}

impl Memo {
    /// Opens the list in a folder of reports; one that cannot be read counts as empty.
    pub fn open(folder: &Path) -> Self {
        let text = files::read(&folder.join(LIST)).ok();
        let written = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { folder: folder.to_path_buf(), written, changed: false }
    }

    /// Whether a report was made with this key and its files are still as they were written.
    pub fn is_current(&self, name: &str, key: &Hash) -> bool {
        self.written.get(name).is_some_and(|entry| {
            entry.key == *key
                && entry.files.iter().all(|(file, written)| {
                    hash::file(&self.folder.join(file)).is_ok_and(|(found, _)| found == *written)
                })
        })
    }

    /// Whether nothing was ever written here.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Reads a file of a report that is current.
    pub fn read(&self, file: &str) -> Result<String, FileError> {
        files::read_text(&self.folder.join(file))
    }

    /// Writes the files of a report and notes them; those that it had before and has no longer are removed.
    pub fn write(
        &mut self,
        name: &str,
        key: Hash,
        contents: &[(String, Vec<u8>)],
    ) -> Result<(), FileError> {
        let mut files = BTreeMap::new();
        for (file, bytes) in contents {
            files::write_atomic(&self.folder.join(file), bytes)?;
            files.insert(file.clone(), hash::bytes(bytes));
        }
        self.changed = true;
        let before = self.written.insert(name.to_owned(), Entry { key, files });
        self.remove(before)
    }

    /// Removes the files of a report that cannot be made any more: outdated ones would pass for its own.
    pub fn forget(&mut self, name: &str) -> Result<(), FileError> {
        let before = self.written.remove(name);
        self.changed |= before.is_some();
        self.remove(before)
    }

    /// Forgets the reports that are no longer asked for, and saves the list; yields every file, each with its content.
    pub fn close(mut self, asked: &[String]) -> Result<Vec<(PathBuf, Hash)>, FileError> {
        let gone: Vec<String> =
            self.written.keys().filter(|name| !asked.contains(name)).cloned().collect();
        for name in gone {
            self.forget(&name)?;
        }
        if self.changed {
            let text = serde_json::to_vec_pretty(&self.written).expect("the list is plain data");
            files::write_atomic(&self.folder.join(LIST), &text)?;
        }
        let files = self.written.into_values().flat_map(|entry| entry.files);
        Ok(files.map(|(file, hash)| (self.folder.join(file), hash)).collect())
    }

    /// Removes the files of an entry that is in the list no longer, but for those that another entry has.
    fn remove(&self, entry: Option<Entry>) -> Result<(), FileError> {
        let kept = |file: &String| self.written.values().any(|e| e.files.contains_key(file));
        let files = entry.into_iter().flat_map(|entry| entry.files.into_keys());
        files.filter(|file| !kept(file)).try_for_each(|f| files::remove(&self.folder.join(f)))
    }
}

/// Computes the key of a report: its definition, and the ordered contents that it reads.
pub fn key(name: &str, definition: &impl Serialize, contents: &impl Serialize) -> Hash {
    let text = serde_json::to_vec(&(VERSION, name, definition, contents));
    hash::bytes(&text.expect("definitions are plain data"))
}
