//! What would run, why, and how long it would take.

use serde_json::Value as Json;
use snapbox::assert_data_eq;
use snapbox::str;

use crate::bench::Bench;

/// A program for each of two numbers, and one that reads what it left.
const PAIR: &str = r#"
[experiment]
name = "pair"

[axes]
n = [1, 2]

[stages.first]
kind = "exec"
command = ["sh", "-c", 'echo "$N" > "$1"', "sh", "{outputs.number}"]
environment = { N = "${n} and 3" }
outputs = { number = "file" }

[stages.second]
kind = "exec"
command = ["cp", "{inputs.number}", "{outputs.copy}"]
inputs = { number = "@first" }
outputs = { copy = "file" }
resources = { cpu = 1 }
"#;

fn plan(bench: &Bench, more: &[&str]) -> String {
    let ended = bench.run(&[&["plan", "x.toml"], more].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout
}

#[test]
fn time_is_expected_from_past_records_and_never_guessed() {
    let bench = Bench::new(PAIR);
    assert!(plan(&bench, &[]).ends_with("\nno estimate for 4 of 4\n"));
    bench.counts(&[]);
    assert_data_eq!(
        plan(&bench, &[]),
        str![[r"
cached  first      2
cached  second     2
pair: 0 to run, 0 waiting on them, 4 cached (worth [..])

"]]
    );
    let other = PAIR.replace("and 3", "and 4").replace(
        "[stages.second]",
        "[stages.third]\nkind = \"encoder.random\"\nwidth = 1\nchannels = 1\n\n[stages.second]",
    );
    bench.write("x.toml", &other);
    assert_data_eq!(
        plan(&bench, &[]),
        str![[r#"
run     first      1  `environment.N` "1 and 3" -> "1 and 4" (line 11 of x.toml); about [..]s, 1 thread
run     first      1  `environment.N` "2 and 3" -> "2 and 4" (line 11 of x.toml); about [..]s, 1 thread
run     third      1  not computed yet
waits   second     2  on first; about [..]s each, 1 thread
pair: 3 to run, 2 waiting on them, 0 cached (worth 0 ms)
at least [..] on [..]: [..] of work, [..] along the longest path; no estimate for 1 of 5

"#]]
    );
    // What the file says itself is no guess.
    bench.write("x.toml", &other.replace("width = 1", "width = 1\nresources.time = \"4h\""));
    let text = plan(&bench, &[]);
    assert!(text.contains("not computed yet; about 4 h 0 min\n"), "{text}");
    assert!(text.contains("\nabout 4 h 0 min on "), "{text}");
    let text = plan(&bench, &["--json"]);
    let found: Json = serde_json::from_str(&text).unwrap();
    let nodes = found["nodes"].as_array().unwrap();
    let third = nodes.iter().find(|node| node["node"] == "third").unwrap();
    assert_eq!((&third["seconds"], &third["state"]), (&14400.0.into(), &"run".into()));
    let second = nodes.iter().find(|node| node["node"] == "second[n=2]").unwrap();
    assert_eq!(second["waits_on"], serde_json::json!(["first[n=2]"]));
    assert_eq!(second["threads"], 1);
    let expected = &found["expected"];
    assert_eq!((&expected["nodes"], &expected["without_estimate"]), (&5.into(), &0.into()));
    let number = |field: &str| expected[field].as_f64().unwrap();
    assert_eq!(number("path_seconds"), 14400.0);
    assert!(number("seconds") >= number("path_seconds"), "{expected}");
    assert!(number("work_seconds") > number("path_seconds"), "{expected}");
}

#[test]
fn many_reasons_of_a_stage_are_told_in_part() {
    let bench = Bench::new(PAIR);
    let axis = ["--set", "axes.n={ range = [0, 25] }"];
    bench.counts(&axis);
    let set = ["--set", "stages.first.environment.N=\"${n} and 4\""];
    let text = plan(&bench, &[axis, set].concat());
    assert_eq!(text.lines().filter(|line| line.starts_with("run")).count(), 21, "{text}");
    assert!(text.contains("run     first      5  for 5 other reasons like these\n"), "{text}");
    assert_eq!(bench.to_run(&[axis, set].concat()).len(), 50);
    let text = bench.run(
        &[
            &["diff", "x.toml"],
            &["--set-a", axis[1], "--set-b", axis[1]][..],
            &["--set-b", set[1]][..],
        ]
        .concat(),
    );
    assert!(text.stdout.contains("5 other pairs"), "{}", text.stdout);
}
