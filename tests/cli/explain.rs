//! Why a node runs, from one step to all that it comes from.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use snapbox::assert_data_eq;
use snapbox::str;

use crate::bench::{Bench, files, flip};

/// A chain of two programs for each of two words, and a third that reads both.
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
command = ["sh", "-c", 'head -c "$N" "$1" > "$2"', "sh", "{inputs.words}", "{outputs.some}"]
environment = { N = "20" }
inputs = { words = "@first" }
outputs = { some = "file" }

[stages.third]
kind = "exec"
command = ["sh", "-c", 'cat "$1" "$2" > "$3"', "sh", "{inputs.a}", "{inputs.b}", "{outputs.all}"]
inputs = { a = "@first", b = "@second" }
outputs = { all = "file" }
"#;

fn chain() -> Bench {
    let bench = Bench::new(CHAIN);
    bench.write("words.txt", "some words\n");
    bench
}

fn explain(bench: &Bench, arguments: &[&str]) -> String {
    let ended = bench.run(&[&["explain", "x.toml"], arguments].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout
}

#[test]
fn a_parameter_is_told_down_to_its_line() {
    let bench = chain();
    assert_data_eq!(
        explain(&bench, &["third[word=one]"]),
        str![[r"
`third[word=one]` was never computed, and waits on `first[word=one]`, `second[word=one]`
  `first[word=one]` was never computed
  `second[word=one]` was never computed, and waits on `first[word=one]`

"]]
    );
    bench.counts(&[]);
    assert_data_eq!(explain(&bench, &["third[word=one]"]), "`third[word=one]` is cached\n");
    bench.write("x.toml", &CHAIN.replace("\"20\"", "\"15\""));
    assert_data_eq!(
        explain(&bench, &["third[word=one]"]),
        str![[r#"
`third[word=one]` may rerun: it waits on `second[word=one]`
  `second[word=one]` reruns because `environment.N` "20" -> "15" (line 18 of x.toml)

"#]]
    );
    bench.write("words.txt", "other words\n");
    assert_data_eq!(
        explain(&bench, &["third[word=one]", "--set", "stages.third.timeout=\"1h\""]),
        str![[r#"
`third[word=one]` may rerun: it waits on `first[word=one]`, `second[word=one]`
  `first[word=one]` reruns because the data at `files[0]` changed (line 12 of x.toml)
  `second[word=one]` reruns because `environment.N` "20" -> "15" (line 18 of x.toml); it waits on `first[word=one]`

"#]]
    );
}

#[test]
fn what_an_input_came_to_is_told_once_it_is_there() {
    let bench = chain();
    bench.counts(&[]);
    // The first two run with other words, and the third does not: it fails in between.
    bench.write("words.txt", "other words\n");
    let failing = CHAIN.replace("cat \"$1\" \"$2\"", "exit 1; cat \"$1\" \"$2\"");
    bench.write("y.toml", &failing);
    assert_eq!(bench.run(&["run", "y.toml", "-k"]).code, Some(1));
    assert_data_eq!(
        explain(&bench, &["third[word=two]"]),
        str![[r"
`third[word=two]` reruns because `@first` changed; `@second` changed
  `first[word=two]` changed because the data at `files[0]` changed (line 12 of x.toml)
  `second[word=two]` changed because `@first` changed

"]]
    );
    let text = explain(&bench, &["third[word=two]", "--json"]);
    let told: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(told["state"], "run");
    assert_eq!(told["told"][0]["causes"][0]["cause"], "input");
    assert_eq!(told["told"][1]["state"], "changed");
    let cause = &told["told"][1]["causes"][0];
    assert_eq!((&cause["what"], &cause["parameter"]), (&"data".into(), &"files[0]".into()));
    assert_eq!(cause["place"], "line 12 of x.toml");
}

#[test]
fn a_node_that_was_never_computed_has_a_nearest_relative() {
    let bench = chain();
    bench.counts(&[]);
    let set = ["--set", "axes.word=[\"one\", \"two\", \"three\"]"];
    assert_data_eq!(
        explain(&bench, &[&["first[word=three]"], &set[..]].concat()),
        str![[r#"
`first[word=three]` was never computed
  nearest: `first[word=one]` of run [..], from which it differs: `environment.WORD` "one" -> "three" (line 11 of x.toml)

"#]]
    );
}

#[test]
fn a_result_that_another_stage_computed_tells_nothing_of_edges() {
    let copy = |name: &str, of: &str| {
        format!(
            "[stages.{name}]\nkind = \"exec\"\ncommand = [\"cp\", \"{{inputs.w}}\", \"{{outputs.c}}\"]\n\
             inputs = {{ w = \"@{of}\" }}\noutputs = {{ c = \"file\" }}\n"
        )
    };
    let words = "[stages.words]\nkind = \"exec\"\ncommand = [\"cp\", \"words.txt\", \"{outputs.c}\"]\n\
                 files = [\"words.txt\"]\noutputs = { c = \"file\" }\n";
    let head = "[experiment]\nname = \"copies\"\n";
    let text = [head, words, &copy("one", "words"), &copy("two", "one")].concat();
    let bench = Bench::new(&text);
    bench.write("words.txt", "some words\n");
    assert_eq!(bench.counts(&[]), (2, 1), "the copies have one key");
    bench.write("words.txt", "other words\n");
    assert_data_eq!(
        explain(&bench, &["two"]),
        str![[r"
`two` may rerun: it waits on `one`
  `one` may rerun: it waits on `words`
    `words` reruns because the data at `files[0]` changed (line 6 of x.toml)

"]]
    );
}

#[test]
fn removed_and_damaged_results_are_told_apart() {
    let bench = chain();
    bench.counts(&[]);
    let shown = |node: &str| -> Json {
        let shown = bench.run(&["show", "x.toml", node, "--json"]).stdout;
        serde_json::from_str(&shown).unwrap()
    };
    let object = shown("first[word=one]")["outputs"]["words"]["files"][0]["hash"]
        .as_str()
        .unwrap()
        .to_owned();
    let object = bench.objects("cache").into_iter().find(|path| path.ends_with(&object)).unwrap();
    fs::remove_file(&object).unwrap();
    let words = explain(&bench, &["first[word=one]"]);
    assert_data_eq!(words, "`first[word=one]` reruns because its output `words` was removed\n");
    let plan = bench.run(&["plan", "x.toml"]).stdout;
    assert!(plan.contains("its output `words` was removed"), "{plan}");
    bench.counts(&[]);
    let record = |node: &str| {
        let key = shown(node)["key"].as_str().unwrap().to_owned();
        let records = files(&bench.path("cache/v1/nodes"));
        records.into_iter().find(|path| path.to_string_lossy().contains(&key)).unwrap()
    };
    let (first, second) = (record("first[word=one]"), record("first[word=two]"));
    flip(&first);
    assert_eq!(bench.run(&["cache", "verify", "--repair"]).code, Some(0));
    fs::remove_file(second).unwrap();
    assert_data_eq!(
        explain(&bench, &["first[word=one]"]),
        "`first[word=one]` reruns because its record was damaged\n"
    );
    assert_data_eq!(
        explain(&bench, &["first[word=two]"]),
        "`first[word=two]` reruns because its result was removed\n"
    );
}

#[test]
fn what_a_killed_run_computed_counts() {
    let slow = CHAIN.replace("head -c \"$N\"", "sleep 600; head -c \"$N\"");
    let bench = Bench::new(&slow);
    bench.write("words.txt", "some words\n");
    let mut run = bench.start(&["run", "x.toml"]);
    let since = Instant::now();
    // The index last: from it the results of a killed run are known.
    let known = || fs::read_to_string(bench.path("cache/v1/index")).unwrap_or_default();
    while known().lines().filter(|line| !line.is_empty()).count() < 2 {
        assert!(since.elapsed() < Duration::from_mins(1), "nothing is recorded");
        thread::sleep(Duration::from_millis(10));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    assert_data_eq!(
        explain(
            &bench,
            &["first[word=one]", "--set", "stages.first.environment.WORD=\"${word}!\""]
        ),
        "`first[word=one]` reruns because `environment.WORD` \"one\" -> \"one!\" [..]\n"
    );
}

#[test]
fn a_hit_says_where_it_comes_from() {
    let bench = chain();
    bench.counts(&[]);
    assert_data_eq!(
        explain(&bench, &["first[word=one]", "--why-hit"]),
        str![[r"
`first[word=one]` is cached
  key     [..]
  made    [..] in [..] on [..]
  run     [..], of chain
  node    first[word=one] (the same name)
  commit  none

"]]
    );
    let other = CHAIN.replace("\"chain\"", "\"other\"").replace("first", "begin");
    bench.write("x.toml", &other);
    let text = explain(&bench, &["begin[word=one]", "--why-hit"]);
    assert!(text.contains("of another experiment: chain\n"), "{text}");
    assert!(text.contains("first[word=one] (another name)\n"), "{text}");
    let text = explain(&bench, &["begin[word=one]", "--why-hit", "--json"]);
    let told: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(told["hit"]["experiment"], "chain");
    assert_eq!((&told["hit"]["other_node"], &told["state"]), (&true.into(), &"cached".into()));
}

#[test]
fn a_node_that_is_none_is_a_mistake() {
    let ended = chain().run(&["explain", "x.toml", "frist"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("no node is called `frist`"), "{}", ended.stderr);
}
