//! Searches of the linear autoencoder from our own seeds, held to the published rate and to the closed form.

use rayon::prelude::*;

use crate::{
    landscape::{
        data::{Data, Targets, centered_gaussian},
        descent::{DescentOptions, Progress, Watch, descend},
        hessian,
        linear_autoencoder::LinearAutoencoder,
        network::{Architecture, Network},
        newton_mr::{self, NewtonMrOptions},
        objective::Objective,
        search::Control,
        starts::{Selection, StartOptions, select},
    },
    rng::Streams,
};

/// Frye's thesis (2020), ch. 3: 80 of 100 searches by Newton-MR end with a squared gradient norm below 1e-10, each with
/// the index of an analytic critical point.
#[test]
fn newton_mr_succeeds_as_often_as_published_and_at_analytic_points() {
    let streams = Streams::new(2312, "test");
    let variances: Vec<f64> = (1..=16).map(f64::from).collect();
    let inputs = centered_gaussian(10_000, &variances, &streams);
    let analytic = LinearAutoencoder::from_inputs(&inputs, 16, 4).unwrap();
    let data = Data { samples: 10_000, inputs, targets: Targets::Inputs };
    let network = Network::new(Architecture::default(), data).unwrap();
    // Weights of variance 1 / 64, and 10,000 steps at a rate of 0.01.
    let theta: Vec<f64> = network.initialize(&streams).iter().map(|w| w * 2f64.sqrt()).collect();
    let descent = DescentOptions::default();
    let start = Progress::start(&theta, descent.rule);
    let trajectory = descend(&network, start, &descent, &Watch::default()).unwrap();
    let (count, selection) = (40, Selection::UniformHeight);
    let options = StartOptions { count, selection, noise_variance: 0.0 };
    let starts = select(&trajectory, &options, &streams).unwrap();
    let options = NewtonMrOptions::default();
    let critical: Vec<bool> = starts
        .par_iter()
        .map(|start| {
            let outcome =
                newton_mr::search(&network, &start.theta, &options, &Control::default()).unwrap();
            let end = network.evaluate(&outcome.theta);
            if end.squared_gradient_norm() >= 1e-10 {
                return false;
            }
            let nearest = analytic.match_components(&outcome.theta, 0.9).unwrap();
            assert!((end.loss() - nearest.point.loss).abs() < 1e-8, "{nearest:?}");
            let spectrum = hessian::spectrum(&*end).unwrap();
            let negative = hessian::negative_count(&spectrum, 1e-5);
            assert_eq!(negative, nearest.point.negative, "{nearest:?}");
            true
        })
        .collect();
    let rate = critical.iter().filter(|critical| **critical).count() as f64 / count as f64;
    // Both rates are of draws: 100 published ones, and ours.
    let deviation = (0.8f64 * 0.2 * (1.0 / 100.0 + 1.0 / count as f64)).sqrt();
    assert!((rate - 0.8).abs() < 4.0 * deviation, "{rate}");
}
