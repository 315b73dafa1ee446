//! Correlated centers, and the few directions whose removal makes them least so.
//!
//! The mean-field theory assumes manifolds in random position. Centers of real representations share a few directions;
//! the analysis projects them out and measures what is left (Cohen, Chung, Lee & Sompolinsky 2020, methods). How many
//! directions, and which, is the outcome of a non-convex minimization from random starts, and the one part of the
//! analysis that is not determined by the data: the curve over the number of directions is part of the result.

use std::ops::RangeInclusive;

use faer::{Mat, MatRef};
use rayon::prelude::*;
use thiserror::Error;

use super::arithmetic::product;
use super::correlation::CenterCorrelation;
use super::grassmann::{self, Limits, Objective};
use super::spectrum::{self, Spectrum, SpectrumError};
use super::watch::Watch;
use crate::rng::Streams;

/// Directions with less than this fraction of the largest variance of the centers are rounding.
const RANK_TOLERANCE: f64 = 1e-12;
/// A center closer to the mean of the centers than this fraction of the farthest one has no direction.
const DISTANCE_TOLERANCE: f64 = 1e-10;
/// Number of directions tried beyond those that hold 95 % of the variance of the centers.
const EXTRA_DIRECTIONS: usize = 10;

/// What is done about correlated centers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CenterCorrection {
    /// Nothing: the manifolds are measured as they lie.
    None,
    /// The directions that correlate the centers most are projected out.
    LowRank(LowRank),
}

impl Default for CenterCorrection {
    fn default() -> Self {
        Self::LowRank(LowRank::default())
    }
}

/// How the common directions of the centers are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowRank {
    /// Random starts per number of directions, at least 1.
    pub reps: usize,
    /// How many directions are removed.
    pub rank: RankChoice,
    /// Where the minimizations begin.
    pub starts: Starts,
    /// Which of the starts is kept.
    pub selection: Selection,
    /// Minimizer steps a start.
    pub max_iterations: usize,
    /// A start is done once the norm of its gradient (a number per radian) falls to this fraction of the cost.
    pub gradient_tolerance: f64,
}

impl Default for LowRank {
    fn default() -> Self {
        Self {
            reps: 10,
            rank: RankChoice::Automatic { k_min: 1 },
            starts: Starts::Random,
            selection: Selection::Stability,
            max_iterations: 200,
            gradient_tolerance: 1e-4,
        }
    }
}

/// How many directions are removed; a dimension of the centers is always left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankChoice {
    /// As many as leave the smallest mean absolute cosine, and at least `k_min` (published: 1).
    Automatic {
        /// The smallest number considered. More than can be tried is an error, but for 1 where none can be removed:
        /// two manifolds have a single direction between them.
        k_min: usize,
    },
    /// This many, for results that are to be compared with each other; more than can be removed is an error.
    Fixed(usize),
}

/// Where minimizations begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Starts {
    /// At random directions, as the published program does.
    #[default]
    Random,
    /// At the directions that were kept for one less, and a random one: what the published program prepares and does not
    /// use. With it a fixed number is reached through all smaller ones.
    Warm,
}

/// Which of several minimizations is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// The one that leaves the most of the center it shortens most (published).
    #[default]
    Stability,
    /// The one of lowest cost.
    Cost,
}

/// The centers of a layer, and what was removed from them.
#[derive(Clone, Debug)]
pub struct CenterGeometry {
    /// Mean absolute cosine between centers, about their mean, before anything is removed.
    pub correlation: f64,
    /// The largest number of directions that the rule of 95 % of the variance asks to try.
    pub max_k: usize,
    /// The number of directions removed.
    pub k: usize,
    /// What each number of directions gave, in ascending order from none.
    pub trials: Vec<RankTrial>,
    /// `P × k`: the removed directions are these combinations of the centers about their mean, orthonormal.
    pub removed: Mat<f64>,
}

impl CenterGeometry {
    /// Returns the outcome of removing the number of directions that was chosen.
    pub fn chosen(&self) -> &RankTrial {
        let trial = self.trials.iter().find(|trial| trial.k == self.k);
        trial.expect("the number removed is one of those tried")
    }
}

/// The outcome of removing one number of directions.
#[derive(Clone, Debug, PartialEq)]
pub struct RankTrial {
    /// The number of directions.
    pub k: usize,
    /// Mean absolute cosine between what is left of the centers.
    pub residual: f64,
    /// The smallest fraction of a center's length that is left.
    pub stability: f64,
    /// Half the sum of squared cosines, which was minimized, at the start that was kept.
    pub cost: f64,
    /// The cost that each start reached; starts that failed are left out.
    pub costs: Vec<f64>,
}

/// Why the centers have no geometry.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum CenterError {
    /// Correlations need two centers that differ.
    #[error("the manifolds' centers coincide: no direction tells them apart")]
    Coincide,
    /// More directions are asked for than can be removed.
    #[error("{k} directions are to be removed from the centers, and at most {cap} can be")]
    TooManyDirections {
        /// The number asked for.
        k: usize,
        /// The most that leave a dimension and, where their number is chosen, are tried.
        cap: usize,
    },
    /// No start led anywhere: there were none, or each removed a center entirely.
    #[error("no random start led to {k} correlated directions that leave every center")]
    NoStart {
        /// The number of directions.
        k: usize,
    },
    /// The caller asked to stop.
    #[error("the analysis was cancelled")]
    Cancelled,
    /// The principal directions could not be found.
    #[error(transparent)]
    Spectrum(#[from] SpectrumError),
}

/// Measures the centers and finds the directions to remove.
///
/// `gram` is `P × P`: inner products of the centers about their unweighted mean. The number of directions stays below
/// the rank of the centers, which is at most P − 1.
pub fn correlated_directions(
    gram: MatRef<'_, f64>,
    correction: &CenterCorrection,
    streams: &Streams,
    watch: &Watch<'_>,
) -> Result<CenterGeometry, CenterError> {
    let centers = Centers::new(gram)?;
    let mut removals = vec![centers.nothing_removed()];
    let mut chosen = 0;
    if let CenterCorrection::LowRank(options) = correction {
        let (ranks, k_min) = centers.ranks(options)?;
        let most = *ranks.end();
        for k in ranks {
            let before = &removals[removals.len() - 1].basis;
            let removal = centers.best_removal(k, options, before, streams, watch)?;
            removals.push(removal);
            watch.report(k as f64 / most as f64);
            if k >= k_min && rose_three_times(&removals) {
                break;
            }
        }
        chosen = least_correlated(&removals, k_min);
    }
    let trials: Vec<RankTrial> = removals.iter().map(|removal| removal.trial.clone()).collect();
    Ok(CenterGeometry {
        correlation: trials[0].residual,
        max_k: centers.max_k(),
        k: trials[chosen].k,
        trials,
        removed: centers.combinations(&removals[chosen].basis),
    })
}

/// One number of directions, and the directions in the coordinates of [`Centers`].
pub(super) struct Removal {
    pub(super) trial: RankTrial,
    pub(super) basis: Mat<f64>,
}

/// Tells whether more than four directions were tried and the last three made matters worse (published stop rule).
pub(super) fn rose_three_times(removals: &[Removal]) -> bool {
    let residuals: Vec<f64> = removals.iter().rev().map(|r| r.trial.residual).take(4).collect();
    removals.last().is_some_and(|removal| removal.trial.k > 4)
        && residuals.len() == 4
        && residuals.windows(2).all(|pair| pair[0] > pair[1])
}

/// Returns the position of the first smallest residual among those with at least `k_min` directions.
pub(super) fn least_correlated(removals: &[Removal], k_min: usize) -> usize {
    let allowed = removals.iter().enumerate().filter(|(_, removal)| removal.trial.k >= k_min);
    let best = allowed.min_by(|a, b| a.1.trial.residual.total_cmp(&b.1.trial.residual));
    best.map_or(0, |(position, _)| position)
}

/// The centers in the coordinates of their principal directions.
struct Centers {
    spectrum: Spectrum,
    /// `Q × rank`: the `Q` centers that differ from their mean.
    coordinates: Mat<f64>,
    /// `Q × Q`.
    gram: Mat<f64>,
}

impl Centers {
    fn new(gram: MatRef<'_, f64>) -> Result<Self, CenterError> {
        let count = gram.nrows();
        let largest = (0..count).map(|i| gram[(i, i)]).fold(0.0, f64::max);
        let far = |i: &usize| gram[(*i, *i)] > largest * DISTANCE_TOLERANCE * DISTANCE_TOLERANCE;
        let present: Vec<usize> = (0..count).filter(far).collect();
        if present.len() < 2 {
            return Err(CenterError::Coincide);
        }
        let spectrum = spectrum::positive_part(gram, RANK_TOLERANCE * largest)?;
        let rank = spectrum.values.len();
        let coordinates = Mat::from_fn(present.len(), rank, |m, k| {
            spectrum.vectors[(present[m], k)] * spectrum.values[k].sqrt()
        });
        let gram =
            Mat::from_fn(present.len(), present.len(), |m, n| gram[(present[m], present[n])]);
        Ok(Self { spectrum, coordinates, gram })
    }

    fn rank(&self) -> usize {
        self.spectrum.values.len()
    }

    /// Returns the published number of directions to try: those that together hold less than 95 % of the variance, and
    /// ten more.
    fn max_k(&self) -> usize {
        let total: f64 = self.spectrum.values.iter().sum();
        let mut held = 0.0;
        let below = self.spectrum.values.iter().take_while(|&&value| {
            held += value;
            held < 0.95 * total
        });
        below.count().max(1) + EXTRA_DIRECTIONS
    }

    /// Returns the numbers of directions to try, and the smallest that may be chosen.
    fn ranks(&self, options: &LowRank) -> Result<(RangeInclusive<usize>, usize), CenterError> {
        let left = self.rank() - 1;
        let tried = self.max_k().min(left);
        match options.rank {
            RankChoice::Automatic { k_min } if k_min > tried.max(1) => {
                Err(CenterError::TooManyDirections { k: k_min, cap: tried })
            }
            RankChoice::Automatic { k_min } => Ok((1..=tried, k_min.min(tried))),
            RankChoice::Fixed(k) if k > left => {
                Err(CenterError::TooManyDirections { k, cap: left })
            }
            RankChoice::Fixed(k) => match options.starts {
                Starts::Random => Ok((k.max(1)..=k, k)),
                Starts::Warm => Ok((1..=k, k)),
            },
        }
    }

    fn nothing_removed(&self) -> Removal {
        let basis = Mat::zeros(self.rank(), 0);
        let mut correlation = self.correlation(0);
        let cost = correlation.evaluate(basis.as_ref());
        let residual = correlation.mean_absolute_cosine();
        let trial = RankTrial { k: 0, residual, stability: 1.0, cost, costs: vec![cost] };
        Removal { trial, basis }
    }

    /// Minimizes from all starts and keeps one; `before` are the directions kept for one less.
    fn best_removal(
        &self,
        k: usize,
        options: &LowRank,
        before: &Mat<f64>,
        streams: &Streams,
        watch: &Watch<'_>,
    ) -> Result<Removal, CenterError> {
        let stop = || watch.is_cancelled();
        let limits = Limits {
            max_iterations: options.max_iterations,
            gradient_tolerance: options.gradient_tolerance,
            stop: &stop,
        };
        let starts: Vec<Start> = (0..options.reps)
            .into_par_iter()
            .map(|rep| {
                let mut start = self.random_directions(k, rep, streams);
                if options.starts == Starts::Warm {
                    let kept = before.ncols().min(k);
                    start.as_mut().subcols_mut(0, kept).copy_from(before.as_ref().subcols(0, kept));
                }
                self.minimize(&start, &limits)
            })
            .collect();
        if watch.is_cancelled() {
            return Err(CenterError::Cancelled);
        }
        let costs = starts.iter().map(|start| start.cost).filter(|cost| cost.is_finite()).collect();
        let kept =
            starts.into_iter().filter(|start| start.cost.is_finite()).reduce(|best, start| {
                let better = match options.selection {
                    Selection::Stability => start.stability > best.stability,
                    Selection::Cost => start.cost < best.cost,
                };
                if better { start } else { best }
            });
        let start = kept.ok_or(CenterError::NoStart { k })?;
        let Start { cost, residual, stability, basis } = start;
        Ok(Removal { trial: RankTrial { k, residual, stability, cost, costs }, basis })
    }

    fn random_directions(&self, k: usize, rep: usize, streams: &Streams) -> Mat<f64> {
        let mut stream = streams.indexed("center directions", (k as u64) << 32 | rep as u64);
        let normals = Mat::from_fn(self.spectrum.vectors.nrows(), k, |_, _| stream.normal());
        // One normal a center, so that the start does not depend on the choice of principal directions.
        product(self.spectrum.vectors.transpose(), normals.as_ref())
    }

    fn minimize(&self, start: &Mat<f64>, limits: &Limits<'_>) -> Start {
        let mut correlation = self.correlation(start.ncols());
        let minimum = grassmann::minimize(&mut correlation, start, limits);
        let cost = correlation.evaluate(minimum.basis.as_ref());
        Start {
            cost,
            residual: correlation.mean_absolute_cosine(),
            stability: correlation.stability(),
            basis: minimum.basis,
        }
    }

    fn correlation(&self, k: usize) -> CenterCorrelation<'_> {
        CenterCorrelation::new(self.coordinates.as_ref(), self.gram.as_ref(), k)
    }

    /// Writes directions as combinations of the centers about their mean, `P × k`.
    fn combinations(&self, basis: &Mat<f64>) -> Mat<f64> {
        let Spectrum { values, vectors } = &self.spectrum;
        let whitened =
            Mat::from_fn(vectors.nrows(), values.len(), |i, k| vectors[(i, k)] / values[k].sqrt());
        product(whitened.as_ref(), basis.as_ref())
    }
}

/// Where one random start ended.
struct Start {
    cost: f64,
    residual: f64,
    stability: f64,
    basis: Mat<f64>,
}
