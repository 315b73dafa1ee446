//! Saddle-free Newton: down the loss by the absolute values of the curvatures (Dauphin et al., NIPS 2014).
//!
//! The direction is p = -(|H| + gamma I)^-1 g, where |H| has the absolute eigenvalues of H: along positive curvature it
//! is Newton's, along negative curvature it has the opposite sign and leaves the saddle. Of the dampings gamma the one
//! that leads to the lowest loss is taken, if the loss is lower than before; else the search ends as
//! [`Status::NoDecrease`].
//!
//! This is an optimizer: it looks for minima, not for critical points of any index, and judges a step by the loss. As
//! the loss near a minimum changes with the square of the distance, it can no more be told apart at a squared gradient
//! norm of some 1e-16 times loss and curvature: runs end there, not at rounding.
//!
//! In large problems |H| is taken on the Krylov space of H and g of a few dimensions, as Dauphin et al. do (algorithm
//! 1), from fully reorthogonalized Lanczos vectors. What the space leaves out is not stepped along.

use faer::Mat;

use crate::landscape::{
    dense,
    error::{LandscapeError, expect_finite, expect_option},
    hessian::{self, Eigen},
    krylov::{Basis, Lanczos},
    objective::{Objective, Point},
    scan::Scan,
    search::{Control, Outcome, SearchOptions, Status, Step, walk},
    vector,
};

/// The parameters of a saddle-free Newton search.
#[derive(Clone, Debug, PartialEq)]
pub struct SaddleFreeOptions {
    /// The most dimensions of the Krylov space; the full Hessian is decomposed where absent.
    pub krylov: Option<usize>,
    /// What is added to the absolute curvatures, for one candidate each; at least one, each at least 0.
    pub dampings: Vec<f64>,
    /// What each direction is multiplied by, above 0.
    pub step: f64,
    pub search: SearchOptions,
}

impl Default for SaddleFreeOptions {
    /// Full Hessians and steps; dampings are powers of ten from 1 to 1e-6.
    fn default() -> Self {
        Self {
            krylov: None,
            dampings: vec![1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6],
            step: 1.0,
            search: SearchOptions::default(),
        }
    }
}

impl SaddleFreeOptions {
    fn check(&self) -> Result<(), LandscapeError> {
        let krylov = self.krylov.unwrap_or(1) as f64;
        expect_option("krylov", "at least 1", krylov, |k| k >= 1.0)?;
        expect_option("the number of dampings", "at least 1", self.dampings.len() as f64, |n| {
            n >= 1.0
        })?;
        expect_finite("the list of dampings", &self.dampings)?;
        let least = self.dampings.iter().fold(f64::INFINITY, |least, d| least.min(*d));
        expect_option("damping", "at least 0", least, |d| d >= 0.0)?;
        expect_option("step", "above 0 and finite", self.step, |s| s > 0.0 && s.is_finite())
    }
}

/// Descends from `start`, which has one entry a parameter, along saddle-free Newton steps.
///
/// A step costs the full Hessian and its eigenvectors, or one product a dimension of the Krylov space; and a gradient
/// a damping.
pub fn search(
    objective: &dyn Objective,
    start: &[f64],
    options: &SaddleFreeOptions,
    control: &Control,
) -> Result<Outcome, LandscapeError> {
    options.check()?;
    walk(objective, start, options.search, control, |run, theta, point| {
        let Some(curvatures) = Curvatures::at(point, options.krylov)? else {
            run.record(theta, point, Some(Step::default()), None);
            return Ok(Err(Status::NotFinite));
        };
        let mut scan = Scan::new(objective, theta, options.step, |point| point.loss());
        for (index, damping) in options.dampings.iter().enumerate() {
            scan.attempt(index, &curvatures.direction(*damping));
        }
        let (trials, best) = (scan.trials(), scan.best());
        let found = scan.end(point);
        let size = if found.is_ok() { options.step } else { 0.0 };
        let damping = best.map(|index| options.dampings[index]);
        run.record(theta, point, Some(Step { size, trials, damping, ..Step::default() }), None);
        Ok(match found {
            Ok(next) => Ok((next.theta, next.point)),
            Err(status) => Err(status.at(theta, point, curvatures.largest)),
        })
    })
}

/// Curvatures below this share of the largest are of the kernel where nothing is added to them.
const KERNEL: f64 = 1e-15;

/// Curvatures along orthonormal directions, with the gradient's entries there.
struct Curvatures {
    eigen: Eigen,
    entries: Vec<f64>,
    /// The vectors that `eigen` is in terms of, one after another; those of the parameters where absent.
    basis: Option<Vec<f64>>,
    largest: f64,
}

impl Curvatures {
    /// Decomposes the Hessian at a point, or what a Krylov space sees of it; `None` where it is not finite.
    fn at(point: &dyn Point, krylov: Option<usize>) -> Result<Option<Self>, LandscapeError> {
        let gradient = point.gradient();
        let (matrix, basis) = match krylov {
            None => (dense::hessian(point), None),
            Some(dimensions) => {
                let (matrix, basis) = krylov_space(point, dimensions);
                (matrix, Some(basis))
            }
        };
        if !dense::is_finite(matrix.as_ref()) {
            return Ok(None);
        }
        let eigen = hessian::eigen(matrix.as_ref())?;
        let along = |k: usize| -> f64 {
            let column = eigen.vectors.col(k);
            match &basis {
                None => column.iter().zip(gradient).map(|(u, g)| u * g).sum(),
                // The first Lanczos vector is along the gradient, the others are orthogonal to it.
                Some(_) => column[0] * vector::norm(gradient),
            }
        };
        let entries = (0..eigen.values.len()).map(along).collect();
        let largest = eigen.values.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()));
        Ok(Some(Self { eigen, entries, basis, largest }))
    }

    /// Returns -(|H| + damping I)^-1 g on the space, without what is in the kernel of the sum.
    fn direction(&self, damping: f64) -> Vec<f64> {
        let Eigen { values, vectors } = &self.eigen;
        let mut inner = vec![0.0; values.len()];
        for (k, (value, entry)) in values.iter().zip(&self.entries).enumerate() {
            let curvature = value.abs() + damping;
            if curvature > KERNEL * self.largest {
                for (inner, u) in inner.iter_mut().zip(vectors.col(k).iter()) {
                    *inner -= entry / curvature * u;
                }
            }
        }
        let Some(basis) = &self.basis else { return inner };
        let mut direction = vec![0.0; basis.len() / inner.len()];
        for (entry, v) in inner.iter().zip(basis.chunks(direction.len())) {
            vector::add_scaled(*entry, v, &mut direction);
        }
        direction
    }
}

/// Returns the Hessian on a Krylov space from the gradient, as a tridiagonal matrix, and the basis of the space.
fn krylov_space(point: &dyn Point, dimensions: usize) -> (Mat<f64>, Vec<f64>) {
    let gradient = point.gradient();
    let mut lanczos = Lanczos::new(gradient, Basis::Kept);
    let (mut alphas, mut betas) = (Vec::new(), Vec::new());
    let mut multiply = |v: &[f64], out: &mut [f64]| point.hessian_vector(v, out);
    while alphas.len() < dimensions.min(gradient.len()) && lanczos.beta[0] != 0.0 {
        lanczos.step(&mut multiply);
        alphas.push(lanczos.alpha);
        betas.push(lanczos.beta[0]);
    }
    let matrix = Mat::from_fn(alphas.len(), alphas.len(), |i, j| match i.abs_diff(j) {
        0 => alphas[i],
        1 => betas[i.min(j)],
        _ => 0.0,
    });
    (matrix, lanczos.into_basis())
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
            search,
        },
        rng::Streams,
    };

    fn options(krylov: Option<usize>, dampings: &[f64], iterations: usize) -> SaddleFreeOptions {
        SaddleFreeOptions {
            krylov,
            dampings: dampings.to_vec(),
            search: SearchOptions { iterations, ..SearchOptions::default() },
            ..SaddleFreeOptions::default()
        }
    }

    fn run(objective: &dyn Objective, start: &[f64], options: &SaddleFreeOptions) -> Outcome {
        search(objective, start, options, &Control::default()).unwrap()
    }

    #[test]
    fn the_direction_is_the_closed_form_of_an_indefinite_diagonal() {
        let values = [2.0, -0.5, 3.0, 0.0, -4.0];
        let quadratic =
            Quadratic { matrix: Quadratic::diagonal(&values).matrix, linear: vec![1.0; 5] };
        let theta = [1.0, -2.0, 0.5, 3.0, 0.25];
        let point = quadratic.evaluate(&theta);
        // Five different curvatures: a Krylov space of five dimensions is the whole space.
        for krylov in [None, Some(5), Some(9)] {
            let curvatures = Curvatures::at(&*point, krylov).unwrap().unwrap();
            for damping in [0.0, 1e-3, 1.0] {
                let direction = curvatures.direction(damping);
                for (i, (found, value)) in direction.iter().zip(values).enumerate() {
                    let curvature = f64::abs(value) + damping;
                    let along = -(value * theta[i] + 1.0) / curvature;
                    let expected = if curvature == 0.0 { 0.0 } else { along };
                    // A Ritz value of the kernel is rounding, and 1 / 1e-3 what it is multiplied by.
                    let error = (found - expected).abs();
                    let seen = krylov.is_none() || damping > 0.0 || value != 0.0;
                    assert!(
                        !seen || error < 1e-9 * (1.0 + expected.abs()),
                        "{krylov:?} {i} {error}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_small_krylov_space_has_the_directions_within_it() {
        // In one dimension |H| is the absolute Rayleigh quotient.
        let quadratic = Quadratic::diagonal(&[1.0, -2.0]);
        let point = quadratic.evaluate(&[1.0, 1.0]);
        let curvatures = Curvatures::at(&*point, Some(1)).unwrap().unwrap();
        // g = (1, -2), g'Hg / g'g = (1 - 8) / 5.
        let direction = curvatures.direction(0.6);
        assert!((direction[0] + 0.5).abs() < 1e-14 && (direction[1] - 1.0).abs() < 1e-14);
    }

    #[test]
    fn it_leaves_a_saddle_that_newton_goes_to() {
        // f = x^2 - y^2: Newton's step ends at the saddle, this one doubles y.
        let quadratic = Quadratic::diagonal(&[2.0, -2.0]);
        for krylov in [None, Some(2)] {
            let outcome = run(&quadratic, &[1.0, 1e-3], &options(krylov, &[0.0], 3));
            assert!(outcome.theta[0].abs() < 1e-12, "{krylov:?} {:?}", outcome.theta);
            assert!((outcome.theta[1] - 8e-3).abs() < 1e-12, "{krylov:?} {:?}", outcome.theta);
        }
    }

    #[test]
    fn the_damping_of_the_lowest_loss_is_taken() {
        let (dampings, start) = ([30.0, 3.0, 0.3, 0.03], [1.42, 1.5]);
        let outcome = run(&Quartic, &start, &options(None, &dampings, 1));
        let point = Quartic.evaluate(&start);
        let curvatures = [3.0 * 1.42f64 * 1.42 - 6.0, 10.8 * 1.5 * 1.5 + 10.0];
        let candidate = |damping: &f64| {
            let along = |i: usize| start[i] - point.gradient()[i] / (curvatures[i].abs() + damping);
            let next = [along(0), along(1)];
            (Quartic.evaluate(&next).loss(), *damping, next)
        };
        let best = dampings.iter().map(candidate).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        let step = outcome.trace[0].step.unwrap();
        assert_eq!((step.damping, step.trials, step.solve), (Some(best.1), 4, None));
        assert!((outcome.theta[0] - best.2[0]).abs() < 1e-12, "{:?}", outcome.theta);
        assert!(best.1 != 0.03, "the scan has a choice to make");
    }

    #[test]
    fn the_loss_falls_to_a_minimum_and_no_further() {
        for krylov in [None, Some(2)] {
            let dampings = SaddleFreeOptions::default().dampings;
            let outcome = run(&Quartic, &[2.0, 1.5], &options(krylov, &dampings, 200));
            // The loss has one minimum, beyond the gradient-flat points where Newton-MR stays.
            assert!((outcome.theta[0] + 3.0).abs() < 1e-7, "{krylov:?} {:?}", outcome.theta);
            assert!(outcome.theta[1].abs() < 1e-7);
            for pair in outcome.trace.windows(2) {
                assert!(pair[1].loss < pair[0].loss);
            }
            assert!(
                matches!(
                    outcome.status,
                    Status::NoDecrease | Status::ConvergedToRounding | Status::Converged
                ),
                "{}",
                outcome.status
            );
        }
    }

    #[test]
    fn a_small_network_is_trained() {
        let inputs = data::centered_gaussian(40, &[1.0, 2.0, 3.0, 4.0], &Streams::new(4, "test"));
        let data = Data { samples: 40, inputs, targets: Targets::Inputs };
        let (sizes, activation) = (vec![4, 3, 4], Activation::Tanh);
        let architecture =
            Architecture { sizes, activation, bias: true, l2: 0.1, ..Architecture::default() };
        let network = Network::new(architecture, data).unwrap();
        let start = network.initialize(&Streams::new(4, "test"));
        for krylov in [None, Some(12)] {
            let dampings = SaddleFreeOptions::default().dampings;
            let outcome = run(&network, &start, &options(krylov, &dampings, 300));
            let last = outcome.trace[outcome.iterations];
            assert!(last.squared_gradient_norm < 1e-12, "{krylov:?} {last:?} {}", outcome.status);
            let spectrum = hessian::spectrum(&*network.evaluate(&outcome.theta)).unwrap();
            assert!(spectrum[0] > -1e-5, "{krylov:?} {:?}", &spectrum[..3]);
        }
    }

    #[test]
    fn a_search_that_is_broken_off_goes_on_to_the_same_bits() {
        for krylov in [None, Some(1)] {
            let options = SaddleFreeOptions { step: 0.5, ..options(krylov, &[1.0, 1e-3], 12) };
            search::check_resumption(&|control| {
                super::search(&Quartic, &[-2.0, 0.5], &options, control).unwrap()
            });
        }
    }

    #[test]
    fn every_way_to_end_is_told_apart() {
        let free = SaddleFreeOptions::default();
        assert_eq!(run(&Quartic, &[-3.0, 0.0], &free).status, Status::Converged);
        assert_eq!(run(&Quartic, &[1e103, 0.0], &free).status, Status::NotFinite);
        // Steps that are too long from everywhere.
        let long = SaddleFreeOptions { step: 50.0, ..free.clone() };
        let outcome = run(&Quartic, &[-2.5, 0.5], &long);
        assert_eq!((outcome.status, outcome.iterations), (Status::NoDecrease, 0));
        assert!(outcome.trace[0].step.unwrap().damping.is_some());
        let flat =
            Quadratic { matrix: Quadratic::diagonal(&[1.0, 0.0]).matrix, linear: vec![0.0, 1.0] };
        let end = |dampings: &[f64]| run(&flat, &[0.0, 1.0], &options(None, dampings, 3)).status;
        assert_eq!(end(&[0.0]), Status::ZeroStep);
        assert_eq!(end(&[1e30]), Status::LineSearchFloor);
        // Down an even slope for ever.
        assert_eq!(end(&[1.0]), Status::MaxIterations);
        let refused = |options: SaddleFreeOptions, message: &str| {
            let error = search(&Quartic, &[0.0; 2], &options, &Control::default()).unwrap_err();
            assert_eq!(error.to_string(), message);
        };
        refused(options(Some(0), &[1.0], 1), "krylov must be at least 1: 0");
        refused(options(None, &[], 1), "the number of dampings must be at least 1: 0");
        refused(
            SaddleFreeOptions { step: f64::NAN, ..free },
            "step must be above 0 and finite: NaN",
        );
    }
}
