//! The head that a contrastive loss looks through, discarded after pre-training (Chen et al. 2020).

use std::result;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::error::NnError;
use super::layers::{Mode, linear};
use super::norm::{Activation, BatchNorm};
use super::params::{Init, Parameters};
use crate::rng::Streams;

/// A multi-layer perceptron: linear, batch norm, `ReLU`, …, linear, all without bias.
#[derive(Debug)]
pub struct Projector {
    pub parameters: Parameters,
    hidden: Vec<(Var, BatchNorm)>,
    last: Var,
}

impl Projector {
    /// Draws a new projector from `features` inputs through layers of the given widths, the last one included.
    ///
    /// Weights start uniform within ±1/√inputs, `PyTorch`'s default. Names are those of a sequential module that
    /// counts the `ReLU`s: `projector.0.weight`, `projector.1.bias`, `projector.3.weight`.
    pub fn new(
        features: usize,
        widths: &[usize],
        streams: &Streams,
        device: &Device,
        dtype: DType,
    ) -> result::Result<Self, NnError> {
        let (Some((&outputs, hidden_widths)), true) = (widths.split_last(), !widths.contains(&0))
        else {
            let (name, value) = ("projector", format!("{widths:?}"));
            return Err(NnError::InvalidValue {
                name,
                condition: "a list of widths above 0",
                value,
            });
        };
        let mut parameters = Parameters::new(streams, device, dtype);
        let mut inputs = features;
        let mut hidden = Vec::new();
        for (i, &width) in hidden_widths.iter().enumerate() {
            let weight = linear_weight(&mut parameters, 3 * i, inputs, width)?;
            let norm = BatchNorm::new(&mut parameters, &format!("projector.{}", 3 * i + 1), width)?;
            hidden.push((weight, norm));
            inputs = width;
        }
        let last = linear_weight(&mut parameters, 3 * hidden_widths.len(), inputs, outputs)?;
        Ok(Self { parameters, hidden, last })
    }

    /// Maps features n×d to n×(last width).
    pub fn forward(&self, features: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut x = features.clone();
        for (weight, norm) in &self.hidden {
            x = norm.forward(&linear(&x, &mode.read(weight))?, None, Activation::Relu, mode)?;
        }
        linear(&x, &mode.read(&self.last))
    }
}

fn linear_weight(
    parameters: &mut Parameters,
    index: usize,
    inputs: usize,
    outputs: usize,
) -> result::Result<Var, NnError> {
    let init = Init::Uniform { bound: 1.0 / (inputs as f64).sqrt() };
    parameters.weight(&format!("projector.{index}.weight"), &[outputs, inputs], init)
}

#[cfg(test)]
mod tests {
    use super::super::layers::tests::{check_gradient, normal, weigh};
    use super::*;

    fn projector(widths: &[usize]) -> result::Result<Projector, NnError> {
        Projector::new(6, widths, &Streams::new(1, "test"), &Device::Cpu, DType::F64)
    }

    #[test]
    fn layers_have_their_names() {
        let head = projector(&[5, 4, 3]).unwrap();
        let z = head.forward(&normal("x", &[7, 6]), Mode::Train).unwrap();
        assert_eq!(z.dims(), [7, 3]);
        let names: Vec<&str> = head.parameters.weights().keys().map(String::as_str).collect();
        let expected = [
            "projector.0.weight",
            "projector.1.bias",
            "projector.1.weight",
            "projector.3.weight",
            "projector.4.bias",
            "projector.4.weight",
            "projector.6.weight",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn the_gradient_is_right() {
        let head = projector(&[5, 3]).unwrap();
        let x = normal("x", &[4, 6]);
        let mut vars: Vec<&Var> = head.parameters.weights().values().collect();
        vars.push(&x);
        check_gradient("projector", &vars, &|| weigh(&head.forward(&x, Mode::Train).unwrap()));
    }

    #[test]
    fn widths_are_checked() {
        for widths in [&[][..], &[4, 0]] {
            assert!(
                projector(widths).unwrap_err().to_string().starts_with("projector must be a list")
            );
        }
    }
}
