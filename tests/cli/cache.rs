//! The cache kept whole and small: verified, repaired, cleaned.

use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use crate::bench::{Bench, Ended, await_file, files};

/// Two programs one after the other, for each of two words.
const CHAIN: &str = r#"
[experiment]
name = "chain"

[axes]
word = ["one", "two"]

[stages.first]
kind = "exec"
command = ["sh", "-c", 'cat words.txt > "$1"; echo "$WORD" >> "$1"', "sh", "{outputs.words}"]
environment = { WORD = "${word}" }
files = ["words.txt"]
outputs = { words = "file" }

[stages.second]
kind = "exec"
command = ["sh", "-c", 'cat "$1" "$1" > "$2"', "sh", "{inputs.words}", "{outputs.twice}"]
inputs = { words = "@first" }
outputs = { twice = "file" }
"#;

/// A folder in which the chain has been run.
fn chain() -> Bench {
    let bench = Bench::new(CHAIN);
    bench.write("words.txt", "some words\n");
    assert_eq!(bench.counts(&[]), (4, 0));
    bench
}

/// What the second programs left.
fn contents(bench: &Bench) -> Vec<String> {
    ["one", "two"].map(|word| bench.contents(&format!("second[word={word}]"), &[])).concat()
}

/// Changes one bit of a file, in place.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_in_any_file_is_found_mended_and_harmless() {
    let bench = chain();
    // With a note of what is done, which the second run reads.
    assert_eq!(bench.counts(&[]), (0, 4));
    let expected = contents(&bench);
    let mut kinds = std::collections::BTreeSet::new();
    let all = files(&bench.path("cache/v1"));
    for path in all {
        let kind = path.strip_prefix(bench.path("cache/v1")).unwrap().components().next().unwrap();
        kinds.insert(kind.as_os_str().to_string_lossy().into_owned());
        for place in [0.0, 0.5, 1.0] {
            let whole = fs::read(&path).unwrap();
            flip(&path, (place * (whole.len() - 1) as f64) as usize);
            let ended = bench.run(&["cache", "verify"]);
            assert_eq!(ended.code, Some(1), "{}: {}", path.display(), ended.stdout);
            assert!(ended.stderr.contains("cache verify --repair"), "{}", ended.stderr);
            let ended = bench.run(&["cache", "verify", "--repair"]);
            assert_eq!(ended.code, Some(0), "{}: {}", path.display(), ended.stderr);
            let ended = bench.run(&["cache", "verify"]);
            assert!(ended.stdout.ends_with("all sound\n"), "{}", ended.stdout);
            let ended = bench.run(&["run", "x.toml"]);
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            assert_eq!(contents(&bench), expected, "{}", path.display());
            if !path.exists() {
                fs::write(&path, &whole).unwrap();
            }
        }
    }
    let kinds: Vec<String> = kinds.into_iter().collect();
    assert_eq!(kinds, ["index", "nodes", "objects", "runs", "sets", "settled", "stamps"]);
}

#[test]
fn a_record_of_a_later_format_is_refused_in_words() {
    let bench = chain();
    let record = files(&bench.path("cache/v1/nodes")).remove(0);
    let text = fs::read_to_string(&record).unwrap();
    let later = text.replacen("\"format\": 2", "\"format\": 3", 1);
    assert_ne!(later, text);
    fs::write(&record, &later).unwrap();
    // The index is of this version and may answer for it; it may also be lost.
    fs::remove_file(bench.path("cache/v1/index")).unwrap();
    fs::remove_dir_all(bench.path("cache/v1/settled")).unwrap();
    let words = "was written by a later version of wavecrest (format 3; this one reads up to 2)";
    let commands: [&[&str]; 4] = [
        &["run", "x.toml"],
        &["plan", "x.toml"],
        &["cache", "verify"],
        &["cache", "verify", "--repair"],
    ];
    for command in commands {
        let ended = bench.run(command);
        assert_eq!(ended.code, Some(1), "{command:?}: {}", ended.stdout);
        assert!(ended.stderr.contains(words), "{command:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains("--repair"), "it cannot help: {}", ended.stderr);
        assert_eq!(fs::read_to_string(&record).unwrap(), later);
    }
}

#[test]
fn a_damaged_input_is_computed_again_in_the_run_that_reads_it() {
    let bench = chain();
    let expected = contents(&bench);
    let words = bench
        .objects("cache")
        .into_iter()
        .find(|path| fs::read(path).unwrap() == b"some words\none\n");
    flip(&words.unwrap(), 3);
    let text = bench.read("x.toml").replace("cat \"$1\" \"$1\"", "cat  \"$1\" \"$1\"");
    bench.write("x.toml", &text);
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!((ended.code, ended.counts()), (Some(0), (3, 1)), "{}", ended.stderr);
    assert!(ended.stderr.contains("was damaged: put aside in quarantine/"), "{}", ended.stderr);
    assert!(ended.stderr.contains("`first[word=one]` is computed again"), "{}", ended.stderr);
    assert_eq!(contents(&bench), expected);
    assert_eq!(bench.run(&["cache", "verify"]).code, Some(0));
}

/// What `cache stat` says, as data.
fn stat(bench: &Bench) -> Json {
    let ended = bench.run(&["cache", "stat", "--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// Runs `cache gc` with `--json`, and yields the nodes whose results it chose.
fn chosen(bench: &Bench, arguments: &[&str]) -> Vec<String> {
    let ended = bench.run(&[&["cache", "gc", "--json"], arguments].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let data: Json = serde_json::from_str(&ended.stdout).unwrap();
    let results = data["results"].as_array().unwrap().iter();
    let mut nodes: Vec<String> =
        results.map(|result| result["node"].as_str().unwrap().to_owned()).collect();
    nodes.sort();
    nodes
}

const ONE: [&str; 2] = ["--set", "axes.word=['one']"];

#[test]
fn a_cleaning_says_what_it_would_remove_and_removes_it_when_told() {
    let bench = chain();
    assert!(chosen(&bench, &[]).is_empty(), "the last runs keep it");
    let all = ["first[word=one]", "first[word=two]", "second[word=one]", "second[word=two]"];
    assert_eq!(chosen(&bench, &["--keep-runs", "0"]), all);
    assert!(chosen(&bench, &["--keep-runs", "0", "x.toml"]).is_empty(), "it is named");
    let before = bench.everything("cache");
    // Without a terminal nothing is asked, and without `--yes` nothing is removed.
    for more in [&["--dry-run"][..], &[]] {
        let ended = bench.run(&[&["cache", "gc", "--keep-runs", "0"], more].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains("results of chain/first"), "{}", ended.stdout);
        assert_eq!(ended.stderr.contains("`--yes` removes it"), more.is_empty());
        assert!(bench.everything("cache") == before, "something was removed");
    }
    // Half of the experiment is pinned, and another run uses the same words.
    let ended = bench.run(&[&["cache", "pin", "x.toml", "--name", "half"], &ONE[..]].concat());
    assert_eq!(ended.stdout, "pinned 2 results as `half`\n", "{}", ended.stderr);
    assert_eq!(chosen(&bench, &["--keep-runs", "0"]), [all[1], all[3]]);
    let ended = bench.run(&["cache", "gc", "--keep-runs", "0", "--yes"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("removed 2 results and 2 objects"), "{}", ended.stdout);
    assert_eq!(bench.objects("cache").len(), 2);
    assert_eq!(bench.run(&["cache", "verify"]).code, Some(0));
    assert_eq!(bench.counts(&[]), (2, 2), "what was pinned is there");
    let ended = bench.run(&["cache", "unpin", "hal"]);
    assert!(ended.stderr.contains("did you mean `half`?"), "{}", ended.stderr);
    assert_eq!(bench.run(&["cache", "unpin", "half"]).code, Some(0));
    assert_eq!(chosen(&bench, &["--keep-runs", "0"]).len(), 4);
}

#[test]
fn a_cleaning_asks_on_a_terminal() {
    let bench = chain();
    let gc = ["cache", "gc", "--keep-runs", "0"];
    for (typed, left) in [("n\n", 4), ("\n", 4), ("y\n", 0)] {
        let Some(said) = bench.run_on_a_terminal(&gc, typed) else { return };
        assert!(said.contains("remove all this? [y/N]"), "{said}");
        let told = if left == 0 { "removed 4 results" } else { "nothing was removed" };
        assert!(said.contains(told), "{said}");
        assert_eq!(bench.objects("cache").len(), left);
    }
}

#[test]
fn a_cleaning_keeps_what_is_young_or_fits() {
    let bench = chain();
    let keep = ["--keep-runs", "0"];
    let chosen = |more: &[&str]| chosen(&bench, &[&keep, more].concat()).len();
    assert_eq!(chosen(&["--older-than", "1h"]), 0);
    assert_eq!(chosen(&["--max-size", "1MiB"]), 0);
    assert_eq!(chosen(&["--max-size", "1B"]), 4);
    let three = stat(&bench)["record_bytes"].as_u64().unwrap();
    assert_eq!(chosen(&["--max-size", &format!("{three}B")]), 1);
    let ended = bench.run(&["cache", "gc", "--max-size", "10"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("`10` is no size"), "{}", ended.stderr);
}

#[test]
fn what_a_change_left_behind_is_removed() {
    let bench = chain();
    let text = bench.read("x.toml");
    bench.write("x.toml", &text.replace("cat \"$1\" \"$1\"", "cat \"$1\""));
    assert_eq!(bench.counts(&[]), (2, 2));
    let old = ["second[word=one]", "second[word=two]"];
    assert_eq!(chosen(&bench, &["--keep-runs", "1"]), old);
    assert_eq!(chosen(&bench, &["--keep-runs", "0", "x.toml"]), old);
    assert_eq!(bench.run(&["cache", "gc", "--keep-runs", "1", "--yes"]).code, Some(0));
    // With the set and the note of the first run, and no more than that.
    let count = |folder: &str| files(&bench.path(&format!("cache/v1/{folder}"))).len();
    assert_eq!((count("sets"), count("settled"), count("nodes"), count("runs")), (1, 1, 4, 2));
    assert_eq!(bench.counts(&[]), (0, 4));
    // What is named is still known to be done.
    bench.write("x.toml", &text);
    assert_eq!(bench.counts(&[]), (2, 2));
    assert_eq!(bench.run(&["cache", "gc", "--keep-runs", "0", "--yes", "x.toml"]).code, Some(0));
    assert_eq!((count("sets"), count("settled"), count("nodes")), (1, 1, 4));
}

/// A script that says that it has begun and waits until it may go on.
fn waiting(bench: &Bench) -> String {
    let (begun, go) = (bench.path("begun"), bench.path("go"));
    format!("touch {}; while [ ! -e {} ]; do sleep 0.02; done", begun.display(), go.display())
}

#[test]
fn a_cleaning_leaves_a_run_that_is_going_on_what_it_needs() {
    let bench = chain();
    // The first stage is a hit of the very first run, and the second waits before it reads what it left.
    let text = bench.read("x.toml");
    let slow = text.replace("cat \"$1\" \"$1\"", &format!("{}; cat \"$1\"", waiting(&bench)));
    assert_ne!(slow, text);
    bench.write("x.toml", &slow);
    let child = bench.start(&["run", "x.toml"]);
    await_file(&bench.path("begun"));
    let gc = ["cache", "gc", "--keep-runs", "0", "--yes"];
    // Nothing goes that is younger than the run, give or take what clocks may differ by.
    let ended = bench.run(&gc);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("a run of chain on "), "{}", ended.stdout);
    assert!(ended.stdout.contains("nothing to remove"), "{}", ended.stdout);
    // Of what is older, what it has found stays.
    let ended = bench.run(&[&gc[..], &["--margin", "0"]].concat());
    assert!(ended.stdout.contains("removed 2 results and 2 objects"), "{}", ended.stdout);
    bench.write("go", "");
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.counts()), (Some(0), (2, 2)), "{}", ended.stderr);
    assert!(!ended.stderr.contains("computed again"), "{}", ended.stderr);
    let left = contents(&bench);
    assert_eq!(bench.run(&["cache", "verify"]).code, Some(0));
    // What it took and what it made are what a cleaning keeps now.
    assert_eq!(bench.run(&["cache", "gc", "--keep-runs", "1", "--yes"]).code, Some(0));
    assert_eq!((bench.counts(&[]), contents(&bench)), ((0, 4), left));
}

#[test]
fn a_run_whose_inputs_are_taken_away_computes_them_again() {
    let bench = chain();
    let expected = contents(&bench);
    let text = bench.read("x.toml").replace("\"@first\"", "\"@first\", gate = \"@gate\"");
    let wait = waiting(&bench);
    bench.write(
        "x.toml",
        &format!(
            r#"{text}
[stages.gate]
kind = "exec"
command = ["sh", "-c", '{wait}; echo > "$1"', "sh", "{{outputs.o}}"]
outputs = {{ o = "file" }}
"#
        ),
    );
    let child = bench.start(&["run", "x.toml"]);
    await_file(&bench.path("begun"));
    for object in bench.objects("cache") {
        fs::remove_file(object).unwrap();
    }
    bench.write("go", "");
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.counts()), (Some(0), (5, 0)), "{}", ended.stderr);
    assert_eq!(contents(&bench), expected);
}

#[test]
fn a_table_that_is_damaged_is_computed_again_before_it_is_shown() {
    let bench = Bench::new(
        r#"
[experiment]
name = "probe"
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
[stages.probe]
kind = "probe.linear"
encoder = "@net"
images = "@digits"
epochs = 3
batch = 4
[tables.history]
from = "probe.history"
"#,
    );
    let rows: Vec<String> =
        (0..16).map(|i| format!("{},{},9,200,{}\n", 16 * i, 255 - 9 * i, i % 2)).collect();
    bench.write("t.csv", &rows.concat());
    assert_eq!(bench.counts(&[]), (3, 0));
    let table = bench.read("reports/probe/history.csv");
    let is_table = |path: &std::path::PathBuf| fs::read(path).unwrap().starts_with(b"PAR1");
    let object = bench.objects("cache").into_iter().find(is_table).unwrap();
    let len = fs::metadata(&object).unwrap().len() as usize;
    flip(&object, len / 3);
    let ended = bench.run(&["table", "x.toml"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("put aside in quarantine/"), "{}", ended.stderr);
    assert_eq!(bench.counts(&[]), (1, 2));
    // A report that is to be written anew finds it in the run itself.
    flip(&object, len / 3);
    fs::remove_file(bench.path("reports/probe/history.csv")).unwrap();
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!((ended.code, ended.counts()), (Some(0), (1, 2)), "{}", ended.stderr);
    assert!(ended.stderr.contains("put aside in quarantine/"), "{}", ended.stderr);
    assert_eq!(bench.read("reports/probe/history.csv"), table);
    assert_eq!(bench.run(&["cache", "verify"]).code, Some(0));
}

#[test]
fn what_is_in_a_cache_is_counted_by_experiment_stage_and_age() {
    let bench = chain();
    bench.write("y.toml", &CHAIN.replace("\"chain\"", "\"other\"").replace("\"two\"", "\"three\""));
    assert_eq!(bench.run(&["run", "y.toml"]).counts(), (2, 2));
    bench.run(&["cache", "pin", "y.toml"]);
    let stat = stat(&bench);
    let names = |group: &str| -> Vec<(String, u64)> {
        let groups = stat[group].as_array().unwrap().iter();
        let named = |g: &Json| (g["name"].as_str().unwrap().into(), g["results"].as_u64().unwrap());
        let mut named: Vec<_> = groups.map(named).collect();
        named.sort();
        named
    };
    assert_eq!((&stat["results"], &stat["objects"]), (&Json::from(6), &Json::from(6)));
    assert_eq!(names("by_experiment"), [("chain".into(), 4), ("other".into(), 2)]);
    assert_eq!(names("by_stage").len(), 4);
    assert_eq!(names("by_age"), [("up to a day".into(), 6)]);
    assert_eq!(stat["pins"][0]["results"], 4);
    let text = bench.run(&["cache", "stat"]).stdout;
    for expected in ["6 results", "chain/first", "up to a day", "other: other, since "] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_cache_that_is_named_and_is_not_there_is_a_slip() {
    let bench = chain();
    let commands: [&[&str]; 6] = [
        &["cache", "stat"],
        &["cache", "verify"],
        &["cache", "gc"],
        &["cache", "gc", "x.toml"],
        &["cache", "push", "lab"],
        &["log"],
    ];
    for command in commands {
        let ended = bench.run(&[command, &["--cache", "nowhere"]].concat());
        assert_eq!(ended.code, Some(2), "{command:?} {}", ended.stdout);
        assert!(ended.stderr.contains("there is no cache in nowhere"), "{}", ended.stderr);
        assert!(!bench.path("nowhere").exists());
    }
    // Where none is named, there may be none yet.
    fs::remove_dir_all(bench.path("cache/v1")).unwrap();
    for command in &commands[..3] {
        assert_eq!(bench.run(command).code, Some(0));
    }
    for command in [&["cache", "stat"][..], &["run", "x.toml"]] {
        let ended = bench.run(&[command, &["--cache", "x.toml"]].concat());
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        let words = ["is no folder", "there is no cache in x.toml"];
        assert!(words.iter().any(|words| ended.stderr.contains(words)), "{}", ended.stderr);
    }
}
