//! Manifold capacity: anchor points of given draws, and the correlation of given centers.

use std::path::Path;

use anyhow::Context as _;
use faer::{Mat, MatRef};
use serde_json::Value;
use wavecrest::manifold::anchors::{DimensionBasis, anchor_geometry_of_draws};
use wavecrest::manifold::cloud::PointCloud;
use wavecrest::manifold::correlation::CenterCorrelation;
use wavecrest::manifold::grassmann::Objective as _;
use wavecrest::store::files;

use crate::npz::Npz;
use crate::table::{Comparisons, largest_difference, relative};

/// Compares with everything in a folder `golden`.
pub(crate) fn compare(golden: &Path, table: &mut Comparisons) -> anyhow::Result<()> {
    let names = files::list(golden)?;
    let (mut exact, mut published) = (Vec::new(), Vec::new());
    for name in named(&names, "unit_", "npz") {
        let [ours, theirs, upstream] = unit(&golden.join(name)).with_context(|| name.clone())?;
        let errors =
            |of: &[f64]| ours.iter().zip(of).map(|(a, b)| relative(*a, *b)).fold(0.0, f64::max);
        exact.push(errors(&theirs));
        // The published solver is not converged for a manifold of radius 1e-6.
        if !name.contains("tiny") {
            published.push(errors(&upstream));
        }
    }
    table.add("capacity, radius, dimension of given draws, exact (relative)", 1e-9, exact);
    table.add("the same, published program (relative)", 1e-6, published);
    let mut errors = [const { Vec::new() }; 4];
    for name in named(&names, "center_", "json") {
        centers(golden, name, &mut errors).with_context(|| name.clone())?;
    }
    let [correlation, cost, gradient, left] = errors;
    table.add("center correlation", 1e-10, correlation);
    table.add("cost of a subspace (relative)", 1e-12, cost);
    table.add("gradient of the cost (of the largest entry)", 1e-11, gradient);
    table.add("residual correlation and stability of a subspace", 1e-12, left);
    Ok(())
}

/// The files whose names begin with a word and have an extension.
fn named<'a>(
    names: &'a [String],
    first: &'a str,
    extension: &'a str,
) -> impl Iterator<Item = &'a String> {
    names.iter().filter(move |name| {
        name.starts_with(first) && Path::new(name).extension().is_some_and(|e| e == extension)
    })
}

/// Ours, the exact and the published values.
fn unit(path: &Path) -> anyhow::Result<[Vec<f64>; 3]> {
    let file = Npz::open(path)?;
    let (points, draws) = (file.get("S")?, file.get("T")?);
    let cloud = PointCloud::from_coordinates(&points.transposed(), points.shape[1]);
    let (kappa, basis) = (file.get("kappa")?.data[0], DimensionBasis::Upstream);
    let found = anchor_geometry_of_draws(&cloud, kappa, basis, &draws.transposed())?;
    let ours = vec![found.capacity.value, found.radius.value, found.dimension.value];
    Ok([ours, file.get("exact")?.data, file.get("upstream")?.data])
}

/// Adds the errors of the correlation, the cost, its gradient, and what a subspace leaves.
fn centers(golden: &Path, name: &str, errors: &mut [Vec<f64>; 4]) -> anyhow::Result<()> {
    let about: Value = serde_json::from_str(&files::read_text(&golden.join(name))?)?;
    let case = name.trim_end_matches(".json");
    let matrix = |suffix: &str, columns: usize| -> anyhow::Result<Mat<f64>> {
        let bytes = files::read(&golden.join(format!("{case}.{suffix}.bin")))?;
        let eights = bytes.chunks_exact(8).map(|b| b.try_into().expect("eight bytes"));
        let numbers: Vec<f64> = eights.map(f64::from_le_bytes).collect();
        let rows = numbers.len() / columns;
        Ok(MatRef::from_row_major_slice(&numbers, rows, columns).to_owned())
    };
    let number = |value: &Value, key: &str| {
        value[key].as_f64().with_context(|| format!("no number `{key}`"))
    };
    let count = number(&about, "P")? as usize;
    let centers = matrix("X", count - 1)?;
    let gram = &centers * centers.transpose();
    let mut whole = CenterCorrelation::new(centers.as_ref(), gram.as_ref(), 0);
    whole.evaluate(Mat::zeros(count - 1, 0).as_ref());
    errors[0].push((whole.mean_absolute_cosine() - number(&about, "rho0")?).abs());
    for case in about["V"].as_array().context("no subspaces")? {
        let k = number(case, "K")? as usize;
        let basis = matrix(&format!("V{k}"), k)?;
        let mut removed = CenterCorrelation::new(centers.as_ref(), gram.as_ref(), k);
        errors[1].push(relative(removed.evaluate(basis.as_ref()), number(case, "F")?));
        errors[3].push((removed.mean_absolute_cosine() - number(case, "res_coeff")?).abs());
        errors[3].push((removed.stability() - number(case, "stability")?).abs());
        let mut gradient = Mat::zeros(count - 1, k);
        removed.gradient(gradient.as_mut());
        let expected = matrix(&format!("grad{k}"), k)?;
        let entries =
            |m: &Mat<f64>| m.col_iter().flat_map(|c| c.iter().copied()).collect::<Vec<_>>();
        let difference = largest_difference(&entries(&gradient), &entries(&expected));
        errors[2].push(difference / expected.norm_max());
    }
    Ok(())
}
