//! `critical.classify`: what the points are that searches ended at.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::problem::{Activation, Problem, Samples, Target, failure};
use crate::artifacts::points::Points;
use crate::artifacts::table::Table;
use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, each, violations};
use crate::landscape::flatness::{
    Flatness, FlatnessOptions, GradientFlatness, is_approximately_flat, measure,
};
use crate::landscape::hessian;
use crate::landscape::linear_autoencoder::{LinearAutoencoder, Match};
use crate::landscape::minres_qlp::SolverOptions;
use crate::landscape::objective::Objective;

/// Classifies points: critical, gradient-flat or neither; with loss, index and spectrum of the exact Hessian. A point
/// whose loss or Hessian is not finite is of class `failed`, with a reason instead of numbers.
///
/// A point is critical where the squared gradient norm is below `critical_below`. It is approximately gradient-flat
/// where the Newton step's relative residual r exceeds 0.9 and its co-kernel residual is below 5e-4 (Frye et al.
/// 2021, who give r by the solver's own estimate of the Hessian's norm). The index is the fraction of eigenvalues
/// below minus a cut-off, and depends on it: table `indices` has one row for each cut-off. A cut-off above the
/// regularizer's own curvature, 2 `l2` over the number of parameters, cannot see a saddle near the origin.
///
/// Of a linear autoencoder with one hidden layer, without biases and `l2`, every critical point is known: `components`
/// names the class that a point is nearest to as `critical.analytic` does, by the diagonal entries of the weights'
/// product above 0.9; `subset_residual` is the largest deviation of that product from the class's projection,
/// `loss_error` that of the loss from the class's, and `index_matches` is 1 where as many eigenvalues are negative, else
/// 0. Of other networks they are empty.
///
/// Source: Frye et al. 2021, Neural Computation 33; the analytic classes are those of Baldi and Hornik 1989,
/// Neural Networks 2.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CriticalClassify {
    /// The points.
    points: Input<Points>,
    /// The data of the loss: those that the network was trained on.
    data: Input<Tensors>,
    /// Squared gradient norm below which a point is critical, above 0; published: 1e-10, and 1e-8 for images.
    #[serde(default = "published_critical")]
    #[schemars(range(min = 0.0))]
    critical_below: f64,
    /// Cut-offs of the index, each at least 0, the first of which gives the columns `index` and `negative`. Published:
    /// 1e-5 for Gaussian data, 1e-3 for images; 1e-8 is ours, below any regularizer's curvature.
    #[serde(default = "published_cutoffs")]
    cutoffs: Vec<f64>,
    /// Tolerance of the solver whose residuals tell gradient-flat points, above 0; published: 5e-4.
    #[serde(default = "published_rtol")]
    #[schemars(range(min = 0.0))]
    rtol: f64,
    /// Largest norm of that solver's steps, above 0; published: 1e4.
    #[serde(default = "published_norm_limit")]
    #[schemars(range(min = 0.0))]
    norm_limit: f64,
    /// Largest condition number that the solver inverts, above 1; published: 1e7.
    #[serde(default = "published_condition_limit")]
    #[schemars(range(min = 1.0))]
    condition_limit: f64,
}

fn published_critical() -> f64 {
    1e-10
}
fn published_cutoffs() -> Vec<f64> {
    vec![1e-5, 1e-3, 1e-8]
}
fn published_rtol() -> f64 {
    SolverOptions::default().rtol
}
fn published_norm_limit() -> f64 {
    SolverOptions::default().norm_limit
}
fn published_condition_limit() -> f64 {
    SolverOptions::default().condition_limit
}

impl Stage for CriticalClassify {
    const KIND: &'static str = "critical.classify";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.found]
        kind = "critical.classify"
        points = "@search"
        data = "@pixels"
    "#;

    fn check(&self) -> Vec<Violation> {
        let rule = "must hold at least one number, each at least 0";
        let mut broken = violations([
            ("critical_below", self.critical_below > 0.0, "must be above 0"),
            ("cutoffs", !self.cutoffs.is_empty(), rule),
            ("rtol", self.rtol > 0.0, "must be above 0"),
            ("norm_limit", self.norm_limit > 0.0, "must be above 0"),
            ("condition_limit", self.condition_limit > 1.0, "must be above 1"),
        ]);
        broken.extend(each("cutoffs", &self.cutoffs, |cutoff| *cutoff >= 0.0, rule));
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Table::TYPE).and("indices", Table::TYPE).and("spectra", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let points = cx.load(&self.points)?;
        let problem = Problem::of(&points.problem)?;
        let samples = Samples::of(cx.load(&self.data)?)?;
        let analytic = analytic(&problem, &samples)?;
        let loss = problem.loss(samples)?;
        let count = points.count();
        // As many points at once as their Hessians leave room for.
        let batch = (ROOM / points.dimension.pow(2).max(1)).max(1);
        let mut measured: Vec<Measured> = Vec::with_capacity(count);
        let thetas: Vec<&[f64]> = points.each().collect();
        for thetas in thetas.chunks(batch.min(BATCH)) {
            let measure = |theta: &&[f64]| match cx.check_cancelled() {
                Ok(()) => self.measure(&loss, theta, analytic.as_ref()),
                Err(error) => Err(error.to_string()),
            };
            measured.par_extend(thetas.par_iter().map(measure));
            cx.check_cancelled()?;
            let done = measured.len();
            cx.progress(done as f64 / count as f64, || format!("{done}/{count} points"));
        }
        if let Some(Err(error)) = measured.first()
            && measured.iter().all(Result::is_err)
        {
            anyhow::bail!(Failure::numeric(format!(
                "no point could be measured; the first: {error}"
            )));
        }
        let classes: Vec<&str> = measured.iter().map(|m| self.class(m)).collect();
        for class in [CRITICAL, FLAT, NEITHER] {
            let count = classes.iter().filter(|c| **c == class).count();
            cx.metric(&class.replace('-', "_"), count as f64)?;
        }
        if analytic.is_some() {
            cx.metric("recovered", recovered(&measured, &classes) as f64)?;
        }
        cx.save_as("indices", &self.indices(&measured))?;
        cx.save_as("spectra", &spectra(&measured))?;
        cx.save(&self.table(&measured, &classes))
    }
}

/// Numbers that the Hessians of a batch may hold: 1 GiB of them.
const ROOM: usize = 1 << 27;
/// The most points of a batch, after which progress is told.
const BATCH: usize = 64;

/// A point's measures, and the analytic class it is nearest to where there is one; or why it has none.
type Measured = Result<(Flatness, Option<Match>), String>;

/// The critical points of the problem in closed form, where they are known.
fn analytic(problem: &Problem, samples: &Samples) -> anyhow::Result<Option<LinearAutoencoder>> {
    let &[features, hidden, _] = problem.sizes.as_slice() else { return Ok(None) };
    let linear = problem.activation == Activation::Linear && problem.target == Target::Inputs;
    if !linear || problem.bias || problem.l2 != 0.0 {
        return Ok(None);
    }
    let analytic = LinearAutoencoder::from_inputs(&samples.inputs, features, hidden);
    Ok(Some(analytic.map_err(failure)?))
}

/// Counts the critical points whose class is certain: the weights' product is its projection within 1e-3.
fn recovered(measured: &[Measured], classes: &[&str]) -> usize {
    let certain = |(m, class): (&Measured, &&str)| {
        let found = m.as_ref().ok().and_then(|(_, found)| found.as_ref());
        *class == CRITICAL && found.is_some_and(|found| found.residual < 1e-3)
    };
    measured.iter().zip(classes).filter(|pair| certain(*pair)).count()
}

const CRITICAL: &str = "critical";
const FLAT: &str = "gradient-flat";
const NEITHER: &str = "neither";

const FAILED: &str = "failed";

impl CriticalClassify {
    fn measure(
        &self,
        loss: &dyn Objective,
        theta: &[f64],
        analytic: Option<&LinearAutoencoder>,
    ) -> Measured {
        let options = FlatnessOptions {
            index_cutoffs: self.cutoffs.clone(),
            kernel_cutoffs: self.cutoffs.clone(),
            solver: SolverOptions {
                rtol: self.rtol,
                norm_limit: self.norm_limit,
                condition_limit: self.condition_limit,
                ..SolverOptions::default()
            },
        };
        let point = loss.evaluate(theta);
        if !point.is_finite() {
            return Err("its loss or gradient is not finite".to_owned());
        }
        let measured = measure(&*point, &options).map_err(|error| error.to_string())?;
        let nearest = analytic.map(|analytic| analytic.match_components(theta, 0.9)).transpose();
        Ok((measured, nearest.map_err(|error| error.to_string())?))
    }

    fn class(&self, measured: &Measured) -> &'static str {
        match measured {
            Err(_) => FAILED,
            Ok((m, _)) if m.squared_gradient_norm < self.critical_below => CRITICAL,
            Ok((m, _)) if is_approximately_flat(&m.solve) => FLAT,
            Ok(_) => NEITHER,
        }
    }

    fn table(&self, measured: &[Measured], classes: &[&str]) -> Table {
        let column = |f: &dyn Fn(&Flatness) -> f64| -> Vec<Option<f64>> {
            measured.iter().map(|m| m.as_ref().ok().map(|(m, _)| f(m))).collect()
        };
        let gradient = |f: &dyn Fn(&GradientFlatness) -> f64| -> Vec<Option<f64>> {
            let of = |m: &Measured| m.as_ref().ok().and_then(|(m, _)| m.gradient.as_ref().map(f));
            measured.iter().map(of).collect()
        };
        let nearest = |m: &Measured| m.as_ref().ok().and_then(|(_, nearest)| nearest.clone());
        let analytic = |f: &dyn Fn(&Flatness, &Match) -> f64| -> Vec<Option<f64>> {
            let of = |m: &Measured| match m {
                Ok((m, Some(nearest))) => Some(f(m, nearest)),
                _ => None,
            };
            measured.iter().map(of).collect()
        };
        let negative = |m: &Flatness| hessian::negative_count(&m.spectrum, self.cutoffs[0]);
        Table::new()
            .counts("point", 0..measured.len())
            .texts("class", classes.iter().copied())
            .maybe_floats("loss", column(&|m| m.loss))
            .maybe_floats("squared_gradient_norm", column(&|m| m.squared_gradient_norm))
            .maybe_floats("index", column(&|m| m.indices[0]))
            .maybe_floats("negative", column(&|m| negative(m) as f64))
            .maybe_floats("residual", column(&|m| m.solve.relres))
            .maybe_floats("cokernel_residual", column(&|m| m.solve.relares))
            .maybe_floats("flag", column(&|m| m.solve.flag.code() as f64))
            .maybe_floats("residual_frobenius", column(&|m| m.relres_frobenius))
            .maybe_floats("cokernel_residual_frobenius", column(&|m| m.relares_frobenius))
            .maybe_floats("inner_iterations", column(&|m| m.solve.iterations as f64))
            .maybe_floats("rayleigh", gradient(&|g| g.rayleigh))
            .maybe_floats("relative_curvature", gradient(&|g| g.relative_curvature))
            .maybe_floats("kernel_fraction", gradient(&|g| g.kernel_fractions[0]))
            .maybe_floats("spectral_norm", column(&|m| m.spectral_norm))
            .maybe_texts(
                "components",
                measured.iter().map(|m| nearest(m).map(|n| n.point.numbered())),
            )
            .maybe_floats("subset_residual", analytic(&|_, nearest| nearest.residual))
            .maybe_floats("loss_error", analytic(&|m, nearest| (m.loss - nearest.point.loss).abs()))
            .maybe_floats(
                "index_matches",
                analytic(&|m, nearest| f64::from(u8::from(negative(m) == nearest.point.negative))),
            )
            .maybe_texts("failed", measured.iter().map(|m| m.as_ref().err().cloned()))
    }

    fn indices(&self, measured: &[Measured]) -> Table {
        let pairs = || {
            flatnesses(measured).flat_map(|(point, m)| {
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

/// The points that were measured, with their positions.
fn flatnesses(measured: &[Measured]) -> impl Iterator<Item = (usize, &Flatness)> {
    let each = measured.iter().enumerate();
    each.filter_map(|(point, m)| m.as_ref().ok().map(|(m, _)| (point, m)))
}

fn spectra(measured: &[Measured]) -> Table {
    let values = || {
        flatnesses(measured).flat_map(|(point, m)| {
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
    use crate::stages::shared::bench::Bench;

    /// Analytic critical points of a linear autoencoder, one point that is none, and one beyond the finite numbers.
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
        thetas.extend([1e200; 12]);
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
            table.column("index").unwrap().f64().unwrap().iter().flatten().collect();
        assert_eq!(found[..count], indices);
        // Each is its own class to rounding, and the other two are none or nothing.
        let column = |name: &str| table.column(name).unwrap().f64().unwrap().to_vec();
        assert_eq!(results.metrics["recovered"], count as f64);
        assert!(column("index_matches")[..count].iter().all(|matches| *matches == Some(1.0)));
        for (name, least) in [("subset_residual", 0.1), ("loss_error", 1e-3)] {
            let errors = column(name);
            assert!(errors[..count].iter().all(|e| e.unwrap() < 1e-13), "{name} {errors:?}");
            assert!(errors[count].unwrap() > least && errors[count + 1].is_none(), "{errors:?}");
        }
        let texts = |name: &str| table.column(name).unwrap().str().unwrap().clone();
        // No component, each of three, and the three pairs.
        let components: Vec<&str> = ["", "1", "2", "3", "1 2", "1 3", "2 3"].to_vec();
        let names = texts("components");
        assert_eq!(names.iter().flatten().take(count).collect::<Vec<&str>>(), components);
        assert_eq!(texts("class").get(count + 1), Some("failed"));
        assert!(texts("failed").get(count + 1).unwrap().contains("not finite"));
        assert!(texts("failed").get(count).is_none());
        let spectra = results.output::<Table>("spectra").frame().unwrap();
        assert_eq!(spectra.height(), 12 * (count + 1));
    }
}
