//! The methods of a search for critical points as parameters: their ranges, and what the science makes of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::newton_methods::{
    DampedNewton, Newton, NewtonMr, PseudoInverseNewton, REST, SHARE, SIZE, SaddleFreeNewton,
    is_share, is_size,
};
use crate::engine::stage::{Violation, violations};
use crate::landscape::error::LandscapeError;
use crate::landscape::gradient_norm::{self, GradientNormOptions, LineSearch, Method};
use crate::landscape::objective::Objective;
use crate::landscape::search::{Control, Outcome, SearchOptions};
use crate::landscape::{damped_newton, newton, newton_mr, saddle_free};

/// How steps are found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchMethod {
    /// Newton's method on the gradient, by minimum-length least-squares steps.
    NewtonMr(NewtonMr),
    /// Descent on half the squared gradient norm, by backtracking line search.
    GradientNorm(GradientNorm),
    /// Descent on half the squared gradient norm, by a fixed rate.
    GradientNormDescent(GradientNormDescent),
    /// Descent on half the squared gradient norm, with inertia.
    GradientNormMomentum(GradientNormMomentum),
    /// Newton's method on the gradient, by the inverse of the full Hessian.
    Newton(Newton),
    /// Newton's method on the gradient, by the pseudo-inverse of the full Hessian.
    PseudoInverseNewton(PseudoInverseNewton),
    /// Newton's method on the gradient with several dampings, of which the best is taken.
    DampedNewton(DampedNewton),
    /// Descent of the loss by absolute curvatures: an optimizer, which leaves saddles (Dauphin et al. 2014, NIPS 27).
    SaddleFreeNewton(SaddleFreeNewton),
}

/// Descent on half the squared gradient norm, by backtracking line search.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GradientNorm {
    /// First step size, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    alpha: f64,
    /// What a refused step size is multiplied by, in (0, 1).
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    beta: f64,
    /// Share of the promised decrease that a step must bring (Armijo), in (0, 1).
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    rho: f64,
    /// Share of the slope that may be left (curvature), in (0, 1).
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    gamma: f64,
}

impl Default for GradientNorm {
    fn default() -> Self {
        Self { alpha: 0.1, beta: 0.5, rho: 1e-4, gamma: 0.9 }
    }
}

/// Descent on half the squared gradient norm, by a fixed rate.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GradientNormDescent {
    /// Step size, above 0; too large a one ends in numbers that are not finite.
    #[schemars(extend("exclusiveMinimum" = 0))]
    rate: f64,
}

impl Default for GradientNormDescent {
    fn default() -> Self {
        Self { rate: 0.1 }
    }
}

/// Descent on half the squared gradient norm, with inertia.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GradientNormMomentum {
    /// Step size, above 0; too large a one ends in numbers that are not finite.
    #[schemars(extend("exclusiveMinimum" = 0))]
    rate: f64,
    /// What is kept of the velocity, at least 0 and below 1.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    momentum: f64,
}

impl Default for GradientNormMomentum {
    fn default() -> Self {
        Self { rate: 0.1, momentum: 0.9 }
    }
}

impl Default for SearchMethod {
    fn default() -> Self {
        Self::NewtonMr(NewtonMr::default())
    }
}

impl SearchMethod {
    /// The published number of steps.
    pub fn iterations(&self) -> usize {
        match self {
            Self::GradientNorm(_)
            | Self::GradientNormDescent(_)
            | Self::GradientNormMomentum(_) => GradientNormOptions::default().search.iterations,
            _ => SearchOptions::default().iterations,
        }
    }

    /// Whether full Hessians are held.
    pub fn decomposes(&self) -> bool {
        match self {
            Self::Newton(_) | Self::PseudoInverseNewton(_) => true,
            Self::SaddleFreeNewton(method) => method.decomposes(),
            _ => false,
        }
    }

    /// How many numbers a search by products keeps, for so many parameters.
    pub fn numbers(&self, parameters: usize) -> usize {
        let vectors = match self {
            Self::NewtonMr(method) => method.vectors(parameters),
            Self::DampedNewton(method) => method.vectors(parameters),
            Self::SaddleFreeNewton(method) => method.vectors(parameters),
            _ => 0,
        };
        // Beside those, some thirty of points, steps and solves.
        parameters.saturating_mul(vectors.saturating_add(30))
    }

    /// Whether a step is chosen among several dampings.
    pub fn damps(&self) -> bool {
        matches!(self, Self::DampedNewton(_) | Self::SaddleFreeNewton(_))
    }

    /// The parameters out of range.
    pub fn check(&self) -> Vec<Violation> {
        match self {
            Self::NewtonMr(method) => method.check(),
            Self::GradientNorm(method) => method.check(),
            Self::GradientNormDescent(method) => method.check(),
            Self::GradientNormMomentum(method) => method.check(),
            Self::Newton(method) => method.check(),
            Self::PseudoInverseNewton(method) => method.check(),
            Self::DampedNewton(method) => method.check(),
            Self::SaddleFreeNewton(method) => method.check(),
        }
    }

    /// Searches from a start.
    pub fn search(
        &self,
        loss: &dyn Objective,
        start: &[f64],
        search: SearchOptions,
        control: &Control<'_>,
    ) -> Result<Outcome, LandscapeError> {
        let down = |method: Method| {
            gradient_norm::search(loss, start, &GradientNormOptions { method, search }, control)
        };
        match self {
            Self::NewtonMr(m) => newton_mr::search(loss, start, &m.options(search), control),
            Self::GradientNorm(GradientNorm { alpha, beta, rho, gamma }) => {
                let (alpha, beta, rho, gamma) = (*alpha, *beta, *rho, *gamma);
                down(Method::LineSearch(LineSearch { alpha, beta, rho, gamma }))
            }
            Self::GradientNormDescent(m) => down(Method::Descent { rate: m.rate }),
            Self::GradientNormMomentum(m) => {
                down(Method::Momentum { rate: m.rate, momentum: m.momentum })
            }
            Self::Newton(m) => newton::search(loss, start, &m.options(search), control),
            Self::PseudoInverseNewton(m) => {
                newton::search(loss, start, &m.options(search), control)
            }
            Self::DampedNewton(m) => {
                damped_newton::search(loss, start, &m.options(search), control)
            }
            Self::SaddleFreeNewton(m) => {
                saddle_free::search(loss, start, &m.options(search), control)
            }
        }
    }
}

impl GradientNorm {
    fn check(self) -> Vec<Violation> {
        violations([
            ("method.gradient_norm.alpha", is_size(self.alpha), SIZE),
            ("method.gradient_norm.beta", is_share(self.beta), SHARE),
            ("method.gradient_norm.rho", is_share(self.rho), SHARE),
            ("method.gradient_norm.gamma", is_share(self.gamma), SHARE),
        ])
    }
}

impl GradientNormDescent {
    fn check(self) -> Vec<Violation> {
        violations([("method.gradient_norm_descent.rate", is_size(self.rate), SIZE)])
    }
}

impl GradientNormMomentum {
    fn check(self) -> Vec<Violation> {
        let momentum = (0.0..1.0).contains(&self.momentum);
        violations([
            ("method.gradient_norm_momentum.rate", is_size(self.rate), SIZE),
            ("method.gradient_norm_momentum.momentum", momentum, REST),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stage::Part;

    /// Reads a method as it stands in an experiment.
    fn method(text: &str) -> SearchMethod {
        #[derive(Deserialize)]
        struct Holder {
            method: SearchMethod,
        }
        toml::from_str::<Holder>(&format!("method = {{ {text} }}")).unwrap().method
    }

    #[test]
    fn what_is_written_of_older_methods_is_what_it_was() {
        let json = |text: &str| serde_json::to_string(&method(text)).unwrap();
        assert_eq!(
            json("newton_mr = {}"),
            r#"{"newton_mr":{"alpha":0.1,"beta":0.5,"rho":0.0001,"pure_rho":0.5,"rtol":0.0005,"inner_iterations":null,"norm_limit":10000.0,"condition_limit":10000000.0}}"#
        );
        assert_eq!(
            json("gradient_norm = {}"),
            r#"{"gradient_norm":{"alpha":0.1,"beta":0.5,"rho":0.0001,"gamma":0.9}}"#
        );
        let with = json("newton_mr = { reorthogonalize = true }");
        assert!(with.ends_with(r#""reorthogonalize":true}}"#), "{with}");
    }

    #[test]
    fn defaults_are_in_range_and_each_value_out_of_it_is_named() {
        let check = |text: &str, fields: &[&str]| {
            let broken = method(text).check();
            let found: Vec<&str> =
                broken.iter().map(|violation| violation.field.as_str()).collect();
            assert_eq!(found, fields, "{text}");
        };
        for name in [
            "newton_mr",
            "gradient_norm",
            "gradient_norm_descent",
            "gradient_norm_momentum",
            "newton",
            "pseudo_inverse_newton",
            "damped_newton",
            "saddle_free_newton",
        ] {
            check(&format!("{name} = {{}}"), &[]);
        }
        check("gradient_norm_descent = { rate = 0.0 }", &["method.gradient_norm_descent.rate"]);
        check(
            "gradient_norm_momentum = { rate = inf, momentum = 1.0 }",
            &["method.gradient_norm_momentum.rate", "method.gradient_norm_momentum.momentum"],
        );
        check("newton = { step = -1.0 }", &["method.newton.step"]);
        check(
            "pseudo_inverse_newton = { step = 0.0, rcond = 1.0 }",
            &["method.pseudo_inverse_newton.step", "method.pseudo_inverse_newton.rcond"],
        );
        check(
            "damped_newton = { dampings = [], rtol = 0.0, inner_iterations = 0, condition_limit = 1.0 }",
            &[
                "method.damped_newton.dampings",
                "method.damped_newton.rtol",
                "method.damped_newton.inner_iterations",
                "method.damped_newton.condition_limit",
            ],
        );
        check(
            "saddle_free_newton = { dampings = [1.0, -1.0], krylov = 0 }",
            &["method.saddle_free_newton.dampings", "method.saddle_free_newton.krylov"],
        );
        let broken = method("damped_newton = { dampings = [1.0, nan] }").check();
        assert_eq!(broken[0].part, Some(Part::Item(1)));
    }

    #[test]
    fn what_a_search_keeps_grows_with_the_vectors_that_it_keeps() {
        let vectors = |text: &str| method(text).numbers(1000) / 1000 - 30;
        assert_eq!(vectors("newton_mr = {}"), 0);
        assert_eq!(vectors("newton_mr = { reorthogonalize = true }"), 1000);
        assert_eq!(vectors("newton_mr = { reorthogonalize = true, inner_iterations = 50 }"), 50);
        assert_eq!(vectors("saddle_free_newton = { krylov = 7 }"), 7);
        assert_eq!(vectors("damped_newton = { dampings = [1.0, 2.0], inner_iterations = 9 }"), 20);
        assert_eq!(vectors("gradient_norm = {}"), 0);
    }

    #[test]
    fn the_number_of_steps_is_the_one_published_for_the_method() {
        assert_eq!(method("newton_mr = {}").iterations(), 500);
        assert_eq!(method("damped_newton = {}").iterations(), 500);
        for name in ["gradient_norm", "gradient_norm_descent", "gradient_norm_momentum"] {
            assert_eq!(method(&format!("{name} = {{}}")).iterations(), 25_000);
        }
    }
}
