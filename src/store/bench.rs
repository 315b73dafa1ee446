//! Small stores for tests.

use std::path::Path;

use tempfile::TempDir;

use super::record::tests::record;
use super::{ArtifactRecord, Hash, Record, Store, files, hash};

/// A store in a folder of its own.
pub(crate) fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    (folder, store)
}

/// The key of a node.
pub(crate) fn key(node: &str) -> Hash {
    hash::bytes(node.as_bytes())
}

/// The record of a node that left one file for each text.
pub(crate) fn result(store: &Store, node: &str, texts: &[&str]) -> Record {
    let folder = store.root().join("scratch/bench");
    for (number, text) in texts.iter().enumerate() {
        files::make_folder(&folder).unwrap();
        files::write(&folder.join(number.to_string()), text.as_bytes()).unwrap();
    }
    let artifact = match texts {
        [] => ArtifactRecord::new("text", Vec::new()),
        _ => store.take_folder(&folder, "text").unwrap(),
    };
    let mut record = Record { key: key(node), ..record() };
    record.outputs.insert("main".to_owned(), artifact);
    node.clone_into(&mut record.provenance.node);
    record
}

/// Puts a result into a store.
pub(crate) fn put(store: &Store, node: &str, texts: &[&str]) -> Record {
    let record = result(store, node, texts);
    commit(store, &record);
    record
}

/// Commits a record.
pub(crate) fn commit(store: &Store, record: &Record) {
    store.commit(&[record], &|_| true).unwrap().pop().unwrap().unwrap();
}

/// Changes one bit of a file, in place.
pub(crate) fn flip(path: &Path) {
    let mut bytes = files::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    files::remove(path).unwrap();
    files::write(path, &bytes).unwrap();
}

/// Every file under a folder, with its bytes.
pub(crate) fn everything(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let names = files::list(folder).unwrap();
    names.into_iter().map(|name| (name.clone(), files::read(&folder.join(name)).unwrap())).collect()
}

/// Waits until the file system's clock has moved on.
pub(crate) fn rest() {
    std::thread::sleep(std::time::Duration::from_millis(30));
}

/// Makes a file look as if it had been written hours ago.
pub(crate) fn age(path: &Path, hours: u64) {
    let then = std::time::SystemTime::now() - std::time::Duration::from_hours(hours);
    std::fs::File::open(path).unwrap().set_modified(then).unwrap();
}
