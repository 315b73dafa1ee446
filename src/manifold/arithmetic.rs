//! Sums and products in a fixed order: the same bits for any number of threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

/// Partial sums; additions of one lane wait for each other, those of different lanes do not.
const LANES: usize = 8;

/// Returns the inner product of two slices of equal length.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (a, b) in a.zip(b) {
        for ((lane, x), y) in lanes.iter_mut().zip(a).zip(b) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// Adds a multiple of one slice to another of equal length.
pub fn add_scaled(sum: &mut [f64], factor: f64, terms: &[f64]) {
    for (sum, term) in sum.iter_mut().zip(terms) {
        *sum += factor * term;
    }
}

/// Returns a matrix product, computed on the calling thread.
///
/// The operators on faer's matrices use all threads, and their results may depend on how many there are.
pub fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut product = Mat::zeros(a.nrows(), b.ncols());
    matmul(&mut product, Accum::Replace, a, b, 1.0, Par::Seq);
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_run_over_all_entries() {
        for length in [0, 1, 7, 8, 9, 40] {
            let numbers: Vec<f64> = (1..=length).map(f64::from).collect();
            let expected = f64::from(length * (length + 1) * (2 * length + 1) / 6);
            assert_eq!(dot(&numbers, &numbers), expected);
            let mut sum = numbers.clone();
            add_scaled(&mut sum, -1.0, &numbers);
            assert_eq!(dot(&sum, &sum), 0.0);
        }
    }

    #[test]
    fn products_follow_the_shapes() {
        let a = faer::mat![[1.0, 2.0, 3.0]];
        assert_eq!(product(a.as_ref(), a.transpose()), faer::mat![[14.0]]);
        assert_eq!(product(a.transpose(), a.as_ref())[(2, 1)], 6.0);
    }
}
