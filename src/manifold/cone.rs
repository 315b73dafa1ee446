//! Projection onto a cone of thousands of generators, of which few carry the projection.
//!
//! A *working set* of generators is solved by [`Nnls`]; then all generators are held against the solution, and those
//! that it violates most join the set (column generation; Dantzig & Wolfe, Oper. Res. 8, 101, 1960). The end is the
//! projection onto the whole cone, and the Gram matrix in use stays small.

use super::nnls::{Nnls, NotConverged};

/// Generators that the working set begins with, at most.
const FIRST: usize = 128;
/// Generators that join it in a round, at most.
const GROWTH: usize = 64;
/// Constraints violated by less than this fraction of the largest `|c|` count as met, as in [`Nnls`].
const SLACK_TOLERANCE: f64 = 1e-12;

/// The generators of a cone.
pub trait Generators {
    /// Returns the inner product of two generators.
    fn product(&self, i: usize, j: usize) -> f64;

    /// Writes the inner products of every generator with a combination of some.
    fn products_with(&self, indices: &[usize], weights: &[f64], products: &mut [f64]);
}

/// A workspace for projections, with the outcome of the last one.
#[derive(Clone, Debug)]
pub struct Projector {
    nnls: Nnls,
    working: Vec<usize>,
    /// Whether each generator is in the working set.
    works: Vec<bool>,
    /// Inner products within the working set, row-major.
    gram: Vec<f64>,
    /// The linear term of the working set.
    linear: Vec<f64>,
    /// The support and its weights, by position in the working set.
    places: Vec<usize>,
    weights: Vec<f64>,
    support: Vec<usize>,
    products: Vec<f64>,
}

impl Default for Projector {
    fn default() -> Self {
        Self::new()
    }
}

impl Projector {
    /// Makes a workspace for problems of any size.
    pub fn new() -> Self {
        Self {
            nnls: Nnls::new(0),
            working: Vec::new(),
            works: Vec::new(),
            gram: Vec::new(),
            linear: Vec::new(),
            places: Vec::new(),
            weights: Vec::new(),
            support: Vec::new(),
            products: Vec::new(),
        }
    }

    /// Projects the vector whose inner products with the generators are `linear`.
    pub fn project(
        &mut self,
        generators: &impl Generators,
        linear: &[f64],
    ) -> Result<(), NotConverged> {
        let first = largest(linear, FIRST, |i| linear[i] > 0.0);
        self.begin(linear.len(), &first);
        while !self.round(generators, linear)? {}
        Ok(())
    }

    /// Begins a projection with a working set of different generators.
    pub fn begin(&mut self, count: usize, first: &[usize]) {
        for numbers in [&mut self.gram, &mut self.linear, &mut self.weights] {
            numbers.clear();
        }
        self.places.clear();
        self.support.clear();
        self.works.clear();
        self.works.resize(count, false);
        self.products.clear();
        self.products.resize(count, 0.0);
        self.working.clear();
        self.working.extend_from_slice(first);
    }

    /// Solves for the working set and lets it grow; tells whether the projection was found.
    pub fn round(
        &mut self,
        generators: &impl Generators,
        linear: &[f64],
    ) -> Result<bool, NotConverged> {
        self.multiply(generators, linear);
        self.nnls.resize(self.working.len());
        self.nnls.solve_from(&self.gram, &self.linear, (&self.places, &self.weights))?;
        self.places.clear();
        self.places.extend_from_slice(self.nnls.support());
        self.weights.clear();
        self.weights.extend_from_slice(self.nnls.weights());
        self.support.clear();
        self.support.extend(self.places.iter().map(|&place| self.working[place]));
        generators.products_with(&self.support, &self.weights, &mut self.products);
        let scale = linear.iter().fold(0.0f64, |largest, c| largest.max(c.abs()));
        let slack: Vec<f64> = linear.iter().zip(&self.products).map(|(c, p)| c - p).collect();
        // What the set holds already is as good as the solver can make it.
        let violated = |i: usize| !self.works[i] && slack[i] > SLACK_TOLERANCE * scale;
        let joining = largest(&slack, GROWTH, violated);
        self.working.extend_from_slice(&joining);
        Ok(joining.is_empty())
    }

    /// Lists the generators with a positive weight.
    pub fn support(&self) -> &[usize] {
        &self.support
    }

    /// Lists the weights of the support, in its order.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Lists the inner products of every generator with the projection.
    pub fn products(&self) -> &[f64] {
        &self.products
    }

    /// Brings the Gram matrix up to the working set.
    fn multiply(&mut self, generators: &impl Generators, linear: &[f64]) {
        let (old, size) = (self.linear.len(), self.working.len());
        self.gram.resize(size * size, 0.0);
        // Rows move apart, the last one first.
        for row in (1..old).rev() {
            self.gram.copy_within(row * old..(row + 1) * old, row * size);
        }
        for row in old..size {
            let index = self.working[row];
            self.works[index] = true;
            self.linear.push(linear[index]);
            for column in 0..=row {
                let product = generators.product(index, self.working[column]);
                self.gram[row * size + column] = product;
                self.gram[column * size + row] = product;
            }
        }
    }
}

/// Lists the positions of the largest values among those that pass, at most `count`, in ascending order.
pub fn largest(values: &[f64], count: usize, passes: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut found: Vec<usize> = (0..values.len()).filter(|&i| passes(i)).collect();
    if found.len() > count {
        found.select_nth_unstable_by(count, |&a, &b| {
            values[b].total_cmp(&values[a]).then(a.cmp(&b))
        });
        found.truncate(count);
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifold::arithmetic::{add_scaled, dot};
    use crate::rng::Streams;

    /// Generators by their coordinates.
    struct Rows<'a>(&'a [f64], usize);

    impl Rows<'_> {
        fn row(&self, i: usize) -> &[f64] {
            &self.0[i * self.1..(i + 1) * self.1]
        }
    }

    impl Generators for Rows<'_> {
        fn product(&self, i: usize, j: usize) -> f64 {
            dot(self.row(i), self.row(j))
        }
        fn products_with(&self, indices: &[usize], weights: &[f64], products: &mut [f64]) {
            let mut sum = vec![0.0; self.1];
            for (&i, &weight) in indices.iter().zip(weights) {
                add_scaled(&mut sum, weight, self.row(i));
            }
            for (i, product) in products.iter_mut().enumerate() {
                *product = dot(self.row(i), &sum);
            }
        }
    }

    #[test]
    fn the_projection_is_that_of_the_whole_cone() {
        let mut stream = Streams::new(1, "test").stream("cone");
        let mut projector = Projector::new();
        // Half of the generators on one side: few, many and none of 1000 are in the working set at the end.
        for (count, rank) in [(3, 5), (300, 30), (1000, 80), (1000, 400)] {
            let mut rows = vec![0.0; count * rank];
            stream.fill_normal(&mut rows);
            rows.iter_mut().step_by(rank).for_each(|first| *first = first.abs());
            let mut target = vec![0.0; rank];
            stream.fill_normal(&mut target);
            let rows = Rows(&rows, rank);
            let linear: Vec<f64> = (0..count).map(|i| dot(rows.row(i), &target)).collect();
            projector.project(&rows, &linear).unwrap();
            for (i, (c, p)) in linear.iter().zip(projector.products()).enumerate() {
                let slack = c - p;
                let active = projector.support().contains(&i);
                assert!(slack < 1e-10 && (!active || slack > -1e-10), "{count} {rank}: {slack}");
            }
            assert!(projector.weights().iter().all(|&weight| weight > 0.0));
        }
        projector.project(&Rows(&[1.0, 2.0], 1), &[-1.0, -2.0]).unwrap();
        assert!(projector.support().is_empty());
    }

    #[test]
    fn the_largest_are_chosen_by_value_then_by_place() {
        let values = [1.0, 3.0, 2.0, 3.0, 3.0, 0.0];
        assert_eq!(largest(&values, 2, |_| true), [1, 3]);
        assert_eq!(largest(&values, 4, |_| true), [1, 2, 3, 4]);
        assert_eq!(largest(&values, 9, |i| values[i] < 2.5), [0, 2, 5]);
    }
}
