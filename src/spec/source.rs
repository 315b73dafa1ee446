//! Where values were written: files, flags, and places in them.

use std::ops::Range;

/// The place at which a value was written; an index into [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(u32);

/// Every text that the experiment was read from, and every place in them that a value came from.
#[derive(Debug, Default)]
pub struct Sources {
    texts: Vec<Text>,
    places: Vec<(usize, Range<usize>)>,
}

/// One text with the name that messages give it.
#[derive(Debug)]
pub struct Text {
    /// A path as the user wrote it, or the flag.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Sources {
    /// Adds a text and yields its number.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        self.texts.push(Text { name: name.into(), text: text.into() });
        self.texts.len() - 1
    }

    /// Names a place in a text.
    pub fn place(&mut self, text: usize, span: Range<usize>) -> Origin {
        self.places.push((text, span));
        Origin(u32::try_from(self.places.len() - 1).expect("four billion values are never read"))
    }

    /// Finds the text of an origin and the bytes it covers.
    pub fn locate(&self, origin: Origin) -> (&Text, Range<usize>) {
        let (text, span) = &self.places[origin.0 as usize];
        (&self.texts[*text], span.clone())
    }

    /// Where an origin stands among all: the number of its text, and the byte.
    pub fn position(&self, origin: Origin) -> (usize, usize) {
        let (text, span) = &self.places[origin.0 as usize];
        (*text, span.start)
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
        let line = text.text[..span.start.min(text.text.len())].matches('\n').count() + 1;
        format!("line {line} of {}", text.name)
    }
}
