//! The learning rate over the course of a training.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate goes from step to step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// The same for every step.
    #[default]
    Constant,
    /// A linear rise from 0, then half a wave of the cosine down to 0, as `SimCLR`'s (Chen et al. 2020, section 2.3).
    Cosine(Cosine),
}

/// The one parameter of a cosine schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cosine {
    /// Epochs in which the learning rate rises from 0, at least 0 and at most all of them; 0 where absent, 10 in
    /// `SimCLR`. Parts of an epoch count.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
}

impl Schedule {
    /// Yields the rate of a step.
    ///
    /// `done` epochs of `epochs`, parts of an epoch included, lie before the step: with s steps an epoch, step t of
    /// the training, from 0, is at t/s. So the first step of a warm-up has rate 0, and the last of all a little more
    /// than 0, as in `SimCLR`'s code. With w epochs of warm-up it is `rate`·done/w before w, then `rate`·½(1 +
    /// cos(π(done − w)/(epochs − w))) (Loshchilov & Hutter 2017, eq. 5).
    pub fn rate(self, rate: f64, done: f64, epochs: usize) -> f64 {
        let Self::Cosine(Cosine { warmup_epochs }) = self else { return rate };
        if done < warmup_epochs {
            return rate * done / warmup_epochs;
        }
        let share = (done - warmup_epochs) / (epochs as f64 - warmup_epochs);
        rate * 0.5 * (1.0 + libm::cos(PI * share))
    }

    /// Tells whether its warm-up fits into a training of `epochs`.
    pub fn fits(self, epochs: usize) -> bool {
        let Self::Cosine(Cosine { warmup_epochs }) = self else { return true };
        (0.0..=epochs as f64).contains(&warmup_epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        let cosine = |warmup_epochs| Schedule::Cosine(Cosine { warmup_epochs });
        for (schedule, done, expected) in [
            (Schedule::Constant, 3.5, 0.2),
            (cosine(0.0), 0.0, 0.2),
            (cosine(0.0), 4.0, 0.1),
            (cosine(2.0), 0.0, 0.0),
            (cosine(2.0), 0.5, 0.05),
            (cosine(2.0), 2.0, 0.2),
            // A third of the way down: ½(1 + cos 60°).
            (cosine(2.0), 4.0, 0.15),
            (cosine(2.0), 5.0, 0.1),
            (cosine(0.5), 0.25, 0.1),
            (cosine(8.0), 7.0, 0.175),
        ] {
            let found = schedule.rate(0.2, done, 8);
            assert!((found - expected).abs() < 1e-15, "{schedule:?} {done}: {found} {expected}");
        }
        let last = cosine(2.0).rate(0.2, 8.0 - 1e-3, 8);
        assert!(last > 0.0 && last < 1e-7, "{last}");
    }

    #[test]
    fn a_warmup_is_no_longer_than_the_training() {
        let fits = |warmup_epochs| Schedule::Cosine(Cosine { warmup_epochs }).fits(8);
        assert!(fits(0.0) && fits(8.0) && !fits(8.5) && !fits(-1.0) && !fits(f64::NAN));
        assert!(Schedule::Constant.fits(1));
    }
}
