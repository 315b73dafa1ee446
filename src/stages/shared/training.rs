//! Failures of the networks, as the engine reports them.

use std::ops::ControlFlow;

use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::nn::error::NnError;

/// Turns an error of the networks into a failure that says what to do.
pub fn failure(error: NnError) -> anyhow::Error {
    match error {
        NnError::Cancelled => Failure::interrupted().into(),
        NnError::NotFinite { .. } => Failure::numeric(error.to_string())
            .hint("a lower `learning_rate` may help; or look at the input for extreme values")
            .into(),
        NnError::NoNegatives { .. } | NnError::NoPositives => Failure::data(error.to_string())
            .hint("give the stage a longer movie, or a larger `batch_frames`")
            .into(),
        NnError::InvalidValue { .. } => Failure::user(error.to_string()).into(),
        other => other.into(),
    }
}

/// Breaks off once the run is interrupted.
pub fn flow(cx: &Context<'_>) -> ControlFlow<()> {
    if cx.check_cancelled().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
