//! Searches for critical points under way, all at once: how far each is, and the checkpoint of them together.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::STATE;
use crate::artifacts::tensor::{Tensor, TensorFile};
use crate::engine::checkpoint::Checkpoint;
use crate::engine::context::Context;
use crate::engine::stage::Files;
use crate::landscape::minres_qlp::{Flag, Report};
use crate::landscape::search::{
    FlattestPoint, Frobenius, Outcome, Place, Reached, Residuals, Status, Step, TraceRow,
};

/// How far one search is.
#[derive(Clone, Debug, PartialEq)]
pub enum Search {
    /// At its start.
    Waiting,
    /// So far.
    UnderWay(Reached),
    /// At its end.
    Ended(Outcome),
}

impl Search {
    /// The points that were visited.
    pub fn trace(&self) -> &[TraceRow] {
        match self {
            Self::Waiting => &[],
            Self::UnderWay(reached) => &reached.trace,
            Self::Ended(outcome) => &outcome.trace,
        }
    }
}

/// Where searches that run in parallel note how far they are.
pub struct Board(Vec<Mutex<(Search, Instant)>>);

/// How often a search notes where it is: each note copies its whole trace.
const OFTEN: Duration = Duration::from_secs(1);

impl Board {
    /// A board for so many searches, some of which may be under way.
    pub fn new(count: usize, from: Option<Searches>) -> anyhow::Result<Self> {
        let searches = from.map_or_else(|| vec![Search::Waiting; count], |searches| searches.0);
        ensure!(searches.len() == count, "the searches to go on with are not those of the points");
        Ok(Self(searches.into_iter().map(|search| Mutex::new((search, Instant::now()))).collect()))
    }

    /// How far a search is.
    pub fn get(&self, i: usize) -> Search {
        self.0[i].lock().expect(NO_PANIC).0.clone()
    }

    /// Notes how far a search is.
    pub fn put(&self, i: usize, search: Search) {
        *self.0[i].lock().expect(NO_PANIC) = (search, Instant::now());
    }

    /// Notes where a search is, if that was not done a moment ago.
    pub fn glance(&self, i: usize, place: &Place<'_>) {
        if self.0[i].lock().expect(NO_PANIC).1.elapsed() > OFTEN {
            self.put(i, Search::UnderWay(place.reached()));
        }
    }

    /// Copies what all searches could go on from.
    pub fn all(&self) -> Searches {
        Searches((0..self.0.len()).map(|i| self.get(i)).collect())
    }
}

const NO_PANIC: &str = "no holder of this lock panics";

/// What is told of searches that run in parallel.
pub struct Told<'a> {
    cx: &'a Context<'a>,
    /// The most steps of a search.
    iterations: usize,
    runs: usize,
    steps_done: AtomicUsize,
    runs_done: AtomicUsize,
}

impl<'a> Told<'a> {
    /// Begins to tell of searches, some of which may be under way or done.
    pub fn new(cx: &'a Context<'a>, iterations: usize, searches: &[Search]) -> Self {
        let ended = |search: &Search| matches!(search, Search::Ended(_));
        let done = |search: &Search| match search {
            Search::Ended(_) => iterations,
            Search::UnderWay(_) | Search::Waiting => search.trace().len(),
        };
        Self {
            cx,
            iterations,
            runs: searches.len(),
            steps_done: searches.iter().map(done).sum::<usize>().into(),
            runs_done: searches.iter().filter(|search| ended(search)).count().into(),
        }
    }

    /// A point was visited.
    pub fn step(&self, row: &TraceRow) {
        let steps = self.steps_done.fetch_add(1, Ordering::Relaxed);
        let all = self.runs.saturating_mul(self.iterations).max(1);
        // A whole percent is told once, whatever the number of threads.
        if steps * 100 / all != (steps + 1) * 100 / all {
            let runs = self.runs_done.load(Ordering::Relaxed);
            let note =
                format!("{runs}/{} runs  |g|^2 {:.1e}", self.runs, row.squared_gradient_norm);
            (self.cx.sink())((steps as f64 / all as f64).min(1.0), note);
        }
    }

    /// A search has ended.
    pub fn ended(&self, outcome: &Outcome) {
        self.runs_done.fetch_add(1, Ordering::Relaxed);
        // Steps that an early end leaves out count as done.
        let left = self.iterations.saturating_sub(outcome.iterations);
        self.steps_done.fetch_add(left, Ordering::Relaxed);
    }
}

/// How far all searches are, in the order of their points.
#[derive(Clone, Debug, PartialEq)]
pub struct Searches(pub Vec<Search>);

/// A row of a trace: loss, squared gradient norm; a step (whether there is one, size, trials, whether it is pure); a
/// damping (whether there is one, and it); the Frobenius norm and residuals by it (each whether there is one, and it); a
/// solve (whether there is one, and its report).
type Row = [f64; BEFORE_REPORT + REPORT];

/// Numbers of a row before those of its report.
const BEFORE_REPORT: usize = 14;

/// Numbers of a report.
pub(super) const REPORT: usize = 8;

/// Of each search: 0 to 2 as it waits, is under way or has ended; its status, or -1; how many rows of the trace and
/// carried numbers it has; whether it has a flattest point, and at which iteration.
type Head = [f64; 6];

impl Checkpoint for Searches {
    const FORMAT: u32 = 2;

    fn place(&self) -> String {
        let steps: usize = self.0.iter().map(|search| search.trace().len()).sum();
        let ended = self.0.iter().filter(|search| matches!(search, Search::Ended(_))).count();
        format!("{ended}/{} runs ended, {steps} points visited", self.0.len())
    }

    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let mut heads: Vec<Head> = Vec::new();
        let (mut theta, mut carried, mut flat) = (Vec::new(), Vec::new(), Vec::new());
        let (mut traces, mut reports): (Vec<Row>, Vec<[f64; REPORT]>) = (Vec::new(), Vec::new());
        for search in &self.0 {
            let (state, status, at, more, flattest) = match search {
                Search::Waiting => (0.0, -1.0, &[][..], &[][..], None),
                Search::UnderWay(r) => {
                    (1.0, -1.0, &r.theta[..], &r.carried[..], r.flattest.as_ref())
                }
                Search::Ended(o) => {
                    let status = Status::ALL.iter().position(|status| *status == o.status);
                    let status = status.expect("every status is among all") as f64;
                    (2.0, status, &o.theta[..], &[][..], o.flattest.as_ref())
                }
            };
            let has = f64::from(u8::from(flattest.is_some()));
            let iteration = flattest.map_or(0, |f| f.iteration) as f64;
            let (rows, numbers) = (search.trace().len() as f64, more.len() as f64);
            heads.push([state, status, rows, numbers, has, iteration]);
            theta.extend_from_slice(at);
            carried.extend_from_slice(more);
            traces.extend(search.trace().iter().map(to_row));
            if let Some(flattest) = flattest {
                flat.extend_from_slice(&flattest.theta);
                reports.push(to_numbers(&flattest.report));
            }
        }
        TensorFile::default()
            .with("searches", Tensor::rows(heads))
            .with("theta", Tensor::f64(&[theta.len()], theta))
            .with("carried", Tensor::f64(&[carried.len()], carried))
            .with("trace", Tensor::rows(traces))
            .with("flattest.theta", Tensor::f64(&[flat.len()], flat))
            .with("flattest.report", Tensor::rows(reports))
            .save(&folder.join(STATE))
    }

    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(STATE)?)?;
        let heads: Vec<Head> = file.take_rows("searches")?;
        let ([_], theta) = file.take_f64("theta")?;
        let ([_], carried) = file.take_f64("carried")?;
        let trace: Vec<Row> = file.take_rows("trace")?;
        let ([_], flat) = file.take_f64("flattest.theta")?;
        let reports: Vec<[f64; REPORT]> = file.take_rows("flattest.report")?;
        let begun = heads.iter().filter(|head| head[0] > 0.0).count();
        let dim = theta.len() / begun.max(1);
        let mut parts = Parts {
            theta: &theta,
            carried: &carried,
            trace: &trace,
            flat: &flat,
            reports: &reports,
        };
        let searches = heads.iter().map(|head| parts.next(head, dim));
        Ok(Self(searches.collect::<anyhow::Result<_>>()?))
    }
}

/// What is left to be read.
struct Parts<'a> {
    theta: &'a [f64],
    carried: &'a [f64],
    trace: &'a [Row],
    flat: &'a [f64],
    reports: &'a [[f64; REPORT]],
}

impl Parts<'_> {
    fn next(
        &mut self,
        &[state, status, rows, numbers, has, iteration]: &Head,
        dim: usize,
    ) -> anyhow::Result<Search> {
        if state == 0.0 {
            return Ok(Search::Waiting);
        }
        let theta = cut(&mut self.theta, dim)?.to_vec();
        let carried = cut(&mut self.carried, numbers as usize)?.to_vec();
        let rows = cut(&mut self.trace, rows as usize)?.iter().enumerate();
        let trace: Vec<TraceRow> = rows.map(from_row).collect::<anyhow::Result<_>>()?;
        let mut flattest = None;
        if has > 0.0 {
            let (theta, report) = (cut(&mut self.flat, dim)?, cut(&mut self.reports, 1)?[0]);
            let (iteration, report) = (iteration as usize, from_numbers(&report)?);
            flattest = Some(FlattestPoint { iteration, theta: theta.to_vec(), report });
        }
        if state == 1.0 {
            return Ok(Search::UnderWay(Reached { theta, carried, trace, flattest }));
        }
        let status = *Status::ALL.get(status as usize).context("a status is unknown")?;
        let iterations = trace.len().saturating_sub(1);
        Ok(Search::Ended(Outcome { theta, status, iterations, trace, flattest }))
    }
}

/// Cuts the first numbers off.
pub(super) fn cut<'a, T>(from: &mut &'a [T], count: usize) -> anyhow::Result<&'a [T]> {
    let (first, rest) = from.split_at_checked(count).context("a tensor is too short")?;
    *from = rest;
    Ok(first)
}

fn to_row(row: &TraceRow) -> Row {
    let flag = |yes: bool| f64::from(u8::from(yes));
    let maybe = |value: Option<f64>| [flag(value.is_some()), value.unwrap_or(0.0)];
    let stepped = flag(row.step.is_some());
    let Step { size, trials, pure, damping, solve } = row.step.unwrap_or_default();
    let residuals = row.frobenius.and_then(|frobenius| frobenius.residuals);
    let [damped, damping] = maybe(damping);
    let [normed, norm] = maybe(row.frobenius.map(|frobenius| frobenius.norm));
    let [solved_by_norm, relres] = maybe(residuals.map(|residuals| residuals.relres));
    let relares = residuals.map_or(0.0, |residuals| residuals.relares);
    let (trials, pure, solved) = (trials as f64, flag(pure), flag(solve.is_some()));
    let mut numbers = [0.0; BEFORE_REPORT + REPORT];
    numbers[..BEFORE_REPORT].copy_from_slice(&[
        row.loss,
        row.squared_gradient_norm,
        stepped,
        size,
        trials,
        pure,
        damped,
        damping,
        normed,
        norm,
        solved_by_norm,
        relres,
        relares,
        solved,
    ]);
    if let Some(report) = solve {
        numbers[BEFORE_REPORT..].copy_from_slice(&to_numbers(&report));
    }
    numbers
}

fn from_row((iteration, row): (usize, &Row)) -> anyhow::Result<TraceRow> {
    let [loss, squared_gradient_norm, stepped, size, trials, pure, rest @ ..] = *row;
    let [damped, damping, normed, norm, solved_by_norm, relres, relares, solved, report @ ..] =
        rest;
    let solve = (solved > 0.0).then(|| from_numbers(&report)).transpose()?;
    let damping = (damped > 0.0).then_some(damping);
    let step = Step { size, trials: trials as usize, pure: pure > 0.0, damping, solve };
    let residuals = (solved_by_norm > 0.0).then_some(Residuals { relres, relares });
    Ok(TraceRow {
        iteration,
        loss,
        squared_gradient_norm,
        frobenius: (normed > 0.0).then_some(Frobenius { norm, residuals }),
        step: (stepped > 0.0).then_some(step),
    })
}

pub(super) fn to_numbers(report: &Report) -> [f64; REPORT] {
    let Report { flag, iterations, relres, relares, anorm, acond, xnorm, axnorm } = *report;
    [flag.code() as f64, iterations as f64, relres, relares, anorm, acond, xnorm, axnorm]
}

pub(super) fn from_numbers(numbers: &[f64; REPORT]) -> anyhow::Result<Report> {
    let [flag, iterations, relres, relares, anorm, acond, xnorm, axnorm] = *numbers;
    let flag = Flag::from_code(flag as i64).context("a flag is unknown")?;
    let iterations = iterations as usize;
    Ok(Report { flag, iterations, relres, relares, anorm, acond, xnorm, axnorm })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files;

    fn report(flag: Flag) -> Report {
        let (relres, relares, anorm) = (0.1, 1e-300, 3.5);
        let (acond, xnorm, axnorm) = (f64::INFINITY, -0.0, 7.0);
        Report { flag, iterations: 12, relres, relares, anorm, acond, xnorm, axnorm }
    }

    #[test]
    fn searches_are_read_as_they_were_written() {
        let row = |iteration: usize, flag: Option<Flag>| {
            let solve = flag.map(report);
            let damping = flag.map(|flag| flag.code() as f64 / 7.0);
            let pure = iteration == 1;
            let step = Step { size: 0.25, trials: iteration, pure, damping, solve };
            let residuals = damping.map(|relres| Residuals { relres, relares: 1e-9 });
            TraceRow {
                iteration,
                loss: 1.0 / 3.0,
                squared_gradient_norm: f64::INFINITY,
                frobenius: (iteration != 1).then_some(Frobenius { norm: 0.0, residuals }),
                step: (iteration != 2).then_some(step),
            }
        };
        let mut searches = vec![Search::Waiting];
        for (i, status) in Status::ALL.into_iter().enumerate() {
            let trace = vec![row(0, Some(Flag::Zero)), row(1, None), row(2, None)];
            let (theta, report) = (vec![i as f64, 0.5], report(Flag::LeastSquares));
            let flat = FlattestPoint { iteration: 1, theta: vec![0.1, -0.0], report };
            let flattest = (i % 2 == 0).then_some(flat);
            searches.push(Search::Ended(Outcome { theta, status, iterations: 2, trace, flattest }));
        }
        for (i, flag) in Flag::ALL.into_iter().enumerate() {
            let trace = vec![row(0, Some(flag))];
            let (theta, carried) = (vec![i as f64, 0.5], vec![0.1; i]);
            searches.push(Search::UnderWay(Reached { theta, carried, trace, flattest: None }));
        }
        let searches = Searches(searches);
        let folder = tempfile::tempdir().unwrap();
        searches.save(folder.path()).unwrap();
        let path = folder.path().join(STATE);
        let files = Files([(STATE.to_owned(), path.clone())].into());
        assert_eq!(Searches::load(&files).unwrap(), searches);
        let waiting = Searches(vec![Search::Waiting; 3]);
        waiting.save(folder.path()).unwrap();
        assert_eq!(Searches::load(&files).unwrap(), waiting);
        assert!(Board::new(4, Some(waiting)).is_err());
        files::remove(&path).unwrap();
        assert!(Searches::load(&files).is_err());
    }
}
