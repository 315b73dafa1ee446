//! Places that cannot be worked with are refused at once, and what to do about it is said.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::bench::{Bench, flip};

/// A program that reads a file of the user's.
const READS: &str = r#"
[experiment]
name = "reads"
[stages.a]
kind = "exec"
command = ["sh", "-c", 'cat data/* > "$1"', "sh", "{outputs.o}"]
files = ["data"]
outputs = { o = "file" }
"#;

#[test]
fn a_folder_whose_name_is_no_text_is_refused() {
    let bench = Bench::new("");
    let folder = bench.path("").join(OsStr::from_bytes(b"bad\xffdir"));
    fs::create_dir_all(folder.join("data")).unwrap();
    fs::write(folder.join("x.toml"), READS).unwrap();
    fs::write(folder.join("data/f"), "x").unwrap();
    for command in [&["check", "x.toml"][..], &["run", "x.toml"], &["log"], &["cache", "stat"]] {
        let ended = bench.run_in(&folder, command);
        assert_eq!(ended.code, Some(2), "{command:?} {}", ended.stderr);
        assert!(ended.stderr.contains("is not UTF-8\n  hint: give the folder another name"));
    }
}

#[test]
fn data_are_plain_files() {
    let bench = Bench::new(READS);
    bench.write("elsewhere", "x");
    bench.write("data/f", "y");
    symlink(bench.path("elsewhere"), bench.path("data/link")).unwrap();
    assert_eq!(bench.counts(&[]), (1, 0));
    let odd = bench.path("data/odd");
    assert!(Command::new("mkfifo").arg(&odd).status().unwrap().success());
    let refused = || {
        for command in ["check", "plan", "run"] {
            let ended = bench.run(&[command, "x.toml"]);
            assert_eq!(ended.code, Some(2), "{}", ended.stderr);
            let stderr = ended.stderr.replace('\n', " ");
            assert!(stderr.contains("data/odd") && stderr.contains("pipe, a socket"), "{stderr}");
        }
    };
    refused();
    fs::remove_file(&odd).unwrap();
    symlink("/dev/zero", &odd).unwrap();
    refused();
    // Named by itself, too.
    bench.write("x.toml", &READS.replace("[\"data\"]", "[\"data/odd\"]"));
    refused();
}

#[test]
fn what_cannot_be_done_to_a_cache_that_cannot_be_written_says_what_helps() {
    let bench = Bench::new(READS);
    bench.write("data/f", "x");
    assert_eq!(bench.counts(&[]), (1, 0));
    for object in bench.objects("cache") {
        flip(&object);
    }
    let commands: [&[&str]; 3] = [
        &["cache", "pin", "x.toml"],
        &["cache", "gc", "--keep-runs", "0", "--margin", "0", "--yes"],
        &["cache", "verify", "--repair"],
    ];
    for command in commands {
        let Some(ended) = bench.run_beside("cache", command) else { return };
        assert_eq!(ended.code, Some(1), "{command:?} {}", ended.stdout);
        assert!(ended.stderr.contains("hint: this user cannot do that"), "{}", ended.stderr);
    }
}
