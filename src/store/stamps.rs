//! Content hashes of user data, remembered by what the file system says of each file.
//!
//! A file whose stamp (device, number, length, both times) is as it was when it was hashed is not read again, unless it
//! had been written so shortly before that another write could bear the same time: such a file is hashed until it is
//! old enough.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::files::{self, FileError, Stamp};
use super::hash::{self, Hash};

/// How much older than its hashing a file must be for its stamp to be trusted: more than any file system's clock is
/// coarse, or a server's is off.
const MARGIN: i128 = 10_000_000_000;

/// What is known of user data.
#[derive(Debug, Default)]
pub struct Stamps {
    path: Option<PathBuf>,
    known: BTreeMap<PathBuf, Known>,
    changed: bool,
    /// The content of data that need not be there.
    absent: BTreeMap<PathBuf, Hash>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Known {
    stamp: Stamp,
    hash: Hash,
    /// When hashing began, in nanoseconds since 1970.
    since: i128,
}

impl Known {
    /// Hashes a file that nobody writes to meanwhile.
    fn of(path: &Path) -> Result<Self, FileError> {
        loop {
            let since = files::now();
            let stamp = files::stamp(path)?;
            let (hash, _) = hash::file(path)?;
            if files::stamp(path)? == stamp {
                return Ok(Self { stamp, hash, since });
            }
        }
    }

    fn is_trusted(&self, stamp: &Stamp) -> bool {
        self.stamp == *stamp && stamp.modified.max(stamp.changed) + MARGIN < self.since
    }
}

impl Stamps {
    /// Reads what is remembered in a file; one that is damaged or not there counts as empty.
    pub fn open(path: &Path) -> Self {
        let text = files::read(path).unwrap_or_default();
        let known = read(&text).unwrap_or_default().into_iter().collect();
        Self { path: Some(path.to_path_buf()), known, ..Self::default() }
    }

    /// Takes data that are not there for what is said of them.
    #[must_use]
    pub fn with_absent(self, absent: BTreeMap<PathBuf, Hash>) -> Self {
        Self { absent, ..self }
    }

    /// Whether a file holds what was remembered in it.
    pub fn is_sound(path: &Path) -> bool {
        files::read(path).is_ok_and(|text| read(&text).is_some())
    }

    /// Hashes a file or folder as [`hash::data`] does.
    pub fn data(&mut self, path: &Path) -> Result<Hash, FileError> {
        if let Some(hash) = self.absent.get(path)
            && files::stamp(path).is_err_and(|error| error.is_absent())
        {
            return Ok(*hash);
        }
        if !path.is_dir() {
            return Ok(self.files(&[path.to_path_buf()])?[0].1);
        }
        let names = files::list(path)?;
        let paths: Vec<PathBuf> = names.iter().map(|name| path.join(name)).collect();
        let found = self.files(&paths)?;
        let entries = names.iter().zip(&found);
        Ok(hash::listing(entries.map(|(name, (len, hash))| (name.as_str(), *len, *hash))))
    }

    /// Length and hash of each file.
    fn files(&mut self, paths: &[PathBuf]) -> Result<Vec<(u64, Hash)>, FileError> {
        let known = &self.known;
        let look = |path: &PathBuf| -> Result<(Known, bool), FileError> {
            let stamp = files::plain_stamp(path)?;
            match known.get(path).filter(|known| known.is_trusted(&stamp)) {
                Some(known) => Ok((*known, false)),
                None => Known::of(path).map(|known| (known, true)),
            }
        };
        let found: Vec<(Known, bool)> = match paths {
            [path] => vec![look(path)?],
            _ => paths.par_iter().map(look).collect::<Result<_, _>>()?,
        };
        for (path, (known, new)) in paths.iter().zip(&found) {
            if *new {
                self.changed = true;
                self.known.insert(path.clone(), *known);
            }
        }
        Ok(found.iter().map(|(known, _)| (known.stamp.len, known.hash)).collect())
    }

    /// Writes what is remembered, if that is more than before and there is a store to hold it.
    pub fn save(&mut self) -> Result<(), FileError> {
        let Some(path) = self.path.as_deref().filter(|path| self.changed && has_folder(path))
        else {
            return Ok(());
        };
        // A path that is no text is hashed each time.
        let entries: Vec<_> =
            self.known.iter().filter(|(path, _)| path.to_str().is_some()).collect();
        let body =
            serde_json::to_vec(&entries).expect("stamps of paths that are text are plain data");
        let check = hash::bytes(&body).to_hex();
        files::replace(path, &[check.as_bytes(), &body].concat())?;
        self.changed = false;
        Ok(())
    }
}

/// Reads a file of stamps: the hash of the rest, then JSON.
fn read(text: &[u8]) -> Option<Vec<(PathBuf, Known)>> {
    let (check, body) = text.split_at_checked(64)?;
    let whole = hash::bytes(body).to_hex().as_bytes() == check;
    whole.then(|| serde_json::from_slice(body).ok()).flatten()
}

fn has_folder(path: &Path) -> bool {
    path.parent().is_some_and(Path::is_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with times in the past, as most data have.
    fn old(path: &Path, text: &str) {
        files::write(path, text.as_bytes()).unwrap();
    }

    #[test]
    fn folders_hash_as_without_memory() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        files::make_folder(&data.join("b")).unwrap();
        old(&data.join("a"), "1");
        old(&data.join("b/c"), "22");
        let mut stamps = Stamps::open(&folder.path().join("stamps"));
        for path in [&data, &data.join("a")] {
            assert_eq!(stamps.data(path).unwrap(), hash::data(path).unwrap());
        }
        assert!(stamps.data(&folder.path().join("none")).is_err());
    }

    #[test]
    fn only_a_file_older_than_its_hashing_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = (folder.path().join("x"), folder.path().join("stamps"));
        old(&path, "one");
        let stamp = files::stamp(&path).unwrap();
        let wrong = hash::bytes(b"not what is in the file");
        let right = hash::bytes(b"one");
        // Whether a remembered hash is believed, with hashing begun so long after the last write, and after a change.
        let believed = |since: i128, change: &dyn Fn(&mut Stamp)| {
            let mut stamp = stamp;
            change(&mut stamp);
            let known = BTreeMap::from([(path.clone(), Known { stamp, hash: wrong, since })]);
            let mut stamps =
                Stamps { path: Some(file.clone()), known, changed: true, ..Stamps::default() };
            stamps.save().unwrap();
            let found = Stamps::open(&file).data(&path).unwrap();
            assert!(found == wrong || found == right);
            found == wrong
        };
        let written = stamp.modified.max(stamp.changed);
        assert!(believed(written + 2 * MARGIN, &|_| ()));
        assert!(!believed(written + MARGIN / 2, &|_| ()), "too young");
        assert!(!believed(written - MARGIN, &|_| ()), "the clock went backwards");
        assert!(!believed(i128::MIN / 2, &|_| ()), "the clock stood before 1970");
        let changes: [&dyn Fn(&mut Stamp); 5] =
            [&|s| s.device += 1, &|s| s.inode += 1, &|s| s.len += 1, &|s| s.modified -= 1, &|s| {
                s.changed -= 1;
            }];
        for change in changes {
            assert!(!believed(written + 2 * MARGIN, change));
        }
    }

    #[test]
    fn a_path_that_is_no_text_is_left_out() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stamps");
        let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"x\xff"));
        old(&odd, "one");
        old(&folder.path().join("y"), "two");
        let mut stamps = Stamps::open(&file);
        for path in [&odd, &folder.path().join("y")] {
            stamps.data(path).unwrap();
        }
        stamps.save().unwrap();
        assert_eq!(read(&files::read(&file).unwrap()).unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_memory_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = (folder.path().join("x"), folder.path().join("stamps"));
        old(&path, "one");
        let mut stamps = Stamps::open(&file);
        stamps.data(&path).unwrap();
        stamps.save().unwrap();
        let whole = files::read(&file).unwrap();
        assert_eq!(read(&whole).unwrap().len(), 1);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes).is_none(), "bit {bit}");
        }
    }
}
