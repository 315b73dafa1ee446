//! Losses of two views without negatives: views agree, and dimensions tell different things.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The weights of Barlow Twins (Zbontar et al. 2021).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BarlowTwins {
    /// Weight of the squared correlations between different dimensions, at least 0; 0.0051 is the paper's code's.
    #[schemars(range(min = 0.0))]
    pub redundancy: f64,
}

impl Default for BarlowTwins {
    fn default() -> Self {
        Self { redundancy: 0.0051 }
    }
}

/// The weights of `VICReg` (Bardes, Ponce & `LeCun` 2022); the defaults are the paper's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Vicreg {
    /// Weight of the mean squared distance of two views, at least 0.
    #[schemars(range(min = 0.0))]
    pub invariance: f64,
    /// Weight of what dimensions lack of a standard deviation of 1, at least 0.
    #[schemars(range(min = 0.0))]
    pub variance: f64,
    /// Weight of the squared covariances between different dimensions, at least 0.
    #[schemars(range(min = 0.0))]
    pub covariance: f64,
}

impl Default for Vicreg {
    fn default() -> Self {
        Self { invariance: 25.0, variance: 25.0, covariance: 1.0 }
    }
}

/// Brings the cross-correlation of two views to the identity (Zbontar et al. 2021, eq. 1 and 2).
///
/// `first` and `second` are n×d, n ≥ 2; row i of one is another view of row i of the other. Each dimension is
/// standardized over the batch as by `PyTorch`'s batch norm: with the variance over n, 1e-5 added.
pub fn barlow_twins(first: &Tensor, second: &Tensor, weights: BarlowTwins) -> Result<Tensor> {
    let n = first.dim(0)? as f64;
    let standardized = |x: &Tensor| {
        let x = centered(x)?;
        x.broadcast_div(&(x.sqr()?.mean_keepdim(0)? + 1e-5)?.sqrt()?)
    };
    let (a, b) = (standardized(first)?, standardized(second)?);
    let diagonal = ((&a * &b)?.sum(0)? / n)?;
    let agreement = (1.0 - &diagonal)?.sqr()?.sum_all()?;
    let all = (products(&a, &b)? / (n * n))?;
    let redundancy = (all - diagonal.sqr()?.sum_all()?)?;
    agreement + (redundancy * weights.redundancy)?
}

/// Keeps views together, dimensions wide and covariances small (Bardes, Ponce & `LeCun` 2022, eq. 1 to 6).
///
/// `first` and `second` are n×d, n ≥ 2; row i of one is another view of row i of the other. Variances are over n − 1,
/// 1e-4 added, as in the paper's code, which also halves the variance terms of the two views.
pub fn vicreg(first: &Tensor, second: &Tensor, weights: Vicreg) -> Result<Tensor> {
    let invariance = (first - second)?.sqr()?.mean_all()?;
    let mut loss = (invariance * weights.invariance)?;
    for view in [first, second] {
        let (n, d) = view.dims2()?;
        let x = centered(view)?;
        let variances = (x.sqr()?.sum(0)? / (n as f64 - 1.0))?;
        let lacking = (1.0 - (&variances + 1e-4)?.sqrt()?)?.relu()?.mean_all()?;
        let all = (products(&x, &x)? / (n as f64 - 1.0).powi(2))?;
        let covariance = ((all - variances.sqr()?.sum_all()?)? / d as f64)?;
        loss = (loss + (lacking * (weights.variance / 2.0))?)?;
        loss = (loss + (covariance * weights.covariance)?)?;
    }
    Ok(loss)
}

/// Takes the mean off each column.
fn centered(x: &Tensor) -> Result<Tensor> {
    x.broadcast_sub(&x.mean_keepdim(0)?)
}

/// Sums the squares of all elements of aᵀb, by whichever products are smaller: those of columns, or those of rows, as
/// ‖aᵀb‖² is the sum of the products of aaᵀ and bbᵀ.
fn products(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (rows, columns) = a.dims2()?;
    if columns <= rows {
        a.t()?.matmul(b)?.sqr()?.sum_all()
    } else {
        (a.matmul(&a.t()?)? * b.matmul(&b.t()?)?)?.sum_all()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::layers::tests::{check_gradient, normal};
    use super::*;

    fn value(loss: Result<Tensor>) -> f64 {
        loss.unwrap().to_scalar().unwrap()
    }

    /// Values of numpy 2 in f64, by the formulas of the papers' public code, for rows of sin(1.3 i + 0.2), four at a
    /// time: rows 0, 2, 4, 6 are the first views of rows 1, 3, 5, 7.
    #[test]
    fn values_are_those_of_the_published_code() {
        let view = |rows: [u32; 4]| {
            let values: Vec<f64> = (0..40).map(|i| (1.3 * f64::from(i) + 0.2).sin()).collect();
            let x = Tensor::from_vec(values, (10, 4), &Device::Cpu).unwrap();
            x.index_select(&Tensor::new(&rows, &Device::Cpu).unwrap(), 0).unwrap()
        };
        let (first, second) = (view([0, 2, 4, 6]), view([1, 3, 5, 7]));
        let found = value(barlow_twins(&first, &second, BarlowTwins::default()));
        assert!((found - 1.295_005_433_380_351_8).abs() < 1e-13, "{found}");
        let found = value(vicreg(&first, &second, Vicreg::default()));
        assert!((found - 20.208_403_938_444_068).abs() < 1e-12, "{found}");
    }

    #[test]
    fn both_ways_to_the_products_are_one() {
        for shape in [[3, 7], [7, 3]] {
            let (a, b) = (normal("a", &shape), normal("b", &shape));
            let direct = a.t().unwrap().matmul(&b).unwrap().sqr().unwrap().sum_all();
            let (direct, found) = (value(direct), value(products(&a, &b)));
            assert!((direct - found).abs() < 1e-12 * direct, "{shape:?}: {direct} {found}");
        }
    }

    #[test]
    fn equal_white_views_cost_nothing() {
        // Columns of a Hadamard matrix: mean 0, variance 1, no correlations.
        let x = [[1.0, 1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]];
        let x = Tensor::new(&x, &Device::Cpu).unwrap();
        // The variance is 1 over 1 + 1e-5: each dimension lacks that of an exact correlation.
        let found = value(barlow_twins(&x, &x, BarlowTwins::default()));
        assert!((found - 3.0 * (1e-5_f64 / (1.0 + 1e-5)).powi(2)).abs() < 1e-16, "{found}");
        assert!(value(vicreg(&x, &x, Vicreg::default())).abs() < 1e-14);
        // Without spread, all of the standard deviation but a root of 1e-4 is lacking.
        let flat = x.zeros_like().unwrap();
        let found = value(vicreg(&flat, &flat, Vicreg::default()));
        assert!((found - 25.0 * 0.99).abs() < 1e-12, "{found}");
    }

    #[test]
    fn gradients_are_right() {
        for shape in [[4, 6], [6, 4]] {
            let (x, y) = (normal("x", &shape), normal("y", &shape));
            check_gradient("barlow twins", &[&x, &y], &|| {
                barlow_twins(&x, &y, BarlowTwins { redundancy: 0.3 }).unwrap()
            });
            check_gradient("vicreg", &[&x, &y], &|| vicreg(&x, &y, Vicreg::default()).unwrap());
        }
    }
}
