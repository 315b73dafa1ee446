//! What a table says about the many values that fall into one of its cells.

use std::{borrow::Cow, cmp::Ordering, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A summary of the values in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Arithmetic mean.
    Mean,
    /// Mean and standard error of the mean.
    MeanSem,
    /// Mean and standard deviation.
    MeanSd,
    Median,
    Min,
    Max,
    Sum,
    /// Number of values that are neither missing nor failed.
    Count,
    /// First value in the order of the instances, of any type.
    First,
    /// Standard deviation of the sample, with n - 1 in the denominator.
    Std,
    /// Standard error of the mean: the standard deviation over the root of n.
    Sem,
    /// Share of yes among yes and no (or 1 and 0), with its binomial error √(p (1 - p) / n).
    Rate,
    /// Entropy of how often each value occurs, in bits, with its standard error.
    Entropy,
}

impl Aggregate {
    /// Every aggregate.
    pub const ALL: [Self; 13] = [
        Self::MeanSem,
        Self::MeanSd,
        Self::Mean,
        Self::Median,
        Self::Min,
        Self::Max,
        Self::Sum,
        Self::Count,
        Self::First,
        Self::Std,
        Self::Sem,
        Self::Rate,
        Self::Entropy,
    ];

    /// Returns the word that a specification uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::MeanSem => "mean±sem",
            Self::MeanSd => "mean±sd",
            Self::Median => "median",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::Count => "count",
            Self::First => "first",
            Self::Std => "std",
            Self::Sem => "sem",
            Self::Rate => "rate",
            Self::Entropy => "entropy",
        }
    }

    /// Returns what the column of exact values is called after the column that it summarizes.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::First => "",
            Self::Mean | Self::MeanSem | Self::MeanSd => "_mean",
            Self::Median => "_median",
            Self::Min => "_min",
            Self::Max => "_max",
            Self::Sum => "_sum",
            Self::Count => "_count",
            Self::Std => "_std",
            Self::Sem => "_sem",
            Self::Rate => "_rate",
            Self::Entropy => "_entropy",
        }
    }

    /// Returns the words that notes use.
    pub fn words(self) -> &'static str {
        match self {
            Self::MeanSem => "mean ± s.e.m.",
            Self::MeanSd => "mean ± s.d.",
            Self::Std => "s.d.",
            Self::Sem => "s.e.m.",
            Self::Rate => "rate ± binomial error",
            Self::Entropy => "entropy in bits ± s.e.",
            other => other.as_str(),
        }
    }

    /// Returns the name of the spread that is printed after ±, if one is.
    pub fn spread(self) -> Option<&'static str> {
        match self {
            Self::MeanSem => Some("sem"),
            Self::MeanSd => Some("sd"),
            Self::Rate => Some("binomial"),
            Self::Entropy => Some("se"),
            _ => None,
        }
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Aggregate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.replace("+-", "±").replace("+/-", "±").replace(' ', "");
        Self::ALL.into_iter().find(|aggregate| aggregate.as_str() == plain).ok_or_else(|| {
            let allowed = Self::ALL.map(|aggregate| format!("`{aggregate}`")).join(", ");
            format!("unknown aggregate `{text}`, expected one of {allowed}")
        })
    }
}

impl<'de> Deserialize<'de> for Aggregate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Aggregate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl JsonSchema for Aggregate {
    fn schema_name() -> Cow<'static, str> {
        "Aggregate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut words: Vec<&str> = Self::ALL.map(Self::as_str).to_vec();
        words.extend(["mean+-sem", "mean+-sd"]);
        json_schema!({
            "type": "string",
            "enum": words,
            "description": "How the values that fall into one cell are summarized; `mean±sem` may be typed `mean+-sem`."
        })
    }
}

/// One summary of a column, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregates(pub Vec<Aggregate>);

// Written by hand because a value is read by its own type, without buffering it first as an untagged enum would.
impl<'de> Deserialize<'de> for Aggregates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Aggregates;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an aggregate such as `mean±sem`, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Aggregates, E> {
                text.parse().map(|one| Aggregates(vec![one])).map_err(E::custom)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Aggregates, A::Error> {
                let mut aggregates = Vec::new();
                while let Some(aggregate) = list.next_element::<Aggregate>()? {
                    aggregates.push(aggregate);
                }
                Ok(Aggregates(aggregates))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Aggregates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl JsonSchema for Aggregates {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Aggregates".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Aggregate>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// Says how values were summarized: `mean ± s.e.m. over replicate, n = 2 to 3`.
///
/// `over` is what [`Results::pooled`](super::results::Results::pooled) says, `counts` the fewest and most values.
pub fn remark(aggregate: Aggregate, over: &str, (low, high): (usize, usize)) -> String {
    let counts = if low == high { low.to_string() } else { format!("{low} to {high}") };
    format!("{}{over}, n = {counts}", aggregate.words())
}

/// The moments of the finite values of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Number of finite values.
    pub n: usize,
    /// Number of values that are null, NaN or infinite, and in none of the other fields.
    pub missing: usize,
    /// Mean; none without values.
    pub mean: Option<f64>,
    /// Standard deviation with n - 1 in the denominator; none below two values.
    pub sd: Option<f64>,
}

impl Summary {
    /// Summarizes values in their order, so that the sums have the same bits on every run.
    pub fn of(values: &[Option<f64>]) -> Self {
        let finite = || values.iter().flatten().copied().filter(|value| value.is_finite());
        let n = finite().count();
        // A sum that overflows leaves no mean rather than an infinite one.
        let mean =
            (n > 0).then(|| finite().sum::<f64>() / n as f64).filter(|mean| mean.is_finite());
        let sd =
            mean.filter(|_| n > 1).map(|mean| deviation(&finite().map(|value| value - mean), n));
        Self { n, missing: values.len() - n, mean, sd: sd.filter(|sd| sd.is_finite()) }
    }

    /// Returns the standard error of the mean, sd / √n; none below two values.
    pub fn sem(&self) -> Option<f64> {
        self.sd.map(|sd| sd / (self.n as f64).sqrt())
    }

    /// Returns the binomial error of a share, √(p (1 - p) / n), of values that are 0 and 1.
    pub fn binomial(&self) -> Option<f64> {
        self.mean.map(|p| (p * (1.0 - p) / self.n as f64).sqrt())
    }
}

/// Computes √(Σd² / (n - 1)); the squares are scaled where they leave the range of doubles, though their root does not.
fn deviation(differences: &(impl Iterator<Item = f64> + Clone), n: usize) -> f64 {
    let of = |unit: f64| {
        let squares: f64 = differences.clone().map(|d| (d / unit) * (d / unit)).sum();
        unit * (squares / (n - 1) as f64).sqrt()
    };
    let largest = differences.clone().map(f64::abs).fold(0.0, f64::max);
    if largest == 0.0 || (1e-140..1e140).contains(&largest) { of(1.0) } else { of(largest) }
}

/// Returns the middle value, or the mean of the two middle ones, of the finite values.
pub fn median(values: &[Option<f64>]) -> Option<f64> {
    let finite = values.iter().flatten().copied().filter(|value| value.is_finite());
    let mut sorted: Vec<f64> = finite.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Returns the entropy of how often each value occurs, in bits, and its standard error; nothing without values.
///
/// H = -Σ p log₂ p of the frequencies p among n values; its variance is (Σ p log₂² p - H²) / n to first order in 1/n (Basharin,
/// Theory Probab. Appl. 4, 1959), which bootstrap samples have too. No error is known of a single value. H of few values is too
/// low, by (k - 1) / (2n ln 2) bits to first order where k values are possible; nothing is added for that.
pub fn entropy<T>(
    mut values: Vec<T>,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Option<(f64, Option<f64>)> {
    let n = values.len() as f64;
    values.sort_by(&compare);
    let frequencies =
        || values.chunk_by(|a, b| compare(a, b) == Ordering::Equal).map(|run| run.len() as f64 / n);
    let entropy = 0.0 - frequencies().map(|p| p * libm::log2(p)).sum::<f64>();
    let second: f64 = frequencies().map(|p| p * libm::log2(p) * libm::log2(p)).sum();
    // Rounding leaves differences below 0 where all are as frequent.
    let error = ((second - entropy * entropy).max(0.0) / n).sqrt();
    (n > 0.0).then(|| (entropy, (n > 1.0).then_some(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        for aggregate in Aggregate::ALL {
            assert_eq!(aggregate.as_str().parse(), Ok(aggregate));
        }
        for text in ["mean+-sem", "mean ± sem", "mean +/- sem"] {
            assert_eq!(text.parse(), Ok(Aggregate::MeanSem), "{text}");
        }
        let error = serde_json::from_str::<Aggregate>("\"average\"").unwrap_err().to_string();
        assert!(
            error.starts_with(
                "unknown aggregate `average`, expected one of `mean±sem`, `mean±sd`, `mean`"
            ),
            "{error}"
        );
    }

    #[test]
    fn moments_match_hand_worked_values() {
        // 2, 4, 4, 4, 5, 5, 7, 9: mean 5, sum of squares 32, sd √(32/7), s.e.m. √(32/56).
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].map(Some);
        let summary = Summary::of(&values);
        assert_eq!((summary.n, summary.missing, summary.mean), (8, 0, Some(5.0)));
        assert!((summary.sd.unwrap() - 2.138_089_935_299_395).abs() < 1e-15);
        assert!((summary.sem().unwrap() - 0.755_928_946_018_454_4).abs() < 1e-15);
    }

    #[test]
    fn failed_values_are_counted_and_left_out() {
        let values = [Some(1.0), None, Some(f64::NAN), Some(3.0), Some(f64::INFINITY)];
        let summary = Summary::of(&values);
        assert_eq!(
            (summary.n, summary.missing, summary.mean, summary.sd),
            (2, 3, Some(2.0), Some(2f64.sqrt()))
        );
        let one = Summary::of(&[Some(0.5), Some(f64::NAN)]);
        assert_eq!((one.n, one.mean, one.sd, one.sem()), (1, Some(0.5), None, None));
        assert_eq!(Summary::of(&[None]), Summary { missing: 1, ..Summary::default() });
    }

    #[test]
    fn deviations_neither_overflow_nor_vanish() {
        for scale in [1e200, 1e-200, 1.0] {
            let summary = Summary::of(&[Some(scale), Some(3.0 * scale)]);
            assert!((summary.sd.unwrap() / scale - 2f64.sqrt()).abs() < 1e-15, "{scale}");
        }
        assert_eq!(Summary::of(&[Some(2.0), Some(2.0)]).sd, Some(0.0));
    }

    #[test]
    fn rates_have_the_errors_of_binomial_draws() {
        // As published for Newton-MR: 80 of 100, ± 4 %.
        let values: Vec<Option<f64>> =
            (0..100).map(|i| Some(f64::from(u8::from(i < 80)))).collect();
        let summary = Summary::of(&values);
        assert_eq!(summary.mean, Some(0.8));
        assert!((summary.binomial().unwrap() - 0.04).abs() < 1e-15);
        assert_eq!(Summary::of(&[Some(1.0); 5]).binomial(), Some(0.0));
        assert_eq!(Summary::of(&[None]).binomial(), None);
    }

    #[test]
    fn entropies_are_closed_forms() {
        let of = |values: &[u8]| entropy(values.to_vec(), Ord::cmp);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7]), Some((0.0, None)));
        let (same, error) = of(&[7, 7, 7]).unwrap();
        assert!(same == 0.0 && same.is_sign_positive() && error == Some(0.0));
        assert_eq!(of(&[1, 2, 3, 4, 4, 3, 2, 1]), Some((2.0, Some(0.0))));
        // 1/4 and 3/4: log₂ of them is -2 and log₂ 3 - 2.
        let (found, error) = of(&[5, 9, 9, 9]).unwrap();
        let log = 3f64.log2() - 2.0;
        let expected = 0.5 - 0.75 * log;
        assert!((found - expected).abs() < 1e-15);
        let variance = (1.0 + 0.75 * log * log - expected * expected) / 4.0;
        assert!((error.unwrap() - variance.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn errors_of_entropies_are_those_of_many_draws() {
        // 400 draws of 200 numbers below 16, whose frequencies fall off, by a linear congruence.
        let mut state = 1u64;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let uniform = (state >> 40) as f64 / f64::from(1 << 24);
            (16.0 * uniform * uniform) as u8
        };
        let found: Vec<(f64, Option<f64>)> = (0..400)
            .map(|_| entropy((0..200).map(|_| draw()).collect(), u8::cmp).unwrap())
            .collect();
        let entropies: Vec<Option<f64>> = found.iter().map(|(h, _)| Some(*h)).collect();
        let claimed = found.iter().filter_map(|(_, error)| *error).sum::<f64>() / 400.0;
        // A standard deviation of 400 draws is known to 1/√800 of itself.
        let ratio = Summary::of(&entropies).sd.unwrap() / claimed;
        assert!((ratio - 1.0).abs() < 4.0 / 800f64.sqrt(), "{ratio}");
    }

    #[test]
    fn one_or_several_aggregates_are_read() {
        for text in ["\"mean±sem\"", "[\"mean±sem\",\"max\"]"] {
            let read: Aggregates = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        assert!(serde_json::from_str::<Aggregates>("3").is_err());
    }

    #[test]
    fn median_is_the_middle() {
        for (values, expected) in [
            (vec![], None),
            (vec![3.0], Some(3.0)),
            (vec![3.0, f64::NAN, 1.0], Some(2.0)),
            (vec![9.0, 1.0, 2.0], Some(2.0)),
        ] {
            assert_eq!(
                median(&values.iter().copied().map(Some).collect::<Vec<_>>()),
                expected,
                "{values:?}"
            );
        }
    }
}
