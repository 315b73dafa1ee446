//! `data.gaussian`: Gaussian samples of known covariance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::problem::Samples;
use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::parameter::Seed;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, each, violations};
use crate::landscape::data::{center, gaussian};

/// The most numbers that are drawn: 2 GiB of them.
const LARGEST: usize = 1 << 28;

/// Draws Gaussian samples whose covariance is diagonal.
///
/// Defaults are those of the linear autoencoders of Frye et al.: 10000 samples of 16 features with variances 1 to 16,
/// from each of which its mean is removed. Yields a tensor `inputs` (samples x features, F64).
///
/// Source: Frye et al. 2019, arXiv:1901.10603; Frye et al. 2021, Neural Computation 33.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataGaussian {
    /// The variances of the features.
    #[serde(default)]
    variances: Variances,
    /// Number of samples, at least 2. At most 2 GiB of numbers are drawn.
    #[serde(default = "ten_thousand")]
    #[schemars(range(min = 2))]
    samples: usize,
    /// Whether the mean of each feature is removed.
    #[serde(default = "yes")]
    center: bool,
    /// Seed of the draw.
    #[serde(default)]
    seed: Seed,
}

/// The variances of the features.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Variances {
    /// 1, 2, 3 and so on: the number of features, from 1 to 65536.
    Ascending(usize),
    /// One number for each feature, each above 0.
    Each(Vec<f64>),
}

impl Default for Variances {
    fn default() -> Self {
        Self::Ascending(16)
    }
}

impl Variances {
    fn numbers(&self) -> Vec<f64> {
        match self {
            Self::Ascending(features) => (1..=*features).map(|v| v as f64).collect(),
            Self::Each(variances) => variances.clone(),
        }
    }

    fn features(&self) -> usize {
        match self {
            Self::Ascending(features) => *features,
            Self::Each(variances) => variances.len(),
        }
    }
}

fn ten_thousand() -> usize {
    10_000
}
fn yes() -> bool {
    true
}

impl Stage for DataGaussian {
    const KIND: &'static str = "data.gaussian";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const SMALL: bool = true;
    const EXAMPLE: &'static str = r#"
        [stages.gaussian]
        kind = "data.gaussian"
    "#;

    fn check(&self) -> Vec<Violation> {
        let features = self.variances.features();
        let numbers = self.samples.saturating_mul(features);
        let mut broken = violations([
            ("variances", (1..=1 << 16).contains(&features), "must be of 1 to 65536 features"),
            ("samples", self.samples > 1, "must be at least 2"),
            ("samples", numbers <= LARGEST, "must make at most 2 GiB of numbers"),
        ]);
        if let Variances::Each(variances) = &self.variances {
            let fits = |v: &f64| *v > 0.0 && v.is_finite();
            broken.extend(each(
                "variances.each",
                variances,
                fits,
                "must hold finite numbers above 0",
            ));
        }
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Tensors::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let variances = self.variances.numbers();
        let mut inputs = gaussian(self.samples, &variances, &self.seed.streams(Self::KIND));
        if self.center {
            center(&mut inputs, variances.len());
        }
        let samples = Samples { features: variances.len(), inputs, labels: Vec::new() };
        cx.save(&Tensors(samples.to_file()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::shared::bench::Bench;
    use crate::store::hash;

    fn drawn(text: &str) -> (Vec<f64>, usize) {
        let Tensors(mut file) = Bench::new().run::<DataGaussian>(text).unwrap().main();
        let ([samples, features], inputs) = file.take_f64::<2>("inputs").unwrap();
        assert_eq!(inputs.len(), samples * features);
        (inputs, features)
    }

    fn moments(inputs: &[f64], features: usize, feature: usize) -> (f64, f64) {
        let column: Vec<f64> = inputs.iter().skip(feature).step_by(features).copied().collect();
        let n = column.len() as f64;
        let mean = column.iter().sum::<f64>() / n;
        (mean, column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n)
    }

    #[test]
    fn the_published_data_have_their_variances_and_no_mean() {
        let (inputs, features) = drawn("");
        assert_eq!((inputs.len(), features), (160_000, 16));
        for feature in 0..16 {
            let (mean, variance) = moments(&inputs, 16, feature);
            assert!(mean.abs() < 1e-13, "{feature}: {mean}");
            // Five standard errors of a variance: 5 sqrt(2 / n).
            let expected = (feature + 1) as f64;
            assert!((variance / expected - 1.0).abs() < 0.07, "{feature}: {variance}");
        }
    }

    #[test]
    fn variances_are_as_given_and_a_mean_may_stay() {
        let text = "variances = { each = [4.0, 0.25] }\nsamples = 4000\ncenter = false";
        let (inputs, features) = drawn(text);
        assert_eq!(features, 2);
        for (feature, expected) in [4.0f64, 0.25].into_iter().enumerate() {
            let (mean, variance) = moments(&inputs, 2, feature);
            assert!(mean != 0.0 && mean.abs() < 5.0 * (expected / 4000.0).sqrt(), "{mean}");
            assert!((variance / expected - 1.0).abs() < 5.0 * (2.0 / 4000f64).sqrt());
        }
        let error = Bench::new().run::<DataGaussian>("variances = { each = [1.0, 0.0] }");
        assert!(error.unwrap_err().to_string().contains("above 0"));
        let error = Bench::new().run::<DataGaussian>("variances = { ascending = 0 }\nsamples = 1");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("1 to 65536") && error.contains("at least 2"), "{error}");
    }

    #[test]
    fn a_draw_has_the_same_bits_everywhere() {
        let (inputs, _) = drawn("samples = 50\nseed = 3");
        let bits = hash::bytes(bytemuck::cast_slice(&inputs)).to_hex();
        assert_eq!(bits, "14231d00992d26bfd38d62077317e822f95631435b83ce8d1f5280773bb0a81e");
    }
}
