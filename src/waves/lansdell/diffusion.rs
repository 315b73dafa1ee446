//! Diffusion on a square lattice with reflecting borders.

use super::layout::{Layout, WIDTH};

/// Crank–Nicolson steps of the diffusion equation, split into a sweep along each axis.
///
/// Along one axis `T` is the second difference times `D dt / 2h²`, its border rows mirrored (`-2, 2`), which makes the flux
/// through the border vanish. A sweep is `(I - T)⁻¹ (I + T) = 2 (I - T)⁻¹ - I`, so one tridiagonal solve does it. The
/// solve is serial along a line; 16 lines are solved side by side.
#[derive(Clone, Debug)]
pub(super) struct Diffusion {
    layout: Layout,
    /// Per row: the multiplier of the row itself and of the row before in the forward elimination, and of the row
    /// after in the back substitution.
    factor: Vec<[f64; 3]>,
}

impl Diffusion {
    /// Factors the system for `size` x `size` cells (at least 2) at distance `spacing`, in consistent units.
    pub(super) fn new(size: usize, spacing: f64, coefficient: f64, dt: f64) -> Self {
        let number = coefficient * dt / (2.0 * spacing * spacing);
        let mut factor: Vec<[f64; 3]> = Vec::with_capacity(size);
        for row in 0..size {
            let before = if row == size - 1 { -2.0 * number } else { -number };
            let after = if row == 0 { -2.0 * number } else { -number };
            let eliminated = factor.last().map_or(0.0, |last| before * last[2]);
            let inverse = 1.0 / (1.0 + 2.0 * number - eliminated);
            factor.push([inverse, before * inverse, after * inverse]);
        }
        Self { layout: Layout { size }, factor }
    }

    /// Sweeps the 16 rows of a band along x; yields them column by column, for [`Diffusion::along_columns`].
    #[inline(always)]
    pub(super) fn along_rows(
        &self,
        band: usize,
        field: &[f64],
        swept: &mut [f64],
        scratch: &mut [f64],
    ) {
        let (size, height) = (self.layout.size, self.layout.width(band));
        for panel in 0..self.layout.panels() {
            let width = self.layout.width(panel);
            let rows = &field[panel * WIDTH * size + band * WIDTH * width..][..height * width];
            let columns = &mut swept[panel * WIDTH * height..][..width * height];
            transpose(height, width, rows, columns);
        }
        sweep(height, &self.factor, swept, scratch);
    }

    /// Takes the columns of a panel from all bands and sweeps them along y.
    #[inline(always)]
    pub(super) fn along_columns(
        &self,
        panel: usize,
        swept: &[f64],
        field: &mut [f64],
        scratch: &mut [f64],
    ) {
        let (size, width) = (self.layout.size, self.layout.width(panel));
        for band in 0..self.layout.panels() {
            let height = self.layout.width(band);
            let columns = &swept[band * WIDTH * size + panel * WIDTH * height..][..width * height];
            let rows = &mut field[band * WIDTH * width..][..height * width];
            transpose(width, height, columns, rows);
        }
        sweep(width, &self.factor, field, scratch);
    }
}

/// Diffuses between the rows of a field of at most 16 columns; all columns advance together.
#[inline(always)]
fn sweep(width: usize, factor: &[[f64; 3]], field: &mut [f64], scratch: &mut [f64]) {
    let mut last = [0.0; WIDTH];
    let mut next = [0.0; WIDTH];
    if width == WIDTH {
        let (field, scratch) = (field.as_chunks_mut().0, scratch.as_chunks_mut().0);
        for ((row, values), factor) in scratch.iter_mut().zip(&*field).zip(factor) {
            *row = eliminated(&mut last, values, factor);
        }
        for ((row, values), factor) in scratch.iter().zip(field).zip(factor).rev() {
            *values = substituted(&mut next, row, values, factor);
        }
    } else {
        let rows = scratch.chunks_exact_mut(width).zip(field.chunks_exact(width)).zip(factor);
        for ((row, values), factor) in rows {
            row.copy_from_slice(&eliminated(&mut last, &filled(values), factor)[..width]);
        }
        let rows = scratch.chunks_exact(width).zip(field.chunks_exact_mut(width)).zip(factor);
        for ((row, values), factor) in rows.rev() {
            let found = substituted(&mut next, &filled(row), &filled(values), factor);
            values.copy_from_slice(&found[..width]);
        }
    }
}

type Row = [f64; WIDTH];

/// Eliminates the row before, whose result is `last`.
#[inline(always)]
fn eliminated(last: &mut Row, values: &Row, &[own, before, _]: &[f64; 3]) -> Row {
    for (last, &value) in last.iter_mut().zip(values) {
        *last = own * value - before * *last;
    }
    *last
}

/// Substitutes the solution of the row after, which is `next`; yields what becomes of the values.
#[inline(always)]
fn substituted(next: &mut Row, row: &Row, values: &Row, &[_, _, after]: &[f64; 3]) -> Row {
    for (next, &x) in next.iter_mut().zip(row) {
        *next = x - after * *next;
    }
    std::array::from_fn(|i| 2.0 * next[i] - values[i])
}

/// Fills up a row with zeros.
#[inline(always)]
fn filled(values: &[f64]) -> Row {
    let mut row = [0.0; WIDTH];
    row[..values.len()].copy_from_slice(values);
    row
}

/// Writes a matrix of rows and columns, at most 16 each, column by column.
#[inline(always)]
fn transpose(rows: usize, columns: usize, from: &[f64], to: &mut [f64]) {
    let square = <&[Row; WIDTH]>::try_from(from.as_chunks().0).ok();
    let turned = <&mut [Row; WIDTH]>::try_from(to.as_chunks_mut().0).ok();
    if let (WIDTH, Some(from), Some(to)) = (columns, square, turned) {
        // Squares of 4 x 4 are a few shuffles of vectors.
        for down in 0..WIDTH / 4 {
            for across in 0..WIDTH / 4 {
                let square: [[f64; 4]; 4] = std::array::from_fn(|row| {
                    std::array::from_fn(|column| from[4 * down + row][4 * across + column])
                });
                for column in 0..4 {
                    for row in 0..4 {
                        to[4 * across + column][4 * down + row] = square[row][column];
                    }
                }
            }
        }
        return;
    }
    for (column, line) in to.chunks_exact_mut(rows).enumerate() {
        for (value, row) in line.iter_mut().zip(from.chunks_exact(columns)) {
            *value = row[column];
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;

    fn field(size: usize, f: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        (0..size * size).map(|i| f(i / size, i % size)).collect()
    }

    /// One time step of a row-major field.
    fn step(diffusion: &Diffusion, field: &mut [f64]) {
        let layout = diffusion.layout;
        let (size, panel) = (layout.size, WIDTH * layout.size);
        let mut panels = vec![0.0; field.len()];
        for (row, values) in field.chunks(size).enumerate() {
            for (place, &value) in layout.row(row).flatten().zip(values) {
                panels[place] = value;
            }
        }
        let (mut swept, mut scratch) = (vec![0.0; field.len()], vec![0.0; field.len()]);
        for (band, swept) in swept.chunks_mut(panel).enumerate() {
            diffusion.along_rows(band, &panels, swept, &mut scratch[..swept.len()]);
        }
        for (index, panel) in panels.chunks_mut(panel).enumerate() {
            diffusion.along_columns(index, &swept, panel, &mut scratch[..panel.len()]);
        }
        for (place, &value) in panels.iter().enumerate() {
            let (row, column) = layout.cell(place);
            field[row * size + column] = value;
        }
    }

    fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).fold(0.0, |worst, (x, y)| f64::max(worst, (x - y).abs()))
    }

    /// Cosine modes are eigenvectors of the mirrored lattice: the step scales them by a known factor.
    #[test]
    fn cosine_modes_scale_by_the_exact_factor_of_the_scheme() {
        let (size, spacing, coefficient, dt) = (17, 0.125, 0.01, 0.2);
        for (p, q) in [(0, 0), (1, 0), (0, 3), (2, 5), (16, 16)] {
            let angle = |k: usize| PI * k as f64 / (size - 1) as f64;
            let mode = |y: usize, x: usize| {
                libm::cos(angle(p) * y as f64) * libm::cos(angle(q) * x as f64)
            };
            let factor = |k| {
                let t = coefficient * dt / (spacing * spacing) * (libm::cos(angle(k)) - 1.0);
                (1.0 + t) / (1.0 - t)
            };
            let start = field(size, mode);
            let mut ours = start.clone();
            step(&Diffusion::new(size, spacing, coefficient, dt), &mut ours);
            let expected: Vec<f64> = start.iter().map(|v| v * factor(p) * factor(q)).collect();
            assert!(largest_difference(&ours, &expected) < 1e-14, "mode {p} {q}");
        }
    }

    /// The mode (1, 2) of the continuous equation decays as exp(-D k² t); the error falls as h² and dt².
    #[test]
    fn the_lowest_modes_decay_analytically_at_second_order() {
        let (length, coefficient, time) = (2.0, 0.01, 5.0);
        let wave = PI / length;
        let decay = libm::exp(-coefficient * 5.0 * wave.powi(2) * time);
        let error = |size: usize, steps: usize| {
            let spacing = length / (size - 1) as f64;
            let mode = |y: usize, x: usize| {
                libm::cos(PI * y as f64 * spacing / length)
                    * libm::cos(2.0 * PI * x as f64 * spacing / length)
            };
            let mut ours = field(size, mode);
            let diffusion = Diffusion::new(size, spacing, coefficient, time / steps as f64);
            (0..steps).for_each(|_| step(&diffusion, &mut ours));
            largest_difference(&ours, &field(size, |y, x| decay * mode(y, x)))
        };
        let (coarse, fine) = (error(9, 5), error(17, 10));
        assert!((3.6..4.4).contains(&(coarse / fine)), "{coarse} {fine}");
        // The second difference of a mode is short by k^4 h^2 / 12 on each axis; the error in time is far smaller.
        let expected =
            decay * coefficient * time * (length / 16.0).powi(2) / 12.0 * 17.0 * wave.powi(4);
        assert!((fine / expected - 1.0).abs() < 0.05, "{fine} {expected}");
    }

    /// A Gaussian near a corner spreads as the heat kernel does that is mirrored at all borders (method of images).
    #[test]
    fn a_gaussian_spreads_as_the_mirrored_heat_kernel_at_second_order() {
        let (length, coefficient, time, at) = (1.0, 0.01, 1.5, [0.22, 0.61]);
        let kernel = |x: f64, time: f64| {
            let spread = 4.0 * coefficient * time;
            libm::exp(-x * x / spread) / (PI * spread).sqrt()
        };
        let mirrored = |x: f64, from: f64, time: f64| -> f64 {
            let image = |n: i32| {
                let shift = 2.0 * length * f64::from(n);
                kernel(x - from + shift, time) + kernel(x + from + shift, time)
            };
            (-3..=3).map(image).sum()
        };
        let error = |size: usize, steps: usize| {
            let spacing = length / (size - 1) as f64;
            let exact = |time: f64| {
                field(size, |y, x| {
                    mirrored(x as f64 * spacing, at[0], time)
                        * mirrored(y as f64 * spacing, at[1], time)
                })
            };
            let mut ours = exact(1.0);
            let diffusion = Diffusion::new(size, spacing, coefficient, time / steps as f64);
            (0..steps).for_each(|_| step(&diffusion, &mut ours));
            largest_difference(&ours, &exact(1.0 + time))
        };
        let errors = [(17, 10), (33, 20), (65, 40)].map(|(size, steps)| error(size, steps));
        for pair in errors.windows(2) {
            assert!((3.7..4.3).contains(&(pair[0] / pair[1])), "{errors:?}");
        }
        let peak = mirrored(at[0], at[0], 1.0 + time) * mirrored(at[1], at[1], 1.0 + time);
        assert!(errors[2] < 1e-3 * peak, "{errors:?} {peak}");
    }

    #[test]
    fn the_total_with_half_weights_at_the_border_is_kept() {
        let size = 12;
        let total = |values: &[f64]| -> f64 {
            let weight = |k: usize| if k == 0 || k == size - 1 { 0.5 } else { 1.0 };
            values.iter().enumerate().map(|(i, v)| weight(i / size) * weight(i % size) * v).sum()
        };
        let mut values = field(size, |y, x| ((y * 31 + x * 17) % 13) as f64);
        let before = total(&values);
        let diffusion = Diffusion::new(size, 0.1, 0.01, 0.5);
        for _ in 0..200 {
            step(&diffusion, &mut values);
        }
        assert!((total(&values) / before - 1.0).abs() < 1e-13);
        let spread = values.iter().fold(0.0, |worst, v| f64::max(worst, (v - values[0]).abs()));
        assert!(spread < 0.5, "a hundred seconds mix the lattice: {spread}");
    }

    #[test]
    fn a_point_source_spreads_alike_in_all_directions() {
        let size = 9;
        let mut values = field(size, |y, x| f64::from(u8::from(y == 4 && x == 4)));
        let diffusion = Diffusion::new(size, 0.1, 0.01, 0.05);
        (0..20).for_each(|_| step(&diffusion, &mut values));
        let mirrored = field(size, |y, x| values[y * size + (size - 1 - x)]);
        let turned = field(size, |y, x| values[x * size + y]);
        assert!(largest_difference(&values, &mirrored) < 1e-15);
        assert!(largest_difference(&values, &turned) < 1e-15);
        assert!(values.iter().all(|v| *v > 0.0));
    }
}
