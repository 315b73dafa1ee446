//! Encoder artifacts and networks: one from the other.

use std::collections::BTreeMap;

use candle_core::utils::cuda_is_available;
use candle_core::{DType, Device, Tensor};

use super::training::failure;
use crate::artifacts::encoder::Encoder;
use crate::artifacts::images::Images;
use crate::artifacts::tensor::{Data, Tensor as Plain, TensorFile};
use crate::engine::failure::Failure;
use crate::nn;
use crate::nn::device;
use crate::nn::encoder::{EncoderConfig, EncoderNetwork};
use crate::nn::error::NnError;
use crate::nn::network::Network;
use crate::rng::Streams;

/// The device that networks run on: the GPU that the stage was given, if the program was built for one, else the CPU.
///
/// The log says which. A GPU that cannot be used is no error, because results of devices differ by rounding alone. A stage that
/// asks for none (`resources = { gpu = 1 }`) sees none: its worker finds an empty `CUDA_VISIBLE_DEVICES`.
pub fn device() -> Device {
    if !cuda_is_available() {
        return Device::Cpu;
    }
    match device::first_gpu() {
        Ok(gpu) => {
            let name = device::name(&gpu).unwrap_or_else(|| "a GPU".to_owned());
            tracing::info!("networks run on {name}");
            gpu
        }
        Err(error) => {
            tracing::warn!(
                "networks run on the CPU, because no GPU can be used: {error}; a stage is given one \
                 that asks for it: `resources = {{ gpu = 1 }}`"
            );
            Device::Cpu
        }
    }
}

/// The widths of a projector's layers, in what an artifact says about its network.
const PROJECTOR: &str = "projector";

/// Writes a network as an artifact.
pub fn to_artifact(network: &EncoderNetwork) -> anyhow::Result<Encoder> {
    let mut about = serde_json::to_value(network.config)?;
    if !network.projector.is_empty() {
        about[PROJECTOR] = serde_json::to_value(&network.projector)?;
    }
    add(TensorFile::about(about), &network.network)
}

/// Writes a network and the projector that it was trained with, of some widths, as one artifact.
pub fn with_projector(
    network: &EncoderNetwork,
    widths: &[usize],
    projector: &Network,
) -> anyhow::Result<Encoder> {
    let Encoder { mut file } = to_artifact(network)?;
    file.about[PROJECTOR] = serde_json::to_value(widths)?;
    add(file, projector)
}

fn add(mut file: TensorFile, network: &Network) -> anyhow::Result<Encoder> {
    for (name, tensor) in network.parameters.to_tensors()? {
        file = file.with(&name, to_plain(&tensor)?);
    }
    Ok(Encoder { file })
}

/// Copies a tensor of candle's; what is not of 32-bit floats becomes 64-bit ones.
pub fn to_plain(tensor: &Tensor) -> anyhow::Result<Plain> {
    let flat = tensor.flatten_all()?;
    if tensor.dtype() == DType::F32 {
        return Ok(Plain::f32(tensor.dims(), flat.to_vec1()?));
    }
    Ok(Plain::f64(tensor.dims(), flat.to_dtype(DType::F64)?.to_vec1()?))
}

/// Copies a tensor to candle's.
pub fn to_candle(plain: &Plain, device: &Device) -> anyhow::Result<Tensor> {
    let shape = plain.shape.as_slice();
    Ok(match &plain.data {
        Data::F32(values) => Tensor::from_slice(values, shape, device)?,
        Data::F64(values) => Tensor::from_slice(values, shape, device)?,
        Data::U32(values) => Tensor::from_slice(values, shape, device)?,
        Data::I64(values) => Tensor::from_slice(values, shape, device)?,
    })
}

/// Makes the network of an artifact.
pub fn from_artifact(encoder: &Encoder, device: &Device) -> anyhow::Result<EncoderNetwork> {
    let mut about = encoder.shape().clone();
    let widths = about.as_object_mut().and_then(|about| about.remove(PROJECTOR));
    let shape = || -> serde_json::Result<(EncoderConfig, Vec<usize>)> {
        let widths = widths.map_or(Ok(Vec::new()), serde_json::from_value)?;
        Ok((serde_json::from_value(about)?, widths))
    };
    let (config, widths) = shape().map_err(|error| {
        Failure::data(format!("the encoder does not say what network it is: {error}"))
            .hint("its metadata hold `width`, `channels` and `stem_init`")
    })?;
    // Every weight drawn here is overwritten below.
    let blank = Streams::new(0, "blank");
    let network = EncoderNetwork::with_projector(config, &widths, &blank, device, DType::F32);
    let network = network.map_err(failure)?;
    let mut tensors = BTreeMap::new();
    for (name, plain) in &encoder.file.tensors {
        let Data::F32(values) = &plain.data else {
            let wrong = Failure::data(format!("tensor `{name}` of the encoder is not F32"));
            return Err(wrong.hint("save the weights as 32-bit floats").into());
        };
        let tensor = Tensor::from_slice(values, plain.shape.as_slice(), device);
        let tensor = tensor.map_err(|error| failure(NnError::Tensor(error)))?;
        tensors.insert(name.clone(), tensor);
    }
    network.network.parameters.load(&tensors).map_err(failure)?;
    Ok(network)
}

/// Shows images to a network as it wants them.
pub fn view(images: &Images) -> anyhow::Result<nn::images::Images<'_>> {
    let (channels, height, width) = (images.channels, images.height, images.width);
    nn::images::Images::new(&images.pixels, channels, height, width).map_err(failure)
}
