//! A long stage goes on from where it was broken off: trainings really killed and interrupted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::bench::{Bench, Ended, await_file};

/// A training of a second or so, once what it learns from is there.
const TRAINING: &str = r#"
[experiment]
name = "training"
seed = 7

[stages.retina]
kind = "waves.simulate"
frames = 300
size = 8
burn_in = 20
[stages.retina.model.lansdell]
dt = 0.005
hyperpolarization_strength = 0.5
noise = { bernoulli = { conductance = 20.0, probability = 1e-2 } }

[stages.movie]
kind = "movie.normalise"
movie = "@retina"

[stages.events]
kind = "movie.segment"
movie = "@retina"

[stages.encoder]
kind = "pretrain.simclr"
movie = "@movie"
events = "@events"
width = 4
channels = 1
projector = [32, 16]
epochs = 120
batch_frames = 64
max_event_frames = 16
train_fraction = 1.0
learning_rate = 1e-3
"#;

/// A training whose inputs are computed, in a cache for the unbroken one and in another.
fn bench() -> Bench {
    let bench = Bench::new(TRAINING);
    for cache in ["whole", "broken"] {
        let few = ["--set", "stages.encoder.epochs=1", "--cache", cache];
        assert_eq!(bench.counts(&few), (4, 0));
    }
    bench
}

/// The folders of the checkpoints that are there, by name.
fn checkpoints(bench: &Bench) -> Vec<PathBuf> {
    let all = bench.path("broken/v1/checkpoints");
    let mut found: Vec<PathBuf> = within(&within(&within(&[all])));
    found.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
    found
}

/// What lies in folders that may be gone meanwhile.
fn within(folders: &[PathBuf]) -> Vec<PathBuf> {
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// What the logs of all attempts at the encoder say.
fn logs(bench: &Bench) -> String {
    let logs = within(&within(&[bench.path("broken/v1/runs")]));
    let of_encoder = |path: &&PathBuf| path.to_str().unwrap().contains("/encoder-");
    logs.iter().filter(of_encoder).map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Starts a run, and waits until its worker trains.
fn training(bench: &Bench, more: &[&str]) -> Child {
    training_with(bench, &[], more)
}

fn training_with(bench: &Bench, environment: &[(&str, &str)], more: &[&str]) -> Child {
    let before = bench.path("broken/v1/runs");
    let runs = || within(std::slice::from_ref(&before));
    let known = runs();
    let arguments = [&["run", "x.toml", "--cache", "broken"], more].concat();
    let child = bench.start_with(environment, &arguments);
    await_true(bench, &|| {
        let new: Vec<PathBuf> = runs().into_iter().filter(|run| !known.contains(run)).collect();
        within(&new).iter().any(|path| path.to_str().unwrap().contains("/encoder-"))
    });
    child
}

/// Waits until something is so, or fails after a while.
fn await_true(bench: &Bench, is_so: &dyn Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_mins(1), "{}", logs(bench));
        thread::sleep(Duration::from_millis(5));
    }
}

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

fn contents(bench: &Bench, cache: &str) -> Vec<String> {
    bench.contents("encoder", &["--cache", cache])
}

/// Ends the run of an interrupted training: it must say so, and leave a whole checkpoint.
fn expect_interrupted(bench: &Bench, child: Child) {
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let left = checkpoints(bench);
    assert!(left.iter().any(|path| path.join("manifest.json").exists()), "{left:?}");
}

/// Runs to the end; what comes out must be the same as without a break, and no checkpoint left.
fn expect_same_end(bench: &Bench) {
    assert_eq!(bench.counts(&["--cache", "whole"]), (1, 3));
    let (computed, cached) = bench.counts(&["--cache", "broken"]);
    assert_eq!(computed + cached, 4);
    assert_eq!(contents(bench, "broken"), contents(bench, "whole"));
    assert_eq!(checkpoints(bench), Vec::<PathBuf>::new());
    assert!(logs(bench).contains("resumed at epoch "), "{}", logs(bench));
}

#[test]
fn a_training_that_is_killed_again_and_again_comes_to_the_same_bits() {
    let bench = bench();
    // Numbers like dice, the same each time.
    let mut dice: u64 = 2312;
    let mut kills = 0;
    loop {
        let mut child = training(&bench, &["--checkpoint-every", "0"]);
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Longer from time to time, so that a slow machine gets on too.
        thread::sleep(Duration::from_millis((dice >> 33) % 500 + 40 * kills));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 100, "{}", logs(&bench));
    }
    let resumed = logs(&bench).matches("resumed at epoch ").count();
    assert!(kills >= 2 && resumed >= 1, "{resumed} of {kills} resumed");
    expect_same_end(&bench);
}

#[test]
fn a_signal_saves_a_checkpoint_and_another_ends_the_run_with_one() {
    let bench = bench();
    let long = ["--set", "stages.encoder.epochs=1200"];
    let child = training(&bench, &long);
    signal("-USR1", child.id());
    // The first of this training: it goes on, so that there is no second unless one is asked for.
    let key = || checkpoints(&bench).pop();
    await_true(&bench, &|| key().is_some());
    let first = key().unwrap();
    assert!(first.ends_with("1"), "{first:?}");
    let second = first.with_file_name("2");
    signal("-USR1", worker(child.id()));
    await_file(&second);
    signal("-TERM", child.id());
    expect_interrupted(&bench, child);
    assert!(logs(&bench).contains("checkpoint 3 saved"), "{}", logs(&bench));
    // Nothing of it is another training's.
    assert!(bench.counts(&["--cache", "broken"]) == (1, 3));
    assert!(second.exists() && !logs(&bench).contains("resumed"), "{}", logs(&bench));
}

#[test]
fn an_interrupted_training_goes_on_to_the_same_bits() {
    let bench = bench();
    let child = training(&bench, &["--checkpoint-every", "0"]);
    await_true(&bench, &|| !checkpoints(&bench).is_empty());
    signal("-INT", child.id());
    expect_interrupted(&bench, child);
    // A batch system may tell the worker alone.
    let child = training(&bench, &[]);
    await_true(&bench, &|| logs(&bench).contains("resumed at epoch "));
    signal("-TERM", worker(child.id()));
    expect_interrupted(&bench, child);
    expect_same_end(&bench);
}

#[test]
fn a_checkpoint_is_saved_before_the_end_of_a_job() {
    let bench = bench();
    let long = ["--set", "stages.encoder.epochs=12000"];
    let in_seconds = |seconds: u64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        (now + seconds).to_string()
    };
    let end = in_seconds(5);
    let far = in_seconds(86_400);
    // What is said counts for more than what the batch system says.
    let said = [&long[..], &["--deadline", "4s"]].concat();
    let cases: [(&str, &[&str]); 2] = [(&end, &long), (&far, &said)];
    for (number, (end, more)) in cases.into_iter().enumerate() {
        let mut child = training_with(&bench, &[("SLURM_JOB_END_TIME", end)], more);
        // Otherwise there is one a minute.
        let name = (number + 1).to_string();
        let since = Instant::now();
        await_true(&bench, &|| checkpoints(&bench).iter().any(|path| path.ends_with(&name)));
        assert!(since.elapsed() < Duration::from_secs(30), "{}", logs(&bench));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(logs(&bench).contains("resumed at epoch "), "{}", logs(&bench));
}

/// The process that another has started.
fn worker(parent: u32) -> u32 {
    let line = format!("PPid:\t{parent}");
    let is_child = |path: &Path| {
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        status.lines().any(|l| l == line)
    };
    let since = Instant::now();
    loop {
        let found = within(&[PathBuf::from("/proc")]).into_iter().find(|path| is_child(path));
        if let Some(path) = found {
            return path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        }
        assert!(since.elapsed() < Duration::from_mins(1), "{parent} has no child");
        thread::sleep(Duration::from_millis(5));
    }
}
