//! Looking results up: in the store itself first, then in those below it, which are only read.
//!
//! A file that is found damaged is put aside, where it is the store's own. One that lies below, or that cannot be moved,
//! is remembered by its stamp for as long as the process lives, and counts as missing: so it is computed again into the
//! store itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::files::{self, FileError};
use super::hash::{self, Hash};
use super::record::{ArtifactRecord, FileRecord, Files, Record, Summary, Unreadable};
use super::{NewerFormat, Store};

impl Store {
    /// Opens the store under `cache` for reading: nothing is ever written there.
    pub fn read_only(cache: &Path) -> Result<Self, FileError> {
        Ok(Self { read_only: true, ..Self::open(cache)? })
    }

    /// Reads what is lacking here from other stores, the first of them first.
    #[must_use]
    pub fn over(mut self, lower: Vec<Self>) -> Self {
        self.lower = lower.into_iter().filter(|store| store.root != self.root).collect();
        self
    }

    /// This store and those below it, in the order in which they are asked.
    pub(super) fn tiers(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.lower)
    }

    /// Finds the result of a key. One whose record cannot be read, or whose objects are gone without being meant to,
    /// is no result.
    pub fn find(&self, key: &Hash) -> Result<Option<Summary>, NewerFormat> {
        let mut dropped = None;
        for tier in self.tiers() {
            let Some(found) = tier.find_here(key)? else { continue };
            if found.dropped {
                dropped.get_or_insert(found);
            } else if self.holds(&found) {
                return Ok(Some(found));
            } else if let Some(found) = tier.record_here(key)?.map(|record| record.summary()) {
                // The index may be older than the record. One that a later version wrote is not computed over.
                if found.dropped {
                    dropped.get_or_insert(found);
                } else {
                    tier.put_cut_aside(&found);
                }
            }
        }
        Ok(dropped)
    }

    /// Puts the objects of a result aside that are not as long as they should be.
    fn put_cut_aside(&self, result: &Summary) {
        for file in result.files() {
            let path = self.object_here(&file.hash);
            if files::length(&path).is_ok_and(|len| len != file.len) {
                self.put_aside(&path, "object");
            }
        }
    }

    /// Whether there is a result whose files are gone on purpose.
    pub fn is_dropped(&self, key: &Hash) -> bool {
        self.find(key).is_ok_and(|found| found.is_some_and(|result| result.dropped))
    }

    /// What the index knows counts, though a later version may have written the record anew since: the line is what this
    /// version found in the record of that key, and the objects that it names are what their names say. Only where they
    /// are gone does the record decide.
    fn find_here(&self, key: &Hash) -> Result<Option<Summary>, NewerFormat> {
        let known = self.index().get(key).filter(|_| self.has_record_here(key));
        if known.is_some() {
            return Ok(known);
        }
        Ok(self.record_here(key)?.map(|record| {
            let summary = record.summary();
            self.index().note(&summary);
            summary
        }))
    }

    /// Reads the record of a key; one that is damaged is put aside.
    pub fn record(&self, key: &Hash) -> Result<Option<Record>, NewerFormat> {
        for tier in self.tiers() {
            if let Some(record) = tier.record_here(key)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    pub(super) fn record_here(&self, key: &Hash) -> Result<Option<Record>, NewerFormat> {
        let path = self.record_path(key);
        let Ok(bytes) = files::read(&path) else { return Ok(None) };
        match Record::from_bytes(&bytes) {
            Ok(record) if record.key == *key => Ok(Some(record)),
            Err(Unreadable::Newer(format)) => Err(NewerFormat { path, format }),
            Err(Unreadable::Older) => Ok(None),
            Ok(_) | Err(Unreadable::Damaged) => {
                self.put_aside(&path, "record");
                Ok(None)
            }
        }
    }

    /// Whether there is a record of a key; what it says is not looked at.
    pub(super) fn has_record(&self, key: &Hash) -> bool {
        self.tiers().any(|tier| tier.has_record_here(key))
    }

    fn has_record_here(&self, key: &Hash) -> bool {
        files::length(&self.record_path(key)).is_ok_and(|len| len > 0)
    }

    /// Whether every object of a result is there, as far as its length tells.
    pub fn holds(&self, summary: &Summary) -> bool {
        summary.files().all(|file| self.has(&file.hash, file.len))
    }

    /// Whether an object is there, as far as its length tells.
    pub fn has(&self, hash: &Hash, len: u64) -> bool {
        self.tiers().any(|tier| tier.has_here(hash, len))
    }

    pub(super) fn has_here(&self, hash: &Hash, len: u64) -> bool {
        let path = self.object_here(hash);
        files::length(&path).is_ok_and(|found| found == len) && !self.is_bad(&path)
    }

    /// Where an object is to be read; where it would lie, if it is nowhere.
    pub fn object(&self, hash: &Hash) -> PathBuf {
        let here = self.object_here(hash);
        if self.lower.is_empty() {
            return here;
        }
        self.place(hash).map_or(here, |(_, path)| path)
    }

    /// The store in which an object lies, and where.
    fn place(&self, hash: &Hash) -> Option<(&Self, PathBuf)> {
        let places = self.tiers().map(|tier| (tier, tier.object_here(hash)));
        places.into_iter().find(|(tier, path)| path.exists() && !tier.is_bad(path))
    }

    /// Where the files of an artifact are to be read.
    pub fn locate(&self, artifact: &ArtifactRecord) -> Files {
        let place = |f: &FileRecord| (f.path.clone(), self.object(&f.hash));
        Files(artifact.files.iter().map(place).collect::<BTreeMap<_, _>>())
    }

    /// Puts an object aside that is not what its name says; it is there for people to look at, and counts as missing.
    /// Of other stores below, the first in which it is sound has it then.
    pub fn quarantine(&self, hash: &Hash) {
        while let Some((tier, path)) = self.place(hash) {
            if hash::is(&path, hash) {
                break;
            }
            tier.put_aside(&path, "object");
        }
    }

    /// Puts a damaged file aside, or remembers it.
    fn put_aside(&self, path: &Path, what: &str) {
        let words = if self.read_only {
            let left = format!("left out, in {}", self.cache.display());
            self.mark(path).then(|| format!("the {what} {} is damaged: {left}", shown(path)))
        } else {
            match self.move_aside(path) {
                Ok(true) => Some(format!(
                    "the {what} {} was damaged: put aside in quarantine/",
                    shown(path)
                )),
                // Another process was first, or it was missing rather than damaged.
                Ok(false) => None,
                Err(error) => self.mark(path).then(|| {
                    format!("the {what} {} is damaged and stays there: {error}", shown(path))
                }),
            }
        };
        self.notices().extend(words);
    }

    /// Moves a file to the quarantine; false where it is gone.
    pub(super) fn move_aside(&self, path: &Path) -> Result<bool, FileError> {
        let name = path.file_name().expect("a file of the store has a name");
        let folder = self.root.join("quarantine");
        files::make_folder(&folder)?;
        files::rename_if_there(path, &folder.join(name))
    }

    /// Remembers a file as damaged; false where it was known.
    fn mark(&self, path: &Path) -> bool {
        let Ok(stamp) = files::stamp(path) else { return false };
        let mut bad = self.shared.bad.write().unwrap_or_else(PoisonError::into_inner);
        bad.insert(path.to_path_buf(), stamp) != Some(stamp)
    }

    /// Whether a file was found damaged and has not been replaced since.
    fn is_bad(&self, path: &Path) -> bool {
        let bad = self.shared.bad.read().unwrap_or_else(PoisonError::into_inner);
        bad.get(path).is_some_and(|known| files::stamp(path).is_ok_and(|now| now == *known))
    }

    /// What was found damaged since the last call, in words.
    pub fn take_notices(&self) -> Vec<String> {
        self.tiers().flat_map(|tier| std::mem::take(&mut *tier.notices())).collect()
    }
}

/// The beginning of a file's name, as people quote it.
pub(super) fn shown(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::super::bench::{self, commit, everything, flip, key, put, result};
    use super::*;

    /// A store over another, with the folder that both lie in.
    fn two() -> (tempfile::TempDir, Store, Store) {
        let folder = tempfile::tempdir().unwrap();
        let lower = Store::open(&folder.path().join("lower")).unwrap();
        let below = Store::read_only(&folder.path().join("lower")).unwrap();
        let own = Store::open(&folder.path().join("own")).unwrap().over(vec![below]);
        (folder, own, lower)
    }

    #[test]
    fn what_is_lacking_here_is_read_below_and_nothing_is_written_there() {
        let (folder, own, lower) = two();
        let record = put(&lower, "a", &["one"]);
        files::remove(&lower.root().join("index")).unwrap();
        let before = everything(folder.path());
        let object = record.outputs["main"].files[0].hash;
        assert_eq!(own.find(&key("a")).unwrap(), Some(record.summary()));
        assert_eq!(own.record(&key("a")).unwrap().unwrap().summary(), record.summary());
        assert!(own.has(&object, 3) && own.object(&object).starts_with(lower.root()));
        own.save_index().unwrap();
        assert!(own.find(&key("b")).unwrap().is_none());
        assert_eq!(everything(folder.path()), before);
        // What is computed here stays here, also where it lies below.
        put(&own, "b", &["one", "two"]);
        assert!(own.object(&object).starts_with(own.root()));
        assert_eq!(everything(lower.root()).len(), 2);
    }

    #[test]
    fn what_is_damaged_below_counts_as_missing_until_it_is_computed_here() {
        let (_folder, own, lower) = two();
        let record = put(&lower, "a", &["one"]);
        let object = record.outputs["main"].files[0].hash;
        flip(&lower.object(&object));
        let before = everything(lower.root());
        assert!(own.find(&key("a")).unwrap().is_some(), "nobody has looked");
        own.quarantine(&object);
        own.quarantine(&object);
        assert_eq!(own.take_notices().len(), 1, "said once");
        assert!(own.find(&key("a")).unwrap().is_none() && !own.has(&object, 3));
        assert_eq!(everything(lower.root()), before);
        put(&own, "a", &["one"]);
        assert!(own.find(&key("a")).unwrap().is_some());
        assert!(hash::is(&own.object(&object), &object));
    }

    #[test]
    fn a_damaged_record_below_is_left_out_and_said_once() {
        let (_folder, own, lower) = two();
        put(&lower, "a", &["one"]);
        files::remove(&lower.root().join("index")).unwrap();
        flip(&lower.record_path(&key("a")));
        for _ in 0..2 {
            assert!(own.find(&key("a")).unwrap().is_none());
        }
        assert_eq!(own.take_notices().len(), 1);
    }

    #[test]
    fn of_two_results_the_one_that_is_whole_counts() {
        let (_folder, own, lower) = two();
        put(&lower, "a", &["one"]);
        let dropped = Record { dropped: true, ..result(&own, "a", &[]) };
        commit(&own, &dropped);
        assert!(!own.find(&key("a")).unwrap().unwrap().dropped);
        let record = put(&own, "a", &["three"]);
        files::remove(&own.object_here(&record.outputs["main"].files[0].hash)).unwrap();
        assert_eq!(own.find(&key("a")).unwrap().unwrap().bytes(), 3, "the one below");
    }

    #[test]
    fn a_newer_record_is_never_computed_over_and_hides_no_result_that_is_known() {
        let (_folder, store) = bench::store();
        let record = put(&store, "a", &["one"]);
        let bytes = files::read(&store.record_path(&key("a"))).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let newer = text.replace("\"format\": 2", "\"format\": 9");
        files::replace(&store.record_path(&key("a")), newer.as_bytes()).unwrap();
        let store = Store::open(store.cache()).unwrap();
        assert!(store.find(&key("a")).unwrap().is_some(), "the index knows it, and it is whole");
        files::remove(&store.object_here(&record.outputs["main"].files[0].hash)).unwrap();
        assert!(store.find(&key("a")).is_err(), "to compute it would replace the record");
    }
}
