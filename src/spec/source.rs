//! Where values were written: files, flags, and places in them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::extends::STDIN;

/// The place at which a value was written; an index into [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(u32);

/// Every text that the experiment was read from, and every place in them that a value came from.
#[derive(Debug, Default)]
pub struct Sources {
    texts: Vec<Text>,
    places: Vec<Place>,
    /// Where each line but the first begins, by the number of the text: found out once, for a plan names thousands of
    /// places.
    lines: RefCell<BTreeMap<u32, Vec<usize>>>,
}

/// A text and a part of it. There are as many as values and keys, so they are kept small.
#[derive(Clone, Copy, Debug)]
struct Place {
    text: u32,
    start: u32,
    end: u32,
}

impl Place {
    fn span(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// One text with the name that messages give it.
#[derive(Debug)]
pub struct Text {
    /// A path as the user wrote it, or the flag.
    pub name: String,
    /// The file, where it is one.
    pub file: Option<PathBuf>,
    /// The whole text, which readers and messages share.
    pub text: Arc<String>,
}

impl Sources {
    /// Adds a text and yields its number.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        self.push(Text { name: name.into(), file: None, text: Arc::new(text.into()) })
    }

    /// Adds the text of a file and yields its number.
    pub fn add_file(&mut self, file: &Path, text: String) -> usize {
        if file == Path::new(STDIN) {
            return self.add("standard input", text);
        }
        let (name, file) = (file.display().to_string(), Some(file.to_path_buf()));
        self.push(Text { name, file, text: Arc::new(text) })
    }

    fn push(&mut self, text: Text) -> usize {
        self.texts.push(text);
        self.texts.len() - 1
    }

    /// The files among the texts, in the order read.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.texts.iter().filter_map(|text| Some((text.file.as_deref()?, text.text.as_str())))
    }

    /// The text of a number.
    pub fn text(&self, number: usize) -> Arc<String> {
        Arc::clone(&self.texts[number].text)
    }

    /// Names a place in a text.
    pub fn place(&mut self, text: usize, span: Range<usize>) -> Origin {
        let small = |number: usize| u32::try_from(number).expect("four gigabytes are never read");
        let (start, end) = (small(span.start), small(span.end));
        self.places.push(Place { text: small(text), start, end });
        Origin(small(self.places.len() - 1))
    }

    /// How many places have names.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// Takes the names back of all places but the first `count`.
    pub fn forget_places(&mut self, count: usize) {
        self.places.truncate(count);
    }

    /// Finds the text of an origin and the bytes it covers.
    pub fn locate(&self, origin: Origin) -> (&Text, Range<usize>) {
        let place = self.places[origin.0 as usize];
        (&self.texts[place.text as usize], place.span())
    }

    /// Where an origin stands among all: the number of its text, and the byte.
    pub fn position(&self, origin: Origin) -> (usize, usize) {
        let place = self.places[origin.0 as usize];
        (place.text as usize, place.start as usize)
    }

    /// Whether what was written at a place starts with a character.
    pub fn starts_with(&self, origin: Origin, first: char) -> bool {
        let (text, span) = self.locate(origin);
        text.text.get(span).is_some_and(|written| written.starts_with(first))
    }

    /// Describes a place as `line 14 of experiments/a.toml`, or as the flag that gave the value.
    pub fn describe(&self, origin: Origin) -> String {
        let (text, span) = self.locate(origin);
        if text.name.starts_with("--") {
            return text.name.clone();
        }
        let number = self.places[origin.0 as usize].text;
        let begins = || text.text.match_indices('\n').map(|(at, _)| at + 1).collect();
        let mut lines = self.lines.borrow_mut();
        let lines = lines.entry(number).or_insert_with(begins);
        let line = lines.partition_point(|begin| *begin <= span.start) + 1;
        format!("line {line} of {}", text.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_by_their_line() {
        let mut sources = Sources::default();
        let text = sources.add("x.toml", "a\n\nb = 1");
        for (start, line) in [(0, 1), (1, 1), (2, 2), (3, 3), (8, 3), (99, 3)] {
            let origin = sources.place(text, start..start);
            assert_eq!(sources.describe(origin), format!("line {line} of x.toml"));
        }
        let flag = sources.add("--set b=2", "b=2");
        let origin = sources.place(flag, 2..3);
        assert_eq!(sources.describe(origin), "--set b=2");
    }
}
