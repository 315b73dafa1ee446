//! Quantiles, and how well a median is known.

/// The quartiles of some values, and the standard error of the middle one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quartiles {
    /// How many values.
    pub count: usize,
    /// The value below which a quarter lies.
    pub low: Option<f64>,
    /// The value below which half lies.
    pub median: Option<f64>,
    /// The value below which three quarters lie.
    pub high: Option<f64>,
    /// Standard error of the median for independent values, from 5 values on.
    pub error: Option<f64>,
}

impl Quartiles {
    /// Finds the quartiles of values in any order.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |p| (!values.is_empty()).then(|| quantile(&values, p));
        Self {
            count: values.len(),
            low: at(0.25),
            median: at(0.5),
            high: at(0.75),
            error: median_error(&values, values.len() as f64),
        }
    }

    /// Finds the quartiles of values that come with how often each occurs, in order.
    pub fn of_counts(counts: &[(f64, u64)]) -> Self {
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        let nth = |rank: u64| {
            let mut below = 0;
            let found = counts.iter().find(|(_, count)| {
                below += count;
                below > rank
            });
            found.map(|(value, _)| *value)
        };
        let at = |p: f64| {
            let place = p * total.checked_sub(1)? as f64;
            let (low, high) = (nth(place.floor() as u64)?, nth(place.ceil() as u64)?);
            Some(low + (high - low) * place.fract())
        };
        let (low, median, high) = (at(0.25), at(0.5), at(0.75));
        Self { count: total as usize, low, median, high, error: None }
    }
}

/// The quantile of values in order, linear between neighbors; there is at least one value.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = p * (sorted.len() - 1) as f64;
    let low = place as usize;
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64)
}

/// The standard error of the median of values in order that are worth `independent` independent ones, at least 5.
///
/// Half of the distance between the quantiles 1/2 ± 1/(2√n): the number of values below the true median is binomial
/// with deviation √n/2, so that these hold it in 68 of 100 cases, whatever the distribution (Woodruff 1952).
pub fn median_error(sorted: &[f64], independent: f64) -> Option<f64> {
    (independent >= 5.0).then(|| {
        let half = 0.5 / independent.sqrt();
        (quantile(sorted, 0.5 + half) - quantile(sorted, 0.5 - half)) / 2.0
    })
}

/// The mean of the values of independent blocks and its standard error; nothing of fewer than two.
pub fn mean_of_blocks(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    (values.len() >= 2).then(|| {
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (mean, (squares / (n - 1.0) / n).sqrt())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    #[test]
    fn quartiles_lie_where_they_should() {
        let found = Quartiles::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!((found.low, found.median, found.high), (Some(2.0), Some(3.0), Some(4.0)));
        assert_eq!(Quartiles::of(vec![7.0]).low, Some(7.0));
        assert_eq!(Quartiles::of(vec![]), Quartiles::default());
        assert_eq!(Quartiles::of(vec![1.0, 2.0]).median, Some(1.5));
    }

    #[test]
    fn counts_stand_for_as_many_values() {
        let counts = [(1.0, 3), (2.5, 1), (4.0, 4), (9.0, 2)];
        let plain: Vec<f64> =
            counts.iter().flat_map(|(v, n)| std::iter::repeat_n(*v, *n as usize)).collect();
        assert_eq!(
            Quartiles::of_counts(&counts),
            Quartiles { error: None, ..Quartiles::of(plain) }
        );
        assert_eq!(Quartiles::of_counts(&[]), Quartiles::default());
    }

    #[test]
    fn the_error_of_a_median_is_that_of_repeated_draws() {
        // Exponential draws: the median's error is 1 / (2 f(m) √n) = 1 / √n.
        let mut stream = Streams::new(1, "test").stream("median");
        let n = 400;
        let mut errors = Vec::new();
        for _ in 0..50 {
            let draws = (0..n).map(|_| stream.exponential(1.0)).collect();
            errors.push(Quartiles::of(draws).error.unwrap());
        }
        let mean = errors.iter().sum::<f64>() / 50.0;
        assert!((mean * f64::from(n).sqrt() - 1.0).abs() < 0.1, "{mean}");
    }
}
