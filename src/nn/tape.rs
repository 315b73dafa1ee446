//! Networks on the CPU by our own kernels: a forward pass that remembers what its gradient needs, and that gradient.
//!
//! Memory is kept from one pass to the next: fresh pages of the system would cost up to a third of a step.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Tensor, Var, bail};

use super::buffers::Pool;
use super::composed::check_rows;
use super::host::{with_elements, with_real};
use super::kernels::batch_norm::{Normalization, Passed, moments};
use super::kernels::convolution::{Convolution, Onto, Scratch};
use super::kernels::pool::{Windows, average, average_gradient};
use super::kernels::simd::Element;
use super::layers::Mode;
use super::network::{Layer, Network, Norm, Unit, flat, spread};

/// A gradient for each trained parameter, by name.
pub type Gradients = BTreeMap<String, Tensor>;

/// Runs networks and takes their gradients.
#[derive(Debug)]
pub struct Tape<T> {
    activations: Vec<Option<Activation<T>>>,
    /// What each layer of the last pass saved, in order; pools save nothing.
    saved: Vec<Option<Saved<T>>>,
    /// The shape of the last input, as it was given.
    input: Vec<usize>,
    scratch: Scratch<T>,
    pool: Pool<T>,
}

/// A tensor n×h×w×c.
#[derive(Debug)]
struct Activation<T> {
    /// Nothing where the values can be had again from what they were normalized from.
    values: Vec<T>,
    dims: [usize; 4],
}

impl<T: Element> Activation<T> {
    fn tensor(&self) -> Result<Tensor> {
        Tensor::from_slice(&self.values, self.dims.as_slice(), &Device::Cpu)
    }
}

/// What a unit did.
#[derive(Debug)]
struct Saved<T> {
    convolution: Convolution,
    /// Its result before the normalization, and by what that normalized.
    normalized: Option<(Vec<T>, Normalization)>,
}

impl<T> Default for Tape<T> {
    fn default() -> Self {
        let (scratch, pool) = (Scratch::default(), Pool::default());
        Self { activations: Vec::new(), saved: Vec::new(), input: Vec::new(), scratch, pool }
    }
}

/// Runs a network without a gradient, and calls `f` with the activations `wanted` as they appear.
pub(super) fn visit(
    network: &Network,
    x: &Tensor,
    mode: Mode,
    wanted: &[usize],
    f: &mut dyn FnMut(usize, Tensor) -> Result<()>,
) -> Result<()> {
    fn typed<T: Element>(
        network: &Network,
        x: &Tensor,
        mode: Mode,
        wanted: &[usize],
        f: &mut dyn FnMut(usize, Tensor) -> Result<()>,
    ) -> Result<()> {
        let layers = network.layers_to(wanted);
        Tape::<T>::default().run(layers, x, mode, false, &mut |at, activation| {
            if wanted.contains(&at) {
                f(at, activation.tensor()?)?;
            }
            Ok(())
        })
    }
    with_real!(x.dtype(), typed(network, x, mode, wanted, f))
}

impl<T: Element> Tape<T> {
    /// Runs a network in training mode, and remembers. `x` is n×h×w×c or n×c; a result of one pixel comes as n×c.
    pub fn forward(&mut self, network: &Network, x: &Tensor) -> Result<Tensor> {
        let last = network.layers.len();
        let mut result = None;
        self.release();
        self.input = x.dims().to_vec();
        self.run(&network.layers, &spread(x)?, Mode::Train, true, &mut |at, activation| {
            if at == last {
                result = Some(activation.tensor()?);
            }
            Ok(())
        })?;
        result.map_or_else(|| Ok(x.clone()), flat)
    }

    /// Takes the gradient of a loss with respect to the last result to those of all parameters, in `gradients`.
    ///
    /// Yields that of the input if it is asked for. Uses up what [`Self::forward`] remembered; `gradients` holds tensors
    /// of an earlier pass, which are overwritten, or nothing.
    pub fn backward(
        &mut self,
        network: &Network,
        dy: &Tensor,
        input_gradient: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        if self.saved.len() != network.layers.len() || self.saved.is_empty() {
            bail!("a backward pass needs a forward pass before it")
        }
        let mut flows: Vec<Option<Vec<T>>> = (0..=network.layers.len()).map(|_| None).collect();
        let mut seed = self.pool.take(dy.elem_count());
        with_elements(dy, |dy: &[T]| seed.copy_from_slice(dy))?;
        flows[network.layers.len()] = Some(seed);
        for (at, layer) in network.layers.iter().enumerate().rev() {
            if matches!(layer, Layer::Unit(unit) if unit.relu) {
                self.restore(network, at + 1)?;
            }
            let (Some(saved), Some(flow)) = (self.saved.pop(), flows[at + 1].take()) else {
                bail!("layer {at} leads nowhere")
            };
            match (layer, saved) {
                (Layer::Unit(unit), Some(Saved { convolution, normalized })) => {
                    self.restore(network, unit.input)?;
                    let wanted = input_gradient || unit.input > 0;
                    let saved = (&convolution, normalized);
                    let flow =
                        self.unit_back((unit, at + 1), saved, flow, &mut flows, wanted, gradients)?;
                    self.pool.give(flow);
                }
                (Layer::MaxPool { input }, _) => {
                    self.restore(network, *input)?;
                    self.max_pool_back(*input, at + 1, flow, &mut flows);
                }
                (Layer::AveragePool { input }, _) => {
                    let [n, h, w, c] = self.dims(*input);
                    let dx = flow_to(&mut flows[*input], &mut self.pool, n * h * w * c);
                    average_gradient(&flow, h * w, c, dx);
                    self.pool.give(flow);
                }
                (Layer::Unit(_), None) => bail!("layer {at} was not run as it is"),
            }
            if let Some(activation) = self.activations[at + 1].take() {
                self.pool.give(activation.values);
            }
        }
        let dx = flows[0].take();
        self.release();
        dx.map(|dx| Tensor::from_vec(dx, self.input.as_slice(), &Device::Cpu)).transpose()
    }

    /// Gives back the buffers of the last pass.
    fn release(&mut self) {
        for activation in self.activations.drain(..).flatten() {
            self.pool.give(activation.values);
        }
        for saved in self.saved.drain(..) {
            if let Some(Saved { normalized: Some((values, _)), .. }) = saved {
                self.pool.give(values);
            }
        }
        self.pool.end_pass();
    }

    fn dims(&self, activation: usize) -> [usize; 4] {
        self.activations[activation].as_ref().map_or([0; 4], |a| a.dims)
    }

    /// Runs layers from the first on; `remember` tells whether a backward pass will follow. `f` sees each activation once.
    fn run(
        &mut self,
        layers: &[Layer],
        x: &Tensor,
        mode: Mode,
        remember: bool,
        f: &mut dyn FnMut(usize, &Activation<T>) -> Result<()>,
    ) -> Result<()> {
        let (n, h, w, c) = x.dims4()?;
        let mut values = self.pool.take(x.elem_count());
        with_elements(x, |x: &[T]| values.copy_from_slice(x))?;
        let input = Activation { values, dims: [n, h, w, c] };
        f(0, &input)?;
        self.activations.push(Some(input));
        for (at, layer) in layers.iter().enumerate() {
            let (activation, saved) = match layer {
                Layer::Unit(unit) => {
                    let (activation, saved) = self.unit(unit, mode, remember)?;
                    (activation, Some(saved))
                }
                Layer::MaxPool { input } => (self.max_pool(*input)?, None),
                Layer::AveragePool { input } => (self.average_pool(*input)?, None),
            };
            f(at + 1, &activation)?;
            self.activations.push(Some(activation));
            if remember {
                self.saved.push(saved);
            }
            self.forget(layers, at, remember);
        }
        Ok(())
    }

    /// Gives back the activations that no layer after `done` reads: if a backward pass will follow, those only that
    /// [`Self::restore`] can have again.
    fn forget(&mut self, layers: &[Layer], done: usize, remember: bool) {
        let reads = |layer: &Layer, at: usize| match layer {
            Layer::Unit(unit) => unit.input == at || unit.residual == Some(at),
            Layer::MaxPool { input } | Layer::AveragePool { input } => *input == at,
        };
        for at in 0..=done {
            let needed = layers[done + 1..].iter().any(|layer| reads(layer, at));
            let kept = remember && !can_be_restored(layers, at);
            if let Some(activation) = &mut self.activations[at]
                && !needed
                && !kept
                && !activation.values.is_empty()
            {
                self.pool.give(std::mem::take(&mut activation.values));
            }
        }
    }

    /// Has the values of an activation again that were given back in the forward pass, and before them those of the
    /// residuals that went into it.
    ///
    /// Nearly half of what a step would keep, for one cheap pass over it.
    fn restore(&mut self, network: &Network, at: usize) -> Result<()> {
        if !can_be_restored(&network.layers, at)
            || self.read(at).is_ok_and(|a| !a.values.is_empty())
        {
            return Ok(());
        }
        let Layer::Unit(Unit { norm: Some(norm), residual, .. }) = &network.layers[at - 1] else {
            return Ok(());
        };
        if let Some(residual) = residual {
            self.restore(network, *residual)?;
        }
        let Self { activations, saved, pool, .. } = self;
        let Some(Some(Saved { normalized: Some((z, normalization)), .. })) = saved.get(at - 1)
        else {
            bail!("activation {at} is not saved")
        };
        let (weight, bias) = (small::<T>(&norm.weight.var)?, small::<T>(&norm.bias.var)?);
        let residual = residual.and_then(|at| activations[at].as_ref());
        let mut values = pool.take(z.len());
        normalization.forward(z, &weight, &bias, residual.map(|a| &a.values[..]), &mut values);
        if let Some(activation) = &mut activations[at] {
            activation.values = values;
        }
        Ok(())
    }

    fn read(&self, activation: usize) -> Result<&Activation<T>> {
        let found = self.activations.get(activation).and_then(Option::as_ref);
        found.ok_or_else(|| candle_core::Error::msg("a layer reads an activation that is gone"))
    }

    fn unit(
        &mut self,
        unit: &Unit,
        mode: Mode,
        remember: bool,
    ) -> Result<(Activation<T>, Saved<T>)> {
        let dims = self.read(unit.input)?.dims;
        let convolution =
            Convolution::new(dims, unit.weight.var.dims(), unit.stride, unit.padding)?;
        let dims = convolution.out();
        let length = dims.iter().product();
        let mut z = self.pool.take(length);
        let Self { activations, scratch, pool, .. } = self;
        let values = |at: usize| activations[at].as_ref().map(|a| a.values.as_slice());
        let x = values(unit.input).unwrap_or_default();
        with_elements(&unit.weight.var, |weight: &[T]| {
            convolution.forward(x, weight, &mut z, scratch);
        })?;
        let residual = unit.residual.and_then(values);
        if residual.is_some_and(|r| r.len() != length) {
            bail!("{}: the residual's shape differs from the result's", unit.weight.name)
        }
        let Some(norm) = &unit.norm else {
            if unit.relu || residual.is_some() {
                bail!("{}: a layer without normalization is linear", unit.weight.name)
            }
            return Ok((Activation { values: z, dims }, Saved { convolution, normalized: None }));
        };
        let normalization = normalization::<T>(norm, &z, dims[3], unit.relu, mode)?;
        let (weight, bias) = (small::<T>(&norm.weight.var)?, small::<T>(&norm.bias.var)?);
        let mut y = pool.take(length);
        normalization.forward(&z, &weight, &bias, residual, &mut y);
        let saved = if remember {
            Some((z, normalization))
        } else {
            pool.give(z);
            None
        };
        Ok((Activation { values: y, dims }, Saved { convolution, normalized: saved }))
    }

    /// Goes back through a unit; yields a buffer that is free now.
    fn unit_back(
        &mut self,
        (unit, out): (&Unit, usize),
        (convolution, normalized): (&Convolution, Option<(Vec<T>, Normalization)>),
        mut flow: Vec<T>,
        flows: &mut [Option<Vec<T>>],
        input_gradient: bool,
        gradients: &mut Gradients,
    ) -> Result<Vec<T>> {
        let Self { activations, scratch, pool, .. } = self;
        let values = |at: usize| activations[at].as_ref().map_or(&[][..], |a| a.values.as_slice());
        if let (Some((mut z, normalization)), Some(norm)) = (normalized, &unit.norm) {
            let weight = small::<T>(&norm.weight.var)?;
            let y = values(out);
            let sum = unit.residual.and_then(|at| flows[at].as_mut());
            let added = sum.is_some();
            let passed = sum.map_or(Passed::Left, |sum| Passed::Added(sum));
            let (d_weight, d_bias) = normalization.backward(&mut z, &weight, y, &mut flow, passed);
            // The gradient before the normalization stands where the values were; what came in is the residual's now.
            let came = std::mem::replace(&mut flow, z);
            match unit.residual {
                Some(at) if !added => flows[at] = Some(came),
                _ => pool.give(came),
            }
            for (named, gradient) in [(&norm.weight, d_weight), (&norm.bias, d_bias)] {
                overwrite(gradients, &named.name, &named.var, |values: &mut [T]| {
                    for (value, gradient) in values.iter_mut().zip(&gradient) {
                        *value = T::from_f64(*gradient);
                    }
                })?;
            }
        }
        let x = values(unit.input);
        let dx = input_gradient.then(|| {
            let flow = &mut flows[unit.input];
            let begun = flow.is_some();
            Onto { values: flow.get_or_insert_with(|| pool.take(x.len())), begun }
        });
        with_elements(&unit.weight.var, |weight: &[T]| {
            overwrite(gradients, &unit.weight.name, &unit.weight.var, |d_weight: &mut [T]| {
                convolution.backward(x, weight, &flow, dx, d_weight, scratch);
            })
        })??;
        Ok(flow)
    }

    fn max_pool(&mut self, input: usize) -> Result<Activation<T>> {
        let dims = self.read(input)?.dims;
        let windows = Windows::new(dims);
        let [h, w, c] = windows.out();
        let mut values = self.pool.take(dims[0] * h * w * c);
        windows.maxima(&self.read(input)?.values, &mut values);
        Ok(Activation { values, dims: [dims[0], h, w, c] })
    }

    fn max_pool_back(
        &mut self,
        input: usize,
        out: usize,
        mut flow: Vec<T>,
        flows: &mut [Option<Vec<T>>],
    ) {
        let dims = self.dims(input);
        let dx = flow_to(&mut flows[input], &mut self.pool, dims.iter().product());
        if let (Some(x), Some(y)) = (&self.activations[input], &self.activations[out]) {
            Windows::new(dims).gradient(&x.values, &y.values, &mut flow, dx);
        }
        self.pool.give(flow);
    }

    fn average_pool(&mut self, input: usize) -> Result<Activation<T>> {
        let [n, h, w, c] = self.read(input)?.dims;
        let mut values = self.pool.take(n * c);
        average(&self.read(input)?.values, h * w, c, &mut values);
        Ok(Activation { values, dims: [n, 1, 1, c] })
    }
}

/// Tells whether an activation follows from what was saved of its own layer, and from residuals.
fn can_be_restored(layers: &[Layer], at: usize) -> bool {
    let layer = at.checked_sub(1).and_then(|layer| layers.get(layer));
    matches!(layer, Some(Layer::Unit(Unit { norm: Some(_), .. })))
}

/// Makes a gradient that has not begun zero, so that all who flow into it can add.
fn flow_to<'a, T: Element>(
    flow: &'a mut Option<Vec<T>>,
    pool: &mut Pool<T>,
    length: usize,
) -> &'a mut [T] {
    flow.get_or_insert_with(|| pool.take_zeroed(length))
}

/// Reads or computes what a batch is normalized by, and moves the running statistics.
fn normalization<T: Element>(
    norm: &Norm,
    z: &[T],
    c: usize,
    relu: bool,
    mode: Mode,
) -> Result<Normalization> {
    if mode == Mode::Evaluate {
        let read = |var: &Var| var.to_dtype(DType::F64)?.to_vec1::<f64>();
        return Ok(Normalization::new(read(&norm.running_mean)?, &read(&norm.running_var)?, relu));
    }
    let rows = z.len() / c;
    check_rows(rows)?;
    let (mean, variance) = moments(z, c);
    let tensor = |values: &[f64]| {
        Tensor::from_slice(values, c, &Device::Cpu)?.to_dtype(norm.running_mean.dtype())
    };
    norm.track(&tensor(&mean)?, &tensor(&variance)?, rows, mode)?;
    Ok(Normalization::new(mean, &variance, relu))
}

/// Copies a short parameter.
fn small<T: Element>(var: &Var) -> Result<Vec<T>> {
    with_elements(var, <[T]>::to_vec)
}

/// Has `f` write the gradient of a parameter, in the memory of an earlier one if there is one.
fn overwrite<T: Element>(
    gradients: &mut Gradients,
    name: &str,
    var: &Var,
    f: impl FnOnce(&mut [T]),
) -> Result<()> {
    if !gradients.contains_key(name) {
        let fresh = Tensor::zeros(var.shape(), var.dtype(), var.device())?;
        gradients.insert(name.to_owned(), fresh);
    }
    gradients[name].inplace_op1(&Write(RefCell::new(Some(f)), std::marker::PhantomData))
}

/// Lets a function write to a CPU tensor.
struct Write<T, F>(RefCell<Option<F>>, std::marker::PhantomData<T>);

impl<T: Element, F: FnOnce(&mut [T])> InplaceOp1 for Write<T, F> {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (Some(f), Some((start, end))) = (self.0.take(), layout.contiguous_offsets()) else {
            bail!("write: expected a contiguous tensor")
        };
        f(&mut T::of_storage(storage)?[start..end]);
        Ok(())
    }
}
