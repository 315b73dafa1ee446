//! What a network makes of images: pooled features and activations of its layers.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use candle_core::DType;

use super::error::NnError;
use super::images::Images;
use super::resnet::ResNet;

/// A row for each image, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
}

/// Images of one forward pass. The result of an image does not depend on it but in the last bits.
const BATCH: usize = 256;

/// Reads activations of all images, in evaluation mode, at some of [`super::resnet::TAPS`].
///
/// Maps are flattened in the order channel, row, column. Gray images are repeated in each of the network's
/// channels. The observer is told how many images are done, and ends the reading with [`NnError::Cancelled`].
pub fn extract(
    net: &ResNet,
    images: Images,
    taps: &[&str],
    observe: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<BTreeMap<String, Features>, NnError> {
    let indices: Vec<usize> = (0..images.count()).collect();
    let mut features: BTreeMap<String, Features> = BTreeMap::new();
    for batch in indices.chunks(BATCH) {
        let x = images.batch(batch, net.config.channels, net.parameters.device())?;
        for (name, activation) in net.forward_taps(&x.to_dtype(net.parameters.dtype())?, taps)? {
            let rows: Vec<f32> = activation.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            if !rows.iter().all(|value| value.is_finite()) {
                return Err(NnError::NotFiniteInput { what: "the network's activation" });
            }
            let kept = features.entry(name).or_default();
            kept.columns = rows.len() / batch.len();
            kept.rows += batch.len();
            kept.values.extend(rows);
        }
        if observe(batch.last().map_or(0, |last| last + 1)).is_break() {
            return Err(NnError::Cancelled);
        }
    }
    Ok(features)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::resnet::ResNetConfig;
    use super::*;
    use crate::rng::Streams;

    #[test]
    fn each_image_has_its_row() {
        let streams = Streams::new(1, "test");
        let config = ResNetConfig { width: 2, channels: 3, ..Default::default() };
        let net = ResNet::new(config, &streams, &Device::Cpu, DType::F32).unwrap();
        let (n, size) = (BATCH + 3, 8);
        let mut noise = streams.stream("pixels");
        let pixels: Vec<f32> = (0..n * size * size).map(|_| noise.uniform() as f32).collect();
        let images = Images::gray(&pixels, size, size).unwrap();
        let mut done = Vec::new();
        let mut observe = |images| {
            done.push(images);
            ControlFlow::Continue(())
        };
        let all = extract(&net, images, &["input", "layer1.0", "pooled"], &mut observe).unwrap();
        assert_eq!(done, [BATCH, BATCH + 3]);
        let shape = |name: &str| (all[name].rows, all[name].columns);
        assert_eq!(
            [shape("input"), shape("layer1.0"), shape("pooled")],
            [(n, 192), (n, 8), (n, 16)]
        );
        // The input's channels are three copies of the image.
        let input = &all["input"].values[(n - 1) * 192..];
        for channel in input.chunks(64) {
            assert_eq!(channel, &pixels[(n - 1) * 64..]);
        }
        let last = Images::gray(&pixels[(n - 1) * 64..], size, size).unwrap();
        let alone = extract(&net, last, &["pooled"], &mut |_| ControlFlow::Continue(())).unwrap();
        for (a, b) in alone["pooled"].values.iter().zip(&all["pooled"].values[(n - 1) * 16..]) {
            assert!((a - b).abs() < 1e-5);
        }
        let cancelled = extract(&net, images, &["pooled"], &mut |_| ControlFlow::Break(()));
        assert!(matches!(cancelled.unwrap_err(), NnError::Cancelled));
    }
}
