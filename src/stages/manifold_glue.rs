//! `manifold.glue`: capacity and effective geometry for given kinds of dichotomies, layer by layer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::findings::{Finding, Findings};
use super::shared::layers;
use crate::artifacts::activations::Activations;
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::manifold::dichotomy::Dichotomies;
use crate::manifold::effective::{EffectiveGeometry, ManifoldEffect};
use crate::manifold::estimate::Estimate;
use crate::manifold::glue::{GlueError, GlueOptions, analyze};

/// The numbers of a layer: estimates first, each with its standard error.
const LAYER: [&str; 30] = [
    "capacity",
    "capacity_se",
    "dimension",
    "dimension_se",
    "radius",
    "radius_se",
    "utility",
    "utility_se",
    "center_alignment",
    "center_alignment_se",
    "axes_alignment",
    "axes_alignment_se",
    "center_axes_alignment",
    "center_axes_alignment_se",
    "center_cosine",
    "center_cosine_se",
    "axes_cosine",
    "axes_cosine_se",
    "center_axes_cosine",
    "center_axes_cosine_se",
    "center_product",
    "center_product_se",
    "axes_product",
    "axes_product_se",
    "center_axes_product",
    "center_axes_product_se",
    "support",
    "inside",
    "features",
    "manifolds",
];

/// The numbers of a manifold.
const MANIFOLD: [&str; 7] =
    ["load", "load_se", "touched", "support", "center_norm", "axes_norm", "points"];

/// Measures capacity and effective geometry of object manifolds for given kinds of dichotomies (GLUE).
///
/// Stimuli with one label are the points of one manifold. A Gaussian vector is projected onto the cone of all points of
/// all manifolds under the signs of a dichotomy, so that correlations between manifolds count and no direction has to be
/// removed, unlike in `manifold.capacity`. The table has a row for each layer, each number with the standard error of the draws:
/// `capacity`, effective `dimension`, `radius` and `utility`, with capacity = utility (1 + radius^-2) / dimension exactly;
/// the alignment of centers, of axes, and of centers with axes as mean absolute cosines between different manifolds, as mean
/// cosines (`_cosine`) and as mean absolute inner products (`_product`, in squared units of the layer); mean number of points that a
/// projection rests on (`support`); the fraction of vectors `inside` the cone, of which only the capacity is unique: where it is
/// large, the layer has too few dimensions for its other numbers to mean much. Table `manifolds` has a row for each manifold of each layer: its `load`, which adds up
/// to manifolds / capacity, the fraction of draws in which it has any (`touched`), the lengths of its center and of its
/// axes in the layer's units. A layer that has no geometry has a reason under `failed` instead of numbers. Metrics are
/// means over the measured layers. Time grows with the square of the number of points.
///
/// Source: Chou, Kim, Arend, Yang, Mensh, Shim, Perich and Chung 2024, bioRxiv 2024.02.26.582157.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifoldGlue {
    /// What the layers answered; labels tell the manifolds apart.
    activations: Input<Activations>,
    /// The layers to measure, by name; all of them where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<String>>,
    /// Which manifolds are told from which.
    #[serde(default)]
    dichotomies: DichotomyChoice,
    /// Gaussian vectors, each with a dichotomy, at least 2; published: 200. The standard errors fall with their square root.
    #[serde(default = "two_hundred")]
    #[schemars(range(min = 2))]
    draws: usize,
    /// Seed of the draws and of the dichotomies.
    #[serde(default)]
    seed: Seed,
}

/// Which manifolds are told from which.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum DichotomyChoice {
    /// Half of them, rounded down, drawn at random for each vector, from the rest.
    Balanced(Balanced),
    /// One, drawn at random for each vector, from the rest.
    OneVersusRest(OneVersusRest),
    /// Given ones, in turn.
    Fixed(Fixed),
}

/// Half of the manifolds, rounded down, drawn at random for each vector, from the rest.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Balanced {}

/// One manifold, drawn at random for each vector, from the rest.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneVersusRest {}

/// Given dichotomies, in turn.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fixed {
    /// For each dichotomy the manifolds on its positive side, by their position among the labels, from 0: of six manifolds
    /// `[[0, 1, 2], [0, 2, 4]]`.
    positive: Vec<Vec<usize>>,
}

impl Default for DichotomyChoice {
    fn default() -> Self {
        Self::Balanced(Balanced {})
    }
}

fn two_hundred() -> usize {
    200
}

impl Stage for ManifoldGlue {
    const KIND: &'static str = "manifold.glue";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.glue]
        kind = "manifold.glue"
        activations = "@features"
    "#;

    fn check(&self) -> Vec<Violation> {
        let mut broken = violations([("draws", self.draws >= 2, "must be at least 2")]);
        if let DichotomyChoice::Fixed(Fixed { positive }) = &self.dichotomies {
            let sides = !positive.is_empty() && positive.iter().all(|side| !side.is_empty());
            let rule = "must hold at least one dichotomy, each with a manifold";
            broken.extend(violations([("dichotomies.fixed.positive", sides, rule)]));
        }
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Table::TYPE).and("manifolds", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let mut activations = cx.load(&self.activations)?;
        layers::choose(&mut activations, self.layers.as_deref())?;
        let streams = self.seed.streams(Self::KIND);
        let found = Findings::of(cx, &activations, |points, watch| {
            let dichotomies = match self.dichotomies(points.len()) {
                Ok(dichotomies) => dichotomies,
                Err(reason) => return Some(Err(reason)),
            };
            let options = GlueOptions { dichotomies, draws: self.draws };
            match analyze(points, &options, &streams, watch) {
                Err(GlueError::Cancelled) => None,
                Err(error) => Some(Err(error.to_string())),
                Ok(geometry) => Some(Ok(finding(&geometry))),
            }
        })?;
        for (i, name) in LAYER.iter().enumerate().take(14).step_by(2) {
            cx.metric(name, found.mean(i))?;
        }
        cx.save_as("manifolds", &found.by_row(&activations.layers, "manifold", &MANIFOLD))?;
        cx.save(&found.by_layer(&activations.layers, &LAYER))
    }
}

impl ManifoldGlue {
    fn dichotomies(&self, manifolds: usize) -> Result<Dichotomies, String> {
        let positive = match &self.dichotomies {
            DichotomyChoice::Balanced(_) => return Ok(Dichotomies::Balanced),
            DichotomyChoice::OneVersusRest(_) => return Ok(Dichotomies::OneVersusRest),
            DichotomyChoice::Fixed(Fixed { positive }) => positive,
        };
        if let Some(unknown) = positive.iter().flatten().find(|i| **i >= manifolds) {
            return Err(format!("a dichotomy names manifold {unknown}, and there are {manifolds}"));
        }
        let sides = |side: &Vec<usize>| (0..manifolds).map(|i| side.contains(&i)).collect();
        Ok(Dichotomies::Fixed(positive.iter().map(sides).collect()))
    }
}

fn finding(g: &EffectiveGeometry) -> Finding<{ LAYER.len() }, { MANIFOLD.len() }> {
    let kinds = [g.alignments.center, g.alignments.axes, g.alignments.center_axes];
    let estimates = [g.capacity, g.dimension, g.radius, g.utility]
        .into_iter()
        .chain(kinds.map(|alignment| alignment.absolute))
        .chain(kinds.map(|alignment| alignment.cosine))
        .chain(kinds.map(|alignment| alignment.raw));
    let pair = |estimate: Estimate| [estimate.value, estimate.standard_error];
    let rest = [g.support_mean, g.inside, g.features as f64, g.manifolds.len() as f64];
    let mut numbers = [f64::NAN; LAYER.len()];
    for (number, value) in numbers.iter_mut().zip(estimates.flat_map(pair).chain(rest)) {
        *number = value;
    }
    let row = |m: &ManifoldEffect| {
        let [load, load_se] = pair(m.load);
        let (center, axes) = (m.center_norm, m.axes_norm);
        [load, load_se, m.touched, m.support_mean, center, axes, m.points as f64]
    };
    Finding { numbers, rows: g.manifolds.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::activations::Layer;
    use crate::rng::Streams;
    use crate::stages::shared::bench::Bench;

    /// Six clouds in two layers, and a layer that is the same everywhere.
    fn bench() -> Bench {
        let layer = |name: &str, features: usize, size: f64| {
            let mut stream = Streams::new(1, "test").stream(name);
            let centers: Vec<f64> = (0..6 * features).map(|_| stream.normal()).collect();
            let value = |n: usize| {
                let (stimulus, feature) = (n / features, n % features);
                centers[stimulus % 6 * features + feature] + size * stream.normal()
            };
            let values = (0..30 * features).map(value).map(|x| x as f32).collect();
            Layer { name: name.into(), features, values }
        };
        let dead = Layer { name: "dead".into(), features: 2, values: vec![1.0; 60] };
        let layers = vec![layer("wide", 40, 1.0), dead, layer("narrow", 70, 0.2)];
        let labels = (0..30).map(|i| i % 6).collect();
        Bench::new().put("activations", &Activations { count: 30, labels, layers })
    }

    #[test]
    fn narrow_manifolds_have_the_larger_capacity_and_the_identity_holds() {
        let results =
            bench().run::<ManifoldGlue>("activations = '@activations'\ndraws = 100").unwrap();
        let table = results.main::<Table>().frame().unwrap();
        let cell = |name: &str, row| table.column(name).unwrap().f64().unwrap().get(row);
        let capacity = |row| cell("capacity", row).unwrap();
        assert!(capacity(2) > 1.5 * capacity(0), "{table}");
        for row in [0, 2] {
            let (d, r) = (cell("dimension", row).unwrap(), cell("radius", row).unwrap());
            let identity = cell("utility", row).unwrap() * (1.0 + r.powi(-2)) / d;
            assert!((identity - capacity(row)).abs() < 1e-12, "{identity} {}", capacity(row));
            assert!(cell("capacity_se", row).unwrap() < 0.2 * capacity(row));
        }
        assert!(cell("capacity", 1).is_none());
        let failed = table.column("failed").unwrap().str().unwrap().clone();
        assert!(failed.get(0).is_none() && failed.get(1).unwrap().contains("points coincide"));
        let mean = f64::midpoint(capacity(0), capacity(2));
        assert!((results.metrics["capacity"] - mean).abs() < 1e-12);
        let manifolds = results.output::<Table>("manifolds").frame().unwrap();
        assert_eq!(manifolds.height(), 12);
        let loads = manifolds.column("load").unwrap().f64().unwrap();
        let total: f64 = loads.into_no_null_iter().take(6).sum();
        assert!((6.0 / total - capacity(0)).abs() < 1e-12);
    }

    #[test]
    fn dichotomies_can_be_given() {
        let run = |dichotomies: &str| {
            let text = format!(
                "activations = '@activations'\ndraws = 60\nlayers = ['wide']\ndichotomies = {dichotomies}"
            );
            bench().run::<ManifoldGlue>(&text)
        };
        let fixed = run("{ fixed = { positive = [[0, 1, 2], [5]] } }").unwrap();
        let sparse = run("{ one_versus_rest = {} }").unwrap();
        assert!(fixed.metrics["capacity"] > 0.0);
        assert_ne!(sparse.metrics, run("{ balanced = {} }").unwrap().metrics);
        let fail = |positive: &str| {
            run(&format!("{{ fixed = {{ positive = {positive} }} }}")).unwrap_err().to_string()
        };
        assert!(fail("[[6]]").contains("names manifold 6, and there are 6"));
        assert!(fail("[[0, 1, 2, 3, 4, 5]]").contains("has all manifolds on one side"));
        assert!(fail("[[]]").contains("must hold at least one dichotomy"));
    }

    #[test]
    fn an_analysis_that_is_broken_off_goes_on_to_the_same_bytes() {
        let text = "activations = '@activations'\ndraws = 20";
        for (at, attempts) in [(2, 3), (3, 2), (4, 1)] {
            assert_eq!(bench().check_resumption::<ManifoldGlue>(text, at), attempts, "{at}");
        }
    }
}
