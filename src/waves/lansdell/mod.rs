//! The reaction–diffusion model of stage-II retinal waves of Lansdell, Ford & Kutz (2014).
//!
//! PLoS Comput. Biol. 10(12): e1003953. Starburst amacrine cells on a square lattice, excitable through calcium,
//! excite each other through diffusing acetylcholine; a slow after-hyperpolarization makes a cell that took part in a wave
//! refractory, and a random conductance starts the waves. Each cell has four variables: membrane potential V (mV),
//! potassium gate R, hyperpolarization S and acetylcholine A (nM).
//!
//! One step is Crank–Nicolson diffusion of A followed by an explicit midpoint step of all four variables
//! without diffusion. The noise is held for an interval and evaluated at its start.

mod checks;
mod diffusion;
mod lattice;
mod layout;
mod parameters;
mod reaction;
#[cfg(test)]
mod tests;

use lattice::Lattice;
pub use parameters::{Lansdell, Noise, Variable};

use super::Frames;
use super::simulation::{self, Parameters, Reached, SimulationError, System};
use crate::rng::Streams;

/// Simulates waves from rest, or goes on; yields a variable of the cells, one pixel a cell.
///
/// `progress` receives the fraction done and `paused` what the simulation could go on from, both once a draw of the noise;
/// where the latter says `true` it ends. Draw `k` of the noise comes
/// from lane `k` of the stream `noise` and acts on steps that begin in interval `k`. The result has the same bits on every machine
/// and for any number of threads.
pub fn simulate(
    parameters: &Parameters<Lansdell>,
    streams: &Streams,
    from: Option<Reached>,
    progress: &dyn Fn(f64),
    paused: &dyn Fn(&Reached) -> bool,
) -> Result<Frames, SimulationError> {
    simulation::ensure_none(parameters.check())?;
    let Parameters { recording, model } = parameters;
    let lattice = Lattice::new(recording.size, model);
    let mut retina = Retina { model, streams, lattice };
    simulation::run(recording, &mut retina, from, progress, paused)
}

/// The lattice with the model and its noise.
struct Retina<'a> {
    model: &'a Lansdell,
    streams: &'a Streams,
    lattice: Lattice,
}

impl System for Retina<'_> {
    fn dt(&self) -> f64 {
        self.model.dt
    }

    fn start(&self) -> Vec<Vec<f64>> {
        self.lattice.at_rest()
    }

    fn interval(&self, step: u64) -> u64 {
        draw_of_step(self.model, step)
    }

    fn begin(&mut self, interval: u64) {
        self.lattice.set_input(self.model, self.streams, interval);
    }

    fn advance(&mut self, state: &mut [Vec<f64>], step: u64) -> Result<(), SimulationError> {
        self.lattice.step(state, step)
    }

    fn show(&self, state: &[Vec<f64>], frames: &mut Vec<f32>) {
        self.lattice.show(&state[self.model.variable as usize], frames);
    }
}

/// Interval of the noise in which a time step begins; a step that begins on a border up to rounding is in the later one.
fn draw_of_step(model: &Lansdell, step: u64) -> u64 {
    (step as f64 * model.dt / model.noise_interval + 1e-9) as u64
}
