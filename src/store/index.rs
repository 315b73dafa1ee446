//! The index: one file that answers for thousands of records.
//!
//! ```text
//! <key> <check> <summary as JSON>
//! ```
//!
//! Lines are only ever added; of several with one key the last counts. `check` is the beginning of the hash of the
//! summary, so that a line that was cut, or into which another host wrote, is no line. The records are the truth: what
//! the index lacks is read from them and added, and a line whose record is gone counts for nothing. So it may be lost at
//! any time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, FileError};
use super::hash::{self, Hash};
use super::record::Summary;

/// Summaries by key, read when asked for.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    text: Vec<u8>,
    /// Key, and where its summary lies in the text; sorted by key, the last of several counts.
    lines: Vec<(Hash, std::ops::Range<usize>)>,
    /// What was read from records and the file does not hold.
    fresh: Vec<u8>,
}

/// Digits of a key.
const KEY: usize = 64;
/// Digits of a check.
const CHECK: usize = 16;
/// Where the summary begins in a line.
const BODY: usize = KEY + 1 + CHECK + 1;

impl Index {
    /// Reads an index; one that is not there is empty.
    pub fn open(path: &Path) -> Self {
        Self::of(path, files::read(path).unwrap_or_default())
    }

    fn of(path: &Path, text: Vec<u8>) -> Self {
        let mut lines = Vec::new();
        let mut at = 0;
        for line in text.split(|byte| *byte == b'\n') {
            if line.len() > BODY
                && let Some(key) = Hash::from_hex(&line[..KEY])
            {
                lines.push((key, at..at + line.len()));
            }
            at += line.len() + 1;
        }
        // Stable: of equal keys, the later line stays behind the earlier one.
        lines.sort_by_key(|(key, _)| *key);
        Self { path: path.to_path_buf(), text, lines, fresh: Vec::new() }
    }

    /// The summary under a key.
    pub fn get(&self, key: &Hash) -> Option<Summary> {
        let end = self.lines.partition_point(|(other, _)| other <= key);
        let mut before = self.lines[..end].iter().rev().take_while(|(other, _)| other == key);
        before.find_map(|(_, range)| self.read(range))
    }

    fn read(&self, range: &std::ops::Range<usize>) -> Option<Summary> {
        let line = &self.text[range.clone()];
        let body = &line[BODY..];
        let whole = hash::bytes(body).to_hex().as_bytes()[..CHECK] == line[KEY + 1..BODY - 1];
        let summary: Summary = whole.then(|| serde_json::from_slice(body).ok()).flatten()?;
        (line[..KEY] == *summary.key.to_hex().as_bytes()).then_some(summary)
    }

    /// How many lines are not as they were written.
    pub fn damaged(&self) -> usize {
        let whole = self.lines.iter().filter(|(_, range)| self.read(range).is_some()).count();
        let lines = self.text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.count() - whole
    }

    /// Every summary, sorted by key.
    pub fn all(&self) -> Vec<Summary> {
        let mut keys: Vec<Hash> = self.lines.iter().map(|(key, _)| *key).collect();
        keys.dedup();
        keys.iter().filter_map(|key| self.get(key)).collect()
    }

    /// The summaries added last, at most so many.
    pub fn latest(&self, count: usize) -> Vec<Summary> {
        let mut ranges: Vec<_> = self.lines.iter().map(|(_, range)| range).collect();
        let older = ranges.len().saturating_sub(count);
        if older > 0 {
            ranges.select_nth_unstable_by_key(older, |range| range.start);
        }
        ranges[older..].iter().filter_map(|range| self.read(range)).collect()
    }

    /// Notes what a record says that the file does not hold; written by [`Self::save`].
    pub fn note(&mut self, summary: &Summary) {
        self.fresh.extend_from_slice(&line(summary));
    }

    /// Adds what was noted to the file.
    pub fn save(&mut self) -> Result<(), FileError> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        // A line that a killed process left unfinished ends here.
        let bytes = [b"\n", self.fresh.as_slice()].concat();
        self.fresh.clear();
        files::append(&self.path, &bytes)
    }

    /// Adds the summaries of new records to an index.
    pub fn add(path: &Path, summaries: &[Arc<Summary>]) -> Result<(), FileError> {
        let mut bytes = vec![b'\n'];
        for summary in summaries {
            bytes.extend_from_slice(&line(summary));
        }
        files::append(path, &bytes)
    }

    /// Writes an index anew with these summaries and nothing else.
    pub fn rewrite(path: &Path, summaries: &[Summary]) -> Result<(), FileError> {
        let lines: Vec<Vec<u8>> = summaries.iter().map(line).collect();
        files::replace(path, &lines.concat())
    }
}

fn line(summary: &Summary) -> Vec<u8> {
    let body = serde_json::to_string(summary).expect("a summary is plain data");
    let check = hash::bytes(body.as_bytes()).to_hex();
    format!("{} {} {body}\n", summary.key.to_hex(), &check[..CHECK]).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    fn summary(key: u8, seconds: f64) -> Summary {
        let mut summary = Summary { key: hash::bytes(&[key]), ..record().summary() };
        summary.provenance.seconds = seconds;
        summary
    }

    #[test]
    fn the_last_whole_line_of_a_key_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        assert!(Index::open(&path).all().is_empty());
        for (key, seconds) in [(1, 1.0), (2, 2.0), (1, 3.0)] {
            Index::add(&path, &[Arc::new(summary(key, seconds))]).unwrap();
        }
        let whole = files::read(&path).unwrap();
        let of = |bytes: &[u8]| {
            let index = Index::of(&path, bytes.to_vec());
            let seconds = |key: u8| index.get(&hash::bytes(&[key])).map(|s| s.provenance.seconds);
            (seconds(1), seconds(2), seconds(3))
        };
        assert_eq!(of(&whole), (Some(3.0), Some(2.0), None));
        // The last line is cut: the one before it counts again.
        assert_eq!(of(&whole[..whole.len() - 9]), (Some(1.0), Some(2.0), None));
        // Whatever bit flips, nothing is read that was not written.
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (one, two, three) = of(&bytes);
            assert!(matches!(one, Some(1.0 | 3.0)) && matches!(two, None | Some(2.0)), "{bit}");
            assert_eq!(three, None);
        }
        let latest = |count| Index::of(&path, whole.clone()).latest(count);
        assert_eq!(latest(1)[0].provenance.seconds, 3.0);
        assert_eq!((latest(2).len(), latest(9).len()), (2, 3));
        // What is added after a cut line is read.
        files::write(&path, &whole[..whole.len() - 9]).unwrap();
        Index::add(&path, &[Arc::new(summary(3, 4.0))]).unwrap();
        assert_eq!(Index::open(&path).all().len(), 3);
    }
}
