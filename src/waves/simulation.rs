//! What all models of waves share: the frames kept, the loop over time steps, and how far it has come.

use thiserror::Error;

use super::Frames;

/// Frames per second of the macroscope that recorded real waves: 35 in 3 s (Ligeralde et al. 2023).
pub const MACROSCOPE_RATE: f64 = 35.0 / 3.0;

/// Time steps of a simulation at most: a century of computing, and far from where a count of steps loses precision.
const MOST_STEPS: f64 = 1e12;

/// Fields that are out of range, with what is wrong.
pub type Violations = Vec<(&'static str, String)>;

/// What is simulated: how large a movie, for how long, and by which model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters<M> {
    /// The frames kept.
    pub recording: Recording,
    /// The model.
    pub model: M,
}

/// The frames kept of a simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Pixels along each side of the square movie.
    pub size: usize,
    /// Number of frames kept.
    pub frames: usize,
    /// Frames per simulated second. Frame `k` is the state at the time step nearest to `burn_in + k / output_rate`.
    pub output_rate: f64,
    /// Simulated time in s before the first frame.
    pub burn_in: f64,
}

impl Default for Recording {
    fn default() -> Self {
        Self { size: 64, frames: 1000, output_rate: MACROSCOPE_RATE, burn_in: 500.0 }
    }
}

impl Recording {
    /// Finds what is wrong with the counts.
    pub(super) fn check_counts(&self, found: &mut Violations) {
        if !(2..=4096).contains(&self.size) {
            found.push(("size", format!("must lie between 2 and 4096, is {}", self.size)));
        } else if self.frames == 0 || self.frames > (isize::MAX as usize / 4) / self.size.pow(2) {
            found
                .push(("frames", format!("must be at least 1 and fit memory, is {}", self.frames)));
        }
    }

    /// Finds what is wrong with the times, all of which are positive and finite, at a time step.
    pub(super) fn check_times(&self, dt: f64, found: &mut Violations) {
        let steps = (self.burn_in + self.frames as f64 / self.output_rate) / dt;
        if steps > MOST_STEPS {
            let all = "(burn_in + frames / output_rate) / dt";
            let rule = format!(
                "must leave at most {MOST_STEPS:.0e} time steps, {all}, which are {steps:.1e}"
            );
            found.push(("burn_in", rule));
        }
        if self.output_rate * dt > 1.0 {
            let most = 1.0 / dt;
            found.push((
                "output_rate",
                format!("must be at most 1 / dt = {most}, is {}", self.output_rate),
            ));
        }
    }

    /// Time step nearest to the time of a frame.
    pub(super) fn step_of_frame(&self, frame: usize, dt: f64) -> u64 {
        ((self.burn_in + frame as f64 / self.output_rate) / dt).round() as u64
    }
}

/// Fails where a field is out of range.
pub(super) fn ensure_none(violations: Violations) -> Result<(), SimulationError> {
    if violations.is_empty() { Ok(()) } else { Err(SimulationError::Parameters(violations)) }
}

/// Finds the values that are not above 0, and those that are negative.
pub(super) fn check_ranges(
    positive: &[(&'static str, f64)],
    not_negative: &[(&'static str, f64)],
    found: &mut Violations,
) {
    for &(field, value) in positive {
        if !(value > 0.0 && value.is_finite()) {
            found.push((field, format!("must be positive and finite, is {value}")));
        }
    }
    for &(field, value) in not_negative {
        if !(value >= 0.0 && value.is_finite()) {
            found.push((field, format!("must not be negative or infinite, is {value}")));
        }
    }
}

/// Why a simulation gave no movie.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum SimulationError {
    /// Parameters out of range: field and message of each.
    #[error("{}", list(.0))]
    Parameters(Violations),
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
    #[error("no memory for {frames} frames of {size} x {size} pixels")]
    Memory {
        /// Frames asked for.
        frames: usize,
        /// Pixels along each side.
        size: usize,
    },
    /// The state to go on from has another size.
    #[error("the state to go on from is not one of this simulation")]
    Foreign,
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

fn list(violations: &[(&'static str, String)]) -> String {
    let lines: Vec<String> =
        violations.iter().map(|(field, message)| format!("`{field}` {message}")).collect();
    lines.join("; ")
}

/// How far a simulation has come: another goes on from there to the same bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// The time step, the first of an interval of the model.
    pub step: u64,
    /// The variables of all cells at that step, in the model's order of variables and of cells.
    pub state: Vec<Vec<f64>>,
    /// The frames before it, one after another.
    pub frames: Vec<f32>,
}

impl Reached {
    fn make_room(&mut self, recording: &Recording) -> Result<(), SimulationError> {
        let Recording { size, frames, .. } = *recording;
        let lacking = (frames * size * size).saturating_sub(self.frames.len());
        let made = self.frames.try_reserve_exact(lacking);
        made.map_err(|_| SimulationError::Memory { frames, size })
    }

    fn check(
        &self,
        recording: &Recording,
        variables: usize,
        cells: usize,
        dt: f64,
    ) -> Result<(), SimulationError> {
        let Recording { size, frames, .. } = *recording;
        let area = size * size;
        let kept = self.frames.len() / area;
        let before = |frame: usize| recording.step_of_frame(frame, dt) < self.step;
        let fits = self.state.len() == variables
            && self.state.iter().all(|values| values.len() == cells)
            && self.frames.len().is_multiple_of(area)
            && kept <= frames
            && (kept == 0 || before(kept - 1))
            && (kept == frames || !before(kept));
        if fits { Ok(()) } else { Err(SimulationError::Foreign) }
    }
}

/// A model of waves: what becomes of its variables from step to step.
pub(super) trait System {
    /// Length of a time step in s.
    fn dt(&self) -> f64;
    /// Variables of all cells at the beginning; their number and lengths are the model's.
    fn start(&self) -> Vec<Vec<f64>>;
    /// The interval in which a step begins; it never decreases. Between two is where a simulation may pause.
    fn interval(&self, step: u64) -> u64;
    /// Prepares for the steps of an interval.
    fn begin(&mut self, interval: u64);
    /// Advances the state by step number `step`.
    fn advance(&mut self, state: &mut [Vec<f64>], step: u64) -> Result<(), SimulationError>;
    /// Appends what the movie shows of the state.
    fn show(&self, state: &[Vec<f64>], frames: &mut Vec<f32>);
}

/// Runs a model from its start, or goes on; yields its movie.
///
/// `progress` receives the fraction done and `paused` what the simulation could go on from, both once an interval; where
/// the latter says `true` it ends.
pub(super) fn run(
    recording: &Recording,
    system: &mut impl System,
    from: Option<Reached>,
    progress: &dyn Fn(f64),
    paused: &dyn Fn(&Reached) -> bool,
) -> Result<Frames, SimulationError> {
    let Recording { size, frames, .. } = *recording;
    let dt = system.dt();
    let start = system.start();
    let mut at = match from {
        Some(reached) => {
            reached.check(recording, start.len(), start[0].len(), dt)?;
            reached
        }
        None => Reached { step: 0, state: start, frames: Vec::new() },
    };
    at.make_room(recording)?;
    let last = recording.step_of_frame(frames - 1, dt);
    let mut kept = at.frames.len() / (size * size);
    let mut begun = None;
    while at.step <= last {
        let interval = system.interval(at.step);
        if begun != Some(interval) {
            if paused(&at) {
                return Err(SimulationError::Cancelled);
            }
            progress(at.step as f64 / (last + 1) as f64);
            system.begin(interval);
            begun = Some(interval);
        }
        while kept < frames && recording.step_of_frame(kept, dt) == at.step {
            system.show(&at.state, &mut at.frames);
            kept += 1;
        }
        if at.step < last {
            system.advance(&mut at.state, at.step)?;
        }
        at.step += 1;
    }
    progress(1.0);
    Ok(Frames::new(frames, size, size, at.frames).expect("each frame holds every pixel"))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// One cell that counts its steps.
    struct Counter {
        begun: Vec<u64>,
    }

    impl System for Counter {
        fn dt(&self) -> f64 {
            0.1
        }
        fn start(&self) -> Vec<Vec<f64>> {
            vec![vec![0.0]]
        }
        fn interval(&self, step: u64) -> u64 {
            step / 4
        }
        fn begin(&mut self, interval: u64) {
            self.begun.push(interval);
        }
        fn advance(&mut self, state: &mut [Vec<f64>], step: u64) -> Result<(), SimulationError> {
            assert_eq!(state[0][0], step as f64);
            state[0][0] += 1.0;
            Ok(())
        }
        fn show(&self, state: &[Vec<f64>], frames: &mut Vec<f32>) {
            frames.extend([state[0][0] as f32; 4]);
        }
    }

    const RECORDING: Recording = Recording { size: 2, frames: 3, output_rate: 2.5, burn_in: 0.5 };

    fn count(
        from: Option<Reached>,
        paused: &dyn Fn(&Reached) -> bool,
    ) -> (Vec<u64>, Result<Frames, SimulationError>) {
        let mut counter = Counter { begun: vec![] };
        let result = run(&RECORDING, &mut counter, from, &|_| (), paused);
        (counter.begun, result)
    }

    #[test]
    fn frames_show_the_nearest_steps_and_intervals_begin_once() {
        let (begun, movie) = count(None, &|_| false);
        let movie = movie.unwrap();
        assert_eq!([0, 1, 2].map(|f| movie.frame(f)[0]), [5.0, 9.0, 13.0]);
        assert_eq!(begun, [0, 1, 2, 3]);
    }

    #[test]
    fn a_run_goes_on_from_wherever_it_paused() {
        let whole = count(None, &|_| false).1;
        for pauses in 1..=4 {
            let reached = RefCell::new(vec![]);
            let paused = |at: &Reached| {
                reached.borrow_mut().push(at.clone());
                reached.borrow().len() == pauses
            };
            assert_eq!(count(None, &paused).1, Err(SimulationError::Cancelled));
            let last = reached.borrow_mut().pop().unwrap();
            assert_eq!(count(Some(last.clone()), &|_| false).1, whole);
            let mut foreign = [last.clone(), last.clone(), last];
            foreign[0].frames.extend([0.0; 4]);
            foreign[1].state[0].push(0.0);
            foreign[2].state.push(vec![0.0]);
            for other in foreign {
                assert_eq!(count(Some(other), &|_| false).1, Err(SimulationError::Foreign));
            }
        }
    }

    #[test]
    fn progress_rises_to_one() {
        let done = RefCell::new(vec![]);
        let keep = |fraction: f64| done.borrow_mut().push(fraction);
        run(&RECORDING, &mut Counter { begun: vec![] }, None, &keep, &|_| false).unwrap();
        let done = done.into_inner();
        assert!(done.is_sorted() && done.len() == 5 && done[4] == 1.0, "{done:?}");
    }

    #[test]
    fn a_movie_beyond_memory_is_refused() {
        let recording = Recording { size: 4096, frames: 1 << 36, output_rate: 1.0, burn_in: 0.0 };
        let result = run(&recording, &mut Counter { begun: vec![] }, None, &|_| (), &|_| false);
        assert_eq!(result, Err(SimulationError::Memory { frames: 1 << 36, size: 4096 }));
    }
}
