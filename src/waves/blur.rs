//! A Gaussian blur of frames.

/// Blurs frames of one size by a Gaussian; pixels beyond the border are those at the border.
///
/// The weights are the Gaussian's at whole pixels, up to four deviations, brought to the sum 1. The filter of `ImageJ` does the
/// same with a window that ends where a weight is below 2e-4.
#[derive(Clone, Debug)]
pub struct Blur {
    height: usize,
    width: usize,
    /// From the farthest pixel on one side to the farthest on the other.
    weights: Vec<f32>,
    padded: Vec<f32>,
    across: Vec<f32>,
}

impl Blur {
    /// Makes ready for frames of one size; a deviation of 0 leaves them as they are.
    pub fn new(sigma: f64, height: usize, width: usize) -> Self {
        let reach = (4.0 * sigma).ceil() as i64;
        let weight = |d: i64| match d {
            0 => 1.0,
            _ => libm::exp(-0.5 * (d as f64 / sigma).powi(2)),
        };
        let total: f64 = (-reach..=reach).map(weight).sum();
        let weights: Vec<f32> = (-reach..=reach).map(|d| (weight(d) / total) as f32).collect();
        let padded = vec![0.0; width + weights.len() - 1];
        Self { height, width, weights, padded, across: vec![0.0; height * width] }
    }

    /// Blurs a frame: along rows, then along columns.
    pub fn apply(&mut self, frame: &mut [f32]) {
        if self.weights.len() == 1 {
            return;
        }
        let (reach, width) = (self.weights.len() / 2, self.width);
        for (row, out) in frame.chunks_exact(width).zip(self.across.chunks_exact_mut(width)) {
            self.padded[..reach].fill(row[0]);
            self.padded[reach..reach + width].copy_from_slice(row);
            self.padded[reach + width..].fill(row[width - 1]);
            out.fill(0.0);
            for (weight, from) in self.weights.iter().zip(self.padded.windows(width)) {
                add(out, *weight, from);
            }
        }
        for (y, out) in frame.chunks_exact_mut(width).enumerate() {
            out.fill(0.0);
            for (k, weight) in self.weights.iter().enumerate() {
                let from = (y + k).saturating_sub(reach).min(self.height - 1);
                add(out, *weight, &self.across[from * width..][..width]);
            }
        }
    }
}

/// Adds a multiple of a row to another.
fn add(to: &mut [f32], weight: f32, from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    #[test]
    fn a_blur_is_the_sum_over_both_directions() {
        let (height, width) = (9, 13);
        let mut stream = Streams::new(1, "test").stream("blur");
        let frame: Vec<f32> = (0..height * width).map(|_| stream.normal() as f32).collect();
        for sigma in [0.4, 1.0, 5.0] {
            let mut found = frame.clone();
            Blur::new(sigma, height, width).apply(&mut found);
            let reach = (4.0 * sigma).ceil() as i64;
            let weight = |d: i64| (-0.5 * (d as f64 / sigma).powi(2)).exp();
            let total: f64 = (-reach..=reach).map(weight).sum();
            for y in 0..height {
                for x in 0..width {
                    let mut sum = 0.0;
                    for v in -reach..=reach {
                        for u in -reach..=reach {
                            let row = (y as i64 + v).clamp(0, height as i64 - 1) as usize;
                            let column = (x as i64 + u).clamp(0, width as i64 - 1) as usize;
                            let value = f64::from(frame[row * width + column]);
                            sum += weight(v) * weight(u) / total.powi(2) * value;
                        }
                    }
                    let error = (f64::from(found[y * width + x]) - sum).abs();
                    assert!(error < 2e-6, "{sigma} {y} {x}: {error}");
                }
            }
        }
    }

    #[test]
    fn what_is_flat_stays_and_no_deviation_is_no_blur() {
        let mut flat = vec![1.02; 60];
        Blur::new(5.0, 6, 10).apply(&mut flat);
        assert!(flat.iter().all(|value| (value - 1.02).abs() < 1e-6));
        let frame: Vec<f32> = (0..60).map(|v| v as f32).collect();
        let mut same = frame.clone();
        Blur::new(0.0, 6, 10).apply(&mut same);
        assert_eq!(same, frame);
    }

    #[test]
    fn blurring_twice_adds_variances() {
        let mut point = vec![0.0; 61 * 61];
        point[30 * 61 + 30] = 1.0;
        let (mut twice, mut once) = (point.clone(), point);
        Blur::new(3.0, 61, 61).apply(&mut twice);
        Blur::new(4.0, 61, 61).apply(&mut twice);
        Blur::new(5.0, 61, 61).apply(&mut once);
        let peak = once[30 * 61 + 30];
        // Each window ends at four deviations, where 6e-5 of the weight lies beyond.
        assert!(twice.iter().zip(&once).all(|(a, b)| (a - b).abs() < 2e-3 * peak));
    }
}
