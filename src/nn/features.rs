//! What an encoder makes of images: features and activations of its layers.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use candle_core::DType;

use super::encoder::EncoderNetwork;
use super::error::NnError;
use super::images::Images;
use super::layers::Mode;
use crate::rng::Streams;

/// A row for each image, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
}

/// Images of one forward pass. The result of an image does not depend on it but in the last bits.
const BATCH: usize = 256;

/// Reads activations of all images, in evaluation mode, at some of [`super::encoder::TAPS`].
///
/// Maps are flattened in the order channel, row, column. Gray images are repeated in each of the network's
/// channels. The observer is told how many images are done, and ends the reading with [`NnError::Cancelled`].
pub fn extract(
    net: &EncoderNetwork,
    images: Images,
    taps: &[&str],
    observe: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<BTreeMap<String, Features>, NnError> {
    net.check_size(images.size())?;
    let indices: Vec<usize> = (0..images.count()).collect();
    let mut features: BTreeMap<String, Features> = BTreeMap::new();
    for batch in indices.chunks(BATCH) {
        let x = images.batch(batch, net.config.channels, net.network.parameters.device())?;
        for (name, activation) in
            net.forward_taps(&x.to_dtype(net.network.parameters.dtype())?, taps)?
        {
            let rows: Vec<f32> = activation.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            if !rows.iter().all(|value| value.is_finite()) {
                return Err(NnError::NotFiniteInput { what: "the network's activation" });
            }
            let kept = features.entry(name).or_default();
            kept.columns = rows.len() / batch.len();
            // All that will come, once: growing would take twice the room at times.
            kept.values.reserve_exact(images.count() * kept.columns - kept.values.len());
            kept.rows += batch.len();
            kept.values.extend(rows);
        }
        if observe(batch.last().map_or(0, |last| last + 1)).is_break() {
            return Err(NnError::Cancelled);
        }
    }
    Ok(features)
}

/// Replaces a network's batch-norm statistics by those of some images; weights stay.
///
/// The images are shown once, in random order (stream `batch_norm`) and in batches of equal size up to one, at most
/// 256 images. Within a batch each layer normalizes by the batch's own statistics, as in training; what it keeps is
/// the mean over all batches of their means and unbiased variances, weighted by their images. Fails for fewer than two images.
/// The observer is as in [`extract`].
pub fn adapt(
    net: &EncoderNetwork,
    images: Images,
    streams: &Streams,
    observe: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<(), NnError> {
    net.check_size(images.size())?;
    let count = images.count();
    if count < 2 {
        let (name, value) = ("number of images to adapt to", count.to_string());
        return Err(NnError::InvalidValue { name, condition: "at least 2", value });
    }
    let order = streams.stream("batch_norm").permutation(count);
    let batches = count.div_ceil(BATCH);
    for i in 0..batches {
        let seen = (i + 1) * count / batches;
        let batch = &order[i * count / batches..seen];
        let x = images.batch(batch, net.config.channels, net.network.parameters.device())?;
        let mode = Mode::Adapt { batch: batch.len(), seen };
        // Where a projector was kept, its statistics too.
        net.network.forward(&x.to_dtype(net.network.parameters.dtype())?, mode)?;
        if observe(seen).is_break() {
            return Err(NnError::Cancelled);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::super::encoder::EncoderConfig;
    use super::super::layers::tests::check_close;
    use super::*;

    #[test]
    fn each_image_has_its_row() {
        let streams = Streams::new(1, "test");
        let config = EncoderConfig { width: 2, channels: 3, ..Default::default() };
        let net = EncoderNetwork::new(config, &streams, &Device::Cpu, DType::F32).unwrap();
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
    #[test]
    fn an_adapted_network_evaluates_as_it_trains() {
        let streams = Streams::new(1, "test");
        let config = EncoderConfig { width: 4, channels: 1, ..Default::default() };
        let net = EncoderNetwork::new(config, &streams, &Device::Cpu, DType::F64).unwrap();
        let (n, size) = (BATCH, 16);
        let mut noise = streams.stream("pixels");
        let pixels: Vec<f32> = (0..n * size * size).map(|_| noise.uniform() as f32).collect();
        let images = Images::gray(&pixels, size, size).unwrap();
        let all: Vec<usize> = (0..n).collect();
        let x = images.batch(&all, 1, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
        let weight = || net.network.parameters.weights()["conv1.weight"].copy().unwrap();
        let flat = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let worst = |a: &[f64], b: &[f64]| {
            a.iter().zip(b).fold(0.0, |worst, (a, b)| f64::max(worst, (a - b).abs()))
        };
        let (before, frozen) = (weight(), flat(net.forward(&x, Mode::Evaluate).unwrap()));
        adapt(&net, images, &streams, &mut |_| ControlFlow::Continue(())).unwrap();
        check_close("weights", &weight(), &before, 0.0);
        let adapted = flat(net.forward(&x, Mode::Evaluate).unwrap());
        let trained = flat(net.forward(&x, Mode::Train).unwrap());
        let largest = trained.iter().copied().fold(0.0, f64::max);
        // One batch holds all images. Its unbiased variance is kept, and training divides by the biased one. In the
        // last two stages an image gives one value: eight layers in a row, each off by a factor √(256/255).
        assert!(worst(&adapted, &trained) < 0.02 * largest, "{}", worst(&adapted, &trained));
        assert!(worst(&frozen, &trained) > 0.1 * largest, "{}", worst(&frozen, &trained));
        let one = Images::gray(&pixels[..256], size, size).unwrap();
        let error = adapt(&net, one, &streams, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(error.to_string(), "number of images to adapt to must be at least 2, found 1");
    }
}
