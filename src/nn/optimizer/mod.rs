//! Optimizers: what a step does to a set of named weights, given their gradients.
//!
//! One algorithm a file, each with `PyTorch`'s conventions and its formulas. On the CPU a step reads weight, gradient
//! and moments once and writes weight and moments once, in blocks on all threads; elsewhere, and for other types than
//! `f32`, it is composed of candle's operations.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::adam::{Adam, Decay};
use self::lars::Lars;
use self::sgd::Sgd;
use self::slot::Slot;
use super::error::NnError;
use super::tape::Gradients;

pub mod adam;
pub mod lars;
pub mod sgd;

pub mod gradients;

mod slot;

/// How a gradient moves the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Stochastic gradient descent, with momentum.
    Sgd(Sgd),
    /// Adam; weight decay is added to the gradient.
    Adam(Adam),
    /// `AdamW`: Adam, with weights that shrink by themselves.
    AdamW(Adam),
    /// LARS: momentum with a learning rate of its own for each weight tensor, for large batches.
    Lars(Lars),
}

impl Default for Algorithm {
    /// Adam as `PyTorch` has it.
    fn default() -> Self {
        Self::Adam(Adam::default())
    }
}

impl Algorithm {
    /// Every number that it has: its path, whether it is in its range, and that range.
    pub fn ranges(self) -> Vec<(&'static str, bool, &'static str)> {
        let unit = |path, value: f64| (path, (0.0..1.0).contains(&value), "must be in [0, 1)");
        let above = |path, value: f64| {
            (path, value > 0.0 && value.is_finite(), "must be finite and above 0")
        };
        match self {
            Self::Sgd(sgd) => {
                let holds = !sgd.nesterov || sgd.momentum > 0.0;
                vec![
                    unit("sgd.momentum", sgd.momentum),
                    ("sgd.nesterov", holds, "needs a momentum above 0"),
                ]
            }
            Self::Adam(adam) => vec![
                unit("adam.beta1", adam.beta1),
                unit("adam.beta2", adam.beta2),
                above("adam.epsilon", adam.epsilon),
            ],
            Self::AdamW(adam) => vec![
                unit("adamw.beta1", adam.beta1),
                unit("adamw.beta2", adam.beta2),
                above("adamw.epsilon", adam.epsilon),
            ],
            Self::Lars(lars) => {
                vec![unit("lars.momentum", lars.momentum), above("lars.trust", lars.trust)]
            }
        }
    }

    /// Names the running means that a weight has, at most two.
    fn moments(self) -> &'static [&'static str] {
        match self {
            Self::Sgd(sgd) if sgd.momentum == 0.0 => &[],
            Self::Sgd(_) | Self::Lars(_) => &["momentum"],
            Self::Adam(_) | Self::AdamW(_) => &["first", "second"],
        }
    }
}

/// The parameters of an optimizer, but for the learning rate, which each step is told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OptimizerConfig {
    pub algorithm: Algorithm,
    /// Pull of each weight towards 0, at least 0; each algorithm says how it is applied.
    pub weight_decay: f64,
}

impl OptimizerConfig {
    fn check(&self) -> Result<(), NnError> {
        if let Some((name, _, condition)) =
            self.algorithm.ranges().into_iter().find(|(_, holds, _)| !holds)
        {
            return Err(NnError::BrokenRule { name, condition });
        }
        let (name, condition, value) = ("weight_decay", "finite and at least 0", self.weight_decay);
        if value >= 0.0 && value.is_finite() {
            return Ok(());
        }
        Err(NnError::InvalidValue { name, condition, value: value.to_string() })
    }
}

/// What one step is told, beside weight and gradient.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Counted from 1.
    number: u64,
    learning_rate: f64,
    weight_decay: f64,
    /// Multiplies the gradient first of all.
    scale: f64,
}

/// An optimizer with its state for a set of named weights.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    steps: u64,
    slots: BTreeMap<String, Slot>,
}

impl Optimizer {
    /// Starts with all means at zero. Names must be unique over all networks that are trained together.
    pub fn new(
        config: OptimizerConfig,
        weights: impl IntoIterator<Item = (String, Var)>,
    ) -> Result<Self, NnError> {
        config.check()?;
        let mut slots = BTreeMap::new();
        for (name, weight) in weights {
            let slot = Slot::new(weight, config.algorithm.moments())?;
            if slots.insert(name.clone(), slot).is_some() {
                return Err(NnError::DuplicateParameter { name });
            }
        }
        Ok(Self { config, steps: 0, slots })
    }

    /// Lists the weights.
    pub fn weights(&self) -> impl Iterator<Item = (&String, &Var)> {
        self.slots.iter().map(|(name, slot)| (name, &slot.weight))
    }

    /// Counts the running means of each weight.
    pub fn moments(&self) -> usize {
        self.config.algorithm.moments().len()
    }

    /// Takes one step, each gradient multiplied by `scale` first. Weights without a gradient stay as they are.
    ///
    /// `scale` is 1, or less for clipping (see [`gradients::clip_scale`]) and for a mean over batches. Fails if a
    /// gradient is of no weight here, or of another shape; then nothing is changed.
    pub fn step(
        &mut self,
        gradients: &Gradients,
        learning_rate: f64,
        scale: f64,
    ) -> Result<(), NnError> {
        for (name, gradient) in gradients {
            let name = name.clone();
            match self.slots.get(&name).map(|slot| slot.weight.dims()) {
                None => return Err(NnError::UnknownGradient { name }),
                Some(dims) if dims != gradient.dims() => {
                    let (expected, found) = (dims.to_vec(), gradient.dims().to_vec());
                    return Err(NnError::WrongShape { name, expected, found });
                }
                Some(_) => (),
            }
        }
        self.steps += 1;
        let OptimizerConfig { algorithm, weight_decay } = self.config;
        let step = Step { number: self.steps, learning_rate, weight_decay, scale };
        for (name, gradient) in gradients {
            let Some(slot) = self.slots.get_mut(name) else { continue };
            let gradient = gradient.contiguous()?;
            match algorithm {
                Algorithm::Sgd(sgd) => sgd.update(slot, &gradient, step)?,
                Algorithm::Adam(adam) => adam.update(slot, &gradient, step, Decay::Coupled)?,
                Algorithm::AdamW(adam) => adam.update(slot, &gradient, step, Decay::Decoupled)?,
                Algorithm::Lars(lars) => lars.update(slot, &gradient, step)?,
            }
        }
        Ok(())
    }

    /// Copies the state to tensors on the CPU: `step`, and `MEAN.NAME` for each running mean of each weight, such as
    /// Adam's `first` and `second` and the others' `momentum`.
    pub fn to_tensors(&self) -> Result<BTreeMap<String, Tensor>, NnError> {
        let step = Tensor::new(&[self.steps as i64], &Device::Cpu)?;
        let mut tensors = BTreeMap::from([("step".to_owned(), step)]);
        for (name, slot) in &self.slots {
            for (mean, tensor) in self.config.algorithm.moments().iter().zip(slot.moments()?) {
                tensors.insert(format!("{mean}.{name}"), tensor);
            }
        }
        Ok(tensors)
    }

    /// Goes on from a state that [`Self::to_tensors`] gave. Fails, changing nothing, if it is of other weights or of
    /// another algorithm.
    pub fn load(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<(), NnError> {
        let moments = self.config.algorithm.moments();
        let get = |name: String, shape: &[usize]| match tensors.get(&name) {
            None => Err(NnError::MissingTensor { name }),
            Some(tensor) if tensor.dims() == shape => Ok(tensor.clone()),
            Some(tensor) => {
                let (expected, found) = (shape.to_vec(), tensor.dims().to_vec());
                Err(NnError::WrongShape { name, expected, found })
            }
        };
        let step = get("step".to_owned(), &[1])?.to_dtype(DType::I64)?.to_vec1::<i64>()?[0];
        let mut loaded = Vec::new();
        for (name, slot) in &self.slots {
            let own = moments.iter().map(|m| get(format!("{m}.{name}"), slot.weight.dims()));
            loaded.push(slot.placed(&own.collect::<Result<Vec<_>, _>>()?)?);
        }
        let known = |name: &str| {
            let of_weight = |mean: &&str| {
                let weight = name.strip_prefix(*mean).and_then(|rest| rest.strip_prefix('.'));
                weight.is_some_and(|weight| self.slots.contains_key(weight))
            };
            name == "step" || moments.iter().any(of_weight)
        };
        if let Some(name) = tensors.keys().find(|name| !known(name)) {
            return Err(NnError::UnexpectedTensor { name: name.clone() });
        }
        self.steps = step.unsigned_abs();
        for (slot, moments) in self.slots.values_mut().zip(loaded) {
            slot.set_moments(moments);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
