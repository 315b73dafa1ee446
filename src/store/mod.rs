//! The store: results on disk, addressed by content, found by key.
//!
//! ```text
//! cache/v1/objects/ab/<hash>       files, named by the BLAKE3 hash of their bytes, read-only
//! cache/v1/nodes/ab/<key>.json     records: what the node with that key left; written last
//! cache/v1/checkpoints/ab/<key>/   how far the node with that key has come; gone once it has a record
//! cache/v1/leases/ab/<key>         who is computing the node with that key
//! cache/v1/runs/<id>/              one folder an invocation: run.json and a log for each node run
//! cache/v1/scratch/<host>-<pid>-*/ working folders of one invocation's nodes; of no value afterwards
//! ```
//!
//! A record is complete or does not exist: objects are written and synced first, the record is renamed into place
//! last. Everything that touches the disk goes through [`files`].

pub mod checkpoint;
pub mod files;
pub mod hash;
pub mod lease;
pub mod record;
pub mod runs;
pub mod scratch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use hash::Hash;
pub use record::{ArtifactRecord, FileRecord, Files, Record};

/// A store rooted at one cache folder.
#[derive(Clone, Debug)]
pub struct Store {
    cache: PathBuf,
    root: PathBuf,
}

/// Names the folder of the store's format.
const FORMAT: &str = "v1";

impl Store {
    /// Opens the store under `cache`; folders are made when something is put into them.
    pub fn open(cache: &Path) -> Result<Self, files::FileError> {
        let cache = files::absolute(cache)?;
        let root = cache.join(FORMAT);
        Ok(Self { cache, root })
    }

    /// The cache folder that it was opened under.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The store's own folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an object lies, whether or not it is there.
    pub fn object(&self, hash: &Hash) -> PathBuf {
        let hex = hash.to_hex();
        self.root.join("objects").join(&hex[..2]).join(hex)
    }

    fn record_path(&self, key: &Hash) -> PathBuf {
        let hex = key.to_hex();
        self.root.join("nodes").join(&hex[..2]).join(format!("{hex}.json"))
    }

    /// Finds the record of a key. A record that cannot be read, or whose objects are gone, is no record.
    pub fn find(&self, key: &Hash) -> Option<Record> {
        let text = files::read(&self.record_path(key)).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let whole = record.format == record::FORMAT
            && record.key == *key
            && record.outputs.values().all(|artifact| self.holds(artifact));
        whole.then_some(record)
    }

    fn holds(&self, artifact: &ArtifactRecord) -> bool {
        artifact
            .files
            .iter()
            .all(|f| files::length(&self.object(&f.hash)).is_ok_and(|len| len == f.len))
    }

    /// Moves the files of a folder into the store and yields the artifact that they make.
    pub fn take_folder(
        &self,
        folder: &Path,
        kind: &str,
    ) -> Result<ArtifactRecord, files::FileError> {
        let mut records = Vec::new();
        for path in files::list_own(folder)? {
            let full = folder.join(&path);
            let (hash, len) = hash::file(&full)?;
            files::settle(&full, &self.object(&hash))?;
            records.push(FileRecord { path, len, hash });
        }
        Ok(ArtifactRecord::new(kind, records))
    }

    /// Commits a record; from here on its key is a hit.
    pub fn commit(&self, record: &Record) -> Result<(), files::FileError> {
        let text = serde_json::to_vec_pretty(record).expect("a record is plain data");
        files::write_atomic(&self.record_path(&record.key), &text)
    }

    /// Where the files of an artifact are to be read.
    pub fn locate(&self, artifact: &ArtifactRecord) -> Files {
        let place = |f: &FileRecord| (f.path.clone(), self.object(&f.hash));
        Files(artifact.files.iter().map(place).collect::<BTreeMap<_, _>>())
    }
}
