//! What is wrong with an experiment: all of it, each thing with its place and a hint.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

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
#[derive(Clone, Debug, Default)]
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
}

impl<'a> Located<'a> {
    fn new(diagnostic: &'a Diagnostic, sources: &Sources) -> Self {
        let place = diagnostic.origin.map(|origin| sources.locate(origin));
        Self { diagnostic, source: place.map(|(text, span)| Excerpt::of(text, &span)) }
    }
}

/// The line of a mistake and those next to it, made fit to be shown.
///
/// To find a line, miette reads a text from its beginning, several times a message, and shows what it finds: for
/// thousands of mistakes in megabytes, all on one line perhaps, it is given no more than is to be seen.
#[derive(Debug)]
struct Excerpt {
    name: String,
    lines: String,
    /// What is underlined in these lines: no more than the first line of the mistake.
    mark: Range<usize>,
    /// How many lines are before these.
    lines_before: usize,
    /// How many characters are before the mistake on its line.
    column: usize,
}

/// More bytes of a line than this are not shown.
const WIDEST: usize = 320;
/// Of a line that is cut, so many bytes before the mistake stay.
const BEFORE: usize = 80;
/// Stands for what is cut away.
const CUT: &str = "…";

impl Excerpt {
    fn of(text: &Text, span: &Range<usize>) -> Self {
        let whole = text.text.as_str();
        // What lacks at the end is shown behind the last line.
        let last = whole.trim_end_matches(['\n', '\r']).len();
        let at = whole.floor_char_boundary(span.start.min(last));
        let from = whole[..at].rfind('\n').map_or(0, |end| end + 1);
        let to = whole[at..].find('\n').map_or(whole.len(), |end| at + end);
        let line = whole[from..to].trim_end_matches('\r');
        let at = at.min(from + line.len());
        let end = whole.floor_char_boundary(span.end.clamp(at, from + line.len()));

        let mut lines = String::new();
        if let Some(end) = from.checked_sub(1) {
            let from = whole[..end].rfind('\n').map_or(0, |end| end + 1);
            let before = whole[from..end].trim_end_matches('\r');
            lines += &cut(before, 0).0;
            lines.push('\n');
        }
        let (shown, left_out) = cut(line, at - from);
        let start = lines.len() + if left_out > 0 { CUT.len() } else { 0 };
        let place = |byte: usize| (start + byte - from).saturating_sub(left_out);
        let mark = place(at)..place(end).min(lines.len() + shown.len());
        lines += &shown;
        if to < whole.len() {
            lines.push('\n');
            let after = whole[to + 1..].split_inclusive('\n').next().unwrap_or_default();
            lines += &cut(after.trim_end_matches(['\n', '\r']), 0).0;
            if after.ends_with('\n') {
                lines.push('\n');
            }
        }
        let line_of_mistake = whole[..from].matches('\n').count();
        Self {
            name: text.name.clone(),
            lines,
            mark,
            lines_before: line_of_mistake.saturating_sub(1),
            column: whole[from..at].chars().filter(|c| *c != BYTE_ORDER_MARK).count(),
        }
    }
}

/// May stand at the beginning of a text, and is no part of it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A line as it is shown, around a byte of it where it is long, and how many bytes are left out at its beginning.
fn cut(line: &str, at: usize) -> (String, usize) {
    if line.len() <= WIDEST {
        return (visible(line), 0);
    }
    let start = if at + BEFORE <= WIDEST { 0 } else { line.floor_char_boundary(at - BEFORE) };
    let end = line.floor_char_boundary(start + WIDEST);
    let [before, after] = [start > 0, end < line.len()].map(|cut| if cut { CUT } else { "" });
    (format!("{before}{}{after}", visible(&line[start..end])), start)
}

/// Replaces characters that a terminal would obey, or that are not to be seen, by as many bytes.
fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => c,
        c if !is_unseen(c) => c,
        c => match c.len_utf8() {
            1 => '?',
            2 => '¿',
            _ => char::REPLACEMENT_CHARACTER,
        },
    };
    text.chars().map(shown).collect()
}

/// Whether a character moves the cursor, turns the direction of what follows, or has no width. None has more than three
/// bytes.
fn is_unseen(c: char) -> bool {
    let turns =
        |c: char| ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    c.is_control() || turns(c) || ['\u{200b}', BYTE_ORDER_MARK].contains(&c)
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let found = self.lines.as_bytes().read_span(span, before, after)?;
        // Without lines around it, it is asked for its place.
        let column = if before == 0 { self.column } else { found.column() };
        let (line, count) = (found.line() + self.lines_before, found.line_count());
        let (name, place) = (self.name.clone(), *found.span());
        let count = count + self.lines_before;
        Ok(Box::new(MietteSpanContents::new_named(name, found.data(), place, line, column, count)))
    }
}

/// More characters of a message than this are not shown: a name may be as long as its author likes.
const LONGEST: usize = 1000;
/// So many characters at the end of a message that is cut stay.
const ENDING: usize = 200;

/// A message as it is shown.
fn shown(message: &str) -> String {
    let seen = |c: char| if is_unseen(c) && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    let count = message.chars().count();
    if count <= LONGEST {
        return message.chars().map(seen).collect();
    }
    let first = message.chars().take(LONGEST - ENDING);
    let last = message.chars().skip(count - ENDING);
    first.chain(CUT.chars()).chain(last).map(seen).collect()
}

impl fmt::Debug for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic.fmt(f)
    }
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.diagnostic.message))
    }
}

impl std::error::Error for Located<'_> {}

impl miette::Diagnostic for Located<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic.hint.as_ref().map(|h| Box::new(shown(h)) as Box<dyn fmt::Display>)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|s| s as &dyn SourceCode)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let mark = self.source.as_ref()?.mark.clone();
        let label = LabeledSpan::new_primary_with_span(Some("here".to_owned()), mark);
        Some(Box::new(std::iter::once(label)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a part of a text.
    fn said(text: &str, span: Range<usize>) -> String {
        let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
        let source = sources.add("x.toml", text);
        errors.push(Diagnostic::at(sources.place(source, span), "it is wrong"));
        errors.render(&sources, false)
    }

    #[test]
    fn columns_count_characters() {
        let text = "a = 1\nb = ['四é', 2]\nc = 3\n";
        let at = text.find('2').unwrap();
        assert!(said(text, at..at + 1).contains("x.toml:2:12]"), "{}", said(text, at..at + 1));
    }

    #[test]
    fn long_lines_are_cut_around_the_mistake() {
        let text = format!("{{{}\"wrong\"{}}}", "\"a\": 1, ".repeat(1000), ", 1".repeat(1000));
        let at = text.find("\"wrong").unwrap();
        let message = said(&text, at..at + 7);
        assert!(message.contains(&format!("x.toml:1:{}]", at + 1)), "{message}");
        assert!(message.contains("\"wrong\"") && message.len() < 1500, "{message}");
        let whole = said(&text, 0..text.len());
        assert!(whole.len() < 3000, "{whole}");
    }

    #[test]
    fn every_place_can_be_shown() {
        for text in ["", "\n", "a", "é\r\n\r\n", "a\rb\n\u{feff}\u{202e}\u{1b}[31m", "四\n四\n四"]
        {
            for start in 0..=text.len() {
                for end in start..=text.len() {
                    let message = said(text, start..end);
                    assert!(
                        message.contains("it is wrong") && !message.contains('\u{1b}'),
                        "{message}"
                    );
                }
            }
        }
    }

    #[test]
    fn long_messages_keep_both_ends() {
        let message = shown(&format!("no stage is called `{}`", "a".repeat(10_000)));
        assert!(message.starts_with("no stage") && message.ends_with("a`") && message.len() < 1100);
    }
}
