//! Wavecrest: a declarative experiment orchestrator for representation-learning and loss-landscape research.
//!
//! Read in this order: [`engine::stage`] says what a stage is, [`stages`] lists the kinds, [`plan`] turns a file
//! into a graph, [`engine::run`] walks it. `ARCHITECTURE.md` draws the whole.

pub mod artifacts;
pub mod cli;
pub mod colormap;
pub mod engine;
pub mod landscape;
pub mod manifold;
pub mod nn;
pub mod omit;
pub mod plan;
pub mod report;
pub mod rng;
pub mod spec;
pub mod stages;
pub mod store;
pub mod ui;
pub mod waves;
