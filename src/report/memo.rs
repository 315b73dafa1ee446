//! What has been written already: a report is made again only when its definition or what it reads has changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::files::{self, FileError};
use crate::store::{Hash, hash};

/// Moves whenever the same results would be written differently.
pub const VERSION: u32 = 1;

/// The reports of one experiment, and what they were made from.
#[derive(Debug)]
pub struct Memo {
    folder: PathBuf,
    written: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    key: Hash,
    files: BTreeMap<String, Hash>,
}

/// The list's name; hidden, for it is nobody's result.
const LIST: &str = ".written.json";

impl Memo {
    /// Opens the list in a folder of reports; one that cannot be read counts as empty.
    pub fn open(folder: &Path) -> Self {
        let text = files::read(&folder.join(LIST)).ok();
        let written = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { folder: folder.to_path_buf(), written }
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

    /// Writes the files of a report and notes them.
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
        self.written.insert(name.to_owned(), Entry { key, files });
        Ok(())
    }

    /// Removes the files of reports that are no longer asked for, and saves the list.
    pub fn close(mut self, asked: &[String]) -> Result<(), FileError> {
        let kept: Vec<String> = self
            .written
            .iter()
            .filter(|(name, _)| asked.contains(name))
            .flat_map(|(_, entry)| entry.files.keys().cloned())
            .collect();
        for (_, entry) in self.written.extract_if(.., |name, _| !asked.contains(name)) {
            for file in entry.files.keys().filter(|file| !kept.contains(file)) {
                files::remove(&self.folder.join(file))?;
            }
        }
        let text = serde_json::to_vec_pretty(&self.written).expect("the list is plain data");
        files::write_atomic(&self.folder.join(LIST), &text)
    }
}

/// Computes the key of a report: its definition, and the ordered contents that it reads.
pub fn key(name: &str, definition: &impl Serialize, contents: &impl Serialize) -> Hash {
    let text = serde_json::to_vec(&(VERSION, name, definition, contents));
    hash::bytes(&text.expect("definitions are plain data"))
}
