//! The state of contrastive pre-training, taken after a step and put back later.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::error::NnError;
use super::loss_scale::LossScale;
use super::simclr::{EpochRow, Training};

/// How far a training is, apart from what it has learned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reached {
    /// One row an epoch that is done.
    pub rows: Vec<EpochRow>,
    /// Steps of the next epoch that are done.
    pub steps: usize,
    /// Their sums of loss, alignment, uniformity and gradient norm, each weighted by the anchors of its batch.
    pub sums: [f64; 4],
    /// Their anchors.
    pub anchors: f64,
    /// Frames seen since the beginning, over all epochs.
    pub frames_seen: usize,
}

/// What is seen of one batch before the step that it is part of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) loss: f64,
    pub(super) alignment: f64,
    pub(super) uniformity: f64,
    pub(super) anchors: f64,
    pub(super) frames: usize,
}

impl Reached {
    /// Counts a step on some batches, with the length of its gradient.
    pub(super) fn end_step(&mut self, batches: &[Seen], gradient_norm: f64) {
        self.steps += 1;
        for Seen { loss, alignment, uniformity, anchors, frames } in batches {
            let values = [*loss, *alignment, *uniformity, gradient_norm];
            self.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += anchors * value);
            self.anchors += anchors;
            self.frames_seen += frames;
        }
    }

    /// Closes an epoch.
    pub(super) fn end_epoch(&mut self, row: EpochRow) {
        self.rows.push(row);
        (self.steps, self.sums, self.anchors) = (0, [0.0; 4], 0.0);
    }
}

/// All that a training can go on from, to the same bits.
#[derive(Clone, Debug)]
pub struct PretrainState {
    pub reached: Reached,
    /// Weights and running statistics.
    pub encoder: BTreeMap<String, Tensor>,
    pub projector: BTreeMap<String, Tensor>,
    /// The optimizer's step and means.
    pub optimizer: BTreeMap<String, Tensor>,
    pub loss_scale: LossScale,
}

impl Training<'_> {
    /// Copies the state to the CPU.
    pub fn state(&self) -> Result<PretrainState, NnError> {
        Ok(PretrainState {
            reached: self.reached.clone(),
            encoder: self.encoder.network.parameters.to_tensors()?,
            projector: self.projector.parameters.to_tensors()?,
            optimizer: self.optimizer.to_tensors()?,
            loss_scale: self.passes.scale,
        })
    }

    /// Puts a state back. Fails if it is one of other networks.
    pub(super) fn restore(&mut self, state: PretrainState) -> Result<(), NnError> {
        self.encoder.network.parameters.load(&state.encoder)?;
        self.projector.parameters.load(&state.projector)?;
        self.optimizer.load(&state.optimizer)?;
        self.passes.scale = state.loss_scale;
        self.reached = state.reached;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use candle_core::Device;

    use super::super::images::Images;
    use super::super::simclr::tests::{SIZE, config, movie};
    use super::super::simclr::{PretrainConfig, Pretrained, Progress, pretrain};
    use super::*;
    use crate::rng::Streams;

    /// Trains for three epochs of two steps and tells of each step and epoch; the first that is told is number 1.
    fn run(
        from: Option<PretrainState>,
        at: usize,
    ) -> (Option<PretrainState>, Result<Pretrained, NnError>) {
        let (pixels, events) = movie(8);
        let frames = Images::gray(&pixels, SIZE, SIZE).unwrap();
        let config = PretrainConfig { epochs: 3, ..config() };
        let (mut told, mut state) = (0, None);
        let mut observe = |_: Progress, training: &Training| {
            told += 1;
            if told == at {
                state = Some(training.state().unwrap());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let streams = Streams::new(1, "test");
        let device = Device::Cpu;
        let result = pretrain(frames, &events, &config, &streams, &device, from, &mut observe);
        (state, result)
    }

    fn bits(trained: &Pretrained) -> Vec<u32> {
        let tensors = trained.encoder.network.parameters.to_tensors().unwrap();
        let values = tensors.values().map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        values.flatten().map(f32::to_bits).collect()
    }

    #[test]
    fn training_goes_on_to_the_same_bits_from_any_step_and_epoch() {
        let whole = run(None, 0).1.unwrap();
        for at in 1.. {
            let (state, result) = run(None, at);
            if let Ok(again) = result {
                assert!(at > 3 * 2 && bits(&again) == bits(&whole), "{at}");
                break;
            }
            let on = run(state, 0).1.unwrap();
            assert_eq!(on.rows, whole.rows, "{at}");
            assert!(bits(&on) == bits(&whole), "{at}");
        }
    }

    #[test]
    fn a_state_of_other_networks_is_refused() {
        let mut state = run(None, 1).0.unwrap();
        state.projector.clear();
        let error = run(Some(state), 0).1.unwrap_err();
        assert!(matches!(error, NnError::MissingTensor { .. }), "{error}");
    }
}
