//! Tables and figures over finished results, and the page that shows them.
//!
//! All but [`memo`] are pure functions from a specification and the finished results to text or bytes: nothing knows
//! the engine, the cache, or where files go. The results come as [`data::Instance`]s, one for each combination of
//! axis values, and become one data frame with the axes as columns.

// The results.
pub mod check;
pub mod data;
pub mod error;
pub mod results;
pub mod select;

// Tables.
pub mod tables;

pub mod aggregate;
pub mod files;
pub mod grid;
pub mod latex;
pub mod markdown;
pub mod ordered;
pub mod pivot;
pub mod stat;
pub mod terminal;
pub mod value;

// Figures.
pub mod figures;
#[cfg(test)]
mod figures_tests;

pub mod domains;
pub mod entries;
pub mod plot;
pub mod rows;
pub mod series;
#[cfg(test)]
mod series_tests;
pub mod slots;
pub mod tiles;

// Both together.
pub mod memo;
pub mod page;
