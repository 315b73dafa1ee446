//! Numbers with standard errors.

/// A Monte Carlo estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Its standard error, by the delta method where the value is a function of a mean.
    pub standard_error: f64,
}

impl Estimate {
    /// Averages independent samples, at least two.
    pub fn of_samples(samples: impl ExactSizeIterator<Item = f64>) -> Self {
        let count = samples.len() as f64;
        // Welford's recurrence: one pass, no cancellation.
        let (mut value, mut squares, mut seen) = (0.0, 0.0, 0.0);
        for sample in samples {
            seen += 1.0;
            let deviation = sample - value;
            value += deviation / seen;
            squares += deviation * (sample - value);
        }
        Self { value, standard_error: (squares / (count - 1.0) / count).sqrt() }
    }

    /// Averages independent estimates, at least one.
    pub fn mean(estimates: impl ExactSizeIterator<Item = Self>) -> Self {
        let count = estimates.len() as f64;
        let (sum, squares) = estimates.fold((0.0, 0.0), |(sum, squares), estimate| {
            (sum + estimate.value, squares + estimate.standard_error.powi(2))
        });
        Self { value: sum / count, standard_error: squares.sqrt() / count }
    }

    /// Averages independent samples, at least three, given others of known mean with which they vary (control variates).
    pub fn controlled(samples: &[f64], controls: &[f64], expected: f64) -> Self {
        let count = samples.len() as f64;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / count;
        let (center, control_center) = (mean(samples), mean(controls));
        let (mut both, mut square) = (0.0, 0.0);
        for (sample, control) in samples.iter().zip(controls) {
            both += (sample - center) * (control - control_center);
            square += (control - control_center).powi(2);
        }
        let slope = if square > 0.0 { both / square } else { 0.0 };
        let corrected = samples.iter().zip(controls);
        let corrected: Vec<f64> = corrected.map(|(s, c)| s - slope * (c - expected)).collect();
        Self::of_samples(corrected.into_iter())
    }

    /// Divides the mean of paired samples by that of others, at least two.
    pub fn ratio(numerators: &[f64], denominators: &[f64]) -> Self {
        let count = numerators.len() as f64;
        let denominator = denominators.iter().sum::<f64>() / count;
        let value = numerators.iter().sum::<f64>() / count / denominator;
        let pairs = numerators.iter().zip(denominators);
        let residuals: Vec<f64> = pairs.map(|(n, d)| (n - value * d) / denominator).collect();
        let standard_error = Self::of_samples(residuals.into_iter()).standard_error;
        Self { value, standard_error }
    }

    /// Returns a multiple by a positive factor.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { value: factor * self.value, standard_error: factor * self.standard_error }
    }

    /// Returns 1 over a positive estimate.
    #[must_use]
    pub fn inverse(self) -> Self {
        let standard_error = self.standard_error / self.value.powi(2);
        Self { value: 1.0 / self.value, standard_error }
    }

    /// Returns the square root of an estimate that is not negative; of zero, zero without error.
    #[must_use]
    pub fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        let standard_error = if value > 0.0 { self.standard_error / (2.0 * value) } else { 0.0 };
        Self { value, standard_error }
    }

    /// Returns the square times a positive factor.
    #[must_use]
    pub fn scaled_square(self, factor: f64) -> Self {
        Self {
            value: factor * self.value.powi(2),
            standard_error: 2.0 * factor * self.value.abs() * self.standard_error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(estimate: Estimate, value: f64, standard_error: f64) {
        assert!((estimate.value - value).abs() < 1e-14, "{estimate:?}");
        assert!((estimate.standard_error - standard_error).abs() < 1e-14, "{estimate:?}");
    }

    #[test]
    fn means_and_errors_match_their_formulas() {
        // Mean 3, squared deviations 4 + 0 + 1 + 1 = 6, variance 2 and 2 / 4 of it for the mean.
        let samples = Estimate::of_samples([1.0, 3.0, 4.0, 4.0].into_iter());
        check(samples, 3.0, 0.5f64.sqrt());
        let one = Estimate { value: 4.0, standard_error: 0.3 };
        let other = Estimate { value: 2.0, standard_error: 0.4 };
        check(Estimate::mean([one, other].into_iter()), 3.0, 0.25);
        check(one.inverse(), 0.25, 0.3 / 16.0);
        check(one.sqrt(), 2.0, 0.075);
        check(other.scaled_square(5.0), 20.0, 8.0);
        check(other.scaled(5.0), 10.0, 2.0);
        // What follows the control exactly is known exactly.
        let (samples, controls) = ([1.0, 3.0, 7.0], [0.0, 1.0, 3.0]);
        check(Estimate::controlled(&samples, &controls, 2.0), 5.0, 0.0);
        // Ratio 2; residuals of 2d are (−1, 0, 0, 1) over the mean 2.
        check(
            Estimate::ratio(&[1.0, 4.0, 4.0, 7.0], &[1.0, 2.0, 2.0, 3.0]),
            2.0,
            (0.5f64 / 3.0 / 4.0).sqrt(),
        );
        check(Estimate { value: 0.0, standard_error: 0.0 }.sqrt(), 0.0, 0.0);
    }
}
