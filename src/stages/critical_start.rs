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
/// Uniformly in loss or its logarithm, so that searches begin at all heights of the landscape, or uniformly along
/// training; with Gaussian noise where asked for (Pennington and Bahri 2017; Frye et al. 2021). Point `i` depends on
/// the seed and `i` alone: a larger `count` adds points and changes none.
///
/// Source: Frye et al. 2021, Neural Computation 33; Pennington and Bahri 2017.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CriticalStart {
    /// The trajectory to draw from.
    trajectory: Input<Trajectory>,
    /// Number of points, from 1 to 1000000, drawn with replacement; published: 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1))]
    count: usize,
    /// What the points are uniform in. All can choose among the kept points of the trajectory only: where training is
    /// fast, a loss is as fine as the `keep_every` of `network.train`, so a loss between two kept points gives the higher.
    #[serde(default)]
    uniform_in: UniformIn,
    /// Variance (not standard deviation) of the noise that is added to each parameter, at least 0; published: 0, and 0.01
    /// for half of the points.
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
    /// The logarithm of the loss, which must be above 0: where training ends near 0, more points come from its end.
    LogLoss,
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
    const SMALL: bool = true;
    const EXAMPLE: &'static str = r#"
        [stages.starts]
        kind = "critical.start"
        trajectory = "@training"
    "#;

    fn check(&self) -> Vec<Violation> {
        violations([
            ("count", (1..=1_000_000).contains(&self.count), "must be from 1 to 1000000"),
            ("noise_variance", self.noise_variance >= 0.0, "must be at least 0"),
            ("noise_variance", self.noise_variance.is_finite(), "must be finite"),
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
                UniformIn::LogLoss => Selection::UniformLogHeight,
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
    use crate::store::hash;

    #[test]
    fn a_draw_has_the_same_bits_everywhere() {
        let number = |i: u32| f64::from(i * i % 101) / 64.0 - 0.5;
        let path = Trajectory {
            problem: json!({}),
            dimension: 3,
            steps: (0..40).map(|i| 5 * i).collect(),
            losses: (0..40).map(|i| 4.0 / f64::from(i + 1)).collect(),
            thetas: (0..120).map(number).collect(),
        };
        let bench = Bench::new().put("path", &path);
        for (uniform_in, expected) in [
            ("loss", "2e418a9d207621716a771020a3f6c913f47ec23f07966cb9d70e9340d2ead3fc"),
            ("steps", "7ae2368bacf232d31447791f5acfc3d739766e87e2aa06d836383ad8071aba2a"),
        ] {
            let text = format!(
                "trajectory = '@path'\ncount = 16\nnoise_variance = 0.01\nseed = 3\n\
                 uniform_in = '{uniform_in}'"
            );
            let points: Points = bench.run::<CriticalStart>(&text).unwrap().main();
            let bits = hash::bytes(bytemuck::cast_slice(&points.thetas)).to_hex();
            assert_eq!(bits, expected, "{uniform_in}");
        }
    }

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
