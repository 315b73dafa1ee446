//! Results shared between caches: read from another, copied to another, handed on in an archive.

use std::fs;

use crate::bench::{Bench, flip};

/// Two programs one after the other, for each of two words.
const CHAIN: &str = r#"
[experiment]
name = "chain"

[axes]
word = ["one", "two"]

[stages.first]
kind = "exec"
command = ["sh", "-c", 'echo first >> "$TOLD"; echo "$WORD" > "$1"', "sh", "{outputs.words}"]
environment = { WORD = "${word}", TOLD = "TOLD" }
outputs = { words = "file" }

[stages.second]
kind = "exec"
command = ["sh", "-c", 'echo second >> "$TOLD"; cat "$1" "$1" > "$2"', "sh", "{inputs.words}", "{outputs.twice}"]
inputs = { words = "@first" }
environment = { TOLD = "TOLD" }
outputs = { twice = "file" }
"#;

/// A folder with the chain, and the set of what is computed told in `told`.
fn chain() -> Bench {
    let bench = Bench::new("");
    bench.write(
        "x.toml",
        &CHAIN.replace("\"TOLD\" }", &format!("\"{}\" }}", bench.path("told").display())),
    );
    bench
}

const FROM: [&str; 2] = ["--cache-from", "lower"];

#[test]
fn a_cache_that_cannot_be_written_serves_hits_and_only_the_rest_is_computed() {
    let bench = chain();
    assert_eq!(bench.counts(&["--cache", "lower", "--set", "axes.word=['one']"]), (2, 0));
    let before = bench.everything("lower");
    let Some(ended) = bench.run_beside("lower", &["run", "x.toml", "--cache-from", "lower"]) else {
        return;
    };
    assert_eq!((ended.code, ended.counts()), (Some(0), (2, 2)), "{}", ended.stderr);
    assert!(bench.everything("lower") == before, "something was written below");
    // The short way, and those who look, find them there too.
    assert_eq!(bench.counts(&FROM), (0, 4));
    assert!(bench.to_run(&FROM).is_empty());
    let show = bench.run(&[&["show", "x.toml", "first[word=one]"][..], &FROM].concat()).stdout;
    assert!(show.contains("/lower/v1/objects/"), "{show}");
    // Without it, they are not there.
    assert_eq!(bench.counts(&[]), (2, 2));
}

#[test]
fn what_is_damaged_in_another_cache_is_computed_here() {
    let bench = chain();
    let one = ["--set", "axes.word=['one']"];
    assert_eq!(bench.counts(&[&one[..], &["--cache", "lower"]].concat()), (2, 0));
    let words = bench.objects("lower").into_iter().find(|path| fs::read(path).unwrap() == b"one\n");
    flip(&words.unwrap());
    let told = || bench.read("told").lines().count();
    // The first stage has a result there, and nobody has looked at it until the second reads it.
    let text = bench.read("x.toml").replace("cat \"$1\" \"$1\"", "cat \"$1\"");
    bench.write("x.toml", &text);
    let before = (bench.everything("lower"), told());
    let ended = bench.run(&[&["run", "x.toml"], &one[..], &FROM].concat());
    assert_eq!((ended.code, ended.counts()), (Some(0), (2, 0)), "{}", ended.stderr);
    assert!(ended.stderr.contains("is damaged: left out, in "), "{}", ended.stderr);
    assert!(ended.stderr.contains("`first[word=one]` is computed again"), "{}", ended.stderr);
    assert!(bench.everything("lower") == before.0, "something was written below");
    assert_eq!(told(), before.1 + 2);
    let all: Vec<_> = bench.objects("cache").iter().map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(all, [b"one\n"], "both left the same bytes");
    assert_eq!(bench.counts(&[&one[..], &FROM].concat()), (0, 2));
}

#[test]
fn a_cache_that_is_not_there_is_no_cache() {
    let bench = chain();
    let ended = bench.run(&["plan", "x.toml", "--cache-from", "nowhere"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("there is no cache in nowhere"), "{}", ended.stderr);
}

#[test]
fn results_are_pushed_and_pulled_once_and_whole() {
    let bench = chain();
    assert_eq!(bench.counts(&[]), (4, 0));
    let ended = bench.run(&["cache", "push", "lab"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("pushed 4 results (4 objects, "), "{}", ended.stdout);
    assert!(bench.run(&["cache", "push", "lab"]).stdout.contains("; 4 were there already"));
    assert_eq!(bench.run(&["cache", "verify", "--cache", "lab"]).code, Some(0));
    let stat = bench.run(&["cache", "stat", "--cache", "lab"]).stdout;
    assert!(stat.contains("(run not known here)/first"), "{stat}");
    assert_eq!(bench.counts(&["--cache", "lab"]), (0, 4));
    // Of two experiments one is pulled, with what it reaches.
    let one = bench.read("x.toml").replace("[\"one\", \"two\"]", "[\"one\"]");
    bench.write("one.toml", &one);
    fs::remove_dir_all(bench.path("cache")).unwrap();
    let ended = bench.run(&["cache", "pull", "lab", "one.toml", "--json", "--cache", "mine"]);
    let data: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(data["copied"]["results"], 2, "{}", ended.stderr);
    assert_eq!(bench.counts(&["--cache", "mine"]), (2, 2));
    // A damaged file stays where it is.
    let lab = bench.objects("lab").remove(0);
    flip(&lab);
    let ended = bench.run(&["cache", "pull", "lab", "--cache", "third"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stdout.contains("pulled 3 results"), "{}", ended.stdout);
    assert!(ended.stderr.contains("was left out: the object "), "{}", ended.stderr);
    assert_eq!(bench.run(&["cache", "verify", "--cache", "third"]).code, Some(0));
    for (command, path) in [("pull", "nowhere"), ("push", "mine")] {
        let ended = bench.run(&["cache", command, path, "--cache", "mine"]);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    }
}

#[test]
fn a_record_that_cannot_be_read_is_told_when_results_are_copied() {
    for (change, words) in
        [("damaged", "it is damaged"), ("newer", "was written by a later version")]
    {
        let bench = chain();
        assert_eq!(bench.counts(&["--cache", "lab"]), (4, 0));
        let record = crate::bench::files(&bench.path("lab/v1/nodes")).remove(0);
        if change == "damaged" {
            flip(&record);
        } else {
            let text = fs::read_to_string(&record).unwrap();
            fs::remove_file(&record).unwrap();
            fs::write(&record, text.replace("\"format\": 2", "\"format\": 9")).unwrap();
        }
        for command in
            [&["cache", "pull", "lab"][..], &["cache", "push", "other", "--cache", "lab"]]
        {
            let ended = bench.run(command);
            assert_eq!(ended.code, Some(1), "{}", ended.stdout);
            assert!(ended.stdout.contains(" 3 results"), "{}", ended.stdout);
            assert!(ended.stderr.contains(words), "{}", ended.stderr);
        }
    }
    // Of an experiment, too.
    let bench = chain();
    assert_eq!(bench.counts(&["--cache", "lab"]), (4, 0));
    flip(&crate::bench::files(&bench.path("lab/v1/nodes")).remove(0));
    fs::remove_file(bench.path("lab/v1/index")).unwrap();
    let ended = bench.run(&["cache", "pull", "lab", "x.toml"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("is damaged"), "{}", ended.stderr);
}

#[test]
fn a_result_is_exported_and_nothing_is_overwritten_unasked() {
    let bench = chain();
    let export = |more: &[&str]| {
        bench.run(&[&["export", "x.toml", "second[word=two]", "out"], more].concat())
    };
    let ended = export(&[]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("has no result yet"), "{}", ended.stderr);
    assert_eq!(bench.counts(&[]), (4, 0));
    let ended = export(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let names = |files: Vec<std::path::PathBuf>| -> Vec<String> {
        files.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    let made = crate::bench::files(&bench.path("out"));
    let [data, record] = made.as_slice() else { panic!("{made:?}") };
    assert_eq!(fs::read_to_string(data).unwrap(), "two\ntwo\n");
    assert_eq!(names(vec![record.clone()]), ["record.json"]);
    assert!(!fs::metadata(data).unwrap().permissions().readonly());
    assert_eq!(export(&[]).code, Some(0), "the same files");
    // What was changed is the user's.
    fs::write(data, "mine").unwrap();
    let ended = export(&[]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("is there and differs"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(data).unwrap(), "mine");
    assert_eq!(export(&["--force"]).code, Some(0));
    assert_eq!(fs::read_to_string(data).unwrap(), "two\ntwo\n");
    assert_eq!(bench.run(&["cache", "verify"]).code, Some(0), "the cache has files of its own");
    // Nothing that is damaged is handed out.
    let object = bench.objects("cache").into_iter().find(|o| fs::read(o).unwrap() == b"two\ntwo\n");
    flip(&object.unwrap());
    fs::remove_dir_all(bench.path("out")).unwrap();
    let ended = export(&[]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("put aside in quarantine/"), "{}", ended.stderr);
    assert!(!bench.path("out").exists());
}

/// A network probed, and a table of the whole training.
const PROBE: &str = r#"
[experiment]
name = "probe"
[axes]
width = [2, 4]
[stages.digits]
kind = "images.table"
path = "data/t.csv"
height = 2
width = 2
test_fraction = 0.5
[stages.net]
kind = "encoder.random"
width = "${width}"
channels = 1
[stages.probe]
kind = "probe.linear"
encoder = "@net"
images = "@digits"
epochs = 3
batch = 4
[tables.history]
from = "probe.history"
rows = ["width"]
values = { loss = "mean" }
[tables.accuracy]
from = "probe"
rows = ["width"]
values = { accuracy = "mean" }
"#;

fn probe() -> Bench {
    let bench = Bench::new(PROBE);
    let rows: Vec<String> =
        (0..16).map(|i| format!("{},{},9,200,{}\n", 16 * i, 255 - 9 * i, i % 2)).collect();
    bench.write("data/t.csv", &rows.concat());
    bench
}

fn tar(bench: &Bench, arguments: &[&str]) {
    let mut tar = std::process::Command::new("tar");
    assert!(tar.args(arguments).current_dir(bench.path("")).status().unwrap().success());
}

#[test]
fn a_pack_is_checked_elsewhere_and_makes_the_same_tables() {
    let bench = probe();
    let pack =
        |more: &[&str]| bench.run(&[&["cache", "pack", "paper.tar", "x.toml"], more].concat());
    let ended = pack(&[]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("probe lacks 5 of 5 results"), "{}", ended.stderr);
    assert_eq!(bench.counts(&[]), (5, 0));
    let ended = pack(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("`--data` packs them too"), "{}", ended.stdout);
    let first = fs::read(bench.path("paper.tar")).unwrap();
    assert_eq!(pack(&["--data"]).code, Some(0));
    let with_data = fs::read(bench.path("paper.tar")).unwrap();
    assert_ne!(with_data, first);
    assert_eq!(pack(&["--data"]).code, Some(0));
    assert_eq!(fs::read(bench.path("paper.tar")).unwrap(), with_data, "the same each time");
    let ended = bench.run(&["cache", "verify", "paper.tar"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("all sound"), "{}", ended.stdout);

    // Elsewhere: what is unpacked is a cache with reports beside it, and nothing is left to compute.
    let there = Bench::new("");
    fs::copy(bench.path("paper.tar"), there.path("paper.tar")).unwrap();
    fs::create_dir(there.path("paper")).unwrap();
    tar(&there, &["-xf", "paper.tar", "-C", "paper"]);
    let table = |at: &Bench, arguments: &[&str]| {
        let ended = at.run(&[&["table"], arguments].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    };
    let unpacked = ["paper/x.toml", "--cache", "paper"];
    assert_eq!(table(&there, &unpacked), table(&bench, &["x.toml"]));
    let ended = there.run(&[&["run"], &unpacked[..]].concat());
    assert_eq!((ended.code, ended.counts()), (Some(0), (0, 5)), "{}", ended.stderr);
    let index = |at: &Bench, folder: &str| at.read(&format!("{folder}reports/probe/accuracy.csv"));
    assert_eq!(index(&there, "paper/"), index(&bench, ""));
    assert_eq!(there.run(&["cache", "verify", "--cache", "paper"]).code, Some(0));
    let ended = there.run(&["cache", "gc", "--keep-runs", "0", "--yes", "--cache", "paper"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(table(&there, &unpacked), table(&bench, &["x.toml"]), "its pin keeps it");
    // It holds what the tables read, and no network.
    assert_eq!(there.objects("paper").len(), 2);
    assert!(bench.objects("cache").len() > 2);
    assert_eq!(pack(&["--all"]).code, Some(0));
    assert!(fs::metadata(bench.path("paper.tar")).unwrap().len() > with_data.len() as u64);

    // Without the data, too.
    fs::create_dir(there.path("bare")).unwrap();
    fs::write(there.path("bare.tar"), &first).unwrap();
    assert_eq!(there.run(&["cache", "verify", "bare.tar"]).code, Some(0));
    tar(&there, &["-xf", "bare.tar", "-C", "bare"]);
    assert!(!there.path("bare/data").exists());
    let bare = ["bare/x.toml", "--cache", "bare"];
    assert_eq!(table(&there, &bare), table(&bench, &["x.toml"]));
    let ended = there.run(&[&["run"], &bare[..]].concat());
    assert_eq!((ended.code, ended.counts()), (Some(0), (0, 5)), "{}", ended.stderr);
    assert_eq!(there.run(&["cache", "verify", "--cache", "bare"]).code, Some(0));
    // What has to be computed says what it lacks, and data that are there count as what they are.
    let anew =
        there.run(&[&["run"], &bare[..], &["--set", "stages.digits.test_fraction=0.25"]].concat());
    assert_eq!(anew.code, Some(1), "{}", anew.stderr);
    assert!(anew.stderr.contains("bare/data/t.csv"), "{}", anew.stderr);
    there.write("bare/data/t.csv", "1,2,3,4,0\n");
    assert_eq!(there.run(&[&["table"], &bare[..]].concat()).code, Some(1));

    // A bit of a report flips.
    let at = with_data.windows(14).position(|w| w == b"width,accuracy").unwrap();
    let mut flipped = with_data.clone();
    flipped[at] ^= 1;
    fs::write(there.path("paper.tar"), flipped).unwrap();
    let ended = there.run(&["cache", "verify", "paper.tar"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("reports/probe/accuracy.csv is damaged"), "{}", ended.stderr);
    fs::write(there.path("paper.tar"), "no archive").unwrap();
    assert_eq!(there.run(&["cache", "verify", "paper.tar"]).code, Some(1));
}
