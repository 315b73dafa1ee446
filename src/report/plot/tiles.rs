//! Tiles: a cell of color at each place of a lattice.

use crate::colormap;
use crate::report::plot::{
    canvas::Canvas,
    image::{EMPTY, Image},
    layout::Frame,
    scale::Scale,
};

/// Cells of color over both axes.
#[derive(Clone, Debug, Default)]
pub struct Tiles {
    pub x: Cells,
    pub y: Cells,
    /// The place of each cell on the color bar, from 0 to 1, row by row in order of y; none where nothing is known.
    pub places: Vec<Option<f64>>,
}

/// The cells along one axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cells {
    /// Where cells begin and end on the axis, ascending: one more than there are cells.
    pub edges: Vec<f64>,
    /// All are of one width on the axis as it is drawn.
    pub even: bool,
    /// The values in the middles of cells are whole numbers.
    pub whole: bool,
}

/// Pixels of a picture to a CSS pixel where cells differ in width: as fine as a figure's PNG.
const FINE: f64 = 3.0;

impl Cells {
    /// Number of cells.
    pub fn len(&self) -> usize {
        self.edges.len().saturating_sub(1)
    }

    /// Whether there are no cells.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the cell of a value; none outside.
    pub fn index(&self, value: f64) -> Option<usize> {
        let after = self.edges.partition_point(|edge| *edge <= value);
        (after > 0 && after <= self.len()).then(|| after - 1)
    }
}

/// Draws tiles into their panel.
pub fn draw(canvas: &mut Canvas, tiles: &Tiles, frame: &Frame, (x, y): &(Scale, Scale)) {
    let columns = Strip::of(&tiles.x, |edge| frame.x(x.place(edge)));
    let rows = Strip::of(&tiles.y, |edge| frame.y(y.place(edge)));
    let level = |row: &usize, column: &usize| {
        tiles.places[row * tiles.x.len() + column].map_or(EMPTY, colormap::level)
    };
    let of_row = |row| columns.cells.iter().map(move |column| level(row, column));
    canvas.image(Image {
        left: columns.start,
        top: rows.start,
        width: columns.length,
        height: rows.length,
        columns: columns.cells.len(),
        levels: rows.cells.iter().flat_map(of_row).collect(),
    });
}

/// The pixels of a picture along one side.
struct Strip {
    start: f64,
    length: f64,
    /// The cell that each pixel shows.
    cells: Vec<usize>,
}

impl Strip {
    /// A pixel for each cell, or many where cells differ in width.
    fn of(cells: &Cells, position: impl Fn(f64) -> f64) -> Self {
        let edges: Vec<f64> = cells.edges.iter().map(|edge| position(*edge)).collect();
        let [start, end] = [f64::min, f64::max]
            .map(|choose| edges.iter().copied().reduce(choose).unwrap_or_default());
        let length = end - start;
        let backward = edges.first() > edges.last();
        let count = if cells.even { cells.len() } else { libm::ceil(length * FINE) as usize };
        let cell = |pixel: usize| {
            let at = start + (pixel as f64 + 0.5) / count as f64 * length;
            let before = if backward {
                edges.partition_point(|edge| *edge > at)
            } else {
                edges.partition_point(|edge| *edge <= at)
            };
            before.clamp(1, cells.len()) - 1
        };
        Self { start, length, cells: (0..count).map(cell).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(edges: &[f64], even: bool) -> Cells {
        Cells { edges: edges.to_vec(), even, whole: false }
    }

    #[test]
    fn values_lie_in_cells() {
        let cells = cells(&[0.0, 1.0, 3.0], false);
        let found = [-0.1, 0.0, 0.9, 1.0, 2.9, 3.0].map(|value| cells.index(value));
        assert_eq!(found, [None, Some(0), Some(0), Some(1), Some(1), None]);
    }

    #[test]
    fn even_cells_are_pixels_and_others_are_many() {
        let even = Strip::of(&cells(&[0.0, 1.0, 2.0], true), |edge| 5.0 + 10.0 * edge);
        assert_eq!((even.start, even.length, even.cells), (5.0, 20.0, vec![0, 1]));
        let upward = Strip::of(&cells(&[0.0, 1.0, 2.0], true), |edge| 50.0 - 10.0 * edge);
        assert_eq!((upward.start, upward.length, upward.cells), (30.0, 20.0, vec![1, 0]));
        let uneven = Strip::of(&cells(&[0.0, 1.0, 3.0], false), |edge| edge);
        assert_eq!(uneven.cells, [0, 0, 0, 1, 1, 1, 1, 1, 1]);
    }
}
