//! Newton's method on the gradient by full Hessians: with their inverse, or with their pseudo-inverse.
//!
//! The steps are theta <- theta - step H^-1 g and theta <- theta - step H^+ g, taken whatever they lead to: near a
//! singular Hessian they may be of any length. At a critical point of a network the Hessian is singular more often than
//! not, and the inverse with it; the pseudo-inverse is 0 on its kernel, and a gradient in there gives no step.

use crate::landscape::{
    dense::{self, Factored},
    error::{LandscapeError, expect_option},
    hessian,
    objective::{Objective, Point},
    search::{Control, Outcome, SearchOptions, Status, Step, walk},
    vector,
};

/// The parameters of a Newton search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NewtonOptions {
    pub inverse: Inverse,
    /// What the direction is multiplied by, above 0.
    pub step: f64,
    pub search: SearchOptions,
}

impl Default for NewtonOptions {
    /// Full steps by the pseudo-inverse.
    fn default() -> Self {
        Self { inverse: Inverse::default(), step: 1.0, search: SearchOptions::default() }
    }
}

/// How the Hessian is inverted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Inverse {
    /// Newton-Raphson: H^-1 by an LU decomposition. A Hessian whose condition is estimated beyond 1 / 2.2e-16 ends the
    /// search as [`Status::Singular`].
    Exact,
    /// H^+ by the eigenvalues, of which those up to `rcond` times the largest in absolute value count as zero;
    /// `rcond` is at least 0 and below 1.
    Pseudo { rcond: f64 },
}

impl Default for Inverse {
    /// The cut-off of `numpy.linalg.pinv`, which the programs of Frye et al. 2021 call.
    fn default() -> Self {
        Self::Pseudo { rcond: 1e-15 }
    }
}

impl NewtonOptions {
    fn check(&self) -> Result<(), LandscapeError> {
        expect_option("step", "above 0 and finite", self.step, |s| s > 0.0 && s.is_finite())?;
        let rcond = match self.inverse {
            Inverse::Exact => 0.0,
            Inverse::Pseudo { rcond } => rcond,
        };
        expect_option("rcond", "at least 0 and below 1", rcond, |r| (0.0..1.0).contains(&r))
    }
}

/// Searches for a critical point from `start`, which has one entry a parameter.
///
/// Each step costs a Hessian product a parameter and a decomposition of the full Hessian.
pub fn search(
    objective: &dyn Objective,
    start: &[f64],
    options: &NewtonOptions,
    control: &Control,
) -> Result<Outcome, LandscapeError> {
    options.check()?;
    walk(objective, start, options.search, control, |run, theta, point| {
        let found = Direction::find(point, options.inverse)?;
        let next = match &found.direction {
            Ok(p) => apart(theta, options.step, p),
            Err(status) => Err(*status),
        };
        let mut step = Step::default();
        if next.is_ok() {
            (step.size, step.trials) = (options.step, 1);
        }
        run.record(theta, point, Some(step), found.direction.as_deref().ok());
        Ok(match next {
            Ok(next) => {
                let point = objective.evaluate(&next);
                Ok((next, point))
            }
            Err(status) => Err(status.at(theta, point, found.curvature)),
        })
    })
}

/// Returns the point that a step leads to, if it is another one.
fn apart(theta: &[f64], step: f64, direction: &[f64]) -> Result<Vec<f64>, Status> {
    let next = vector::moved(theta, step, direction);
    if next.iter().any(|value| !value.is_finite()) {
        Err(Status::NotFinite)
    } else if next != theta {
        Ok(next)
    } else if direction.iter().all(|p| *p == 0.0) {
        Err(Status::ZeroStep)
    } else {
        Err(Status::LineSearchFloor)
    }
}

/// A direction, or why there is none.
struct Direction {
    direction: Result<Vec<f64>, Status>,
    /// At most ||H||.
    curvature: f64,
}

impl Direction {
    fn find(point: &dyn Point, inverse: Inverse) -> Result<Self, LandscapeError> {
        let matrix = dense::hessian(point);
        if !dense::is_finite(matrix.as_ref()) {
            return Ok(Self { direction: Err(Status::NotFinite), curvature: 0.0 });
        }
        let gradient = point.gradient();
        match inverse {
            Inverse::Exact => {
                let curvature = dense::largest_column(matrix.as_ref());
                let factored = Factored::new(matrix);
                if factored.reciprocal_condition() <= f64::EPSILON {
                    return Ok(Self { direction: Err(Status::Singular), curvature });
                }
                let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
                factored.solve(&mut direction);
                Ok(Self { direction: Ok(direction), curvature })
            }
            Inverse::Pseudo { rcond } => {
                let eigen = hessian::eigen(matrix.as_ref())?;
                let direction = eigen.pseudo_inverse_step(gradient, rcond);
                Ok(Self { direction: Ok(direction), curvature: eigen.norm() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        landscape::{
            data::{self, Data, Targets},
            network::{Architecture, Network},
            objective::Quartic,
            quadratic::Quadratic,
            search,
        },
        rng::Streams,
    };

    fn options(inverse: Inverse, step: f64, iterations: usize) -> NewtonOptions {
        let search = SearchOptions { iterations, ..SearchOptions::default() };
        NewtonOptions { inverse, step, search }
    }

    const PSEUDO: Inverse = Inverse::Pseudo { rcond: 1e-15 };

    fn run(objective: &dyn Objective, start: &[f64], options: &NewtonOptions) -> Outcome {
        search(objective, start, options, &Control::default()).unwrap()
    }

    #[test]
    fn one_step_solves_a_quadratic() {
        let values: Vec<f64> =
            (0..12).map(|i| f64::from(2 * (i % 2) - 1) * f64::from(i + 1)).collect();
        let quadratic = Quadratic::of_spectrum(&values);
        for inverse in [Inverse::Exact, PSEUDO] {
            let outcome = run(&quadratic, &[0.5; 12], &options(inverse, 1.0, 1));
            let s = outcome.trace[1].squared_gradient_norm;
            assert!(s < 1e-26 * outcome.trace[0].squared_gradient_norm, "{inverse:?} {s}");
            // A part of the step leaves as much of the gradient.
            let part = run(&quadratic, &[0.5; 12], &options(inverse, 0.25, 3));
            let ratio = part.trace[3].squared_gradient_norm / part.trace[0].squared_gradient_norm;
            assert!((ratio / 0.75f64.powi(6) - 1.0).abs() < 1e-12, "{inverse:?} {ratio}");
            assert_eq!(part.trace[0].step.unwrap().size, 0.25);
        }
    }

    #[test]
    fn a_singular_hessian_stops_the_inverse_and_not_the_pseudo_inverse() {
        let values: Vec<f64> =
            (0..12).map(|i| f64::from((i - 4).max(0) - (2 - i).max(0))).collect();
        let quadratic = Quadratic::of_spectrum(&values);
        let exact = run(&quadratic, &[0.5; 12], &options(Inverse::Exact, 1.0, 10));
        assert_eq!((exact.status, exact.iterations), (Status::Singular, 0));
        assert_eq!(exact.theta, [0.5; 12]);
        assert_eq!(exact.trace[0].step, Some(Step::default()));
        let pseudo = run(&quadratic, &[0.5; 12], &options(PSEUDO, 1.0, 1));
        assert!(pseudo.trace[1].squared_gradient_norm < 1e-24, "{:?}", pseudo.trace);
        // What lies in the kernel stays as it was: the step has minimum length.
        let moved = vector::moved(&pseudo.theta, -1.0, &[0.5; 12]);
        let image = quadratic.evaluate(&moved);
        let solution = quadratic.evaluate(&pseudo.theta);
        assert!((vector::norm(solution.gradient())) < 1e-12);
        let kernel = hessian::eigen(quadratic.matrix.as_ref()).unwrap();
        for (value, column) in kernel.values.iter().zip(kernel.vectors.col_iter()) {
            let share: f64 = column.iter().zip(&moved).map(|(u, m)| u * m).sum();
            assert!(value.abs() > 1e-3 || share.abs() < 1e-12, "{value} {share}");
        }
        assert!(image.is_finite());
    }

    #[test]
    fn a_cut_off_leaves_small_curvatures_alone() {
        let quadratic = Quadratic::diagonal(&[1.0, -1e-3, 1e-6]);
        let end = |rcond: f64| {
            run(&quadratic, &[1.0, 2.0, 3.0], &options(Inverse::Pseudo { rcond }, 1.0, 1)).theta
        };
        assert_eq!(end(1e-15), [0.0; 3]);
        assert_eq!(end(1e-5), [0.0, 0.0, 3.0]);
        assert_eq!(end(1e-2), [0.0, 2.0, 3.0]);
        // The largest is cut off by no cut-off; a gradient in the kernel that is left makes no step.
        let flat =
            Quadratic { matrix: Quadratic::diagonal(&[1.0, 0.0]).matrix, linear: vec![0.0, 1.0] };
        let outcome = run(&flat, &[1.0, 0.0], &options(PSEUDO, 1.0, 10));
        assert_eq!((outcome.status, outcome.iterations), (Status::ZeroStep, 1));
        assert_eq!(outcome.theta, [0.0; 2]);
    }

    #[test]
    fn the_quartic_is_solved_and_its_flat_points_are_told() {
        for inverse in [Inverse::Exact, PSEUDO] {
            let outcome = run(&Quartic, &[-2.5, 0.5], &options(inverse, 1.0, 50));
            assert!(
                matches!(outcome.status, Status::Converged | Status::ConvergedToRounding),
                "{inverse:?} {}",
                outcome.status
            );
            assert!((outcome.theta[0] + 3.0).abs() < 1e-12 && outcome.theta[1].abs() < 1e-12);
            // Newton's method is quadratic: from 1e-6 it takes two steps more.
            let far = |row: &&search::TraceRow| row.squared_gradient_norm > 1e-6;
            let slow = outcome.trace.iter().filter(far).count();
            assert!(slow <= 6 && outcome.trace.len() <= slow + 4, "{slow} {}", outcome.trace.len());
        }
        // f'' is 3 x 2 - 6 in rounding at sqrt 2, some 1e-16 beside 10.
        let flat = [2f64.sqrt(), 0.0];
        let exact = run(&Quartic, &flat, &options(Inverse::Exact, 1.0, 10));
        assert_eq!((exact.status, exact.theta), (Status::Singular, flat.to_vec()));
        let pseudo = run(&Quartic, &flat, &options(Inverse::Pseudo { rcond: 1e-12 }, 1.0, 10));
        assert_eq!((pseudo.status, pseudo.theta), (Status::ZeroStep, flat.to_vec()));
    }

    #[test]
    fn a_small_network_comes_to_a_critical_point() {
        let inputs = data::centered_gaussian(40, &[1.0, 2.0, 3.0, 4.0], &Streams::new(4, "test"));
        let data = Data { samples: 40, inputs, targets: Targets::Inputs };
        let sizes = vec![4, 2, 4];
        let network =
            Network::new(Architecture { sizes, ..Architecture::default() }, data).unwrap();
        // Next to the origin the Hessian of a linear autoencoder is regular, and the origin critical.
        let mut start = network.initialize(&Streams::new(4, "test"));
        for value in &mut start {
            *value *= 0.2;
        }
        for inverse in [Inverse::Exact, PSEUDO] {
            let outcome = run(&network, &start, &options(inverse, 1.0, 40));
            assert!(vector::norm(&outcome.theta) < 1e-12, "{inverse:?} {:?}", outcome.theta);
            assert_eq!(outcome.status, Status::Converged, "{inverse:?}");
        }
    }

    #[test]
    fn a_search_that_is_broken_off_goes_on_to_the_same_bits() {
        for inverse in [Inverse::Exact, PSEUDO] {
            search::check_resumption(&|control| {
                search(&Quartic, &[-2.5, 0.5], &options(inverse, 0.5, 30), control).unwrap()
            });
        }
    }

    #[test]
    fn residuals_by_the_frobenius_norm_are_those_of_the_definition() {
        let mut options = options(Inverse::Pseudo { rcond: 1e-2 }, 1.0, 1);
        options.search.frobenius = true;
        let outcome = run(&Quadratic::diagonal(&[2.0, -1.0, 1e-3]), &[1.0, 2.0, 3.0], &options);
        let found = outcome.trace[0].frobenius.unwrap();
        let (norm, residuals) = (found.norm, found.residuals.unwrap());
        assert!((norm - (5.0 + 1e-6f64).sqrt()).abs() < 1e-15);
        // p = (-1, -2, 0), Hp + g = (0, 0, 0.003).
        let gradient = (4.0 + 4.0 + 9e-6f64).sqrt();
        assert!((residuals.relres - 0.003 / (norm * 5f64.sqrt() + gradient)).abs() < 1e-18);
        assert!((residuals.relares - 1e-3 / norm).abs() < 1e-18);
        let last = outcome.trace[1].frobenius.unwrap();
        assert_eq!((last.norm, last.residuals), (norm, None));
        options.search.frobenius = false;
        let without = run(&Quadratic::diagonal(&[2.0, -1.0, 1e-3]), &[1.0, 2.0, 3.0], &options);
        assert!(without.trace.iter().all(|row| row.frobenius.is_none()));
        assert_eq!(without.theta, outcome.theta);
    }

    #[test]
    fn bad_input_and_numbers_that_are_not_finite_are_told() {
        let refused = |options: NewtonOptions, message: &str| {
            let error = search(&Quartic, &[0.0; 2], &options, &Control::default()).unwrap_err();
            assert_eq!(error.to_string(), message);
        };
        refused(options(PSEUDO, 0.0, 1), "step must be above 0 and finite: 0");
        let rcond = Inverse::Pseudo { rcond: 1.0 };
        refused(options(rcond, 1.0, 1), "rcond must be at least 0 and below 1: 1");
        // The gradient is finite here, the Hessian and the squared gradient norm are not.
        let wild = run(&Quartic, &[1e103, 0.0], &options(PSEUDO, 1.0, 5));
        assert_eq!(wild.status, Status::NotFinite);
        let stop = Control { paused: &|_| true, ..Control::default() };
        let stopped = search(&Quartic, &[-2.0, 1.0], &NewtonOptions::default(), &stop).unwrap();
        assert_eq!(stopped.status, Status::Cancelled);
    }
}
