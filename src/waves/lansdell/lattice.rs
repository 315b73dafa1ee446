//! All cells of the model, and what acts on them.

use pulp::Arch;

use super::diffusion::Diffusion;
use super::layout::{Layout, WIDTH};
use super::parameters::{Lansdell, Noise};
use super::reaction::{MILLI, Reaction, Scratch};
use crate::rng::Streams;
use crate::waves::simulation::SimulationError;

/// Potential of all cells at the beginning, in mV; the other variables are 0.
pub(super) const RESTING_POTENTIAL: f64 = -70.0;

/// Cells from which on a step is divided among threads: with fewer, waking them takes longer than the step.
const DIVIDED: usize = 16_384;

/// What does not change in a step, and the memory that one needs.
pub(super) struct Lattice {
    layout: Layout,
    dt: f64,
    arch: Arch,
    diffusion: Diffusion,
    reaction: Reaction,
    /// Conductance of leak and noise over the capacitance, 1/s.
    pub(super) passive: Vec<f64>,
    /// Current through them at V = 0 and applied current, over the capacitance, mV/s.
    drive: Vec<f64>,
    /// Acetylcholine after the sweep along rows.
    swept: Vec<f64>,
    scratch: Vec<f64>,
}

impl Lattice {
    pub(super) fn new(size: usize, model: &Lansdell) -> Self {
        let spacing = model.length / (size - 1) as f64;
        let zeros = || vec![0.0; size * size];
        Self {
            layout: Layout { size },
            dt: model.dt,
            arch: Arch::new(),
            diffusion: Diffusion::new(size, spacing, model.diffusion, model.dt),
            reaction: Reaction::new(model),
            passive: zeros(),
            drive: zeros(),
            swept: zeros(),
            scratch: zeros(),
        }
    }

    /// The variables V, R, S and A of cells at rest.
    pub(super) fn at_rest(&self) -> Vec<Vec<f64>> {
        let cells = self.passive.len();
        let mut state = vec![vec![0.0; cells]; 4];
        state[0].fill(RESTING_POTENTIAL);
        state
    }

    /// Draws the noise of interval `draw`, row by row, and sets the applied current.
    pub(super) fn set_input(&mut self, model: &Lansdell, streams: &Streams, draw: u64) {
        let mut stream = streams.indexed("noise", draw);
        let per_capacitance = MILLI / model.capacitance;
        let leak = model.leak_conductance;
        for place in (0..self.layout.size).flat_map(|row| self.layout.row(row)).flatten() {
            let noise =
                match model.noise {
                    Noise::Exponential { rate } => stream.exponential(rate),
                    Noise::Bernoulli { conductance, probability } => {
                        if stream.uniform() < probability { conductance } else { 0.0 }
                    }
                };
            self.passive[place] = per_capacitance * (leak + noise);
            self.drive[place] =
                per_capacitance * (leak * model.leak_reversal + noise * model.noise_reversal);
        }
        let since = draw as f64 * model.noise_interval - model.pulse_start;
        if (0.0..model.pulse_duration).contains(&since) {
            let middle = (self.layout.size - 1) / 2;
            self.drive[self.layout.place(middle, middle)] +=
                per_capacitance * model.applied_current;
        }
    }

    /// Appends the values of all cells, row by row.
    pub(super) fn show(&self, values: &[f64], frames: &mut Vec<f32>) {
        for places in (0..self.layout.size).flat_map(|row| self.layout.row(row)) {
            frames.extend(values[places].iter().map(|&value| value as f32));
        }
    }

    /// Advances the variables of all cells by time step number `step`.
    ///
    /// The sweep of the diffusion along rows takes bands of rows; the other and the reaction take panels of columns.
    pub(super) fn step(
        &mut self,
        state: &mut [Vec<f64>],
        step: u64,
    ) -> Result<(), SimulationError> {
        let [v, r, s, a] = state else { unreachable!("a cell has four variables") };
        let Self { layout, arch, ref diffusion, ref reaction, .. } = *self;
        let panels = layout.panels();
        let divided = v.len() >= DIVIDED && rayon::current_num_threads() > 1;
        let grain = if divided { 1 } else { panels };
        let bands = Bands { first: 0, swept: &mut self.swept, scratch: &mut self.scratch };
        bands.each(layout, grain, &|bands| {
            arch.dispatch(
                #[inline(always)]
                || bands.sweep(layout, diffusion, a),
            );
        });
        let panels = Panels {
            first: 0,
            state: [v, r, s, a].map(Vec::as_mut_slice),
            input: [&self.passive, &self.drive],
            scratch: &mut self.scratch,
        };
        let swept = self.swept.as_slice();
        let finite = panels.each(layout, grain, &|panels| {
            arch.dispatch(
                #[inline(always)]
                || panels.react(layout, diffusion, reaction, swept),
            )
        });
        if finite { Ok(()) } else { Err(self.not_finite(&state[0], step)) }
    }

    /// Names a cell whose potential is not finite. Asked after every step, because diffusion then spreads it to all cells.
    fn not_finite(&self, potential: &[f64], step: u64) -> SimulationError {
        let place = potential.iter().position(|v| !is_finite(*v)).unwrap_or_default();
        let (row, column) = self.layout.cell(place);
        SimulationError::NotFinite { time: (step + 1) as f64 * self.dt, row, column }
    }
}

/// Without an early exit, a loop over these is vector code.
#[inline(always)]
fn is_finite(v: f64) -> bool {
    v.abs() < f64::INFINITY
}

/// Some of the bands of rows.
struct Bands<'a> {
    first: usize,
    swept: &'a mut [f64],
    scratch: &'a mut [f64],
}

impl Bands<'_> {
    /// Does something to all bands, at most `grain` at a time.
    fn each(self, layout: Layout, grain: usize, task: &(impl Fn(Bands<'_>) + Sync)) {
        let band = WIDTH * layout.size;
        let count = self.swept.len().div_ceil(band);
        if count <= grain {
            return task(self);
        }
        let half = count / 2;
        let (swept, swept_after) = self.swept.split_at_mut(half * band);
        let (scratch, scratch_after) = self.scratch.split_at_mut(half * band);
        let before = Bands { first: self.first, swept, scratch };
        let after = Bands { first: self.first + half, swept: swept_after, scratch: scratch_after };
        rayon::join(|| before.each(layout, grain, task), || after.each(layout, grain, task));
    }

    #[inline(always)]
    fn sweep(self, layout: Layout, diffusion: &Diffusion, field: &[f64]) {
        let band = WIDTH * layout.size;
        let parts = self.swept.chunks_mut(band).zip(self.scratch.chunks_mut(band));
        for (index, (swept, scratch)) in parts.enumerate() {
            diffusion.along_rows(self.first + index, field, swept, scratch);
        }
    }
}

/// Some of the panels of columns.
struct Panels<'a> {
    first: usize,
    state: [&'a mut [f64]; 4],
    input: [&'a [f64]; 2],
    scratch: &'a mut [f64],
}

impl Panels<'_> {
    /// Does something to all panels, at most `grain` at a time; tells whether it is true of all.
    fn each(
        self,
        layout: Layout,
        grain: usize,
        task: &(impl Fn(Panels<'_>) -> bool + Sync),
    ) -> bool {
        let panel = WIDTH * layout.size;
        let count = self.scratch.len().div_ceil(panel);
        if count <= grain {
            return task(self);
        }
        let half = count / 2;
        let [v, r, s, a] = self.state.map(|values| values.split_at_mut(half * panel));
        let [passive, drive] = self.input.map(|values| values.split_at(half * panel));
        let (scratch, scratch_after) = self.scratch.split_at_mut(half * panel);
        let before = Panels {
            first: self.first,
            state: [v.0, r.0, s.0, a.0],
            input: [passive.0, drive.0],
            scratch,
        };
        let after = Panels {
            first: self.first + half,
            state: [v.1, r.1, s.1, a.1],
            input: [passive.1, drive.1],
            scratch: scratch_after,
        };
        let (x, y) =
            rayon::join(|| before.each(layout, grain, task), || after.each(layout, grain, task));
        x & y
    }

    /// Ends the diffusion and lets the cells react; tells whether their potentials are finite.
    #[inline(always)]
    fn react(
        self,
        layout: Layout,
        diffusion: &Diffusion,
        reaction: &Reaction,
        swept: &[f64],
    ) -> bool {
        let panel = WIDTH * layout.size;
        let [v, r, s, a] = self.state.map(|values| values.chunks_mut(panel));
        let [passive, drive] = self.input.map(|values| values.chunks(panel));
        let parts = v.zip(r).zip(s).zip(a).zip(passive.zip(drive));
        let parts = parts.zip(self.scratch.chunks_mut(panel));
        let mut finite = true;
        let mut block = Scratch::new();
        for (index, (((((v, r), s), a), (passive, drive)), scratch)) in parts.enumerate() {
            diffusion.along_columns(self.first + index, swept, a, scratch);
            reaction.step([&mut *v, r, s, a], passive, drive, &mut block);
            finite &= v.iter().fold(true, |all, &v| all & is_finite(v));
        }
        finite
    }
}
