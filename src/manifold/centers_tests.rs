//! The removal of correlated directions against closed forms.

use faer::Mat;

use super::centers::*;
use super::watch::Watch;
use crate::rng::Streams;

fn find(gram: &Mat<f64>, correction: CenterCorrection) -> Result<CenterGeometry, CenterError> {
    let streams = Streams::new(1, "test");
    correlated_directions(gram.as_ref(), &correction, &streams, &Watch::none())
}

fn low_rank(rank: RankChoice) -> CenterCorrection {
    CenterCorrection::LowRank(LowRank { rank, ..LowRank::default() })
}

/// Orthonormal centers about their mean: a regular simplex.
fn simplex(count: usize) -> Mat<f64> {
    Mat::from_fn(count, count, |i, j| f64::from(i == j) - 1.0 / count as f64)
}

/// Orthonormal centers displaced along `common` more directions, about their mean.
fn displaced(count: usize, common: usize) -> Mat<f64> {
    let mut stream = Streams::new(2, "test").stream("centers");
    let centers = Mat::from_fn(count, count + common, |i, j| {
        if j < count { f64::from(i == j) } else { 5.0 * stream.normal() }
    });
    let mean = Mat::from_fn(count, count, |i, j| f64::from(i == j) - 1.0 / count as f64);
    let centers = mean * centers;
    &centers * centers.transpose()
}

#[test]
fn a_simplex_has_equal_correlations_and_variances() {
    let found = find(&simplex(31), CenterCorrection::None).unwrap();
    assert!((found.correlation - 1.0 / 30.0).abs() < 1e-14);
    // 28 of 30 equal variances hold less than 95 %, and ten more are tried.
    assert_eq!((found.max_k, found.k, found.trials.len()), (38, 0, 1));
    assert!((found.trials[0].costs[0] - 0.5 * (31.0 + 31.0 / 30.0)).abs() < 1e-12);
}

#[test]
fn common_directions_are_found_and_removed() {
    let gram = displaced(30, 3);
    let found = find(&gram, CenterCorrection::default()).unwrap();
    assert_eq!(found.k, 3);
    assert!(found.correlation > 0.4 && found.trials[3].residual < 0.1, "{found:?}");
    // The removed directions are orthonormal and hold the displacements: what is left is nearly a simplex.
    let deviation = found.removed.transpose() * &gram * &found.removed - Mat::<f64>::identity(3, 3);
    assert!(deviation.norm_max() < 1e-10);
    let shared = found.removed.transpose() * &gram;
    let left = &gram - shared.transpose() * &shared;
    for i in 0..30 {
        assert!(left[(i, i)] > 0.6 && left[(i, i)] < 1.1, "{}", left[(i, i)]);
    }
}

#[test]
fn few_manifolds_keep_a_dimension() {
    for count in 2..=7 {
        let found = find(&displaced(count, 2), CenterCorrection::default()).unwrap();
        assert_eq!(found.trials.len(), count - 1);
        assert!(found.k <= count - 2 && (found.k >= 1 || count == 2));
        assert!(found.trials.iter().all(|trial| trial.residual.is_finite()));
    }
}

#[test]
fn the_number_of_directions_can_be_set() {
    let gram = displaced(12, 2);
    for k in [0, 4, 10] {
        let found = find(&gram, low_rank(RankChoice::Fixed(k))).unwrap();
        assert_eq!((found.k, found.removed.ncols(), found.chosen().k), (k, k, k));
    }
    // Twelve centers about their mean have eleven dimensions, one of which is left.
    let refused = |rank| find(&gram, low_rank(rank)).unwrap_err();
    let error = CenterError::TooManyDirections { k: 11, cap: 10 };
    assert_eq!(refused(RankChoice::Fixed(11)), error);
    assert_eq!(refused(RankChoice::Automatic { k_min: 11 }), error);
    // Uncorrelated centers are best left alone, which the published rule does not allow.
    let gram = simplex(12);
    assert_eq!(find(&gram, low_rank(RankChoice::Automatic { k_min: 1 })).unwrap().k, 1);
    assert_eq!(find(&gram, low_rank(RankChoice::Automatic { k_min: 0 })).unwrap().k, 0);
}

#[test]
fn the_lowest_cost_can_be_selected() {
    // Two steps a start leave every start somewhere else.
    let trial = |selection| {
        let rank = RankChoice::Fixed(3);
        let options = LowRank { selection, rank, max_iterations: 2, ..LowRank::default() };
        let found = find(&displaced(20, 2), CenterCorrection::LowRank(options)).unwrap();
        found.chosen().clone()
    };
    let (by_cost, by_stability) = (trial(Selection::Cost), trial(Selection::Stability));
    let lowest = by_cost.costs.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!((by_cost.cost, by_cost.costs.len()), (lowest, 10));
    assert_eq!(by_cost.costs, by_stability.costs);
    assert!(by_stability.cost > lowest && by_stability.stability > by_cost.stability);
}

#[test]
fn three_rises_end_the_search() {
    let removal = |k: usize, residual| Removal {
        trial: RankTrial { k, residual, stability: 1.0, cost: 0.0, costs: vec![] },
        basis: Mat::zeros(0, 0),
    };
    let ended = |residuals: &[f64]| {
        let removals: Vec<Removal> =
            residuals.iter().enumerate().map(|(k, &residual)| removal(k, residual)).collect();
        (rose_three_times(&removals), least_correlated(&removals, 1))
    };
    assert_eq!(ended(&[0.1, 0.5, 0.3, 0.4, 0.5]), (false, 2));
    assert_eq!(ended(&[0.1, 0.5, 0.3, 0.4, 0.5, 0.6]), (true, 2));
    assert_eq!(ended(&[0.1, 0.3, 0.3, 0.4, 0.5, 0.45]), (false, 1));
}

#[test]
fn centers_without_directions_are_an_error() {
    let none = Mat::zeros(3, 3);
    assert_eq!(find(&none, CenterCorrection::None).unwrap_err(), CenterError::Coincide);
    let options = LowRank { reps: 0, ..LowRank::default() };
    let failure = find(&simplex(9), CenterCorrection::LowRank(options)).unwrap_err();
    assert_eq!(failure, CenterError::NoStart { k: 1 });
    let watch = Watch::new(&|_| {}, &|| true);
    let streams = Streams::new(1, "test");
    let correction = CenterCorrection::default();
    let failure = correlated_directions(simplex(9).as_ref(), &correction, &streams, &watch);
    assert_eq!(failure.unwrap_err(), CenterError::Cancelled);
}

#[test]
fn coinciding_and_central_centers_do_no_harm() {
    // Centers 1 and -1 along three axes, one copy, and one at the mean.
    let axis = |i: usize| (i / 2, if i.is_multiple_of(2) { 1.0 } else { -1.0 });
    let gram = Mat::from_fn(8, 8, |i, j| match (i, j) {
        (7, _) | (_, 7) => 0.0,
        (i, j) => {
            let ((a, x), (b, y)) = (axis(i % 6), axis(j % 6));
            f64::from(a == b) * x * y
        }
    });
    let found = find(&gram, CenterCorrection::default()).unwrap();
    assert!(found.trials.iter().all(|trial| trial.residual.is_finite()), "{found:?}");
}

#[test]
fn warm_starts_reach_no_higher_costs() {
    let gram = displaced(20, 4);
    let cost = |starts| {
        let rank = RankChoice::Fixed(4);
        let low = LowRank { rank, starts, selection: Selection::Cost, ..LowRank::default() };
        let found = find(&gram, CenterCorrection::LowRank(low)).unwrap();
        assert_eq!(found.k, 4);
        (found.chosen().cost, found.trials.len())
    };
    let (random, warm) = (cost(Starts::Random), cost(Starts::Warm));
    // From the directions of one less each time: all numbers up to four are tried, and none.
    assert_eq!((random.1, warm.1), (2, 5));
    assert!(warm.0 <= random.0 * (1.0 + 1e-3), "{warm:?} {random:?}");
}
