//! The store: results on disk, addressed by content, found by key.
//!
//! ```text
//! cache/v1/objects/ab/<hash>       files, named by the BLAKE3 hash of their bytes, read-only
//! cache/v1/nodes/ab/<key>.json     records: what the node with that key left; written last
//! cache/v1/index                   what the engine needs of the records, in one file; may be lost
//! cache/v1/leases/ab/<key>         who is computing the node with that key
//! cache/v1/runs/<id>/              one folder an invocation: run.json, and a log for each node under way or failed
//! cache/v1/sets/<hash>             the results of a run, keys by node name
//! cache/v1/settled/<fingerprint>   experiments that are done
//! cache/v1/stamps                  hashes of user data, by what the file system says of them
//! cache/v1/quarantine/             what was found damaged
//! cache/v1/scratch/<host>-<pid>-*/ working folders of one invocation's nodes; of no value afterwards
//! ```
//!
//! A record is complete or does not exist: objects are written and synced first, the record is renamed into place
//! last. Everything that touches the disk goes through [`files`].

pub mod files;
pub mod hash;
pub mod index;
pub mod lease;
pub mod record;
pub mod runs;
pub mod scratch;
pub mod settled;
pub mod stamps;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use files::FileError;
pub use hash::Hash;
use index::Index;
use record::Unreadable;
pub use record::{ArtifactRecord, FileRecord, Files, Record, Summary};
use stamps::Stamps;

/// A store rooted at one cache folder.
#[derive(Clone, Debug)]
pub struct Store {
    cache: PathBuf,
    root: PathBuf,
    shared: Arc<Shared>,
}

/// What all handles of one store have in common.
#[derive(Debug, Default)]
struct Shared {
    index: OnceLock<Mutex<Index>>,
    /// What was found damaged, in words that nobody has been told yet.
    notices: Mutex<Vec<String>>,
}

/// Names the folder of the store's format.
const FORMAT: &str = "v1";

/// Why a key cannot be looked up.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} was written by a later version of wavecrest (format {format}; this one reads up to {})",
    path.display(),
    record::FORMAT
)]
pub struct NewerFormat {
    path: PathBuf,
    format: u32,
}

impl Store {
    /// Opens the store under `cache`; folders are made when something is put into them.
    pub fn open(cache: &Path) -> Result<Self, FileError> {
        let cache = files::absolute(cache)?;
        let root = cache.join(FORMAT);
        Ok(Self { cache, root, shared: Arc::default() })
    }

    /// The cache folder that it was opened under.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The store's own folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is remembered of user data.
    pub fn stamps(&self) -> Stamps {
        Stamps::open(&self.root.join("stamps"))
    }

    /// Where an object lies, whether or not it is there.
    pub fn object(&self, hash: &Hash) -> PathBuf {
        self.sharded("objects", hash, "")
    }

    fn record_path(&self, key: &Hash) -> PathBuf {
        self.sharded("nodes", key, ".json")
    }

    fn sharded(&self, folder: &str, hash: &Hash, ending: &str) -> PathBuf {
        let hex = hash.to_hex();
        self.root.join(format!("{folder}/{}/{hex}{ending}", &hex[..2]))
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("index")
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        let index = self.shared.index.get_or_init(|| Mutex::new(Index::open(&self.index_path())));
        index.lock().expect("no holder of this lock panics")
    }

    /// Finds the result of a key. One whose record cannot be read, or whose objects are gone without being meant to,
    /// is no result.
    pub fn find(&self, key: &Hash) -> Result<Option<Summary>, NewerFormat> {
        let known = self.index().get(key).filter(|_| self.has_record(key));
        let found = match known {
            Some(summary) => Some(summary),
            None => self.record(key)?.map(|record| {
                let summary = record.summary();
                self.index().note(&summary);
                summary
            }),
        };
        Ok(found.filter(|summary| summary.dropped || self.holds(summary)))
    }

    /// Reads the record of a key; one that is damaged is put aside.
    pub fn record(&self, key: &Hash) -> Result<Option<Record>, NewerFormat> {
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

    fn has_record(&self, key: &Hash) -> bool {
        files::length(&self.record_path(key)).is_ok_and(|len| len > 0)
    }

    /// Whether every object of a result is there, as far as its length tells.
    pub fn holds(&self, summary: &Summary) -> bool {
        summary.files().all(|file| self.has(&file.hash, file.len))
    }

    /// Whether an object is there, as far as its length tells.
    pub fn has(&self, hash: &Hash, len: u64) -> bool {
        files::length(&self.object(hash)).is_ok_and(|found| found == len)
    }

    /// Whether the bytes of an object are what its name says; reads them all.
    pub fn is_sound(&self, hash: &Hash) -> bool {
        hash::file(&self.object(hash)).is_ok_and(|(found, _)| found == *hash)
    }

    /// Puts an object aside that is not what its name says; it is there for people to look at, and counts as missing.
    pub fn quarantine(&self, hash: &Hash) {
        self.put_aside(&self.object(hash), "object");
    }

    fn put_aside(&self, path: &Path, what: &str) {
        let name = path.file_name().expect("a file of the store has a name");
        let aside = self.root.join("quarantine").join(name);
        let moved = aside
            .parent()
            .map_or(Ok(()), files::make_folder)
            .and_then(|()| files::rename_if_there(path, &aside));
        let words = match moved {
            Ok(true) => {
                format!("the {what} {} was damaged: {}", shown(path), "put aside in quarantine/")
            }
            // Another process was first, or it was missing rather than damaged.
            Ok(false) => return,
            Err(error) => format!("the {what} {} is damaged and stays there: {error}", shown(path)),
        };
        self.notices().push(words);
    }

    fn notices(&self) -> MutexGuard<'_, Vec<String>> {
        self.shared.notices.lock().expect("no holder of this lock panics")
    }

    /// What was found damaged since the last call, in words.
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices())
    }

    /// Moves the files of a folder into the store and yields the artifact that they make. They are safe from a power
    /// cut once the record that names them is committed.
    pub fn take_folder(&self, folder: &Path, kind: &str) -> Result<ArtifactRecord, FileError> {
        let mut records = Vec::new();
        for path in files::list_own(folder)? {
            records.push(self.take_file(folder, path)?);
        }
        Ok(ArtifactRecord::new(kind, records))
    }

    /// Moves one file of a folder into the store. One that lies there already stays, if it is what its name says.
    pub fn take_file(&self, folder: &Path, path: String) -> Result<FileRecord, FileError> {
        let full = folder.join(&path);
        let (hash, len) = hash::file(&full)?;
        let object = self.object(&hash);
        if self.has(&hash, len) && self.is_sound(&hash) {
            files::remove(&full)?;
        } else {
            files::settle(&full, &object)?;
        }
        Ok(FileRecord { path, len, hash })
    }

    /// Commits records: their objects are made safe first, all at once, then they are written, then they are made safe.
    /// From here on their keys are hits. `is_wanted` is asked just before each is written; the answers come back, with
    /// the error of each that could not be written.
    pub fn commit(
        &self,
        records: &[&Record],
        is_wanted: &dyn Fn(&Record) -> bool,
    ) -> Result<Vec<Result<bool, FileError>>, FileError> {
        files::make_folder(&self.root)?;
        files::sync(&self.root)?;
        let mut added = Vec::new();
        let mut write = |record: &Record| -> Result<bool, FileError> {
            if !is_wanted(record) {
                return Ok(false);
            }
            files::replace(&self.record_path(&record.key), &record.to_bytes())?;
            added.push(Arc::new(record.summary()));
            Ok(true)
        };
        let written = records.iter().map(|record| write(record)).collect();
        files::sync(&self.root)?;
        // Only an index: what it lacks is read from the records.
        drop(Index::add(&self.index_path(), &added));
        Ok(written)
    }

    /// Writes down what was learned of records that the index did not hold.
    pub fn save_index(&self) -> Result<(), FileError> {
        match self.shared.index.get() {
            Some(index) => index.lock().expect("no holder of this lock panics").save(),
            None => Ok(()),
        }
    }

    /// Every result that the index knows, sorted by key.
    pub fn results(&self) -> Vec<Summary> {
        self.index().all()
    }

    /// Where the files of an artifact are to be read.
    pub fn locate(&self, artifact: &ArtifactRecord) -> Files {
        let place = |f: &FileRecord| (f.path.clone(), self.object(&f.hash));
        Files(artifact.files.iter().map(place).collect::<BTreeMap<_, _>>())
    }
}

/// The end of a path, as people quote it.
fn shown(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.chars().take(12).collect()
}
