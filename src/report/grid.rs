//! A table as people read it: headers, cells of rounded numbers, and notes.

use crate::report::data::AxisValue;

/// A table for reading; every printed format is made from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grid {
    /// One header a column.
    pub headers: Vec<Header>,
    /// Rows of as many cells as there are headers.
    pub rows: Vec<Vec<Cell>>,
    /// Remarks to be printed under the table, such as how many values are missing.
    pub notes: Vec<String>,
}

/// The heading of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What adjacent columns have in common, printed once over all of them; empty where there is nothing.
    pub group: String,
    /// The column's own name.
    pub label: String,
    /// Where the cells of the column stand.
    pub align: Align,
}

/// The side of a column on which its cells line up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// No value: a null, a failed run, or an instance that does not exist.
    Missing,
    Text(String),
    Number(Number),
}

/// A number rounded for reading: (`value` ± `spread`) × 10^`exponent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// The rounded mantissa.
    pub value: String,
    /// The mantissa of the error, with as many decimals.
    pub spread: Option<String>,
    /// The power of ten; zero for numbers of ordinary size.
    pub exponent: i32,
    /// A spread was asked for, but a single value has none.
    pub single: bool,
}

/// The decimal exponents of numbers that are printed without a power of ten.
const ORDINARY: std::ops::Range<i32> = -3..6;

impl Grid {
    /// Tells whether any column belongs to a group.
    pub fn has_groups(&self) -> bool {
        self.headers.iter().any(|header| !header.group.is_empty())
    }

    /// Returns the runs of adjacent columns that share a group, as (group, number of columns).
    pub fn groups(&self) -> Vec<(&str, usize)> {
        let mut runs: Vec<(&str, usize)> = Vec::new();
        for header in &self.headers {
            match runs.last_mut() {
                Some((group, width)) if *group == header.group && !group.is_empty() => *width += 1,
                _ => runs.push((&header.group, 1)),
            }
        }
        runs
    }
}

impl Header {
    /// Returns group and label in one line.
    pub fn flat(&self) -> String {
        if self.group.is_empty() {
            self.label.clone()
        } else {
            format!("{} {}", self.group, self.label)
        }
    }
}

impl Cell {
    /// Shows a value of a table as it is: text unchanged, numbers with at most four significant digits.
    pub fn raw(value: Option<&AxisValue>, digits: Option<usize>) -> Self {
        match value {
            None => Self::Missing,
            Some(AxisValue::Float(x)) if !x.is_finite() => Self::Missing,
            Some(AxisValue::Float(x)) => {
                Self::Number(digits.map_or_else(|| brief(*x), |digits| fixed(*x, digits)))
            }
            Some(AxisValue::Int(n)) => Self::Number(Number::plain(n.to_string())),
            Some(other) => Self::Text(other.to_string()),
        }
    }

    /// Shows a key of a row: every digit of it, for rounding could make two keys look the same.
    pub fn key(value: Option<&AxisValue>) -> Self {
        match value {
            None => Self::Missing,
            Some(value @ (AxisValue::Float(_) | AxisValue::Int(_))) => {
                let text = value.to_string();
                let (mantissa, exponent) = split(&text);
                Self::Number(Number { exponent, ..Number::plain(mantissa.to_owned()) })
            }
            Some(other) => Self::Text(other.to_string()),
        }
    }

    /// Shows a number with four significant digits, or with the given decimals.
    pub fn rounded(value: Option<f64>, digits: Option<usize>) -> Self {
        value.map_or(Self::Missing, |x| {
            Self::Number(digits.map_or_else(|| significant(x, 4), |digits| fixed(x, digits)))
        })
    }

    /// Shows the mean of `n` values and its spread, rounded to two significant digits of the spread or to the given
    /// decimals.
    pub fn spread(mean: Option<f64>, spread: Option<f64>, n: usize, digits: Option<usize>) -> Self {
        match (mean, spread) {
            (None, _) => Self::Missing,
            (Some(mean), Some(spread)) => Self::Number(with_spread(mean, spread, digits)),
            (Some(_), None) => match Self::rounded(mean, digits) {
                Self::Number(number) => Self::Number(Number { single: n == 1, ..number }),
                other => other,
            },
        }
    }

    /// Returns the cell in one line of plain text.
    pub fn plain(&self) -> String {
        match self {
            Self::Missing => "–".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

impl Number {
    fn plain(value: String) -> Self {
        Self { value, spread: None, exponent: 0, single: false }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.spread, self.exponent) {
            (None, 0) => write!(f, "{}", self.value)?,
            (None, exponent) => write!(f, "{}e{exponent}", self.value)?,
            (Some(spread), 0) => write!(f, "{} ± {spread}", self.value)?,
            (Some(spread), exponent) => write!(f, "({} ± {spread})e{exponent}", self.value)?,
        }
        if self.single { write!(f, " (n=1)") } else { Ok(()) }
    }
}

/// Rounds to a number of significant digits, with a power of ten where the number is very large or small.
fn significant(x: f64, digits: usize) -> Number {
    let scientific = format!("{x:.*e}", digits - 1);
    let (mantissa, exponent) = split(&scientific);
    if x == 0.0 {
        Number::plain("0".to_owned())
    } else if ORDINARY.contains(&exponent) {
        fixed(x, usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0))
    } else {
        Number { exponent, ..Number::plain(mantissa.to_owned()) }
    }
}

/// Writes the shorter of all digits and four of them.
fn brief(x: f64) -> Number {
    let rounded = significant(x, 4);
    let full = format!("{x:e}");
    let (mantissa, exponent) = split(&full);
    let exact = if rounded.exponent == 0 {
        Number::plain(positive_zero(format!("{x}")))
    } else {
        Number { exponent, ..Number::plain(mantissa.to_owned()) }
    };
    if exact.value.len() <= rounded.value.len() { exact } else { rounded }
}

fn with_spread(mean: f64, spread: f64, digits: Option<usize>) -> Number {
    if let Some(digits) = digits {
        return Number { spread: Some(format!("{spread:.digits$}")), ..fixed(mean, digits) };
    }
    // A spread at the level of rounding errors says that all values are the same.
    if spread <= 1e-12 * mean.abs() {
        return Number { spread: Some("0".to_owned()), ..significant(mean, 4) };
    }
    let exponent = exponent_of(mean.abs().max(spread));
    let shift = if ORDINARY.contains(&exponent) { 0 } else { exponent };
    let decimals = usize::try_from(1 - exponent_of(spread) + shift).unwrap_or(0);
    let unit: f64 = format!("1e{shift}").parse().unwrap_or(1.0);
    Number {
        spread: Some(format!("{:.decimals$}", spread / unit)),
        exponent: shift,
        ..fixed(mean / unit, decimals)
    }
}

fn fixed(x: f64, decimals: usize) -> Number {
    Number::plain(positive_zero(format!("{x:.decimals$}")))
}

/// Returns the decimal exponent of a number rounded to two significant digits.
fn exponent_of(x: f64) -> i32 {
    if x == 0.0 { 0 } else { split(&format!("{x:.1e}")).1 }
}

/// Splits the output of `{:e}` into mantissa and exponent.
fn split(scientific: &str) -> (&str, i32) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    (mantissa, exponent.parse().unwrap_or(0))
}

/// Drops the sign of a number that was rounded to zero.
fn positive_zero(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_four_digits() {
        for (x, expected) in [
            (0.912_345, "0.9123"),
            (12.0, "12.00"),
            (99_999.6, "100000"),
            (-0.5, "-0.5000"),
            (0.0, "0"),
            (1.0e-3, "0.001000"),
            (1.234_56e-5, "1.235e-5"),
            (-9.999_96e6, "-1.000e7"),
            (999_999.0, "1.000e6"),
        ] {
            assert_eq!(Cell::rounded(Some(x), None).plain(), expected, "{x}");
        }
        assert_eq!(Cell::rounded(Some(-0.0004), Some(2)).plain(), "0.00");
        assert_eq!(Cell::rounded(None, None).plain(), "–");
    }

    #[test]
    fn the_spread_fixes_the_decimals() {
        for (mean, spread, digits, expected) in [
            (0.912_345, Some(0.004_21), None, "0.9123 ± 0.0042"),
            (0.912_345, Some(0.004_21), Some(3), "0.912 ± 0.004"),
            (0.912_345, Some(0.099_9), None, "0.91 ± 0.10"),
            (12_345.6, Some(234.0), None, "12346 ± 234"),
            (1.2e-8, Some(3.0e-10), None, "(1.200 ± 0.030)e-8"),
            (2.5e9, Some(1.5e8), None, "(2.50 ± 0.15)e9"),
            (0.0, Some(0.01), None, "0.000 ± 0.010"),
            (0.9, Some(1e-17), None, "0.9000 ± 0"),
            (0.9, Some(0.0), None, "0.9000 ± 0"),
            (0.912_345, None, None, "0.9123 (n=1)"),
        ] {
            assert_eq!(
                Cell::spread(Some(mean), spread, if spread.is_some() { 3 } else { 1 }, digits)
                    .plain(),
                expected,
                "{mean} ± {spread:?}"
            );
        }
        assert_eq!(Cell::spread(None, None, 0, None), Cell::Missing);
        // Several values whose deviation no double holds.
        assert_eq!(Cell::spread(Some(0.5), None, 2, None).plain(), "0.5000");
    }

    #[test]
    fn raw_values_are_brief_and_keys_exact() {
        for (value, raw, key) in [
            (AxisValue::Float(0.1), "0.1", "0.1"),
            (AxisValue::Float(0.123_456), "0.1235", "0.123456"),
            (AxisValue::Float(1e-7), "1e-7", "1e-7"),
            (AxisValue::Int(1_234_567), "1234567", "1234567"),
            (AxisValue::Bool(true), "true", "true"),
            (AxisValue::Text("a|b".to_owned()), "a|b", "a|b"),
        ] {
            assert_eq!(Cell::raw(Some(&value), None).plain(), raw);
            assert_eq!(Cell::key(Some(&value)).plain(), key);
        }
        assert_eq!(Cell::raw(Some(&AxisValue::Float(f64::NAN)), None), Cell::Missing);
        let Cell::Number(small) = Cell::key(Some(&AxisValue::Float(1e-7))) else {
            panic!("a number")
        };
        assert_eq!((small.value.as_str(), small.exponent), ("1", -7));
    }
}
