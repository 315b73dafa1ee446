//! A weight with its running means, and the ways to change them all: in one pass over memory, or by candle's
//! operations.

use std::cell::RefCell;

use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use super::super::host::elements;
use super::super::kernels::simd::vectorize;

/// A weight with the running means of its gradients.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) weight: Var,
    pub(super) moments: Moments,
}

/// Running means, where they are changed. Those that an algorithm has not are empty, or a single zero.
#[derive(Debug)]
pub(super) enum Moments {
    /// For `f32` weights on the CPU.
    Host([Vec<f32>; 2]),
    /// For all others.
    Tensors([Tensor; 2]),
}

impl Slot {
    /// Starts with the means that are named at zero.
    pub(super) fn new(weight: Var, means: &[&str]) -> Result<Self> {
        let zeros = Tensor::zeros(weight.shape(), weight.dtype(), weight.device())?;
        let mut slot = Self { weight, moments: Moments::Host([vec![], vec![]]) };
        slot.moments = slot.placed(&vec![zeros; means.len()])?;
        Ok(slot)
    }

    /// Brings means, at most two, to where they will be changed.
    pub(super) fn placed(&self, means: &[Tensor]) -> Result<Moments> {
        let (dtype, device) = (self.weight.dtype(), self.weight.device());
        if device.is_cpu() && dtype == DType::F32 {
            let values = |at: usize| {
                let values = |mean: &Tensor| mean.flatten_all()?.to_dtype(dtype)?.to_vec1();
                means.get(at).map_or_else(|| Ok(vec![]), values)
            };
            return Ok(Moments::Host([values(0)?, values(1)?]));
        }
        let tensor = |at: usize| match means.get(at) {
            Some(mean) => mean.to_dtype(dtype)?.to_device(device)?.copy(),
            // A GPU may refuse to allocate nothing.
            None => Tensor::zeros((), dtype, device),
        };
        Ok(Moments::Tensors([tensor(0)?, tensor(1)?]))
    }

    pub(super) fn set_moments(&mut self, moments: Moments) {
        self.moments = moments;
    }

    /// Copies both means to the CPU, also those that the algorithm has not.
    pub(super) fn moments(&self) -> Result<Vec<Tensor>> {
        let dims = self.weight.dims();
        let shape = |n: usize| if n == 0 { vec![0] } else { dims.to_vec() };
        match &self.moments {
            Moments::Host(means) => {
                let tensor = |m: &Vec<f32>| Tensor::from_slice(m, shape(m.len()), &Device::Cpu);
                means.iter().map(tensor).collect()
            }
            // A tensor on the CPU already would share its memory.
            Moments::Tensors(means) => {
                means.iter().map(|mean| mean.to_device(&Device::Cpu)?.copy()).collect()
            }
        }
    }
}

/// Changes the elements of an `f32` weight on the CPU in place, given those of its gradient.
pub(super) fn in_place(
    weight: &Var,
    gradient: &Tensor,
    change: impl FnMut(&mut [f32], &[f32]),
) -> Result<()> {
    weight.inplace_op2(gradient, &InPlace(RefCell::new(change)))
}

struct InPlace<F>(RefCell<F>);

impl<F: FnMut(&mut [f32], &[f32])> InplaceOp2 for InPlace<F> {
    fn name(&self) -> &'static str {
        "optimizer"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<()> {
        let gradient = elements::<f32>(gradient, gradient_layout)?;
        let (CpuStorage::F32(weight), Some((start, end))) =
            (weight, weight_layout.contiguous_offsets())
        else {
            bail!("optimizer: expected a contiguous f32 weight")
        };
        (self.0.borrow_mut())(&mut weight[start..end], gradient);
        Ok(())
    }
}

/// Elements of one parallel task: four arrays of them fit a second-level cache.
const BLOCK: usize = 16 * 1024;

/// Changes each element of a weight given that of the gradient.
pub(super) fn each(weight: &mut [f32], gradient: &[f32], change: impl Fn(&mut f32, f32) + Sync) {
    weight.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK)).for_each(|(weight, gradient)| {
        vectorize(
            #[inline(always)]
            || weight.iter_mut().zip(gradient).for_each(|(w, g)| change(w, *g)),
        );
    });
}

/// Changes each element of a weight and of a running mean given that of the gradient.
pub(super) fn each_with_one(
    weight: &mut [f32],
    gradient: &[f32],
    mean: &mut [f32],
    change: impl Fn(&mut f32, f32, &mut f32) + Sync,
) {
    let blocks = weight.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
    blocks.zip(mean.par_chunks_mut(BLOCK)).for_each(|((weight, gradient), mean)| {
        vectorize(
            #[inline(always)]
            || {
                for ((w, g), m) in weight.iter_mut().zip(gradient).zip(mean) {
                    change(w, *g, m);
                }
            },
        );
    });
}

/// Changes each element of a weight and of two running means given that of the gradient.
pub(super) fn each_with_two(
    weight: &mut [f32],
    gradient: &[f32],
    [first, second]: [&mut [f32]; 2],
    change: impl Fn(&mut f32, f32, &mut f32, &mut f32) + Sync,
) {
    let blocks = weight.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
    let means = first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK));
    blocks.zip(means).for_each(|((weight, gradient), (first, second))| {
        vectorize(
            #[inline(always)]
            || {
                let means = first.iter_mut().zip(second);
                for ((w, g), (m, v)) in weight.iter_mut().zip(gradient).zip(means) {
                    change(w, *g, m, v);
                }
            },
        );
    });
}
