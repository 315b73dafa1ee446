//! A network's loss at many points at once, by candle's operations on a device, in f64.
//!
//! Every tensor has an entry a point in front: weights are points x outputs x inputs, features points x units x samples.
//! So a layer is one batched matrix product for all points, and what a device is slow at, launching kernels and copying,
//! is paid once for all. Batches have a fixed size, empty places included, so that no point's last bits depend on the
//! others'.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ops;

use crate::landscape::{
    activation::{Activation, SOFTPLUS_SHARPNESS},
    error::LandscapeError,
    gathered::Batch,
    network::{Architecture, Block, BlockTargets, Cost, Layer, Network},
    objective::{Matrix, Objective as _},
    vector,
};

/// How many points are evaluated at once, or fewer where there are fewer seats.
const TOGETHER: usize = 32;

/// A network's loss on a device.
pub struct DeviceNetwork {
    pub(super) architecture: Architecture,
    pub(super) layers: Vec<Layer>,
    dim: usize,
    device: Device,
    pub(super) samples: usize,
    /// Features x samples.
    pub(super) inputs: Tensor,
    /// Samples x features.
    pub(super) inputs_transposed: Tensor,
    /// Outputs x samples: values, or ones at the labels.
    targets: Tensor,
    /// Where the seats are.
    seated: State,
    seats: usize,
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

impl DeviceNetwork {
    /// Lays a network's samples on a device, with room for at least one point.
    pub fn new(
        network: &Network,
        device: &Device,
        seats: usize,
    ) -> std::result::Result<Self, LandscapeError> {
        Self::on(network, device, seats.max(1)).map_err(failed)
    }

    fn on(network: &Network, device: &Device, seats: usize) -> Result<Self> {
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
        let mut network = Self {
            layers: network.layers.clone(),
            dim: network.dim(),
            device: device.clone(),
            samples: network.samples,
            inputs_transposed: inputs.t()?.contiguous()?,
            inputs,
            targets,
            seated: State::of_none(device)?,
            seats,
            architecture,
        };
        let origin = network.parameters(&[None])?;
        let (one, _) = network.sweep(origin)?;
        network.seated = one.map(|tensor| {
            let mut dims = tensor.dims().to_vec();
            dims[0] = seats;
            Tensor::zeros(dims, DType::F64, device)
        })?;
        Ok(network)
    }

    /// The bytes that each seat needs on a device, products included, as an upper bound.
    pub fn bytes_per_seat(network: &Network) -> u64 {
        let sizes = &network.architecture().sizes;
        let units: usize = sizes[1..].iter().sum();
        let widest = sizes.iter().max().copied().unwrap_or(0);
        // Kept of each unit are four numbers a sample, and two in a product; some eight layers are in passing.
        let numbers = (6 * units + 8 * widest) * network.samples() + 12 * network.dim();
        8 * numbers as u64
    }

    /// Copies vectors of parameters to the device; zeros where there is none.
    fn parameters(&self, vectors: &[Option<&[f64]>]) -> Result<Parameters> {
        let count = vectors.len();
        let copy = |range: &std::ops::Range<usize>, rows: usize| {
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
    fn sweep(&self, parameters: Parameters) -> Result<(State, Tensor)> {
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
    fn gradients(&self, state: &State) -> Result<Vec<Vec<f64>>> {
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

    /// The points of a batch of at most [`TOGETHER`], with empty places up to its fixed size.
    fn batches<'t>(
        &self,
        thetas: &'t [&'t [f64]],
    ) -> impl Iterator<Item = Result<Parameters>> + use<'_, 't> {
        let size = TOGETHER.min(self.seats);
        thetas.chunks(size).map(move |thetas| {
            let mut all: Vec<Option<&[f64]>> = thetas.iter().map(|theta| Some(*theta)).collect();
            all.resize(size, None);
            self.parameters(&all)
        })
    }

    fn evaluate_all(&self, thetas: &[&[f64]]) -> Result<Vec<(f64, Vec<f64>)>> {
        let mut found = Vec::with_capacity(thetas.len());
        for parameters in self.batches(thetas) {
            let (state, costs) = self.sweep(parameters?)?;
            let gradients = self.gradients(&state)?;
            found.extend(costs.to_vec1::<f64>()?.into_iter().zip(gradients));
        }
        found.truncate(thetas.len());
        let l2 = self.architecture.l2 / self.dim as f64;
        for ((loss, gradient), theta) in found.iter_mut().zip(thetas) {
            *loss += l2 * vector::norm_squared(theta);
            vector::add_scaled(2.0 * l2, theta, gradient);
        }
        Ok(found)
    }

    fn place_all(&self, seats: &[(usize, &[f64])]) -> Result<()> {
        let thetas: Vec<&[f64]> = seats.iter().map(|(_, theta)| *theta).collect();
        let size = TOGETHER.min(self.seats);
        for (parameters, seats) in self.batches(&thetas).zip(seats.chunks(size)) {
            let (state, _) = self.sweep(parameters?)?;
            for (row, (seat, _)) in seats.iter().enumerate() {
                for (all, found) in self.seated.tensors().into_iter().zip(state.tensors()) {
                    all.slice_set(&found.narrow(0, row, 1)?.contiguous()?, 0, *seat)?;
                }
            }
        }
        Ok(())
    }

    fn multiply_all(&self, matrix: Matrix, seats: &[(usize, &[f64])]) -> Result<Vec<Vec<f64>>> {
        let mut vectors = vec![None; self.seats];
        for (seat, v) in seats {
            vectors[*seat] = Some(*v);
        }
        let mut products = self.products(&self.seated, &self.parameters(&vectors)?, matrix)?;
        let l2 = 2.0 * self.architecture.l2 / self.dim as f64;
        let of_seat = |(seat, v): &(usize, &[f64])| {
            let mut product = std::mem::take(&mut products[*seat]);
            vector::add_scaled(l2, v, &mut product);
            product
        };
        Ok(seats.iter().map(of_seat).collect())
    }
}

/// Joins the parts of vectors of parameters, layer by layer, and copies them from the device.
pub(super) fn rows(parts: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    let parts: Vec<Tensor> =
        parts.iter().map(|part| part.flatten_from(1)).collect::<Result<_>>()?;
    Tensor::cat(&parts, 1)?.to_vec2()
}

impl Batch for DeviceNetwork {
    fn dim(&self) -> usize {
        self.dim
    }

    fn seats(&self) -> usize {
        self.seats
    }

    fn evaluate(
        &mut self,
        thetas: &[&[f64]],
    ) -> std::result::Result<Vec<(f64, Vec<f64>)>, LandscapeError> {
        self.evaluate_all(thetas).map_err(failed)
    }

    fn place(&mut self, seats: &[(usize, &[f64])]) -> std::result::Result<(), LandscapeError> {
        self.place_all(seats).map_err(failed)
    }

    fn multiply(
        &mut self,
        matrix: Matrix,
        seats: &[(usize, &[f64])],
    ) -> std::result::Result<Vec<Vec<f64>>, LandscapeError> {
        self.multiply_all(matrix, seats).map_err(failed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` takes")]
fn failed(error: candle_core::Error) -> LandscapeError {
    LandscapeError::Device(error.to_string())
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
    /// Stands for a state before there is one.
    fn of_none(device: &Device) -> Result<Self> {
        let output_error = Tensor::zeros(0, DType::F64, device)?;
        Ok(Self { weights: Vec::new(), hidden: Vec::new(), output_error, probabilities: None })
    }

    /// The derivative of the loss by the inputs of a layer's units.
    pub(super) fn error(&self, layer: usize) -> &Tensor {
        self.hidden.get(layer).map_or(&self.output_error, |hidden| &hidden.error)
    }

    /// All tensors, in one order for all states of a network.
    fn tensors(&self) -> Vec<&Tensor> {
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
    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
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
