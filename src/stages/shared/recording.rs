//! Spikes of a multi-electrode array, from a table.

use std::collections::BTreeMap;
use std::ops::Range;

use polars::prelude::DataType;

use super::sheet::{self, Header};
use crate::artifacts::table::Table;
use crate::engine::failure::Failure;
use crate::engine::parameter::DataPath;
use crate::waves::grid::Grid;

/// What the columns of a table of spikes are called.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// Times in s.
    pub time: &'a str,
    /// Units, by number or name.
    pub unit: &'a str,
    /// Horizontal positions in µm.
    pub x: &'a str,
    /// Vertical positions in µm.
    pub y: &'a str,
}

/// Spikes and units of a table.
pub struct Recording {
    /// When each spike was.
    pub times: Vec<f64>,
    /// The unit of each spike, as a place in `positions`.
    pub units: Vec<usize>,
    /// Where each unit lies.
    pub positions: Vec<(f64, f64)>,
}

impl Recording {
    /// Reads a table of spikes; fails where a spike lacks something, or a unit lies at two places.
    pub fn read(path: &DataPath, columns: Columns<'_>) -> anyhow::Result<Self> {
        let frame = sheet::read(path, Header::Names)?;
        let column = |name| sheet::column(&frame, path, name);
        let [times, x, y] = [column(columns.time)?, column(columns.x)?, column(columns.y)?];
        let unit = column(columns.unit)?;
        let name = path.written();
        if frame.height() == 0 {
            return Err(Failure::data(format!("{name} holds no spike"))
                .hint("a recording has a row for each spike")
                .into());
        }
        let times = sheet::numbers(times, "times of spikes are finite numbers, in s")?;
        let [x, y] =
            [x, y].map(|column| sheet::numbers(column, "positions are finite numbers, in µm"));
        let (x, y) = (x?, y?);
        let names = unit.cast(&DataType::String)?;
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut units, mut positions) = (Vec::with_capacity(times.len()), Vec::new());
        for (row, name) in names.str()?.iter().enumerate() {
            let name = name.ok_or_else(|| {
                Failure::data(format!("column `{}` is empty in row {}", columns.unit, row + 1))
                    .hint("every spike is of a unit, a number or a name")
            })?;
            let unit = *known.entry(name).or_insert(positions.len());
            let position = (x[row], y[row]);
            if unit == positions.len() {
                positions.push(position);
            }
            let (before, here) = (positions[unit], position);
            if before != here {
                let found = format!(
                    "unit {name} lies at {before:?} µm and, in row {}, at {here:?}",
                    row + 1
                );
                return Err(Failure::data(found)
                    .hint("all spikes of a unit have its position; number the units of each electrode apart")
                    .into());
            }
            units.push(unit);
        }
        Ok(Self { times, units, positions })
    }

    /// The spikes of a range of time in the grid.
    pub fn raster(&self, grid: &Grid, pixels: &[Option<usize>], time: Range<f64>) -> Table {
        let mut order: Vec<usize> = (0..self.positions.len()).collect();
        let key = |unit: &usize| (self.positions[*unit].1, self.positions[*unit].0);
        order.sort_by(|a, b| {
            let ((a_y, a_x), (b_y, b_x)) = (key(a), key(b));
            a_y.total_cmp(&b_y).then(a_x.total_cmp(&b_x)).then(a.cmp(b))
        });
        order.retain(|unit| pixels[*unit].is_some());
        let mut rank = vec![None; self.positions.len()];
        order.iter().enumerate().for_each(|(place, unit)| rank[*unit] = Some(place));
        let shown: Vec<(f64, usize)> = self
            .times
            .iter()
            .zip(&self.units)
            .filter(|(seconds, unit)| time.contains(*seconds) && pixels[**unit].is_some())
            .map(|(seconds, unit)| (*seconds, *unit))
            .collect();
        let mm = |unit: usize| {
            let (x, y) = self.positions[unit];
            ((x - grid.left) / 1000.0, (y - grid.top) / 1000.0)
        };
        Table::new()
            .floats("seconds", shown.iter().map(|(seconds, _)| seconds - time.start))
            .counts("unit", shown.iter().filter_map(|(_, unit)| rank[*unit]))
            .floats("x", shown.iter().map(|(_, unit)| mm(*unit).0))
            .floats("y", shown.iter().map(|(_, unit)| mm(*unit).1))
    }
}
