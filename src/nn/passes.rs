//! A step's forward and backward passes through networks that feed each other.

use candle_core::{DType, Result, Tensor, Var, bail};

use super::composed::tracked_in;
use super::contrastive::BatchLoss;
use super::error::NnError;
use super::loss_scale::LossScale;
use super::network::Network;
use super::optimizer::gradients::collect;
use super::precision::Precision;
use super::tape::{Gradients, Tape};

/// The passes through some networks, and the memory that they use again in each step.
#[derive(Debug, Default)]
pub struct Passes {
    tapes: Vec<Tape<f32>>,
    gradients: Gradients,
    precision: Precision,
    /// Of the loss, in 16-bit floats.
    pub(super) scale: LossScale,
}

/// What a pass came to.
#[derive(Debug)]
pub struct Passed {
    /// The last network's result, without a gradient.
    pub y: Tensor,
    /// The loss of it.
    pub loss: BatchLoss,
}

impl Passes {
    /// Prepares passes whose products are of some precision, which the device must [hold](Precision::hold_on).
    pub fn new(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
    }

    /// Runs networks in training mode, one after the other, on n×h×w×c, and takes the loss of the result.
    ///
    /// Then [`Self::gradients`] are those of the loss. On the CPU the networks are run by our own kernels, in `f32`; the
    /// loss is differentiated by candle everywhere.
    pub fn step(
        &mut self,
        networks: &[&Network],
        x: &Tensor,
        loss: &dyn Fn(&Tensor) -> std::result::Result<BatchLoss, NnError>,
    ) -> std::result::Result<Passed, NnError> {
        if !x.device().is_cpu() {
            let mut y = x.clone();
            for network in networks {
                y = tracked_in(network, &y, self.precision)?;
            }
            let loss = loss(&y)?;
            let of = |loss: &Tensor| {
                let weights = networks.iter().flat_map(|network| network.parameters.weights());
                Ok(collect(&loss.backward()?, weights))
            };
            // A loss that is not finite is told by who asked for the step.
            let finite = loss.loss.to_dtype(DType::F64)?.to_scalar::<f64>()?.is_finite();
            self.gradients = if self.precision == Precision::F16 && finite {
                self.scale.differentiate(&loss.loss, &of)?
            } else {
                of(&loss.loss)?
            };
            return Ok(Passed { y: y.detach(), loss });
        }
        self.tapes.resize_with(networks.len(), Tape::default);
        let mut y = x.clone();
        for (network, tape) in networks.iter().zip(&mut self.tapes) {
            y = tape.forward(network, &y)?;
        }
        let leaf = Var::from_tensor(&y)?;
        let loss = loss(leaf.as_tensor())?;
        let mut flow = gradient_of(&loss.loss, &leaf)?;
        for (at, (network, tape)) in networks.iter().zip(&mut self.tapes).enumerate().rev() {
            if let Some(dx) = tape.backward(network, &flow, at > 0, &mut self.gradients)? {
                flow = dx;
            }
        }
        Ok(Passed { y, loss })
    }

    /// The gradients of the last step's loss, by the names of the parameters.
    pub fn gradients(&self) -> &Gradients {
        &self.gradients
    }
}

fn gradient_of(loss: &Tensor, leaf: &Var) -> Result<Tensor> {
    match loss.backward()?.get(leaf) {
        Some(gradient) => gradient.contiguous(),
        None => bail!("the loss does not depend on what the networks make"),
    }
}
