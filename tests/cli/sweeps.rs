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
