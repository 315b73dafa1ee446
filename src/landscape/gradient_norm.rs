//! Gradient-norm minimization: descent on G = ||g||^2 / 2, whose gradient is Hg.
//!
//! G has the critical points of the loss among its minima, but also every gradient-flat point, where Hg = 0.

use crate::landscape::{
    error::{LandscapeError, expect_option},
    objective::{Objective, Point},
    search::{Control, Outcome, Run, SearchOptions, Status, Step},
    vector,
};

/// The parameters of a gradient-norm minimization.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientNormOptions {
    pub method: Method,
    pub search: SearchOptions,
}

impl Default for GradientNormOptions {
    /// The published runs on the linear autoencoder: 25 000 steps with a line search (Frye 2020, thesis, ch. 3).
    fn default() -> Self {
        let search = SearchOptions { iterations: 25_000, ..SearchOptions::default() };
        Self { method: Method::LineSearch(LineSearch::default()), search }
    }
}

/// How steps down G are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// theta <- theta - rate Hg.
    Descent { rate: f64 },
    /// v <- Hg + momentum v; theta <- theta - rate v.
    Momentum { rate: f64, momentum: f64 },
    /// Backtracking along -Hg.
    LineSearch(LineSearch),
}

/// A backtracking line search with the conditions of Armijo and of curvature.
///
/// A step alpha along d = -Hg is accepted where G has decreased by at least `-rho alpha d'Hg` and the slope d'(grad G)
/// has come up to `gamma` of what it was. Backtracking cannot mend a failed curvature condition, so that a
/// first step size that is too small ends the search at the line search's floor.
///
/// The programs of Frye et al. have another condition, "roosta", that no published run uses: it needs the Hessian of G
/// and with it third derivatives of the loss, which nothing here has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LineSearch {
    /// The first step size.
    pub alpha: f64,
    /// What a refused step size is multiplied by, and an accepted one divided by for the next iteration; in (0, 1).
    pub beta: f64,
    pub rho: f64,
    pub gamma: f64,
}

impl Default for LineSearch {
    /// The values of Frye et al. 2021.
    fn default() -> Self {
        Self { alpha: 0.1, beta: 0.5, rho: 1e-4, gamma: 0.9 }
    }
}

impl Method {
    /// What is carried to the first step: a velocity, or the line search's first step size.
    fn fresh(self, dim: usize) -> Vec<f64> {
        match self {
            Self::Descent { .. } | Self::Momentum { .. } => vec![0.0; dim],
            Self::LineSearch(line) => vec![line.alpha],
        }
    }

    fn check(self) -> Result<(), LandscapeError> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let (rate, momentum) = match self {
            Self::Descent { rate } => (rate, 0.0),
            Self::Momentum { rate, momentum } => (rate, momentum),
            Self::LineSearch(LineSearch { alpha, beta, rho, gamma }) => {
                let share = |value: f64| 0.0 < value && value < 1.0;
                expect_option("alpha", "above 0 and finite", alpha, positive)?;
                expect_option("beta", "above 0 and below 1", beta, share)?;
                expect_option("rho", "above 0 and below 1", rho, share)?;
                return expect_option("gamma", "above 0 and finite", gamma, positive);
            }
        };
        expect_option("rate", "above 0 and finite", rate, positive)?;
        expect_option("momentum", "at least 0 and below 1", momentum, |m| (0.0..1.0).contains(&m))
    }
}

/// Searches for a critical point from `start`, which has one entry a parameter.
pub fn search(
    objective: &dyn Objective,
    start: &[f64],
    options: &GradientNormOptions,
    control: &Control,
) -> Result<Outcome, LandscapeError> {
    options.method.check()?;
    let mut run = Run::new(objective, start, options.search, control)?;
    let (theta, carried) = run.begin(start, options.method.fresh(start.len()))?;
    let mut here = Place::new(objective, theta);
    let mut stepper = Stepper { carried };
    loop {
        if let Some(status) = run.ends(&here.theta, &stepper.carried, &*here.point) {
            run.record(&here.theta, &*here.point, None, None);
            return Ok(run.finish(here.theta, status));
        }
        let mut step = Step::default();
        let found = stepper.next(objective, &here, options.method, &mut step);
        run.record(&here.theta, &*here.point, Some(step), None);
        match found {
            Ok(next) => here = next,
            Err(status) => {
                let curvature = vector::norm(&here.descent) / vector::norm(here.point.gradient());
                let status = status.at(&here.theta, &*here.point, curvature);
                return Ok(run.finish(here.theta, status));
            }
        }
    }
}

/// A point with the gradient of G.
struct Place<'o> {
    theta: Vec<f64>,
    point: Box<dyn Point + 'o>,
    /// Hg.
    descent: Vec<f64>,
}

impl<'o> Place<'o> {
    fn new(objective: &'o dyn Objective, theta: Vec<f64>) -> Self {
        let point = objective.evaluate(&theta);
        Self::from_point(theta, point)
    }

    fn from_point(theta: Vec<f64>, point: Box<dyn Point + 'o>) -> Self {
        let mut descent = vec![0.0; theta.len()];
        point.hessian_vector(point.gradient(), &mut descent);
        Self { theta, point, descent }
    }
}

/// What a method carries from step to step.
struct Stepper {
    /// The velocity, or the line search's step size.
    carried: Vec<f64>,
}

impl Stepper {
    fn next<'o>(
        &mut self,
        objective: &'o dyn Objective,
        here: &Place<'o>,
        method: Method,
        step: &mut Step,
    ) -> Result<Place<'o>, Status> {
        let (rate, momentum) = match method {
            Method::Descent { rate } => (rate, 0.0),
            Method::Momentum { rate, momentum } => (rate, momentum),
            Method::LineSearch(line) => return self.backtrack(objective, here, line, step),
        };
        let velocity = &mut self.carried;
        for (velocity, descent) in velocity.iter_mut().zip(&here.descent) {
            *velocity = descent + momentum * *velocity;
        }
        let theta = vector::moved(&here.theta, -rate, velocity);
        if theta == here.theta {
            let zero = velocity.iter().all(|velocity| *velocity == 0.0);
            return Err(if zero { Status::ZeroStep } else { Status::LineSearchFloor });
        }
        (step.size, step.trials) = (rate, 1);
        Ok(Place::new(objective, theta))
    }

    fn backtrack<'o>(
        &mut self,
        objective: &'o dyn Objective,
        here: &Place<'o>,
        line: LineSearch,
        step: &mut Step,
    ) -> Result<Place<'o>, Status> {
        let squared = vector::norm_squared(&here.descent);
        let value = 0.5 * here.point.squared_gradient_norm();
        if squared == 0.0 {
            return Err(Status::ZeroStep);
        }
        let mut alpha = self.carried[0];
        loop {
            let theta = vector::moved(&here.theta, -alpha, &here.descent);
            let smaller = alpha * line.beta;
            // Where no parameter changes the curvature condition fails, now and for all smaller steps.
            if theta == here.theta || smaller == 0.0 || smaller == alpha {
                return Err(Status::LineSearchFloor);
            }
            step.trials += 1;
            let point = objective.evaluate(&theta);
            if 0.5 * point.squared_gradient_norm() <= value - line.rho * alpha * squared {
                let next = Place::from_point(theta, point);
                if vector::dot(&here.descent, &next.descent) <= line.gamma * squared {
                    step.size = alpha;
                    self.carried[0] = alpha / line.beta;
                    return Ok(next);
                }
            }
            alpha = smaller;
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
        },
        rng::Streams,
    };

    fn options(method: Method, iterations: usize) -> GradientNormOptions {
        let search = SearchOptions { iterations, ..SearchOptions::default() };
        GradientNormOptions { method, search }
    }

    fn run(start: [f64; 2], method: Method, iterations: usize) -> Outcome {
        search(&Quartic, &start, &options(method, iterations), &Control::default()).unwrap()
    }

    #[test]
    fn all_methods_reach_the_critical_point_of_the_quartic() {
        for method in [
            Method::Descent { rate: 1e-3 },
            Method::Momentum { rate: 1e-3, momentum: 0.5 },
            Method::LineSearch(LineSearch { gamma: 1.0, ..LineSearch::default() }),
        ] {
            let outcome = run([-2.5, 0.5], method, 3000);
            assert!((outcome.theta[0] + 3.0).abs() < 1e-7, "{method:?} {:?}", outcome.theta);
            assert!(outcome.theta[1].abs() < 1e-7, "{method:?} {:?}", outcome.theta);
        }
    }

    #[test]
    fn a_search_that_is_broken_off_goes_on_to_the_same_bits() {
        for method in [
            Method::Momentum { rate: 1e-3, momentum: 0.5 },
            Method::LineSearch(LineSearch { gamma: 1.0, ..LineSearch::default() }),
        ] {
            crate::landscape::search::check_resumption(&|control| {
                search(&Quartic, &[-2.5, 0.5], &options(method, 30), control).unwrap()
            });
        }
    }

    #[test]
    fn a_gradient_flat_point_attracts_it() {
        let outcome = run([2.0, 0.5], Method::Descent { rate: 1e-3 }, 3000);
        assert!((outcome.theta[0] - 2f64.sqrt()).abs() < 1e-6, "{:?}", outcome.theta);
    }

    #[test]
    fn steps_follow_the_recurrence() {
        // Hg = (3x^2 - 6)(x^3 - 6x + 9) in x; y = 0 stays.
        let hg = |x: f64| (3.0 * x * x - 6.0) * (x * x * x - 6.0 * x + 9.0);
        let outcome = run([-2.0, 0.0], Method::Momentum { rate: 0.01, momentum: 0.5 }, 2);
        let first = -2.0 - 0.01 * hg(-2.0);
        let second = first - 0.01 * (hg(first) + 0.5 * hg(-2.0));
        assert!((outcome.theta[0] - second).abs() < 1e-14);
        assert_eq!((outcome.status, outcome.iterations), (Status::MaxIterations, 2));
        let plain = run([-2.0, 0.1], Method::Descent { rate: 0.01 }, 5);
        let without = run([-2.0, 0.1], Method::Momentum { rate: 0.01, momentum: 0.0 }, 5);
        assert_eq!(plain, without);
    }

    #[test]
    fn the_line_search_never_lets_the_gradient_grow() {
        let inputs = data::centered_gaussian(40, &[1.0, 2.0, 3.0, 4.0], &Streams::new(4, "test"));
        let data = Data { samples: 40, inputs, targets: Targets::Inputs };
        let (sizes, activation) = (vec![4, 2, 4], Activation::Swish);
        let architecture = Architecture { sizes, activation, ..Architecture::default() };
        let network = Network::new(architecture, data).unwrap();
        let start = network.initialize(&Streams::new(4, "test"));
        let method = Method::LineSearch(LineSearch::default());
        let outcome = search(&network, &start, &options(method, 200), &Control::default()).unwrap();
        assert!(outcome.iterations > 20, "{:?} {}", outcome.status, outcome.iterations);
        for pair in outcome.trace.windows(2) {
            assert!(pair[1].squared_gradient_norm < pair[0].squared_gradient_norm);
        }
        let (first, last) = (outcome.trace[0], outcome.trace[outcome.iterations]);
        assert!(last.squared_gradient_norm < 0.1 * first.squared_gradient_norm);
    }

    #[test]
    fn an_end_at_rounding_is_a_success() {
        // A fixed rate that is good for the curvatures 21 and 10 comes down to where nothing moves.
        let outcome = run([-2.5, 0.5], Method::Descent { rate: 2e-3 }, 100_000);
        let s = outcome.trace[outcome.iterations].squared_gradient_norm;
        let ended = outcome.status;
        assert!(matches!(ended, Status::Converged | Status::ConvergedToRounding), "{ended} {s}");
        assert!(s < 1e-25 && outcome.iterations > 10 && outcome.theta[0] < -2.999);
    }

    #[test]
    fn a_first_step_too_small_ends_at_the_floor() {
        let method = Method::LineSearch(LineSearch { alpha: 1e-9, ..LineSearch::default() });
        let outcome = run([-2.5, 0.5], method, 10);
        assert_eq!((outcome.status, outcome.iterations), (Status::LineSearchFloor, 0));
        assert_eq!(outcome.theta, [-2.5, 0.5]);
        let wild = run([-2.5, 0.5], Method::Descent { rate: 1e6 }, 10);
        assert_eq!(wild.status, Status::NotFinite);
        assert_eq!(run([-3.0, 0.0], method, 10).status, Status::Converged);
        let fixed = run([-2.5, 0.5], Method::Descent { rate: 1e-30 }, 10);
        assert_eq!((fixed.status, fixed.iterations), (Status::LineSearchFloor, 0));
        let bad = options(Method::Momentum { rate: 0.1, momentum: f64::NAN }, 10);
        assert!(search(&Quartic, &[0.0; 2], &bad, &Control::default()).is_err());
    }
}
