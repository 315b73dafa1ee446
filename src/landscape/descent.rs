//! Full-batch gradient descent and momentum, with the trajectory that start points are drawn from.

use crate::landscape::{
    error::{LandscapeError, expect_finite, expect_length, expect_option},
    objective::Objective,
    vector,
};

/// The parameters of a descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DescentOptions {
    /// The step size, above 0.
    pub rate: f64,
    /// What is kept of the velocity, at least 0 and below 1; 0 is plain gradient descent.
    pub momentum: f64,
    pub steps: usize,
    /// Every how many steps parameters and loss are kept; the last step is kept in any case. At least 1.
    pub keep_every: usize,
}

impl Default for DescentOptions {
    /// The training runs of Frye et al. 2019 (arXiv:1901.10603), every point kept.
    fn default() -> Self {
        Self { rate: 0.01, momentum: 0.0, steps: 10_000, keep_every: 1 }
    }
}

/// What is kept of a descent; the start, step 0, comes first.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// How many parameters a point has.
    pub dim: usize,
    /// The steps that were kept.
    pub steps: Vec<usize>,
    /// The loss at each of them.
    pub losses: Vec<f64>,
    /// The parameters at each of them: `steps.len()` x `dim`, row-major.
    pub thetas: Vec<f64>,
}

impl Trajectory {
    /// Returns the parameters of a kept step.
    pub fn theta(&self, row: usize) -> &[f64] {
        &self.thetas[row * self.dim..(row + 1) * self.dim]
    }
}

/// How far a descent has come: another goes on from there to the same bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The step that is next.
    pub step: usize,
    pub theta: Vec<f64>,
    pub velocity: Vec<f64>,
    /// What is kept of the steps before.
    pub kept: Trajectory,
}

impl Progress {
    /// A descent that is at its start.
    pub fn start(theta: &[f64]) -> Self {
        let (dim, velocity) = (theta.len(), vec![0.0; theta.len()]);
        let kept = Trajectory { dim, steps: Vec::new(), losses: Vec::new(), thetas: Vec::new() };
        Self { step: 0, theta: theta.to_vec(), velocity, kept }
    }

    fn check(&self, dim: usize) -> Result<(), LandscapeError> {
        expect_length("the start", dim, self.theta.len())?;
        expect_length("the velocity", dim, self.velocity.len())?;
        expect_length("the trajectory", self.kept.steps.len() * dim, self.kept.thetas.len())?;
        expect_length("its losses", self.kept.steps.len(), self.kept.losses.len())?;
        // Later, numbers that are not finite are a divergence, which is told as such.
        if self.step == 0 { expect_finite("the start", &self.theta) } else { Ok(()) }
    }
}

/// How a caller watches a descent.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Asked before every step, with what the descent could go on from; `true` ends it.
    pub paused: &'a dyn Fn(&Progress) -> bool,
    /// Told of every step and the loss there, the start included.
    pub observe: &'a dyn Fn(usize, f64),
}

impl Default for Watch<'_> {
    /// Never cancels and observes nothing.
    fn default() -> Self {
        Self { paused: &|_| false, observe: &|_, _| () }
    }
}

/// Descends from a start, or goes on, by v <- g + momentum v, theta <- theta - rate v.
///
/// Fails where the loss or the gradient is not finite, naming the step that led there.
pub fn descend(
    objective: &dyn Objective,
    mut at: Progress,
    options: &DescentOptions,
    watch: &Watch<'_>,
) -> Result<Trajectory, LandscapeError> {
    at.check(objective.dim())?;
    expect_option("rate", "above 0 and finite", options.rate, |r| r > 0.0 && r.is_finite())?;
    let (momentum, keep_every) = (options.momentum, options.keep_every);
    expect_option("momentum", "at least 0 and below 1", momentum, |m| (0.0..1.0).contains(&m))?;
    expect_option("keep_every", "at least 1", keep_every as f64, |n| n >= 1.0)?;
    while at.step <= options.steps {
        let step = at.step;
        if (watch.paused)(&at) {
            return Err(LandscapeError::Cancelled { step });
        }
        let point = objective.evaluate(&at.theta);
        if !point.is_finite() {
            return Err(LandscapeError::Diverged { step });
        }
        (watch.observe)(step, point.loss());
        if step.is_multiple_of(keep_every) || step == options.steps {
            at.kept.steps.push(step);
            at.kept.losses.push(point.loss());
            at.kept.thetas.extend_from_slice(&at.theta);
        }
        for (velocity, gradient) in at.velocity.iter_mut().zip(point.gradient()) {
            *velocity = gradient + momentum * *velocity;
        }
        vector::add_scaled(-options.rate, &at.velocity, &mut at.theta);
        at.step += 1;
    }
    Ok(at.kept)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::landscape::objective::Quartic;

    fn run(options: DescentOptions) -> Result<Trajectory, LandscapeError> {
        descend(&Quartic, Progress::start(&[-2.0, 1.0]), &options, &Watch::default())
    }

    #[test]
    fn descent_reaches_the_minimum_of_the_quartic() {
        let plain = DescentOptions { steps: 2000, ..DescentOptions::default() };
        for momentum in [0.0, 0.5] {
            let trajectory = run(DescentOptions { momentum, ..plain }).unwrap();
            let end = trajectory.theta(2000);
            assert!((end[0] + 3.0).abs() < 1e-12 && end[1].abs() < 1e-12, "{end:?}");
            assert!((trajectory.losses[2000] - 6.25).abs() < 1e-12);
        }
    }

    #[test]
    fn steps_follow_the_recurrence() {
        let options = DescentOptions { momentum: 0.5, steps: 2, ..DescentOptions::default() };
        let trajectory = run(options).unwrap();
        let gradient = |theta: &[f64]| Quartic.evaluate(theta).gradient().to_vec();
        let (g0, g1) = (gradient(trajectory.theta(0)), gradient(trajectory.theta(1)));
        for i in 0..2 {
            let first = trajectory.theta(0)[i] - 0.01 * g0[i];
            assert_eq!(trajectory.theta(1)[i], first);
            assert_eq!(trajectory.theta(2)[i], first - 0.01 * (g1[i] + 0.5 * g0[i]));
        }
    }

    #[test]
    fn the_kept_steps_include_the_first_and_the_last() {
        let options = DescentOptions { steps: 10, keep_every: 4, ..DescentOptions::default() };
        let thinned = run(options).unwrap();
        assert_eq!(thinned.steps, [0, 4, 8, 10]);
        let full = run(DescentOptions { keep_every: 1, ..options }).unwrap();
        assert_eq!(thinned.theta(2), full.theta(8));
        assert_eq!(thinned.losses[3], full.losses[10]);
        let seen = RefCell::new(Vec::new());
        let observe = |step: usize, loss: f64| seen.borrow_mut().push((step, loss));
        let watch = Watch { observe: &observe, ..Watch::default() };
        descend(&Quartic, Progress::start(&[-2.0, 1.0]), &options, &watch).unwrap();
        let expected: Vec<(usize, f64)> = full.losses.iter().copied().enumerate().collect();
        assert_eq!(seen.into_inner(), expected);
    }

    #[test]
    fn a_descent_that_is_broken_off_goes_on_to_the_same_bits() {
        let options =
            DescentOptions { momentum: 0.5, steps: 20, keep_every: 3, ..DescentOptions::default() };
        let whole = run(options).unwrap();
        for broken in [0, 1, 6, 20] {
            let reached = RefCell::new(None);
            let paused = |at: &Progress| {
                *reached.borrow_mut() = Some(at.clone());
                at.step == broken
            };
            let watch = Watch { paused: &paused, ..Watch::default() };
            let start = Progress::start(&[-2.0, 1.0]);
            let end = descend(&Quartic, start, &options, &watch);
            assert_eq!(end, Err(LandscapeError::Cancelled { step: broken }));
            let reached = reached.into_inner().unwrap();
            assert_eq!(reached.step, broken);
            assert_eq!(descend(&Quartic, reached, &options, &Watch::default()).unwrap(), whole);
        }
    }

    #[test]
    fn a_rate_too_large_names_the_step() {
        let options = DescentOptions { rate: 10.0, ..DescentOptions::default() };
        let Err(LandscapeError::Diverged { step }) = run(options) else { panic!("it converged") };
        assert!((2..10).contains(&step), "{step}");
        let stop = Watch { paused: &|_| true, ..Watch::default() };
        let start = Progress::start(&[0.0, 0.0]);
        let stopped = descend(&Quartic, start, &DescentOptions::default(), &stop);
        assert_eq!(stopped, Err(LandscapeError::Cancelled { step: 0 }));
        let start = Progress::start(&[0.0]);
        let short = descend(&Quartic, start, &DescentOptions::default(), &Watch::default());
        assert!(matches!(short, Err(LandscapeError::Length { expected: 2, found: 1, .. })));
    }
}
