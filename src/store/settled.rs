//! Experiments that are done: what was found when everything was there, so that the next look need not plan again.
//!
//! ```text
//! cache/v1/settled/<fingerprint>    hash of the rest · lengths of head and keys · head as JSON · keys · objects
//! ```
//!
//! The fingerprint covers all that planning reads but the user's data and the files that the experiment extends: its text,
//! what is laid over it, where it lies, and the program. Those files, the data, the records and the objects are looked for each time; whether an object is
//! what its name says is looked at before anything reads it.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::files::{self, FileError};
use super::hash::{self, Hash};
use super::stamps::Stamps;
use super::{Store, Summary};

/// What was found when an experiment had all its results and reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What does not grow with the number of nodes.
    pub head: Head,
    /// The record of every node, each once.
    keys: Vec<Hash>,
    /// Every object that the results consist of, each once, with its length.
    objects: Vec<(Hash, u64)>,
}

/// What does not grow with the number of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The experiment's name.
    pub experiment: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// The set of keys by node name.
    pub set: Hash,
    /// The user's data and the extended files that were read, each with its content.
    pub data: Vec<(PathBuf, Hash)>,
    /// The files of the reports, each with its content.
    pub reports: Vec<(PathBuf, Hash)>,
    /// What is said of the reports.
    pub words: String,
}

impl Settled {
    /// Notes that these results are there.
    pub fn new<'a>(head: Head, results: impl Iterator<Item = &'a Summary> + Clone) -> Self {
        let mut keys: Vec<Hash> = results.clone().map(|result| result.key).collect();
        let whole = results.filter(|result| !result.dropped);
        let mut objects: Vec<(Hash, u64)> =
            whole.flat_map(Summary::files).map(|file| (file.hash, file.len)).collect();
        keys.sort_unstable();
        keys.dedup();
        objects.sort_unstable();
        objects.dedup();
        Self { head, keys, objects }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let head = serde_json::to_vec(&self.head).expect("a head is plain data");
        let mut body = Vec::new();
        for number in [head.len(), self.keys.len()] {
            body.extend_from_slice(&(number as u64).to_le_bytes());
        }
        body.extend_from_slice(&head);
        for key in &self.keys {
            body.extend_from_slice(key.as_bytes());
        }
        for (hash, len) in &self.objects {
            body.extend_from_slice(hash.as_bytes());
            body.extend_from_slice(&len.to_le_bytes());
        }
        [hash::bytes(&body).as_bytes().as_slice(), &body].concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (check, body) = bytes.split_at_checked(32)?;
        if hash::bytes(body).as_bytes() != check {
            return None;
        }
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let (lengths, rest) = body.split_at_checked(16)?;
        let (head, keys) = (number(&lengths[..8]) as usize, number(&lengths[8..]) as usize);
        let (head, rest) = rest.split_at_checked(head)?;
        let (keys, objects) = rest.split_at_checked(keys.checked_mul(32)?)?;
        if !objects.len().is_multiple_of(40) {
            return None;
        }
        let hash = |bytes: &[u8]| Hash::from_bytes(bytes.try_into().expect("thirty-two bytes"));
        Some(Self {
            head: serde_json::from_slice(head).ok()?,
            keys: keys.chunks_exact(32).map(hash).collect(),
            objects: objects.chunks_exact(40).map(|o| (hash(&o[..32]), number(&o[32..]))).collect(),
        })
    }
}

impl Store {
    fn settled_path(&self, fingerprint: &Hash) -> PathBuf {
        self.root().join("settled").join(fingerprint.to_hex())
    }

    /// Notes that an experiment is done. It saves time and nothing else, so it need not be synced.
    pub fn settle(&self, fingerprint: &Hash, settled: &Settled) -> Result<(), FileError> {
        files::replace(&self.settled_path(fingerprint), &settled.to_bytes())
    }

    /// What was noted of an experiment, if all of it is still true.
    pub fn settled(&self, fingerprint: &Hash, stamps: &mut Stamps) -> Option<Settled> {
        let bytes = files::read(&self.settled_path(fingerprint)).ok()?;
        let settled = Settled::from_bytes(&bytes)?;
        let same = |(path, hash): &(PathBuf, Hash)| stamps.data(path).is_ok_and(|h| h == *hash);
        if !settled.head.data.iter().all(same) {
            return None;
        }
        let written = |(path, hash): &(PathBuf, Hash)| written(path, hash);
        if !settled.head.reports.iter().all(written) {
            return None;
        }
        let there = self.has_records(&settled.keys) && self.has_objects(&settled.objects);
        there.then_some(settled)
    }

    /// Whether there are records of these keys, which are sorted.
    fn has_records(&self, keys: &[Hash]) -> bool {
        let shards: Vec<&[Hash]> =
            keys.chunk_by(|a, b| a.as_bytes()[0] == b.as_bytes()[0]).collect();
        shards.par_iter().all(|shard| {
            let names: Vec<String> = shard.iter().map(|key| key.to_hex() + ".json").collect();
            let here = self.root().join("nodes").join(&names[0][..2]);
            files::are_there(&here, &names)
                || !self.lower.is_empty() && shard.iter().all(|key| self.has_record(key))
        })
    }

    /// Whether there are these objects, as far as their lengths tell.
    fn has_objects(&self, objects: &[(Hash, u64)]) -> bool {
        objects.par_chunks(256).all(|some| some.iter().all(|(hash, len)| self.has(hash, *len)))
    }
}

fn written(path: &Path, hash: &Hash) -> bool {
    files::read(path).is_ok_and(|bytes| hash::bytes(&bytes) == *hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_whole_or_not_at_all() {
        let head = Head {
            experiment: "x".into(),
            nodes: 2,
            set: hash::bytes(b"set"),
            data: vec![("/d".into(), hash::bytes(b"d"))],
            reports: Vec::new(),
            words: "up to date".into(),
        };
        let keys = vec![hash::bytes(b"1"), hash::bytes(b"2")];
        let settled = Settled { head, keys, objects: vec![(hash::bytes(b"o"), 3)] };
        let bytes = settled.to_bytes();
        assert_eq!(Settled::from_bytes(&bytes), Some(settled));
        for len in 0..bytes.len() {
            assert_eq!(Settled::from_bytes(&bytes[..len]), None);
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Settled::from_bytes(&flipped), None, "bit {bit}");
        }
    }
}
