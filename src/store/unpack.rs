//! Packs checked as they are, without unpacking them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use super::files::{self, FileError};
use super::hash::{self, Hash};
use super::pack::{Content, FORMAT, MANIFEST, Manifest};
use super::record::{Record, Unreadable};
use super::sealed;

/// What came of checking a pack.
#[derive(Debug, Default)]
pub struct Checked {
    /// What it says is in it.
    pub manifest: Option<Manifest>,
    /// How many files were read.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, in words.
    pub problems: Vec<String>,
    /// The bytes of the files that were asked for.
    pub texts: BTreeMap<String, Vec<u8>>,
}

/// Reads a pack and compares every file with what it is to be; `done` is told of each piece, in bytes, and the bytes of
/// the files whose paths `keep` wants are kept.
pub fn check(
    path: &Path,
    keep: &dyn Fn(&str) -> bool,
    done: &dyn Fn(u64),
) -> Result<Checked, FileError> {
    let mut checked = Checked::default();
    let mut archive = tar::Archive::new(files::open(path)?);
    let mut seen = Seen::default();
    let read = archive
        .entries()
        .and_then(|mut entries| entries.try_for_each(|entry| read(entry?, &mut seen, keep, done)));
    if let Err(error) = read {
        checked.problems.push(format!("the archive cannot be read to its end: {error}"));
    }
    checked.files = seen.contents.len();
    checked.bytes = seen.contents.values().map(|content| content.len).sum();
    let manifest = match seen.texts.remove(MANIFEST).map(|text| manifest(&text)) {
        Some(Ok(manifest)) => manifest,
        Some(Err(words)) => {
            checked.problems.push(words);
            return Ok(checked);
        }
        None => {
            checked.problems.push(format!("it is no pack: there is no {MANIFEST} in it"));
            return Ok(checked);
        }
    };
    seen.contents.remove(MANIFEST);
    checked.problems.extend(compare(&manifest, &seen));
    checked.problems.extend(results(&manifest, &seen));
    checked.texts = seen.texts;
    checked.texts.retain(|path, _| keep(path));
    checked.manifest = Some(manifest);
    Ok(checked)
}

/// What was found in an archive.
#[derive(Default)]
struct Seen {
    contents: BTreeMap<String, Content>,
    twice: BTreeSet<String>,
    texts: BTreeMap<String, Vec<u8>>,
}

fn read(
    mut entry: tar::Entry<'_, impl Read>,
    seen: &mut Seen,
    keep: &dyn Fn(&str) -> bool,
    done: &dyn Fn(u64),
) -> std::io::Result<()> {
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let is_text = |folder: &str| path.starts_with(&format!("v1/{folder}/"));
    let keep = path == MANIFEST || is_text("nodes") || is_text("sets") || keep(&path);
    let (mut hasher, mut text) = (hash::Hasher::default(), Vec::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = entry.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.add(&buffer[..count]);
        done(count as u64);
        if keep {
            text.extend_from_slice(&buffer[..count]);
        }
    }
    if keep {
        seen.texts.insert(path.clone(), text);
    }
    let (hash, len) = hasher.finish();
    // Anything but a plain file has no bytes, and so is not what the manifest says.
    if seen.contents.insert(path.clone(), Content { len, hash }).is_some() {
        seen.twice.insert(path);
    }
    Ok(())
}

fn manifest(text: &[u8]) -> Result<Manifest, String> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: u32,
    }
    match serde_json::from_slice::<Head>(text) {
        Ok(head) if head.format > FORMAT => Err(format!(
            "it was written by a later version of wavecrest (format {}; this one reads up to {FORMAT})",
            head.format
        )),
        _ => sealed::from_bytes(text).ok_or_else(|| format!("{MANIFEST} is damaged")),
    }
}

/// Compares the files with what the manifest says of them.
fn compare(manifest: &Manifest, seen: &Seen) -> Vec<String> {
    let mut problems: Vec<String> =
        seen.twice.iter().map(|path| format!("{path} is there twice")).collect();
    for (path, content) in &manifest.files {
        match seen.contents.get(path) {
            None => problems.push(format!("{path} is missing")),
            Some(found) if found != content => problems.push(format!("{path} is damaged")),
            Some(_) => (),
        }
    }
    let stray = |path: &&String| !manifest.files.contains_key(*path);
    problems
        .extend(seen.contents.keys().filter(stray).map(|p| format!("{p} does not belong to it")));
    problems
}

/// Compares the results with each other: the set with the records, and these with the objects.
fn results(manifest: &Manifest, seen: &Seen) -> Vec<String> {
    let (mut problems, mut records) = (Vec::new(), BTreeMap::new());
    for (path, text) in seen.texts.iter().filter(|(path, _)| path.starts_with("v1/nodes/")) {
        let name = path.rsplit('/').next().and_then(|name| name.strip_suffix(".json"));
        match Record::from_bytes(text) {
            Ok(record) if name == Some(record.key.to_hex().as_str()) => {
                records.insert(record.key, record);
            }
            Err(Unreadable::Newer(format)) => {
                problems.push(format!("{path} is of a later format ({format})"));
            }
            Ok(_) | Err(Unreadable::Damaged | Unreadable::Older) => {
                problems.push(format!("{path} is no record"));
            }
        }
    }
    let has = |hash: &Hash, len: u64| {
        let hex = hash.to_hex();
        let path = format!("v1/objects/{}/{hex}", &hex[..2]);
        seen.contents.get(&path).is_some_and(|c| (c.hash, c.len) == (*hash, len))
    };
    for record in records.values().filter(|record| !record.dropped) {
        if !record.summary().files().all(|file| has(&file.hash, file.len)) {
            problems.push(format!("the result of `{}` lacks files", record.provenance.node));
        }
    }
    let set = seen.texts.get(&format!("v1/sets/{}", manifest.set.to_hex()));
    let set = set.filter(|text| hash::bytes(text) == manifest.set);
    let nodes: Option<BTreeMap<String, Hash>> =
        set.and_then(|text| serde_json::from_slice(text).ok());
    match nodes {
        None => problems.push("the set of results is damaged".to_owned()),
        Some(nodes) => problems.extend(
            nodes
                .iter()
                .filter(|(_, key)| !records.contains_key(*key))
                .map(|(node, _)| format!("the result of `{node}` is missing")),
        ),
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::bench::{put, store};
    use super::super::pack::{Pack, PackError, Wanted};
    use super::*;
    use crate::store::Store;

    /// A pack of two results, of which one has all its files and the other some.
    fn packed(store: &Store) -> Pack {
        let nodes = ["a", "b"].map(|node| (node.to_owned(), super::super::bench::key(node)));
        let mut pack = Pack::new("x", "x.toml", &[]);
        pack.add("x.toml", b"[experiment]".to_vec());
        let wanted = |node: &str| match node {
            "a" => Wanted::Outputs(vec!["main".to_owned()]),
            _ => Wanted::Outputs(Vec::new()),
        };
        pack.add_results(store, &BTreeMap::from(nodes), &wanted).unwrap();
        pack
    }

    fn problems(path: &Path) -> Vec<String> {
        check(path, &|_| false, &|_| ()).unwrap().problems
    }

    #[test]
    fn a_pack_is_the_same_each_time_and_every_flipped_bit_of_a_file_is_found() {
        let (folder, store) = store();
        put(&store, "a", &["one", "two"]);
        put(&store, "b", &["three"]);
        let path = folder.path().join("x.tar");
        packed(&store).write(&path, &|_| ()).unwrap();
        assert_eq!(problems(&path), Vec::<String>::new());
        let whole = files::read(&path).unwrap();
        packed(&store).write(&path, &|_| ()).unwrap();
        assert_eq!(files::read(&path).unwrap(), whole);
        let text = String::from_utf8_lossy(&whole).into_owned();
        assert!(text.contains("one") && text.contains("two") && !text.contains("three"));
        // Between the end of a file and the next header there are zeros that nobody reads.
        let mut unread = 0;
        for at in (0..whole.len()).step_by(37) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            files::write(&path, &flipped).unwrap();
            if problems(&path).is_empty() {
                assert_eq!(whole[at], 0, "byte {at}");
                unread += 1;
            }
        }
        assert!(unread < whole.len() / 37);
        // The two blocks of zeros at the end say that there is nothing more; what is before them has to be there.
        for len in (0..whole.len() - 1024).step_by(501) {
            files::write(&path, &whole[..len]).unwrap();
            assert!(!problems(&path).is_empty(), "cut to {len} bytes");
        }
    }

    #[test]
    fn what_is_damaged_is_not_packed() {
        let (folder, store) = store();
        let record = put(&store, "a", &["one"]);
        put(&store, "b", &["three"]);
        let pack = packed(&store);
        super::super::bench::flip(&store.object(&record.outputs["main"].files[0].hash));
        let path = folder.path().join("x.tar");
        assert!(matches!(pack.write(&path, &|_| ()), Err(PackError::Changed(_))));
        assert!(!path.exists());
        assert_eq!(files::list(folder.path()).unwrap().len(), 5, "nothing half written is left");
    }
}
