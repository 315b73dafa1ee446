//! `waves.simulate`: spontaneous retinal waves from a model.

use std::path::Path;

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::shared::STATE;
use super::shared::film::{self, Calibration};
use crate::artifacts::movie::Movie;
use crate::artifacts::tensor::{Tensor, TensorFile};
use crate::engine::checkpoint::Checkpoint;
use crate::engine::context::Context;
use crate::engine::failure::{Failure, FailureKind};
use crate::engine::parameter::Seed;
use crate::engine::stage::{Artifact, Determinism, Files, Outputs, Stage, Violation};
use crate::waves::lansdell::{Reached, SimulationError, simulate};
use crate::waves::parameters::{Lansdell, MACROSCOPE_RATE, Parameters, Recording};

/// Simulates stage-II retinal waves; yields the membrane potential of every cell, in mV, over time.
///
/// Starburst amacrine cells on a square lattice, each excitable, coupled by diffusing acetylcholine and made
/// refractory by a slow after-hyperpolarization; random conductances start the waves (Lansdell, Ford and Kutz 2014,
/// PLoS Comput. Biol. 10(12): e1003953). Defaults are the model's; pre-training on waves (Ligeralde et al. 2023) used
/// a lattice of 32 and `hyperpolarization_strength` 0.5, for more frequent waves.
///
/// Source: Lansdell, Ford and Kutz 2014, PLoS Comput. Biol. 10(12): e1003953.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WavesSimulate {
    /// Number of frames kept.
    #[schemars(range(min = 1))]
    frames: usize,
    /// Cells along each side of the square lattice; one pixel a cell.
    #[serde(default = "lattice")]
    #[schemars(range(min = 2, max = 4096))]
    size: usize,
    /// Frames a second of simulated time, above 0 and at most 1 / `dt`. Each frame is the state at the nearest time
    /// step. The default, 35/3, is the macroscope's rate (Ligeralde et al. 2023, who equate 3 s with 35 frames).
    #[serde(default = "macroscope")]
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "1/s"))]
    output_rate: f64,
    /// Simulated time before the first frame, in s, at least 0. The default, 500 s, is that of the instructions of
    /// Lansdell's code. At most 1e12 time steps in all.
    #[serde(default = "burn_in")]
    #[schemars(range(min = 0.0), extend("x-unit" = "s"))]
    burn_in: f64,
    /// The model and its constants.
    #[serde(default)]
    model: Model,
    /// Seed of the noise.
    #[serde(default)]
    seed: Seed,
}

/// A model of waves.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Model {
    /// The reaction-diffusion model of Lansdell, Ford and Kutz (2014).
    Lansdell(Lansdell),
}

impl Default for Model {
    fn default() -> Self {
        Self::Lansdell(Lansdell::default())
    }
}

fn lattice() -> usize {
    Recording::default().size
}
fn macroscope() -> f64 {
    MACROSCOPE_RATE
}
fn burn_in() -> f64 {
    Recording::default().burn_in
}

impl WavesSimulate {
    fn parameters(&self) -> Parameters {
        let Model::Lansdell(model) = self.model.clone();
        let Self { frames, size, output_rate, burn_in, .. } = *self;
        Parameters { recording: Recording { size, frames, output_rate, burn_in }, model }
    }

    /// Distance between neighboring cells in mm.
    fn spacing(&self) -> f64 {
        let Model::Lansdell(model) = &self.model;
        model.length / (self.size - 1) as f64
    }
}

impl Stage for WavesSimulate {
    const KIND: &'static str = "waves.simulate";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.retina]
        kind = "waves.simulate"
        frames = 1000
    "#;

    fn check(&self) -> Vec<Violation> {
        let own = ["frames", "size", "output_rate", "burn_in"];
        let violation = |(field, rule): (&'static str, String)| {
            let within = if own.contains(&field) { "" } else { "model.lansdell." };
            Violation::new(format!("{within}{field}"), rule)
        };
        self.parameters().check().into_iter().map(violation).collect()
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Movie::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let progress = |done: f64| cx.progress(done, || format!("{} frames", self.frames));
        let paused = |at: &Reached| cx.pause_point(|| Ok(at)).is_err();
        let streams = self.seed.streams(Self::KIND);
        let frames = simulate(&self.parameters(), &streams, cx.resume(), &progress, &paused)
            .map_err(|error| failure(&error))?;
        let pitch = Some(self.spacing());
        cx.save(&film::to_movie(frames, Calibration { rate: self.output_rate, pitch }))
    }
}

/// The variables of a cell, in the model's order.
const VARIABLES: [&str; 4] = ["potential", "potassium_gate", "hyperpolarization", "acetylcholine"];

impl Checkpoint for Reached {
    const FORMAT: u32 = 1;

    fn place(&self) -> String {
        format!("time step {}", self.step)
    }

    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let frames = Tensor::f32(&[self.frames.len()], self.frames.clone());
        let mut file = TensorFile::about(json!({ "step": self.step })).with("frames", frames);
        for (name, values) in VARIABLES.into_iter().zip(&self.state) {
            file = file.with(name, Tensor::f64(&[values.len()], values.clone()));
        }
        file.save(&folder.join(STATE))
    }

    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(STATE)?)?;
        let step = file.about["step"].as_u64().context("`step` is missing")?;
        let ([_], frames) = file.take_f32("frames")?;
        let mut state = [const { Vec::new() }; 4];
        for (name, values) in VARIABLES.into_iter().zip(&mut state) {
            *values = file.take_f64::<1>(name)?.1;
        }
        Ok(Self { step, state, frames })
    }
}

fn failure(error: &SimulationError) -> Failure {
    let message = error.to_string();
    match error {
        SimulationError::Cancelled => Failure::interrupted(),
        SimulationError::Foreign => Failure::new(FailureKind::Internal, message),
        SimulationError::NotFinite { .. } => Failure::numeric(message),
        SimulationError::Parameters(_) => Failure::user(message),
        SimulationError::Memory { .. } => Failure::new(FailureKind::Resource, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::shared::bench::Bench;

    #[test]
    fn a_movie_repeats_and_follows_its_seed() {
        let run = |more: &str| -> Movie {
            let text = format!("frames = 20\nsize = 8\nburn_in = 2\n{more}");
            Bench::new().run::<WavesSimulate>(&text).unwrap().main()
        };
        let fast = "model = { lansdell = { dt = 0.005 } }\n";
        let first = run(fast);
        assert_eq!((first.frames, first.height, first.width), (20, 8, 8));
        assert_eq!(first.pitch, Some(2.0 / 7.0));
        assert_eq!(first, run(fast));
        assert_ne!(first, run(&format!("{fast}seed = 1")));
        // At rest near -70 mV, and never beyond the reversal potentials.
        assert!(first.data.iter().all(|v| (-90.0..50.0).contains(v)));
    }

    #[test]
    fn a_simulation_that_is_broken_off_goes_on_to_the_same_bytes() {
        let text = "frames = 20\nsize = 8\nburn_in = 0.5";
        for (at, least) in [(2, 10), (5, 4), (9, 2), (1000, 1)] {
            let attempts = Bench::new().check_resumption::<WavesSimulate>(text, at);
            assert!(attempts >= least && (attempts == 1) == (at == 1000), "{at}: {attempts}");
        }
    }

    #[test]
    fn an_unstable_step_is_refused_with_the_reason() {
        let text = "frames = 1\nmodel = { lansdell = { dt = 0.05 } }";
        let error = Bench::new().run::<WavesSimulate>(text).unwrap_err().to_string();
        let expected = "must be at most 8.65e-3 s, is 0.05: the membrane relaxes (37.0 nS over 160 pF) at up to \
                        231/s, and explicit midpoint steps need dt <= 2 / rate";
        let stage: WavesSimulate = toml::from_str(text).unwrap();
        assert_eq!(stage.check(), [Violation::new("model.lansdell.dt", expected)], "{error}");
        let noise = "frames = 1\nmodel = { lansdell = { noise = { exponential = { rate = 0 } } } }";
        let stage: WavesSimulate = toml::from_str(noise).unwrap();
        let rate = "model.lansdell.noise.exponential.rate";
        assert_eq!(stage.check(), [Violation::new(rate, "must be positive and finite, is 0")]);
    }
}
