//! How exactly a GPU multiplies in training.

use candle_core::cuda::{gemm_reduced_precision_f32, set_gemm_reduced_precision_f32};
use candle_core::{DType, Device, Result, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::device;
use super::error::NnError;

/// What the factors of convolutions and matrix products are rounded to in training.
///
/// Products are added up in 32 bits, and weights, running means, statistics of batch norm and the loss stay in 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Not rounded: 24 significant bits. Every device can.
    #[default]
    F32,
    /// 11 significant bits and the range of `f32`; GPUs of compute capability 8.0 (Ampere) and later can.
    Tf32,
    /// 8 significant bits and the range of `f32`; GPUs of compute capability 8.0 and later can.
    Bf16,
    /// 11 significant bits up to 65504, with a [factor on the loss](super::loss_scale) that keeps gradients from
    /// vanishing; GPUs of compute capability 7.0 (Volta) and later can.
    F16,
}

impl Precision {
    /// What an experiment calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Multiplies so on a device, for as long as what is given back lives. Fails if the device cannot.
    ///
    /// Candle's switch for it is the process's: trainings of different precision take a process each, as stages do.
    pub fn hold_on(self, device: &Device) -> std::result::Result<Held, NnError> {
        let least = match self {
            Self::F32 => None,
            Self::F16 => Some((7, 0)),
            Self::Tf32 | Self::Bf16 => Some((8, 0)),
        };
        if device::capability(device) < least {
            let (precision, (least, _)) = (self.name(), least.unwrap_or_default());
            let device = device::name(device).unwrap_or_else(|| "the CPU".to_owned());
            return Err(NnError::UnsupportedPrecision { precision, least, device });
        }
        let before = gemm_reduced_precision_f32();
        set_gemm_reduced_precision_f32(self == Self::Tf32);
        Ok(Held { before })
    }

    /// Rounds a factor, if not the GPU does so itself. Its gradient is as exact as it is without.
    pub(super) fn round(self, factor: &Tensor) -> Result<Tensor> {
        match self {
            Self::F32 | Self::Tf32 => Ok(factor.clone()),
            Self::Bf16 => factor.to_dtype(DType::BF16),
            Self::F16 => factor.to_dtype(DType::F16),
        }
    }
}

/// A precision that is in force.
#[derive(Debug)]
#[must_use]
pub struct Held {
    before: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        set_gemm_reduced_precision_f32(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_does_what_was_asked_for_or_says_so() {
        drop(Precision::F32.hold_on(&Device::Cpu).unwrap());
        for (precision, least) in [(Precision::Tf32, 8), (Precision::Bf16, 8), (Precision::F16, 7)]
        {
            let error = precision.hold_on(&Device::Cpu).unwrap_err().to_string();
            let expected = "or later, found the CPU";
            let needs = format!("needs a GPU of compute capability {least}.0 {expected}");
            assert_eq!(error, format!("precision {} {needs}", precision.name()));
        }
    }

    #[test]
    fn bf16_keeps_eight_bits_and_f16_eleven() {
        let x =
            Tensor::new(&[1.0f32 + 1.0 / 128.0, 1.0 + 1.0 / 1024.0, 3e38], &Device::Cpu).unwrap();
        let rounded = |precision: Precision| -> Vec<f32> {
            precision.round(&x).unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
        };
        let exact: Vec<f32> = x.to_vec1().unwrap();
        assert_eq!(rounded(Precision::Tf32), exact);
        assert_eq!(rounded(Precision::Bf16)[..2], [exact[0], 1.0]);
        assert!(rounded(Precision::Bf16)[2].is_finite());
        assert_eq!(rounded(Precision::F16)[..2], exact[..2]);
        assert!(rounded(Precision::F16)[2].is_infinite());
    }
}
