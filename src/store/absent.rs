//! Data that are elsewhere: what those held that a packed experiment reads, so that it can be planned without them.
//!
//! ```text
//! cache/v1/data/<experiment>    content hash by path, from the cache folder; sealed
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files;
use super::hash::Hash;
use super::{Store, sealed};

/// What data held, by path.
#[derive(Debug, Serialize, Deserialize)]
struct Absent {
    data: BTreeMap<String, Hash>,
}

/// The folder of these lists in a store.
pub(super) const FOLDER: &str = "data";

/// Writes a list; paths are from the folder that is to be the cache's.
pub(super) fn to_bytes(data: BTreeMap<String, Hash>) -> Vec<u8> {
    sealed::to_bytes(&Absent { data })
}

impl Store {
    /// The content of data that need not be there, by absolute path; lists that are damaged count for nothing.
    pub(super) fn absent(&self) -> BTreeMap<PathBuf, Hash> {
        let folder = self.root().join(FOLDER);
        let names = if folder.is_dir() { files::names(&folder) } else { Ok(Vec::new()) };
        let lists =
            names.unwrap_or_default().into_iter().filter_map(|name| read(&folder.join(name)));
        let place = |(path, hash): (String, Hash)| (self.cache().join(path), hash);
        lists.flat_map(|list| list.data).map(place).collect()
    }
}

fn read(path: &Path) -> Option<Absent> {
    sealed::from_bytes(&files::read(path).ok()?)
}
