//! Sharing: results copied from one store to another.
//!
//! Each object is hashed on its way: what is damaged does not spread. The records of a batch are committed once all
//! their objects are there, so that a copy that is cut short leaves whole results, and the next one goes on from them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::files::{self, Access, FileError, Incoming};
use super::hash::{self, Hash};
use super::record::{FileRecord, Record, Summary, Unreadable};
use super::tiers::shown;
use super::{NewerFormat, Store, StoreError};

/// What is to be copied.
#[derive(Debug, Default)]
pub struct Transfer {
    /// Results that the other store lacks.
    pub results: Vec<Summary>,
    /// How many it has already.
    pub known: usize,
    /// Records that lie in this store and cannot be read, and why, in words.
    pub unreadable: Vec<String>,
}

/// What was copied.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// How many results.
    pub results: usize,
    /// How many objects.
    pub objects: usize,
    /// Bytes of the objects.
    pub bytes: u64,
    /// Results that could not be copied, and why.
    pub left_out: Vec<(String, String)>,
}

/// Results that are committed together.
const BATCH: usize = 64;

impl Transfer {
    /// Bytes of the objects of all results; some of them may be there.
    pub fn bytes(&self) -> u64 {
        self.results.iter().filter(|result| !result.dropped).map(Summary::bytes).sum()
    }
}

impl Store {
    /// Finds out which results another store lacks: of some keys, or of all that lie in this very store.
    pub fn transfer(
        &self,
        to: &Self,
        keys: Option<&BTreeSet<Hash>>,
    ) -> Result<Transfer, StoreError> {
        let mut transfer = Transfer::default();
        let results: Vec<Summary> = match keys {
            None => {
                let survey = self.scan()?;
                transfer.unreadable = survey.unreadable.iter().filter_map(unreadable).collect();
                survey.results.into_iter().map(|found| found.summary).collect()
            }
            Some(keys) => {
                let found = keys.iter().filter_map(|key| self.find(key).transpose());
                found.collect::<Result<_, _>>()?
            }
        };
        for result in results {
            match to.find(&result.key)? {
                Some(known) if !known.dropped || result.dropped => transfer.known += 1,
                _ => transfer.results.push(result),
            }
        }
        Ok(transfer)
    }

    /// Copies results to another store; `done` is told of each piece, in bytes.
    pub fn copy_to(
        &self,
        to: &Self,
        transfer: &Transfer,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<Copied, StoreError> {
        let mut copied = Copied::default();
        for batch in transfer.results.chunks(BATCH) {
            let one = |result: &Summary| self.copy_result(to, result, done);
            let outcomes: Vec<Outcome> =
                batch.par_iter().map(one).collect::<Result<_, StoreError>>()?;
            let mut records = Vec::new();
            for (result, outcome) in batch.iter().zip(outcomes) {
                match outcome {
                    Outcome::Whole { record, objects, bytes } => {
                        copied.objects += objects;
                        copied.bytes += bytes;
                        records.push(*record);
                    }
                    Outcome::LeftOut(why) => {
                        copied.left_out.push((result.provenance.node.clone(), why));
                    }
                }
            }
            // A cleaning may have won a race meanwhile: what it has taken is copied the next time.
            let whole = |record: &Record| record.dropped || to.holds(&record.summary());
            let records: Vec<&Record> = records.iter().collect();
            for written in to.commit(&records, &whole)? {
                copied.results += usize::from(written?);
            }
        }
        Ok(copied)
    }

    /// Copies the objects of a result.
    fn copy_result(
        &self,
        to: &Self,
        result: &Summary,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<Outcome, StoreError> {
        let Some(record) = self.record(&result.key)? else {
            return Ok(Outcome::LeftOut("its record is damaged or gone".to_owned()));
        };
        let (mut objects, mut bytes) = (0, 0);
        let of = record.summary();
        for file in of.files().filter(|_| !of.dropped) {
            match self.copy_object(to, file, done)? {
                Arrival::New => (objects, bytes) = (objects + 1, bytes + file.len),
                Arrival::Known => (),
                Arrival::Damaged => {
                    let words = format!("the object {} is damaged or gone", file.hash.short());
                    return Ok(Outcome::LeftOut(words));
                }
            }
        }
        // A result is whole without its log.
        if let Some(log) = &of.log
            && matches!(self.copy_object(to, log, done)?, Arrival::New)
        {
            (objects, bytes) = (objects + 1, bytes + log.len);
        }
        Ok(Outcome::Whole { record: Box::new(record), objects, bytes })
    }

    fn copy_object(
        &self,
        to: &Self,
        file: &FileRecord,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<Arrival, FileError> {
        let place = to.object_here(&file.hash);
        if to.has_here(&file.hash, file.len) && files::touch(&place).is_ok_and(|there| there) {
            done(file.len);
            return Ok(Arrival::Known);
        }
        let mut incoming = Incoming::new(&place)?;
        match pour(&self.object(&file.hash), &mut incoming, done) {
            Ok((hash, len)) if (hash, len) == (file.hash, file.len) => {
                incoming.place(Access::ReadOnly)?;
                Ok(Arrival::New)
            }
            Ok(_) | Err(Pour::Read) => Ok(Arrival::Damaged),
            Err(Pour::Write(error)) => Err(error),
        }
    }
}

/// Says why a record is left out. One of an earlier format counts as missing wherever it lies.
fn unreadable((path, why): &(PathBuf, Unreadable)) -> Option<String> {
    match why {
        Unreadable::Damaged => {
            Some(format!("the record {} was left out: it is damaged", shown(path)))
        }
        Unreadable::Newer(format) => {
            let newer = NewerFormat { path: path.clone(), format: *format };
            Some(format!("the record {} was left out: {newer}", shown(path)))
        }
        Unreadable::Older => None,
    }
}

/// Copies a file into another; yields the hash and length of what went over.
fn pour(from: &Path, to: &mut Incoming, done: &(dyn Fn(u64) + Sync)) -> Result<(Hash, u64), Pour> {
    let mut failed = None;
    let mut hasher = hash::Hasher::default();
    let read = files::read_pieces(from, &mut |piece| {
        if failed.is_none() {
            hasher.add(piece);
            failed = to.add(piece).err();
            done(piece.len() as u64);
        }
    });
    match (failed, read) {
        (Some(error), _) => Err(Pour::Write(error)),
        (None, Err(_)) => Err(Pour::Read),
        (None, Ok(())) => Ok(hasher.finish()),
    }
}

/// Which side a copy failed on.
enum Pour {
    Read,
    Write(FileError),
}

/// What came of copying a result.
enum Outcome {
    Whole { record: Box<Record>, objects: usize, bytes: u64 },
    LeftOut(String),
}

/// What came of copying an object.
enum Arrival {
    New,
    Known,
    Damaged,
}

#[cfg(test)]
mod tests {
    use super::super::bench::{commit, everything, flip, key, put, result, store};
    use super::*;

    fn copy(from: &Store, to: &Store, keys: Option<&BTreeSet<Hash>>) -> (Copied, usize) {
        let transfer = from.transfer(to, keys).unwrap();
        (from.copy_to(to, &transfer, &|_| ()).unwrap(), transfer.known)
    }

    fn problems(store: &Store) -> usize {
        store.verify(&store.scan().unwrap(), &|_| ()).unwrap().problems.len()
    }

    #[test]
    fn what_is_lacking_goes_over_once() {
        let ((_a, from), (_b, to)) = (store(), store());
        put(&from, "a", &["one", "two"]);
        put(&from, "b", &["two"]);
        put(&to, "c", &["two"]);
        let keys = BTreeSet::from([key("a"), key("none")]);
        let (copied, known) = copy(&from, &to, Some(&keys));
        assert_eq!((copied.results, copied.objects, copied.bytes, known), (1, 1, 3, 0));
        let (copied, known) = copy(&from, &to, None);
        assert_eq!((copied.results, copied.objects, known), (1, 0, 1));
        let (copied, known) = copy(&from, &to, None);
        assert_eq!((copied, known), (Copied::default(), 2));
        assert_eq!(problems(&to), 0);
        for node in ["a", "b"] {
            let bytes = |store: &Store| files::read(&store.record_path(&key(node))).unwrap();
            assert_eq!(bytes(&to), bytes(&from));
        }
        assert!(Store::open(to.cache()).unwrap().find(&key("a")).unwrap().is_some());
    }

    #[test]
    fn a_dropped_result_goes_over_without_files_and_is_made_whole_by_one_that_is() {
        let ((_a, from), (_b, to)) = (store(), store());
        let record = result(&from, "a", &["one"]);
        commit(&from, &Record { dropped: true, ..record.clone() });
        assert_eq!(copy(&from, &to, None).0.objects, 0);
        assert!(to.find(&key("a")).unwrap().unwrap().dropped);
        commit(&from, &record);
        let from = Store::open(from.cache()).unwrap();
        assert_eq!(copy(&from, &to, None).0.objects, 1);
        assert!(!Store::open(to.cache()).unwrap().find(&key("a")).unwrap().unwrap().dropped);
    }

    #[test]
    fn damage_does_not_spread() {
        let ((_a, from), (_b, to)) = (store(), store());
        let record = put(&from, "a", &["one"]);
        put(&from, "b", &["two"]);
        flip(&from.object(&record.outputs["main"].files[0].hash));
        let before = everything(from.root());
        let (copied, _) = copy(&from, &to, None);
        assert_eq!((copied.results, copied.left_out.len()), (1, 1));
        assert_eq!(copied.left_out[0].0, "a");
        assert_eq!((to.scan().unwrap().objects.len(), problems(&to)), (1, 0));
        assert_eq!(everything(from.root()), before);
    }

    #[test]
    fn a_disk_that_is_full_leaves_whole_results_and_the_next_copy_goes_on() {
        let (_a, from) = store();
        for node in ["a", "b", "c"] {
            put(&from, node, &[node, "shared"]);
        }
        for writes in 0.. {
            let (folder, to) = store();
            files::faults::fill_after(folder.path(), writes);
            let transfer = from.transfer(&to, None).unwrap();
            let outcome = from.copy_to(&to, &transfer, &|_| ());
            files::faults::fill_after(folder.path(), u64::MAX);
            assert_eq!(problems(&to), 0, "after {writes} writes");
            assert!(files::list(folder.path()).unwrap().iter().all(|f| !f.contains(files::FRESH)));
            let to = Store::open(to.cache()).unwrap();
            let (rest, known) = copy(&from, &to, None);
            assert_eq!(rest.results + known, 3, "after {writes} writes");
            if let Ok(copied) = outcome {
                assert_eq!((copied.results, known), (3, 3));
                break;
            }
        }
    }
}
