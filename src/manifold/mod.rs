//! The geometry and the linear separability of object manifolds in a representation.
//!
//! A manifold is a cloud of points, such as one image under many transformations. Mean-field theory gives the number
//! of such manifolds per feature that a linear readout can split by random labels (the *capacity*) and traces it to an
//! effective radius and dimension (Chung, Lee & Sompolinsky, Phys. Rev. X 8, 031003, 2018; Cohen, Chung, Lee &
//! Sompolinsky, Nat. Commun. 11, 746, 2020). The functions here are pure: rows of numbers in, numbers with standard
//! errors out. They know no file, no network and no schedule.

pub mod mftma;
#[cfg(test)]
mod mftma_tests;

pub mod glue;
#[cfg(test)]
mod glue_tests;

pub mod alignment;
pub mod dichotomy;
pub mod effective;

pub mod separability;
pub mod simulated;

pub mod gram;
pub mod joint;
pub mod projection;

pub mod centers;
#[cfg(test)]
mod centers_tests;
pub mod correlation;
pub mod grassmann;

pub mod residual;

pub mod anchors;
#[cfg(test)]
mod anchors_tests;
pub mod cloud;
pub mod cone;
pub mod nnls;

pub mod dimensions;

pub mod arithmetic;
pub mod estimate;
pub mod spectrum;
pub mod watch;
