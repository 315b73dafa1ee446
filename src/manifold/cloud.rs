//! The points of one manifold, and random directions in which to look at them.

use faer::MatRef;

use super::arithmetic::{add_scaled, dot};
use super::spectrum::{self, SpectrumError};
use crate::rng::Stream;

/// Directions that hold less than this fraction of the largest squared length are rounding.
const RANK_TOLERANCE: f64 = 1e-12;

/// The points of one manifold about their center, in units of the center norm.
#[derive(Clone, Debug)]
pub struct PointCloud {
    points: usize,
    rank: usize,
    dimensions: usize,
    /// `points × rank`, row-major: the points in an orthonormal basis of their span.
    coordinates: Vec<f64>,
    cone_gram: Vec<f64>,
    /// `points × rank`, row-major, orthonormal columns: turns one normal a point into the coordinates of `t`.
    ///
    /// Through this map the products `⟨t, s⟩` are the symmetric square root of the Gram times the normals. They do not
    /// depend on the choice of eigenvectors, and neighboring Grams see neighboring draws.
    frame: Vec<f64>,
}

/// A Gaussian vector `t` as one cloud sees it.
#[derive(Clone, Debug)]
pub struct Draw {
    /// The coordinates in the span of the points.
    pub within: Vec<f64>,
    /// The squared length in the other dimensions about the center.
    pub outside: f64,
    /// The coordinate along the center.
    pub center: f64,
    normals: Vec<f64>,
}

impl Draw {
    /// Turns the vector to its opposite.
    pub fn mirror(&mut self) {
        self.within.iter_mut().for_each(|coordinate| *coordinate = -*coordinate);
        self.center = -self.center;
    }
}

impl PointCloud {
    /// Finds the points of a Gram matrix (`M × M`, inner products about the center, in squared center norms).
    ///
    /// `features` is the number of dimensions the points live in; `scale` the largest squared length that took part in
    /// computing the Gram, against which rounding is judged.
    pub fn from_gram(
        gram: MatRef<'_, f64>,
        features: usize,
        scale: f64,
    ) -> Result<Self, SpectrumError> {
        let points = gram.nrows();
        let spectrum = spectrum::positive_part(gram, RANK_TOLERANCE * scale)?;
        let rank = spectrum.values.len();
        let mut frame = Vec::with_capacity(points * rank);
        let mut coordinates = Vec::with_capacity(points * rank);
        for i in 0..points {
            for (k, value) in spectrum.values.iter().enumerate() {
                frame.push(spectrum.vectors[(i, k)]);
                coordinates.push(spectrum.vectors[(i, k)] * value.sqrt());
            }
        }
        let cone_gram = cone_gram(&coordinates, points, rank);
        let dimensions = features.min(points).max(rank);
        Ok(Self { points, rank, dimensions, coordinates, cone_gram, frame })
    }

    /// Takes points given by coordinates, `points × rank`, row-major, all of which count as dimensions.
    pub fn from_coordinates(coordinates: &[f64], points: usize) -> Self {
        let rank = coordinates.len() / points;
        debug_assert_eq!(coordinates.len(), points * rank);
        let cone_gram = cone_gram(coordinates, points, rank);
        let coordinates = coordinates.to_vec();
        Self { points, rank, dimensions: rank, coordinates, cone_gram, frame: Vec::new() }
    }

    /// Returns the number of points.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Returns the number of independent directions of the points about their center.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Returns the number of dimensions about the center in which `t` is drawn: min(features, points).
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Returns the coordinates of one point about the center.
    pub fn point(&self, index: usize) -> &[f64] {
        &self.coordinates[index * self.rank..(index + 1) * self.rank]
    }

    /// Returns the inner products of the points with the center coordinate 1 appended, `points × points`.
    pub fn cone_gram(&self) -> &[f64] {
        &self.cone_gram
    }

    /// Makes room for a draw, which is zero at first.
    pub fn empty_draw(&self) -> Draw {
        let normals = vec![0.0; if self.frame.is_empty() { 0 } else { self.points }];
        Draw { within: vec![0.0; self.rank], outside: 0.0, center: 0.0, normals }
    }

    /// Draws the next `t` of a stream.
    pub fn draw(&self, stream: &mut Stream, draw: &mut Draw) {
        if self.frame.is_empty() {
            stream.fill_normal(&mut draw.within);
        } else {
            stream.fill_normal(&mut draw.normals);
            draw.within.fill(0.0);
            for (row, normal) in self.frame.chunks_exact(self.rank).zip(&draw.normals) {
                add_scaled(&mut draw.within, *normal, row);
            }
        }
        draw.outside = (self.rank..self.dimensions).map(|_| stream.normal().powi(2)).sum();
        draw.center = stream.normal();
    }
}

fn cone_gram(coordinates: &[f64], points: usize, rank: usize) -> Vec<f64> {
    let point = |i: usize| &coordinates[i * rank..(i + 1) * rank];
    let mut gram = vec![0.0; points * points];
    for i in 0..points {
        for j in 0..=i {
            let product = 1.0 + dot(point(i), point(j));
            gram[i * points + j] = product;
            gram[j * points + i] = product;
        }
    }
    gram
}

#[cfg(test)]
mod tests {
    use faer::Mat;

    use super::*;
    use crate::rng::Streams;

    /// The regular simplex with its center at the origin: eigenvectors are arbitrary within a whole space.
    fn simplex(points: usize, perturbation: f64) -> Mat<f64> {
        let side = points as f64;
        Mat::from_fn(points, points, |i, j| {
            f64::from(i == j) * side - 1.0 + perturbation * ((i + 1) * (j + 1)) as f64
        })
    }

    #[test]
    fn a_cloud_has_the_gram_it_was_made_from() {
        let gram = simplex(5, 0.0);
        let cloud = PointCloud::from_gram(gram.as_ref(), 100, 4.0).unwrap();
        assert_eq!((cloud.points(), cloud.rank(), cloud.dimensions()), (5, 4, 5));
        for i in 0..5 {
            for j in 0..5 {
                assert!((dot(cloud.point(i), cloud.point(j)) - gram[(i, j)]).abs() < 1e-13);
                assert!((cloud.cone_gram()[i * 5 + j] - 1.0 - gram[(i, j)]).abs() < 1e-13);
            }
        }
        assert_eq!(PointCloud::from_gram(gram.as_ref(), 4, 4.0).unwrap().dimensions(), 4);
    }

    #[test]
    fn neighboring_grams_see_neighboring_draws() {
        let products = |perturbation| {
            let gram = simplex(6, perturbation);
            let cloud = PointCloud::from_gram(gram.as_ref(), 100, 5.0).unwrap();
            let mut draw = cloud.empty_draw();
            cloud.draw(&mut Streams::new(1, "test").stream("t"), &mut draw);
            (0..6).map(|i| dot(cloud.point(i), &draw.within)).collect::<Vec<f64>>()
        };
        for (a, b) in products(0.0).iter().zip(products(1e-14)) {
            assert!((a - b).abs() < 1e-10, "{a} {b}");
        }
    }

    #[test]
    fn draws_have_unit_variance_in_every_dimension() {
        let cloud = PointCloud::from_gram(simplex(5, 0.0).as_ref(), 100, 4.0).unwrap();
        let mut stream = Streams::new(2, "test").stream("t");
        let mut draw = cloud.empty_draw();
        let count = 20_000;
        let mut sums = [0.0; 4];
        for _ in 0..count {
            cloud.draw(&mut stream, &mut draw);
            let along = dot(cloud.point(0), &draw.within);
            let squares =
                [along * along, draw.outside, draw.center.powi(2), draw.within[0].powi(2)];
            sums.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
        }
        for (sum, expected) in sums.iter().zip([4.0, 1.0, 1.0, 1.0]) {
            let mean = sum / f64::from(count);
            let standard_error = expected * (2.0 / f64::from(count)).sqrt();
            assert!((mean - expected).abs() < 5.0 * standard_error, "{mean} {expected}");
        }
    }
}
