//! Adam (Kingma & Ba 2015) and `AdamW` (Loshchilov & Hutter 2019), as `PyTorch` has them.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::error::NnError;
use super::Step;
use super::slot::{Moments, Slot, each_with_two, in_place};

/// The constants of Adam and `AdamW`.
///
/// With gradient g, weight decay λ and learning rate γ, at step t from 1: m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g²,
/// w ← w − γ·m/(1 − β₁ᵗ) / (√v/√(1 − β₂ᵗ) + ε). Before it, Adam adds λw to g, and `AdamW` multiplies w by 1 − γλ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Adam {
    /// Decay β₁ of the mean of the gradient, in [0, 1); 0.9 where absent.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// Decay β₂ of the mean of the squared gradient, in [0, 1); 0.999 where absent.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// Added to the root of the squared gradient, ε; above 0, and 1e-8 where absent.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
}

impl Default for Adam {
    /// `PyTorch`'s defaults.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// What weight decay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decay {
    /// It is part of the gradient: Adam.
    Coupled,
    /// It shrinks the weight by itself: `AdamW`.
    Decoupled,
}

impl Adam {
    /// Yields the corrections of the two means at step `step`, counted from 1: 1 − β₁ᵗ and √(1 − β₂ᵗ).
    fn corrections(self, step: u64) -> (f64, f64) {
        let step = step as f64;
        (1.0 - libm::pow(self.beta1, step), libm::sqrt(1.0 - libm::pow(self.beta2, step)))
    }

    /// Yields what step `step`, counted from 1, does to one weight.
    fn at(self, step: u64, learning_rate: f64, weight_decay: f64) -> ScalarStep {
        let (correction1, correction2) = self.corrections(step);
        ScalarStep {
            decay: weight_decay as f32,
            beta1: self.beta1 as f32,
            rest1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            rest2: (1.0 - self.beta2) as f32,
            rate: (learning_rate / correction1) as f32,
            scale: (1.0 / correction2) as f32,
            epsilon: self.epsilon as f32,
        }
    }

    pub(super) fn update(
        self,
        slot: &mut Slot,
        gradient: &Tensor,
        step: Step,
        decay: Decay,
    ) -> Result<()> {
        let (coupled, shrink) = match decay {
            Decay::Coupled => (step.weight_decay, 1.0),
            Decay::Decoupled => (0.0, 1.0 - step.learning_rate * step.weight_decay),
        };
        let weight = &slot.weight;
        match &mut slot.moments {
            Moments::Host([first, second]) => {
                let (gradient_scale, shrink) = (step.scale as f32, shrink as f32);
                let scalar = self.at(step.number, step.learning_rate, coupled);
                in_place(weight, gradient, |w, g| {
                    each_with_two(w, g, [&mut *first, &mut *second], |w, g, m, v| {
                        let g = gradient_scale * g;
                        *w *= shrink;
                        scalar.move_first(m, g, *w);
                        scalar.move_second(v, g, *w);
                        scalar.move_weight(w, *m, *v);
                    });
                })
            }
            Moments::Tensors([first, second]) => {
                let (correction1, correction2) = self.corrections(step.number);
                let w = (weight.as_detached_tensor() * shrink)?;
                let g = ((gradient * step.scale)? + (&w * coupled)?)?;
                *first = ((&*first * self.beta1)? + (&g * (1.0 - self.beta1))?)?;
                *second = ((&*second * self.beta2)? + (g.sqr()? * (1.0 - self.beta2))?)?;
                let root = ((second.sqrt()? / correction2)? + self.epsilon)?;
                let change = ((&*first / root)? * (step.learning_rate / correction1))?;
                weight.set(&(w - change)?)
            }
        }
    }
}

/// The parameters of Adam where it works on plain numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    pub learning_rate: f64,
    /// Multiple of the weight that is added to its gradient.
    pub weight_decay: f64,
    pub constants: Adam,
}

impl Default for AdamConfig {
    /// `PyTorch`'s defaults.
    fn default() -> Self {
        Self { learning_rate: 1e-3, weight_decay: 0.0, constants: Adam::default() }
    }
}

impl AdamConfig {
    /// Fails if a value is outside its range.
    pub fn check(&self) -> std::result::Result<(), NnError> {
        let (unit, Adam { beta1, beta2, epsilon }) = ("in [0, 1)", self.constants);
        for (name, value, condition, holds) in [
            ("learning_rate", self.learning_rate, "at least 0", self.learning_rate >= 0.0),
            ("beta1", beta1, unit, (0.0..1.0).contains(&beta1)),
            ("beta2", beta2, unit, (0.0..1.0).contains(&beta2)),
            ("epsilon", epsilon, "above 0", epsilon > 0.0),
            ("weight_decay", self.weight_decay, "at least 0", self.weight_decay >= 0.0),
        ] {
            if !holds || !value.is_finite() {
                return Err(NnError::InvalidValue { name, condition, value: value.to_string() });
            }
        }
        Ok(())
    }

    /// Yields what step `step`, counted from 1, does to one weight.
    pub fn at(&self, step: u64) -> ScalarStep {
        self.constants.at(step, self.learning_rate, self.weight_decay)
    }
}

/// One step of Adam on one weight: first both means, then the weight.
#[derive(Clone, Copy, Debug)]
pub struct ScalarStep {
    decay: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    rate: f32,
    scale: f32,
    epsilon: f32,
}

impl ScalarStep {
    /// Moves the mean of the gradient, given gradient and weight.
    #[inline]
    pub fn move_first(&self, mean: &mut f32, gradient: f32, weight: f32) {
        *mean = self.beta1 * *mean + self.rest1 * (gradient + self.decay * weight);
    }

    /// Moves the mean of the squared gradient, given gradient and weight.
    #[inline]
    pub fn move_second(&self, mean: &mut f32, gradient: f32, weight: f32) {
        let gradient = gradient + self.decay * weight;
        *mean = self.beta2 * *mean + self.rest2 * gradient * gradient;
    }

    /// Moves the weight, given both means after this step.
    #[inline]
    pub fn move_weight(&self, weight: &mut f32, first: f32, second: f32) {
        *weight -= self.rate * first / (second.sqrt() * self.scale + self.epsilon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_are_refused() {
        let check = |config: AdamConfig, message: &str| {
            assert_eq!(config.check().unwrap_err().to_string(), message);
        };
        let base = AdamConfig::default();
        let of = |constants: Adam| AdamConfig { constants, ..base };
        let adam = Adam::default();
        check(of(Adam { beta1: 1.0, ..adam }), "beta1 must be in [0, 1), found 1");
        check(of(Adam { epsilon: 0.0, ..adam }), "epsilon must be above 0, found 0");
        let still = AdamConfig { learning_rate: f64::NAN, ..base };
        check(still, "learning_rate must be at least 0, found NaN");
    }

    /// By hand: the first step is the learning rate against the gradient's sign, to within epsilon.
    #[test]
    fn the_first_step_is_the_learning_rate() {
        let config = AdamConfig { learning_rate: 0.5, ..AdamConfig::default() };
        let (mut w, mut m, mut v) = (1.0, 0.0, 0.0);
        let step = config.at(1);
        step.move_first(&mut m, 4.0, w);
        step.move_second(&mut v, 4.0, w);
        step.move_weight(&mut w, m, v);
        assert!((w - 0.5).abs() < 1e-6, "{w}");
    }
}
