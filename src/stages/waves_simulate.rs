//! `waves.simulate`: spontaneous retinal waves from a model.

use std::path::Path;

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::shared::STATE;
use super::shared::film::{self, Calibration};
use crate::artifacts::movie::Movie;
use crate::artifacts::tensor::{TensorFile, TensorView, TensorViews};
use crate::engine::checkpoint::Checkpoint;
use crate::engine::context::Context;
use crate::engine::failure::{Failure, FailureKind};
use crate::engine::parameter::Seed;
use crate::engine::stage::{Artifact, Determinism, Files, Outputs, Stage, Violation};
use crate::waves::automaton::{self, Automaton};
use crate::waves::godfrey_swindale::{self, GodfreySwindale};
use crate::waves::lansdell::{self, Lansdell};
use crate::waves::simulation::{
    MACROSCOPE_RATE, Parameters, Reached, Recording, SimulationError, Violations,
};

/// Simulates spontaneous retinal waves by one of three models; yields a variable of the cells over time.
///
/// `lansdell`, the default: starburst amacrine cells on a square lattice, each excitable, coupled by diffusing acetylcholine and
/// made refractory by a slow after-hyperpolarization; random conductances start the waves. Defaults are the model's;
/// pre-training on waves (Ligeralde et al. 2023) used a lattice of 32 and `hyperpolarization_strength` 0.5, for more frequent
/// waves. `godfrey_swindale`: cells on a hexagonal lattice whose thresholds fall until they fire, and rise with what they
/// receive meanwhile, with the constants of several species. `automaton`: a few rules, for tests and where hours
/// of waves are wanted. A movie is held in memory: 4 bytes a pixel and frame, 1 GB for the 237,424 frames of 32 x 32 of that
/// pre-training, and as much in a checkpoint, which is why one is written at most in a fiftieth of the time.
///
/// Source: Lansdell, Ford and Kutz 2014, PLoS Comput. Biol. 10(12): e1003953; Godfrey and Swindale 2007, PLoS Comput. Biol.
/// 3(11): e245; Butts, Feller, Shatz and Rokhsar 1999, J. Neurosci. 19(9): 3580.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WavesSimulate {
    /// Number of frames kept.
    #[schemars(range(min = 1))]
    frames: usize,
    /// Pixels along each side of the square movie; one shows one cell, but with `godfrey_swindale`, whose lattice
    /// is hexagonal.
    #[serde(default = "lattice")]
    #[schemars(range(min = 2, max = 4096))]
    size: usize,
    /// Frames a second of simulated time, above 0 and at most 1 / `dt`. Each frame is the state at the nearest time
    /// step. The default, 35/3, is the macroscope's rate (Ligeralde et al. 2023, who equate 3 s with 35 frames).
    #[serde(default = "macroscope")]
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "1/s"))]
    output_rate: f64,
    /// Simulated time before the first frame, in s, at least 0. Where absent, the model's: `lansdell` 500 s, as in the
    /// instructions of its code; `godfrey_swindale` 900 s, the 15 minutes of its program; `automaton` 120 s. At most
    /// 1e12 time steps in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0), extend("x-unit" = "s"))]
    burn_in: Option<f64>,
    /// The model, its constants, and which of its variables the movie shows.
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
    /// The model of Godfrey and Swindale (2007): refractory periods that depend on activity.
    GodfreySwindale(GodfreySwindale),
    /// A cellular automaton: cells that fire, recruit their neighbors and are refractory.
    Automaton(Automaton),
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

impl Model {
    fn name(&self) -> &'static str {
        match self {
            Self::Lansdell(_) => "lansdell",
            Self::GodfreySwindale(_) => "godfrey_swindale",
            Self::Automaton(_) => "automaton",
        }
    }

    fn burn_in(&self) -> f64 {
        match self {
            Self::Lansdell(_) => Lansdell::BURN_IN,
            Self::GodfreySwindale(_) => GodfreySwindale::BURN_IN,
            Self::Automaton(_) => Automaton::BURN_IN,
        }
    }

    fn check(&self, recording: Recording) -> Violations {
        match self.clone() {
            Self::Lansdell(model) => Parameters { recording, model }.check(),
            Self::GodfreySwindale(model) => Parameters { recording, model }.check(),
            Self::Automaton(model) => Parameters { recording, model }.check(),
        }
    }
}

impl WavesSimulate {
    fn recording(&self) -> Recording {
        let Self { frames, size, output_rate, .. } = *self;
        let burn_in = self.burn_in.unwrap_or_else(|| self.model.burn_in());
        Recording { size, frames, output_rate, burn_in }
    }

    /// Distance between neighboring pixels in mm.
    fn pitch(&self) -> f64 {
        match &self.model {
            // The outer cells lie on the border.
            Model::Lansdell(model) => model.length / (self.size - 1) as f64,
            Model::GodfreySwindale(GodfreySwindale { length, .. })
            | Model::Automaton(Automaton { length, .. }) => length / self.size as f64,
        }
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
            let model = self.model.name();
            let place = if own.contains(&field) {
                field.to_owned()
            } else {
                format!("model.{model}.{field}")
            };
            Violation::new(place, rule)
        };
        self.model.check(self.recording()).into_iter().map(violation).collect()
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Movie::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let progress = |done: f64| cx.progress(done, || format!("{} frames", self.frames));
        let paused = |at: &Reached| cx.pause_point(|| Ok(at)).is_err();
        let streams = self.seed.streams(Self::KIND);
        let (recording, from) = (self.recording(), cx.resume());
        let frames = match self.model.clone() {
            Model::Lansdell(model) => {
                let parameters = Parameters { recording, model };
                lansdell::simulate(&parameters, &streams, from, &progress, &paused)
            }
            Model::GodfreySwindale(model) => {
                let parameters = Parameters { recording, model };
                godfrey_swindale::simulate(&parameters, &streams, from, &progress, &paused)
            }
            Model::Automaton(model) => {
                let parameters = Parameters { recording, model };
                automaton::simulate(&parameters, &streams, from, &progress, &paused)
            }
        };
        let frames = frames.map_err(|error| failure(&error))?;
        let calibration = Calibration { rate: self.output_rate, pitch: Some(self.pitch()) };
        cx.save(&film::to_movie(frames, calibration))
    }
}

impl Checkpoint for Reached {
    /// 2: variables lie in the model's order of cells, one tensor for all.
    const FORMAT: u32 = 2;

    fn place(&self) -> String {
        format!("time step {}", self.step)
    }

    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let shape = [self.state.len(), self.state.first().map_or(0, Vec::len)];
        let kept = [self.frames.len()];
        let state = self.state.concat();
        TensorViews::about(json!({ "step": self.step }))
            .with("state", TensorView::f64(&shape, &state))
            .with("frames", TensorView::f32(&kept, &self.frames))
            .save(&folder.join(STATE))
    }

    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(STATE)?)?;
        let step = file.about["step"].as_u64().context("`step` is missing")?;
        let ([_], frames) = file.take_f32("frames")?;
        let ([_, cells], state) = file.take_f64("state")?;
        let state = state.chunks(cells.max(1)).map(<[f64]>::to_vec).collect();
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
        let check = |text: &str, cases: &[(usize, usize)]| {
            for &(at, least) in cases {
                let attempts = Bench::new().check_resumption::<WavesSimulate>(text, at);
                assert!(attempts >= least && (attempts == 1) == (at == 1000), "{at}: {attempts}");
            }
        };
        let lansdell = "frames = 20\nsize = 18\nburn_in = 0.5";
        check(lansdell, &[(2, 10), (5, 4), (9, 2), (1000, 1)]);
        let hexagonal = "frames = 30\nsize = 8\nburn_in = 3\noutput_rate = 5\n\
                         model = { godfrey_swindale = { length = 0.3, variable = 'excitation' } }";
        check(hexagonal, &[(2, 5), (4, 2), (1000, 1)]);
        let automaton = "frames = 60\nsize = 8\nburn_in = 10\noutput_rate = 2\n\
                         model = { automaton = { nucleation_rate = 1, variable = 'refractoriness' } }";
        check(automaton, &[(2, 4), (4, 2), (1000, 1)]);
    }

    #[test]
    fn each_model_has_a_burn_in_a_pitch_and_variables_of_its_own() {
        let of = |model: &str| -> WavesSimulate {
            toml::from_str(&format!("frames = 1\nsize = 33\nmodel = {{ {model} }}")).unwrap()
        };
        for (model, burn_in, pitch) in [
            ("lansdell = {}", 500.0, 2.0 / 32.0),
            ("godfrey_swindale = { length = 1.65 }", 900.0, 0.05),
            ("automaton = { length = 3.3 }", 120.0, 0.1),
        ] {
            let stage = of(model);
            assert!(stage.check().is_empty());
            assert_eq!(stage.recording().burn_in, burn_in);
            assert!((stage.pitch() - pitch).abs() < 1e-15);
        }
        let text = "frames = 1\nmodel = { automaton = { variable = 'potential' } }";
        let error = toml::from_str::<WavesSimulate>(text).unwrap_err().to_string();
        assert!(error.contains("expected `activity` or `refractoriness`"), "{error}");
        let wrong = of("godfrey_swindale = { rings = 0 }").check();
        let rule = "must lie between 1 and 100, is 0";
        assert_eq!(wrong, [Violation::new("model.godfrey_swindale.rings", rule)]);
    }

    /// What is added later and left out is no part of the key.
    #[test]
    fn the_default_variable_is_not_written() {
        let stage: WavesSimulate = toml::from_str("frames = 1").unwrap();
        let written = serde_json::to_value(&stage).unwrap();
        assert!(written["model"]["lansdell"].get("variable").is_none(), "{written}");
        let text = "frames = 1\nmodel = { lansdell = { variable = 'acetylcholine' } }";
        let stage: WavesSimulate = toml::from_str(text).unwrap();
        let written = serde_json::to_value(&stage).unwrap();
        assert_eq!(written["model"]["lansdell"]["variable"], "acetylcholine");
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
