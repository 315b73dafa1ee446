//! Agreement of whole networks, their gradients, their training and the losses with `PyTorch`.
//!
//! `tests/fixtures` holds what `PyTorch` computes, and the scripts that made it. Weights, images and rows come from a
//! formula on both sides.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use serde::Deserialize;

use super::composed::tracked;
use super::contrastive::{BatchLoss, Origins};
use super::encoder::{EncoderConfig, EncoderNetwork, Stem};
use super::error::NnError;
use super::kernels::simd::Element;
use super::kernels::winograd::Winograd;
use super::layers::Mode;
use super::network::{Layer, Network};
use super::objective::{Objective, Temperature};
use super::optimizer::adam::Adam;
use super::optimizer::gradients::collect;
use super::optimizer::sgd::Sgd;
use super::optimizer::{Algorithm, Optimizer, OptimizerConfig};
use super::passes::Passes;
use super::projector::projector;
use super::tape::{Gradients, Tape};
use crate::rng::Streams;

/// A tensor's length, its products with two vectors of numbers by formula, and three elements.
type Digest = [f64; 6];

#[derive(Deserialize)]
struct Trainings {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    shape: Shape,
    start: Start,
    training: BTreeMap<String, Precisions>,
}

#[derive(Clone, Copy, Deserialize)]
struct Shape {
    stem: Stem,
    width: usize,
    channels: usize,
    image: [usize; 2],
}

/// Features in both modes and, in training, a loss of them and its gradients.
#[derive(Deserialize)]
struct Start {
    evaluated: Digest,
    trained: Digest,
    loss: f64,
    gradients: BTreeMap<String, Digest>,
}

#[derive(Deserialize)]
struct Precisions {
    f32: Training,
    f64: Training,
}

#[derive(Deserialize)]
struct Training {
    losses: Vec<f64>,
    /// Parameters and running statistics after the last step.
    #[serde(default)]
    state: BTreeMap<String, Digest>,
}

fn trainings() -> Vec<Case> {
    let text = include_str!("../../tests/fixtures/training.json");
    serde_json::from_str::<Trainings>(text).unwrap().cases
}

/// Yields numbers in [-1, 1) by a name: `mixed` of `formula.py`.
fn mixed(name: &str, count: usize) -> Vec<f64> {
    let hash = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let seed = name.bytes().fold(0x811c_9dc5, hash);
    let number = |i: usize| {
        let mut x = (i as u32).wrapping_add(seed);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        f64::from((x ^ (x >> 16)) >> 8) / f64::from(1 << 23) - 1.0
    };
    (0..count).map(number).collect()
}

/// Yields a parameter or buffer: `tensor` of `formula.py`.
fn formed(name: &str, shape: &[usize]) -> Tensor {
    let inputs: usize = shape.iter().skip(1).product();
    let scaled = |value: f64| match name.rsplit('.').next() {
        Some("running_var") => 1.0 + value / 2.0,
        Some("weight") if shape.len() > 1 => value * (6.0 / inputs as f64).sqrt(),
        Some("weight") => 1.0 + value / 4.0,
        _ => value / 8.0,
    };
    let values = mixed(name, shape.iter().product()).into_iter().map(scaled).collect();
    Tensor::from_vec::<_, f64>(values, shape, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Checks a tensor against its digest, to within a share of its length.
fn check_digest(name: &str, found: &Tensor, expected: &Digest, tolerance: f64) {
    let flat = values(found);
    let n = flat.len();
    let product = |which: &str| -> f64 {
        flat.iter().zip(mixed(&format!("{which} {name}"), n)).map(|(a, b)| a * b).sum()
    };
    let length = flat.iter().map(|v| v * v).sum::<f64>().sqrt();
    let found = [length, product("one"), product("two"), flat[0], flat[n / 2], flat[n - 1]];
    for (found, expected_part) in found.iter().zip(expected) {
        let error = (found - expected_part).abs();
        assert!(error <= tolerance * expected[0], "{name}: {found} is not {expected_part}");
    }
}

/// An encoder and a projector whose parameters come from the formula.
struct Whole {
    encoder: EncoderNetwork,
    projector: Network,
    x: Tensor,
}

impl Whole {
    fn new(shape: Shape, dtype: DType) -> Self {
        let Shape { stem, width, channels, image: [h, w] } = shape;
        let config = EncoderConfig { stem, width, channels, ..EncoderConfig::default() };
        let streams = Streams::new(0, "blank");
        let encoder = EncoderNetwork::new(config, &streams, &Device::Cpu, dtype).unwrap();
        let projector = projector(8 * width, &[32, 16], &streams, &Device::Cpu, dtype).unwrap();
        for network in [&encoder.network, &projector] {
            let named = network.parameters.to_tensors().unwrap().into_iter();
            let tensors = named.map(|(name, t)| (name.clone(), formed(&name, t.dims())));
            network.parameters.load(&tensors.collect()).unwrap();
        }
        let pixels = mixed("images", 8 * channels * h * w);
        let pixels = pixels.into_iter().map(|v| f64::midpoint(v, 1.0)).collect();
        let x = Tensor::from_vec::<_, f64>(pixels, (8, channels, h, w), &Device::Cpu).unwrap();
        let x = x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap().to_dtype(dtype).unwrap();
        Self { encoder, projector, x }
    }

    fn networks(&self) -> [&Network; 2] {
        [&self.encoder.network, &self.projector]
    }

    fn optimizer(&self, name: &str) -> (Optimizer, f64) {
        let (algorithm, rate) = match name {
            "adam" => (Algorithm::Adam(Adam::default()), 1e-5),
            "sgd" => (Algorithm::Sgd(Sgd { momentum: 0.9, nesterov: false }), 1e-4),
            _ => panic!("{name}"),
        };
        let weights = self.networks().into_iter().flat_map(|n| n.parameters.weights().clone());
        let config = OptimizerConfig { algorithm, weight_decay: 1e-2 };
        (Optimizer::new(config, weights).unwrap(), rate)
    }

    /// Parameters and running statistics, in their own precision.
    fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for network in self.networks() {
            for layer in &network.layers {
                let Layer::Unit(unit) = layer else { continue };
                let mut put = |name: &str, var: &Var| state.insert(name.to_owned(), var.copy());
                put(&unit.weight.name, &unit.weight.var);
                let Some(norm) = &unit.norm else { continue };
                put(&norm.weight.name, &norm.weight.var);
                put(&norm.bias.name, &norm.bias.var);
                let path = norm.bias.name.strip_suffix("bias").unwrap();
                put(&format!("{path}running_mean"), &norm.running_mean);
                put(&format!("{path}running_var"), &norm.running_var);
            }
        }
        state.into_iter().map(|(name, copy)| (name, copy.unwrap())).collect()
    }
}

/// NT-Xent over the pairs of rows 0 and 1, 2 and 3, and so on, at a temperature of 0.5.
fn loss(y: &Tensor) -> Result<BatchLoss, NnError> {
    let origins =
        Origins { events: &[0, 0, 1, 1, 2, 2, 3, 3], positions: &[0, 1, 0, 1, 0, 1, 0, 1] };
    Objective::NtXent(Temperature { temperature: 0.5 }).loss(y, origins)
}

/// Passes forward and backward in any precision, by our own kernels.
fn pass<T: Element>(whole: &Whole, tapes: &mut [Tape<T>; 2], gradients: &mut Gradients) -> f64 {
    let [encoder, projector] = whole.networks();
    let features = tapes[0].forward(encoder, &whole.x).unwrap();
    let y = Var::from_tensor(&tapes[1].forward(projector, &features).unwrap()).unwrap();
    let loss = loss(&y).unwrap().loss;
    let dy = loss.backward().unwrap().get(&y).unwrap().contiguous().unwrap();
    let flow = tapes[1].backward(projector, &dy, true, gradients).unwrap().unwrap();
    tapes[0].backward(encoder, &flow, false, gradients).unwrap();
    values(&loss)[0]
}

/// The gradients by our own kernels, in any precision, of a fresh network.
fn gradients<T: Element>(shape: Shape, dtype: DType) -> Gradients {
    let (whole, mut gradients) = (Whole::new(shape, dtype), Gradients::new());
    pass(&whole, &mut [Tape::<T>::default(), Tape::default()], &mut gradients);
    gradients
}

#[test]
fn one_case_runs_through_winograds_kernels() {
    let [height, width] = [16, 16];
    let stage = Winograd { images: 8, height, width, channels: 16, filters: 16 };
    assert!(stage.pays());
    let has = |case: &Case| case.shape.width == 16 && case.shape.image == [height, width];
    assert!(trainings().iter().any(|case| has(case) && case.shape.stem == Stem::Cifar));
}

#[test]
fn a_pass_and_its_gradients_are_pytorchs() {
    for Case { shape, start, .. } in trainings() {
        let whole = Whole::new(shape, DType::F64);
        let evaluated = whole.encoder.forward(&whole.x, Mode::Evaluate).unwrap();
        check_digest("evaluated", &evaluated, &start.evaluated, 1e-9);
        let trained = whole.encoder.forward(&whole.x, Mode::Train).unwrap();
        check_digest("trained", &trained, &start.trained, 1e-9);
        let mut found = Gradients::new();
        let loss = pass(&whole, &mut [Tape::<f64>::default(), Tape::default()], &mut found);
        assert!((loss / start.loss - 1.0).abs() < 1e-9, "{loss} is not {}", start.loss);
        assert!(found.keys().eq(start.gradients.keys()));
        for (name, expected) in &start.gradients {
            check_digest(name, &found[name], expected, 1e-9);
        }
    }
}

/// What runs on other devices than the CPU.
#[test]
fn the_gradients_of_composed_operations_are_pytorchs() {
    for Case { shape, start, .. } in trainings() {
        let whole = Whole::new(shape, DType::F64);
        let [encoder, projector] = whole.networks();
        let y = tracked(projector, &tracked(encoder, &whole.x).unwrap()).unwrap();
        let loss = loss(&y).unwrap().loss;
        assert!((values(&loss)[0] / start.loss - 1.0).abs() < 1e-9);
        let weights = whole.networks().into_iter().flat_map(|n| n.parameters.weights());
        let found = collect(&loss.backward().unwrap(), weights);
        assert_eq!(found.len(), start.gradients.len());
        for (name, expected) in &start.gradients {
            check_digest(name, &found[name], expected, 1e-9);
        }
    }
}

/// Every element in `f32` against that in `f64`, which the test above compares with `PyTorch`.
#[test]
fn every_gradient_in_single_precision_is_right() {
    for Case { shape, start, .. } in trainings() {
        let found = gradients::<f32>(shape, DType::F32);
        for (name, expected) in gradients::<f64>(shape, DType::F64) {
            let (found, expected) = (values(&found[&name]), values(&expected));
            let largest = expected.iter().fold(0f64, |most, v| most.max(v.abs()));
            let errors = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            let worst = errors.fold(0f64, f64::max);
            assert!(worst < 1e-4 * largest, "{:?} {name}: {worst} of {largest}", shape.stem);
        }
        for (name, expected) in &start.gradients {
            check_digest(name, &found[name], expected, 1e-4);
        }
    }
}

#[test]
fn twenty_steps_are_pytorchs() {
    for Case { shape, training, .. } in trainings() {
        for (name, Precisions { f64: expected, .. }) in training {
            let whole = Whole::new(shape, DType::F64);
            let (mut optimizer, rate) = whole.optimizer(&name);
            let mut tapes = [Tape::<f64>::default(), Tape::default()];
            let mut gradients = Gradients::new();
            for (step, expected) in expected.losses.iter().enumerate() {
                let loss = pass(&whole, &mut tapes, &mut gradients);
                let close = (loss / expected - 1.0).abs() < 1e-9;
                assert!(close, "{:?} {name} {step}: {loss} is not {expected}", shape.stem);
                optimizer.step(&gradients, rate, 1.0).unwrap();
            }
            let state = whole.state();
            assert!(state.keys().eq(expected.state.keys()));
            for (name, expected) in &expected.state {
                check_digest(name, &state[name], expected, 1e-9);
            }
        }
    }
}

#[test]
fn twenty_steps_in_single_precision_are_pytorchs() {
    for Case { shape, training, .. } in trainings() {
        for (name, expected) in training {
            let whole = Whole::new(shape, DType::F32);
            let (mut optimizer, rate) = whole.optimizer(&name);
            let mut passes = Passes::default();
            for (step, (single, double)) in
                expected.f32.losses.iter().zip(&expected.f64.losses).enumerate()
            {
                let passed = passes.step(&whole.networks(), &whole.x, &loss).unwrap();
                let loss = values(&passed.loss.loss)[0];
                for expected in [single, double] {
                    let close = (loss / expected - 1.0).abs() < 1e-3;
                    assert!(close, "{:?} {name} {step}: {loss} is not {expected}", shape.stem);
                }
                optimizer.step(passes.gradients(), rate, 1.0).unwrap();
            }
            let state = whole.state();
            for (name, expected) in &expected.f64.state {
                check_digest(name, &state[name], expected, 1e-3);
            }
        }
    }
}

#[derive(Deserialize)]
struct Objectives {
    events: Vec<u32>,
    positions: Vec<u32>,
    cases: Vec<ObjectiveCase>,
}

#[derive(Deserialize)]
struct ObjectiveCase {
    objective: Objective,
    columns: usize,
    loss: f64,
    gradient: Vec<f64>,
}

#[test]
fn losses_and_their_gradients_are_pytorchs() {
    let text = include_str!("../../tests/fixtures/objectives.json");
    let Objectives { events, positions, cases } = serde_json::from_str(text).unwrap();
    let origins = Origins { events: &events, positions: &positions };
    for ObjectiveCase { objective, columns, loss, gradient } in cases {
        let rows = mixed("rows", events.len() * columns);
        for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-4)] {
            let rows = Tensor::from_slice(&rows, (events.len(), columns), &Device::Cpu).unwrap();
            let y = Var::from_tensor(&rows.to_dtype(dtype).unwrap()).unwrap();
            let found = objective.loss(&y, origins).unwrap().loss;
            let name = format!("{objective:?}, {columns} columns, {dtype:?}");
            let error = (values(&found)[0] / loss - 1.0).abs();
            assert!(error < tolerance, "{name}: {found} is not {loss}");
            let found = values(found.backward().unwrap().get(&y).unwrap());
            assert_eq!(found.len(), gradient.len());
            let largest = gradient.iter().fold(0f64, |most, v| most.max(v.abs()));
            for (found, expected) in found.iter().zip(&gradient) {
                let error = (found - expected).abs();
                assert!(error < tolerance * largest, "{name}: {found} is not {expected}");
            }
        }
    }
}
