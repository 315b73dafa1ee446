//! What several kinds share: bridges between artifacts and the science.

#[cfg(test)]
pub mod bench;
pub mod canvas;
pub mod excerpt;
pub mod film;
pub mod geometry;
pub mod network;
pub mod pages;
pub mod picture;
pub mod pretrained;
pub mod pretraining;
pub mod problem;
pub mod recording;
pub mod searches;
pub mod sheet;
pub mod training;
pub mod word;

/// The name of the file that holds the state of a checkpoint.
pub const STATE: &str = "state.safetensors";
