//! How much memory a training step takes, and what to do where it does not fit.

use candle_core::{DType, Device, Result, bail};
use thiserror::Error;

use super::device;
use super::error::NnError;
use super::network::{Layer, Network, Unit};

/// Bytes that a training step holds at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepMemory {
    /// What the backward pass needs of the forward pass; in proportion to the batch.
    pub activations: u64,
    pub parameters: u64,
    pub gradients: u64,
    /// The optimizer's running means.
    pub optimizer: u64,
}

impl StepMemory {
    /// Sums up.
    pub fn total(self) -> u64 {
        self.activations + self.fixed()
    }

    /// What does not depend on the batch.
    pub fn fixed(self) -> u64 {
        self.parameters + self.gradients + self.optimizer
    }

    /// Estimates a step of networks that feed each other, on images n×h×w×c, on a GPU, with so many `moments` of each
    /// weight.
    ///
    /// Activations are counted as [`super::composed`] keeps them for the backward pass. The loss is left out, and so is
    /// what an operation needs while it runs. Fails if a network does not fit the images.
    pub fn estimate(networks: &[&Network], image: [usize; 4], moments: usize) -> Result<Self> {
        let mut memory = Self::default();
        let mut at = image;
        for network in networks {
            let size = network.parameters.dtype().size_in_bytes() as u64;
            let weights = network.parameters.count() as u64 * size;
            memory.parameters += weights;
            memory.gradients += weights;
            memory.optimizer += weights * moments as u64;
            let kept;
            (kept, at) = activations(network, at)?;
            memory.activations += kept;
        }
        Ok(memory)
    }
}

/// Bytes of the activations that training keeps, and the shape of the last one.
fn activations(network: &Network, image: [usize; 4]) -> Result<(u64, [usize; 4])> {
    let dtype = network.parameters.dtype();
    let mut shapes = vec![image];
    let mut bytes = 0;
    for layer in &network.layers {
        let (shape, kept) = match layer {
            Layer::Unit(unit) => self::unit(unit, shapes[unit.input], dtype)?,
            // Along one axis and then the other: the padded image, its lines in pairs and those that follow them, and
            // two maxima. The lines beside the image are not counted.
            Layer::MaxPool { input } => {
                let [n, h, w, c] = shapes[*input];
                let half = [n, h.div_ceil(2), w, c];
                let small = [n, h.div_ceil(2), w.div_ceil(2), c];
                let numbers =
                    3 * elements(shapes[*input]) + 5 * elements(half) + 2 * elements(small);
                let kept = numbers * dtype.size_in_bytes() as u64;
                (small, kept)
            }
            Layer::AveragePool { input } => {
                let [n, _, _, c] = shapes[*input];
                ([n, 1, 1, c], elements([n, 1, 1, c]) * dtype.size_in_bytes() as u64)
            }
        };
        bytes += kept;
        shapes.push(shape);
    }
    Ok((bytes, shapes.pop().unwrap_or(image)))
}

/// The shape of a unit's result, and the bytes that it keeps.
fn unit(unit: &Unit, input: [usize; 4], dtype: DType) -> Result<([usize; 4], u64)> {
    let [n, h, w, _] = input;
    let (filters, kernel) = match *unit.weight.var.dims() {
        [filters, _] => (filters, None),
        [filters, _, kernel, _] => (filters, Some(kernel)),
        ref other => bail!("a weight of shape {other:?}"),
    };
    let reach = |size: usize| match (size + 2 * unit.padding).checked_sub(kernel.unwrap_or(1)) {
        Some(room) => Ok(room / unit.stride + 1),
        None => bail!("an image of {size} pixels is smaller than a kernel"),
    };
    let shape = [n, reach(h)?, reach(w)?, filters];
    let (read, made) = (elements(input), elements(shape));
    // A convolution is on channels in planes, so its input and its result are there twice.
    let mut numbers = if kernel.is_some() { read + 2 * made } else { made };
    if unit.norm.is_some() {
        // Centered, squared, scaled and shifted.
        numbers += 4 * made;
    }
    if unit.residual.is_some() {
        numbers += made;
    }
    let mut bytes = numbers * dtype.size_in_bytes() as u64;
    if unit.relu {
        // What it is compared to and what it becomes, and a byte each that says which.
        bytes += made * (2 * dtype.size_in_bytes() as u64 + 1);
    }
    Ok((shape, bytes))
}

fn elements(shape: [usize; 4]) -> u64 {
    shape.iter().map(|size| *size as u64).product()
}

/// Tells whether an error of candle is that of a full GPU.
pub fn is_out_of_memory(error: &candle_core::Error) -> bool {
    tells_out_of_memory(&error.to_string())
}

/// Tells whether a message of candle's is that of a full GPU; the drivers' codes are all that it passes on.
pub fn tells_out_of_memory(message: &str) -> bool {
    ["OUT_OF_MEMORY", "ALLOC_FAILED"].iter().any(|code| message.contains(code))
}

/// What a training step asks of a device: networks that feed each other, a batch n×h×w×c, running means a weight.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    pub networks: &'a [&'a Network],
    pub batch: [usize; 4],
    pub moments: usize,
}

impl Demand<'_> {
    /// Says of an error that the device was full, if it was: what was asked for, what there is, and what would fit.
    pub fn explain(self, error: NnError, device: &Device) -> NnError {
        match error {
            NnError::Tensor(error) if is_out_of_memory(&error) => {
                self.out_of_memory(error, device::memory(device))
            }
            other => other,
        }
    }

    /// `memory` is what is free and all there is, after the step has failed and left what it held.
    fn out_of_memory(self, error: candle_core::Error, memory: Option<(u64, u64)>) -> NnError {
        let [images, height, width, channels] = self.batch;
        let estimate = |images: usize| {
            StepMemory::estimate(self.networks, [images, height, width, channels], self.moments)
        };
        let Ok(needed) = estimate(images) else { return error.into() };
        // Parameters and running means stay when a step fails.
        let free = memory.map(|(free, _)| free + needed.parameters + needed.optimizer);
        let fits = |images: &usize| match (estimate(*images), free) {
            (Ok(needed), Some(free)) => needed.total() <= free,
            (Ok(_), None) => true,
            (Err(_), _) => false,
        };
        let halves = std::iter::successors(Some(images / 2), |images| Some(images / 2));
        let fitting = halves.take_while(|images| *images >= 2).find(fits);
        let (size, needed) = ([channels, height, width], needed.total());
        let full = OutOfMemory { images, size, needed, memory, fitting, source: error };
        NnError::OutOfMemory(Box::new(full))
    }
}

/// A step that a GPU had no memory for.
#[derive(Debug, Error)]
#[error(
    "the GPU is full: a step on {images} images of {}×{}×{} takes about {}{}: {source}",
    size[0], size[1], size[2], bytes(*needed), told(*memory)
)]
pub struct OutOfMemory {
    pub images: usize,
    /// Channels, height and width.
    pub size: [usize; 3],
    /// Bytes that the step takes, as estimated.
    pub needed: u64,
    /// Bytes that are free without the step, and all that the device has, if it tells.
    pub memory: Option<(u64, u64)>,
    /// How many images would fit, as estimated; none if not even two.
    pub fitting: Option<usize>,
    pub source: candle_core::Error,
}

fn told(memory: Option<(u64, u64)>) -> String {
    let told =
        memory.map(|(free, all)| format!(", and {} of {} are free", bytes(free), bytes(all)));
    told.unwrap_or_default()
}

fn bytes(bytes: u64) -> String {
    let gib = bytes as f64 / f64::from(1 << 30);
    if gib < 0.1 { format!("{:.1} MiB", 1024.0 * gib) } else { format!("{gib:.1} GiB") }
}

#[cfg(test)]
mod tests {
    use super::super::encoder::{EncoderConfig, EncoderNetwork, Stem};
    use super::super::network::{After, Shape};
    use super::super::params::Init;
    use super::super::projector::projector;
    use super::*;
    use crate::rng::Streams;

    const INIT: Init = Init::Constant(0.1);

    fn streams() -> Streams {
        Streams::new(1, "test")
    }

    #[test]
    fn the_sum_of_a_small_network_is_as_by_hand() {
        let mut network = Network::new(&streams(), &Device::Cpu, DType::F32);
        let after = After { norm: Some("bn"), residual: None, relu: true };
        let at = network.unit("conv", 0, Shape::convolution(3, 4, 3, 2), INIT, after).unwrap();
        let at = network.average_pool(at);
        let after = After { norm: None, residual: Some(at), relu: false };
        network.unit("fc", at, Shape::linear(4, 4), INIT, after).unwrap();
        // 108 weights of the convolution, 4 and 4 of the norm, 16 of the product.
        let weights = 4 * (108 + 8 + 16);
        // Images of 5×6 become maps of 3×3: 2·30·3 numbers of input in planes, 2·9·4 of output, which a convolution
        // holds twice and a norm four times; the ReLU two numbers and a byte. Then 2·4 averages, and 2·4 products to
        // which the averages are added.
        let (input, map, row) = (2 * 30 * 3, 2 * 9 * 4, 2 * 4);
        let activations = 4 * (input + (2 + 4 + 2) * map) + map + 4 * (row + 2 * row);
        let expected = StepMemory {
            activations,
            parameters: weights,
            gradients: weights,
            optimizer: 2 * weights,
        };
        assert_eq!(StepMemory::estimate(&[&network], [2, 5, 6, 3], 2).unwrap(), expected);
        assert_eq!(expected.total(), activations + 4 * weights);
    }

    fn resnet(stem: Stem) -> EncoderNetwork {
        let config = EncoderConfig { width: 4, channels: 1, stem, ..EncoderConfig::default() };
        EncoderNetwork::new(config, &streams(), &Device::Cpu, DType::F32).unwrap()
    }

    #[test]
    fn activations_grow_with_the_batch_and_the_rest_does_not() {
        for stem in [Stem::ImageNet, Stem::Cifar] {
            let encoder = resnet(stem);
            let head = projector(encoder.features(), &[8, 4], &streams(), &Device::Cpu, DType::F32)
                .unwrap();
            let networks = [&encoder.network, &head];
            let of = |n: usize| StepMemory::estimate(&networks, [n, 16, 16, 1], 1).unwrap();
            assert_eq!(of(6).activations, 3 * of(2).activations);
            assert_eq!(of(6).fixed(), of(2).fixed());
        }
    }

    fn explain(memory: Option<(u64, u64)>, message: &str) -> NnError {
        let encoder = resnet(Stem::Cifar);
        let networks = [&encoder.network];
        let demand = Demand { networks: &networks, batch: [64, 16, 16, 1], moments: 2 };
        let error = candle_core::Error::Cuda(message.into());
        if memory.is_none() {
            return demand.explain(error.into(), &Device::Cpu);
        }
        demand.out_of_memory(error, memory)
    }

    #[test]
    fn a_full_device_says_what_was_asked_for_and_what_fits() {
        let full = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        let fitting = |memory| match explain(memory, full) {
            NnError::OutOfMemory(full) => full.fitting,
            other => panic!("{other}"),
        };
        let encoder = resnet(Stem::Cifar);
        let of = |n: usize| StepMemory::estimate(&[&encoder.network], [n, 16, 16, 1], 2).unwrap();
        // What is free beside parameters and running means.
        let room = |n: usize| of(n).activations + of(n).gradients;
        assert_eq!(fitting(None), Some(32));
        assert_eq!(fitting(Some((room(64), 1 << 30))), Some(32));
        assert_eq!(fitting(Some((room(16), 1 << 30))), Some(16));
        assert_eq!(fitting(Some((room(16) - 1, 1 << 30))), Some(8));
        assert_eq!(fitting(Some((room(1), 1 << 30))), None);
        let message = explain(Some((3 << 30, 80 << 30)), full).to_string();
        assert!(message.contains("64 images of 1×16×16"), "{message}");
        assert!(message.contains("3.0 GiB of 80.0 GiB are free"), "{message}");
        assert!(matches!(explain(None, "CUDA_ERROR_ILLEGAL_ADDRESS"), NnError::Tensor(_)));
    }
}
