//! LARS (You, Gitman & Ginsburg 2017, arXiv:1708.03888): a learning rate of its own for each weight tensor.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::host::squared_norm;
use super::Step;
use super::slot::{Moments, Slot, each_with_one, in_place};

/// The constants of LARS.
///
/// With gradient g, weight decay β, momentum μ and learning rate γ (algorithm 1): the local rate is λ = η‖w‖ / (‖g‖ +
/// β‖w‖), then v ← μv + γλ(g + βw) and w ← w − v. λ is 1 where ‖w‖ or the denominator is 0. Biases and the
/// scales and shifts of batch norm, that is tensors of one dimension, have λ = 1 and no weight decay, as in `SimCLR`
/// (Chen et al. 2020), whose code has ‖g + βw‖ in the denominator.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lars {
    /// Share μ of the last change that goes on, in [0, 1); 0.9 where absent.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// Change η of a weight tensor relative to its length, at a learning rate of 1; above 0, and 0.001 where absent.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub trust: f64,
}

impl Default for Lars {
    /// The values of You et al. 2017 and of `SimCLR`'s code.
    fn default() -> Self {
        Self { momentum: 0.9, trust: 0.001 }
    }
}

impl Lars {
    pub(super) fn update(self, slot: &mut Slot, gradient: &Tensor, step: Step) -> Result<()> {
        let weight = &slot.weight;
        let adapts = weight.rank() > 1;
        let decay = if adapts { step.weight_decay } else { 0.0 };
        let w = weight.as_detached_tensor();
        let local = if adapts { self.local_rate(&w, gradient, step)? } else { 1.0 };
        let rate = step.learning_rate * local;
        match &mut slot.moments {
            Moments::Host([mean, _]) => {
                drop(w);
                let (scale, decay, rate) = (step.scale as f32, decay as f32, rate as f32);
                let momentum = self.momentum as f32;
                in_place(weight, gradient, |w, g| {
                    each_with_one(w, g, mean, |w, g, v| {
                        *v = momentum * *v + rate * (scale * g + decay * *w);
                        *w -= *v;
                    });
                })
            }
            Moments::Tensors([mean, _]) => {
                let g = ((gradient * step.scale)? + (&w * decay)?)?;
                *mean = ((&*mean * self.momentum)? + (g * rate)?)?;
                weight.set(&(w - &*mean)?)
            }
        }
    }

    fn local_rate(self, weight: &Tensor, gradient: &Tensor, step: Step) -> Result<f64> {
        let weight = squared_norm(weight)?.sqrt();
        let pull = step.scale.abs() * squared_norm(gradient)?.sqrt() + step.weight_decay * weight;
        Ok(if weight > 0.0 && pull > 0.0 { self.trust * weight / pull } else { 1.0 })
    }
}
