//! Stochastic gradient descent with momentum, as `PyTorch` has it.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Step;
use super::slot::{Moments, Slot, each, each_with_one, in_place};

/// The constants of stochastic gradient descent.
///
/// With gradient g, weight decay λ, momentum μ and learning rate γ: g ← g + λw, b ← μb + g, w ← w − γb; with Nesterov's
/// momentum w ← w − γ(g + μb) (Sutskever et al. 2013, in `PyTorch`'s form, where γ is outside of b). b starts at 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sgd {
    /// Share μ of the last change that goes on, in [0, 1); 0.9 where absent, 0 for none.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// Whether the gradient counts once more, ahead of the momentum; needs a momentum.
    pub nesterov: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: false }
    }
}

impl Sgd {
    pub(super) fn update(self, slot: &mut Slot, gradient: &Tensor, step: Step) -> Result<()> {
        let weight = &slot.weight;
        match &mut slot.moments {
            Moments::Host([mean, _]) => {
                in_place(weight, gradient, |w, g| self.fused(w, g, mean, step))
            }
            Moments::Tensors([mean, _]) => {
                let w = weight.as_detached_tensor();
                let mut g = ((gradient * step.scale)? + (&w * step.weight_decay)?)?;
                if self.momentum > 0.0 {
                    *mean = ((&*mean * self.momentum)? + &g)?;
                    g = if self.nesterov { (g + (&*mean * self.momentum)?)? } else { mean.clone() };
                }
                weight.set(&(w - (g * step.learning_rate)?)?)
            }
        }
    }

    fn fused(self, weight: &mut [f32], gradient: &[f32], mean: &mut [f32], step: Step) {
        let (scale, decay) = (step.scale as f32, step.weight_decay as f32);
        let (rate, momentum) = (step.learning_rate as f32, self.momentum as f32);
        if mean.is_empty() {
            each(weight, gradient, |w, g| *w -= rate * (scale * g + decay * *w));
        } else if self.nesterov {
            each_with_one(weight, gradient, mean, |w, g, b| {
                let g = scale * g + decay * *w;
                *b = momentum * *b + g;
                *w -= rate * (g + momentum * *b);
            });
        } else {
            each_with_one(weight, gradient, mean, |w, g, b| {
                *b = momentum * *b + (scale * g + decay * *w);
                *w -= rate * *b;
            });
        }
    }
}
