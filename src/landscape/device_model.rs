//! A network's loss at many points at once, by candle's operations, in f64.
//!
//! Every tensor has an entry a point in front: weights are points x outputs x inputs, features points x units x samples.
//! So a layer is one batched matrix product for all points, and what a device is slow at, launching kernels and copying,
//! is paid once for all.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ops;

use crate::landscape::{
    activation::{Activation, SOFTPLUS_SHARPNESS},
    network::{Architecture, Block, BlockTargets, Cost, Layer, Network},
    objective::Objective as _,
};

/// A network and its samples on a device.
pub(super) struct Model {
    pub(super) architecture: Architecture,
    pub(super) layers: Vec<Layer>,
    pub(super) dim: usize,
    pub(super) samples: usize,
    device: Device,
    /// Features x samples.
    inputs: Tensor,
    /// Samples x features.
    inputs_transposed: Tensor,
    /// Outputs x samples: values, or ones at the labels.
    targets: Tensor,
}

/// What the sweeps at some points leave for products.
pub(super) struct State {
    /// Points x outputs x inputs, a layer.
    pub(super) weights: Vec<Tensor>,
    /// One a hidden layer.
    pub(super) hidden: Vec<Hidden>,
    /// The derivative of the loss by the outputs: points x outputs x samples.
    pub(super) output_error: Tensor,
    /// The softmax of the outputs; absent under the mean squared error.
    pub(super) probabilities: Option<Tensor>,
}

/// A hidden layer; each tensor is points x units x samples.
pub(super) struct Hidden {
    pub(super) value: Tensor,
    /// The derivative of the loss by the units' inputs.
    pub(super) error: Tensor,
    /// Absent if the layer is linear.
    pub(super) curved: Option<Curved>,
}

pub(super) struct Curved {
    /// phi' of the units' inputs.
    pub(super) slope: Tensor,
    /// phi'' of the units' inputs times the derivative of the loss by the values.
    pub(super) curvature: Tensor,
}

/// Parameters, or directions, of some points.
pub(super) struct Parameters {
    /// Points x outputs x inputs, a layer.
    pub(super) weights: Vec<Tensor>,
    /// Points x outputs x 1, a layer; absent without biases.
    biases: Vec<Option<Tensor>>,
}

impl Model {
    pub(super) fn new(network: &Network, device: &Device) -> Result<Self> {
        let architecture = network.architecture().clone();
        let sizes = &architecture.sizes;
        let (features, outputs) = (sizes[0], sizes[sizes.len() - 1]);
        let on_device = |units: usize, values: &dyn Fn(&Block, usize, usize) -> f64| {
            let units_of = |unit: usize| {
                let each = network.blocks.iter();
                each.flat_map(move |b| (0..b.samples).map(move |s| values(b, unit, s)))
            };
            let values: Vec<f64> = (0..units).flat_map(units_of).collect();
            Tensor::from_vec(values, (units, network.samples), device)
        };
        let inputs = on_device(features, &|b, unit, s| b.inputs[unit * b.length + s])?;
        let targets = on_device(outputs, &|b, unit, s| match &b.targets {
            BlockTargets::Inputs => b.inputs[unit * b.length + s],
            BlockTargets::Values(values) => values[unit * b.length + s],
            BlockTargets::Labels(labels) => f64::from(u8::from(labels[s] == unit)),
        })?;
        Ok(Self {
            layers: network.layers.clone(),
            dim: network.dim(),
            samples: network.samples,
            device: device.clone(),
            inputs_transposed: inputs.t()?.contiguous()?,
            inputs,
            targets,
            architecture,
        })
    }

    /// Copies vectors of parameters to the device; zeros where there is none.
    pub(super) fn parameters(&self, vectors: &[Option<&[f64]>]) -> Result<Parameters> {
        let count = vectors.len();
        let copy = |range: &Range<usize>, rows: usize| {
            let mut values = vec![0.0; count * range.len()];
            for (values, vector) in values.chunks_mut(range.len().max(1)).zip(vectors) {
                if let Some(vector) = vector {
                    values.copy_from_slice(&vector[range.clone()]);
                }
            }
            Tensor::from_vec(values, (count, rows, range.len() / rows), &self.device)
        };
        let weights = self.layers.iter().map(|layer| copy(&layer.weights, layer.outputs));
        let biases = self.layers.iter().map(|layer| {
            (!layer.bias.is_empty()).then(|| copy(&layer.bias, layer.outputs)).transpose()
        });
        Ok(Parameters {
            weights: weights.collect::<Result<_>>()?,
            biases: biases.collect::<Result<_>>()?,
        })
    }

    /// Returns what products at some points need, and the cost of each, without the regularizer's.
    pub(super) fn sweep(&self, parameters: Parameters) -> Result<(State, Tensor)> {
        let last = self.layers.len() - 1;
        let mut hidden: Vec<Hidden> = Vec::with_capacity(last);
        let mut inputs = parameters.with_bias(0, self.times_inputs(&parameters.weights[0])?)?;
        for i in 0..last {
            hidden.push(Hidden::new(self.architecture.activation, inputs)?);
            inputs =
                parameters.with_bias(i + 1, parameters.weights[i + 1].matmul(&hidden[i].value)?)?;
        }
        let (output_error, probabilities, cost) = self.output_error(&inputs)?;
        let mut state = State { weights: parameters.weights, hidden, output_error, probabilities };
        for i in (0..last).rev() {
            let error = state.error(i + 1);
            let error = state.weights[i + 1].t()?.matmul(error)?;
            let hidden = &mut state.hidden[i];
            hidden.error = match &mut hidden.curved {
                None => error,
                Some(Curved { slope, curvature }) => {
                    *curvature = (&*curvature * &error)?;
                    (&*slope * error)?
                }
            };
        }
        Ok((state, cost))
    }

    /// Returns the derivative of the loss by the outputs, their softmax where the cost has one, and the cost.
    fn output_error(&self, outputs: &Tensor) -> Result<(Tensor, Option<Tensor>, Tensor)> {
        if self.architecture.cost == Cost::MeanSquaredError {
            let entries = self.targets.elem_count() as f64;
            let error = outputs.broadcast_sub(&self.targets)?;
            let cost = (error.sqr()?.flatten_from(1)?.sum(1)? / entries)?;
            return Ok(((error * (2.0 / entries))?, None, cost));
        }
        let samples = self.samples as f64;
        let shifted = outputs.broadcast_sub(&outputs.max_keepdim(1)?)?;
        let powers = shifted.exp()?;
        let totals = powers.sum_keepdim(1)?;
        let probabilities = powers.broadcast_div(&totals)?;
        let of_labels = shifted.broadcast_mul(&self.targets)?.sum_keepdim(1)?;
        let cost = ((totals.log()? - of_labels)?.flatten_from(1)?.sum(1)? / samples)?;
        let error = (probabilities.broadcast_sub(&self.targets)? / samples)?;
        Ok((error, Some(probabilities), cost))
    }

    /// Returns the gradients at some points, without the regularizer's.
    pub(super) fn gradients(&self, state: &State) -> Result<Vec<Vec<f64>>> {
        let mut parts = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let error = state.error(i);
            parts.push(match i.checked_sub(1) {
                None => self.times_transposed_inputs(error)?,
                Some(below) => error.matmul(&state.hidden[below].value.t()?)?,
            });
            if !layer.bias.is_empty() {
                parts.push(error.sum_keepdim(2)?);
            }
        }
        rows(&parts)
    }

    /// Returns weights times the samples' features: points x outputs x samples.
    pub(super) fn times_inputs(&self, weights: &Tensor) -> Result<Tensor> {
        let (points, outputs, features) = weights.dims3()?;
        let all = weights.reshape((points * outputs, features))?;
        all.matmul(&self.inputs)?.reshape((points, outputs, self.samples))
    }

    /// Returns errors times the samples' features, summed over samples: points x outputs x features.
    pub(super) fn times_transposed_inputs(&self, error: &Tensor) -> Result<Tensor> {
        let (points, outputs, samples) = error.dims3()?;
        let all = error.reshape((points * outputs, samples))?;
        let features = self.inputs.dim(0)?;
        all.matmul(&self.inputs_transposed)?.reshape((points, outputs, features))
    }
}

/// Joins the parts of vectors of parameters, layer by layer, and copies them from the device.
pub(super) fn rows(parts: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    let parts: Vec<Tensor> =
        parts.iter().map(|part| part.flatten_from(1)).collect::<Result<_>>()?;
    Tensor::cat(&parts, 1)?.to_vec2()
}

impl Parameters {
    /// Adds a layer's biases to features.
    pub(super) fn with_bias(&self, layer: usize, features: Tensor) -> Result<Tensor> {
        match &self.biases[layer] {
            Some(bias) => features.broadcast_add(bias),
            None => Ok(features),
        }
    }
}

impl State {
    /// The derivative of the loss by the inputs of a layer's units.
    pub(super) fn error(&self, layer: usize) -> &Tensor {
        self.hidden.get(layer).map_or(&self.output_error, |hidden| &hidden.error)
    }

    /// All tensors, in one order for all states of a network.
    pub(super) fn tensors(&self) -> Vec<&Tensor> {
        let mut all: Vec<&Tensor> = self.weights.iter().collect();
        for Hidden { value, error, curved } in &self.hidden {
            all.extend([value, error]);
            all.extend(curved.iter().flat_map(|curved| [&curved.slope, &curved.curvature]));
        }
        all.push(&self.output_error);
        all.extend(&self.probabilities);
        all
    }

    /// A state of other tensors in the places of these.
    pub(super) fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let hidden = |hidden: &Hidden| {
            let curved = hidden.curved.as_ref();
            let curved = curved.map(|c| {
                Ok::<_, candle_core::Error>(Curved {
                    slope: f(&c.slope)?,
                    curvature: f(&c.curvature)?,
                })
            });
            Ok(Hidden {
                value: f(&hidden.value)?,
                error: f(&hidden.error)?,
                curved: curved.transpose()?,
            })
        };
        Ok(Self {
            weights: self.weights.iter().map(&f).collect::<Result<_>>()?,
            hidden: self.hidden.iter().map(hidden).collect::<Result<_>>()?,
            output_error: f(&self.output_error)?,
            probabilities: self.probabilities.as_ref().map(&f).transpose()?,
        })
    }
}

impl Hidden {
    /// Applies the activation to the units' inputs; the backward sweep puts in the error.
    fn new(activation: Activation, x: Tensor) -> Result<Self> {
        let error = x.clone();
        let (value, slope, curvature) = match activation {
            Activation::Linear => return Ok(Self { value: x, error, curved: None }),
            Activation::Swish => {
                let s = ops::sigmoid(&x)?;
                let d = (&s * (1.0 - &s)?)?;
                let xd = (&x * &d)?;
                let curvature = ((&d * 2.0)? + (&xd * (1.0 - (&s * 2.0)?)?)?)?;
                ((&x * &s)?, (&s + xd)?, curvature)
            }
            Activation::Tanh => {
                let t = x.tanh()?;
                let slope = (1.0 - t.sqr()?)?;
                let curvature = ((&t * &slope)? * -2.0)?;
                (t, slope, curvature)
            }
            Activation::Relu => {
                let slope = x.gt(0.0)?.to_dtype(DType::F64)?;
                // Not the maximum with 0, which would hide NaN.
                ((&x * &slope)?, slope, x.zeros_like()?)
            }
            Activation::Softplus => {
                let u = (&x * SOFTPLUS_SHARPNESS)?;
                let s = ops::sigmoid(&u)?;
                let log = (u.relu()? + (u.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
                let curvature = ((&s * (1.0 - &s)?)? * SOFTPLUS_SHARPNESS)?;
                ((log / SOFTPLUS_SHARPNESS)?, s, curvature)
            }
            Activation::Sigmoid => {
                let s = ops::sigmoid(&x)?;
                let slope = (&s * (1.0 - &s)?)?;
                let curvature = (&slope * (1.0 - (&s * 2.0)?)?)?;
                (s, slope, curvature)
            }
        };
        Ok(Self { value, error, curved: Some(Curved { slope, curvature }) })
    }
}
