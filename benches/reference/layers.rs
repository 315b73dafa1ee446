//! Whole layers of manifolds: the published program's outcomes, and the limit of many draws.

use std::path::Path;

use anyhow::{Context as _, ensure};
use faer::{Mat, MatRef};
use serde_json::Value;
use wavecrest::manifold::anchors::{AnchorOptions, anchor_geometry};
use wavecrest::manifold::centers::{
    CenterCorrection, CenterGeometry, LowRank, RankChoice, Selection, correlated_directions,
};
use wavecrest::manifold::correlation::CenterCorrelation;
use wavecrest::manifold::dichotomy::Dichotomies;
use wavecrest::manifold::estimate::Estimate;
use wavecrest::manifold::gram::{LayerGram, Pairs, Points, layer_gram};
use wavecrest::manifold::grassmann::Objective as _;
use wavecrest::manifold::residual::Residual;
use wavecrest::manifold::simulated::{SimulationOptions, simulate};
use wavecrest::manifold::watch::Watch;
use wavecrest::rng::Streams;
use wavecrest::store::files;

use crate::npz::Npz;
use crate::table::Comparisons;

/// Draws a manifold for the comparison with the limit of many.
const DRAWS: usize = 4000;
/// Trials of a simulation.
const TRIALS: usize = 400;

/// Compares with the layers in a folder's `inputs`.
pub(crate) fn compare(folder: &Path, table: &mut Comparisons) -> anyhow::Result<()> {
    let mut errors = Errors::default();
    for name in files::list(&folder.join("inputs"))? {
        let Some(case) = name.strip_suffix(".npz") else { continue };
        let layer = Layer::read(&folder.join("inputs"), case).with_context(|| name.clone())?;
        errors.layer(folder, case, &layer).with_context(|| name.clone())?;
    }
    table.add(
        "capacity, radius, dimension in given subspaces (standard errors)",
        4.0,
        errors.limits,
    );
    table.add("center correlation of whole layers", 1e-6, errors.correlations);
    // A start ends where its gradient is 1e-4 of its cost, whose error is of second order in that.
    table.add("cost of the published directions below ours (relative)", 1e-6, errors.costs);
    table.add("residual correlation of as many directions", 1e-2, errors.curves);
    table.add("number of removed directions", 2.0, errors.removed);
    table.add("simulated capacity (combined standard errors)", 4.0, errors.simulated);
    Ok(())
}

/// The points of a layer.
struct Layer {
    features: usize,
    manifolds: Vec<Vec<f32>>,
}

impl Layer {
    fn read(inputs: &Path, case: &str) -> anyhow::Result<Self> {
        let file = Npz::open(&inputs.join(format!("{case}.npz")))?;
        let (mut features, mut manifolds) = (0, Vec::new());
        for i in 0..file.count() {
            let array = file.get(&format!("X_{i:04}"))?;
            features = array.shape[0];
            manifolds.push(array.transposed().into_iter().map(|x| x as f32).collect());
        }
        Ok(Self { features, manifolds })
    }

    fn points(&self) -> Vec<Points<'_>> {
        let features = self.features;
        self.manifolds.iter().map(|values| Points { values, features }).collect()
    }

    /// The centers about their mean, as rows.
    fn centers(&self) -> Mat<f64> {
        let mean = |values: &[f32], f: usize| -> f64 {
            let column = values.iter().skip(f).step_by(self.features);
            column.map(|x| f64::from(*x)).sum::<f64>() * self.features as f64 / values.len() as f64
        };
        let count = self.manifolds.len();
        let raw = Mat::from_fn(count, self.features, |i, f| mean(&self.manifolds[i], f));
        let middle: Vec<f64> = (0..self.features)
            .map(|f| (0..count).map(|i| raw[(i, f)]).sum::<f64>() / count as f64)
            .collect();
        Mat::from_fn(count, self.features, |i, f| raw[(i, f)] - middle[f])
    }
}

#[derive(Default)]
struct Errors {
    limits: Vec<f64>,
    correlations: Vec<f64>,
    costs: Vec<f64>,
    curves: Vec<f64>,
    removed: Vec<f64>,
    simulated: Vec<f64>,
}

impl Errors {
    fn layer(&mut self, folder: &Path, case: &str, layer: &Layer) -> anyhow::Result<()> {
        let gram = layer_gram(&layer.points()[..], Pairs::Within, &Watch::none())?;
        let gram = gram.context("nothing stops it")?;
        let subspace = folder.join(format!("golden/{case}__center_subspace_seed0_rep10.npz"));
        let subspace = Npz::open(&subspace)?.get("V11")?;
        let subspace =
            MatRef::from_row_major_slice(&subspace.data, subspace.shape[0], subspace.shape[1]);
        let (centers, k) = (layer.centers(), subspace.ncols());
        let cost =
            CenterCorrelation::new(centers.as_ref(), gram.centers.as_ref(), k).evaluate(subspace);
        let best = find(&gram, RankChoice::Fixed(k), Selection::Cost)?;
        self.costs.push(f64::max(best.chosen().cost / cost - 1.0, 0.0));
        self.limits(folder, case, layer, &gram, &combinations(&gram, &centers, subspace)?)?;

        let found = find(&gram, RankChoice::Automatic { k_min: 1 }, Selection::Stability)?;
        let mut best = Vec::new();
        for name in files::list(&folder.join("outputs"))? {
            let path = folder.join("outputs").join(&name);
            if name.starts_with(&format!("simcap__{case}")) {
                self.simulate(layer, &read(&path)?)?;
            } else if name.starts_with(&format!("{case}__k0__nt200")) {
                let output = read(&path)?;
                let number = |key: &str| output[key].as_f64().with_context(|| key.to_owned());
                self.correlations.push((found.correlation - number("center_correlation")?).abs());
                self.removed.push((found.k as f64 - number("K")?).abs());
                let curve = output["res_coeff_by_K"].as_array().context("no curve")?;
                let curve = curve.iter().filter_map(Value::as_f64).enumerate();
                // The smallest of all runs: single ones stay in poor minima now and then.
                for (k, residual) in curve {
                    if best.len() == k {
                        best.push(residual);
                    }
                    best[k] = f64::min(best[k], residual);
                }
            }
        }
        for trial in found.trials.iter().filter(|trial| (1..=found.k).contains(&trial.k)) {
            self.curves.push((trial.residual - best[trial.k - 1]).abs());
        }
        Ok(())
    }

    /// Measures without given directions and compares with 20,000 draws.
    fn limits(
        &mut self,
        folder: &Path,
        case: &str,
        layer: &Layer,
        gram: &LayerGram,
        removed: &CenterGeometry,
    ) -> anyhow::Result<()> {
        let residual = Residual::new(gram, removed, layer.features);
        let options = AnchorOptions { draws: DRAWS, ..AnchorOptions::default() };
        let streams = Streams::new(1, "reference");
        let mut all = Vec::new();
        for i in 0..layer.manifolds.len() {
            let mut stream = streams.indexed("anchors", i as u64);
            all.push(anchor_geometry(&residual.cloud(i)?.0, &options, &mut stream)?);
        }
        let mean = |of: fn(&wavecrest::manifold::anchors::AnchorGeometry) -> Estimate| {
            Estimate::mean(all.iter().map(of))
        };
        let found = [
            (mean(|a| a.capacity.inverse()).inverse(), "capacity_harmonic"),
            (mean(|a| a.radius), "mean_radius"),
            (mean(|a| a.dimension), "mean_dimension"),
        ];
        let limit = read(&folder.join(format!("outputs/converged__{case}__seed0subspace.json")))?;
        for (estimate, key) in found {
            let expected = limit[key].as_f64().with_context(|| key.to_owned())?;
            let difference = (estimate.value - expected).abs();
            // The limit's own error, and the digits that it is given with.
            let error = estimate.standard_error * (1.0 + DRAWS as f64 / 20_000.0).sqrt() + 1e-8;
            self.limits.push(difference / error);
        }
        Ok(())
    }

    fn simulate(&mut self, layer: &Layer, output: &Value) -> anyhow::Result<()> {
        let options = SimulationOptions { dichotomies: Dichotomies::Balanced, trials: TRIALS };
        let streams = Streams::new(1, "reference");
        let found = simulate(&layer.points(), &options, &streams, &Watch::none())?;
        let (Some(low), Some(high)) = found.interval else { anyhow::bail!("no interval") };
        let number = |key: &str| output[key].as_f64().with_context(|| key.to_owned());
        // Half of a 95 % interval is 1.96 standard errors; the published program's is larger by its fewer trials.
        let error = (high - low) / 3.92 * (1.0 + TRIALS as f64 / number("n_rep")?).sqrt();
        self.simulated.push((found.capacity - number("alpha_sim")?).abs() / error);
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&files::read_text(path)?.replace(": NaN", ": null"))?)
}

fn find(
    gram: &LayerGram,
    rank: RankChoice,
    selection: Selection,
) -> anyhow::Result<CenterGeometry> {
    let correction = CenterCorrection::LowRank(LowRank { rank, selection, ..LowRank::default() });
    let streams = Streams::new(1, "reference");
    Ok(correlated_directions(gram.centers.as_ref(), &correction, &streams, &Watch::none())?)
}

/// Writes directions as combinations of the centers.
fn combinations(
    gram: &LayerGram,
    centers: &Mat<f64>,
    subspace: MatRef<'_, f64>,
) -> anyhow::Result<CenterGeometry> {
    let eigen = gram.centers.self_adjoint_eigen(faer::Side::Lower);
    let eigen = eigen.ok().context("no eigenvalues")?;
    let (values, vectors) = (eigen.S().column_vector(), eigen.U());
    let along = vectors.transpose() * (centers * subspace);
    let largest = values[values.nrows() - 1];
    let scaled = Mat::from_fn(along.nrows(), along.ncols(), |i, j| {
        if values[i] > 1e-10 * largest { along[(i, j)] / values[i] } else { 0.0 }
    });
    let removed = vectors * scaled;
    let back = centers.transpose() * &removed - subspace;
    ensure!(back.norm_max() < 1e-5, "the directions are no combinations of the centers");
    let whole = find(gram, RankChoice::Fixed(0), Selection::Cost)?;
    Ok(CenterGeometry { k: subspace.ncols(), removed, ..whole })
}
