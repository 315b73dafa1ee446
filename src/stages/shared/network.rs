//! Encoder artifacts and networks: one from the other.

use std::collections::BTreeMap;

use anyhow::Context as _;
use candle_core::{DType, Device, Tensor};

use super::training::failure;
use crate::artifacts::encoder::Encoder;
use crate::artifacts::images::Images;
use crate::artifacts::tensor::{Data, Tensor as Plain, TensorFile};
use crate::nn;
use crate::nn::resnet::{ResNet, ResNetConfig};
use crate::rng::Streams;

/// The device that networks run on: a GPU where the program was built for one and one is there.
pub fn device() -> anyhow::Result<Device> {
    Ok(Device::cuda_if_available(0)?)
}

/// Writes a network as an artifact.
pub fn to_artifact(network: &ResNet) -> anyhow::Result<Encoder> {
    let about = serde_json::to_value(network.config)?;
    let mut file = TensorFile::about(about);
    for (name, tensor) in network.parameters.to_tensors()? {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        file = file.with(&name, Plain::f32(tensor.dims(), values));
    }
    Ok(Encoder { file })
}

/// Makes the network of an artifact.
pub fn from_artifact(encoder: &Encoder, device: &Device) -> anyhow::Result<ResNet> {
    let config: ResNetConfig = serde_json::from_value(encoder.shape().clone())
        .context("the encoder does not say what network it is")?;
    // Every weight drawn here is overwritten below.
    let network =
        ResNet::new(config, &Streams::new(0, "blank"), device, DType::F32).map_err(failure)?;
    let mut tensors = BTreeMap::new();
    for (name, plain) in &encoder.file.tensors {
        let Data::F32(values) = &plain.data else { anyhow::bail!("tensor `{name}` is not F32") };
        let tensor = Tensor::from_slice(values, plain.shape.as_slice(), device)?;
        tensors.insert(name.clone(), tensor);
    }
    network.parameters.load(&tensors).map_err(failure)?;
    Ok(network)
}

/// Shows images to a network as it wants them.
pub fn view(images: &Images) -> anyhow::Result<nn::images::Images<'_>> {
    let (channels, height, width) = (images.channels, images.height, images.width);
    nn::images::Images::new(&images.pixels, channels, height, width).map_err(failure)
}
