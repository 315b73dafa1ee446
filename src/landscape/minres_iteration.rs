//! One iteration of MINRES-QLP: rotations from both sides after a Lanczos step, and the update of the solution.

use crate::landscape::{
    krylov::{Lanczos, length},
    minres_qlp::{Flag, Report, Solution, SolverOptions},
    vector,
};

/// The state after k iterations, in the letters of Choi et al. 2011.
///
/// Arrays hold values at k, k-1, k-2 in this order. L, the lower triangular factor, has the diagonal gamma, the
/// subdiagonal theta and eta below it; mu solves L mu = tau.
pub(super) struct Iteration {
    /// k.
    count: usize,
    /// What is added to the diagonal of the matrix of the Lanczos process; A is the sum.
    shift: f64,
    norm_b: f64,
    /// ||Ab|| / ||b||.
    image_norm: f64,
    left: Rotation,
    /// The rotation from the right of columns k-1 and k.
    near: Rotation,
    /// The rotation from the right of columns k-2 and k, or k-1 and k+1 between iterations.
    far: Rotation,
    delta_next: f64,
    epsilon_next: f64,
    gamma: [f64; 3],
    eta: [f64; 3],
    theta: [f64; 3],
    /// The estimate of ||b - Ax||, and the same without a component of mu that was refused.
    phi: f64,
    residual_norm: f64,
    tau: [f64; 3],
    /// mu at k and k-1, which later iterations still change.
    mu: [f64; 2],
    /// mu at k-2, k-3, k-4, which is final.
    settled_mu: [f64; 3],
    /// The directions w that belong to `mu`.
    w: [Vec<f64>; 2],
    /// The part of x that is final, and its norm.
    settled: Vec<f64>,
    settled_norm: f64,
    x: Vec<f64>,
    xnorm: f64,
    axnorm: f64,
    anorm: f64,
    /// At k and k-1.
    acond: [f64; 2],
    /// The smallest gamma, at k and k-1.
    smallest: [f64; 2],
}

impl Iteration {
    pub(super) fn new(b: &[f64], shift: f64) -> Self {
        let norm_b = vector::norm(b);
        let zeros = || vec![0.0; b.len()];
        Self {
            count: 0,
            shift,
            norm_b,
            image_norm: 0.0,
            left: Rotation::START,
            near: Rotation::START,
            far: Rotation::START,
            delta_next: 0.0,
            epsilon_next: 0.0,
            gamma: [0.0; 3],
            eta: [0.0; 3],
            theta: [0.0; 3],
            phi: norm_b,
            residual_norm: norm_b,
            tau: [0.0; 3],
            mu: [0.0; 2],
            settled_mu: [0.0; 3],
            w: [zeros(), zeros()],
            settled: zeros(),
            settled_norm: 0.0,
            x: zeros(),
            xnorm: 0.0,
            axnorm: 0.0,
            anorm: 0.0,
            acond: [1.0; 2],
            smallest: [0.0; 2],
        }
    }

    /// Carries out one iteration after a Lanczos step; returns a flag if it is the last.
    pub(super) fn step<A: FnMut(&[f64], &mut [f64])>(
        &mut self,
        lanczos: &Lanczos,
        multiply: &mut A,
        limit: usize,
        options: &SolverOptions,
    ) -> Option<Flag> {
        self.count += 1;
        let alpha = lanczos.alpha + self.shift;
        let [beta_next, beta, beta_last] = lanczos.beta;
        if self.count == 1 {
            self.image_norm = length([alpha, beta_next]);
            if beta_next == 0.0 {
                return Some(self.eigenvector(&lanczos.v, alpha, options.norm_limit));
            }
        } else if self.count == 2 && self.kernel_holds_b(length([beta, alpha, beta_next])) {
            return Some(Flag::LeastSquaresToRounding);
        }
        let row_norm = length([beta_last, alpha, beta_next]);
        let gamma_bar = self.rotate(alpha, beta_next);
        let refused = self.components(options.norm_limit);
        self.extend(&lanczos.v);
        (self.far, self.gamma[1]) = Rotation::of(self.gamma[1], self.epsilon_next);
        self.estimate(row_norm, refused);
        if !(self.phi + self.xnorm + self.anorm).is_finite() {
            return Some(Flag::NotFinite);
        }
        if refused.is_some() && self.count == 1 {
            // Without a second iteration there is no estimate of ||A|| to hold ||Ab|| against, so one is made.
            let norm = lanczos.next_image_norm(multiply, self.shift);
            if self.kernel_holds_b(norm) {
                return Some(Flag::LeastSquaresToRounding);
            }
        }
        if refused == Some(Flag::NormLimit) {
            return refused;
        }
        let relares = length([gamma_bar, self.delta_next]) / self.anorm;
        self.stop(relares, limit, options).or(refused)
    }

    /// Tells whether Ab is zero up to rounding, given a bound of ||A|| from below; if so, x becomes 0.
    fn kernel_holds_b(&mut self, norm: f64) -> bool {
        let rounding = 16.0 * f64::EPSILON * (self.x.len() as f64).sqrt();
        let holds = self.image_norm <= rounding * norm;
        if holds {
            self.anorm = self.anorm.max(norm);
            self.x.fill(0.0);
        }
        holds
    }

    /// Solves the system where b is an eigenvector, with eigenvalue `alpha`.
    fn eigenvector(&mut self, v: &[f64], alpha: f64, norm_limit: f64) -> Flag {
        self.anorm = alpha.abs();
        if alpha == 0.0 {
            return Flag::Zero;
        }
        let factor = self.norm_b / alpha;
        if !factor.is_finite() {
            return Flag::NotFinite;
        }
        if factor.abs() > norm_limit {
            return Flag::NormLimit;
        }
        vector::add_scaled(factor, v, &mut self.x);
        self.axnorm = self.norm_b;
        Flag::Eigenvector
    }

    /// Takes column k of the tridiagonal matrix into L; returns its diagonal entry before the current left rotation.
    fn rotate(&mut self, alpha: f64, beta_next: f64) -> f64 {
        let Rotation { c, s } = self.left;
        let mut delta = c * self.delta_next + s * alpha;
        let gamma_bar = s * self.delta_next - c * alpha;
        self.epsilon_next = s * beta_next;
        self.delta_next = -c * beta_next;
        let (left, gamma) = Rotation::of(gamma_bar, beta_next);
        self.left = left;
        push(&mut self.gamma, gamma);
        push(&mut self.tau, left.c * self.phi);
        self.axnorm = length([self.axnorm, self.tau[0]]);
        self.phi *= left.s;
        if self.count > 2 {
            let Rotation { c, s } = self.far;
            let theta = self.theta[0];
            push(&mut self.theta, 0.0);
            self.theta[1] = c * theta + s * delta;
            delta = s * theta - c * delta;
            push(&mut self.eta, s * gamma);
            self.gamma[0] = -c * gamma;
        }
        if self.count > 1 {
            (self.near, self.gamma[1]) = Rotation::of(self.gamma[1], delta);
            self.theta[0] = self.near.s * self.gamma[0];
            self.gamma[0] *= -self.near.c;
        }
        gamma_bar
    }

    /// Solves for the last three entries of mu; returns a flag where the last one had to be left out.
    fn components(&mut self, norm_limit: f64) -> Option<Flag> {
        let (tau, eta, theta, gamma) = (self.tau, self.eta, self.theta, self.gamma);
        push(&mut self.settled_mu, 0.0);
        let [two, three, four] = &mut self.settled_mu;
        if self.count > 2 {
            *two = (tau[2] - eta[2] * *four - theta[2] * *three) / gamma[2];
        }
        if self.count > 1 {
            self.mu[1] = (tau[1] - eta[1] * *three - theta[1] * *two) / gamma[1];
        }
        let norm = length([self.settled_norm, *two, self.mu[1]]);
        let last = (tau[0] - eta[0] * *two - theta[0] * self.mu[1]) / gamma[0];
        let refused = if gamma[0].abs() <= f64::MIN_POSITIVE || norm >= norm_limit {
            Some(Flag::Singular)
        } else if length([norm, last]) > norm_limit {
            Some(Flag::NormLimit)
        } else {
            None
        };
        self.mu[0] = if refused.is_some() { 0.0 } else { last };
        self.settled_norm = length([self.settled_norm, *two]);
        self.xnorm = length([self.settled_norm, self.mu[1], self.mu[0]]);
        refused
    }

    /// Rotates the Lanczos vector into the directions w and forms x.
    fn extend(&mut self, v: &[f64]) {
        let (near, far) = (self.near, self.far);
        let [mu, mu_last] = self.mu;
        let settled_mu = self.settled_mu[0];
        let early = self.count <= 2;
        let [w, w_last] = &mut self.w;
        let lasts = w_last.iter_mut().zip(&mut self.settled).zip(&mut self.x);
        for ((w, v), ((w_last, settled), x)) in w.iter_mut().zip(v).zip(lasts) {
            let (done, fresh) = if early {
                (0.0, *v)
            } else {
                (far.c * *w_last + far.s * v, far.s * *w_last - far.c * v)
            };
            *w_last = near.c * *w + near.s * fresh;
            *w = near.s * *w - near.c * fresh;
            *settled += settled_mu * done;
            *x = *settled + mu_last * *w_last + mu * *w;
        }
    }

    /// Updates the estimates of the norm of A, its condition and the residual.
    fn estimate(&mut self, row_norm: f64, refused: Option<Flag>) {
        let [gamma, gamma_last, _] = self.gamma;
        self.anorm = self.anorm.max(row_norm).max(gamma_last).max(gamma.abs());
        let [smallest, smallest_last] = self.smallest;
        self.smallest = if self.count == 1 {
            [gamma, gamma]
        } else {
            [smallest_last.min(gamma_last).min(gamma.abs()), smallest]
        };
        self.acond = [self.anorm / self.smallest[0], self.acond[0]];
        if refused != Some(Flag::Singular) {
            self.residual_norm = self.phi;
        }
    }

    /// Tells whether the iteration ends; `relares` belongs to the iterate before.
    fn stop(&self, relares: f64, limit: usize, options: &SolverOptions) -> Option<Flag> {
        let relres = self.residual_norm / (self.anorm * self.xnorm + self.norm_b);
        let tests = [
            (self.xnorm >= options.norm_limit, Flag::NormLimit),
            (self.acond[0] >= options.condition_limit, Flag::ConditionLimit),
            (relres <= options.rtol, Flag::Solved),
            (relares <= options.rtol, Flag::LeastSquares),
            (1.0 + relres <= 1.0, Flag::SolvedToRounding),
            (1.0 + relares <= 1.0, Flag::LeastSquaresToRounding),
            (self.anorm * self.xnorm * f64::EPSILON >= self.norm_b, Flag::ConvergedToEigenvector),
            (self.count >= limit, Flag::IterationLimit),
        ];
        tests.into_iter().find_map(|(holds, flag)| holds.then_some(flag))
    }

    /// Returns x, which is not finite where the recurrences are not.
    pub(super) fn x(&self) -> &[f64] {
        &self.x
    }

    /// Reports on the solution with residuals computed anew, by two more products.
    pub(super) fn finish<A: FnMut(&[f64], &mut [f64])>(
        mut self,
        mut multiply: A,
        b: &[f64],
        mut flag: Flag,
    ) -> Solution {
        let shift = self.shift;
        let mut apply = |v: &[f64], out: &mut [f64]| {
            multiply(v, out);
            if shift != 0.0 {
                vector::add_scaled(shift, v, out);
            }
        };
        let (mut image, mut normal) = (vec![0.0; b.len()], vec![0.0; b.len()]);
        if self.x.iter().any(|x| !x.is_finite()) {
            flag = Flag::NotFinite;
        }
        if flag == Flag::NotFinite {
            self.x.fill(0.0);
        } else {
            apply(&self.x, &mut image);
        }
        let residual: Vec<f64> = b.iter().zip(&image).map(|(b, image)| b - image).collect();
        if flag != Flag::NotFinite {
            apply(&residual, &mut normal);
        }
        let rolled_back = flag.rolls_back();
        let xnorm = vector::norm(&self.x);
        let residual_norm = vector::norm(&residual);
        let report = Report {
            flag,
            iterations: self.count - usize::from(rolled_back && self.count > 0),
            relres: quotient(residual_norm, self.anorm * xnorm + self.norm_b),
            relares: quotient(vector::norm(&normal), self.anorm * residual_norm),
            anorm: self.anorm,
            acond: self.acond[usize::from(rolled_back)],
            xnorm,
            axnorm: self.axnorm,
        };
        Solution { x: self.x, image, report }
    }
}

/// A plane rotation with c^2 + s^2 = 1.
#[derive(Clone, Copy)]
struct Rotation {
    c: f64,
    s: f64,
}

impl Rotation {
    /// What the recurrences begin with.
    const START: Self = Self { c: -1.0, s: 0.0 };

    /// Returns the rotation that takes (a, b) to (r, 0), and r >= 0 (`SymOrtho` of Choi et al. 2011).
    fn of(a: f64, b: f64) -> (Self, f64) {
        let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
        if b == 0.0 {
            (Self { c: if a == 0.0 { 1.0 } else { sign(a) }, s: 0.0 }, a.abs())
        } else if a == 0.0 {
            (Self { c: 0.0, s: sign(b) }, b.abs())
        } else if b.abs() > a.abs() {
            let t = a / b;
            let s = sign(b) / (1.0 + t * t).sqrt();
            (Self { c: s * t, s }, b / s)
        } else {
            let t = b / a;
            let c = sign(a) / (1.0 + t * t).sqrt();
            (Self { c, s: c * t }, a / c)
        }
    }
}

/// Divides, with 0 / 0 = 0.
fn quotient(numerator: f64, denominator: f64) -> f64 {
    if numerator == 0.0 { 0.0 } else { numerator / denominator }
}

/// Moves the entries up by one and puts `value` first.
fn push<const N: usize>(values: &mut [f64; N], value: f64) {
    values.rotate_right(1);
    values[0] = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landscape::krylov::Basis;

    #[test]
    fn a_zero_pivot_is_refused_and_told_as_an_infinite_condition() {
        // Tridiagonal and singular: the Lanczos vectors are the unit vectors, and all numbers but square roots of 2
        // exact.
        let mut multiply = |v: &[f64], out: &mut [f64]| {
            out.copy_from_slice(&[v[1], v[0] + v[2], v[1]]);
        };
        let options = SolverOptions {
            rtol: 0.0,
            norm_limit: f64::INFINITY,
            condition_limit: f64::INFINITY,
            ..SolverOptions::default()
        };
        let b = [1.0, 0.0, 0.0];
        let mut lanczos = Lanczos::new(&b, Basis::Passing);
        let mut iteration = Iteration::new(&b, 0.0);
        let mut flags = Vec::new();
        for _ in 0..3 {
            lanczos.step(&mut multiply);
            flags.push(iteration.step(&lanczos, &mut multiply, 3, &options));
        }
        assert_eq!(flags, [None, None, Some(Flag::ConditionLimit)]);
        assert_eq!((iteration.gamma[0], iteration.mu[0]), (0.0, 0.0));
        // The pseudo-inverse of the matrix times b.
        let error = vector::norm(&vector::moved(iteration.x(), -1.0, &[0.0, 0.5, 0.0]));
        assert!(error < 1e-15, "{:?}", iteration.x());
    }

    #[test]
    fn what_is_refused_is_told_apart() {
        let refuse = |gamma: f64, settled_norm: f64, norm_limit: f64| {
            let mut iteration = Iteration::new(&[1.0], 0.0);
            (iteration.count, iteration.tau[0], iteration.gamma[0]) = (1, 3.0, gamma);
            iteration.settled_norm = settled_norm;
            (iteration.components(norm_limit), iteration.mu[0])
        };
        assert_eq!(refuse(2.0, 0.0, 10.0), (None, 1.5));
        assert_eq!(refuse(2.0, 0.0, 1.0), (Some(Flag::NormLimit), 0.0));
        assert_eq!(refuse(0.0, 0.0, 10.0), (Some(Flag::Singular), 0.0));
        assert_eq!(refuse(2.0, 10.0, 10.0), (Some(Flag::Singular), 0.0));
        assert_eq!(Flag::Singular.code(), 9);
    }
}
