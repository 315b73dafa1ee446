//! `critical.classify` on a bench: classes, spectra, limits, cut-offs and checkpoints.

use super::critical_classify::CriticalClassify;
use crate::artifacts::points::Points;
use crate::artifacts::table::Table;
use crate::artifacts::tensor::{Tensor, TensorFile};
use crate::artifacts::tensors::Tensors;
use crate::landscape::linear_autoencoder::LinearAutoencoder;
use crate::stages::shared::bench::{Bench, Results};
use crate::stages::shared::problem::{Activation, NetworkProblem, Problem, Samples, Target};

/// A bench with points, and the indices of those that are critical.
fn bench() -> (Bench, Vec<f64>) {
    let (bench, _, indices) = with_points();
    (bench, indices)
}

/// The same with the points: the analytic critical points of a linear autoencoder, one point that is none, and one beyond
/// the finite numbers.
fn with_points() -> (Bench, Points, Vec<f64>) {
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
    (Bench::new().put("data", &data).put("points", &points), points, indices)
}

#[test]
fn analytic_points_are_critical_with_their_index() {
    let (bench, indices) = bench();
    let text = "points = '@points'\ndata = '@data'";
    let results = bench.run::<CriticalClassify>(text).unwrap();
    let count = indices.len();
    assert_eq!(results.metrics["critical"], count as f64);
    let table = results.main::<Table>().frame().unwrap();
    let found: Vec<f64> = table.column("index").unwrap().f64().unwrap().iter().flatten().collect();
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
    let (least, most) =
        (column(&large, "indices", "index_at_least"), column(&large, "indices", "index_at_most"));
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
fn points_measured_before_a_break_are_not_measured_again() {
    let (bench, mut points, _) = with_points();
    // Three batches, with a point that cannot be measured; whole spectra, and ends of them.
    points.thetas = (0..150 * 12).map(|i| f64::from(i * i % 29) / 20.0 - 0.7).collect();
    points.thetas[70 * 12..71 * 12].fill(1e200);
    let bench = bench.put("many", &points);
    let text = "points = '@many'\ndata = '@data'";
    for options in ["", "dense_up_to = 3\nlanczos = { steps = 4 }"] {
        let text = format!("{text}\n{options}");
        assert_eq!(bench.check_resumption::<CriticalClassify>(&text, 1), 4);
        assert_eq!(bench.check_resumption::<CriticalClassify>(&text, 1000), 1);
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
    let of = |cutoffs: &str| bench.run::<CriticalClassify>(&format!("{text}{cutoffs}")).unwrap();
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
