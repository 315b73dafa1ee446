//! Whether a hyperplane tells points with signs apart.
//!
//! With `z_i = y_i (x_i, 1)` a hyperplane `w` separates if `⟨z_i, w⟩ > 0` for all `i`, and none does if a convex combination of
//! the `z_i` is zero (Gordan's alternative). The point of their convex hull that is closest to zero decides; it is found as
//! the projection of `(0, 1)` onto the cone of the `(z_i, 1)`, and either certificate ends the search.

use super::arithmetic::{add_scaled, dot};
use super::cone::{Generators, Projector, largest};
use super::nnls::NotConverged;

/// Points that the search begins with, beyond two for each dimension.
const SPARE: usize = 16;
/// A hull of unit vectors that comes this close to zero holds it, up to rounding; in squared distance.
const CLOSEST: f64 = 1e-11;
/// A product above this is positive beyond rounding.
const POSITIVE: f64 = 1e-13;

/// A workspace for tests of separability.
#[derive(Clone, Debug, Default)]
pub struct Separator {
    projector: Projector,
    generators: Rows,
}

impl Separator {
    /// Tells whether a hyperplane, with a threshold of its own, has each point on the side of its sign.
    ///
    /// `columns` holds the points' coordinates, one dimension after the other; points in general position are separable
    /// wherever there are as many dimensions as points less one.
    pub fn separates(&mut self, columns: &[f64], signs: &[f64]) -> Result<bool, NotConverged> {
        let count = signs.len();
        if signs.iter().all(|sign| *sign == signs[0]) {
            return Ok(true);
        }
        self.generators.fill(columns, signs);
        let width = self.generators.width;
        let mut mean = vec![0.0; width];
        for i in 0..count {
            add_scaled(&mut mean, 1.0, self.generators.row(i));
        }
        // What a first guess at the normal has on the wrong side, or closest to it.
        let wrong: Vec<f64> = (0..count).map(|i| -dot(self.generators.row(i), &mean)).collect();
        if wrong.iter().all(|wrong| -wrong > POSITIVE * count as f64) {
            return Ok(true);
        }
        let ones = vec![1.0; count];
        self.projector.begin(count, &largest(&wrong, 2 * width + SPARE, |_| true));
        loop {
            let found = self.projector.round(&self.generators, &ones)?;
            // The weights' sum is 1 less the squared distance of the projection from (0, 1).
            let total: f64 = self.projector.weights().iter().sum();
            if 1.0 - total <= CLOSEST {
                return Ok(false);
            }
            let least = self.projector.products().iter().fold(f64::INFINITY, |l, p| l.min(*p));
            if found || least - total > POSITIVE {
                return Ok(true);
            }
        }
    }
}

/// The `z_i`, each of unit length: which sides there are does not depend on it.
#[derive(Clone, Debug, Default)]
struct Rows {
    width: usize,
    numbers: Vec<f64>,
}

impl Rows {
    fn fill(&mut self, columns: &[f64], signs: &[f64]) {
        let count = signs.len();
        self.width = columns.len() / count + 1;
        self.numbers.clear();
        self.numbers.resize(count * self.width, 0.0);
        // In units of the points' size the threshold's coordinate is like the others.
        let size = (dot(columns, columns) / count as f64).sqrt();
        let inverse = if size > 0.0 { 1.0 / size } else { 0.0 };
        for (i, row) in self.numbers.chunks_exact_mut(self.width).enumerate() {
            row[0] = 1.0;
            for (entry, column) in row[1..].iter_mut().zip(columns.chunks_exact(count)) {
                *entry = column[i] * inverse;
            }
            let scale = signs[i] / dot(row, row).sqrt();
            for entry in row {
                *entry *= scale;
            }
        }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.numbers[i * self.width..(i + 1) * self.width]
    }
}

impl Generators for Rows {
    fn product(&self, i: usize, j: usize) -> f64 {
        1.0 + dot(self.row(i), self.row(j))
    }

    fn products_with(&self, indices: &[usize], weights: &[f64], products: &mut [f64]) {
        let mut sum = vec![0.0; self.width];
        for (&i, &weight) in indices.iter().zip(weights) {
            add_scaled(&mut sum, weight, self.row(i));
        }
        let total: f64 = weights.iter().sum();
        for (product, row) in products.iter_mut().zip(self.numbers.chunks_exact(self.width)) {
            *product = total + dot(row, &sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    #[test]
    fn plain_cases_are_told() {
        let mut separator = Separator::default();
        let mut check = |columns: &[f64], signs: &[f64], expected: bool| {
            assert_eq!(separator.separates(columns, signs).unwrap(), expected, "{columns:?}");
        };
        check(&[0.0, 1.0, 2.0, 3.0], &[1.0, 1.0, -1.0, -1.0], true);
        check(&[0.0, 1.0, 2.0, 3.0], &[1.0, -1.0, -1.0, 1.0], false);
        check(&[5.0, 5.1], &[1.0, -1.0], true);
        check(&[5.0, 5.0], &[1.0, -1.0], false);
        check(&[0.0, 0.0, 0.0], &[1.0, 1.0, -1.0], false);
        check(&[7.0, 7.0], &[1.0, 1.0], true);
        // Exclusive or: two features do not do, their product does.
        let (x, y, signs) = ([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0], [1.0, -1.0, -1.0, 1.0]);
        check(&[x, y].concat(), &signs, false);
        check(&[x, y, [0.0, 0.0, 0.0, 1.0]].concat(), &signs, true);
    }

    #[test]
    fn random_points_separate_as_often_as_cover_says() {
        // Cover 1965: of the 2^P signs C(P, n) = 2 Σ_{k ≤ n} (P−1 over k) are separable in n dimensions with a threshold.
        let (points, trials) = (20, 400);
        let mut separator = Separator::default();
        let mut stream = Streams::new(1, "test").stream("points");
        for dimensions in [5usize, 8, 9, 11, 14] {
            let mut found = 0;
            for _ in 0..trials {
                let mut columns = vec![0.0; points * dimensions];
                stream.fill_normal(&mut columns);
                let signs: Vec<f64> =
                    (0..points).map(|_| if stream.below(2) == 0 { 1.0 } else { -1.0 }).collect();
                found += usize::from(separator.separates(&columns, &signs).unwrap());
            }
            let mut choose = 1.0;
            let mut sum = 0.0;
            for k in 0..=dimensions {
                sum += choose;
                choose *= (points - 1 - k) as f64 / (k + 1) as f64;
            }
            let expected = sum / 2f64.powi(points as i32 - 1);
            let fraction = found as f64 / f64::from(trials);
            let deviation = (expected * (1.0 - expected) / f64::from(trials)).sqrt();
            assert!(
                (fraction - expected).abs() < 4.5 * deviation + 1e-3,
                "{dimensions}: {fraction}, not {expected}"
            );
        }
    }

    #[test]
    fn a_margin_however_thin_is_found_and_a_touch_is_none() {
        // 500 points on a circle and the same scaled: apart by a paraboloid, not by a plane.
        let angle = |i: usize| i as f64 * 0.0251;
        let mut separator = Separator::default();
        let signs: Vec<f64> = (0..500).map(|i| if i < 250 { 1.0 } else { -1.0 }).collect();
        let size = |i: usize| if i < 250 { 1.0 } else { 1.01 };
        let x: Vec<f64> = (0..500).map(|i| size(i) * angle(i).cos()).collect();
        let y: Vec<f64> = (0..500).map(|i| size(i) * angle(i).sin()).collect();
        let z: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x * x + y * y).collect();
        assert!(!separator.separates(&[x.clone(), y.clone()].concat(), &signs).unwrap());
        assert!(separator.separates(&[x, y, z].concat(), &signs).unwrap());
    }
}
