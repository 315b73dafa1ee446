//! Which parameters the simulation can run with: ranges, and time steps that stay stable.

use super::super::math;
use super::super::simulation::{Parameters, Violations, check_ranges};
use super::parameters::{Lansdell, Noise};

impl Parameters<Lansdell> {
    /// Lists every field that is out of range, with what is wrong; empty if the simulation can run.
    pub fn check(&self) -> Violations {
        let mut found = Vec::new();
        self.recording.check_counts(&mut found);
        check_ranges(&self.positive(), &self.not_negative(), &mut found);
        for (field, value) in self.finite() {
            if !value.is_finite() {
                found.push((field, format!("must be finite, is {value}")));
            }
        }
        self.check_noise(&mut found);
        if found.is_empty() {
            self.check_times(&mut found);
        }
        found
    }

    fn positive(&self) -> [(&'static str, f64); 11] {
        [
            ("length", self.model.length),
            ("dt", self.model.dt),
            ("output_rate", self.recording.output_rate),
            ("noise_interval", self.model.noise_interval),
            ("capacitance", self.model.capacitance),
            ("calcium_width", self.model.calcium_width),
            ("potassium_width", self.model.potassium_width),
            ("potassium_time", self.model.potassium_time),
            ("acetylcholine_time", self.model.acetylcholine_time),
            ("hyperpolarization_time", self.model.hyperpolarization_time),
            ("release_steepness", self.model.release_steepness),
        ]
    }

    fn not_negative(&self) -> [(&'static str, f64); 11] {
        [
            ("burn_in", self.recording.burn_in),
            ("calcium_conductance", self.model.calcium_conductance),
            ("potassium_conductance", self.model.potassium_conductance),
            ("leak_conductance", self.model.leak_conductance),
            ("synaptic_conductance", self.model.synaptic_conductance),
            ("hyperpolarization_strength", self.model.hyperpolarization_strength),
            ("hyperpolarization_rate", self.model.hyperpolarization_rate),
            ("release_rate", self.model.release_rate),
            ("acetylcholine_sensitivity", self.model.acetylcholine_sensitivity),
            ("diffusion", self.model.diffusion),
            ("pulse_duration", self.model.pulse_duration),
        ]
    }

    fn finite(&self) -> [(&'static str, f64); 10] {
        [
            ("calcium_reversal", self.model.calcium_reversal),
            ("potassium_reversal", self.model.potassium_reversal),
            ("leak_reversal", self.model.leak_reversal),
            ("synaptic_reversal", self.model.synaptic_reversal),
            ("noise_reversal", self.model.noise_reversal),
            ("calcium_midpoint", self.model.calcium_midpoint),
            ("potassium_midpoint", self.model.potassium_midpoint),
            ("release_midpoint", self.model.release_midpoint),
            ("applied_current", self.model.applied_current),
            ("pulse_start", self.model.pulse_start),
        ]
    }

    fn check_noise(&self, found: &mut Violations) {
        match self.model.noise {
            Noise::Exponential { rate } if !(rate > 0.0 && rate.is_finite()) => {
                let rule = format!("must be positive and finite, is {rate}");
                found.push(("noise.exponential.rate", rule));
            }
            Noise::Bernoulli { conductance, .. }
                if !(conductance >= 0.0 && conductance.is_finite()) =>
            {
                let rule = format!("must be finite and not negative, is {conductance}");
                found.push(("noise.bernoulli.conductance", rule));
            }
            Noise::Bernoulli { probability, .. } if !(0.0..=1.0).contains(&probability) => {
                let rule = format!("must be from 0 to 1, is {probability}");
                found.push(("noise.bernoulli.probability", rule));
            }
            Noise::Exponential { .. } | Noise::Bernoulli { .. } => {}
        }
    }

    fn check_times(&self, found: &mut Violations) {
        let dt = self.model.dt;
        let (rate, cause) = self.stiffest_rate();
        // The explicit midpoint method damps y' = -rate y as long as dt * rate <= 2.
        if dt * rate > 2.0 {
            let bound = 2.0 / rate;
            let reason = "explicit midpoint steps need dt <= 2 / rate";
            found.push((
                "dt",
                format!("must be at most {bound:.2e} s, is {dt}: {cause} at up to {rate:.0}/s, and {reason}"),
            ));
        }
        self.recording.check_times(dt, found);
        if self.model.noise_interval < dt {
            found.push((
                "noise_interval",
                format!("must be at least dt, is {}", self.model.noise_interval),
            ));
        }
    }

    /// Bounds the fastest relaxation of a cell in 1/s and says what relaxes.
    ///
    /// The membrane's rate is its open conductance over its capacitance. Calcium pulls the potential to where
    /// potassium is in balance with it only if it is partly closed, so the larger of the two stands for both.
    fn stiffest_rate(&self) -> (f64, String) {
        let open = self.model.leak_conductance
            + self.model.synaptic_conductance
            + self.model.noise.ceiling()
            + self.model.calcium_conductance.max(self.model.potassium_conductance);
        let lowest = self.model.potassium_reversal.min(self.model.leak_reversal);
        let highest = self
            .model
            .calcium_reversal
            .max(self.model.synaptic_reversal)
            .max(self.model.noise_reversal);
        let distance = (lowest - self.model.potassium_midpoint)
            .abs()
            .max((highest - self.model.potassium_midpoint).abs());
        let hyperpolarization = self.model.hyperpolarization_strength
            * self.model.hyperpolarization_rate
            * self.model.hyperpolarization_time;
        let gate = math::cosh(distance / (2.0 * self.model.potassium_width)) + hyperpolarization;
        let membrane =
            format!("the membrane relaxes ({open:.1} nS over {} pF)", self.model.capacitance);
        [
            (gate / self.model.potassium_time, "the potassium gate relaxes".to_owned()),
            (1.0 / self.model.acetylcholine_time, "acetylcholine decays".to_owned()),
            (1.0 / self.model.hyperpolarization_time, "the hyperpolarization decays".to_owned()),
        ]
        .into_iter()
        .fold((1000.0 * open / self.model.capacitance, membrane), |a, b| {
            if b.0 > a.0 { b } else { a }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::simulation::Recording;
    use super::*;

    fn of(model: Lansdell) -> Parameters<Lansdell> {
        Parameters { model, ..Parameters::default() }
    }

    #[test]
    fn the_defaults_pass() {
        assert_eq!(of(Lansdell::default()).check(), []);
        let fast = of(Lansdell { dt: 0.005, noise: Noise::REALISTIC, ..Lansdell::default() });
        assert_eq!(fast.check(), []);
    }

    #[test]
    fn all_violations_are_found_at_once() {
        let bad = Parameters {
            recording: Recording { size: 1, burn_in: f64::NAN, ..Recording::default() },
            model: Lansdell {
                capacitance: -1.0,
                leak_reversal: f64::INFINITY,
                noise: Noise::Bernoulli { conductance: 20.0, probability: 1.5 },
                ..Lansdell::default()
            },
        };
        let fields: Vec<_> = bad.check().into_iter().map(|(field, _)| field).collect();
        assert_eq!(
            fields,
            ["size", "capacitance", "burn_in", "leak_reversal", "noise.bernoulli.probability"]
        );
    }

    #[test]
    fn unstable_steps_are_refused_with_the_reason() {
        for (dt, noise) in [(0.05, Noise::REALISTIC), (0.02, Noise::Exponential { rate: 5.0 })] {
            let found = of(Lansdell { dt, noise, ..Lansdell::default() }).check();
            assert_eq!(found[0].0, "dt", "{found:?}");
        }
        let found =
            of(Lansdell { dt: 0.05, noise: Noise::REALISTIC, ..Lansdell::default() }).check();
        assert_eq!(
            found[0].1,
            "must be at most 5.82e-3 s, is 0.05: the membrane relaxes (55.0 nS over 160 pF) at up to 344/s, and \
             explicit midpoint steps need dt <= 2 / rate"
        );
        let just_stable =
            of(Lansdell { dt: 0.0058, noise: Noise::REALISTIC, ..Lansdell::default() });
        assert_eq!(just_stable.check(), []);
        let too_long = of(Lansdell { dt: 0.0059, noise: Noise::REALISTIC, ..Lansdell::default() });
        assert_eq!(too_long.check().len(), 1);
        let stiff = of(Lansdell { hyperpolarization_strength: 1e4, ..Lansdell::default() });
        assert!(stiff.check()[0].1.contains("potassium gate"), "{:?}", stiff.check());
    }

    #[test]
    fn noise_out_of_range_is_named() {
        let check = |noise: Noise, field: &str, rule: &str| {
            let found = of(Lansdell { noise, ..Lansdell::default() }).check();
            assert_eq!(found, [(field, rule.to_owned())]);
        };
        check(
            Noise::Exponential { rate: -1.0 },
            "noise.exponential.rate",
            "must be positive and finite, is -1",
        );
        check(
            Noise::Bernoulli { conductance: -2.0, probability: 0.5 },
            "noise.bernoulli.conductance",
            "must be finite and not negative, is -2",
        );
        check(
            Noise::Bernoulli { conductance: 2.0, probability: 1.5 },
            "noise.bernoulli.probability",
            "must be from 0 to 1, is 1.5",
        );
    }

    #[test]
    fn simulations_without_end_are_refused() {
        for recording in [
            Recording { burn_in: 1e300, ..Recording::default() },
            Recording { output_rate: 1e-9, ..Recording::default() },
        ] {
            let found = Parameters { recording, model: Lansdell::default() }.check();
            assert_eq!(found.len(), 1);
            assert!(found[0].0 == "burn_in" && found[0].1.contains("at most 1e12"), "{found:?}");
        }
    }

    #[test]
    fn sampling_is_not_finer_than_the_steps() {
        let found = Parameters {
            recording: Recording { output_rate: 2000.0, ..Recording::default() },
            model: Lansdell { noise_interval: 1e-4, ..Lansdell::default() },
        };
        let fields: Vec<_> = found.check().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["output_rate", "noise_interval"]);
    }
}
