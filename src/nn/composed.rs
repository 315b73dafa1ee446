//! Networks from candle's operations: on any device, with gradients by candle, and the reference of our own kernels.
//!
//! Only operations whose gradients are right are used: candle's max pool and its `relu` at 0 are not among them.

use candle_core::{D, DType, Result, Tensor, bail};

use super::kernels::batch_norm::EPSILON;
use super::layers::{Mode, relu};
use super::network::{Layer, Network, Norm, Unit, flat, spread};
use super::precision::Precision;

/// Runs a network in training on n×h×w×c or n×c, tracking gradients of all parameters; running statistics move.
pub fn tracked(network: &Network, x: &Tensor) -> Result<Tensor> {
    tracked_in(network, x, Precision::F32)
}

/// Does the same with products of some precision.
pub fn tracked_in(network: &Network, x: &Tensor, precision: Precision) -> Result<Tensor> {
    let (mut last, end) = (None, network.layers.len());
    visit(network, &spread(x)?, Mode::Train, precision, &[end], &mut |_, tensor| {
        last = Some(tensor);
        Ok(())
    })?;
    last.map_or_else(|| Ok(x.clone()), flat)
}

/// Runs a network and calls `f` with the activations `wanted`, n×h×w×c.
pub(super) fn visit(
    network: &Network,
    x: &Tensor,
    mode: Mode,
    precision: Precision,
    wanted: &[usize],
    f: &mut dyn FnMut(usize, Tensor) -> Result<()>,
) -> Result<()> {
    let mut activations = vec![x.clone()];
    for layer in network.layers_to(wanted) {
        let next = match layer {
            Layer::Unit(unit) => {
                let residual = unit.residual.map(|at| &activations[at]);
                self::unit(unit, &activations[unit.input], residual, mode, precision)?
            }
            Layer::MaxPool { input } => max_pool(&activations[*input])?,
            Layer::AveragePool { input } => average_pool(&activations[*input])?,
        };
        activations.push(next);
    }
    for (at, activation) in activations.into_iter().enumerate() {
        if wanted.contains(&at) {
            f(at, activation)?;
        }
    }
    Ok(())
}

fn unit(
    unit: &Unit,
    x: &Tensor,
    residual: Option<&Tensor>,
    mode: Mode,
    precision: Precision,
) -> Result<Tensor> {
    let dtype = x.dtype();
    let (x, weight) = (precision.round(x)?, precision.round(&mode.read(&unit.weight.var))?);
    let y = if weight.rank() == 2 {
        let (n, h, w, c) = x.dims4()?;
        x.reshape((n * h * w, c))?.matmul(&weight.t()?)?.reshape((n, h, w, weight.dim(0)?))?
    } else {
        convolution(&x, &weight, unit.stride, unit.padding)?
    };
    let y = y.to_dtype(dtype)?;
    let y = match &unit.norm {
        Some(norm) => normalize(norm, &y, mode)?,
        None => y,
    };
    let y = match residual {
        Some(residual) => (y + residual)?,
        None => y,
    };
    if unit.relu { relu(&y) } else { Ok(y) }
}

/// Convolves n×h×w×c with a weight of torchvision's layout.
///
/// A GPU asks cuDNN where the program is built with it. Candle's gradient takes the remainder of the stride to be equal on both axes. So the input is padded, and cut to
/// what the kernel meets, beforehand: no remainder is left.
fn convolution(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if x.device().is_cuda() {
        return super::cudnn::convolution(x, weight, stride, padding);
    }
    let kernel = weight.dim(2)?;
    let mut x = x.permute((0, 3, 1, 2))?.contiguous()?;
    for axis in [2, 3] {
        x = x.pad_with_zeros(axis, padding, padding)?;
        let met = (x.dim(axis)? - kernel) / stride * stride + kernel;
        x = x.narrow(axis, 0, met)?;
    }
    x.contiguous()?.conv2d(weight, 0, stride, 1, 1)?.permute((0, 2, 3, 1))?.contiguous()
}

/// Normalizes each channel.
///
/// In training and adaptation by the batch's mean and biased variance; a batch of one value a channel is an error.
fn normalize(norm: &Norm, x: &Tensor, mode: Mode) -> Result<Tensor> {
    let (weight, bias) = (mode.read(&norm.weight.var), mode.read(&norm.bias.var));
    let rows = x.reshape(((), x.dim(D::Minus1)?))?;
    let statistics = if mode == Mode::Evaluate {
        Some((mode.read(&norm.running_mean), mode.read(&norm.running_var)))
    } else {
        None
    };
    let (centered, variance) = match statistics {
        Some((mean, variance)) => (rows.broadcast_sub(&mean)?, variance),
        None => {
            let count = rows.dim(0)?;
            check_rows(count)?;
            let mean = rows.mean(0)?;
            let centered = rows.broadcast_sub(&mean)?;
            let variance = centered.sqr()?.mean(0)?;
            norm.track(&mean.detach(), &variance.detach(), count, mode)?;
            (centered, variance)
        }
    };
    let scale = (weight / (variance + EPSILON)?.sqrt()?)?;
    centered.broadcast_mul(&scale)?.broadcast_add(&bias)?.reshape(x.shape())
}

/// Fails unless a batch has a variance.
pub(super) fn check_rows(rows: usize) -> Result<()> {
    if rows < 2 {
        bail!("batch norm in training needs at least 2 values a channel, found {rows}")
    }
    Ok(())
}

/// Takes the maximum over 3×3 windows at stride 2, padding 1. Equal maxima share the gradient.
///
/// Candle's own `max_pool2d` has no padding, and no gradient for windows that overlap.
fn max_pool(x: &Tensor) -> Result<Tensor> {
    fn along(x: &Tensor, axis: usize) -> Result<Tensor> {
        let size = x.dim(axis)?;
        let out = size.div_ceil(2);
        // One line before, and after an odd size one more: window i meets the padded lines 2i, 2i+1, 2i+2.
        let border = |lines: usize| {
            let mut dims = x.dims().to_vec();
            dims[axis] = lines;
            let lowest = if x.dtype() == DType::F64 { f64::MIN } else { f64::from(f32::MIN) };
            Tensor::full(0f32, dims, x.device())?.to_dtype(x.dtype())? + lowest
        };
        let padded = Tensor::cat(&[&border(1)?, x, &border(1 + size % 2)?], axis)?;
        let mut dims = x.dims().to_vec();
        dims[axis] = out;
        dims.insert(axis + 1, 2);
        let pairs = padded.narrow(axis, 0, 2 * out)?.contiguous()?.reshape(dims.as_slice())?;
        let after = padded.narrow(axis, 2, 2 * out)?.contiguous()?.reshape(dims)?;
        let line = |of: &Tensor, at: usize| of.narrow(axis + 1, at, 1)?.squeeze(axis + 1);
        line(&pairs, 0)?.maximum(&line(&pairs, 1)?)?.maximum(&line(&after, 0)?)
    }
    along(&along(x, 1)?, 2)
}

fn average_pool(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    x.reshape((n, h * w, c))?.mean_keepdim(1)?.reshape((n, 1, 1, c))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::layers::tests::{check_close, check_gradient, normal, weigh};
    use super::super::params::Parameters;
    use super::*;
    use crate::rng::Streams;

    fn norm(channels: usize) -> (Parameters, Norm) {
        let mut network = Network::new(&Streams::new(1, "test"), &Device::Cpu, DType::F64);
        let norm = network.norm("bn", channels).unwrap();
        for (name, var) in network.parameters.weights() {
            var.set(&normal(name, &[channels])).unwrap();
        }
        (network.parameters, norm)
    }

    #[test]
    fn gradients_are_right() {
        for [h, w, k, stride] in [[9, 8, 7, 2], [5, 4, 3, 1], [5, 4, 3, 2], [4, 5, 1, 2]] {
            let (x, weight) = (normal("x", &[2, h, w, 3]), normal("w", &[2, 3, k, k]));
            check_gradient(&format!("{h}×{w}, {k}×{k}/{stride}"), &[&x, &weight], &|| {
                weigh(&convolution(&x, &weight, stride, k / 2).unwrap())
            });
        }
        let x = normal("x", &[4, 2, 3, 3]);
        let (_parameters, norm) = norm(3);
        check_gradient("batch norm", &[&x, &norm.weight.var, &norm.bias.var], &|| {
            weigh(&normalize(&norm, &x, Mode::Train).unwrap())
        });
        for (h, w) in [(4, 6), (5, 7), (1, 1), (2, 1)] {
            let x = normal("x", &[2, h, w, 3]);
            check_gradient("max pool", &[&x], &|| weigh(&max_pool(&x).unwrap()));
            check_gradient("average", &[&x], &|| weigh(&average_pool(&x).unwrap()));
        }
    }

    #[test]
    fn the_maxima_of_a_small_image_are_known() {
        let x = Tensor::arange(0f64, 15.0, &Device::Cpu).unwrap().reshape((1, 3, 5, 1)).unwrap();
        let y = max_pool(&x).unwrap();
        assert_eq!(y.dims(), [1, 2, 3, 1]);
        let y = y.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(y, [6.0, 8.0, 9.0, 11.0, 13.0, 14.0]);
    }

    fn check(var: &candle_core::Var, expected: &[f64]) {
        let expected = Tensor::new(expected, &Device::Cpu).unwrap();
        check_close("running", var.as_tensor(), &expected, 1e-15);
    }

    #[test]
    fn running_statistics_follow_pytorch() {
        // Two channels: 1, 2, 3, 6 has mean 3, biased variance 3.5, unbiased 14/3; the other is constant.
        let (_parameters, norm) = norm(2);
        let x = [1.0, 5.0, 2.0, 5.0, 3.0, 5.0, 6.0, 5.0];
        let x = Tensor::from_slice(&x, (4, 1, 1, 2), &Device::Cpu).unwrap();
        normalize(&norm, &x, Mode::Train).unwrap();
        check(&norm.running_mean, &[0.3, 0.5]);
        check(&norm.running_var, &[0.9 + 0.1 * 14.0 / 3.0, 0.9]);
        normalize(&norm, &x, Mode::Train).unwrap();
        check(&norm.running_mean, &[0.57, 0.95]);
        check(&norm.running_var, &[0.81 + 0.19 * 14.0 / 3.0, 0.81]);
        // Evaluation uses them and leaves them.
        let y = normalize(&norm, &x, Mode::Evaluate).unwrap();
        check(&norm.running_mean, &[0.57, 0.95]);
        assert!(!y.track_op());
    }

    #[test]
    fn adaptation_averages_the_batches_by_their_images() {
        let (_parameters, norm) = norm(1);
        // Means 1 and 5, unbiased variances 2 and 4, of two and three images.
        for (values, seen) in [(&[0.0, 2.0][..], 2), (&[3.0, 5.0, 7.0], 5)] {
            let mode = Mode::Adapt { batch: values.len(), seen };
            let x = Tensor::from_slice(values, (values.len(), 1, 1, 1), &Device::Cpu).unwrap();
            normalize(&norm, &x, mode).unwrap();
        }
        check(&norm.running_mean, &[(2.0 * 1.0 + 3.0 * 5.0) / 5.0]);
        check(&norm.running_var, &[(2.0 * 2.0 + 3.0 * 4.0) / 5.0]);
    }
}
