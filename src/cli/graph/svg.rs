//! A drawing as a picture: one SVG file that needs no other, and no particular font.

use std::collections::BTreeMap;

use super::drawing::{Drawing, Shape, State};
use super::layout::{Direction, Layout, Point, Problem, layout};
use crate::report::plot::canvas::text_width;

/// Drawn with the first of these that is there; none is wider than the first, by which text is measured.
const FONTS: &str = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";
/// Height of text in pixels.
const SIZE: u32 = 12;
/// How much wider bold text is, at most.
const BOLD: f64 = 1.2;
/// From one line of text to the next.
const LINE: f64 = 17.0;
/// From the border of a box to what is in it.
const PADDING: f64 = 10.0;
/// Lines of axes are broken where they get longer than this.
const LONGEST: f64 = 230.0;
/// Radius of the mark of a state, and the room that it takes before the text.
const MARK: f64 = 4.5;
const AFTER_MARK: f64 = 14.0;
/// Around the whole picture.
const MARGIN: f64 = 16.0;

/// Draws a picture.
pub fn svg(drawing: &Drawing) -> String {
    let cards: Vec<Card<'_>> = drawing.boxes.iter().map(Card::of).collect();
    let sizes: Vec<(f64, f64)> = cards.iter().map(|card| (card.width, card.height)).collect();
    // Instances of a stage are many, and wider than high: they stand above each other.
    let expanded = drawing.boxes.iter().any(|shape| shape.node.is_some());
    let direction = if expanded { Direction::Right } else { Direction::Down };
    let groups = groups(&drawing.boxes);
    let problem = Problem { sizes: &sizes, groups: &groups, arrows: &drawing.arrows };
    let placed = layout(&problem, direction);
    let legend = Legend::new();
    let width = placed.size.0.max(legend.width) + 2.0 * MARGIN;
    let height = placed.size.1 + LINE + legend.height + 2.0 * MARGIN;
    let mut text = head(width, height, &drawing.name);
    let left = (width - placed.size.0) / 2.0;
    text += &format!("<g transform=\"translate({} {})\">\n", px(left), px(MARGIN));
    text += &arrows(&placed, direction);
    for (card, center) in cards.iter().zip(&placed.boxes) {
        text += &card.draw(*center);
    }
    text += "</g>\n";
    text += &legend.draw((width - legend.width) / 2.0, height - MARGIN - legend.height);
    text + "</svg>\n"
}

fn head(width: f64, height: f64, name: &str) -> String {
    let (width, height) = (px(width.ceil()), px(height.ceil()));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"{FONTS}\" \
         font-size=\"{SIZE}\" fill=\"#1a1a1a\">\n<title>The graph of {}</title>\n\
         <defs><marker id=\"head\" viewBox=\"0 0 10 10\" refX=\"9.5\" refY=\"5\" \
         markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
         <path d=\"M0 1L10 5L0 9z\" fill=\"#555555\"/></marker></defs>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
        escaped(name)
    )
}

/// What is written into a box, and how large that makes it.
struct Card<'a> {
    shape: &'a Shape,
    axes: Vec<String>,
    status: String,
    width: f64,
    height: f64,
}

impl<'a> Card<'a> {
    fn of(shape: &'a Shape) -> Self {
        let separator = if shape.node.is_some() { ", " } else { " x " };
        let axes = broken(&shape.axes, separator);
        let status = shape.status();
        let lines = axes.iter().map(String::as_str).chain([shape.kind]).map(measured);
        let widths = lines.chain([measured(&shape.stage) * BOLD, AFTER_MARK + measured(&status)]);
        let width = widths.fold(70.0, f64::max) + 2.0 * PADDING;
        let height = LINE * (axes.len() + 3) as f64 + 1.2 * PADDING;
        Self { shape, axes, status, width, height }
    }

    fn draw(&self, (x, y): Point) -> String {
        let (left, top) = (x - self.width / 2.0, y - self.height / 2.0);
        let state = self.shape.state();
        let title = escaped(&format!("{}: {}", self.shape.heading(), self.status));
        let mut text = format!("<g><title>{title}</title>");
        text += &frame(state, (left, top), (self.width, self.height));
        let (x, mut y) = (left + PADDING, top + 0.6 * PADDING + 0.75 * LINE);
        let mut line = |indent: f64, attributes: &str, content: &str| {
            text += &format!(
                "<text x=\"{}\" y=\"{}\"{attributes}>{}</text>",
                px(x + indent),
                px(y),
                escaped(content)
            );
            y += LINE;
        };
        line(0.0, " font-weight=\"bold\"", &self.shape.stage);
        for axes in &self.axes {
            line(0.0, "", axes);
        }
        line(0.0, " fill=\"#555555\"", self.shape.kind);
        line(AFTER_MARK, "", &self.status);
        let at = top + self.height - 0.6 * PADDING - 0.5 * LINE;
        text + &mark(state, (x + MARK, at)) + "</g>\n"
    }
}

/// The outline of a box; its stroke tells the state without its color.
fn frame(state: State, (x, y): Point, (width, height): (f64, f64)) -> String {
    let stroke = match state {
        State::All => " stroke-width=\"1.6\"",
        State::Some => " stroke-width=\"1.6\" stroke-dasharray=\"6 3\"",
        State::None => "",
    };
    format!(
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"4\" fill=\"{}\" stroke=\"{}\"{stroke}/>",
        px(x),
        px(y),
        px(width),
        px(height),
        state.fill(),
        state.stroke(),
    )
}

/// A disc that is full, half full or empty.
fn mark(state: State, (x, y): Point) -> String {
    let (color, radius) = (state.stroke(), px(MARK));
    let disc = |fill: &str| {
        format!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\" fill=\"{fill}\" stroke=\"{color}\"/>",
            px(x),
            px(y)
        )
    };
    match state {
        State::All => disc(color),
        State::None => disc("#ffffff"),
        State::Some => {
            let (top, bottom) = (px(y - MARK), px(y + MARK));
            let x = px(x);
            disc("#ffffff")
                + &format!(
                    "<path d=\"M{x} {top}A{radius} {radius} 0 0 0 {x} {bottom}z\" fill=\"{color}\"/>"
                )
        }
    }
}

/// The stage of each box, by number.
fn groups(boxes: &[Shape]) -> Vec<usize> {
    let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups = Vec::with_capacity(boxes.len());
    for shape in boxes {
        let fresh = stages.len();
        groups.push(*stages.entry(&shape.stage).or_insert(fresh));
    }
    groups
}

fn arrows(placed: &Layout, direction: Direction) -> String {
    let mut text = String::from("<g fill=\"none\" stroke=\"#555555\">\n");
    for points in &placed.arrows {
        text += &format!("<path d=\"{}\" marker-end=\"url(#head)\"/>\n", path(points, direction));
    }
    text + "</g>\n"
}

/// Straight pieces from each first point to the second, joined by curves.
fn path(points: &[Point], direction: Direction) -> String {
    let at = |(x, y): Point| format!("{} {}", px(x), px(y));
    let mut path = String::new();
    let mut last: Option<Point> = None;
    for pair in points.chunks_exact(2) {
        path += &match (last, direction) {
            (None, _) => format!("M{}", at(pair[0])),
            (Some(from), Direction::Down) => {
                let middle = f64::midpoint(from.1, pair[0].1);
                format!("C{} {} {}", at((from.0, middle)), at((pair[0].0, middle)), at(pair[0]))
            }
            (Some(from), Direction::Right) => {
                let middle = f64::midpoint(from.0, pair[0].0);
                format!("C{} {} {}", at((middle, from.1)), at((middle, pair[0].1)), at(pair[0]))
            }
        };
        if pair[1] != pair[0] {
            path += &format!("L{}", at(pair[1]));
        }
        last = Some(pair[1]);
    }
    path
}

/// What the colors and marks mean.
struct Legend {
    width: f64,
    height: f64,
}

impl Legend {
    /// Space between two entries.
    const GAP: f64 = 18.0;

    fn new() -> Self {
        let width: f64 = State::ALL.into_iter().map(Self::entry).sum();
        Self { width: width + 2.0 * Self::GAP, height: LINE + 6.0 }
    }

    fn entry(state: State) -> f64 {
        measured(state.name()) + AFTER_MARK + 2.0 * PADDING
    }

    fn draw(&self, mut left: f64, top: f64) -> String {
        let mut text = String::from("<g>\n");
        let middle = top + self.height / 2.0;
        for state in State::ALL {
            let width = Self::entry(state);
            text += &frame(state, (left, top), (width, self.height));
            text += &mark(state, (left + PADDING + MARK, middle));
            let (x, y) = (left + PADDING + AFTER_MARK, middle + 0.25 * LINE);
            text += &format!("<text x=\"{}\" y=\"{}\">{}</text>\n", px(x), px(y), state.name());
            left += width + Self::GAP;
        }
        text + "</g>\n"
    }
}

/// Joins words to lines that are no longer than need be.
fn broken(words: &[String], separator: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if measured(&format!("{line}{separator}{word}")) <= LONGEST => {
                *line += separator;
                *line += word;
            }
            Some(line) => {
                *line += separator.trim_end();
                lines.push(word.clone());
            }
            None => lines.push(word.clone()),
        }
    }
    lines
}

/// The width of a line as it is: nothing in it is mathematics.
fn measured(line: &str) -> f64 {
    text_width(&line.replace('$', "S"), SIZE)
}

/// Writes a length with a tenth of a pixel.
fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Writes a text so that XML can hold it.
fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            // XML has no way to write these.
            '\u{fffe}' | '\u{ffff}' => '\u{fffd}'.to_string(),
            c if c.is_control() => '\u{fffd}'.to_string(),
            c => c.to_string(),
        })
        .collect()
}
