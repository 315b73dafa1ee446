//! Batch normalization (Ioffe & Szegedy 2015) with the residual sum and the `ReLU` that follow it in a `ResNet`.

use std::result;

use candle_core::{D, Result, Tensor, Var, bail};

use super::error::NnError;
use super::host::with_real;
use super::layers::{Mode, relu};
use super::normalize::{Normalize, statistics};
use super::params::{Init, Parameters};

/// Added to the variance before the root; `PyTorch`'s default.
pub const EPSILON: f64 = 1e-5;
/// Weight of the newest batch in the running statistics; `PyTorch`'s default.
const MOMENTUM: f64 = 0.1;

/// A batch-norm layer over the last axis of n×h×w×c or n×c.
#[derive(Debug)]
pub struct BatchNorm {
    weight: Var,
    bias: Var,
    running_mean: Var,
    running_var: Var,
}

/// What follows the normalization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Relu,
    Identity,
}

impl BatchNorm {
    /// Adds a layer of weight 1 and bias 0 under `path`.
    pub fn new(
        parameters: &mut Parameters,
        path: &str,
        channels: usize,
    ) -> result::Result<Self, NnError> {
        let shape = [channels];
        Ok(Self {
            weight: parameters.weight(&format!("{path}.weight"), &shape, Init::Constant(1.0))?,
            bias: parameters.weight(&format!("{path}.bias"), &shape, Init::Constant(0.0))?,
            running_mean: parameters.buffer(&format!("{path}.running_mean"), &shape, 0.0)?,
            running_var: parameters.buffer(&format!("{path}.running_var"), &shape, 1.0)?,
        })
    }

    /// Normalizes each channel, adds a residual of the same shape if there is one, and activates.
    ///
    /// In training the batch's mean and biased variance are used, and the running statistics move a tenth of the
    /// way to the batch's mean and unbiased variance. In adaptation they move as far as makes them the mean over all
    /// batches, weighted by their images. A batch of one value a channel is an error in both.
    pub fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        activation: Activation,
        mode: Mode,
    ) -> Result<Tensor> {
        let (weight, bias) = (mode.read(&self.weight), mode.read(&self.bias));
        let (mean, variance) = match mode {
            Mode::Train => self.batch_statistics(&x.detach(), MOMENTUM)?,
            Mode::Adapt { batch, seen } => {
                self.batch_statistics(&x.detach(), batch as f64 / seen as f64)?
            }
            Mode::Evaluate => (mode.read(&self.running_mean), mode.read(&self.running_var)),
        };
        if x.device().is_cpu() {
            let op = Normalize::new(&mean, &variance, activation)?;
            let affine = Tensor::cat(&[&weight, &bias], 0)?;
            let (x, residual) = (x.contiguous()?, residual.map(Tensor::contiguous).transpose()?);
            return match (residual, mode) {
                (None, Mode::Train) => x.apply_op2(&affine, op),
                (None, Mode::Evaluate | Mode::Adapt { .. }) => x.apply_op2_no_bwd(&affine, &op),
                (Some(residual), Mode::Train) => x.apply_op3(&affine, &residual, op),
                (Some(residual), Mode::Evaluate | Mode::Adapt { .. }) => {
                    x.apply_op3_no_bwd(&affine, &residual, &op)
                }
            };
        }
        let statistics = (mode == Mode::Evaluate).then_some((&mean, &variance));
        composed(x, &weight, &bias, statistics, residual, activation)
    }

    /// Computes a batch's mean and biased variance, and updates the running statistics.
    fn batch_statistics(&self, x: &Tensor, momentum: f64) -> Result<(Tensor, Tensor)> {
        let rows = x.elem_count() / x.dim(D::Minus1)?;
        if rows < 2 {
            bail!("batch norm in training needs at least 2 values a channel, found {rows}")
        }
        let (mean, variance) = if x.device().is_cpu() {
            with_real!(x.dtype(), statistics(x))?
        } else {
            let x = x.reshape((rows, ()))?;
            let mean = x.mean(0)?;
            (mean.clone(), x.broadcast_sub(&mean)?.sqr()?.mean(0)?)
        };
        let unbiased = (&variance * (rows as f64 / (rows - 1) as f64))?;
        for (running, batch) in [(&self.running_mean, &mean), (&self.running_var, &unbiased)] {
            let old = (running.as_detached_tensor() * (1.0 - momentum))?;
            running.set(&(old + (batch * momentum)?)?)?;
        }
        Ok((mean, variance))
    }
}

/// The layer from candle's operations, for any device. Without given statistics it uses the batch's.
fn composed(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    statistics: Option<(&Tensor, &Tensor)>,
    residual: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let rows = x.reshape(((), x.dim(D::Minus1)?))?;
    let mean = match statistics {
        Some((mean, _)) => mean.clone(),
        None => rows.mean(0)?,
    };
    let centered = rows.broadcast_sub(&mean)?;
    let variance = match statistics {
        Some((_, variance)) => variance.clone(),
        None => centered.sqr()?.mean(0)?,
    };
    let scale = (weight / (variance + EPSILON)?.sqrt()?)?;
    let y = centered.broadcast_mul(&scale)?.broadcast_add(bias)?.reshape(x.shape())?;
    let y = match residual {
        Some(residual) => (y + residual)?,
        None => y,
    };
    match activation {
        Activation::Relu => relu(&y),
        Activation::Identity => Ok(y),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::layers::tests::{check_close, check_gradient, normal, weigh};
    use super::*;
    use crate::rng::Streams;

    const SHAPES: [&[usize]; 3] = [&[2, 3, 2, 4], &[5, 3], &[40, 4, 4, 8]];

    fn layer(channels: usize, dtype: DType) -> (Parameters, BatchNorm) {
        let mut parameters = Parameters::new(&Streams::new(1, "test"), &Device::Cpu, dtype);
        let layer = BatchNorm::new(&mut parameters, "bn", channels).unwrap();
        for (name, var) in parameters.weights() {
            var.set(&normal(name, &[channels]).to_dtype(dtype).unwrap()).unwrap();
        }
        (parameters, layer)
    }

    #[test]
    fn values_and_gradients_are_those_of_the_definition() {
        for shape in SHAPES {
            let (_, layer) = layer(*shape.last().unwrap(), DType::F64);
            let (x, r) = (normal("x", shape), normal("r", shape));
            for (residual, activation) in [
                (None, Activation::Identity),
                (None, Activation::Relu),
                (Some(r.as_tensor()), Activation::Identity),
                (Some(r.as_tensor()), Activation::Relu),
            ] {
                let name = format!("{shape:?} {activation:?} {}", residual.is_some());
                let ours = || layer.forward(&x, residual, activation, Mode::Train).unwrap();
                let theirs =
                    composed(&x, &layer.weight, &layer.bias, None, residual, activation).unwrap();
                check_close(&name, &ours(), &theirs, 1e-12);
                let (a, b) =
                    (weigh(&ours()).backward().unwrap(), weigh(&theirs).backward().unwrap());
                let vars = [&x, &layer.weight, &layer.bias, &r];
                let vars = &vars[..3 + usize::from(residual.is_some())];
                for var in vars {
                    check_close(&name, a.get(var).unwrap(), b.get(var).unwrap(), 1e-11);
                }
                check_gradient(&name, vars, &|| weigh(&ours()));
            }
        }
    }

    #[test]
    fn running_statistics_follow_pytorch() {
        // Two channels: 1, 2, 3, 6 has mean 3, biased variance 3.5, unbiased 14/3; the other is constant.
        let (_, layer) = layer(2, DType::F64);
        let x = [1.0, 5.0, 2.0, 5.0, 3.0, 5.0, 6.0, 5.0];
        let x = Tensor::from_slice(&x, (4, 2), &Device::Cpu).unwrap();
        layer.forward(&x, None, Activation::Identity, Mode::Train).unwrap();
        let check = |var: &Var, expected: [f64; 2]| {
            let expected = Tensor::new(&expected, &Device::Cpu).unwrap();
            check_close("running", var.as_tensor(), &expected, 1e-15);
        };
        check(&layer.running_mean, [0.3, 0.5]);
        check(&layer.running_var, [0.9 + 0.1 * 14.0 / 3.0, 0.9]);
        layer.forward(&x, None, Activation::Identity, Mode::Train).unwrap();
        check(&layer.running_mean, [0.57, 0.95]);
        check(&layer.running_var, [0.81 + 0.19 * 14.0 / 3.0, 0.81]);
        // Evaluation uses them and leaves them.
        let tracked = Var::from_tensor(&x).unwrap();
        let y = layer.forward(&tracked, None, Activation::Identity, Mode::Evaluate).unwrap();
        let statistics = (layer.running_mean.as_tensor(), layer.running_var.as_tensor());
        let expected =
            composed(&x, &layer.weight, &layer.bias, Some(statistics), None, Activation::Identity)
                .unwrap();
        check_close("evaluation", &y, &expected, 1e-14);
        check(&layer.running_mean, [0.57, 0.95]);
        assert!(!y.track_op());
    }

    #[test]
    fn statistics_keep_their_digits_far_from_zero() {
        let far = (normal("x", &[3000, 8]).as_detached_tensor() + 1000.0).unwrap();
        let far = far.to_dtype(DType::F32).unwrap();
        let (_, found) = statistics::<f32>(&far).unwrap();
        let (_, expected) = statistics::<f64>(&far.to_dtype(DType::F64).unwrap()).unwrap();
        // One part in 1e7 of the mean against a deviation of 1, averaged over many rows.
        check_close("variance", &found.to_dtype(DType::F64).unwrap(), &expected, 1e-4);
    }

    #[test]
    fn what_cannot_be_normalized_is_refused() {
        let (_, layer) = layer(2, DType::F64);
        for shape in [vec![1, 2], vec![4, 3]] {
            let result = layer.forward(&normal("x", &shape), None, Activation::Relu, Mode::Train);
            assert!(result.is_err(), "{shape:?}");
        }
        let nan = (normal("x", &[4, 2]).as_tensor() * f64::NAN).unwrap();
        let y = layer.forward(&nan, None, Activation::Relu, Mode::Train).unwrap();
        assert!(y.to_vec2::<f64>().unwrap().concat().iter().all(|v| v.is_nan()));
    }
    #[test]
    fn adaptation_averages_the_batches_by_their_images() {
        let (_, layer) = layer(1, DType::F64);
        let batch = |values: &[f64]| Tensor::from_slice(values, (values.len(), 1), &Device::Cpu);
        // Means 1 and 5, unbiased variances 2 and 4, of two and three images.
        for (values, seen) in [(&[0.0, 2.0][..], 2), (&[3.0, 5.0, 7.0], 5)] {
            let mode = Mode::Adapt { batch: values.len(), seen };
            let x = batch(values).unwrap();
            let y = layer.forward(&x, None, Activation::Identity, mode).unwrap();
            let trained =
                composed(&x, &layer.weight, &layer.bias, None, None, Activation::Identity).unwrap();
            check_close("batch", &y, &trained, 1e-14);
        }
        let check = |var: &Var, expected: f64| {
            check_close(
                "mean",
                var.as_tensor(),
                &Tensor::new(&[expected], &Device::Cpu).unwrap(),
                1e-15,
            );
        };
        check(&layer.running_mean, (2.0 * 1.0 + 3.0 * 5.0) / 5.0);
        check(&layer.running_var, (2.0 * 2.0 + 3.0 * 4.0) / 5.0);
    }
}
