//! Pictures of charts: layout, axes, marks and legends, drawn as SVG and PNG.
//!
//! A [`chart::Chart`] is pure numbers and names. It is laid out here and drawn on a [`canvas::Canvas`], the only
//! place that knows the plotting crate: its high-level plots have fixed looks, its scenes and back ends do not.

pub mod arrows;
pub mod axes;
pub mod canvas;
pub mod chart;
pub mod image;
pub mod layout;
pub mod legend;
pub mod marks;
pub mod palette;
pub mod raster;
pub mod scale;
pub mod tiles;
