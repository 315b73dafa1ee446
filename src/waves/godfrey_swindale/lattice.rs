//! The hexagonal lattice of cells: where they lie, how they are coupled, and which pixel shows which.

use std::f64::consts::PI;
use std::ops::Range;

use super::parameters::{GodfreySwindale, Sampling};

/// Rows of cells, every other shifted by half a spacing to the right, over a square and its rim.
pub(super) struct Lattice {
    pub(super) rows: usize,
    pub(super) columns: usize,
    spacing: f64,
    /// The distance of the first cell from the square, in both directions.
    margin: f64,
    /// The couplings of a cell in a row with an even number, and in one with an odd number.
    couplings: [Vec<Coupling>; 2],
}

/// The couplings to neighboring cells of one row.
struct Coupling {
    /// Of that row, from the cell's own.
    row: isize,
    /// Of the first cell in it, from the cell's own.
    column: isize,
    /// To the cells from there on.
    weights: Vec<f64>,
}

impl Lattice {
    pub(super) fn new(model: &GodfreySwindale) -> Self {
        let GodfreySwindale { spacing, margin, .. } = *model;
        let side = model.length + 2.0 * margin;
        // A side that is a whole number of spacings up to rounding holds a cell at each end.
        let count = |distance: f64| (side / distance + 1e-9) as usize + 1;
        let radius = model.constants().dendrite_radius;
        Self {
            rows: count(spacing * row_height()),
            columns: count(spacing),
            spacing,
            margin,
            couplings: [0, 1]
                .map(|parity| couplings(parity, spacing, radius, model.rings as isize)),
        }
    }

    pub(super) fn cells(&self) -> usize {
        self.rows * self.columns
    }

    /// Adds the output of a firing cell to the input of those that it is coupled to.
    pub(super) fn excite(&self, cell: usize, input: &mut [f64]) {
        let (row, column) = (cell / self.columns, cell % self.columns);
        for coupling in &self.couplings[row % 2] {
            let Some(row) = row.checked_add_signed(coupling.row).filter(|row| *row < self.rows)
            else {
                continue;
            };
            let first = column as isize + coupling.column;
            let skipped = (-first).max(0) as usize;
            let from = first.max(0) as usize;
            let weights = coupling.weights.get(skipped..).unwrap_or_default();
            let inputs = input[row * self.columns..][..self.columns].get_mut(from..);
            for (input, weight) in inputs.unwrap_or_default().iter_mut().zip(weights) {
                *input += weight;
            }
        }
    }

    /// The sum of the couplings of each cell, over that of the cell with the most; 1 for a cell alone.
    pub(super) fn strengths(&self) -> Vec<f64> {
        let mut strengths = vec![0.0; self.cells()];
        // Couplings are mutual: what a cell gives all others is what they would give it.
        (0..self.cells()).for_each(|cell| self.excite(cell, &mut strengths));
        let most = strengths.iter().copied().fold(0.0, f64::max);
        strengths
            .into_iter()
            .map(|strength| if most > 0.0 { strength / most } else { 1.0 })
            .collect()
    }

    /// Where a cell lies in the square of the movie, in mm: to the right and down from its upper left corner.
    pub(super) fn position(&self, cell: usize) -> [f64; 2] {
        let (row, column) = (cell / self.columns, cell % self.columns);
        let shift = if row % 2 == 1 { 0.5 } else { 0.0 };
        [
            (column as f64 + shift) * self.spacing - self.margin,
            row as f64 * self.spacing * row_height() - self.margin,
        ]
    }

    /// The cell nearest to a point of the square; of several, the first.
    pub(super) fn nearest(&self, [x, y]: [f64; 2]) -> usize {
        let middle = ((y + self.margin) / (self.spacing * row_height())).round() as usize;
        let column = ((x + self.margin) / self.spacing).round() as usize;
        let around = |middle: usize, count: usize| -> Range<usize> {
            middle.saturating_sub(1).min(count - 1)..(middle + 2).min(count)
        };
        let columns = around(column, self.columns);
        let candidates = around(middle, self.rows)
            .flat_map(|row| columns.clone().map(move |column| row * self.columns + column));
        let distance = |&cell: &usize| {
            let at = self.position(cell);
            (at[0] - x).powi(2) + (at[1] - y).powi(2)
        };
        candidates
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .expect("a lattice has a row and a column")
    }

    /// The cells that each of `size` x `size` pixels shows, pixels row by row.
    pub(super) fn pixels(&self, size: usize, length: f64, sampling: Sampling) -> Vec<Vec<usize>> {
        let pitch = length / size as f64;
        let center = |k: usize| (k as f64 + 0.5) * pitch;
        let mut pixels = vec![Vec::new(); size * size];
        if sampling == Sampling::Mean {
            for cell in 0..self.cells() {
                let [x, y] = self.position(cell).map(|along| (along / pitch).floor());
                let inside = 0.0..size as f64;
                if inside.contains(&x) && inside.contains(&y) {
                    pixels[y as usize * size + x as usize].push(cell);
                }
            }
        }
        for (index, cells) in pixels.iter_mut().enumerate() {
            if cells.is_empty() {
                cells.push(self.nearest([center(index % size), center(index / size)]));
            }
        }
        pixels
    }
}

/// Distance between rows over the spacing.
fn row_height() -> f64 {
    3f64.sqrt() / 2.0
}

/// Lists a cell's couplings, row by row from above; a cell is not coupled to itself.
fn couplings(parity: isize, spacing: f64, radius: f64, rings: isize) -> Vec<Coupling> {
    let weight = |row: isize, column: isize| {
        // Rows of the other parity lie half a spacing to the right, or to the left.
        let shift = if row % 2 == 0 { 0.0 } else { 0.5 - parity as f64 };
        let (x, y) = (column as f64 + shift, row as f64 * row_height());
        let distance = spacing * (x * x + y * y).sqrt();
        if ring(parity, row, column) > rings { 0.0 } else { overlap(distance / radius) }
    };
    let coupling = |row: isize| {
        let near: Vec<isize> =
            (-rings - 1..=rings + 1).filter(|column| weight(row, *column) > 0.0).collect();
        let (first, last) = (*near.first()?, *near.last()?);
        let weights = (first..=last)
            .map(|column| if (row, column) == (0, 0) { 0.0 } else { weight(row, column) });
        Some(Coupling { row, column: first, weights: weights.collect() })
    };
    (-rings..=rings).filter_map(coupling).collect()
}

/// The ring around a cell in which another lies: how many steps between neighbors lead there.
fn ring(parity: isize, row: isize, column: isize) -> isize {
    // Along a slanted axis, each row down goes half a spacing to the right.
    let slanted = column - (row + parity).div_euclid(2);
    (row.abs() + slanted.abs() + (row + slanted).abs()) / 2
}

/// The share of a disc that an equal one covers whose center lies `distance` radii away (a lens of two circular segments).
pub(super) fn overlap(distance: f64) -> f64 {
    if distance >= 2.0 {
        return 0.0;
    }
    let half = distance / 2.0;
    2.0 / PI * (libm::acos(half) - half * (1.0 - half * half).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lattice(model: &GodfreySwindale) -> Lattice {
        Lattice::new(model)
    }

    #[test]
    fn the_overlap_of_discs_is_the_area_of_a_lens() {
        assert_eq!([overlap(0.0), overlap(2.0), overlap(7.0)], [1.0, 0.0, 0.0]);
        // Discs through each other's center share 2/3 - sqrt(3)/(2 pi).
        assert!((overlap(1.0) - (2.0 / 3.0 - 3f64.sqrt() / (2.0 * PI))).abs() < 1e-15);
        // At each height, the chord of one disc is cut by half the distance: Simpson's rule over the segment.
        for distance in [0.3, 0.8, 1.9] {
            let (low, steps) = (distance / 2.0, 20_000);
            let h = (1.0 - low) / f64::from(steps);
            // Substituting x = 1 - (1 - low) u^2 removes the root at the rim.
            let area: f64 = (0..=steps)
                .map(|k| {
                    let u = f64::from(k) / f64::from(steps);
                    let x = 1.0 - (1.0 - low) * u * u;
                    let weight =
                        if k == 0 || k == steps { 1.0 } else { f64::from(2 + 2 * (k % 2)) };
                    weight * 2.0 * (1.0 - x * x).max(0.0).sqrt() * 2.0 * u
                })
                .sum::<f64>()
                * h
                / 3.0;
            assert!((2.0 * area / PI - overlap(distance)).abs() < 1e-9, "{distance}");
        }
    }

    #[test]
    fn a_cell_in_the_middle_has_the_neighbors_of_a_hexagonal_lattice() {
        let lattice = lattice(&GodfreySwindale::default());
        for row in [30, 31] {
            let cell = row * lattice.columns + 30;
            let mut input = vec![0.0; lattice.cells()];
            lattice.excite(cell, &mut input);
            let at = lattice.position(cell);
            for (other, &input) in input.iter().enumerate() {
                let to = lattice.position(other);
                let distance = ((to[0] - at[0]).powi(2) + (to[1] - at[1]).powi(2)).sqrt();
                let expected = if other == cell { 0.0 } else { overlap(distance / 0.085) };
                assert!((input - expected).abs() < 1e-12, "{to:?}");
            }
            // Of the 90 cells in 5 rings, the 6 corners lie just two radii away.
            assert_eq!(input.iter().filter(|input| **input > 1e-9).count(), 84);
        }
    }

    #[test]
    fn rings_end_the_coupling_of_wide_dendrites() {
        let model = GodfreySwindale { dendrite_radius: Some(0.17), ..GodfreySwindale::default() };
        for (rings, count) in [(1, 6), (2, 18), (5, 90)] {
            let lattice = lattice(&GodfreySwindale { rings, ..model.clone() });
            for row in [30, 31] {
                let mut input = vec![0.0; lattice.cells()];
                lattice.excite(row * lattice.columns + 30, &mut input);
                assert_eq!(input.iter().filter(|input| **input > 0.0).count(), count);
            }
        }
    }

    #[test]
    fn cells_at_the_edge_are_weaker() {
        let lattice = lattice(&GodfreySwindale::default());
        let strengths = lattice.strengths();
        let at = |row: usize, column: usize| strengths[row * lattice.columns + column];
        assert!((at(30, 30) - 1.0).abs() < 1e-12 && (at(31, 30) - 1.0).abs() < 1e-12);
        assert!((0.45..0.65).contains(&at(0, 30)) && (0.2..0.4).contains(&at(0, 0)));
    }

    #[test]
    fn each_pixel_shows_the_nearest_cell_or_the_mean() {
        let model = GodfreySwindale { length: 0.5, margin: 0.1, ..GodfreySwindale::default() };
        let lattice = lattice(&model);
        for size in [4, 16, 40] {
            let pitch = 0.5 / size as f64;
            let nearest = lattice.pixels(size, 0.5, Sampling::Nearest);
            let mean = lattice.pixels(size, 0.5, Sampling::Mean);
            for (index, (one, some)) in nearest.iter().zip(&mean).enumerate() {
                let center = [index % size, index / size].map(|k| (k as f64 + 0.5) * pitch);
                let distance = |&cell: &usize| {
                    let at = lattice.position(cell);
                    (at[0] - center[0]).powi(2) + (at[1] - center[1]).powi(2)
                };
                let closest = (0..lattice.cells()).map(|cell| distance(&cell)).fold(1.0, f64::min);
                assert_eq!((one.len(), distance(&one[0])), (1, closest));
                let inside = |cell: &usize| {
                    let at = lattice.position(*cell);
                    (0..2).all(|k| (at[k] - center[k]).abs() <= pitch / 2.0 + 1e-12)
                };
                assert!(some.iter().all(inside) || some == one);
            }
            let shown: usize = mean.iter().map(Vec::len).sum();
            if size == 4 {
                // A cell for each area of spacing^2 sqrt(3)/2.
                let expected = 0.25 / (0.034f64.powi(2) * 3f64.sqrt() / 2.0);
                assert!((shown as f64 / expected - 1.0).abs() < 0.08, "{shown} {expected}");
            }
        }
    }
}
