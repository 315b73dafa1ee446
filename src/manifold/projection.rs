//! Random projection of a layer to fewer dimensions, as the published program does beforehand.
//!
//! It is not needed here, where time hardly depends on the number of features, and adds a random error of its own; it is
//! there for comparison with published numbers.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::arithmetic::dot;
use super::gram::{PointSource, PointsError};
use super::watch::Watch;
use crate::rng::{Stream, Streams};

/// Features that are projected at a time.
const BLOCK_FEATURES: usize = 1024;
/// Directions that one task projects onto.
const TILE: usize = 64;

/// Projects all points onto `dimensions` random directions, each a Gaussian vector of length 1; yields the manifolds'
/// new points, row-major. `None` when the watch says stop.
///
/// Direction `d` is lane `d` of a stream: the same for all layers of as many features. The manifolds are those that
/// [`PointSource::check`] lets pass.
pub fn project(
    manifolds: &(impl PointSource + ?Sized),
    dimensions: usize,
    streams: &Streams,
    watch: &Watch<'_>,
) -> Result<Option<Vec<Vec<f32>>>, PointsError> {
    let (features, counts) = (manifolds.features(), manifolds.counts());
    let count: usize = counts.iter().sum();
    // A direction's lane, its products with all points, and its squared length.
    let mut directions: Vec<(Stream, Vec<f64>, f64)> = (0..dimensions)
        .map(|d| (streams.indexed("projection", d as u64), vec![0.0; count], 0.0))
        .collect();
    let mut own = Vec::new();
    for start in (0..features).step_by(BLOCK_FEATURES) {
        if watch.is_cancelled() {
            return Ok(None);
        }
        let width = BLOCK_FEATURES.min(features - start);
        let mut block = Vec::with_capacity(count * width);
        for (manifold, count) in counts.iter().enumerate() {
            own.resize(count * width, 0.0);
            manifolds.read(manifold, start, &mut own)?;
            block.extend(own.iter().map(|x| f64::from(*x)));
        }
        let block = MatRef::from_row_major_slice(&block, count, width);
        directions.par_chunks_mut(TILE).for_each(|directions| {
            let mut normals = vec![0.0; directions.len() * width];
            for ((stream, _, square), normals) in
                directions.iter_mut().zip(normals.chunks_exact_mut(width))
            {
                stream.fill_normal(normals);
                *square += dot(normals, normals);
            }
            let normals = MatRef::from_row_major_slice(&normals, directions.len(), width);
            let mut products = vec![0.0; directions.len() * count];
            let view = MatMut::from_row_major_slice_mut(&mut products, directions.len(), count);
            matmul(view, Accum::Replace, normals, block.transpose(), 1.0, Par::Seq);
            for ((_, sums, _), products) in directions.iter_mut().zip(products.chunks_exact(count))
            {
                sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
            }
        });
        watch.report((start + width) as f64 / features as f64);
    }
    let mut first = 0;
    let own = |count: &usize| {
        let (from, to) = (first, first + count);
        first = to;
        let row = |i: usize| directions.iter().map(move |(_, sums, s)| (sums[i] / s.sqrt()) as f32);
        (from..to).flat_map(row).collect()
    };
    Ok(Some(counts.iter().map(own).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifold::gram::Points;

    #[test]
    fn products_are_with_unit_directions() {
        // Two blocks of features, two tiles of directions.
        let (features, dimensions) = (1500, 100);
        let mut stream = Streams::new(1, "test").stream("points");
        let values: Vec<f32> = (0..3 * features).map(|_| stream.normal() as f32).collect();
        let points =
            [&values[..features], &values[features..]].map(|values| Points { values, features });
        let streams = Streams::new(2, "test");
        let projected =
            project(&points[..], dimensions, &streams, &Watch::none()).unwrap().unwrap();
        assert_eq!(projected.iter().map(Vec::len).collect::<Vec<_>>(), [100, 200]);
        for direction in [0, 63, 99] {
            let mut normals = vec![0.0; features];
            streams.indexed("projection", direction as u64).fill_normal(&mut normals);
            let length = dot(&normals, &normals).sqrt();
            let point: Vec<f64> = values[2 * features..].iter().map(|x| f64::from(*x)).collect();
            let expected = dot(&normals, &point) / length;
            let found = f64::from(projected[1][dimensions + direction]);
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        let watch = Watch::new(&|_| {}, &|| true);
        assert!(project(&points[..], dimensions, &streams, &watch).unwrap().is_none());
    }

    #[test]
    fn lengths_are_kept_on_average() {
        let features = 4000;
        let values = vec![1.0f32; 2 * features];
        let points =
            [&values[..features], &values[features..]].map(|values| Points { values, features });
        let projected =
            project(&points[..], 400, &Streams::new(3, "test"), &Watch::none()).unwrap().unwrap();
        let square: f64 = projected[0].iter().map(|x| f64::from(*x).powi(2)).sum();
        // Each of 400 squares has mean 1 and variance 2.
        assert!((square - 400.0).abs() < 5.0 * (2.0 * 400.0f64).sqrt(), "{square}");
    }
}
