//! What a search needs of a loss: its value, gradient and Hessian products at a point.

use crate::landscape::vector;

/// A twice differentiable function of `dim()` parameters.
pub trait Objective: Sync {
    /// Returns the number of parameters.
    fn dim(&self) -> usize;

    /// Evaluates loss and gradient at `theta`, which has `dim()` entries, and keeps what Hessian products need.
    ///
    /// A parameter that is not finite yields a loss or gradient that is not finite, never a panic.
    fn evaluate(&self, theta: &[f64]) -> Box<dyn Point + '_>;
}

/// A matrix of second derivatives at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// Those of the loss.
    Hessian,
    /// J'CJ, of the outputs' derivatives J and the cost's second derivatives by the outputs C, plus the regularizer's.
    GaussNewton,
}

/// An objective evaluated at one point.
pub trait Point: Sync {
    /// Returns the loss.
    fn loss(&self) -> f64;

    /// Returns the gradient, one entry a parameter.
    fn gradient(&self) -> &[f64];

    /// Writes the Hessian at this point times `v` into `out`; both have one entry a parameter.
    fn hessian_vector(&self, v: &[f64], out: &mut [f64]);

    /// Writes the Hessian at this point times each of `vectors` into `out`; both hold one vector after the other.
    fn hessian_vectors(&self, vectors: &[f64], out: &mut [f64]) {
        let dim = self.gradient().len();
        for (v, out) in vectors.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
            self.hessian_vector(v, out);
        }
    }

    /// Writes the Gauss-Newton matrix at this point times each of `vectors` into `out`, one after the other.
    ///
    /// The part of the Hessian that curves with the cost alone, and positive semidefinite ([`Matrix::GaussNewton`]).
    /// `None` where the loss is no cost of a model's outputs, and `out` is left as it was.
    fn gauss_newton_vectors(&self, vectors: &[f64], out: &mut [f64]) -> Option<()> {
        let _ = (vectors, out);
        None
    }

    /// Returns the squared Euclidean norm of the gradient.
    fn squared_gradient_norm(&self) -> f64 {
        vector::norm_squared(self.gradient())
    }

    /// Tells whether loss and gradient are finite.
    fn is_finite(&self) -> bool {
        self.loss().is_finite() && self.squared_gradient_norm().is_finite()
    }
}

/// A quartic of two parameters with one critical point and two strict gradient-flat points.
///
/// f = x^4/4 - 3x^2 + 9x + 0.9y^4 + 5y^2 + 40, after Frye's thesis (Berkeley 2020), ch. 3. The critical point is
/// (-3, 0) with f = 6.25. The gradient lies in the kernel of the Hessian diag(3x^2 - 6, 10.8y^2 + 10) at
/// (sqrt 2, 0), a local minimum of the gradient norm, and at (-sqrt 2, 0), a saddle of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quartic;

impl Objective for Quartic {
    fn dim(&self) -> usize {
        2
    }

    fn evaluate(&self, theta: &[f64]) -> Box<dyn Point + '_> {
        let &[x, y] = theta else { panic!("the quartic has 2 parameters, not {}", theta.len()) };
        let (x2, y2) = (x * x, y * y);
        Box::new(QuarticPoint {
            loss: x2 * x2 / 4.0 - 3.0 * x2 + 9.0 * x + 0.9 * y2 * y2 + 5.0 * y2 + 40.0,
            gradient: [x * x2 - 6.0 * x + 9.0, 3.6 * y * y2 + 10.0 * y],
            hessian: [3.0 * x2 - 6.0, 10.8 * y2 + 10.0],
        })
    }
}

struct QuarticPoint {
    loss: f64,
    gradient: [f64; 2],
    /// The diagonal; the rest is zero.
    hessian: [f64; 2],
}

impl Point for QuarticPoint {
    fn loss(&self) -> f64 {
        self.loss
    }

    fn gradient(&self) -> &[f64] {
        &self.gradient
    }

    fn hessian_vector(&self, v: &[f64], out: &mut [f64]) {
        for ((out, h), v) in out.iter_mut().zip(self.hessian).zip(v) {
            *out = h * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quartic_has_its_critical_and_gradient_flat_points() {
        let at = |x: f64, y: f64| {
            let point = Quartic.evaluate(&[x, y]);
            let mut hg = [0.0; 2];
            point.hessian_vector(point.gradient(), &mut hg);
            (point.loss(), point.squared_gradient_norm(), vector::norm(&hg))
        };
        assert_eq!(at(-3.0, 0.0), (6.25, 0.0, 0.0));
        for (x, squared_norm) in [
            (2f64.sqrt(), (9.0 - 4.0 * 2f64.sqrt()).powi(2)),
            (-(2f64.sqrt()), (9.0 + 4.0 * 2f64.sqrt()).powi(2)),
        ] {
            let (_, s, hg) = at(x, 0.0);
            assert!((s - squared_norm).abs() < 1e-12 * squared_norm, "{s}");
            assert!(hg < 1e-13, "{hg}");
        }
        assert!((at(2f64.sqrt(), 0.0).0 - 47.7279).abs() < 1e-4);
    }
}
