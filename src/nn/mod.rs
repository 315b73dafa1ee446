//! Networks and their training: encoder, projector, losses, optimizer, pre-training and linear probes.
//!
//! Everything runs on candle tensors of any device. On the CPU the costly layers are our own operations with
//! gradients in closed form; elsewhere they are composed of candle's. Activations are n×h×w×c, weights keep
//! torchvision's names and layout. All randomness comes from `crate::rng` on the host, and every sum of ours runs
//! in an order fixed by the shapes, so a result does not depend on the number of threads. The module knows no
//! files and no stages.

pub mod resnet;

pub mod layers;

pub mod conv;
pub mod norm;
pub mod normalize;
pub mod pool;

pub mod host;
pub mod params;

pub mod projector;

pub mod contrastive;
pub mod noncontrastive;
pub mod objective;

pub mod simclr;
pub mod simclr_state;

pub mod sampler;

pub mod optimizer;

pub mod features;
pub mod images;

pub mod linear_probe;

pub mod error;
