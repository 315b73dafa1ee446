//! Eigenvalues of symmetric matrices, with the same bits for any number of threads.

use std::mem::MaybeUninit;

use faer::dyn_stack::MemStack;
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, MatRef, Par, Spec};
use thiserror::Error;

/// The eigenvalues of a symmetric matrix could not be computed.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the eigenvalues of a {size} x {size} Gram matrix did not converge")]
pub struct SpectrumError {
    /// Rows of the matrix.
    pub size: usize,
}

/// The positive part of the eigendecomposition of a symmetric matrix.
#[derive(Clone, Debug)]
pub struct Spectrum {
    /// The eigenvalues above the threshold, largest first.
    pub values: Vec<f64>,
    /// Their eigenvectors as columns, `size × values.len()`.
    pub vectors: Mat<f64>,
}

/// Lists all eigenvalues of a symmetric matrix, largest first; reads the lower triangle.
pub fn eigenvalues(matrix: MatRef<'_, f64>) -> Result<Vec<f64>, SpectrumError> {
    let mut values = decompose(matrix, None)?;
    values.reverse();
    Ok(values)
}

/// Computes the eigenvalues above `threshold` and their eigenvectors; reads the lower triangle.
pub fn positive_part(matrix: MatRef<'_, f64>, threshold: f64) -> Result<Spectrum, SpectrumError> {
    let size = matrix.nrows();
    let mut vectors = Mat::zeros(size, size);
    let ascending = decompose(matrix, Some(&mut vectors))?;
    let rank = ascending.iter().filter(|&&value| value > threshold).count();
    Ok(Spectrum {
        values: ascending.into_iter().rev().take(rank).collect(),
        vectors: Mat::from_fn(size, rank, |i, j| vectors[(i, size - 1 - j)]),
    })
}

/// Returns the eigenvalues in ascending order.
///
/// Always on the calling thread: what faer does on several threads may depend on how many there are.
fn decompose(
    matrix: MatRef<'_, f64>,
    vectors: Option<&mut Mat<f64>>,
) -> Result<Vec<f64>, SpectrumError> {
    let size = matrix.nrows();
    let wanted = if vectors.is_some() { ComputeEigenvectors::Yes } else { ComputeEigenvectors::No };
    let need = self_adjoint_evd_scratch::<f64>(size, wanted, Par::Seq, Spec::default());
    let mut memory = vec![MaybeUninit::uninit(); need.unaligned_bytes_required()];
    let mut values = faer::diag::Diag::<f64>::zeros(size);
    self_adjoint_evd(
        matrix,
        values.as_mut(),
        vectors.map(Mat::as_mut),
        Par::Seq,
        MemStack::new(&mut memory),
        Spec::default(),
    )
    .map_err(|_| SpectrumError { size })?;
    Ok(values.column_vector().iter().copied().collect())
}

#[cfg(test)]
mod tests {
    use faer::linalg::matmul::matmul;
    use faer::{Accum, mat};

    use super::*;

    #[test]
    fn eigenvalues_of_a_known_matrix_come_largest_first() {
        // Second differences on three points: 2 − 2 cos(kπ/4).
        let matrix = mat![[2.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 2.0]];
        let expected = [2.0 + 2f64.sqrt(), 2.0, 2.0 - 2f64.sqrt()];
        for (value, expected) in eigenvalues(matrix.as_ref()).unwrap().iter().zip(expected) {
            assert!((value - expected).abs() < 1e-14);
        }
    }

    #[test]
    fn the_positive_part_rebuilds_a_matrix_of_low_rank() {
        let factor = Mat::from_fn(200, 3, |i, j| ((i * (j + 2)) as f64).sin());
        let mut matrix = Mat::zeros(200, 200);
        matmul(&mut matrix, Accum::Replace, &factor, factor.transpose(), 1.0, Par::Seq);
        let part = positive_part(matrix.as_ref(), 1e-9).unwrap();
        assert_eq!((part.values.len(), part.vectors.ncols()), (3, 3));
        let rebuilt = |i, j| -> f64 {
            (0..3).map(|k| part.values[k] * part.vectors[(i, k)] * part.vectors[(j, k)]).sum()
        };
        assert!((rebuilt(7, 150) - matrix[(7, 150)]).abs() < 1e-11);
        assert!((rebuilt(199, 199) - matrix[(199, 199)]).abs() < 1e-11);
    }

    #[test]
    fn an_empty_matrix_has_no_eigenvalues() {
        assert!(eigenvalues(Mat::<f64>::zeros(0, 0).as_ref()).unwrap().is_empty());
    }
}
