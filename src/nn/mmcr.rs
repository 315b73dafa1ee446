//! Maximum manifold capacity: the mean of each group's rows far from those of the others, and each group small.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;

use candle_core::{DType, Tensor};
use faer::diag::Diag;
use faer::dyn_stack::MemStack;
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Accum, Mat, Par, Spec};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contrastive::BatchLoss;
use super::error::NnError;
use super::host::{Matrix, multiply};

/// The weight of maximum manifold capacity representations (Yerxa et al. 2023).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mmcr {
    /// Weight λ of the mean nuclear norm of single events, at least 0. 0.1 where absent, as in the code of Ligeralde et
    /// al. 2023. At 0 events are not decomposed: centroids of unit rows are long only where events are compact.
    #[schemars(range(min = 0.0))]
    pub local_weight: f64,
}

impl Default for Mmcr {
    fn default() -> Self {
        Self { local_weight: 0.1 }
    }
}

/// Maximizes the nuclear norm of the groups' centroids (Yerxa et al. 2023, arXiv:2303.03307).
///
/// The loss is −‖C‖ + λ·mean over groups of ‖Z‖, where ‖·‖ is the nuclear norm, the sum of the singular values; C has
/// the mean of each group's rows as its rows, and Z the rows of one group. Neither is centered. A group is an event's
/// frames or an image's views; one of a single row counts too. The batch counts as its groups.
///
/// `z` is n×d with rows of unit length, and `groups` names the group of each. Singular values are found in `f64` on
/// the host. The gradient of a nuclear norm is U·Vᵀ over the singular values above max(rows, columns)·2⁻⁵²·(the
/// largest), the tolerance of a numerical rank: at a matrix of lower rank the norm has no gradient, and this is the
/// shortest of its subgradients.
pub fn mmcr(z: &Tensor, groups: &[u32], weights: Mmcr) -> Result<BatchLoss, NnError> {
    let (n, d) = z.dims2()?;
    if groups.len() != n {
        let (what, found) = ("the list of groups", groups.len());
        return Err(NnError::WrongLength { what, expected: n, found });
    }
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (row, group) in groups.iter().enumerate() {
        members.entry(*group).or_default().push(row);
    }
    let members: Vec<Vec<usize>> = members.into_values().collect();
    let rows: Vec<f64> = z.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
    let gradient = gradient(&rows, d, &members, weights.local_weight)?;
    let gradient = Tensor::from_vec(gradient, (n, d), z.device())?.to_dtype(z.dtype())?;
    // The loss is homogeneous of degree one, so it is the inner product of its argument and its gradient (Euler).
    Ok(BatchLoss { loss: (z * gradient)?.sum_all()?, anchors: members.len() })
}

/// Computes the gradient of the loss with respect to the n×d `rows`, each of one of the groups.
fn gradient(
    rows: &[f64],
    d: usize,
    groups: &[Vec<usize>],
    local_weight: f64,
) -> Result<Vec<f64>, NnError> {
    let row = |row: usize| &rows[row * d..][..d];
    let mut centroids = vec![0.0; groups.len() * d];
    for (centroid, group) in centroids.chunks_exact_mut(d).zip(groups) {
        for member in group {
            centroid.iter_mut().zip(row(*member)).for_each(|(c, x)| *c += x / group.len() as f64);
        }
    }
    let spread = direction(&centroids, d)?;
    let of_group = |(group, spread): (&Vec<usize>, &[f64])| {
        let outward = spread.iter().map(|p| -p / group.len() as f64);
        let mut gradient: Vec<f64> = outward.collect::<Vec<f64>>().repeat(group.len());
        if local_weight > 0.0 {
            let own: Vec<f64> = group.iter().flat_map(|member| row(*member)).copied().collect();
            let weight = local_weight / groups.len() as f64;
            gradient.iter_mut().zip(direction(&own, d)?).for_each(|(g, p)| *g += weight * p);
        }
        Ok(gradient)
    };
    // Each decomposition is one thread's, so that no sum depends on how many there are.
    let parts = groups.par_iter().zip(spread.par_chunks_exact(d)).map(of_group);
    let parts: Vec<Vec<f64>> = parts.collect::<Result<_, NnError>>()?;
    let mut gradient = vec![0.0; rows.len()];
    for (group, part) in groups.iter().zip(parts) {
        for (member, part) in group.iter().zip(part.chunks_exact(d)) {
            gradient[member * d..][..d].copy_from_slice(part);
        }
    }
    Ok(gradient)
}

/// Yields U·Vᵀ of the singular value decomposition of a row-major matrix of `columns` columns, row-major.
fn direction(matrix: &[f64], columns: usize) -> Result<Vec<f64>, NnError> {
    let matrix = Matrix::new(matrix, columns);
    if !matrix.data.iter().all(|x| x.is_finite()) {
        // The loss is NaN then, and whoever trains says at which step.
        return Ok(vec![f64::NAN; matrix.data.len()]);
    }
    let (rows, size) = (matrix.rows, matrix.rows.min(columns));
    let thin = ComputeSvdVectors::Thin;
    let need = svd_scratch::<f64>(rows, columns, thin, thin, Par::Seq, Spec::default());
    let mut memory = vec![MaybeUninit::uninit(); need.unaligned_bytes_required()];
    let mut values = Diag::<f64>::zeros(size);
    let (mut u, mut v) = (Mat::zeros(rows, size), Mat::zeros(columns, size));
    svd(
        matrix.view(),
        values.as_mut(),
        Some(u.as_mut()),
        Some(v.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        Spec::default(),
    )
    .map_err(|_| NnError::NotDecomposed { rows, columns })?;
    let values: Vec<f64> = values.column_vector().iter().copied().collect();
    let least = rows.max(columns) as f64 * f64::EPSILON * values[0];
    let rank = values.iter().take_while(|value| **value > least).count();
    let mut product = vec![0.0; rows * columns];
    let (u, v) = (u.as_ref().subcols(0, rank), v.as_ref().subcols(0, rank));
    multiply(&mut product, Accum::Replace, u, v.transpose());
    Ok(product)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use rayon::ThreadPoolBuilder;

    use super::super::layers::normalize_rows;
    use super::super::layers::tests::{check_gradient, normal};
    use super::*;

    const GROUPS: [u32; 8] = [0, 0, 0, 1, 1, 2, 0, 1];

    fn value(z: &Tensor, groups: &[u32], local_weight: f64) -> f64 {
        mmcr(z, groups, Mmcr { local_weight }).unwrap().loss.to_scalar().unwrap()
    }

    fn matrix(rows: &[&[f64]]) -> Tensor {
        let shape = (rows.len(), rows[0].len());
        Tensor::from_vec(rows.concat(), shape, &Device::Cpu).unwrap()
    }

    /// Values of numpy 2 in f64 (`linalg.svd`) for normalized rows of sin³(1.3 i + 0.2), five at a time.
    #[test]
    fn values_are_those_of_numpy() {
        let values: Vec<f64> = (0..40).map(|i| (1.3 * f64::from(i) + 0.2).sin().powi(3)).collect();
        let x = Tensor::from_vec(values, (8, 5), &Device::Cpu).unwrap();
        let z = normalize_rows(&x).unwrap();
        for (local_weight, expected) in
            [(0.0, -2.061_904_767_653_955_3), (0.1, -1.846_710_090_609_685_2)]
        {
            let found = value(&z, &GROUPS, local_weight);
            assert!((found - expected).abs() < 1e-13, "{local_weight}: {found} {expected}");
        }
    }

    #[test]
    fn orthogonal_groups_of_equal_rows_are_known() {
        // Singular values: one of 1 for each centroid, and the root of its size for each group.
        let z = matrix(&[&[1.0, 0.0, 0.0], &[1.0, 0.0, 0.0], &[0.0, 0.0, -1.0]]);
        let batch = mmcr(&z, &[7, 7, 3], Mmcr { local_weight: 0.5 }).unwrap();
        let found: f64 = batch.loss.to_scalar().unwrap();
        let expected = -2.0 + 0.5 * f64::midpoint(2f64.sqrt(), 1.0);
        assert!((found - expected).abs() < 1e-14, "{found} {expected}");
        assert_eq!(batch.anchors, 2);
        // Centroids that are one: a single singular value, √2.
        let z = matrix(&[&[0.6, 0.8], &[0.6, 0.8]]);
        assert!((value(&z, &[0, 1], 0.0) + 2f64.sqrt()).abs() < 1e-14);
    }

    #[test]
    fn gradients_are_right() {
        for shape in [[8, 5], [8, 2]] {
            let x = normal("x", &shape);
            for local_weight in [0.0, 0.3] {
                check_gradient("mmcr", &[&x], &|| {
                    let z = normalize_rows(&x).unwrap();
                    mmcr(&z, &GROUPS, Mmcr { local_weight }).unwrap().loss
                });
            }
        }
    }

    #[test]
    fn a_lower_rank_has_the_shortest_subgradient() {
        let x = Var::from_tensor(&matrix(&[&[1.0, 0.0, 0.0], &[1.0, 0.0, 0.0]])).unwrap();
        let batch = mmcr(&x, &[0, 0], Mmcr { local_weight: 1.0 }).unwrap();
        let gradients = batch.loss.backward().unwrap();
        let found: Vec<f64> = gradients.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        // Of −‖(r + s)/2‖ it is −½ along the first axis for both rows, of ‖(r; s)‖ it is 1/√2.
        let along = 0.5f64.sqrt() - 0.5;
        for (found, expected) in found.iter().zip([along, 0.0, 0.0, along, 0.0, 0.0]) {
            assert!((found - expected).abs() < 1e-14, "{found} {expected}");
        }
    }

    #[test]
    fn one_and_two_threads_give_the_same_bits() {
        let z = normalize_rows(&normal("x", &[90, 40])).unwrap().to_dtype(DType::F32).unwrap();
        let groups: Vec<u32> = (0..90).map(|row| row / 9).collect();
        let bits = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let z = Var::from_tensor(&z).unwrap();
                let loss = mmcr(&z, &groups, Mmcr::default()).unwrap().loss;
                let gradients = loss.backward().unwrap();
                let gradient = gradients.get(&z).unwrap().flatten_all().unwrap();
                (loss.to_scalar::<f32>().unwrap(), gradient.to_vec1::<f32>().unwrap())
            })
        };
        assert!(bits(1) == bits(2));
    }

    #[test]
    fn what_is_not_finite_shows_in_the_loss() {
        let z = matrix(&[&[1.0, f64::NAN], &[0.0, 1.0]]);
        assert!(value(&z, &[0, 1], 0.1).is_nan());
        let error = mmcr(&z, &[0], Mmcr::default()).unwrap_err().to_string();
        assert_eq!(error, "expected 2 elements in the list of groups, found 1");
    }
}
