//! The page of one experiment: figures, tables, stages and provenance in one file that needs no other.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::report::grid::{Align, Cell, Grid};

/// Everything that the page shows, in its order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub header: PageHeader,
    /// As [`figure`] and [`absent`] write them.
    pub figures: Vec<String>,
    /// As [`table`] and [`absent`] write them.
    pub tables: Vec<String>,
    pub stages: Listing,
    /// Labels and values, such as the commit and the machine.
    pub provenance: Vec<(String, String)>,
}

/// The head of the page.
#[derive(Clone, Debug, Default)]
pub struct PageHeader {
    /// The experiment's name.
    pub title: String,
    /// What the experiment asks.
    pub about: Option<String>,
    /// Short facts in one line, such as when it ran and how many nodes it has.
    pub facts: Vec<String>,
}

/// A figure on the page.
#[derive(Clone, Debug, Default)]
pub struct PageFigure {
    pub name: String,
    pub caption: Option<String>,
    /// The picture itself, an `<svg>` element.
    pub svg: String,
    pub notes: Vec<String>,
    /// Its files beside the page.
    pub files: Vec<String>,
}

/// A table on the page.
#[derive(Clone, Debug, Default)]
pub struct PageTable {
    pub name: String,
    pub caption: Option<String>,
    pub grid: Grid,
    /// Its files beside the page.
    pub files: Vec<String>,
}

/// A plain list with headings, such as that of the stages.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub headers: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Writes the page as HTML.
pub fn html(page: &Page) -> String {
    let PageHeader { title, about, facts } = &page.header;
    let body = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    @if let Some(about) = about { p.about { (about) } }
                    @if !facts.is_empty() { p.facts { (facts.join(" · ")) } }
                    (contents(page))
                }
                main {
                    @if !page.figures.is_empty() {
                        h2 #figures { "Figures" }
                        @for entry in &page.figures { (PreEscaped(entry)) }
                    }
                    @if !page.tables.is_empty() {
                        h2 #tables { "Tables" }
                        @for entry in &page.tables { (PreEscaped(entry)) }
                    }
                    @if !page.stages.rows.is_empty() {
                        h2 #stages { "Stages" }
                        (listing(&page.stages))
                    }
                    @if !page.provenance.is_empty() {
                        h2 #provenance { "Provenance" }
                        dl {
                            @for (label, value) in &page.provenance {
                                div { dt { (label) } dd { (value) } }
                            }
                        }
                    }
                }
            }
        }
    };
    body.into_string() + "\n"
}

fn contents(page: &Page) -> Markup {
    let sections = [
        ("figures", "Figures", page.figures.len()),
        ("tables", "Tables", page.tables.len()),
        ("stages", "Stages", page.stages.rows.len()),
        ("provenance", "Provenance", page.provenance.len()),
    ];
    html! {
        nav {
            @for (id, name, _) in sections.iter().filter(|(_, _, entries)| *entries > 0) {
                a href={ "#" (id) } { (name) }
            }
        }
    }
}

/// Writes the part of the page that shows a figure.
pub fn figure(entry: &PageFigure) -> String {
    let markup = html! {
        figure id={ "figure-" (identifier(&entry.name)) } {
            div.sheet { (PreEscaped(&entry.svg)) }
            (caption(&entry.name, entry.caption.as_deref(), &entry.notes, &entry.files))
        }
    };
    markup.into_string()
}

/// Writes what stands in the place of a report that could not be made.
pub fn absent(name: &str, about: Option<&str>, why: &str) -> String {
    let markup = html! {
        figure {
            div.absent { @for line in why.lines() { p { (line) } } }
            (caption(name, about, &[], &[]))
        }
    };
    markup.into_string()
}

/// Writes the part of the page that shows a table.
pub fn table(entry: &PageTable) -> String {
    let grid = &entry.grid;
    let markup = html! {
        figure id={ "table-" (identifier(&entry.name)) } {
            div.wide {
                table {
                    thead {
                        @if grid.has_groups() {
                            tr { @for (group, width) in grid.groups() {
                                th.group[!group.is_empty()] colspan=(width) { (group) }
                            } }
                        }
                        tr { @for header in &grid.headers {
                            th.number[header.align == Align::Right] { (header.label) }
                        } }
                    }
                    tbody {
                        @for row in &grid.rows {
                            tr { @for (cell, header) in row.iter().zip(&grid.headers) {
                                td.number[header.align == Align::Right] { (self::cell(cell)) }
                            } }
                        }
                    }
                }
            }
            (caption(&entry.name, entry.caption.as_deref(), &grid.notes, &entry.files))
        }
    };
    markup.into_string()
}

fn caption(name: &str, text: Option<&str>, notes: &[String], files: &[String]) -> Markup {
    html! {
        figcaption {
            strong { (name) }
            @if let Some(text) = text { " " (text) }
            @for note in notes { span.note { (note) } }
            @if !files.is_empty() {
                span.files { @for file in files { a href=(file) { (extension(file)) } } }
            }
        }
    }
}

/// Sets powers of ten as powers, and leaves the rest as printed elsewhere.
fn cell(cell: &Cell) -> Markup {
    match cell {
        Cell::Number(number) if number.exponent != 0 => {
            let body = match &number.spread {
                Some(spread) => format!("({} ± {spread})", number.value),
                None => number.value.clone(),
            };
            html! {
                (minus(&body)) " × 10" sup { (minus(&number.exponent.to_string())) }
                @if number.single { " (n=1)" }
            }
        }
        Cell::Number(number) => html! { (minus(&number.to_string())) },
        other => html! { (other.plain()) },
    }
}

fn listing(listing: &Listing) -> Markup {
    html! {
        div.wide {
            table {
                thead { tr { @for header in &listing.headers { th { (header) } } } }
                tbody { @for row in &listing.rows { tr { @for cell in row { td { (cell) } } } } }
            }
        }
    }
}

fn minus(number: &str) -> String {
    number.replace('-', "−")
}

fn extension(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(_, extension)| extension)
}

fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect()
}

const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::grid::Header;

    fn page() -> Page {
        let header = Header { group: "<group>".into(), label: "loss".into(), align: Align::Right };
        Page {
            header: PageHeader {
                title: "waves & <nets>".into(),
                about: Some("Why?".into()),
                facts: vec!["2026-11-03".into(), "12 nodes".into()],
            },
            figures: vec![figure(&PageFigure {
                name: "capacity".into(),
                caption: Some("By layer.".into()),
                svg: "<svg></svg>".into(),
                notes: vec!["n = 5".into()],
                files: vec!["capacity.svg".into(), "capacity.png".into()],
            })],
            tables: vec![
                table(&PageTable {
                    name: "loss".into(),
                    caption: None,
                    grid: Grid {
                        headers: vec![header],
                        rows: vec![vec![Cell::spread(Some(-1.2e-8), Some(3.0e-10), 2, None)]],
                        notes: vec!["loss: 1 of 3 values missing".into()],
                    },
                    files: vec!["loss.csv".into()],
                }),
                absent("gone", None, "lacks <1> of 2 results"),
            ],
            stages: Listing { headers: vec!["stage".into()], rows: vec![vec!["probe".into()]] },
            provenance: vec![("commit".into(), "abc".into())],
        }
    }

    #[test]
    fn the_page_shows_everything_and_needs_nothing_else() {
        let text = html(&page());
        for expected in [
            "<h1>waves &amp; &lt;nets&gt;</h1>",
            "2026-11-03 · 12 nodes",
            "<svg></svg>",
            "<a href=\"capacity.png\">png</a>",
            "&lt;group&gt;</th>",
            "(−1.200 ± 0.030) × 10<sup>−8</sup>",
            "loss: 1 of 3 values missing",
            "<td>probe</td>",
            "<div class=\"absent\"><p>lacks &lt;1&gt; of 2 results</p></div>",
            "<dt>commit</dt><dd>abc</dd>",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        for foreign in ["<script", "http://", "https://", "<link", "@import"] {
            assert!(!text.contains(foreign), "{foreign}");
        }
        assert_eq!(text, html(&page()));
    }

    #[test]
    fn empty_sections_are_left_out() {
        let text = html(&Page::default());
        assert!(!text.contains("<h2") && !text.contains("href=\"#"), "{text}");
    }
}
