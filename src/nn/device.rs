//! The GPU that networks run on: opening it, and what it has.

use candle_core::{Device, Result};

/// Opens the first GPU that this process may see (`CUDA_VISIBLE_DEVICES`), with one queue for what all threads ask of it.
///
/// Candle's own default is a queue a thread, and nothing orders what one thread writes and another reads. Fails where
/// there is no GPU or driver, or where the program is built without the feature `cuda`.
pub fn first_gpu() -> Result<Device> {
    Device::new_cuda_with_stream(0)
}

/// What a device is called, such as `NVIDIA H200`; none for the CPU.
pub fn name(device: &Device) -> Option<String> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = device {
        return gpu.cuda_stream().context().name().ok();
    }
    let _: &Device = device;
    None
}

/// The compute capability of a device, such as (9, 0); none for the CPU.
pub fn capability(device: &Device) -> Option<(i32, i32)> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = device {
        return gpu.cuda_stream().context().compute_capability().ok();
    }
    let _: &Device = device;
    None
}

/// Bytes of memory on a device: those that are free, and all; none for the CPU.
pub fn memory(device: &Device) -> Option<(u64, u64)> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = device {
        // What was freed is given back only once the queue has come to it.
        gpu.cuda_stream().synchronize().ok()?;
        let (free, all) = gpu.cuda_stream().context().mem_get_info().ok()?;
        return Some((free as u64, all as u64));
    }
    let _: &Device = device;
    None
}
