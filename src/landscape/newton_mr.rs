//! Newton-MR: Newton's method on the gradient by minimum-length least-squares steps.
//!
//! Each step p is the MINRES-QLP solution of Hp = -g, so that singular and indefinite Hessians need no repair
//! (Roosta et al., arXiv:1810.00303). A line search backtracks until the squared gradient norm s has decreased:
//! s(theta + alpha p) <= s(theta) + 2 rho alpha p'Hg. As in the runs of Frye et al. 2021, the step size is carried
//! from one iteration to the next, and the full step is tried first.

use crate::landscape::{
    error::{LandscapeError, expect_option},
    minres_qlp::{self, Flag, SolverOptions},
    objective::{Objective, Point},
    search::{Control, Outcome, Run, SearchOptions, Status, Step},
    vector,
};

/// The parameters of a Newton-MR search.
#[derive(Clone, Debug, PartialEq)]
pub struct NewtonMrOptions {
    /// The first step size, in (0, 1].
    pub alpha: f64,
    /// What a refused step size is multiplied by, and an accepted one divided by for the next iteration; in (0, 1).
    pub beta: f64,
    /// The share of the decrease promised by the quadratic model that a step must bring, in (0, 1).
    pub rho: f64,
    /// The same for the full step, which is tried first where this is given.
    pub pure_rho: Option<f64>,
    pub solver: SolverOptions,
    pub search: SearchOptions,
}

impl Default for NewtonMrOptions {
    /// The published runs on the linear autoencoder (Frye 2020, thesis, ch. 3).
    fn default() -> Self {
        Self {
            alpha: 0.1,
            beta: 0.5,
            rho: 1e-4,
            pure_rho: Some(0.5),
            solver: SolverOptions::default(),
            search: SearchOptions::default(),
        }
    }
}

/// Searches for a critical point from `start`, which has one entry a parameter.
pub fn search(
    objective: &dyn Objective,
    start: &[f64],
    options: &NewtonMrOptions,
    control: &Control,
) -> Result<Outcome, LandscapeError> {
    check(options)?;
    let mut run = Run::new(objective, start, options.search, control)?;
    let (mut theta, carried) = run.begin(start, vec![options.alpha])?;
    let mut alpha = carried[0];
    let mut point = objective.evaluate(&theta);
    loop {
        if let Some(status) = run.ends(&theta, &[alpha], &*point) {
            run.record(&theta, &*point, None, None);
            return Ok(run.finish(theta, status));
        }
        let gradient = point.gradient();
        let negative: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let multiply = |v: &[f64], out: &mut [f64]| point.hessian_vector(v, out);
        let solution = minres_qlp::solve(multiply, &negative, &options.solver);
        let line = Line {
            objective,
            theta: &theta,
            direction: &solution.x,
            squared_norm: point.squared_gradient_norm(),
            // g'Hp, by the symmetry of H.
            slope: vector::dot(gradient, &solution.image),
        };
        let mut step = Step { solve: Some(solution.report), ..Step::default() };
        let found = match without_step(solution.report.flag, &solution.x) {
            Some(status) => Err(status),
            None => line.backtrack(alpha, options, &mut step),
        };
        run.record(&theta, &*point, Some(step), Some(&solution.x));
        match found {
            Ok((next, at_next)) => {
                alpha = (step.size / options.beta).min(1.0);
                (theta, point) = (next, at_next);
            }
            Err(status) => {
                let status = status.at(&theta, &*point, solution.report.anorm);
                return Ok(run.finish(theta, status));
            }
        }
    }
}

/// Says why a solution gives no direction, if it gives none.
pub(super) fn without_step(flag: Flag, x: &[f64]) -> Option<Status> {
    match flag {
        Flag::NotFinite => Some(Status::NotFinite),
        _ if x.iter().any(|x| *x != 0.0) => None,
        Flag::NormLimit => Some(Status::NormLimit),
        _ => Some(Status::ZeroStep),
    }
}

fn check(options: &NewtonMrOptions) -> Result<(), LandscapeError> {
    let share = |rho: f64| 0.0 < rho && rho < 1.0;
    expect_option("alpha", "above 0 and at most 1", options.alpha, |a| 0.0 < a && a <= 1.0)?;
    expect_option("beta", "above 0 and below 1", options.beta, share)?;
    expect_option("rho", "above 0 and below 1", options.rho, share)?;
    expect_option("pure_rho", "above 0 and below 1", options.pure_rho.unwrap_or(0.5), share)?;
    options.solver.check()
}

/// The line theta + alpha p, with what its tests need of alpha = 0.
struct Line<'o, 'l> {
    objective: &'o dyn Objective,
    theta: &'l [f64],
    direction: &'l [f64],
    squared_norm: f64,
    slope: f64,
}

/// A point on the line, evaluated.
type Candidate<'o> = (Vec<f64>, Box<dyn Point + 'o>);

impl<'o> Line<'o, '_> {
    /// Returns the first point that passes, and notes in `step` how it was found.
    fn backtrack(
        &self,
        first: f64,
        options: &NewtonMrOptions,
        step: &mut Step,
    ) -> Result<Candidate<'o>, Status> {
        if first != 1.0
            && let Some(rho) = options.pure_rho
            && let Some(candidate) = self.attempt(1.0, rho, step)?
        {
            step.pure = true;
            return Ok(candidate);
        }
        let mut alpha = first;
        loop {
            if let Some(candidate) = self.attempt(alpha, options.rho, step)? {
                return Ok(candidate);
            }
            let smaller = alpha * options.beta;
            if smaller == 0.0 || smaller == alpha {
                return Err(Status::LineSearchFloor);
            }
            alpha = smaller;
        }
    }

    /// Returns the point at `alpha` if it decreases the gradient enough.
    fn attempt(
        &self,
        alpha: f64,
        rho: f64,
        step: &mut Step,
    ) -> Result<Option<Candidate<'o>>, Status> {
        let theta = vector::moved(self.theta, alpha, self.direction);
        if theta == self.theta {
            // The same point passes or fails the same test; smaller steps change nothing either.
            return Err(Status::LineSearchFloor);
        }
        step.trials += 1;
        let point = self.objective.evaluate(&theta);
        let bound = self.squared_norm + 2.0 * rho * alpha * self.slope;
        // A comparison with NaN fails, so a point beyond the finite numbers is never taken.
        if point.squared_gradient_norm() <= bound {
            step.size = alpha;
            return Ok(Some((theta, point)));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{
        landscape::{
            data::{self, Data, Targets},
            flatness, hessian,
            linear_autoencoder::LinearAutoencoder,
            network::{Architecture, Network},
            objective::Quartic,
        },
        rng::Streams,
    };

    /// The settings of the thesis for the quartic.
    fn quartic_options() -> NewtonMrOptions {
        NewtonMrOptions {
            alpha: 1.0,
            beta: 0.9,
            rho: 0.1,
            pure_rho: Some(0.1),
            solver: SolverOptions {
                rtol: 1e-10,
                iterations: Some(2),
                norm_limit: 1e2,
                condition_limit: 1e15,
                ..SolverOptions::default()
            },
            search: SearchOptions { iterations: 15, ..SearchOptions::default() },
        }
    }

    #[test]
    fn the_quartic_is_split_as_published() {
        // Frye's thesis (2020), figure of the quartic, rerun: of a 10 x 10 grid on [-4, 4]^2, 56 starts reach the
        // critical point, 42 end near the gradient-flat point (sqrt 2, 0), and 2 creep.
        let mut ends = [0; 3];
        let grid = |i: usize| -4.0 + 8.0 * i as f64 / 9.0;
        for (i, j) in (0..10).flat_map(|i| (0..10).map(move |j| (i, j))) {
            let options = quartic_options();
            let start = [grid(i), grid(j)];
            let outcome = search(&Quartic, &start, &options, &Control::default()).unwrap();
            let s = Quartic.evaluate(&outcome.theta).squared_gradient_norm();
            let near_flat = (11.1766..14.6).contains(&s) && outcome.theta[0] > 1.0;
            ends[if s < 1e-6 {
                0
            } else if near_flat {
                1
            } else {
                2
            }] += 1;
        }
        assert_eq!(ends, [56, 42, 2]);
    }

    #[test]
    fn a_disturbed_critical_point_is_found_again() {
        let variances = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let streams = Streams::new(9, "test");
        let inputs = data::centered_gaussian(60, &variances, &streams);
        let analytic = LinearAutoencoder::from_inputs(&inputs, 6, 3).unwrap();
        let architecture = Architecture { sizes: vec![6, 3, 6], ..Architecture::default() };
        let data = Data { samples: 60, inputs, targets: Targets::Inputs };
        let network = Network::new(architecture, data).unwrap();
        for (lane, components) in
            [vec![], vec![0], vec![4], vec![1, 3], vec![0, 1, 2], vec![2, 4, 5]].iter().enumerate()
        {
            let mut start = analytic.representative(components);
            let mut noise = streams.indexed("noise", lane as u64);
            for value in &mut start {
                *value += 0.01 * noise.normal();
            }
            let outcome =
                search(&network, &start, &NewtonMrOptions::default(), &Control::default()).unwrap();
            let point = network.evaluate(&outcome.theta);
            assert!(point.squared_gradient_norm() < 1e-20, "{components:?} {:?}", outcome.status);
            let found = analytic.match_components(&outcome.theta, 0.9).unwrap();
            assert_eq!(&found.point.components, components);
            let ended = outcome.status;
            assert!(matches!(ended, Status::Converged | Status::ConvergedToRounding), "{ended}");
            assert!(found.residual < 1e-6 && (point.loss() - found.point.loss).abs() < 1e-12);
            let spectrum = hessian::spectrum(&*point).unwrap();
            assert_eq!(hessian::index(&spectrum, 1e-5), found.point.index);
            for pair in outcome.trace.windows(2) {
                assert!(pair[1].squared_gradient_norm <= pair[0].squared_gradient_norm);
            }
        }
    }

    #[test]
    fn a_search_that_is_broken_off_goes_on_to_the_same_bits() {
        crate::landscape::search::check_resumption(&|control| {
            let options = NewtonMrOptions { alpha: 0.1, pure_rho: None, ..quartic_options() };
            search(&Quartic, &[-2.0, 1.0], &options, control).unwrap()
        });
    }

    #[test]
    fn every_way_to_end_is_told_apart() {
        let run = |start: &[f64], search_options: SearchOptions, control: &Control| {
            let options = NewtonMrOptions { search: search_options, ..quartic_options() };
            search(&Quartic, start, &options, control).unwrap()
        };
        let many = SearchOptions { iterations: 100, ..SearchOptions::default() };
        let free = Control::default();
        let critical = run(&[-3.0, 0.0], many, &free);
        assert_eq!((critical.status, critical.iterations), (Status::Converged, 0));
        let tolerant = run(&[-2.0, 1.0], SearchOptions { tolerance: 1e-3, ..many }, &free);
        assert_eq!(tolerant.status, Status::Converged);
        let last = tolerant.trace[tolerant.iterations];
        assert!(last.squared_gradient_norm <= 1e-3 && last.step.is_none());
        let short = run(&[-2.0, 1.0], SearchOptions { iterations: 2, ..many }, &free);
        assert_eq!((short.status, short.iterations), (Status::MaxIterations, 2));
        // At this gradient-flat point the curvature along the gradient is the rounding of sqrt 2, and nothing larger
        // shows to the solver: a step of 1e16.
        let flat = run(&[2f64.sqrt(), 0.0], many, &free);
        assert_eq!((flat.status, flat.iterations), (Status::NormLimit, 0));
        assert_eq!(flat.theta, [2f64.sqrt(), 0.0]);
        let wild = run(&[1e200, 0.0], many, &free);
        assert_eq!(wild.status, Status::NotFinite);
        let stop = Control { paused: &|_| true, ..free };
        assert_eq!(run(&[-2.0, 1.0], many, &stop).status, Status::Cancelled);
    }

    #[test]
    fn bad_input_is_refused() {
        let check = |start: &[f64], options: NewtonMrOptions, message: &str| {
            let error = search(&Quartic, start, &options, &Control::default()).unwrap_err();
            assert_eq!(error.to_string(), message);
        };
        let options = quartic_options;
        check(&[1.0], options(), "the start has 1 entries, expected 2");
        check(
            &[1.0, f64::NAN],
            options(),
            "the start holds a number that is not finite, at entry 1",
        );
        check(
            &[1.0; 2],
            NewtonMrOptions { beta: f64::NAN, ..options() },
            "beta must be above 0 and below 1: NaN",
        );
        let solver = SolverOptions { rtol: -1.0, ..SolverOptions::default() };
        check(&[1.0; 2], NewtonMrOptions { solver, ..options() }, "rtol must be at least 0: -1");
    }

    /// A gradient that is 1 at one place and nowhere else finite.
    struct Cliff(f64);

    struct CliffPoint([f64; 1]);

    impl Objective for Cliff {
        fn dim(&self) -> usize {
            1
        }

        fn evaluate(&self, theta: &[f64]) -> Box<dyn Point + '_> {
            Box::new(CliffPoint([if theta[0] == self.0 { 1.0 } else { f64::NAN }]))
        }
    }

    impl Point for CliffPoint {
        fn loss(&self) -> f64 {
            self.0[0]
        }

        fn gradient(&self) -> &[f64] {
            &self.0
        }

        fn hessian_vector(&self, v: &[f64], out: &mut [f64]) {
            out[0] = v[0];
        }
    }

    #[test]
    fn a_failed_line_search_stays_where_it_is() {
        // From 0 every step size can be tried, from 3 those that change it.
        for (start, trials) in [(0.0, 1070..1080), (3.0, 50..60)] {
            let (options, control) = (NewtonMrOptions::default(), Control::default());
            let outcome = search(&Cliff(start), &[start], &options, &control).unwrap();
            assert_eq!((outcome.status, outcome.theta), (Status::LineSearchFloor, vec![start]));
            let step = outcome.trace[0].step.unwrap();
            assert!(step.size == 0.0 && trials.contains(&step.trials), "{step:?}");
        }
    }

    /// A gradient of 1 everywhere, with a curvature of its own.
    struct Slope {
        curvature: f64,
    }

    struct SlopePoint(f64);

    impl Objective for Slope {
        fn dim(&self) -> usize {
            1
        }

        fn evaluate(&self, _: &[f64]) -> Box<dyn Point + '_> {
            Box::new(SlopePoint(self.curvature))
        }
    }

    impl Point for SlopePoint {
        fn loss(&self) -> f64 {
            1.0
        }

        fn gradient(&self) -> &[f64] {
            &[1.0]
        }

        fn hessian_vector(&self, v: &[f64], out: &mut [f64]) {
            out[0] = self.0 * v[0];
        }
    }

    #[test]
    fn a_step_that_is_refused_is_told_from_a_zero_one_and_from_success() {
        let end = |curvature: f64, theta: f64| {
            let (options, control) = (NewtonMrOptions::default(), Control::default());
            search(&Slope { curvature }, &[theta], &options, &control).unwrap().status
        };
        assert_eq!(end(1e-9, 3.0), Status::NormLimit);
        assert_eq!(end(0.0, 3.0), Status::ZeroStep);
        // A step of 1 that does not change parameters of 1e16 is all that their rounding allows.
        assert_eq!(end(1.0, 1e16), Status::ConvergedToRounding);
    }

    /// A quadratic valley that descends along the kernel of its Hessian diag(0, ..., 0, 1, ..., 20).
    struct Valley;

    struct ValleyPoint(Vec<f64>);

    impl Objective for Valley {
        fn dim(&self) -> usize {
            30
        }

        fn evaluate(&self, theta: &[f64]) -> Box<dyn Point + '_> {
            let gradient = |(i, theta): (usize, &f64)| match i.checked_sub(9) {
                None | Some(0) => 1.0,
                Some(value) => value as f64 * theta + 0.01,
            };
            Box::new(ValleyPoint(theta.iter().enumerate().map(gradient).collect()))
        }
    }

    impl Point for ValleyPoint {
        fn loss(&self) -> f64 {
            0.0
        }

        fn gradient(&self) -> &[f64] {
            &self.0
        }

        fn hessian_vector(&self, v: &[f64], out: &mut [f64]) {
            for (i, (out, v)) in out.iter_mut().zip(v).enumerate() {
                *out = i.saturating_sub(9) as f64 * v;
            }
        }
    }

    #[test]
    fn the_trace_is_observed_and_the_flattest_point_kept() {
        let rows = AtomicUsize::new(0);
        let count = |_: &_| {
            rows.fetch_add(1, Ordering::Relaxed);
        };
        let control = Control { observe: &count, ..Control::default() };
        let outcome = search(&Valley, &[0.0; 30], &NewtonMrOptions::default(), &control).unwrap();
        assert_eq!(rows.into_inner(), outcome.trace.len());
        assert_eq!(outcome.trace.len(), outcome.iterations + 1);
        // Newton steps rid the gradient of all that is not in the kernel, and the next one is zero.
        assert_eq!(outcome.status, Status::ZeroStep);
        let s = outcome.trace[outcome.iterations].squared_gradient_norm;
        assert!((s - 10.0).abs() < 1e-12, "{s}");
        let flattest = outcome.flattest.unwrap();
        assert!(flatness::is_approximately_flat(&flattest.report), "{:?}", flattest.report);
        let row = outcome.trace[flattest.iteration];
        assert_eq!(row.step.and_then(|step| step.solve), Some(flattest.report));
    }
}
