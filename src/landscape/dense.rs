//! Full Hessians in a search: built and decomposed on the calling thread, as searches run side by side.

use faer::{
    Mat, MatMut, MatRef, Par, Spec,
    dyn_stack::{MemBuffer, MemStack},
    linalg::lu::partial_pivoting::{factor, solve},
    perm::PermRef,
};

use crate::landscape::{
    hessian::{GROUP, averaged, units},
    objective::Point,
    vector,
};

/// Returns the Hessian at a point, one product a column, averaged with its transpose.
pub(super) fn hessian(point: &dyn Point) -> Mat<f64> {
    let dim = point.gradient().len();
    let mut columns = vec![0.0; dim * dim];
    for (group, columns) in columns.chunks_mut((GROUP * dim).max(1)).enumerate() {
        point.hessian_vectors(&units(dim, group * GROUP, columns.len()), columns);
    }
    averaged(&columns, dim)
}

/// Returns the Frobenius norm of the Hessian at a point, by one product a column; keeps no more than a few columns.
pub(super) fn frobenius_norm(point: &dyn Point) -> f64 {
    let dim = point.gradient().len();
    let mut norms = Vec::with_capacity(dim);
    let mut columns = vec![0.0; GROUP.min(dim) * dim];
    for first in (0..dim).step_by(GROUP) {
        let columns = &mut columns[..GROUP.min(dim - first) * dim];
        point.hessian_vectors(&units(dim, first, columns.len()), columns);
        norms.extend(columns.chunks(dim).map(vector::norm));
    }
    vector::norm(&norms)
}

/// Tells whether all entries are finite.
pub(super) fn is_finite(matrix: MatRef<f64>) -> bool {
    matrix.col_iter().all(|column| column.iter().all(|value| value.is_finite()))
}

/// Returns the largest norm of a column, which is at most the spectral norm.
pub(super) fn largest_column(matrix: MatRef<f64>) -> f64 {
    matrix.col_iter().fold(0.0, |largest, column| f64::max(largest, column.norm_l2()))
}

/// An LU decomposition with partial pivoting of a symmetric matrix.
pub(super) struct Factored {
    /// The factors, packed into one matrix: the lower one has a diagonal of ones.
    factors: Mat<f64>,
    permutation: Vec<usize>,
    inverse: Vec<usize>,
    /// The largest sum of absolute values in a column of the matrix.
    norm: f64,
}

/// The most steps of the condition estimate; it seldom takes more than three (Higham 1988).
const ESTIMATE_STEPS: usize = 5;

impl Factored {
    pub(super) fn new(matrix: Mat<f64>) -> Self {
        let dim = matrix.nrows();
        let sums = matrix.col_iter().map(|column| column.iter().map(|v| v.abs()).sum::<f64>());
        let norm = sums.fold(0.0, f64::max);
        let (mut factors, mut permutation, mut inverse) = (matrix, vec![0; dim], vec![0; dim]);
        let scratch =
            factor::lu_in_place_scratch::<usize, f64>(dim, dim, Par::Seq, Spec::default());
        factor::lu_in_place(
            factors.as_mut(),
            &mut permutation,
            &mut inverse,
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
            Spec::default(),
        );
        Self { factors, permutation, inverse, norm }
    }

    /// Solves for a right-hand side, which the solution replaces; not finite where a pivot is zero.
    pub(super) fn solve(&self, b: &mut [f64]) {
        let dim = b.len();
        let scratch = solve::solve_in_place_scratch::<usize, f64>(dim, 1, Par::Seq);
        solve::solve_in_place(
            self.factors.as_ref(),
            self.factors.as_ref(),
            PermRef::new_checked(&self.permutation, &self.inverse, dim),
            MatMut::from_column_major_slice_mut(b, dim, 1),
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
        );
    }

    /// Estimates the reciprocal of the condition number in the norm of column sums; 0 where the matrix is singular.
    ///
    /// The norm of the inverse is found from below by Hager's method, nearly always within a factor of 3 (Higham, ACM
    /// Trans. Math. Softw. 14, 1988), as LAPACK does it. The inverse is symmetric, so that its transpose is itself.
    pub(super) fn reciprocal_condition(&self) -> f64 {
        let dim = self.permutation.len();
        let mut x = vec![1.0 / dim as f64; dim];
        let mut estimate = 0.0f64;
        let mut last = usize::MAX;
        for _ in 0..ESTIMATE_STEPS {
            self.solve(&mut x);
            let sum: f64 = x.iter().map(|x| x.abs()).sum();
            if !sum.is_finite() {
                return 0.0;
            }
            if sum <= estimate {
                break;
            }
            estimate = sum;
            let mut signs: Vec<f64> = x.iter().map(|x| 1.0f64.copysign(*x)).collect();
            self.solve(&mut signs);
            let largest = |best: usize, i: usize| {
                if signs[i].abs() > signs[best].abs() { i } else { best }
            };
            let steepest = (1..dim).fold(0, largest);
            if steepest == last {
                break;
            }
            x.fill(0.0);
            x[steepest] = 1.0;
            last = steepest;
        }
        if self.norm == 0.0 { 0.0 } else { (1.0 / estimate) / self.norm }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        landscape::{
            hessian as parallel,
            objective::{Objective, Quartic},
        },
        rng::Streams,
    };

    /// A symmetric matrix of standard normal entries.
    fn random(dim: usize, seed: u64) -> Mat<f64> {
        let mut values = vec![0.0; dim * dim];
        Streams::new(seed, "test").stream("matrix").fill_normal(&mut values);
        Mat::from_fn(dim, dim, |i, j| values[i.min(j) * dim + i.max(j)])
    }

    #[test]
    fn the_hessian_is_that_of_all_threads() {
        let point = Quartic.evaluate(&[0.5, 2.0]);
        assert_eq!(hessian(&*point), parallel::hessian(&*point));
        assert_eq!(frobenius_norm(&*point), 5.25f64.hypot(53.2));
        assert_eq!(largest_column(hessian(&*point).as_ref()), 53.2);
    }

    #[test]
    fn solutions_solve_and_conditions_are_near_the_true_ones() {
        for (dim, seed) in [(1, 1), (2, 2), (7, 3), (40, 4), (90, 5)] {
            let matrix = random(dim, seed);
            let mut b = vec![0.0; dim];
            Streams::new(seed, "test").stream("b").fill_normal(&mut b);
            let factored = Factored::new(matrix.clone());
            let mut x = b.clone();
            factored.solve(&mut x);
            let residual: Vec<f64> = (0..dim)
                .map(|i| (0..dim).map(|j| matrix[(i, j)] * x[j]).sum::<f64>() - b[i])
                .collect();
            assert!(vector::norm(&residual) < 1e-13 * dim as f64 * vector::norm(&x));
            // The inverse, column by column.
            let sum_of_column = |j: usize| {
                let mut column = vec![0.0; dim];
                column[j] = 1.0;
                factored.solve(&mut column);
                column.iter().map(|v| v.abs()).sum::<f64>()
            };
            let inverse = (0..dim).map(sum_of_column).fold(0.0, f64::max);
            let exact = 1.0 / (inverse * factored.norm);
            let ratio = factored.reciprocal_condition() / exact;
            assert!((1.0 - 1e-12..=3.0).contains(&ratio), "{dim}: {ratio}");
        }
    }

    #[test]
    fn singular_matrices_have_no_condition() {
        // Of rank 5, 1 and 0.
        let vectors = random(9, 6);
        let of_rank = |rank: usize| {
            Mat::from_fn(9, 9, |i, j| {
                (0..rank).map(|k| vectors[(i, k)] * vectors[(j, k)]).sum::<f64>()
            })
        };
        for rank in [5, 1, 0] {
            let condition = Factored::new(of_rank(rank)).reciprocal_condition();
            assert!(condition < f64::EPSILON, "{rank}: {condition}");
        }
        assert!(Factored::new(of_rank(9)).reciprocal_condition() > 1e-9);
    }
}
