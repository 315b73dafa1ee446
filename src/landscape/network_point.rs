//! A network's loss at one point, by a forward and a backward sweep that leave what products with its Hessian need.

use crate::landscape::{
    activation::Activation,
    network::{Block, BlockTargets, Layer, Network},
    objective::{Matrix, Point},
    products::{self, Start, Weights},
    vector,
};

/// A network's loss evaluated at one point.
pub(super) struct NetworkPoint<'a> {
    pub(super) network: &'a Network,
    pub(super) theta: Vec<f64>,
    /// One a block of samples.
    pub(super) states: Vec<State>,
    loss: f64,
    gradient: Vec<f64>,
}

/// What a block of samples keeps of the two sweeps.
pub(super) struct State {
    /// One a hidden layer.
    pub(super) hidden: Vec<Hidden>,
    /// The derivative of the loss by the outputs.
    pub(super) output_error: Vec<f64>,
    /// The softmax of the outputs; empty under the mean squared error.
    pub(super) probabilities: Vec<f64>,
}

pub(super) struct Hidden {
    pub(super) value: Vec<f64>,
    /// phi' of the units' inputs; empty if the layer is linear.
    pub(super) slope: Vec<f64>,
    /// phi'' of the units' inputs times the derivative of the loss by the values; empty if the layer is linear.
    pub(super) curvature: Vec<f64>,
    /// The derivative of the loss by the units' inputs.
    pub(super) error: Vec<f64>,
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
            affine(layer, &self.theta, below, &mut inputs, block.length);
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
                products::product((weights, error), Start::Zero, &mut hidden.error, block.length);
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
        self.products(v, out, Matrix::Hessian);
    }

    fn hessian_vectors(&self, vectors: &[f64], out: &mut [f64]) {
        self.products(vectors, out, Matrix::Hessian);
    }

    fn gauss_newton_vectors(&self, vectors: &[f64], out: &mut [f64]) -> Option<()> {
        self.products(vectors, out, Matrix::GaussNewton);
        Some(())
    }
}

impl Layer {
    pub(super) fn view<'a>(&self, parameters: &'a [f64]) -> Weights<'a> {
        Weights::new(&parameters[self.weights.clone()], self.outputs, self.inputs)
    }
}

/// Writes a layer's weights times the features below, and its biases, into `out`.
fn affine(layer: &Layer, parameters: &[f64], below: &[f64], out: &mut [f64], length: usize) {
    let biases = Start::Biases(&parameters[layer.bias.clone()]);
    products::product((layer.view(parameters), below), biases, out, length);
}

/// Adds a layer's share of the gradient, given the error above and the features below.
pub(super) fn add_gradient(
    layer: &Layer,
    error: &[f64],
    below: &[f64],
    gradient: &mut [f64],
    length: usize,
) {
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
