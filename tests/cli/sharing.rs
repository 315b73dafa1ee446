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
    assert_eq!(bench.everything("lower"), before);
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
    assert_eq!((bench.everything("lower"), told()), (before.0, before.1 + 2));
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
