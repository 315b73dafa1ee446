//! The reaction of the wave model: what happens within a cell.

use super::parameters::Lansdell;
use crate::waves::math;

/// nS mV / pF = pA / pF is V/s, a thousand mV/s.
pub(super) const MILLI: f64 = 1000.0;

/// Cells advanced together: their variables and rates stay in the fastest cache.
const BLOCK: usize = 64;
type Block = [f64; BLOCK];

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

    /// Advances the variables V, R, S and A of cells by an explicit midpoint step, a block after another.
    #[inline(always)]
    pub(super) fn step(
        &self,
        state: [&mut [f64]; 4],
        passive: &[f64],
        drive: &[f64],
        scratch: &mut Scratch,
    ) {
        let [v, r, s, a] = state.map(|values| values.as_chunks_mut::<BLOCK>());
        let ((passive, last_passive), (drive, last_drive)) =
            (passive.as_chunks::<BLOCK>(), drive.as_chunks::<BLOCK>());
        let blocks = v.0.iter_mut().zip(r.0).zip(s.0).zip(a.0).zip(passive.iter().zip(drive));
        for ((((v, r), s), a), (passive, drive)) in blocks {
            self.advance([v, r, s, a], passive, drive, scratch);
        }
        let rest = [v.1, r.1, s.1, a.1];
        if !last_passive.is_empty() {
            let mut block = rest.each_ref().map(|values| filled(values));
            let [v, r, s, a] = &mut block;
            self.advance([v, r, s, a], &filled(last_passive), &filled(last_drive), scratch);
            for (values, block) in rest.into_iter().zip(&block) {
                values.copy_from_slice(&block[..values.len()]);
            }
        }
    }

    #[inline(always)]
    fn advance(
        &self,
        state: [&mut Block; 4],
        passive: &Block,
        drive: &Block,
        Scratch { middle, rates, gates }: &mut Scratch,
    ) {
        self.rates(state.each_ref().map(|values| &**values), passive, drive, rates, gates);
        for ((middle, start), rates) in middle.iter_mut().zip(&state).zip(&*rates) {
            for ((middle, &start), &rate) in middle.iter_mut().zip(start.iter()).zip(rates) {
                *middle = start + 0.5 * self.dt * rate;
            }
        }
        self.rates(middle.each_ref(), passive, drive, rates, gates);
        for (values, rates) in state.into_iter().zip(&*rates) {
            for (value, &rate) in values.iter_mut().zip(rates) {
                *value += self.dt * rate;
            }
        }
    }

    /// Evaluates the rates of change of a block of cells (Lansdell et al. 2014, equations 1 to 7).
    ///
    /// The gates are evaluated in pieces, a loop each: the processor overlaps the short dependent chains of a loop
    /// over many cells, but not the long chain of a gate. A quotient keeps one unit busy, so each loop holds one beside other work.
    #[inline(always)]
    fn rates(
        &self,
        [v, r, s, a]: [&Block; 4],
        passive: &Block,
        drive: &Block,
        [dv, dr, ds, da]: &mut [Block; 4],
        [(cn, cd), (kn, kd), (rn, rd)]: &mut [(Block, Block); 3],
    ) {
        for i in 0..BLOCK {
            (cn[i], cd[i]) = math::reduce((v[i] - self.calcium_midpoint) * self.calcium_slope);
            (kn[i], kd[i]) = math::reduce((v[i] - self.potassium_midpoint) * self.potassium_slope);
            (rn[i], rd[i]) = math::reduce((v[i] - self.release_midpoint) * self.release_slope);
            let bound = self.sensitivity * a[i] * a[i];
            da[i] = bound / (1.0 + bound);
        }
        for i in 0..BLOCK {
            (cn[i], cd[i]) = math::exp2_of_reduced(cn[i], cd[i]);
            (rn[i], rd[i]) = math::exp2_of_reduced(rn[i], rd[i]);
        }
        for i in 0..BLOCK {
            (kn[i], kd[i]) = math::exp2_of_reduced(kn[i], kd[i]);
            dv[i] = cn[i] / (cn[i] + cd[i]);
        }
        for i in 0..BLOCK {
            dr[i] = relaxation((kn[i], kd[i]), r[i]);
        }
        for i in 0..BLOCK {
            let (calcium, synaptic) = (self.calcium * dv[i], self.synaptic * da[i]);
            let potassium = self.potassium * r[i];
            let conductance = passive[i] + calcium + potassium + synaptic;
            let current = drive[i]
                + calcium * self.calcium_reversal
                + potassium * self.potassium_reversal
                + synaptic * self.synaptic_reversal;
            let active = rn[i] / (rn[i] + rd[i]);
            dv[i] = current - conductance * v[i];
            dr[i] = self.gate_rate * (dr[i] + self.strength * s[i] * (1.0 - r[i]));
            ds[i] = self.buildup * active - self.hyperpolarization_decay * s[i];
            da[i] = self.release * active - self.acetylcholine_decay * a[i];
        }
    }
}

/// What a step of a block of cells needs beside its state.
pub(super) struct Scratch {
    middle: [Block; 4],
    rates: [Block; 4],
    /// Of the gates of calcium, potassium and release.
    gates: [(Block, Block); 3],
}

impl Scratch {
    pub(super) fn new() -> Self {
        let block = [0.0; BLOCK];
        Self { middle: [block; 4], rates: [block; 4], gates: [(block, block); 3] }
    }
}

/// Evaluates `Λ (R∞ - R)` with one division, of numerator and denominator of `q = exp((V - V_3) / 2V_4)`.
///
/// Λ = (q + 1/q) / 2 and R∞ = q⁴ / (1 + q⁴).
#[inline(always)]
fn relaxation((n, d): (f64, f64), r: f64) -> f64 {
    let (n2, d2) = (n * n, d * d);
    let (n4, d4) = (n2 * n2, d2 * d2);
    let total = n4 + d4;
    (n2 + d2) * (n4 - r * total) / (2.0 * n * d * total)
}

/// Fills up a block with zeros.
#[inline(always)]
fn filled(values: &[f64]) -> Block {
    let mut block = [0.0; BLOCK];
    block[..values.len()].copy_from_slice(values);
    block
}
