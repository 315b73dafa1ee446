//! Content hashes: BLAKE3 of bytes, files and folders.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::files::{self, FileError};

/// A BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash as bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A hash from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A hash from its 64 hexadecimal digits.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(Self::from)
    }

    /// The hash as 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The first digits, as people quote them.
    pub fn short(&self) -> String {
        self.to_hex()[..12].to_owned()
    }
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        blake3::Hash::from_hex(&text).map(Self::from).map_err(de::Error::custom)
    }
}

/// Hashes bytes.
pub fn bytes(bytes: &[u8]) -> Hash {
    blake3::hash(bytes).into()
}

/// Hashes a file (memory-mapped, in parallel where it is large) and yields its length too.
pub fn file(path: &Path) -> Result<(Hash, u64), FileError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap_rayon(path).map_err(|e| FileError::new("hash", path, e))?;
    Ok((hasher.finalize().into(), hasher.count()))
}

/// A hash of bytes that come in pieces.
#[derive(Debug, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Adds a piece; a large one is hashed on several threads.
    pub fn add(&mut self, piece: &[u8]) {
        const LARGE: usize = 1 << 20;
        if piece.len() >= LARGE {
            self.0.update_rayon(piece);
        } else {
            self.0.update(piece);
        }
    }

    /// The hash and the length of all pieces.
    pub fn finish(&self) -> (Hash, u64) {
        (self.0.finalize().into(), self.0.count())
    }
}

/// Hashes a file by reading it: where the disk cannot be read that is an error, and not the end of the process as it is
/// for a file that is mapped. `done` is told of each piece.
pub fn by_reading(path: &Path, done: &dyn Fn(u64)) -> Result<(Hash, u64), FileError> {
    let mut hasher = Hasher::default();
    files::read_pieces(path, &mut |piece| {
        hasher.add(piece);
        done(piece.len() as u64);
    })?;
    Ok(hasher.finish())
}

/// Whether a file can be read and has a hash.
pub fn is(path: &Path, hash: &Hash) -> bool {
    by_reading(path, &|_| ()).is_ok_and(|(found, _)| found == *hash)
}

/// Hashes user data: a file by its bytes, a folder by the sorted paths, lengths and hashes of its files.
pub fn data(path: &Path) -> Result<Hash, FileError> {
    if !path.is_dir() {
        return Ok(file(path)?.0);
    }
    let mut entries = Vec::new();
    for name in files::list(path)? {
        let (hash, len) = file(&path.join(&name))?;
        entries.push((name, len, hash));
    }
    Ok(listing(entries.iter().map(|(name, len, hash)| (name.as_str(), *len, *hash))))
}

/// Hashes a folder's listing; the entries come sorted by path.
pub fn listing<'a>(entries: impl Iterator<Item = (&'a str, u64, Hash)>) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key("wavecrest folder v1");
    for (path, len, hash) in entries {
        hasher.update(&(path.len() as u64).to_le_bytes()).update(path.as_bytes());
        hasher.update(&len.to_le_bytes()).update(hash.as_bytes());
    }
    hasher.finalize().into()
}
