//! Pixels: the scene as the plotting crate draws it, with turned text drawn here.
//!
//! The crate's raster back end blends turned text onto a transparent buffer as if that were opaque, which leaves
//! letters without soft edges. Here they are drawn upright in black on white, and turned as a mask of ink.

use std::io::Cursor;

use kuva::{backend::raster::RasterBackend, render::render::Scene};
use png::{BitDepth, ColorType, Decoder, Encoder, PixelDimensions, Unit};

use crate::report::plot::{
    canvas::{self, Anchor, Text, text_width},
    image::Image,
    palette::Color,
};

/// A line of text at an angle.
#[derive(Clone, Debug)]
pub struct Turned {
    /// Where its anchor stands.
    pub at: (f64, f64),
    pub content: String,
    pub text: Text,
}

/// Pixels to a CSS pixel: 288 to the inch.
const SCALE: f64 = 3.0;

/// Pixels to the meter, for programs that place pictures by their size.
const PER_METER: u32 = 11_339;

/// Encodes images, a scene above them, and turned text above both.
pub fn png(scene: &Scene, images: &[Image], turned: &[Turned]) -> Result<Vec<u8>, String> {
    let mut pixels = Pixels::of(scene)?;
    if !images.is_empty() {
        pixels.put_under(images, scene)?;
    }
    for text in turned {
        text.draw(&mut pixels)?;
    }
    pixels.encode().map_err(|error| error.to_string())
}

/// Red, green and blue of every pixel, row by row.
struct Pixels {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Pixels {
    fn of(scene: &Scene) -> Result<Self, String> {
        let encoded = RasterBackend::new().with_scale(SCALE as f32).render_scene(scene)?;
        let mut reader =
            Decoder::new(Cursor::new(encoded)).read_info().map_err(|error| error.to_string())?;
        let mut rgba = vec![0; reader.output_buffer_size().ok_or("the picture is too large")?];
        let info = reader.next_frame(&mut rgba).map_err(|error| error.to_string())?;
        // The sheet is white, so that no pixel is transparent.
        let bytes = rgba.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Ok(Self { width: info.width as usize, height: info.height as usize, bytes })
    }

    fn encode(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_pixel_dims(Some(PixelDimensions {
            xppu: PER_METER,
            yppu: PER_METER,
            unit: Unit::Meter,
        }));
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.bytes)?;
        writer.finish()?;
        Ok(bytes)
    }

    /// Puts images between the white sheet and the scene that was drawn on it.
    ///
    /// The crate draws on opaque sheets only. What it draws on a black one tells how much of the sheet is seen through
    /// each pixel: where opacity is `a` and color `c`, the two are `a c + (1 - a)` and `a c`.
    fn put_under(&mut self, images: &[Image], scene: &Scene) -> Result<(), String> {
        let mut dark = Scene::new(scene.width, scene.height).with_background(Some("black"));
        dark.font_family.clone_from(&scene.font_family);
        dark.elements.clone_from(&scene.elements);
        let dark = Self::of(&dark)?;
        for image in images {
            let range = |start: f64, length: f64, limit: usize| {
                let end = ((start + length) * SCALE).ceil().max(0.0) as usize;
                (start * SCALE).floor().max(0.0) as usize..end.min(limit)
            };
            for y in range(image.top, image.height, self.height) {
                for x in range(image.left, image.width, self.width) {
                    let center = ((x as f64 + 0.5) / SCALE, (y as f64 + 0.5) / SCALE);
                    let Some(color) = image.color(center.0, center.1) else { continue };
                    let at = 3 * (y * self.width + x);
                    for (channel, paper) in [color.0, color.1, color.2].into_iter().enumerate() {
                        let (light, dark) = (self.bytes[at + channel], dark.bytes[at + channel]);
                        let through = f64::from(light.saturating_sub(dark)) / 255.0;
                        let seen = f64::from(dark) + through * f64::from(paper);
                        self.bytes[at + channel] = seen.round() as u8;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns how dark a point between pixel centers is, from 0 to 1, by bilinear interpolation.
    fn darkness(&self, x: f64, y: f64) -> f64 {
        let (left, top) = (libm::floor(x), libm::floor(y));
        let (right_part, lower_part) = (x - left, y - top);
        let at = |x: f64, y: f64| {
            let inside = x >= 0.0 && y >= 0.0 && x < self.width as f64 && y < self.height as f64;
            if inside {
                1.0 - f64::from(self.bytes[3 * (y as usize * self.width + x as usize)]) / 255.0
            } else {
                0.0
            }
        };
        let mix = |from: f64, to: f64, part: f64| from + part * (to - from);
        mix(
            mix(at(left, top), at(left + 1.0, top), right_part),
            mix(at(left, top + 1.0), at(left + 1.0, top + 1.0), right_part),
            lower_part,
        )
    }

    fn blend(&mut self, x: usize, y: usize, Color(red, green, blue): Color, coverage: f64) {
        let start = 3 * (y * self.width + x);
        for (byte, ink) in self.bytes[start..start + 3].iter_mut().zip([red, green, blue]) {
            let paper = f64::from(*byte);
            *byte = (paper + coverage * (f64::from(ink) - paper)).round() as u8;
        }
    }
}

impl Turned {
    fn draw(&self, pixels: &mut Pixels) -> Result<(), String> {
        let size = f64::from(self.text.size);
        let (width, height) = (text_width(&self.content, self.text.size) + size, 2.0 * size);
        let anchor = (size / 2.0, 1.4 * size);
        let mut scene = Scene::new(width, height);
        let black = Text { anchor: Anchor::Start, color: Color(0, 0, 0), ..self.text };
        scene.add(canvas::upright(anchor, &self.content, black));
        let mask = Pixels::of(&scene)?;

        let before = match self.text.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => (width - size) / 2.0,
            Anchor::End => width - size,
        };
        let pivot = ((anchor.0 + before) * SCALE, anchor.1 * SCALE);
        let at = (self.at.0 * SCALE, self.at.1 * SCALE);
        let (sin, cos) =
            (libm::sin(self.text.angle.to_radians()), libm::cos(self.text.angle.to_radians()));
        let reach = libm::hypot(mask.width as f64, mask.height as f64);
        let range = |center: f64, limit: usize| {
            let low = (center - reach).max(0.0) as usize;
            low..((center + reach).max(0.0) as usize + 1).min(limit)
        };
        for y in range(at.1, pixels.height) {
            for x in range(at.0, pixels.width) {
                let (dx, dy) = (x as f64 + 0.5 - at.0, y as f64 + 0.5 - at.1);
                let (source_x, source_y) =
                    (pivot.0 + cos * dx - sin * dy, pivot.1 + sin * dx + cos * dy);
                let coverage = mask.darkness(source_x - 0.5, source_y - 0.5);
                if coverage > 0.0 {
                    pixels.blend(x, y, self.text.color, coverage);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the bounds of everything that is not white, in CSS pixels: left, top, right, bottom.
    fn bounds(angle: f64, anchor: Anchor) -> [f64; 4] {
        let text = Text { size: 12, anchor, color: Color(0, 0, 0), bold: false, angle };
        let mut pixels = Pixels::of(&Scene::new(120.0, 120.0)).unwrap();
        Turned { at: (60.0, 60.0), content: "HHHHH".to_owned(), text }.draw(&mut pixels).unwrap();
        let mut found = [f64::INFINITY, f64::INFINITY, 0.0, 0.0];
        for (index, _) in pixels.bytes.chunks(3).enumerate().filter(|(_, pixel)| pixel[0] < 128) {
            let (x, y) =
                ((index % pixels.width) as f64 / SCALE, (index / pixels.width) as f64 / SCALE);
            found = [found[0].min(x), found[1].min(y), found[2].max(x), found[3].max(y)];
        }
        found
    }

    #[test]
    fn text_turns_about_its_anchor() {
        // Five letters of 752/1000 em at 12 pixels: 45 pixels long and, at 0.73 em, 9 pixels high.
        for (angle, anchor, expected) in [
            (0.0, Anchor::Start, [60.0, 51.0, 105.0, 60.0]),
            (90.0, Anchor::Start, [51.0, 15.0, 60.0, 60.0]),
            (90.0, Anchor::Middle, [51.0, 37.5, 60.0, 82.5]),
            (180.0, Anchor::End, [60.0, 60.0, 105.0, 69.0]),
        ] {
            for (found, expected) in bounds(angle, anchor).iter().zip(expected) {
                assert!((found - expected).abs() < 2.0, "{angle}: {found} {expected}");
            }
        }
    }
}
