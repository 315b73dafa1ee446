//! All points of a layer together: their inner products with each other and with random directions.
//!
//! Both are summed over blocks of features, in double precision and after centering, so that nothing of the size of
//! features × features exists, and a direction in thousands of features is never held as a whole.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::gram::{Points, PointsError};
use super::spectrum::{self, SpectrumError};
use super::watch::Watch;
use crate::rng::{Stream, Streams};

/// Numbers of the centered block that is held at a time.
const BLOCK_NUMBERS: usize = 1 << 21;
/// Fewest and most features a block.
const BLOCK_FEATURES: (usize, usize) = (64, 2048);
/// Rows of products that one task computes.
const TILE: usize = 64;

/// Directions that hold less than this fraction of the largest squared length are rounding.
const RANK_TOLERANCE: f64 = 1e-12;

/// The points of a layer about their mean.
#[derive(Clone, Debug)]
pub struct Joint {
    /// The manifold of each point; points of a manifold follow each other.
    pub manifold: Vec<usize>,
    /// Number of manifolds.
    pub manifolds: usize,
    /// Inner products of all points, `points × points`, row-major.
    pub gram: Vec<f64>,
    /// Numbers a point: the ambient dimension.
    pub features: usize,
}

impl Joint {
    /// Returns the number of points.
    pub fn count(&self) -> usize {
        self.manifold.len()
    }

    /// Returns the inner products of one point with all.
    pub fn row(&self, point: usize) -> &[f64] {
        &self.gram[point * self.count()..][..self.count()]
    }

    /// Takes points given by coordinates, as rows of `features` numbers, as they lie.
    pub fn from_coordinates(rows: MatRef<'_, f64>, manifold: Vec<usize>) -> Self {
        let count = rows.nrows();
        let mut gram = vec![0.0; count * count];
        let products = MatMut::from_row_major_slice_mut(&mut gram, count, count);
        matmul(products, Accum::Replace, rows, rows.transpose(), 1.0, Par::Seq);
        let manifolds = manifold.iter().max().map_or(0, |last| last + 1);
        Self { manifold, manifolds, gram, features: rows.ncols() }
    }
}

/// Multiplies the points of a layer with each other and with `draws` Gaussian directions.
///
/// Of the directions `draws × points` products are returned, row-major; direction `k` is lane `k` of a stream, and the
/// same for all layers of as many features. `None` when the watch says stop. The manifolds are those that
/// [`super::gram::check_points`] lets pass.
pub fn multiply(
    manifolds: &[Points<'_>],
    draws: usize,
    streams: &Streams,
    watch: &Watch<'_>,
) -> Option<(Joint, Vec<f64>)> {
    let features = manifolds[0].features;
    let manifold: Vec<usize> =
        (0..manifolds.len()).flat_map(|i| std::iter::repeat_n(i, manifolds[i].count())).collect();
    let count = manifold.len();
    let mut gram = vec![0.0; count * count];
    let mut along = vec![0.0; draws * count];
    let mut directions: Vec<Stream> =
        (0..draws).map(|k| streams.indexed("directions", k as u64)).collect();
    let widest = (BLOCK_NUMBERS / count).clamp(BLOCK_FEATURES.0, BLOCK_FEATURES.1).min(features);
    for start in (0..features).step_by(widest) {
        if watch.is_cancelled() {
            return None;
        }
        let width = widest.min(features - start);
        let block = centered(manifolds, start, width, count);
        let block = MatRef::from_row_major_slice(&block, count, width);
        gram.par_chunks_mut(TILE * count).enumerate().for_each(|(tile, rows)| {
            let (first, height) = (tile * TILE, rows.len() / count);
            let rows = MatMut::from_row_major_slice_mut(rows, height, count);
            let (left, right) = (block.subrows(first, height), block.subrows(0, first + height));
            let rows = rows.subcols_mut(0, first + height);
            matmul(rows, Accum::Add, left, right.transpose(), 1.0, Par::Seq);
        });
        let each = along.par_chunks_mut(TILE * count).zip(directions.par_chunks_mut(TILE));
        each.for_each(|(rows, streams)| {
            let mut normals = vec![0.0; streams.len() * width];
            for (stream, normals) in streams.iter_mut().zip(normals.chunks_exact_mut(width)) {
                stream.fill_normal(normals);
            }
            let normals = MatRef::from_row_major_slice(&normals, streams.len(), width);
            let rows = MatMut::from_row_major_slice_mut(rows, streams.len(), count);
            matmul(rows, Accum::Add, normals, block.transpose(), 1.0, Par::Seq);
        });
        watch.report((start + width) as f64 / features as f64);
    }
    for row in 0..count {
        for column in 0..row {
            gram[column * count + row] = gram[row * count + column];
        }
    }
    Some((Joint { manifold, manifolds: manifolds.len(), gram, features }, along))
}

/// Checks that all numbers are finite: one that is not would spoil the mean of all points.
pub fn check_finite(manifolds: &[Points<'_>]) -> Result<(), PointsError> {
    let broken = |points: &Points<'_>| !points.values.iter().all(|value| value.is_finite());
    manifolds.iter().position(broken).map_or(Ok(()), |i| Err(PointsError::NotFinite(i)))
}

/// Copies some features of all points, about their mean: `points × width`, row-major.
fn centered(manifolds: &[Points<'_>], start: usize, width: usize, count: usize) -> Vec<f64> {
    let mut block = Vec::with_capacity(count * width);
    let mut mean = vec![0.0; width];
    for points in manifolds {
        for row in points.values.chunks_exact(points.features) {
            for (sum, value) in mean.iter_mut().zip(&row[start..start + width]) {
                *sum += f64::from(*value);
                block.push(f64::from(*value));
            }
        }
    }
    for sum in &mut mean {
        *sum /= count as f64;
    }
    block.par_chunks_mut(width).for_each(|row| {
        row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean);
    });
    block
}

/// Returns the points in an orthonormal basis of their span, `points × rank`.
pub fn coordinates(joint: &Joint) -> Result<Mat<f64>, SpectrumError> {
    let count = joint.count();
    let gram = MatRef::from_row_major_slice(&joint.gram, count, count);
    let largest = (0..count).map(|i| gram[(i, i)]).fold(0.0, f64::max);
    let spectrum = spectrum::positive_part(gram, RANK_TOLERANCE * largest)?;
    let vectors = &spectrum.vectors;
    Ok(Mat::from_fn(count, vectors.ncols(), |i, k| vectors[(i, k)] * spectrum.values[k].sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifold::arithmetic::dot;

    #[test]
    fn products_match_their_definition() {
        // Three blocks of features, several tiles of points and of directions.
        let (features, sizes, draws) = (4500, [90, 1, 40], 70);
        let mut stream = Streams::new(1, "test").stream("points");
        let rows: Vec<Vec<f32>> = sizes
            .iter()
            .map(|size| (0..size * features).map(|_| 10.0 + stream.normal() as f32).collect())
            .collect();
        let points: Vec<Points<'_>> =
            rows.iter().map(|values| Points { values, features }).collect();
        let streams = Streams::new(2, "test");
        let (joint, along) = multiply(&points, draws, &streams, &Watch::none()).unwrap();
        let whole = centered(&points, 0, features, 131);
        let row = |i: usize| &whole[i * features..(i + 1) * features];
        assert_eq!((joint.count(), joint.manifolds, joint.features), (131, 3, features));
        assert_eq!((joint.manifold[89], joint.manifold[90], joint.manifold[91]), (0, 1, 2));
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        for (i, j) in [(0, 0), (3, 130), (130, 3), (90, 64), (64, 63)] {
            close(joint.row(i)[j], dot(row(i), row(j)));
        }
        for k in [0, 63, 69] {
            let mut direction = vec![0.0; features];
            let mut stream = streams.indexed("directions", k as u64);
            // Blocks of 2048 features, an even number: no normal of a pair is lost.
            stream.fill_normal(&mut direction);
            close(along[k * 131 + 77], dot(&direction, row(77)));
        }
        let coordinates = coordinates(&joint).unwrap();
        assert_eq!(coordinates.ncols(), 130);
        let product: f64 = (0..130).map(|k| coordinates[(5, k)] * coordinates[(99, k)]).sum();
        close(product, joint.row(5)[99]);
        let mut broken = rows.clone();
        broken[1][7] = f32::NAN;
        let points: Vec<Points<'_>> =
            broken.iter().map(|values| Points { values, features }).collect();
        assert_eq!(check_finite(&points), Err(PointsError::NotFinite(1)));
        assert!(multiply(&points, 0, &streams, &Watch::new(&|_| {}, &|| true)).is_none());
    }
}
