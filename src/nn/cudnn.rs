//! Convolutions on an NVIDIA GPU by cuDNN: the forward pass and both gradients.
//!
//! Candle asks cuDNN for the forward pass only, and computes both gradients by naive kernels. Only algorithms are used
//! that cuDNN documents as reproducible, so the same device and library give the same bits. Products of `f32` are exact
//! unless candle's switch for TF32 is on: cuDNN's own default would round them.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t as BackwardData,
    cudnnConvolutionBwdFilterAlgo_t as BackwardFilter, cudnnConvolutionFwdAlgo_t as Forward,
    cudnnConvolutionMode_t, cudnnMathType_t, cudnnTensorFormat_t,
};
use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnDataType,
    CudnnError, FilterDescriptor, TensorDescriptor,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, CudaView, DeviceRepr};
use candle_core::cuda_backend::{CudaDType, WrapErr, gemm_reduced_precision_f32};
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp2, DType, Error, Layout, Result, Shape, Tensor,
    WithDType, bail,
};
use half::{bf16, f16};

/// Convolves n×h×w×c with a weight of torchvision's layout, m×c×k×k, on a GPU, in `f32`, `f64`, `bf16` or `f16`.
///
/// The result is n×h'×w'×m with h' = (h + 2·padding − k) / stride + 1, rounded down. Gradients flow to both.
pub(super) fn convolution(
    x: &Tensor,
    weight: &Tensor,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let x = x.permute((0, 3, 1, 2))?.contiguous()?;
    let (n, _, h, w) = x.dims4()?;
    let (filters, _, kernel, _) = weight.dims4()?;
    let size = |size: usize| match (size + 2 * padding).checked_sub(kernel) {
        Some(room) => Ok(room / stride + 1),
        None => bail!("a kernel of {kernel} pixels does not fit an image of {size}"),
    };
    let shape = vec![n, filters, size(h)?, size(w)?];
    let op = Convolution { pass: Pass::Forward, stride, padding, shape };
    x.apply_op2(&weight.contiguous()?, op)?.permute((0, 2, 3, 1))?.contiguous()
}

/// What is computed of a convolution, from what.
#[derive(Clone, Copy, Debug)]
enum Pass {
    /// The result, from input and weight.
    Forward,
    /// The gradient of the input, from the weight and the result's gradient.
    Input,
    /// The gradient of the weight, from the input and the result's gradient.
    Weight,
}

/// One pass of a convolution. Inputs and results are n×c×h×w.
#[derive(Clone, Debug)]
struct Convolution {
    pass: Pass,
    stride: usize,
    padding: usize,
    /// Of what the pass computes.
    shape: Vec<usize>,
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "cudnn-convolution"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("cuDNN needs tensors on a GPU")
    }

    fn cuda_fwd(
        &self,
        first: &CudaStorage,
        first_layout: &Layout,
        second: &CudaStorage,
        second_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (first, second) = ((first, first_layout), (second, second_layout));
        match first.0.dtype() {
            DType::F32 => self.run::<f32>(first, second),
            DType::F64 => self.run::<f64>(first, second),
            DType::BF16 => self.run::<bf16>(first, second),
            DType::F16 => self.run::<f16>(first, second),
            other => bail!("expected f32, f64, bf16 or f16, found {other:?}"),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let of = |pass: Pass, like: &Tensor, other: &Tensor| {
            if !like.track_op() {
                return Ok(None);
            }
            let op = Self { pass, shape: like.dims().to_vec(), ..*self };
            other.apply_op2_no_bwd(&gradient, &op).map(Some)
        };
        Ok((of(Pass::Input, x, weight)?, of(Pass::Weight, weight, x)?))
    }
}

/// An element type of cuDNN's and candle's.
trait Element: CudaDType + CudnnDataType + DeviceRepr + WithDType {
    /// What products are added up in.
    type Sum: CudnnDataType;

    /// How products are rounded.
    fn math() -> cudnnMathType_t;
}

impl Element for f32 {
    type Sum = Self;

    fn math() -> cudnnMathType_t {
        if gemm_reduced_precision_f32() {
            cudnnMathType_t::CUDNN_TENSOR_OP_MATH
        } else {
            cudnnMathType_t::CUDNN_FMA_MATH
        }
    }
}

impl Element for bf16 {
    type Sum = f32;

    fn math() -> cudnnMathType_t {
        cudnnMathType_t::CUDNN_TENSOR_OP_MATH
    }
}

impl Element for f16 {
    type Sum = f32;

    fn math() -> cudnnMathType_t {
        cudnnMathType_t::CUDNN_TENSOR_OP_MATH
    }
}

impl Element for f64 {
    type Sum = Self;

    fn math() -> cudnnMathType_t {
        cudnnMathType_t::CUDNN_DEFAULT_MATH
    }
}

type Operand<'a> = (&'a CudaStorage, &'a Layout);

impl Convolution {
    fn run<T: Element>(&self, first: Operand, second: Operand) -> Result<(CudaStorage, Shape)> {
        let device = first.0.device().clone();
        let (a, b) = (view::<T>(first)?, view::<T>(second)?);
        let shape = Shape::from(self.shape.as_slice());
        #[expect(unsafe_code, reason = "memory that is not set")]
        // SAFETY: the pass writes every element, since what was there is multiplied by nothing.
        let mut out = unsafe { device.alloc::<T>(shape.elem_count())? };
        let dims = [dims(first.1.dims())?, dims(second.1.dims())?, dims(&self.shape)?];
        Engine::with(&device, |engine| match self.pass {
            Pass::Forward => engine.forward(self, dims, &a, &b, &mut out),
            Pass::Input => engine.input(self, dims, &a, &b, &mut out),
            Pass::Weight => engine.weight(self, dims, &a, &b, &mut out),
        })?;
        Ok((CudaStorage::wrap_cuda_slice(out, device), shape))
    }
}

fn view<T: Element>((storage, layout): Operand<'_>) -> Result<CudaView<'_, T>> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, found strides {:?}", layout.stride())
    };
    Ok(storage.as_cuda_slice::<T>()?.slice(start..end))
}

fn dims(dims: &[usize]) -> Result<[i32; 4]> {
    match *dims {
        [a, b, c, d] => Ok([a, b, c, d].map(|size| size as i32)),
        _ => bail!("expected four axes, found {dims:?}"),
    }
}

/// A handle of cuDNN and the memory that its algorithms work in, on one stream.
struct Engine {
    stream: Arc<CudaStream>,
    cudnn: Arc<Cudnn>,
    workspace: Option<CudaSlice<u8>>,
}

thread_local! {
    /// A handle is for one thread.
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

const FORMAT: cudnnTensorFormat_t = cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;

impl Engine {
    fn with<R>(device: &CudaDevice, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        ENGINE.with_borrow_mut(|engine| {
            let stream = device.cuda_stream();
            let own = engine.take().filter(|own| Arc::ptr_eq(&own.stream, &stream));
            let own = match own {
                Some(own) => own,
                None => {
                    let cudnn = Cudnn::new(stream.clone()).map_err(Error::wrap)?;
                    Self { stream, cudnn, workspace: None }
                }
            };
            f(engine.insert(own))
        })
    }

    fn forward<T: Element>(
        &mut self,
        of: &Convolution,
        [x, w, y]: [[i32; 4]; 3],
        a: &CudaView<T>,
        b: &CudaView<T>,
        out: &mut CudaSlice<T>,
    ) -> Result<()> {
        let conv = &self.descriptor::<T>(of)?;
        let (x, w, y) = (&self.tensor::<T>(x)?, &self.filter::<T>(w)?, &self.tensor::<T>(y)?);
        let op = ConvForward { conv, x, w, y };
        let among = [
            Forward::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
            Forward::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
        ];
        let (algorithm, bytes) = first_of(among, |algorithm| op.get_workspace_size(algorithm))?;
        let workspace = self.workspace(bytes)?;
        #[expect(unsafe_code, reason = "cudarc's launch")]
        // SAFETY: the descriptors say what the slices hold.
        unsafe { op.launch(algorithm, workspace, (T::one(), T::zero()), a, b, out) }
            .map_err(Error::wrap)
    }

    fn input<T: Element>(
        &mut self,
        of: &Convolution,
        [w, dy, dx]: [[i32; 4]; 3],
        a: &CudaView<T>,
        b: &CudaView<T>,
        out: &mut CudaSlice<T>,
    ) -> Result<()> {
        let conv = &self.descriptor::<T>(of)?;
        let (w, dy, dx) = (&self.filter::<T>(w)?, &self.tensor::<T>(dy)?, &self.tensor::<T>(dx)?);
        let op = ConvBackwardData { conv, dx, w, dy };
        // Of the others, 0 adds up in no fixed order.
        let among = [BackwardData::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1];
        let (algorithm, bytes) = first_of(among, |algorithm| op.get_workspace_size(algorithm))?;
        let workspace = self.workspace(bytes)?;
        #[expect(unsafe_code, reason = "cudarc's launch")]
        // SAFETY: the descriptors say what the slices hold.
        unsafe { op.launch(algorithm, workspace, (T::one(), T::zero()), out, a, b) }
            .map_err(Error::wrap)
    }

    fn weight<T: Element>(
        &mut self,
        of: &Convolution,
        [x, dy, dw]: [[i32; 4]; 3],
        a: &CudaView<T>,
        b: &CudaView<T>,
        out: &mut CudaSlice<T>,
    ) -> Result<()> {
        let conv = &self.descriptor::<T>(of)?;
        let (x, dy, dw) = (&self.tensor::<T>(x)?, &self.tensor::<T>(dy)?, &self.filter::<T>(dw)?);
        let op = ConvBackwardFilter { conv, x, dw, dy };
        // Of the others, 0 and 3 add up in no fixed order.
        let among = [BackwardFilter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1];
        let (algorithm, bytes) = first_of(among, |algorithm| op.get_workspace_size(algorithm))?;
        let workspace = self.workspace(bytes)?;
        #[expect(unsafe_code, reason = "cudarc's launch")]
        // SAFETY: the descriptors say what the slices hold.
        unsafe { op.launch(algorithm, workspace, (T::one(), T::zero()), a, out, b) }
            .map_err(Error::wrap)
    }

    fn descriptor<T: Element>(&self, of: &Convolution) -> Result<ConvDescriptor<T::Sum>> {
        let (padding, stride) = ([of.padding as i32; 2], [of.stride as i32; 2]);
        let mode = cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let descriptor = self.cudnn.create_conv2d::<T::Sum>(padding, stride, [1, 1], mode);
        let mut descriptor = descriptor.map_err(Error::wrap)?;
        descriptor.set_math_type(T::math()).map_err(Error::wrap)?;
        Ok(descriptor)
    }

    fn tensor<T: Element>(&self, dims: [i32; 4]) -> Result<TensorDescriptor<T>> {
        self.cudnn.create_4d_tensor(FORMAT, dims).map_err(Error::wrap)
    }

    fn filter<T: Element>(&self, dims: [i32; 4]) -> Result<FilterDescriptor<T>> {
        self.cudnn.create_4d_filter(FORMAT, dims).map_err(Error::wrap)
    }

    /// Lends memory of at least so many bytes; what is on the stream before may still use it.
    fn workspace(&mut self, bytes: usize) -> Result<Option<&mut CudaSlice<u8>>> {
        if bytes == 0 {
            return Ok(None);
        }
        if self.workspace.as_ref().is_none_or(|own| own.len() < bytes) {
            // What is too small goes first.
            self.workspace = None;
            self.workspace = Some(self.stream.alloc_zeros::<u8>(bytes).w()?);
        }
        Ok(self.workspace.as_mut())
    }
}

/// Takes the first algorithm that can do it, and the bytes that it works in.
fn first_of<A: Copy, const N: usize>(
    algorithms: [A; N],
    bytes: impl Fn(A) -> std::result::Result<usize, CudnnError>,
) -> Result<(A, usize)> {
    let mut reason = None;
    for algorithm in algorithms {
        match bytes(algorithm) {
            Ok(bytes) => return Ok((algorithm, bytes)),
            Err(error) => reason = Some(error),
        }
    }
    match reason {
        Some(error) => Err(Error::wrap(error)),
        None => bail!("no algorithm"),
    }
}
