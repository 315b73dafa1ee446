//! PNG files in the order of their names, a page each.

use std::cmp::Ordering;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use png::{BitDepth, ColorType, Decoder};

use super::{Pages, broken, last};
use crate::engine::failure::Failure;
use crate::store::files;
use crate::waves::pixels::Pixels;

/// The PNG files of a folder.
pub(super) struct Folder {
    name: String,
    /// Those that are left, the next one last.
    left: Vec<PathBuf>,
}

impl Folder {
    /// Lists the files whose names end in `.png`; numbers in names count as numbers.
    pub(super) fn open(name: &str, folder: &Path) -> anyhow::Result<Self> {
        let is_png = |name: &String| name.to_ascii_lowercase().ends_with(".png");
        let mut names: Vec<String> = files::names(folder)?.into_iter().filter(is_png).collect();
        if names.is_empty() {
            return Err(Failure::data(format!("no file in {name} ends in `.png`"))
                .hint("a folder holds a movie as PNG files, one a frame; other movies are files")
                .into());
        }
        names.sort_by(|a, b| by_name(b, a));
        let left = names.into_iter().map(|name| folder.join(name)).collect();
        Ok(Self { name: name.to_owned(), left })
    }

    /// Takes one file as a movie of one frame.
    pub(super) fn of_one(name: &str, path: &Path) -> Self {
        Self { name: name.to_owned(), left: vec![path.to_owned()] }
    }

    fn read(&self, path: &Path) -> Result<Pixels, Failure> {
        let shown = format!("{} ({})", self.name, last(path));
        let whole = "the file must be a whole PNG";
        let file = files::open(path).map_err(|error| broken(&shown, &error, whole))?;
        let unreadable = |error: png::DecodingError| broken(&shown, &error, whole);
        let mut reader = Decoder::new(BufReader::new(file)).read_info().map_err(unreadable)?;
        let (color, depth) = reader.output_color_type();
        let wide = match (color, depth) {
            (ColorType::Grayscale, BitDepth::Eight) => false,
            (ColorType::Grayscale, BitDepth::Sixteen) => true,
            _ => {
                return Err(Failure::data(format!("{shown} is {color:?} of {depth:?} bits"))
                    .hint("frames are gray, of 8 or 16 bits"));
            }
        };
        let size = reader.output_buffer_size();
        let size = size.ok_or_else(|| broken(&shown, &"it is too large", whole))?;
        let mut bytes = vec![0; size];
        let info = reader.next_frame(&mut bytes).map_err(unreadable)?;
        let bytes = &bytes[..info.buffer_size()];
        let values = if wide {
            let (pairs, _) = bytes.as_chunks::<2>();
            pairs.iter().map(|pair| f32::from(u16::from_be_bytes(*pair))).collect()
        } else {
            bytes.iter().copied().map(f32::from).collect()
        };
        Ok(Pixels { height: info.height as usize, width: info.width as usize, values })
    }
}

impl Pages for Folder {
    fn skip(&mut self) -> Result<bool, Failure> {
        Ok(self.left.pop().is_some())
    }

    fn next(&mut self) -> Result<Option<Pixels>, Failure> {
        self.left.pop().map(|path| self.read(&path)).transpose()
    }
}

/// Orders names as people do: `frame_9` before `frame_10`.
fn by_name(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (left, right) = (number(a), number(b));
        let order = match (left, right) {
            (Some((one, after_one)), Some((other, after_other))) => {
                (a, b) = (after_one, after_other);
                // Without zeros in front, the longer number is the larger.
                let [one, other] = [one, other].map(|digits| digits.trim_start_matches('0'));
                one.len().cmp(&other.len()).then_with(|| one.cmp(other))
            }
            _ => {
                let (one, other) = (a.chars().next(), b.chars().next());
                if one.is_none() || other.is_none() {
                    return one.is_some().cmp(&other.is_some());
                }
                (a, b) = (after_first(a), after_first(b));
                one.cmp(&other)
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Splits the digits that a text begins with from the rest.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn after_first(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next();
    chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = ["f10.png", "f9.png", "f09b.png", "a", "f2.png", "f", "g1"];
        names.sort_by(|a, b| by_name(a, b));
        assert_eq!(names, ["a", "f", "f2.png", "f9.png", "f09b.png", "f10.png", "g1"]);
        assert_eq!(by_name("f1", "f1"), Ordering::Equal);
    }
}
