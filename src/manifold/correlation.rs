//! How correlated manifold centers remain once a subspace is removed.
//!
//! With centers `x_m` as rows of `X` and an orthonormal `V`, `A = X(I − VVᵀ)Xᵀ` holds the inner products of what the
//! subspace leaves, and `F(V) = ½ Σ_mn A_mn² / (A_mm A_nn)` is half the sum of their squared cosines (Cohen, Chung,
//! Lee & Sompolinsky 2020, supplement). `F` depends on the span of `V` only.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

use super::arithmetic::dot;
use super::grassmann::Objective;

/// Less than this fraction of a center's squared length is rounding: its direction is undefined.
const VANISHED: f64 = 1e-13;

/// The cost `F` of centers, with the workspace of its last evaluation.
#[derive(Clone, Debug)]
pub struct CenterCorrelation<'a> {
    /// `X`, centers × dimensions.
    centers: MatRef<'a, f64>,
    /// `XXᵀ`.
    gram: MatRef<'a, f64>,
    /// `XV`, centers × subspace.
    projected: Mat<f64>,
    /// `A`, then `diag(r) − W`, centers × centers.
    residual: Mat<f64>,
    /// `1 / A_mm`.
    inverse_squares: Vec<f64>,
    /// `Σ_m A_mn² / (A_mm A_nn)`, which is `r_n A_nn`.
    squared_cosines: Vec<f64>,
    /// `(diag(r) − W) XV`.
    pulled: Mat<f64>,
    scratch: Vec<f64>,
}

impl<'a> CenterCorrelation<'a> {
    /// Binds centers, as rows, with their Gram, for subspaces of `rank` dimensions.
    pub fn new(centers: MatRef<'a, f64>, gram: MatRef<'a, f64>, rank: usize) -> Self {
        let count = centers.nrows();
        Self {
            centers,
            gram,
            projected: Mat::zeros(count, rank),
            residual: Mat::zeros(count, count),
            inverse_squares: vec![0.0; count],
            squared_cosines: vec![0.0; count],
            pulled: Mat::zeros(count, rank),
            scratch: vec![0.0; count],
        }
    }

    /// Returns the mean absolute cosine between different residual centers at the last evaluated point.
    pub fn mean_absolute_cosine(&self) -> f64 {
        let count = self.inverse_squares.len();
        let mut sum = 0.0;
        for n in 0..count {
            for m in 0..n {
                let scale = (self.inverse_squares[m] * self.inverse_squares[n]).sqrt();
                sum += self.residual[(m, n)].abs() * scale;
            }
        }
        2.0 * sum / (count * (count - 1)) as f64
    }

    /// Returns the smallest fraction of a center's length that is left at the last evaluated point.
    pub fn stability(&self) -> f64 {
        let left = |m: usize| 1.0 / (self.inverse_squares[m] * self.gram[(m, m)]);
        (0..self.inverse_squares.len()).map(left).fold(f64::INFINITY, f64::min).max(0.0).sqrt()
    }
}

impl Objective for CenterCorrelation<'_> {
    /// Returns `F`, or infinity where a center vanishes.
    fn evaluate(&mut self, basis: MatRef<'_, f64>) -> f64 {
        let count = self.inverse_squares.len();
        matmul(&mut self.projected, Accum::Replace, self.centers, basis, 1.0, Par::Seq);
        self.residual.copy_from(self.gram);
        let projected = self.projected.as_ref();
        matmul(&mut self.residual, Accum::Add, projected, projected.transpose(), -1.0, Par::Seq);
        for m in 0..count {
            let square = self.residual[(m, m)];
            if square <= VANISHED * self.gram[(m, m)] {
                return f64::INFINITY;
            }
            self.inverse_squares[m] = 1.0 / square;
        }
        let mut cost = 0.0;
        for n in 0..count {
            let column = self.residual.col_as_slice(n);
            let terms = self.scratch.iter_mut().zip(column).zip(&self.inverse_squares);
            for ((term, inner), inverse) in terms {
                *term = inner * inverse;
            }
            let sum = dot(&self.scratch, column) * self.inverse_squares[n];
            self.squared_cosines[n] = sum;
            cost += sum;
        }
        0.5 * cost
    }

    /// Writes `∇F = 2 Xᵀ (diag(r) − W) X V`, `W_mn = A_mn/(A_mm A_nn)`, `r_m = Σ_n A_mn W_mn / A_mm`.
    fn gradient(&mut self, gradient: MatMut<'_, f64>) {
        let count = self.inverse_squares.len();
        for n in 0..count {
            let inverse = self.inverse_squares[n];
            let column = self.residual.col_as_slice_mut(n);
            for (inner, other) in column.iter_mut().zip(&self.inverse_squares) {
                *inner *= -other * inverse;
            }
            column[n] += self.squared_cosines[n] * inverse;
        }
        matmul(&mut self.pulled, Accum::Replace, &self.residual, &self.projected, 1.0, Par::Seq);
        matmul(gradient, Accum::Replace, self.centers.transpose(), &self.pulled, 2.0, Par::Seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    struct Case {
        centers: Mat<f64>,
        gram: Mat<f64>,
        basis: Mat<f64>,
    }

    impl Case {
        /// Random centers; an orthonormal basis of a random subspace.
        fn random(count: usize, dimensions: usize, rank: usize) -> Self {
            let mut stream = Streams::new(1, "test").stream("centers");
            let centers = Mat::from_fn(count, dimensions, |_, _| stream.normal());
            let basis =
                Mat::from_fn(dimensions, rank, |_, _| stream.normal()).qr().compute_thin_Q();
            Self { gram: &centers * centers.transpose(), centers, basis }
        }

        fn correlation(&self) -> CenterCorrelation<'_> {
            let rank = self.basis.ncols();
            CenterCorrelation::new(self.centers.as_ref(), self.gram.as_ref(), rank)
        }
    }

    #[test]
    fn nothing_removed_leaves_the_plain_cosines() {
        // Two centers at 60 degrees and one at right angles to both.
        let height = 0.75f64.sqrt();
        let centers = faer::mat![[2.0, 0.0, 0.0], [0.5, height, 0.0], [0.0, 0.0, 3.0]];
        let gram = &centers * centers.transpose();
        let mut correlation = CenterCorrelation::new(centers.as_ref(), gram.as_ref(), 0);
        let cost = correlation.evaluate(Mat::zeros(3, 0).as_ref());
        assert!((cost - 0.5 * (3.0 + 2.0 * 0.25)).abs() < 1e-14);
        assert!((correlation.mean_absolute_cosine() - 0.5 / 3.0).abs() < 1e-14);
        assert!((correlation.stability() - 1.0).abs() < 1e-14);
    }

    #[test]
    fn removal_matches_its_definition() {
        let case = Case::random(7, 6, 2);
        let mut correlation = case.correlation();
        let cost = correlation.evaluate(case.basis.as_ref());
        let rest = &case.centers - &case.centers * &case.basis * case.basis.transpose();
        let inner = &rest * rest.transpose();
        let cosine = |m: usize, n: usize| inner[(m, n)] / (inner[(m, m)] * inner[(n, n)]).sqrt();
        let pairs = || (0..7).flat_map(|m| (0..7).map(move |n| (m, n)));
        let squares: f64 = pairs().map(|(m, n)| cosine(m, n).powi(2)).sum();
        let absolute: f64 = pairs().filter(|(m, n)| m != n).map(|(m, n)| cosine(m, n).abs()).sum();
        let left = |m: usize| (inner[(m, m)] / case.gram[(m, m)]).sqrt();
        assert!((cost - 0.5 * squares).abs() < 1e-13);
        assert!((correlation.mean_absolute_cosine() - absolute / 42.0).abs() < 1e-14);
        assert!((correlation.stability() - (0..7).map(left).fold(1.0, f64::min)).abs() < 1e-14);
    }

    #[test]
    fn the_gradient_matches_finite_differences() {
        for (count, dimensions, rank) in [(5, 4, 1), (12, 11, 3), (30, 9, 6)] {
            let case = Case::random(count, dimensions, rank);
            let mut correlation = case.correlation();
            correlation.evaluate(case.basis.as_ref());
            let mut gradient = Mat::zeros(dimensions, rank);
            correlation.gradient(gradient.as_mut());
            for (i, k) in [(0, 0), (dimensions - 1, rank - 1), (1, rank / 2)] {
                let step = 1e-5;
                let mut cost = |sign: f64| {
                    let mut moved = case.basis.clone();
                    moved[(i, k)] += sign * step;
                    correlation.evaluate(moved.as_ref())
                };
                let difference = (cost(1.0) - cost(-1.0)) / (2.0 * step);
                let error = (difference - gradient[(i, k)]).abs();
                assert!(error < 1e-7 * gradient.norm_max(), "{difference} {}", gradient[(i, k)]);
            }
        }
    }

    #[test]
    fn cost_and_gradient_have_their_reference_values() {
        // Made by an independent program from the definitions: 60 digits, central differences of 1e-20 in mpmath.
        let entry =
            |i: usize, d: usize| ((7 * i * i + 5 * d * d + 11 * i * d + 3 * i) % 23) as f64 - 11.0;
        let raw = Mat::from_fn(8, 6, |i, d| entry(i, d) / 8.0);
        let mean = |d: usize| (0..8).map(|i| raw[(i, d)]).sum::<f64>() / 8.0;
        let centers = Mat::from_fn(8, 6, |i, d| raw[(i, d)] - mean(d));
        let gram = &centers * centers.transpose();
        let close = |found: f64, expected: f64| {
            assert!(
                (found - expected).abs() < 1e-13 * expected.abs().max(1.0),
                "{found} {expected}"
            );
        };
        let mut whole = CenterCorrelation::new(centers.as_ref(), gram.as_ref(), 0);
        close(whole.evaluate(Mat::zeros(6, 0).as_ref()), 11.577_214_347_114_388);
        close(whole.mean_absolute_cosine(), 0.426_475_068_886_624_06);

        let basis = Mat::from_fn(6, 2, |d, k| match (d, k) {
            (4.., _) => 0.0,
            (1 | 3, 1) => -0.5,
            _ => 0.5,
        });
        let mut removed = CenterCorrelation::new(centers.as_ref(), gram.as_ref(), 2);
        close(removed.evaluate(basis.as_ref()), 13.770_672_327_389_214);
        close(removed.mean_absolute_cosine(), 0.476_710_268_709_122_75);
        close(removed.stability(), 0.679_101_314_148_727_9);
        let mut gradient = Mat::zeros(6, 2);
        removed.gradient(gradient.as_mut());
        let expected = [
            [5.212_224_506_065_374, 0.669_583_257_001_767_1],
            [4.430_537_931_689_461, 0.580_043_037_075_097_6],
            [4.112_643_740_786_148, 0.647_709_138_473_399_3],
            [2.760_886_657_424_659_8, 0.236_108_225_187_137_2],
            [0.945_337_190_590_571_1, -0.332_699_009_424_095_97],
            [0.163_650_616_214_657_93, -0.422_239_229_350_765_5],
        ];
        for (d, row) in expected.iter().enumerate() {
            close(gradient[(d, 0)], row[0]);
            close(gradient[(d, 1)], row[1]);
        }
    }

    #[test]
    fn a_center_that_vanishes_has_no_cost() {
        let centers = Mat::<f64>::identity(3, 3);
        let mut correlation = CenterCorrelation::new(centers.as_ref(), centers.as_ref(), 1);
        assert_eq!(correlation.evaluate(centers.as_ref().subcols(1, 1)), f64::INFINITY);
    }
}
