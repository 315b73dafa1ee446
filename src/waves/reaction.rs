//! The reaction of the wave model: what happens within a cell.

use super::math;
use super::parameters::Lansdell;

/// nS mV / pF = pA / pF is V/s, a thousand mV/s.
pub(super) const MILLI: f64 = 1000.0;

/// Cells advanced together: their variables and rates stay in the fastest cache.
const BLOCK: usize = 64;

/// V in mV, R, S, and A in nM of all cells, row-major.
pub type State = [Vec<f64>; 4];

/// The reaction of one cell: conductances and rates in 1/s, widths as exponents of two per mV.
#[derive(Clone, Debug)]
pub(super) struct Reaction {
    dt: f64,
    calcium: f64,
    calcium_reversal: f64,
    calcium_midpoint: f64,
    calcium_slope: f64,
    potassium: f64,
    potassium_reversal: f64,
    potassium_midpoint: f64,
    potassium_slope: f64,
    synaptic: f64,
    synaptic_reversal: f64,
    sensitivity: f64,
    gate_rate: f64,
    strength: f64,
    release_midpoint: f64,
    release_slope: f64,
    release: f64,
    acetylcholine_decay: f64,
    buildup: f64,
    hyperpolarization_decay: f64,
}

impl Reaction {
    pub(super) fn new(p: &Lansdell) -> Self {
        let per_capacitance = MILLI / p.capacitance;
        Self {
            dt: p.dt,
            calcium: per_capacitance * p.calcium_conductance,
            calcium_reversal: p.calcium_reversal,
            calcium_midpoint: p.calcium_midpoint,
            // (1 + tanh x) / 2 is the logistic function of 2x.
            calcium_slope: math::per(p.calcium_width / 2.0),
            potassium: per_capacitance * p.potassium_conductance,
            potassium_reversal: p.potassium_reversal,
            potassium_midpoint: p.potassium_midpoint,
            potassium_slope: math::per(2.0 * p.potassium_width),
            synaptic: per_capacitance * p.synaptic_conductance,
            synaptic_reversal: p.synaptic_reversal,
            sensitivity: p.acetylcholine_sensitivity,
            gate_rate: 1.0 / p.potassium_time,
            strength: p.hyperpolarization_strength,
            release_midpoint: p.release_midpoint,
            release_slope: math::per(1.0 / p.release_steepness),
            release: p.release_rate,
            acetylcholine_decay: 1.0 / p.acetylcholine_time,
            buildup: p.hyperpolarization_rate,
            hyperpolarization_decay: 1.0 / p.hyperpolarization_time,
        }
    }

    /// Advances all cells by an explicit midpoint step, a block after another.
    pub(super) fn step(&self, state: &mut State, passive: &[f64], drive: &[f64]) {
        let [v, r, s, a] = state.each_mut().map(|values| values.chunks_mut(BLOCK));
        let inputs = passive.chunks(BLOCK).zip(drive.chunks(BLOCK));
        let mut middle = [[0.0; BLOCK]; 4];
        let mut rates = [[0.0; BLOCK]; 4];
        for ((((v, r), s), a), (passive, drive)) in v.zip(r).zip(s).zip(a).zip(inputs) {
            let cells = v.len();
            self.rates([v, r, s, a], passive, drive, &mut rates);
            for ((middle, start), rates) in middle.iter_mut().zip([&*v, r, s, a]).zip(&rates) {
                for ((middle, &start), &rate) in middle.iter_mut().zip(start).zip(rates) {
                    *middle = start + 0.5 * self.dt * rate;
                }
            }
            self.rates(
                middle.each_ref().map(|values| &values[..cells]),
                passive,
                drive,
                &mut rates,
            );
            for (values, rates) in [v, r, s, a].into_iter().zip(&rates) {
                for (value, &rate) in values.iter_mut().zip(rates) {
                    *value += self.dt * rate;
                }
            }
        }
    }

    /// Evaluates the rates of change of a block of cells (Lansdell et al. 2014, equations 1 to 7).
    ///
    /// A loop a gate, rather than one over cells, because the processor overlaps the short dependent chains of a
    /// loop over many cells, but not the long chain of all gates.
    fn rates(
        &self,
        [v, r, s, a]: [&[f64]; 4],
        passive: &[f64],
        drive: &[f64],
        rates: &mut [[f64; BLOCK]; 4],
    ) {
        let cells = v.len();
        let [dv, dr, ds, da] = rates.each_mut().map(|values| &mut values[..cells]);
        for (open, &v) in dv.iter_mut().zip(v) {
            let (n, d) = math::exp2_fraction((v - self.calcium_midpoint) * self.calcium_slope);
            *open = n / (n + d);
        }
        for ((gate, &v), &r) in dr.iter_mut().zip(v).zip(r) {
            *gate = self.relaxation(v, r);
        }
        for (active, &v) in ds.iter_mut().zip(v) {
            let (n, d) = math::exp2_fraction((v - self.release_midpoint) * self.release_slope);
            *active = n / (n + d);
        }
        for (open, &a) in da.iter_mut().zip(a) {
            let bound = self.sensitivity * a * a;
            *open = bound / (1.0 + bound);
        }
        let (r, s, a) = (&r[..cells], &s[..cells], &a[..cells]);
        let (passive, drive) = (&passive[..cells], &drive[..cells]);
        for i in 0..cells {
            let (calcium, synaptic) = (self.calcium * dv[i], self.synaptic * da[i]);
            let potassium = self.potassium * r[i];
            let conductance = passive[i] + calcium + potassium + synaptic;
            let current = drive[i]
                + calcium * self.calcium_reversal
                + potassium * self.potassium_reversal
                + synaptic * self.synaptic_reversal;
            let active = ds[i];
            dv[i] = current - conductance * v[i];
            dr[i] = self.gate_rate * (dr[i] + self.strength * s[i] * (1.0 - r[i]));
            ds[i] = self.buildup * active - self.hyperpolarization_decay * s[i];
            da[i] = self.release * active - self.acetylcholine_decay * a[i];
        }
    }

    /// Evaluates `Λ (R∞ - R)` with one division.
    ///
    /// With q = n/d = exp((V - V_3) / 2V_4), Λ = (q + 1/q) / 2 and R∞ = q⁴ / (1 + q⁴).
    #[inline]
    fn relaxation(&self, v: f64, r: f64) -> f64 {
        let (n, d) = math::exp2_fraction((v - self.potassium_midpoint) * self.potassium_slope);
        let (n2, d2) = (n * n, d * d);
        let (n4, d4) = (n2 * n2, d2 * d2);
        let total = n4 + d4;
        (n2 + d2) * (n4 - r * total) / (2.0 * n * d * total)
    }
}
