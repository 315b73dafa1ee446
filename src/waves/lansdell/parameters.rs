//! The parameters of the model of Lansdell, Ford and Kutz (2014), and their defaults.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The model's constants, and the steps it is solved in.
///
/// Defaults are those of Lansdell, Ford & Kutz (2014), PLoS Comput. Biol. 10(12): e1003953, and of its public code. The
/// symbols in parentheses are the paper's. Lengths, capacitance, widths, times and steepness are above 0; conductances,
/// rates, strengths, sensitivity and diffusion are at least 0; potentials and currents are any finite number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lansdell {
    /// What the movie shows.
    #[serde(skip_serializing_if = "Variable::is_potential")]
    pub variable: Variable,
    /// Side of the retina in mm. One pixel shows one cell; the outer cells lie on the border.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "mm"))]
    pub length: f64,
    /// Time step in s, above 0. 0.001 is the paper's code's; 0.005 gives the same statistics five times faster. At most
    /// 2 over the fastest rate of a cell, which is as a rule the membrane's, all conductances open: (g_L + g_ACh +
    /// noise + the larger of g_Ca and g_K) / C_m. That is 5.8 ms with the paper's realistic noise of 20 nS.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    pub dt: f64,
    /// Random conductance that starts waves, in nS.
    pub noise: Noise,
    /// Time in s for which a draw of the noise is held; at least `dt`.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    pub noise_interval: f64,
    /// Membrane capacitance (C_m) in pF.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "pF"))]
    pub capacitance: f64,
    /// Reversal potential of calcium (V_Ca) in mV.
    #[schemars(extend("x-unit" = "mV"))]
    pub calcium_reversal: f64,
    /// Reversal potential of potassium (V_K) in mV.
    #[schemars(extend("x-unit" = "mV"))]
    pub potassium_reversal: f64,
    /// Reversal potential of the leak (V_L) in mV.
    #[schemars(extend("x-unit" = "mV"))]
    pub leak_reversal: f64,
    /// Reversal potential of the cholinergic synapses (V_syn) in mV.
    #[schemars(extend("x-unit" = "mV"))]
    pub synaptic_reversal: f64,
    /// Reversal potential of the noise (V_N) in mV.
    #[schemars(extend("x-unit" = "mV"))]
    pub noise_reversal: f64,
    /// Largest calcium conductance (g_Ca) in nS.
    #[schemars(range(min = 0.0), extend("x-unit" = "nS"))]
    pub calcium_conductance: f64,
    /// Largest potassium conductance (g_K) in nS.
    #[schemars(range(min = 0.0), extend("x-unit" = "nS"))]
    pub potassium_conductance: f64,
    /// Leak conductance (g_L) in nS.
    #[schemars(range(min = 0.0), extend("x-unit" = "nS"))]
    pub leak_conductance: f64,
    /// Largest synaptic conductance (g_ACh) in nS.
    #[schemars(range(min = 0.0), extend("x-unit" = "nS"))]
    pub synaptic_conductance: f64,
    /// Potential at which half the calcium channels are open (V_1) in mV.
    #[schemars(extend("x-unit" = "mV"))]
    pub calcium_midpoint: f64,
    /// Width of the calcium activation (V_2) in mV.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "mV"))]
    pub calcium_width: f64,
    /// Potential at which half the potassium channels are open (V_3) in mV.
    #[schemars(extend("x-unit" = "mV"))]
    pub potassium_midpoint: f64,
    /// Width of the potassium activation (V_4) in mV.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "mV"))]
    pub potassium_width: f64,
    /// Time constant of the potassium gate (τ_R) in s.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    pub potassium_time: f64,
    /// Decay time of acetylcholine (τ_ACh) in s.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    pub acetylcholine_time: f64,
    /// Decay time of the slow after-hyperpolarization (τ_S) in s.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    pub hyperpolarization_time: f64,
    /// Strength of the slow after-hyperpolarization (α). Less gives more frequent waves: pre-training used 0.5.
    #[schemars(range(min = 0.0))]
    pub hyperpolarization_strength: f64,
    /// Rate at which an active cell builds up its hyperpolarization (γ) in 1/s.
    #[schemars(range(min = 0.0), extend("x-unit" = "1/s"))]
    pub hyperpolarization_rate: f64,
    /// Rate at which an active cell releases acetylcholine (β) in nM/s.
    #[schemars(range(min = 0.0), extend("x-unit" = "nM/s"))]
    pub release_rate: f64,
    /// Steepness of the release over the potential (κ) in 1/mV.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "1/mV"))]
    pub release_steepness: f64,
    /// Potential of half the release (V_0) in mV.
    #[schemars(extend("x-unit" = "mV"))]
    pub release_midpoint: f64,
    /// Sensitivity of the synapses to acetylcholine (δ) in 1/nM².
    #[schemars(range(min = 0.0), extend("x-unit" = "1/nM²"))]
    pub acetylcholine_sensitivity: f64,
    /// Diffusion coefficient of acetylcholine (D) in mm²/s.
    #[schemars(range(min = 0.0), extend("x-unit" = "mm²/s"))]
    pub diffusion: f64,
    /// Current injected into the central cell during the pulse (I_app) in pA.
    #[schemars(extend("x-unit" = "pA"))]
    pub applied_current: f64,
    /// Start of the pulse in s from the beginning of the burn-in, rounded up to a draw of the noise.
    #[schemars(extend("x-unit" = "s"))]
    pub pulse_start: f64,
    /// Duration of the pulse in s.
    #[schemars(range(min = 0.0), extend("x-unit" = "s"))]
    pub pulse_duration: f64,
}

/// A variable of a cell, in the order of its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variable {
    /// Membrane potential (V) in mV: about -70 at rest, above -60 in a wave.
    #[default]
    Potential,
    /// Open share of the potassium gates (R), from 0 to 1.
    PotassiumGate,
    /// Slow after-hyperpolarization (S), no unit: rises in a wave, decays over a minute.
    Hyperpolarization,
    /// Concentration of acetylcholine (A) in nM.
    Acetylcholine,
}

impl Variable {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_potential(&self) -> bool {
        *self == Self::Potential
    }
}

/// Distribution of the noise conductance of a cell, in nS, drawn anew for every cell and interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Noise {
    /// Exponential: many weak inputs. The default of the paper's code.
    Exponential {
        /// Inverse of the mean conductance, in 1/nS, above 0: 5 is a mean of 0.2 nS.
        #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "1/nS"))]
        rate: f64,
    },
    /// All or nothing: rare strong inputs, which the paper uses for realistic waves.
    Bernoulli {
        /// Conductance of an input in nS, at least 0: 20 in the scripts for realistic waves of the paper's code.
        #[schemars(range(min = 0.0), extend("x-unit" = "nS"))]
        conductance: f64,
        /// Probability of an input to a cell in one interval, in [0, 1]: 0.1/800 there, so that a cell gets one in 800 s.
        #[schemars(range(min = 0.0, max = 1.0))]
        probability: f64,
    },
}

impl Default for Lansdell {
    fn default() -> Self {
        Self {
            variable: Variable::Potential,
            length: 2.0,
            dt: 0.001,
            noise: Noise::Exponential { rate: 5.0 },
            noise_interval: 0.1,
            capacitance: 160.0,
            calcium_reversal: 50.0,
            potassium_reversal: -90.0,
            leak_reversal: -70.0,
            synaptic_reversal: 50.0,
            noise_reversal: 50.0,
            calcium_conductance: 10.0,
            potassium_conductance: 30.0,
            leak_conductance: 3.0,
            synaptic_conductance: 2.0,
            calcium_midpoint: -20.0,
            calcium_width: 20.0,
            potassium_midpoint: -25.0,
            potassium_width: 40.0,
            potassium_time: 5.0,
            acetylcholine_time: 0.2,
            hyperpolarization_time: 60.0,
            hyperpolarization_strength: 2.0,
            hyperpolarization_rate: 0.3,
            release_rate: 5.0,
            release_steepness: 0.2,
            release_midpoint: -40.0,
            acetylcholine_sensitivity: 800.0,
            diffusion: 0.01,
            applied_current: 0.0,
            pulse_start: 1.0,
            pulse_duration: 1.5,
        }
    }
}

impl Lansdell {
    /// Simulated time in s before the first frame where nothing else is said: that of the instructions of the paper's code.
    pub const BURN_IN: f64 = 500.0;
}

impl Noise {
    /// Noise of the paper's realistic waves: 20 nS, on average once in 800 s.
    pub const REALISTIC: Self = Self::Bernoulli { conductance: 20.0, probability: 0.1 / 800.0 };

    /// Largest conductance in nS that a cell meets. Exponential draws above 10 means are one in 22,000.
    pub(super) fn ceiling(self) -> f64 {
        match self {
            Self::Exponential { rate } => 10.0 / rate,
            Self::Bernoulli { probability: 0.0, .. } => 0.0,
            Self::Bernoulli { conductance, .. } => conductance,
        }
    }
}
