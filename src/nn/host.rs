//! Slices of CPU tensors and the matrix product on them: what our own operations are written in.

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, WithDType, bail};
use faer::linalg::matmul::matmul;
use faer::traits::RealField;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// The floating-point types that our operations are written for: `f32` and `f64`.
pub trait Real: WithDType + RealField {
    /// Tells whether the value is NaN.
    fn is_undefined(self) -> bool;
    /// Sees the elements of a CPU storage, to write to. Fails if they are of another type.
    fn of_storage(storage: &mut CpuStorage) -> Result<&mut [Self]>;
}

impl Real for f32 {
    fn is_undefined(self) -> bool {
        self.is_nan()
    }
    fn of_storage(storage: &mut CpuStorage) -> Result<&mut [Self]> {
        match storage {
            CpuStorage::F32(values) => Ok(values),
            _ => bail!("expected f32, found another type"),
        }
    }
}

impl Real for f64 {
    fn is_undefined(self) -> bool {
        self.is_nan()
    }
    fn of_storage(storage: &mut CpuStorage) -> Result<&mut [Self]> {
        match storage {
            CpuStorage::F64(values) => Ok(values),
            _ => bail!("expected f64, found another type"),
        }
    }
}

/// Calls a function that is generic over [`Real`] with the type of `$dtype`.
macro_rules! with_real {
    ($dtype:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $dtype {
            candle_core::DType::F32 => $function::<f32>($($argument),*),
            candle_core::DType::F64 => $function::<f64>($($argument),*),
            other => candle_core::bail!("expected f32 or f64, found {other:?}"),
        }
    };
}
pub(crate) use with_real;

/// Borrows the elements of a contiguous CPU storage.
pub fn elements<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, found strides {:?}", layout.stride())
    };
    Ok(&T::cpu_storage_as_slice(storage)?[start..end])
}

/// Calls `f` with the elements of a tensor that lies on the CPU.
pub fn with_elements<T: Real, R>(tensor: &Tensor, f: impl FnOnce(&[T]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(elements(storage, layout)?)),
        _ => bail!("expected a tensor on the CPU"),
    }
}

/// A row-major matrix over a slice.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    /// The elements, row by row.
    pub data: &'a [T],
    pub rows: usize,
    pub columns: usize,
}

impl<'a, T: Real> Matrix<'a, T> {
    /// Sees a slice as rows of `columns` elements.
    pub fn new(data: &'a [T], columns: usize) -> Self {
        Self { data, rows: data.len() / columns, columns }
    }

    /// Sees the matrix as faer does.
    pub fn view(self) -> MatRef<'a, T> {
        MatRef::from_row_major_slice(self.data, self.rows, self.columns)
    }
}

/// Writes `left · right`, or adds it, to the row-major `out`, on the calling thread.
///
/// Parallel loops split the rows themselves, by shape and not by thread, so that no sum depends on their number.
pub fn multiply<T: Real>(out: &mut [T], accumulate: Accum, left: MatRef<T>, right: MatRef<T>) {
    multiply_into(
        MatMut::from_row_major_slice_mut(out, left.nrows(), right.ncols()),
        accumulate,
        left,
        right,
    );
}

/// Does the same for a part of a matrix.
pub fn multiply_into<T: Real>(
    out: MatMut<T>,
    accumulate: Accum,
    left: MatRef<T>,
    right: MatRef<T>,
) {
    matmul(out, accumulate, left, right, T::one(), Par::Seq);
}

/// Elements of a partial sum: fixed, so that the order of a sum depends on the length alone.
const BLOCK: usize = 16 * 1024;

/// Yields the sum of the squares of a tensor's elements.
pub fn squared_norm(tensor: &Tensor) -> Result<f64> {
    fn on_cpu<T: Real>(tensor: &Tensor) -> Result<f64> {
        with_elements(tensor, |values: &[T]| {
            values.par_chunks(BLOCK).map(square_sum).collect::<Vec<f64>>().iter().sum()
        })
    }
    if !tensor.device().is_cpu() {
        return tensor.to_dtype(DType::F32)?.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar();
    }
    with_real!(tensor.dtype(), on_cpu(tensor))
}

/// Sums squares in eight interleaved lanes: one sum would wait for each addition.
fn square_sum<T: Real>(values: &[T]) -> f64 {
    let mut lanes = [0.0; 8];
    let chunks = values.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|v| v.to_f64() * v.to_f64()).sum();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += v.to_f64() * v.to_f64();
        }
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn multiply_replaces_or_adds() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0f64], [1.0, 0.0, 2.0, 1.0f64]);
        let mut out = [9.0; 4];
        multiply(&mut out, Accum::Replace, Matrix::new(&a, 2).view(), Matrix::new(&b, 2).view());
        assert_eq!(out, [5.0, 2.0, 11.0, 4.0]);
        multiply(
            &mut out,
            Accum::Add,
            Matrix::new(&a, 2).view().transpose(),
            Matrix::new(&b, 2).view(),
        );
        assert_eq!(out, [12.0, 5.0, 21.0, 8.0]);
    }

    #[test]
    fn squared_norm_sees_strided_tensors() {
        let x = Tensor::arange(0f32, 6.0, &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
        assert_eq!(squared_norm(&x).unwrap(), 55.0);
        assert_eq!(squared_norm(&x.narrow(1, 1, 1).unwrap()).unwrap(), 17.0);
        assert!(squared_norm(&x.to_dtype(DType::U32).unwrap()).is_err());
    }
}
