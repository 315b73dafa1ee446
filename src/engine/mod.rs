//! The engine: it runs a graph of stages and computes nothing twice.
//!
//! It knows stages by trait, kinds by registry, artifacts by type name and files by hash; it knows no tensor, no
//! table and no science, and it is tested with toy kinds in milliseconds.

pub mod attempt;
pub mod checkpoint;
pub mod commits;
pub mod context;
pub mod desk;
pub mod event;
pub mod execute;
pub mod executor;
pub mod experience;
pub mod failure;
#[cfg(test)]
mod fault_tests;
pub mod forecast;
pub mod graph;
pub mod inputs;
pub mod key;
pub mod kind;
pub mod leases;
mod loose;
pub mod machine;
pub mod message;
pub mod parameter;
pub mod resources;
pub mod retry;
pub mod run;
#[cfg(test)]
mod run_tests;
pub mod schedule;
pub mod slots;
pub mod stage;
pub mod status;
#[cfg(test)]
mod sweep_tests;
#[cfg(test)]
pub(crate) mod toys;
mod trouble;
mod walk;
pub mod worker;
