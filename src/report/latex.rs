//! Tables as LaTeX, in the manner of the package `booktabs`.

use crate::report::grid::{Align, Cell, Grid, Number};

/// Writes a floating table with its caption, its label, and its notes.
pub fn table(grid: &Grid, caption: &str, label: &str) -> String {
    let columns: String = grid
        .headers
        .iter()
        .map(|header| match header.align {
            Align::Left => 'l',
            Align::Right => 'r',
        })
        .collect();
    let mut lines = vec![
        "% Needs \\usepackage{booktabs}.".to_owned(),
        "\\begin{table}[t]".to_owned(),
        "  \\centering".to_owned(),
        format!("  \\caption{{{}}}", escape(caption)),
        format!("  \\label{{{}}}", identifier(label)),
        format!("  \\begin{{tabular}}{{{columns}}}"),
        "    \\toprule".to_owned(),
    ];
    if grid.has_groups() {
        lines.extend(group_lines(grid));
    }
    lines.push(row(grid.headers.iter().map(|header| escape(&header.label))));
    lines.push("    \\midrule".to_owned());
    lines.extend(grid.rows.iter().map(|cells| row(cells.iter().map(cell))));
    lines.push("    \\bottomrule".to_owned());
    lines.push("  \\end{tabular}".to_owned());
    for note in &grid.notes {
        lines.push(format!("  \\par\\smallskip{{\\footnotesize {}}}", escape(note)));
    }
    lines.push("\\end{table}".to_owned());
    lines.join("\n") + "\n"
}

/// Escapes text so that LaTeX prints it as it is.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            '{' | '}' | '$' | '&' | '#' | '_' | '%' => escaped.extend(['\\', c]),
            '±' => escaped.push_str("$\\pm$"),
            '–' => escaped.push_str("--"),
            '…' => escaped.push_str("\\dots{}"),
            '\n' | '\r' => escaped.push(' '),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Prints each group over its columns, with a rule below it.
fn group_lines(grid: &Grid) -> [String; 2] {
    let mut start = 1;
    let mut heads = Vec::new();
    let mut rules = Vec::new();
    for (group, width) in grid.groups() {
        if group.is_empty() {
            heads.push(String::new());
        } else {
            heads.push(format!("\\multicolumn{{{width}}}{{c}}{{{}}}", escape(group)));
            rules.push(format!("\\cmidrule(lr){{{start}-{}}}", start + width - 1));
        }
        start += width;
    }
    [row(heads.into_iter()), format!("    {}", rules.join(" "))]
}

fn row(cells: impl Iterator<Item = String>) -> String {
    let cells = cells.collect::<Vec<_>>().join(" & ");
    // The end of the line above would take these for its own argument or star.
    let guard = if cells.starts_with(['[', '*']) { "{}" } else { "" };
    format!("    {guard}{cells} \\\\")
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Missing => "--".to_owned(),
        Cell::Text(text) => escape(text),
        Cell::Number(number) => math(number),
    }
}

fn math(number: &Number) -> String {
    let body = match &number.spread {
        None => number.value.clone(),
        Some(spread) if number.exponent == 0 => format!("{} \\pm {spread}", number.value),
        Some(spread) => format!("({} \\pm {spread})", number.value),
    };
    let power = match number.exponent {
        0 => String::new(),
        exponent => format!(" \\times 10^{{{exponent}}}"),
    };
    let single = if number.single { " ($n=1$)" } else { "" };
    format!("${body}{power}${single}")
}

/// Keeps the characters that are safe in a label.
fn identifier(label: &str) -> String {
    label
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.') { c } else { '-' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::grid::Header;

    #[test]
    fn tables_are_in_booktabs_style() {
        let header = |group: &str, label: &str, align| Header {
            group: group.into(),
            label: label.into(),
            align,
        };
        let grid = Grid {
            headers: vec![
                header("", "wave_source", Align::Left),
                header("capacity", "conv1", Align::Right),
                header("capacity", "conv2", Align::Right),
            ],
            rows: vec![vec![
                Cell::Text("50% & more".into()),
                Cell::spread(Some(0.5), Some(0.011), 2, None),
                Cell::Missing,
            ]],
            notes: vec!["capacity: mean ± s.e.m., n = 5".into()],
        };
        let expected = r"% Needs \usepackage{booktabs}.
\begin{table}[t]
  \centering
  \caption{Capacity \& more}
  \label{tab:my-table}
  \begin{tabular}{lrr}
    \toprule
     & \multicolumn{2}{c}{capacity} \\
    \cmidrule(lr){2-3}
    wave\_source & conv1 & conv2 \\
    \midrule
    50\% \& more & $0.500 \pm 0.011$ & -- \\
    \bottomrule
  \end{tabular}
  \par\smallskip{\footnotesize capacity: mean $\pm$ s.e.m., n = 5}
\end{table}
";
        assert_eq!(table(&grid, "Capacity & more", "tab:my_table"), expected);
    }

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(
            escape(r"\a{b}_c^d~e#f$g%h<i"),
            r"\textbackslash{}a\{b\}\_c\textasciicircum{}d\textasciitilde{}e\#f\$g\%h\textless{}i"
        );
    }

    #[test]
    fn numbers_are_set_as_mathematics() {
        for (mean, spread, expected) in [
            (1.234_56e-5, None, "$1.235 \\times 10^{-5}$ ($n=1$)"),
            (1.2e-8, Some(3.0e-10), "$(1.200 \\pm 0.030) \\times 10^{-8}$"),
            (-0.5, Some(0.1), "$-0.50 \\pm 0.10$"),
        ] {
            let n = if spread.is_some() { 2 } else { 1 };
            assert_eq!(cell(&Cell::spread(Some(mean), spread, n, None)), expected);
        }
        let key = Cell::key(Some(&crate::report::data::AxisValue::Float(1e-5)));
        assert_eq!(cell(&key), "$1 \\times 10^{-5}$");
    }

    #[test]
    fn no_cell_is_taken_for_an_argument_of_the_line_above() {
        for (text, expected) in
            [("[b]", "    {}[b] \\\\"), ("*", "    {}* \\\\"), ("b", "    b \\\\")]
        {
            assert_eq!(row(std::iter::once(cell(&Cell::Text(text.into())))), expected);
        }
    }
}
