//! The reaction–diffusion model of stage-II retinal waves of Lansdell, Ford & Kutz (2014).
//!
//! PLoS Comput. Biol. 10(12): e1003953. Starburst amacrine cells on a square lattice, excitable through calcium,
//! excite each other through diffusing acetylcholine; a slow after-hyperpolarization makes a cell that took part in a wave
//! refractory, and a random conductance starts the waves. Each cell has four variables: membrane potential V (mV),
//! potassium gate R, hyperpolarization S and acetylcholine A (nM).
//!
//! One step is Crank–Nicolson diffusion of A followed by an explicit midpoint step of all four variables
//! without diffusion. The noise is held for an interval and evaluated at its start.

use thiserror::Error;

use super::Frames;
use super::diffusion::Diffusion;
use super::parameters::{Lansdell, Noise, Parameters, Recording};
use super::reaction::{MILLI, Reaction, State};
use crate::rng::Streams;

/// Potential of all cells at the beginning, in mV; the other variables are 0.
const RESTING_POTENTIAL: f64 = -70.0;

/// Why a simulation gave no movie.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum SimulationError {
    /// Parameters out of range: field and message of each.
    #[error("{}", list(.0))]
    Parameters(Vec<(&'static str, String)>),
    /// A cell left the range of numbers.
    #[error(
        "the potential of the cell in row {row}, column {column} is not finite after {time:.3} s: use a smaller dt"
    )]
    NotFinite {
        /// Simulated time in s, burn-in included, at which it was noticed.
        time: f64,
        /// Row of the cell.
        row: usize,
        /// Column of the cell.
        column: usize,
    },
    /// The movie does not fit into memory.
    #[error("no memory for {frames} frames of {size} x {size} cells")]
    Memory {
        /// Frames asked for.
        frames: usize,
        /// Cells along each side.
        size: usize,
    },
    /// The state to go on from has another size.
    #[error("the state to go on from is not one of this simulation")]
    Foreign,
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// How far a simulation has come: another goes on from there to the same bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// The time step, the first of an interval of the noise.
    pub step: u64,
    /// The variables of all cells at that step.
    pub state: State,
    /// The frames before it, one after another.
    pub frames: Vec<f32>,
}

impl Reached {
    /// A simulation at rest, with room for all frames.
    fn rest(&Recording { size, frames, .. }: &Recording) -> Result<Self, SimulationError> {
        let zeros = || vec![0.0; size * size];
        let state = [vec![RESTING_POTENTIAL; size * size], zeros(), zeros(), zeros()];
        let mut reached = Self { step: 0, state, frames: Vec::new() };
        reached.make_room(size, frames)?;
        Ok(reached)
    }

    fn make_room(&mut self, size: usize, frames: usize) -> Result<(), SimulationError> {
        let lacking = (frames * size * size).saturating_sub(self.frames.len());
        let made = self.frames.try_reserve_exact(lacking);
        made.map_err(|_| SimulationError::Memory { frames, size })
    }

    fn check(&self, parameters: &Parameters) -> Result<(), SimulationError> {
        let Recording { size, frames, .. } = parameters.recording;
        let cells = size * size;
        let kept = self.frames.len() / cells;
        let before = |frame: usize| parameters.step_of_frame(frame) < self.step;
        let fits = self.state.iter().all(|values| values.len() == cells)
            && self.frames.len().is_multiple_of(cells)
            && kept <= frames
            && (kept == 0 || before(kept - 1))
            && (kept == frames || !before(kept));
        if fits { Ok(()) } else { Err(SimulationError::Foreign) }
    }
}

/// Simulates waves from rest, or goes on; returns membrane potentials in mV, one pixel a cell.
///
/// `progress` receives the fraction done and `paused` what the simulation could go on from, both once a draw of the noise;
/// where the latter says `true` it ends. Draw `k` of the noise comes
/// from lane `k` of the stream `noise` and acts on steps that begin in interval `k`. The result has the same bits on every machine.
pub fn simulate(
    parameters: &Parameters,
    streams: &Streams,
    from: Option<Reached>,
    progress: &dyn Fn(f64),
    paused: &dyn Fn(&Reached) -> bool,
) -> Result<Frames, SimulationError> {
    let violations = parameters.check();
    if !violations.is_empty() {
        return Err(SimulationError::Parameters(violations));
    }
    let (size, frames) = (parameters.recording.size, parameters.recording.frames);
    let dt = parameters.model.dt;
    let mut lattice = Lattice::new(parameters, from)?;
    let last = parameters.step_of_frame(frames - 1);
    let mut kept = lattice.at.frames.len() / (size * size);
    let mut drawn = None;
    while lattice.at.step <= last {
        let step = lattice.at.step;
        let draw = parameters.draw_of_step(step);
        if drawn != Some(draw) {
            if paused(&lattice.at) {
                return Err(SimulationError::Cancelled);
            }
            progress(step as f64 / (last + 1) as f64);
            lattice.set_input(&parameters.model, streams, draw);
            drawn = Some(draw);
        }
        while kept < frames && parameters.step_of_frame(kept) == step {
            let Reached { state, frames, .. } = &mut lattice.at;
            frames.extend(state[0].iter().map(|&v| v as f32));
            kept += 1;
        }
        if step < last {
            lattice.step();
            lattice.check((step + 1) as f64 * dt)?;
        }
        lattice.at.step += 1;
    }
    progress(1.0);
    Ok(Frames::new(frames, size, size, lattice.at.frames).expect("each frame holds every cell"))
}

impl Parameters {
    /// Time step nearest to the time of a frame.
    fn step_of_frame(&self, frame: usize) -> u64 {
        let Recording { burn_in, output_rate, .. } = self.recording;
        ((burn_in + frame as f64 / output_rate) / self.model.dt).round() as u64
    }

    /// Interval of the noise in which a time step begins; a step that begins on a border up to rounding is in the later one.
    fn draw_of_step(&self, step: u64) -> u64 {
        (step as f64 * self.model.dt / self.model.noise_interval + 1e-9) as u64
    }
}

fn list(violations: &[(&'static str, String)]) -> String {
    let lines: Vec<String> =
        violations.iter().map(|(field, message)| format!("`{field}` {message}")).collect();
    lines.join("; ")
}

/// All cells, and what acts on them.
struct Lattice {
    size: usize,
    at: Reached,
    /// Conductance of leak and noise over the capacitance, 1/s.
    passive: Vec<f64>,
    /// Current through them at V = 0 and applied current, over the capacitance, mV/s.
    drive: Vec<f64>,
    diffusion: Diffusion,
    reaction: Reaction,
}

impl Lattice {
    fn new(parameters: &Parameters, from: Option<Reached>) -> Result<Self, SimulationError> {
        let (size, model) = (parameters.recording.size, &parameters.model);
        let at = match from {
            Some(mut reached) => {
                reached.check(parameters)?;
                reached.make_room(size, parameters.recording.frames)?;
                reached
            }
            None => Reached::rest(&parameters.recording)?,
        };
        let spacing = model.length / (size - 1) as f64;
        let zeros = || vec![0.0; size * size];
        Ok(Self {
            size,
            at,
            passive: zeros(),
            drive: zeros(),
            diffusion: Diffusion::new(size, spacing, model.diffusion, model.dt),
            reaction: Reaction::new(model),
        })
    }

    /// Draws the noise of interval `draw` and sets the applied current.
    fn set_input(&mut self, parameters: &Lansdell, streams: &Streams, draw: u64) {
        let mut stream = streams.indexed("noise", draw);
        let per_capacitance = MILLI / parameters.capacitance;
        for (passive, drive) in self.passive.iter_mut().zip(&mut self.drive) {
            let noise =
                match parameters.noise {
                    Noise::Exponential { rate } => stream.exponential(rate),
                    Noise::Bernoulli { conductance, probability } => {
                        if stream.uniform() < probability { conductance } else { 0.0 }
                    }
                };
            let leak = parameters.leak_conductance;
            *passive = per_capacitance * (leak + noise);
            *drive = per_capacitance
                * (leak * parameters.leak_reversal + noise * parameters.noise_reversal);
        }
        let since = draw as f64 * parameters.noise_interval - parameters.pulse_start;
        if (0.0..parameters.pulse_duration).contains(&since) {
            let middle = (self.size - 1) / 2;
            self.drive[middle * self.size + middle] += per_capacitance * parameters.applied_current;
        }
    }

    fn step(&mut self) {
        self.diffusion.step(&mut self.at.state[3]);
        self.reaction.step(&mut self.at.state, &self.passive, &self.drive);
    }

    /// Fails if a potential is not finite. Asked after every step, because diffusion then spreads it to all cells.
    fn check(&self, time: f64) -> Result<(), SimulationError> {
        let finite = |v: &f64| v.abs() < f64::INFINITY;
        // Without an early exit this is vector code.
        if self.at.state[0].iter().fold(true, |all, v| all & finite(v)) {
            return Ok(());
        }
        let cell = self.at.state[0].iter().position(|v| !finite(v)).unwrap_or(0);
        Err(SimulationError::NotFinite { time, row: cell / self.size, column: cell % self.size })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::events::{Segmentation, active_fraction, active_frames, segment};
    use super::*;

    fn run(recording: Recording, model: Lansdell, seed: u64) -> Frames {
        let streams = Streams::new(seed, "test");
        simulate(&Parameters { recording, model }, &streams, None, &|_| (), &|_| false).unwrap()
    }

    fn at_rest(recording: Recording, model: Lansdell) -> Lattice {
        Lattice::new(&Parameters { recording, model }, None).unwrap()
    }

    /// Every cell meets the same constant conductance: the lattice is one cell, many times over.
    fn uniform(dt: f64) -> Lansdell {
        let noise = Noise::Bernoulli { conductance: 2.0, probability: 1.0 };
        Lansdell { dt, noise, hyperpolarization_strength: 0.5, ..Lansdell::default() }
    }

    /// V, R, S and A of a cell, or their rates of change.
    type Cell = [f64; 4];

    fn advance(start: Cell, rates: Cell, time: f64) -> Cell {
        std::array::from_fn(|i| start[i] + time * rates[i])
    }

    /// The equations of one cell as the paper prints them (Lansdell et al. 2014, equations 1 to 7), for [`uniform`].
    fn rates([v, r, s, a]: Cell) -> Cell {
        let gate = |v: f64, middle: f64, width: f64| 0.5 * (1.0 + libm::tanh((v - middle) / width));
        let calcium = 10.0 * gate(v, -20.0, 20.0);
        let lambda = libm::cosh((v + 25.0) / 80.0);
        let synaptic = 2.0 * 800.0 * a * a / (1.0 + 800.0 * a * a);
        let release = 1.0 / (1.0 + libm::exp(-0.2 * (v + 40.0)));
        let current = -calcium * (v - 50.0)
            - 30.0 * r * (v + 90.0)
            - 3.0 * (v + 70.0)
            - synaptic * (v - 50.0)
            - 2.0 * (v - 50.0);
        [
            1000.0 / 160.0 * current,
            (lambda * (gate(v, -25.0, 40.0) - r) + 0.5 * s * (1.0 - r)) / 5.0,
            -s / 60.0 + 0.3 * release,
            -a / 0.2 + 5.0 * release,
        ]
    }

    /// Integrates one cell by the classical Runge–Kutta method.
    fn potential_after(seconds: f64, dt: f64) -> f64 {
        let mut cell = [RESTING_POTENTIAL, 0.0, 0.0, 0.0];
        for _ in 0..(seconds / dt).round() as usize {
            let k1 = rates(cell);
            let k2 = rates(advance(cell, k1, dt / 2.0));
            let k3 = rates(advance(cell, k2, dt / 2.0));
            let k4 = rates(advance(cell, k3, dt));
            for i in 0..4 {
                cell[i] += dt / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]);
            }
        }
        cell[0]
    }

    #[test]
    fn one_cell_follows_the_equations_at_second_order() {
        let exact = potential_after(2.0, 1e-4);
        let error = |dt: f64| {
            let recording = Recording { size: 3, frames: 1, output_rate: 1.0, burn_in: 2.0 };
            let mut lattice = at_rest(recording, uniform(dt));
            lattice.set_input(&uniform(dt), &Streams::new(1, "test"), 0);
            (0..(2.0 / dt).round() as usize).for_each(|_| lattice.step());
            let first = lattice.at.state[0][0];
            assert!(lattice.at.state[0].iter().all(|v| (v - first).abs() < 1e-9));
            (first - exact).abs()
        };
        let (coarse, fine) = (error(2e-3), error(1e-3));
        assert!((3.4..4.6).contains(&(coarse / fine)), "{coarse} {fine}");
        // The error of the same steps on one cell, from another program in another language.
        assert!((fine / 9.958e-5 - 1.0).abs() < 0.01, "{fine} mV");
    }

    #[test]
    fn a_pulse_in_the_middle_spreads_alike_in_all_directions() {
        let model = Lansdell {
            dt: 0.005,
            noise: Noise::Bernoulli { conductance: 0.0, probability: 0.0 },
            applied_current: 500.0,
            pulse_start: 0.0,
            ..Lansdell::default()
        };
        let recording = Recording { size: 9, frames: 1, output_rate: 1.0, burn_in: 3.0 };
        let movie = run(recording, model, 1);
        let at = |y: usize, x: usize| movie.data[y * 9 + x];
        assert!((at(4, 4) - at(0, 0)).abs() > 1.0, "{} {}", at(4, 4), at(0, 0));
        for (y, x) in (0..9).flat_map(|y| (0..9).map(move |x| (y, x))) {
            assert!((at(y, x) - at(x, y)).abs() < 1e-4 && (at(y, x) - at(8 - y, x)).abs() < 1e-4);
        }
    }

    /// The simulation of Ligeralde et al. 2023 has more frequent and longer waves than the model's default. An
    /// independent implementation found 58 % of frames active and events of 6 frames (median) at strength 2, and
    /// 85 % and 21 frames at 0.5, over 300 s with the first quarter dropped. A run holds some tens of events, so that
    /// fractions vary by about 8 points and medians by about a third.
    #[test]
    fn weaker_hyperpolarization_gives_more_and_longer_waves() {
        let found = |strength: f64| {
            let model = Lansdell {
                dt: 0.005,
                noise: Noise::REALISTIC,
                hyperpolarization_strength: strength,
                ..Lansdell::default()
            };
            let rate = super::super::parameters::MACROSCOPE_RATE;
            let recording = Recording { size: 32, frames: 2625, output_rate: rate, burn_in: 75.0 };
            let movie = run(recording, model, 3);
            let active = active_frames(&movie, &Segmentation::default(), |_| Ok::<(), ()>(()));
            let active = active.unwrap();
            let mut lengths: Vec<usize> =
                segment(&active, 1).iter().map(ExactSizeIterator::len).collect();
            lengths.sort_unstable();
            (active_fraction(&active), lengths[lengths.len() / 2])
        };
        let (strong, weak) = (found(2.0), found(0.5));
        assert!(
            (strong.0 - 0.58).abs() < 0.2 && (weak.0 - 0.85).abs() < 0.2,
            "{strong:?} {weak:?}"
        );
        assert!(weak.0 > strong.0 + 0.1 && weak.1 >= 2 * strong.1, "{strong:?} {weak:?}");
    }

    #[test]
    fn a_step_that_blows_up_is_named_with_time_and_cell() {
        let recording = Recording { size: 4, frames: 1, output_rate: 1.0, burn_in: 5.0 };
        let mut lattice = at_rest(recording, uniform(0.001));
        lattice.at.state[0][6] = f64::NAN;
        let error = lattice.check(1.5).unwrap_err();
        assert_eq!(error, SimulationError::NotFinite { time: 1.5, row: 1, column: 2 });
    }

    #[test]
    fn a_run_that_blows_up_names_the_cell_in_which_it_began() {
        let model = Lansdell { applied_current: 1e308, pulse_start: 0.2, ..Lansdell::default() };
        let recording = Recording { size: 9, frames: 10, burn_in: 0.0, ..Recording::default() };
        let parameters = Parameters { recording, model };
        let error =
            simulate(&parameters, &Streams::new(1, "test"), None, &|_| (), &|_| false).unwrap_err();
        let SimulationError::NotFinite { time, row, column } = error else { panic!("{error}") };
        assert!((time - 0.201).abs() < 1e-9 && (row, column) == (4, 4), "{error}");
    }

    #[test]
    fn a_wave_travels_outward_from_a_pulse() {
        let model = Lansdell {
            dt: 0.005,
            noise: Noise::Bernoulli { conductance: 0.0, probability: 0.0 },
            applied_current: 1000.0,
            pulse_start: 60.0,
            ..Lansdell::default()
        };
        let recording = Recording { size: 33, frames: 140, burn_in: 60.0, ..Recording::default() };
        let movie = run(recording, model, 1);
        let arrivals = [16, 19, 22, 25, 28].map(|x| {
            let active = |&f: &usize| movie.frame(f)[16 * 33 + x] > -60.0;
            (0..movie.frames).find(active).expect("the wave arrives")
        });
        assert!(arrivals.windows(2).all(|pair| pair[0] < pair[1]), "{arrivals:?}");
        let seconds = (arrivals[4] - arrivals[1]) as f64 * 3.0 / 35.0;
        let speed = 9.0 * 2.0 / 32.0 / seconds;
        assert!((0.05..0.5).contains(&speed), "{speed} mm/s");
    }

    #[test]
    fn noise_has_the_stated_mean() {
        let check = |noise: Noise, mean: f64, deviation: f64| {
            let model = Lansdell { noise, ..Lansdell::default() };
            let recording = Recording { size: 100, ..Recording::default() };
            let mut lattice = at_rest(recording, model.clone());
            lattice.set_input(&model, &Streams::new(1, "test"), 3);
            let drawn = lattice.passive.iter().map(|g| g * 160.0 / 1000.0 - 3.0).sum::<f64>() / 1e4;
            assert!((drawn - mean).abs() <= 5.0 * deviation / 100.0 + 1e-12, "{noise:?}: {drawn}");
        };
        check(Noise::Exponential { rate: 5.0 }, 0.2, 0.2);
        check(Noise::Bernoulli { conductance: 20.0, probability: 0.1 }, 2.0, 6.0);
        check(Noise::Bernoulli { conductance: 20.0, probability: 1.0 }, 20.0, 0.0);
    }

    #[test]
    fn frames_are_the_nearest_steps_and_do_not_depend_on_how_many_are_kept() {
        let model = Lansdell { dt: 0.004, ..Lansdell::default() };
        let recording =
            |frames| Recording { size: 8, frames, burn_in: 1.0, ..Recording::default() };
        let parameters = Parameters { recording: recording(30), model: model.clone() };
        assert_eq!([0, 1, 2, 29].map(|f| parameters.step_of_frame(f)), [250, 271, 293, 871]);
        assert_eq!([0, 24, 25, 49, 50].map(|s| parameters.draw_of_step(s)), [0, 0, 1, 1, 2]);
        let (long, short) = (run(recording(30), model.clone(), 1), run(recording(10), model, 1));
        assert_eq!(long.data[..10 * 64], short.data);
    }

    #[test]
    fn a_run_reports_its_progress_and_can_be_cancelled() {
        let done = RefCell::new(vec![]);
        let keep = |fraction: f64| done.borrow_mut().push(fraction);
        let stop = |_: &Reached| done.borrow().len() == 3;
        let recording = Recording { size: 8, frames: 9, burn_in: 1.0, ..Recording::default() };
        let parameters = Parameters { recording, model: Lansdell::default() };
        let result = simulate(&parameters, &Streams::new(1, "test"), None, &keep, &stop);
        assert_eq!(result, Err(SimulationError::Cancelled));
        assert_eq!(done.borrow().len(), 3);
        assert!(done.borrow().windows(2).all(|pair| pair[0] < pair[1] && pair[1] < 1.0));
    }

    #[test]
    fn a_run_that_is_broken_off_goes_on_to_the_same_bits() {
        let recording = Recording { size: 8, frames: 9, burn_in: 1.0, ..Recording::default() };
        let parameters = Parameters { recording, model: Lansdell::default() };
        let run = |from: Option<Reached>, paused: &dyn Fn(&Reached) -> bool| {
            simulate(&parameters, &Streams::new(1, "test"), from, &|_| (), paused)
        };
        let whole = run(None, &|_| false).unwrap();
        for draws in [1, 2, 11, 17] {
            let (asked, reached) = (RefCell::new(0), RefCell::new(None));
            let paused = |at: &Reached| {
                *asked.borrow_mut() += 1;
                *reached.borrow_mut() = Some(at.clone());
                *asked.borrow() == draws
            };
            assert_eq!(run(None, &paused), Err(SimulationError::Cancelled));
            let reached = reached.into_inner();
            assert_eq!(run(reached.clone(), &|_| false).unwrap(), whole, "{draws}");
            let mut other = reached.unwrap();
            other.frames.push(0.0);
            assert_eq!(run(Some(other), &|_| false), Err(SimulationError::Foreign));
        }
    }

    #[test]
    fn the_bits_never_change() {
        let model = Lansdell { dt: 0.005, noise: Noise::REALISTIC, ..Lansdell::default() };
        let recording = Recording { size: 8, frames: 50, output_rate: 10.0, burn_in: 20.0 };
        let movie = run(recording, model, 2312);
        let mut hash = blake3::Hasher::new();
        movie.data.iter().for_each(|v| {
            hash.update(&v.to_le_bytes());
        });
        assert_eq!(&hash.finalize().to_hex()[..16], "0e2e4aac514bd266");
    }
}
