//! Minimization over subspaces.
//!
//! A subspace is held as an orthonormal basis `V` (dimensions × rank); gradients and steps are *horizontal*, that is
//! orthogonal to it (Edelman, Arias & Smith, SIAM J. Matrix Anal. Appl. 20, 303, 1998). The minimizer is
//! limited-memory BFGS (Nocedal & Wright, *Numerical Optimization*, algorithm 7.4) with Gram–Schmidt as retraction.
//! A step and the change of the gradient along it are projected to be horizontal where the step led, which is a vector
//! transport of first order; older pairs are kept as they were, and only the direction made of all is projected again.

use std::collections::VecDeque;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

use super::arithmetic::{add_scaled, dot};

/// Steps whose curvature is remembered.
const MEMORY: usize = 6;
/// Fraction of the predicted decrease that a step must achieve (Armijo).
const SUFFICIENT_DECREASE: f64 = 1e-4;
/// Least cosine between a step and the change of the gradient along it.
const MIN_CURVATURE: f64 = 1e-10;
/// Halvings of a step before the search gives up.
const MAX_BACKTRACKS: usize = 30;
/// Longest step, in radians.
const MAX_STEP: f64 = 1.0;

/// A function of a subspace.
pub trait Objective {
    /// Returns the cost at an orthonormal basis; infinity where it is undefined.
    fn evaluate(&mut self, basis: MatRef<'_, f64>) -> f64;

    /// Writes the Euclidean gradient at the basis evaluated last; at most once an evaluation.
    fn gradient(&mut self, gradient: MatMut<'_, f64>);
}

/// When to stop.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Steps at most.
    pub max_iterations: usize,
    /// Stop once the gradient's norm falls to this fraction of the cost.
    pub gradient_tolerance: f64,
    /// Asked before each step; the point reached so far is returned.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// A subspace at which a minimization ended.
#[derive(Clone, Debug)]
pub struct Minimum {
    /// Orthonormal basis, dimensions × rank.
    pub basis: Mat<f64>,
    /// The cost there; infinity when the start was no valid point.
    pub cost: f64,
    /// Norm of the horizontal gradient there.
    pub gradient_norm: f64,
    /// Steps taken.
    pub iterations: usize,
}

/// Minimizes from the span of `start` (dimensions × rank, full rank).
pub fn minimize(objective: &mut impl Objective, start: &Mat<f64>, limits: &Limits<'_>) -> Minimum {
    let shape = Shape { rows: start.nrows(), rank: start.ncols() };
    let mut point = shape.start(objective, start);
    let mut memory = Memory::default();
    let mut iterations = 0;
    while point.cost.is_finite()
        && iterations < limits.max_iterations
        && norm(&point.gradient) > limits.gradient_tolerance * point.cost
        && !(limits.stop)()
    {
        let mut direction = memory.direction(&point.gradient);
        shape.make_horizontal(&point.basis, &mut direction);
        if dot(&point.gradient, &direction) >= 0.0 {
            memory.forget();
            direction = memory.direction(&point.gradient);
        }
        let first = memory.first_step().min(MAX_STEP / norm(&direction));
        match shape.search(objective, &point, &direction, first) {
            Some((length, next)) => {
                memory.remember(shape, &point, &direction, length, &next);
                point = next;
                iterations += 1;
            }
            None if memory.pairs.is_empty() => break,
            None => memory.forget(),
        }
    }
    Minimum {
        basis: shape.view(&point.basis).to_owned(),
        cost: point.cost,
        gradient_norm: norm(&point.gradient),
        iterations,
    }
}

/// A subspace with its cost. Matrices are flat and column-major here.
struct Point {
    basis: Vec<f64>,
    cost: f64,
    /// The horizontal gradient.
    gradient: Vec<f64>,
}

/// The shape of bases, gradients and steps.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    rank: usize,
}

impl Shape {
    fn start(self, objective: &mut impl Objective, start: &Mat<f64>) -> Point {
        let mut basis: Vec<f64> =
            (0..self.rank).flat_map(|k| start.col_as_slice(k)).copied().collect();
        // Twice for starts whose columns are nearly dependent.
        self.orthonormalize(&mut basis);
        self.orthonormalize(&mut basis);
        let cost = objective.evaluate(self.view(&basis));
        let mut point = Point { gradient: vec![0.0; basis.len()], basis, cost };
        if cost.is_finite() {
            self.fill_gradient(objective, &mut point);
        }
        point
    }

    /// Shortens a step until it lowers the cost enough; returns its length and where it leads.
    fn search(
        self,
        objective: &mut impl Objective,
        point: &Point,
        direction: &[f64],
        first: f64,
    ) -> Option<(f64, Point)> {
        let slope = dot(&point.gradient, direction);
        let mut length = first;
        for _ in 0..MAX_BACKTRACKS {
            let mut basis = point.basis.clone();
            add_scaled(&mut basis, length, direction);
            self.orthonormalize(&mut basis);
            let cost = objective.evaluate(self.view(&basis));
            if cost <= point.cost + SUFFICIENT_DECREASE * length * slope {
                let mut next = Point { gradient: vec![0.0; basis.len()], basis, cost };
                self.fill_gradient(objective, &mut next);
                return Some((length, next));
            }
            // The minimum of the parabola through both costs and the slope, if it lies well inside.
            let parabola = 0.5 * slope * length / (slope - (cost - point.cost) / length);
            length =
                if parabola.is_finite() { parabola } else { 0.0 }.clamp(0.1 * length, 0.5 * length);
        }
        None
    }

    fn fill_gradient(self, objective: &mut impl Objective, point: &mut Point) {
        objective.gradient(self.view_mut(&mut point.gradient));
        self.make_horizontal(&point.basis, &mut point.gradient);
    }

    /// Removes the part of a direction that lies in the subspace.
    fn make_horizontal(self, basis: &[f64], direction: &mut [f64]) {
        let mut inside = Mat::zeros(self.rank, self.rank);
        let basis = self.view(basis);
        let whole = self.view(direction);
        matmul(&mut inside, Accum::Replace, basis.transpose(), whole, 1.0, Par::Seq);
        matmul(self.view_mut(direction), Accum::Add, basis, &inside, -1.0, Par::Seq);
    }

    /// Turns columns into an orthonormal basis of their span (modified Gram–Schmidt).
    fn orthonormalize(self, basis: &mut [f64]) {
        for j in 0..self.rank {
            let (done, rest) = basis.split_at_mut(j * self.rows);
            let column = &mut rest[..self.rows];
            for other in done.chunks_exact(self.rows) {
                add_scaled(column, -dot(other, column), other);
            }
            let inverse = 1.0 / norm(column);
            for entry in column {
                *entry *= inverse;
            }
        }
    }

    fn view(self, numbers: &[f64]) -> MatRef<'_, f64> {
        MatRef::from_column_major_slice(numbers, self.rows, self.rank)
    }

    fn view_mut(self, numbers: &mut [f64]) -> MatMut<'_, f64> {
        MatMut::from_column_major_slice_mut(numbers, self.rows, self.rank)
    }
}

/// The curvature seen on the last steps.
#[derive(Default)]
struct Memory {
    /// Step, change of the gradient, and the inverse of their inner product; oldest first.
    pairs: VecDeque<(Vec<f64>, Vec<f64>, f64)>,
}

impl Memory {
    fn forget(&mut self) {
        self.pairs.clear();
    }

    /// Returns the step to try first: the quasi-Newton step is 1, a bare gradient may have any length.
    fn first_step(&self) -> f64 {
        if self.pairs.is_empty() { f64::INFINITY } else { 1.0 }
    }

    /// Notes what a step has shown, seen from where it led.
    fn remember(&mut self, shape: Shape, from: &Point, direction: &[f64], length: f64, to: &Point) {
        let mut step = vec![0.0; direction.len()];
        add_scaled(&mut step, length, direction);
        shape.make_horizontal(&to.basis, &mut step);
        let mut change = vec![0.0; direction.len()];
        add_scaled(&mut change, -1.0, &from.gradient);
        shape.make_horizontal(&to.basis, &mut change);
        add_scaled(&mut change, 1.0, &to.gradient);
        let curvature = dot(&step, &change);
        // Negative curvature would spoil the positive definite model.
        if curvature > MIN_CURVATURE * norm(&step) * norm(&change) {
            if self.pairs.len() == MEMORY {
                self.pairs.pop_front();
            }
            self.pairs.push_back((step, change, 1.0 / curvature));
        }
    }

    fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let mut direction: Vec<f64> = gradient.iter().map(|entry| -entry).collect();
        let mut along = Vec::with_capacity(MEMORY);
        for (step, change, inverse) in self.pairs.iter().rev() {
            let a = inverse * dot(step, &direction);
            add_scaled(&mut direction, -a, change);
            along.push(a);
        }
        if let Some((_, change, inverse)) = self.pairs.back() {
            let scale = 1.0 / (inverse * dot(change, change));
            for entry in &mut direction {
                *entry *= scale;
            }
        }
        for ((step, change, inverse), a) in self.pairs.iter().zip(along.iter().rev()) {
            let b = inverse * dot(change, &direction);
            add_scaled(&mut direction, a - b, step);
        }
        direction
    }
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    /// The variance that a subspace leaves of `diag(values)`: least for the largest values' axes.
    struct Leftover {
        values: Vec<f64>,
        basis: Mat<f64>,
    }

    impl Objective for Leftover {
        fn evaluate(&mut self, basis: MatRef<'_, f64>) -> f64 {
            self.basis = basis.to_owned();
            let held: f64 = (0..basis.nrows())
                .map(|i| {
                    self.values[i] * (0..basis.ncols()).map(|k| basis[(i, k)].powi(2)).sum::<f64>()
                })
                .sum();
            self.values.iter().sum::<f64>() - held
        }

        fn gradient(&mut self, mut gradient: MatMut<'_, f64>) {
            for k in 0..gradient.ncols() {
                for i in 0..gradient.nrows() {
                    gradient[(i, k)] = -2.0 * self.values[i] * self.basis[(i, k)];
                }
            }
        }
    }

    fn minimum(rank: usize, limits: &Limits<'_>) -> Minimum {
        let mut stream = Streams::new(1, "test").stream("start");
        let start = Mat::from_fn(20, rank, |_, _| stream.normal());
        let values = (0..20).map(|i| 1.0 / f64::from(i + 1)).collect();
        minimize(&mut Leftover { values, basis: Mat::zeros(0, 0) }, &start, limits)
    }

    #[test]
    fn the_principal_subspace_leaves_the_least() {
        let limits = Limits { max_iterations: 1000, gradient_tolerance: 1e-9, stop: &|| false };
        for rank in [1, 3, 7] {
            let expected: f64 = (rank..20).map(|i| 1.0 / (i + 1) as f64).sum();
            let found = minimum(rank, &limits);
            assert!((found.cost - expected).abs() < 1e-13, "{} {expected}", found.cost);
            assert!(found.gradient_norm <= 1e-9 * found.cost);
            let deviation =
                found.basis.transpose() * &found.basis - Mat::<f64>::identity(rank, rank);
            assert!(deviation.norm_max() < 1e-13);
        }
    }

    #[test]
    fn limits_end_the_search() {
        let limits = Limits { max_iterations: 3, gradient_tolerance: 0.0, stop: &|| false };
        assert_eq!(minimum(3, &limits).iterations, 3);
        assert_eq!(minimum(3, &Limits { stop: &|| true, ..limits }).iterations, 0);
        // Without a tolerance the search ends where rounding hides any decrease.
        let limits = Limits { max_iterations: usize::MAX, ..limits };
        assert!(minimum(3, &limits).iterations < 10_000);
    }
}
