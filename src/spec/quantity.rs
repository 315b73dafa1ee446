//! Sizes and durations as people write them: `"4 GiB"`, `"1h30m"`.

use std::time::Duration;

/// The units of sizes, and their bytes.
const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// The units of durations, and their milliseconds, from large to small.
const TIMES: [(&str, u64); 6] = [
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("min", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// Longer durations are refused: no clock could be set to them.
const LONGEST: Duration = Duration::from_hours(24 * 3650);

/// What [`size`] reads, as a regular expression.
pub const SIZE_PATTERN: &str = r"^[0-9]+(\.[0-9]+)? ?([kKmMgGtT][iI]?)?[bB]$";

/// What [`duration`] reads, as a regular expression.
pub const DURATION_PATTERN: &str =
    r"^[0-9]+(\.[0-9]+)? ?(d|h|m|min|s|ms)( ?[0-9]+(\.[0-9]+)? ?(h|m|min|s|ms))*$";

/// Why a text is no quantity, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misread {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Misread {
    fn new(message: String, hint: impl Into<String>) -> Self {
        Self { message, hint: hint.into() }
    }
}

/// Reads a size in bytes; the unit may be written in any case.
///
/// # Errors
/// The text is no number with a unit, or no number of bytes.
pub fn size(text: &str) -> Result<u64, Misread> {
    const EXAMPLE: &str = "write a number and its unit, such as \"4 GiB\" or \"500 MB\"";
    let wrong = |what: &str| Misread::new(format!("`{text}` is no size: {what}"), EXAMPLE);
    let (number, rest) = number(text.trim()).ok_or_else(|| wrong("it begins with no number"))?;
    let written = rest.trim();
    if written.is_empty() {
        return Err(wrong("it has no unit"));
    }
    let Some((_, unit)) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(written)) else {
        return Err(unknown(written, "size", text, SIZES.map(|(name, _)| name)));
    };
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(*unit),
        Err(_) => number.parse::<f64>().ok().map(|number| (number * *unit as f64).round() as u64),
    };
    match bytes.filter(|bytes| *bytes < 1 << 63) {
        Some(0) => Err(wrong("it is less than one byte")),
        Some(bytes) => Ok(bytes),
        None => Err(wrong("no machine holds that much")),
    }
}

/// Reads a duration: `"90s"`, `"30 min"`, `"1h30m"`, `"2d"`, units from large to small.
///
/// # Errors
/// The text is no sequence of numbers with units, or names no time or too long a time.
pub fn duration(text: &str) -> Result<Duration, Misread> {
    const EXAMPLE: &str = "write numbers and their units, such as \"90s\", \"30 min\" or \"1h30m\"";
    let wrong = |what: &str| Misread::new(format!("`{text}` is no duration: {what}"), EXAMPLE);
    let mut rest = text.trim();
    let (mut milliseconds, mut last) = (0u128, u64::MAX);
    while !rest.is_empty() {
        let (number, after) = number(rest).ok_or_else(|| wrong("it begins with no number"))?;
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let written = &after[..end];
        if written.is_empty() {
            return Err(wrong("a number has no unit"));
        }
        let Some((_, unit)) = TIMES.iter().find(|(name, _)| *name == written) else {
            return Err(unknown(written, "duration", text, TIMES.map(|(name, _)| name)));
        };
        if *unit >= last {
            return Err(wrong("its units do not go from large to small"));
        }
        last = *unit;
        let more = match number.parse::<u64>() {
            Ok(whole) => u128::from(whole) * u128::from(*unit),
            // Whatever is not digits with a point was refused above.
            Err(_) => (number.parse::<f64>().unwrap_or(f64::MAX) * *unit as f64).round() as u128,
        };
        milliseconds = more.saturating_add(milliseconds);
        if milliseconds > LONGEST.as_millis() {
            return Err(wrong("it is longer than ten years"));
        }
        rest = after[end..].trim_start();
    }
    match milliseconds {
        0 => Err(wrong("it is no time at all")),
        some => Ok(Duration::from_millis(some as u64)),
    }
}

/// Splits a text into the number that it begins with, and the rest.
fn number(text: &str) -> Option<(&str, &str)> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let whole = digits(text);
    let fraction = text[whole..].strip_prefix('.').map_or(0, |rest| match digits(rest) {
        0 => 0,
        count => 1 + count,
    });
    (whole > 0).then(|| text.split_at(whole + fraction))
}

fn unknown<const N: usize>(unit: &str, what: &str, text: &str, units: [&str; N]) -> Misread {
    let message = format!("`{text}` is no {what}: there is no unit `{unit}`");
    Misread::new(message, format!("units: {}", units.join(", ")))
}

/// Writes a size in words: `4 GiB`, `15.6 GiB`.
pub fn size_words(bytes: u64) -> String {
    let unit = SIZES[..5].iter().rev().find(|(_, unit)| bytes >= *unit).unwrap_or(&SIZES[0]);
    let (name, unit) = unit;
    if bytes.is_multiple_of(*unit) {
        return format!("{} {name}", bytes / unit);
    }
    format!("{:.1} {name}", bytes as f64 / *unit as f64)
}

/// Writes a duration in words, to the millisecond: `2 h`, `1 h 30 min`.
pub fn duration_words(duration: Duration) -> String {
    let parts = parts(duration, ["d", "h", "min", "s", "ms"]);
    parts.map(|(number, unit)| format!("{number} {unit}")).collect::<Vec<_>>().join(" ")
}

/// Writes a duration as [`duration`] reads it: `2h`, `1h30m`.
pub fn duration_text(duration: Duration) -> String {
    let parts = parts(duration, ["d", "h", "m", "s", "ms"]);
    parts.map(|(number, unit)| format!("{number}{unit}")).collect::<Vec<_>>().concat()
}

/// How many of each unit a duration holds, those of which it holds any; no seconds where there is nothing.
fn parts(duration: Duration, names: [&str; 5]) -> impl Iterator<Item = (u128, &str)> {
    let (mut rest, nothing) = (duration.as_millis(), duration.as_millis() == 0);
    let units = [24 * 60 * 60 * 1000, 60 * 60 * 1000, 60 * 1000, 1000, 1];
    let split = names.into_iter().zip(units).map(move |(name, unit)| {
        let number = rest / unit;
        rest %= unit;
        (number, name)
    });
    split.filter(move |(number, name)| *number > 0 || nothing && *name == "s")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("512 B", 512),
            ("4 GiB", 4 << 30),
            ("4GiB", 4 << 30),
            (" 4  gib ", 4 << 30),
            ("1.5 MiB", 3 << 19),
            ("500 MB", 500_000_000),
            ("1kB", 1000),
            ("0.5 TiB", 1 << 39),
            ("18446744073 B", 18_446_744_073),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, message, hint) in [
            ("4", "no unit", "4 GiB"),
            ("", "no number", "4 GiB"),
            ("GiB", "no number", "4 GiB"),
            ("-4 GiB", "no number", "4 GiB"),
            ("4. GiB", "no unit `. GiB`", "units: B, KiB"),
            ("4 Gi", "no unit `Gi`", "units: B, KiB"),
            ("4 GiBi", "no unit `GiBi`", "units: B, KiB"),
            ("0 GiB", "less than one byte", "4 GiB"),
            ("0.1 B", "less than one byte", "4 GiB"),
            ("99999999 TiB", "no machine", "4 GiB"),
            ("99999999.5 TiB", "no machine", "4 GiB"),
            ("99999999999999999999 B", "no machine", "4 GiB"),
        ] {
            let misread = size(text).unwrap_err();
            assert!(misread.message.contains(message), "{misread:?}");
            assert!(misread.hint.contains(hint), "{misread:?}");
        }
    }

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, milliseconds) in [
            ("90s", 90_000),
            ("30 min", 1_800_000),
            ("30m", 1_800_000),
            ("4h", 14_400_000),
            ("1h30m", 5_400_000),
            ("1 h 30 min", 5_400_000),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
            ("250ms", 250),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for (text, message, hint) in [
            ("90", "a number has no unit", "90s"),
            ("", "no time at all", "90s"),
            ("0s", "no time at all", "90s"),
            ("four hours", "no number", "90s"),
            ("1h 30", "a number has no unit", "90s"),
            ("30m1h", "from large to small", "90s"),
            ("1h1h", "from large to small", "90s"),
            ("1m1min", "from large to small", "90s"),
            ("2 hours", "no unit `hours`", "units: d, h"),
            ("2 mins", "no unit `mins`", "units: d, h"),
            ("99999d", "longer than ten years", "90s"),
            ("99999999999999999999999999999.5d", "longer than ten years", "90s"),
            ("1e9s", "no unit `e`", "units: d, h"),
        ] {
            let misread = duration(text).unwrap_err();
            assert!(misread.message.contains(message), "{misread:?}");
            assert!(misread.hint.contains(hint), "{misread:?}");
        }
    }

    #[test]
    fn quantities_are_written_as_people_say_them() {
        for (bytes, words) in
            [(0, "0 B"), (512, "512 B"), (4 << 30, "4 GiB"), (16_750_000_000, "15.6 GiB")]
        {
            assert_eq!(size_words(bytes), words);
        }
        for (seconds, words, text) in [
            (0, "0 s", "0s"),
            (7200, "2 h", "2h"),
            (5400, "1 h 30 min", "1h30m"),
            (172_801, "2 d 1 s", "2d1s"),
        ] {
            assert_eq!(duration_words(Duration::from_secs(seconds)), words);
            assert_eq!(duration_text(Duration::from_secs(seconds)), text);
        }
        assert_eq!(duration_words(Duration::from_millis(1250)), "1 s 250 ms");
    }

    proptest! {
        /// No text panics, and what is written is read again.
        #[test]
        fn any_text_is_read_or_refused(
            text in "[0-9.]{0,22} ?[a-zA-Z\u{e4}]{0,4}[0-9.]{0,3}[a-z]{0,3}", ms in 1u64..1 << 38,
        ) {
            if let Ok(bytes) = size(&text) {
                prop_assert!(bytes > 0);
            }
            if let Ok(read) = duration(&text) {
                prop_assert!(read > Duration::ZERO && read <= LONGEST);
            }
            let written = Duration::from_millis(ms.min(LONGEST.as_millis() as u64));
            prop_assert_eq!(duration(&duration_text(written)), Ok(written));
            prop_assert_eq!(duration(&duration_words(written)), Ok(written));
        }
    }
}
