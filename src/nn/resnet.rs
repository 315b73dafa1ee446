//! Residual networks (He et al. 2016) in torchvision's layout, of any width, without the classifier.

use std::result;

use super::encoder::{Architecture, EncoderConfig, Stem};
use super::error::NnError;
use super::network::{After, Network, Shape};

/// Adds the layers of a residual network and the average of its last map, which is tapped as `pooled`.
pub(super) fn build(network: &mut Network, config: EncoderConfig) -> result::Result<(), NnError> {
    let mut at = stem(network, config)?;
    let mut channels = config.width;
    for (stage, &blocks) in config.architecture.blocks().iter().enumerate() {
        for block in 0..blocks {
            let path = format!("layer{}.{block}", stage + 1);
            // The first block of each stage but the first halves the map and doubles the channels.
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let place = Place { path: &path, channels, filters: config.width << stage, stride };
            at = if config.architecture == Architecture::ResNet50 {
                bottleneck(network, at, place)?
            } else {
                basic(network, at, place)?
            };
            channels = (config.width << stage) * config.architecture.expansion();
            network.tap(&path, at);
        }
    }
    let pooled = network.average_pool(at);
    network.tap("pooled", pooled);
    Ok(())
}

fn stem(network: &mut Network, config: EncoderConfig) -> result::Result<usize, NnError> {
    let (kernel, stride) = if config.stem == Stem::Cifar { (3, 1) } else { (7, 2) };
    let shape = Shape::convolution(config.channels, config.width, kernel, stride);
    let init = config.stem_init.of(shape);
    let after = After { norm: Some("bn1"), residual: None, relu: true };
    let at = network.unit("conv1", 0, shape, init, after)?;
    network.tap("stem", at);
    Ok(if config.stem == Stem::ImageNet { network.max_pool(at) } else { at })
}

/// Where a block stands: `filters` are the stage's channels.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a str,
    channels: usize,
    filters: usize,
    stride: usize,
}

impl Place<'_> {
    /// Adds convolution and normalization number `index` of the block.
    fn unit(
        self,
        network: &mut Network,
        index: usize,
        input: usize,
        shape: Shape,
        residual: Option<usize>,
    ) -> result::Result<usize, NnError> {
        let norm = format!("{}.bn{index}", self.path);
        let after = After { norm: Some(&norm), residual, relu: true };
        network.unit(&format!("{}.conv{index}", self.path), input, shape, shape.kaiming(), after)
    }

    /// Brings the block's input to the shape of its output, of `filters` channels, where they differ.
    fn shortcut(
        self,
        network: &mut Network,
        input: usize,
        filters: usize,
    ) -> result::Result<usize, NnError> {
        if self.stride == 1 && self.channels == filters {
            return Ok(input);
        }
        let shape = Shape::convolution(self.channels, filters, 1, self.stride);
        let norm = format!("{}.downsample.1", self.path);
        let after = After { norm: Some(&norm), residual: None, relu: false };
        network.unit(&format!("{}.downsample.0", self.path), input, shape, shape.kaiming(), after)
    }
}

/// Two 3×3 convolutions around which the input is added.
fn basic(network: &mut Network, input: usize, place: Place) -> result::Result<usize, NnError> {
    let Place { channels, filters, stride, .. } = place;
    let residual = place.shortcut(network, input, filters)?;
    let at =
        place.unit(network, 1, input, Shape::convolution(channels, filters, 3, stride), None)?;
    place.unit(network, 2, at, Shape::convolution(filters, filters, 3, 1), Some(residual))
}

/// A 3×3 convolution between two of 1×1, around which the input is added.
fn bottleneck(network: &mut Network, input: usize, place: Place) -> result::Result<usize, NnError> {
    let Place { channels, filters, stride, .. } = place;
    let residual = place.shortcut(network, input, 4 * filters)?;
    let at = place.unit(network, 1, input, Shape::convolution(channels, filters, 1, 1), None)?;
    let at = place.unit(network, 2, at, Shape::convolution(filters, filters, 3, stride), None)?;
    place.unit(network, 3, at, Shape::convolution(filters, 4 * filters, 1, 1), Some(residual))
}

#[cfg(test)]
mod tests {
    use super::super::layers::tests::{check_close, check_gradient, normal, weigh};
    use std::collections::BTreeMap;

    use candle_core::{DType, Device, Tensor, Var};

    use super::super::composed::tracked;
    use super::super::encoder::{EncoderNetwork, StemInit, TAPS};
    use super::super::layers::Mode;
    use super::*;
    use crate::rng::Streams;

    fn network(width: usize, channels: usize, dtype: DType) -> EncoderNetwork {
        let config = EncoderConfig { width, channels, ..Default::default() };
        EncoderNetwork::new(config, &Streams::new(3, "test"), &Device::Cpu, dtype).unwrap()
    }

    #[test]
    fn the_standard_network_has_torchvisions_parameters() {
        let net = network(64, 3, DType::F32);
        // torchvision's resnet18 has 11,689,512, of which the classifier 513,000.
        assert_eq!(net.network.parameters.count(), 11_176_512);
        let weights = net.network.parameters.weights();
        let check = |name: &str, shape: &[usize]| assert_eq!(weights[name].dims(), shape, "{name}");
        check("conv1.weight", &[64, 3, 7, 7]);
        check("bn1.bias", &[64]);
        check("layer1.0.conv1.weight", &[64, 64, 3, 3]);
        check("layer2.0.downsample.0.weight", &[128, 64, 1, 1]);
        check("layer2.0.downsample.1.weight", &[128]);
        check("layer4.1.conv2.weight", &[512, 512, 3, 3]);
        assert_eq!(weights.len(), 60);
        assert_eq!(net.network.parameters.to_tensors().unwrap().len(), 100);
    }

    #[test]
    fn weights_start_with_hes_variance() {
        let net = network(16, 3, DType::F32);
        let variance = |name: &str| {
            let weight = net.network.parameters.weights()[name].as_detached_tensor();
            weight.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap()
        };
        for (name, expected) in
            [("layer4.1.conv2.weight", 2.0 / (128.0 * 9.0)), ("conv1.weight", 2.0 / (16.0 * 49.0))]
        {
            // The relative deviation of a mean of n squares is √(2/n), for n ≥ 2352.
            assert!((variance(name) / expected - 1.0).abs() < 0.15, "{name}");
        }
        let config = EncoderConfig {
            width: 16,
            stem_init: StemInit::Conv2dDefault,
            ..EncoderConfig::default()
        };
        let net = EncoderNetwork::new(config, &Streams::new(3, "test"), &Device::Cpu, DType::F32)
            .unwrap();
        let stem =
            net.network.parameters.weights()["conv1.weight"].abs().unwrap().flatten_all().unwrap();
        let largest = stem.max(0).unwrap().to_scalar::<f32>().unwrap();
        let bound = 1.0 / 147f32.sqrt();
        assert!(largest <= bound && largest > 0.99 * bound);
    }

    #[test]
    fn taps_have_the_shapes_of_a_32_pixel_image() {
        let net = network(8, 3, DType::F32);
        let x = normal("x", &[2, 32, 32, 3]).to_dtype(DType::F32).unwrap();
        let taps = net.forward_taps(&x, &TAPS).unwrap();
        let check = |name: &str, shape: &[usize]| assert_eq!(taps[name].dims(), shape, "{name}");
        check("input", &[2, 3, 32, 32]);
        check("stem", &[2, 8, 16, 16]);
        for (stage, channels, size) in [(1, 8, 8), (2, 16, 4), (3, 32, 2), (4, 64, 1)] {
            for block in 0..2 {
                check(&format!("layer{stage}.{block}"), &[2, channels, size, size]);
            }
        }
        check("pooled", &[2, 64]);
        assert_eq!(taps.len(), TAPS.len());
        let last = taps["layer4.1"].flatten(1, 3).unwrap();
        check_close("pooled", &taps["pooled"], &last, 0.0);
        let channel = taps["input"].narrow(1, 2, 1).unwrap().squeeze(1).unwrap();
        check_close("input", &channel, &x.narrow(3, 2, 1).unwrap().squeeze(3).unwrap(), 0.0);
        let error = net.forward_taps(&x, &["layer5.0"]).unwrap_err().to_string();
        assert!(
            error.starts_with("unknown tap `layer5.0`; the network has: input, stem, layer1.0")
        );
    }

    #[test]
    fn the_gradient_of_the_whole_network_is_right() {
        let net = network(3, 1, DType::F64);
        let x = normal("x", &[16, 16, 16, 1]).as_detached_tensor();
        let names =
            ["conv1.weight", "bn1.bias", "layer2.0.downsample.0.weight", "layer4.1.bn2.weight"];
        let vars: Vec<&Var> =
            names.iter().map(|name| &net.network.parameters.weights()[*name]).collect();
        check_gradient("resnet", &vars, &|| weigh(&tracked(&net.network, &x).unwrap()));
    }

    #[test]
    fn evaluation_treats_each_image_alone() {
        let net = network(4, 1, DType::F32);
        let x = normal("x", &[6, 16, 16, 1]).to_dtype(DType::F32).unwrap().detach();
        net.forward(&x, Mode::Train).unwrap();
        let all = net.forward(&x, Mode::Evaluate).unwrap();
        let one = net.forward(&x.narrow(0, 4, 1).unwrap(), Mode::Evaluate).unwrap();
        check_close("alone", &one, &all.narrow(0, 4, 1).unwrap(), 1e-6);
        assert!(!all.track_op());
    }
    /// A value for element `i` of a named tensor: any formula that other programs can follow.
    fn formula(name: &str, shape: &[usize]) -> Tensor {
        let phase = 0.1 * name.bytes().map(f64::from).sum::<f64>();
        let inputs: usize = shape.iter().skip(1).product();
        let value = |i: usize| {
            let wave = (1.7 * i as f64 + phase).sin();
            match name.rsplit('.').next() {
                Some("running_var") => 1.0 + 0.5 * wave,
                Some("weight") if shape.len() == 4 => wave * (4.0 / inputs as f64).sqrt(),
                Some("weight") => 1.0 + 0.3 * wave,
                _ => 0.1 * wave,
            }
        };
        let values: Vec<f64> = (0..shape.iter().product()).map(value).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Pooled features of four images as `PyTorch` 2.15.0 computes them in f64, with torchvision's `resnet18` written
    /// out at width 16 (`Conv2d` and `BatchNorm2d` defaults, `MaxPool2d(3, 2, 1)`, `AdaptiveAvgPool2d(1)`) and every
    /// tensor of its `state_dict` set by [`formula`].
    #[test]
    fn the_whole_network_computes_what_pytorch_does() {
        let net = network(16, 3, DType::F64);
        let shapes = net.network.parameters.to_tensors().unwrap();
        let tensors: BTreeMap<String, Tensor> =
            shapes.iter().map(|(name, t)| (name.clone(), formula(name, t.dims()))).collect();
        net.network.parameters.load(&tensors).unwrap();
        let pixel = |i: usize| 0.5 + 0.5 * (0.37 * i as f64).sin() * (0.011 * i as f64).cos();
        let pixels: Vec<f64> = (0..4 * 3 * 32 * 32).map(pixel).collect();
        let x = Tensor::from_vec(pixels, (4, 3, 32, 32), &Device::Cpu).unwrap();
        let x = x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
        // Eight features of the first image, the mean of all, their Euclidean length.
        let check = |mode: Mode, expected: [f64; 10]| {
            let pooled = net.forward(&x, mode).unwrap().flatten_all().unwrap();
            let pooled: Vec<f64> = pooled.to_vec1().unwrap();
            assert_eq!(pooled.len(), 4 * 128);
            let mean = pooled.iter().sum::<f64>() / 512.0;
            let norm = pooled.iter().map(|v| v * v).sum::<f64>().sqrt();
            let found = pooled[..8].iter().copied().chain([mean, norm]);
            for (i, (found, expected)) in found.zip(expected).enumerate() {
                assert!((found - expected).abs() < 1e-9, "{mode:?} {i}: {found} {expected}");
            }
        };
        check(
            Mode::Evaluate,
            [
                0.826_316_307_572_467_1,
                0.0,
                0.0,
                1.126_597_774_143_995_2,
                0.110_333_234_214_901_46,
                0.0,
                1.177_605_466_307_645_2,
                0.075_491_916_478_449_66,
                0.301_452_592_882_747_7,
                10.931_378_374_780_083,
            ],
        );
        check(
            Mode::Train,
            [
                0.346_671_830_459_137_3,
                0.881_308_245_194_477_6,
                0.976_136_886_086_576,
                0.222_296_918_451_622_33,
                0.536_508_463_286_060_4,
                1.038_969_233_706_657,
                0.235_314_078_243_667_43,
                0.475_127_781_307_028_4,
                0.795_483_844_420_774_9,
                26.068_303_670_628_09,
            ],
        );
        // The pass in training moved the running statistics.
        check(
            Mode::Evaluate,
            [
                1.042_460_631_781_427_1,
                0.0,
                0.0,
                1.461_591_451_725_184_2,
                0.114_957_924_229_734_51,
                0.0,
                1.503_525_076_757_406_4,
                0.075_851_113_828_231_33,
                0.379_132_641_397_811_66,
                13.680_541_986_963_977,
            ],
        );
    }
}
