//! Start points for searches, drawn from a descent's trajectory.

use std::borrow::Cow;

use crate::{
    landscape::{
        descent::Trajectory,
        error::{LandscapeError, expect_finite, expect_option},
    },
    rng::Streams,
};

/// The parameters of a draw of start points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StartOptions {
    /// How many start points are drawn, with replacement.
    pub count: usize,
    pub selection: Selection,
    /// The variance (not the standard deviation) of Gaussian noise that is added to every parameter; at least 0.
    pub noise_variance: f64,
}

impl Default for StartOptions {
    /// 100 points, uniform in height, without noise, as in Frye et al. 2021.
    fn default() -> Self {
        Self { count: 100, selection: Selection::UniformHeight, noise_variance: 0.0 }
    }
}

/// Which points of a trajectory are likely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// The loss is uniform between its extremes: the lowest point at or above a uniformly drawn height.
    #[default]
    UniformHeight,
    /// The same of the logarithm of the loss, which has to be above 0: low losses are as likely as high ones.
    UniformLogHeight,
    /// Every point that was kept is as likely as any other.
    UniformIteration,
}

/// A start point and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The parameters, with noise.
    pub theta: Vec<f64>,
    /// The row of the trajectory that it was taken from.
    pub row: usize,
    /// The step of that row.
    pub step: usize,
    /// The loss there, without noise.
    pub loss: f64,
}

/// Draws start points; point `i` depends on the seed and `i` alone, whatever their number.
pub fn select(
    trajectory: &Trajectory,
    options: &StartOptions,
    streams: &Streams,
) -> Result<Vec<Start>, LandscapeError> {
    let rows = trajectory.losses.len();
    expect_option("the trajectory's length", "at least 1", rows as f64, |rows| rows >= 1.0)?;
    expect_option("noise_variance", "finite and at least 0", options.noise_variance, |variance| {
        variance.is_finite() && variance >= 0.0
    })?;
    expect_finite("the trajectory's losses", &trajectory.losses)?;
    let heights = heights(&trajectory.losses, options.selection)?;
    let mut by_height: Vec<usize> = (0..rows).collect();
    by_height.sort_by(|a, b| heights[*a].total_cmp(&heights[*b]));
    let deviation = options.noise_variance.sqrt();
    let draw = |i: usize| {
        let mut stream = streams.indexed("start", i as u64);
        let row = match options.selection {
            Selection::UniformHeight | Selection::UniformLogHeight => {
                at_height(&heights, &by_height, stream.uniform())
            }
            Selection::UniformIteration => stream.below(rows as u64) as usize,
        };
        let mut theta = trajectory.theta(row).to_vec();
        if deviation > 0.0 {
            let mut noise = streams.indexed("noise", i as u64);
            for value in &mut theta {
                *value += deviation * noise.normal();
            }
        }
        Start { theta, row, step: trajectory.steps[row], loss: trajectory.losses[row] }
    };
    Ok((0..options.count).map(draw).collect())
}

/// What points are ordered by: their losses, or the logarithms.
fn heights(losses: &[f64], selection: Selection) -> Result<Cow<'_, [f64]>, LandscapeError> {
    if selection != Selection::UniformLogHeight {
        return Ok(losses.into());
    }
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    expect_option("the lowest loss", "above 0 to be drawn by its logarithm", lowest, |l| l > 0.0)?;
    Ok(losses.iter().map(|loss| libm::log(*loss)).collect())
}

/// Returns the row of the lowest loss at or above `height`, which is 0 at the lowest loss and 1 at the highest.
fn at_height(losses: &[f64], by_loss: &[usize], height: f64) -> usize {
    let (lowest, highest) = (losses[by_loss[0]], losses[by_loss[by_loss.len() - 1]]);
    let below = |row: &usize| (losses[*row] - lowest) / (highest - lowest) < height;
    // Where all losses are equal their height is 0 / 0 and the first row is taken.
    by_loss[by_loss.partition_point(below).min(by_loss.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trajectory() -> Trajectory {
        // A loss that falls fast and then creeps, as losses do.
        let losses: Vec<f64> = (0..1000).map(|i| 1.0 / (1.0 + f64::from(i))).collect();
        let steps = (0..1000).map(|i| 10 * i).collect();
        Trajectory {
            dim: 2,
            steps,
            thetas: losses.iter().flat_map(|l| [*l, 0.0]).collect(),
            losses,
        }
    }

    #[test]
    fn heights_pick_the_first_row_at_or_above() {
        let losses = [5.0, 3.0, 4.0, 1.0];
        let by_loss = [3, 1, 2, 0];
        for (height, row) in [(0.0, 3), (0.25, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.99, 0)] {
            assert_eq!(at_height(&losses, &by_loss, height), row, "{height}");
        }
        assert_eq!(at_height(&[2.0, 2.0], &[0, 1], 0.7), 0);
    }

    #[test]
    fn height_prefers_the_early_steps_and_iteration_does_not() {
        let mean_row = |selection| {
            let options = StartOptions { count: 2000, selection, noise_variance: 0.0 };
            let starts = select(&trajectory(), &options, &Streams::new(1, "test")).unwrap();
            starts.iter().map(|s| s.row as f64).sum::<f64>() / 2000.0
        };
        // A height above one half is the first row alone; the mean of 1/u is some 6.
        assert!(mean_row(Selection::UniformHeight) < 10.0);
        // Five standard errors of a uniform mean: 5 * 1000 / sqrt(12 * 2000).
        assert!((mean_row(Selection::UniformIteration) - 499.5).abs() < 33.0);
    }

    #[test]
    fn logarithms_of_losses_are_uniform() {
        let options = StartOptions {
            count: 3000,
            selection: Selection::UniformLogHeight,
            ..StartOptions::default()
        };
        let streams = Streams::new(1, "test");
        let starts = select(&trajectory(), &options, &streams).unwrap();
        // From 1 down to 1/1000: a third of the draws in each decade, within five standard errors, but that the first
        // rows are coarse: a height between two of them gives the higher.
        let within = |low: f64, high: f64| {
            starts.iter().filter(|s| s.loss > low && s.loss <= high).count() as f64 / 3000.0
        };
        let error = 5.0 * (2.0 / 9.0 / 3000f64).sqrt();
        assert!((within(0.0, 0.01) - 1.0 / 3.0).abs() < error + 1e-3);
        assert!((within(0.01, 0.1) - 1.0 / 3.0).abs() < error + 0.02);
        // Heights above log(1/2) are the first row alone: log 2 / log 1000 of the draws.
        let share = 2f64.ln() / 1000f64.ln();
        let first = starts.iter().filter(|s| s.row == 0).count() as f64 / 3000.0;
        assert!((first - share).abs() < 5.0 * (share / 3000.0).sqrt(), "{first} {share}");
        let mut zero = trajectory();
        zero.losses[500] = 0.0;
        let error = select(&zero, &options, &streams).unwrap_err().to_string();
        assert!(error.contains("above 0 to be drawn by its logarithm: 0"), "{error}");
        let linear = StartOptions { selection: Selection::UniformHeight, ..options };
        assert!(select(&zero, &linear, &streams).is_ok());
    }

    #[test]
    fn noise_has_the_variance_and_points_do_not_depend_on_their_number() {
        let streams = Streams::new(1, "test");
        let options = StartOptions { count: 4000, noise_variance: 0.04, ..StartOptions::default() };
        let starts = select(&trajectory(), &options, &streams).unwrap();
        let squares: f64 =
            starts.iter().map(|s| (s.theta[0] - s.loss).powi(2) + s.theta[1].powi(2)).sum();
        // Five standard errors of a variance from 8000 values: 5 sqrt(2 / 8000).
        assert!((squares / 8000.0 / 0.04 - 1.0).abs() < 0.08);
        let few = select(&trajectory(), &StartOptions { count: 3, ..options }, &streams).unwrap();
        assert_eq!(few, starts[..3]);
        assert_eq!(few[0].step, 10 * few[0].row);
    }

    #[test]
    fn bad_input_is_refused() {
        let streams = Streams::new(1, "test");
        let negative = StartOptions { noise_variance: -1.0, ..StartOptions::default() };
        assert!(select(&trajectory(), &negative, &streams).is_err());
        let empty = Trajectory { dim: 2, steps: vec![], losses: vec![], thetas: vec![] };
        assert!(select(&empty, &StartOptions::default(), &streams).is_err());
    }
}
