//! The best of several candidates for the next point of a search.

use crate::landscape::{
    objective::{Objective, Point},
    search::Status,
    vector,
};

/// The candidates theta + step p for several directions p, of which the one of least merit is kept.
pub(super) struct Scan<'o, 'l> {
    objective: &'o dyn Objective,
    theta: &'l [f64],
    step: f64,
    /// What is to be small.
    merit: fn(&dyn Point) -> f64,
    best: Option<Candidate<'o>>,
    trials: usize,
    /// Whether a direction was not zero.
    directed: bool,
}

/// A candidate, evaluated.
pub(super) struct Candidate<'o> {
    /// Which of the directions leads there.
    pub(super) index: usize,
    pub(super) theta: Vec<f64>,
    pub(super) point: Box<dyn Point + 'o>,
}

impl<'o, 'l> Scan<'o, 'l> {
    pub(super) fn new(
        objective: &'o dyn Objective,
        theta: &'l [f64],
        step: f64,
        merit: fn(&dyn Point) -> f64,
    ) -> Self {
        Self { objective, theta, step, merit, best: None, trials: 0, directed: false }
    }

    /// Evaluates the candidate of a direction, unless it is the point itself.
    pub(super) fn attempt(&mut self, index: usize, direction: &[f64]) {
        self.directed |= direction.iter().any(|p| *p != 0.0);
        let theta = vector::moved(self.theta, self.step, direction);
        if theta == self.theta {
            return;
        }
        self.trials += 1;
        let point = self.objective.evaluate(&theta);
        let merit = (self.merit)(&*point);
        let best = self.best.as_ref().map(|best| (self.merit)(&*best.point));
        // A candidate beyond the finite numbers is never taken.
        if merit.is_finite() && best.is_none_or(|best| merit < best) {
            self.best = Some(Candidate { index, theta, point });
        }
    }

    /// Returns how many candidates were evaluated.
    pub(super) fn trials(&self) -> usize {
        self.trials
    }

    /// Returns which direction leads to the best candidate, be it better than the point or not.
    pub(super) fn best(&self) -> Option<usize> {
        self.best.as_ref().map(|best| best.index)
    }

    /// Returns the best candidate if it is better than the point that the search is at.
    pub(super) fn end(self, here: &dyn Point) -> Result<Candidate<'o>, Status> {
        match self.best {
            Some(best) if (self.merit)(&*best.point) < (self.merit)(here) => Ok(best),
            None if !self.directed => Err(Status::ZeroStep),
            None if self.trials == 0 => Err(Status::LineSearchFloor),
            _ => Err(Status::NoDecrease),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landscape::objective::Quartic;

    fn scan(theta: [f64; 2], directions: &[[f64; 2]]) -> (usize, Result<(usize, f64), Status>) {
        let mut scan = Scan::new(&Quartic, &theta, 1.0, |point| point.squared_gradient_norm());
        for (index, direction) in directions.iter().enumerate() {
            scan.attempt(index, direction);
        }
        let (trials, here) = (scan.trials(), Quartic.evaluate(&theta));
        let end = scan.end(&*here);
        (trials, end.map(|best| (best.index, best.point.squared_gradient_norm())))
    }

    #[test]
    fn the_best_is_taken_if_it_is_better() {
        let found = scan([-2.0, 0.0], &[[-0.5, 0.0], [-1.0, 0.0], [1e200, 0.0], [-0.9, 0.0]]);
        assert_eq!(found, (4, Ok((1, 0.0))));
        // Of two that are alike, the first.
        assert_eq!(scan([-2.0, 0.0], &[[-1.0, 0.0], [-1.0, 0.0]]).1, Ok((0, 0.0)));
    }

    #[test]
    fn what_hinders_it_is_told() {
        let check = |theta, directions: &[[f64; 2]], trials: usize, status: Status| {
            assert_eq!(scan(theta, directions), (trials, Err(status)));
        };
        check([-3.0, 0.0], &[[0.1, 0.0], [0.0, 0.1]], 2, Status::NoDecrease);
        check([-2.0, 0.0], &[[1e200, 0.0]], 1, Status::NoDecrease);
        check([-2.0, 0.0], &[[0.0, 0.0]], 0, Status::ZeroStep);
        check([-2.0, 0.0], &[[1e-30, 0.0]], 0, Status::LineSearchFloor);
    }
}
