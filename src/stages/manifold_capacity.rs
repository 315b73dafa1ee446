//! `manifold.capacity`: how linearly separable object manifolds are, layer by layer.

use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::geometry::{Measured, MeasuredLayer};
use crate::artifacts::activations::{Activations, Layer};
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::manifold::anchors::DimensionBasis;
use crate::manifold::centers::{CenterCorrection, LowRank, RankChoice, Selection};
use crate::manifold::dimensions::Pooled;
use crate::manifold::gram::Points;
use crate::manifold::mftma::{MftmaError, MftmaOptions, analyze};
use crate::manifold::watch::Watch;

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
    activations: Input<Activations>,
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
    /// Which of the starts is kept.
    selection: StartSelection,
    /// Most steps of a start, from 1 to 1000000. Ours: published starts run until their gradient is 1e-6, or 1000 steps.
    max_iterations: usize,
    /// A start is done once the norm of its gradient, a number per radian, is this fraction of its cost; at least 0.
    gradient_tolerance: f64,
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
        let selection = StartSelection::Stability;
        Self { reps, k: None, k_min: 1, selection, max_iterations, gradient_tolerance }
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
        let mut broken = violations([
            ("kappa", self.kappa.is_finite(), "must be finite"),
            ("draws", self.draws >= 2, "must be at least 2"),
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
        self.choose(&mut activations.layers)?;
        anyhow::ensure!(
            !activations.labels.is_empty(),
            Failure::data("the stimuli have no labels, so there are no manifolds")
                .hint("show the encoder stimuli of `manifold.build`, or labeled images")
        );
        let count = activations.layers.len() as f64;
        let mut measured = cx.resume().unwrap_or_else(|| Measured(Vec::new()));
        for (done, layer) in activations.layers.iter().enumerate().skip(measured.0.len()) {
            cx.pause_point(|| Ok(&measured))?;
            let (sink, cancel) = (cx.sink(), cx.cancel());
            let progress = |part: f64| sink((done as f64 + part) / count, layer.name.clone());
            let cancelled = || cancel.load(Ordering::Relaxed);
            let groups = groups(layer, &activations.labels);
            let points: Vec<Points<'_>> =
                groups.iter().map(|values| Points { values, features: layer.features }).collect();
            let watch = Watch::new(&progress, &cancelled);
            let streams = self.seed.streams(Self::KIND);
            let geometry = analyze(&points, &self.options(), &streams, &watch);
            if matches!(geometry, Err(MftmaError::Cancelled)) {
                cx.pause_point(|| Ok(&measured))?;
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
        cx.save(&measured.by_layer(&activations.layers))
    }
}

impl ManifoldCapacity {
    /// Leaves the layers that are to be measured.
    fn choose(&self, layers: &mut Vec<Layer>) -> anyhow::Result<()> {
        let Some(wanted) = &self.layers else { return Ok(()) };
        let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
        if let Some(unknown) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
            let message = format!("the activations have no layer `{unknown}`");
            let hint = format!("they have {}", names.join(", "));
            anyhow::bail!(Failure::user(message).hint(hint));
        }
        layers.retain(|layer| wanted.contains(&layer.name));
        Ok(())
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
            selection: match self.selection {
                StartSelection::Stability => Selection::Stability,
                StartSelection::Cost => Selection::Cost,
            },
            max_iterations: self.max_iterations,
            gradient_tolerance: self.gradient_tolerance,
        }
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

impl ManifoldCapacity {
    fn options(&self) -> MftmaOptions {
        let center_correction = match self.center_correction {
            Correction::None(_) => CenterCorrection::None,
            Correction::LowRank(low) => CenterCorrection::LowRank(low.options()),
        };
        MftmaOptions {
            kappa: self.kappa,
            draws: self.draws,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;
    use crate::stages::shared::bench::Bench;

    /// Manifolds of one point each, in general position: capacity 2 at margin 0. A second layer is the same everywhere.
    fn bench() -> Bench {
        let (count, features) = (30, 200);
        let mut stream = Streams::new(1, "test").stream("points");
        let values: Vec<f32> = (0..count * features).map(|_| stream.normal() as f32).collect();
        let dead = Layer { name: "dead".into(), features: 3, values: vec![1.0; count * 3] };
        let layers = vec![Layer { name: "input".into(), features, values }, dead];
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
        assert_eq!(results.metrics["capacity"], capacity);
        assert_eq!(results.output::<Table>("manifolds").frame().unwrap().height(), 30);
        // The layer whose manifolds coincide has a reason instead of numbers.
        assert_eq!(table.column("capacity").unwrap().f64().unwrap().get(1), None);
        let failed = table.column("failed").unwrap().str().unwrap();
        assert_eq!(failed.get(0), None);
        assert!(failed.get(1).unwrap().contains("centers coincide"), "{failed:?}");
        // One layer alone has the numbers that it has among others.
        let alone =
            bench().run::<ManifoldCapacity>(&format!("{text}\nlayers = ['input']")).unwrap();
        let frame = alone.main::<Table>().frame().unwrap();
        assert_eq!(frame, table.head(Some(1)));
        let error = bench().run::<ManifoldCapacity>(&format!("{text}\nlayers = ['stem']"));
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("no layer `stem`"), "{error}");
    }

    #[test]
    fn an_analysis_that_is_broken_off_goes_on_to_the_same_bytes() {
        let stream = |purpose: &str| Streams::new(1, "test").stream(purpose);
        let layer = |name: &str, features: usize| {
            let mut stream = stream(name);
            let values = (0..60 * features).map(|_| stream.normal() as f32).collect();
            Layer { name: name.into(), features, values }
        };
        let dead = Layer { name: "dead".into(), features: 3, values: vec![1.0; 60 * 3] };
        let layers = vec![layer("a", 20), dead, layer("b", 70), layer("c", 40)];
        let labels = (0..60).map(|i| i % 6).collect();
        let bench = Bench::new().put("activations", &Activations { count: 60, labels, layers });
        for pooled in ["both", "participation_ratio", "none"] {
            let text =
                format!("activations = '@activations'\ndraws = 20\npooled_dimensions = '{pooled}'");
            for (at, attempts) in [(2, 4), (3, 2), (5, 1)] {
                let found = bench.check_resumption::<ManifoldCapacity>(&text, at);
                assert_eq!(found, attempts, "{pooled} {at}");
            }
        }
    }

    #[test]
    fn a_layer_without_geometry_alone_is_a_failure() {
        let layers = vec![Layer { name: "dead".into(), features: 1, values: vec![1.0; 4] }];
        let activations = Activations { count: 4, labels: vec![0, 0, 1, 1], layers };
        let bench = Bench::new().put("activations", &activations);
        let error = bench.run::<ManifoldCapacity>("activations = '@activations'").unwrap_err();
        assert!(error.to_string().contains("of `dead`: the manifolds' centers coincide"));
    }

    #[test]
    fn the_number_of_directions_can_be_pinned() {
        let run = |low_rank: &str| {
            let correction = format!("center_correction = {{ low_rank = {low_rank} }}");
            let text = format!("activations = '@activations'\ndraws = 20\n{correction}");
            bench().run::<ManifoldCapacity>(&text)
        };
        for k in [0, 3] {
            let results = run(&format!("{{ k = {k}, reps = 2 }}")).unwrap();
            assert_eq!(results.metrics["removed"], f64::from(k));
            let directions = results.output::<Table>("directions").frame().unwrap();
            let column = |name: &str| directions.column(name).unwrap().clone();
            let tried: Vec<i64> = column("k").i64().unwrap().into_no_null_iter().collect();
            assert_eq!(tried, if k == 0 { vec![0] } else { vec![0, 3] });
            assert!(column("chosen").bool().unwrap().iter().last().unwrap().unwrap());
            let number = |name: &str| column(name).f64().unwrap().iter().last().unwrap().unwrap();
            assert!(number("min_cost") <= number("max_cost"));
        }
        // Thirty centers about their mean have 29 dimensions, one of which is left.
        let error = run("{ k = 29 }").unwrap_err().to_string();
        assert!(error.contains("29 directions are to be removed"), "{error}");
        let error = run("{ reps = 0, max_iterations = 0 }").unwrap_err().to_string();
        assert!(error.contains("low_rank.reps") && error.contains("low_rank.max_iterations"));
    }

    #[test]
    fn pooled_dimensions_can_be_left_out() {
        let ratio = |choice: &str| {
            let text =
                "activations = '@activations'\ndraws = 20\ncenter_correction = { none = {} }";
            let text = format!("{text}\npooled_dimensions = '{choice}'");
            let table = bench().run::<ManifoldCapacity>(&text).unwrap().main::<Table>();
            let frame = table.frame().unwrap();
            let number = |name: &str| frame.column(name).unwrap().f64().unwrap().get(0);
            (number("participation_ratio"), number("explained_variance_dimension"))
        };
        let (both, alone) = (ratio("both"), ratio("participation_ratio"));
        assert!((both.0.unwrap() / alone.0.unwrap() - 1.0).abs() < 1e-12, "{both:?} {alone:?}");
        assert!(both.1.unwrap() > 0.0 && alone.1.is_none());
        assert_eq!(ratio("none"), (None, None));
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
