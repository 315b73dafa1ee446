//! Records: what a finished node left, and where it came from.
//!
//! A record is [`sealed`]: one that was cut or in which a bit has changed is told from one that is whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::hash::{self, Hash};
use super::sealed;

/// The format of records written by this program.
pub const FORMAT: u32 = 2;

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
    /// Whether the files of its outputs are gone because it was not to be kept: it counts as a hit all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
    /// Whether they are gone only because a pack left them out, which holds what reports read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub packed: bool,
    /// Scalar results.
    pub metrics: BTreeMap<String, f64>,
    /// Where it came from; never part of the identity.
    pub provenance: Provenance,
    /// What the worker wrote.
    pub log: Log,
}

/// What the engine needs of a record: the index holds these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The node's identity.
    pub key: Hash,
    /// What it saved, by output name.
    pub outputs: BTreeMap<String, ArtifactRecord>,
    /// Whether the files of its outputs are gone on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
    /// Whether they are gone only because a pack left them out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub packed: bool,
    /// Scalar results.
    pub metrics: BTreeMap<String, f64>,
    /// The kind that computed it.
    pub kind: String,
    /// Where it came from.
    pub provenance: Provenance,
    /// The log's object, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<FileRecord>,
}

impl Summary {
    /// Every file of the store that the result consists of, the log left out.
    pub fn files(&self) -> impl Iterator<Item = &FileRecord> {
        self.outputs.values().flat_map(|artifact| &artifact.files)
    }

    /// Bytes of all outputs together.
    pub fn bytes(&self) -> u64 {
        self.outputs.values().map(ArtifactRecord::bytes).sum()
    }
}

/// What a worker wrote while it computed a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// The text itself.
    Text(String),
    /// An object, where it is long.
    Object(FileRecord),
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// They are not what was written.
    Damaged,
    /// A program of a later format wrote them.
    Newer(u32),
    /// A program of an earlier format wrote them.
    Older,
}

impl Record {
    /// The record as it stands on the disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        sealed::to_bytes(self)
    }

    /// Reads it back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|_| Unreadable::Damaged)?;
        if head.format > FORMAT {
            return Err(Unreadable::Newer(head.format));
        }
        if head.format < FORMAT {
            return Err(Unreadable::Older);
        }
        sealed::from_bytes(bytes).ok_or(Unreadable::Damaged)
    }

    /// What the engine needs of it.
    pub fn summary(&self) -> Summary {
        Summary {
            key: self.key,
            outputs: self.outputs.clone(),
            dropped: self.dropped,
            packed: self.packed,
            metrics: self.metrics.clone(),
            kind: self.kind.clone(),
            provenance: self.provenance.clone(),
            log: match &self.log {
                Log::Object(file) => Some(file.clone()),
                Log::Text(_) => None,
            },
        }
    }
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The run that computed it.
    pub run: String,
    /// The node's name in that run.
    pub node: String,
    /// When it started, in UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// Which attempt of the run it was, from 1.
    pub attempt: u32,
    /// Peak resident memory of the worker in bytes; absent where the system does not tell.
    pub peak_memory: Option<u64>,
    /// CPU threads it was given.
    pub threads: usize,
    /// The machine.
    pub host: String,
    /// The model of its processor.
    pub cpu: String,
    /// The GPUs that it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// The version of their driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// How equal two runs of the kind are: `bit`, `machine` or `external`.
    pub determinism: String,
    /// The version of this program.
    pub program: String,
    /// BLAKE3 of the program's binary.
    pub binary: Option<Hash>,
    /// The commit of the repository that holds the experiment.
    pub commit: Option<String>,
    /// Whether files of that repository differ from the commit.
    pub dirty: Option<bool>,
}

impl Provenance {
    /// The stage that the node was an instance of.
    pub fn stage(&self) -> &str {
        self.node.split('[').next().unwrap_or(&self.node)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record() -> Record {
        let file = FileRecord { path: "x.txt".into(), len: 3, hash: hash::bytes(b"abc") };
        Record {
            format: FORMAT,
            key: hash::bytes(b"key"),
            kind: "toy".into(),
            version: 1,
            parameters: serde_json::json!({ "rate": 0.1 }),
            inputs: BTreeMap::from([("@a".to_owned(), hash::bytes(b"a"))]),
            outputs: BTreeMap::from([("main".to_owned(), ArtifactRecord::new("text", vec![file]))]),
            dropped: false,
            packed: false,
            metrics: BTreeMap::from([("loss".to_owned(), 0.25)]),
            provenance: Provenance {
                run: "r".into(),
                node: "a[n=1]".into(),
                started: "2026-01-01T00:00:00Z".into(),
                seconds: 1.5,
                attempt: 1,
                peak_memory: None,
                threads: 1,
                host: "h".into(),
                cpu: "c".into(),
                gpus: Vec::new(),
                driver: None,
                determinism: "bit".into(),
                program: "0".into(),
                binary: None,
                commit: None,
                dirty: None,
            },
            log: Log::Text("said".into()),
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        let bytes = record().to_bytes();
        let back = Record::from_bytes(&bytes).unwrap();
        assert_eq!(back.summary(), record().summary());
        assert_eq!(back.summary().provenance.stage(), "a");
        for len in 0..bytes.len() {
            assert!(Record::from_bytes(&bytes[..len]).is_err(), "cut to {len} bytes");
        }
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(Record::from_bytes(&flipped).is_err(), "bit {at}");
        }
    }

    #[test]
    fn other_formats_are_told_apart() {
        for (format, expected) in
            [(1, Unreadable::Older), (FORMAT + 1, Unreadable::Newer(FORMAT + 1))]
        {
            let bytes = Record { format, ..record() }.to_bytes();
            assert_eq!(Record::from_bytes(&bytes).unwrap_err(), expected);
        }
        assert_eq!(
            Record::from_bytes(br#"{ "format": 9, "novel": true }"#).unwrap_err(),
            Unreadable::Newer(9)
        );
    }
}
