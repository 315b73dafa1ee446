//! `critical.classify`: what the points are that searches ended at.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::diagnoses::{CRITICAL, Diagnoses, FLAT, NEITHER};
use super::shared::diagnosis::{Diagnosis, Instruments};
use super::shared::measured::Measured;
use super::shared::numbers::Numbers;
use super::shared::problem::{Activation, Problem, Samples, Target, failure};
use crate::artifacts::points::Points;
use crate::artifacts::table::Table;
use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, each, violations};
use crate::landscape::flatness::FlatnessOptions;
use crate::landscape::lanczos::EndsOptions;
use crate::landscape::linear_autoencoder::LinearAutoencoder;
use crate::landscape::minres_qlp::SolverOptions;

/// Classifies points: critical, gradient-flat or neither; with loss, index and spectrum of the exact Hessian. A point
/// whose loss or Hessian is not finite is of class `failed`, with a reason instead of numbers.
///
/// A point is critical where the squared gradient norm is below `critical_below`; table `critical` has a row for each
/// point and each of several such numbers. It is approximately gradient-flat where the Newton step's relative residual r
/// exceeds 0.9 and its co-kernel residual is below 5e-4 (Frye et al. 2021, who give r by the solver's own estimate of the
/// Hessian's norm); columns `flat` and, for r of at least 0.5, `half_flat`, say so of critical points too.
///
/// The index is the fraction of eigenvalues below minus a cut-off, and depends on it: table `indices` has one row for
/// each cut-off. A cut-off above the regularizer's own curvature, 2 `l2` over the number of parameters, cannot see a
/// saddle near the origin: the run says so, and column `exceeds_regularizer` marks it. Published indices of the
/// memorization experiment (Frye et al. 2021) have that fault.
///
/// `beyond_gauss_newton` is the norm (Frobenius) of the Hessian without its Gauss-Newton matrix, as a share of its norm: how much
/// of the curvature is the network's own and not that of the cost of its outputs.
///
/// Table `spectra` holds the eigenvalues, `density` their density broadened by Gaussians. Of more parameters than
/// `dense_up_to`, Lanczos with full re-orthogonalization finds the ends of the spectrum by products with the Hessian alone:
/// `spectra` then tells how far at most an eigenvalue is from each number (`error`), an index only between which numbers
/// it is proven to lie (`index_at_least`, `index_at_most`), and the density is a stochastic Lanczos quadrature. Random
/// vectors are the same in every experiment.
///
/// Of a linear autoencoder with one hidden layer, without biases and `l2`, every critical point is known: `components`
/// names the class that a point is nearest to as `critical.analytic` does, by the diagonal entries of the weights'
/// product above 0.9; `subset_residual` is the largest deviation of that product from the class's projection,
/// `loss_error` that of the loss from the class's, and `index_matches` is 1 where as many eigenvalues are negative, else
/// 0; table `components` has a row for each component, the first of which is 1, and says whether the class keeps it,
/// and one for 0, which stands for keeping none. Of other networks they are empty. Of a function, the parameters are
/// columns too.
///
/// Source: Frye et al. 2021, Neural Computation 33; the analytic classes are those of Baldi and Hornik 1989,
/// Neural Networks 2; densities as in Ghorbani, Krishnan and Xiao 2019, ICML.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CriticalClassify {
    /// The points.
    points: Input<Points>,
    /// The data of the loss: those that the network was trained on. Points of a function have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Input<Tensors>>,
    /// Squared gradient norm below which a point is critical, above 0; published: 1e-10, and 1e-8 for images. Of several
    /// the first gives the class.
    #[serde(default = "published_critical")]
    critical_below: Numbers,
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
    /// The most parameters of which the whole spectrum is computed, up to 16384. Published networks have up to 1160.
    #[serde(default = "two_thousand")]
    #[schemars(range(max = 16384))]
    dense_up_to: usize,
    /// How larger spectra are measured.
    #[serde(default)]
    lanczos: Lanczos,
    /// How the density is told.
    #[serde(default)]
    density: Density,
}

/// How spectra are measured that are too large to be computed whole.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Lanczos {
    /// Products with the Hessian from each random vector, from 1 to 4096; as many vectors are held in memory.
    #[schemars(range(min = 1, max = 4096))]
    steps: usize,
    /// How many eigenvalues are told at each end.
    told: usize,
    /// Random vectors that the density is averaged over, from 1 to 1024.
    #[schemars(range(min = 1, max = 1024))]
    probes: usize,
}

impl Default for Lanczos {
    fn default() -> Self {
        Self { steps: 100, told: 10, probes: 10 }
    }
}

/// How the density of a spectrum is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Density {
    /// Places where it is told, evenly spaced over the range of the spectrum, from 2 to 10000.
    #[schemars(range(min = 2, max = 10000))]
    places: usize,
    /// Standard deviation of the Gaussian that broadens each eigenvalue, as a share of the spectrum's range, above 0 and
    /// at most 1.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    width: f64,
}

impl Default for Density {
    fn default() -> Self {
        Self { places: 200, width: 0.01 }
    }
}

fn published_critical() -> Numbers {
    Numbers(vec![1e-10, 1e-8, 1e-6, 1e-4])
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
fn two_thousand() -> usize {
    2000
}

impl Stage for CriticalClassify {
    const KIND: &'static str = "critical.classify";
    /// 4: sums over samples are rounded once a product.
    const VERSION: u32 = 4;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.found]
        kind = "critical.classify"
        points = "@search"
        data = "@pixels"
    "#;

    fn check(&self) -> Vec<Violation> {
        let (rule, above) = (
            "must hold at least one number, each at least 0",
            "must be above 0, or a list of such numbers",
        );
        let Lanczos { steps, probes, .. } = self.lanczos;
        let Density { places, width } = self.density;
        let mut broken = violations([
            ("critical_below", !self.critical_below.0.is_empty(), above),
            ("cutoffs", !self.cutoffs.is_empty(), rule),
            ("rtol", self.rtol > 0.0, "must be above 0"),
            ("norm_limit", self.norm_limit > 0.0, "must be above 0"),
            ("condition_limit", self.condition_limit > 1.0, "must be above 1"),
            ("dense_up_to", self.dense_up_to <= 16_384, "must be at most 16384"),
            ("lanczos.steps", (1..=4096).contains(&steps), "must be from 1 to 4096"),
            ("lanczos.probes", (1..=1024).contains(&probes), "must be from 1 to 1024"),
            ("density.places", (2..=10_000).contains(&places), "must be from 2 to 10000"),
            ("density.width", width > 0.0 && width <= 1.0, "must be above 0 and at most 1"),
        ]);
        broken.extend(match self.critical_below.0.as_slice() {
            [one] => (*one <= 0.0).then(|| Violation::new("critical_below", above)),
            several => each("critical_below", several, |below| *below > 0.0, above),
        });
        broken.extend(each("cutoffs", &self.cutoffs, |cutoff| *cutoff >= 0.0, rule));
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Table::TYPE)
            .and("critical", Table::TYPE)
            .and("components", Table::TYPE)
            .and("indices", Table::TYPE)
            .and("spectra", Table::TYPE)
            .and("density", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let points = cx.load(&self.points)?;
        let problem = Problem::of(&points.problem)?;
        let samples = problem.samples(cx, self.data.as_ref())?;
        let instruments = self.instruments(analytic(&problem, samples.as_ref())?);
        let loss = problem.loss(samples)?;
        let count = points.count();
        // As many points at once as their Hessians leave room for.
        let batch = (ROOM / self.numbers(points.dimension).max(1)).max(1);
        let thetas: Vec<&[f64]> = points.each().collect();
        let mut measured: Measured = cx.resume().unwrap_or_default();
        for thetas in thetas[measured.0.len().min(count)..].chunks(batch.min(BATCH)) {
            let measure = |theta: &&[f64]| match cx.check_cancelled() {
                Ok(()) => instruments.measure(loss.objective(), theta),
                Err(error) => Err(error.to_string()),
            };
            let found: Vec<Result<Diagnosis, String>> = thetas.par_iter().map(measure).collect();
            if cx.check_cancelled().is_ok() {
                measured.0.extend(found);
            }
            cx.pause_point(|| Ok(&measured))?;
            let done = measured.0.len();
            cx.progress(done as f64 / count as f64, || format!("{done}/{count} points"));
        }
        let nearest = |(theta, measured): (&&[f64], Result<Diagnosis, String>)| {
            measured.and_then(|found| instruments.find_nearest(theta, found))
        };
        let measured: Vec<Result<Diagnosis, String>> =
            thetas.par_iter().zip(measured.0).map(nearest).collect();
        if let Some(Err(error)) = measured.first()
            && measured.iter().all(Result::is_err)
        {
            anyhow::bail!(Failure::numeric(format!(
                "no point could be measured; the first: {error}"
            )));
        }
        let findings = Diagnoses {
            measured,
            thetas: &thetas,
            problem: &problem,
            critical_below: &self.critical_below.0,
            cutoffs: &self.cutoffs,
        };
        for class in [CRITICAL, FLAT, NEITHER] {
            let count = findings.classes().filter(|c| *c == class).count();
            cx.metric(&class.replace('-', "_"), count as f64)?;
        }
        if instruments.analytic.is_some() {
            cx.metric("recovered", findings.recovered() as f64)?;
        }
        if let Some(words) = findings.coarse_cutoffs() {
            cx.notice(words);
        }
        cx.save_as("critical", &findings.critical())?;
        cx.save_as("components", &findings.components())?;
        cx.save_as("indices", &findings.indices())?;
        cx.save_as("spectra", &findings.spectra())?;
        cx.save_as("density", &findings.density())?;
        cx.save(&findings.table())
    }
}

/// Numbers that the Hessians of a batch may hold: 1 GiB of them.
const ROOM: usize = 1 << 27;
/// The most points of a batch, after which progress is told.
const BATCH: usize = 64;

/// The critical points of the problem in closed form, where they are known.
fn analytic(
    problem: &Problem,
    samples: Option<&Samples>,
) -> anyhow::Result<Option<LinearAutoencoder>> {
    let (Problem::Network(network), Some(samples)) = (problem, samples) else { return Ok(None) };
    let &[features, hidden, _] = network.sizes.as_slice() else { return Ok(None) };
    let linear = network.activation == Activation::Linear && network.target == Target::Inputs;
    if !linear || network.bias || network.l2 != 0.0 {
        return Ok(None);
    }
    let analytic = LinearAutoencoder::from_inputs(&samples.inputs, features, hidden);
    Ok(Some(analytic.map_err(failure)?))
}

impl CriticalClassify {
    fn instruments(&self, analytic: Option<LinearAutoencoder>) -> Instruments {
        Instruments {
            flatness: FlatnessOptions {
                index_cutoffs: self.cutoffs.clone(),
                kernel_cutoffs: self.cutoffs.clone(),
                solver: SolverOptions {
                    rtol: self.rtol,
                    norm_limit: self.norm_limit,
                    condition_limit: self.condition_limit,
                    ..SolverOptions::default()
                },
            },
            dense_up_to: self.dense_up_to,
            ends: EndsOptions { steps: self.lanczos.steps, told: self.lanczos.told },
            probes: self.lanczos.probes,
            density: (self.density.places, self.density.width),
            analytic,
        }
    }

    /// How many numbers the measurement of a point holds at once, about.
    fn numbers(&self, parameters: usize) -> usize {
        let columns = if parameters <= self.dense_up_to {
            parameters
        } else {
            self.lanczos.steps * rayon::current_num_threads()
        };
        parameters.saturating_mul(columns)
    }
}
