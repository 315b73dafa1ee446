//! One manifold of a layer, once the directions that the centers share are removed.
//!
//! The unit of length is what is left of the distance from the manifold's center to the mean of all points.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par, Scale};
use thiserror::Error;

use super::anchors::{AnchorError, AnchorGeometry};
use super::arithmetic::{dot, product};
use super::centers::CenterGeometry;
use super::cloud::PointCloud;
use super::gram::LayerGram;

/// A squared length below this fraction of the terms that it was summed from is rounding.
const ROUNDING: f64 = 1e-13;
/// Less than this fraction of a center's squared length left is rounding.
const VANISHED: f64 = 1e-13;

/// The geometry of one manifold in its layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ManifoldGeometry {
    /// Capacity, radius and dimension.
    pub anchors: AnchorGeometry,
    /// Distance of the center from the mean of all points after the removal: the unit of the radius and the margin.
    pub center_norm: f64,
    /// Number of points.
    pub points: usize,
    /// Independent directions of the points about their center, after the removal.
    pub rank: usize,
}

/// Why one manifold has no geometry.
#[derive(Debug, Error, Clone, Copy, PartialEq)]
pub enum ManifoldError {
    /// The unit of length is zero.
    #[error("its center coincides with the mean of all points")]
    CenterAtMean,
    /// The unit of length is zero after the removal.
    #[error("nothing of its center is left once {k} correlated directions are removed")]
    CenterRemoved {
        /// The number of directions removed.
        k: usize,
    },
    /// Its anchor points could not be found.
    #[error(transparent)]
    Anchors(#[from] AnchorError),
}

/// The layer without its correlated directions.
pub struct Residual<'a> {
    gram: &'a LayerGram,
    removed: &'a Mat<f64>,
    features: usize,
    /// Each manifold's share of the points.
    weights: Vec<f64>,
}

impl<'a> Residual<'a> {
    /// Prepares to measure manifolds without the directions found.
    pub fn new(gram: &'a LayerGram, centers: &'a CenterGeometry, features: usize) -> Self {
        let sizes = gram.manifolds.iter().map(|own| own.with_points.nrows());
        let total: usize = sizes.clone().sum();
        Self {
            gram,
            removed: &centers.removed,
            features,
            weights: sizes.map(|size| size as f64 / total as f64).collect(),
        }
    }

    /// Returns a manifold's points in units of its center norm, and that norm.
    pub fn cloud(&self, i: usize) -> Result<(PointCloud, f64), ManifoldError> {
        let k = self.removed.ncols();
        // The center about the mean of all points is y_i − Σ w_j y_j.
        let from_mean =
            Mat::from_fn(self.weights.len(), 1, |j, _| f64::from(i == j) - self.weights[j]);
        let products = product(self.gram.centers.as_ref(), from_mean.as_ref());
        let square = dot(from_mean.col_as_slice(0), products.col_as_slice(0));
        let rounding = ROUNDING * self.summed(from_mean.col_as_slice(0));
        if square <= rounding {
            return Err(ManifoldError::CenterAtMean);
        }
        let shared = product(self.removed.transpose(), products.as_ref());
        let left = square - dot(shared.col_as_slice(0), shared.col_as_slice(0));
        if left <= f64::max(VANISHED * square, rounding) {
            return Err(ManifoldError::CenterRemoved { k });
        }
        let own = &self.gram.manifolds[i];
        let within = own.within();
        let shared = product(self.removed.transpose(), own.with_centers.as_ref());
        let mut points = within.to_owned();
        matmul(&mut points, Accum::Add, shared.transpose(), &shared, -1.0, Par::Seq);
        let farthest = (0..points.nrows()).map(|j| within[(j, j)]).fold(0.0, f64::max);
        points /= Scale(left);
        let cloud = PointCloud::from_gram(points.as_ref(), self.features, farthest / left);
        Ok((cloud.map_err(AnchorError::from)?, left.sqrt()))
    }

    /// Returns the sum of the magnitudes of the terms of v'Gv, with G the products of the centers.
    fn summed(&self, v: &[f64]) -> f64 {
        let row = |i: usize| -> f64 {
            v.iter().enumerate().map(|(j, v)| (self.gram.centers[(i, j)] * v).abs()).sum()
        };
        v.iter().enumerate().map(|(i, v)| v.abs() * row(i)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifold::centers::{self, CenterCorrection, LowRank, RankChoice};
    use crate::manifold::gram::{self, Pairs, Points};
    use crate::manifold::watch::Watch;
    use crate::rng::Streams;

    const FEATURES: usize = 9;
    const SIZES: [usize; 5] = [1, 4, 2, 7, 3];

    /// Compares with the definition in coordinates: project, center, divide.
    fn check(rank: RankChoice) {
        let streams = Streams::new(1, "test");
        let rows: Vec<Vec<f32>> = (0..SIZES.len())
            .map(|i| {
                let mut stream = streams.indexed("points", i as u64);
                (0..SIZES[i] * FEATURES).map(|_| 2.0 + stream.normal() as f32).collect()
            })
            .collect();
        let points: Vec<Points<'_>> =
            rows.iter().map(|values| Points { values, features: FEATURES }).collect();
        let gram = gram::layer_gram(&points[..], Pairs::Within, &Watch::none()).unwrap().unwrap();
        let correction = CenterCorrection::LowRank(LowRank { rank, ..LowRank::default() });
        let centers = gram.centers.as_ref();
        let found =
            centers::correlated_directions(centers, &correction, &streams, &Watch::none()).unwrap();
        let residual = Residual::new(&gram, &found, FEATURES);

        let all: Vec<f64> = rows.iter().flatten().map(|&x| f64::from(x)).collect();
        let mean = |rows: &[f64]| -> Vec<f64> {
            let column = |f| rows.iter().skip(f).step_by(FEATURES).sum::<f64>();
            (0..FEATURES).map(|f| column(f) * FEATURES as f64 / rows.len() as f64).collect()
        };
        let own = |i: usize| rows[i].iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let middle = mean(&(0..SIZES.len()).flat_map(|i| mean(&own(i))).collect::<Vec<f64>>());
        let spread = Mat::from_fn(FEATURES, SIZES.len(), |f, i| mean(&own(i))[f] - middle[f]);
        let removed = spread * &found.removed;
        for (i, size) in SIZES.into_iter().enumerate() {
            let (whole, rows) = (mean(&all), own(i));
            let centered = Mat::from_fn(FEATURES, size, |f, j| rows[j * FEATURES + f] - whole[f]);
            let left = &centered - &removed * (removed.transpose() * &centered);
            let center = &left * Mat::from_fn(size, 1, |_, _| 1.0 / size as f64);
            let (cloud, norm) = residual.cloud(i).unwrap();
            assert!((norm - center.norm_l2()).abs() < 1e-12, "{norm} {}", center.norm_l2());
            let points =
                Mat::from_fn(FEATURES, size, |f, j| (left[(f, j)] - center[(f, 0)]) / norm);
            let inner = points.transpose() * &points;
            for a in 0..size {
                for b in 0..size {
                    let product = dot(cloud.point(a), cloud.point(b));
                    assert!((product - inner[(a, b)]).abs() < 1e-11, "{product} {}", inner[(a, b)]);
                }
            }
        }
    }

    /// Manifolds of whole numbers, the last of which has its center `offset` along each axis from the mean of the others.
    fn about_the_mean(seed: u64, offset: f32) -> Vec<Vec<f32>> {
        let mut stream = Streams::new(seed, "test").stream("points");
        let mut whole = || stream.below(2001) as f32 - 1000.0;
        // 15 points of four ragged manifolds and 3 of the last: means in fifteenths, thirds and sevenths.
        let mut rows: Vec<Vec<f32>> = [3, 7, 4, 1]
            .map(|size| (0..size * FEATURES).map(|_| 15.0 * whole()).collect())
            .to_vec();
        let sum = |f: usize| -> f32 {
            rows.iter().map(|values| values.iter().skip(f).step_by(FEATURES).sum::<f32>()).sum()
        };
        let means: Vec<f32> = (0..FEATURES).map(|f| sum(f) / 15.0 + offset).collect();
        let spread: Vec<f32> = (0..FEATURES).map(|_| whole()).collect();
        let point = |factor: f32| means.iter().zip(&spread).map(move |(m, s)| m + factor * s);
        rows.push(point(1.0).chain(point(2.0)).chain(point(-3.0)).collect());
        rows
    }

    fn last_cloud(rows: &[Vec<f32>]) -> Result<f64, ManifoldError> {
        let points: Vec<Points<'_>> =
            rows.iter().map(|values| Points { values, features: FEATURES }).collect();
        let gram = gram::layer_gram(&points[..], Pairs::Within, &Watch::none()).unwrap().unwrap();
        let streams = Streams::new(1, "test");
        let centers = centers::correlated_directions(
            gram.centers.as_ref(),
            &CenterCorrection::None,
            &streams,
            &Watch::none(),
        );
        let residual = Residual::new(&gram, centers.as_ref().unwrap(), FEATURES);
        residual.cloud(rows.len() - 1).map(|(_, norm)| norm)
    }

    #[test]
    fn a_center_at_the_mean_of_ragged_manifolds_is_found_out() {
        for seed in 0..200 {
            let at_mean = last_cloud(&about_the_mean(seed, 0.0));
            assert_eq!(at_mean.unwrap_err(), ManifoldError::CenterAtMean, "seed {seed}");
            // One step off along each of nine axes, among centers some thousands away; all points share a sixth of it.
            let norm = last_cloud(&about_the_mean(seed, 1.0)).unwrap();
            assert!((norm / 2.5 - 1.0).abs() < 1e-4, "seed {seed}: {norm}");
        }
    }

    #[test]
    fn clouds_match_their_definition() {
        for k in 0..=3 {
            check(RankChoice::Fixed(k));
        }
    }
}
