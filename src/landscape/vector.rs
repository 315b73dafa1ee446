//! Sums over slices in an order that depends on their length alone, in registers as wide as the processor has.

use faer::traits::pulp::Arch;

/// Partial sums that run side by side, so that the compiler may use vector registers.
const LANES: usize = 8;

/// Returns the inner product of two slices of equal length.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    debug_assert_eq!(a.len(), b.len(), "an inner product is of vectors of equal length");
    Arch::new().dispatch(|| {
        let (a_chunks, a_rest) = a.as_chunks::<LANES>();
        let (b_chunks, b_rest) = b.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for (a, b) in a_chunks.iter().zip(b_chunks) {
            for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                *lane = a.mul_add(*b, *lane);
            }
        }
        a_rest.iter().zip(b_rest).fold(fold(lanes), |sum, (a, b)| sum + a * b)
    })
}

/// Returns the sum of a slice.
pub fn sum(values: &[f64]) -> f64 {
    Arch::new().dispatch(|| {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += value;
            }
        }
        rest.iter().fold(fold(lanes), |sum, value| sum + value)
    })
}

/// Returns the squared Euclidean norm.
pub fn norm_squared(values: &[f64]) -> f64 {
    dot(values, values)
}

/// Returns the Euclidean norm.
pub fn norm(values: &[f64]) -> f64 {
    norm_squared(values).sqrt()
}

/// Adds `factor * x` to `y`.
pub fn add_scaled(factor: f64, x: &[f64], y: &mut [f64]) {
    Arch::new().dispatch(|| {
        for (y, x) in y.iter_mut().zip(x) {
            *y += factor * x;
        }
    });
}

/// Returns `x + factor * direction`.
pub fn moved(x: &[f64], factor: f64, direction: &[f64]) -> Vec<f64> {
    x.iter().zip(direction).map(|(x, direction)| x + factor * direction).collect()
}

fn fold(lanes: [f64; LANES]) -> f64 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_integers_are_exact_at_every_length() {
        for n in 0..40 {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            let n = f64::from(n);
            assert_eq!(sum(&values), n * (n + 1.0) / 2.0);
            assert_eq!(norm_squared(&values), n * (n + 1.0) * (2.0 * n + 1.0) / 6.0);
        }
    }

    #[test]
    fn a_move_adds_the_scaled_direction() {
        let mut y = vec![1.0, 2.0];
        add_scaled(0.5, &[2.0, -4.0], &mut y);
        assert_eq!(y, [2.0, 0.0]);
        assert_eq!(moved(&[1.0, 2.0], 0.5, &[2.0, -4.0]), y);
    }
}
