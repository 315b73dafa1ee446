//! Stacks of TIFF: gray pages of one size, in one file.

use std::fs::File;
use std::io::BufReader;

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult};
use tiff::tags::Tag;

use super::{Pages, broken};
use crate::engine::failure::Failure;
use crate::waves::pixels::Pixels;

/// A stack, read page by page.
pub(super) struct Stack {
    name: String,
    decoder: Decoder<BufReader<File>>,
    /// Pages read or passed over.
    at: usize,
}

const WHOLE: &str = "it begins as TIFF does: the file must be whole, and neither compressed as JPEG nor by a later method";

impl Stack {
    /// Reads the head of the first page.
    pub(super) fn open(name: &str, file: BufReader<File>) -> Result<Self, Failure> {
        let decoder = Decoder::new(file).map_err(|error| broken(name, &error, WHOLE))?;
        let mut stack = Self { name: name.to_owned(), decoder, at: 0 };
        stack.refuse_loose_pages()?;
        Ok(stack)
    }

    /// Refuses what ImageJ writes beyond 4 GB: one page, and after it the others as plain bytes.
    fn refuse_loose_pages(&mut self) -> Result<(), Failure> {
        let about = self.decoder.get_tag_ascii_string(Tag::ImageDescription).unwrap_or_default();
        let images = about.lines().find_map(|line| line.strip_prefix("images=")?.parse().ok());
        let loose = about.starts_with("ImageJ=") && images > Some(1usize);
        if loose && !self.decoder.more_images() {
            let images = images.unwrap_or_default();
            return Err(Failure::data(format!("{} says that it has {images} pages, and has 1", self.name))
                .hint("ImageJ writes so beyond 4 GB: save it as BigTIFF or OME-TIFF, or as a folder of PNG files"));
        }
        Ok(())
    }

    /// Goes to the next page; false after the last.
    fn advance(&mut self) -> Result<bool, Failure> {
        if self.at > 0 {
            if !self.decoder.more_images() {
                return Ok(false);
            }
            let next = self.decoder.next_image();
            next.map_err(|error| broken(&self.place(), &error, WHOLE))?;
        }
        self.at += 1;
        Ok(true)
    }

    fn place(&self) -> String {
        format!("page {} of {}", self.at + 1, self.name)
    }
}

impl Pages for Stack {
    fn skip(&mut self) -> Result<bool, Failure> {
        self.advance()
    }

    fn next(&mut self) -> Result<Option<Pixels>, Failure> {
        let place = self.place();
        if !self.advance()? {
            return Ok(None);
        }
        let unreadable = |error: tiff::TiffError| broken(&place, &error, WHOLE);
        let color = self.decoder.colortype().map_err(unreadable)?;
        if !matches!(color, ColorType::Gray(_)) {
            return Err(Failure::data(format!("{place} is of {color:?}"))
                .hint("movies are gray: convert it to 8, 16 or 32 bits"));
        }
        let (width, height) = self.decoder.dimensions().map_err(unreadable)?;
        let values = match self.decoder.read_image().map_err(unreadable)? {
            DecodingResult::U8(values) => values.into_iter().map(f32::from).collect(),
            DecodingResult::U16(values) => values.into_iter().map(f32::from).collect(),
            DecodingResult::I16(values) => values.into_iter().map(f32::from).collect(),
            DecodingResult::U32(values) => values.into_iter().map(|value| value as f32).collect(),
            DecodingResult::F32(values) => values,
            DecodingResult::F64(values) => values.into_iter().map(|value| value as f32).collect(),
            _ => {
                return Err(Failure::data(format!("{place} holds numbers of an unusual kind"))
                    .hint("convert it to 8, 16 or 32 bits"));
            }
        };
        Ok(Some(Pixels { height: height as usize, width: width as usize, values }))
    }
}
