//! Numbers and failures in words.

use crate::engine::failure::{Failure, FailureKind};

/// Writes a duration as people say it: `840 ms`, `3.2 s`, `2 min 5 s`, `3 h 20 min`.
pub fn duration(seconds: f64) -> String {
    // A sum of nothing is -0.0.
    let seconds = seconds.max(0.0) + 0.0;
    let whole = seconds.round() as u64;
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1000.0),
        s if s < 59.95 => format!("{s:.1} s"),
        _ if whole < 3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Writes a size in bytes: `512 B`, `1.5 MiB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// Writes a number in at most four significant digits.
pub fn number(value: f64) -> String {
    if value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e6) {
        return format!("{value:.3e}");
    }
    let digits = if value.abs() >= 1.0 { 3 - value.abs().log10().floor() as i32 } else { 4 };
    format!("{value:.*}", digits.clamp(0, 4) as usize)
}

/// Writes a count and its noun: `1 node`, `3 nodes`.
pub fn count(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Explains a failure: what, the last lines of the log where they help, and what to do.
pub fn failure(node: &str, failure: &Failure) -> String {
    let mut text = format!("`{node}` failed: {}", failure.message);
    let from_log =
        matches!(failure.kind, FailureKind::Internal | FailureKind::Killed | FailureKind::Program);
    if from_log && !failure.log_tail.is_empty() {
        text += "\n  its log ends:";
        for line in &failure.log_tail {
            text += &format!("\n    {line}");
        }
    }
    if let Some(hint) = &failure.hint {
        text += &format!("\n  hint: {hint}");
    }
    text
}

/// A commit, with `+` where files differ from it.
pub fn commit(commit: Option<&str>, dirty: Option<bool>) -> String {
    let changed = if dirty == Some(true) { "+" } else { "" };
    commit.map_or("none".to_owned(), |commit| format!("{commit}{changed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let durations =
            [(0.0123, "12 ms"), (3.21, "3.2 s"), (59.96, "1 min 0 s"), (7260.0, "2 h 1 min")];
        for (seconds, expected) in durations {
            assert_eq!(duration(seconds), expected);
        }
        for (size, expected) in [(12, "12 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB")] {
            assert_eq!(bytes(size), expected);
        }
        for (value, expected) in [
            (0.0, "0.0000"),
            (0.91234, "0.9123"),
            (12.345, "12.35"),
            (1e-9, "1.000e-9"),
            (54321.0, "54321"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}
