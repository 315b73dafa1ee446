//! Plain TOML, read in one pass: what programs write, and most of what people do.
//!
//! A generated experiment of 100,000 stages is 20 MB of text. The crate `toml` lists its tokens, its events and a tree of
//! its own before any of it is a [`Value`]; here values are made where the text is read, which takes half the work. What
//! is not plain – dotted keys, dates, rare escapes, a mistake of any sort – is not read at all: then `toml` reads the whole
//! text, and it alone says what is wrong. Tests hold both against each other.

use std::collections::BTreeMap;
use std::ops::Range;

use super::source::{Origin, Sources};
use super::value::{Entry, Value, ValueKind};

/// Reads a text of plain TOML into a table; none for any other text.
pub fn read(sources: &mut Sources, source: usize, content: &str) -> Option<Value> {
    let before = sources.places();
    let mut reader =
        Reader { content, at: 0, source, sources, values: Vec::new(), entries: Vec::new() };
    let entries = reader.document();
    if entries.is_none() {
        sources.forget_places(before);
    }
    Some(Value { kind: ValueKind::Table(entries?), origin: sources.place(source, 0..0) })
}

/// Lists and tables nested deeper than this are not plain.
const DEEPEST: usize = 16;

/// A table of more keys of its own than this is not plain: each is compared with those before it.
const MOST_KEYS: usize = 256;

/// How a header made what its path names.
enum Made {
    /// A table on the way to that of a header.
    Between,
    /// The table of a header, which has so many keys of its own before any table in it.
    Table { keys: usize },
    /// A list of the tables of headers in double brackets.
    List,
}

/// A header, or the beginning of the text.
struct Header {
    /// Where its names are written, from the outermost.
    path: Vec<Range<usize>>,
    span: Range<usize>,
    /// Whether it is in double brackets.
    is_list: bool,
}

/// The tables that headers make.
#[derive(Default)]
struct Tables<'a> {
    root: Vec<Entry>,
    /// How many keys stand before the first header.
    keys: usize,
    /// What every path of a header is, as written: names in headers are bare, so that there is but one way to write them.
    made: BTreeMap<&'a str, Made>,
}

struct Reader<'a, 'b> {
    content: &'a str,
    at: usize,
    source: usize,
    sources: &'b mut Sources,
    /// The values of the lists that are being read. Their number is known at their end, and memory is taken for that.
    values: Vec<Value>,
    /// The entries of the tables that are being read, likewise.
    entries: Vec<Entry>,
}

impl<'a> Reader<'a, '_> {
    fn document(&mut self) -> Option<Vec<Entry>> {
        let mut tables = Tables::default();
        let mut header = None;
        loop {
            self.space();
            match self.peek() {
                Some(b'[') => {
                    self.finish(&mut tables, header)?;
                    header = Some(self.header()?);
                    self.line_end()?;
                }
                Some(b'\n' | b'#') => self.line_end()?,
                Some(_) => {
                    self.key_value(0, 0)?;
                    self.space();
                    self.line_end()?;
                }
                None => break,
            }
        }
        self.finish(&mut tables, header)?;
        Some(tables.root)
    }

    fn peek(&self) -> Option<u8> {
        self.content.as_bytes().get(self.at).copied()
    }

    /// Passes a byte, if it comes next.
    fn pass(&mut self, byte: u8) -> bool {
        let comes = self.peek() == Some(byte);
        self.at += usize::from(comes);
        comes
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.pass(byte).then_some(())
    }

    /// Passes bytes as long as they are of a sort.
    fn pass_while(&mut self, of_sort: impl Fn(u8) -> bool) -> Range<usize> {
        let rest = &self.content.as_bytes()[self.at..];
        let count = rest.iter().position(|byte| !of_sort(*byte)).unwrap_or(rest.len());
        self.at += count;
        self.at - count..self.at
    }

    fn space(&mut self) {
        self.pass_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// Passes a comment, if one comes next, and the end of the line or text.
    fn line_end(&mut self) -> Option<()> {
        self.space();
        if self.peek() == Some(b'#') {
            self.pass_while(is_printed);
        }
        (self.pass(b'\n') || self.at == self.content.len()).then_some(())
    }

    /// Passes lines that hold nothing, and space.
    fn empty_lines(&mut self) -> Option<()> {
        self.space();
        while let Some(b'\n' | b'#') = self.peek() {
            self.line_end()?;
            self.space();
        }
        Some(())
    }

    fn place(&mut self, span: Range<usize>) -> Origin {
        self.sources.place(self.source, span)
    }

    fn header(&mut self) -> Option<Header> {
        let start = self.at;
        self.expect(b'[')?;
        let is_list = self.pass(b'[');
        let mut path = Vec::new();
        loop {
            path.push(Some(self.pass_while(is_bare)).filter(|name| !name.is_empty())?);
            if path.len() > DEEPEST {
                return None;
            }
            if !self.pass(b'.') {
                break;
            }
        }
        self.expect(b']')?;
        if is_list {
            self.expect(b']')?;
        }
        Some(Header { path, span: start..self.at, is_list })
    }

    /// Puts what was read under a header where that says.
    fn finish(&mut self, tables: &mut Tables<'a>, header: Option<Header>) -> Option<()> {
        let keys: Vec<Entry> = self.entries.drain(..).collect();
        let Some(Header { path, span, is_list }) = header else {
            tables.keys = keys.len();
            tables.root = keys;
            return Some(());
        };
        let (own, above) = path.split_last()?;
        let (mut table, mut before) = (&mut tables.root, tables.keys);
        for (depth, name) in above.iter().enumerate() {
            let (path, key) = (&self.content[path[0].start..name.end], &self.content[name.clone()]);
            let at = match tables.made.get(path) {
                Some(Made::List) => return None,
                Some(made) => {
                    before = made.keys();
                    let at = match depth {
                        0 => table.iter().position(|entry| entry.key == key),
                        _ => table.len().checked_sub(1),
                    };
                    at.filter(|at| table[*at].key == key)?
                }
                None => {
                    is_new(&table[..before], key)?;
                    tables.made.insert(path, Made::Between);
                    before = 0;
                    table.push(self.entry(name.clone(), name.clone(), Vec::new()));
                    table.len() - 1
                }
            };
            let ValueKind::Table(entries) = &mut table[at].value.kind else { return None };
            table = entries;
        }
        let whole = &self.content[path[0].start..own.end];
        match tables.made.get(whole) {
            None => {
                is_new(&table[..before], &self.content[own.clone()])?;
                let made = if is_list { Made::List } else { Made::Table { keys: keys.len() } };
                tables.made.insert(whole, made);
                let mut entry = self.entry(own.clone(), span.clone(), keys);
                if is_list {
                    let origin = self.place(span);
                    let item = Value { kind: entry.value.kind, origin };
                    entry.value.kind = ValueKind::List(vec![item]);
                }
                table.push(entry);
            }
            Some(Made::List) if is_list => {
                let entry = table.last_mut().filter(|e| e.key == self.content[own.clone()])?;
                let ValueKind::List(items) = &mut entry.value.kind else { return None };
                items.push(Value { kind: ValueKind::Table(keys), origin: self.place(span) });
            }
            Some(_) => return None,
        }
        Some(())
    }

    fn entry(&mut self, name: Range<usize>, span: Range<usize>, entries: Vec<Entry>) -> Entry {
        let key = self.content[name.clone()].to_owned();
        let key_origin = self.place(name);
        let value = Value { kind: ValueKind::Table(entries), origin: self.place(span) };
        Entry { key, key_origin, value }
    }

    /// Reads a key and its value into the table whose entries begin at `first`.
    fn key_value(&mut self, first: usize, depth: usize) -> Option<()> {
        let start = self.at;
        let key = match self.peek()? {
            b'"' | b'\'' => self.string()?,
            _ => self.content[self.pass_while(is_bare)].to_owned(),
        };
        let span = start..self.at;
        self.space();
        self.expect(b'=')?;
        self.space();
        if span.is_empty() || self.entries.len() - first == MOST_KEYS {
            return None;
        }
        is_new(&self.entries[first..], &key)?;
        let key_origin = self.place(span);
        let value = self.value(depth + 1)?;
        self.entries.push(Entry { key, key_origin, value });
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        let start = self.at;
        let kind = match self.peek()? {
            b'"' | b'\'' => ValueKind::Text(self.text()?),
            b'[' => ValueKind::List(self.list(depth)?),
            b'{' => ValueKind::Table(self.inline_table(depth)?),
            _ => scalar(&self.content[self.pass_while(is_of_scalars)])?,
        };
        Some(Value { kind, origin: self.place(start..self.at) })
    }

    fn list(&mut self, depth: usize) -> Option<Vec<Value>> {
        let first = self.values.len();
        self.expect(b'[')?;
        loop {
            self.empty_lines()?;
            if self.pass(b']') {
                break;
            }
            let value = self.value(depth + 1)?;
            self.values.push(value);
            self.empty_lines()?;
            if !self.pass(b',') {
                self.expect(b']')?;
                break;
            }
        }
        Some(self.values.drain(first..).collect())
    }

    fn inline_table(&mut self, depth: usize) -> Option<Vec<Entry>> {
        let first = self.entries.len();
        self.expect(b'{')?;
        self.space();
        while !self.pass(b'}') {
            self.key_value(first, depth)?;
            self.space();
            if !self.pass(b',') {
                self.expect(b'}')?;
                break;
            }
            self.space();
            if self.peek() == Some(b'}') {
                return None;
            }
        }
        Some(self.entries.drain(first..).collect())
    }

    /// Reads a string of any form.
    fn text(&mut self) -> Option<String> {
        let rest = &self.content[self.at..];
        for fence in ["\"\"\"", "'''"] {
            let Some(inside) = rest.strip_prefix(fence) else { continue };
            let len = inside.find(fence)?;
            let (inside, after) = (&inside[..len], &inside[len + fence.len()..]);
            let escaped = fence == "\"\"\"" && inside.contains('\\');
            // Quotes may also be the last of the text.
            if escaped || after.starts_with(&fence[..1]) {
                return None;
            }
            inside.bytes().all(|byte| byte == b'\n' || is_printed(byte)).then_some(())?;
            self.at += len + 2 * fence.len();
            return Some(inside.strip_prefix('\n').unwrap_or(inside).to_owned());
        }
        self.string()
    }

    /// Reads a string of one line.
    fn string(&mut self) -> Option<String> {
        let quote = self.peek()?;
        self.expect(quote)?;
        let plain = |byte| is_printed(byte) && byte != quote && (byte != b'\\' || quote == b'\'');
        let mut text = self.content[self.pass_while(plain)].to_owned();
        while !self.pass(quote) {
            self.expect(b'\\')?;
            text.push(match self.peek()? {
                escaped @ (b'"' | b'\\') => char::from(escaped),
                b'n' => '\n',
                b't' => '\t',
                _ => return None,
            });
            self.at += 1;
            text.push_str(&self.content[self.pass_while(plain)]);
        }
        Some(text)
    }
}

impl Made {
    /// How many keys such a table has that headers do not make.
    fn keys(&self) -> usize {
        match self {
            Self::Table { keys } => *keys,
            Self::Between | Self::List => 0,
        }
    }
}

fn is_new(entries: &[Entry], key: &str) -> Option<()> {
    entries.iter().all(|entry| entry.key != key).then_some(())
}

/// Whether a byte may stand in a comment or string: control characters may not.
fn is_printed(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7F)
}

fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Whether a byte may stand in a value without quotes.
fn is_of_scalars(byte: u8) -> bool {
    is_bare(byte) || matches!(byte, b'+' | b'.' | b':')
}

/// Reads a boolean, an integer or a float as most people write them.
fn scalar(word: &str) -> Option<ValueKind> {
    match word {
        "true" => return Some(ValueKind::Bool(true)),
        "false" => return Some(ValueKind::Bool(false)),
        _ => (),
    }
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_holds = exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)));
    let leads_with_zero = whole.len() > 1 && whole.starts_with('0');
    if !digits(whole) || leads_with_zero || !fraction.is_none_or(digits) || !exponent_holds {
        return None;
    }
    if fraction.is_none() && exponent.is_none() {
        return word.parse().ok().map(ValueKind::Int);
    }
    word.parse().ok().filter(|number: &f64| number.is_finite()).map(ValueKind::Float)
}
