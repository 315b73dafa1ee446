//! `critical.search`: from start points towards points of zero gradient.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::problem::{Problem, Samples, failure};
use super::shared::searches::{Board, Search, Told};
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
use crate::landscape::search::{
    Control, FlattestPoint, Outcome, Place, SearchOptions, Status, Step, TraceRow,
};

/// Searches for critical points from each start point.
///
/// Newton-MR solves for minimum-length least-squares Newton steps by MINRES-QLP with exact Hessian-vector products;
/// gradient-norm minimization descends on the squared gradient norm. Every search ends with a status, never by a
/// jump: `converged` (to the `tolerance`), `converged_to_rounding` (no step changes the parameters any more and the
/// gradient is of the size of its rounding), `max_iterations`, `line_search_floor` (no step size is accepted that still
/// changes the parameters), `zero_step` (as at gradient-flat points), `norm_limit` (the step would be longer than
/// `norm_limit`) or `not_finite`. Table `runs` has a row for each search: where it ended, its last step, and the largest
/// relative residual among the solves that ended as least squares, by which a point is gradient-flat; those points are
/// the output `flattest`, and `flattest_point` is their position there. Table `trace` has a row for each point visited.
/// Defaults are the published values (Frye et al. 2021, Neural Computation 33; Frye 2020, thesis, ch. 3).
///
/// Source: Frye et al. 2021, Neural Computation 33; Frye 2020, thesis, ch. 3.
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
    /// Most steps of a search, at least 1. Where absent the published number: 500 for Newton-MR, 25000 for gradient-norm
    /// minimization.
    #[serde(default)]
    #[schemars(range(min = 1))]
    iterations: Option<usize>,
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
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    alpha: f64,
    /// What a refused step size is multiplied by, in (0, 1).
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    beta: f64,
    /// Share of the promised decrease that a step must bring, in (0, 1).
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    rho: f64,
    /// The same for the full step, which is tried first; not tried where 0.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pure_rho: f64,
    /// Tolerance of the inner solver on its relative residuals, above 0. How many points look gradient-flat depends on
    /// it.
    #[schemars(extend("exclusiveMinimum" = 0))]
    rtol: f64,
    /// Most inner iterations of a solve, at least 1; as many as there are parameters where absent.
    #[schemars(range(min = 1))]
    inner_iterations: Option<usize>,
    /// Largest norm of a step before the line search, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    norm_limit: f64,
    /// Largest condition number that is inverted, above 1.
    #[schemars(extend("exclusiveMinimum" = 1))]
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
    /// First step size, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    alpha: f64,
    /// What a refused step size is multiplied by, in (0, 1).
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    beta: f64,
    /// Share of the promised decrease that a step must bring (Armijo), in (0, 1).
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    rho: f64,
    /// Share of the slope that may be left (curvature), in (0, 1).
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
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

impl Stage for CriticalSearch {
    const KIND: &'static str = "critical.search";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Machine;
    const EXAMPLE: &'static str = r#"
        [stages.search]
        kind = "critical.search"
        points = "@starts"
        data = "@pixels"
    "#;

    fn check(&self) -> Vec<Violation> {
        let mut broken = violations([
            ("iterations", self.iterations != Some(0), "must be at least 1"),
            ("tolerance", self.tolerance >= 0.0, "must be at least 0"),
        ]);
        broken.extend(match self.method {
            SearchMethod::NewtonMr(method) => method.check(),
            SearchMethod::GradientNorm(method) => method.check(),
        });
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Points::TYPE)
            .and("flattest", Points::TYPE)
            .and("runs", Table::TYPE)
            .and("trace", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let starts = cx.load(&self.points)?;
        let loss = Problem::of(&starts.problem)?.loss(Samples::of(cx.load(&self.data)?)?)?;
        let outcomes = self.search_all(cx, &loss, &starts)?;
        cx.save_as("runs", &runs(&outcomes))?;
        cx.save_as("trace", &trace(&outcomes))?;
        let below = |limit: f64| {
            let ends = outcomes.iter().filter_map(|o| o.trace.last());
            ends.filter(|row| row.squared_gradient_norm < limit).count() as f64
        };
        cx.metric("runs", outcomes.len() as f64)?;
        cx.metric("below_1e_10", below(1e-10))?;
        let flattest = outcomes.iter().filter_map(|o| o.flattest.as_ref());
        let thetas = flattest.flat_map(|f| f.theta.iter().copied()).collect();
        cx.save_as("flattest", &Points { thetas, ..starts.clone() })?;
        let thetas = outcomes.into_iter().flat_map(|o| o.theta).collect();
        cx.save(&Points { thetas, ..starts })
    }
}

/// Whether a number lies in (0, 1).
fn is_share(value: f64) -> bool {
    value > 0.0 && value < 1.0
}

const SHARE: &str = "must be above 0 and below 1";

impl NewtonMr {
    fn check(self) -> Vec<Violation> {
        let alpha = self.alpha > 0.0 && self.alpha <= 1.0;
        let pure = (0.0..1.0).contains(&self.pure_rho);
        violations([
            ("method.newton_mr.alpha", alpha, "must be above 0 and at most 1"),
            ("method.newton_mr.beta", is_share(self.beta), SHARE),
            ("method.newton_mr.rho", is_share(self.rho), SHARE),
            ("method.newton_mr.pure_rho", pure, "must be at least 0 and below 1"),
            ("method.newton_mr.rtol", self.rtol > 0.0, "must be above 0"),
            (
                "method.newton_mr.inner_iterations",
                self.inner_iterations != Some(0),
                "must be at least 1",
            ),
            ("method.newton_mr.norm_limit", self.norm_limit > 0.0, "must be above 0"),
            ("method.newton_mr.condition_limit", self.condition_limit > 1.0, "must be above 1"),
        ])
    }
}

impl GradientNorm {
    fn check(self) -> Vec<Violation> {
        let alpha = self.alpha > 0.0 && self.alpha.is_finite();
        violations([
            ("method.gradient_norm.alpha", alpha, "must be finite and above 0"),
            ("method.gradient_norm.beta", is_share(self.beta), SHARE),
            ("method.gradient_norm.rho", is_share(self.rho), SHARE),
            ("method.gradient_norm.gamma", is_share(self.gamma), SHARE),
        ])
    }
}

impl CriticalSearch {
    /// The most steps of a search: as asked for, or as published for the method.
    fn iterations(&self) -> usize {
        self.iterations.unwrap_or(match self.method {
            SearchMethod::NewtonMr(_) => NewtonMrOptions::default().search.iterations,
            SearchMethod::GradientNorm(_) => GradientNormOptions::default().search.iterations,
        })
    }

    /// Searches from all starts at once, or goes on; yields how each search ended.
    fn search_all(
        &self,
        cx: &Context<'_>,
        loss: &(dyn Objective + Sync),
        starts: &Points,
    ) -> anyhow::Result<Vec<Outcome>> {
        let board = Board::new(starts.count(), cx.resume())?;
        let told = Told::new(cx, self.iterations(), &board.all().0);
        let search = |(i, start): (usize, &[f64])| {
            let from = match board.get(i) {
                Search::Waiting => None,
                Search::UnderWay(reached) => Some(reached),
                Search::Ended(outcome) => return Ok(outcome),
            };
            let paused = |place: &Place<'_>| {
                board.glance(i, place);
                let ended = cx.check_cancelled().is_err()
                    || cx.pause_point(|| Ok(Box::new(board.all()))).is_err();
                if ended {
                    board.put(i, Search::UnderWay(place.reached()));
                }
                ended
            };
            let observe = |row: &TraceRow| told.step(row);
            let control = Control { from: from.as_ref(), paused: &paused, observe: &observe };
            let outcome = self.search(loss, start, &control)?;
            if outcome.status != Status::Cancelled {
                board.put(i, Search::Ended(outcome.clone()));
                told.ended(&outcome);
            }
            Ok(outcome)
        };
        let places: Vec<(usize, &[f64])> = starts.each().enumerate().collect();
        let outcomes: Result<_, _> = places.into_par_iter().map(search).collect();
        let outcomes = outcomes.map_err(failure)?;
        // Where the run is interrupted, all searches have noted how far they came.
        cx.pause_point(|| Ok(Box::new(board.all())))?;
        Ok(outcomes)
    }

    fn search(
        &self,
        loss: &dyn Objective,
        start: &[f64],
        control: &Control<'_>,
    ) -> Result<Outcome, LandscapeError> {
        let search = SearchOptions {
            iterations: self.iterations(),
            tolerance: self.tolerance,
            ..SearchOptions::default()
        };
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
                        ..SolverOptions::default()
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
    let last_step = |f: &dyn Fn(&Step) -> Option<f64>| -> Vec<Option<f64>> {
        let last = |o: &Outcome| o.trace.iter().rev().find_map(|row| row.step);
        outcomes.iter().map(|o| last(o).as_ref().and_then(f)).collect()
    };
    let flattest = |f: &dyn Fn(&FlattestPoint) -> f64| -> Vec<Option<f64>> {
        outcomes.iter().map(|o| o.flattest.as_ref().map(f)).collect()
    };
    let positions = outcomes.iter().scan(0, |next, o| {
        let position = o.flattest.is_some().then_some(f64::from(*next));
        *next += i32::from(o.flattest.is_some());
        Some(position)
    });
    Table::new()
        .counts("point", 0..outcomes.len())
        .texts("status", outcomes.iter().map(|o| o.status.to_string()))
        .counts("iterations", outcomes.iter().map(|o| o.iterations))
        .floats("start_loss", outcomes.iter().map(|o| o.trace[0].loss))
        .floats("loss", outcomes.iter().map(|o| end(o).loss))
        .floats("squared_gradient_norm", outcomes.iter().map(|o| end(o).squared_gradient_norm))
        .maybe_floats("step_size", last_step(&|s| Some(s.size)))
        .maybe_floats("residual", last_step(&|s| s.solve.map(|r| r.relres)))
        .maybe_floats("cokernel_residual", last_step(&|s| s.solve.map(|r| r.relares)))
        .maybe_floats("flag", last_step(&|s| s.solve.map(|r| r.flag.code() as f64)))
        .maybe_floats("max_residual", flattest(&|f| f.report.relres))
        .maybe_floats("flattest_iteration", flattest(&|f| f.iteration as f64))
        .maybe_floats("flattest_point", positions)
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
        .maybe_floats("trials", step(&|s| Some(s.trials as f64)))
        .maybe_floats("pure", step(&|s| Some(f64::from(u8::from(s.pure)))))
        .maybe_floats("residual", step(&|s| s.solve.map(|r| r.relres)))
        .maybe_floats("cokernel_residual", step(&|s| s.solve.map(|r| r.relares)))
        .maybe_floats("inner_iterations", step(&|s| s.solve.map(|r| r.iterations as f64)))
        .maybe_floats("flag", step(&|s| s.solve.map(|r| r.flag.code() as f64)))
        .maybe_floats("anorm", step(&|s| s.solve.map(|r| r.anorm)))
        .maybe_floats("acond", step(&|s| s.solve.map(|r| r.acond)))
        .maybe_floats("xnorm", step(&|s| s.solve.map(|r| r.xnorm)))
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
        // One flattest point for each run that has one, at the position that the run names.
        let column = |name: &str| runs.column(name).unwrap().f64().unwrap().to_vec();
        let flattest: Points = results.output("flattest");
        let positions: Vec<f64> = column("flattest_point").into_iter().flatten().collect();
        assert_eq!(positions, (0..flattest.count()).map(|i| i as f64).collect::<Vec<f64>>());
        assert_eq!(flattest.dimension, 16);
        for name in ["step_size", "residual", "flag"] {
            assert!(column(name).iter().any(Option::is_some), "{name}");
        }
    }

    #[test]
    fn searches_that_are_broken_off_go_on_to_the_same_bytes() {
        for method in ["newton_mr = { rtol = 1e-8 }", "gradient_norm = { alpha = 0.05 }"] {
            let text = format!(
                "points = '@points'\ndata = '@data'\niterations = 8\nmethod = {{ {method} }}"
            );
            for (at, least) in [(4, 3), (9, 2), (1000, 1)] {
                let attempts = bench().check_resumption::<CriticalSearch>(&text, at);
                let once = at == 1000;
                assert!(attempts >= least && (attempts == 1) == once, "{method} {at}: {attempts}");
            }
        }
    }

    #[test]
    fn gradient_norm_minimization_descends() {
        let text = "points = '@points'\ndata = '@data'\niterations = 30\n\
                    method = { gradient_norm = { alpha = 0.05 } }";
        let results = bench().run::<CriticalSearch>(text).unwrap();
        let trace = results.output::<Table>("trace").frame().unwrap();
        let squared = trace.column("squared_gradient_norm").unwrap().f64().unwrap().to_vec();
        let points: Vec<i64> =
            trace.column("point").unwrap().i64().unwrap().into_no_null_iter().collect();
        for point in 0..3 {
            let of: Vec<f64> = (0..points.len())
                .filter(|row| points[*row] == point)
                .map(|row| squared[row].unwrap())
                .collect();
            assert!(of.windows(2).all(|pair| pair[1] < pair[0]), "{of:?}");
            // The third start is next to a minimum, where the curvature condition refuses every step.
            let descended = of.len() == 31 && of[30] < 0.9 * of[0];
            assert!(descended || point == 2, "point {point}: {of:?}");
        }
        // No system is solved, so that no point is told flattest.
        assert_eq!(results.output::<Points>("flattest").count(), 0);
    }

    #[test]
    fn the_number_of_steps_is_the_one_published_for_the_method() {
        let iterations = |text: &str| {
            let stage: CriticalSearch =
                toml::from_str(&format!("points = '@p'\ndata = '@d'\n{text}")).unwrap();
            stage.iterations()
        };
        assert_eq!(iterations(""), 500);
        assert_eq!(iterations("method = { gradient_norm = {} }"), 25_000);
        assert_eq!(iterations("iterations = 7\nmethod = { gradient_norm = {} }"), 7);
    }

    #[test]
    fn every_value_out_of_range_is_named() {
        let text = "points = '@points'\ndata = '@data'\niterations = 0\n\
                    method = { newton_mr = { beta = 1.0, rtol = 0.0 } }";
        let error = bench().run::<CriticalSearch>(text).unwrap_err().to_string();
        for field in ["iterations", "method.newton_mr.beta", "method.newton_mr.rtol"] {
            assert!(error.contains(&format!("{field:?}")), "{error}");
        }
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
