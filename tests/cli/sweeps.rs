//! Sweeps as a program sees them: instances gathered, and selected by name.

use serde_json::{Value as Json, json};

use crate::bench::{Bench, files};

const GATHERED: &str = r#"
[experiment]
name = "gathered"

[axes]
word = ["b", "a"]
replicate = { range = [0, 2] }

[stages.say]
kind = "exec"
command = ["sh", "-c", "echo ${word}${replicate} > $1", "sh", "{outputs.o}"]
outputs = { o = "file" }

[stages.all]
kind = "exec"
command = ["sh", "-c", "cat $1/index.json > $2; cat $1/*/file > $3", "sh", "{inputs.words}", "{outputs.index}", "{outputs.o}"]
inputs = { words = { stage = "say", over = ["replicate"] } }
outputs = { index = "file", o = "file" }
"#;

#[test]
fn a_program_reads_what_is_gathered_and_where_it_comes_from() {
    let bench = Bench::new(GATHERED);
    assert_eq!(bench.counts(&[]), (6, 0));
    let ended = bench.run(&["export", "x.toml", "all[word=a]", "out"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let texts: Vec<String> =
        files(&bench.path("out")).iter().map(|f| std::fs::read_to_string(f).unwrap()).collect();
    assert!(texts.contains(&"a0\na1\n".to_owned()), "{texts:?}");
    let index = texts.iter().find(|text| text.starts_with('[')).unwrap();
    let index: Json = serde_json::from_str(index).unwrap();
    let entry = |n: i64| json!({ "at": { "replicate": n }, "type": "file", "files": [format!("{n}/file")] });
    assert_eq!(index, json!([entry(0), entry(1)]));
    // One more to gather: its own node, and those that gather it.
    let more = ["--set", "axes.replicate={ range = [0, 3] }"];
    assert_eq!(bench.counts(&more), (4, 4));
    let shown = bench.run(&["show", "x.toml", "all[word=a]"]);
    assert!(shown.stdout.contains("@say[replicate=1]"), "{}", shown.stdout);
}

const CHAINED: &str = r#"
[experiment]
name = "chained"

[axes]
word = ["a", "b"]
n = { range = [0, 2] }

[stages.say]
kind = "exec"
command = ["sh", "-c", "test ${word}${n} != bad; echo ${word}${n} > $1", "sh", "{outputs.o}"]
outputs = { o = "file" }

[stages.loud]
kind = "exec"
command = ["sh", "-c", "tr a-z A-Z < $1 > $2", "sh", "{inputs.i}", "{outputs.o}"]
inputs = { i = "@say" }
outputs = { o = "file" }

[stages.last]
kind = "exec"
command = ["cp", "{inputs.i}", "{outputs.o}"]
inputs = { i = "@loud" }
outputs = { o = "file" }

[stages.other]
kind = "exec"
command = ["sh", "-c", "echo > $1", "sh", "{outputs.o}"]
outputs = { o = "file" }
"#;

#[test]
fn only_what_is_selected_is_run() {
    let bench = Bench::new(CHAINED);
    let run = |more: &[&str]| {
        let ended = bench.run(&[&["run", "x.toml"], more].concat());
        assert_eq!(ended.code, Some(0), "{more:?}: {}", ended.stderr);
        let out = ended.stderr.lines().find(|line| line.contains(" run, ")).unwrap().to_owned();
        let left = out.split(" left out").next().filter(|_| out.contains("left out"));
        let left = left.map_or(0, |text| text.rsplit(' ').next().unwrap().parse().unwrap());
        (ended.counts().0, ended.counts().1, left)
    };
    assert_eq!(run(&["--only", "loud[word=a,n=1]"]), (2, 0, 11));
    let plan = bench.run(&["plan", "x.toml", "--only", "say[n=1]"]).stdout;
    assert!(plan.contains("skip    loud      3  not selected"), "{plan}");
    assert!(plan.contains("1 to run, 0 waiting on them, 2 cached"), "{plan}");
    assert!(plan.contains(", 10 not selected\n"), "{plan}");
    // What is there counts, wanted or not.
    assert_eq!(run(&["--only", "say[n=1]"]), (1, 2, 10));
    assert_eq!(run(&["--only", "say[word=b,n=*]+", "--except", "last"]), (3, 3, 7));
    assert_eq!(run(&["--except", "loud", "--except", "other"]), (1, 6, 6));
    assert_eq!(run(&[]), (6, 7, 0));
    let check = |arguments: &[&str], expected: &[&str]| {
        let ended = bench.run(arguments);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        for part in expected {
            assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
    };
    let only = |selector: &'static str| ["run", "x.toml", "--only", selector];
    check(&only("lod"), &["no stage is called `lod`", "did you mean `loud`?"]);
    check(&only("say[m=1]"), &["stage `say` has no axis `m`", "axes: word, n"]);
    check(&only("say[n=7]"), &["no instance of `say` has `n=7`", "values: 0, 1"]);
    check(&only("say[n"), &["`say[n` names no node"]);
    check(&["run", "x.toml", "--only", "lod", "--except", "lats"], &["`lod`", "`lats`"]);
    let shown = bench.run(&["show", "x.toml", "last[n=1, word=a]"]);
    assert!(shown.stdout.starts_with("last[word=a,n=1]"), "{} {}", shown.stdout, shown.stderr);
    check(&["show", "x.toml", "say[n=1]"], &["`say[n=1]` names 2 nodes", "say[word=a,n=1]"]);
}

#[test]
fn what_failed_is_run_again_alone() {
    let bench = Bench::new(&CHAINED.replace("!= bad;", "!= b1 || test -e /nowhere || exit 3;"));
    let ended = bench.run(&["run", "x.toml", "--keep-going"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("10 run, 0 cached, 1 failed, 2 skipped"), "{}", ended.stderr);
    let again = bench.run(&["run", "x.toml", "--failed"]);
    assert!(again.stderr.contains("0 run, 10 cached, 1 failed"), "{}", again.stderr);
    let empty = Bench::new(CHAINED).run(&["run", "x.toml", "--failed"]);
    assert_eq!(empty.code, Some(1));
    assert!(empty.stderr.contains("there is no earlier run of chained"), "{}", empty.stderr);
}
