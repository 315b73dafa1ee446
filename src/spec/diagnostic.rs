//! What is wrong with an experiment: all of it, each thing with its place and a hint.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, Severity,
    SourceCode, SourceSpan, SpanContents,
};

use super::deserialize::Error;
use super::source::{Origin, Sources, Text};

/// One mistake of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// The value it is about.
    pub origin: Option<Origin>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A mistake in one value.
    pub fn at(origin: Origin, message: impl Into<String>) -> Self {
        Self { message: message.into(), origin: Some(origin), hint: None }
    }

    /// What the deserializer says of a value; `otherwise` is where it lies if that is not known.
    pub fn of(error: Error, otherwise: Origin) -> Self {
        let origin = Some(error.origin.unwrap_or(otherwise));
        Self { message: error.message, origin, hint: error.hint }
    }

    /// A mistake of the whole.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { message: message.into(), origin: None, hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All the mistakes found, in the order of the text and each once.
#[derive(Debug, Default)]
pub struct Diagnostics {
    all: Vec<Diagnostic>,
    /// Which of them are about a value: a generated experiment may have thousands, and each is looked for among those
    /// of its own value.
    at: BTreeMap<Option<Origin>, Vec<usize>>,
}

impl Diagnostics {
    /// Adds what the deserializer says of a value; `otherwise` is where it lies if that is not known.
    pub fn push_error(&mut self, error: Error, otherwise: Origin) {
        self.push(Diagnostic::of(error, otherwise));
    }

    /// Adds a mistake, unless the same one stands already (a sweep meets it once an instance).
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let same = self.at.entry(diagnostic.origin).or_default();
        if !same.iter().any(|index| self.all[*index] == diagnostic) {
            same.push(self.all.len());
            self.all.push(diagnostic);
        }
    }

    /// Every mistake, in the order found.
    pub fn into_all(self) -> Vec<Diagnostic> {
        self.all
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many things are wrong.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Writes every mistake with its source line underlined, and a last line that counts them.
    pub fn render(&self, sources: &Sources, color: bool) -> String {
        let theme =
            if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_links(false);
        let mut sorted: Vec<&Diagnostic> = self.all.iter().collect();
        sorted.sort_by_key(|d| d.origin.map(|origin| sources.position(origin)));
        let mut out = String::new();
        for diagnostic in sorted {
            let report = Located::new(diagnostic, sources);
            handler.render_report(&mut out, &report).expect("a string takes every write");
        }
        let count = self.all.len();
        out + &format!("{count} error{}\n", if count == 1 { "" } else { "s" })
    }
}

/// A diagnostic with its text at hand, as miette wants it.
struct Located<'a> {
    diagnostic: &'a Diagnostic,
    source: Option<Excerpt>,
    label: Option<LabeledSpan>,
}

impl<'a> Located<'a> {
    fn new(diagnostic: &'a Diagnostic, sources: &Sources) -> Self {
        let place = diagnostic.origin.map(|origin| sources.locate(origin));
        let label = place.as_ref().map(|(_, span)| {
            LabeledSpan::new_primary_with_span(Some("here".to_owned()), span.clone())
        });
        let source = place.map(|(text, span)| Excerpt::new(text, span));
        Self { diagnostic, source, label }
    }
}

/// The lines around a mistake. To find a line, miette reads a text from its beginning, several times a message: for
/// thousands of mistakes in megabytes it is given the part that it shows.
#[derive(Debug)]
struct Excerpt {
    name: String,
    text: Arc<String>,
    window: Range<usize>,
    lines_before: usize,
}

/// How many lines before and after a mistake are in its excerpt; fewer are shown.
const AROUND: usize = 4;

impl Excerpt {
    fn new(text: &Text, span: Range<usize>) -> Self {
        let bytes = text.text.as_bytes();
        let (before, after) =
            (&bytes[..span.start.min(bytes.len())], &bytes[span.end.min(bytes.len())..]);
        let start = before.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(AROUND);
        let end = after.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(AROUND);
        let start = start.map_or(0, |(at, _)| at + 1);
        let end = end.map_or(bytes.len(), |(at, _)| bytes.len() - after.len() + at + 1);
        // To miette, a carriage return ends a line too, unless a line feed follows.
        let ends = |(at, byte): (usize, &u8)| {
            *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'))
        };
        let lines_before = bytes[..start].iter().enumerate().filter(|end| ends(*end)).count();
        Self {
            name: text.name.clone(),
            text: Arc::clone(&text.text),
            window: start..end,
            lines_before,
        }
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let (from, to) = (span.offset(), span.offset() + span.len());
        let inside = self.window.start <= from && to <= self.window.end;
        let (window, lines) = if inside && before.max(after) < AROUND {
            (self.window.clone(), self.lines_before)
        } else {
            (0..self.text.len(), 0)
        };
        let start = window.start;
        let shown = &self.text.as_bytes()[window];
        let found = shown.read_span(&(from - start, span.len()).into(), before, after)?;
        let place = (found.span().offset() + start, found.span().len()).into();
        let (line, count) = (found.line() + lines, found.line_count() + lines);
        let (name, column) = (self.name.clone(), found.column());
        Ok(Box::new(MietteSpanContents::new_named(name, found.data(), place, line, column, count)))
    }
}

impl fmt::Debug for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic.fmt(f)
    }
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl std::error::Error for Located<'_> {}

impl miette::Diagnostic for Located<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic.hint.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|s| s as &dyn SourceCode)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.label.clone().map(|l| Box::new(std::iter::once(l)) as Box<dyn Iterator<Item = _>>)
    }
}
