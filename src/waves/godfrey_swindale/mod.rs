//! The model of retinal waves of Godfrey and Swindale (2007): activity-dependent refractory periods.
//!
//! PLoS Comput. Biol. 3(11): e245. Amacrine cells on a hexagonal lattice excite those whose dendrites overlap with theirs. The
//! threshold of a cell falls slowly, so that it fires by itself after a while; while it fires its threshold rises, and the
//! more so the more input it receives. Waves end where cells have fired lately, and need no noise.
//!
//! In a time step, the input `I` of each cell is the sum of the overlaps (the share of a dendritic disc) with cells that fire. A
//! silent cell's excitation `e` moves towards it, `e += (I - e) dt / τ_K`, and it fires for a time D as soon as `e` reaches
//! its threshold `θ`; then `e` is 0 again. The threshold falls by `r dt`, in a firing cell it also rises by
//! `(H1 + H2 I) dt / D`, and it is never below 0. The rate `r` is `H1 / P`, times the sum of the cell's overlaps over that of the cell
//! with most neighbors, times a normal number of mean 1 that is drawn anew after each firing.

mod lattice;
mod parameters;
#[cfg(test)]
mod tests;

pub use parameters::{GodfreySwindale, Preset, Sampling, Variable};

use lattice::Lattice;
use parameters::Constants;

use super::Frames;
use super::simulation::{self, Parameters, Reached, SimulationError, System};
use crate::rng::Streams;

/// Time steps between two places where a simulation may pause: a simulated second of the authors' steps.
const INTERVAL: u64 = 40;

/// The lowest factor of a threshold's fall. A threshold that rose by itself would silence its cell for ever.
const LEAST_FACTOR: f64 = 0.1;

/// Simulates waves, or goes on; yields a variable of the cells, sampled onto square pixels.
///
/// `progress` receives the fraction done and `paused` what the simulation could go on from, both every 40 time steps; where
/// the latter says `true` it ends. Thresholds and first factors come from the streams `thresholds` and `factors`, the factor
/// after a firing that ends in step `s` of cell `c` of `n` from lane `s n + c` of `factor`.
pub fn simulate(
    parameters: &Parameters<GodfreySwindale>,
    streams: &Streams,
    from: Option<Reached>,
    progress: &dyn Fn(f64),
    paused: &dyn Fn(&Reached) -> bool,
) -> Result<Frames, SimulationError> {
    simulation::ensure_none(parameters.check())?;
    let Parameters { recording, model } = parameters;
    let mut retina = Retina::new(model, streams, recording.size);
    simulation::run(recording, &mut retina, from, progress, paused)
}

/// The lattice with its couplings.
struct Retina<'a> {
    model: &'a GodfreySwindale,
    constants: Constants,
    streams: &'a Streams,
    lattice: Lattice,
    strengths: Vec<f64>,
    /// The cells that each pixel shows.
    pixels: Vec<Vec<usize>>,
    input: Vec<f64>,
}

impl<'a> Retina<'a> {
    fn new(model: &'a GodfreySwindale, streams: &'a Streams, size: usize) -> Self {
        let lattice = Lattice::new(model);
        Self {
            model,
            constants: model.constants(),
            streams,
            strengths: lattice.strengths(),
            pixels: lattice.pixels(size, model.length, model.sampling),
            input: vec![0.0; lattice.cells()],
            lattice,
        }
    }

    /// Time steps for which a cell fires.
    fn duration(&self) -> f64 {
        (self.constants.firing_time / self.model.dt).round().max(1.0)
    }

    /// The rate in 1/s at which a threshold falls, of a standard normal number.
    fn fall(&self, cell: usize, normal: f64) -> f64 {
        let factor = (1.0 + self.model.recovery_spread * normal).max(LEAST_FACTOR);
        let Constants { threshold_rise, recovery_time, .. } = self.constants;
        threshold_rise / recovery_time * self.strengths[cell] * factor
    }
}

impl System for Retina<'_> {
    fn dt(&self) -> f64 {
        self.model.dt
    }

    /// Excitation, threshold, the rate at which that falls, and the time steps for which a cell goes on firing.
    fn start(&self) -> Vec<Vec<f64>> {
        let cells = self.lattice.cells();
        let GodfreySwindale { lowest_threshold, highest_threshold, .. } = *self.model;
        let mut thresholds = self.streams.stream("thresholds");
        let mut threshold =
            || lowest_threshold + (highest_threshold - lowest_threshold) * thresholds.uniform();
        let mut factors = self.streams.stream("factors");
        vec![
            vec![0.0; cells],
            (0..cells).map(|_| threshold()).collect(),
            (0..cells).map(|cell| self.fall(cell, factors.normal())).collect(),
            vec![0.0; cells],
        ]
    }

    fn interval(&self, step: u64) -> u64 {
        step / INTERVAL
    }

    fn begin(&mut self, _interval: u64) {}

    fn advance(&mut self, state: &mut [Vec<f64>], step: u64) -> Result<(), SimulationError> {
        let [excitation, threshold, fall, left] = state else {
            unreachable!("a cell has four variables")
        };
        self.input.fill(0.0);
        for cell in (0..left.len()).filter(|cell| left[*cell] > 0.0) {
            self.lattice.excite(cell, &mut self.input);
        }
        let (dt, duration, cells) = (self.model.dt, self.duration(), left.len() as u64);
        let Constants { threshold_rise, input_rise, excitation_time, .. } = self.constants;
        let (approach, per_firing) = (dt / excitation_time, 1.0 / (duration * dt));
        for cell in 0..left.len() {
            let input = self.input[cell];
            if left[cell] > 0.0 {
                left[cell] -= 1.0;
                if left[cell] == 0.0 {
                    excitation[cell] = 0.0;
                    let lane = step * cells + cell as u64;
                    fall[cell] = self.fall(cell, self.streams.indexed("factor", lane).normal());
                }
            } else {
                excitation[cell] += (input - excitation[cell]) * approach;
                if excitation[cell] >= threshold[cell] {
                    left[cell] = duration;
                }
            }
            let rise = if left[cell] > 0.0 {
                (threshold_rise + input * input_rise) * per_firing
            } else {
                0.0
            };
            threshold[cell] = (threshold[cell] + (rise - fall[cell]) * dt).max(0.0);
        }
        Ok(())
    }

    fn show(&self, state: &[Vec<f64>], frames: &mut Vec<f32>) {
        let value = |cell: &usize| match self.model.variable {
            Variable::Activity => f64::from(u8::from(state[3][*cell] > 0.0)),
            Variable::Excitation => state[0][*cell],
            Variable::Threshold => state[1][*cell],
        };
        let mean = |cells: &Vec<usize>| cells.iter().map(value).sum::<f64>() / cells.len() as f64;
        frames.extend(self.pixels.iter().map(|cells| mean(cells) as f32));
    }
}
