//! Square pixels over points in the plane, such as the units of an electrode array.

use std::ops::RangeInclusive;

/// The rectangle that is looked at, in the unit of the points.
#[derive(Clone, Debug, PartialEq)]
pub struct Extent {
    /// From left to right.
    pub x: RangeInclusive<f64>,
    /// From the first row to the last.
    pub y: RangeInclusive<f64>,
}

/// How fine the pixels are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resolution {
    /// So many pixels along each side of a square that the extent fits in.
    Size(usize),
    /// Pixels of this side, as many as the extent needs.
    Pitch(f64),
}

/// Square pixels in rows; row 0 has the smallest y.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Smallest x of the first column.
    pub left: f64,
    /// Smallest y of the first row.
    pub top: f64,
    /// Side of a pixel.
    pub pitch: f64,
    /// Pixels in a row.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

impl Extent {
    /// Covers points and half their spacing around them, so that electrodes on a lattice stand in the middles of squares.
    ///
    /// The spacing is the smallest distance between two coordinates, along either axis. None without points.
    pub fn around(points: &[(f64, f64)]) -> Option<Self> {
        let [x, y] = [sorted(points.iter().map(|p| p.0)), sorted(points.iter().map(|p| p.1))];
        let steps = |values: &[f64]| {
            values.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min)
        };
        let spacing = steps(&x).min(steps(&y));
        let half = if spacing.is_finite() { spacing / 2.0 } else { 0.0 };
        let ends = |values: &[f64]| Some(values.first()? - half..=values.last()? + half);
        Some(Self { x: ends(&x)?, y: ends(&y)? })
    }
}

impl Grid {
    /// Lays pixels over an extent, centered on it; none where the pixels would have no size.
    pub fn over(extent: &Extent, resolution: Resolution) -> Option<Self> {
        let [wide, high] = [&extent.x, &extent.y].map(|range| range.end() - range.start());
        let (pitch, width, height) = match resolution {
            Resolution::Size(size) => (wide.max(high) / size as f64, size, size),
            Resolution::Pitch(pitch) => {
                // A quotient that is whole but for rounding needs no further pixel.
                let needed = |length: f64| libm::ceil(length / pitch - 1e-9).max(1.0) as usize;
                (pitch, needed(wide), needed(high))
            }
        };
        let first = |range: &RangeInclusive<f64>, count: usize| {
            f64::midpoint(*range.start(), *range.end()) - pitch * count as f64 / 2.0
        };
        let (left, top) = (first(&extent.x, width), first(&extent.y, height));
        (pitch > 0.0 && pitch.is_finite()).then_some(Self { left, top, pitch, width, height })
    }

    /// Returns the pixel of a point, row by row; none outside. The last edges belong to the last pixels.
    pub fn pixel(&self, (x, y): (f64, f64)) -> Option<usize> {
        let place = |value: f64, first: f64, count: usize| {
            let place = (value - first) / self.pitch;
            // Half a billionth of a pixel for the rounding of edges.
            let inside = (-1e-9..=count as f64 + 1e-9).contains(&place);
            inside.then(|| (place.max(0.0) as usize).min(count - 1))
        };
        let column = place(x, self.left, self.width)?;
        Some(place(y, self.top, self.height)? * self.width + column)
    }

    /// Number of pixels.
    pub fn area(&self) -> usize {
        self.width.saturating_mul(self.height)
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Electrodes 42 apart, as many along each side.
    fn array(side: usize) -> Vec<(f64, f64)> {
        let at = |i: usize| 42.0 * i as f64;
        (0..side * side).map(|i| (at(i % side), at(i / side))).collect()
    }

    #[test]
    fn an_electrode_array_fills_its_pixels_evenly() {
        let extent = Extent::around(&array(64)).unwrap();
        assert_eq!(extent, Extent { x: -21.0..=2667.0, y: -21.0..=2667.0 });
        for resolution in [Resolution::Size(32), Resolution::Pitch(84.0)] {
            let grid = Grid::over(&extent, resolution).unwrap();
            assert_eq!((grid.pitch, grid.width, grid.height), (84.0, 32, 32));
            let mut units = vec![0; grid.area()];
            for point in array(64) {
                units[grid.pixel(point).unwrap()] += 1;
            }
            assert!(units.iter().all(|units| *units == 4));
            assert_eq!(grid.pixel((42.0, 84.0)), Some(32));
            assert_eq!(grid.pixel((2667.0, 2667.0)), Some(1023));
            assert_eq!(grid.pixel((2668.0, 0.0)), None);
        }
    }

    #[test]
    fn what_is_not_square_is_centered() {
        let extent = Extent { x: 0.0..=100.0, y: 0.0..=50.0 };
        let square = Grid::over(&extent, Resolution::Size(10)).unwrap();
        assert_eq!((square.left, square.top, square.pitch), (0.0, -25.0, 10.0));
        let oblong = Grid::over(&extent, Resolution::Pitch(15.0)).unwrap();
        assert_eq!((oblong.width, oblong.height), (7, 4));
        assert_eq!((oblong.left, oblong.top), (-2.5, -5.0));
    }

    #[test]
    fn a_point_has_no_extent() {
        assert_eq!(Extent::around(&[]), None);
        let point = Extent::around(&[(3.0, 4.0), (3.0, 4.0)]).unwrap();
        assert_eq!(Grid::over(&point, Resolution::Size(4)), None);
        let grid = Grid::over(&point, Resolution::Pitch(2.0)).unwrap();
        assert_eq!((grid.pixel((3.0, 4.0)), grid.area()), (Some(0), 1));
    }
}
