//! Results that are not to be kept: their files go when nothing needs them any more, and they still count as hits.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::files::{self, FileError};
use super::index::Index;
use super::{Hash, Store, Summary};

impl Store {
    /// Removes the files of a result and marks its record; yields what it is from then on, or `None` where it is not
    /// in this very store. Files that another result consists of stay: the ones that the index knows, and those `in_use`.
    pub fn release(
        &self,
        key: &Hash,
        in_use: &dyn Fn(&Hash) -> bool,
    ) -> Result<Option<Summary>, FileError> {
        let Ok(Some(mut record)) = self.record_here(key) else { return Ok(None) };
        record.dropped = true;
        let summary = record.summary();
        // The mark first: with it, files that are gone are meant to be.
        files::replace(&self.record_path(key), &record.to_bytes())?;
        Index::add(&self.index_path(), &[Arc::new(summary.clone())])?;
        let others = self.results();
        let others = others.iter().filter(|other| other.key != *key && !other.dropped);
        let named: BTreeSet<Hash> = others.flat_map(Summary::files).map(|f| f.hash).collect();
        for file in summary.files().filter(|file| !named.contains(&file.hash)) {
            if !in_use(&file.hash) {
                files::remove(&self.object_here(&file.hash))?;
            }
        }
        Ok(Some(summary))
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench;

    #[test]
    fn what_others_consist_of_stays() {
        let (_folder, store) = bench::store();
        let big = bench::put(&store, "big", &["only here", "shared", "in use"]);
        bench::put(&store, "other", &["shared"]);
        let files = big.outputs["main"].files.clone();
        let in_use = |hash: &super::Hash| *hash == files[2].hash;
        let summary = store.release(&big.key, &in_use).unwrap().unwrap();
        assert!(summary.dropped);
        let there: Vec<bool> = files.iter().map(|f| store.has(&f.hash, f.len)).collect();
        assert_eq!(there, [false, true, true]);
        // It is a hit still, for whoever looks at it anew as well.
        let fresh = super::Store::open(store.cache()).unwrap();
        assert_eq!(fresh.find(&big.key).unwrap(), Some(summary));
        assert_eq!(store.release(&bench::key("none"), &|_| false).unwrap(), None);
    }
}
