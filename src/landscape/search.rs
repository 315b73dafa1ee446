//! What all searches for critical points share: how they stop, what they record, how they are watched.

use std::fmt;

use crate::landscape::{
    dense,
    error::{LandscapeError, expect_finite, expect_length, expect_option},
    minres_qlp::{Flag, Report},
    objective::{Objective, Point},
    vector,
};

/// A gradient is rounding where its norm is at most this many units in the last place of ||H|| ||theta||.
const ROUNDING: f64 = 8.0 * f64::EPSILON;

/// When a search ends, and what it records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchOptions {
    /// The most steps.
    pub iterations: usize,
    /// The search has converged where the squared gradient norm is at most this; 0 asks for a gradient of zero.
    pub tolerance: f64,
    /// Whether the rows of the trace have [`Frobenius`] residuals: a Hessian product a parameter at each point.
    pub frobenius: bool,
}

impl Default for SearchOptions {
    /// 500 steps as in Frye et al. 2021, whose runs never stop early: success is judged afterwards.
    fn default() -> Self {
        Self { iterations: 500, tolerance: 0.0, frobenius: false }
    }
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The squared gradient norm came down to the tolerance.
    Converged,
    /// No step was found, at a gradient that is no larger than rounding makes it: as near a critical point as the
    /// parameters can come.
    ConvergedToRounding,
    /// The steps ran out.
    MaxIterations,
    /// No step size was accepted that still changes the parameters; a fixed one changes none.
    LineSearchFloor,
    /// The step is zero though the gradient is not, as at a gradient-flat point.
    ZeroStep,
    /// The solver kept no part of the step, whose norm would exceed its limit: the curvature along the gradient is
    /// next to zero, and no larger one shows.
    NormLimit,
    /// Loss, gradient or a Hessian product left the finite numbers, though the parameters are finite.
    NotFinite,
    /// The caller asked to stop.
    Cancelled,
    /// The Hessian is singular up to rounding, so that it has no inverse.
    Singular,
    /// No candidate for the next point is better than the point, by what the method goes by.
    NoDecrease,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Converged,
        Self::ConvergedToRounding,
        Self::MaxIterations,
        Self::LineSearchFloor,
        Self::ZeroStep,
        Self::NormLimit,
        Self::NotFinite,
        Self::Cancelled,
        Self::Singular,
        Self::NoDecrease,
    ];

    /// Tells success from failure where no step was found; `curvature` is an estimate of ||H|| from below.
    pub(super) fn at(self, theta: &[f64], point: &dyn Point, curvature: f64) -> Self {
        let without_step = !matches!(
            self,
            Self::Converged | Self::MaxIterations | Self::NotFinite | Self::Cancelled
        );
        let rounding = ROUNDING * curvature * vector::norm(theta);
        if without_step && point.squared_gradient_norm() <= rounding * rounding {
            Self::ConvergedToRounding
        } else {
            self
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Converged => "converged",
            Self::ConvergedToRounding => "converged_to_rounding",
            Self::MaxIterations => "max_iterations",
            Self::LineSearchFloor => "line_search_floor",
            Self::ZeroStep => "zero_step",
            Self::NormLimit => "norm_limit",
            Self::NotFinite => "not_finite",
            Self::Cancelled => "cancelled",
            Self::Singular => "singular",
            Self::NoDecrease => "no_decrease",
        })
    }
}

/// A point that a search visited, and the step it took from there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceRow {
    /// Counted from 0, the start.
    pub iteration: usize,
    pub loss: f64,
    pub squared_gradient_norm: f64,
    /// Only where the search was asked for it, and its numbers are finite.
    pub frobenius: Option<Frobenius>,
    /// `None` at the last point, unless a step was tried there in vain.
    pub step: Option<Step>,
}

/// How well a direction p solves Hp = -g, by the full Hessian H.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frobenius {
    /// ||H||_F.
    pub norm: f64,
    /// `None` at the last point, and of methods that do not solve for a direction.
    pub residuals: Option<Residuals>,
}

/// Residuals against the Frobenius norm, as printed in Frye et al. 2021; a [`Report`] has them against an estimate of
/// the spectral norm, as published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residuals {
    /// r = ||Hp + g|| / (||H||_F ||p|| + ||g||), in [0, 1].
    pub relres: f64,
    /// `r_H` = ||H(Hp + g)|| / (||H||_F ||Hp + g||), in [0, 1].
    pub relares: f64,
}

impl Frobenius {
    /// Measures at a point; costs a Hessian product a parameter, and two for a direction.
    fn of(point: &dyn Point, direction: Option<&[f64]>) -> Self {
        let norm = dense::frobenius_norm(point);
        let residuals = direction.map(|p| {
            let (mut residual, mut normal) = (vec![0.0; p.len()], vec![0.0; p.len()]);
            point.hessian_vector(p, &mut residual);
            vector::add_scaled(1.0, point.gradient(), &mut residual);
            point.hessian_vector(&residual, &mut normal);
            let of_residual = vector::norm(&residual);
            let quotient = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a / b };
            Residuals {
                relres: quotient(
                    of_residual,
                    norm * vector::norm(p) + vector::norm(point.gradient()),
                ),
                relares: quotient(vector::norm(&normal), norm * of_residual),
            }
        });
        Self { norm, residuals }
    }
}

/// A step of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// The factor of the direction; 0 where none was accepted.
    pub size: f64,
    /// How many points were tried.
    pub trials: usize,
    /// Whether the full step was accepted by its own test.
    pub pure: bool,
    /// What was added to the curvatures for the best of the directions; `None` where there was none to choose from.
    pub damping: Option<f64>,
    /// How the direction was found; `None` if no system was solved by MINRES-QLP.
    pub solve: Option<Report>,
}

/// What a search comes back with.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The last point.
    pub theta: Vec<f64>,
    pub status: Status,
    /// Steps taken.
    pub iterations: usize,
    /// One row a point, the start included.
    pub trace: Vec<TraceRow>,
    /// The point of the largest relative residual among the solves that ended as least squares.
    pub flattest: Option<FlattestPoint>,
}

/// The point of a run that comes nearest to being gradient-flat.
#[derive(Clone, Debug, PartialEq)]
pub struct FlattestPoint {
    pub iteration: usize,
    pub theta: Vec<f64>,
    pub report: Report,
}

/// How far a search has come: another of the same method goes on from there to the same bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// The point that is next.
    pub theta: Vec<f64>,
    /// What the method carries from step to step.
    pub carried: Vec<f64>,
    /// One row a point before it.
    pub trace: Vec<TraceRow>,
    pub flattest: Option<FlattestPoint>,
}

/// Where a search is.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    theta: &'a [f64],
    carried: &'a [f64],
    trace: &'a [TraceRow],
    flattest: Option<&'a FlattestPoint>,
}

impl Place<'_> {
    /// Copies what the search could go on from.
    pub fn reached(&self) -> Reached {
        Reached {
            theta: self.theta.to_vec(),
            carried: self.carried.to_vec(),
            trace: self.trace.to_vec(),
            flattest: self.flattest.cloned(),
        }
    }
}

/// How a caller watches a search, and where it goes on.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// How far the search has come already; it begins at its start where absent.
    pub from: Option<&'a Reached>,
    /// Asked before every step, with where the search is; `true` ends it.
    pub paused: &'a (dyn Fn(&Place) -> bool + Sync),
    /// Told of every row as it is recorded.
    pub observe: &'a (dyn Fn(&TraceRow) + Sync),
}

impl Default for Control<'_> {
    /// Never cancels and observes nothing.
    fn default() -> Self {
        Self { from: None, paused: &|_| false, observe: &|_| () }
    }
}

/// The record of a search in progress.
pub(super) struct Run<'a> {
    options: SearchOptions,
    control: &'a Control<'a>,
    trace: Vec<TraceRow>,
    flattest: Option<FlattestPoint>,
}

impl<'a> Run<'a> {
    /// Begins a search, checking its start and when it is to end.
    pub(super) fn new(
        objective: &dyn Objective,
        start: &[f64],
        options: SearchOptions,
        control: &'a Control<'a>,
    ) -> Result<Self, LandscapeError> {
        expect_length("the start", objective.dim(), start.len())?;
        expect_finite("the start", start)?;
        expect_option("tolerance", "at least 0", options.tolerance, |tolerance| tolerance >= 0.0)?;
        let mut run = Self { options, control, trace: Vec::new(), flattest: None };
        if let Some(Reached { theta, trace, flattest, .. }) = control.from {
            expect_length("the point to go on from", start.len(), theta.len())?;
            (run.trace, run.flattest) = (trace.clone(), flattest.clone());
        }
        Ok(run)
    }

    /// Where the search begins or goes on, and what its method carried there: `fresh` at the start.
    pub(super) fn begin(
        &self,
        start: &[f64],
        fresh: Vec<f64>,
    ) -> Result<(Vec<f64>, Vec<f64>), LandscapeError> {
        let Some(Reached { theta, carried, .. }) = self.control.from else {
            return Ok((start.to_vec(), fresh));
        };
        expect_length("what the method carries", fresh.len(), carried.len())?;
        Ok((theta.clone(), carried.clone()))
    }

    /// Tells whether the search ends at a point before another step is tried.
    pub(super) fn ends(&self, theta: &[f64], carried: &[f64], point: &dyn Point) -> Option<Status> {
        let Self { trace, flattest, .. } = self;
        let place = Place { theta, carried, trace, flattest: flattest.as_ref() };
        if !point.is_finite() {
            Some(Status::NotFinite)
        } else if point.squared_gradient_norm() <= self.options.tolerance {
            Some(Status::Converged)
        } else if self.trace.len() >= self.options.iterations {
            Some(Status::MaxIterations)
        } else if (self.control.paused)(&place) {
            Some(Status::Cancelled)
        } else {
            None
        }
    }

    /// Records a point and the step from there; `direction` is what was found in place of -H^-1 g, if anything was.
    pub(super) fn record(
        &mut self,
        theta: &[f64],
        point: &dyn Point,
        step: Option<Step>,
        direction: Option<&[f64]>,
    ) {
        let iteration = self.trace.len();
        let row = TraceRow {
            iteration,
            loss: point.loss(),
            squared_gradient_norm: point.squared_gradient_norm(),
            frobenius: self.frobenius(point, direction),
            step,
        };
        (self.control.observe)(&row);
        self.trace.push(row);
        if let Some(report) = step.and_then(|step| step.solve)
            && matches!(report.flag, Flag::LeastSquares | Flag::LeastSquaresToRounding)
            && self.flattest.as_ref().is_none_or(|best| report.relres > best.report.relres)
        {
            self.flattest = Some(FlattestPoint { iteration, theta: theta.to_vec(), report });
        }
    }

    fn frobenius(&self, point: &dyn Point, direction: Option<&[f64]>) -> Option<Frobenius> {
        if !self.options.frobenius || !point.is_finite() {
            return None;
        }
        let direction = direction.filter(|p| p.iter().all(|entry| entry.is_finite()));
        let frobenius = Frobenius::of(point, direction);
        frobenius.norm.is_finite().then_some(frobenius)
    }

    pub(super) fn finish(self, theta: Vec<f64>, status: Status) -> Outcome {
        let iterations = self.trace.len().saturating_sub(1);
        let Self { trace, flattest, .. } = self;
        Outcome { theta, status, iterations, trace, flattest }
    }
}

/// The next point of a search, evaluated, or why there is none.
pub(super) type Next<'o> = Result<(Vec<f64>, Box<dyn Point + 'o>), Status>;

/// Searches by a method that carries nothing from step to step beside the point.
///
/// `advance` is given a point, records it with the step that it takes from there, and returns the next.
pub(super) fn walk<'o>(
    objective: &'o dyn Objective,
    start: &[f64],
    options: SearchOptions,
    control: &Control,
    advance: impl Fn(&mut Run, &[f64], &dyn Point) -> Result<Next<'o>, LandscapeError>,
) -> Result<Outcome, LandscapeError> {
    let mut run = Run::new(objective, start, options, control)?;
    let (mut theta, _) = run.begin(start, Vec::new())?;
    let mut point = objective.evaluate(&theta);
    loop {
        if let Some(status) = run.ends(&theta, &[], &*point) {
            run.record(&theta, &*point, None, None);
            return Ok(run.finish(theta, status));
        }
        match advance(&mut run, &theta, &*point)? {
            Ok(next) => (theta, point) = next,
            Err(status) => return Ok(run.finish(theta, status)),
        }
    }
}

/// Breaks a search off before each of its steps; fails unless it goes on to what it comes to unbroken.
#[cfg(test)]
pub(super) fn check_resumption(search: &dyn Fn(&Control<'_>) -> Outcome) {
    use std::sync::Mutex;

    let whole = search(&Control::default());
    assert!(whole.iterations > 5, "{:?}", whole.status);
    for steps in 0..whole.iterations {
        let reached = Mutex::new(None);
        let paused = |place: &Place<'_>| {
            *reached.lock().unwrap() = Some(place.reached());
            place.trace.len() == steps
        };
        let broken = search(&Control { paused: &paused, ..Control::default() });
        assert_eq!(broken.status, Status::Cancelled);
        let reached = reached.into_inner().unwrap();
        let whole_again = search(&Control { from: reached.as_ref(), ..Control::default() });
        assert_eq!(whole_again, whole, "broken off after {steps} steps");
    }
}
