//! A cellular automaton of waves: a cheap excitable medium with few rules.
//!
//! A cell is ready, fires or is refractory. In a time step, a ready cell begins to fire by itself with a small probability,
//! and each firing cell within reach recruits it with another, all independent of each other. It fires for a fixed
//! time, then is refractory for a time that is part fixed and part random: so the share of cells that can be
//! recruited is random in space, and ends waves (Butts, Feller, Shatz and Rokhsar 1999, J. Neurosci. 19: 3580).
//! Firing for a second is theirs, a refractory period of half a minute that of Teh et al. 2023 (Sci. Adv. 9: eadf4240).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Frames;
use super::simulation::{
    self, Parameters, Reached, SimulationError, System, Violations, check_ranges,
};
use crate::rng::Streams;

/// Time steps between two places where a simulation may pause.
const INTERVAL: u64 = 64;

/// The automaton's probabilities and times.
///
/// A stand-in for the models of cells where waves are wanted and their shape matters little: it makes hours of them in seconds. The
/// defaults give waves of about the frequency and speed that mice's have. Times are rounded to time steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Automaton {
    /// What the movie shows.
    pub variable: Variable,
    /// Side of the retina in mm. One pixel shows one cell, `length` / `size` wide.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "mm"))]
    pub length: f64,
    /// Time step in s, above 0. A front moves by `reach` in one at most.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    pub dt: f64,
    /// How many waves begin by themselves in a second and mm², at least 0, where all cells are ready.
    #[schemars(range(min = 0.0), extend("x-unit" = "1/(s mm²)"))]
    pub nucleation_rate: f64,
    /// Distance up to which a firing cell recruits others, in cells, from 1 to 16. The default, 1.5, is its eight neighbors.
    #[schemars(range(min = 1.0, max = 16.0), extend("x-unit" = "cells"))]
    pub reach: f64,
    /// Probability with which a firing cell recruits a ready one within reach in a time step, from 0 to 1. At 1, fronts move
    /// by `reach` a time step.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub recruitment: f64,
    /// How long a cell fires, in s, at least one time step.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    pub firing_time: f64,
    /// How long a cell is refractory at least, in s, at least 0.
    #[schemars(range(min = 0.0), extend("x-unit" = "s"))]
    pub refractory_time: f64,
    /// Mean of the exponential time in s that comes on top, drawn anew after each firing; at least 0.
    #[schemars(range(min = 0.0), extend("x-unit" = "s"))]
    pub refractory_spread: f64,
}

/// A variable of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variable {
    /// 1 while a cell fires and 0 while it is silent. `movie.segment` takes a threshold of 0.5.
    #[default]
    Activity,
    /// Time in s for which a cell is still refractory; 0 for one that is ready or fires.
    Refractoriness,
}

impl Default for Automaton {
    fn default() -> Self {
        Self {
            variable: Variable::Activity,
            length: 2.0,
            dt: 0.05,
            nucleation_rate: 0.02,
            reach: 1.5,
            recruitment: 0.08,
            firing_time: 1.0,
            refractory_time: 30.0,
            refractory_spread: 20.0,
        }
    }
}

impl Automaton {
    /// Simulated time in s before the first frame where nothing else is said: a few refractory periods.
    pub const BURN_IN: f64 = 120.0;
}

impl Parameters<Automaton> {
    /// Lists every field that is out of range, with what is wrong; empty if the simulation can run.
    pub fn check(&self) -> Violations {
        let (recording, model) = (&self.recording, &self.model);
        let mut found = Vec::new();
        recording.check_counts(&mut found);
        let positive = [
            ("output_rate", recording.output_rate),
            ("length", model.length),
            ("dt", model.dt),
            ("firing_time", model.firing_time),
        ];
        let not_negative = [
            ("burn_in", recording.burn_in),
            ("nucleation_rate", model.nucleation_rate),
            ("refractory_time", model.refractory_time),
            ("refractory_spread", model.refractory_spread),
        ];
        check_ranges(&positive, &not_negative, &mut found);
        for (field, value, range) in
            [("reach", model.reach, 1.0..=16.0), ("recruitment", model.recruitment, 0.0..=1.0)]
        {
            if !range.contains(&value) {
                let (low, high) = range.into_inner();
                found.push((field, format!("must be from {low} to {high}, is {value}")));
            }
        }
        if found.is_empty() {
            recording.check_times(model.dt, &mut found);
        }
        found
    }
}

/// Simulates waves from cells that are all ready, or goes on; yields a variable of the cells, one pixel a cell.
///
/// `progress` receives the fraction done and `paused` what the simulation could go on from, both every 64 time steps; where
/// the latter says `true` it ends. Step `s` draws from lane `s` of the stream `firing`, the refractory time after a firing that
/// ends in it in cell `c` of `n` from lane `s n + c` of `refractory`.
pub fn simulate(
    parameters: &Parameters<Automaton>,
    streams: &Streams,
    from: Option<Reached>,
    progress: &dyn Fn(f64),
    paused: &dyn Fn(&Reached) -> bool,
) -> Result<Frames, SimulationError> {
    simulation::ensure_none(parameters.check())?;
    let Parameters { recording, model } = parameters;
    let mut sheet = Sheet::new(model, streams, recording.size);
    simulation::run(recording, &mut sheet, from, progress, paused)
}

/// The cells, with what happens to a ready one.
struct Sheet<'a> {
    model: &'a Automaton,
    streams: &'a Streams,
    size: usize,
    /// For each row within reach, how far that goes to the left and right.
    disc: Vec<(isize, usize)>,
    /// Probability to begin firing in a time step, by the number of cells within reach that fire.
    probabilities: Vec<f64>,
    /// How many cells within reach fire.
    firing: Vec<usize>,
}

impl<'a> Sheet<'a> {
    fn new(model: &'a Automaton, streams: &'a Streams, size: usize) -> Self {
        let reach = model.reach as isize;
        let half = |row: isize| (model.reach.powi(2) - (row * row) as f64).sqrt() as usize;
        let disc: Vec<_> = (-reach..=reach).map(|row| (row, half(row))).collect();
        let most: usize = disc.iter().map(|(_, half)| 2 * half + 1).sum();
        let area = (model.length / size as f64).powi(2);
        let mut left_alone = libm::exp(-model.nucleation_rate * area * model.dt);
        let mut probability = || {
            let begins = 1.0 - left_alone;
            left_alone *= 1.0 - model.recruitment;
            begins
        };
        let probabilities = (0..=most).map(|_| probability()).collect();
        Self { model, streams, size, disc, probabilities, firing: vec![0; size * size] }
    }

    fn steps(&self, seconds: f64) -> f64 {
        (seconds / self.model.dt).round()
    }

    /// Counts a firing cell in all cells within reach, itself included: it is not ready.
    fn count(&mut self, cell: usize) {
        let (row, column) = (cell / self.size, cell % self.size);
        for &(offset, half) in &self.disc {
            let Some(row) = row.checked_add_signed(offset).filter(|row| *row < self.size) else {
                continue;
            };
            let columns = column.saturating_sub(half)..(column + half + 1).min(self.size);
            for firing in &mut self.firing[row * self.size..][..self.size][columns] {
                *firing += 1;
            }
        }
    }
}

impl System for Sheet<'_> {
    fn dt(&self) -> f64 {
        self.model.dt
    }

    /// Time steps for which a cell goes on firing, or negative, for which it is still refractory; 0 for a ready one.
    fn start(&self) -> Vec<Vec<f64>> {
        vec![vec![0.0; self.size * self.size]]
    }

    fn interval(&self, step: u64) -> u64 {
        step / INTERVAL
    }

    fn begin(&mut self, _interval: u64) {}

    fn advance(&mut self, state: &mut [Vec<f64>], step: u64) -> Result<(), SimulationError> {
        let left = &mut state[0];
        self.firing.fill(0);
        for cell in (0..left.len()).filter(|cell| left[*cell] > 0.0) {
            self.count(cell);
        }
        let duration = self.steps(self.model.firing_time).max(1.0);
        let cells = left.len() as u64;
        let mut stream = self.streams.indexed("firing", step);
        for (cell, left) in left.iter_mut().enumerate() {
            // Each cell draws in each step, so that a number belongs to a cell whatever the others do.
            let drawn = stream.uniform();
            if *left < 0.0 {
                *left += 1.0;
            } else if *left > 1.0 {
                *left -= 1.0;
            } else if *left == 1.0 {
                let mut refractory = self.model.refractory_time;
                if self.model.refractory_spread > 0.0 {
                    let mut stream = self.streams.indexed("refractory", step * cells + cell as u64);
                    refractory += stream.exponential(1.0 / self.model.refractory_spread);
                }
                *left = -(refractory / self.model.dt).round();
            } else if drawn < self.probabilities[self.firing[cell]] {
                *left = duration;
            }
        }
        Ok(())
    }

    fn show(&self, state: &[Vec<f64>], frames: &mut Vec<f32>) {
        frames.extend(state[0].iter().map(|&left| match self.model.variable {
            Variable::Activity => f32::from(u8::from(left > 0.0)),
            Variable::Refractoriness => ((-left).max(0.0) * self.model.dt) as f32,
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::simulation::Recording;
    use super::*;

    /// A tenth of a second a step.
    fn coarse() -> Automaton {
        Automaton { dt: 0.1, recruitment: 0.15, ..Automaton::default() }
    }

    fn run(recording: Recording, model: Automaton) -> Frames {
        let streams = Streams::new(1, "test");
        simulate(&Parameters { recording, model }, &streams, None, &|_| (), &|_| false).unwrap()
    }

    /// The step at which each cell of a sheet has begun to fire after the one in the middle did, if it has.
    fn arrivals(model: &Automaton, size: usize, steps: u64) -> Vec<Option<u64>> {
        let streams = Streams::new(1, "test");
        let mut sheet = Sheet::new(model, &streams, size);
        let mut state = sheet.start();
        state[0][size / 2 * size + size / 2] = sheet.steps(model.firing_time);
        let mut fired = vec![None; size * size];
        for step in 0..=steps {
            for (fired, left) in fired.iter_mut().zip(&state[0]) {
                if *left > 0.0 && fired.is_none() {
                    *fired = Some(step);
                }
            }
            sheet.advance(&mut state, step).unwrap();
        }
        fired
    }

    #[test]
    fn a_front_moves_by_its_reach_where_recruitment_is_certain() {
        for (reach, stride) in [(1.0, 1), (1.5, 1), (2.0, 2), (3.7, 3)] {
            let model = Automaton { nucleation_rate: 0.0, recruitment: 1.0, reach, ..coarse() };
            let fired = arrivals(&model, 41, 40);
            for distance in 0..=20_u64 {
                let at = |row: u64, column: u64| fired[(row * 41 + column) as usize];
                let expected = Some(distance.div_ceil(stride));
                assert_eq!([at(20, 20 + distance), at(20 - distance, 20)], [expected; 2]);
                if reach == 1.5 {
                    assert_eq!(at(20 + distance, 20 + distance), expected, "eight neighbors");
                }
            }
        }
    }

    #[test]
    fn a_front_is_slower_where_recruitment_is_not_certain() {
        let time = |recruitment: f64| {
            let model = Automaton { nucleation_rate: 0.0, recruitment, ..coarse() };
            let fired = arrivals(&model, 41, 400);
            [20 * 41, 20 * 41 + 40, 20, 40 * 41 + 20]
                .map(|cell| fired[cell].unwrap())
                .iter()
                .sum::<u64>()
        };
        let times = [1.0, 0.6, 0.3, 0.15].map(time);
        assert!(times.is_sorted() && times[0] == 80 && 2 * times[3] > 3 * times[0], "{times:?}");
        // Never two fronts at once, and none without recruitment.
        let model = Automaton { nucleation_rate: 0.0, recruitment: 0.0, ..coarse() };
        assert_eq!(arrivals(&model, 9, 50).iter().flatten().count(), 1);
    }

    #[test]
    fn a_cell_fires_for_its_time_and_then_is_refractory() {
        let model = Automaton {
            nucleation_rate: 1e9,
            firing_time: 0.7,
            refractory_time: 2.0,
            refractory_spread: 0.0,
            ..coarse()
        };
        let recording = Recording { size: 3, frames: 100, output_rate: 10.0, burn_in: 0.0 };
        // Ready at steps 0, 28, 56, ... and certain to fire in the next.
        for (frame, pixels) in run(recording, model).data.chunks(9).enumerate() {
            let expected = f32::from(u8::from((1..8).contains(&(frame % 28))));
            assert!(pixels.iter().all(|pixel| *pixel == expected), "{frame}");
        }
    }

    /// Cells that recruit no others begin to fire as often as a renewal process does: once in 1 / rate + dead time.
    #[test]
    fn waves_begin_at_the_stated_rate() {
        let model = Automaton {
            nucleation_rate: 10.0,
            recruitment: 0.0,
            refractory_time: 3.0,
            refractory_spread: 2.0,
            ..coarse()
        };
        let recording = Recording { size: 40, frames: 5000, output_rate: 10.0, burn_in: 50.0 };
        let movie = run(recording, model);
        let firing = movie.data.iter().filter(|pixel| **pixel == 1.0).count() as f64;
        // A cell has an area of 0.0025 mm². A step's chance is below rate times dt by half of its square.
        let waiting = 0.1 / (1.0 - libm::exp(-10.0 * 0.0025 * 0.1));
        let expected = 1.0 / (waiting + 1.0 + 3.0 + 2.0);
        let share = firing / movie.data.len() as f64;
        // 40 x 40 cells fire some ten times each; intervals spread by less than their mean.
        assert!((share / expected - 1.0).abs() < 5.0 / 17_000f64.sqrt(), "{share} {expected}");
    }

    #[test]
    fn the_defaults_give_waves_between_silences() {
        let recording = Recording { size: 32, frames: 6000, output_rate: 10.0, burn_in: 120.0 };
        let movie = run(recording, Automaton::default());
        let active: Vec<usize> =
            movie.data.chunks(1024).map(|f| f.iter().filter(|p| **p > 0.0).count()).collect();
        let silent = active.iter().filter(|count| **count == 0).count() as f64 / 6000.0;
        assert!((0.05..0.9).contains(&silent), "{silent}");
        assert!(active.iter().any(|count| *count > 60), "some waves are large");
        let share = movie.data.iter().sum::<f32>() / movie.data.len() as f32;
        // Each cell fires a second about once a minute.
        assert!((0.003..0.03).contains(&share), "{share}");
    }

    #[test]
    fn a_run_that_is_broken_off_goes_on_to_the_same_bits() {
        let model =
            Automaton { nucleation_rate: 2.0, variable: Variable::Refractoriness, ..coarse() };
        let recording = Recording { size: 9, frames: 60, output_rate: 2.5, burn_in: 5.0 };
        let parameters = Parameters { recording, model };
        let run = |from: Option<Reached>, paused: &dyn Fn(&Reached) -> bool| {
            simulate(&parameters, &Streams::new(1, "test"), from, &|_| (), paused)
        };
        let whole = run(None, &|_| false).unwrap();
        assert!(whole.data.iter().any(|seconds| *seconds > 20.0));
        for pauses in [1, 2, 4] {
            let reached = RefCell::new(vec![]);
            let paused = |at: &Reached| {
                reached.borrow_mut().push(at.clone());
                reached.borrow().len() == pauses
            };
            assert_eq!(run(None, &paused), Err(SimulationError::Cancelled));
            assert_eq!(run(reached.borrow_mut().pop(), &|_| false).unwrap(), whole);
        }
    }

    #[test]
    fn violations_are_found_at_once() {
        let bad = Automaton { reach: 0.5, recruitment: 1.5, dt: 0.0, ..coarse() };
        let found = Parameters { recording: Recording::default(), model: bad }.check();
        let fields: Vec<_> = found.into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["dt", "reach", "recruitment"]);
    }

    #[test]
    fn the_bits_never_change() {
        let recording = Recording { size: 16, frames: 100, output_rate: 5.0, burn_in: 60.0 };
        let model = Automaton { variable: Variable::Refractoriness, ..coarse() };
        let hash = blake3::hash(bytemuck::cast_slice(&run(recording, model).data)).to_hex();
        assert_eq!(&hash[..16], "5cebef7e6f958c14");
    }
}
