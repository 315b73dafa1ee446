//! ResNet-18 (He et al. 2016) in torchvision's layout, of any width, without the classifier.

use std::collections::BTreeMap;
use std::result;

use candle_core::{DType, Device, Result, Tensor, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conv::conv2d;
use super::error::NnError;
use super::layers::{Mode, global_average_pool};
use super::norm::{Activation, BatchNorm};
use super::params::{Init, Parameters};
use super::pool::max_pool;
use crate::rng::Streams;

/// The shape of a ResNet-18 and how its stem starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Channels of the first stage; the later ones have 2, 4 and 8 times as many. 64 is the standard network.
    pub width: usize,
    /// Channels of an image: 1 or 3, or any other number.
    pub channels: usize,
    /// How the first convolution starts.
    pub stem_init: StemInit,
}

/// How the first convolution starts; all others are normal of variance 2 / (k²·outputs) (He et al. 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StemInit {
    /// Like the others, as in torchvision.
    Kaiming,
    /// Uniform within ±1/√(k²·inputs), `PyTorch`'s default of a new convolution.
    Conv2dDefault,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self { width: 64, channels: 3, stem_init: StemInit::Kaiming }
    }
}

/// The places whose activations can be read, from the image to the features.
pub const TAPS: [&str; 11] = [
    "input", "stem", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1",
    "layer4.0", "layer4.1", "pooled",
];

/// A ResNet-18 that maps images, n×h×w×c, to pooled features, n×(8·width).
#[derive(Debug)]
pub struct ResNet {
    pub config: ResNetConfig,
    pub parameters: Parameters,
    conv1: Conv,
    bn1: BatchNorm,
    /// The eight blocks with the names of their taps.
    blocks: Vec<(&'static str, Block)>,
}

impl ResNet {
    /// Draws a new network from the streams `init/PATH`.
    pub fn new(
        config: ResNetConfig,
        streams: &Streams,
        device: &Device,
        dtype: DType,
    ) -> result::Result<Self, NnError> {
        for (name, value) in [("width", config.width), ("channels", config.channels)] {
            if value == 0 {
                let value = value.to_string();
                return Err(NnError::InvalidValue { name, condition: "at least 1", value });
            }
        }
        let mut parameters = Parameters::new(streams, device, dtype);
        let stem_init = match config.stem_init {
            StemInit::Kaiming => kaiming(config.width, 7),
            StemInit::Conv2dDefault => {
                Init::Uniform { bound: 1.0 / ((config.channels * 49) as f64).sqrt() }
            }
        };
        let stem = [config.channels, config.width, 7];
        let conv1 = Conv::with_init(&mut parameters, "conv1", stem, 2, stem_init)?;
        let bn1 = BatchNorm::new(&mut parameters, "bn1", config.width)?;
        let mut blocks = Vec::new();
        let mut channels = config.width;
        for (i, name) in TAPS[2..10].iter().enumerate() {
            // The first block of each stage but the first halves the map and doubles the channels.
            let stride = if i > 0 && i % 2 == 0 { 2 } else { 1 };
            let filters = config.width << (i / 2);
            blocks.push((*name, Block::new(&mut parameters, name, channels, filters, stride)?));
            channels = filters;
        }
        Ok(Self { config, parameters, conv1, bn1, blocks })
    }

    /// Counts the pooled features: eight times the width.
    pub fn features(&self) -> usize {
        8 * self.config.width
    }

    /// Maps images n×h×w×c, values in [0, 1], to features n×(8·width).
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.run(x, mode, &mut |_, _| Ok(()))
    }

    /// Reads activations, in evaluation mode, at some of [`TAPS`].
    ///
    /// Maps come as n×c×h×w, whatever the layout inside, so that flattening numbers the units as `PyTorch` does;
    /// `pooled` as n×(8·width).
    pub fn forward_taps(
        &self,
        x: &Tensor,
        names: &[&str],
    ) -> result::Result<BTreeMap<String, Tensor>, NnError> {
        if let Some(name) = names.iter().find(|name| !TAPS.contains(name)) {
            let known = TAPS.map(str::to_owned).to_vec();
            return Err(NnError::UnknownTap { name: (*name).to_owned(), known });
        }
        let mut taps = BTreeMap::new();
        self.run(x, Mode::Evaluate, &mut |name, activation| {
            if names.contains(&name) {
                let activation = match activation.rank() {
                    4 => activation.permute((0, 3, 1, 2))?.contiguous()?,
                    _ => activation.clone(),
                };
                taps.insert(name.to_owned(), activation);
            }
            Ok(())
        })?;
        Ok(taps)
    }

    fn run(
        &self,
        x: &Tensor,
        mode: Mode,
        visit: &mut dyn FnMut(&str, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        visit("input", x)?;
        let stem = self.bn1.forward(&self.conv1.forward(x, mode)?, None, Activation::Relu, mode)?;
        visit("stem", &stem)?;
        let mut x = max_pool(&stem)?;
        for (name, block) in &self.blocks {
            x = block.forward(&x, mode)?;
            visit(name, &x)?;
        }
        let pooled = global_average_pool(&x)?;
        visit("pooled", &pooled)?;
        Ok(pooled)
    }
}

/// Yields He's initialization for the variance of the gradients (fan-out).
fn kaiming(filters: usize, kernel: usize) -> Init {
    Init::Normal { deviation: (2.0 / (filters * kernel * kernel) as f64).sqrt() }
}

/// A square convolution without bias, padded so that stride 1 keeps the size.
#[derive(Debug)]
struct Conv {
    weight: Var,
    stride: usize,
    padding: usize,
}

impl Conv {
    fn new(
        parameters: &mut Parameters,
        path: &str,
        [channels, filters, kernel]: [usize; 3],
        stride: usize,
    ) -> result::Result<Self, NnError> {
        let init = kaiming(filters, kernel);
        Self::with_init(parameters, path, [channels, filters, kernel], stride, init)
    }

    fn with_init(
        parameters: &mut Parameters,
        path: &str,
        [channels, filters, kernel]: [usize; 3],
        stride: usize,
        init: Init,
    ) -> result::Result<Self, NnError> {
        let shape = [filters, channels, kernel, kernel];
        let weight = parameters.weight(&format!("{path}.weight"), &shape, init)?;
        Ok(Self { weight, stride, padding: kernel / 2 })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        conv2d(x, &mode.read(&self.weight), self.stride, self.padding)
    }
}

/// Two 3×3 convolutions around which the input is added.
#[derive(Debug)]
struct Block {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    /// Brings the input to the output's shape where they differ.
    downsample: Option<(Conv, BatchNorm)>,
}

impl Block {
    fn new(
        parameters: &mut Parameters,
        path: &str,
        channels: usize,
        filters: usize,
        stride: usize,
    ) -> result::Result<Self, NnError> {
        let at = |name: &str| format!("{path}.{name}");
        let conv1 = Conv::new(parameters, &at("conv1"), [channels, filters, 3], stride)?;
        let bn1 = BatchNorm::new(parameters, &at("bn1"), filters)?;
        let conv2 = Conv::new(parameters, &at("conv2"), [filters, filters, 3], 1)?;
        let bn2 = BatchNorm::new(parameters, &at("bn2"), filters)?;
        let downsample = if stride == 1 && channels == filters {
            None
        } else {
            let conv = Conv::new(parameters, &at("downsample.0"), [channels, filters, 1], stride)?;
            Some((conv, BatchNorm::new(parameters, &at("downsample.1"), filters)?))
        };
        Ok(Self { conv1, bn1, conv2, bn2, downsample })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let residual = match &self.downsample {
            None => x.clone(),
            Some((conv, bn)) => {
                bn.forward(&conv.forward(x, mode)?, None, Activation::Identity, mode)?
            }
        };
        let y = self.bn1.forward(&self.conv1.forward(x, mode)?, None, Activation::Relu, mode)?;
        let y = self.conv2.forward(&y, mode)?;
        self.bn2.forward(&y, Some(&residual), Activation::Relu, mode)
    }
}

#[cfg(test)]
mod tests {
    use super::super::layers::tests::{check_close, check_gradient, normal, weigh};
    use super::*;

    fn network(width: usize, channels: usize, dtype: DType) -> ResNet {
        let config = ResNetConfig { width, channels, ..Default::default() };
        ResNet::new(config, &Streams::new(3, "test"), &Device::Cpu, dtype).unwrap()
    }

    #[test]
    fn the_standard_network_has_torchvisions_parameters() {
        let net = network(64, 3, DType::F32);
        // torchvision's resnet18 has 11,689,512, of which the classifier 513,000.
        assert_eq!(net.parameters.count(), 11_176_512);
        let weights = net.parameters.weights();
        let check = |name: &str, shape: &[usize]| assert_eq!(weights[name].dims(), shape, "{name}");
        check("conv1.weight", &[64, 3, 7, 7]);
        check("bn1.bias", &[64]);
        check("layer1.0.conv1.weight", &[64, 64, 3, 3]);
        check("layer2.0.downsample.0.weight", &[128, 64, 1, 1]);
        check("layer2.0.downsample.1.weight", &[128]);
        check("layer4.1.conv2.weight", &[512, 512, 3, 3]);
        assert_eq!(weights.len(), 60);
        assert_eq!(net.parameters.to_tensors().unwrap().len(), 100);
    }

    #[test]
    fn weights_start_with_hes_variance() {
        let net = network(16, 3, DType::F32);
        let variance = |name: &str| {
            let weight = net.parameters.weights()[name].as_detached_tensor();
            weight.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap()
        };
        for (name, expected) in
            [("layer4.1.conv2.weight", 2.0 / (128.0 * 9.0)), ("conv1.weight", 2.0 / (16.0 * 49.0))]
        {
            // The relative deviation of a mean of n squares is √(2/n), for n ≥ 2352.
            assert!((variance(name) / expected - 1.0).abs() < 0.15, "{name}");
        }
        let config = ResNetConfig { width: 16, channels: 3, stem_init: StemInit::Conv2dDefault };
        let net = ResNet::new(config, &Streams::new(3, "test"), &Device::Cpu, DType::F32).unwrap();
        let stem = net.parameters.weights()["conv1.weight"].abs().unwrap().flatten_all().unwrap();
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
        let vars: Vec<&Var> = names.iter().map(|name| &net.parameters.weights()[*name]).collect();
        check_gradient("resnet", &vars, &|| weigh(&net.forward(&x, Mode::Train).unwrap()));
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
        let shapes = net.parameters.to_tensors().unwrap();
        let tensors: BTreeMap<String, Tensor> =
            shapes.iter().map(|(name, t)| (name.clone(), formula(name, t.dims()))).collect();
        net.parameters.load(&tensors).unwrap();
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
