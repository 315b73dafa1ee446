//! A sheet to draw on, saved as SVG or PNG: this file and `raster` are the only ones that name the plotting crate.

use std::fmt::Write;

use kuva::{
    backend::svg::SvgBackend,
    render::{
        color::Color as Paint,
        math,
        render::{PathData, Primitive, Scene, TextAnchor, TextSpan},
    },
};

use crate::report::{
    error::ReportError,
    plot::{
        image::Image,
        palette::{Color, Dash, Shape},
        raster::{self, Turned},
    },
};

/// A white sheet of CSS pixels, with y downwards.
#[derive(Debug)]
pub struct Canvas {
    scene: Scene,
    /// Under everything else.
    images: Vec<Image>,
    /// Text at an angle, which the two formats draw in different ways.
    turned: Vec<Turned>,
}

/// How text is set.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Height of the font in pixels.
    pub size: u32,
    pub anchor: Anchor,
    pub color: Color,
    /// Only for text that is not turned.
    pub bold: bool,
    /// Turn in degrees against the clock; nothing for upright text.
    pub angle: f64,
}

/// The point of a text that stands at the given place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A sign at a point.
#[derive(Clone, Copy, Debug)]
pub struct Marker {
    pub shape: Shape,
    /// Radius of the circle of the same area.
    pub radius: f64,
    pub color: Color,
    pub opacity: f64,
    pub edge: Edge,
}

/// The outline of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    None,
    /// A fine white line, which tells overlapping markers apart.
    White,
}

/// A pen.
#[derive(Clone, Copy, Debug)]
pub struct Stroke {
    pub color: Color,
    pub width: f64,
    pub dash: Dash,
}

/// `DejaVu Sans` is what the PNG uses and what text is measured with; the others are about as wide or narrower.
const FONTS: &str = "DejaVu Sans, Helvetica, Arial, sans-serif";

/// The first element of an SVG, above which images come.
const SHEET: &str = "<rect width=\"100%\" height=\"100%\" fill=\"white\" />";

const WHITE: Paint = Paint::Rgb(0xFF, 0xFF, 0xFF);
const EDGE_WIDTH: f64 = 0.7;

impl Canvas {
    /// Takes an empty sheet.
    pub fn new(width: f64, height: f64) -> Self {
        let mut scene = Scene::new(width, height);
        scene.font_family = Some(FONTS.to_owned());
        Self { scene, images: Vec::new(), turned: Vec::new() }
    }

    /// Puts an image under everything else; one without cells is none.
    pub fn image(&mut self, image: Image) {
        if !image.levels.is_empty() {
            self.images.push(image);
        }
    }

    /// Draws connected segments.
    pub fn line(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        // Two points as a line, because the raster back end draws polylines with round ends.
        let dash = (stroke.dash == Dash::Dashed).then(|| "6 3".to_owned());
        self.scene.add(match points {
            &[(x1, y1), (x2, y2)] => Primitive::Line {
                x1,
                y1,
                x2,
                y2,
                stroke: paint(stroke.color),
                stroke_width: stroke.width,
                stroke_dasharray: dash,
            },
            _ => Primitive::PolyLine {
                points: points.to_vec(),
                stroke: paint(stroke.color),
                stroke_width: stroke.width,
                stroke_dasharray: dash,
            },
        });
    }

    /// Fills a polygon.
    pub fn polygon(&mut self, points: &[(f64, f64)], color: Color, opacity: f64) {
        self.edged_polygon(points, color, opacity, Edge::None);
    }

    /// Fills an upright rectangle given by two opposite corners.
    pub fn rectangle(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), color: Color) {
        self.scene.add(Primitive::Rect {
            x: x1.min(x2),
            y: y1.min(y2),
            width: (x2 - x1).abs(),
            height: (y2 - y1).abs(),
            fill: paint(color),
            stroke: None,
            stroke_width: None,
            opacity: None,
        });
    }

    /// Draws a marker of the area of a circle of its radius.
    pub fn marker(&mut self, (x, y): (f64, f64), marker: Marker) {
        let Marker { shape, radius, color, opacity, edge } = marker;
        let corners: &[(f64, f64)] = match shape {
            Shape::Circle => {
                self.scene.add(Primitive::Circle {
                    cx: x,
                    cy: y,
                    r: radius,
                    fill: paint(color),
                    fill_opacity: (opacity < 1.0).then_some(opacity),
                    stroke: (edge == Edge::White).then_some(WHITE),
                    stroke_width: (edge == Edge::White).then_some(EDGE_WIDTH),
                });
                return;
            }
            Shape::Square => &[(-0.89, -0.89), (0.89, -0.89), (0.89, 0.89), (-0.89, 0.89)],
            Shape::Diamond => &[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)],
            Shape::Triangle => &[(0.0, -1.4), (1.25, 0.8), (-1.25, 0.8)],
            Shape::InvertedTriangle => &[(0.0, 1.4), (1.25, -0.8), (-1.25, -0.8)],
        };
        let points: Vec<(f64, f64)> =
            corners.iter().map(|(dx, dy)| (x + dx * radius, y + dy * radius)).collect();
        self.edged_polygon(&points, color, opacity, edge);
    }

    /// Writes a line of text with its baseline at `y`; `$…$` is mathematics, `\$` a dollar.
    pub fn text(&mut self, (x, y): (f64, f64), content: &str, text: Text) {
        if text.angle == 0.0 {
            self.scene.add(upright((x, y), content, text));
        } else {
            self.turned.push(Turned { at: (x, y), content: content.to_owned(), text });
        }
    }

    /// Draws many discs of one look that is not told apart where they overlap.
    pub fn crowd(&mut self, points: &[(f64, f64)], marker: Marker) {
        self.scene.add(Primitive::CircleBatch {
            cx: points.iter().map(|point| point.0).collect(),
            cy: points.iter().map(|point| point.1).collect(),
            r: marker.radius,
            fill: paint(marker.color),
            fill_opacity: None,
            stroke: None,
            stroke_width: None,
        });
    }

    /// Returns the picture as SVG that scales with its page; `label` describes it to those who cannot see it.
    pub fn svg(&self, label: &str) -> String {
        let (width, height) = (self.scene.width, self.scene.height);
        let mut scene = Scene::new(width, height);
        scene.font_family = Some(FONTS.to_owned());
        scene.elements = self.scene.elements.iter().flat_map(compact).collect();
        scene.elements.extend(self.turned.iter().map(|turned| Primitive::Text {
            x: turned.at.0,
            y: turned.at.1,
            content: turned.content.clone(),
            size: turned.text.size,
            anchor: turned.text.anchor.into(),
            rotate: Some(-turned.text.angle),
            bold: false,
            color: Some(paint(turned.text.color)),
        }));
        let svg = SvgBackend::new().with_pretty(true).render_scene(&scene);
        let label = plain(label).replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        let svg = svg.replacen(
            "<svg ",
            &format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\" "),
            1,
        );
        let mut images = SHEET.to_owned();
        for image in &self.images {
            images += &format!("\n  {}", image.svg());
        }
        svg.replacen(SHEET, &images, 1)
    }

    /// Returns the picture as PNG with 288 dots to the inch.
    pub fn png(&self) -> Result<Vec<u8>, ReportError> {
        raster::png(&self.scene, &self.images, &self.turned).map_err(ReportError::Draw)
    }

    fn edged_polygon(&mut self, points: &[(f64, f64)], color: Color, opacity: f64, edge: Edge) {
        let mut path = String::new();
        for (i, (x, y)) in points.iter().enumerate() {
            let command = if i == 0 { 'M' } else { 'L' };
            write!(path, "{command}{x:.2} {y:.2} ").expect("a string takes any text");
        }
        self.scene.add(Primitive::Path(Box::new(PathData {
            d: path + "Z",
            fill: Some(paint(color)),
            stroke: if edge == Edge::White { WHITE } else { Paint::None },
            stroke_width: if edge == Edge::White { EDGE_WIDTH } else { 0.0 },
            opacity: (opacity < 1.0).then_some(opacity),
            stroke_dasharray: None,
        })));
    }
}

impl Text {
    /// Sets upright text of the size of labels, starting at its place.
    pub fn new(color: Color) -> Self {
        Self { size: 12, anchor: Anchor::Start, color, bold: false, angle: 0.0 }
    }
}

/// Measures a line of text in pixels, from the advances of `DejaVu Sans`.
pub fn text_width(text: &str, size: u32) -> f64 {
    /// Advances of the characters from space to tilde, in thousandths of the size.
    const ADVANCES: [u16; 95] = [
        318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636,
        636, 636, 636, 636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698,
        770, 632, 575, 775, 752, 295, 295, 656, 557, 863, 748, 787, 603, 787, 695, 635, 611, 732,
        684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635, 615, 352, 635,
        634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592,
        525, 636, 337, 636, 838,
    ];
    let advance = |c: char| match c {
        ' '..='~' => ADVANCES[c as usize - 32],
        '⁰'..='⁹' | '¹' | '²' | '³' => 401,
        '⁻' => 528,
        '±' | '−' | '×' => 838,
        'α'..='ω' | '–' => 636,
        // Wide scripts take a whole em.
        _ => 1000,
    };
    plain(text).chars().map(|c| f64::from(advance(c))).sum::<f64>() * f64::from(size) / 1000.0
}

/// Makes a line of upright text; the raster back end knows bold only for spans.
pub(crate) fn upright((x, y): (f64, f64), content: &str, text: Text) -> Primitive {
    let spans = vec![TextSpan { bold: text.bold, ..TextSpan::plain(plain(content)) }];
    Primitive::RichText {
        x,
        y,
        spans,
        size: text.size,
        anchor: text.anchor.into(),
        color: Some(paint(text.color)),
    }
}

/// Writes many discs as dots of one path, at a tenth of the size; other elements stay as they are.
fn compact(element: &Primitive) -> Vec<Primitive> {
    let Primitive::CircleBatch { cx, cy, r, fill, .. } = element else {
        return vec![element.clone()];
    };
    // Each dot is told by its distance from the one before, in tenths of a pixel, without an error that adds up.
    let tenths = |value: f64| (10.0 * value).round() as i64;
    let mut path = String::new();
    let mut before = (0, 0);
    for (x, y) in cx.iter().zip(cy).map(|(x, y)| (tenths(*x), tenths(*y))) {
        let step = |by: i64| by as f64 / 10.0;
        write!(path, "m{} {}h0", step(x - before.0), step(y - before.1))
            .expect("a string takes any text");
        before = (x, y);
    }
    let dots = PathData {
        d: path,
        fill: None,
        stroke: fill.clone(),
        stroke_width: 2.0 * r,
        opacity: None,
        stroke_dasharray: None,
    };
    let round = Some("stroke-linecap=\"round\"".to_owned());
    let group = Primitive::GroupStart { transform: None, title: None, extra_attrs: round };
    vec![group, Primitive::Path(Box::new(dots)), Primitive::GroupEnd]
}

/// Turns `$…$` into characters and `\$` into a dollar that begins no mathematics.
fn plain(text: &str) -> String {
    if math::needs_rewrite(text) { math::to_unicode(text) } else { text.to_owned() }
}

impl From<Anchor> for TextAnchor {
    fn from(anchor: Anchor) -> Self {
        match anchor {
            Anchor::Start => Self::Start,
            Anchor::Middle => Self::Middle,
            Anchor::End => Self::End,
        }
    }
}

fn paint(Color(red, green, blue): Color) -> Paint {
    Paint::Rgb(red, green, blue)
}
