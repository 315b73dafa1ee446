//! The derivative of a network's two sweeps along a direction: products with its Hessian and Gauss-Newton matrix.
//!
//! Hessian products are Pearlmutter's R operator (Neural Computation 6, 1994): R{.} is the derivative along v, so
//! R{gradient} = Hv is the derivative of both sweeps. Activations, slopes and backpropagated errors of the point are
//! kept, so that a product costs about two gradients and no exponential. Gauss-Newton products are R{outputs} = Jv,
//! times the Hessian of the cost by the outputs, carried down by the backward sweep of a gradient (Schraudolph, Neural
//! Computation 14, 2002). Buffers belong to the thread, so that a product allocates nothing once they have grown.

use std::{cell::RefCell, mem};

use crate::landscape::{
    activation::Activation,
    network::{Block, Cost, Network},
    network_point::{NetworkPoint, State, add_gradient},
    objective::Matrix,
    products::{self, Start},
};

thread_local! {
    static BUFFERS: RefCell<Tangents> = RefCell::default();
}

/// Derivatives along v, one buffer a layer; their first `block.length` x units entries are used.
#[derive(Default)]
struct Tangents {
    /// R{inputs of a layer's units}.
    inputs: Vec<Vec<f64>>,
    /// R{values of a hidden layer}; empty if it is linear, where the inputs are the values.
    values: Vec<Vec<f64>>,
    /// R{error} of the layer at hand.
    error: Vec<f64>,
    /// R{error} of the layer below.
    below: Vec<f64>,
    /// The mean of R{outputs} under the softmax, one a sample.
    means: Vec<f64>,
}

impl Tangents {
    /// Takes the sizes of a network. What the buffers held is of no account: whoever reads them fills them first.
    fn fit(&mut self, network: &Network) {
        let length = network.blocks.first().map_or(0, |block| block.length);
        let linear = network.architecture.activation == Activation::Linear;
        let widest = network.layers.iter().map(|layer| layer.outputs).max().unwrap_or(0);
        self.inputs.resize_with(network.layers.len(), Vec::new);
        self.values.resize_with(network.layers.len(), Vec::new);
        for ((layer, inputs), values) in
            network.layers.iter().zip(&mut self.inputs).zip(&mut self.values)
        {
            inputs.resize(layer.outputs * length, 0.0);
            values.resize(if linear { 0 } else { layer.outputs * length }, 0.0);
        }
        self.error.resize(widest * length, 0.0);
        self.below.resize(widest * length, 0.0);
        self.means.resize(length, 0.0);
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
    /// Writes a matrix of this point times each of `vectors`, which lie one after the other, into `out`.
    ///
    /// Each block of samples goes through all vectors before the next, so that what the point keeps of it is read from
    /// main memory once. A product has the same bits as alone.
    pub(super) fn products(&self, vectors: &[f64], out: &mut [f64], matrix: Matrix) {
        let dim = self.theta.len();
        let l2 = 2.0 * self.network.architecture.l2 / dim as f64;
        for (out, v) in out.iter_mut().zip(vectors) {
            *out = l2 * v;
        }
        BUFFERS.with_borrow_mut(|tangents| {
            tangents.fit(self.network);
            for (block, state) in self.network.blocks.iter().zip(&self.states) {
                for (v, out) in vectors.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
                    self.tangent_forward(block, state, v, tangents);
                    self.tangent_output_error(block, state, tangents);
                    match matrix {
                        Matrix::Hessian => self.tangent_backward(block, state, v, tangents, out),
                        Matrix::GaussNewton => self.backward_alone(block, state, tangents, out),
                    }
                }
            }
        });
    }

    fn tangent_forward(&self, block: &Block, state: &State, v: &[f64], tangents: &mut Tangents) {
        let length = block.length;
        for (i, layer) in self.network.layers.iter().enumerate() {
            let (done, rest) = tangents.inputs.split_at_mut(i);
            let inputs = &mut rest[0][..layer.outputs * length];
            let biases = Start::Biases(&v[layer.bias.clone()]);
            let below = i.checked_sub(1).map_or(&block.inputs, |i| &state.hidden[i].value);
            let of_weights = (layer.view(v), below.as_slice());
            if let Some(linear) = done.last() {
                let values = &tangents.values[i - 1];
                let values = if values.is_empty() { linear } else { values };
                let of_values = (layer.view(&self.theta), &values[..layer.inputs * length]);
                products::product_pair([of_weights, of_values], biases, inputs, length);
            } else {
                products::product(of_weights, biases, inputs, length);
            }
            if let Some(hidden) = state.hidden.get(i) {
                products::multiply(inputs, &hidden.slope, &mut tangents.values[i]);
            }
        }
    }

    /// Carries R{output error} down, with the change of every factor of the backward sweep.
    fn tangent_backward(
        &self,
        block: &Block,
        state: &State,
        v: &[f64],
        tangents: &mut Tangents,
        out: &mut [f64],
    ) {
        let length = block.length;
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
            let of_error = (layer.view(&self.theta).transposed(), tangent);
            let of_weights = (layer.view(v).transposed(), error.as_slice());
            products::product_pair([of_error, of_weights], Start::Zero, result, length);
            let (slope, curvature) = (&hidden.slope, &hidden.curvature);
            products::scale_and_add(slope, curvature, &tangents.inputs[below], result);
            mem::swap(&mut tangents.error, &mut tangents.below);
        }
    }

    /// Carries R{output error} down by the backward sweep of a gradient.
    fn backward_alone(
        &self,
        block: &Block,
        state: &State,
        tangents: &mut Tangents,
        out: &mut [f64],
    ) {
        let length = block.length;
        for (i, layer) in self.network.layers.iter().enumerate().rev() {
            let error = &tangents.error[..layer.outputs * length];
            let Some(below) = i.checked_sub(1) else {
                add_gradient(layer, error, &block.inputs, out, length);
                break;
            };
            let hidden = &state.hidden[below];
            add_gradient(layer, error, &hidden.value, out, length);
            let result = &mut tangents.below[..layer.inputs * length];
            let transposed = layer.view(&self.theta).transposed();
            products::product((transposed, error), Start::Zero, result, length);
            for (result, slope) in result.iter_mut().zip(&hidden.slope) {
                *result *= slope;
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
                let (error, padding) = error.split_at_mut(block.samples);
                products::scale(scale, &input[..error.len()], error);
                padding.fill(0.0);
            }
            return;
        }
        let means = &mut tangents.means[..block.length];
        means.fill(0.0);
        let rows = || state.probabilities.chunks(block.length).zip(inputs.chunks(block.length));
        for (probabilities, inputs) in rows() {
            for ((mean, probability), input) in means.iter_mut().zip(probabilities).zip(inputs) {
                *mean += probability * input;
            }
        }
        for (error, (probabilities, inputs)) in error.chunks_mut(block.length).zip(rows()) {
            for (((error, probability), input), mean) in
                error.iter_mut().zip(probabilities).zip(inputs).zip(means.iter())
            {
                *error = probability * (input - mean) / total;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        landscape::{
            data::{Data, Targets},
            network::Architecture,
            objective::Objective,
            vector,
        },
        rng::Streams,
    };

    const SAMPLES: usize = 4;
    const OUTPUTS: usize = 3;

    fn network(cost: Cost, targets: Targets, l2: f64) -> Network {
        let mut inputs = vec![0.0; SAMPLES * 2];
        Streams::new(3, "test").stream("inputs").fill_normal(&mut inputs);
        let (sizes, activation) = (vec![2, 5, OUTPUTS], Activation::Swish);
        let architecture = Architecture { sizes, bias: true, activation, cost, l2 };
        Network::new(architecture, Data { samples: SAMPLES, inputs, targets }).unwrap()
    }

    fn regression(targets: Vec<f64>) -> Network {
        network(Cost::MeanSquaredError, Targets::Values(targets), 0.0)
    }

    fn normal(n: usize, purpose: &str) -> Vec<f64> {
        let mut values = vec![0.0; n];
        Streams::new(8, "test").stream(purpose).fill_normal(&mut values);
        values
    }

    /// The outputs, sample by sample, from losses alone: those of targets 0 and e differ by (2 e'f - 1) / n.
    fn outputs(theta: &[f64]) -> Vec<f64> {
        let n = SAMPLES * OUTPUTS;
        let none = regression(vec![0.0; n]).evaluate(theta).loss();
        let with = |i: usize| {
            let mut targets = vec![0.0; n];
            targets[i] = 1.0;
            regression(targets).evaluate(theta).loss()
        };
        (0..n).map(|i| f64::midpoint(n as f64 * (none - with(i)), 1.0)).collect()
    }

    fn gauss_newton(network: &Network, theta: &[f64], v: &[f64]) -> Vec<f64> {
        let mut out = vec![f64::NAN; v.len()];
        network.evaluate(theta).gauss_newton_vectors(v, &mut out).unwrap();
        out
    }

    #[test]
    fn without_residuals_the_hessian_is_the_gauss_newton_matrix() {
        let dim = regression(vec![0.0; SAMPLES * OUTPUTS]).dim();
        let (theta, v) = (normal(dim, "theta"), normal(dim, "v"));
        let exact = regression(outputs(&theta));
        let mut hv = vec![0.0; dim];
        exact.evaluate(&theta).hessian_vector(&v, &mut hv);
        let gv = gauss_newton(&exact, &theta, &v);
        let error = vector::norm(&vector::moved(&gv, -1.0, &hv)) / vector::norm(&hv);
        assert!(error < 1e-13, "{error}");
        // The matrix does not depend on the targets of a squared error.
        let other = regression(normal(SAMPLES * OUTPUTS, "targets"));
        assert_eq!(gauss_newton(&other, &theta, &v), gv);
    }

    #[test]
    fn many_products_at_once_have_the_bits_of_each_alone() {
        // Two blocks of samples.
        let samples = 140;
        let data =
            Data { samples, inputs: normal(samples * 2, "inputs"), targets: Targets::Inputs };
        let architecture = Architecture {
            sizes: vec![2, 5, 2],
            bias: true,
            activation: Activation::Tanh,
            cost: Cost::MeanSquaredError,
            l2: 0.1,
        };
        let network = Network::new(architecture, data).unwrap();
        let (dim, count) = (network.dim(), 3);
        let theta = normal(dim, "theta");
        let point = network.evaluate(&theta);
        let vectors = normal(count * dim, "v");
        let (mut hv, mut gv) = (vec![0.0; count * dim], vec![0.0; count * dim]);
        point.hessian_vectors(&vectors, &mut hv);
        point.gauss_newton_vectors(&vectors, &mut gv).unwrap();
        for ((v, hv), gv) in vectors.chunks(dim).zip(hv.chunks(dim)).zip(gv.chunks(dim)) {
            let mut alone = vec![0.0; dim];
            point.hessian_vector(v, &mut alone);
            assert_eq!(alone, hv);
            assert_eq!(gauss_newton(&network, &theta, v), gv);
        }
    }

    #[test]
    fn products_are_those_of_the_outputs_derivatives() {
        let labels = Targets::Labels(vec![0, 2, 1, 1]);
        let targets = Targets::Values(normal(SAMPLES * OUTPUTS, "targets"));
        for (cost, targets) in [(Cost::CrossEntropy, labels), (Cost::MeanSquaredError, targets)] {
            let network = network(cost, targets, 0.3);
            let theta = normal(network.dim(), "theta");
            let (v, w) = (normal(network.dim(), "v"), normal(network.dim(), "w"));
            let h = 1e-5;
            let along = |direction: &[f64]| -> Vec<f64> {
                let at = |t: f64| outputs(&vector::moved(&theta, t, direction));
                at(h).iter().zip(at(-h)).map(|(up, down)| (up - down) / (2.0 * h)).collect()
            };
            let (jv, jw, f) = (along(&v), along(&w), outputs(&theta));
            let mut expected = 2.0 * 0.3 / network.dim() as f64 * vector::dot(&v, &w);
            for ((jv, jw), f) in jv.chunks(OUTPUTS).zip(jw.chunks(OUTPUTS)).zip(f.chunks(OUTPUTS)) {
                expected += if cost == Cost::MeanSquaredError {
                    2.0 * vector::dot(jv, jw) / (SAMPLES * OUTPUTS) as f64
                } else {
                    let total: f64 = f.iter().map(|f| f.exp()).sum();
                    let p: Vec<f64> = f.iter().map(|f| f.exp() / total).collect();
                    let mean = |j: &[f64]| vector::dot(&p, j);
                    let both: Vec<f64> = jv.iter().zip(jw).map(|(v, w)| v * w).collect();
                    (mean(&both) - mean(jv) * mean(jw)) / SAMPLES as f64
                };
            }
            let found = vector::dot(&gauss_newton(&network, &theta, &v), &w);
            // Differences over 2e-5 of outputs that carry some 1e-14 of rounding.
            assert!((found / expected - 1.0).abs() < 1e-7, "{cost:?} {found} {expected}");
            assert!(vector::dot(&gauss_newton(&network, &theta, &v), &v) > 0.0);
        }
    }
}
