//! `critical.search`: from start points towards points of zero gradient.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::problem::{Problem, Samples, failure};
use crate::artifacts::points::Points;
use crate::artifacts::table::Table;
use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::landscape::error::LandscapeError;
use crate::landscape::gradient_norm::{self, GradientNormOptions, LineSearch, Method};
use crate::landscape::minres_qlp::SolverOptions;
use crate::landscape::newton_mr::{self, NewtonMrOptions};
use crate::landscape::objective::Objective;
use crate::landscape::search::{Control, Outcome, SearchOptions, Step, TraceRow};

/// Searches for critical points from each start point.
///
/// Newton-MR solves for minimum-length least-squares Newton steps by MINRES-QLP with exact Hessian-vector products;
/// gradient-norm minimization descends on the squared gradient norm. Every search ends with a status, never by a
/// jump. Defaults are the published values (Frye et al. 2021, Neural Computation 33; Frye 2020, thesis, ch. 3).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CriticalSearch {
    /// Where the searches begin.
    points: Input<Points>,
    /// The data of the loss: those that the network was trained on.
    data: Input<Tensors>,
    /// How steps are found.
    #[serde(default)]
    method: SearchMethod,
    /// Most steps of a search.
    #[serde(default = "published_iterations")]
    #[schemars(range(min = 1))]
    iterations: usize,
    /// Ends a search where the squared gradient norm is at most this; 0 goes on to the last step.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    tolerance: f64,
}

/// How steps are found.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SearchMethod {
    /// Newton's method on the gradient, by minimum-length least-squares steps.
    NewtonMr(NewtonMr),
    /// Descent on half the squared gradient norm, by backtracking line search.
    GradientNorm(GradientNorm),
}

/// Newton's method on the gradient, by minimum-length least-squares steps.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct NewtonMr {
    /// First step size, in (0, 1].
    alpha: f64,
    /// What a refused step size is multiplied by, in (0, 1).
    beta: f64,
    /// Share of the promised decrease that a step must bring, in (0, 1).
    rho: f64,
    /// The same for the full step, which is tried first; not tried where 0.
    pure_rho: f64,
    /// Tolerance of the inner solver on its relative residuals. How many points look gradient-flat depends on it.
    rtol: f64,
    /// Most inner iterations of a solve; as many as there are parameters where absent.
    inner_iterations: Option<usize>,
    /// Largest norm of a step before the line search.
    norm_limit: f64,
    /// Largest condition number that is inverted.
    condition_limit: f64,
}

impl Default for NewtonMr {
    fn default() -> Self {
        Self {
            alpha: 0.1,
            beta: 0.5,
            rho: 1e-4,
            pure_rho: 0.5,
            rtol: 5e-4,
            inner_iterations: None,
            norm_limit: 1e4,
            condition_limit: 1e7,
        }
    }
}

/// Descent on half the squared gradient norm, by backtracking line search.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct GradientNorm {
    /// First step size.
    alpha: f64,
    /// What a refused step size is multiplied by, in (0, 1).
    beta: f64,
    /// Share of the promised decrease that a step must bring (Armijo).
    rho: f64,
    /// Share of the slope that may be left (curvature).
    gamma: f64,
}

impl Default for GradientNorm {
    fn default() -> Self {
        Self { alpha: 0.1, beta: 0.5, rho: 1e-4, gamma: 0.9 }
    }
}

impl Default for SearchMethod {
    fn default() -> Self {
        Self::NewtonMr(NewtonMr::default())
    }
}

fn published_iterations() -> usize {
    500
}

impl Stage for CriticalSearch {
    const KIND: &'static str = "critical.search";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Machine;

    fn check(&self) -> Vec<Violation> {
        let inside = |v: f64| v > 0.0 && v < 1.0;
        let method = match self.method {
            SearchMethod::NewtonMr(m) => {
                m.alpha > 0.0
                    && m.alpha <= 1.0
                    && inside(m.beta)
                    && inside(m.rho)
                    && (0.0..1.0).contains(&m.pure_rho)
                    && m.rtol > 0.0
                    && m.inner_iterations.is_none_or(|n| n > 0)
                    && m.norm_limit > 0.0
                    && m.condition_limit > 1.0
            }
            SearchMethod::GradientNorm(m) => {
                m.alpha > 0.0 && inside(m.beta) && inside(m.rho) && inside(m.gamma)
            }
        };
        violations([
            ("iterations", self.iterations >= 1, "must be at least 1"),
            ("tolerance", self.tolerance >= 0.0, "must be at least 0"),
            (
                "method",
                method,
                "holds a value outside its range (see `wavecrest kinds critical.search`)",
            ),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Points::TYPE).and("runs", Table::TYPE).and("trace", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let starts = cx.load(&self.points)?;
        let loss = Problem::of(&starts.problem)?.loss(Samples::of(cx.load(&self.data)?)?)?;
        let (sink, cancel) = (cx.sink(), cx.cancel());
        let (steps_done, runs_done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let all_steps = (starts.count() * self.iterations).max(1);
        let search = |start: &[f64]| {
            let observe = |row: &TraceRow| {
                let steps = steps_done.fetch_add(1, Ordering::Relaxed);
                // A whole percent is told once, whatever the number of threads.
                if steps * 100 / all_steps != (steps + 1) * 100 / all_steps {
                    let runs = runs_done.load(Ordering::Relaxed);
                    let note = format!(
                        "{runs}/{} runs  |g|^2 {:.1e}",
                        starts.count(),
                        row.squared_gradient_norm
                    );
                    sink((steps as f64 / all_steps as f64).min(1.0), note);
                }
            };
            let control =
                Control { cancelled: &|| cancel.load(Ordering::Relaxed), observe: &observe };
            let outcome = self.search(&loss, start, &control)?;
            runs_done.fetch_add(1, Ordering::Relaxed);
            // Steps that an early end leaves out count as done.
            steps_done
                .fetch_add(self.iterations.saturating_sub(outcome.iterations), Ordering::Relaxed);
            Ok(outcome)
        };
        let places: Vec<&[f64]> = starts.each().collect();
        let outcomes: Result<Vec<Outcome>, _> = places.into_par_iter().map(search).collect();
        let outcomes = outcomes.map_err(failure)?;
        cx.check_cancelled()?;
        cx.save_as("runs", &runs(&outcomes))?;
        cx.save_as("trace", &trace(&outcomes))?;
        let below = |limit: f64| {
            let ends = outcomes.iter().filter_map(|o| o.trace.last());
            ends.filter(|row| row.squared_gradient_norm < limit).count() as f64
        };
        cx.metric("runs", outcomes.len() as f64)?;
        cx.metric("below_1e_10", below(1e-10))?;
        let thetas = outcomes.into_iter().flat_map(|o| o.theta).collect();
        cx.save(&Points { thetas, ..starts })
    }
}

impl CriticalSearch {
    fn search(
        &self,
        loss: &dyn Objective,
        start: &[f64],
        control: &Control<'_>,
    ) -> Result<Outcome, LandscapeError> {
        let search = SearchOptions { iterations: self.iterations, tolerance: self.tolerance };
        match self.method {
            SearchMethod::NewtonMr(m) => {
                let options = NewtonMrOptions {
                    alpha: m.alpha,
                    beta: m.beta,
                    rho: m.rho,
                    pure_rho: (m.pure_rho > 0.0).then_some(m.pure_rho),
                    solver: SolverOptions {
                        rtol: m.rtol,
                        iterations: m.inner_iterations,
                        norm_limit: m.norm_limit,
                        condition_limit: m.condition_limit,
                    },
                    search,
                };
                newton_mr::search(loss, start, &options, control)
            }
            SearchMethod::GradientNorm(m) => {
                let method = Method::LineSearch(LineSearch {
                    alpha: m.alpha,
                    beta: m.beta,
                    rho: m.rho,
                    gamma: m.gamma,
                });
                gradient_norm::search(loss, start, &GradientNormOptions { method, search }, control)
            }
        }
    }
}

/// One row a search.
fn runs(outcomes: &[Outcome]) -> Table {
    let end = |o: &Outcome| *o.trace.last().expect("a search visits its start");
    Table::new()
        .counts("point", 0..outcomes.len())
        .texts("status", outcomes.iter().map(|o| o.status.to_string()))
        .counts("iterations", outcomes.iter().map(|o| o.iterations))
        .floats("start_loss", outcomes.iter().map(|o| o.trace[0].loss))
        .floats("loss", outcomes.iter().map(|o| end(o).loss))
        .floats("squared_gradient_norm", outcomes.iter().map(|o| end(o).squared_gradient_norm))
        .maybe_floats(
            "max_residual",
            outcomes.iter().map(|o| o.flattest.as_ref().map(|f| f.report.relres)),
        )
}

/// One row a visited point.
fn trace(outcomes: &[Outcome]) -> Table {
    let rows: Vec<(usize, TraceRow)> = outcomes
        .iter()
        .enumerate()
        .flat_map(|(point, outcome)| outcome.trace.iter().map(move |row| (point, *row)))
        .collect();
    let step = |f: &dyn Fn(&Step) -> Option<f64>| -> Vec<Option<f64>> {
        rows.iter().map(|(_, row)| row.step.as_ref().and_then(f)).collect()
    };
    Table::new()
        .counts("point", rows.iter().map(|(point, _)| *point))
        .counts("iteration", rows.iter().map(|(_, row)| row.iteration))
        .floats("loss", rows.iter().map(|(_, row)| row.loss))
        .floats("squared_gradient_norm", rows.iter().map(|(_, row)| row.squared_gradient_norm))
        .maybe_floats("step_size", step(&|s| Some(s.size)))
        .maybe_floats("residual", step(&|s| s.solve.map(|r| r.relres)))
        .maybe_floats("cokernel_residual", step(&|s| s.solve.map(|r| r.relares)))
        .maybe_floats("inner_iterations", step(&|s| s.solve.map(|r| r.iterations as f64)))
        .maybe_floats("flag", step(&|s| s.solve.map(|r| r.flag.code() as f64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::tensor::{Tensor, TensorFile};
    use crate::artifacts::trajectory::Trajectory;
    use crate::stages::network_train::NetworkTrain;
    use crate::stages::shared::bench::Bench;

    fn bench() -> Bench {
        let inputs = (0..120)
            .map(|i| ((i * i % 23) as f64 - 11.0) / 8.0 * f64::from(1 + i as u32 % 4))
            .collect();
        let data = Tensors(TensorFile::default().with("inputs", Tensor::f64(&[30, 4], inputs)));
        let bench = Bench::new().put("data", &data);
        let text = "data = '@data'\nhidden = [2]\nactivation = 'linear'\nbias = false\nsteps = 200\n\
                    optimizer = { gradient_descent = { rate = 0.05 } }";
        let path: Trajectory = bench.run::<NetworkTrain>(text).unwrap().main();
        let thetas = [0, 40, 200].iter().flat_map(|i| path.thetas[i * 16..(i + 1) * 16].to_vec());
        let points = Points { problem: path.problem, dimension: 16, thetas: thetas.collect() };
        bench.put("points", &points)
    }

    #[test]
    fn newton_mr_reaches_critical_points_and_leaves_a_trace() {
        let text = "points = '@points'\ndata = '@data'\niterations = 60\n\
                    method = { newton_mr = { rtol = 1e-8 } }";
        let results = bench().run::<CriticalSearch>(text).unwrap();
        // The third start is the end of training, next to the global minimum.
        let runs = results.output::<Table>("runs").frame().unwrap();
        let squared = runs.column("squared_gradient_norm").unwrap().f64().unwrap();
        assert!(squared.get(2).unwrap() < 1e-20, "{squared:?}");
        assert!(results.metrics["below_1e_10"] >= 2.0);
        assert_eq!(results.main::<Points>().count(), 3);
        let trace = results.output::<Table>("trace").frame().unwrap();
        assert!(trace.height() > 6);
    }

    #[test]
    fn gradient_norm_minimization_descends() {
        let text = "points = '@points'\ndata = '@data'\niterations = 30\n\
                    method = { gradient_norm = { alpha = 0.5 } }";
        let results = bench().run::<CriticalSearch>(text).unwrap();
        assert_eq!(results.output::<Table>("runs").frame().unwrap().height(), 3);
    }

    #[test]
    fn data_that_the_points_do_not_belong_to_are_refused() {
        let other =
            Tensors(TensorFile::default().with("inputs", Tensor::f64(&[2, 4], vec![1.0; 8])));
        let text = "points = '@points'\ndata = '@data'";
        let error = bench().put("data", &other).run::<CriticalSearch>(text).unwrap_err();
        assert!(error.to_string().contains("belong to other data"), "{error}");
    }
}
