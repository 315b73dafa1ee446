//! Full Hessians, their eigenvalues, and the index of a point.

use faer::{
    Mat, MatRef, Par, Spec,
    diag::Diag,
    dyn_stack::{MemBuffer, MemStack},
    linalg::evd::{self, ComputeEigenvectors},
};
use rayon::prelude::*;

use crate::landscape::{error::LandscapeError, objective::Point, vector};

/// Columns of a matrix that are computed in one go.
pub(super) const GROUP: usize = 16;

/// Returns the Hessian at a point, one product a column, averaged with its transpose.
pub fn hessian(point: &dyn Point) -> Mat<f64> {
    symmetric(point.gradient().len(), |vectors, out| point.hessian_vectors(vectors, out))
}

/// Returns the Gauss-Newton matrix at a point; `None` where the loss is no cost of a model's outputs.
pub fn gauss_newton(point: &dyn Point) -> Option<Mat<f64>> {
    let dim = point.gradient().len();
    point.gauss_newton_vectors(&vec![0.0; dim], &mut vec![0.0; dim])?;
    Some(symmetric(dim, |vectors, out| {
        point.gauss_newton_vectors(vectors, out).expect("it has just had one");
    }))
}

/// Returns a symmetric matrix by its products with unit vectors, on all threads, averaged with its transpose.
fn symmetric(dim: usize, multiply: impl Fn(&[f64], &mut [f64]) + Sync) -> Mat<f64> {
    let mut columns = vec![0.0; dim * dim];
    columns
        .par_chunks_mut((GROUP * dim).max(1))
        .enumerate()
        .for_each(|(group, columns)| multiply(&units(dim, group * GROUP, columns.len()), columns));
    averaged(&columns, dim)
}

/// Returns unit vectors, one after the other, `length` numbers in all.
pub(super) fn units(dim: usize, first: usize, length: usize) -> Vec<f64> {
    let mut vectors = vec![0.0; length];
    for (i, vector) in vectors.chunks_mut(dim.max(1)).enumerate() {
        vector[first + i] = 1.0;
    }
    vectors
}

/// Returns the mean of a matrix, given column by column, and its transpose.
pub(super) fn averaged(columns: &[f64], dim: usize) -> Mat<f64> {
    Mat::from_fn(dim, dim, |i, j| 0.5 * (columns[i * dim + j] + columns[j * dim + i]))
}

/// Returns the eigenvalues of the Hessian at a point, ascending.
pub fn spectrum(point: &dyn Point) -> Result<Vec<f64>, LandscapeError> {
    eigenvalues(hessian(point).as_ref())
}

/// Returns the eigenvalues of a symmetric matrix, ascending.
pub fn eigenvalues(matrix: MatRef<f64>) -> Result<Vec<f64>, LandscapeError> {
    decompose(matrix, None)
}

/// Eigenvalues, ascending, with one orthonormal eigenvector a column.
#[derive(Clone, Debug)]
pub struct Eigen {
    pub values: Vec<f64>,
    pub vectors: Mat<f64>,
}

/// Returns eigenvalues and eigenvectors of a symmetric matrix.
pub fn eigen(matrix: MatRef<f64>) -> Result<Eigen, LandscapeError> {
    let mut vectors = Mat::zeros(matrix.nrows(), matrix.nrows());
    let values = decompose(matrix, Some(&mut vectors))?;
    Ok(Eigen { values, vectors })
}

/// Runs on one thread, as faer's last bits depend on the number of threads.
fn decompose(
    matrix: MatRef<f64>,
    vectors: Option<&mut Mat<f64>>,
) -> Result<Vec<f64>, LandscapeError> {
    let size = matrix.nrows();
    let finite = matrix.col_iter().all(|column| column.iter().all(|value| value.is_finite()));
    if !finite {
        return Err(LandscapeError::Eigenvalues { size });
    }
    let wanted = if vectors.is_some() { ComputeEigenvectors::Yes } else { ComputeEigenvectors::No };
    let scratch = evd::self_adjoint_evd_scratch::<f64>(size, wanted, Par::Seq, Spec::default());
    let mut values = Diag::zeros(size);
    evd::self_adjoint_evd(
        matrix,
        values.as_mut(),
        vectors.map(Mat::as_mut),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .map_err(|_| LandscapeError::Eigenvalues { size })?;
    Ok(values.column_vector().iter().copied().collect())
}

impl Eigen {
    /// Returns the largest absolute eigenvalue.
    pub fn norm(&self) -> f64 {
        self.values.iter().fold(0.0, |norm: f64, value| norm.max(value.abs()))
    }

    /// Returns the Newton step -H^+ g for a gradient, of minimum length: eigenvalues within `rcond` times the largest count
    /// as zero.
    pub fn pseudo_inverse_step(&self, gradient: &[f64], rcond: f64) -> Vec<f64> {
        let smallest = rcond * self.norm();
        let (mut step, mut u) = (vec![0.0; gradient.len()], vec![0.0; gradient.len()]);
        for (value, column) in self.values.iter().zip(self.vectors.col_iter()) {
            if value.abs() > smallest {
                for (u, entry) in u.iter_mut().zip(column.iter()) {
                    *u = *entry;
                }
                vector::add_scaled(-vector::dot(&u, gradient) / value, &u, &mut step);
            }
        }
        step
    }
}

/// Returns the Newton step -H^+ g at a point, of minimum length; eigenvalues within 1e-15 of the largest count as zero,
/// as numpy's `pinv` has it.
pub fn pseudo_inverse_step(point: &dyn Point) -> Result<Vec<f64>, LandscapeError> {
    Ok(eigen(hessian(point).as_ref())?.pseudo_inverse_step(point.gradient(), 1e-15))
}

/// Returns the index of a point: the fraction of eigenvalues below `-cutoff`, in [0, 1].
///
/// Frye et al. 2021 take a cut-off of 1e-5 for networks on Gaussian data and of 1e-3 on images. A cut-off above the
/// curvature 2 l2 / N of the regularizer hides negative eigenvalues of that size.
pub fn index(eigenvalues: &[f64], cutoff: f64) -> f64 {
    negative_count(eigenvalues, cutoff) as f64 / eigenvalues.len().max(1) as f64
}

/// Returns how many eigenvalues lie below `-cutoff`.
pub fn negative_count(eigenvalues: &[f64], cutoff: f64) -> usize {
    eigenvalues.iter().filter(|value| **value < -cutoff).count()
}

#[cfg(test)]
mod tests {
    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::{
        landscape::{
            activation::Activation,
            data::{Data, Targets, centered_gaussian},
            flatness::{self, FlatnessOptions},
            network::{Architecture, Network},
            objective::{Objective, Quartic},
        },
        rng::Streams,
    };

    #[test]
    fn the_quartic_has_a_diagonal_hessian() {
        let point = Quartic.evaluate(&[0.5, 2.0]);
        let h = hessian(&*point);
        assert_eq!([h[(0, 0)], h[(0, 1)], h[(1, 0)], h[(1, 1)]], [-5.25, 0.0, 0.0, 53.2]);
        let values = spectrum(&*point).unwrap();
        assert!((values[0] + 5.25).abs() < 1e-13 && (values[1] - 53.2).abs() < 1e-13);
        assert_eq!(index(&values, 1e-5), 0.5);
        assert_eq!(index(&values, 6.0), 0.0);
    }

    #[test]
    fn newton_steps_leave_out_the_kernel() {
        let step = pseudo_inverse_step(&*Quartic.evaluate(&[0.0, 1.0])).unwrap();
        assert!((step[0] - 1.5).abs() < 1e-14 && (step[1] + 13.6 / 20.8).abs() < 1e-14);
        // 3x^2 - 6 is rounding at x = sqrt 2, where the gradient is (3.34, 0).
        let flat = pseudo_inverse_step(&*Quartic.evaluate(&[2f64.sqrt(), 0.0])).unwrap();
        assert_eq!(flat, [0.0, 0.0]);
    }

    #[test]
    fn the_second_difference_matrix_has_its_known_spectrum() {
        let n = 40;
        let matrix = Mat::from_fn(n, n, |i, j| match i.abs_diff(j) {
            0 => 2.0,
            1 => -1.0,
            _ => 0.0,
        });
        let eigen = eigen(matrix.as_ref()).unwrap();
        let values = eigenvalues(matrix.as_ref()).unwrap();
        for (k, (value, alone)) in eigen.values.iter().zip(&values).enumerate() {
            let angle = std::f64::consts::PI * (k + 1) as f64 / (2.0 * (n + 1) as f64);
            assert!((value - 4.0 * angle.sin().powi(2)).abs() < 1e-13);
            assert!((value - alone).abs() < 1e-13);
            let v = eigen.vectors.col(k);
            assert!((&matrix * v - v * *value).norm_l2() < 1e-13);
        }
    }

    #[test]
    fn a_matrix_with_nan_is_refused() {
        let matrix = Mat::from_fn(2, 2, |_, _| f64::NAN);
        assert_eq!(eigenvalues(matrix.as_ref()), Err(LandscapeError::Eigenvalues { size: 2 }));
    }

    #[test]
    fn one_thread_and_two_agree_bit_for_bit() {
        let inputs = centered_gaussian(300, &[1.0; 8], &Streams::new(6, "test"));
        let architecture = Architecture {
            sizes: vec![8, 6, 8],
            bias: true,
            activation: Activation::Tanh,
            ..Architecture::default()
        };
        let data = Data { samples: 300, inputs, targets: Targets::Inputs };
        let network = Network::new(architecture, data).unwrap();
        let theta = network.initialize(&Streams::new(6, "test"));
        let on = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                flatness::measure(&*network.evaluate(&theta), &FlatnessOptions::default()).unwrap()
            })
        };
        assert_eq!(on(1), on(2));
    }
}
