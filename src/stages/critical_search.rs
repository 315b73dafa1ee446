//! `critical.search`: from start points towards points of zero gradient.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::computing::Computing;
use super::shared::methods::SearchMethod;
use super::shared::problem::Problem;
use super::shared::searches::{Board, Search, Told};
use crate::artifacts::points::Points;
use crate::artifacts::table::Table;
use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::landscape::objective::Objective;
use crate::landscape::search::{
    Control, FlattestPoint, Frobenius, Outcome, Place, SearchOptions, Status, Step, TraceRow,
};
use crate::omit::is_default;

/// The most parameters of a full Hessian: 512 MiB of numbers, some of which are needed twice.
const LARGEST: usize = 1 << 13;

/// Searches for critical points from each start point.
///
/// Searches run side by side on the stage's threads. Where the stage has a GPU (`resources = { gpu = 1 }`), up to 1024
/// of them compute as one there, in 64-bit floats, by steps that differ from the CPU's by rounding; methods that
/// decompose full Hessians stay on the CPU.
///
/// Newton-MR solves for minimum-length least-squares Newton steps by MINRES-QLP with exact Hessian-vector products;
/// gradient-norm minimization descends on the squared gradient norm; the other Newton methods are there to compare
/// with. `newton`, `pseudo_inverse_newton` and `saddle_free_newton` without `krylov` decompose a full Hessian at each
/// point, of at most 8192 parameters. Every search ends with a status, never by a jump: `converged` (to the
/// `tolerance`), `converged_to_rounding` (no step changes the parameters any more and the gradient is of the size of
/// its rounding), `max_iterations`, `line_search_floor` (no step size is accepted that still changes the parameters),
/// `zero_step` (as at gradient-flat points), `norm_limit` (the step would be longer than `norm_limit`), `singular` (the
/// Hessian has no inverse), `no_decrease` (no damping leads to a better point) or `not_finite`. Table `runs` has a row
/// for each search: where it ended, its last step, and the largest relative residual among the solves that ended as
/// least squares, by which a point is gradient-flat; those points are the output `flattest`, and `flattest_point` is
/// their position there. Table `trace` has a row for each point visited. Residuals are those of the inner solver, by
/// its own estimate of the Hessian's norm, as published; of damped Newton, those of the damped system. Defaults are the
/// published values (Frye et al. 2021, Neural Computation 33; Frye 2020, thesis, ch. 3).
///
/// Source: Frye et al. 2021, Neural Computation 33; Frye 2020, thesis, ch. 3.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CriticalSearch {
    /// Where the searches begin.
    points: Input<Points>,
    /// The data of the loss: those that the network was trained on. Points of a function have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Input<Tensors>>,
    /// How steps are found.
    #[serde(default)]
    method: SearchMethod,
    /// Most steps of a search, at least 1. Where absent the published number: 500 for Newton methods, 25000 for
    /// gradient-norm minimization.
    #[serde(default)]
    #[schemars(range(min = 1))]
    iterations: Option<usize>,
    /// Ends a search where the squared gradient norm is at most this; 0 goes on to the last step.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    tolerance: f64,
    /// Adds columns with the Frobenius norm of the Hessian at each point, and r and `r_H` of Newton steps by it, as
    /// printed in Frye et al. 2021 (of damped Newton, as steps of the undamped one). Costs as many Hessian-vector
    /// products at each point as there are parameters.
    #[serde(default, skip_serializing_if = "is_default")]
    frobenius: bool,
}

impl Stage for CriticalSearch {
    const KIND: &'static str = "critical.search";
    const VERSION: u32 = 3;
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
        broken.extend(self.method.check());
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
        if self.method.decomposes() && starts.dimension > LARGEST {
            let message = format!(
                "the method decomposes full Hessians, of at most {LARGEST} parameters: {}",
                starts.dimension
            );
            let hint = "take `newton_mr`, `damped_newton`, or `saddle_free_newton` with `krylov`";
            anyhow::bail!(Failure::user(message).hint(hint));
        }
        let problem = Problem::of(&starts.problem)?;
        let loss = problem.loss(problem.samples(cx, self.data.as_ref())?)?;
        let outcomes =
            self.search_all(cx, Computing::new(&loss, &self.method, starts.count())?, &starts)?;
        cx.save_as("runs", &self.runs(&outcomes))?;
        cx.save_as("trace", &self.trace(&outcomes))?;
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

impl CriticalSearch {
    /// The most steps of a search: as asked for, or as published for the method.
    pub(super) fn iterations(&self) -> usize {
        self.iterations.unwrap_or_else(|| self.method.iterations())
    }

    /// Searches from all starts at once, or goes on; yields how each search ended.
    fn search_all(
        &self,
        cx: &Context<'_>,
        computing: Computing<'_>,
        starts: &Points,
    ) -> anyhow::Result<Vec<Outcome>> {
        let board = Board::new(starts.count(), cx.resume())?;
        let told = Told::new(cx, self.iterations(), &board.all().0);
        let options = SearchOptions {
            iterations: self.iterations(),
            tolerance: self.tolerance,
            frobenius: self.frobenius,
        };
        let places: Vec<&[f64]> = starts.each().collect();
        let search = |i: usize, loss: &dyn Objective| {
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
            let outcome = self.method.search(loss, places[i], options, &control)?;
            if outcome.status != Status::Cancelled {
                board.put(i, Search::Ended(outcome.clone()));
                told.ended(&outcome);
            }
            Ok(outcome)
        };
        let outcomes = computing.search_all(places.len(), search)?;
        // Where the run is interrupted, all searches have noted how far they came.
        cx.pause_point(|| Ok(Box::new(board.all())))?;
        Ok(outcomes)
    }

    /// One row a search.
    fn runs(&self, outcomes: &[Outcome]) -> Table {
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
        let mut table = Table::new()
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
            .maybe_floats("flattest_point", positions);
        if self.method.damps() {
            table = table.maybe_floats("damping", last_step(&|s| s.damping));
        }
        if self.frobenius {
            let rows = |row: &dyn Fn(&Outcome) -> Option<TraceRow>| -> Vec<Option<Frobenius>> {
                outcomes.iter().map(|o| row(o)?.frobenius).collect()
            };
            let last = rows(&|o| o.trace.iter().rev().find(|row| row.step.is_some()).copied());
            let flattest = rows(&|o| o.flattest.as_ref().map(|f| o.trace[f.iteration]));
            let relres = |of: &Option<Frobenius>| Some(of.as_ref()?.residuals?.relres);
            let relares = |of: &Option<Frobenius>| Some(of.as_ref()?.residuals?.relares);
            table = table
                .maybe_floats("residual_frobenius", last.iter().map(relres))
                .maybe_floats("cokernel_residual_frobenius", last.iter().map(relares))
                .maybe_floats("max_residual_frobenius", flattest.iter().map(relres));
        }
        table
    }

    /// One row a visited point.
    fn trace(&self, outcomes: &[Outcome]) -> Table {
        let rows: Vec<(usize, TraceRow)> = outcomes
            .iter()
            .enumerate()
            .flat_map(|(point, outcome)| outcome.trace.iter().map(move |row| (point, *row)))
            .collect();
        let step = |f: &dyn Fn(&Step) -> Option<f64>| -> Vec<Option<f64>> {
            rows.iter().map(|(_, row)| row.step.as_ref().and_then(f)).collect()
        };
        let mut table = Table::new()
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
            .maybe_floats("xnorm", step(&|s| s.solve.map(|r| r.xnorm)));
        if self.method.damps() {
            table = table.maybe_floats("damping", step(&|s| s.damping));
        }
        if self.frobenius {
            let of = |f: &dyn Fn(Frobenius) -> Option<f64>| -> Vec<Option<f64>> {
                rows.iter().map(|(_, row)| row.frobenius.and_then(f)).collect()
            };
            table = table
                .maybe_floats("hessian_norm", of(&|f| Some(f.norm)))
                .maybe_floats("residual_frobenius", of(&|f| Some(f.residuals?.relres)))
                .maybe_floats("cokernel_residual_frobenius", of(&|f| Some(f.residuals?.relares)));
        }
        table
    }
}
