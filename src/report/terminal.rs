//! Tables as aligned text for a terminal.

use crate::report::grid::{Align, Grid};

/// The space between two columns.
const GAP: &str = "  ";

/// Writes a table with a rule under its headers and its notes below it.
pub fn table(grid: &Grid) -> String {
    let mut cells: Vec<Vec<String>> =
        vec![grid.headers.iter().map(|header| header.label.clone()).collect()];
    cells.extend(
        grid.rows
            .iter()
            .map(|row| row.iter().map(|cell| cell.plain().replace(['\n', '\r'], " ")).collect()),
    );
    let mut widths: Vec<usize> = (0..grid.headers.len())
        .map(|column| cells.iter().map(|row| width(&row[column])).max().unwrap_or(0))
        .collect();
    widen_for_groups(grid, &mut widths);

    let mut lines = Vec::new();
    if grid.has_groups() {
        lines.push(group_line(grid, &widths));
    }
    let aligned = |row: &Vec<String>| {
        let padded = row
            .iter()
            .zip(&widths)
            .zip(&grid.headers)
            .map(|((cell, &width), header)| pad(cell, width, header.align));
        padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    lines.push(aligned(&cells[0]));
    lines.push(widths.iter().map(|&width| "─".repeat(width)).collect::<Vec<_>>().join(GAP));
    lines.extend(cells[1..].iter().map(aligned));
    lines.extend(grid.notes.iter().cloned());
    lines.join("\n") + "\n"
}

/// Counts characters; the tables hold no wide ones but in users' own names.
fn width(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, to: usize, align: Align) -> String {
    let space = " ".repeat(to.saturating_sub(width(text)));
    match align {
        Align::Left => format!("{text}{space}"),
        Align::Right => format!("{space}{text}"),
    }
}

/// Widens the last column of a group whose name is wider than its columns.
fn widen_for_groups(grid: &Grid, widths: &mut [usize]) {
    let mut start = 0;
    for (group, count) in grid.groups() {
        let end = start + count;
        let available = spanned(&widths[start..end]);
        if width(group) > available {
            widths[end - 1] += width(group) - available;
        }
        start = end;
    }
}

/// Prints each group's name over the middle of its columns.
fn group_line(grid: &Grid, widths: &[usize]) -> String {
    let mut start = 0;
    let mut parts = Vec::new();
    for (group, count) in grid.groups() {
        let available = spanned(&widths[start..start + count]);
        let left = (available - width(group)) / 2;
        let text = format!("{}{group}", " ".repeat(left));
        parts.push(pad(&text, available, Align::Left));
        start += count;
    }
    parts.join(GAP).trim_end().to_owned()
}

fn spanned(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::grid::{Cell, Header};

    #[test]
    fn columns_line_up() {
        let header = |group: &str, label: &str, align| Header {
            group: group.into(),
            label: label.into(),
            align,
        };
        let grid = Grid {
            headers: vec![
                header("", "source", Align::Left),
                header("capacity", "a", Align::Right),
                header("capacity", "b", Align::Right),
            ],
            rows: vec![
                vec![
                    Cell::Text("waves".into()),
                    Cell::spread(Some(0.5), Some(0.011), 2, None),
                    Cell::Missing,
                ],
                vec![
                    Cell::Text("noise".into()),
                    Cell::rounded(Some(2.0), None),
                    Cell::rounded(Some(-1.0), None),
                ],
            ],
            notes: vec!["capacity: mean ± s.e.m., n = 5".into()],
        };
        let expected = "              capacity
source              a       b
──────  ─────────────  ──────
waves   0.500 ± 0.011       –
noise           2.000  -1.000
capacity: mean ± s.e.m., n = 5
";
        assert_eq!(table(&grid), expected);
    }
}
