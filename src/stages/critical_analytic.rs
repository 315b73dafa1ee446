//! `critical.analytic`: every critical point of the linear autoencoder, in closed form.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::problem::{Samples, failure};
use crate::artifacts::table::Table;
use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::landscape::linear_autoencoder::{CriticalPoint, LinearAutoencoder};

/// Lists the critical points of a linear autoencoder without biases, with loss and index.
///
/// They are the projections onto the span of at most `hidden` eigenvectors of the data's second moments (Baldi and
/// Hornik, Neural Networks 2, 1989): the ground truth that searches are measured against.
///
/// Source: Baldi and Hornik 1989, Neural Networks 2.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CriticalAnalytic {
    /// Samples: a tensor `inputs` (samples x features).
    data: Input<Tensors>,
    /// Units of the hidden layer, at least 1; published: 4, on 16 features. At most 1048576 points are listed.
    #[schemars(range(min = 1))]
    hidden: usize,
}

impl Stage for CriticalAnalytic {
    const KIND: &'static str = "critical.analytic";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.analytic]
        kind = "critical.analytic"
        data = "@pixels"
        hidden = 4
    "#;

    fn check(&self) -> Vec<Violation> {
        violations([("hidden", self.hidden > 0, "must be at least 1")])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let samples = Samples::of(cx.load(&self.data)?)?;
        let analytic =
            LinearAutoencoder::from_inputs(&samples.inputs, samples.features, self.hidden)
                .map_err(failure)?;
        let points = analytic.critical_points().map_err(failure)?;
        cx.metric("points", points.len() as f64)?;
        cx.save(
            &Table::new()
                .texts("components", points.iter().map(CriticalPoint::numbered))
                .counts("kept", points.iter().map(|p| p.components.len()))
                .floats("loss", points.iter().map(|p| p.loss))
                .counts("negative", points.iter().map(|p| p.negative))
                .floats("index", points.iter().map(|p| p.index)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::tensor::{Tensor, TensorFile};
    use crate::stages::shared::bench::Bench;

    #[test]
    fn sixteen_inputs_and_four_units_have_2517_critical_points() {
        // 1 + 16 + 120 + 560 + 1820 subsets of at most four of sixteen components.
        let inputs = (0..16 * 40).map(|i| ((i * i % 101) as f64 - 50.0) / 30.0).collect();
        let data = Tensors(TensorFile::default().with("inputs", Tensor::f64(&[40, 16], inputs)));
        let bench = Bench::new().put("data", &data);
        let results = bench.run::<CriticalAnalytic>("data = '@data'\nhidden = 4").unwrap();
        assert_eq!(results.metrics["points"], 2517.0);
        assert_eq!(results.main::<Table>().frame().unwrap().height(), 2517);
    }
}
