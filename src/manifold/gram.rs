//! Inner products of a layer's points about their manifolds' centers.
//!
//! The analysis needs no feature, only inner products. They are accumulated over blocks of features, in double
//! precision and after centering, so that no matrix of features × features exists and no difference of large numbers
//! is taken.

use std::io;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;
use thiserror::Error;

use super::watch::Watch;

/// Numbers of the centered block that is held at a time.
const BLOCK_NUMBERS: usize = 1 << 21;
/// Fewest and most features a block.
const BLOCK_FEATURES: (usize, usize) = (64, 4096);

/// The points of one manifold: one row of features a point, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Points<'a> {
    /// `points × features` numbers.
    pub values: &'a [f32],
    /// Numbers a point.
    pub features: usize,
}

impl Points<'_> {
    /// Returns the number of points.
    pub fn count(&self) -> usize {
        self.values.len() / self.features
    }
}

/// Where the numbers of a layer's points come from: memory, or a file that is larger.
pub trait PointSource: Sync {
    /// Returns the numbers a point.
    fn features(&self) -> usize;

    /// Returns the number of points of each manifold.
    fn counts(&self) -> Vec<usize>;

    /// Checks that there are two manifolds or more, each of at least one point, in the same space.
    fn check(&self) -> Result<(), PointsError>;

    /// Writes some features, from `start` on, of each point of a manifold into `out`: `points × width`, row-major.
    fn read(&self, manifold: usize, start: usize, out: &mut [f32]) -> Result<(), PointsError>;
}

impl PointSource for [Points<'_>] {
    fn features(&self) -> usize {
        self.first().map_or(0, |points| points.features)
    }

    fn counts(&self) -> Vec<usize> {
        self.iter().map(Points::count).collect()
    }

    fn check(&self) -> Result<(), PointsError> {
        check_points(self)
    }

    fn read(&self, manifold: usize, start: usize, out: &mut [f32]) -> Result<(), PointsError> {
        let Points { values, features } = self[manifold];
        let width = out.len() / self[manifold].count();
        for (row, out) in values.chunks_exact(features).zip(out.chunks_exact_mut(width.max(1))) {
            out.copy_from_slice(&row[start..start + width]);
        }
        Ok(())
    }
}

/// Why points make no layer.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum PointsError {
    /// One manifold has no other to be told from.
    #[error("at least 2 manifolds are needed, not {0}")]
    TooFewManifolds(usize),
    /// A manifold is not a whole positive number of points.
    #[error(
        "manifold {manifold} has {values} numbers, which is no positive multiple of {features} features"
    )]
    Shape {
        /// Position of the manifold.
        manifold: usize,
        /// Numbers it has.
        values: usize,
        /// Numbers a point.
        features: usize,
    },
    /// Two manifolds live in different spaces.
    #[error("manifold {manifold} has {features} features, but the first has {expected}")]
    Features {
        /// Position of the manifold.
        manifold: usize,
        /// Numbers a point.
        features: usize,
        /// Numbers a point of the first manifold.
        expected: usize,
    },
    /// A point is not a point.
    #[error("manifold {0} has a number that is not finite")]
    NotFinite(usize),
    /// The file that holds the points cannot be read.
    #[error("the points cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

/// Checks that there are two manifolds or more, each of at least one point, in the same space.
pub fn check_points(manifolds: &[Points<'_>]) -> Result<(), PointsError> {
    if manifolds.len() < 2 {
        return Err(PointsError::TooFewManifolds(manifolds.len()));
    }
    let expected = manifolds[0].features;
    for (manifold, points) in manifolds.iter().enumerate() {
        let (values, features) = (points.values.len(), points.features);
        if features != expected {
            return Err(PointsError::Features { manifold, features, expected });
        }
        if features == 0 || values == 0 || !values.is_multiple_of(features) {
            return Err(PointsError::Shape { manifold, values, features });
        }
    }
    Ok(())
}

/// Which pairs of points are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Points of the same manifold.
    Within,
    /// All points.
    All,
}

/// Inner products of `P` centers `y_i`, about their unweighted mean, and of points `δ`, about their own center.
#[derive(Clone, Debug)]
pub struct LayerGram {
    /// `⟨y_i, y_j⟩`, `P × P`.
    pub centers: Mat<f64>,
    /// The pairs of points that were multiplied.
    pub pairs: Pairs,
    /// Per manifold, in order.
    pub manifolds: Vec<ManifoldGram>,
}

/// The inner products of one manifold's points.
#[derive(Clone, Debug)]
pub struct ManifoldGram {
    /// `⟨y_j, δ⟩`, `P × M`.
    pub with_centers: Mat<f64>,
    /// `⟨δ', δ⟩`, `M × M'`, where `δ'` runs over the points of this manifold and, if asked for, over those of all
    /// earlier manifolds before them.
    pub with_points: Mat<f64>,
}

impl ManifoldGram {
    /// Returns the inner products among the manifold's own points, `M × M`.
    pub fn within(&self) -> MatRef<'_, f64> {
        let count = self.with_points.nrows();
        self.with_points.as_ref().subcols(self.with_points.ncols() - count, count)
    }
}

impl LayerGram {
    /// Checks that all points were finite; a manifold's own products show it.
    pub fn check_finite(&self) -> Result<(), PointsError> {
        let broken = |own: &ManifoldGram| {
            let within = own.within();
            (0..within.nrows()).any(|i| !within[(i, i)].is_finite())
        };
        self.manifolds.iter().position(broken).map_or(Ok(()), |i| Err(PointsError::NotFinite(i)))
    }
}

/// Multiplies; `None` when the watch says stop.
///
/// The manifolds are those that [`PointSource::check`] lets pass.
pub fn layer_gram(
    manifolds: &(impl PointSource + ?Sized),
    pairs: Pairs,
    watch: &Watch<'_>,
) -> Result<Option<LayerGram>, PointsError> {
    let (features, counts) = (manifolds.features(), manifolds.counts());
    let mut products = Vec::with_capacity(counts.len());
    let mut total = 0;
    for count in &counts {
        let first = match pairs {
            Pairs::Within => total,
            Pairs::All => 0,
        };
        products.push(Products::zeros(counts.len(), first, total, *count));
        total += count;
    }
    let widest = (BLOCK_NUMBERS / total).clamp(BLOCK_FEATURES.0, BLOCK_FEATURES.1).min(features);
    let mut block = Block::zeros(widest, counts, total);
    for start in (0..features).step_by(widest) {
        if watch.is_cancelled() {
            return Ok(None);
        }
        block.fill(manifolds, start, widest.min(features - start))?;
        products.par_iter_mut().enumerate().for_each(|(i, products)| products.add(&block, i));
        watch.report((start + block.width) as f64 / features as f64);
    }
    let centers = Mat::from_fn(products.len(), products.len(), |i, j| {
        products[i.max(j)].center[(i.min(j), 0)]
    });
    let manifolds = products.into_iter().map(|products| products.gram).collect();
    Ok(Some(LayerGram { centers, pairs, manifolds }))
}

/// Sums of products that one thread adds to.
struct Products {
    /// The first point of the layer that is a partner, the first of this manifold, and one past its last.
    points: (usize, usize, usize),
    /// `⟨y_j, y_i⟩`, `P × 1`.
    center: Mat<f64>,
    gram: ManifoldGram,
}

impl Products {
    fn zeros(centers: usize, first_partner: usize, first: usize, count: usize) -> Self {
        Self {
            points: (first_partner, first, first + count),
            center: Mat::zeros(centers, 1),
            gram: ManifoldGram {
                with_centers: Mat::zeros(centers, count),
                with_points: Mat::zeros(count, first + count - first_partner),
            },
        }
    }

    fn add(&mut self, block: &Block, index: usize) {
        let (first_partner, first, end) = self.points;
        let centers = block.columns(&block.centers, 0, self.center.nrows());
        let own = block.columns(&block.points, first, end);
        let partners = block.columns(&block.points, first_partner, end);
        let add = |sum: &mut Mat<f64>, left: MatRef<'_, f64>, right| {
            matmul(sum, Accum::Add, left.transpose(), right, 1.0, Par::Seq);
        };
        add(&mut self.center, centers, centers.subcols(index, 1));
        add(&mut self.gram.with_centers, centers, own);
        add(&mut self.gram.with_points, own, partners);
    }
}

/// Some features of all points, centered.
struct Block {
    width: usize,
    /// Points of each manifold.
    counts: Vec<usize>,
    /// `width × P` numbers of the centers, one center after another, about their mean.
    centers: Vec<f64>,
    /// `width × points` numbers, one point after another, about their center.
    points: Vec<f64>,
}

impl Block {
    fn zeros(width: usize, counts: Vec<usize>, points: usize) -> Self {
        let (centers, points) = (vec![0.0; width * counts.len()], vec![0.0; width * points]);
        Self { width, counts, centers, points }
    }

    fn columns<'a>(&self, numbers: &'a [f64], first: usize, end: usize) -> MatRef<'a, f64> {
        let numbers = &numbers[first * self.width..end * self.width];
        MatRef::from_column_major_slice(numbers, self.width, end - first)
    }

    fn fill(
        &mut self,
        manifolds: &(impl PointSource + ?Sized),
        start: usize,
        width: usize,
    ) -> Result<(), PointsError> {
        self.width = width;
        let mut rest = self.points.as_mut_slice();
        let mut tasks = Vec::with_capacity(self.counts.len());
        for (count, center) in self.counts.iter().zip(self.centers.chunks_exact_mut(width)) {
            let (own, others) = rest.split_at_mut(count * width);
            rest = others;
            tasks.push((center, own));
        }
        tasks.into_par_iter().enumerate().try_for_each_init(
            Vec::new,
            |values: &mut Vec<f32>, (manifold, (center, own))| {
                values.resize(own.len(), 0.0);
                manifolds.read(manifold, start, values)?;
                center_points(values, center, own);
                Ok(())
            },
        )?;
        let count = self.counts.len();
        for feature in 0..width {
            let centers = self.centers[feature..count * width].iter().step_by(width);
            let mean = centers.sum::<f64>() / count as f64;
            for center in self.centers[feature..count * width].iter_mut().step_by(width) {
                *center -= mean;
            }
        }
        Ok(())
    }
}

/// Writes the center of a manifold and its points about the center.
fn center_points(values: &[f32], center: &mut [f64], own: &mut [f64]) {
    let width = center.len();
    center.fill(0.0);
    for (row, copy) in values.chunks_exact(width).zip(own.chunks_exact_mut(width)) {
        for ((value, copy), sum) in row.iter().zip(copy).zip(center.iter_mut()) {
            *copy = f64::from(*value);
            *sum += *copy;
        }
    }
    let count = (values.len() / width) as f64;
    for sum in center.iter_mut() {
        *sum /= count;
    }
    for copy in own.chunks_exact_mut(width) {
        for (value, center) in copy.iter_mut().zip(center.iter()) {
            *value -= center;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    fn check(features: usize, sizes: &[usize], pairs: Pairs) {
        let mut stream = Streams::new(1, "test").stream("points");
        let rows: Vec<Vec<f32>> = sizes
            .iter()
            .map(|size| (0..size * features).map(|_| 100.0 + stream.normal() as f32).collect())
            .collect();
        let points: Vec<Points<'_>> =
            rows.iter().map(|values| Points { values, features }).collect();
        let gram = layer_gram(&points[..], pairs, &Watch::none()).unwrap().unwrap();
        let means: Vec<Vec<f64>> = points
            .iter()
            .map(|own| {
                let column = |f| own.values.iter().skip(f).step_by(features);
                (0..features)
                    .map(|f| column(f).map(|&x| f64::from(x)).sum::<f64>() / own.count() as f64)
                    .collect()
            })
            .collect();
        let mean = |f: usize| means.iter().map(|mean| mean[f]).sum::<f64>() / means.len() as f64;
        let center = |i: usize, f: usize| means[i][f] - mean(f);
        let point = |i: usize, a: usize, f: usize| {
            f64::from(points[i].values[a * features + f]) - means[i][f]
        };
        let product = |a: &dyn Fn(usize) -> f64, b: &dyn Fn(usize) -> f64| -> f64 {
            (0..features).map(|f| a(f) * b(f)).sum()
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        for (i, own) in gram.manifolds.iter().enumerate() {
            let last = sizes[i] - 1;
            let own_point = |f| point(i, last, f);
            close(own.within()[(last, 0)], product(&own_point, &|f| point(i, 0, f)));
            for j in 0..sizes.len() {
                close(gram.centers[(i, j)], product(&|f| center(i, f), &|f| center(j, f)));
                close(own.with_centers[(j, last)], product(&|f| center(j, f), &own_point));
            }
            if pairs == Pairs::All {
                close(own.with_points[(last, 0)], product(&own_point, &|f| point(0, 0, f)));
            }
        }
    }

    #[test]
    fn products_match_their_definition() {
        for pairs in [Pairs::Within, Pairs::All] {
            check(4096 + 77, &[3, 1, 5], pairs);
            check(10, &[1, 2], pairs);
            check(3000, &[600, 200], pairs);
        }
    }

    #[test]
    fn equal_points_lie_exactly_on_their_center() {
        let values = [0.1f32, 0.7, 0.1, 0.7, 0.1, 0.7, 0.3, 0.3];
        let points = [&values[..6], &values[6..]].map(|values| Points { values, features: 2 });
        let gram = layer_gram(&points[..], Pairs::Within, &Watch::none()).unwrap().unwrap();
        assert_eq!(gram.manifolds[0].within().norm_max(), 0.0);
    }

    #[test]
    fn a_number_that_is_not_finite_shows_in_its_manifold_alone() {
        let values = [1.0f32, 2.0, f32::NAN, 3.0];
        let points = [&values[..2], &values[2..]].map(|values| Points { values, features: 1 });
        let gram = layer_gram(&points[..], Pairs::All, &Watch::none()).unwrap().unwrap();
        assert_eq!(gram.check_finite(), Err(PointsError::NotFinite(1)));
    }

    #[test]
    fn points_of_one_space_pass() {
        let check = |shapes: &[(usize, usize)], expected: &str| {
            let points: Vec<Points<'_>> = shapes
                .iter()
                .map(|&(numbers, features)| Points { values: &[1.0; 9][..numbers], features })
                .collect();
            let message =
                check_points(&points).map_or_else(|error| error.to_string(), |()| String::new());
            assert_eq!(message, expected);
        };
        check(&[(4, 2), (2, 2)], "");
        check(&[(4, 2)], "at least 2 manifolds are needed, not 1");
        check(&[(4, 2), (4, 1)], "manifold 1 has 1 features, but the first has 2");
        check(
            &[(3, 2), (4, 2)],
            "manifold 0 has 3 numbers, which is no positive multiple of 2 features",
        );
        check(
            &[(2, 2), (0, 2)],
            "manifold 1 has 0 numbers, which is no positive multiple of 2 features",
        );
        check(
            &[(0, 0), (0, 0)],
            "manifold 0 has 0 numbers, which is no positive multiple of 0 features",
        );
    }

    #[test]
    fn a_cancelled_watch_ends_it() {
        let points = [Points { values: &[1.0], features: 1 }; 2];
        let watch = Watch::new(&|_| {}, &|| true);
        assert!(layer_gram(&points[..], Pairs::All, &watch).unwrap().is_none());
    }
}
