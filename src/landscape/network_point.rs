//! A network's loss at one point: the forward and backward sweeps, and their derivative along a direction.
//!
//! Hessian products are Pearlmutter's R operator (Neural Computation 6, 1994): R{.} is the derivative along v, so
//! R{gradient} = Hv is the derivative of both sweeps. Activations, slopes and backpropagated errors of the point
//! are kept, so that a product costs about two gradients and no exponential.

use std::mem;

use crate::landscape::{
    activation::Activation,
    network::{Block, BlockTargets, Cost, Layer, Network},
    objective::Point,
    products::{self, Weights},
    vector,
};

/// A network's loss evaluated at one point.
pub(super) struct NetworkPoint<'a> {
    network: &'a Network,
    theta: Vec<f64>,
    /// One a block of samples.
    states: Vec<State>,
    loss: f64,
    gradient: Vec<f64>,
}

/// What a block of samples keeps of the two sweeps.
struct State {
    /// One a hidden layer.
    hidden: Vec<Hidden>,
    /// The derivative of the loss by the outputs.
    output_error: Vec<f64>,
    /// The softmax of the outputs; empty under the mean squared error.
    probabilities: Vec<f64>,
}

struct Hidden {
    value: Vec<f64>,
    /// phi' of the units' inputs; empty if the layer is linear.
    slope: Vec<f64>,
    /// phi'' of the units' inputs times the derivative of the loss by the values; empty if the layer is linear.
    curvature: Vec<f64>,
    /// The derivative of the loss by the units' inputs.
    error: Vec<f64>,
}

impl<'a> NetworkPoint<'a> {
    pub(super) fn new(network: &'a Network, theta: &[f64]) -> Self {
        let mut point = Self {
            network,
            theta: theta.to_vec(),
            states: Vec::with_capacity(network.blocks.len()),
            loss: 0.0,
            gradient: vec![0.0; theta.len()],
        };
        for block in &network.blocks {
            let (mut state, cost) = point.forward(block);
            point.loss += cost;
            point.backward(block, &mut state);
            point.states.push(state);
        }
        let l2 = network.architecture.l2 / theta.len() as f64;
        point.loss += l2 * vector::norm_squared(theta);
        vector::add_scaled(2.0 * l2, theta, &mut point.gradient);
        point
    }

    /// Returns a block's activations, slopes and output errors, and its share of the cost.
    fn forward(&self, block: &Block) -> (State, f64) {
        let (last, lower) = self.network.output_and_hidden();
        let mut hidden: Vec<Hidden> = Vec::with_capacity(lower.len());
        let inputs_of = |layer: &Layer, hidden: &[Hidden]| {
            let mut inputs = vec![0.0; layer.outputs * block.length];
            let below = hidden.last().map_or(&block.inputs, |hidden| &hidden.value);
            add_affine(layer, &self.theta, below, &mut inputs, block.length);
            inputs
        };
        for layer in lower {
            let inputs = inputs_of(layer, &hidden);
            hidden.push(Hidden::new(self.network.architecture.activation, inputs));
        }
        let output_error = inputs_of(last, &hidden);
        let mut state = State { hidden, output_error, probabilities: Vec::new() };
        let cost = self.output_error(block, &mut state);
        (state, cost)
    }

    /// Turns a block's outputs into the derivative of the loss by them; returns the block's share of the cost.
    fn output_error(&self, block: &Block, state: &mut State) -> f64 {
        let outputs = &mut state.output_error;
        let total = self.network.samples as f64;
        match (&block.targets, self.network.architecture.cost) {
            (BlockTargets::Labels(labels), _) => {
                let cost = softmax_error(labels, outputs, block.length);
                state.probabilities.clone_from(outputs);
                for (s, label) in labels.iter().enumerate() {
                    outputs[label * block.length + s] -= 1.0;
                }
                for error in outputs.iter_mut() {
                    *error /= total;
                }
                cost / total
            }
            (BlockTargets::Inputs, _) => self.squared_error(block, &block.inputs, outputs),
            (BlockTargets::Values(values), _) => self.squared_error(block, values, outputs),
        }
    }

    fn squared_error(&self, block: &Block, targets: &[f64], outputs: &mut [f64]) -> f64 {
        let entries = (self.network.samples * outputs.len() / block.length) as f64;
        let mut cost = 0.0;
        for (outputs, targets) in outputs.chunks_mut(block.length).zip(targets.chunks(block.length))
        {
            let (errors, padding) = outputs.split_at_mut(block.samples);
            for (error, target) in errors.iter_mut().zip(targets) {
                *error -= target;
            }
            padding.fill(0.0);
            cost += vector::norm_squared(errors);
            for error in errors.iter_mut() {
                *error *= 2.0 / entries;
            }
        }
        cost / entries
    }

    /// Carries a block's output error down and adds its share of the gradient.
    fn backward(&mut self, block: &Block, state: &mut State) {
        for (i, layer) in self.network.layers.iter().enumerate().rev() {
            let (lower, upper) = state.hidden.split_at_mut(i);
            let error = upper.first().map_or(&state.output_error, |hidden| &hidden.error);
            let below = lower.last().map_or(&block.inputs, |hidden| &hidden.value);
            add_gradient(layer, error, below, &mut self.gradient, block.length);
            if let Some(hidden) = lower.last_mut() {
                let weights = layer.view(&self.theta).transposed();
                products::add_product(weights, error, &mut hidden.error, block.length);
                for ((error, slope), curvature) in
                    hidden.error.iter_mut().zip(&hidden.slope).zip(&mut hidden.curvature)
                {
                    *curvature *= *error;
                    *error *= slope;
                }
            }
        }
    }
}

impl Hidden {
    /// Applies the activation to the units' inputs; the error is left zero for the backward sweep.
    fn new(activation: Activation, inputs: Vec<f64>) -> Self {
        let error = vec![0.0; inputs.len()];
        if activation == Activation::Linear {
            return Self { value: inputs, slope: Vec::new(), curvature: Vec::new(), error };
        }
        let (mut value, mut slope, mut curvature) = (inputs, error.clone(), error.clone());
        for ((value, slope), curvature) in value.iter_mut().zip(&mut slope).zip(&mut curvature) {
            let response = activation.respond(*value);
            (*value, *slope, *curvature) = (response.value, response.slope, response.curvature);
        }
        Self { value, slope, curvature, error }
    }
}

impl Point for NetworkPoint<'_> {
    fn loss(&self) -> f64 {
        self.loss
    }

    fn gradient(&self) -> &[f64] {
        &self.gradient
    }

    fn hessian_vector(&self, v: &[f64], out: &mut [f64]) {
        let l2 = 2.0 * self.network.architecture.l2 / self.theta.len() as f64;
        for (out, v) in out.iter_mut().zip(v) {
            *out = l2 * v;
        }
        let mut tangents = Tangents::new(self.network);
        for (block, state) in self.network.blocks.iter().zip(&self.states) {
            self.tangent_forward(block, state, v, &mut tangents);
            self.tangent_backward(block, state, v, &mut tangents, out);
        }
    }
}

/// Derivatives along v, one buffer a layer; their first `block.length` x units entries are used.
struct Tangents {
    /// R{inputs of a layer's units}.
    inputs: Vec<Vec<f64>>,
    /// R{values of a hidden layer}; empty if it is linear, where the inputs are the values.
    values: Vec<Vec<f64>>,
    /// R{error} of the layer at hand.
    error: Vec<f64>,
    /// R{error} of the layer below.
    below: Vec<f64>,
}

impl Tangents {
    fn new(network: &Network) -> Self {
        let length = network.blocks.first().map_or(0, |block| block.length);
        let linear = network.architecture.activation == Activation::Linear;
        let buffer = |units: usize| vec![0.0; units * length];
        let widest = network.layers.iter().map(|layer| layer.outputs).max().unwrap_or(0);
        Self {
            inputs: network.layers.iter().map(|layer| buffer(layer.outputs)).collect(),
            values: network
                .layers
                .iter()
                .map(|layer| buffer(if linear { 0 } else { layer.outputs }))
                .collect(),
            error: buffer(widest),
            below: buffer(widest),
        }
    }

    fn values(&self, layer: usize, length: usize) -> &[f64] {
        let values = match &self.values[layer] {
            values if values.is_empty() => &self.inputs[layer],
            values => values,
        };
        &values[..length]
    }
}

impl NetworkPoint<'_> {
    fn tangent_forward(&self, block: &Block, state: &State, v: &[f64], tangents: &mut Tangents) {
        let length = block.length;
        for (i, layer) in self.network.layers.iter().enumerate() {
            let (done, rest) = tangents.inputs.split_at_mut(i);
            let inputs = &mut rest[0][..layer.outputs * length];
            inputs.fill(0.0);
            let below = i.checked_sub(1).map_or(&block.inputs, |i| &state.hidden[i].value);
            add_affine(layer, v, below, inputs, length);
            if let Some(linear) = done.last() {
                let values = &tangents.values[i - 1];
                let values = if values.is_empty() { linear } else { values };
                let values = &values[..layer.inputs * length];
                products::add_product(layer.view(&self.theta), values, inputs, length);
            }
            if let Some(hidden) = state.hidden.get(i) {
                for ((value, input), slope) in
                    tangents.values[i].iter_mut().zip(inputs).zip(&hidden.slope)
                {
                    *value = *input * slope;
                }
            }
        }
    }

    fn tangent_backward(
        &self,
        block: &Block,
        state: &State,
        v: &[f64],
        tangents: &mut Tangents,
        out: &mut [f64],
    ) {
        let length = block.length;
        self.tangent_output_error(block, state, tangents);
        for (i, layer) in self.network.layers.iter().enumerate().rev() {
            let tangent = &tangents.error[..layer.outputs * length];
            let Some(below) = i.checked_sub(1) else {
                add_gradient(layer, tangent, &block.inputs, out, length);
                break;
            };
            let hidden = &state.hidden[below];
            let error = state.hidden.get(i).map_or(&state.output_error, |hidden| &hidden.error);
            add_gradient(layer, tangent, &hidden.value, out, length);
            let values = tangents.values(below, layer.inputs * length);
            products::add_outer(error, values, &mut out[layer.weights.clone()], length);
            let result = &mut tangents.below[..layer.inputs * length];
            result.fill(0.0);
            let transposed = layer.view(&self.theta).transposed();
            products::add_product(transposed, tangent, result, length);
            products::add_product(layer.view(v).transposed(), error, result, length);
            for (((result, slope), curvature), input) in result
                .iter_mut()
                .zip(&hidden.slope)
                .zip(&hidden.curvature)
                .zip(&tangents.inputs[below])
            {
                *result = *result * slope + curvature * input;
            }
            mem::swap(&mut tangents.error, &mut tangents.below);
        }
    }

    /// Writes R{derivative of the loss by the outputs}.
    fn tangent_output_error(&self, block: &Block, state: &State, tangents: &mut Tangents) {
        let (layer, hidden) = self.network.output_and_hidden();
        let size = layer.outputs * block.length;
        let inputs = &tangents.inputs[hidden.len()][..size];
        let error = &mut tangents.error[..size];
        let total = self.network.samples as f64;
        if self.network.architecture.cost == Cost::MeanSquaredError {
            let scale = 2.0 / (total * layer.outputs as f64);
            for (error, input) in error.chunks_mut(block.length).zip(inputs.chunks(block.length)) {
                error[block.samples..].fill(0.0);
                for (error, input) in error[..block.samples].iter_mut().zip(input) {
                    *error = scale * input;
                }
            }
            return;
        }
        let mut means = vec![0.0; block.length];
        let rows = || state.probabilities.chunks(block.length).zip(inputs.chunks(block.length));
        for (probabilities, inputs) in rows() {
            for ((mean, probability), input) in means.iter_mut().zip(probabilities).zip(inputs) {
                *mean += probability * input;
            }
        }
        for (error, (probabilities, inputs)) in error.chunks_mut(block.length).zip(rows()) {
            for (((error, probability), input), mean) in
                error.iter_mut().zip(probabilities).zip(inputs).zip(&means)
            {
                *error = probability * (input - mean) / total;
            }
        }
    }
}

impl Layer {
    fn view<'a>(&self, parameters: &'a [f64]) -> Weights<'a> {
        Weights::new(&parameters[self.weights.clone()], self.outputs, self.inputs)
    }
}

/// Adds a layer's weights times the features below and its biases to `out`.
fn add_affine(layer: &Layer, parameters: &[f64], below: &[f64], out: &mut [f64], length: usize) {
    for (out, bias) in out.chunks_mut(length).zip(&parameters[layer.bias.clone()]) {
        for out in out.iter_mut() {
            *out += bias;
        }
    }
    products::add_product(layer.view(parameters), below, out, length);
}

/// Adds a layer's share of the gradient, given the error above and the features below.
fn add_gradient(layer: &Layer, error: &[f64], below: &[f64], gradient: &mut [f64], length: usize) {
    products::add_outer(error, below, &mut gradient[layer.weights.clone()], length);
    for (gradient, error) in gradient[layer.bias.clone()].iter_mut().zip(error.chunks(length)) {
        *gradient += vector::sum(error);
    }
}

/// Turns logits into softmax probabilities, zero in the padding; returns the sum of the cross-entropies.
fn softmax_error(labels: &[usize], logits: &mut [f64], length: usize) -> f64 {
    let mut cost = 0.0;
    for (s, label) in labels.iter().enumerate() {
        let size = logits.len();
        let samples = || (s..size).step_by(length);
        let largest = samples().fold(f64::NEG_INFINITY, |max, i| max.max(logits[i]));
        let of_label = logits[label * length + s] - largest;
        let mut total = 0.0;
        for i in samples() {
            logits[i] = libm::exp(logits[i] - largest);
            total += logits[i];
        }
        for i in samples() {
            logits[i] /= total;
        }
        cost += libm::log(total) - of_label;
    }
    for logits in logits.chunks_mut(length) {
        logits[labels.len()..].fill(0.0);
    }
    cost
}
