//! Two experiments, runs or overrides side by side.

use serde_json::Value as Json;
use snapbox::assert_data_eq;
use snapbox::str;

use crate::bench::Bench;

/// A small network probed, for three seeds.
const PROBES: &str = r#"
[experiment]
name = "small"

[axes]
replicate = { range = [0, 3] }

[stages.digits]
kind = "images.table"
path = "t.csv"
height = 2
width = 2
test_fraction = 0.5

[stages.net]
kind = "encoder.random"
width = 2
channels = 1
seed = "${replicate}"

[stages.probe]
kind = "probe.linear"
encoder = "@net"
images = "@digits"
epochs = 3
batch = 4

[profiles.long]
stages.probe.epochs = 5
"#;

fn bench() -> Bench {
    let bench = Bench::new(PROBES);
    let rows: Vec<String> =
        (0..16).map(|i| format!("{},{},9,200,{}\n", 16 * i, 255 - 9 * i, i % 2)).collect();
    bench.write("t.csv", &rows.concat());
    bench
}

fn diff(bench: &Bench, arguments: &[&str]) -> String {
    let ended = bench.run(&[&["diff"], arguments].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout
}

fn ids(bench: &Bench) -> Vec<String> {
    let runs: Json = serde_json::from_str(&bench.run(&["log", "--json"]).stdout).unwrap();
    let ids = runs.as_array().unwrap().iter();
    ids.map(|run| run["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn overrides_are_compared_by_parameters_and_then_by_metrics() {
    let bench = bench();
    let set = ["x.toml", "--set-b", "stages.probe.epochs=5"];
    assert_data_eq!(
        diff(&bench, &set),
        str![[r"
A: x.toml
B: x.toml --set stages.probe.epochs=5
parameters
  probe  epochs  3 -> 5  3 instances
nodes
  changed: probe[replicate=0], probe[replicate=1], probe[replicate=2]
  the same: 4 of 7 on both sides

"]]
    );
    bench.counts(&[]);
    bench.counts(&["--profile", "long"]);
    let text = diff(&bench, &["x.toml", "--profile-b", "long"]);
    assert_data_eq!(
        text.clone(),
        str![[r"
A: x.toml
B: x.toml --profile long
parameters
  probe  epochs  3 -> 5  3 instances
nodes
  changed: probe[replicate=0], probe[replicate=1], probe[replicate=2]
  the same: 4 of 7 on both sides
metrics
...
"]]
    );
    assert!(text.contains("(paired, n = 3)"), "{text}");
    let text = diff(&bench, &["x.toml", "--profile-b", "long", "--json"]);
    let found: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(found["parameters"][0]["a"], 3);
    assert_eq!(found["nodes"]["changed"].as_array().unwrap().len(), 3);
    let metrics = found["metrics"].as_array().unwrap();
    let loss = metrics.iter().find(|metric| metric["metric"] == "loss").unwrap();
    assert_eq!(loss["instances"], 3);
    let number = |field: &str| loss[field].as_f64().unwrap();
    assert!((number("b") - number("a") - number("difference")).abs() < 1e-9, "{loss}");
    assert!(number("standard_error") > 0.0);
}

#[test]
fn past_runs_are_compared_with_each_other_and_with_files() {
    let bench = bench();
    bench.counts(&[]);
    bench.counts(&["--set", "stages.probe.epochs=5", "--set", "axes.replicate=[1, 2, 3]"]);
    let ids = ids(&bench);
    assert!(bench.run(&["log"]).stdout.contains(&ids[0]));
    let text = diff(&bench, &[&ids[1], &ids[0]]);
    assert!(text.contains("only in A: net[replicate=0], probe[replicate=0]\n"), "{text}");
    assert!(text.contains("only in B: net[replicate=3], probe[replicate=3]\n"), "{text}");
    assert!(text.contains("  probe  epochs  3 -> 5  2 instances\n"), "{text}");
    assert!(text.contains("(paired, n = 2)"), "{text}");
    let text = diff(&bench, &["x.toml", &ids[1]]);
    assert!(text.ends_with("nothing differs: 7 nodes\n"), "{text}");
    bench.write(
        "y.toml",
        &PROBES
            .replace("[stages.probe]", "[stages.test]")
            .replace("stages.probe.", "stages.test.")
            .replace("small", "y"),
    );
    let text = diff(&bench, &["x.toml", "y.toml"]);
    assert!(text.contains("  only in A: probe[replicate=0], "), "{text}");
    assert!(text.contains("  the same: 4 of 4 on both sides\n"), "{text}");
    // What has a record no more is said.
    for path in crate::bench::files(&bench.path("cache/v1/nodes")) {
        std::fs::remove_file(path).unwrap();
    }
    let text = diff(&bench, &[&ids[1], &ids[0]]);
    let gone =
        "not compared, because records in A are gone: probe[replicate=1], probe[replicate=2]\n";
    assert!(text.contains(gone), "{text}");
}

#[test]
fn what_names_no_side_is_a_mistake() {
    let bench = bench();
    let ended = bench.run(&["diff", "x.toml", "2026"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("there are no runs here yet"), "{}", ended.stderr);
    bench.counts(&[]);
    bench.counts(&[]);
    let id = &ids(&bench)[0];
    let ended = bench.run(&["diff", "x.toml", &id[..3]]);
    assert!(ended.stderr.contains("begins the ids of 2 runs"), "{}", ended.stderr);
    let ended = bench.run(&["diff", "x.toml", "nothing"]);
    assert!(ended.stderr.contains("`wavecrest log` lists them"), "{}", ended.stderr);
    let ended = bench.run(&["diff", "x.toml", id, "--set-b", "stages.probe.epochs=5"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("go with a file"), "{}", ended.stderr);
    assert_eq!(bench.run(&["diff", "none.toml"]).code, Some(2));
}
