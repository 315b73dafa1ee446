//! Critical points of losses: objectives with exact derivatives, searches for points of zero gradient, their Hessians.
//!
//! The methods are those of Frye et al., "Critical point-finding methods reveal gradient-flat regions of deep
//! network losses" (Neural Computation 33, 2021), in f64 and over the full batch. Objectives are evaluated once a
//! point; Hessian products there reuse what the evaluation left. On a GPU, many searches compute as one (`gathered`, by
//! candle in `device_network`). Nothing here knows of stages or files.

pub mod objective;

pub mod activation;
pub mod data;
pub mod network;
mod network_point;
#[cfg(test)]
mod network_reference;
mod network_tangent;
pub mod products;

mod device_model;
pub mod device_network;
#[cfg(test)]
mod device_network_tests;
mod device_tangent;
pub mod gathered;

pub mod descent;
pub mod starts;

pub mod search;

mod krylov;
mod minres_iteration;
pub mod minres_qlp;
#[cfg(test)]
mod minres_qlp_tests;
pub mod newton_mr;

mod dense;
pub mod newton;

pub mod damped_newton;
pub mod saddle_free;
mod scan;

#[cfg(test)]
mod quadratic;

pub mod gradient_norm;

pub mod density;
pub mod flatness;
pub mod hessian;
pub mod lanczos;
pub mod linear_autoencoder;
pub mod pca;
#[cfg(test)]
mod published_rates;

pub mod error;
#[cfg(test)]
mod fixtures;
pub mod vector;
