//! The order of cells in memory.

use std::ops::Range;

/// Columns of a panel, and rows of a band of the sweep along rows.
pub(super) const WIDTH: usize = 16;

/// A square lattice cut into panels of 16 columns (the last may have fewer), one after another, each row by row.
///
/// The cells of a panel lie together, so that a sweep along columns, the reaction and a thread each take a panel at
/// a time. Up to 16 cells a side this is the row-major order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) size: usize,
}

impl Layout {
    /// Number of panels, and of bands.
    pub(super) fn panels(self) -> usize {
        self.size.div_ceil(WIDTH)
    }

    /// Columns of panel `index`, or rows of band `index`.
    pub(super) fn width(self, index: usize) -> usize {
        WIDTH.min(self.size - index * WIDTH)
    }

    /// Where the cells of a row lie, from left to right: a range a panel.
    pub(super) fn row(self, row: usize) -> impl Iterator<Item = Range<usize>> {
        (0..self.panels()).map(move |panel| {
            let width = self.width(panel);
            let start = panel * WIDTH * self.size + row * width;
            start..start + width
        })
    }

    /// Where a cell lies.
    pub(super) fn place(self, row: usize, column: usize) -> usize {
        let panel = column / WIDTH;
        panel * WIDTH * self.size + row * self.width(panel) + column % WIDTH
    }

    /// Row and column of the cell at a place.
    pub(super) fn cell(self, place: usize) -> (usize, usize) {
        let panel = place / (WIDTH * self.size);
        let within = place - panel * WIDTH * self.size;
        let width = self.width(panel);
        (within / width, panel * WIDTH + within % width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cell_has_a_place_of_its_own() {
        for size in [2, 15, 16, 17, 32, 45] {
            let layout = Layout { size };
            let mut taken = vec![false; size * size];
            for row in 0..size {
                let places: Vec<usize> = layout.row(row).flatten().collect();
                assert_eq!(places.len(), size);
                for (column, &place) in places.iter().enumerate() {
                    assert!(!std::mem::replace(&mut taken[place], true));
                    assert_eq!(layout.place(row, column), place);
                    assert_eq!(layout.cell(place), (row, column));
                }
            }
            assert!(taken.into_iter().all(|taken| taken));
        }
        assert!((0..100).all(|place| Layout { size: 10 }.cell(place) == (place / 10, place % 10)));
    }
}
