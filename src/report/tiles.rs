//! From rows to tiles: the lattice that their places form, the mean in each cell, and the colors.

use crate::report::{
    domains::{Domains, ramp_over},
    error::ReportError,
    figures::{Aspect, AxisScale, FigureSpec, Layer},
    plot::{
        chart::Ramp,
        tiles::{Cells, Tiles},
    },
    rows::{Rows, TileRows},
    series::Counts,
};

/// The tiles of every layer that has any.
pub(crate) struct Maps {
    layers: Vec<Option<Map>>,
    /// The column that their colors show, and how.
    pub(crate) colors: Option<(String, Ramp)>,
    /// A step along one axis is as long as the same step along the other.
    pub(crate) square: bool,
    /// A remark on values that lie beyond the colors.
    pub(crate) beyond: Option<String>,
}

/// The tiles of one layer.
pub(crate) struct Map {
    /// The column that the colors show.
    pub(crate) column: String,
    /// Those of each panel; none in a panel without a value.
    pub(crate) panels: Vec<Option<Tiles>>,
    pub(crate) counts: Counts,
}

/// More cells than this along an axis are none that an eye tells apart.
const MOST_CELLS: usize = 4096;

impl Maps {
    /// Averages what shares a cell, and chooses one scale of colors for all.
    pub(crate) fn new(
        spec: &FigureSpec,
        layers: &[Layer<'_>],
        rows: &[Rows],
        domains: &Domains,
    ) -> Result<Self, ReportError> {
        let columns: Vec<&str> = layers.iter().filter_map(|layer| layer.value).collect();
        if let Some(other) = columns.iter().find(|column| **column != columns[0]) {
            return Err(ReportError::Incomplete(format!(
                "a figure has one continuous scale of colors, but its tiles show `{}` and `{other}`\n\
                 hint: draw them in figures of their own",
                columns[0]
            )));
        }
        let map = |(layer, rows): (&Layer<'_>, &Rows)| {
            let tiles = layer.value.zip(rows.tiles.as_ref());
            tiles.map(|(column, tiles)| map(column, layer, rows, tiles, domains)).transpose()
        };
        let mut maps = layers.iter().zip(rows).map(map).collect::<Result<Vec<_>, _>>()?;
        let cells = || maps.iter().flatten().flat_map(|map| map.panels.iter().flatten());
        let values: Vec<f64> =
            cells().flat_map(|tiles| tiles.places.iter().flatten()).copied().collect();
        let square = match spec.aspect {
            Some(aspect) => aspect == Aspect::Equal,
            None => !columns.is_empty() && are_square(spec, domains, cells()),
        };
        let range = spec.color_range.map(|[low, high]| (low, high));
        let beyond = range.and_then(|(low, high)| {
            let count = values.iter().filter(|value| !(low..=high).contains(*value)).count();
            let name = columns.first()?;
            (count > 0)
                .then(|| format!("{name}: {count} of {} cells lie beyond the colors", values.len()))
        });
        let ramp =
            ramp_over(values).unwrap_or(Ramp { low: 0.0, high: 1.0, log: false }).within(range);
        for place in maps.iter_mut().flatten().flat_map(Map::places_mut) {
            *place = ramp.place(*place).clamp(0.0, 1.0);
        }
        let colors = columns.first().map(|column| ((*column).to_owned(), ramp));
        Ok(Self { layers: maps, colors, square, beyond })
    }

    /// Takes the tiles of a layer, if it has any.
    pub(crate) fn take(&mut self, layer: usize) -> Option<Map> {
        self.layers[layer].take()
    }
}

impl Map {
    /// What is known of the cells of all panels.
    fn places_mut(&mut self) -> impl Iterator<Item = &mut f64> {
        self.panels.iter_mut().flatten().flat_map(|tiles| &mut tiles.places).flatten()
    }
}

/// Whether both axes are of numbers at the same distance, as the pixels of an image are.
fn are_square<'a>(
    spec: &FigureSpec,
    domains: &Domains,
    mut tiles: impl Iterator<Item = &'a Tiles>,
) -> bool {
    let linear = |scale: AxisScale| scale != AxisScale::Log;
    let step = |cells: &Cells| cells.edges[1] - cells.edges[0];
    linear(spec.x_scale)
        && linear(spec.y_scale)
        && domains.x.is_none()
        && domains.y_names().is_none()
        && tiles.all(|Tiles { x, y, .. }| {
            let several = x.len() > 1 && y.len() > 1;
            several && x.even && y.even && (step(x) / step(y) - 1.0).abs() < 1e-3
        })
}

/// The tiles of one layer, with values where places on the color bar will be.
fn map(
    column: &str,
    layer: &Layer<'_>,
    rows: &Rows,
    tiles: &TileRows,
    domains: &Domains,
) -> Result<Map, ReportError> {
    let mut counts = Counts::default();
    let (log_x, log_y) = domains.logs;
    let mut placed = Vec::new();
    for row in 0..tiles.value.len() {
        counts.total += 1;
        let x = rows.x[row].as_ref().and_then(|value| domains.x_place(value));
        let y = tiles.y[row].as_ref().and_then(|value| domains.y_place(value));
        let found = (x, y, tiles.value[row], rows.panels_of(row, domains));
        let (Some(x), Some(y), Some(value), Some(panels)) = found else {
            counts.missing += 1;
            continue;
        };
        if (log_x && x <= 0.0) || (log_y && y <= 0.0) {
            counts.not_positive += 1;
        } else {
            placed.push((x, y, value, panels));
        }
    }
    let along = |name: &str, names: Option<usize>, log: bool, values: Vec<f64>| match names {
        Some(count) => Ok(named(count)),
        None => lattice(name, values, log),
    };
    let x_names = domains.x.as_ref().map(|names| names.list.len());
    let x = along(layer.x, x_names, log_x, placed.iter().map(|row| row.0).collect())?;
    let y = along(layer.y, domains.y_names(), log_y, placed.iter().map(|row| row.1).collect())?;
    let mut sums = vec![vec![(0.0, 0usize); x.len() * y.len()]; domains.panels.list.len().max(1)];
    for (at_x, at_y, value, panels) in placed {
        let cell = y.index(at_y).zip(x.index(at_x)).map(|(row, column)| row * x.len() + column);
        let cell = cell.expect("the lattice was laid over these very values");
        for panel in &mut sums[panels] {
            panel[cell] = (panel[cell].0 + value, panel[cell].1 + 1);
        }
    }
    let known = |panel: &Vec<(f64, usize)>| {
        panel.iter().filter(|cell| cell.1 > 0).map(|cell| cell.1).collect()
    };
    let numbers: Vec<usize> =
        sums.iter().flat_map(|panel| -> Vec<usize> { known(panel) }).collect();
    counts.n = numbers.iter().copied().min().zip(numbers.iter().copied().max());
    let panels = sums.into_iter().map(|panel| {
        let mean = |(sum, n): &(f64, usize)| (*n > 0).then(|| sum / *n as f64);
        let places: Vec<Option<f64>> = panel.iter().map(mean).collect();
        let some = places.iter().any(Option::is_some);
        some.then(|| Tiles { x: x.clone(), y: y.clone(), places })
    });
    Ok(Map { column: column.to_owned(), panels: panels.collect(), counts })
}

/// Cells about names, which stand at whole numbers from 0.
fn named(count: usize) -> Cells {
    let edges = (0..=count).map(|edge| edge as f64 - 0.5).collect();
    Cells { edges, even: true, whole: true }
}

/// Finds the cells of which values are the middles.
///
/// Values that are whole multiples of the smallest distance apart, and fill half of these places at least, are a
/// lattice, in which some places may be empty. Others have their edges halfway between neighbors. A logarithmic axis is
/// looked at by its powers of ten.
fn lattice(name: &str, values: Vec<f64>, log: bool) -> Result<Cells, ReportError> {
    let whole = values.iter().all(|value| value.fract() == 0.0);
    let mut places: Vec<f64> =
        values.into_iter().map(|value| if log { libm::log10(value) } else { value }).collect();
    places.sort_by(f64::total_cmp);
    let range = places.last().unwrap_or(&0.0) - places.first().unwrap_or(&0.0);
    // The same number computed in two ways is one place.
    places.dedup_by(|after, before| *after - *before <= 1e-9 * range);
    if places.len() > MOST_CELLS {
        return Err(ReportError::Incomplete(format!(
            "`{name}` has {} values, but tiles are at most {MOST_CELLS} along an axis\n\
             hint: choose some with `where`, round them, or draw them with `mark = \"scatter\"`",
            places.len()
        )));
    }
    let (edges, even) = match regular(&places, range) {
        Some((step, count)) => {
            let edge = |i: usize| places[0] + (i as f64 - 0.5) * step;
            ((0..=count).map(edge).collect(), true)
        }
        None => (halfway(&places), places.len() < 2),
    };
    let edges: Vec<f64> = edges;
    let edges = edges.into_iter().map(|edge| if log { libm::pow(10.0, edge) } else { edge });
    Ok(Cells { edges: edges.collect(), even, whole: whole && !log })
}

/// Finds the step of a lattice and how many places it has, if values form one.
fn regular(places: &[f64], range: f64) -> Option<(f64, usize)> {
    let smallest = places.windows(2).map(|pair| pair[1] - pair[0]).reduce(f64::min)?;
    let steps = (range / smallest).round();
    let step = range / steps;
    let is_multiple = |place: &f64| {
        let at = (place - places[0]) / step;
        (at - at.round()).abs() < 0.02
    };
    let sparse = steps + 1.0 > 2.0 * places.len() as f64;
    let fits = !sparse && steps < MOST_CELLS as f64 && places.iter().all(is_multiple);
    fits.then_some((step, steps as usize + 1))
}

/// Puts edges halfway between neighbors, and the outer ones as far beyond.
fn halfway(places: &[f64]) -> Vec<f64> {
    match places {
        [] => Vec::new(),
        [only] => vec![only - 0.5, only + 0.5],
        [first, second, ..] => {
            let [before, last] = [places[places.len() - 2], places[places.len() - 1]];
            let between = places.windows(2).map(|pair| f64::midpoint(pair[0], pair[1]));
            let start = first - (second - first) / 2.0;
            std::iter::once(start).chain(between).chain([last + (last - before) / 2.0]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use polars::df;

    use super::*;
    use crate::report::{plot::chart::Chart, results::Results, series};

    fn cells(values: &[f64], log: bool) -> (Vec<f64>, bool) {
        let Cells { edges, even, .. } = lattice("a", values.to_vec(), log).unwrap();
        (edges, even)
    }

    #[test]
    fn lattices_are_found_with_their_gaps() {
        assert_eq!(cells(&[0.0, 1.0, 3.0], false), (vec![-0.5, 0.5, 1.5, 2.5, 3.5], true));
        // 0.1 + 0.2 is not 0.3.
        let (edges, even) = cells(&[0.1, 0.2, 0.3, 0.1 + 0.2], false);
        assert!(even && edges.len() == 4 && (edges[3] - 0.35).abs() < 1e-12, "{edges:?}");
        assert_eq!(cells(&[1.0, 2.0, 4.0, 8.0, 16.0], false).0, [0.5, 1.5, 3.0, 6.0, 12.0, 20.0]);
        let (edges, even) = cells(&[1.0, 10.0, 100.0], true);
        assert!(even && (edges[0] / libm::sqrt(0.1) - 1.0).abs() < 1e-12, "{edges:?}");
        assert_eq!(cells(&[7.0], false), (vec![6.5, 7.5], true));
        let many = (0..5000).map(|i| f64::from(i) * 1.5).collect();
        let message = lattice("time", many, false).unwrap_err().to_string();
        assert!(message.contains("`time` has 5000 values"), "{message}");
    }

    fn frames() -> BTreeMap<String, Results> {
        let frames = df!(
            "frame" => [0i64, 0, 0, 0, 1, 1, 1],
            "x" => [0.0, 0.5, 0.0, 0.5, 0.0, 0.5, 0.5],
            "y" => [1.0, 1.0, 1.5, 1.5, 1.0, 1.5, 1.5],
            "name" => ["a", "b", "a", "b", "a", "b", "b"],
            "v" => [Some(0.0), Some(1.0), Some(2.0), None, Some(4.0), Some(2.0), Some(4.0)],
        );
        BTreeMap::from([("s".to_owned(), frames.unwrap().into())])
    }

    fn build(toml: &str) -> Result<(Chart, Vec<String>), ReportError> {
        let text = format!("from = 's'\nmark = 'tile'\n{toml}");
        series::chart(&toml::from_str(&text).unwrap(), &frames())
    }

    #[test]
    fn cells_are_means_colored_on_one_scale() {
        let (chart, notes) = build("x = 'x'\ny = 'y'\ncolor = 'v'\npanel = 'frame'").unwrap();
        let places: Vec<_> = chart.panels.iter().map(|p| p.tiles[0].places.clone()).collect();
        assert_eq!(places[0], [Some(0.0), Some(0.25), Some(0.5), None]);
        assert_eq!(places[1], [Some(1.0), None, None, Some(0.75)]);
        let bar = chart.color_bar.as_ref().unwrap();
        assert_eq!((bar.title.as_str(), bar.ramp.low, bar.ramp.high), ("v", 0.0, 4.0));
        assert!(chart.square && chart.legend.is_empty());
        assert_eq!(notes, ["v: mean over rows, n = 1 to 2", "v: 1 of 7 values missing"]);
        let svg = chart.draw().unwrap().svg("tiles");
        assert_eq!(svg.matches("<image ").count(), 2);
    }

    #[test]
    fn names_stand_on_either_axis_the_first_above() {
        let (chart, _) = build("x = 'frame'\ny = 'name'\ncolor = 'v'").unwrap();
        let tiles = &chart.panels[0].tiles[0];
        // The mean of each name in each frame: `b` below, then `a`.
        assert_eq!(tiles.places, [Some(0.0), Some(2.0 / 3.0), Some(0.0), Some(1.0)]);
        assert!(!chart.square);
        let (chart, _) = build("x = 'name'\ny = 'y'\ncolor = 'v'").unwrap();
        assert_eq!(chart.panels[0].tiles[0].x.edges, [-0.5, 0.5, 1.5]);
    }

    #[test]
    fn colors_may_be_given_a_range() {
        let more = "x = 'x'\ny = 'y'\ncolor = 'v'\npanel = 'frame'\ncolor_range = [1, 2]";
        let (chart, notes) = build(more).unwrap();
        assert_eq!(chart.panels[0].tiles[0].places[0], Some(0.0));
        assert!(notes.contains(&"v: 3 of 5 cells lie beyond the colors".to_owned()), "{notes:?}");
    }

    #[test]
    fn other_marks_lie_over_tiles() {
        let more = "x = 'x'\ny = 'y'\ncolor = 'v'\nlayers = [{ from = 's', mark = 'scatter' }]";
        let (chart, _) = build(more).unwrap();
        let panel = &chart.panels[0];
        assert_eq!((panel.tiles.len(), panel.series.len()), (1, 1));
        let error = |toml: &str| build(toml).map(drop).unwrap_err().to_string();
        let names = "x = 'x'\ny = 'name'\ncolor = 'v'\n\
                     layers = [{ from = 's', mark = 'scatter', y = 'y' }]";
        assert!(error(names).contains("on which `y` of `s` has no place"));
        let two = "x = 'x'\ny = 'y'\ncolor = 'v'\nlayers = [{ from = 's', color = 'frame' }]";
        assert!(error(two).contains("its tiles show `v` and `frame`"));
        let text = "x = 'x'\ny = 'y'\ncolor = 'name'";
        assert!(error(text).contains("`name` holds text, but the color of tiles needs numbers"));
        assert!(error("x = 'x'\ny = 'yy'\ncolor = 'v'").contains("did you mean `y`?"));
    }
}
