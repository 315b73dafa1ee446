//! `critical.classify`: what the points are that searches ended at.

use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::problem::{Problem, Samples, failure};
use crate::artifacts::points::Points;
use crate::artifacts::table::Table;
use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::landscape::flatness::{Flatness, FlatnessOptions, is_approximately_flat, measure};
use crate::landscape::hessian;
use crate::landscape::minres_qlp::SolverOptions;
use crate::landscape::objective::Objective;

/// Classifies points: critical, gradient-flat or neither; with loss, index and spectrum of the exact Hessian.
///
/// A point is critical where the squared gradient norm is below `critical_below`. It is approximately gradient-flat
/// where the Newton step's relative residual r exceeds 0.9 and its co-kernel residual is below 5e-4 (Frye et al.
/// 2021, who give r by the solver's own estimate of the Hessian's norm). The index is the fraction of eigenvalues
/// below minus a cut-off, and depends on it: table `indices` has one row for each cut-off. A cut-off above the
/// regularizer's own curvature, 2 `l2` over the number of parameters, cannot see a saddle near the origin.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CriticalClassify {
    /// The points.
    points: Input<Points>,
    /// The data of the loss: those that the network was trained on.
    data: Input<Tensors>,
    /// Squared gradient norm below which a point is critical.
    #[serde(default = "published_critical")]
    #[schemars(range(min = 0.0))]
    critical_below: f64,
    /// Cut-offs of the index, the first of which gives the column `index`.
    #[serde(default = "published_cutoffs")]
    cutoffs: Vec<f64>,
    /// Tolerance of the solver whose residuals tell gradient-flat points.
    #[serde(default = "published_rtol")]
    #[schemars(range(min = 0.0))]
    rtol: f64,
}

fn published_critical() -> f64 {
    1e-10
}
fn published_cutoffs() -> Vec<f64> {
    vec![1e-5, 1e-3, 1e-8]
}
fn published_rtol() -> f64 {
    5e-4
}

impl Stage for CriticalClassify {
    const KIND: &'static str = "critical.classify";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Machine;

    fn check(&self) -> Vec<Violation> {
        let cutoffs = !self.cutoffs.is_empty() && self.cutoffs.iter().all(|c| *c >= 0.0);
        violations([
            ("critical_below", self.critical_below > 0.0, "must be above 0"),
            ("cutoffs", cutoffs, "must hold at least one number, each at least 0"),
            ("rtol", self.rtol > 0.0, "must be above 0"),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Table::TYPE).and("indices", Table::TYPE).and("spectra", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let points = cx.load(&self.points)?;
        let loss = Problem::of(&points.problem)?.loss(Samples::of(cx.load(&self.data)?)?)?;
        let options = FlatnessOptions {
            index_cutoffs: self.cutoffs.clone(),
            kernel_cutoffs: self.cutoffs.clone(),
            solver: SolverOptions { rtol: self.rtol, ..SolverOptions::default() },
        };
        let mut measured = Vec::with_capacity(points.count());
        for (done, theta) in points.each().enumerate() {
            cx.check_cancelled()?;
            let point = loss.evaluate(theta);
            anyhow::ensure!(
                point.is_finite(),
                Failure::numeric(format!("the loss at point {done} is not finite"))
            );
            measured.push(measure(&*point, &options).map_err(failure)?);
            cx.progress((done + 1) as f64 / points.count() as f64, || {
                format!("{} points", done + 1)
            });
        }
        anyhow::ensure!(!cx.cancel().load(Ordering::Relaxed), Failure::interrupted());
        let classes: Vec<&str> = measured.iter().map(|m| self.class(m)).collect();
        for class in [CRITICAL, FLAT, NEITHER] {
            let count = classes.iter().filter(|c| **c == class).count();
            cx.metric(&class.replace('-', "_"), count as f64)?;
        }
        cx.save_as("indices", &self.indices(&measured))?;
        cx.save_as("spectra", &spectra(&measured))?;
        cx.save(&self.table(&measured, &classes))
    }
}

const CRITICAL: &str = "critical";
const FLAT: &str = "gradient-flat";
const NEITHER: &str = "neither";

impl CriticalClassify {
    fn class(&self, measured: &Flatness) -> &'static str {
        if measured.squared_gradient_norm < self.critical_below {
            CRITICAL
        } else if is_approximately_flat(&measured.solve) {
            FLAT
        } else {
            NEITHER
        }
    }

    fn table(&self, measured: &[Flatness], classes: &[&str]) -> Table {
        let column = |f: &dyn Fn(&Flatness) -> f64| measured.iter().map(f).collect::<Vec<f64>>();
        let gradient = |f: &dyn Fn(&crate::landscape::flatness::GradientFlatness) -> f64| {
            measured.iter().map(|m| m.gradient.as_ref().map(f)).collect::<Vec<_>>()
        };
        let negative = |m: &Flatness| hessian::negative_count(&m.spectrum, self.cutoffs[0]);
        Table::new()
            .counts("point", 0..measured.len())
            .texts("class", classes.iter().copied())
            .floats("loss", column(&|m| m.loss))
            .floats("squared_gradient_norm", column(&|m| m.squared_gradient_norm))
            .floats("index", column(&|m| m.indices[0]))
            .counts("negative", measured.iter().map(negative))
            .floats("residual", column(&|m| m.solve.relres))
            .floats("cokernel_residual", column(&|m| m.solve.relares))
            .floats("residual_frobenius", column(&|m| m.relres_frobenius))
            .floats("cokernel_residual_frobenius", column(&|m| m.relares_frobenius))
            .counts("inner_iterations", measured.iter().map(|m| m.solve.iterations))
            .maybe_floats("rayleigh", gradient(&|g| g.rayleigh))
            .maybe_floats("relative_curvature", gradient(&|g| g.relative_curvature))
            .maybe_floats("kernel_fraction", gradient(&|g| g.kernel_fractions[0]))
            .floats("spectral_norm", column(&|m| m.spectral_norm))
    }

    fn indices(&self, measured: &[Flatness]) -> Table {
        let pairs = || {
            measured.iter().enumerate().flat_map(|(point, m)| {
                self.cutoffs.iter().enumerate().map(move |(i, cutoff)| (point, m, i, *cutoff))
            })
        };
        Table::new()
            .counts("point", pairs().map(|(point, ..)| point))
            .floats("cutoff", pairs().map(|(.., cutoff)| cutoff))
            .floats("index", pairs().map(|(_, m, i, _)| m.indices[i]))
            .maybe_floats(
                "kernel_fraction",
                pairs().map(|(_, m, i, _)| m.gradient.as_ref().map(|g| g.kernel_fractions[i])),
            )
    }
}

fn spectra(measured: &[Flatness]) -> Table {
    let values = || {
        measured.iter().enumerate().flat_map(|(point, m)| {
            m.spectrum.iter().enumerate().map(move |(rank, value)| (point, rank, *value))
        })
    };
    Table::new()
        .counts("point", values().map(|(point, ..)| point))
        .counts("rank", values().map(|(_, rank, _)| rank))
        .floats("eigenvalue", values().map(|(.., value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::tensor::{Tensor, TensorFile};
    use crate::landscape::linear_autoencoder::LinearAutoencoder;
    use crate::stages::shared::bench::Bench;
    use crate::stages::shared::problem::{Activation, Target};

    /// Analytic critical points of a linear autoencoder, and one point that is none.
    fn bench() -> (Bench, Vec<f64>) {
        let inputs: Vec<f64> = (0..60).map(|i| ((i * i % 19) as f64 - 9.0) / 4.0).collect();
        let samples = Samples { features: 3, inputs: inputs.clone(), labels: Vec::new() };
        let analytic = LinearAutoencoder::from_inputs(&inputs, 3, 2).unwrap();
        let problem = Problem {
            sizes: vec![3, 2, 3],
            bias: false,
            activation: Activation::Linear,
            target: Target::Inputs,
            l2: 0.0,
            data: samples.fingerprint(),
        };
        let classes = analytic.critical_points().unwrap();
        let mut thetas: Vec<f64> =
            classes.iter().flat_map(|c| analytic.representative(&c.components)).collect();
        thetas.extend([0.5; 12]);
        let data = Tensors(TensorFile::default().with("inputs", Tensor::f64(&[20, 3], inputs)));
        let points = Points { problem: problem.carried(), dimension: 12, thetas };
        let indices = classes.iter().map(|c| c.index).collect();
        (Bench::new().put("data", &data).put("points", &points), indices)
    }

    #[test]
    fn analytic_points_are_critical_with_their_index() {
        let (bench, indices) = bench();
        let text = "points = '@points'\ndata = '@data'";
        let results = bench.run::<CriticalClassify>(text).unwrap();
        let count = indices.len();
        assert_eq!(results.metrics["critical"], count as f64);
        let table = results.main::<Table>().frame().unwrap();
        let found: Vec<f64> =
            table.column("index").unwrap().f64().unwrap().into_no_null_iter().collect();
        assert_eq!(found[..count], indices);
        let spectra = results.output::<Table>("spectra").frame().unwrap();
        assert_eq!(spectra.height(), 12 * (count + 1));
    }
}
