//! Tables as GitHub-flavored Markdown.

use crate::report::grid::{Align, Grid};

/// Writes a table with its notes below it.
pub fn table(grid: &Grid) -> String {
    let mut lines = vec![
        row(grid.headers.iter().map(|header| escape(&header.flat()))),
        row(grid.headers.iter().map(|header| match header.align {
            Align::Left => "---".to_owned(),
            Align::Right => "---:".to_owned(),
        })),
    ];
    lines.extend(grid.rows.iter().map(|cells| row(cells.iter().map(|cell| escape(&cell.plain())))));
    for note in &grid.notes {
        lines.extend([String::new(), escape(note)]);
    }
    lines.join("\n") + "\n"
}

fn row(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
}

/// Escapes what Markdown would read as markup; an underscore inside a word is none.
fn escape(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let inside_word = |i: usize| {
        let alphanumeric = |c: Option<&char>| c.is_some_and(|c| c.is_alphanumeric());
        i > 0 && alphanumeric(characters.get(i - 1)) && alphanumeric(characters.get(i + 1))
    };
    let mut escaped = String::with_capacity(text.len());
    for (i, &c) in characters.iter().enumerate() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '_' if inside_word(i) => escaped.push(c),
            '\\' | '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '~' | '&' => {
                escaped.extend(['\\', c]);
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::grid::{Cell, Header};

    #[test]
    fn tables_are_aligned_and_annotated() {
        let header = |group: &str, label: &str, align| Header {
            group: group.into(),
            label: label.into(),
            align,
        };
        let grid = Grid {
            headers: vec![
                header("", "wave_source", Align::Left),
                header("top1", "conv1", Align::Right),
            ],
            rows: vec![vec![
                Cell::Text("a|b".into()),
                Cell::spread(Some(0.5), Some(0.011), 2, None),
            ]],
            notes: vec!["top1: 1 of 3 values missing".into()],
        };
        let expected = "| wave_source | top1 conv1 |\n| --- | ---: |\n| a\\|b | 0.500 ± 0.011 |\n\n\
            top1: 1 of 3 values missing\n";
        assert_eq!(table(&grid), expected);
    }

    #[test]
    fn markup_is_escaped() {
        for (text, expected) in [
            ("top_1_accuracy", "top_1_accuracy"),
            ("_private_", "\\_private\\_"),
            ("a*b<c>\n`d`", "a\\*b\\<c\\> \\`d\\`"),
            ("back\\slash", "back\\\\slash"),
        ] {
            assert_eq!(escape(text), expected);
        }
    }
}
