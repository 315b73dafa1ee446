//! Lanczos with full re-orthogonalization: the ends of a spectrum too large to be computed whole.
//!
//! After k products with a symmetric H the matrix T = Q'HQ is tridiagonal, Q having k orthonormal columns (Parlett, The
//! symmetric eigenvalue problem, ch. 13). Two things about its eigenvalues, the Ritz values, are proven: H has at least
//! as many eigenvalues below any number as T (Cauchy's interlacing, ibid. 10.1), and one within ||Hy - xy|| of any x for
//! any unit vector y (ibid. 4.5). That nothing lies further out is likely after enough steps, and not proven.

use faer::Mat;

use crate::{
    landscape::{
        error::{LandscapeError, expect_option},
        hessian::{self, Eigen},
        krylov::{Basis, Lanczos},
        vector,
    },
    rng::Streams,
};

/// A product with a symmetric matrix: `multiply(v, out)`.
pub type Multiply<'a> = dyn Fn(&[f64], &mut [f64]) + Sync + 'a;

/// What rounding may shift eigenvalues by, as a share of the norm: products sum over data and parameters.
const ROUNDING: f64 = 1e-13;

/// An orthonormal basis of a Krylov space, and the tridiagonal matrix there.
#[derive(Clone, Debug, PartialEq)]
pub struct Krylov {
    /// Orthonormal vectors, one after another.
    pub basis: Vec<f64>,
    /// The diagonal.
    pub diagonal: Vec<f64>,
    /// Beside the diagonal, one number less than there are vectors.
    pub beside: Vec<f64>,
}

/// Builds the Krylov space of a start by `steps` products, fewer where it is invariant before.
///
/// Each vector is orthogonalized twice against all before it. Fails where the start is zero or a product not finite.
pub fn krylov(
    multiply: &Multiply<'_>,
    start: &[f64],
    steps: usize,
) -> Result<Krylov, LandscapeError> {
    let norm = vector::norm(start);
    let is_length = |norm: f64| norm > 0.0 && norm.is_finite();
    expect_option("the norm of the start", "finite and above 0", norm, is_length)?;
    let mut multiply = |v: &[f64], out: &mut [f64]| multiply(v, out);
    let mut lanczos = Lanczos::new(start, Basis::Kept);
    let (mut diagonal, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..steps.min(start.len()) {
        lanczos.step(&mut multiply);
        let next = lanczos.beta[0];
        if !lanczos.alpha.is_finite() || !next.is_finite() {
            let what = "a product with the Hessian";
            return Err(LandscapeError::NotFinite { what, entry: diagonal.len() });
        }
        diagonal.push(lanczos.alpha);
        beside.push(next);
        if next == 0.0 {
            break;
        }
    }
    beside.pop();
    Ok(Krylov { basis: lanczos.into_basis(), diagonal, beside })
}

impl Krylov {
    /// The Ritz values, ascending, with their coordinates in the basis.
    pub fn ritz(&self) -> Result<Eigen, LandscapeError> {
        let size = self.diagonal.len();
        let matrix = Mat::from_fn(size, size, |i, j| match i.abs_diff(j) {
            0 => self.diagonal[i],
            1 => self.beside[i.min(j)],
            _ => 0.0,
        });
        hessian::eigen(matrix.as_ref())
    }
}

/// How the ends of a spectrum are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndsOptions {
    /// Products with the matrix, at least 1.
    pub steps: usize,
    /// How many Ritz values are told at each end.
    pub told: usize,
}

/// The ends of a spectrum, as far as they are proven.
#[derive(Clone, Debug, PartialEq)]
pub struct Ends {
    /// The outermost Ritz values of both ends, ascending, each with how far an eigenvalue can be from it.
    pub told: Vec<Ritz>,
    /// All Ritz values, ascending.
    pub values: Vec<f64>,
    /// What rounding may shift them by.
    pub rounding: f64,
}

/// A number that an eigenvalue is near.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ritz {
    /// The Rayleigh quotient of the Ritz vector.
    pub value: f64,
    /// An eigenvalue lies at most this far from it: the norm of the residual, and rounding.
    pub error: f64,
}

/// Looks for the ends of the spectrum of a symmetric matrix of `dim` rows, from a random start.
pub fn ends(
    multiply: &Multiply<'_>,
    dim: usize,
    options: EndsOptions,
    streams: &Streams,
) -> Result<Ends, LandscapeError> {
    expect_option("steps", "at least 1", options.steps as f64, |n| n >= 1.0)?;
    let mut start = vec![0.0; dim];
    streams.stream("lanczos").fill_normal(&mut start);
    let space = krylov(multiply, &start, options.steps)?;
    let Eigen { values, vectors } = space.ritz()?;
    let norm = values.iter().fold(0.0, |norm: f64, value| norm.max(value.abs()));
    let rounding = ROUNDING * norm;
    let count = values.len();
    let is_told = |i: &usize| *i < options.told || *i + options.told >= count;
    let told = (0..count).filter(is_told).map(|i| {
        let mut y = vec![0.0; dim];
        for (j, q) in space.basis.chunks(dim).enumerate() {
            vector::add_scaled(vectors[(j, i)], q, &mut y);
        }
        let norm = vector::norm(&y);
        for value in &mut y {
            *value /= norm;
        }
        let mut residual = vec![0.0; dim];
        multiply(&y, &mut residual);
        let value = vector::dot(&y, &residual);
        vector::add_scaled(-value, &y, &mut residual);
        Ritz { value, error: vector::norm(&residual) + rounding }
    });
    let told = told.collect();
    Ok(Ends { told, values, rounding })
}

impl Ends {
    /// How many eigenvalues are below `-cutoff` at least.
    pub fn negative_at_least(&self, cutoff: f64) -> usize {
        self.values.iter().filter(|value| **value + self.rounding < -cutoff).count()
    }

    /// How many eigenvalues are above `cutoff` at least.
    pub fn positive_at_least(&self, cutoff: f64) -> usize {
        self.values.iter().filter(|value| **value - self.rounding > cutoff).count()
    }

    /// The largest absolute Ritz value: ||H|| is this at least, to rounding.
    pub fn norm(&self) -> f64 {
        self.values.iter().fold(0.0, |norm: f64, value| norm.max(value.abs()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::f64::consts::PI;

    use super::*;

    /// The second difference matrix: eigenvalues 4 sin^2(pi k / (2 (n + 1))).
    fn second_difference(v: &[f64], out: &mut [f64]) {
        let at = |i: usize| v.get(i).copied().unwrap_or(0.0);
        for (i, out) in out.iter_mut().enumerate() {
            *out = 2.0 * v[i] - at(i.wrapping_sub(1)) - at(i + 1);
        }
    }

    fn of_second_difference(n: usize) -> Vec<f64> {
        let angle = |k: usize| PI * k as f64 / (2.0 * (n + 1) as f64);
        (1..=n).map(|k| 4.0 * angle(k).sin().powi(2)).collect()
    }

    /// A symmetric matrix of given eigenvalues: three random reflections turn their diagonal matrix.
    pub(in crate::landscape) fn turned(eigenvalues: Vec<f64>) -> impl Fn(&[f64], &mut [f64]) {
        let reflections: Vec<Vec<f64>> = (0..3)
            .map(|i| {
                let mut u = vec![0.0; eigenvalues.len()];
                Streams::new(5, "test").indexed("reflection", i).fill_normal(&mut u);
                let norm = vector::norm(&u);
                u.iter().map(|value| value / norm).collect()
            })
            .collect();
        move |v, out| {
            out.copy_from_slice(v);
            let reflect = |u: &Vec<f64>, x: &mut [f64]| {
                vector::add_scaled(-2.0 * vector::dot(u, x), u, x);
            };
            for u in &reflections {
                reflect(u, out);
            }
            out.iter_mut().zip(&eigenvalues).for_each(|(out, value)| *out *= value);
            for u in reflections.iter().rev() {
                reflect(u, out);
            }
        }
    }

    fn check_bounds(found: &Ends, eigenvalues: &[f64]) {
        for Ritz { value, error } in &found.told {
            let nearest = eigenvalues.iter().map(|e| (e - value).abs()).fold(f64::MAX, f64::min);
            assert!(nearest <= *error, "{value} +- {error}: {nearest}");
        }
        for cutoff in [0.0, 1e-3, 0.1, 1.0, 3.0] {
            let below = eigenvalues.iter().filter(|e| **e < -cutoff).count();
            let above = eigenvalues.iter().filter(|e| **e > cutoff).count();
            assert!(found.negative_at_least(cutoff) <= below, "{cutoff}");
            assert!(found.positive_at_least(cutoff) <= above, "{cutoff}");
        }
    }

    #[test]
    fn bounds_hold_on_known_spectra_and_ends_converge() {
        let streams = Streams::new(1, "test");
        let known = of_second_difference(200);
        for steps in [1, 5, 40, 200] {
            let options = EndsOptions { steps, told: 3 };
            let found = ends(&second_difference, 200, options, &streams).unwrap();
            check_bounds(&found, &known);
            if steps == 200 {
                // As many products as rows: the whole spectrum, for its eigenvalues are all simple.
                for (found, known) in found.values.iter().zip(&known) {
                    assert!((found - known).abs() < 1e-12, "{found} {known}");
                }
                assert_eq!((found.told.len(), found.values.len()), (6, 200));
                assert!(found.told.iter().all(|ritz| ritz.error < 1e-11), "{:?}", found.told);
            }
        }
    }

    #[test]
    fn separate_negative_eigenvalues_are_counted_in_few_steps() {
        // Five far below a bulk of 495 in [0, 1], of which 200 are zero.
        let bulk = (0..495).map(|i| (f64::from(i) - 199.0).max(0.0) / 295.0);
        let known: Vec<f64> = (0..5).map(|i| f64::from(i) - 8.0).chain(bulk).collect();
        let options = EndsOptions { steps: 60, told: 5 };
        let streams = Streams::new(2, "test");
        let found = ends(&turned(known.clone()), 500, options, &streams).unwrap();
        check_bounds(&found, &known);
        assert_eq!(found.negative_at_least(1e-3), 5);
        for (i, ritz) in found.told[..5].iter().enumerate() {
            assert!((ritz.value - (i as f64 - 8.0)).abs() < 1e-11, "{ritz:?}");
            assert!(ritz.error < 1e-5, "{ritz:?}");
        }
        assert!((found.norm() - 8.0).abs() < 1e-11);
    }

    #[test]
    fn the_basis_stays_orthonormal_where_lanczos_alone_would_lose_it() {
        // Geometric eigenvalues: the first ones converge at once, which is when orthogonality is lost.
        let known: Vec<f64> = (0..100).map(|i| libm::pow(0.7, f64::from(i))).collect();
        let mut start = vec![0.0; 100];
        Streams::new(3, "test").stream("start").fill_normal(&mut start);
        let space = krylov(&turned(known), &start, 60).unwrap();
        assert_eq!(space.basis.len(), 6000);
        for (i, a) in space.basis.chunks(100).enumerate() {
            for (j, b) in space.basis.chunks(100).enumerate() {
                let expected = f64::from(u8::from(i == j));
                assert!((vector::dot(a, b) - expected).abs() < 1e-14, "{i} {j}");
            }
        }
    }

    #[test]
    fn an_invariant_space_ends_the_steps_and_bad_input_is_refused() {
        // Two eigenvalues only: two steps.
        let known: Vec<f64> = (0..30).map(|i| if i < 10 { -1.0 } else { 2.0 }).collect();
        let options = EndsOptions { steps: 30, told: 1 };
        let streams = Streams::new(4, "test");
        let found = ends(&turned(known), 30, options, &streams).unwrap();
        assert_eq!(found.values.len(), 2);
        assert!((found.values[0] + 1.0).abs() < 1e-13 && (found.values[1] - 2.0).abs() < 1e-13);
        assert_eq!((found.negative_at_least(0.5), found.positive_at_least(0.5)), (1, 1));
        assert!(krylov(&second_difference, &[0.0; 4], 2).is_err());
        let not_finite = |_: &[f64], out: &mut [f64]| out.fill(f64::NAN);
        assert!(ends(&not_finite, 4, options, &streams).is_err());
        let none = EndsOptions { steps: 0, told: 1 };
        assert!(ends(&second_difference, 4, none, &streams).is_err());
    }
}
