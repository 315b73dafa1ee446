//! The small layers, and the mode in which a network is run.

use candle_core::{Result, Tensor, Var};

/// How a network is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch norm uses the batch's statistics and updates the running ones; gradients are tracked.
    Train,
    /// Batch norm uses the running statistics; no gradient is tracked, so that memory is freed layer by layer.
    Evaluate,
    /// Batch norm uses the batch's statistics, and the running ones become the mean over all images so far; no
    /// gradient is tracked.
    Adapt {
        /// Images of this batch.
        batch: usize,
        /// Images so far, this batch's among them.
        seen: usize,
    },
}

impl Mode {
    /// Yields a variable as the mode needs it: tracked by autograd or not.
    pub fn read(self, var: &Var) -> Tensor {
        match self {
            Self::Train => var.as_tensor().clone(),
            Self::Evaluate | Self::Adapt { .. } => var.as_detached_tensor(),
        }
    }
}

/// Applies max(x, 0), whose derivative at 0 is 0.
///
/// Candle's own `relu` has derivative 1 at 0, unlike `PyTorch`'s.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    // Not `x > 0`, which is false of NaN and would turn it into 0.
    x.le(0.0)?.where_cond(&x.zeros_like()?, x)
}

/// Scales rows to unit Euclidean length. A row of zeros stays zero, with a finite gradient.
pub fn normalize_rows(x: &Tensor) -> Result<Tensor> {
    // The square of PyTorch's 1e-12; inside the root, so that the gradient at zero is not 0/0.
    x.broadcast_div(&(x.sqr()?.sum_keepdim(1)? + 1e-24)?.sqrt()?)
}

#[cfg(test)]
pub(super) mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::rng::Streams;

    /// Draws a variable of standard normals, in `f64`.
    pub(in crate::nn) fn normal(purpose: &str, shape: &[usize]) -> Var {
        let mut values = vec![0.0; shape.iter().product()];
        Streams::new(5, "test").stream(purpose).fill_normal(&mut values);
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
    }

    /// Weighs a tensor's elements unequally into one number, so that no gradient cancels.
    pub(in crate::nn) fn weigh(x: &Tensor) -> Tensor {
        let weights = normal("weigh", x.dims()).as_detached_tensor();
        (x * weights).unwrap().sum_all().unwrap()
    }

    /// Checks the gradient of `f` with respect to `vars` against central differences in `f64`.
    pub(in crate::nn) fn check_gradient(name: &str, vars: &[&Var], f: &dyn Fn() -> Tensor) {
        let step = 2e-6;
        let gradients = f().backward().unwrap();
        for (which, var) in vars.iter().enumerate() {
            let values: Vec<f64> = var.flatten_all().unwrap().to_vec1().unwrap();
            let gradient =
                gradients.get(var).unwrap_or_else(|| panic!("{name}: no gradient {which}"));
            let gradient: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
            let at = |index: usize, value: f64| {
                let mut values = values.clone();
                values[index] = value;
                var.set(&Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap()).unwrap();
                f().to_scalar::<f64>().unwrap()
            };
            // At most forty elements, spread over the tensor.
            for index in (0..values.len()).step_by(values.len().div_ceil(40)) {
                let (up, down) = (at(index, values[index] + step), at(index, values[index] - step));
                at(index, values[index]);
                let expected = (up - down) / (2.0 * step);
                // Truncation is of the order step², cancellation of 1e-16 / step.
                let tolerance = 1e-7 * (1.0 + expected.abs());
                assert!(
                    (gradient[index] - expected).abs() < tolerance,
                    "{name}, variable {which}, element {index}: {} is not {expected}",
                    gradient[index]
                );
            }
        }
    }

    /// Checks that two tensors agree to within a tolerance.
    pub(in crate::nn) fn check_close(
        name: &str,
        found: &Tensor,
        expected: &Tensor,
        tolerance: f64,
    ) {
        assert_eq!(found.dims(), expected.dims(), "{name}");
        let difference = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap();
        let worst = difference.max(0).unwrap().to_dtype(DType::F64).unwrap();
        let worst = worst.to_scalar::<f64>().unwrap();
        assert!(worst <= tolerance, "{name}: differs by {worst}");
    }

    #[test]
    fn relu_has_derivative_zero_at_zero_and_keeps_nan() {
        let x = Var::from_slice(&[-1.0f64, 0.0, 2.0], 3, &Device::Cpu).unwrap();
        let y = relu(&x).unwrap();
        assert_eq!(y.to_vec1::<f64>().unwrap(), [0.0, 0.0, 2.0]);
        let gradients = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&x).unwrap().to_vec1::<f64>().unwrap(), [0.0, 0.0, 1.0]);
        let nan = Tensor::new(&[f64::NAN], &Device::Cpu).unwrap();
        assert!(relu(&nan).unwrap().to_vec1::<f64>().unwrap()[0].is_nan());
    }

    #[test]
    fn gradients_are_right() {
        let x = normal("x", &[3, 5]);
        check_gradient("relu", &[&x], &|| weigh(&relu(&x).unwrap()));
        check_gradient("normalize", &[&x], &|| weigh(&normalize_rows(&x).unwrap()));
    }

    #[test]
    fn a_zero_row_has_a_finite_gradient() {
        let x = Var::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let gradients = normalize_rows(&x).unwrap().sum_all().unwrap().backward().unwrap();
        let gradient: Vec<f32> =
            gradients.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert!(gradient.iter().all(|v| v.is_finite()));
    }

    #[test]
    fn evaluation_tracks_no_gradient() {
        let x = normal("x", &[1]);
        assert!(Mode::Train.read(&x).track_op() && !Mode::Evaluate.read(&x).track_op());
    }
}
