//! Failures of the networks, as the engine reports them.

use std::ops::{ControlFlow, Deref};

use crate::engine::checkpoint::Checkpoint;
use crate::engine::context::Context;
use crate::engine::failure::{Failure, FailureKind, Shortage};
use crate::nn::error::NnError;
use crate::nn::memory::is_out_of_memory;

/// Turns an error of the networks into a failure that says what to do.
pub fn failure(error: NnError) -> anyhow::Error {
    let message = error.to_string();
    match error {
        NnError::Cancelled => Failure::interrupted(),
        NnError::NotFinite { .. } => Failure::numeric(message)
            .hint("a lower `learning_rate` may help; or look at the input for extreme values"),
        NnError::NoNegatives { .. } | NnError::NoPositives => Failure::data(message)
            .hint("give the stage a longer movie, or a larger `batch_frames`"),
        NnError::TooFewEvents { .. } => Failure::data(message).hint(
            "give the stage a longer movie or a larger `train_fraction`, or look at `threshold` and `shortest` of \
             `movie.segment`",
        ),
        NnError::EventOutOfRange { .. } => Failure::data(message)
            .hint("give the events of this movie, or of the movie that it was made from"),
        NnError::NotFiniteInput { .. } => {
            Failure::data(message).hint("look for missing or infinite values in what the stage reads")
        }
        NnError::LabelOutOfRange { .. } => Failure::data(message).hint("number the labels from 0"),
        NnError::WrongLength { .. } => {
            Failure::data(message).hint("an input of the stage is cut short or of another size")
        }
        NnError::MissingTensor { .. }
        | NnError::UnexpectedTensor { .. }
        | NnError::WrongShape { .. } => Failure::data(message)
            .hint("an encoder holds the tensors of torchvision's `resnet18` without `fc`, at its own width"),
        NnError::WrongChannels { .. } => Failure::user(message)
            .hint("gray images fit any network; others need an encoder with as many `channels`"),
        NnError::WrongSize { .. } => Failure::user(message)
            .hint("give it images of that size, or make one for theirs: `architecture = { mlp = { image = … } }`"),
        NnError::InvalidValue { .. } | NnError::BrokenRule { .. } | NnError::UnknownTap { .. } => {
            Failure::user(message).hint("`wavecrest kinds KIND` lists the ranges of all parameters")
        }
        NnError::NotDecomposed { .. } => Failure::numeric(message)
            .hint("a lower `learning_rate` may help; or another seed"),
        NnError::UnsupportedPrecision { .. } => Failure::user(message).hint(
            "give the stage a GPU (`resources = { gpu = 1 }`) and a program built with the feature `cuda`, or leave \
             `precision` out",
        ),
        NnError::OutOfMemory(full) => {
            let hint = match full.fitting {
                Some(images) => format!(
                    "{images} images would likely fit: end what else runs on the GPU, or use smaller batches"
                ),
                None => "not even two images would likely fit: end what else runs on the GPU, or use a smaller \
                         network"
                    .to_owned(),
            };
            Failure::new(FailureKind::Resource, message).for_lack_of(Shortage::Gpu).hint(hint)
        }
        NnError::Tensor(ref tensor) if is_out_of_memory(tensor) => {
            Failure::new(FailureKind::Resource, message)
                .for_lack_of(Shortage::Gpu)
                .hint("the GPU is out of memory: end what else runs on it, or use smaller batches or widths")
        }
        NnError::Tensor(_)
        | NnError::DuplicateParameter { .. }
        | NnError::UnknownGradient { .. } => return error.into(),
    }
    .into()
}

/// Breaks off once the run is interrupted.
pub fn flow(cx: &Context<'_>) -> ControlFlow<()> {
    if cx.check_cancelled().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Says where training could go on from, and breaks off once the run is interrupted.
pub fn pause<C: Checkpoint, S: Deref<Target = C>>(
    cx: &Context<'_>,
    state: impl FnOnce() -> anyhow::Result<S>,
) -> ControlFlow<()> {
    if cx.pause_point(state).is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::memory::OutOfMemory;

    #[test]
    fn mistakes_in_data_and_parameters_say_what_to_do() {
        let check = |error: NnError, kind: FailureKind| {
            let failure = Failure::from_error(failure(error));
            assert_eq!(failure.kind, kind, "{failure}");
            assert!(failure.hint.is_some() || kind == FailureKind::Internal, "{failure}");
        };
        let name = || "conv1.weight".to_owned();
        check(NnError::TooFewEvents { found: 1 }, FailureKind::Data);
        check(
            NnError::EventOutOfRange { event: 0, start: 1, end: 9, frames: 5 },
            FailureKind::Data,
        );
        check(NnError::NotFiniteInput { what: "the images" }, FailureKind::Data);
        check(NnError::LabelOutOfRange { sample: 0, label: 9, classes: 3 }, FailureKind::Data);
        check(NnError::MissingTensor { name: name() }, FailureKind::Data);
        check(
            NnError::WrongShape { name: name(), expected: vec![1], found: vec![2] },
            FailureKind::Data,
        );
        check(NnError::WrongChannels { expected: 1, found: 3 }, FailureKind::User);
        check(
            NnError::UnsupportedPrecision {
                precision: "bf16",
                least: 8,
                device: "the CPU".to_owned(),
            },
            FailureKind::User,
        );
        for fitting in [None, Some(128)] {
            let full = OutOfMemory {
                images: 256,
                size: [3, 32, 32],
                needed: 1 << 33,
                memory: None,
                fitting,
                source: candle_core::Error::Msg(String::new()),
            };
            check(NnError::OutOfMemory(Box::new(full)), FailureKind::Resource);
        }
        let tensor = |text: &str| NnError::Tensor(candle_core::Error::Cuda(text.into()));
        let full = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        check(tensor(full), FailureKind::Resource);
        check(NnError::Tensor(candle_core::Error::Cuda(full.into()).bt()), FailureKind::Resource);
        check(tensor("CublasError(CUBLAS_STATUS_ALLOC_FAILED)"), FailureKind::Resource);
        check(tensor("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS)"), FailureKind::Internal);
    }
}
