//! Integrity: everything in a store read again and compared with what it is to be.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::files::{self, FileError};
use super::hash::{self, Hash};
use super::index::Index;
use super::pins::Pin;
use super::record::{Summary, Unreadable};
use super::runs::Run;
use super::settled::Settled;
use super::stamps::Stamps;
use super::survey::{Found, Survey};
use super::tiers::shown;
use super::{NewerFormat, Store, sealed};

/// What came of looking at everything.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// Objects that were read.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Records that were read.
    pub records: usize,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Files that killed processes left unfinished, and their bytes.
    pub leftovers: Vec<Leftover>,
    /// Files that do not belong there.
    pub strays: Vec<PathBuf>,
}

/// A file that a killed process left unfinished, and its length.
pub type Leftover = (PathBuf, u64);

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is.
    pub what: What,
    /// Where it lies.
    pub path: PathBuf,
    /// What is wrong.
    pub words: String,
}

/// What a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The bytes of an object are not what its name says.
    Object,
    /// A record cannot be read.
    Record,
    /// Objects that a record names are gone.
    Result,
    /// The results of a run are damaged.
    Set,
    /// The record of a run is damaged.
    Run,
    /// A pin is damaged, or the set that it names is gone.
    Pin,
    /// The note of an experiment that is done is damaged.
    Settled,
    /// The index is not what the records say.
    Index,
    /// The memory of user data is damaged.
    Stamps,
    /// Only a later version can read a record: it is left alone.
    Newer,
}

/// An unfinished file that is older belongs to nobody any more, in nanoseconds.
pub(super) const UNFINISHED: i128 = 24 * 60 * 60 * 1_000_000_000;

impl Store {
    /// Reads everything again; `done` is told of each piece of an object that was read, in bytes.
    pub fn verify(
        &self,
        survey: &Survey,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<Verified, FileError> {
        let sound = self.sound_objects(survey, done);
        let mut problems = damaged_objects(self, survey, &sound);
        problems.extend(survey.unreadable.iter().filter_map(unreadable));
        problems.extend(survey.results.iter().filter_map(|found| self.lost(found, &sound)));
        problems.extend(self.lists("sets", What::Set, &|name, bytes| {
            Hash::from_hex(name.as_bytes()).is_some_and(|hash| hash == hash::bytes(bytes))
        })?);
        problems.extend(
            self.lists("settled", What::Settled, &|_, bytes| Settled::from_bytes(bytes).is_some())?,
        );
        problems.extend(self.lists("pins", What::Pin, &|_, bytes| {
            let pin: Option<Pin> = sealed::from_bytes(bytes);
            pin.is_some_and(|pin| self.read_set(&pin.set).is_some())
        })?);
        problems.extend(self.damaged_runs()?);
        problems.extend(self.damaged_memories(&survey.results));
        problems.sort_by(|a, b| (a.what, &a.path).cmp(&(b.what, &b.path)));
        let (leftovers, strays) = self.remains(survey, files::now())?;
        Ok(Verified {
            objects: survey.objects.len(),
            bytes: survey.bytes(),
            records: survey.results.len() + survey.unreadable.len(),
            problems,
            leftovers,
            strays,
        })
    }

    /// Hashes every object; yields those whose bytes are what their names say.
    fn sound_objects(&self, survey: &Survey, done: &(dyn Fn(u64) + Sync)) -> BTreeMap<Hash, u64> {
        let sound = |(hash, _): (&Hash, &_)| {
            let read = hash::by_reading(&self.object_here(hash), done);
            let (found, len) = read.ok()?;
            (found == *hash).then_some((*hash, len))
        };
        survey.objects.par_iter().filter_map(sound).collect()
    }

    /// Whether a result lacks objects, and has not been removed or completed meanwhile.
    fn lost(&self, found: &Found, sound: &BTreeMap<Hash, u64>) -> Option<Problem> {
        let summary = &found.summary;
        let path = self.record_path(&summary.key);
        let lacks = |file: &&super::FileRecord| sound.get(&file.hash) != Some(&file.len);
        let lacking: Vec<_> = summary.files().filter(lacks).collect();
        // One that is there all the same is damaged, or came after the survey.
        let came =
            |hash: &Hash| !sound.contains_key(hash) && hash::is(&self.object_here(hash), hash);
        let lost = lacking.iter().filter(|file| !came(&file.hash)).count();
        if summary.dropped || lost == 0 || files::length(&path).is_err() {
            return None;
        }
        let of = summary.files().count();
        let words = format!("the result of `{}` lacks {lost} of {of} files", name(summary));
        Some(Problem { what: What::Result, path, words })
    }

    /// The damaged files of a folder in which `is_sound` tells them by name and bytes.
    fn lists(
        &self,
        folder: &str,
        what: What,
        is_sound: &(dyn Fn(&str, &[u8]) -> bool + Sync),
    ) -> Result<Vec<Problem>, FileError> {
        let folder = self.root().join(folder);
        let entries = files::entries(&folder)?;
        let damaged = |entry: &files::Entry| {
            let path = folder.join(&entry.name);
            let sound = entry.name.starts_with(files::FRESH)
                || files::read(&path).map_or_else(|e| e.is_absent(), |b| is_sound(&entry.name, &b));
            let words = match what {
                What::Pin => format!("the pin `{}` is damaged, or what it names is", entry.name),
                What::Set => format!("the set {} is damaged", shown(&path)),
                _ => format!("the note {} of what is done is damaged", shown(&path)),
            };
            (!sound).then_some(Problem { what, path, words })
        };
        Ok(entries.par_iter().filter_map(damaged).collect())
    }

    fn damaged_runs(&self) -> Result<Vec<Problem>, FileError> {
        let damaged = |id: &String| {
            let path = self.run_path(id);
            let bytes = files::read(&path);
            let sound = bytes.map_or_else(
                |error| error.is_absent(),
                |b| sealed::from_bytes::<Run>(&b).is_some(),
            );
            let words = format!("the record of the run {id} is damaged");
            (!sound).then_some(Problem { what: What::Run, path, words })
        };
        let ids = files::folders(&self.root().join("runs"))?;
        Ok(ids.par_iter().filter_map(damaged).collect())
    }

    /// The index and the hashes of user data: of both the loss costs time only.
    fn damaged_memories(&self, results: &[Found]) -> Vec<Problem> {
        let mut problems = Vec::new();
        let path = self.index_path();
        let index = Index::open(&path);
        let differs = |found: &&Found| {
            index.get(&found.summary.key).is_some_and(|known| known != found.summary)
        };
        let wrong = index.damaged() + results.iter().filter(differs).count();
        if wrong > 0 {
            let lines = if wrong == 1 { "line" } else { "lines" };
            let words = format!("the index is damaged in {wrong} {lines}");
            problems.push(Problem { what: What::Index, path, words });
        }
        let path = self.root().join("stamps");
        if files::length(&path).is_ok() && !Stamps::is_sound(&path) {
            let words = "the memory of user data is damaged".to_owned();
            problems.push(Problem { what: What::Stamps, path, words });
        }
        problems
    }

    /// Files that killed processes left unfinished, with their bytes, and those that do not belong there.
    pub(super) fn remains(
        &self,
        survey: &Survey,
        now: i128,
    ) -> Result<(Vec<Leftover>, Vec<PathBuf>), FileError> {
        let is_fresh = |path: &Path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(files::FRESH))
        };
        let (mut leftovers, mut strays) = (Vec::new(), Vec::new());
        let mut look = |path: PathBuf, stamp: files::Stamp| {
            if is_fresh(&path) && stamp.changed < now - UNFINISHED {
                leftovers.push((path, stamp.len));
            }
        };
        for path in &survey.strays {
            match files::stamp(path) {
                Ok(stamp) if is_fresh(path) => look(path.clone(), stamp),
                Ok(_) => strays.push(path.clone()),
                Err(_) => (),
            }
        }
        let root = self.root();
        let mut folders = vec![root.to_path_buf()];
        folders.extend(["sets", "settled", "pins"].map(|folder| root.join(folder)));
        for folder in ["runs", "leases"] {
            let folder = root.join(folder);
            folders.extend(files::folders(&folder)?.iter().map(|name| folder.join(name)));
        }
        for folder in folders {
            for entry in files::entries(&folder)?.into_iter().filter(|entry| !entry.is_folder) {
                look(folder.join(&entry.name), entry.stamp);
            }
        }
        Ok((leftovers, strays))
    }

    /// Puts aside what is damaged, removes the records of results that lack objects, so that they are computed again,
    /// and what killed processes left unfinished, and writes the index anew. What was mended meanwhile stays.
    pub fn repair(&self, verified: &Verified) -> Result<(), FileError> {
        for Problem { what, path, .. } in &verified.problems {
            match what {
                What::Object => self.put_object_aside(path)?,
                What::Record | What::Set | What::Pin => drop(self.move_aside(path)?),
                What::Run => self.put_run_aside(path)?,
                What::Result | What::Settled | What::Stamps => files::remove(path)?,
                What::Index | What::Newer => (),
            }
        }
        verified.leftovers.iter().try_for_each(|(path, _)| files::remove(path))?;
        if verified.problems.is_empty() { Ok(()) } else { self.rewrite_index(self.scan()?) }
    }

    fn put_object_aside(&self, path: &Path) -> Result<(), FileError> {
        let name = path.file_name().map(OsStr::as_encoded_bytes).and_then(Hash::from_hex);
        if name.is_some_and(|hash| hash::is(path, &hash)) {
            return Ok(());
        }
        self.move_aside(path).map(drop)
    }

    /// Every record of a run has the same name: the one put aside takes that of its run.
    fn put_run_aside(&self, path: &Path) -> Result<(), FileError> {
        let run = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let renamed = path.with_file_name(format!("run-{run}.json"));
        if files::rename_if_there(path, &renamed)? {
            self.move_aside(&renamed)?;
        }
        Ok(())
    }

    /// Writes the index anew, from the records.
    pub(super) fn rewrite_index(&self, survey: Survey) -> Result<(), FileError> {
        let summaries: Vec<Summary> = survey.results.into_iter().map(|f| f.summary).collect();
        Index::rewrite(&self.index_path(), &summaries)
    }
}

/// Every object that is there and not sound, with the results that it belongs to.
fn damaged_objects(store: &Store, survey: &Survey, sound: &BTreeMap<Hash, u64>) -> Vec<Problem> {
    let damaged: BTreeSet<Hash> =
        survey.objects.keys().filter(|hash| !sound.contains_key(hash)).copied().collect();
    let mut of: BTreeMap<Hash, Vec<&str>> = BTreeMap::new();
    for found in survey.results.iter().filter(|_| !damaged.is_empty()) {
        let summary = &found.summary;
        for file in summary.files().chain(&summary.log).filter(|f| damaged.contains(&f.hash)) {
            of.entry(file.hash).or_default().push(name(summary));
        }
    }
    let problem = |hash: &Hash| {
        let path = store.object_here(hash);
        // One that a run or a cleaning has removed meanwhile is not damaged.
        files::length(&path).ok()?;
        let of = match of.get(hash).map(Vec::as_slice) {
            None | Some([]) => String::new(),
            Some([one]) => format!(": it belongs to `{one}`"),
            Some([one, more @ ..]) => format!(": it belongs to `{one}` and {} more", more.len()),
        };
        let words = format!("the object {} is damaged{of}", shown(&path));
        Some(Problem { what: What::Object, path, words })
    };
    damaged.iter().filter_map(problem).collect()
}

fn unreadable((path, why): &(PathBuf, Unreadable)) -> Option<Problem> {
    let (what, words) = match why {
        Unreadable::Damaged => (What::Record, format!("the record {} is damaged", shown(path))),
        Unreadable::Newer(format) => {
            let newer = NewerFormat { path: path.clone(), format: *format };
            (What::Newer, newer.to_string())
        }
        // Of no use, and harmless: it counts as missing.
        Unreadable::Older => return None,
    };
    Some(Problem { what, path: path.clone(), words })
}

fn name(summary: &Summary) -> &str {
    &summary.provenance.node
}

#[cfg(test)]
mod tests {
    use super::super::bench::{commit, flip, key, put, result, store};
    use super::super::record::Record;
    use super::*;

    /// What is wrong, as `what name of the file` each.
    fn problems(store: &Store) -> Vec<(What, String)> {
        let verified = store.verify(&store.scan().unwrap(), &|_| ()).unwrap();
        let named = |p: Problem| (p.what, p.path.file_name().unwrap().to_string_lossy().into());
        verified.problems.into_iter().map(named).collect()
    }

    fn repair(store: &Store) {
        store.repair(&store.verify(&store.scan().unwrap(), &|_| ()).unwrap()).unwrap();
    }

    #[test]
    fn a_sound_store_has_no_problems_and_a_dropped_result_lacks_nothing() {
        let (_folder, store) = store();
        put(&store, "a", &["one", "two"]);
        let dropped = Record { dropped: true, ..result(&store, "b", &["gone"]) };
        commit(&store, &dropped);
        files::remove(&store.object_here(&dropped.outputs["main"].files[0].hash)).unwrap();
        assert_eq!(problems(&store), []);
    }

    #[test]
    fn a_damaged_object_is_put_aside_and_its_results_are_forgotten() {
        let (_folder, store) = store();
        let record = put(&store, "a", &["one", "two"]);
        put(&store, "b", &["one"]);
        put(&store, "c", &["three"]);
        let object = record.outputs["main"].files[0].hash;
        flip(&store.object_here(&object));
        let json = |node: &str| key(node).to_hex() + ".json";
        let mut results = [json("a"), json("b")];
        results.sort();
        let expected = [
            (What::Object, object.to_hex()),
            (What::Result, results[0].clone()),
            (What::Result, results[1].clone()),
        ];
        assert_eq!(problems(&store), expected);
        repair(&store);
        assert_eq!(problems(&store), []);
        assert!(store.root().join("quarantine").join(object.to_hex()).exists());
        let fresh = Store::open(store.cache()).unwrap();
        let found = |node: &str| fresh.find(&key(node)).unwrap().is_some();
        assert_eq!((found("a"), found("b"), found("c")), (false, false, true));
    }

    #[test]
    fn a_missing_object_and_one_that_was_cut_are_found() {
        for cut in [false, true] {
            let (_folder, store) = store();
            let record = put(&store, "a", &["one"]);
            let path = store.object_here(&record.outputs["main"].files[0].hash);
            files::remove(&path).unwrap();
            if cut {
                files::write(&path, b"on").unwrap();
            }
            assert_eq!(problems(&store).len(), 1 + usize::from(cut));
            repair(&store);
            assert_eq!(problems(&store), []);
            assert!(store.find(&key("a")).unwrap().is_none());
        }
    }

    #[test]
    fn what_a_later_version_wrote_is_left_alone_and_what_an_earlier_one_did_is_no_problem() {
        let (_folder, store) = store();
        for (node, format) in [("a", 1), ("b", 3)] {
            commit(&store, &Record { format, ..result(&store, node, &[node]) });
        }
        let newer = [(What::Newer, key("b").to_hex() + ".json")];
        assert_eq!(problems(&store), newer);
        repair(&store);
        assert_eq!(problems(&store), newer);
    }

    #[test]
    fn a_lying_index_is_written_anew() {
        let (_folder, store) = store();
        let mut record = put(&store, "a", &["one"]);
        record.metrics.insert("loss".to_owned(), 7.0);
        let index = std::sync::Arc::new(record.summary());
        Index::add(&store.index_path(), &[index]).unwrap();
        assert_eq!(problems(&store), [(What::Index, "index".to_owned())]);
        repair(&store);
        assert_eq!(problems(&store), []);
    }

    #[test]
    fn what_is_old_and_unfinished_goes() {
        let (_folder, store) = store();
        put(&store, "a", &["one"]);
        let paths = ["objects/aa/.new-1", ".new-2", "runs/r/.new-3"].map(|name| {
            let path = store.root().join(name);
            files::make_folder(path.parent().unwrap()).unwrap();
            files::write(&path, b"half").unwrap();
            path
        });
        let survey = store.scan().unwrap();
        let (young, _) = store.remains(&survey, files::now()).unwrap();
        assert!(young.is_empty(), "someone may be writing them");
        let later = files::now() + 2 * UNFINISHED;
        let (leftovers, strays) = store.remains(&survey, later).unwrap();
        let found: BTreeSet<_> = leftovers.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(found, BTreeSet::from(paths.clone()));
        assert!(strays.is_empty());
        store.repair(&Verified { leftovers, ..Verified::default() }).unwrap();
        assert!(paths.iter().all(|path| !path.exists()));
    }
}
