//! A factor on the loss that keeps small gradients from vanishing in 16-bit floats (Micikevicius et al. 2018).

use candle_core::{Result, Tensor};

use super::host::squared_norm;
use super::tape::Gradients;

/// A power of two that the loss is multiplied by before it is differentiated, and its gradients divided by afterwards.
///
/// It halves until no gradient overflows, and doubles after 2000 batches without an overflow (Micikevicius et al. 2018,
/// arXiv:1710.03740, section 3.2, with `PyTorch`'s numbers). No batch is skipped: only the backward pass runs again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScale {
    /// The factor, at least 1.
    pub factor: f64,
    /// Batches since it changed.
    pub calm: u64,
}

/// Batches without an overflow after which the factor doubles.
const PATIENCE: u64 = 2000;
/// The largest factor: beyond, a gradient of 2⁻²⁴ would no longer be below 1, and nothing is gained.
const LARGEST: f64 = 16_777_216.0;

impl Default for LossScale {
    fn default() -> Self {
        Self { factor: 65_536.0, calm: 0 }
    }
}

impl LossScale {
    /// Differentiates a finite loss by `gradients_of`, as often as it overflows; yields the gradients of the loss itself.
    ///
    /// Gradients that are not finite at a factor of 1 either are given as they are.
    pub(super) fn differentiate(
        &mut self,
        loss: &Tensor,
        gradients_of: &dyn Fn(&Tensor) -> Result<Gradients>,
    ) -> Result<Gradients> {
        loop {
            let mut gradients = gradients_of(&(loss * self.factor)?)?;
            let finite = all_finite(&gradients)?;
            if !finite && self.factor > 1.0 {
                (self.factor, self.calm) = (self.factor / 2.0, 0);
                continue;
            }
            for gradient in gradients.values_mut() {
                *gradient = (&*gradient * (1.0 / self.factor))?;
            }
            self.calm += u64::from(finite);
            if self.calm == PATIENCE {
                (self.factor, self.calm) = ((2.0 * self.factor).min(LARGEST), 0);
            }
            return Ok(gradients);
        }
    }
}

fn all_finite(gradients: &Gradients) -> Result<bool> {
    for gradient in gradients.values() {
        if !squared_norm(gradient)?.is_finite() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use candle_core::{DType, Device};

    use super::super::composed::tracked_in;
    use super::super::network::Network;
    use super::super::optimizer::gradients::collect;
    use super::super::precision::Precision;
    use super::super::projector::projector;
    use super::*;
    use crate::rng::Streams;

    fn number(tensor: &Tensor) -> f64 {
        tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
    }

    /// A gradient that is `slope` times the factor, and overflows as 16 bits do.
    fn differentiate(scale: &mut LossScale, slope: f64) -> (f64, usize) {
        let calls = Cell::new(0);
        let loss = Tensor::new(1f32, &Device::Cpu).unwrap();
        let gradients = scale.differentiate(&loss, &|scaled| {
            calls.set(calls.get() + 1);
            let value = slope * number(scaled);
            let value = if value > 65_504.0 { f64::INFINITY } else { value };
            Ok([("w".to_owned(), Tensor::new(value as f32, &Device::Cpu)?)].into())
        });
        (number(&gradients.unwrap()["w"]), calls.get())
    }

    #[test]
    fn the_factor_halves_at_an_overflow_and_doubles_after_calm() {
        let mut scale = LossScale::default();
        // 65536 · 3 and 32768 · 3 are too large for 16 bits.
        assert_eq!(differentiate(&mut scale, 3.0), (3.0, 3));
        assert_eq!(scale, LossScale { factor: 16_384.0, calm: 1 });
        for _ in 1..PATIENCE {
            assert_eq!(differentiate(&mut scale, 0.5), (0.5, 1));
        }
        assert_eq!(scale, LossScale { factor: 32_768.0, calm: 0 });
        let (gradient, _) = differentiate(&mut scale, f64::INFINITY);
        assert!(gradient.is_infinite());
        assert_eq!(scale, LossScale { factor: 1.0, calm: 0 });
    }

    /// A loss so small that its gradients are below the least number of 16 bits, 2⁻²⁴.
    #[test]
    fn small_gradients_survive_sixteen_bits() {
        let streams = Streams::new(1, "test");
        let network: Network = projector(6, &[5, 4], &streams, &Device::Cpu, DType::F32).unwrap();
        let x = Tensor::from_vec(
            (0..48).map(|i| (0.37 * f64::from(i)).sin() as f32).collect(),
            (8, 6),
            &Device::Cpu,
        )
        .unwrap();
        let weights = network.parameters.weights();
        let gradients = |precision: Precision, scale: Option<LossScale>| -> Vec<f64> {
            let y = tracked_in(&network, &x, precision).unwrap();
            let loss = (y.sqr().unwrap().mean_all().unwrap() * 1e-8).unwrap();
            let of = |loss: &Tensor| Ok(collect(&loss.backward()?, weights));
            let found = match scale {
                Some(mut scale) => scale.differentiate(&loss, &of).unwrap(),
                None => of(&loss).unwrap(),
            };
            let values = |name: &String| -> Vec<f32> {
                found[name].flatten_all().unwrap().to_vec1().unwrap()
            };
            weights.keys().flat_map(values).map(f64::from).collect()
        };
        let exact = gradients(Precision::F32, None);
        let largest = exact.iter().fold(0f64, |most, value| most.max(value.abs()));
        let off = |found: &[f64]| {
            let pairs = found.iter().zip(&exact);
            pairs.fold(0f64, |most, (a, b)| most.max((a - b).abs())) / largest
        };
        let scaled = off(&gradients(Precision::F16, Some(LossScale::default())));
        let plain = off(&gradients(Precision::F16, None));
        // Eleven bits a factor, in four products and a normalization.
        assert!(scaled < 0.01, "{scaled}");
        assert!(plain > 0.1, "{plain}");
    }
}
