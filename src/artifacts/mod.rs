//! The values that travel on edges, each with its type name and its files.
//!
//! Tensors are `.safetensors`, tables are Parquet: Python opens every one of them with a stock library. They hold
//! plain vectors; what they mean to a computation is the stages' affair.

pub mod activations;
pub mod activations_reader;
pub mod dataset;
pub mod encoder;
pub mod events;
pub mod file;
pub mod images;
pub mod manifolds;
pub mod movie;
pub mod movie_reader;
pub mod points;
pub mod table;
pub mod tensor;
pub mod tensors;
pub mod trajectory;
