//! Full-batch data for a network's loss, and its reduction to second moments.

use crate::{landscape::vector, rng::Streams};

/// Samples with their targets; samples are rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    /// How many samples there are.
    pub samples: usize,
    /// `samples` x inputs, row-major.
    pub inputs: Vec<f64>,
    pub targets: Targets,
}

/// What the network's outputs are compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// The inputs themselves: an autoencoder.
    Inputs,
    /// `samples` x outputs, row-major.
    Values(Vec<f64>),
    /// One class a sample, counted from 0.
    Labels(Vec<usize>),
}

/// Draws Gaussian samples with a diagonal covariance; one row a sample, one column a variance.
pub fn gaussian(samples: usize, variances: &[f64], streams: &Streams) -> Vec<f64> {
    let mut inputs = vec![0.0; samples * variances.len()];
    streams.stream("inputs").fill_normal(&mut inputs);
    let scales: Vec<f64> = variances.iter().map(|variance| variance.sqrt()).collect();
    for row in inputs.chunks_mut(scales.len().max(1)) {
        row.iter_mut().zip(&scales).for_each(|(value, scale)| *value *= scale);
    }
    inputs
}

/// Removes its mean from every column of row-major samples, as the data of Frye et al. 2019 (arXiv:1901.10603) have it;
/// returns the means.
pub fn center(inputs: &mut [f64], width: usize) -> Vec<f64> {
    let samples = inputs.len() / width.max(1);
    let mean = |column: usize, inputs: &[f64]| {
        inputs.iter().skip(column).step_by(width).sum::<f64>() / samples.max(1) as f64
    };
    let means: Vec<f64> = (0..width).map(|column| mean(column, inputs)).collect();
    for row in inputs.chunks_mut(width.max(1)) {
        row.iter_mut().zip(&means).for_each(|(value, mean)| *value -= mean);
    }
    means
}

/// Draws Gaussian samples with a diagonal covariance, and removes the mean of every column.
pub fn centered_gaussian(samples: usize, variances: &[f64], streams: &Streams) -> Vec<f64> {
    let mut inputs = gaussian(samples, variances, streams);
    center(&mut inputs, variances.len());
    inputs
}

/// Replaces data by at most inputs + outputs samples of the same second moments.
///
/// The mean squared error of a linear network without biases depends on the data only through Z'Z, where a row of Z
/// is a sample's inputs and targets side by side. With Z = QR the rows of R, scaled by sqrt(rows / samples), have the
/// same mean of squares. Data that have labels, or too few samples to gain, come back unchanged.
pub fn with_same_second_moments(data: Data, inputs: usize, outputs: usize) -> Data {
    let targets: &[f64] = match &data.targets {
        Targets::Inputs => &[],
        Targets::Values(values) => values,
        Targets::Labels(_) => return data,
    };
    let n = data.samples;
    let target_width = if targets.is_empty() { 0 } else { outputs };
    let width = inputs + target_width;
    if n <= width {
        return data;
    }
    let column_of = |values: &[f64], column: usize, width: usize| -> Vec<f64> {
        values.iter().skip(column).step_by(width).copied().collect()
    };
    let mut columns: Vec<Vec<f64>> =
        (0..inputs).map(|column| column_of(&data.inputs, column, inputs)).collect();
    columns.extend((0..target_width).map(|column| column_of(targets, column, outputs)));
    triangularize(&mut columns);
    let scale = (width as f64 / n as f64).sqrt();
    let rows = |columns: &[Vec<f64>]| -> Vec<f64> {
        (0..width).flat_map(|row| columns.iter().map(move |c| scale * c[row])).collect()
    };
    let (input_columns, target_columns) = columns.split_at(inputs);
    Data {
        samples: width,
        inputs: rows(input_columns),
        targets: match data.targets {
            Targets::Inputs => Targets::Inputs,
            _ => Targets::Values(rows(target_columns)),
        },
    }
}

/// Overwrites columns by the upper triangular factor of their QR decomposition (Householder reflections).
fn triangularize(columns: &mut [Vec<f64>]) {
    for j in 0..columns.len() {
        let (done, rest) = columns.split_at_mut(j + 1);
        let pivot = &mut done[j];
        let norm = vector::norm(&pivot[j..]);
        if norm > 0.0 {
            // The sign avoids cancellation in the reflection's first entry.
            let diagonal = -norm.copysign(pivot[j]);
            let mut reflection = pivot[j..].to_vec();
            reflection[0] -= diagonal;
            let squared = vector::norm_squared(&reflection);
            for column in rest {
                let factor = -2.0 * vector::dot(&reflection, &column[j..]) / squared;
                vector::add_scaled(factor, &reflection, &mut column[j..]);
            }
            pivot[j] = diagonal;
        }
        pivot[j + 1..].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_product(a: &[f64], b: &[f64], i: usize, j: usize, samples: usize) -> f64 {
        let (wa, wb) = (a.len() / samples, b.len() / samples);
        (0..samples).map(|s| a[s * wa + i] * b[s * wb + j]).sum::<f64>() / samples as f64
    }

    #[test]
    fn the_reduction_keeps_all_second_moments() {
        let streams = Streams::new(3, "test");
        let inputs = centered_gaussian(200, &[1.0, 2.0, 3.0], &streams);
        let values: Vec<f64> = inputs.chunks(3).flat_map(|x| [x[0] - x[1], x[2] * x[2]]).collect();
        for targets in [Targets::Inputs, Targets::Values(values.clone())] {
            let data = Data { samples: 200, inputs: inputs.clone(), targets };
            let small = with_same_second_moments(data.clone(), 3, 2);
            for (i, j) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
                let full = mean_product(&inputs, &inputs, i, j, 200);
                let found = mean_product(&small.inputs, &small.inputs, i, j, small.samples);
                assert!((full - found).abs() < 1e-13, "{full} {found}");
            }
            let Targets::Values(reduced) = &small.targets else {
                assert_eq!(small.samples, 3);
                continue;
            };
            assert_eq!(small.samples, 5);
            for (i, j) in (0..3).flat_map(|i| (0..2).map(move |j| (i, j))) {
                let full = mean_product(&inputs, &values, i, j, 200);
                let found = mean_product(&small.inputs, reduced, i, j, small.samples);
                assert!((full - found).abs() < 1e-13, "{full} {found}");
            }
            for j in 0..2 {
                let full = mean_product(&values, &values, j, j, 200);
                let found = mean_product(reduced, reduced, j, j, small.samples);
                assert!((full - found).abs() < 1e-12 * full, "{full} {found}");
            }
        }
    }

    #[test]
    fn labels_and_few_samples_stay() {
        let few = Data { samples: 2, inputs: vec![1.0, 2.0, 3.0, 4.0], targets: Targets::Inputs };
        assert_eq!(with_same_second_moments(few.clone(), 2, 2), few);
        let labels =
            Data { samples: 3, inputs: vec![1.0; 3], targets: Targets::Labels(vec![0; 3]) };
        assert_eq!(with_same_second_moments(labels.clone(), 1, 1), labels);
    }

    #[test]
    fn gaussian_inputs_are_centered_with_the_variances() {
        let inputs = centered_gaussian(20_000, &[1.0, 9.0], &Streams::new(1, "test"));
        for (column, variance) in [(0, 1.0), (1, 9.0)] {
            let mean: f64 = inputs.iter().skip(column).step_by(2).sum::<f64>() / 20_000.0;
            assert!(mean.abs() < 1e-12, "{mean}");
            let found = mean_product(&inputs, &inputs, column, column, 20_000);
            // Five standard errors of a variance: 5 sqrt(2 / n).
            assert!((found / variance - 1.0).abs() < 0.05, "{found}");
        }
    }
}
