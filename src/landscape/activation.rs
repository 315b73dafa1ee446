//! Activation functions with their first two derivatives.

/// The function that hidden units apply to their input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// x.
    #[default]
    Linear,
    /// x sigmoid(x).
    Swish,
    /// tanh(x).
    Tanh,
    /// max(x, 0), with slope 0 at 0 and no curvature.
    Relu,
    /// log(1 + exp(5x)) / 5, a smooth rectifier.
    Softplus,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
}

/// The sharpness of the smooth rectifier.
pub(super) const SOFTPLUS_SHARPNESS: f64 = 5.0;

/// Value, slope and curvature of an activation at one input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Response {
    pub value: f64,
    pub slope: f64,
    pub curvature: f64,
}

impl Activation {
    /// Returns value, first and second derivative at `x`; finite for every finite `x`.
    pub fn respond(self, x: f64) -> Response {
        match self {
            Self::Linear => Response { value: x, slope: 1.0, curvature: 0.0 },
            Self::Swish => {
                let s = sigmoid(x);
                let d = s * (1.0 - s);
                Response {
                    value: x * s,
                    slope: s + x * d,
                    curvature: 2.0 * d + x * d * (1.0 - 2.0 * s),
                }
            }
            Self::Tanh => {
                let t = libm::tanh(x);
                let slope = 1.0 - t * t;
                Response { value: t, slope, curvature: -2.0 * t * slope }
            }
            Self::Relu if x > 0.0 => Response { value: x, slope: 1.0, curvature: 0.0 },
            Self::Relu => {
                let value = if x.is_nan() { x } else { 0.0 };
                Response { value, slope: 0.0, curvature: 0.0 }
            }
            Self::Softplus => {
                let u = SOFTPLUS_SHARPNESS * x;
                let s = sigmoid(u);
                let log = u.max(0.0) + libm::log1p(libm::exp(-u.abs()));
                Response {
                    value: log / SOFTPLUS_SHARPNESS,
                    slope: s,
                    curvature: SOFTPLUS_SHARPNESS * s * (1.0 - s),
                }
            }
            Self::Sigmoid => {
                let s = sigmoid(x);
                let slope = s * (1.0 - s);
                Response { value: s, slope, curvature: slope * (1.0 - 2.0 * s) }
            }
        }
    }
}

/// The exponential overflows to infinity below -709, where the quotient is the right 0.
fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landscape::fixtures::ACTIVATIONS;

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        let step = 1e-5;
        for activation in ACTIVATIONS {
            for x in [-3.0, -0.7, -0.1, 0.2, 1.3, 4.0] {
                let (low, here, high) = (
                    activation.respond(x - step),
                    activation.respond(x),
                    activation.respond(x + step),
                );
                let slope = (high.value - low.value) / (2.0 * step);
                let curvature = (high.slope - low.slope) / (2.0 * step);
                assert!((slope - here.slope).abs() < 1e-8, "{activation:?} {x}");
                assert!((curvature - here.curvature).abs() < 1e-8, "{activation:?} {x}");
            }
        }
    }

    #[test]
    fn closed_forms_at_zero() {
        let check = |activation: Activation, expected: [f64; 3]| {
            let r = activation.respond(0.0);
            for (found, expected) in [r.value, r.slope, r.curvature].into_iter().zip(expected) {
                assert!((found - expected).abs() < 1e-16, "{activation:?}: {r:?}");
            }
        };
        check(Activation::Swish, [0.0, 0.5, 0.5]);
        check(Activation::Tanh, [0.0, 1.0, 0.0]);
        check(Activation::Relu, [0.0, 0.0, 0.0]);
        check(Activation::Softplus, [2f64.ln() / 5.0, 0.5, 1.25]);
        check(Activation::Sigmoid, [0.5, 0.25, 0.0]);
    }

    #[test]
    fn far_inputs_stay_finite_and_nan_is_passed_on() {
        for activation in ACTIVATIONS {
            for x in [-1e300, -1e4, 1e4, 1e300] {
                let r = activation.respond(x);
                assert!((r.value + r.slope + r.curvature).is_finite(), "{activation:?} {x}: {r:?}");
            }
            assert!(activation.respond(f64::NAN).value.is_nan(), "{activation:?}");
        }
    }
}
