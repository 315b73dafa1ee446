//! Tests that a GPU computes what the CPU does, and the same each time. Where there is no GPU they say that they skip it.

use std::collections::BTreeMap;
use std::io::{Write, stderr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor};

use super::composed::tracked;
use super::device::{capability, first_gpu};
use super::encoder::{Architecture, EncoderConfig, EncoderNetwork, Stem};
use super::mmcr::Mmcr;
use super::network::{Layer, Network};
use super::noncontrastive::{BarlowTwins, Vicreg};
use super::objective::{Objective, Temperature, WaveContrast};
use super::passes::Passes;
use super::precision::Precision;
use super::projector::projector;
use super::sampler::{Batch, Order, Sampler, SamplerConfig};
use crate::rng::Streams;

/// Images of a step, their size and their channels.
const SHAPE: [usize; 4] = [24, 16, 16, 3];

/// What a training step came to, each tensor in `f64`.
type Outcome = BTreeMap<String, Vec<f64>>;

/// Candle's switch for the precision of products is the process's, so one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Yields a GPU for as long as the guard lives, or says that a test goes without.
fn gpu(test: &str) -> Option<(Device, MutexGuard<'static, ()>)> {
    match first_gpu() {
        Ok(gpu) => Some((gpu, ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))),
        Err(error) => {
            // Not by a macro, whose output a test keeps to itself.
            let notice = format!("{test}: skipped: no CUDA device: {}\n", first_line(&error));
            stderr().write_all(notice.as_bytes()).unwrap();
            None
        }
    }
}

fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn objectives() -> [Objective; 5] {
    [
        Objective::WaveContrast(WaveContrast::default()),
        Objective::NtXent(Temperature::default()),
        Objective::BarlowTwins(BarlowTwins::default()),
        Objective::Vicreg(Vicreg::default()),
        Objective::Mmcr(Mmcr::default()),
    ]
}

/// Four events of six frames.
fn batch(objective: Objective, streams: &Streams) -> Batch {
    let events: Vec<_> = (0..4).map(|event| 6 * event..6 * event + 6).collect();
    let config = SamplerConfig {
        batch_frames: SHAPE[0],
        max_event_frames: None,
        order: Order::Shuffled,
        balanced: false,
    };
    let sampler = Sampler::new(&events, &[0, 1, 2, 3], config, objective.pairs()).unwrap();
    sampler.epoch(streams, 1).remove(0)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    tensor.to_device(&Device::Cpu).unwrap().to_vec1().unwrap()
}

/// Runs one step's passes: loss, gradients and running statistics. `f32` goes the way of training, on the CPU by our own
/// kernels; `f64` by candle's operations.
fn step(device: &Device, dtype: DType, stem: Stem, objective: Objective) -> Outcome {
    step_in(Precision::F32, device, dtype, stem, objective)
}

/// Does the same with products of some precision.
fn step_in(
    precision: Precision,
    device: &Device,
    dtype: DType,
    stem: Stem,
    objective: Objective,
) -> Outcome {
    let _held = precision.hold_on(device).unwrap();
    let streams = Streams::new(3, "test");
    let architecture = Architecture::ResNet9;
    let config =
        EncoderConfig { architecture, stem, width: 16, channels: 3, ..EncoderConfig::default() };
    let encoder = EncoderNetwork::new(config, &streams, device, dtype).unwrap();
    let head = projector(encoder.features(), &[32, 16], &streams, device, dtype).unwrap();
    let networks = [&encoder.network, &head];
    let mut pixels = vec![0.0; SHAPE.iter().product()];
    streams.stream("images").fill_normal(&mut pixels);
    let x = Tensor::from_vec(pixels, &SHAPE, &Device::Cpu).unwrap();
    let x = x.to_dtype(dtype).unwrap().to_device(device).unwrap();
    let batch = batch(objective, &streams);
    let mut outcome = Outcome::new();
    if dtype == DType::F32 {
        let mut passes = Passes::new(precision);
        let passed = passes.step(&networks, &x, &|y| objective.loss(y, batch.origins())).unwrap();
        outcome.insert("loss".to_owned(), values(&passed.loss.loss));
        let named = passes.gradients().iter();
        outcome.extend(named.map(|(name, gradient)| (name.clone(), values(gradient))));
    } else {
        let y = tracked(&head, &tracked(&encoder.network, &x).unwrap()).unwrap();
        let loss = objective.loss(&y, batch.origins()).unwrap().loss;
        outcome.insert("loss".to_owned(), values(&loss));
        let gradients = loss.backward().unwrap();
        let weights = networks.iter().flat_map(|network| network.parameters.weights());
        outcome.extend(
            weights.map(|(name, weight)| (name.clone(), values(gradients.get(weight).unwrap()))),
        );
    }
    for network in networks {
        running(network, &mut outcome);
    }
    outcome
}

/// Adds the running statistics under the names of the weights that they follow.
fn running(network: &Network, outcome: &mut Outcome) {
    for layer in &network.layers {
        if let Layer::Unit(unit) = layer
            && let Some(norm) = &unit.norm
        {
            for (part, var) in [("mean", &norm.running_mean), ("var", &norm.running_var)] {
                outcome.insert(format!("{} {part}", norm.weight.name), values(var));
            }
        }
    }
}

/// Checks that each tensor is within `tolerance` of its largest value.
fn check_agreement(what: &str, found: &Outcome, expected: &Outcome, tolerance: f64) {
    assert!(found.keys().eq(expected.keys()), "{what}");
    for (name, expected) in expected {
        let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let found = &found[name];
        assert_eq!(found.len(), expected.len(), "{what}, {name}");
        for (found, expected) in found.iter().zip(expected) {
            let difference = (found - expected).abs();
            assert!(
                difference <= tolerance * largest,
                "{what}, {name}: {found} is not {expected}, of at most {largest}"
            );
        }
    }
}

fn for_all(mut f: impl FnMut(&str, Stem, Objective)) {
    for stem in [Stem::ImageNet, Stem::Cifar] {
        for objective in objectives() {
            f(&format!("{stem:?}, {objective:?}"), stem, objective);
        }
    }
}

/// That no `ReLU` sits at zero: else the devices could not be compared in `f32`.
#[test]
fn single_precision_agrees_with_double() {
    for_all(|what, stem, objective| {
        let double = step(&Device::Cpu, DType::F64, stem, objective);
        check_agreement(what, &step(&Device::Cpu, DType::F32, stem, objective), &double, 1e-4);
    });
}

#[test]
fn a_gpu_trains_as_the_cpu_does() {
    let Some((gpu, _guard)) = gpu("a_gpu_trains_as_the_cpu_does") else { return };
    for_all(|what, stem, objective| {
        for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-4)] {
            let expected = step(&Device::Cpu, dtype, stem, objective);
            let found = step(&gpu, dtype, stem, objective);
            check_agreement(&format!("{what}, {dtype:?}"), &found, &expected, tolerance);
        }
    });
}

#[test]
fn a_gpu_gives_the_same_bits_again() {
    let Some((gpu, _guard)) = gpu("a_gpu_gives_the_same_bits_again") else { return };
    for_all(|what, stem, objective| {
        let run = || step(&gpu, DType::F32, stem, objective);
        assert!(run() == run(), "{what}");
    });
}

#[test]
fn rounded_products_change_a_loss_by_their_rounding() {
    let Some((gpu, _guard)) = gpu("rounded_products_change_a_loss_by_their_rounding") else {
        return;
    };
    if capability(&gpu) < Some((8, 0)) {
        return;
    }
    for (precision, tolerance) in
        [(Precision::Tf32, 1e-2), (Precision::F16, 1e-2), (Precision::Bf16, 5e-2)]
    {
        let run = |precision: Precision| {
            let objective = Objective::NtXent(Temperature::default());
            step_in(precision, &gpu, DType::F32, Stem::Cifar, objective)
        };
        let (exact, rounded) = (run(Precision::F32)["loss"][0], run(precision)["loss"][0]);
        assert!((rounded - exact).abs() < tolerance * exact.abs(), "{rounded} is not {exact}");
        assert!(rounded != exact, "{precision:?} rounds nothing");
        assert!(run(precision) == run(precision), "{precision:?}");
    }
}
