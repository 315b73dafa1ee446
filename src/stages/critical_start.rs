//! `critical.start`: where searches for critical points begin.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::problem::failure;
use crate::artifacts::points::Points;
use crate::artifacts::table::Table;
use crate::artifacts::trajectory::Trajectory;
use crate::engine::context::Context;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::landscape::descent;
use crate::landscape::starts::{Selection, StartOptions, select};

/// Draws start points from a training trajectory.
///
/// Uniformly in loss, so that searches begin at all heights of the landscape, or uniformly along training; with
/// Gaussian noise where asked for (Pennington and Bahri 2017; Frye et al. 2021). Point `i` depends on the seed and
/// `i` alone: a larger `count` adds points and changes none.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CriticalStart {
    /// The trajectory to draw from.
    trajectory: Input<Trajectory>,
    /// Number of points.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1))]
    count: usize,
    /// What the points are uniform in.
    #[serde(default)]
    uniform_in: UniformIn,
    /// Variance (not standard deviation) of the noise that is added to each parameter.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    noise_variance: f64,
    /// Seed of the draw.
    #[serde(default)]
    seed: Seed,
}

/// What start points are uniform in.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum UniformIn {
    /// The loss, between its lowest and its highest value.
    #[default]
    Loss,
    /// The points kept of the trajectory.
    Steps,
}

fn hundred() -> usize {
    100
}

impl Stage for CriticalStart {
    const KIND: &'static str = "critical.start";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;

    fn check(&self) -> Vec<Violation> {
        violations([
            ("count", (1..=1_000_000).contains(&self.count), "must be from 1 to 1000000"),
            ("noise_variance", self.noise_variance >= 0.0, "must be at least 0"),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Points::TYPE).and("origins", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let path = cx.load(&self.trajectory)?;
        let steps = path.steps.iter().map(|step| *step as usize).collect();
        let (dim, losses, thetas) = (path.dimension, path.losses, path.thetas);
        let trajectory = descent::Trajectory { dim, steps, losses, thetas };
        let options = StartOptions {
            count: self.count,
            selection: match self.uniform_in {
                UniformIn::Loss => Selection::UniformHeight,
                UniformIn::Steps => Selection::UniformIteration,
            },
            noise_variance: self.noise_variance,
        };
        let starts =
            select(&trajectory, &options, &self.seed.streams(Self::KIND)).map_err(failure)?;
        let table = Table::new()
            .counts("point", 0..starts.len())
            .counts("step", starts.iter().map(|s| s.step))
            .floats("loss", starts.iter().map(|s| s.loss));
        cx.save_as("origins", &table)?;
        let thetas = starts.into_iter().flat_map(|s| s.theta).collect();
        cx.save(&Points { problem: path.problem, dimension: dim, thetas })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stages::shared::bench::Bench;

    #[test]
    fn points_are_uniform_in_loss_and_a_larger_draw_begins_alike() {
        // Nearly all of the path lies at loss 0; uniform in loss, half the points come from above 0.5.
        let losses: Vec<f64> =
            (0..1000).map(|i| if i < 100 { 1.0 - f64::from(i) / 100.0 } else { 0.0 }).collect();
        let path = Trajectory {
            problem: json!({}),
            dimension: 1,
            steps: (0..1000).collect(),
            thetas: losses.clone(),
            losses,
        };
        let bench = Bench::new().put("path", &path);
        let draw = |count: usize| -> Points {
            let text = format!("trajectory = '@path'\ncount = {count}");
            bench.run::<CriticalStart>(&text).unwrap().main()
        };
        let (few, many) = (draw(50), draw(400));
        assert_eq!(few.thetas, many.thetas[..50]);
        let high = many.thetas.iter().filter(|loss| **loss > 0.5).count();
        // 200 of 400, within five standard deviations.
        assert!((150..250).contains(&high), "{high}");
    }
}
