//! Orthonormal vectors of Krylov spaces, in which a symmetric matrix is tridiagonal: the Lanczos process, step by step.
//!
//! In exact arithmetic the vectors are orthonormal by themselves; rounding takes that from them as soon as an
//! eigenvalue of the tridiagonal matrix has converged. They can be kept orthogonal by force, for the memory of all of
//! them and 4k more operations an entry in step k.

use std::mem;

use crate::landscape::vector;

/// The state after k steps.
pub(super) struct Lanczos {
    /// The diagonal of the tridiagonal matrix at k.
    pub(super) alpha: f64,
    /// What stands beside the diagonal, at k+1, k and k-1; the first is the norm of the start.
    pub(super) beta: [f64; 3],
    /// The Lanczos vector at k.
    pub(super) v: Vec<f64>,
    count: usize,
    /// beta times the Lanczos vector, at k+1 and k.
    residuals: [Vec<f64>; 2],
    /// Where the product with v is written.
    next: Vec<f64>,
    /// All Lanczos vectors up to k, one after another, where they are kept orthogonal.
    basis: Option<Vec<f64>>,
    /// The largest norm of a row of the tridiagonal matrix.
    norm: f64,
}

impl Lanczos {
    /// Begins at a vector; `basis` says whether all Lanczos vectors are kept, and kept orthogonal.
    pub(super) fn new(start: &[f64], basis: Basis) -> Self {
        let zeros = || vec![0.0; start.len()];
        Self {
            alpha: 0.0,
            beta: [vector::norm(start), 0.0, 0.0],
            v: zeros(),
            count: 0,
            residuals: [start.to_vec(), zeros()],
            next: zeros(),
            basis: (basis == Basis::Kept).then(Vec::new),
            norm: 0.0,
        }
    }

    /// Carries out one step.
    ///
    /// Where all vectors are kept, `beta[0]` is zero as soon as they span an invariant subspace up to rounding; without
    /// them it is so by chance only.
    pub(super) fn step<A: FnMut(&[f64], &mut [f64])>(&mut self, multiply: &mut A) {
        self.count += 1;
        let [beta, beta_last, _] = self.beta;
        let [current, last] = &mut self.residuals;
        for (v, r) in self.v.iter_mut().zip(current.iter()) {
            *v = r / beta;
        }
        multiply(&self.v, &mut self.next);
        if self.count > 1 {
            vector::add_scaled(-beta / beta_last, last, &mut self.next);
        }
        self.alpha = vector::dot(&self.v, &self.next);
        vector::add_scaled(-self.alpha / beta, current, &mut self.next);
        let mut beta_next = vector::norm(&self.next);
        if let Some(basis) = &mut self.basis {
            let of_row = if self.count > 1 { beta } else { 0.0 };
            self.norm = self.norm.max(length([of_row, self.alpha, beta_next]));
            basis.extend_from_slice(&self.v);
            // Once is not enough where much of the vector goes; twice always is (Giraud et al. 2005).
            for _ in 0..2 {
                for u in basis.chunks(self.v.len()) {
                    let share = vector::dot(u, &self.next);
                    vector::add_scaled(-share, u, &mut self.next);
                }
            }
            beta_next = vector::norm(&self.next);
            let rounding = f64::EPSILON * (self.v.len() + 8) as f64;
            if beta_next <= rounding * self.norm {
                beta_next = 0.0;
            }
        }
        self.beta = [beta_next, beta, beta_last];
        mem::swap(last, current);
        mem::swap(current, &mut self.next);
    }

    /// Returns the Lanczos vectors up to k, one after another, if they are kept.
    pub(super) fn into_basis(self) -> Vec<f64> {
        self.basis.unwrap_or_default()
    }

    /// Returns ||(A + shift I)v|| for the Lanczos vector v at k+1.
    pub(super) fn next_image_norm<A: FnMut(&[f64], &mut [f64])>(
        &self,
        multiply: &mut A,
        shift: f64,
    ) -> f64 {
        let [current, _] = &self.residuals;
        let v: Vec<f64> = current.iter().map(|r| r / self.beta[0]).collect();
        let mut image = vec![0.0; v.len()];
        multiply(&v, &mut image);
        if shift != 0.0 {
            vector::add_scaled(shift, &v, &mut image);
        }
        vector::norm(&image)
    }
}

/// Whether all Lanczos vectors are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// The last two suffice for the process, as long as rounding does no harm.
    Passing,
    /// Each new one is made orthogonal to all before, twice.
    Kept,
}

/// Returns the Euclidean length.
pub(super) fn length<const N: usize>(sides: [f64; N]) -> f64 {
    sides.iter().map(|side| side * side).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    /// Values from 1e-8 to 1, of both signs.
    fn graded(n: usize) -> Vec<f64> {
        let sign = |i: usize| if i.is_multiple_of(3) { -1.0 } else { 1.0 };
        (0..n).map(|i| sign(i) * 10f64.powf(-8.0 * i as f64 / (n - 1) as f64)).collect()
    }

    /// Runs the process on a diagonal matrix until it ends; returns alphas, betas and vectors.
    fn run(values: &[f64], start: &[f64], steps: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let mut multiply = |v: &[f64], out: &mut [f64]| {
            for ((out, v), value) in out.iter_mut().zip(v).zip(values) {
                *out = value * v;
            }
        };
        let mut lanczos = Lanczos::new(start, Basis::Kept);
        let (mut alphas, mut betas) = (Vec::new(), Vec::new());
        for _ in 0..steps {
            lanczos.step(&mut multiply);
            alphas.push(lanczos.alpha);
            betas.push(lanczos.beta[0]);
            if lanczos.beta[0] == 0.0 {
                break;
            }
        }
        (alphas, betas, lanczos.into_basis())
    }

    #[test]
    fn kept_vectors_are_orthonormal_and_make_the_matrix_tridiagonal() {
        let n = 40;
        let values = graded(n);
        let mut start = vec![0.0; n];
        Streams::new(5, "test").stream("start").fill_normal(&mut start);
        let (alphas, betas, basis) = run(&values, &start, 2 * n);
        let vectors: Vec<&[f64]> = basis.chunks(n).collect();
        assert!(vectors.len() <= n && betas[vectors.len() - 1] == 0.0, "{}", vectors.len());
        for (i, u) in vectors.iter().enumerate() {
            let image: Vec<f64> = u.iter().zip(&values).map(|(u, value)| u * value).collect();
            for (j, v) in vectors.iter().enumerate() {
                let unit = f64::from(u8::from(i == j));
                assert!((vector::dot(u, v) - unit).abs() < 1e-14, "{i} {j}");
                let expected = match i.abs_diff(j) {
                    0 => alphas[i],
                    1 => betas[i.min(j)],
                    _ => 0.0,
                };
                assert!((vector::dot(&image, v) - expected).abs() < 1e-14, "{i} {j}");
            }
        }
    }

    #[test]
    fn an_invariant_subspace_ends_it() {
        // Three of the eigenvectors: three steps.
        let mut start = vec![0.0; 20];
        (start[0], start[7], start[19]) = (1.0, -2.0, 0.5);
        let (alphas, betas, _) = run(&graded(20), &start, 20);
        assert_eq!((alphas.len(), betas[2]), (3, 0.0));
        assert!(betas[0] > 0.1);
    }
}
