//! A network as a list of layers, which the CPU runs by [`super::tape`] and any device by [`super::composed`].

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::composed;
use super::error::NnError;
use super::layers::Mode;
use super::params::{Init, Parameters};
use super::precision::Precision;
use super::tape;
use crate::rng::Streams;

/// Weight of the newest batch in the running statistics; `PyTorch`'s default.
pub const MOMENTUM: f64 = 0.1;

/// Layers in the order in which they run, and their parameters.
///
/// Activations are numbered: 0 is the input, i + 1 the result of layer i. All are n×h×w×c; rows of features are images
/// of one pixel.
#[derive(Debug)]
pub struct Network {
    pub parameters: Parameters,
    pub(super) layers: Vec<Layer>,
    /// The activations that have a name, in order.
    taps: Vec<(String, usize)>,
}

/// A layer and the activation that it reads.
#[derive(Debug)]
pub(super) enum Layer {
    Unit(Unit),
    /// The maximum over 3×3 windows at stride 2, padding 1.
    MaxPool {
        input: usize,
    },
    /// The average over all pixels.
    AveragePool {
        input: usize,
    },
}

/// A convolution or, on one pixel, a matrix product, and what follows it before the next.
#[derive(Debug)]
pub(super) struct Unit {
    pub input: usize,
    /// m×c×k×k, or m×c, without bias.
    pub weight: Named,
    pub stride: usize,
    pub padding: usize,
    pub norm: Option<Norm>,
    /// An activation that is added after the normalization.
    pub residual: Option<usize>,
    pub relu: bool,
}

impl Unit {
    /// Tells whether it meets a whole image at once: other convolutions of ours are padded or of one pixel.
    fn is_whole(&self) -> bool {
        self.padding == 0 && self.weight.var.dims().get(2).is_some_and(|kernel| *kernel > 1)
    }
}

/// A trained parameter.
#[derive(Debug)]
pub(super) struct Named {
    pub name: String,
    pub var: Var,
}

/// Batch normalization (Ioffe & Szegedy 2015) over the last axis.
#[derive(Debug)]
pub(super) struct Norm {
    pub weight: Named,
    pub bias: Named,
    pub running_mean: Var,
    pub running_var: Var,
}

/// What a convolution looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub channels: usize,
    pub filters: usize,
    /// None for a matrix product, whose weight is m×c.
    pub kernel: Option<usize>,
    pub stride: usize,
    pub padding: usize,
}

impl Shape {
    /// A square convolution, padded so that stride 1 keeps the size.
    pub fn convolution(channels: usize, filters: usize, kernel: usize, stride: usize) -> Self {
        Self { channels, filters, kernel: Some(kernel), stride, padding: kernel / 2 }
    }

    /// A convolution that meets a square image once, as a whole: one pixel comes of it.
    pub fn whole(channels: usize, filters: usize, side: usize) -> Self {
        Self { channels, filters, kernel: Some(side), stride: 1, padding: 0 }
    }

    /// A matrix product on features.
    pub fn linear(inputs: usize, outputs: usize) -> Self {
        Self { channels: inputs, filters: outputs, kernel: None, stride: 1, padding: 0 }
    }

    /// Counts the pixels of a kernel.
    fn area(self) -> usize {
        self.kernel.map_or(1, |k| k * k)
    }

    /// Counts the numbers that a result is a sum over (fan-in).
    pub fn inputs(self) -> usize {
        self.channels * self.area()
    }

    /// Yields He's initialization for the variance of the gradients: normal of variance 2 / (k²·outputs).
    pub fn kaiming(self) -> Init {
        Init::Normal { deviation: (2.0 / (self.filters * self.area()) as f64).sqrt() }
    }
}

/// What follows a convolution.
#[derive(Clone, Copy, Debug)]
pub struct After<'a> {
    /// The path of the batch normalization, if there is one.
    pub norm: Option<&'a str>,
    pub residual: Option<usize>,
    pub relu: bool,
}

impl Network {
    /// Opens a network without layers, whose weights will be drawn from the streams `init/PATH`.
    pub fn new(streams: &Streams, device: &Device, dtype: DType) -> Self {
        let parameters = Parameters::new(streams, device, dtype);
        Self { parameters, layers: Vec::new(), taps: vec![("input".to_owned(), 0)] }
    }

    /// Adds a convolution or matrix product under `path`, and yields the number of its activation.
    pub fn unit(
        &mut self,
        path: &str,
        input: usize,
        shape: Shape,
        init: Init,
        after: After,
    ) -> std::result::Result<usize, NnError> {
        let Shape { channels, filters, kernel, stride, padding } = shape;
        let dims = kernel.map_or(vec![filters, channels], |k| vec![filters, channels, k, k]);
        let weight = self.named(&format!("{path}.weight"), &dims, init)?;
        let norm = after.norm.map(|path| self.norm(path, filters)).transpose()?;
        let After { residual, relu, .. } = after;
        self.layers.push(Layer::Unit(Unit {
            input,
            weight,
            stride,
            padding,
            norm,
            residual,
            relu,
        }));
        Ok(self.layers.len())
    }

    /// Adds the max pool of a stem.
    pub fn max_pool(&mut self, input: usize) -> usize {
        self.layers.push(Layer::MaxPool { input });
        self.layers.len()
    }

    /// Adds the average over all pixels.
    pub fn average_pool(&mut self, input: usize) -> usize {
        self.layers.push(Layer::AveragePool { input });
        self.layers.len()
    }

    /// Names an activation, so that it can be read.
    pub fn tap(&mut self, name: &str, activation: usize) {
        self.taps.push((name.to_owned(), activation));
    }

    /// The layers that the last of some activations needs.
    pub(super) fn layers_to(&self, wanted: &[usize]) -> &[Layer] {
        &self.layers[..wanted.iter().copied().max().unwrap_or(0)]
    }

    fn named(
        &mut self,
        name: &str,
        dims: &[usize],
        init: Init,
    ) -> std::result::Result<Named, NnError> {
        Ok(Named { name: name.to_owned(), var: self.parameters.weight(name, dims, init)? })
    }

    pub(super) fn norm(
        &mut self,
        path: &str,
        channels: usize,
    ) -> std::result::Result<Norm, NnError> {
        let dims = [channels];
        Ok(Norm {
            weight: self.named(&format!("{path}.weight"), &dims, Init::Constant(1.0))?,
            bias: self.named(&format!("{path}.bias"), &dims, Init::Constant(0.0))?,
            running_mean: self.parameters.buffer(&format!("{path}.running_mean"), &dims, 0.0)?,
            running_var: self.parameters.buffer(&format!("{path}.running_var"), &dims, 1.0)?,
        })
    }

    /// The names of the activations that can be read, from the input on.
    pub fn taps(&self) -> impl Iterator<Item = &str> {
        self.taps.iter().map(|(name, _)| name.as_str())
    }

    /// Yields the number of a named activation.
    pub fn tapped(&self, name: &str) -> std::result::Result<usize, NnError> {
        let found = self.taps.iter().find(|(tap, _)| tap == name).map(|(_, at)| *at);
        found.ok_or_else(|| {
            let known = self.taps().map(str::to_owned).collect();
            NnError::UnknownTap { name: name.to_owned(), known }
        })
    }

    /// Runs the network on n×h×w×c, or features n×c, without tracking a gradient; yields the last activation.
    ///
    /// A result of one pixel comes as n×c. In training and adaptation running statistics move.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward_to(self.layers.len(), x, mode)
    }

    /// Does the same as far as some activation, which it yields.
    pub fn forward_to(&self, activation: usize, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut last = None;
        self.visit(x, mode, &[activation], &mut |_, tensor| {
            last = Some(tensor);
            Ok(())
        })?;
        last.map_or_else(|| Ok(x.clone()), flat)
    }

    /// Reads activations, in evaluation mode, at some of [`Self::taps`].
    ///
    /// Maps come as n×c×h×w, whatever the layout inside, so that flattening numbers the units as `PyTorch` does; what
    /// has one pixel by construction (`pooled`, layers of a projector) as n×c.
    pub fn forward_taps(
        &self,
        x: &Tensor,
        names: &[&str],
    ) -> std::result::Result<BTreeMap<String, Tensor>, NnError> {
        let wanted: Vec<usize> =
            names.iter().map(|name| self.tapped(name)).collect::<std::result::Result<_, _>>()?;
        let mut read = BTreeMap::new();
        self.visit(x, Mode::Evaluate, &wanted, &mut |at, tensor| {
            let tensor = if self.is_flat(at) {
                flat(tensor)?
            } else {
                tensor.permute((0, 3, 1, 2))?.contiguous()?
            };
            read.insert(at, tensor);
            Ok(())
        })?;
        let named = names.iter().zip(&wanted);
        Ok(named
            .filter_map(|(name, at)| Some(((*name).to_owned(), read.get(at)?.clone())))
            .collect())
    }

    /// Tells whether an activation has one pixel, whatever sizes of images the network may see.
    fn is_flat(&self, activation: usize) -> bool {
        match activation.checked_sub(1).map(|layer| &self.layers[layer]) {
            None | Some(Layer::MaxPool { .. }) => false,
            Some(Layer::AveragePool { .. }) => true,
            // Without padding it meets the whole image.
            Some(Layer::Unit(unit)) => unit.weight.var.rank() == 2 || unit.is_whole(),
        }
    }

    /// Runs the network as far as it must and calls `f` with the activations `wanted`, n×h×w×c, as they appear.
    fn visit(
        &self,
        x: &Tensor,
        mode: Mode,
        wanted: &[usize],
        f: &mut dyn FnMut(usize, Tensor) -> Result<()>,
    ) -> Result<()> {
        if x.device().is_cpu() {
            tape::visit(self, &spread(x)?, mode, wanted, f)
        } else {
            composed::visit(self, &spread(x)?, mode, Precision::F32, wanted, f)
        }
    }
}

impl Norm {
    /// Moves the running statistics to those of a batch of `rows` values a channel, of biased variance.
    ///
    /// In training they move a tenth of the way to the batch's mean and unbiased variance. In adaptation they move as
    /// far as makes them the mean over all batches, weighted by their images.
    pub(super) fn track(
        &self,
        mean: &Tensor,
        variance: &Tensor,
        rows: usize,
        mode: Mode,
    ) -> Result<()> {
        let momentum = match mode {
            Mode::Train => MOMENTUM,
            Mode::Adapt { batch, seen } => batch as f64 / seen as f64,
            Mode::Evaluate => return Ok(()),
        };
        let unbiased = (variance * (rows as f64 / (rows - 1) as f64))?;
        for (running, batch) in [(&self.running_mean, mean), (&self.running_var, &unbiased)] {
            let old = (running.as_detached_tensor() * (1.0 - momentum))?;
            running.set(&(old + (batch * momentum)?)?)?;
        }
        Ok(())
    }
}

/// Sees features n×c as images of one pixel; leaves images as they are.
pub(super) fn spread(x: &Tensor) -> Result<Tensor> {
    match *x.dims() {
        [n, c] => x.reshape((n, 1, 1, c)),
        _ => Ok(x.clone()),
    }
}

/// Sees images of one pixel as features n×c; leaves others as they are.
pub(super) fn flat(x: Tensor) -> Result<Tensor> {
    match *x.dims() {
        [n, 1, 1, c] => x.reshape((n, c)),
        _ => Ok(x),
    }
}
