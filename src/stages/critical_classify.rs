//! `critical.classify`: what the points are that searches ended at.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::diagnoses::{CRITICAL, Diagnoses, FLAT, NEITHER};
use super::shared::diagnosis::{Diagnosis, Instruments};
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
    /// 3: tables `critical`, `components` and `density`, and columns that mark what is critical and flat.
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
        let mut measured: Vec<Result<Diagnosis, String>> = Vec::with_capacity(count);
        let thetas: Vec<&[f64]> = points.each().collect();
        for thetas in thetas.chunks(batch.min(BATCH)) {
            let measure = |theta: &&[f64]| match cx.check_cancelled() {
                Ok(()) => instruments.measure(loss.objective(), theta),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::tensor::{Tensor, TensorFile};
    use crate::stages::shared::bench::{Bench, Results};
    use crate::stages::shared::problem::NetworkProblem;

    /// Analytic critical points of a linear autoencoder, one point that is none, and one beyond the finite numbers.
    fn bench() -> (Bench, Vec<f64>) {
        let inputs: Vec<f64> = (0..60).map(|i| ((i * i % 19) as f64 - 9.0) / 4.0).collect();
        let samples = Samples { features: 3, inputs: inputs.clone(), labels: Vec::new() };
        let analytic = LinearAutoencoder::from_inputs(&inputs, 3, 2).unwrap();
        let problem = NetworkProblem {
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
        let problem = Problem::Network(problem).carried();
        let points = Points { problem, dimension: 12, thetas };
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
        let numbers = |name: &str| column(&results, "main", name);
        assert_eq!(results.metrics["recovered"], count as f64);
        assert!(numbers("index_matches")[..count].iter().all(|matches| *matches == Some(1.0)));
        for (name, least) in [("subset_residual", 0.1), ("loss_error", 1e-3)] {
            let errors = numbers(name);
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
        // Keeping none, and each of three; of the pairs the last keeps the second and the third.
        let kept = column(&results, "components", "kept");
        assert_eq!(kept.len(), 4 * (count + 1));
        assert_eq!(kept[..8], [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0].map(Some));
        assert_eq!(kept[4 * (count - 1)..][..4], [0.0, 0.0, 1.0, 1.0].map(Some));
    }
    fn column(results: &Results, output: &str, name: &str) -> Vec<Option<f64>> {
        let frame = results.output::<Table>(output).frame().unwrap();
        let column = frame.column(name).unwrap().cast(&polars::prelude::DataType::Float64).unwrap();
        column.f64().unwrap().to_vec()
    }

    #[test]
    fn ends_by_lanczos_agree_with_whole_spectra() {
        let (bench, indices) = bench();
        let text = "points = '@points'\ndata = '@data'\ncutoffs = [1e-5]";
        let whole = bench.run::<CriticalClassify>(text).unwrap();
        let large = format!("{text}\ndense_up_to = 4\nlanczos = {{ steps = 12, told = 2 }}");
        let large = bench.run::<CriticalClassify>(&large).unwrap();
        let count = indices.len() + 1;
        for name in ["loss", "squared_gradient_norm", "residual", "flag"] {
            assert_eq!(column(&whole, "main", name), column(&large, "main", name), "{name}");
        }
        // Twelve parameters by twelve steps: what is proven is tight but for eigenvalues that coincide.
        let (least, most) = (
            column(&large, "indices", "index_at_least"),
            column(&large, "indices", "index_at_most"),
        );
        for (i, index) in column(&whole, "indices", "index").into_iter().enumerate() {
            assert!(least[i] <= index && index <= most[i], "{least:?} {index:?} {most:?}");
        }
        let last = count - 1;
        assert!(least[last] > Some(0.0), "{least:?}");
        // Every eigenvalue told is within its error of one of the whole spectrum.
        let spectrum = column(&whole, "spectra", "eigenvalue");
        let (told, errors) =
            (column(&large, "spectra", "eigenvalue"), column(&large, "spectra", "error"));
        let points = column(&large, "spectra", "point");
        assert!(told.len() > 2 * count);
        for ((told, error), point) in told.iter().zip(&errors).zip(&points) {
            let of_point = &spectrum[12 * point.unwrap() as usize..][..12];
            let near = |value: &Option<f64>| (value.unwrap() - told.unwrap()).abs();
            let nearest = of_point.iter().map(near).fold(f64::MAX, f64::min);
            assert!(nearest <= error.unwrap(), "{told:?} {error:?} {nearest}");
        }
        assert!(column(&whole, "spectra", "error").iter().all(Option::is_none));
        assert!(column(&large, "main", "kernel_fraction").iter().all(Option::is_none));
        for results in [&whole, &large] {
            let density = column(results, "density", "density");
            let places = column(results, "density", "eigenvalue");
            assert_eq!(density.len(), 200 * count);
            for (density, places) in density.chunks(200).zip(places.chunks(200)) {
                let step = places[1].unwrap() - places[0].unwrap();
                let total: f64 = density.iter().flatten().map(|d| step * d).sum();
                assert!((total - 1.0).abs() < 1e-3, "{total}");
            }
        }
    }

    #[test]
    fn points_are_critical_by_each_limit_and_the_first_gives_the_class() {
        let (bench, indices) = bench();
        let text = "points = '@points'\ndata = '@data'\ncritical_below = ";
        let of = |limits: &str| bench.run::<CriticalClassify>(&format!("{text}{limits}")).unwrap();
        let results = of("[1e-10, 1e3]");
        let count = indices.len();
        assert_eq!(results.metrics["critical"], count as f64);
        let expected = (0..count).flat_map(|_| [1.0, 1.0]);
        let expected: Vec<Option<f64>> = expected.chain([0.0, 1.0, 0.0, 0.0]).map(Some).collect();
        assert_eq!(column(&results, "critical", "critical"), expected);
        assert_eq!(of("1e3").metrics["critical"], count as f64 + 1.0);
        for (limits, field) in [("[]", "critical_below"), ("[1e-10, 0.0]", "critical_below")] {
            let error = bench.run::<CriticalClassify>(&format!("{text}{limits}")).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn cutoffs_above_the_regularizers_curvature_are_told() {
        // At the origin of a network with l2, H = 2 l2 / N for every direction but those of the data.
        let inputs: Vec<f64> = (0..24).map(|i| ((i * i % 7) as f64 - 3.0) / 2.0).collect();
        let samples = Samples { features: 2, inputs: inputs.clone(), labels: Vec::new() };
        let problem = NetworkProblem {
            sizes: vec![2, 2, 2, 2],
            bias: false,
            activation: Activation::Swish,
            target: Target::Inputs,
            l2: 0.06,
            data: samples.fingerprint(),
        };
        let data = Tensors(TensorFile::default().with("inputs", Tensor::f64(&[12, 2], inputs)));
        let problem = Problem::Network(problem).carried();
        let points = Points { problem, dimension: 12, thetas: vec![0.0; 12] };
        let bench = Bench::new().put("data", &data).put("points", &points);
        let text = "points = '@points'\ndata = '@data'\ncutoffs = ";
        let of =
            |cutoffs: &str| bench.run::<CriticalClassify>(&format!("{text}{cutoffs}")).unwrap();
        // 2 l2 / N is 0.01.
        let results = of("[1e-3, 0.02]");
        assert_eq!(results.notices.len(), 1);
        let told = &results.notices[0];
        assert!(told.contains("cut-off of 2e-2 ") && told.contains("1.00e-2"), "{told}");
        let marked = column(&results, "indices", "exceeds_regularizer");
        assert_eq!(marked, [Some(0.0), Some(1.0)]);
        assert!(of("[1e-3]").notices.is_empty());
        let spectrum = column(&results, "spectra", "eigenvalue");
        assert!(spectrum.iter().all(|value| (value.unwrap() - 0.01).abs() < 1e-15), "{spectrum:?}");
    }
}
