//! Everything that lies in a store, as it is on the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::files::{self, Entry, FileError, Stamp};
use super::hash::Hash;
use super::record::{Record, Summary, Unreadable};
use super::{NewerFormat, Store};

/// Everything that lies in a store.
#[derive(Debug, Default)]
pub struct Survey {
    /// The results whose records can be read, sorted by key.
    pub results: Vec<Found>,
    /// The records that cannot, and why.
    pub unreadable: Vec<(PathBuf, Unreadable)>,
    /// The objects by hash, with what the file system says of each.
    pub objects: BTreeMap<Hash, Stamp>,
    /// Files among them that are neither.
    pub strays: Vec<PathBuf>,
}

/// A result, and what the file system says of its record.
#[derive(Clone, Debug)]
pub struct Found {
    /// What the record says.
    pub summary: Summary,
    /// What the file system says of it.
    pub stamp: Stamp,
}

impl Survey {
    /// Fails where a record can be read by a later version only: nobody knows which objects it names.
    pub fn refuse_newer(&self) -> Result<(), NewerFormat> {
        let newer = self.unreadable.iter().find_map(|(path, why)| match why {
            Unreadable::Newer(format) => Some(NewerFormat { path: path.clone(), format: *format }),
            Unreadable::Damaged | Unreadable::Older => None,
        });
        newer.map_or(Ok(()), Err)
    }

    /// Bytes of all objects together.
    pub fn bytes(&self) -> u64 {
        self.objects.values().map(|stamp| stamp.len).sum()
    }
}

/// What one folder of records or objects holds.
enum Item {
    Result(Box<Found>),
    Unreadable(PathBuf, Unreadable),
    Object(Hash, Stamp),
    Stray(PathBuf),
}

impl Store {
    /// Reads every record and looks at every object. The records come first: the objects of a result that is committed
    /// meanwhile are seen.
    pub fn scan(&self) -> Result<Survey, FileError> {
        let mut survey = Survey::default();
        let records = self.shards("nodes", &|path, entry| {
            let name = entry.name.strip_suffix(".json").and_then(|name| hex_in(name, path));
            name.map(|key| read(path, &key, entry.stamp))
        })?;
        let objects = self.shards("objects", &|path, entry| {
            hex_in(&entry.name, path).map(|hash| Some(Item::Object(hash, entry.stamp)))
        })?;
        for item in records.into_iter().chain(objects) {
            match item {
                Item::Result(found) => survey.results.push(*found),
                Item::Unreadable(path, why) => survey.unreadable.push((path, why)),
                Item::Object(hash, stamp) => drop(survey.objects.insert(hash, stamp)),
                Item::Stray(path) => survey.strays.push(path),
            }
        }
        survey.results.sort_by_key(|found| found.summary.key);
        Ok(survey)
    }

    /// Looks at every file two folders down; `look` yields nothing for a name that does not belong there, and
    /// `Some(None)` for a file that is gone.
    fn shards(
        &self,
        folder: &str,
        look: &(dyn Fn(&Path, &Entry) -> Option<Option<Item>> + Sync),
    ) -> Result<Vec<Item>, FileError> {
        let folder = self.root().join(folder);
        let shards = files::entries(&folder)?;
        let items = |shard: &Entry| -> Result<Vec<Item>, FileError> {
            let at = folder.join(&shard.name);
            if !shard.is_folder {
                return Ok(vec![Item::Stray(at)]);
            }
            let item = |entry: &Entry| {
                let path = at.join(&entry.name);
                let known = if entry.is_folder { None } else { look(&path, entry) };
                known.unwrap_or(Some(Item::Stray(path)))
            };
            Ok(files::entries(&at)?.iter().filter_map(item).collect())
        };
        let items: Vec<Vec<Item>> = shards.par_iter().map(items).collect::<Result<_, _>>()?;
        Ok(items.into_iter().flatten().collect())
    }
}

/// The hash that a file's name says, if it lies in the folder that its first digits name.
fn hex_in(name: &str, path: &Path) -> Option<Hash> {
    let hash = Hash::from_hex(name.as_bytes()).filter(|hash| hash.to_hex() == name)?;
    let shard = path.parent()?.file_name()?.to_str()?;
    (shard == &name[..2]).then_some(hash)
}

/// Reads a record; `None` where it is gone.
fn read(path: &Path, key: &Hash, stamp: Stamp) -> Option<Item> {
    let damaged = || Item::Unreadable(path.to_path_buf(), Unreadable::Damaged);
    let bytes = match files::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.is_absent() => return None,
        Err(_) => return Some(damaged()),
    };
    Some(match Record::from_bytes(&bytes) {
        Ok(record) if record.key == *key => {
            Item::Result(Box::new(Found { summary: record.summary(), stamp }))
        }
        Ok(_) => damaged(),
        Err(why) => Item::Unreadable(path.to_path_buf(), why),
    })
}

#[cfg(test)]
mod tests {
    use super::super::bench::{flip, key, put, store};
    use super::*;

    #[test]
    fn everything_is_seen_and_told_apart() {
        let (_folder, store) = store();
        assert!(store.scan().unwrap().results.is_empty());
        put(&store, "a", &["one", "two"]);
        put(&store, "b", &["one"]);
        put(&store, "c", &[]);
        flip(&store.record_path(&key("b")));
        let strays = ["objects/.new-1", "objects/aa/x", "nodes/aa/.new-2"].map(|name| {
            let path = store.root().join(name);
            files::make_folder(path.parent().unwrap()).unwrap();
            files::write(&path, b"").unwrap();
            path
        });
        let survey = store.scan().unwrap();
        let mut keys: Vec<Hash> = ["a", "c"].map(key).to_vec();
        keys.sort_unstable();
        let found: Vec<Hash> = survey.results.iter().map(|found| found.summary.key).collect();
        assert_eq!(found, keys);
        assert_eq!(survey.unreadable.len(), 1);
        assert_eq!((survey.objects.len(), survey.bytes()), (2, 6));
        assert_eq!(survey.strays.len(), strays.len());
        assert!(strays.iter().all(|path| survey.strays.contains(path)));
    }
}
