//! Full-batch gradient descent, momentum and Adam, with the trajectory that start points are drawn from.

use crate::landscape::{
    error::{LandscapeError, expect_finite, expect_length, expect_option},
    objective::Objective,
    vector,
};

/// The parameters of a descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DescentOptions {
    pub rule: Rule,
    pub steps: usize,
    /// Every how many steps parameters and loss are kept; the last step is kept in any case. At least 1.
    pub keep_every: usize,
}

impl Default for DescentOptions {
    /// The training runs of Frye et al. 2019 (arXiv:1901.10603), every point kept.
    fn default() -> Self {
        let rule = Rule::Momentum { rate: 0.01, momentum: 0.0 };
        Self { rule, steps: 10_000, keep_every: 1 }
    }
}

/// How a step is taken, with g the gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// v <- g + momentum v, theta <- theta - rate v.
    Momentum {
        /// The step size, above 0.
        rate: f64,
        /// What is kept of the velocity, at least 0 and below 1; 0 is plain gradient descent.
        momentum: f64,
    },
    /// Adam (Kingma and Ba, ICLR 2015) in the form that `PyTorch` gives it.
    Adam(Adam),
}

/// The numbers of Adam.
///
/// At step t, counted from 1: v <- beta1 v + (1 - beta1) g and s <- beta2 s + (1 - beta2) g^2, both from 0, and theta <-
/// theta - rate / (1 - beta1^t) v / (sqrt(s) / sqrt(1 - beta2^t) + epsilon).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// The step size, above 0.
    pub rate: f64,
    /// What is kept of the mean gradient, at least 0 and below 1.
    pub beta1: f64,
    /// What is kept of the mean squared gradient, at least 0 and below 1.
    pub beta2: f64,
    /// What is added to the root of the mean square, above 0.
    pub epsilon: f64,
}

impl Default for Adam {
    /// The defaults of the paper and of `PyTorch`.
    fn default() -> Self {
        Self { rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

impl Rule {
    fn check(self) -> Result<(), LandscapeError> {
        let share = |x: f64| (0.0..1.0).contains(&x);
        let rate = match self {
            Self::Momentum { rate, momentum } => {
                expect_option("momentum", "at least 0 and below 1", momentum, share)?;
                rate
            }
            Self::Adam(Adam { rate, beta1, beta2, epsilon }) => {
                expect_option("beta1", "at least 0 and below 1", beta1, share)?;
                expect_option("beta2", "at least 0 and below 1", beta2, share)?;
                expect_option("epsilon", "above 0 and finite", epsilon, is_size)?;
                rate
            }
        };
        expect_option("rate", "above 0 and finite", rate, is_size)
    }

    /// How many numbers a parameter has beside itself and its velocity.
    fn squares(self, dim: usize) -> usize {
        match self {
            Self::Momentum { .. } => 0,
            Self::Adam(_) => dim,
        }
    }
}

fn is_size(value: f64) -> bool {
    value > 0.0 && value.is_finite()
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
    /// Of Adam the mean squared gradients, else empty.
    pub squares: Vec<f64>,
    /// What is kept of the steps before.
    pub kept: Trajectory,
}

impl Progress {
    /// A descent that is at its start.
    pub fn start(theta: &[f64], rule: Rule) -> Self {
        let dim = theta.len();
        let kept = Trajectory { dim, steps: Vec::new(), losses: Vec::new(), thetas: Vec::new() };
        let (velocity, squares) = (vec![0.0; dim], vec![0.0; rule.squares(dim)]);
        Self { step: 0, theta: theta.to_vec(), velocity, squares, kept }
    }

    /// Takes a step along a gradient.
    fn advance(&mut self, rule: Rule, gradient: &[f64]) {
        self.step += 1;
        match rule {
            Rule::Momentum { rate, momentum } => {
                for (velocity, gradient) in self.velocity.iter_mut().zip(gradient) {
                    *velocity = gradient + momentum * *velocity;
                }
                vector::add_scaled(-rate, &self.velocity, &mut self.theta);
            }
            Rule::Adam(Adam { rate, beta1, beta2, epsilon }) => {
                let left = |beta: f64| 1.0 - libm::pow(beta, self.step as f64);
                let (size, scale) = (rate / left(beta1), left(beta2).sqrt());
                let moments = self.velocity.iter_mut().zip(&mut self.squares);
                let parameters = self.theta.iter_mut().zip(moments);
                for ((theta, (velocity, square)), g) in parameters.zip(gradient) {
                    *velocity = beta1 * *velocity + (1.0 - beta1) * g;
                    *square = beta2 * *square + (1.0 - beta2) * (g * g);
                    *theta -= size * *velocity / (square.sqrt() / scale + epsilon);
                }
            }
        }
    }

    fn check(&self, dim: usize, rule: Rule) -> Result<(), LandscapeError> {
        expect_length("the start", dim, self.theta.len())?;
        expect_length("the velocity", dim, self.velocity.len())?;
        expect_length("the mean squares", rule.squares(dim), self.squares.len())?;
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

/// Descends from a start, or goes on.
///
/// Fails where the loss or the gradient is not finite, naming the step that led there.
pub fn descend(
    objective: &dyn Objective,
    mut at: Progress,
    options: &DescentOptions,
    watch: &Watch<'_>,
) -> Result<Trajectory, LandscapeError> {
    let DescentOptions { rule, keep_every, .. } = *options;
    rule.check()?;
    at.check(objective.dim(), rule)?;
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
        at.advance(rule, point.gradient());
    }
    Ok(at.kept)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::landscape::objective::Quartic;

    fn run(options: DescentOptions) -> Result<Trajectory, LandscapeError> {
        descend(&Quartic, start(&[-2.0, 1.0], &options), &options, &Watch::default())
    }

    fn start(theta: &[f64], options: &DescentOptions) -> Progress {
        Progress::start(theta, options.rule)
    }

    fn by_momentum(momentum: f64) -> DescentOptions {
        let rule = Rule::Momentum { rate: 0.01, momentum };
        DescentOptions { rule, ..DescentOptions::default() }
    }

    fn by_adam(adam: Adam) -> DescentOptions {
        DescentOptions { rule: Rule::Adam(adam), ..DescentOptions::default() }
    }

    #[test]
    fn descent_reaches_the_minimum_of_the_quartic() {
        let adam = Adam { rate: 0.05, ..Adam::default() };
        for options in [by_momentum(0.0), by_momentum(0.5), by_adam(adam)] {
            let trajectory = run(DescentOptions { steps: 2000, ..options }).unwrap();
            let end = trajectory.theta(2000);
            assert!((end[0] + 3.0).abs() < 1e-12 && end[1].abs() < 1e-12, "{end:?}");
            assert!((trajectory.losses[2000] - 6.25).abs() < 1e-12);
        }
    }

    #[test]
    fn steps_follow_the_recurrence() {
        let options = DescentOptions { steps: 2, ..by_momentum(0.5) };
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
    fn adam_takes_the_steps_of_its_closed_form() {
        // Along a constant gradient g both means are g and g^2 exactly once their bias is taken off, so that each step
        // is rate |g| / (|g| + epsilon) long. The last is PyTorch's default rate on a gradient as small as epsilon.
        for (rate, g, epsilon) in [(0.1, 3.0, 1e-8), (0.1, -0.02, 0.5), (1e-3, 1e-8, 1e-8)] {
            let rule = Rule::Adam(Adam { rate, epsilon, ..Adam::default() });
            let mut at = Progress::start(&[1.0], rule);
            for step in 1..=50 {
                at.advance(rule, &[g]);
                let moved = f64::from(step) * rate * g / (g.abs() + epsilon);
                assert!((1.0 - at.theta[0] - moved).abs() < 1e-12, "{step}: {moved}");
            }
        }
    }

    #[test]
    fn adam_follows_the_recurrence_with_its_bias_taken_off() {
        // Gradients 1, -2, 4 with beta1 = 1/2, beta2 = 3/4, worked by hand: means 1/2, -3/4, 13/8 over 1/2, 3/4, 7/8;
        // mean squares 1/4, 19/16, 313/64 over 1/4, 7/16, 37/64.
        let (beta1, beta2) = (0.5, 0.75);
        let rule = Rule::Adam(Adam { rate: 1.0, beta1, beta2, epsilon: 1e-30 });
        let mut at = Progress::start(&[0.0], rule);
        let ratios = [(1.0, 1.0), (-1.0, 19.0 / 7.0), (13.0 / 7.0, 313.0 / 37.0)];
        let mut expected = 0.0;
        for (g, (mean, square)) in [1.0, -2.0, 4.0].into_iter().zip(ratios) {
            at.advance(rule, &[g]);
            expected -= mean / f64::sqrt(square);
            assert!((at.theta[0] - expected).abs() < 1e-15, "{} {expected}", at.theta[0]);
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
        descend(&Quartic, start(&[-2.0, 1.0], &options), &options, &watch).unwrap();
        let expected: Vec<(usize, f64)> = full.losses.iter().copied().enumerate().collect();
        assert_eq!(seen.into_inner(), expected);
    }

    #[test]
    fn a_descent_that_is_broken_off_goes_on_to_the_same_bits() {
        for (options, broken) in [by_momentum(0.5), by_adam(Adam::default())]
            .into_iter()
            .flat_map(|options| [0, 1, 6, 20].map(|broken| (options, broken)))
        {
            let options = DescentOptions { steps: 20, keep_every: 3, ..options };
            let whole = run(options).unwrap();
            let reached = RefCell::new(None);
            let paused = |at: &Progress| {
                *reached.borrow_mut() = Some(at.clone());
                at.step == broken
            };
            let watch = Watch { paused: &paused, ..Watch::default() };
            let start = start(&[-2.0, 1.0], &options);
            let end = descend(&Quartic, start, &options, &watch);
            assert_eq!(end, Err(LandscapeError::Cancelled { step: broken }));
            let reached = reached.into_inner().unwrap();
            assert_eq!(reached.step, broken);
            assert_eq!(descend(&Quartic, reached, &options, &Watch::default()).unwrap(), whole);
        }
    }

    #[test]
    fn a_rate_too_large_names_the_step() {
        let rule = Rule::Momentum { rate: 10.0, momentum: 0.0 };
        let options = DescentOptions { rule, ..DescentOptions::default() };
        let Err(LandscapeError::Diverged { step }) = run(options) else { panic!("it converged") };
        assert!((2..10).contains(&step), "{step}");
        let stop = Watch { paused: &|_| true, ..Watch::default() };
        let options = DescentOptions::default();
        let stopped = descend(&Quartic, start(&[0.0, 0.0], &options), &options, &stop);
        assert_eq!(stopped, Err(LandscapeError::Cancelled { step: 0 }));
        let short = descend(&Quartic, start(&[0.0], &options), &options, &Watch::default());
        assert!(matches!(short, Err(LandscapeError::Length { expected: 2, found: 1, .. })));
        // What momentum left is no start of Adam's.
        let adam = by_adam(Adam::default());
        let other = descend(&Quartic, start(&[0.0, 0.0], &options), &adam, &Watch::default());
        assert!(matches!(other, Err(LandscapeError::Length { expected: 2, found: 0, .. })));
        let whole = Adam { beta2: 1.0, ..Adam::default() };
        assert!(matches!(run(by_adam(whole)), Err(LandscapeError::Option { .. })));
    }
}
