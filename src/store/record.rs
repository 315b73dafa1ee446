//! Records: what a finished node left, and where it came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::hash::{self, Hash};

/// The format of records written by this program.
pub const FORMAT: u32 = 1;

/// What a finished node left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The format of this record.
    pub format: u32,
    /// The node's identity.
    pub key: Hash,
    /// The kind that computed it.
    pub kind: String,
    /// The version of the kind.
    pub version: u32,
    /// The parameters, seeds resolved.
    pub parameters: Json,
    /// Content hash by edge.
    pub inputs: BTreeMap<String, Hash>,
    /// What it saved, by output name.
    pub outputs: BTreeMap<String, ArtifactRecord>,
    /// Scalar results.
    pub metrics: BTreeMap<String, f64>,
    /// Where it came from; never part of the identity.
    pub provenance: Provenance,
}

/// An artifact: a type and files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// The type that edges are checked by.
    #[serde(rename = "type")]
    pub kind: String,
    /// Hash over the sorted (path, length, hash) of the files.
    pub hash: Hash,
    /// The files, sorted by path.
    pub files: Vec<FileRecord>,
}

impl ArtifactRecord {
    /// Makes an artifact of files.
    pub fn new(kind: &str, mut files: Vec<FileRecord>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let hash = hash::listing(files.iter().map(|f| (f.path.as_str(), f.len, f.hash)));
        Self { kind: kind.to_owned(), hash, files }
    }

    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.len).sum()
    }
}

/// One file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Path inside the artifact.
    pub path: String,
    /// Length in bytes.
    pub len: u64,
    /// Hash of the bytes.
    pub hash: Hash,
}

/// The files of one artifact: where each is to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files(pub BTreeMap<String, PathBuf>);

impl Files {
    /// Finds a file by its path inside the artifact.
    pub fn path(&self, name: &str) -> anyhow::Result<&Path> {
        let path = self.0.get(name).map(PathBuf::as_path);
        path.ok_or_else(|| anyhow!("the artifact has no file `{name}`"))
    }
}

/// Where a result came from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provenance {
    /// The run that computed it.
    pub run: String,
    /// The node's name in that run.
    pub node: String,
    /// When it started, in UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// Peak resident memory of the worker in bytes; absent where the system does not tell.
    pub peak_memory: Option<u64>,
    /// CPU threads it was given.
    pub threads: usize,
    /// The machine.
    pub host: String,
    /// The version of this program.
    pub program: String,
    /// BLAKE3 of the program's binary.
    pub binary: Option<Hash>,
    /// The commit of the repository that holds the experiment, with `+` where files differ from it.
    pub commit: Option<String>,
    /// The worker's log, relative to the store.
    pub log: String,
}
