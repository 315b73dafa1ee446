use std::iter;

use rayon::ThreadPoolBuilder;

use super::gradients::collect;
use super::*;

fn variable(values: &[f64], dtype: DType) -> Var {
    let tensor = Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
    // Of two dimensions, so that LARS adapts to it.
    Var::from_tensor(&tensor.reshape((1, values.len())).unwrap()).unwrap()
}

fn values(var: &Var) -> Vec<f64> {
    var.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn of(algorithm: Algorithm, weight: &Var) -> Optimizer {
    let config = OptimizerConfig { algorithm, weight_decay: 0.1 };
    Optimizer::new(config, [("w".to_owned(), weight.clone())]).unwrap()
}

/// Takes steps on ½·a·w², whose gradient is a·w, at a rate that falls as 1/t.
fn descend(optimizer: &mut Optimizer, weight: &Var, curvature: &[f64], steps: usize) {
    for t in 1..=steps {
        let a = Tensor::new(curvature, &Device::Cpu).unwrap().to_dtype(weight.dtype()).unwrap();
        let half = (weight.sqr().unwrap().broadcast_mul(&a).unwrap() * 0.5).unwrap();
        let store = half.sum_all().unwrap().backward().unwrap();
        let gradients = collect(&store, optimizer.weights());
        optimizer.step(&gradients, 0.02 / t as f64, 0.5).unwrap();
    }
}

fn every() -> [Algorithm; 7] {
    let adam = Adam { beta1: 0.8, beta2: 0.95, epsilon: 1e-3 };
    let sgd = |momentum, nesterov| Algorithm::Sgd(Sgd { momentum, nesterov });
    let lars = Lars { momentum: 0.7, trust: 0.5 };
    [
        Algorithm::Adam(Adam::default()),
        Algorithm::Adam(adam),
        Algorithm::AdamW(adam),
        sgd(0.0, false),
        sgd(0.9, false),
        sgd(0.9, true),
        Algorithm::Lars(lars),
    ]
}

/// The formulas of the papers and of `PyTorch`'s manual for the steps of [`descend`], in f64, written down anew.
fn reference(algorithm: Algorithm, start: &[f64], curvature: &[f64], steps: usize) -> Vec<f64> {
    let decay = 0.1;
    let mut w = start.to_vec();
    let (mut first, mut second) = (vec![0.0; w.len()], vec![0.0; w.len()]);
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    for t in 1..=steps {
        let rate = 0.02 / t as f64;
        let gradient: Vec<f64> = w.iter().zip(curvature).map(|(w, a)| 0.5 * a * w).collect();
        let (length, pull) = (norm(&w), norm(&gradient) + decay * norm(&w));
        for (i, w) in w.iter_mut().enumerate() {
            let (g, m, v) = (gradient[i], &mut first[i], &mut second[i]);
            match algorithm {
                Algorithm::Sgd(Sgd { momentum, nesterov }) => {
                    let g = g + decay * *w;
                    *m = if t == 1 { g } else { momentum * *m + g };
                    *w -= rate * if nesterov { g + momentum * *m } else { *m };
                }
                Algorithm::Adam(adam) | Algorithm::AdamW(adam) => {
                    let mut g = g;
                    if matches!(algorithm, Algorithm::Adam(_)) {
                        g += decay * *w;
                    } else {
                        *w -= rate * decay * *w;
                    }
                    *m = adam.beta1 * *m + (1.0 - adam.beta1) * g;
                    *v = adam.beta2 * *v + (1.0 - adam.beta2) * g * g;
                    let unbiased = |mean: f64, beta: f64| mean / (1.0 - beta.powi(t as i32));
                    let root = unbiased(*v, adam.beta2).sqrt();
                    *w -= rate * unbiased(*m, adam.beta1) / (root + adam.epsilon);
                }
                Algorithm::Lars(Lars { momentum, trust }) => {
                    *m = momentum * *m + rate * trust * length / pull * (g + decay * *w);
                    *w -= *m;
                }
            }
        }
    }
    w
}

#[test]
fn steps_are_those_of_the_papers() {
    let (start, curvature) = ([1.0, -2.0, 1e-9, 0.0], [1.0, 3.0, 0.5, 1.0]);
    for algorithm in every() {
        for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-14)] {
            for steps in [1, 2, 30] {
                let weight = variable(&start, dtype);
                descend(&mut of(algorithm, &weight), &weight, &curvature, steps);
                let expected = reference(algorithm, &start, &curvature, steps);
                assert!((expected[0] - 1.0).abs() > 1e-3, "{algorithm:?}: nothing moves");
                for (found, expected) in iter::zip(values(&weight), expected) {
                    let error = (found - expected).abs();
                    assert!(
                        error < tolerance,
                        "{algorithm:?} {dtype:?} {steps}: {found} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn lars_leaves_biases_alone() {
    let lars = Lars { momentum: 0.0, trust: 0.5 };
    let bias = Var::new(&[2f32, -1.0], &Device::Cpu).unwrap();
    let mut optimizer = of(Algorithm::Lars(lars), &bias);
    let gradient = Tensor::new(&[1f32, 1.0], &Device::Cpu).unwrap();
    let gradients = Gradients::from([("w".to_owned(), gradient)]);
    optimizer.step(&gradients, 0.25, 1.0).unwrap();
    assert_eq!(values(&bias), [1.75, -1.25]);
    // And weights without a length, or without a pull, take the rate as it is.
    let weight = variable(&[0.0, 0.0], DType::F32);
    let mut optimizer = of(Algorithm::Lars(lars), &weight);
    let gradients = Gradients::from([("w".to_owned(), gradients["w"].reshape((1, 2)).unwrap())]);
    optimizer.step(&gradients, 0.25, 1.0).unwrap();
    assert_eq!(values(&weight), [-0.25, -0.25]);
}

#[test]
fn a_saved_state_goes_on_to_the_same_bits() {
    for (algorithm, dtype) in every().into_iter().flat_map(|a| [(a, DType::F32), (a, DType::F64)]) {
        let weight = variable(&[1.0, -2.0], dtype);
        let mut optimizer = of(algorithm, &weight);
        descend(&mut optimizer, &weight, &[1.0, 3.0], 5);
        let (saved, at) = (optimizer.to_tensors().unwrap(), variable(&values(&weight), dtype));
        descend(&mut optimizer, &weight, &[1.0, 3.0], 5);
        let mut resumed = of(algorithm, &at);
        resumed.load(&saved).unwrap();
        descend(&mut resumed, &at, &[1.0, 3.0], 5);
        assert_eq!(values(&at), values(&weight), "{algorithm:?} {dtype:?}");
    }
}

#[test]
fn a_state_of_other_weights_or_another_algorithm_is_refused() {
    let weight = variable(&[1.0, -2.0], DType::F32);
    let [adam, sgd] = [Algorithm::default(), Algorithm::Sgd(Sgd::default())];
    let saved = of(adam, &weight).to_tensors().unwrap();
    let message = |optimizer: &mut Optimizer, tensors: &BTreeMap<String, Tensor>| {
        optimizer.load(tensors).unwrap_err().to_string()
    };
    let config = OptimizerConfig::default();
    let mut other = Optimizer::new(config, [("x".to_owned(), weight.clone())]).unwrap();
    let missing = "tensor `first.x` is missing from the saved parameters";
    assert_eq!(message(&mut other, &saved), missing);
    let mut more = saved.clone();
    more.insert("first.y".to_owned(), saved["first.w"].clone());
    let unknown = "the saved parameters hold a tensor that the network lacks: `first.y`";
    assert_eq!(message(&mut of(adam, &weight), &more), unknown);
    let missing = "tensor `momentum.w` is missing from the saved parameters";
    assert_eq!(message(&mut of(sgd, &weight), &saved), missing);
    let still = of(Algorithm::Sgd(Sgd { momentum: 0.0, nesterov: false }), &weight);
    assert_eq!(still.to_tensors().unwrap().into_keys().collect::<Vec<_>>(), ["step"]);
}

#[test]
fn one_and_two_threads_give_the_same_bits() {
    // More elements than one block has.
    let start: Vec<f64> = (0..40_000).map(|i| (i as f64 * 0.37).sin()).collect();
    let curvature: Vec<f64> = (0..40_000).map(|i| 1.5 + (i as f64 * 0.11).cos()).collect();
    for algorithm in every() {
        let run = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let weight = variable(&start, DType::F32);
                descend(&mut of(algorithm, &weight), &weight, &curvature, 3);
                values(&weight)
            })
        };
        assert!(run(1) == run(2), "{algorithm:?}");
    }
}

#[test]
fn gradients_of_other_weights_are_refused() {
    let weight = variable(&[1.0, -2.0], DType::F32);
    let mut optimizer = of(Algorithm::default(), &weight);
    let mut message = |name: &str, gradient: Tensor| {
        let gradients = Gradients::from([(name.to_owned(), gradient)]);
        optimizer.step(&gradients, 0.1, 1.0).unwrap_err().to_string()
    };
    let gradient = Tensor::new(&[1f32, 1.0], &Device::Cpu).unwrap();
    assert_eq!(message("v", gradient.clone()), "a gradient is of no weight that is trained: `v`");
    let shape = "tensor `w` has shape [2], the network needs [1, 2]";
    assert_eq!(message("w", gradient), shape);
    assert_eq!(values(&weight), [1.0, -2.0]);
}

#[test]
fn parameters_out_of_range_are_refused() {
    let check = |algorithm: Algorithm, weight_decay: f64, message: &str| {
        let config = OptimizerConfig { algorithm, weight_decay };
        assert_eq!(Optimizer::new(config, []).unwrap_err().to_string(), message);
    };
    let adam = |beta1, epsilon| Algorithm::Adam(Adam { beta1, epsilon, ..Adam::default() });
    check(adam(1.0, 1e-8), 0.0, "adam.beta1 must be in [0, 1)");
    check(adam(0.9, 0.0), 0.0, "adam.epsilon must be finite and above 0");
    let sgd = Sgd { momentum: 0.0, nesterov: true };
    check(Algorithm::Sgd(sgd), 0.0, "sgd.nesterov needs a momentum above 0");
    let lars = Lars { trust: 0.0, ..Lars::default() };
    check(Algorithm::Lars(lars), 0.0, "lars.trust must be finite and above 0");
    let decay = "weight_decay must be finite and at least 0, found -1";
    check(Algorithm::default(), -1.0, decay);
    let weight = variable(&[1.0], DType::F32);
    let twice = [("w".to_owned(), weight.clone()), ("w".to_owned(), weight)];
    let error = Optimizer::new(OptimizerConfig::default(), twice).unwrap_err().to_string();
    assert_eq!(error, "two parameters have the same name: `w`");
}
