//! Scales: from values to places along an axis, and the ticks that stand there.

/// What an axis measures.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Kind {
    /// Numbers.
    #[default]
    Linear,
    /// Numbers, the largest first.
    Reversed,
    /// Positive numbers, by their logarithm.
    Log,
    /// Names, evenly spaced; value `i` is the `i`-th name.
    Categories(Vec<String>),
}

/// A map from values to places, from 0 at the start of an axis to 1 at its end.
#[derive(Clone, Debug)]
pub struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
    /// All values are whole numbers, and so are the ticks.
    whole: bool,
}

/// A place on an axis that is marked.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    pub value: f64,
    /// Empty for minor ticks.
    pub label: String,
}

/// Decades between labels beyond which those between have no ticks.
const DECADES_APART: i32 = 5;

/// The part of the data's range that is left free at each end.
const PADDING: f64 = 0.04;

impl Scale {
    /// Covers the values, with a little room at both ends.
    pub fn new(kind: &Kind, values: impl Iterator<Item = f64>) -> Self {
        Self::padded(kind, values, PADDING)
    }

    /// Covers the values from end to end; `whole` says that what stands between them are whole numbers.
    pub fn fitting(kind: &Kind, values: impl Iterator<Item = f64>, whole: bool) -> Self {
        let scale = Self::padded(kind, values, 0.0);
        Self { whole: scale.is_categorical() || (whole && scale.high - scale.low > 2.0), ..scale }
    }

    fn padded(kind: &Kind, values: impl Iterator<Item = f64>, padding: f64) -> Self {
        if let Kind::Categories(names) = kind {
            return Self {
                kind: kind.clone(),
                low: -0.5,
                high: names.len().max(1) as f64 - 0.5,
                whole: true,
            };
        }
        let log = *kind == Kind::Log;
        let mut whole = true;
        let usable = values
            .filter(|value| value.is_finite() && (!log || *value > 0.0))
            .inspect(|value| whole &= value.fract() == 0.0);
        let place = |value: f64| if log { libm::log10(value) } else { value };
        let (low, high) = usable
            .map(place)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let span = if high > low {
            high - low
        } else if log || low == 0.0 {
            1.0
        } else {
            low.abs()
        };
        Self {
            kind: kind.clone(),
            low: low - padding * span,
            high: high + padding * span,
            whole: whole && high - low >= 2.0,
        }
    }

    /// Starts the scale at zero where all values are on one side of it.
    #[must_use]
    pub fn from_zero(self) -> Self {
        let range = self.high - self.low;
        if self.low + PADDING * range > 0.0 {
            Self { low: 0.0, ..self }
        } else if self.high - PADDING * range < 0.0 {
            Self { high: 0.0, ..self }
        } else {
            self
        }
    }

    /// Returns the scale of the numbers themselves, of a logarithmic one that spans few.
    fn unlogged(&self) -> Self {
        let [low, high] = [self.low, self.high].map(|place| libm::pow(10.0, place));
        Self { kind: Kind::Linear, low, high, whole: false }
    }

    /// Returns the place of a value.
    pub fn place(&self, value: f64) -> f64 {
        let value = if self.is_log() { libm::log10(value.max(f64::MIN_POSITIVE)) } else { value };
        let place = (value - self.low) / (self.high - self.low);
        if self.kind == Kind::Reversed { 1.0 - place } else { place }
    }

    /// Returns how much the scale covers, in values or powers of ten.
    pub fn span(&self) -> f64 {
        self.high - self.low
    }

    /// Tells whether the scale has names instead of numbers.
    pub fn is_categorical(&self) -> bool {
        matches!(self.kind, Kind::Categories(_))
    }

    /// Tells whether the scale is logarithmic.
    pub fn is_log(&self) -> bool {
        self.kind == Kind::Log
    }

    /// Returns about `count` labeled ticks, and the unlabeled ones between them.
    pub fn ticks(&self, count: usize) -> Vec<Tick> {
        match &self.kind {
            Kind::Linear | Kind::Reversed => linear_ticks(self, count),
            Kind::Log => {
                let ticks = log_ticks(self.low, self.high, count);
                let labeled = ticks.iter().filter(|tick| !tick.label.is_empty()).count();
                // Less than a decade may hold no round multiple of a power of ten.
                if labeled < 2 { linear_ticks(&self.unlogged(), count) } else { ticks }
            }
            Kind::Categories(names) => names
                .iter()
                .enumerate()
                .map(|(i, name)| Tick { value: i as f64, label: name.clone() })
                .collect(),
        }
    }
}

/// Places about `count` ticks at multiples of 1, 2, 2.5 or 5 times a power of ten.
fn linear_ticks(&Scale { low, high, whole, .. }: &Scale, count: usize) -> Vec<Tick> {
    let ideal = (high - low) / count.max(1) as f64;
    let ideal = if whole { ideal.max(1.0) } else { ideal };
    let power = libm::floor(libm::log10(ideal)) as i32;
    let (step, decimals) = [(1.0, 0), (2.0, 0), (2.5, 1), (5.0, 0), (10.0, -1)]
        .into_iter()
        .filter(|(multiple, _)| !(whole && *multiple == 2.5 && power == 0))
        .map(|(multiple, decimals)| (multiple * ten_to(power), decimals - power))
        .find(|(step, _)| *step >= ideal * 0.85)
        .unwrap_or((10.0 * ten_to(power), -1 - power));
    let first = libm::ceil(low / step - 1e-9) as i64;
    let last = libm::floor(high / step + 1e-9) as i64;
    let largest = libm::fabs(low).max(libm::fabs(high));
    (first..=last)
        .map(|i| {
            let value = i as f64 * step;
            Tick {
                value,
                label: linear_label(value, usize::try_from(decimals).unwrap_or(0), largest),
            }
        })
        .collect()
}

/// Writes a number with the decimals of its axis, or with a power of ten if the axis needs one.
fn linear_label(value: f64, decimals: usize, largest: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if largest < 1e5 && decimals <= 4 {
        return format!("{value:.decimals$}").replace('-', "−");
    }
    // Twelve digits drop the rounding errors of a multiple of the step.
    let rounded: f64 = format!("{value:.11e}").parse().unwrap_or(value);
    let text = format!("{rounded:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{}×10{}", mantissa.replace('-', "−"), superscript(exponent))
}

/// Places ticks at powers of ten, or at 1, 2 and 5 times them if the axis spans few; the other multiples are minor.
fn log_ticks(low: f64, high: f64, count: usize) -> Vec<Tick> {
    let decades = high - low;
    let stride = (libm::ceil(decades / count.max(1) as f64 - 0.35) as i32).max(1);
    let labeled: &[u32] = match decades {
        few if few < 0.7 => &[1, 2, 3, 4, 5, 6, 7, 8, 9],
        few if few < 1.6 => &[1, 2, 5],
        _ => &[1],
    };
    let mut ticks = Vec::new();
    for power in libm::floor(low) as i32..=libm::ceil(high) as i32 {
        for multiple in 1..10u32 {
            let value = f64::from(multiple) * ten_to(power);
            let place = libm::log10(value);
            if place < low - 1e-9 || place > high + 1e-9 || (multiple > 1 && stride > 1) {
                continue;
            }
            let named = labeled.contains(&multiple) && power.rem_euclid(stride) == 0;
            if !named && stride > DECADES_APART {
                continue;
            }
            let label = match (named, labeled.len()) {
                (false, _) => String::new(),
                (true, 1) => format!("10{}", superscript(&power.to_string())),
                (true, _) => few_decades_label(multiple, power),
            };
            ticks.push(Tick { value, label });
        }
    }
    ticks
}

fn few_decades_label(multiple: u32, power: i32) -> String {
    match power {
        0..=4 => format!("{multiple}{}", "0".repeat(power as usize)),
        -3..0 => format!("0.{}{multiple}", "0".repeat((-power - 1) as usize)),
        _ if multiple == 1 => format!("10{}", superscript(&power.to_string())),
        _ => format!("{multiple}×10{}", superscript(&power.to_string())),
    }
}

/// Returns the double nearest to a power of ten.
fn ten_to(power: i32) -> f64 {
    format!("1e{power}").parse().unwrap_or(f64::INFINITY)
}

fn superscript(digits: &str) -> String {
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    digits.chars().map(|c| c.to_digit(10).map_or('⁻', |digit| RAISED[digit as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &Kind, values: &[f64], count: usize, expected: &[&str]) {
        let ticks = Scale::new(kind, values.iter().copied()).ticks(count);
        let labels: Vec<&str> = ticks
            .iter()
            .map(|tick| tick.label.as_str())
            .filter(|label| !label.is_empty())
            .collect();
        assert_eq!(labels, expected, "{values:?}");
    }

    #[test]
    fn linear_ticks_are_round() {
        check(&Kind::Linear, &[0.0, 1.0], 5, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        check(&Kind::Linear, &[0.1, 9.0], 4, &["0", "2.5", "5.0", "7.5"]);
        check(&Kind::Linear, &[0.0, 9.0], 4, &["0", "5"]);
        check(&Kind::Linear, &[-3.0, 3.0], 3, &["−2", "0", "2"]);
        check(&Kind::Linear, &[0.0, 2e6], 3, &["0", "1×10⁶", "2×10⁶"]);
        check(&Kind::Linear, &[0.0, 3e-6], 3, &["0", "1×10⁻⁶", "2×10⁻⁶", "3×10⁻⁶"]);
        check(&Kind::Linear, &[5.0], 3, &["4.8", "5.0", "5.2"]);
    }

    #[test]
    fn log_ticks_are_powers_or_their_multiples() {
        check(&Kind::Log, &[1e-3, 1e2], 6, &["10⁻³", "10⁻²", "10⁻¹", "10⁰", "10¹", "10²"]);
        check(
            &Kind::Log,
            &[1e-10, 1e2],
            6,
            &["10⁻¹⁰", "10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²", "10⁰", "10²"],
        );
        check(&Kind::Log, &[0.1, 1.0], 5, &["0.1", "0.2", "0.5", "1"]);
        check(&Kind::Log, &[10.0, 40.0], 5, &["10", "20", "30", "40"]);
        check(&Kind::Log, &[0.0, -1.0], 5, &["1", "2", "5", "10"]);
        check(&Kind::Log, &[1.2, 1.8], 5, &["1.2", "1.4", "1.6", "1.8"]);
        check(&Kind::Log, &[3.31e-7, 3.39e-7], 3, &["3.325×10⁻⁷", "3.35×10⁻⁷", "3.375×10⁻⁷"]);
        // Hundreds of decades would be a bar of unlabeled ticks.
        let many = Scale::new(&Kind::Log, [1e-300, 1.0].into_iter()).ticks(5);
        assert!(many.len() < 8 && many.iter().all(|tick| !tick.label.is_empty()), "{many:?}");
    }

    #[test]
    fn places_run_from_zero_to_one() {
        let linear = Scale::new(&Kind::Linear, [0.0, 10.0].into_iter());
        assert!((linear.place(5.0) - 0.5).abs() < 1e-15 && linear.place(0.0) > 0.0);
        assert_eq!(Scale::new(&Kind::Linear, [1.0, 10.0].into_iter()).from_zero().place(0.0), 0.0);
        let log = Scale::new(&Kind::Log, [1.0, 100.0].into_iter());
        assert!((log.place(10.0) - 0.5).abs() < 1e-15);
        let names = Scale::new(&Kind::Categories(vec!["a".into(), "b".into()]), std::iter::empty());
        assert_eq!((names.place(0.0), names.place(1.0)), (0.25, 0.75));
        let down = Scale::fitting(&Kind::Reversed, [-0.5, 3.5].into_iter(), true);
        assert_eq!((down.place(-0.5), down.place(3.5), down.span()), (1.0, 0.0, 4.0));
        let labels: Vec<String> = down.ticks(8).into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["0", "1", "2", "3"]);
    }
}
