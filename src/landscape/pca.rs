//! Principal components of samples, as scikit-learn's `PCA` with its full solver gives them.

use faer::{
    Mat, Par, Spec,
    diag::Diag,
    dyn_stack::{MemBuffer, MemStack},
    linalg::svd::{self, ComputeSvdVectors},
};

use crate::landscape::{
    data::center,
    error::{LandscapeError, expect_finite, expect_length, expect_option},
    vector,
};

/// Principal components, the one of largest variance first.
#[derive(Clone, Debug, PartialEq)]
pub struct Components {
    /// The mean of each feature, which is taken off first.
    pub means: Vec<f64>,
    /// Unit vectors, one after the other, as many as there are samples or features, whichever are fewer. The entry of
    /// largest absolute value is positive, the first of several.
    pub directions: Vec<Vec<f64>>,
    /// The variance along each, with n - 1 in the denominator.
    pub variances: Vec<f64>,
}

/// Finds the principal components of row-major samples, by a singular value decomposition on one thread.
pub fn components(inputs: &[f64], features: usize) -> Result<Components, LandscapeError> {
    expect_option("features", "at least 1", features as f64, |n| n >= 1.0)?;
    let samples = inputs.len() / features;
    expect_option("samples", "at least 2", samples as f64, |n| n >= 2.0)?;
    expect_length("inputs", samples * features, inputs.len())?;
    expect_finite("inputs", inputs)?;
    let mut centered = inputs.to_vec();
    let means = center(&mut centered, features);
    let matrix = Mat::from_fn(samples, features, |i, j| centered[i * features + j]);
    let size = samples.min(features);
    let (none, thin) = (ComputeSvdVectors::No, ComputeSvdVectors::Thin);
    let options = Spec::default();
    let scratch = svd::svd_scratch::<f64>(samples, features, none, thin, Par::Seq, options);
    let (mut values, mut vectors) = (Diag::zeros(size), Mat::zeros(features, size));
    svd::svd(
        matrix.as_ref(),
        values.as_mut(),
        None,
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        options,
    )
    .map_err(|_| LandscapeError::Eigenvalues { size: features })?;
    let values = values.column_vector();
    Ok(Components {
        means,
        directions: vectors.col_iter().map(|c| turned(c.iter().copied().collect())).collect(),
        variances: values.iter().map(|value| value * value / (samples - 1) as f64).collect(),
    })
}

/// Turns a direction so that its largest entry is positive.
fn turned(mut direction: Vec<f64>) -> Vec<f64> {
    let largest =
        direction.iter().fold(
            0.0,
            |largest: f64, value| {
                if value.abs() > largest.abs() { *value } else { largest }
            },
        );
    if largest < 0.0 {
        for value in &mut direction {
            *value = -*value;
        }
    }
    direction
}

impl Components {
    /// Projects row-major samples onto the first directions; row-major again.
    pub fn project(&self, inputs: &[f64], count: usize) -> Vec<f64> {
        let mut projected = Vec::with_capacity(inputs.len() / self.means.len().max(1) * count);
        for row in inputs.chunks(self.means.len().max(1)) {
            let row: Vec<f64> = row.iter().zip(&self.means).map(|(x, mean)| x - mean).collect();
            projected.extend(self.directions.iter().take(count).map(|d| vector::dot(d, &row)));
        }
        projected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{landscape::data::gaussian, rng::Streams};

    #[test]
    fn six_points_have_the_components_that_scikit_learn_documents() {
        // The example of scikit-learn's PCA: singular values 6.30061... and 0.54980..., shares 0.9924... and 0.0075...
        let points = [-1.0, -1.0, -2.0, -1.0, -3.0, -2.0, 1.0, 1.0, 2.0, 1.0, 3.0, 2.0];
        let found = components(&points, 2).unwrap();
        // The eigenvalues of [[28, 18], [18, 12]] are 20 +- sqrt(388), over n - 1 = 5.
        for (variance, sign) in found.variances.iter().zip([1.0, -1.0]) {
            assert!((variance - (20.0 + sign * 388f64.sqrt()) / 5.0).abs() < 1e-14, "{variance}");
        }
        assert!(((found.variances[0] * 5.0).sqrt() - 6.300_61).abs() < 1e-5);
        assert_eq!(found.means, [0.0, 0.0]);
        // (20 + sqrt(388) - 12, 18) is an eigenvector of the first.
        let (x, y) = (8.0 + 388f64.sqrt(), 18.0);
        let length = x.hypot(y);
        for (found, expected) in found.directions.iter().zip([[x, y], [y, -x]]) {
            // The larger entry is positive.
            let sign = if expected[0].abs() > expected[1].abs() { 1.0 } else { -1.0 };
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - sign * expected / length).abs() < 1e-14, "{found} {expected}");
            }
        }
    }

    #[test]
    fn projections_are_uncorrelated_and_keep_distances() {
        for (samples, features) in [(40, 6), (5, 9)] {
            let streams = Streams::new(12, "test");
            let variances: Vec<f64> = (1..=features).map(|v| v as f64).collect();
            let inputs = gaussian(samples, &variances, &streams);
            let found = components(&inputs, features).unwrap();
            let size = samples.min(features);
            assert_eq!(found.directions.len(), size);
            assert!(found.variances.windows(2).all(|pair| pair[0] >= pair[1]));
            let projected = found.project(&inputs, size);
            for (i, j) in (0..size).flat_map(|i| (0..size).map(move |j| (i, j))) {
                let products = projected.chunks(size).map(|row| row[i] * row[j]);
                let covariance = products.sum::<f64>() / (samples - 1) as f64;
                let expected = if i == j { found.variances[i] } else { 0.0 };
                assert!((covariance - expected).abs() < 1e-12, "{i} {j}: {covariance}");
                let product = vector::dot(&found.directions[i], &found.directions[j]);
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-13);
            }
            let distance = |values: &[f64], width: usize| {
                (0..width).map(|k| (values[k] - values[width + k]).powi(2)).sum::<f64>()
            };
            let (before, after) = (distance(&inputs, features), distance(&projected, size));
            assert!((before / after - 1.0).abs() < 1e-12, "{before} {after}");
            // The first two alone are the same numbers.
            let two = found.project(&inputs, 2);
            assert_eq!(two[2..4], projected[size..size + 2]);
        }
    }

    #[test]
    fn bad_samples_are_refused() {
        assert!(components(&[1.0, 2.0], 2).is_err());
        assert!(components(&[1.0, f64::NAN, 2.0, 3.0], 2).is_err());
        assert!(components(&[1.0; 5], 2).is_err());
    }
}
