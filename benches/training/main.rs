//! The time and the memory of a training step of ResNet-18, and their ratios to PyTorch's.
//!
//! `cargo bench --bench training [-- CASE…]`. With `PYTORCH=PYTHON` in the environment, the path of a Python that has
//! PyTorch, each line has the ratios to it: both programs take turns, so that what else the machine does meets both.
//! `PAIRS` is how many turns (5), `STEPS` how many timed steps each (10).
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a program of its own, which ends where something is not as it should be"
)]

use std::env;
use std::fs;
use std::process::Command;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_nn::loss::cross_entropy;
use rayon::ThreadPoolBuilder;
use serde::{Deserialize, Serialize};
use wavecrest::nn::contrastive::BatchLoss;
use wavecrest::nn::encoder::{EncoderConfig, EncoderNetwork, Stem};
use wavecrest::nn::network::Network;
use wavecrest::nn::optimizer::{Optimizer, OptimizerConfig};
use wavecrest::nn::passes::Passes;
use wavecrest::nn::projector::projector;
use wavecrest::rng::Streams;

/// A step to time.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// None for the paper's projector on features.
    stem: Option<Stem>,
    batch: usize,
    channels: usize,
    size: usize,
    threads: usize,
}

const CASES: [Case; 7] = [
    Case {
        name: "cifar-64",
        stem: Some(Stem::Cifar),
        batch: 64,
        channels: 3,
        size: 32,
        threads: 2,
    },
    Case {
        name: "cifar-128",
        stem: Some(Stem::Cifar),
        batch: 128,
        channels: 1,
        size: 32,
        threads: 2,
    },
    Case {
        name: "imagenet-32",
        stem: Some(Stem::ImageNet),
        batch: 64,
        channels: 3,
        size: 32,
        threads: 2,
    },
    Case {
        name: "imagenet-64",
        stem: Some(Stem::ImageNet),
        batch: 64,
        channels: 1,
        size: 64,
        threads: 2,
    },
    Case {
        name: "cifar-one-thread",
        stem: Some(Stem::Cifar),
        batch: 32,
        channels: 3,
        size: 32,
        threads: 1,
    },
    Case {
        name: "imagenet-512",
        stem: Some(Stem::ImageNet),
        batch: 512,
        channels: 3,
        size: 32,
        threads: 2,
    },
    Case { name: "projector-512", stem: None, batch: 512, channels: 512, size: 1, threads: 2 },
];

/// What a program measured.
#[derive(Serialize, Deserialize)]
struct Measured {
    seconds: Vec<f64>,
    peak_mib: f64,
    #[serde(default)]
    version: String,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [flag, name, steps] = arguments.as_slice()
        && flag == "--one"
    {
        let case = CASES.iter().find(|case| case.name == name).expect("a case of this name");
        let measured = ours(case, steps.parse().expect("a number of steps"));
        println!("{}", serde_json::to_string(&measured).expect("numbers"));
        return;
    }
    let number = |name: &str, default: usize| {
        env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (pairs, steps) = (number("PAIRS", 5), number("STEPS", 10));
    let python = env::var("PYTORCH").ok();
    for case in CASES {
        if arguments.is_empty() || arguments.iter().any(|name| name == case.name) {
            compare(&case, python.as_deref(), pairs, steps);
        }
    }
}

impl Case {
    /// The name of the network on `PyTorch`'s side.
    fn network(&self) -> &'static str {
        match self.stem {
            Some(Stem::Cifar) => "cifar",
            Some(Stem::ImageNet) => "imagenet",
            None => "projector",
        }
    }
}

/// Times both programs in turns and prints the median of the ratios.
fn compare(case: &Case, python: Option<&str>, pairs: usize, steps: usize) {
    let program = env::current_exe().expect("this program");
    let steps = steps.to_string();
    let (mut own, mut ratios, mut last_ratios, mut memory) = (vec![], vec![], vec![], vec![]);
    let mut version = String::new();
    for _ in 0..pairs {
        let ours = run(Command::new(&program).args(["--one", case.name, &steps]));
        let (seconds, peak) = (median(ours.seconds), ours.peak_mib);
        own.push(seconds);
        let Some(python) = python else {
            memory.push(peak);
            continue;
        };
        for (layout, ratios) in [("contiguous", &mut ratios), ("channels_last", &mut last_ratios)] {
            let stem = case.network();
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/training/pytorch.py");
            let numbers =
                [case.batch, case.channels, case.size, case.threads].map(|n| n.to_string());
            let theirs =
                run(Command::new(python).args([script, stem]).args(numbers).args([&steps, layout]));
            ratios.push(seconds / median(theirs.seconds));
            if layout == "contiguous" {
                memory.push(peak / theirs.peak_mib);
            }
            version = theirs.version;
        }
    }
    let Case { name, batch, channels, size, threads, .. } = case;
    print!("{name}: {batch} of {channels}×{size}×{size}, {threads} threads: ");
    print!("{:.1} ms a step", 1e3 * median(own));
    if python.is_none() {
        println!(", peak {:.0} MiB", median(memory));
        return;
    }
    let spread = ratios.iter().copied().fold((f64::MAX, 0.0), |(a, b), r| (r.min(a), r.max(b)));
    println!(
        ", {:.2} ({:.2} to {:.2}) of PyTorch {version}, {:.2} of its channels_last, {:.2} of its memory",
        median(ratios),
        spread.0,
        spread.1,
        median(last_ratios),
        median(memory),
    );
}

fn run(command: &mut Command) -> Measured {
    let output = command.output().expect("a program that runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a line of numbers")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Takes steps on one batch of noise.
fn ours(case: &Case, steps: usize) -> Measured {
    let pool = ThreadPoolBuilder::new().num_threads(case.threads).build().expect("threads");
    let seconds = pool.install(|| {
        let Case { stem, batch, channels, size, .. } = *case;
        let (device, streams) = (Device::Cpu, Streams::new(1, "bench"));
        let net = stem.map(|stem| {
            let config = EncoderConfig { stem, channels, ..EncoderConfig::default() };
            EncoderNetwork::new(config, &streams, &device, DType::F32).expect("a network")
        });
        let widths = if net.is_some() { vec![10] } else { vec![8192; 3] };
        let head = projector(512, &widths, &streams, &device, DType::F32).expect("a head");
        let networks: Vec<&Network> = net.iter().map(|net| &net.network).chain([&head]).collect();
        let weights = networks.iter().flat_map(|network| network.parameters.weights());
        let weights = weights.map(|(name, var)| (name.clone(), var.clone()));
        let config = OptimizerConfig::default();
        let mut optimizer = Optimizer::new(config, weights).expect("an optimizer");
        let mut noise = vec![0.0; batch * size * size * channels];
        streams.stream("images").fill_normal(&mut noise);
        let noise: Vec<f32> = noise.iter().map(|v| *v as f32).collect();
        let x = Tensor::from_vec(noise, (batch, size, size, channels), &device).expect("images");
        let labels: Vec<u32> = (0..batch as u32).map(|i| i % 10).collect();
        let labels = Tensor::from_vec(labels, batch, &device).expect("labels");
        let mut passes = Passes::default();
        let mut step = || {
            let start = Instant::now();
            let loss =
                |y: &Tensor| Ok(BatchLoss { loss: cross_entropy(y, &labels)?, anchors: batch });
            let passed = passes.step(&networks, &x, &loss).expect("a step");
            optimizer.step(passes.gradients(), 1e-4, 1.0).expect("a step");
            assert!(passed.loss.loss.to_scalar::<f32>().expect("a number").is_finite());
            start.elapsed().as_secs_f64()
        };
        let seconds: Vec<f64> = (0..steps + 2).map(|_| step()).collect();
        seconds[2..].to_vec()
    });
    Measured { seconds, peak_mib: peak_mib(), version: String::new() }
}

/// The most memory that this process has held.
fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}
