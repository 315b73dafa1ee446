//! Diffusion on a square lattice with reflecting borders.

/// Crank–Nicolson steps of the diffusion equation, split into a sweep along each axis.
///
/// Along one axis `T` is the second difference times `D dt / 2h²`, its border rows mirrored (`-2, 2`), which makes the flux
/// through the border vanish. A sweep is `(I - T)⁻¹ (I + T) = 2 (I - T)⁻¹ - I`, so one tridiagonal solve does it.
#[derive(Clone, Debug)]
pub struct Diffusion {
    size: usize,
    /// Per row: the multiplier of the row itself and of the row before in the forward elimination, and of the row
    /// after in the back substitution.
    factor: Vec<[f64; 3]>,
    transposed: Vec<f64>,
    solution: Vec<f64>,
}

impl Diffusion {
    /// Factors the system for `size` x `size` cells (at least 2) at distance `spacing`, in consistent units.
    pub fn new(size: usize, spacing: f64, coefficient: f64, dt: f64) -> Self {
        let number = coefficient * dt / (2.0 * spacing * spacing);
        let mut factor: Vec<[f64; 3]> = Vec::with_capacity(size);
        for row in 0..size {
            let before = if row == size - 1 { -2.0 * number } else { -number };
            let after = if row == 0 { -2.0 * number } else { -number };
            let eliminated = factor.last().map_or(0.0, |last| before * last[2]);
            let inverse = 1.0 / (1.0 + 2.0 * number - eliminated);
            factor.push([inverse, before * inverse, after * inverse]);
        }
        let cells = size * size;
        Self { size, factor, transposed: vec![0.0; cells], solution: vec![0.0; cells] }
    }

    /// Advances a row-major field by one time step: sweep along x, then along y.
    pub fn step(&mut self, field: &mut [f64]) {
        transpose(self.size, field, &mut self.transposed);
        sweep(self.size, &self.factor, &mut self.transposed, &mut self.solution);
        transpose(self.size, &self.transposed, field);
        sweep(self.size, &self.factor, field, &mut self.solution);
    }
}

/// Diffuses between the rows of a field; whole rows at a time, so that all columns advance together.
fn sweep(size: usize, factor: &[[f64; 3]], field: &mut [f64], solution: &mut [f64]) {
    let mut rows = solution.chunks_exact_mut(size);
    let mut last: &mut [f64] = &mut [];
    for ((row, values), &[own, before, _]) in
        rows.by_ref().zip(field.chunks_exact(size)).zip(factor)
    {
        if last.is_empty() {
            row.iter_mut().zip(values).for_each(|(x, &value)| *x = own * value);
        } else {
            for ((x, &value), &previous) in row.iter_mut().zip(values).zip(&*last) {
                *x = own * value - before * previous;
            }
        }
        last = row;
    }
    let mut next: &[f64] = &[];
    let rows = solution.chunks_exact_mut(size).zip(field.chunks_exact_mut(size)).zip(factor);
    for ((row, values), &[_, _, after]) in rows.rev() {
        if !next.is_empty() {
            row.iter_mut().zip(next).for_each(|(x, &following)| *x -= after * following);
        }
        values.iter_mut().zip(&*row).for_each(|(value, &x)| *value = 2.0 * x - *value);
        next = row;
    }
}

fn transpose(size: usize, from: &[f64], to: &mut [f64]) {
    for (column, row) in to.chunks_exact_mut(size).enumerate() {
        for (value, source) in row.iter_mut().zip(from.chunks_exact(size)) {
            *value = source[column];
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
            Diffusion::new(size, spacing, coefficient, dt).step(&mut ours);
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
            let mut diffusion = Diffusion::new(size, spacing, coefficient, time / steps as f64);
            (0..steps).for_each(|_| diffusion.step(&mut ours));
            largest_difference(&ours, &field(size, |y, x| decay * mode(y, x)))
        };
        let (coarse, fine) = (error(9, 5), error(17, 10));
        assert!((3.6..4.4).contains(&(coarse / fine)), "{coarse} {fine}");
        // The second difference of a mode is short by k^4 h^2 / 12 on each axis; the error in time is far smaller.
        let expected =
            decay * coefficient * time * (length / 16.0).powi(2) / 12.0 * 17.0 * wave.powi(4);
        assert!((fine / expected - 1.0).abs() < 0.05, "{fine} {expected}");
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
        let mut diffusion = Diffusion::new(size, 0.1, 0.01, 0.5);
        for _ in 0..200 {
            diffusion.step(&mut values);
        }
        assert!((total(&values) / before - 1.0).abs() < 1e-13);
        let spread = values.iter().fold(0.0, |worst, v| f64::max(worst, (v - values[0]).abs()));
        assert!(spread < 0.5, "a hundred seconds mix the lattice: {spread}");
    }

    #[test]
    fn a_point_source_spreads_alike_in_all_directions() {
        let size = 9;
        let mut values = field(size, |y, x| f64::from(u8::from(y == 4 && x == 4)));
        let mut diffusion = Diffusion::new(size, 0.1, 0.01, 0.05);
        (0..20).for_each(|_| diffusion.step(&mut values));
        let mirrored = field(size, |y, x| values[y * size + (size - 1 - x)]);
        let turned = field(size, |y, x| values[x * size + y]);
        assert!(largest_difference(&values, &mirrored) < 1e-15);
        assert!(largest_difference(&values, &turned) < 1e-15);
        assert!(values.iter().all(|v| *v > 0.0));
    }
}
