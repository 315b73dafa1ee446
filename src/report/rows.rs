//! The rows of a layer, column by column, sorted into panels and colors.

use std::{collections::BTreeMap, ops::Range};

use polars::prelude::DataFrame;

use crate::report::{
    data::AxisValue,
    domains::Domains,
    error::ReportError,
    figures::{Layer, Mark, Spread},
    results::Results,
    select,
    series::Counts,
};

/// The rows of one layer, column by column.
pub struct Rows {
    pub x: Vec<Option<AxisValue>>,
    pub x_is_numeric: bool,
    pub y: Vec<Option<f64>>,
    pub color: Option<Vec<Option<AxisValue>>>,
    /// The steps that arrows point to.
    step: Option<[Vec<Option<f64>>; 2]>,
    /// What tiles have for `y`, which may be names, and for their color.
    pub tiles: Option<TileRows>,
    /// None where the results lack the column: then they belong to every panel.
    pub panel: Option<Vec<Option<AxisValue>>>,
    /// Over what rows that share x, color and panel are averaged.
    pub(crate) over: String,
}

/// The rows of a layer of tiles.
pub struct TileRows {
    pub y: Vec<Option<AxisValue>>,
    pub y_is_numeric: bool,
    /// What the colors show.
    pub value: Vec<Option<f64>>,
}

/// Rows that belong together.
pub(crate) type Members = Vec<Member>;

/// What a row has for a series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) x: f64,
    /// May be missing.
    pub(crate) y: Option<f64>,
    /// The step that an arrow points to.
    pub(crate) step: Option<[f64; 2]>,
}

impl Rows {
    pub(crate) fn read(
        layer: &Layer<'_>,
        panel: Option<&str>,
        frames: &BTreeMap<String, Results>,
        notes: &mut Vec<String>,
    ) -> Result<Self, ReportError> {
        let frame = frames.get(layer.from).ok_or_else(|| {
            ReportError::unknown_source(layer.from, &frames.keys().cloned().collect::<Vec<_>>())
        })?;
        if frame.frame.width() == 0 {
            return Err(ReportError::NoResults { name: layer.from.to_owned() });
        }
        let (results, remarks) = frame.filter(layer.filter)?;
        notes.extend(remarks);
        let frame = &results.frame;
        let panel = panel.filter(|panel| frame.column(panel).is_ok());
        for name in [Some(layer.x), layer.color, layer.value].into_iter().flatten() {
            select::column(frame, name)?;
        }
        let x = select::column(frame, layer.x)?;
        if layer.mark == Mark::Ecdf {
            select::refuse_text(x, "a cumulative share")?;
        }
        let step = |[dx, dy]: [&str; 2]| {
            let of = |name: &str| select::numbers(frame, name, "an arrow");
            Ok::<_, ReportError>([of(dx)?, of(dy)?])
        };
        if layer.error == Spread::Binomial {
            select::refuse_degrees(select::column(frame, layer.y)?, "a binomial error")?;
        }
        let tiled = layer.value.map(|value| TileRows::read(frame, layer.y, value)).transpose()?;
        let keys = [Some(layer.x), layer.color, layer.value.map(|_| layer.y), panel];
        let keys: Vec<&str> = keys.into_iter().flatten().collect();
        let cells = |name: &str| select::cells(frame, name);
        Ok(Self {
            x: cells(layer.x)?,
            x_is_numeric: select::is_numeric(x),
            y: match &tiled {
                Some(tiles) => tiles.value.clone(),
                None if layer.error == Spread::Entropy => distinct(&cells(layer.y)?),
                None => select::numbers(frame, layer.y, "the vertical axis")?,
            },
            tiles: tiled,
            step: layer.step.map(step).transpose()?,
            color: layer.color.map(cells).transpose()?,
            panel: panel.map(cells).transpose()?,
            over: if layer.averaged { results.pooled(&keys)? } else { String::new() },
        })
    }

    /// Returns the panels that a row belongs to; none if it has no value there.
    pub(crate) fn panels_of(&self, row: usize, domains: &Domains) -> Option<Range<usize>> {
        match &self.panel {
            Some(values) => {
                values[row].as_ref().and_then(|v| domains.panels.place(v)).map(|at| at..at + 1)
            }
            None => Some(0..domains.panels.list.len().max(1)),
        }
    }

    fn step_of(&self, row: usize) -> Option<[f64; 2]> {
        let [dx, dy] = self.step.as_ref()?;
        Some([dx[row]?, dy[row]?])
    }

    /// Sorts the rows by panel and color; those that have no place anywhere are counted as missing.
    pub(crate) fn members(
        &self,
        layer: &Layer<'_>,
        domains: &Domains,
        counts: &mut Counts,
    ) -> Vec<Vec<Members>> {
        let colors = domains.colors_of(layer);
        let panels = domains.panels.list.len().max(1);
        let groups = colors.map_or(1, |colors| colors.values.list.len());
        let mut members = vec![vec![Members::new(); groups]; panels];
        for row in 0..self.y.len() {
            let group = match (&self.color, colors) {
                (Some(values), Some(colors)) => {
                    values[row].as_ref().and_then(|value| colors.values.place(value))
                }
                _ => Some(0),
            };
            let panels = self.panels_of(row, domains);
            let x = self.x[row].as_ref().and_then(|value| domains.x_place(value));
            if let (Some(group), Some(panels), Some(x)) = (group, panels, x) {
                let member = Member { x, y: self.y[row], step: self.step_of(row) };
                members[panels].iter_mut().for_each(|panel| panel[group].push(member));
            } else {
                (counts.total, counts.missing) = (counts.total + 1, counts.missing + 1);
            }
        }
        members
    }
}

/// Numbers the distinct values of a column, which may be names.
fn distinct(cells: &[Option<AxisValue>]) -> Vec<Option<f64>> {
    let mut numbers = BTreeMap::new();
    let mut number = |cell: &AxisValue| {
        let next = numbers.len() as f64;
        *numbers.entry(cell.to_string()).or_insert(next)
    };
    cells.iter().map(|cell| cell.as_ref().map(&mut number)).collect()
}

impl TileRows {
    fn read(frame: &DataFrame, y: &str, value: &str) -> Result<Self, ReportError> {
        Ok(Self {
            y: select::cells(frame, y)?,
            y_is_numeric: select::is_numeric(select::column(frame, y)?),
            value: select::numbers(frame, value, "the color of tiles")?,
        })
    }
}
