//! What can go wrong in training and evaluating networks.

use thiserror::Error;

use super::memory::OutOfMemory;

/// An error of the networks: a wrong input, a number that left its range, or a failed tensor operation.
#[derive(Debug, Error)]
pub enum NnError {
    #[error("tensor `{name}` is missing from the saved parameters")]
    MissingTensor { name: String },
    #[error("the saved parameters hold a tensor that the network lacks: `{name}`")]
    UnexpectedTensor { name: String },
    #[error("tensor `{name}` has shape {found:?}, the network needs {expected:?}")]
    WrongShape { name: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("two parameters have the same name: `{name}`")]
    DuplicateParameter { name: String },
    #[error("{name} must be {condition}, found {value}")]
    InvalidValue { name: &'static str, condition: &'static str, value: String },
    #[error("{name} {condition}")]
    BrokenRule { name: &'static str, condition: &'static str },
    #[error("a gradient is of no weight that is trained: `{name}`")]
    UnknownGradient { name: String },
    #[error("the singular values of a {rows}×{columns} matrix were not found")]
    NotDecomposed { rows: usize, columns: usize },
    #[error("unknown tap `{name}`; the network has: {}", known.join(", "))]
    UnknownTap { name: String, known: Vec<String> },
    #[error("expected {expected} elements in {what}, found {found}")]
    WrongLength { what: &'static str, expected: usize, found: usize },
    #[error("images of {found} channels do not fit a network of {expected}")]
    WrongChannels { expected: usize, found: usize },
    #[error("a perceptron for images of {expected}×{expected} pixels cannot see {height}×{width}")]
    WrongSize { expected: usize, height: usize, width: usize },
    #[error("event {event} spans frames {start}..{end}, but the movie has {frames}")]
    EventOutOfRange { event: usize, start: usize, end: usize, frames: usize },
    #[error("contrastive pre-training needs at least 2 events, found {found}")]
    TooFewEvents { found: usize },
    #[error("no event has two frames, so no frame has a positive")]
    NoPositives,
    #[error("no anchor of the batch has a negative: the only positives are in event {event}")]
    NoNegatives { event: u32 },
    #[error("label {label} of sample {sample} is not below the number of classes: {classes}")]
    LabelOutOfRange { sample: usize, label: u32, classes: usize },
    #[error("{what} is not finite at step {step} of epoch {epoch}: {value}")]
    NotFinite { what: &'static str, epoch: usize, step: usize, value: f64 },
    #[error("a value of {what} is not finite")]
    NotFiniteInput { what: &'static str },
    #[error(transparent)]
    OutOfMemory(Box<OutOfMemory>),
    #[error(
        "precision {precision} needs a GPU of compute capability {least}.0 or later, found {device}"
    )]
    UnsupportedPrecision { precision: &'static str, least: i32, device: String },
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
