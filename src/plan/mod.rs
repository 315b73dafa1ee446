//! From an experiment to a graph: axes propagated, instances made, every edge checked.

pub mod build;
pub mod difference;
pub mod earlier;
mod existence;
pub mod explain;
mod link;
#[cfg(test)]
mod mutation_tests;
pub mod parameters;
pub mod placeholder;
pub mod reason;
pub mod reports;
pub mod select;
pub mod sweep;

pub use build::{Plan, build};
