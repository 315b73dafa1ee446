//! The text of an experiment: TOML in, an [`Experiment`] with origins or all its errors out.
//!
//! Spans are born here. A value carries the id of the place it was written at ([`Origin`]); the rest of the program
//! hands ids back when it has something to say about a value, and [`Sources`] alone turns them into text. The module
//! knows no kind of stage and no engine.

pub mod axes;
pub mod combinations;
pub mod deserialize;
pub mod diagnostic;
pub mod experiment;
pub mod extends;
pub mod json;
pub mod layers;
pub mod plain;
#[cfg(test)]
mod plain_tests;
pub mod quantity;
pub mod resources;
pub mod source;
pub mod suggest;
mod syntax;
pub mod value;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use experiment::Experiment;
pub use source::{Origin, Sources};
pub use value::{Value, ValueKind};
