//! What several kinds share: bridges between artifacts and the science.

#[cfg(test)]
pub mod bench;
pub mod canvas;
pub mod film;
pub mod network;
pub mod problem;
pub mod training;
