//! The parameters of the model of Godfrey and Swindale (2007), and their values for several species.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::waves::simulation::{Parameters, Violations, check_ranges};

/// Cells of a lattice at most: their variables fill 300 MB.
const MOST_CELLS: f64 = 1e7;

/// The model's constants, the lattice, and how the movie shows it.
///
/// Defaults are those of Godfrey and Swindale (2007), PLoS Comput. Biol. 3(11): e245, for the mouse; the symbols in
/// parentheses are the paper's. Constants that are left out are those of the `preset`, which come from the authors' program.
/// Lengths and times are above 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GodfreySwindale {
    /// The constants that are not given.
    pub preset: Preset,
    /// What the movie shows.
    pub variable: Variable,
    /// How a pixel shows the cells, whose lattice is another.
    pub sampling: Sampling,
    /// Side of the square that the movie shows, in mm. A pixel is `length` / `size` wide.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "mm"))]
    pub length: f64,
    /// Width of the rim of cells around that square, in mm, at least 0. Cells at the edge of a retina have fewer
    /// neighbors and fire less often; the default, 0.17, the reach of a cell of 0.085 mm, keeps that out of the movie.
    #[schemars(range(min = 0.0), extend("x-unit" = "mm"))]
    pub margin: f64,
    /// Time step in s, above 0 and at most twice `excitation_time`. The default, 0.025, is the authors'.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    pub dt: f64,
    /// Distance between neighboring cells of the hexagonal lattice in mm, at most the dendritic radius. The default is 0.034.
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "mm"))]
    pub spacing: f64,
    /// Radius of the disc that a cell's dendrites cover, in mm. Two cells are coupled by the share of their discs that
    /// overlaps. Published: 0.085; `reward` 0.17. The cells closer than its double are coupled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "mm"))]
    pub dendrite_radius: Option<f64>,
    /// How many rings of neighbors a cell is coupled to at most, at least 1. The default, 5, is the authors'; it bears on discs of
    /// more than 0.088 mm alone, such as those of `reward`.
    #[schemars(range(min = 1, max = 100))]
    pub rings: usize,
    /// How much a cell's threshold rises while it fires (H1), at least 0, in the unit of excitation: 1 is the input
    /// from a firing cell at the same place. Ferret, rabbit, mouse and turtle 4; `reward` 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub threshold_rise: Option<f64>,
    /// How much more it rises for each unit of mean input while it fires (H2), at least 0. Ferret and mouse 0.75, rabbit
    /// 0.6, turtle 0.7, `reward` 0.4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub input_rise: Option<f64>,
    /// How long a cell fires (D) in s, rounded to time steps, at least one. Ferret 1.3, rabbit 1.05, mouse 2.3, turtle 1,
    /// `reward` 1.25.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    pub firing_time: Option<f64>,
    /// Time in s in which the threshold of a cell with all its neighbors falls by `threshold_rise` (P): about the time
    /// between spontaneous firings of a cell alone. Ferret 43, rabbit 44, mouse 32, turtle 23, `reward` 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    pub recovery_time: Option<f64>,
    /// Time constant with which the excitation of a silent cell follows its input (τ_K) in s. Ferret and rabbit 0.25,
    /// mouse 0.35, turtle and `reward` 0.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "x-unit" = "s"))]
    pub excitation_time: Option<f64>,
    /// Relative standard deviation of the rate at which a cell's threshold falls, from 0 to 1; drawn anew after each firing.
    /// Draws below a tenth count as a tenth. The authors' is 0.2; 0 makes the model deterministic but for its start.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub recovery_spread: f64,
    /// Thresholds at the beginning are uniform from here, at least 0. The authors' is 0.5.
    #[schemars(range(min = 0.0))]
    pub lowest_threshold: f64,
    /// Thresholds at the beginning are uniform up to here, at least `lowest_threshold`. The authors' is 5.
    #[schemars(range(min = 0.0))]
    pub highest_threshold: f64,
}

/// A set of constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Mouse, P0 to P13.
    #[default]
    Mouse,
    /// Ferret, P2 to P4.
    Ferret,
    /// Rabbit, E24 to P1.
    Rabbit,
    /// Turtle, E23 to E24.
    Turtle,
    /// The waves of ReWaRD, a data set for pre-training (Cappell et al. 2023): wider dendrites.
    Reward,
}

/// A variable of a cell, in the order of its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variable {
    /// 1 while a cell fires and 0 while it is silent. `movie.segment` takes a threshold of 0.5.
    #[default]
    Activity,
    /// Excitation of a cell: 1 is the input from a firing cell at the same place; held while it fires.
    Excitation,
    /// Threshold of a cell, in the unit of excitation.
    Threshold,
}

/// How a pixel of the movie shows the cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// The cell nearest to the pixel's center: each pixel has the value of one cell.
    #[default]
    Nearest,
    /// The mean of the cells within the pixel; of none, the nearest.
    Mean,
}

/// The constants of a set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Constants {
    pub(super) dendrite_radius: f64,
    pub(super) threshold_rise: f64,
    pub(super) input_rise: f64,
    pub(super) firing_time: f64,
    pub(super) recovery_time: f64,
    pub(super) excitation_time: f64,
}

impl Preset {
    fn constants(self) -> Constants {
        let (
            dendrite_radius,
            [threshold_rise, input_rise, firing_time, recovery_time, excitation_time],
        ) = match self {
            Self::Mouse => (0.085, [4.0, 0.75, 2.3, 32.0, 0.35]),
            Self::Ferret => (0.085, [4.0, 0.75, 1.3, 43.0, 0.25]),
            Self::Rabbit => (0.085, [4.0, 0.6, 1.05, 44.0, 0.25]),
            Self::Turtle => (0.085, [4.0, 0.7, 1.0, 23.0, 0.2]),
            Self::Reward => (0.17, [5.0, 0.4, 1.25, 30.0, 0.2]),
        };
        Constants {
            dendrite_radius,
            threshold_rise,
            input_rise,
            firing_time,
            recovery_time,
            excitation_time,
        }
    }
}

impl Default for GodfreySwindale {
    fn default() -> Self {
        Self {
            preset: Preset::Mouse,
            variable: Variable::Activity,
            sampling: Sampling::Nearest,
            length: 2.0,
            margin: 0.17,
            dt: 0.025,
            spacing: 0.034,
            dendrite_radius: None,
            rings: 5,
            threshold_rise: None,
            input_rise: None,
            firing_time: None,
            recovery_time: None,
            excitation_time: None,
            recovery_spread: 0.2,
            lowest_threshold: 0.5,
            highest_threshold: 5.0,
        }
    }
}

impl GodfreySwindale {
    /// Simulated time in s before the first frame where nothing else is said: the authors' 15 minutes.
    pub const BURN_IN: f64 = 900.0;

    /// The constants that are given, and those of the preset for the others.
    pub(super) fn constants(&self) -> Constants {
        let set = self.preset.constants();
        Constants {
            dendrite_radius: self.dendrite_radius.unwrap_or(set.dendrite_radius),
            threshold_rise: self.threshold_rise.unwrap_or(set.threshold_rise),
            input_rise: self.input_rise.unwrap_or(set.input_rise),
            firing_time: self.firing_time.unwrap_or(set.firing_time),
            recovery_time: self.recovery_time.unwrap_or(set.recovery_time),
            excitation_time: self.excitation_time.unwrap_or(set.excitation_time),
        }
    }
}

impl Parameters<GodfreySwindale> {
    /// Lists every field that is out of range, with what is wrong; empty if the simulation can run.
    pub fn check(&self) -> Violations {
        let (recording, model) = (&self.recording, &self.model);
        let constants = model.constants();
        let mut found = Vec::new();
        recording.check_counts(&mut found);
        let positive = [
            ("output_rate", recording.output_rate),
            ("length", model.length),
            ("dt", model.dt),
            ("spacing", model.spacing),
            ("dendrite_radius", constants.dendrite_radius),
            ("firing_time", constants.firing_time),
            ("recovery_time", constants.recovery_time),
            ("excitation_time", constants.excitation_time),
        ];
        let not_negative = [
            ("burn_in", recording.burn_in),
            ("margin", model.margin),
            ("threshold_rise", constants.threshold_rise),
            ("input_rise", constants.input_rise),
            ("lowest_threshold", model.lowest_threshold),
        ];
        check_ranges(&positive, &not_negative, &mut found);
        if !(1..=100).contains(&model.rings) {
            found.push(("rings", format!("must lie between 1 and 100, is {}", model.rings)));
        }
        if !(0.0..=1.0).contains(&model.recovery_spread) {
            found.push((
                "recovery_spread",
                format!("must be from 0 to 1, is {}", model.recovery_spread),
            ));
        }
        let highest = model.highest_threshold;
        if !(highest >= model.lowest_threshold && highest.is_finite()) {
            let rule = format!("must be finite and at least `lowest_threshold`, is {highest}");
            found.push(("highest_threshold", rule));
        }
        if found.is_empty() {
            self.check_together(&constants, &mut found);
        }
        found
    }

    fn check_together(&self, constants: &Constants, found: &mut Violations) {
        let model = &self.model;
        if model.dt > 2.0 * constants.excitation_time {
            let bound = 2.0 * constants.excitation_time;
            let reason = "Euler steps of the excitation need dt <= 2 * excitation_time";
            found.push(("dt", format!("must be at most {bound} s, is {}: {reason}", model.dt)));
        }
        let side = model.length + 2.0 * model.margin;
        let cells = (side / model.spacing).powi(2) * 2.0 / 3f64.sqrt();
        if model.spacing > constants.dendrite_radius {
            let rule = format!(
                "must be at most the dendritic radius, {}, is {}",
                constants.dendrite_radius, model.spacing
            );
            found.push(("spacing", rule));
        } else if cells > MOST_CELLS {
            let rule = format!(
                "must leave at most {MOST_CELLS:.0e} cells in a square of length + 2 * margin = {side} mm, is {}",
                model.spacing
            );
            found.push(("spacing", rule));
        }
        self.recording.check_times(model.dt, found);
    }
}
