//! `manifold.capacity`: how linearly separable object manifolds are, layer by layer.

use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::geometry::{Measured, MeasuredLayer};
use super::shared::layers::{self, OpenManifolds};
use crate::artifacts::activations_reader::ActivationsReader;
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::manifold::anchors::DimensionBasis;
use crate::manifold::centers::{CenterCorrection, LowRank, RankChoice, Selection, Starts};
use crate::manifold::dimensions::Pooled;
use crate::manifold::gram::{PointSource, Points, PointsError};
use crate::manifold::mftma::{LayerGeometry, MftmaError, MftmaOptions, analyze};
use crate::manifold::projection::project;
use crate::manifold::watch::Watch;
use crate::omit::is_default;

/// Measures the capacity, radius and dimension of object manifolds by mean-field theory.
///
/// Stimuli with one label are the points of one manifold. Centers are decorrelated by removing common directions,
/// then anchor points are sampled by exact projections onto cones (Chung, Lee and Sompolinsky, Phys. Rev. X 8, 031003,
/// 2018; Cohen et al., Nat. Commun. 11, 746, 2020). The table has a row for each layer: capacity (harmonic mean),
/// radius and dimension (means) with the standard errors of the draws; center correlation (mean absolute cosine)
/// before and after the removal of `removed` directions, and the largest number `max_k` that the published rule tries;
/// participation ratio and explained-variance dimension of all points. Table `manifolds` has a row for each manifold of
/// each layer, table `directions` one for each number of directions that was tried. What has no geometry, be it a
/// manifold or a layer, has a reason under `failed` instead of numbers. Metrics are means over the measured layers.
///
/// Source: Chung, Lee and Sompolinsky 2018, Phys. Rev. X 8, 031003; Cohen et al. 2020, Nat. Commun. 11, 746.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifoldCapacity {
    /// What the layers answered; labels tell the manifolds apart.
    activations: Input<ActivationsReader>,
    /// The layers to measure, by name; all of them where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<String>>,
    /// Margin, in units of the center norm; any finite number, published: 0.
    #[serde(default)]
    kappa: f64,
    /// Gaussian vectors a manifold, at least 2; the paper's 500. The standard errors fall with their square root.
    #[serde(default = "five_hundred")]
    #[schemars(range(min = 2))]
    draws: usize,
    /// Standard error of a layer's capacity, as a fraction of it above 0, at which drawing ends; `draws` is then the most that
    /// are drawn, and the layer's row says how many were. Without it all of them are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    standard_error: Option<f64>,
    /// How vectors are drawn, and what is made of their known distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    sampling: SamplingChoice,
    /// Projects layers of more features to fewer dimensions beforehand, as published; not at all where absent. There is no need
    /// to here, and it adds an error of about 1 over the root of the dimensions to each length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    projection: Option<Projection>,
    /// What is done about correlated centers.
    #[serde(default)]
    center_correction: Correction,
    /// Which number of dimensions enters a manifold's dimension.
    #[serde(default)]
    dimension_basis: Basis,
    /// Which dimensions of all points of a layer together are measured.
    #[serde(default)]
    pooled_dimensions: PooledChoice,
    /// Fraction of the variance, in (0, 1], that the explained-variance dimension holds at most; published: 0.9.
    #[serde(default = "nine_tenths")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pooled_fraction: f64,
    /// Seed of the draws and of the starts of the center correction.
    #[serde(default)]
    seed: Seed,
}

/// How vectors are drawn, and what is made of their known distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SamplingChoice {
    /// Independently, as published.
    #[default]
    Independent,
    /// In pairs of a vector and its mirror image; at least 4 `draws`.
    Antithetic,
    /// Independently, the capacity corrected by their lengths, whose mean is known (a control variate).
    ControlVariate,
    /// In pairs, and corrected.
    AntitheticControlVariate,
}

/// A random projection to fewer dimensions.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Projection {
    /// Number of dimensions, at least 2; published: 5000. Layers of as many features or fewer stay as they are.
    #[serde(default = "five_thousand")]
    #[schemars(range(min = 2))]
    dimensions: usize,
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
    /// Random starts for each number of directions, from 1 to 10000; published: 10.
    reps: usize,
    /// Number of directions (K) that are removed from every layer, for results that are to be compared: the choice is
    /// fuzzy, on the same data by 2 or so, and capacity moves with it. From 0 to two less than there are manifolds;
    /// chosen by the smallest center correlation left where absent, as published.
    k: Option<usize>,
    /// Fewest directions that are removed where `k` is absent, at most 1000; published: 1.
    k_min: usize,
    /// Where the minimizations begin.
    #[serde(skip_serializing_if = "is_default")]
    starts: StartChoice,
    /// Which of the starts is kept.
    selection: StartSelection,
    /// Most steps of a start, from 1 to 1000000. Ours: published starts run until their gradient is 1e-6, or 1000 steps.
    max_iterations: usize,
    /// A start is done once the norm of its gradient, a number per radian, is this fraction of its cost; at least 0.
    gradient_tolerance: f64,
}

/// Where the minimizations begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StartChoice {
    /// At random directions, as published.
    #[default]
    Random,
    /// At the directions that were kept for one less, and a random one. A fixed `k` is then reached through all smaller
    /// numbers.
    Warm,
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

/// Which dimensions of all points of a layer together are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum PooledChoice {
    /// Participation ratio and explained-variance dimension, from all variances. Their time grows with the cube of the
    /// points or the features, whichever are fewer: for large layers it is most of the stage's.
    #[default]
    Both,
    /// The participation ratio alone, without variances one by one. With more points than features the smallest
    /// variance counts, which the published code leaves out.
    ParticipationRatio,
    /// None.
    None,
}

impl Default for LowRankCorrection {
    fn default() -> Self {
        let LowRank { reps, max_iterations, gradient_tolerance, .. } = LowRank::default();
        let (starts, selection) = (StartChoice::Random, StartSelection::Stability);
        Self { reps, k: None, k_min: 1, starts, selection, max_iterations, gradient_tolerance }
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
fn five_thousand() -> usize {
    5000
}
fn nine_tenths() -> f64 {
    0.9
}

impl Stage for ManifoldCapacity {
    const KIND: &'static str = "manifold.capacity";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.capacity]
        kind = "manifold.capacity"
        activations = "@features"
    "#;

    fn check(&self) -> Vec<Violation> {
        let fraction = self.pooled_fraction > 0.0 && self.pooled_fraction <= 1.0;
        let fewest = if self.sampling.is_antithetic() { 4 } else { 2 };
        let draws = format!("must be at least {fewest}");
        let mut broken = violations([
            ("kappa", self.kappa.is_finite(), "must be finite"),
            ("draws", self.draws >= fewest, draws.as_str()),
            (
                "standard_error",
                self.standard_error.is_none_or(|error| error > 0.0 && error.is_finite()),
                "must be above 0",
            ),
            (
                "projection.dimensions",
                self.projection.is_none_or(|projection| projection.dimensions >= 2),
                "must be at least 2",
            ),
            ("pooled_fraction", fraction, "must be above 0 and at most 1"),
        ]);
        if let Correction::LowRank(low) = self.center_correction {
            broken.extend(low.check());
        }
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Table::TYPE).and("manifolds", Table::TYPE).and("directions", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let mut activations = cx.load(&self.activations)?;
        let wanted = self.layers.as_deref();
        layers::retain(&mut activations.layers, &activations.labels, wanted)?;
        let count = activations.layers.len() as f64;
        let mut measured = cx.resume().unwrap_or_else(|| Measured(Vec::new()));
        for (done, layer) in activations.layers.iter().enumerate().skip(measured.0.len()) {
            cx.pause_point(|| Ok(&measured))?;
            let (sink, cancel) = (cx.sink(), cx.cancel());
            let progress = |part: f64| sink((done as f64 + part) / count, layer.name.clone());
            let cancelled = || cancel.load(Ordering::Relaxed);
            let manifolds = OpenManifolds::new(&activations, layer);
            let geometry = self.measure(&manifolds, &Watch::new(&progress, &cancelled));
            match geometry {
                Err(MftmaError::Cancelled) => cx.pause_point(|| Ok(&measured))?,
                Err(MftmaError::Points(PointsError::Unreadable(kind))) => {
                    let file = activations.path().display();
                    anyhow::bail!("cannot read layer `{}` in `{file}`: {kind}", layer.name);
                }
                _ => (),
            }
            measured.0.push(MeasuredLayer::of(&geometry));
        }
        if let Some(Some(error)) = measured.0.first().map(|layer| layer.failed.as_ref())
            && measured.0.iter().all(|layer| layer.failed.is_some())
        {
            let name = &activations.layers[0].name;
            let message = format!("no layer could be measured; of `{name}`: {error}");
            anyhow::bail!(Failure::data(message));
        }
        for (name, mean) in measured.means() {
            cx.metric(name, mean)?;
        }
        cx.save_as("manifolds", &measured.by_manifold(&activations.layers))?;
        cx.save_as("directions", &measured.by_directions(&activations.layers))?;
        let draws = self.standard_error.is_some();
        cx.save(&measured.by_layer(&activations.layers, draws))
    }
}

impl SamplingChoice {
    fn is_antithetic(self) -> bool {
        matches!(self, Self::Antithetic | Self::AntitheticControlVariate)
    }

    fn is_controlled(self) -> bool {
        matches!(self, Self::ControlVariate | Self::AntitheticControlVariate)
    }
}

impl LowRankCorrection {
    fn check(self) -> Vec<Violation> {
        let tolerance = self.gradient_tolerance >= 0.0 && self.gradient_tolerance.is_finite();
        violations([
            (
                "center_correction.low_rank.reps",
                (1..=10_000).contains(&self.reps),
                "must be from 1 to 10000",
            ),
            (
                "center_correction.low_rank.k",
                self.k.is_none_or(|k| k <= 10_000),
                "must be at most 10000",
            ),
            ("center_correction.low_rank.k_min", self.k_min <= 1000, "must be at most 1000"),
            (
                "center_correction.low_rank.max_iterations",
                (1..=1_000_000).contains(&self.max_iterations),
                "must be from 1 to 1000000",
            ),
            (
                "center_correction.low_rank.gradient_tolerance",
                tolerance,
                "must be finite and at least 0",
            ),
        ])
    }

    fn options(self) -> LowRank {
        LowRank {
            reps: self.reps,
            rank: self.k.map_or(RankChoice::Automatic { k_min: self.k_min }, RankChoice::Fixed),
            starts: match self.starts {
                StartChoice::Random => Starts::Random,
                StartChoice::Warm => Starts::Warm,
            },
            selection: match self.selection {
                StartSelection::Stability => Selection::Stability,
                StartSelection::Cost => Selection::Cost,
            },
            max_iterations: self.max_iterations,
            gradient_tolerance: self.gradient_tolerance,
        }
    }
}

impl ManifoldCapacity {
    /// Measures the manifolds of a layer.
    fn measure(
        &self,
        manifolds: &OpenManifolds<'_>,
        watch: &Watch<'_>,
    ) -> Result<LayerGeometry, MftmaError> {
        let streams = self.seed.streams(Self::KIND);
        match self.projection {
            Some(Projection { dimensions }) if dimensions < manifolds.features() => {
                manifolds.check()?;
                let projected = project(manifolds, dimensions, &streams, &watch.part(0.0, 0.5))?;
                let projected = projected.ok_or(MftmaError::Cancelled)?;
                let fewer: Vec<Points<'_>> = projected
                    .iter()
                    .map(|values| Points { values, features: dimensions })
                    .collect();
                analyze(&fewer[..], &self.options(), &streams, &watch.part(0.5, 1.0))
            }
            _ => analyze(manifolds, &self.options(), &streams, watch),
        }
    }

    fn options(&self) -> MftmaOptions {
        let center_correction = match self.center_correction {
            Correction::None(_) => CenterCorrection::None,
            Correction::LowRank(low) => CenterCorrection::LowRank(low.options()),
        };
        MftmaOptions {
            kappa: self.kappa,
            draws: self.draws,
            standard_error: self.standard_error,
            antithetic: self.sampling.is_antithetic(),
            control_variate: self.sampling.is_controlled(),
            center_correction,
            dimension_basis: match self.dimension_basis {
                Basis::Upstream => DimensionBasis::Upstream,
                Basis::Rank => DimensionBasis::Rank,
            },
            pooled: match self.pooled_dimensions {
                PooledChoice::Both => Pooled::Both { fraction: self.pooled_fraction },
                PooledChoice::ParticipationRatio => Pooled::ParticipationRatio,
                PooledChoice::None => Pooled::None,
            },
        }
    }
}
