//! What can be wrong with the input of a landscape computation.

use thiserror::Error;

/// An input that no landscape computation can use, or a computation that came to no end.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum LandscapeError {
    /// An array whose length does not fit the others.
    #[error("{what} has {found} entries, expected {expected}")]
    Length { what: &'static str, expected: usize, found: usize },
    /// An option outside its range.
    #[error("{option} must be {requirement}: {value}")]
    Option { option: &'static str, requirement: &'static str, value: f64 },
    /// Targets of another kind than the cost needs.
    #[error("{cost} needs {needed} as targets")]
    Targets { cost: &'static str, needed: &'static str },
    /// A class label beyond the outputs of the network.
    #[error("sample {sample} has label {label}, but the network has {classes} outputs")]
    Label { sample: usize, label: usize, classes: usize },
    /// An array that holds NaN or an infinity.
    #[error("{what} holds a number that is not finite, at entry {entry}")]
    NotFinite { what: &'static str, entry: usize },
    /// A descent whose loss or parameters left the finite numbers.
    #[error("the loss is not finite after step {step}; a smaller rate may help")]
    Diverged { step: usize },
    /// A computation that its caller stopped.
    #[error("cancelled after step {step}")]
    Cancelled { step: usize },
    /// A symmetric matrix whose eigenvalues were not found.
    #[error("the eigenvalues of a {size} x {size} matrix did not converge")]
    Eigenvalues { size: usize },
    /// A device that did not compute what it was asked for.
    #[error("{0}")]
    Device(String),
    /// A list too long to write out.
    #[error("there are more than {limit} {what}")]
    TooMany { what: &'static str, limit: usize },
}

/// Checks that an array has the length that the rest of the input implies.
pub fn expect_length(
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), LandscapeError> {
    if expected == found { Ok(()) } else { Err(LandscapeError::Length { what, expected, found }) }
}

/// Checks that an array holds finite numbers only.
pub fn expect_finite(what: &'static str, values: &[f64]) -> Result<(), LandscapeError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(entry) => Err(LandscapeError::NotFinite { what, entry }),
    }
}

/// Checks an option against the range that `requirement` words.
pub fn expect_option(
    option: &'static str,
    requirement: &'static str,
    value: f64,
    holds: impl FnOnce(f64) -> bool,
) -> Result<(), LandscapeError> {
    if holds(value) { Ok(()) } else { Err(LandscapeError::Option { option, requirement, value }) }
}
