//! Newton's methods in a search for critical points as parameters: their ranges, and what the science makes of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::stage::{Violation, each, violations};
use crate::landscape::damped_newton::DampedNewtonOptions;
use crate::landscape::minres_qlp::SolverOptions;
use crate::landscape::newton::{Inverse, NewtonOptions};
use crate::landscape::newton_mr::NewtonMrOptions;
use crate::landscape::saddle_free::SaddleFreeOptions;
use crate::landscape::search::SearchOptions;
use crate::omit::is_default;

/// Newton's method on the gradient, by minimum-length least-squares steps.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewtonMr {
    /// First step size, in (0, 1].
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    alpha: f64,
    /// What a refused step size is multiplied by, in (0, 1).
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    beta: f64,
    /// Share of the promised decrease that a step must bring, in (0, 1).
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    rho: f64,
    /// The same for the full step, which is tried first; not tried where 0.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pure_rho: f64,
    /// Tolerance of the inner solver on its relative residuals, above 0. How many points look gradient-flat depends on
    /// it.
    #[schemars(extend("exclusiveMinimum" = 0))]
    rtol: f64,
    /// Most inner iterations of a solve, at least 1; as many as there are parameters where absent.
    #[schemars(range(min = 1))]
    inner_iterations: Option<usize>,
    /// Largest norm of a step before the line search, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    norm_limit: f64,
    /// Largest condition number that is inverted, above 1.
    #[schemars(extend("exclusiveMinimum" = 1))]
    condition_limit: f64,
    /// Whether the solver keeps its Lanczos vectors orthogonal, for as many vectors of memory as it takes inner
    /// iterations. Published: no, so that ill-conditioned solves end before they are solved.
    #[serde(skip_serializing_if = "is_default")]
    reorthogonalize: bool,
}

impl Default for NewtonMr {
    fn default() -> Self {
        Self {
            alpha: 0.1,
            beta: 0.5,
            rho: 1e-4,
            pure_rho: 0.5,
            rtol: 5e-4,
            inner_iterations: None,
            norm_limit: 1e4,
            condition_limit: 1e7,
            reorthogonalize: false,
        }
    }
}

/// Newton's method on the gradient, by the inverse of the full Hessian.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Newton {
    /// What each step is multiplied by, above 0. Steps are taken whatever they lead to.
    #[schemars(extend("exclusiveMinimum" = 0))]
    step: f64,
}

impl Default for Newton {
    fn default() -> Self {
        Self { step: 1.0 }
    }
}

/// Newton's method on the gradient, by the pseudo-inverse of the full Hessian.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PseudoInverseNewton {
    /// What each step is multiplied by, above 0. Steps are taken whatever they lead to.
    #[schemars(extend("exclusiveMinimum" = 0))]
    step: f64,
    /// Eigenvalues up to this share of the largest, in absolute value, count as zero; at least 0 and below 1.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    rcond: f64,
}

impl Default for PseudoInverseNewton {
    fn default() -> Self {
        Self { step: 1.0, rcond: 1e-15 }
    }
}

/// Newton's method on the gradient with several dampings, of which the best is taken.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DampedNewton {
    /// What is added to the diagonal of the Hessian, at least one number, each at least 0: of the points that they lead
    /// to, the one of the smallest squared gradient norm is next, if it is smaller than before. Published: 100, 10, ...
    /// 1e-7. Together they take as many Hessian-vector products as the longest of them alone.
    dampings: Vec<f64>,
    /// What each step is multiplied by, above 0. The published scripts take 0.1.
    #[schemars(extend("exclusiveMinimum" = 0))]
    step: f64,
    /// Does what the published programs do, for comparison only: by mistakes in them nothing is damped, and a single
    /// step of Newton's method is taken if it makes the gradient smaller (the last damping times the sum of the
    /// parameters is added to each entry of a product). With `step = 0.1`, the published rates of damped Newton are
    /// those of this.
    as_coded: bool,
    /// Tolerance of the inner solver on its relative residuals, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    rtol: f64,
    /// Most inner iterations of a solve, at least 1.
    #[schemars(range(min = 1))]
    inner_iterations: usize,
    /// Largest norm of a step before it is multiplied, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    norm_limit: f64,
    /// Largest condition number that is inverted, above 1.
    #[schemars(extend("exclusiveMinimum" = 1))]
    condition_limit: f64,
    /// Whether the solver keeps its Lanczos vectors orthogonal, for as many vectors of memory as it takes inner
    /// iterations.
    reorthogonalize: bool,
}

impl Default for DampedNewton {
    fn default() -> Self {
        let DampedNewtonOptions { dampings, step, as_coded, solver, .. } =
            DampedNewtonOptions::default();
        Self {
            dampings,
            step,
            as_coded,
            rtol: solver.rtol,
            inner_iterations: solver.iterations.unwrap_or(usize::MAX),
            norm_limit: solver.norm_limit,
            condition_limit: solver.condition_limit,
            reorthogonalize: solver.reorthogonalize,
        }
    }
}

/// Descent of the loss by absolute curvatures: an optimizer, which leaves saddles (Dauphin et al. 2014, NIPS 27).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SaddleFreeNewton {
    /// Most dimensions of the Krylov space on which curvatures are seen, at least 1; the full Hessian is decomposed
    /// where absent.
    #[schemars(range(min = 1))]
    krylov: Option<usize>,
    /// What is added to absolute curvatures, at least one number, each at least 0: of the points that they lead to, the
    /// one of the lowest loss is next, if it is lower than before. Where the loss can fall no further, the squared
    /// gradient norm is still some 1e-16 times loss and curvature.
    dampings: Vec<f64>,
    /// What each step is multiplied by, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    step: f64,
}

impl Default for SaddleFreeNewton {
    fn default() -> Self {
        let SaddleFreeOptions { krylov, dampings, step, .. } = SaddleFreeOptions::default();
        Self { krylov, dampings, step }
    }
}

impl NewtonMr {
    /// How many vectors a step keeps beside a solver's own, for so many parameters.
    pub(super) fn vectors(self, parameters: usize) -> usize {
        let most = self.inner_iterations.unwrap_or(parameters);
        if self.reorthogonalize { most.min(parameters) } else { 0 }
    }

    pub(super) fn check(self) -> Vec<Violation> {
        let alpha = self.alpha > 0.0 && self.alpha <= 1.0;
        let pure = (0.0..1.0).contains(&self.pure_rho);
        violations([
            ("method.newton_mr.alpha", alpha, "must be above 0 and at most 1"),
            ("method.newton_mr.beta", is_share(self.beta), SHARE),
            ("method.newton_mr.rho", is_share(self.rho), SHARE),
            ("method.newton_mr.pure_rho", pure, REST),
            ("method.newton_mr.rtol", self.rtol > 0.0, "must be above 0"),
            (
                "method.newton_mr.inner_iterations",
                self.inner_iterations != Some(0),
                "must be at least 1",
            ),
            ("method.newton_mr.norm_limit", self.norm_limit > 0.0, "must be above 0"),
            ("method.newton_mr.condition_limit", self.condition_limit > 1.0, "must be above 1"),
        ])
    }

    pub(super) fn options(self, search: SearchOptions) -> NewtonMrOptions {
        NewtonMrOptions {
            alpha: self.alpha,
            beta: self.beta,
            rho: self.rho,
            pure_rho: (self.pure_rho > 0.0).then_some(self.pure_rho),
            solver: SolverOptions {
                rtol: self.rtol,
                iterations: self.inner_iterations,
                norm_limit: self.norm_limit,
                condition_limit: self.condition_limit,
                reorthogonalize: self.reorthogonalize,
            },
            search,
        }
    }
}

impl Newton {
    pub(super) fn check(self) -> Vec<Violation> {
        violations([("method.newton.step", is_size(self.step), SIZE)])
    }

    pub(super) fn options(self, search: SearchOptions) -> NewtonOptions {
        NewtonOptions { inverse: Inverse::Exact, step: self.step, search }
    }
}

impl PseudoInverseNewton {
    pub(super) fn check(self) -> Vec<Violation> {
        let rcond = (0.0..1.0).contains(&self.rcond);
        violations([
            ("method.pseudo_inverse_newton.step", is_size(self.step), SIZE),
            ("method.pseudo_inverse_newton.rcond", rcond, REST),
        ])
    }

    pub(super) fn options(self, search: SearchOptions) -> NewtonOptions {
        let inverse = Inverse::Pseudo { rcond: self.rcond };
        NewtonOptions { inverse, step: self.step, search }
    }
}

impl DampedNewton {
    /// How many vectors a step keeps beside a solver's own, for so many parameters.
    pub(super) fn vectors(&self, parameters: usize) -> usize {
        let kept = if self.reorthogonalize { self.inner_iterations.min(parameters) } else { 0 };
        // A solve's vectors for each damping.
        kept + 10 * self.dampings.len()
    }

    pub(super) fn check(&self) -> Vec<Violation> {
        let mut broken = check_dampings("method.damped_newton.dampings", &self.dampings);
        let least = self.inner_iterations >= 1;
        let condition = self.condition_limit > 1.0;
        broken.extend(violations([
            ("method.damped_newton.step", is_size(self.step), SIZE),
            ("method.damped_newton.rtol", self.rtol > 0.0, "must be above 0"),
            ("method.damped_newton.inner_iterations", least, "must be at least 1"),
            ("method.damped_newton.norm_limit", self.norm_limit > 0.0, "must be above 0"),
            ("method.damped_newton.condition_limit", condition, "must be above 1"),
        ]));
        broken
    }

    pub(super) fn options(&self, search: SearchOptions) -> DampedNewtonOptions {
        DampedNewtonOptions {
            dampings: self.dampings.clone(),
            step: self.step,
            as_coded: self.as_coded,
            solver: SolverOptions {
                rtol: self.rtol,
                iterations: Some(self.inner_iterations),
                norm_limit: self.norm_limit,
                condition_limit: self.condition_limit,
                reorthogonalize: self.reorthogonalize,
            },
            search,
        }
    }
}

impl SaddleFreeNewton {
    /// How many vectors a step keeps, for so many parameters.
    pub(super) fn vectors(&self, parameters: usize) -> usize {
        self.krylov.unwrap_or(parameters).min(parameters)
    }

    pub(super) fn decomposes(&self) -> bool {
        self.krylov.is_none()
    }

    pub(super) fn check(&self) -> Vec<Violation> {
        let mut broken = check_dampings("method.saddle_free_newton.dampings", &self.dampings);
        broken.extend(violations([
            ("method.saddle_free_newton.krylov", self.krylov != Some(0), "must be at least 1"),
            ("method.saddle_free_newton.step", is_size(self.step), SIZE),
        ]));
        broken
    }
    pub(super) fn options(&self, search: SearchOptions) -> SaddleFreeOptions {
        let Self { krylov, dampings, step } = self.clone();
        SaddleFreeOptions { krylov, dampings, step, search }
    }
}

/// Whether a number lies in (0, 1).
pub(super) fn is_share(value: f64) -> bool {
    value > 0.0 && value < 1.0
}

/// Whether a number may be a step size.
pub(super) fn is_size(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

pub(super) const SHARE: &str = "must be above 0 and below 1";
pub(super) const SIZE: &str = "must be finite and above 0";
pub(super) const REST: &str = "must be at least 0 and below 1";
const DAMPINGS: &str = "must hold at least one number, each at least 0";

/// What is wrong with a list of dampings: that it is empty, or its first item out of range.
fn check_dampings(field: &'static str, dampings: &[f64]) -> Vec<Violation> {
    let mut broken = violations([(field, !dampings.is_empty(), DAMPINGS)]);
    let holds = |damping: &f64| *damping >= 0.0 && damping.is_finite();
    broken.extend(each(field, dampings, holds, DAMPINGS));
    broken
}
