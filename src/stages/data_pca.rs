//! `data.pca`: samples in few numbers, by their principal components.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::problem::{Samples, failure};
use super::shared::samples::AnySamples;
use crate::artifacts::table::Table;
use crate::artifacts::tensor::Tensor;
use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::landscape::pca::{Components, components};

/// Projects samples onto their leading principal components.
///
/// As scikit-learn's `PCA` does: the mean of each feature is taken off, components are ordered by their variance (with
/// n - 1 in the denominator), and of each the entry of largest absolute value is positive. Yields tensors `inputs`
/// (samples x components, F64), `labels` where there are any, and what was projected by: `mean` and `components`
/// (components x features). Table `variance` has a row for each component, kept or not. Frye et al. 2021 memorize 50
/// digits in 32 components. What of the samples is taken is chosen before, by `data.select`.
///
/// Source: Frye et al. 2021, Neural Computation 33; Pedregosa et al. 2011, JMLR 12 (scikit-learn).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataPca {
    /// The samples: tensors, images (of a dataset the training part), or activations.
    data: Input<AnySamples>,
    /// Of activations of several layers, the one that is taken.
    #[serde(default)]
    layer: Option<String>,
    /// How many components are kept, at least 1, and at most as many as there are samples or features; published: 32.
    #[serde(default = "thirty_two")]
    #[schemars(range(min = 1))]
    components: usize,
    /// Whether each component is brought to variance 1. Published: not.
    #[serde(default)]
    whiten: bool,
}

fn thirty_two() -> usize {
    32
}

impl Stage for DataPca {
    const KIND: &'static str = "data.pca";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.projected]
        kind = "data.pca"
        data = "@digits"
    "#;

    fn check(&self) -> Vec<Violation> {
        violations([("components", self.components > 0, "must be at least 1")])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Tensors::TYPE).and("variance", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let samples = cx.load(&self.data)?.choose(self.layer.as_deref())?;
        let found = components(&samples.inputs, samples.features).map_err(failure)?;
        let (kept, most) = (self.components, found.directions.len());
        anyhow::ensure!(
            kept <= most,
            Failure::user(format!(
                "{} samples of {} features have {most} components, not {kept}",
                samples.count(),
                samples.features
            ))
            .hint("lower `components`")
        );
        let mut inputs = found.project(&samples.inputs, kept);
        if self.whiten {
            whiten(&mut inputs, &found.variances[..kept])?;
        }
        let total: f64 = found.variances.iter().sum();
        anyhow::ensure!(total > 0.0, Failure::data("all samples are the same"));
        cx.metric("explained", found.variances[..kept].iter().sum::<f64>() / total)?;
        cx.save_as("variance", &variance(&found.variances, total))?;
        let Components { means, directions, .. } = found;
        let features = samples.features;
        let directions: Vec<f64> = directions.into_iter().take(kept).flatten().collect();
        let file = Samples { features: kept, inputs, labels: samples.labels }
            .to_file()
            .with("mean", Tensor::f64(&[features], means))
            .with("components", Tensor::f64(&[kept, features], directions));
        cx.save(&Tensors(file))
    }
}

/// What rounding leaves of no variance, as a share of the largest.
const ROUNDING: f64 = 1e-20;

/// Divides each component by its standard deviation.
fn whiten(inputs: &mut [f64], variances: &[f64]) -> anyhow::Result<()> {
    let least = ROUNDING * variances[0];
    if let Some(place) = variances.iter().position(|variance| *variance <= least) {
        anyhow::bail!(
            Failure::data(format!("component {} has no variance to be brought to 1", place + 1))
                .hint(format!("keep at most {place} components, or set `whiten = false`"))
        );
    }
    for row in inputs.chunks_mut(variances.len()) {
        row.iter_mut().zip(variances).for_each(|(value, variance)| *value /= variance.sqrt());
    }
    Ok(())
}

/// One row a component.
fn variance(variances: &[f64], total: f64) -> Table {
    let running = variances.iter().scan(0.0, |sum, variance| {
        *sum += variance;
        Some(*sum / total)
    });
    Table::new()
        .counts("component", 1..=variances.len())
        .floats("variance", variances.iter().copied())
        .floats("share", variances.iter().map(|variance| variance / total))
        .floats("running_share", running)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::images::Images;
    use crate::stages::shared::bench::Bench;

    /// 12 labeled images of 2 x 3 pixels, of which the last never changes.
    fn bench() -> Bench {
        let pixel = |i: usize| if i % 6 == 5 { 0.5 } else { ((i * i % 31) as f32) / 31.0 };
        let pixels = (0..72).map(pixel).collect();
        let labels = (0..12).map(|i| i % 2).collect();
        let images = Images { count: 12, channels: 1, height: 2, width: 3, pixels, labels };
        Bench::new().put("images", &images)
    }

    #[test]
    fn images_are_projected_with_their_labels_and_variances() {
        let results = bench().run::<DataPca>("data = '@images'\ncomponents = 2").unwrap();
        let tensors: Tensors = results.main();
        let mut file = tensors.0.clone();
        assert_eq!(file.take_f64::<2>("components").unwrap().0, [2, 6]);
        assert_eq!(file.take_f64::<1>("mean").unwrap().0, [6]);
        let samples = Samples::of(tensors).unwrap();
        assert_eq!((samples.features, samples.count(), samples.labels[3]), (2, 12, 1));
        let frame = results.output::<Table>("variance").frame().unwrap();
        let column = |name: &str| frame.column(name).unwrap().f64().unwrap().to_vec();
        let (variances, running) = (column("variance"), column("running_share"));
        let square: f64 = samples.inputs.iter().step_by(2).map(|v| v * v).sum::<f64>() / 11.0;
        assert!((square - variances[0].unwrap()).abs() < 1e-14);
        assert!((running[5].unwrap() - 1.0).abs() < 1e-14);
        assert_eq!(running[1].unwrap(), results.metrics["explained"]);
    }

    #[test]
    fn whitened_components_have_variance_one() {
        let text = "data = '@images'\nwhiten = true\ncomponents = ";
        let run = |n: usize| bench().run::<DataPca>(&format!("{text}{n}"));
        let samples = Samples::of(run(5).unwrap().main::<Tensors>()).unwrap();
        for component in 0..5 {
            let values = samples.inputs.iter().skip(component).step_by(5);
            let variance = values.map(|v| v * v).sum::<f64>() / 11.0;
            assert!((variance - 1.0).abs() < 1e-12, "{variance}");
        }
        // Six pixels, but only five that change; and no more than six.
        let error = run(6).unwrap_err().to_string();
        assert!(error.contains("component 6 has no variance"), "{error}");
        let error = run(7).unwrap_err().to_string();
        assert!(error.contains("12 samples of 6 features have 6 components, not 7"), "{error}");
    }
}
