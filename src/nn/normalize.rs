//! Batch normalization on the CPU as one operation, with its gradient in closed form.
//!
//! Sums run over blocks of rows and are merged in order, so that they depend on the shape alone.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail,
};
use rayon::prelude::*;

use super::host::{Real, elements, with_elements, with_real};
use super::norm::{Activation, EPSILON};

/// Rows of a partial sum: fixed, so that the order of a sum depends on the shape alone.
const BLOCK: usize = 256;

/// Computes the mean and the biased variance of each channel, the last axis of a CPU tensor.
pub fn statistics<T: Real>(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let c = x.dim(D::Minus1)?;
    let (mean, variance) = with_elements(x, |x: &[T]| moments(x, c))?;
    let tensor = |values: Vec<f64>| Tensor::from_vec(values, c, x.device())?.to_dtype(x.dtype());
    Ok((tensor(mean)?, tensor(variance)?))
}

/// Merges each block's two-pass moments in row order (Chan et al. 1983).
fn moments<T: Real>(x: &[T], c: usize) -> (Vec<f64>, Vec<f64>) {
    let blocks: Vec<_> = x.par_chunks(BLOCK * c).map(|x| block_moments(x, c)).collect();
    let (mut rows, mut mean, mut square) = (0.0, vec![0.0; c], vec![0.0; c]);
    for (n, block_mean, block_square) in blocks {
        let total = rows + n;
        for i in 0..c {
            let difference = block_mean[i].to_f64() - mean[i];
            mean[i] += difference * n / total;
            square[i] += block_square[i].to_f64() + difference * difference * rows * n / total;
        }
        rows = total;
    }
    for s in &mut square {
        *s /= rows;
    }
    (mean, square)
}

/// Computes a block's rows, and each channel's mean and sum of squared deviations.
fn block_moments<T: Real>(x: &[T], c: usize) -> (f64, Vec<T>, Vec<T>) {
    let rows = (x.len() / c) as f64;
    let (mut mean, mut square) = (vec![T::zero(); c], vec![T::zero(); c]);
    for row in x.chunks_exact(c) {
        for (m, v) in mean.iter_mut().zip(row) {
            *m += *v;
        }
    }
    let scale = T::from_f64(1.0 / rows);
    for m in &mut mean {
        *m *= scale;
    }
    for row in x.chunks_exact(c) {
        for ((s, v), m) in square.iter_mut().zip(row).zip(&mean) {
            *s += (*v - *m) * (*v - *m);
        }
    }
    (rows, mean, square)
}

/// Normalization by given statistics as one operation on (x, weight and bias in one vector, residual).
///
/// Its gradient is that of training: the statistics are taken to be those of x itself.
pub struct Normalize {
    mean: Vec<f64>,
    inverse_deviation: Vec<f64>,
    relu: bool,
}

impl Normalize {
    /// Takes each channel's mean and biased variance, and whether a `ReLU` follows.
    pub fn new(mean: &Tensor, variance: &Tensor, activation: Activation) -> Result<Self> {
        let mean = mean.to_dtype(DType::F64)?.to_vec1()?;
        let variance: Vec<f64> = variance.to_dtype(DType::F64)?.to_vec1()?;
        let inverse_deviation = variance.iter().map(|v| 1.0 / (v + EPSILON).sqrt()).collect();
        Ok(Self { mean, inverse_deviation, relu: activation == Activation::Relu })
    }

    fn forward<T: Real>(&self, x: &[T], affine: &[T], residual: Option<&[T]>) -> Vec<T> {
        let c = self.mean.len();
        let scale: Vec<f64> =
            (0..c).map(|i| affine[i].to_f64() * self.inverse_deviation[i]).collect();
        let shift = (0..c).map(|i| T::from_f64(affine[c + i].to_f64() - self.mean[i] * scale[i]));
        let shift: Vec<T> = shift.collect();
        let scale: Vec<T> = scale.iter().map(|s| T::from_f64(*s)).collect();
        let mut y = vec![T::zero(); x.len()];
        y.par_chunks_mut(BLOCK * c).enumerate().for_each(|(block, y)| {
            let start = block * BLOCK * c;
            let x = &x[start..start + y.len()];
            for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(&scale).zip(&shift) {
                    *y = *x * *scale + *shift;
                }
            }
            if let Some(residual) = residual {
                for (y, r) in y.iter_mut().zip(&residual[start..]) {
                    *y += *r;
                }
            }
            if self.relu {
                // Not `y > 0`, which is false of NaN and would turn it into 0.
                for y in y {
                    *y = if *y < T::zero() { T::zero() } else { *y };
                }
            }
        });
        y
    }

    /// Yields the gradients of x, of weight and bias, and of what the `ReLU` receives (that of the residual).
    fn gradients<T: Real>(
        &self,
        x: &[T],
        affine: &[T],
        y: &[T],
        dy: &[T],
    ) -> (Vec<T>, Vec<T>, Vec<T>) {
        let c = self.mean.len();
        let passed = self.through_relu(y, dy);
        let (d_bias, d_weight) = self.channel_sums(x, &passed);
        // dx = w/σ · (dy − mean(dy) − x̂ · mean(dy · x̂)), which is a·dy + b·x + e a channel.
        let rows = (x.len() / c) as f64;
        let coefficient = |f: &dyn Fn(usize) -> f64| (0..c).map(|i| T::from_f64(f(i))).collect();
        let gain = |i: usize| affine[i].to_f64() * self.inverse_deviation[i];
        let slope = |i: usize| -gain(i) * self.inverse_deviation[i] * d_weight[i] / rows;
        let a: Vec<T> = coefficient(&gain);
        let b: Vec<T> = coefficient(&slope);
        let e: Vec<T> = coefficient(&|i| -gain(i) * d_bias[i] / rows - slope(i) * self.mean[i]);
        let mut dx = vec![T::zero(); x.len()];
        dx.par_chunks_mut(BLOCK * c).enumerate().for_each(|(block, dx)| {
            let start = block * BLOCK * c;
            let rows = x[start..].chunks_exact(c).zip(passed[start..].chunks_exact(c));
            for (dx, (x, d)) in dx.chunks_exact_mut(c).zip(rows) {
                let coefficients = a.iter().zip(&b).zip(&e);
                for (((dx, x), d), ((a, b), e)) in dx.iter_mut().zip(x).zip(d).zip(coefficients) {
                    *dx = *a * *d + *b * *x + *e;
                }
            }
        });
        let d_affine = d_weight.iter().chain(&d_bias).map(|v| T::from_f64(*v)).collect();
        (dx, d_affine, passed)
    }

    fn through_relu<T: Real>(&self, y: &[T], dy: &[T]) -> Vec<T> {
        if !self.relu {
            return dy.to_vec();
        }
        let mut passed = vec![T::zero(); dy.len()];
        let size = BLOCK * self.mean.len();
        passed.par_chunks_mut(size).zip(y.par_chunks(size).zip(dy.par_chunks(size))).for_each(
            |(passed, (y, dy))| {
                for (p, (y, &d)) in passed.iter_mut().zip(y.iter().zip(dy)) {
                    *p = if *y > T::zero() { d } else { T::zero() };
                }
            },
        );
        passed
    }

    /// Sums dy, and dy times the normalized x, over each channel.
    fn channel_sums<T: Real>(&self, x: &[T], dy: &[T]) -> (Vec<f64>, Vec<f64>) {
        let c = self.mean.len();
        let mean: Vec<T> = self.mean.iter().map(|m| T::from_f64(*m)).collect();
        let block = |(x, dy): (&[T], &[T])| {
            let (mut sum, mut product) = (vec![T::zero(); c], vec![T::zero(); c]);
            for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
                let sums = sum.iter_mut().zip(&mut product);
                for (((x, d), m), (sum, product)) in x.iter().zip(dy).zip(&mean).zip(sums) {
                    *sum += *d;
                    *product += *d * (*x - *m);
                }
            }
            (sum, product)
        };
        let blocks = x.par_chunks(BLOCK * c).zip(dy.par_chunks(BLOCK * c));
        let (mut sum, mut product) = (vec![0.0; c], vec![0.0; c]);
        for (block_sum, block_product) in blocks.map(block).collect::<Vec<_>>() {
            for i in 0..c {
                sum[i] += block_sum[i].to_f64();
                product[i] += block_product[i].to_f64() * self.inverse_deviation[i];
            }
        }
        (sum, product)
    }

    fn backward(&self, [x, affine, y, dy]: [&Tensor; 4]) -> Result<[Tensor; 3]> {
        fn typed<T: Real>(op: &Normalize, [x, affine, y, dy]: [&Tensor; 4]) -> Result<[Tensor; 3]> {
            let (dx, d_affine, d_residual) = with_elements(x, |x: &[T]| {
                with_elements(affine, |affine: &[T]| {
                    with_elements(y, |y: &[T]| {
                        with_elements(dy, |dy: &[T]| op.gradients(x, affine, y, dy))
                    })
                })
            })????;
            Ok([
                Tensor::from_vec(dx, x.shape(), x.device())?,
                Tensor::from_vec(d_affine, affine.shape(), x.device())?,
                Tensor::from_vec(d_residual, x.shape(), x.device())?,
            ])
        }
        with_real!(x.dtype(), typed(self, [x, affine, y, dy]))
    }

    fn on_cpu(
        &self,
        (x, x_layout): (&CpuStorage, &Layout),
        affine: (&CpuStorage, &Layout),
        residual: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        type View<'a> = (&'a CpuStorage, &'a Layout);
        fn typed<T: Real>(
            op: &Normalize,
            [x, affine]: [View; 2],
            residual: Option<View>,
        ) -> Result<CpuStorage> {
            let residual = residual.map(|(r, layout)| elements::<T>(r, layout)).transpose()?;
            let (x, affine) = (elements::<T>(x.0, x.1)?, elements::<T>(affine.0, affine.1)?);
            if residual.is_some_and(|r| r.len() != x.len()) {
                bail!("batch norm: the residual's shape differs from the input's")
            }
            Ok(T::to_cpu_storage_owned(op.forward(x, affine, residual)))
        }
        if x_layout.dims().last() != Some(&self.mean.len()) {
            bail!("batch norm of {} channels on {:?}", self.mean.len(), x_layout.dims())
        }
        let y = with_real!(x.dtype(), typed(self, [(x, x_layout), affine], residual))?;
        Ok((y, x_layout.shape().clone()))
    }
}

impl CustomOp2 for Normalize {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on_cpu((x, x_layout), (affine, affine_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, d_affine, _] = self.backward([x, affine, y, dy])?;
        Ok((Some(dx), Some(d_affine)))
    }
}

impl CustomOp3 for Normalize {
    fn name(&self) -> &'static str {
        "batch-norm-residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on_cpu((x, x_layout), (affine, affine_layout), Some((residual, residual_layout)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        _residual: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, d_affine, d_residual] = self.backward([x, affine, y, dy])?;
        Ok((Some(dx), Some(d_affine), Some(d_residual)))
    }
}
