//! How many dimensions all points of a layer fill together.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::arithmetic::dot;
use super::gram::{LayerGram, Pairs, PointSource, PointsError};
use super::mftma::MftmaError;
use super::spectrum;
use super::watch::Watch;

/// Features of the covariance that one task computes.
const TILE: usize = 64;

/// Which dimensions of all points of a layer are measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pooled {
    /// None.
    None,
    /// The participation ratio alone, which needs products but no eigenvalues. All variances count.
    ParticipationRatio,
    /// Both dimensions, from all variances: their time grows with the cube of the points or the features, whichever
    /// are fewer.
    Both {
        /// The fraction of the variance, in (0, 1], that defines the explained variance dimension; published: 0.9.
        fraction: f64,
    },
}

/// Dimensions of the pooled points of a layer, about their mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PooledDimensions {
    /// `(Σλ)² / Σλ²` over the variances `λ`; from variances, the smallest of min(features, points) is left out as
    /// published, which is zero unless there are more points than features.
    pub participation_ratio: f64,
    /// Number of largest variances that together hold at most the given fraction of the whole (published convention:
    /// one less than needed to reach it).
    pub explained_variance: Option<usize>,
}

/// Measures the dimensions of all points of a layer; `None` when none are asked for or the watch says stop.
///
/// `gram` holds the products of all pairs if there are no more points than features, see [`pairs_needed`].
pub fn layer_dimensions(
    manifolds: &(impl PointSource + ?Sized),
    gram: &LayerGram,
    pooled: Pooled,
    watch: &Watch<'_>,
) -> Result<Option<PooledDimensions>, MftmaError> {
    if pooled == Pooled::None || watch.is_cancelled() {
        return Ok(None);
    }
    let products = match gram.pairs {
        Pairs::All => pooled_gram(gram),
        Pairs::Within => covariance(manifolds)?,
    };
    if watch.is_cancelled() {
        return Ok(None);
    }
    let Pooled::Both { fraction } = pooled else {
        let participation_ratio = participation_ratio(products.as_ref());
        return Ok(Some(PooledDimensions { participation_ratio, explained_variance: None }));
    };
    let points: usize = manifolds.counts().iter().sum();
    let variances = spectrum::eigenvalues(products.as_ref())?;
    Ok(Some(pooled_dimensions(&variances, points.min(manifolds.features()), fraction)))
}

/// Returns `(tr A)² / ‖A‖²` of a symmetric matrix, of which the lower triangle is read.
fn participation_ratio(matrix: MatRef<'_, f64>) -> f64 {
    let (mut trace, mut squares) = (0.0, 0.0);
    for (j, column) in matrix.col_iter().enumerate() {
        let diagonal = column[j];
        trace += diagonal;
        squares += diagonal * diagonal;
        squares += 2.0 * column.iter().skip(j + 1).map(|entry| entry * entry).sum::<f64>();
    }
    if squares > 0.0 { trace * trace / squares } else { 0.0 }
}

/// Tells which products the dimensions of a layer are computed from: the points' or, if fewer, the features'.
pub fn pairs_needed(manifolds: &(impl PointSource + ?Sized)) -> Pairs {
    let points: usize = manifolds.counts().iter().sum();
    if points <= manifolds.features() { Pairs::All } else { Pairs::Within }
}

/// Summarizes the variances along the principal directions, largest first.
///
/// `count` is min(features, points): variances beyond it are rounding.
fn pooled_dimensions(variances: &[f64], count: usize, fraction: f64) -> PooledDimensions {
    let variances = &variances[..count.min(variances.len())];
    let total: f64 = variances.iter().sum();
    let kept = &variances[..variances.len().saturating_sub(1)];
    let (sum, squares) = kept.iter().fold((0.0, 0.0), |(s, q), v| (s + v, q + v * v));
    let mut held = 0.0;
    // The tolerance decides ties, as between equal variances, in favor of "at most".
    let limit = fraction * total * (1.0 + 1e-12);
    let below = variances.iter().take_while(|&&variance| {
        held += variance;
        held <= limit
    });
    PooledDimensions {
        participation_ratio: if squares > 0.0 { sum * sum / squares } else { 0.0 },
        explained_variance: Some(below.count()),
    }
}

/// Computes the products of all points about their mean, the lower triangle, from the products of all pairs.
///
/// Its eigenvalues are the variances times the number of points.
fn pooled_gram(gram: &LayerGram) -> Mat<f64> {
    let sizes: Vec<usize> = gram.manifolds.iter().map(|own| own.with_points.nrows()).collect();
    let total: usize = sizes.iter().sum();
    let weights: Vec<f64> = sizes.iter().map(|&size| size as f64 / total as f64).collect();
    // A point is δ + h, with h its manifold's center about the mean of all points, h_i = y_i − Σ w_j y_j.
    let with_mean = |products: MatRef<'_, f64>| -> Vec<f64> {
        let column = |b| weights.iter().enumerate().map(|(k, w)| w * products[(k, b)]).sum();
        (0..products.ncols()).map(column).collect()
    };
    let centers_with_mean = with_mean(gram.centers.as_ref());
    let mean_square = dot(&weights, &centers_with_mean);
    let points_with_mean: Vec<Vec<f64>> =
        gram.manifolds.iter().map(|own| with_mean(own.with_centers.as_ref())).collect();
    let mut pooled = Mat::zeros(total, total);
    let mut row = 0;
    for (i, own) in gram.manifolds.iter().enumerate() {
        let mut column = 0;
        for (j, other) in gram.manifolds[..=i].iter().enumerate() {
            let centers =
                gram.centers[(i, j)] - centers_with_mean[i] - centers_with_mean[j] + mean_square;
            for b in 0..sizes[j] {
                let center_point = other.with_centers[(i, b)] - points_with_mean[j][b];
                for a in 0..sizes[i] {
                    let point_center = own.with_centers[(j, a)] - points_with_mean[i][a];
                    let points = own.with_points[(a, column + b)];
                    pooled[(row + a, column + b)] = points + center_point + point_center + centers;
                }
            }
            column += sizes[j];
        }
        row += sizes[i];
    }
    pooled
}

/// Computes the covariance of the features times the number of points, the lower triangle.
///
/// It has the same eigenvalues, but for zeros, and is smaller where there are more points than features.
fn covariance(manifolds: &(impl PointSource + ?Sized)) -> Result<Mat<f64>, PointsError> {
    let (features, counts) = (manifolds.features(), manifolds.counts());
    let count: usize = counts.iter().sum();
    let mut points = Vec::with_capacity(count * features);
    let mut own = Vec::new();
    for (manifold, count) in counts.into_iter().enumerate() {
        own.resize(count * features, 0.0);
        manifolds.read(manifold, 0, &mut own)?;
        points.extend(own.iter().map(|&value| f64::from(value)));
    }
    let mut mean = vec![0.0; features];
    for point in points.chunks_exact(features) {
        for (sum, value) in mean.iter_mut().zip(point) {
            *sum += value / count as f64;
        }
    }
    for point in points.chunks_exact_mut(features) {
        for (value, mean) in point.iter_mut().zip(&mean) {
            *value -= mean;
        }
    }
    // One column a point; the covariance by tiles of rows, the upper triangle left out where a tile can.
    let points = MatRef::from_column_major_slice(&points, features, count);
    let mut rows = vec![0.0; features * features];
    rows.par_chunks_mut(TILE * features).enumerate().for_each(|(tile, rows)| {
        let height = rows.len() / features;
        let (first, end) = (tile * TILE, tile * TILE + height);
        let rows = MatMut::from_row_major_slice_mut(rows, height, features);
        let (left, right) = (points.subrows(first, height), points.subrows(0, end));
        matmul(rows.subcols_mut(0, end), Accum::Replace, left, right.transpose(), 1.0, Par::Seq);
    });
    Ok(MatRef::from_row_major_slice(&rows, features, features).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifold::gram::{Points, layer_gram};
    use crate::rng::Streams;

    #[test]
    fn equal_variances_fill_all_dimensions_but_the_one_left_out() {
        let dimensions = pooled_dimensions(&[2.0; 11], 11, 0.5);
        assert!((dimensions.participation_ratio - 10.0).abs() < 1e-12);
        assert_eq!(dimensions.explained_variance, Some(5));
        // Nine of ten hold 90 %, which is at most 90 %.
        assert_eq!(pooled_dimensions(&[0.1; 10], 10, 0.9).explained_variance, Some(9));
    }

    #[test]
    fn dominant_variances_set_the_dimension() {
        let check = |variances: &[f64], count, ratio: f64, explained| {
            let dimensions = pooled_dimensions(variances, count, 0.9);
            assert!((dimensions.participation_ratio - ratio).abs() < 1e-12, "{dimensions:?}");
            assert_eq!(dimensions.explained_variance, Some(explained));
        };
        check(&[8.0, 1.0, 1.0, 0.0], 4, 100.0 / 66.0, 2);
        check(&[95.0, 5.0, 0.0], 3, 10_000.0 / 9050.0, 0);
        check(&[3.0, 3.0, 1e-16], 2, 1.0, 1);
        check(&[0.0, 0.0], 2, 0.0, 2);
    }

    #[test]
    fn both_ways_to_the_variances_agree() {
        let mut values = vec![0.0f64; 21 * 30];
        Streams::new(1, "test").stream("points").fill_normal(&mut values);
        let values: Vec<f32> = values.iter().map(|&value| 3.0 + value as f32).collect();
        for features in [30, 70] {
            let points: Vec<Points<'_>> = [(0, 210), (210, 630)]
                .iter()
                .map(|&(from, to)| Points { values: &values[from..to], features })
                .collect();
            let gram = layer_gram(&points[..], Pairs::All, &Watch::none()).unwrap().unwrap();
            let (products, covariance) = (pooled_gram(&gram), covariance(&points[..]).unwrap());
            let from_gram = spectrum::eigenvalues(products.as_ref()).unwrap();
            let from_features = spectrum::eigenvalues(covariance.as_ref()).unwrap();
            for (a, b) in from_gram.iter().zip(&from_features).take(630 / features) {
                assert!((a - b).abs() < 1e-11 * from_gram[0], "{a} {b}");
            }
            let (sum, squares) = from_gram.iter().fold((0.0, 0.0), |(s, q), v| (s + v, q + v * v));
            for matrix in [products, covariance] {
                let ratio = participation_ratio(matrix.as_ref());
                assert!((ratio - sum * sum / squares).abs() < 1e-11 * ratio, "{ratio}");
            }
        }
    }
}
