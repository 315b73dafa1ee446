//! The arithmetic of training on the CPU, on slices: convolution, batch normalization and pooling with their gradients
//! in closed form, for `f32` and `f64`.
//!
//! Activations are n×h×w×c. Parallel loops are cut by shape and never by thread, and every sum runs in an order that
//! the shape fixes: a result has the same bits on any number of threads.
#![expect(
    clippy::needless_range_loop,
    reason = "several arrays are walked at once, by places that are checked once"
)]
#![expect(
    clippy::inline_always,
    reason = "vector code is compiled anew for each instruction set by being inlined"
)]

pub mod batch_norm;
pub mod convolution;
pub mod pool;
pub mod simd;
pub mod unfold;
pub mod winograd;

mod transforms;
