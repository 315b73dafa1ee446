//! What several kinds share: bridges between artifacts and the science.

#[cfg(test)]
pub mod bench;
pub mod canvas;
pub mod computing;
pub mod confidence;
pub mod diagnoses;
pub mod diagnosis;
pub mod excerpt;
pub mod exemplars;
pub mod film;
pub mod findings;
pub mod geometry;
pub mod layers;
pub mod measured;
pub mod methods;
pub mod network;
mod newton_methods;
pub mod numbers;
pub mod pages;
pub mod picture;
pub mod pretrained;
pub mod pretraining;
pub mod problem;
pub mod recording;
pub mod samples;
pub mod searches;
pub mod sheet;
pub mod survey;
pub mod training;
pub mod warp;
pub mod word;

/// The name of the file that holds the state of a checkpoint.
pub const STATE: &str = "state.safetensors";
