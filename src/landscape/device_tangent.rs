//! Products with the Hessians and Gauss-Newton matrices of many points at once, on a device.
//!
//! The derivative of both sweeps along a direction a point, as in `network_tangent`, whose words these are.

use candle_core::{Result, Tensor};

use crate::landscape::{
    device_model::{Model, Parameters, State, rows},
    network::Cost,
    objective::Matrix,
};

impl Model {
    /// Returns the products of each point's matrix with its direction, without the regularizer's.
    pub(super) fn products(
        &self,
        state: &State,
        v: &Parameters,
        matrix: Matrix,
    ) -> Result<Vec<Vec<f64>>> {
        let (tangents, outputs) = self.tangent_forward(state, v)?;
        let mut error = self.tangent_output_error(state, &outputs)?;
        // From the last layer down to the first.
        let mut parts = Vec::new();
        for (i, layer) in self.layers.iter().enumerate().rev() {
            if !layer.bias.is_empty() {
                parts.push(error.sum_keepdim(2)?);
            }
            let Some(below) = i.checked_sub(1) else {
                parts.push(self.times_transposed_inputs(&error)?);
                break;
            };
            let (hidden, tangent) = (&state.hidden[below], &tangents[below]);
            let mut of_weights = error.matmul(&hidden.value.t()?)?;
            let mut next = state.weights[i].t()?.matmul(&error)?;
            if matrix == Matrix::Hessian {
                of_weights = (of_weights + state.error(i).matmul(&tangent.values.t()?)?)?;
                next = (next + v.weights[i].t()?.matmul(state.error(i))?)?;
            }
            parts.push(of_weights);
            error = match &hidden.curved {
                None => next,
                Some(curved) if matrix == Matrix::Hessian => {
                    ((next * &curved.slope)? + (&curved.curvature * &tangent.inputs)?)?
                }
                Some(curved) => (next * &curved.slope)?,
            };
        }
        parts.reverse();
        rows(&parts)
    }

    /// Returns the derivatives along v of each hidden layer, and of the outputs.
    fn tangent_forward(&self, state: &State, v: &Parameters) -> Result<(Vec<Tangent>, Tensor)> {
        let mut tangents: Vec<Tangent> = Vec::with_capacity(state.hidden.len());
        let mut inputs = v.with_bias(0, self.times_inputs(&v.weights[0])?)?;
        for (i, hidden) in state.hidden.iter().enumerate() {
            let values = match &hidden.curved {
                None => inputs.clone(),
                Some(curved) => (&inputs * &curved.slope)?,
            };
            let of_weights = v.weights[i + 1].matmul(&hidden.value)?;
            let of_values = state.weights[i + 1].matmul(&values)?;
            tangents.push(Tangent { inputs, values });
            inputs = v.with_bias(i + 1, (of_weights + of_values)?)?;
        }
        Ok((tangents, inputs))
    }

    /// Returns R{derivative of the loss by the outputs}.
    fn tangent_output_error(&self, state: &State, outputs: &Tensor) -> Result<Tensor> {
        let samples = self.samples as f64;
        match (&state.probabilities, self.architecture.cost) {
            (Some(probabilities), Cost::CrossEntropy) => {
                let mean = (probabilities * outputs)?.sum_keepdim(1)?;
                (probabilities * outputs.broadcast_sub(&mean)?)? / samples
            }
            _ => outputs * (2.0 / (samples * outputs.dim(1)? as f64)),
        }
    }
}

/// Derivatives along v of a hidden layer: points x units x samples.
struct Tangent {
    /// R{inputs of the units}.
    inputs: Tensor,
    /// R{values}.
    values: Tensor,
}
