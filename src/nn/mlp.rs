//! Perceptrons of several layers, for small images and quick trials.

use super::encoder::{EncoderConfig, Mlp};
use super::error::NnError;
use super::network::{After, Network, Shape};

/// Adds the layers of a perceptron: linear without bias, batch norm, `ReLU`, each tapped as `layer1` and so on, the last
/// one as `pooled` too.
///
/// The first layer's weight is m×c×k×k, a convolution that sees the whole image at once: flattened, that is a linear
/// layer of `PyTorch`'s on a flattened image.
pub(super) fn build(network: &mut Network, config: EncoderConfig, mlp: Mlp) -> Result<(), NnError> {
    let EncoderConfig { width, channels, stem_init, .. } = config;
    let mut at = 0;
    for layer in 1..=mlp.layers {
        let (shape, init) = if layer == 1 {
            let shape = Shape::whole(channels, width, mlp.image);
            (shape, stem_init.of(shape))
        } else {
            let shape = Shape::linear(width, width);
            (shape, shape.kaiming())
        };
        let norm = format!("bn{layer}");
        let after = After { norm: Some(&norm), residual: None, relu: true };
        at = network.unit(&format!("layer{layer}"), at, shape, init, after)?;
        network.tap(&format!("layer{layer}"), at);
    }
    network.tap("pooled", at);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use candle_core::{DType, Device, Var};

    use super::super::composed::tracked;
    use super::super::encoder::{Architecture, EncoderNetwork, StemInit};
    use super::super::features::extract;
    use super::super::images::Images;
    use super::super::layers::Mode;
    use super::super::layers::tests::{check_close, check_gradient, normal, weigh};
    use super::*;
    use crate::rng::Streams;

    fn config(image: usize, layers: usize) -> EncoderConfig {
        let architecture = Architecture::Mlp(Mlp { image, layers });
        let stem_init = StemInit::Kaiming;
        EncoderConfig { architecture, width: 5, channels: 2, stem_init, ..Default::default() }
    }

    fn network(image: usize, layers: usize) -> EncoderNetwork {
        let streams = Streams::new(3, "test");
        EncoderNetwork::new(config(image, layers), &streams, &Device::Cpu, DType::F64).unwrap()
    }

    /// In evaluation mode at running statistics 0 and 1 a layer is a product, `1 / √(1 + ε)` and a rectifier.
    #[test]
    fn a_layer_is_linear_on_the_flattened_image() {
        for image in [1, 3, 4] {
            let net = network(image, 1);
            let x = normal("x", &[6, image, image, 2]).as_detached_tensor();
            let flat =
                x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap().flatten(1, 3).unwrap();
            let weight = net.network.parameters.weights()["layer1.weight"].flatten(1, 3).unwrap();
            let y = flat.matmul(&weight.t().unwrap()).unwrap();
            let expected = (y / (1.0f64 + 1e-5).sqrt()).unwrap().relu().unwrap();
            check_close("mlp", &net.forward(&x, Mode::Evaluate).unwrap(), &expected, 1e-12);
        }
    }

    #[test]
    fn the_gradient_is_right_and_taps_have_their_shapes() {
        let net = network(3, 2);
        let x = normal("x", &[8, 3, 3, 2]).as_detached_tensor();
        let vars: Vec<&Var> = net.network.parameters.weights().values().collect();
        check_gradient("mlp", &vars, &|| weigh(&tracked(&net.network, &x).unwrap()));
        let taps = net.forward_taps(&x, &["layer1", "layer2", "pooled"]).unwrap();
        assert!(taps.values().all(|tap| tap.dims() == [8, 5]));
        check_close("pooled", &taps["pooled"], &taps["layer2"], 0.0);
    }

    #[test]
    fn images_of_another_size_are_refused() {
        let pixels = vec![0.5f32; 2 * 2 * 20];
        let images = Images::new(&pixels, 2, 4, 5).unwrap();
        let net = network(4, 1);
        let error = extract(&net, images, &["pooled"], &mut |_| ControlFlow::Continue(()));
        let expected = "a perceptron for images of 4×4 pixels cannot see 4×5";
        assert_eq!(error.unwrap_err().to_string(), expected);
    }
}
