//! Quadratic functions, whose searches have closed forms.

use faer::Mat;

use crate::{
    landscape::{
        objective::{Objective, Point},
        vector,
    },
    rng::Streams,
};

/// f = theta'A theta / 2 + b'theta for a symmetric A.
pub(super) struct Quadratic {
    pub(super) matrix: Mat<f64>,
    pub(super) linear: Vec<f64>,
}

impl Quadratic {
    /// A has the given eigenvalues on its diagonal; b is zero.
    pub(super) fn diagonal(values: &[f64]) -> Self {
        let matrix =
            Mat::from_fn(values.len(), values.len(), |i, j| if i == j { values[i] } else { 0.0 });
        Self { matrix, linear: vec![0.0; values.len()] }
    }

    /// A = Q diag(values) Q' with Q the sine transform; b is A times a normal vector, so that there is a critical point.
    pub(super) fn of_spectrum(values: &[f64]) -> Self {
        let n = values.len();
        let entry = |i: usize, j: usize| {
            let angle = std::f64::consts::PI * ((i + 1) * (j + 1)) as f64 / (n + 1) as f64;
            (2.0 / (n + 1) as f64).sqrt() * angle.sin()
        };
        let matrix = Mat::from_fn(n, n, |i, j| {
            (0..n).map(|k| entry(i, k) * values[k] * entry(j, k)).sum::<f64>()
        });
        let mut normal = vec![0.0; n];
        Streams::new(11, "test").stream("quadratic").fill_normal(&mut normal);
        let linear = (0..n).map(|i| (0..n).map(|j| matrix[(i, j)] * normal[j]).sum()).collect();
        Self { matrix, linear }
    }
}

struct QuadraticPoint<'a> {
    matrix: &'a Mat<f64>,
    loss: f64,
    gradient: Vec<f64>,
}

impl Objective for Quadratic {
    fn dim(&self) -> usize {
        self.linear.len()
    }

    fn evaluate(&self, theta: &[f64]) -> Box<dyn Point + '_> {
        let mut point =
            QuadraticPoint { matrix: &self.matrix, loss: 0.0, gradient: vec![0.0; theta.len()] };
        let mut gradient = vec![0.0; theta.len()];
        point.hessian_vector(theta, &mut gradient);
        point.loss = 0.5 * vector::dot(theta, &gradient) + vector::dot(theta, &self.linear);
        vector::add_scaled(1.0, &self.linear, &mut gradient);
        point.gradient = gradient;
        Box::new(point)
    }
}

impl Point for QuadraticPoint<'_> {
    fn loss(&self) -> f64 {
        self.loss
    }

    fn gradient(&self) -> &[f64] {
        &self.gradient
    }

    fn hessian_vector(&self, v: &[f64], out: &mut [f64]) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = (0..v.len()).map(|j| self.matrix[(i, j)] * v[j]).sum();
        }
    }
}
