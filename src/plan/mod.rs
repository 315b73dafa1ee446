//! From an experiment to a graph: axes propagated, instances made, every edge checked.

pub mod build;
pub mod difference;
pub mod earlier;
mod existence;
pub mod explain;
mod instance;
mod link;
#[cfg(test)]
mod mutation_tests;
pub mod parameters;
pub mod placeholder;
mod python;
pub mod reason;
pub mod reports;
pub mod select;
pub mod sweep;
mod swept;

pub use build::{Plan, build};
