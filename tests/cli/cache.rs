//! The cache kept whole and small: verified, repaired, cleaned.

use std::fs;
use std::path::Path;

use crate::bench::{Bench, files};

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
