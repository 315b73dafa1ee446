//! The density of a spectrum: exact eigenvalues or a stochastic quadrature, broadened by Gaussians.
//!
//! Stochastic Lanczos quadrature (Ubaru, Chen and Saad, SIAM J. Matrix Anal. Appl. 38, 2017; for Hessians Ghorbani,
//! Krishnan and Xiao, ICML 2019): of a random unit vector v, the Ritz values of its Krylov space with the squared first
//! coordinates of their vectors integrate polynomials of degree below twice the steps against the spectral measure
//! of v exactly; over many v its mean is the density of the eigenvalues.

use std::f64::consts::PI;

use rayon::prelude::*;

use crate::{
    landscape::{
        error::{LandscapeError, expect_option},
        hessian::Eigen,
        lanczos::{Multiply, krylov},
    },
    rng::Streams,
};

/// Widths after which a Gaussian ends: 6e-5 of it lies beyond.
const REACH: f64 = 4.0;

/// Weights at places along the axis of eigenvalues, which sum to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Quadrature(Vec<(f64, f64)>);

impl Quadrature {
    /// Every eigenvalue of a spectrum, with equal weights.
    pub fn exact(eigenvalues: &[f64]) -> Self {
        let weight = 1.0 / eigenvalues.len() as f64;
        Self(eigenvalues.iter().map(|value| (*value, weight)).collect())
    }

    /// The quadrature of a symmetric matrix of `dim` rows over some probes, by as many products each as there are steps.
    ///
    /// Probe `i` depends on the streams and `i` alone.
    pub fn stochastic(
        multiply: &Multiply<'_>,
        dim: usize,
        (probes, steps): (usize, usize),
        streams: &Streams,
    ) -> Result<Self, LandscapeError> {
        expect_option("probes", "at least 1", probes as f64, |n| n >= 1.0)?;
        expect_option("steps", "at least 1", steps as f64, |n| n >= 1.0)?;
        let of_probe = |i: usize| {
            let mut start = vec![0.0; dim];
            streams.indexed("probe", i as u64).fill_normal(&mut start);
            let Eigen { values, vectors } = krylov(multiply, &start, steps)?.ritz()?;
            let weight = |j: usize| vectors[(0, j)] * vectors[(0, j)] / probes as f64;
            Ok(values.into_iter().enumerate().map(|(j, value)| (value, weight(j))).collect())
        };
        let parts: Result<Vec<Vec<(f64, f64)>>, LandscapeError> =
            (0..probes).into_par_iter().map(of_probe).collect();
        Ok(Self(parts?.concat()))
    }

    /// The mean of a function of the eigenvalues: its trace over the number of rows.
    pub fn mean(&self, f: impl Fn(f64) -> f64) -> f64 {
        self.0.iter().map(|(value, weight)| weight * f(*value)).sum()
    }

    /// Broadens the weights by Gaussians of a width given as a share of the spectrum's range, and reads the density at
    /// evenly spaced places from four widths below the lowest to four above the highest; `(eigenvalue, density)`.
    ///
    /// A Gaussian ends at four widths, so that the density is zero where no eigenvalue is near. A spectrum without range
    /// is as broad as its largest absolute value, or as 1 where that is zero.
    pub fn broadened(&self, share: f64, places: usize) -> Vec<(f64, f64)> {
        let ends = self.0.iter().fold((f64::MAX, f64::MIN), |(low, high), (value, _)| {
            (low.min(*value), high.max(*value))
        });
        let (low, high) = ends;
        let range = [high - low, high.abs(), 1.0].into_iter().find(|range| *range > 0.0);
        let width = share * range.expect("1 is above 0");
        let (first, last) = (low - REACH * width, high + REACH * width);
        let peak = 1.0 / (width * libm::sqrt(2.0 * PI));
        let density = |place: f64| {
            self.mean(|value| {
                let distance = (place - value) / width;
                if distance.abs() > REACH {
                    0.0
                } else {
                    peak * libm::exp(-0.5 * distance * distance)
                }
            })
        };
        let place = |i: usize| first + (last - first) * i as f64 / (places - 1).max(1) as f64;
        (0..places).map(|i| (place(i), density(place(i)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::landscape::{hessian, lanczos::tests::turned};

    #[test]
    fn polynomials_of_a_probe_are_integrated_exactly() {
        let known: Vec<f64> = (0..40).map(|i| f64::from(i) / 40.0 - 0.3).collect();
        let multiply = turned(known);
        let streams = Streams::new(6, "test");
        let found = Quadrature::stochastic(&multiply, 40, (1, 5), &streams).unwrap();
        // v'H^j v by j products, for all j below twice the steps.
        let mut v = vec![0.0; 40];
        streams.indexed("probe", 0).fill_normal(&mut v);
        let squared: f64 = v.iter().map(|x| x * x).sum();
        let (mut power, mut next) = (v.clone(), vec![0.0; 40]);
        for j in 0..10 {
            let expected: f64 = v.iter().zip(&power).map(|(v, p)| v * p).sum::<f64>() / squared;
            let mean = found.mean(|value| value.powi(j));
            assert!((mean - expected).abs() < 1e-14, "{j}: {mean} {expected}");
            multiply(&power, &mut next);
            std::mem::swap(&mut power, &mut next);
        }
    }

    #[test]
    fn means_over_probes_are_traces() {
        let known: Vec<f64> = (0..500).map(|i| f64::from(i) / 250.0 - 1.0).collect();
        let trace = |f: fn(f64) -> f64| known.iter().map(|value| f(*value)).sum::<f64>() / 500.0;
        let streams = Streams::new(7, "test");
        let found =
            Quadrature::stochastic(&turned(known.clone()), 500, (20, 30), &streams).unwrap();
        for f in [|_| 1.0, |x| x, |x: f64| x * x, f64::exp] {
            // The standard error of a trace over 20 Gaussian probes is at most sqrt(2 / (500 * 20)) max |f|.
            let most = known.iter().map(|value| f(*value).abs()).fold(0.0, f64::max);
            let error = (found.mean(f) - trace(f)).abs();
            assert!(error < 5.0 * most * (2.0 / 10_000f64).sqrt(), "{error}");
        }
        assert!((found.mean(|_| 1.0) - 1.0).abs() < 1e-13);
    }

    /// A random symmetric matrix whose eigenvalues fill a semicircle of radius 2 as it grows (Wigner).
    fn wigner(n: usize) -> Mat<f64> {
        let mut normals = vec![0.0; n * n];
        Streams::new(8, "test").stream("matrix").fill_normal(&mut normals);
        let scale = 1.0 / (2.0 * n as f64).sqrt();
        Mat::from_fn(n, n, |i, j| scale * (normals[i * n + j] + normals[j * n + i]))
    }

    #[test]
    fn a_random_matrix_has_the_density_of_a_semicircle() {
        let n = 300;
        let matrix = wigner(n);
        let multiply = |v: &[f64], out: &mut [f64]| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = v.iter().enumerate().map(|(j, v)| matrix[(i, j)] * v).sum();
            }
        };
        let streams = Streams::new(9, "test");
        let found = Quadrature::stochastic(&multiply, n, (40, 50), &streams).unwrap();
        let exact = Quadrature::exact(&hessian::eigenvalues(matrix.as_ref()).unwrap());
        let semicircle = |x: f64| (4.0 - x * x).max(0.0).sqrt() / (2.0 * PI);
        for quadrature in [found, exact] {
            let density = quadrature.broadened(0.03, 101);
            let step = density[1].0 - density[0].0;
            let total: f64 = density.iter().map(|(_, d)| step * d).sum();
            assert!((total - 1.0).abs() < 1e-3, "{total}");
            // A Gaussian covers some 25 eigenvalues, whose weights fluctuate by sqrt(2 / 40) each: 5 % of 0.2 to 0.3.
            for (place, density) in density.iter().filter(|(place, _)| place.abs() < 1.6) {
                assert!((density - semicircle(*place)).abs() < 0.06, "{place}: {density}");
            }
        }
    }

    #[test]
    fn the_density_is_zero_far_from_every_eigenvalue() {
        // A hundredth wide about 0 and 1: nothing between 0.04 and 0.96. Rounding may decide at the very ends.
        let density = Quadrature::exact(&[0.0, 1.0]).broadened(0.01, 109);
        for (place, density) in &density[1..108] {
            let near = place.abs() < 0.039 || (place - 1.0).abs() < 0.039;
            let far = (0.041..0.959).contains(place);
            assert!(
                if near { *density > 0.0 } else { *density == 0.0 || !far },
                "{place}: {density}"
            );
        }
    }

    #[test]
    fn one_eigenvalue_is_one_gaussian() {
        for (value, width) in [(0.0, 0.01), (-5.0, 0.05)] {
            let density = Quadrature::exact(&[value; 3]).broadened(0.01, 9);
            assert!((density[4].0 - value).abs() < 1e-15);
            let peak = 1.0 / (width * (2.0 * PI).sqrt());
            assert!((density[4].1 / peak - 1.0).abs() < 1e-12, "{density:?}");
            assert!((density[0].0 - (value - 4.0 * width)).abs() < 1e-15);
        }
    }

    #[test]
    fn one_thread_and_two_agree_bit_for_bit() {
        let known: Vec<f64> = (0..60).map(f64::from).collect();
        let multiply = turned(known);
        let on = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let streams = Streams::new(10, "test");
            pool.install(|| Quadrature::stochastic(&multiply, 60, (7, 9), &streams).unwrap())
        };
        assert_eq!(on(1), on(2));
        let streams = Streams::new(10, "test");
        assert!(Quadrature::stochastic(&multiply, 60, (0, 9), &streams).is_err());
    }
}
