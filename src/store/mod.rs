//! The store: results on disk, addressed by content, found by key.
//!
//! ```text
//! cache/v1/objects/ab/<hash>       files, named by the BLAKE3 hash of their bytes, read-only
//! cache/v1/nodes/ab/<key>.json     records: what the node with that key left; written last
//! cache/v1/index                   what the engine needs of the records, in one file; may be lost
//! cache/v1/checkpoints/ab/<key>/   how far the node with that key has come; gone once it has a record
//! cache/v1/leases/ab/<key>         who is computing the node with that key
//! cache/v1/runs/<id>/              one folder an invocation: run.json, a log for each node under way or failed, and
//!                                  while it goes on the results that it has found here
//! cache/v1/sets/<hash>             the results of a run, keys by node name
//! cache/v1/pins/<name>             sets of which no result is removed
//! cache/v1/settled/<fingerprint>   experiments that are done
//! cache/v1/data/<experiment>       what the data held that a pack left out
//! cache/v1/stamps                  hashes of user data, by what the file system says of them
//! cache/v1/quarantine/             what was found damaged
//! cache/v1/scratch/<host>-*/       working folders of one invocation's nodes; of no value afterwards
//! ```
//!
//! A record is complete or does not exist: objects are written and synced first, the record is renamed into place
//! last. Everything that touches the disk goes through [`files`].

mod absent;
#[cfg(test)]
pub(crate) mod bench;
pub mod checkpoint;
pub mod files;
pub mod gc;
pub mod hash;
pub mod index;
pub mod lack;
pub mod lease;
pub mod pack;
pub mod pins;
pub mod pulse;
pub mod record;
pub mod release;
pub mod rest;
mod roots;
pub mod runs;
pub mod scratch;
pub mod sealed;
pub mod settled;
pub mod stamps;
pub mod survey;
pub mod tiers;
pub mod transfer;
pub mod unpack;
pub mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};

use files::{FileError, Stamp};
pub use hash::Hash;
use index::Index;
pub use record::{ArtifactRecord, FileRecord, Files, Record, Summary};
use stamps::Stamps;

/// A store rooted at one cache folder.
#[derive(Clone, Debug)]
pub struct Store {
    cache: PathBuf,
    root: PathBuf,
    /// Nothing is ever written to it.
    read_only: bool,
    /// Stores to read from what is lacking here.
    lower: Vec<Self>,
    shared: Arc<Shared>,
}

/// What all handles of one store have in common.
#[derive(Debug, Default)]
struct Shared {
    index: OnceLock<Mutex<Index>>,
    /// What was found damaged, in words that nobody has been told yet.
    notices: Mutex<Vec<String>>,
    /// Damaged files that stay where they are, as they were found.
    bad: RwLock<BTreeMap<PathBuf, Stamp>>,
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

/// Why nothing can be done with a store as a whole.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A record of a later format is in the way: nobody knows what it names.
    #[error(transparent)]
    Newer(#[from] NewerFormat),
    /// The disk does not do as it should.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Opens the store under `cache`; folders are made when something is put into them.
    pub fn open(cache: &Path) -> Result<Self, FileError> {
        let cache = files::absolute(cache)?;
        let root = cache.join(FORMAT);
        Ok(Self { cache, root, read_only: false, lower: Vec::new(), shared: Arc::default() })
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
        Stamps::open(&self.root.join("stamps")).with_absent(self.absent())
    }

    /// Where an object lies in this very store, whether or not it is there.
    fn object_here(&self, hash: &Hash) -> PathBuf {
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

    fn notices(&self) -> MutexGuard<'_, Vec<String>> {
        self.shared.notices.lock().expect("no holder of this lock panics")
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
        let object = self.object_here(&hash);
        // Touched, so that a cleaning under way sees that it is wanted; where that cannot be done it is replaced.
        let is_there = self.has_here(&hash, len) && hash::is(&object, &hash);
        if is_there && files::touch(&object).is_ok_and(|touched| touched) {
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

    /// The results that the index came to know last, at most so many.
    pub fn latest_results(&self, count: usize) -> Vec<Summary> {
        self.index().latest(count)
    }

    /// Every result that the index knows, sorted by key.
    pub fn results(&self) -> Vec<Summary> {
        self.index().all()
    }
}
