//! The 3×3 max pool of stride 2 and padding 1 that ends a `ResNet`'s stem.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::host::{Real, elements, with_elements, with_real};

/// Takes the maximum over 3×3 windows at stride 2, padding 1: n×h×w×c to n×⌈h/2⌉×⌈w/2⌉×c.
///
/// On the CPU the gradient of a window goes to its first maximum, as `PyTorch` has it.
pub fn max_pool(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { x.contiguous()?.apply_op1(MaxPool) } else { composed(x) }
}

/// The same from candle's operations, for any device. Equal maxima share the gradient.
///
/// Candle's own `max_pool2d` has no padding, and no gradient for windows that overlap.
fn composed(x: &Tensor) -> Result<Tensor> {
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

struct MaxPool;

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn typed<T: Real>(
            windows: &Windows,
            x: &CpuStorage,
            layout: &Layout,
        ) -> Result<CpuStorage> {
            Ok(T::to_cpu_storage_owned(windows.maxima::<T>(elements(x, layout)?)))
        }
        let windows = Windows::new(layout.dims())?;
        Ok((
            with_real!(x.dtype(), typed(&windows, x, layout))?,
            Shape::from((
                windows.images,
                windows.out_rows(),
                windows.out_columns(),
                windows.channels,
            )),
        ))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        fn typed<T: Real>([x, y, dy]: [&Tensor; 3]) -> Result<Option<Tensor>> {
            let windows = Windows::new(x.dims())?;
            let dx = with_elements(x, |x: &[T]| {
                with_elements(y, |y: &[T]| with_elements(dy, |dy: &[T]| windows.gradient(x, y, dy)))
            })???;
            Ok(Some(Tensor::from_vec(dx, x.dims(), x.device())?))
        }
        with_real!(x.dtype(), typed([x, y, dy]))
    }
}

struct Windows {
    images: usize,
    rows: usize,
    columns: usize,
    channels: usize,
}

impl Windows {
    fn new(dims: &[usize]) -> Result<Self> {
        let &[images, rows, columns, channels] = dims else {
            bail!("max-pool of {dims:?}: expected four dimensions")
        };
        Ok(Self { images, rows, columns, channels })
    }

    fn out_rows(&self) -> usize {
        self.rows.div_ceil(2)
    }

    fn out_columns(&self) -> usize {
        self.columns.div_ceil(2)
    }

    fn image(&self) -> usize {
        self.rows * self.columns * self.channels
    }

    fn out_image(&self) -> usize {
        self.out_rows() * self.out_columns() * self.channels
    }

    /// Calls `f` with the start of each output pixel and of each input pixel of its window, in scan order.
    fn for_each_meeting(&self, mut f: impl FnMut(usize, usize)) {
        for out_row in 0..self.out_rows() {
            for out_column in 0..self.out_columns() {
                let out = (out_row * self.out_columns() + out_column) * self.channels;
                for row in (2 * out_row).saturating_sub(1)..(2 * out_row + 2).min(self.rows) {
                    let columns =
                        (2 * out_column).saturating_sub(1)..(2 * out_column + 2).min(self.columns);
                    for column in columns {
                        f(out, (row * self.columns + column) * self.channels);
                    }
                }
            }
        }
    }

    fn maxima<T: Real>(&self, x: &[T]) -> Vec<T> {
        let c = self.channels;
        let mut y = vec![T::from_f64(f64::NEG_INFINITY); self.images * self.out_image()];
        y.par_chunks_mut(self.out_image()).zip(x.par_chunks(self.image())).for_each(|(y, x)| {
            self.for_each_meeting(|out, at| {
                for (y, x) in y[out..out + c].iter_mut().zip(&x[at..at + c]) {
                    *y = if *x > *y || x.is_undefined() { *x } else { *y };
                }
            });
        });
        y
    }

    fn gradient<T: Real>(&self, x: &[T], y: &[T], dy: &[T]) -> Vec<T> {
        let c = self.channels;
        let mut dx = vec![T::zero(); self.images * self.image()];
        let images = x.par_chunks(self.image()).zip(y.par_chunks(self.out_image()));
        let images = images.zip(dy.par_chunks(self.out_image()));
        dx.par_chunks_mut(self.image()).zip(images).for_each(|(dx, ((x, y), dy))| {
            // What a window has yet to give: all of dy before its first maximum, nothing after.
            let mut left = dy.to_vec();
            self.for_each_meeting(|out, at| {
                let windows = y[out..out + c].iter().zip(&mut left[out..out + c]);
                for ((dx, x), (y, left)) in
                    dx[at..at + c].iter_mut().zip(&x[at..at + c]).zip(windows)
                {
                    let (all, met) = (*left, *x == *y);
                    *dx += if met { all } else { T::zero() };
                    *left = if met { T::zero() } else { all };
                }
            });
        });
        dx
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::super::layers::tests::{check_close, check_gradient, normal, weigh};
    use super::*;

    #[test]
    fn the_maxima_of_a_small_image_are_known() {
        let x = Tensor::arange(0f64, 15.0, &Device::Cpu).unwrap().reshape((1, 3, 5, 1)).unwrap();
        let y = max_pool(&x).unwrap();
        assert_eq!(y.dims(), [1, 2, 3, 1]);
        assert_eq!(
            y.flatten_all().unwrap().to_vec1::<f64>().unwrap(),
            [6.0, 8.0, 9.0, 11.0, 13.0, 14.0]
        );
    }

    #[test]
    fn values_and_gradients_are_right_for_even_and_odd_sizes() {
        for (h, w) in [(4, 6), (5, 7), (1, 1), (2, 1), (3, 4), (8, 8)] {
            let x = normal("x", &[2, h, w, 3]);
            let (ours, theirs) = (max_pool(&x).unwrap(), composed(&x).unwrap());
            check_close("values", &ours, &theirs, 0.0);
            let (a, b) = (weigh(&ours).backward().unwrap(), weigh(&theirs).backward().unwrap());
            check_close("gradient", a.get(&x).unwrap(), b.get(&x).unwrap(), 1e-15);
            check_gradient(&format!("{h}×{w}"), &[&x], &|| weigh(&max_pool(&x).unwrap()));
        }
    }

    #[test]
    fn the_first_of_equal_maxima_takes_the_gradient() {
        let x = Var::zeros((1, 2, 2, 1), DType::F32, &Device::Cpu).unwrap();
        let gradients = max_pool(&x).unwrap().sum_all().unwrap().backward().unwrap();
        let dx = gradients.get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(dx, [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn nan_is_not_lost() {
        let x = Tensor::new(&[1.0, f64::NAN, 2.0, 3.0], &Device::Cpu)
            .unwrap()
            .reshape((1, 2, 2, 1))
            .unwrap();
        assert!(max_pool(&x).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()[0].is_nan());
    }
}
