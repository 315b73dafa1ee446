//! MINRES-QLP: minimum-length solutions of symmetric systems, singular and incompatible ones included.
//!
//! Solves min ||x|| among the minimizers of ||Ax - b|| from products with A alone (Choi, Paige and Saunders, SIAM J.
//! Sci. Comput. 33, 2011). As in the searches of Frye et al. 2021, every iteration is a QLP iteration (no cheaper
//! MINRES phase comes first), there is no preconditioner, and the Lanczos vectors are reorthogonalized only where that
//! is asked for. Unlike in those runs, the solution is 0 where b lies in the kernel of A, up to the rounding of the
//! products.

use crate::landscape::{
    error::{LandscapeError, expect_option},
    krylov::{Basis, Lanczos},
    minres_iteration::Iteration,
};

/// When a solve stops.
#[derive(Clone, Debug, PartialEq)]
pub struct SolverOptions {
    /// The tolerance on the relative residuals, of the system and of the least-squares problem.
    pub rtol: f64,
    /// The most iterations; `None` stands for the dimension of the system.
    pub iterations: Option<usize>,
    /// The largest norm a solution may have.
    pub norm_limit: f64,
    /// The largest condition number of the part of A that is inverted.
    pub condition_limit: f64,
    /// Whether every Lanczos vector is made orthogonal to all before it.
    ///
    /// Without, as published, an ill-conditioned A takes more iterations than it has rows, and the iterates of two
    /// machines differ. With it, k iterations keep k vectors and take about 4k^2 operations an entry beside the
    /// products.
    pub reorthogonalize: bool,
}

impl Default for SolverOptions {
    /// The values of Frye et al. 2021.
    fn default() -> Self {
        Self {
            rtol: 5e-4,
            iterations: None,
            norm_limit: 1e4,
            condition_limit: 1e7,
            reorthogonalize: false,
        }
    }
}

impl SolverOptions {
    /// Checks every option against its range.
    pub fn check(&self) -> Result<(), LandscapeError> {
        expect_option("rtol", "at least 0", self.rtol, |rtol| rtol >= 0.0)?;
        expect_option("norm_limit", "above 0", self.norm_limit, |limit| limit > 0.0)?;
        expect_option("condition_limit", "above 0", self.condition_limit, |limit| limit > 0.0)
    }
}

/// Why a solve stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// b is an eigenvector of A, and so is x.
    Eigenvector,
    /// b is zero or in the kernel of A, exactly: x = 0.
    Zero,
    /// The system is solved within `rtol`.
    Solved,
    /// The system is incompatible and x its least-squares solution within `rtol`: the gradient-flat signature.
    LeastSquares,
    /// As `Solved`, within rounding.
    SolvedToRounding,
    /// As `LeastSquares`, within rounding.
    LeastSquaresToRounding,
    /// x has converged to an eigenvector of A.
    ConvergedToEigenvector,
    /// The norm of x would exceed its limit.
    NormLimit,
    /// The condition estimate exceeded its limit.
    ConditionLimit,
    /// The iterations ran out.
    IterationLimit,
    /// A pivot is zero, or what is settled of x as long as it may be. No solve ends as this: the first makes the
    /// condition infinite, the second is told by the norm of x.
    Singular,
    /// A product with A, or a recurrence over such products, left the finite numbers; x = 0.
    NotFinite,
}

impl Flag {
    /// Returns the number that the authors' programs give this outcome, -1 to 9; 10 for `NotFinite`.
    pub fn code(self) -> i64 {
        self as i64 - 1
    }

    /// Finds the outcome of a number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.code() == code)
    }

    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Eigenvector,
        Self::Zero,
        Self::Solved,
        Self::LeastSquares,
        Self::SolvedToRounding,
        Self::LeastSquaresToRounding,
        Self::ConvergedToEigenvector,
        Self::NormLimit,
        Self::ConditionLimit,
        Self::IterationLimit,
        Self::Singular,
        Self::NotFinite,
    ];

    /// Tells whether the last iterate is not counted, being of a possibly singular system.
    pub(super) fn rolls_back(self) -> bool {
        use Flag::{ConditionLimit, LeastSquares, LeastSquaresToRounding, NormLimit};
        matches!(self, LeastSquares | LeastSquaresToRounding | NormLimit | ConditionLimit)
    }
}

/// What a solve tells of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    pub flag: Flag,
    /// Iterations, without the last one where it was not counted.
    pub iterations: usize,
    /// ||b - Ax|| / (`anorm` ||x|| + ||b||), from the residual itself; in [0, 1].
    pub relres: f64,
    /// ||A(b - Ax)|| / (`anorm` ||b - Ax||), from the residual itself.
    pub relares: f64,
    /// The running estimate of the spectral norm of A: at most the norm, but for the share of ||b|| that the
    /// authors' programs let into the second iteration, and with it into `relres` and `relares`.
    pub anorm: f64,
    /// An estimate of the condition number of A.
    pub acond: f64,
    /// ||x||.
    pub xnorm: f64,
    /// An estimate of ||Ax||.
    pub axnorm: f64,
}

/// A solution and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    pub x: Vec<f64>,
    /// A times x.
    pub image: Vec<f64>,
    pub report: Report,
}

/// Solves Ax = b in the sense of least squares; `multiply(v, out)` writes Av for the symmetric A.
pub fn solve<A>(mut multiply: A, b: &[f64], options: &SolverOptions) -> Solution
where
    A: FnMut(&[f64], &mut [f64]),
{
    let mut stopped = solve_shifted(&mut multiply, b, &[0.0], options);
    stopped.pop().expect("one shift has one solution").finish(multiply, b)
}

/// Solves (A + shift I)x = b for each of several shifts, with no more products than the longest of the solves needs.
///
/// The Lanczos vectors of A from b are those of A + shift I, and its tridiagonal matrix is shifted alike, so that the
/// iterates are those of a solve for each shift, up to rounding.
pub fn solve_shifted<A>(
    mut multiply: A,
    b: &[f64],
    shifts: &[f64],
    options: &SolverOptions,
) -> Vec<Stopped>
where
    A: FnMut(&[f64], &mut [f64]),
{
    let limit = options.iterations.unwrap_or(b.len());
    let basis = if options.reorthogonalize { Basis::Kept } else { Basis::Passing };
    let mut lanczos = Lanczos::new(b, basis);
    let at_once = match (lanczos.beta[0], limit) {
        (0.0, _) => Some(Flag::Zero),
        (_, 0) => Some(Flag::IterationLimit),
        _ => None,
    };
    let start = |shift: &f64| (Iteration::new(b, *shift), at_once);
    let mut systems: Vec<(Iteration, Option<Flag>)> = shifts.iter().map(start).collect();
    while systems.iter().any(|(_, flag)| flag.is_none()) {
        lanczos.step(&mut multiply);
        for (iteration, flag) in systems.iter_mut().filter(|(_, flag)| flag.is_none()) {
            *flag = iteration.step(&lanczos, &mut multiply, limit, options);
        }
    }
    let stopped =
        |(iteration, flag): (Iteration, Option<Flag>)| flag.map(|flag| Stopped { iteration, flag });
    systems.into_iter().filter_map(stopped).collect()
}

/// A solve that has stopped, whose residuals are not known yet.
pub struct Stopped {
    iteration: Iteration,
    flag: Flag,
}

impl Stopped {
    /// Returns why the solve stopped.
    pub fn flag(&self) -> Flag {
        self.flag
    }

    /// Returns the solution, which is not finite where the recurrences are not.
    pub fn x(&self) -> &[f64] {
        self.iteration.x()
    }

    /// Reports on the solution, by two more products with the same A and b.
    pub fn finish<A: FnMut(&[f64], &mut [f64])>(self, multiply: A, b: &[f64]) -> Solution {
        self.iteration.finish(multiply, b, self.flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{landscape::vector, rng::Streams};

    /// A symmetric matrix with given eigenvalues, and the sine transform as its eigenvectors.
    struct Symmetric(Vec<f64>);

    impl Symmetric {
        /// Multiplies by the matrix of eigenvectors, which is its own inverse.
        fn transform(&self, v: &[f64]) -> Vec<f64> {
            let n = self.0.len();
            let entry = |i: usize, j: usize| {
                let angle = std::f64::consts::PI * ((i + 1) * (j + 1)) as f64 / (n + 1) as f64;
                (2.0 / (n + 1) as f64).sqrt() * angle.sin()
            };
            (0..n).map(|i| (0..n).map(|j| entry(i, j) * v[j]).sum()).collect()
        }

        fn apply(&self, v: &[f64], of_eigenvalue: impl Fn(f64) -> f64) -> Vec<f64> {
            let mut coefficients = self.transform(v);
            for (c, value) in coefficients.iter_mut().zip(&self.0) {
                *c *= of_eigenvalue(*value);
            }
            self.transform(&coefficients)
        }

        fn solve(&self, b: &[f64], options: &SolverOptions) -> Solution {
            let multiply = |v: &[f64], out: &mut [f64]| out.copy_from_slice(&self.apply(v, |l| l));
            solve(multiply, b, options)
        }

        fn pseudo_inverse(&self, b: &[f64]) -> Vec<f64> {
            self.apply(b, |value| if value == 0.0 { 0.0 } else { 1.0 / value })
        }
    }

    const TIGHT: SolverOptions = SolverOptions {
        rtol: 1e-12,
        iterations: Some(200),
        norm_limit: 1e7,
        condition_limit: 1e15,
        reorthogonalize: false,
    };

    /// Solves with b = Q c for standard normal c, times `kernel` where the eigenvalue is zero.
    fn random(values: Vec<f64>, kernel: f64, options: &SolverOptions) -> (Solution, f64) {
        let mut c = vec![0.0; values.len()];
        Streams::new(2, "test").stream("right-hand side").fill_normal(&mut c);
        for (c, value) in c.iter_mut().zip(&values) {
            *c *= if *value == 0.0 { kernel } else { 1.0 };
        }
        let matrix = Symmetric(values);
        let b = matrix.transform(&c);
        let found = matrix.solve(&b, options);
        let expected = matrix.pseudo_inverse(&b);
        let error = vector::norm(&vector::moved(&found.x, -1.0, &expected));
        (found, error / vector::norm(&expected))
    }

    fn values(n: i32, value: impl Fn(i32) -> f64) -> Vec<f64> {
        (0..n).map(value).collect()
    }

    #[test]
    fn solutions_are_those_of_the_pseudo_inverse() {
        let check = |values: Vec<f64>, kernel: f64, flags: &[Flag]| {
            let (found, error) = random(values, kernel, &TIGHT);
            assert!(flags.contains(&found.report.flag), "{:?}", found.report);
            assert!(error < 1e-8, "{error} {:?}", found.report);
            let (xnorm, axnorm) = (vector::norm(&found.x), vector::norm(&found.image));
            assert!((found.report.xnorm / xnorm - 1.0).abs() < 1e-15);
            let (ratio, flag) = (found.report.axnorm / axnorm, found.report.flag);
            if flag == Flag::Solved {
                assert!((ratio - 1.0).abs() < 1e-10, "{ratio}");
            } else {
                // The recurrence includes the component that was refused: it can only be longer.
                assert!(ratio > 1.0 - 1e-10 && ratio < 1.1, "{ratio}");
            }
        };
        let definite = values(20, |i| f64::from(i + 1));
        let indefinite = values(20, |i| f64::from(2 * (i % 2) - 1) * f64::from(i + 1));
        let singular = values(20, |i| f64::from((i - 7).max(0) - (4 - i).max(0)));
        check(definite, 0.0, &[Flag::Solved]);
        check(indefinite, 0.0, &[Flag::Solved]);
        check(singular.clone(), 0.0, &[Flag::Solved]);
        // Incompatible: the residual is the kernel's part of b.
        check(singular, 1.0, &[Flag::LeastSquares, Flag::NormLimit]);
    }

    #[test]
    fn the_residuals_are_those_of_the_definition() {
        let matrix = Symmetric(values(12, |i| f64::from(i - 3)));
        let b = vec![1.0; 12];
        let found = matrix.solve(&b, &SolverOptions { iterations: Some(5), ..TIGHT });
        let Report { relres, relares, anorm, xnorm, .. } = found.report;
        let residual = vector::moved(&b, -1.0, &matrix.apply(&found.x, |l| l));
        let norm = vector::norm(&residual);
        let expected = norm / (anorm * xnorm + vector::norm(&b));
        assert!((relres - expected).abs() < 1e-14);
        let normal = vector::norm(&matrix.apply(&residual, |l| l));
        assert!((relares - normal / (anorm * norm)).abs() < 1e-14);
        assert!(anorm <= 8.0);
    }

    #[test]
    fn every_way_to_stop_is_reported() {
        let check = |found: &Solution, flag: Flag, code: i64| {
            assert_eq!((found.report.flag, found.report.flag.code()), (flag, code));
            assert!(found.x.iter().all(|x| x.is_finite()));
        };
        let scalar = |value: f64, b: f64, options: &SolverOptions| {
            solve(|v: &[f64], out: &mut [f64]| out[0] = value * v[0], &[b], options)
        };
        let eigenvector = scalar(2.0, 3.0, &TIGHT);
        check(&eigenvector, Flag::Eigenvector, -1);
        assert_eq!((eigenvector.x[0], eigenvector.report.relres), (1.5, 0.0));
        check(&scalar(2.0, 0.0, &TIGHT), Flag::Zero, 0);
        check(&scalar(0.0, 3.0, &TIGHT), Flag::Zero, 0);
        check(&scalar(f64::NAN, 3.0, &TIGHT), Flag::NotFinite, 10);
        check(&scalar(1e-9, 3.0, &TIGHT), Flag::NormLimit, 6);

        let positive = values(30, |i| f64::from(i + 1));
        let small = values(30, |i| 10f64.powf(-f64::from(i) / 4.0));
        let kernel = values(30, |i| f64::from((i - 9).max(0)));
        let with = |values: &[f64], kernel: f64, options: SolverOptions| {
            random(values.to_vec(), kernel, &options).0
        };
        check(&with(&positive, 1.0, TIGHT), Flag::Solved, 1);
        let loose = SolverOptions { rtol: 5e-4, ..TIGHT };
        check(&with(&kernel, 100.0, loose.clone()), Flag::LeastSquares, 2);
        check(
            &with(&positive, 1.0, SolverOptions { rtol: 0.0, ..TIGHT }),
            Flag::SolvedToRounding,
            3,
        );
        check(&with(&small, 1.0, SolverOptions { norm_limit: 50.0, ..TIGHT }), Flag::NormLimit, 6);
        let conditioned = SolverOptions { condition_limit: 10.0, ..TIGHT };
        check(&with(&small, 1.0, conditioned), Flag::ConditionLimit, 7);
        let short = with(&positive, 1.0, SolverOptions { iterations: Some(3), ..TIGHT });
        check(&short, Flag::IterationLimit, 8);
        assert_eq!(short.report.iterations, 3);
        check(
            &with(&positive, 1.0, SolverOptions { iterations: Some(0), ..TIGHT }),
            Flag::IterationLimit,
            8,
        );
    }

    #[test]
    fn a_right_hand_side_in_the_kernel_has_the_solution_zero() {
        let matrix = Symmetric(values(24, |i| f64::from((i - 11).max(0))));
        let b = matrix.transform(&values(24, |i| f64::from(12 - i).max(0.0)));
        for rtol in [1e-10, 5e-4] {
            let options = SolverOptions { rtol, ..SolverOptions::default() };
            let found = matrix.solve(&b, &options);
            assert_eq!(found.x, [0.0; 24]);
            assert_eq!(found.report.flag, Flag::LeastSquaresToRounding);
            assert!(found.report.relres == 1.0 && found.report.relares < 1e-13);
        }
    }
}
