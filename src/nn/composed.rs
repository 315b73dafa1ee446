//! Networks from candle's operations: on any device, with gradients by candle, and the reference of our own kernels.
//!
//! Only operations whose gradients are right are used: candle's max pool and its `relu` at 0 are not among them.

use candle_core::{D, DType, Result, Tensor, bail};

use super::kernels::batch_norm::EPSILON;
use super::layers::{Mode, relu};
use super::network::{Layer, Network, Norm, Unit, flat, spread};

/// Runs a network in training on n×h×w×c or n×c, tracking gradients of all parameters; running statistics move.
pub fn tracked(network: &Network, x: &Tensor) -> Result<Tensor> {
    let mut last = None;
    visit(network, &spread(x)?, Mode::Train, &[network.layers.len()], &mut |_, tensor| {
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
    wanted: &[usize],
    f: &mut dyn FnMut(usize, Tensor) -> Result<()>,
) -> Result<()> {
    let mut activations = vec![x.clone()];
    for layer in &network.layers {
        let next = match layer {
            Layer::Unit(unit) => {
                let residual = unit.residual.map(|at| &activations[at]);
                self::unit(unit, &activations[unit.input], residual, mode)?
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

fn unit(unit: &Unit, x: &Tensor, residual: Option<&Tensor>, mode: Mode) -> Result<Tensor> {
    let weight = mode.read(&unit.weight.var);
    let y = if weight.rank() == 2 {
        let (n, h, w, c) = x.dims4()?;
        x.reshape((n * h * w, c))?.matmul(&weight.t()?)?.reshape((n, h, w, weight.dim(0)?))?
    } else {
        convolution(x, &weight, unit.stride, unit.padding)?
    };
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
pub(super) fn convolution(
    x: &Tensor,
    weight: &Tensor,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let x = x.permute((0, 3, 1, 2))?.contiguous()?;
    let y = x.conv2d(weight, padding, stride, 1, 1)?;
    y.permute((0, 2, 3, 1))?.contiguous()
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
pub(super) fn max_pool(x: &Tensor) -> Result<Tensor> {
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
