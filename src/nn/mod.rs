//! Networks and their training: encoder, projector, losses, optimizer, pre-training and linear probes.
//!
//! A network is a list of layers. On the CPU it is run by our own kernels with gradients in closed form; elsewhere by
//! operations composed of candle's, which are also what the kernels are checked against. Activations are n×h×w×c, weights keep
//! torchvision's names and layout. All randomness comes from `crate::rng` on the host, and every sum of ours runs
//! in an order fixed by the shapes, so a result does not depend on the number of threads. The module knows no
//! files and no stages.

pub mod encoder;
mod mlp;
mod resnet;

pub mod layers;
pub mod network;

pub mod composed;
#[cfg(feature = "cudnn")]
mod cudnn;
pub mod kernels;
pub mod loss_scale;
pub mod passes;
pub mod precision;
pub mod tape;

mod buffers;

#[cfg(test)]
mod tape_tests;

pub mod device;
pub mod host;
pub mod memory;
pub mod params;

pub mod projector;

pub mod contrastive;
pub mod mmcr;
pub mod noncontrastive;
pub mod objective;

pub mod simclr;
pub mod simclr_state;
pub mod source;

pub mod sampler;

pub mod optimizer;
pub mod pace;
pub mod schedule;

pub mod augment;
pub mod loader;

pub mod features;
pub mod images;

pub mod linear_probe;

pub mod error;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod reference;
