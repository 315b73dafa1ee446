//! Disks that are full, mounted for reading only, or somebody else's. They are real, in a namespace of their own; where
//! the system does not allow one, the test says so and ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::bench::{Bench, Ended};

/// Three stages of programs; `blocks` KiB are what the second one writes.
fn bench(blocks: usize) -> Bench {
    Bench::new(&format!(
        r#"
[experiment]
name = "disks"
[stages.one]
kind = "exec"
command = ["sh", "-c", "echo one > \"$1\"", "sh", "{{outputs.o}}"]
outputs = {{ o = "file" }}
[stages.two]
kind = "exec"
command = ["sh", "-c", "head -c {blocks}k /dev/zero > \"$2\"; cat \"$1\" >> \"$2\"", "sh", "{{inputs.i}}", "{{outputs.o}}"]
inputs = {{ i = "@one" }}
outputs = {{ o = "file" }}
[stages.three]
kind = "exec"
command = ["sh", "-c", "cksum < \"$1\" > \"$2\"", "sh", "{{inputs.i}}", "{{outputs.o}}"]
inputs = {{ i = "@two" }}
outputs = {{ o = "file" }}
"#
    ))
}

/// Runs a script as the root of a namespace in which it may mount; `None` where that is not allowed.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn in_a_namespace(folder: &Path, script: &str) -> Option<Ended> {
    let enter = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script]);
        command.current_dir(folder).env("WAVECREST", env!("CARGO_BIN_EXE_wavecrest")).output()
    };
    if !enter("mount -t tmpfs none /mnt").is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this system allows no namespaces of users and mounts");
        return None;
    }
    Some(Ended::of(enter(script).unwrap()))
}

#[test]
fn a_disk_that_is_really_full_is_named_and_nothing_is_lost() {
    let bench = bench(3000);
    // Two mebibytes do; then there is more room.
    let script = "mkdir -p small; mount -t tmpfs -o size=2m none small
        code=0; $WAVECREST --cache small run x.toml || code=$?
        echo first $code
        mount -o remount,size=20m small
        $WAVECREST --cache small run x.toml; echo second $?";
    let Some(ended) = in_a_namespace(&bench.path(""), script) else { return };
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, "first 1\nsecond 0\n", "{}", ended.stderr);
    for expected in [
        "No space left on device",
        "disks: 1 run, 0 cached, 1 failed, 1 skipped",
        "disks: 2 run, 1 cached",
    ] {
        assert!(ended.stderr.contains(expected), "`{expected}` is not in\n{}", ended.stderr);
    }
}

#[test]
fn a_cache_that_can_only_be_read_serves_what_it_has() {
    let bench = bench(1);
    let script = "$WAVECREST run x.toml 2>/dev/null
        mount --bind cache cache; mount -o remount,bind,ro cache
        code=0; $WAVECREST run x.toml || code=$?; echo hits $code
        code=0; $WAVECREST plan x.toml > /dev/null || code=$?; echo plan $code
        code=0; $WAVECREST run x.toml --set 'stages.three.command=[\"false\"]' || code=$?; echo miss $code";
    let Some(ended) = in_a_namespace(&bench.path(""), script) else { return };
    assert_eq!(ended.stdout, "hits 0\nplan 0\nmiss 1\n", "{}", ended.stderr);
    for expected in ["disks: 0 run, 3 cached", "Read-only file system", "--cache"] {
        assert!(ended.stderr.contains(expected), "`{expected}` is not in\n{}", ended.stderr);
    }
}

#[test]
fn a_cache_of_somebody_else_is_read_and_its_refusal_explained() {
    let bench = bench(1);
    assert_eq!(bench.counts(&[]), (3, 0));
    // As nobody in particular, where this is root, whom nothing is refused.
    let run = |more: &[&str]| {
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
            command.arg(env!("CARGO_BIN_EXE_wavecrest"));
            command
        } else {
            Command::new(env!("CARGO_BIN_EXE_wavecrest"))
        };
        command.args(["run", "x.toml"]).args(more).current_dir(bench.path(""));
        Ended::of(command.output().unwrap())
    };
    set_modes(&bench.path(""), 0o555);
    let (hits, miss) = (run(&[]), run(&["--set", "stages.three.command=['false']"]));
    set_modes(&bench.path(""), 0o755);
    assert_eq!(hits.code, Some(0), "{}", hits.stderr);
    assert!(hits.stderr.contains("disks: 0 run, 3 cached"), "{}", hits.stderr);
    assert_eq!(miss.code, Some(1), "{}", miss.stderr);
    for expected in ["Permission denied", "--cache"] {
        assert!(miss.stderr.contains(expected), "`{expected}` is not in\n{}", miss.stderr);
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}

fn set_modes(place: &Path, mode: u32) {
    fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
    if place.is_dir() {
        for entry in fs::read_dir(place).unwrap() {
            set_modes(&entry.unwrap().path(), mode);
        }
    }
    fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
}
