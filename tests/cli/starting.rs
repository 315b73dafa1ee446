//! How somebody begins: an experiment to start from, and a shell that completes its commands.

use std::fs;

use snapbox::assert_data_eq;
use snapbox::str;

use crate::bench::Bench;

#[test]
fn a_new_experiment_passes_its_check_and_runs() {
    let bench = Bench::new("");
    let ended = bench.run(&["new", "first"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    assert_data_eq!(
        ended.stderr,
        str![[r"
wrote first.toml; wavecrest.schema.json beside it explains each key to editors
  hint: `wavecrest run first.toml` computes it in seconds; `wavecrest kinds` lists what its stages can do

"]]
    );
    let text = bench.read("first.toml");
    assert!(text.starts_with("#:schema ./wavecrest.schema.json\n"), "{text}");
    assert_eq!(bench.read("wavecrest.schema.json"), bench.run(&["schema"]).stdout);
    for profile in [&[][..], &["--profile", "long"]] {
        let ended = bench.run(&[&["check", "first.toml"], profile].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    let small = ["axes.replicate=[0, 1]", "stages.retina.frames=200", "stages.retina.burn_in=1"];
    let small: Vec<&str> = small.iter().flat_map(|value| ["--set", value]).collect();
    let ended = bench.run(&[&["run", "first.toml"], &small[..]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.counts(), (8, 0));
    assert!(bench.path("reports/first/durations.svg").is_file());
}

#[test]
fn a_new_experiment_replaces_nothing() {
    let bench = Bench::new("mine");
    let ended = bench.run(&["new", "x"]);
    assert_eq!(ended.code, Some(2));
    assert_data_eq!(
        ended.stderr,
        str![[r"
x.toml is there already
  hint: take another name, or remove the file

"]]
    );
    assert_eq!(bench.read("x.toml"), "mine");

    bench.write("wavecrest.schema.json", "{}");
    let ended = bench.run(&["new", "y.toml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("is another version's"), "{}", ended.stderr);
    assert_eq!(bench.read("wavecrest.schema.json"), "{}");
    let names = fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["cache", "wavecrest.schema.json", "x.toml", "y.toml"]);
}

#[test]
fn a_new_experiment_goes_where_it_is_told_to() {
    let bench = Bench::new("");
    let ended = bench.run(&["new", "papers/waves-2.toml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(bench.read("papers/waves-2.toml").contains("\nname  = \"waves-2\"\n"));
    assert!(bench.path("papers/wavecrest.schema.json").is_file());
    let ended = bench.run(&["new", "papers/waves-3.toml"]);
    assert!(ended.stderr.contains("was there already"), "{}", ended.stderr);

    for wrong in ["my experiment", "papers/waves", "a b.toml", ".toml", ""] {
        let ended = bench.run(&["new", wrong]);
        assert_eq!(ended.code, Some(2), "{wrong}");
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
    assert_data_eq!(
        bench.run(&["new", "papers/waves"]).stderr,
        str![[r"
an experiment's name is 1 to 100 letters, digits, `_` and `-`, not `papers/waves`
  hint: the path of a file ends in `.toml`, as in experiments/waves.toml

"]]
    );
}

#[test]
fn shells_complete_every_command() {
    let bench = Bench::new("");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = bench.run(&["completions", shell]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        for word in ["run", "reproduce", "completions", "keep-runs", "mermaid"] {
            assert!(ended.stdout.contains(word), "{shell} lacks {word}");
        }
    }
    let ended = bench.run(&["completions", "csh"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("[possible values: bash, "), "{}", ended.stderr);
}
