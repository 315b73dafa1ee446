//! `manifold.capacity` on layers whose geometry is known.

use super::manifold_capacity::ManifoldCapacity;
use crate::artifacts::activations::Activations;
use crate::artifacts::activations::Layer;
use crate::artifacts::table::Table;
use crate::rng::Streams;
use crate::stages::shared::bench::Bench;

/// Manifolds of one point each, in general position: capacity 2 at margin 0. A second layer is the same everywhere.
fn bench() -> Bench {
    let (count, features) = (30, 200);
    let mut stream = Streams::new(1, "test").stream("points");
    let values: Vec<f32> = (0..count * features).map(|_| stream.normal() as f32).collect();
    let dead = Layer { name: "dead".into(), features: 3, values: vec![1.0; count * 3] };
    let layers = vec![Layer { name: "input".into(), features, values }, dead];
    let labels = (0..count as u32).map(|i| 100 - i).collect();
    Bench::new().put("activations", &Activations { count, labels, layers })
}

#[test]
fn points_have_capacity_two() {
    let text = "activations = '@activations'\ndraws = 400\ncenter_correction = { none = {} }";
    let results = bench().run::<ManifoldCapacity>(text).unwrap();
    let table = results.main::<Table>().frame().unwrap();
    let number = |name: &str| table.column(name).unwrap().f64().unwrap().get(0).unwrap();
    let (capacity, error) = (number("capacity"), number("capacity_se"));
    assert!((capacity - 2.0).abs() < 5.0 * error && error < 0.1, "{capacity} {error}");
    assert_eq!(results.metrics["capacity"], capacity);
    assert_eq!(results.output::<Table>("manifolds").frame().unwrap().height(), 30);
    // The layer whose manifolds coincide has a reason instead of numbers.
    assert_eq!(table.column("capacity").unwrap().f64().unwrap().get(1), None);
    let failed = table.column("failed").unwrap().str().unwrap();
    assert_eq!(failed.get(0), None);
    assert!(failed.get(1).unwrap().contains("centers coincide"), "{failed:?}");
    // One layer alone has the numbers that it has among others.
    let alone = bench().run::<ManifoldCapacity>(&format!("{text}\nlayers = ['input']")).unwrap();
    let frame = alone.main::<Table>().frame().unwrap();
    assert_eq!(frame, table.head(Some(1)));
    let error = bench().run::<ManifoldCapacity>(&format!("{text}\nlayers = ['stem']"));
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("no layer `stem`"), "{error}");
}

#[test]
fn an_analysis_that_is_broken_off_goes_on_to_the_same_bytes() {
    let stream = |purpose: &str| Streams::new(1, "test").stream(purpose);
    let layer = |name: &str, features: usize| {
        let mut stream = stream(name);
        let values = (0..60 * features).map(|_| stream.normal() as f32).collect();
        Layer { name: name.into(), features, values }
    };
    let dead = Layer { name: "dead".into(), features: 3, values: vec![1.0; 60 * 3] };
    let layers = vec![layer("a", 20), dead, layer("b", 70), layer("c", 40)];
    let labels = (0..60).map(|i| i % 6).collect();
    let bench = Bench::new().put("activations", &Activations { count: 60, labels, layers });
    for pooled in ["both", "participation_ratio", "none"] {
        let text =
            format!("activations = '@activations'\ndraws = 20\npooled_dimensions = '{pooled}'");
        for (at, attempts) in [(2, 4), (3, 2), (5, 1)] {
            let found = bench.check_resumption::<ManifoldCapacity>(&text, at);
            assert_eq!(found, attempts, "{pooled} {at}");
        }
    }
}

#[test]
fn a_layer_without_geometry_alone_is_a_failure() {
    let layers = vec![Layer { name: "dead".into(), features: 1, values: vec![1.0; 4] }];
    let activations = Activations { count: 4, labels: vec![0, 0, 1, 1], layers };
    let bench = Bench::new().put("activations", &activations);
    let error = bench.run::<ManifoldCapacity>("activations = '@activations'").unwrap_err();
    assert!(error.to_string().contains("of `dead`: the manifolds' centers coincide"));
}

#[test]
fn the_number_of_directions_can_be_pinned() {
    let run = |low_rank: &str| {
        let correction = format!("center_correction = {{ low_rank = {low_rank} }}");
        let text = format!("activations = '@activations'\ndraws = 20\n{correction}");
        bench().run::<ManifoldCapacity>(&text)
    };
    for k in [0, 3] {
        let results = run(&format!("{{ k = {k}, reps = 2 }}")).unwrap();
        assert_eq!(results.metrics["removed"], f64::from(k));
        let directions = results.output::<Table>("directions").frame().unwrap();
        let column = |name: &str| directions.column(name).unwrap().clone();
        let tried: Vec<i64> = column("k").i64().unwrap().into_no_null_iter().collect();
        assert_eq!(tried, if k == 0 { vec![0] } else { vec![0, 3] });
        assert!(column("chosen").bool().unwrap().iter().last().unwrap().unwrap());
        let number = |name: &str| column(name).f64().unwrap().iter().last().unwrap().unwrap();
        assert!(number("min_cost") <= number("max_cost"));
    }
    // Thirty centers about their mean have 29 dimensions, one of which is left.
    let error = run("{ k = 29 }").unwrap_err().to_string();
    assert!(error.contains("29 directions are to be removed"), "{error}");
    let error = run("{ reps = 0, max_iterations = 0 }").unwrap_err().to_string();
    assert!(error.contains("low_rank.reps") && error.contains("low_rank.max_iterations"));
}

#[test]
fn pooled_dimensions_can_be_left_out() {
    let ratio = |choice: &str| {
        let text = "activations = '@activations'\ndraws = 20\ncenter_correction = { none = {} }";
        let text = format!("{text}\npooled_dimensions = '{choice}'");
        let table = bench().run::<ManifoldCapacity>(&text).unwrap().main::<Table>();
        let frame = table.frame().unwrap();
        let number = |name: &str| frame.column(name).unwrap().f64().unwrap().get(0);
        (number("participation_ratio"), number("explained_variance_dimension"))
    };
    let (both, alone) = (ratio("both"), ratio("participation_ratio"));
    assert!((both.0.unwrap() / alone.0.unwrap() - 1.0).abs() < 1e-12, "{both:?} {alone:?}");
    assert!(both.1.unwrap() > 0.0 && alone.1.is_none());
    assert_eq!(ratio("none"), (None, None));
}

#[test]
fn unlabeled_stimuli_are_refused() {
    let layers = vec![Layer { name: "input".into(), features: 1, values: vec![0.0; 2] }];
    let bench = Bench::new().put("activations", &Activations { count: 2, labels: vec![], layers });
    let error = bench.run::<ManifoldCapacity>("activations = '@activations'").unwrap_err();
    assert!(error.to_string().contains("no labels"));
}

/// Thirty clouds of six points in 400 features.
fn clouds() -> Bench {
    let (count, features) = (180, 400);
    let mut stream = Streams::new(2, "test").stream("clouds");
    let centers: Vec<f64> = (0..30 * features).map(|_| stream.normal()).collect();
    let value = |n: usize| centers[n / features % 30 * features + n % features];
    let values = (0..count * features).map(|n| (value(n) + 0.6 * stream.normal()) as f32).collect();
    let layers = vec![Layer { name: "clouds".into(), features, values }];
    let labels = (0..count as u32).map(|i| i % 30).collect();
    Bench::new().put("activations", &Activations { count, labels, layers })
}

#[test]
fn drawing_ends_at_a_standard_error_and_says_where() {
    let text = "activations = '@activations'\ncenter_correction = { none = {} }";
    let run = |more: &str| {
        let results = clouds().run::<ManifoldCapacity>(&format!("{text}\n{more}")).unwrap();
        let frame = results.main::<Table>().frame().unwrap();
        let number = |name: &str| frame.column(name).ok()?.f64().unwrap().get(0);
        (number("capacity").unwrap(), number("capacity_se").unwrap(), number("draws"))
    };
    let known = run("draws = 5000");
    assert_eq!(known.2, None);
    let mut needed = Vec::new();
    for sampling in ["independent", "antithetic", "control_variate", "antithetic_control_variate"] {
        let found = run(&format!("draws = 5000\nstandard_error = 1e-2\nsampling = '{sampling}'"));
        assert!(found.1 <= 1e-2 * found.0, "{sampling}: {found:?}");
        let spread = f64::hypot(found.1, known.1);
        assert!((found.0 - known.0).abs() < 5.0 * spread, "{sampling}: {found:?} {known:?}");
        needed.push(found.2.unwrap());
    }
    assert!(needed[3] < needed[0] && needed[0] < 5000.0, "{needed:?}");
    let text = format!("{text}\nstandard_error = 0");
    let error = clouds().run::<ManifoldCapacity>(&text).unwrap_err().to_string();
    assert!(error.contains("standard_error"), "{error}");
}

#[test]
fn projections_leave_the_geometry_about_as_it_is() {
    let run = |more: &str| {
        let text = format!("activations = '@activations'\ndraws = 1000\n{more}");
        clouds().run::<ManifoldCapacity>(&text).unwrap().metrics.clone()
    };
    let plain = run("");
    let projected = run("projection = { dimensions = 300 }");
    assert_ne!(plain["capacity"], projected["capacity"]);
    // Lengths are known to a part of the root of 300 each, and means over thirty manifolds better.
    for name in ["capacity", "radius", "dimension"] {
        assert!(
            (projected[name] / plain[name] - 1.0).abs() < 0.1,
            "{name}: {projected:?} {plain:?}"
        );
    }
    assert_eq!(run("projection = {}"), plain, "400 features are fewer than 5000");
}

#[test]
fn warm_starts_are_another_path() {
    let run = |starts: &str| {
        let text = format!(
            "activations = '@activations'\ndraws = 20\n\
             center_correction = {{ low_rank = {{ k = 2, reps = 3, starts = '{starts}' }} }}"
        );
        let results = clouds().run::<ManifoldCapacity>(&text).unwrap();
        results.output::<Table>("directions").frame().unwrap().height()
    };
    assert_eq!((run("random"), run("warm")), (2, 3));
}
