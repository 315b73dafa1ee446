//! The head that a contrastive loss looks through, discarded after pre-training (Chen et al. 2020).

use candle_core::{DType, Device};

use super::error::NnError;
use super::network::{After, Network, Shape};
use super::params::Init;
use crate::rng::Streams;

/// Draws a projector from `features` inputs through layers of the given widths, the last one included.
///
/// Linear, batch norm, `ReLU`, …, linear, all without bias. Weights start uniform within ±1/√inputs, `PyTorch`'s
/// default. Names are those of a sequential module that counts the `ReLU`s: `projector.0.weight`, `projector.1.bias`,
/// `projector.3.weight`; so are the taps: `projector.2` is the first layer after its `ReLU`.
pub fn projector(
    features: usize,
    widths: &[usize],
    streams: &Streams,
    device: &Device,
    dtype: DType,
) -> Result<Network, NnError> {
    let mut network = Network::new(streams, device, dtype);
    append(&mut network, 0, features, widths)?;
    Ok(network)
}

/// Adds the layers of a [`projector`] behind an activation of `features` units.
pub(super) fn append(
    network: &mut Network,
    activation: usize,
    features: usize,
    widths: &[usize],
) -> Result<(), NnError> {
    if widths.is_empty() || widths.contains(&0) {
        let (name, value) = ("projector", format!("{widths:?}"));
        return Err(NnError::InvalidValue { name, condition: "a list of widths above 0", value });
    }
    let (mut at, mut inputs) = (activation, features);
    for (i, &width) in widths.iter().enumerate() {
        let init = Init::Uniform { bound: 1.0 / (inputs as f64).sqrt() };
        let norm = format!("projector.{}", 3 * i + 1);
        let hidden = i + 1 < widths.len();
        let after = After { norm: hidden.then_some(norm.as_str()), residual: None, relu: hidden };
        let shape = Shape::linear(inputs, width);
        at = network.unit(&format!("projector.{}", 3 * i), at, shape, init, after)?;
        network.tap(&format!("projector.{}", if hidden { 3 * i + 2 } else { 3 * i }), at);
        inputs = width;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::composed::tracked;
    use super::super::layers::Mode;
    use super::super::layers::tests::{check_gradient, normal, weigh};
    use super::*;

    fn small(widths: &[usize]) -> Result<Network, NnError> {
        projector(6, widths, &Streams::new(1, "test"), &Device::Cpu, DType::F64)
    }

    #[test]
    fn layers_have_their_names() {
        let head = small(&[5, 4, 3]).unwrap();
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
        let head = small(&[5, 3]).unwrap();
        let x = normal("x", &[4, 6]);
        let mut vars: Vec<&Var> = head.parameters.weights().values().collect();
        vars.push(&x);
        check_gradient("projector", &vars, &|| weigh(&tracked(&head, &x).unwrap()));
    }

    #[test]
    fn widths_are_checked() {
        for widths in [&[][..], &[4, 0]] {
            assert!(small(widths).unwrap_err().to_string().starts_with("projector must be a list"));
        }
    }
}
