//! Bad experiments, each with exactly what is said of it: `tests/specs/bad/NAME.stderr` beside `NAME.toml` or `NAME.json`.
//!
//! `SNAPSHOTS=overwrite` writes the expected files anew; read the difference. In `more/` is what some of them name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use snapbox::{Assert, Data};

use crate::bench::{Bench, files};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/specs/bad")
}

/// The files beside each other whose names end in one of these.
fn named(endings: &[&str]) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| endings.iter().any(|ending| path.extension().unwrap() == *ending);
    let here =
        files(&folder()).into_iter().filter(|path| path.parent() == Some(folder().as_path()));
    here.filter(is_one).collect()
}

#[test]
fn of_every_bad_experiment_is_said_what_is_expected() {
    let bench = Bench::new("");
    for path in files(&folder()).iter().filter(|path| path.extension().unwrap() != "stderr") {
        let copy = bench.path(path.strip_prefix(folder()).unwrap().to_str().unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(path, copy).unwrap();
    }
    let inputs = named(&["toml", "json"]);
    assert!(inputs.len() >= 80, "{} files", inputs.len());
    let left = Mutex::new(inputs.iter());
    let differing = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().next();
                    let Some(input) = next else { break };
                    if let Err(difference) = check(&bench, input) {
                        differing.lock().unwrap().push(difference);
                    }
                }
            });
        }
    });
    let differing = differing.into_inner().unwrap();
    assert!(differing.is_empty(), "{} differ\n{}", differing.len(), differing.join("\n"));
}

/// Compares what is said of a file with what is expected.
fn check(bench: &Bench, input: &Path) -> Result<(), String> {
    let name = input.file_name().unwrap().to_str().unwrap();
    let ended = bench.run(&["check", name]);
    if (ended.code, ended.stdout.as_str()) != (Some(2), "") {
        return Err(format!("{name}: {:?}\n{}{}", ended.code, ended.stdout, ended.stderr));
    }
    let expected = Data::read_from(&input.with_extension("stderr"), None).raw();
    let assert = Assert::new().action_env("SNAPSHOTS");
    assert.try_eq(Some(&name), ended.stderr.into(), expected).map_err(|error| error.to_string())
}

#[test]
fn every_expectation_has_its_input_and_its_own_name() {
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_owned();
    let (inputs, expected) = (named(&["toml", "json"]), named(&["stderr"]));
    let stems: BTreeSet<_> = inputs.iter().map(stem).collect();
    assert_eq!(stems.len(), inputs.len(), "two files share what is expected of them");
    let without: Vec<&PathBuf> = expected.iter().filter(|e| !stems.contains(&stem(e))).collect();
    assert!(without.is_empty(), "{without:?}");
}
