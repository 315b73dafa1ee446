//! Images under everything else that is drawn: cells of color, one embedded picture for any number of them.

use png::{BitDepth, ColorType, Encoder};

use crate::colormap::{self, LEVELS};
use crate::report::plot::palette::Color;

/// Cells of color in a rectangle of a sheet, given in CSS pixels.
#[derive(Clone, Debug)]
pub struct Image {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    /// Cells in a row.
    pub columns: usize,
    /// The color of each cell, as a [`colormap::level`], row by row from above; [`EMPTY`] where there is none.
    pub levels: Vec<u8>,
}

/// The level of a cell without a color.
pub const EMPTY: u8 = LEVELS as u8;

impl Image {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.levels.len() / self.columns.max(1)
    }

    /// Returns the color at a point of the sheet, if the image has one there.
    pub fn color(&self, x: f64, y: f64) -> Option<Color> {
        let index = |at: f64, length: f64, count: usize| {
            let place = at / length * count as f64;
            (0.0..count as f64).contains(&place).then_some(place as usize)
        };
        let column = index(x - self.left, self.width, self.columns)?;
        let row = index(y - self.top, self.height, self.rows())?;
        let level = self.levels[row * self.columns + column];
        let place = f64::from(level) / (LEVELS - 1) as f64;
        (level != EMPTY).then(|| {
            let [red, green, blue] = colormap::viridis(place);
            Color(red, green, blue)
        })
    }

    /// Writes the image as an element of SVG, with sharp edges between cells.
    pub fn svg(&self) -> String {
        let Self { left, top, width, height, .. } = self;
        let png = self.png().expect("a list takes any bytes, and the image has cells");
        // Programs before CSS 3 know the attribute, browsers the property.
        format!(
            "<image x=\"{left:.2}\" y=\"{top:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" \
             preserveAspectRatio=\"none\" image-rendering=\"optimizeSpeed\" style=\"image-rendering:pixelated\" \
             href=\"data:image/png;base64,{}\" />",
            base64(&png)
        )
    }

    fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, self.columns as u32, self.rows() as u32);
        encoder.set_color(ColorType::Indexed);
        encoder.set_depth(BitDepth::Eight);
        let mut palette = colormap::palette();
        palette.extend([0xFF; 3]);
        encoder.set_palette(palette);
        if self.levels.contains(&EMPTY) {
            let mut opacity = vec![0xFF; LEVELS];
            opacity.push(0);
            encoder.set_trns(opacity);
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.levels)?;
        writer.finish()?;
        Ok(bytes)
    }
}

/// Writes bytes as text, six bits a character (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for digit in 0..4 {
            let index = bits >> (18 - 6 * digit) & 63;
            text.push(if digit > group.len() { '=' } else { DIGITS[index as usize].into() });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn image() -> Image {
        let levels = vec![0, EMPTY, 254, 0, 0, 100];
        Image { left: 10.0, top: 20.0, width: 6.0, height: 8.0, columns: 3, levels }
    }

    #[test]
    fn bytes_become_text_as_the_standard_says() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn points_have_the_colors_of_their_cells() {
        let image = image();
        let [low, high] = [0.0, 1.0].map(|place| {
            let [red, green, blue] = colormap::viridis(place);
            Color(red, green, blue)
        });
        assert_eq!(image.color(10.5, 21.0), Some(low));
        assert_eq!(image.color(15.9, 23.9), Some(high));
        for (x, y) in [(13.0, 21.0), (9.9, 21.0), (16.0, 21.0), (10.5, 28.0)] {
            assert_eq!(image.color(x, y), None);
        }
    }

    #[test]
    fn the_embedded_picture_holds_the_cells() {
        let image = image();
        let mut reader = png::Decoder::new(Cursor::new(image.png().unwrap())).read_info().unwrap();
        let mut levels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut levels).unwrap();
        assert_eq!((info.width, info.height, levels), (3, 2, image.levels.clone()));
        let svg = image.svg();
        assert!(svg.starts_with("<image x=\"10.00\" y=\"20.00\" width=\"6.00\" height=\"8.00\""));
    }
}
