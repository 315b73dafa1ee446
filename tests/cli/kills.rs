//! Hundreds of kills, of the coordinator and of its workers, at moments drawn at random: nothing that was recorded is
//! lost or computed again, and the results are those of an unbroken run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Ended};

const KILLS: usize = 200;
const LAYERS: usize = 12;
const WIDTH: usize = 25;

/// Programs in layers, each of which reads two of the layer before and says that it was computed.
fn layers(bench: &Bench, generation: usize) -> String {
    let told = bench.path("computed").display().to_string();
    let mut text = "[experiment]\nname = \"layers\"\n".to_owned();
    for layer in 0..LAYERS {
        for place in 0..WIDTH {
            let name = format!("n{layer}_{place}");
            let own = format!("{generation}-{name}");
            text += &format!(
                "[stages.{name}]\nkind = \"exec\"\nretries = 0\noutputs = {{ o = \"file\" }}\n"
            );
            text += &match layer.checked_sub(1) {
                None => format!(
                    "command = ['sh', '-c', 'echo {own} > \"$1\"; echo {own} >> {told}', 'sh', '{{outputs.o}}']\n"
                ),
                Some(above) => format!(
                    "command = ['sh', '-c', 'cksum < \"$1\" > \"$3\"; cksum < \"$2\" >> \"$3\"; echo {own} >> \"$3\"; \
                     echo {own} >> {told}', 'sh', '{{inputs.a}}', '{{inputs.b}}', '{{outputs.o}}']\n\
                     inputs = {{ a = '@n{above}_{place}', b = '@n{above}_{}' }}\n",
                    (place + 1) % WIDTH
                ),
            };
        }
    }
    text
}

/// Numbers that are the same each time.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Content of the output by node, of every record that there is; each must be whole.
fn records(bench: &Bench) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in files(&bench.path("cache/v1/nodes")) {
        if path.file_name().unwrap().to_str().unwrap().starts_with('.') {
            continue;
        }
        let record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert!(record["check"].is_string(), "{}", path.display());
        let output = &record["outputs"]["o"];
        let hash = output["files"][0]["hash"].as_str().unwrap();
        let object = bench.path(&format!("cache/v1/objects/{}/{hash}", &hash[..2]));
        let bytes = fs::read(&object).unwrap();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), hash);
        // A file says which node it is of.
        let text = String::from_utf8(bytes).unwrap();
        found.insert(text.lines().last().unwrap().to_owned(), hash.to_owned());
    }
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// How often each node said that it was computed.
fn computed(bench: &Bench) -> BTreeMap<String, usize> {
    let told = fs::read_to_string(bench.path("computed")).unwrap_or_default();
    let mut counts = BTreeMap::new();
    told.lines().for_each(|line| *counts.entry(line.to_owned()).or_default() += 1);
    counts
}

/// The processes that a process has started.
fn children(process: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let own = text.unwrap_or_default();
    // Threads start them too.
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let mut all: BTreeSet<String> = own.split_whitespace().map(str::to_owned).collect();
    for task in tasks.into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().map(str::to_owned));
    }
    all.into_iter().collect()
}

/// Kills the coordinator or a worker; false where it had ended already.
fn strike(run: &mut Child, draws: &mut Draws) -> bool {
    if run.try_wait().unwrap().is_some() {
        return false;
    }
    let workers = children(run.id());
    if draws.below(2) == 0 || workers.is_empty() {
        run.kill().unwrap();
        return true;
    }
    let worker = &workers[draws.below(workers.len() as u64) as usize];
    // It may have ended in this instant.
    Command::new("kill").args(["-9", worker]).output().unwrap().status.success()
}

/// Runs the layers to their end, killing again and again; yields the number of kills.
fn run_under_fire(bench: &Bench, draws: &mut Draws) -> usize {
    let (mut kills, since) = (0, Instant::now());
    loop {
        let (known, before) = (records(bench), computed(bench));
        let mut run = bench.start(&["run", "x.toml"]);
        thread::sleep(Duration::from_millis(20 + draws.below(150)));
        let struck = strike(&mut run, draws);
        kills += usize::from(struck);
        let ended = Ended::of(run.wait_with_output().unwrap());
        let (after, now) = (computed(bench), records(bench));
        for (node, content) in known {
            assert_eq!(before.get(&node), after.get(&node), "{node} had a record");
            assert_eq!(now.get(&node), Some(&content));
        }
        if ended.code == Some(0) {
            return kills;
        }
        assert!(struck, "{}", ended.stderr);
        assert!(since.elapsed() < Duration::from_mins(5), "it comes to no end");
    }
}

#[test]
fn hundreds_of_kills_cost_nothing_that_was_recorded() {
    let mut draws = Draws(7);
    let (mut kills, mut generation) = (0, 0);
    while kills < KILLS {
        generation += 1;
        let bench = Bench::new("");
        bench.write("x.toml", &layers(&bench, generation));
        kills += run_under_fire(&bench, &mut draws);
        assert_eq!(bench.counts(&[]), (0, LAYERS * WIDTH));
        // Nothing that the dead left behind stays for good.
        assert_eq!(fs::read_dir(bench.path("cache/v1/scratch")).unwrap().count(), 0);
        if kills >= KILLS {
            let unbroken = Bench::new("");
            unbroken.write("x.toml", &bench.read("x.toml"));
            assert_eq!(unbroken.counts(&[]), (LAYERS * WIDTH, 0));
            assert_eq!(records(&bench), records(&unbroken));
        }
    }
}
