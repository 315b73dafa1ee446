//! `manifold.capacity`: how linearly separable object manifolds are, layer by layer.

use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifacts::activations::{Activations, Layer};
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::manifold::anchors::DimensionBasis;
use crate::manifold::centers::{CenterCorrection, LowRank, RankChoice, Selection};
use crate::manifold::gram::Points;
use crate::manifold::mftma::{LayerGeometry, MftmaError, MftmaOptions, analyze};
use crate::manifold::watch::Watch;

/// Measures the capacity, radius and dimension of object manifolds by mean-field theory.
///
/// Stimuli with one label are the points of one manifold. Centers are decorrelated by removing common directions,
/// then anchor points are sampled by exact projections onto cones (Chung, Lee and Sompolinsky, Phys. Rev. X 8, 031003,
/// 2018; Cohen et al., Nat. Commun. 11, 746, 2020). The table has a row for each layer: capacity (harmonic mean),
/// radius and dimension (means) with the standard errors of the draws, center correlation (mean absolute cosine before
/// the removal), directions removed, participation ratio and explained-variance dimension. Table `manifolds` has a row
/// for each manifold of each layer; one that has no geometry has a reason instead of numbers.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifoldCapacity {
    /// What the layers answered; labels tell the manifolds apart.
    activations: Input<Activations>,
    /// Margin, in units of the center norm.
    #[serde(default)]
    kappa: f64,
    /// Gaussian vectors a manifold; the paper's 500.
    #[serde(default = "five_hundred")]
    #[schemars(range(min = 2))]
    draws: usize,
    /// What is done about correlated centers.
    #[serde(default)]
    center_correction: Correction,
    /// Which number of dimensions enters a manifold's dimension.
    #[serde(default)]
    dimension_basis: Basis,
    /// Seed of the draws and of the starts of the center correction.
    #[serde(default)]
    seed: Seed,
}

/// What is done about correlated centers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Correction {
    /// Nothing: the manifolds are measured as they lie.
    None(Nothing),
    /// The directions that correlate the centers most are projected out.
    LowRank(LowRankCorrection),
}

/// Nothing: the manifolds are measured as they lie.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The directions that correlate the centers most are projected out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct LowRankCorrection {
    /// Random starts for each number of directions.
    reps: usize,
    /// Fewest directions that are removed; the published code removes at least 1.
    k_min: usize,
    /// Which of the starts is kept.
    selection: StartSelection,
    /// Most steps of a start.
    max_iterations: usize,
}

/// Which of several starts is kept.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StartSelection {
    /// The one that leaves the most of the center it shortens most, as published.
    #[default]
    Stability,
    /// The one of lowest cost.
    Cost,
}

/// Which number of dimensions multiplies the mean angle.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Basis {
    /// The smaller of features and points, as published.
    #[default]
    Upstream,
    /// The rank of the points about their center.
    Rank,
}

impl Default for LowRankCorrection {
    fn default() -> Self {
        let LowRank { reps, max_iterations, .. } = LowRank::default();
        Self { reps, k_min: 1, selection: StartSelection::Stability, max_iterations }
    }
}

impl Default for Correction {
    fn default() -> Self {
        Self::LowRank(LowRankCorrection::default())
    }
}

fn five_hundred() -> usize {
    500
}

impl Stage for ManifoldCapacity {
    const KIND: &'static str = "manifold.capacity";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Machine;

    fn check(&self) -> Vec<Violation> {
        let correction = match self.center_correction {
            Correction::None(_) => true,
            Correction::LowRank(low) => {
                low.reps >= 1 && low.max_iterations >= 1 && low.k_min <= 1000
            }
        };
        violations([
            ("draws", self.draws >= 2, "must be at least 2"),
            ("center_correction", correction, "must have at least one start and one step"),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Table::TYPE).and("manifolds", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let activations = cx.load(&self.activations)?;
        anyhow::ensure!(
            !activations.labels.is_empty(),
            Failure::data("the stimuli have no labels, so there are no manifolds")
                .hint("show the encoder stimuli of `manifold.build`, or labeled images")
        );
        let count = activations.layers.len() as f64;
        let mut measured: Vec<(&Layer, LayerGeometry)> = Vec::new();
        for (done, layer) in activations.layers.iter().enumerate() {
            cx.check_cancelled()?;
            let (sink, cancel) = (cx.sink(), cx.cancel());
            let progress = |part: f64| sink((done as f64 + part) / count, layer.name.clone());
            let cancelled = || cancel.load(Ordering::Relaxed);
            let groups = groups(layer, &activations.labels);
            let points: Vec<Points<'_>> =
                groups.iter().map(|values| Points { values, features: layer.features }).collect();
            let watch = Watch::new(&progress, &cancelled);
            let streams = self.seed.streams(Self::KIND);
            let geometry = analyze(&points, &self.options(), &streams, &watch)
                .map_err(|error| failure(&layer.name, &error))?;
            measured.push((layer, geometry));
        }
        cx.save_as("manifolds", &by_manifold(&measured))?;
        cx.save(&by_layer(&measured))
    }
}

/// The rows of each manifold, in the order of their labels.
fn groups(layer: &Layer, labels: &[u32]) -> Vec<Vec<f32>> {
    let mut known: Vec<u32> = labels.to_vec();
    known.sort_unstable();
    known.dedup();
    let mut groups = vec![Vec::new(); known.len()];
    for (row, label) in labels.iter().enumerate() {
        let group = known.binary_search(label).expect("every label is known");
        groups[group].extend_from_slice(&layer.values[row * layer.features..][..layer.features]);
    }
    groups
}

fn failure(layer: &str, error: &MftmaError) -> anyhow::Error {
    let message = format!("layer `{layer}`: {error}");
    match error {
        MftmaError::Cancelled => Failure::interrupted().into(),
        _ => Failure::data(message).into(),
    }
}

impl ManifoldCapacity {
    fn options(&self) -> MftmaOptions {
        let center_correction = match self.center_correction {
            Correction::None(_) => CenterCorrection::None,
            Correction::LowRank(low) => CenterCorrection::LowRank(LowRank {
                reps: low.reps,
                rank: RankChoice::Automatic { k_min: low.k_min },
                selection: match low.selection {
                    StartSelection::Stability => Selection::Stability,
                    StartSelection::Cost => Selection::Cost,
                },
                max_iterations: low.max_iterations,
                ..LowRank::default()
            }),
        };
        MftmaOptions {
            kappa: self.kappa,
            draws: self.draws,
            center_correction,
            dimension_basis: match self.dimension_basis {
                Basis::Upstream => DimensionBasis::Upstream,
                Basis::Rank => DimensionBasis::Rank,
            },
            ..MftmaOptions::default()
        }
    }
}

fn by_layer(measured: &[(&Layer, LayerGeometry)]) -> Table {
    let column = |f: &dyn Fn(&LayerGeometry) -> f64| -> Vec<f64> {
        measured.iter().map(|(_, g)| f(g)).collect()
    };
    let pooled =
        |f: &dyn Fn(&crate::manifold::dimensions::PooledDimensions) -> f64| -> Vec<Option<f64>> {
            measured.iter().map(|(_, g)| g.pooled.as_ref().map(f)).collect()
        };
    Table::new()
        .texts("layer", measured.iter().map(|(layer, _)| layer.name.clone()))
        .floats("capacity", column(&|g| g.capacity.value))
        .floats("capacity_se", column(&|g| g.capacity.standard_error))
        .floats("radius", column(&|g| g.radius.value))
        .floats("radius_se", column(&|g| g.radius.standard_error))
        .floats("dimension", column(&|g| g.dimension.value))
        .floats("dimension_se", column(&|g| g.dimension.standard_error))
        .floats("center_correlation", column(&|g| g.centers.correlation))
        .counts("removed", measured.iter().map(|(_, g)| g.centers.k))
        .maybe_floats("participation_ratio", pooled(&|p| p.participation_ratio))
        .maybe_floats("explained_variance_dimension", pooled(&|p| p.explained_variance as f64))
        .counts("features", measured.iter().map(|(_, g)| g.features))
        .counts("manifolds", measured.iter().map(|(_, g)| g.manifolds.len()))
        .counts("measured", measured.iter().map(|(_, g)| g.measured))
}

fn by_manifold(measured: &[(&Layer, LayerGeometry)]) -> Table {
    let rows = || {
        measured.iter().flat_map(|(layer, geometry)| {
            geometry.manifolds.iter().enumerate().map(move |(i, m)| (layer.name.clone(), i, m))
        })
    };
    let column =
        |f: &dyn Fn(&crate::manifold::residual::ManifoldGeometry) -> f64| -> Vec<Option<f64>> {
            rows().map(|(_, _, m)| m.as_ref().ok().map(f)).collect()
        };
    Table::new()
        .texts("layer", rows().map(|(layer, ..)| layer))
        .counts("manifold", rows().map(|(_, i, _)| i))
        .maybe_floats("capacity", column(&|m| m.anchors.capacity.value))
        .maybe_floats("capacity_se", column(&|m| m.anchors.capacity.standard_error))
        .maybe_floats("radius", column(&|m| m.anchors.radius.value))
        .maybe_floats("dimension", column(&|m| m.anchors.dimension.value))
        .maybe_floats("support", column(&|m| m.anchors.support_mean))
        .maybe_floats("interior_fraction", column(&|m| m.anchors.interior_fraction))
        .maybe_floats("center_norm", column(&|m| m.center_norm))
        .maybe_floats("points", column(&|m| m.points as f64))
        .maybe_floats("rank", column(&|m| m.rank as f64))
        .maybe_texts("failed", rows().map(|(_, _, m)| m.as_ref().err().map(ToString::to_string)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;
    use crate::stages::shared::bench::Bench;

    /// Manifolds of one point each, in general position: capacity 2 at margin 0.
    fn bench() -> Bench {
        let (count, features) = (30, 200);
        let mut stream = Streams::new(1, "test").stream("points");
        let values: Vec<f32> = (0..count * features).map(|_| stream.normal() as f32).collect();
        let layers = vec![Layer { name: "input".into(), features, values }];
        let labels = (0..count as u32).map(|i| 100 - i).collect();
        Bench::new().put("activations", &Activations { count, labels, layers })
    }

    #[test]
    fn points_have_capacity_two() {
        let text = "activations = '@activations'\ndraws = 400\ncenter_correction = { none = {} }";
        let results = bench().run::<ManifoldCapacity>(text).unwrap();
        let table = results.main::<Table>().frame().unwrap();
        let number = |name: &str| table.column(name).unwrap().f64().unwrap().get(0).unwrap();
        let (capacity, error) = (number("capacity"), number("capacity_se"));
        assert!((capacity - 2.0).abs() < 5.0 * error && error < 0.1, "{capacity} {error}");
        assert_eq!(results.output::<Table>("manifolds").frame().unwrap().height(), 30);
    }

    #[test]
    fn unlabeled_stimuli_are_refused() {
        let layers = vec![Layer { name: "input".into(), features: 1, values: vec![0.0; 2] }];
        let bench =
            Bench::new().put("activations", &Activations { count: 2, labels: vec![], layers });
        let error = bench.run::<ManifoldCapacity>("activations = '@activations'").unwrap_err();
        assert!(error.to_string().contains("no labels"));
    }
}
