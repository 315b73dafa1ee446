//! Packs: one archive with what the reports of an experiment are made of, which is checked without unpacking it.
//!
//! ```text
//! pack.json                       whose it is, and every other file with its length and hash; sealed, and first
//! v1/nodes v1/objects v1/sets     as in a store
//! v1/data/<experiment>            what the data held that are not in it, so that it is planned without them
//! v1/pins/<experiment>            so that no cleaning takes a part of what was unpacked
//! reports/<experiment>/…          as they were written
//! ```
//!
//! Beside them lie the experiment's file and, if asked for, the data that it reads. Unpacked with `tar` it is a cache
//! folder. The same results make the same bytes: nothing in it says when or where it was made.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{self, Access, FileError, Incoming};
use super::hash::{self, Hash, Hasher};
use super::pins::Pin;
use super::record::Record;
use super::{Store, StoreError, absent, sealed};

/// The format of packs written by this program.
pub const FORMAT: u32 = 1;

/// The name of what says what is in a pack.
pub const MANIFEST: &str = "pack.json";

/// What is in a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the pack.
    pub format: u32,
    /// The version of the program that wrote it.
    pub program: String,
    /// The experiment's name.
    pub experiment: String,
    /// The experiment file, by its path in the pack.
    pub file: String,
    /// Profile and `--set` in force.
    pub overlays: Vec<String>,
    /// The results, keys by node name.
    pub set: Hash,
    /// Every other file of the pack.
    pub files: BTreeMap<String, Content>,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Length in bytes.
    pub len: u64,
    /// Hash of the bytes.
    pub hash: Hash,
}

/// A pack to be written.
#[derive(Debug)]
pub struct Pack {
    manifest: Manifest,
    sources: BTreeMap<String, Source>,
}

/// Where the bytes of a file are.
#[derive(Debug)]
enum Source {
    Here(Vec<u8>),
    At(PathBuf),
}

/// Which objects of a result a pack holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All, and the log.
    All,
    /// Those of some outputs.
    Outputs(Vec<String>),
}

/// Why a pack cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// What was to go in is not what it was.
    #[error("{0} is damaged, or changed while it was packed")]
    Changed(String),
    /// A result is gone.
    #[error("the result of `{0}` is gone")]
    Gone(String),
    /// The store does not do as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<FileError> for PackError {
    fn from(error: FileError) -> Self {
        Self::Store(error.into())
    }
}

impl Pack {
    /// Begins the pack of an experiment; `file` is the path of its file in the pack.
    pub fn new(experiment: &str, file: &str, overlays: &[String]) -> Self {
        let manifest = Manifest {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            experiment: experiment.to_owned(),
            file: file.to_owned(),
            overlays: overlays.to_vec(),
            set: hash::bytes(b""),
            files: BTreeMap::new(),
        };
        Self { manifest, sources: BTreeMap::new() }
    }

    /// Adds bytes under a path.
    pub fn add(&mut self, path: &str, bytes: Vec<u8>) {
        let content = Content { len: bytes.len() as u64, hash: hash::bytes(&bytes) };
        self.manifest.files.insert(path.to_owned(), content);
        self.sources.insert(path.to_owned(), Source::Here(bytes));
    }

    /// Adds a file under a path; its content is what it has to be.
    pub fn add_file(&mut self, path: &str, from: PathBuf, content: Content) {
        self.manifest.files.insert(path.to_owned(), content);
        self.sources.insert(path.to_owned(), Source::At(from));
    }

    /// Adds what the data held that are left out; paths are from the folder that the pack is unpacked in.
    pub fn add_absent(&mut self, data: BTreeMap<String, Hash>) {
        let path = format!("v1/{}/{}", absent::FOLDER, self.manifest.experiment);
        self.add(&path, absent::to_bytes(data));
    }

    /// Adds the results of an experiment, of each the objects that are wanted. A result without all of its objects is
    /// marked as dropped, so that it counts all the same where the pack is unpacked.
    pub fn add_results(
        &mut self,
        store: &Store,
        nodes: &BTreeMap<String, Hash>,
        wanted: &dyn Fn(&str) -> Wanted,
    ) -> Result<(), PackError> {
        let mut records: BTreeMap<Hash, (Record, bool)> = BTreeMap::new();
        let mut newest = String::new();
        for (node, key) in nodes {
            let (record, whole) = match records.remove(key) {
                Some(known) => known,
                None => {
                    let record = store.record(key).map_err(StoreError::from)?;
                    (record.ok_or_else(|| PackError::Gone(node.clone()))?, false)
                }
            };
            newest = newest.max(record.provenance.started.clone());
            let wanted = wanted(node);
            self.add_objects(store, &record, &wanted);
            records.insert(*key, (record, whole || wanted == Wanted::All));
        }
        for (mut record, whole) in records.into_values() {
            let has =
                |file: &super::FileRecord| self.sources.contains_key(&object_path(&file.hash));
            let all = record.outputs.values().flat_map(|output| &output.files).all(has);
            if !record.dropped && !whole && !all {
                (record.dropped, record.packed) = (true, true);
            }
            let hex = record.key.to_hex();
            self.add(&format!("v1/nodes/{}/{hex}.json", &hex[..2]), record.to_bytes());
        }
        let set = serde_json::to_vec(nodes).expect("a set is plain data");
        self.manifest.set = hash::bytes(&set);
        self.add(&format!("v1/sets/{}", self.manifest.set.to_hex()), set);
        let Manifest { set, experiment, file, .. } = self.manifest.clone();
        // Of the time that the newest result was made: that of packing would make other bytes each time.
        let pin = Pin { set, experiment: experiment.clone(), file, since: newest };
        self.add(&format!("v1/pins/{experiment}"), sealed::to_bytes(&pin));
        Ok(())
    }

    fn add_objects(&mut self, store: &Store, record: &Record, wanted: &Wanted) {
        if record.dropped {
            return;
        }
        let is_wanted = |name: &String| match wanted {
            Wanted::All => true,
            Wanted::Outputs(names) => names.contains(name),
        };
        let outputs = record.outputs.iter().filter(|(name, _)| is_wanted(name));
        let summary = record.summary();
        let log = summary.log.iter().filter(|_| *wanted == Wanted::All);
        for file in outputs.flat_map(|(_, output)| &output.files).chain(log) {
            let content = Content { len: file.len, hash: file.hash };
            self.add_file(&object_path(&file.hash), store.object(&file.hash), content);
        }
    }

    /// Bytes of everything that is in it.
    pub fn bytes(&self) -> u64 {
        self.manifest.files.values().map(|content| content.len).sum()
    }

    /// How many files are in it.
    pub fn len(&self) -> usize {
        self.manifest.files.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.manifest.files.is_empty()
    }

    /// Writes the archive, which appears whole or not at all; `done` is told of each piece, in bytes.
    pub fn write(&self, out: &Path, done: &dyn Fn(u64)) -> Result<(), PackError> {
        let failed = |error: io::Error| FileError::new("write", out, error);
        let mut archive = tar::Builder::new(io::BufWriter::new(Incoming::new(out)?));
        let manifest = sealed::to_bytes(&self.manifest);
        append(&mut archive, MANIFEST, &manifest[..], manifest.len() as u64).map_err(failed)?;
        for (path, content) in &self.manifest.files {
            let mut source: Box<dyn Read> = match &self.sources[path] {
                Source::Here(bytes) => Box::new(&bytes[..]),
                Source::At(from) => Box::new(files::open(from)?),
            };
            let mut read = Hashed { inner: &mut source, hasher: Hasher::default(), done };
            append(&mut archive, path, (&mut read).take(content.len), content.len)
                .map_err(failed)?;
            if read.hasher.finish() != (content.hash, content.len) {
                return Err(PackError::Changed(path.clone()));
            }
        }
        let buffer = archive.into_inner().map_err(failed)?;
        let incoming = buffer.into_inner().map_err(|error| failed(error.into_error()))?;
        Ok(incoming.place(Access::Writable)?)
    }
}

fn object_path(hash: &Hash) -> String {
    let hex = hash.to_hex();
    format!("v1/objects/{}/{hex}", &hex[..2])
}

fn append(
    archive: &mut tar::Builder<impl io::Write>,
    path: &str,
    bytes: impl Read,
    len: u64,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(len);
    header.set_mode(if path.starts_with("v1/objects/") { 0o444 } else { 0o644 });
    archive.append_data(&mut header, path, bytes)
}

/// Hashes what is read.
struct Hashed<'a> {
    inner: &'a mut dyn Read,
    hasher: Hasher,
    done: &'a dyn Fn(u64),
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.add(&buffer[..count]);
        (self.done)(count as u64);
        Ok(count)
    }
}
