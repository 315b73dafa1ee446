//! `manifold.simulated_capacity`: the capacity of object manifolds by simulation, layer by layer.

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
use crate::manifold::simulated::{SimulatedCapacity, SimulationError, SimulationOptions, simulate};

/// The numbers of a layer.
const LAYER: [&str; 9] = [
    "capacity",
    "capacity_low",
    "capacity_high",
    "critical_dimension",
    "trials",
    "separable_trials",
    "rank",
    "features",
    "manifolds",
];

/// Simulates the capacity of object manifolds: how few random dimensions still tell them apart.
///
/// Stimuli with one label are the points of one manifold. In each trial a dichotomy is drawn, and the points are
/// projected onto more and more random directions until a hyperplane with a threshold separates its sides, by bisection
/// with an exact test. Half of the trials do with the critical number of dimensions; the capacity is the number of
/// manifolds over it. This needs no theory, and checks `manifold.capacity`. The table has a row for each layer: `capacity`
/// with the bounds of its 95 % confidence interval (empty where the trials give no bound), the `critical_dimension`
/// interpolated between whole numbers, and the `rank` of all points, in which `separable_trials` of the `trials` are
/// separable. Table `trials` has a row for each trial: how many `dimensions` it needs, empty where all of them do not
/// do. A layer in which fewer than half of the dichotomies are separable at all has a reason under `failed`. Metrics are
/// means over the measured layers.
///
/// Source: Cohen et al. 2020, Nat. Commun. 11, 746, methods; Chung, Lee and Sompolinsky 2018, Phys. Rev. X 8, 031003.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifoldSimulatedCapacity {
    /// What the layers answered; labels tell the manifolds apart.
    activations: Input<Activations>,
    /// The layers to measure, by name; all of them where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<String>>,
    /// Which dichotomies are drawn.
    #[serde(default)]
    mode: Mode,
    /// Trials, at least 10; published: 100. The interval's width falls with their square root.
    #[serde(default = "hundred")]
    #[schemars(range(min = 10))]
    trials: usize,
    /// Seed of the dichotomies and of the directions.
    #[serde(default)]
    seed: Seed,
}

/// Which dichotomies are drawn.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// Half of the manifolds, rounded down, against the rest, as published.
    #[default]
    Balanced,
    /// One manifold against the rest.
    Sparse,
}

fn hundred() -> usize {
    100
}

impl Stage for ManifoldSimulatedCapacity {
    const KIND: &'static str = "manifold.simulated_capacity";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.simulated]
        kind = "manifold.simulated_capacity"
        activations = "@features"
    "#;

    fn check(&self) -> Vec<Violation> {
        violations([("trials", self.trials >= 10, "must be at least 10")])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Table::TYPE).and("trials", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let mut activations = cx.load(&self.activations)?;
        layers::choose(&mut activations, self.layers.as_deref())?;
        let streams = self.seed.streams(Self::KIND);
        let dichotomies = match self.mode {
            Mode::Balanced => Dichotomies::Balanced,
            Mode::Sparse => Dichotomies::OneVersusRest,
        };
        let options = SimulationOptions { dichotomies, trials: self.trials };
        let found = Findings::of(cx, &activations, |points, watch| {
            match simulate(points, &options, &streams, watch) {
                Err(SimulationError::Cancelled) => None,
                Err(error) => Some(Err(error.to_string())),
                Ok(simulated) => Some(Ok(finding(&simulated))),
            }
        })?;
        cx.metric("capacity", found.mean(0))?;
        cx.metric("critical_dimension", found.mean(3))?;
        cx.save_as("trials", &found.by_row(&activations.layers, "trial", &["dimensions"]))?;
        cx.save(&found.by_layer(&activations.layers, &LAYER))
    }
}

fn finding(simulated: &SimulatedCapacity) -> Finding<{ LAYER.len() }, 1> {
    let needed = &simulated.needed;
    let numbers = [
        simulated.capacity,
        simulated.interval.0.unwrap_or(f64::NAN),
        simulated.interval.1.unwrap_or(f64::NAN),
        simulated.critical_dimension,
        needed.len() as f64,
        needed.iter().flatten().count() as f64,
        simulated.rank as f64,
        simulated.features as f64,
        simulated.manifolds as f64,
    ];
    let dimensions = |needed: &Option<usize>| [needed.map_or(f64::NAN, |n| n as f64)];
    Finding { numbers, rows: needed.iter().map(dimensions).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::activations::Layer;
    use crate::rng::Streams;
    use crate::stages::shared::bench::Bench;

    /// Twenty points each a manifold, in a layer of many features and in one that is the same everywhere.
    fn bench() -> Bench {
        let mut stream = Streams::new(1, "test").stream("points");
        let values = (0..20 * 60).map(|_| stream.normal() as f32).collect();
        let layers = vec![
            Layer { name: "points".into(), features: 60, values },
            Layer { name: "dead".into(), features: 1, values: vec![0.5; 20] },
        ];
        Bench::new()
            .put("activations", &Activations { count: 20, labels: (0..20).collect(), layers })
    }

    #[test]
    fn points_have_the_capacity_of_the_perceptron() {
        let text = "activations = '@activations'\ntrials = 60";
        let results = bench().run::<ManifoldSimulatedCapacity>(text).unwrap();
        let table = results.main::<Table>().frame().unwrap();
        let cell = |name: &str, row| table.column(name).unwrap().f64().unwrap().get(row);
        // Cover 1965: half of all signs of 20 points are separable in 9 dimensions with a threshold.
        let (low, high) = (cell("capacity_low", 0).unwrap(), cell("capacity_high", 0).unwrap());
        assert!(low < 20.0 / 9.0 && high > 2.0, "{table}");
        assert_eq!(results.metrics["capacity"], cell("capacity", 0).unwrap());
        assert_eq!((cell("rank", 0), cell("trials", 0)), (Some(19.0), Some(60.0)));
        let failed = table.column("failed").unwrap().str().unwrap().get(1).unwrap();
        assert!(failed.contains("0 of 60 dichotomies") && cell("capacity", 1).is_none());
        let trials = results.output::<Table>("trials").frame().unwrap();
        let dimensions = trials.column("dimensions").unwrap().f64().unwrap();
        assert_eq!((trials.height(), dimensions.null_count()), (60, 0));
        let sparse = bench().run::<ManifoldSimulatedCapacity>(&format!("{text}\nmode = 'sparse'"));
        assert!(sparse.unwrap().metrics["capacity"] > cell("capacity", 0).unwrap());
    }

    #[test]
    fn a_simulation_that_is_broken_off_goes_on_to_the_same_bytes() {
        let text = "activations = '@activations'\ntrials = 10";
        for (at, attempts) in [(2, 2), (3, 1)] {
            let found = bench().check_resumption::<ManifoldSimulatedCapacity>(text, at);
            assert_eq!(found, attempts, "{at}");
        }
    }
}
