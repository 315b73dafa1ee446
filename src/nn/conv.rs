//! Convolution of n×h×w×c activations with weights of torchvision's layout, m×c×k×k.
//!
//! On the CPU the input is unfolded, some images at a time so that the unfolded rows stay in the cache, and
//! multiplied by the weights (Chellapilla, Puri & Simard 2006). Taps of the kernel that only ever meet the zero
//! padding, as eight of nine do on the 1×1 maps of a `ResNet`'s last stage, are left out. Candle's own gradients
//! are right but several times slower.

use std::ops::Range;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use faer::Accum;
use rayon::prelude::*;

use super::host::{Matrix, Real, elements, multiply, with_elements, with_real};

/// Convolves n×h×w×c with m filters, m×c×k×k, to n×h'×w'×m, zero-padded, without bias.
///
/// h' = ⌊(h + 2·padding − k) / stride⌋ + 1, and likewise w'.
pub fn conv2d(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return composed(x, weight, stride, padding);
    }
    // Frames are constants: their gradient would cost as much as the layer itself.
    let op = Convolution { stride, padding, input_gradient: x.track_op() };
    x.contiguous()?.apply_op2(&weight.contiguous()?, op)
}

/// The same from candle's operations, for any device.
///
/// Candle's gradient takes the remainder of the stride to be equal on both axes. So the input is padded, and cut
/// to what the kernel meets, beforehand: no remainder is left.
fn composed(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let kernel = weight.dim(2)?;
    let mut x = x.permute((0, 3, 1, 2))?.contiguous()?;
    for axis in [2, 3] {
        x = x.pad_with_zeros(axis, padding, padding)?;
        let met = (x.dim(axis)? - kernel) / stride * stride + kernel;
        x = x.narrow(axis, 0, met)?;
    }
    x.contiguous()?.conv2d(weight, 0, stride, 1, 1)?.permute((0, 2, 3, 1))?.contiguous()
}

struct Convolution {
    stride: usize,
    padding: usize,
    input_gradient: bool,
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn typed<T: Real>(
            geometry: &Geometry,
            (x, x_layout): (&CpuStorage, &Layout),
            (weight, weight_layout): (&CpuStorage, &Layout),
        ) -> Result<CpuStorage> {
            let y = geometry.forward::<T>(elements(x, x_layout)?, elements(weight, weight_layout)?);
            Ok(T::to_cpu_storage_owned(y))
        }
        let geometry = self.geometry(x_layout.dims(), weight_layout.dims())?;
        let (input, kernel) = ((x, x_layout), (weight, weight_layout));
        let y = with_real!(x.dtype(), typed(&geometry, input, kernel))?;
        Ok((y, Shape::from(geometry.out_dims())))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        fn typed<T: Real>(
            op: &Convolution,
            [x, weight, dy]: [&Tensor; 3],
        ) -> Result<(Option<Tensor>, Option<Tensor>)> {
            let geometry = op.geometry(x.dims(), weight.dims())?;
            let d_weight = with_elements(x, |x: &[T]| {
                with_elements(dy, |dy: &[T]| geometry.weight_gradient(x, dy))
            })??;
            let d_weight = Tensor::from_vec(d_weight, weight.dims(), weight.device())?;
            if !op.input_gradient {
                return Ok((None, Some(d_weight)));
            }
            let dx = with_elements(weight, |weight: &[T]| {
                with_elements(dy, |dy: &[T]| geometry.input_gradient(weight, dy))
            })??;
            Ok((Some(Tensor::from_vec(dx, x.dims(), x.device())?), Some(d_weight)))
        }
        with_real!(x.dtype(), typed(self, [x, weight, dy]))
    }
}

impl Convolution {
    fn geometry(&self, x: &[usize], weight: &[usize]) -> Result<Geometry> {
        let (&[images, height, width, channels], &[filters, c, kernel, k]) = (x, weight) else {
            bail!("convolution of {x:?} with {weight:?}: both must have four dimensions")
        };
        let padding = self.padding;
        if c != channels || k != kernel || height.min(width) + 2 * padding < kernel || kernel == 0 {
            bail!("convolution of {x:?} with {weight:?}, padding {padding}: shapes do not fit")
        }
        let rows = Axis::new(height, kernel, self.stride, padding);
        let columns = Axis::new(width, kernel, self.stride, padding);
        Ok(Geometry { images, channels, filters, kernel, stride: self.stride, rows, columns })
    }
}

/// One axis of the image: output position `o` meets input `o·stride + tap − padding` at each kept tap.
struct Axis {
    size: usize,
    out: usize,
    /// Kernel positions that meet the image at some output position.
    taps: Range<usize>,
    padding: usize,
}

impl Axis {
    fn new(size: usize, kernel: usize, stride: usize, padding: usize) -> Self {
        let out = (size + 2 * padding - kernel) / stride + 1;
        let meets =
            |tap: &usize| (0..out).any(|o| (padding..padding + size).contains(&(o * stride + tap)));
        let first = (0..kernel).find(meets).unwrap_or(0);
        let last = (0..kernel).rev().find(meets).unwrap_or(kernel - 1);
        Self { size, out, taps: first..last + 1, padding }
    }
}

struct Geometry {
    images: usize,
    channels: usize,
    filters: usize,
    kernel: usize,
    stride: usize,
    rows: Axis,
    columns: Axis,
}

/// Elements of the unfolded input that one task works on: half of a second-level cache of 1 MiB, in `f32`.
const UNFOLDED: usize = 128 * 1024;
/// Elements of all partial weight gradients together, beyond which fewer tasks share the images.
const PARTIALS: usize = 1 << 20;

impl Geometry {
    fn out_dims(&self) -> (usize, usize, usize, usize) {
        (self.images, self.rows.out, self.columns.out, self.filters)
    }

    /// Length of an unfolded row: kept taps times channels.
    fn row(&self) -> usize {
        self.rows.taps.len() * self.columns.taps.len() * self.channels
    }

    /// Output pixels of one image.
    fn pixels(&self) -> usize {
        self.rows.out * self.columns.out
    }

    fn image(&self) -> usize {
        self.rows.size * self.columns.size * self.channels
    }

    /// Images of one task: by shape alone, so that the order of no sum depends on the threads.
    fn images_per_task(&self) -> usize {
        let cached = UNFOLDED / (self.pixels() * self.row());
        cached.clamp(1, self.images.div_ceil(4).max(1))
    }

    fn forward<T: Real>(&self, x: &[T], weight: &[T]) -> Vec<T> {
        let weight = self.reorder(weight);
        let per_task = self.images_per_task();
        let per_image = self.pixels() * self.filters;
        let mut y = vec![T::zero(); self.images * per_image];
        let tasks =
            y.par_chunks_mut(per_task * per_image).zip(x.par_chunks(per_task * self.image()));
        tasks.for_each_init(Vec::new, |unfolded, (y, x)| {
            let unfolded = self.unfold(x, unfolded);
            let weight = Matrix::new(&weight, self.row()).view();
            multiply(
                y,
                Accum::Replace,
                Matrix::new(unfolded, self.row()).view(),
                weight.transpose(),
            );
        });
        y
    }

    fn input_gradient<T: Real>(&self, weight: &[T], dy: &[T]) -> Vec<T> {
        let weight = self.reorder(weight);
        let per_task = self.images_per_task();
        let per_image = self.pixels() * self.filters;
        let mut dx = vec![T::zero(); self.images * self.image()];
        let tasks =
            dx.par_chunks_mut(per_task * self.image()).zip(dy.par_chunks(per_task * per_image));
        tasks.for_each_init(Vec::new, |unfolded: &mut Vec<T>, (dx, dy)| {
            let dy = Matrix::new(dy, self.filters);
            unfolded.resize(dy.rows * self.row(), T::zero());
            let weight = Matrix::new(&weight, self.row()).view();
            multiply(unfolded, Accum::Replace, dy.view(), weight);
            self.for_each_run(dx.len() / self.image(), |from, to, length| {
                for (d, u) in dx[to..to + length].iter_mut().zip(&unfolded[from..from + length]) {
                    *d += *u;
                }
            });
        });
        dx
    }

    fn weight_gradient<T: Real>(&self, x: &[T], dy: &[T]) -> Vec<T> {
        let per_task = self.images_per_task();
        let per_image = self.pixels() * self.filters;
        let size = self.filters * self.row();
        let tasks = self.images.div_ceil(per_task).max(1);
        let per_group = tasks.div_ceil((PARTIALS / size).clamp(4, 16));
        let group = |(x, dy): (&[T], &[T])| {
            let (mut sum, mut unfolded) = (vec![T::zero(); size], Vec::new());
            for (x, dy) in x.chunks(per_task * self.image()).zip(dy.chunks(per_task * per_image)) {
                let unfolded = self.unfold(x, &mut unfolded);
                let dy = Matrix::new(dy, self.filters).view();
                multiply(
                    &mut sum,
                    Accum::Add,
                    dy.transpose(),
                    Matrix::new(unfolded, self.row()).view(),
                );
            }
            sum
        };
        let groups = x
            .par_chunks(per_group * per_task * self.image())
            .zip(dy.par_chunks(per_group * per_task * per_image));
        let mut groups: Vec<Vec<T>> = groups.map(group).collect();
        let mut total = if groups.is_empty() { vec![T::zero(); size] } else { groups.remove(0) };
        total.par_chunks_mut(UNFOLDED).enumerate().for_each(|(i, total)| {
            for group in &groups {
                for (t, g) in total.iter_mut().zip(&group[i * UNFOLDED..]) {
                    *t += *g;
                }
            }
        });
        self.restore(&total)
    }

    /// Lays out images as rows of the patches that the kernel meets: (image, pixel) × (tap, channel).
    ///
    /// `unfolded` is empty or was used here before: its zeros, for the padding, lie at the same places.
    fn unfold<'a, T: Real>(&self, x: &[T], unfolded: &'a mut Vec<T>) -> &'a [T] {
        let images = x.len() / self.image();
        unfolded.resize(images * self.pixels() * self.row(), T::zero());
        self.for_each_run(images, |to, from, length| {
            unfolded[to..to + length].copy_from_slice(&x[from..from + length]);
        });
        unfolded
    }

    /// Calls `f` with each run of elements that lie together both in unfolded rows and in the images:
    /// where it begins there, where it begins here, and its length.
    fn for_each_run(&self, images: usize, mut f: impl FnMut(usize, usize, usize)) {
        let (rows, columns, c) = (&self.rows, &self.columns, self.channels);
        let (tap_row, line) = (columns.taps.len() * c, columns.size * c);
        // Taps of a column's position that lie inside the image, as a range of input columns.
        let inside = |position: usize, axis: &Axis| {
            let start = position * self.stride + axis.taps.start;
            let end = position * self.stride + axis.taps.end;
            start.max(axis.padding)..end.min(axis.padding + axis.size)
        };
        let mut unfolded = 0;
        for image in 0..images {
            for out_row in 0..rows.out {
                let met_rows = inside(out_row, rows);
                for out_column in 0..columns.out {
                    let met = inside(out_column, columns);
                    let first_row = out_row * self.stride + rows.taps.start;
                    let first_column = out_column * self.stride + columns.taps.start;
                    if !met.is_empty() {
                        for row in met_rows.clone() {
                            let to = unfolded
                                + (row - first_row) * tap_row
                                + (met.start - first_column) * c;
                            let from = image * self.image()
                                + (row - rows.padding) * line
                                + (met.start - columns.padding) * c;
                            f(to, from, met.len() * c);
                        }
                    }
                    unfolded += self.row();
                }
            }
        }
    }

    /// Brings weights from m×c×k×k to rows of (kept tap, channel), as the unfolded input has them.
    fn reorder<T: Real>(&self, weight: &[T]) -> Vec<T> {
        let mut out = vec![T::zero(); self.filters * self.row()];
        let per_filter = self.channels * self.kernel * self.kernel;
        out.par_chunks_mut(self.row()).zip(weight.par_chunks(per_filter)).for_each(
            |(out, weight)| {
                self.for_each_weight(|reordered, original| out[reordered] = weight[original]);
            },
        );
        out
    }

    /// The inverse of [`Self::reorder`]; taps that were left out have gradient 0.
    fn restore<T: Real>(&self, reordered: &[T]) -> Vec<T> {
        let per_filter = self.channels * self.kernel * self.kernel;
        let mut out = vec![T::zero(); self.filters * per_filter];
        out.par_chunks_mut(per_filter).zip(reordered.par_chunks(self.row())).for_each(
            |(out, from)| {
                self.for_each_weight(|reordered, original| out[original] = from[reordered]);
            },
        );
        out
    }

    /// Calls `f` with the place of each kept weight of a filter in reordered and in torchvision's layout.
    fn for_each_weight(&self, mut f: impl FnMut(usize, usize)) {
        let mut reordered = 0;
        for row in self.rows.taps.clone() {
            for column in self.columns.taps.clone() {
                for channel in 0..self.channels {
                    f(reordered, (channel * self.kernel + row) * self.kernel + column);
                    reordered += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layers::tests::{check_close, check_gradient, normal, weigh};
    use super::*;

    /// (height, width, channels, filters, kernel, stride, padding): all convolutions of a `ResNet`, on odd sizes too.
    const CASES: [[usize; 7]; 9] = [
        [9, 8, 3, 2, 7, 2, 3],
        [8, 8, 1, 4, 7, 2, 3],
        [5, 4, 3, 2, 3, 1, 1],
        [5, 4, 2, 3, 3, 2, 1],
        [2, 2, 3, 2, 3, 2, 1],
        [2, 3, 3, 2, 3, 1, 1],
        [1, 1, 3, 2, 3, 1, 1],
        [4, 5, 3, 2, 1, 2, 0],
        [3, 3, 2, 2, 1, 1, 0],
    ];

    #[test]
    fn values_and_gradients_are_those_of_candle() {
        for case @ [h, w, c, f, k, stride, padding] in CASES {
            let (x, weight) = (normal("x", &[3, h, w, c]), normal("w", &[f, c, k, k]));
            let (ours, theirs) = (
                conv2d(&x, &weight, stride, padding).unwrap(),
                composed(&x, &weight, stride, padding).unwrap(),
            );
            check_close(&format!("{case:?}"), &ours, &theirs, 1e-12);
            let (a, b) = (weigh(&ours).backward().unwrap(), weigh(&theirs).backward().unwrap());
            for var in [&x, &weight] {
                check_close(
                    &format!("gradient, {case:?}"),
                    a.get(var).unwrap(),
                    b.get(var).unwrap(),
                    1e-11,
                );
            }
        }
    }

    #[test]
    fn gradients_are_right() {
        for [h, w, c, f, k, stride, padding] in CASES {
            let (x, weight) = (normal("x", &[2, h, w, c]), normal("w", &[f, c, k, k]));
            check_gradient(&format!("{h}×{w}, k = {k}"), &[&x, &weight], &|| {
                weigh(&conv2d(&x, &weight, stride, padding).unwrap())
            });
        }
    }

    #[test]
    fn many_tasks_agree_with_candle() {
        // 70 images of 16×16 are several tasks and several groups.
        let (x, weight) = (normal("x", &[70, 16, 16, 4]), normal("w", &[8, 4, 3, 3]));
        let (ours, theirs) =
            (conv2d(&x, &weight, 1, 1).unwrap(), composed(&x, &weight, 1, 1).unwrap());
        check_close("values", &ours, &theirs, 1e-12);
        let (a, b) = (weigh(&ours).backward().unwrap(), weigh(&theirs).backward().unwrap());
        for var in [&x, &weight] {
            check_close("gradient", a.get(var).unwrap(), b.get(var).unwrap(), 1e-10);
        }
    }

    #[test]
    fn a_constant_input_gets_no_gradient() {
        let (x, weight) = (normal("x", &[1, 3, 3, 1]), normal("w", &[1, 1, 3, 3]));
        let y = conv2d(&x.as_detached_tensor(), &weight, 1, 1).unwrap();
        let gradients = weigh(&y).backward().unwrap();
        assert!(gradients.get(&x).is_none() && gradients.get(&weight).is_some());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let x = normal("x", &[1, 3, 3, 2]);
        for weight in [vec![1, 1, 3, 3], vec![1, 2, 3, 2], vec![1, 2, 7, 7], vec![2, 3, 3]] {
            assert!(conv2d(&x, &normal("w", &weight), 1, 1).is_err(), "{weight:?}");
        }
    }
}
