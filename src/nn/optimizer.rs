//! Adam (Kingma & Ba 2015) as `PyTorch` has it: weight decay is added to the gradient.

use std::collections::BTreeMap;

use candle_core::{CpuStorage, DType, Device, InplaceOp3, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use super::error::NnError;
use super::host::{elements, squared_norm};
use super::tape::Gradients;

/// The parameters of Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    pub learning_rate: f64,
    /// Decay of the mean of the gradient.
    pub beta1: f64,
    /// Decay of the mean of the squared gradient.
    pub beta2: f64,
    /// Added to the root of the squared gradient.
    pub epsilon: f64,
    /// Multiple of the weight that is added to its gradient.
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    /// `PyTorch`'s defaults.
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

impl AdamConfig {
    /// Fails if a value is outside its range.
    pub fn check(&self) -> std::result::Result<(), NnError> {
        let unit = "in [0, 1)";
        for (name, value, condition, holds) in [
            ("learning_rate", self.learning_rate, "at least 0", self.learning_rate >= 0.0),
            ("beta1", self.beta1, unit, (0.0..1.0).contains(&self.beta1)),
            ("beta2", self.beta2, unit, (0.0..1.0).contains(&self.beta2)),
            ("epsilon", self.epsilon, "above 0", self.epsilon > 0.0),
            ("weight_decay", self.weight_decay, "at least 0", self.weight_decay >= 0.0),
        ] {
            if !holds || !value.is_finite() {
                return Err(NnError::InvalidValue { name, condition, value: value.to_string() });
            }
        }
        Ok(())
    }

    /// Yields the corrections of the two means at step `step`, counted from 1: 1 − β₁ᵗ and √(1 − β₂ᵗ).
    fn corrections(&self, step: u64) -> (f64, f64) {
        let step = step as f64;
        (1.0 - libm::pow(self.beta1, step), libm::sqrt(1.0 - libm::pow(self.beta2, step)))
    }

    /// Yields what step `step`, counted from 1, does to one weight.
    pub fn at(&self, step: u64) -> ScalarStep {
        let (correction1, correction2) = self.corrections(step);
        ScalarStep {
            decay: self.weight_decay as f32,
            beta1: self.beta1 as f32,
            rest1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            rest2: (1.0 - self.beta2) as f32,
            rate: (self.learning_rate / correction1) as f32,
            scale: (1.0 / correction2) as f32,
            epsilon: self.epsilon as f32,
        }
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

/// Adam's state for a set of named weights.
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    step: u64,
    slots: BTreeMap<String, Slot>,
}

/// A weight with the running means of its gradient and squared gradient.
#[derive(Debug)]
struct Slot {
    weight: Var,
    first: Tensor,
    second: Tensor,
}

impl Adam {
    /// Starts with both means at zero. Names must be unique over all networks that are trained together.
    pub fn new(
        config: AdamConfig,
        weights: impl IntoIterator<Item = (String, Var)>,
    ) -> std::result::Result<Self, NnError> {
        config.check()?;
        let mut slots = BTreeMap::new();
        for (name, weight) in weights {
            let first = Tensor::zeros(weight.shape(), weight.dtype(), weight.device())?;
            let second = Tensor::zeros(weight.shape(), weight.dtype(), weight.device())?;
            if slots.insert(name.clone(), Slot { weight, first, second }).is_some() {
                return Err(NnError::DuplicateParameter { name });
            }
        }
        Ok(Self { config, step: 0, slots })
    }

    /// Takes one step. Weights without a gradient stay as they are.
    pub fn step(&mut self, gradients: &Gradients) -> Result<()> {
        self.step += 1;
        for (name, slot) in &mut self.slots {
            let Some(gradient) = gradients.get(name) else { continue };
            let gradient = gradient.contiguous()?;
            if slot.weight.device().is_cpu() && slot.weight.dtype() == DType::F32 {
                slot.update(&gradient, &self.config, self.step)?;
            } else {
                slot.update_composed(&gradient, &self.config, self.step)?;
            }
        }
        Ok(())
    }

    /// Computes the Euclidean length of the gradient of all weights together.
    pub fn gradient_norm(&self, gradients: &Gradients) -> Result<f64> {
        let gradients = self.slots.keys().filter_map(|name| gradients.get(name));
        let squares: Vec<f64> = gradients.map(squared_norm).collect::<Result<_>>()?;
        Ok(squares.iter().sum::<f64>().sqrt())
    }

    /// Copies the state to tensors on the CPU: `step`, and `first.NAME` and `second.NAME` for each weight.
    pub fn to_tensors(&self) -> std::result::Result<BTreeMap<String, Tensor>, NnError> {
        let step = Tensor::new(&[self.step as i64], &Device::Cpu)?;
        let mut tensors = BTreeMap::from([("step".to_owned(), step)]);
        for (name, slot) in &self.slots {
            for (mean, tensor) in [("first", &slot.first), ("second", &slot.second)] {
                // A tensor on the CPU already would share the memory that the next step writes to.
                tensors.insert(format!("{mean}.{name}"), tensor.to_device(&Device::Cpu)?.copy()?);
            }
        }
        Ok(tensors)
    }

    /// Goes on from a state that [`Self::to_tensors`] gave. Fails, changing nothing, if it is of other weights.
    pub fn load(&mut self, tensors: &BTreeMap<String, Tensor>) -> std::result::Result<(), NnError> {
        let get = |name: String, shape: &[usize]| match tensors.get(&name) {
            None => Err(NnError::MissingTensor { name }),
            Some(tensor) if tensor.dims() == shape => Ok(tensor.clone()),
            Some(tensor) => {
                let (expected, found) = (shape.to_vec(), tensor.dims().to_vec());
                Err(NnError::WrongShape { name, expected, found })
            }
        };
        let step = get("step".to_owned(), &[1])?.to_dtype(DType::I64)?.to_vec1::<i64>()?[0];
        let mut means = Vec::new();
        for (name, slot) in &self.slots {
            let place = |tensor: Tensor| {
                tensor.to_dtype(slot.weight.dtype())?.to_device(slot.weight.device())?.copy()
            };
            let first = place(get(format!("first.{name}"), slot.weight.dims())?)?;
            means.push((first, place(get(format!("second.{name}"), slot.weight.dims())?)?));
        }
        if tensors.len() != 1 + 2 * self.slots.len() {
            let known = |name: &&String| {
                let weight = name.strip_prefix("first.").or_else(|| name.strip_prefix("second."));
                *name == "step" || weight.is_some_and(|weight| self.slots.contains_key(weight))
            };
            let name = tensors.keys().find(|name| !known(name)).cloned().unwrap_or_default();
            return Err(NnError::UnexpectedTensor { name });
        }
        self.step = step.unsigned_abs();
        for (slot, (first, second)) in self.slots.values_mut().zip(means) {
            (slot.first, slot.second) = (first, second);
        }
        Ok(())
    }
}

impl Slot {
    /// Updates means and weight in place, three passes over memory in all.
    fn update(&self, gradient: &Tensor, config: &AdamConfig, step: u64) -> Result<()> {
        let step = config.at(step);
        let (gradient, weight) = (gradient, &self.weight);
        let move_first = Elementwise(|m: &mut f32, g, w| step.move_first(m, g, w));
        self.first.inplace_op3(gradient, weight, &move_first)?;
        let move_second = Elementwise(|v: &mut f32, g, w| step.move_second(v, g, w));
        self.second.inplace_op3(gradient, weight, &move_second)?;
        let move_weight = Elementwise(|w: &mut f32, m, v| step.move_weight(w, m, v));
        self.weight.inplace_op3(&self.first, &self.second, &move_weight)
    }

    /// The same from candle's operations, for any device and type.
    fn update_composed(&mut self, gradient: &Tensor, config: &AdamConfig, step: u64) -> Result<()> {
        let (correction1, correction2) = config.corrections(step);
        let weight = self.weight.as_detached_tensor();
        let gradient = (gradient + (&weight * config.weight_decay)?)?;
        self.first = ((&self.first * config.beta1)? + (&gradient * (1.0 - config.beta1))?)?;
        self.second = ((&self.second * config.beta2)? + (gradient.sqr()? * (1.0 - config.beta2))?)?;
        let root = ((self.second.sqrt()? / correction2)? + config.epsilon)?;
        let change = ((&self.first / root)? * (config.learning_rate / correction1))?;
        self.weight.set(&(weight - change)?)
    }
}

/// Elements of one parallel task.
const BLOCK: usize = 16 * 1024;

/// Changes each element of a CPU tensor given those of two others.
struct Elementwise<F>(F);

impl<F: Fn(&mut f32, f32, f32) + Sync> InplaceOp3 for Elementwise<F> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(
        &self,
        out: &mut CpuStorage,
        out_layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<()> {
        let (a, b) = (elements::<f32>(a, a_layout)?, elements::<f32>(b, b_layout)?);
        let (CpuStorage::F32(out), Some((start, end))) = (out, out_layout.contiguous_offsets())
        else {
            bail!("adam: expected a contiguous f32 tensor")
        };
        let blocks = a.par_chunks(BLOCK).zip(b.par_chunks(BLOCK));
        out[start..end].par_chunks_mut(BLOCK).zip(blocks).for_each(|(out, (a, b))| {
            for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
                (self.0)(out, *a, *b);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(values: &[f64], dtype: DType) -> Var {
        let tensor = Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        Var::from_tensor(&tensor).unwrap()
    }

    fn gradients(adam: &Adam, loss: &Tensor) -> Gradients {
        let gradients = loss.backward().unwrap();
        let named = adam
            .slots
            .iter()
            .filter_map(|(name, slot)| Some((name.clone(), gradients.get(&slot.weight)?.clone())));
        named.collect()
    }

    fn values(var: &Var) -> Vec<f64> {
        var.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    /// Takes steps on ½·a·w², whose gradient is a·w.
    fn descend(adam: &mut Adam, weight: &Var, curvature: &[f64], steps: usize) {
        for _ in 0..steps {
            let a = Tensor::new(curvature, &Device::Cpu).unwrap().to_dtype(weight.dtype()).unwrap();
            let loss = ((weight.sqr().unwrap() * a).unwrap() * 0.5).unwrap().sum_all().unwrap();
            adam.step(&gradients(adam, &loss)).unwrap();
        }
    }

    /// The algorithm of the paper with `PyTorch`'s weight decay, in f64.
    fn reference(config: &AdamConfig, mut w: f64, curvature: f64, steps: i32) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        for t in 1..=steps {
            let g = curvature * w + config.weight_decay * w;
            m = config.beta1 * m + (1.0 - config.beta1) * g;
            v = config.beta2 * v + (1.0 - config.beta2) * g * g;
            let (m_hat, v_hat) =
                (m / (1.0 - config.beta1.powi(t)), v / (1.0 - config.beta2.powi(t)));
            w -= config.learning_rate * m_hat / (v_hat.sqrt() + config.epsilon);
        }
        w
    }

    #[test]
    fn the_first_steps_are_those_of_the_paper() {
        let config = AdamConfig { learning_rate: 0.01, weight_decay: 0.1, ..Default::default() };
        let (start, curvature) = ([1.0, -2.0, 1e-9, 0.0], [1.0, 3.0, 0.5, 1.0]);
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-14)] {
            for steps in [1, 2, 30] {
                let weight = variable(&start, dtype);
                let mut adam = Adam::new(config, [("w".to_owned(), weight.clone())]).unwrap();
                descend(&mut adam, &weight, &curvature, steps);
                for (i, found) in values(&weight).into_iter().enumerate() {
                    let expected = reference(&config, start[i], curvature[i], steps as i32);
                    assert!(
                        (found - expected).abs() < tolerance,
                        "{dtype:?} {steps} {i}: {found} {expected}"
                    );
                }
            }
        }
        // By hand: the first step is the learning rate against the gradient's sign, to within epsilon.
        let weight = variable(&[1.0], DType::F64);
        descend(
            &mut Adam::new(config, [("w".to_owned(), weight.clone())]).unwrap(),
            &weight,
            &[1.0],
            1,
        );
        assert!((values(&weight)[0] - (1.0 - 0.01 * 1.1 / (1.1 + 1e-8))).abs() < 1e-15);
    }

    #[test]
    fn the_composed_update_is_the_fused_one() {
        let config = AdamConfig { learning_rate: 0.01, weight_decay: 0.1, ..Default::default() };
        let start = [1.0, -2.0, 0.5, 1e-3];
        let slot = || {
            let weight = variable(&start, DType::F32);
            let zeros = || Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap();
            Slot { weight, first: zeros(), second: zeros() }
        };
        let (fused, mut composed) = (slot(), slot());
        for step in 1..=30 {
            let gradient: Vec<f32> =
                (0..4).map(|i| (step as f32 * 0.7 + i as f32).sin() * 10f32.powi(i - 2)).collect();
            let gradient = Tensor::new(gradient, &Device::Cpu).unwrap();
            fused.update(&gradient, &config, step).unwrap();
            composed.update_composed(&gradient, &config, step).unwrap();
            for (i, (a, b)) in
                values(&fused.weight).iter().zip(values(&composed.weight)).enumerate()
            {
                // Each of the steps may round by a few units in the last place of the change, 1e-2 at most, or of
                // the weight.
                let tolerance = f64::from(f32::EPSILON) * step as f64 * (4e-2 + a.abs());
                assert!((a - b).abs() <= tolerance, "step {step}, weight {i}: {a} {b}");
            }
        }
        assert!(values(&fused.weight).iter().zip(start).all(|(a, b)| (a - b).abs() > 1e-3));
    }

    #[test]
    fn a_saved_state_goes_on_to_the_same_bits() {
        let weight = variable(&[1.0, -2.0], DType::F32);
        let mut adam =
            Adam::new(AdamConfig::default(), [("w".to_owned(), weight.clone())]).unwrap();
        descend(&mut adam, &weight, &[1.0, 3.0], 5);
        let (saved, at) = (adam.to_tensors().unwrap(), variable(&values(&weight), DType::F32));
        descend(&mut adam, &weight, &[1.0, 3.0], 5);
        let mut resumed = Adam::new(AdamConfig::default(), [("w".to_owned(), at.clone())]).unwrap();
        resumed.load(&saved).unwrap();
        descend(&mut resumed, &at, &[1.0, 3.0], 5);
        assert_eq!(values(&at), values(&weight));
        let mut other = Adam::new(AdamConfig::default(), [("x".to_owned(), at)]).unwrap();
        assert!(
            matches!(other.load(&saved).unwrap_err(), NnError::MissingTensor { name } if name == "first.x")
        );
        let mut more = saved.clone();
        more.insert("first.y".to_owned(), saved["first.w"].clone());
        assert!(
            matches!(adam.load(&more).unwrap_err(), NnError::UnexpectedTensor { name } if name == "first.y")
        );
    }

    #[test]
    fn the_gradient_norm_is_over_all_weights() {
        let (a, b) = (variable(&[3.0], DType::F32), variable(&[2.0, 1.0], DType::F32));
        let weights = [("a".to_owned(), a.clone()), ("b".to_owned(), b.clone())];
        let adam = Adam::new(AdamConfig::default(), weights).unwrap();
        let loss =
            (a.sqr().unwrap().sum_all().unwrap() + b.sqr().unwrap().sum_all().unwrap()).unwrap();
        let norm = adam.gradient_norm(&gradients(&adam, &loss)).unwrap();
        assert!((norm - 56f64.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        let check = |config: AdamConfig, message: &str| {
            assert_eq!(Adam::new(config, []).unwrap_err().to_string(), message);
        };
        let base = AdamConfig::default();
        check(AdamConfig { beta1: 1.0, ..base }, "beta1 must be in [0, 1), found 1");
        check(
            AdamConfig { learning_rate: f64::NAN, ..base },
            "learning_rate must be at least 0, found NaN",
        );
        check(AdamConfig { epsilon: 0.0, ..base }, "epsilon must be above 0, found 0");
    }
}
