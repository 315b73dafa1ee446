//! Damped Newton, or Newton-TR: the best of the steps for several dampings.
//!
//! For each damping gamma, p is the minimum-length solution of min ||(H + gamma I)p + g|| by MINRES-QLP, and of the
//! points theta + step p the one of the smallest squared gradient norm is next, if it is smaller than at theta; else
//! the search ends as one without a decrease (Frye 2020, thesis, ch. 2).
//!
//! The programs behind the published runs do something else, which `as_coded` repeats so that it can be compared:
//! every solve uses the last damping and adds gamma times the sum of theta to each entry of a product instead of
//! gamma v, so that all candidates are one undamped Newton step, of a fixed size, taken if the squared gradient norm
//! decreases. The published rates of "damped Newton" say nothing about damping.

use crate::landscape::{
    error::{LandscapeError, expect_finite, expect_option},
    minres_qlp::{self, Flag, Solution, SolverOptions, Stopped},
    newton_mr::without_step,
    objective::{Objective, Point},
    scan::Scan,
    search::{Control, Outcome, SearchOptions, Step, walk},
};

/// The parameters of a damped Newton search.
#[derive(Clone, Debug, PartialEq)]
pub struct DampedNewtonOptions {
    /// What is added to the diagonal of the Hessian, for one candidate each; at least one, each at least 0.
    pub dampings: Vec<f64>,
    /// What each direction is multiplied by, above 0. The published scripts take 0.1.
    pub step: f64,
    /// Whether to do what the published programs do.
    pub as_coded: bool,
    pub solver: SolverOptions,
    pub search: SearchOptions,
}

impl Default for DampedNewtonOptions {
    /// The dampings of the published scripts, 100 to 1e-7, with the step size and solver of the published programs.
    fn default() -> Self {
        Self {
            dampings: vec![100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7],
            step: 1.0,
            as_coded: false,
            solver: SolverOptions {
                rtol: 1e-10,
                iterations: Some(25),
                norm_limit: 1e7,
                condition_limit: 1e15,
                reorthogonalize: false,
            },
            search: SearchOptions::default(),
        }
    }
}

impl DampedNewtonOptions {
    fn check(&self) -> Result<(), LandscapeError> {
        expect_option("the number of dampings", "at least 1", self.dampings.len() as f64, |n| {
            n >= 1.0
        })?;
        expect_finite("the list of dampings", &self.dampings)?;
        let least = self.dampings.iter().fold(f64::INFINITY, |least, d| least.min(*d));
        expect_option("damping", "at least 0", least, |d| d >= 0.0)?;
        expect_option("step", "above 0 and finite", self.step, |s| s > 0.0 && s.is_finite())?;
        self.solver.check()
    }
}

/// Searches for a critical point from `start`, which has one entry a parameter.
///
/// The solves of a step share their products with the Hessian; each candidate costs a gradient.
pub fn search(
    objective: &dyn Objective,
    start: &[f64],
    options: &DampedNewtonOptions,
    control: &Control,
) -> Result<Outcome, LandscapeError> {
    options.check()?;
    walk(objective, start, options.search, control, |run, theta, point| {
        let solves = Solves::new(point, theta, options);
        let mut scan =
            Scan::new(objective, theta, options.step, |point| point.squared_gradient_norm());
        for (index, solve) in solves.stopped.iter().enumerate() {
            if solve.flag() != Flag::NotFinite && solve.x().iter().all(|x| x.is_finite()) {
                scan.attempt(index, solve.x());
            }
        }
        let (trials, best) = (scan.trials(), scan.best());
        let found = scan.end(point);
        // Where no candidate can be told from theta, the solve with the least damping says why.
        let (damping, solution) = solves.finish(best);
        let size = if found.is_ok() { options.step } else { 0.0 };
        let solve = Some(solution.report);
        let step = Step { size, trials, damping, solve, ..Step::default() };
        run.record(theta, point, Some(step), Some(&solution.x));
        Ok(match found {
            Ok(next) => Ok((next.theta, next.point)),
            Err(status) => {
                let status = match without_step(solution.report.flag, &solution.x) {
                    Some(reason) if best.is_none() => reason,
                    _ => status,
                };
                // The estimate is of the damped Hessian; what is left is at most ||H||.
                let curvature = solution.report.anorm - damping.unwrap_or(0.0);
                Err(status.at(theta, point, curvature.max(0.0)))
            }
        })
    })
}

/// The solves of a step, one a damping; a single one as coded.
struct Solves<'a> {
    point: &'a dyn Point,
    options: &'a DampedNewtonOptions,
    negative: Vec<f64>,
    /// What the programs add to each entry of a product.
    added: f64,
    stopped: Vec<Stopped>,
}

impl<'a> Solves<'a> {
    fn new(point: &'a dyn Point, theta: &[f64], options: &'a DampedNewtonOptions) -> Self {
        let negative: Vec<f64> = point.gradient().iter().map(|g| -g).collect();
        let last = options.dampings.last().copied().unwrap_or(0.0);
        let (added, shifts): (f64, &[f64]) = if options.as_coded {
            (theta.iter().map(|theta| last * theta).sum(), &[0.0])
        } else {
            (0.0, &options.dampings)
        };
        let multiply = |v: &[f64], out: &mut [f64]| product(point, added, v, out);
        let stopped = minres_qlp::solve_shifted(multiply, &negative, shifts, &options.solver);
        Self { point, options, negative, added, stopped }
    }

    /// Reports on one of the solves, that of the least damping where none is named.
    fn finish(self, index: Option<usize>) -> (Option<f64>, Solution) {
        let Self { point, options, negative, added, mut stopped } = self;
        let damping = |i: &usize| options.dampings[*i];
        let least = (0..stopped.len()).min_by(|i, j| damping(i).total_cmp(&damping(j)));
        let index = index.or(least).unwrap_or(0);
        let multiply = |v: &[f64], out: &mut [f64]| product(point, added, v, out);
        let solution = stopped.swap_remove(index).finish(multiply, &negative);
        ((!options.as_coded).then(|| options.dampings[index]), solution)
    }
}

/// Writes Hv, with a number added to each entry.
fn product(point: &dyn Point, added: f64, v: &[f64], out: &mut [f64]) {
    point.hessian_vector(v, out);
    if added != 0.0 {
        for out in out.iter_mut() {
            *out += added;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        landscape::{
            activation::Activation,
            data::{self, Data, Targets},
            network::{Architecture, Network},
            objective::Quartic,
            quadratic::Quadratic,
            search::{self, Status},
            vector,
        },
        rng::Streams,
    };

    fn options(dampings: &[f64], step: f64, iterations: usize) -> DampedNewtonOptions {
        DampedNewtonOptions {
            dampings: dampings.to_vec(),
            step,
            search: SearchOptions { iterations, ..SearchOptions::default() },
            ..DampedNewtonOptions::default()
        }
    }

    fn run(objective: &dyn Objective, start: &[f64], options: &DampedNewtonOptions) -> Outcome {
        search(objective, start, options, &Control::default()).unwrap()
    }

    /// Steps of the definition where the Hessian is the diagonal of `curvatures`.
    fn by_definition(
        objective: &dyn Objective,
        curvatures: impl Fn(&[f64]) -> Vec<f64>,
        theta: &[f64],
        options: &DampedNewtonOptions,
    ) -> Option<(f64, Vec<f64>)> {
        let here = objective.evaluate(theta);
        let candidate = |damping: &f64| {
            let of =
                |(theta, (g, h)): (&f64, (&f64, f64))| theta - options.step * g / (h + damping);
            let pairs = here.gradient().iter().zip(curvatures(theta));
            let next: Vec<f64> = theta.iter().zip(pairs).map(of).collect();
            (objective.evaluate(&next).squared_gradient_norm(), *damping, next)
        };
        let (s, damping, next) =
            options.dampings.iter().map(candidate).min_by(|a, b| a.0.total_cmp(&b.0))?;
        (s < here.squared_gradient_norm()).then_some((damping, next))
    }

    /// A function with the diagonal of its Hessian, a start and a step size.
    type Case<'a> = (&'a dyn Objective, &'a dyn Fn(&[f64]) -> Vec<f64>, Vec<f64>, f64);

    #[test]
    fn steps_are_those_of_the_definition() {
        let values = [3.0, -0.5, -2e-3, 0.7];
        let quadratic = Quadratic::diagonal(&values);
        let quartic = |theta: &[f64]| {
            vec![3.0 * theta[0] * theta[0] - 6.0, 10.8 * theta[1] * theta[1] + 10.0]
        };
        let cases: [Case; 4] = [
            (&quadratic, &|_| values.to_vec(), vec![1.0, 2.0, 3.0, -1.0], 1.0),
            (&quadratic, &|_| values.to_vec(), vec![1.0, 2.0, 3.0, -1.0], 0.1),
            (&Quartic, &quartic, vec![1.6, 0.8], 1.0),
            (&Quartic, &quartic, vec![-1.2, 2.0], 1.0),
        ];
        let mut chosen = Vec::new();
        for (objective, curvatures, start, step) in cases {
            // No power of ten is minus a curvature, so that no damped Hessian is singular.
            let options = options(&[300.0, 30.0, 3.0, 0.3, 0.03, 3e-3, 3e-4, 3e-7], step, 4);
            let outcome = run(objective, &start, &options);
            let mut theta = start.clone();
            for row in &outcome.trace[..outcome.iterations] {
                let (damping, next) =
                    by_definition(objective, curvatures, &theta, &options).unwrap();
                assert_eq!(row.step.unwrap().damping, Some(damping), "{start:?} {theta:?}");
                assert_eq!(row.step.unwrap().trials, 8);
                chosen.push(damping);
                theta = next;
            }
            let error = vector::norm(&vector::moved(&outcome.theta, -1.0, &theta));
            assert!(error < 1e-9 * (1.0 + vector::norm(&theta)), "{:?} {theta:?}", outcome.theta);
            assert!(outcome.iterations > 0, "{}", outcome.status);
        }
        // Small and large ones are needed.
        assert!(chosen.iter().any(|d| *d < 1e-3) && chosen.iter().any(|d| *d > 0.1), "{chosen:?}");
    }

    #[test]
    fn the_squared_gradient_norm_falls_at_every_step_of_a_network() {
        let inputs = data::centered_gaussian(40, &[1.0, 2.0, 3.0, 4.0], &Streams::new(4, "test"));
        let data = Data { samples: 40, inputs, targets: Targets::Inputs };
        let (sizes, activation) = (vec![4, 3, 4], Activation::Swish);
        let architecture = Architecture { sizes, activation, l2: 0.1, ..Architecture::default() };
        let network = Network::new(architecture, data).unwrap();
        // Far from a critical point no damping makes the gradient smaller for long.
        let mut start = network.initialize(&Streams::new(4, "test"));
        let far = run(&network, &start, &DampedNewtonOptions::default());
        assert_eq!(far.status, Status::NoDecrease);
        for value in &mut start {
            *value *= 0.1;
        }
        let outcome =
            run(&network, &start, &options(&DampedNewtonOptions::default().dampings, 1.0, 60));
        for pair in outcome.trace.windows(2) {
            assert!(pair[1].squared_gradient_norm < pair[0].squared_gradient_norm);
            assert!(pair[0].step.unwrap().solve.is_some());
        }
        let last = outcome.trace[outcome.iterations].squared_gradient_norm;
        assert!(last < 1e-20, "{last} {} {}", outcome.iterations, outcome.status);
    }

    #[test]
    fn as_coded_it_is_newton_s_method_with_a_fixed_step() {
        // The published traces shrink by (1 - 0.1)^2 a step.
        let options = DampedNewtonOptions { as_coded: true, ..options(&[100.0, 1e-7], 0.1, 20) };
        let values: Vec<f64> =
            (0..10).map(|i| f64::from(2 * (i % 2) - 1) * f64::from(i + 3)).collect();
        let outcome = run(&Quadratic::of_spectrum(&values), &[0.5; 10], &options);
        assert_eq!(outcome.iterations, 20);
        for pair in outcome.trace.windows(2) {
            let ratio = pair[1].squared_gradient_norm / pair[0].squared_gradient_norm;
            assert!((ratio - 0.81).abs() < 1e-6, "{ratio}");
            let step = pair[0].step.unwrap();
            assert_eq!((step.size, step.trials, step.damping), (0.1, 1, None));
        }
        // Where Newton's step makes the gradient larger it ends, though a damped one would not.
        let start = [2f64.sqrt() + 0.05, 0.0];
        let full = DampedNewtonOptions { step: 1.0, ..options.clone() };
        let coded = run(&Quartic, &start, &full);
        assert_eq!((coded.status, coded.iterations), (Status::NoDecrease, 0));
        assert!(
            run(&Quartic, &start, &DampedNewtonOptions { as_coded: false, ..full }).iterations > 0
        );
    }

    #[test]
    fn what_is_added_as_coded_is_the_last_damping_times_the_sum_of_the_parameters() {
        // (H + 0) p = -g - c for the constant c = gamma sum(theta), as an affine system of one unknown shows: the
        // solver's first product with v = b / |b| is h + c.
        let quadratic = Quadratic::diagonal(&[2.0]);
        let options = DampedNewtonOptions { as_coded: true, ..options(&[0.0, 0.25], 1.0, 1) };
        let outcome = run(&quadratic, &[-4.0], &options);
        // b = 8, v = 1, c = -1: the solver takes 2 - 1 for the curvature and p = 8 / 1.
        assert_eq!((outcome.status, outcome.iterations), (Status::NoDecrease, 0));
        let report = outcome.trace[0].step.unwrap().solve.unwrap();
        assert_eq!((report.flag, report.xnorm), (Flag::Eigenvector, 8.0));
    }

    #[test]
    fn a_search_that_is_broken_off_goes_on_to_the_same_bits() {
        for as_coded in [false, true] {
            let options = DampedNewtonOptions { as_coded, ..options(&[1.0, 1e-3], 0.5, 20) };
            search::check_resumption(&|control| {
                super::search(&Quartic, &[-2.5, 0.5], &options, control).unwrap()
            });
        }
    }

    #[test]
    fn every_way_to_end_is_told_apart() {
        let flat =
            Quadratic { matrix: Quadratic::diagonal(&[1.0, 0.0]).matrix, linear: vec![0.0, 1.0] };
        let end = |dampings: &[f64]| run(&flat, &[0.0, 1.0], &options(dampings, 1.0, 10)).status;
        // Along the kernel the gradient stays as it is, however far a step goes.
        assert_eq!(end(&[1.0, 0.1]), Status::NoDecrease);
        assert_eq!(end(&[0.0]), Status::ZeroStep);
        assert_eq!(end(&[1e-9]), Status::NormLimit);
        assert_eq!(end(&[1e30]), Status::LineSearchFloor);
        let free = DampedNewtonOptions::default();
        assert_eq!(run(&Quartic, &[-3.0, 0.0], &free).status, Status::Converged);
        assert_eq!(run(&Quartic, &[1e200, 0.0], &free).status, Status::NotFinite);
        let close = run(&Quartic, &[-2.5, 0.5], &free);
        assert!(
            matches!(close.status, Status::Converged | Status::ConvergedToRounding),
            "{} {:?}",
            close.status,
            close.trace.last()
        );
        let refused = |dampings: &[f64], message: &str| {
            let options = options(dampings, 1.0, 1);
            let error = search(&Quartic, &[0.0; 2], &options, &Control::default()).unwrap_err();
            assert_eq!(error.to_string(), message);
        };
        refused(&[], "the number of dampings must be at least 1: 0");
        refused(&[1.0, -0.5], "damping must be at least 0: -0.5");
        refused(
            &[f64::INFINITY],
            "the list of dampings holds a number that is not finite, at entry 0",
        );
    }
}
