//! What a lab relies on: damage found, flaky programs tried again, slow ones ended, logs kept, results reproduced.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::bench::{Bench, Ended, await_file, files, flip};

/// Three stages, each of which says that it was computed; `middle` is added to the second.
fn chain(middle: &str) -> Bench {
    let bench = Bench::new("");
    let told = bench.path("computed").display().to_string();
    bench.write(
        "x.toml",
        &format!(
            r#"
[experiment]
name = "chain"
[stages.first]
kind = "exec"
command = ["sh", "-c", 'echo first > "$1"; echo first >> {told}', "sh", "{{outputs.o}}"]
outputs = {{ o = "file" }}
[stages.second]
kind = "exec"
command = ["sh", "-c", 'cat "$1" > "$2"; echo second >> "$2"; echo second >> {told}', "sh", "{{inputs.i}}", "{{outputs.o}}"]
inputs = {{ i = "@first" }}
outputs = {{ o = "file" }}
{middle}
[stages.third]
kind = "exec"
command = ["sh", "-c", 'cksum < "$1" > "$2"; echo third >> {told}', "sh", "{{inputs.i}}", "{{outputs.o}}"]
inputs = {{ i = "@second" }}
outputs = {{ o = "file" }}
environment = {{ TURN = "1" }}
"#
        ),
    );
    bench
}

/// Has the third stage run again the next time.
fn turn(bench: &Bench, number: usize) {
    let text = bench
        .read("x.toml")
        .replace(&format!("TURN = \"{}\"", number - 1), &format!("TURN = \"{number}\""));
    bench.write("x.toml", &text);
}

fn computed(bench: &Bench) -> Vec<String> {
    let told = fs::read_to_string(bench.path("computed")).unwrap_or_default();
    fs::remove_file(bench.path("computed")).ok();
    told.lines().map(str::to_owned).collect()
}

/// The object of a node's only output.
fn object(bench: &Bench, node: &str) -> PathBuf {
    let ended = bench.run(&["show", "x.toml", node, "--json"]);
    let record: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let hash = record["outputs"]["o"]["files"][0]["hash"].as_str().unwrap();
    bench.path(&format!("cache/v1/objects/{}/{hash}", &hash[..2]))
}

#[test]
fn damage_is_met_put_aside_and_mended() {
    let bench = chain("");
    assert_eq!(bench.counts(&[]), (3, 0));
    let damaged = object(&bench, "second");
    fs::set_permissions(&damaged, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&damaged, "first\nsecomd\n").unwrap();
    computed(&bench);
    turn(&bench, 2);
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("was damaged"), "{}", ended.stderr);
    assert!(ended.stderr.contains("`second` is computed again"), "{}", ended.stderr);
    assert!(ended.stderr.contains("[3/3] computed third"), "{}", ended.stderr);
    assert_eq!(computed(&bench), ["second", "third"]);
    assert_eq!(fs::read_to_string(&damaged).unwrap(), "first\nsecond\n");
    assert_eq!(fs::read_dir(bench.path("cache/v1/quarantine")).unwrap().count(), 1);
    // One that is gone is made again the same way.
    fs::remove_file(&damaged).unwrap();
    turn(&bench, 3);
    assert_eq!(bench.counts(&[]), (2, 1));
    assert_eq!(computed(&bench), ["second", "third"]);
}

#[test]
fn what_is_not_kept_goes_counts_as_a_hit_and_comes_back_when_needed() {
    let bench = chain("keep = false");
    assert_eq!(bench.counts(&[]), (3, 0));
    let gone = object(&bench, "second");
    assert!(!gone.exists(), "what read it is recorded");
    assert!(object(&bench, "first").exists());
    computed(&bench);
    assert_eq!(bench.counts(&[]), (0, 3));
    bench.write("x.toml", &format!("# planned anew\n{}", bench.read("x.toml")));
    assert_eq!(bench.counts(&[]), (0, 3));
    assert_eq!(computed(&bench), [] as [&str; 0]);
    turn(&bench, 2);
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!((ended.code, ended.counts()), (Some(0), (2, 1)), "{}", ended.stderr);
    assert!(ended.stderr.contains("computed again: its files were not kept, and are needed"));
    assert!(ended.stderr.contains("[3/3] computed third"), "{}", ended.stderr);
    assert_eq!(computed(&bench), ["second", "third"]);
    assert!(!gone.exists());
}

#[test]
fn what_was_not_kept_is_computed_again_once_it_is_to_be_kept() {
    let bench = chain("keep = false");
    assert_eq!(bench.counts(&[]), (3, 0));
    let export = || bench.run(&["export", "x.toml", "second", "out"]);
    let refused = export();
    assert!(refused.stderr.contains("without that, `wavecrest run x.toml`"), "{}", refused.stderr);
    let text = bench.read("x.toml").replace("keep = false", "");
    bench.write("x.toml", &text);
    computed(&bench);
    let plan = bench.run(&["plan", "x.toml"]).stdout;
    assert!(plan.contains("its files were not kept"), "{plan}");
    assert_eq!(bench.to_run(&[]), ["second"], "what it held is known");
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!((ended.code, ended.counts()), (Some(0), (1, 2)), "{}", ended.stderr);
    assert!(ended.stderr.contains("again: its files were not kept"), "{}", ended.stderr);
    assert_eq!(computed(&bench), ["second"]);
    assert_eq!(export().code, Some(0));
    assert_eq!(bench.counts(&[]), (0, 3));
}

#[test]
fn what_one_experiment_does_not_keep_another_may() {
    // Made by another experiment, pinned or not: it is not this one's to drop.
    let bench = chain("");
    assert_eq!(bench.counts(&[]), (3, 0));
    let kept = object(&bench, "second");
    bench.write(
        "y.toml",
        &bench
            .read("x.toml")
            .replace("outputs = { o = \"file\" }", "outputs = { o = \"file\" }\nkeep = false"),
    );
    assert_eq!(bench.run(&["run", "y.toml"]).counts(), (0, 3));
    assert!(kept.exists(), "it is a result of x.toml");
    // Made by this one, but pinned.
    fs::remove_dir_all(bench.path("cache/v1")).unwrap();
    let text = bench.read("y.toml");
    bench.write("y.toml", &text.replace("cksum", "exit 3; cksum"));
    assert_eq!(bench.run(&["run", "y.toml"]).counts(), (2, 0));
    assert_eq!(bench.run(&["cache", "pin", "x.toml"]).code, Some(0));
    bench.write("y.toml", &text);
    assert_eq!(bench.run(&["run", "y.toml"]).counts(), (1, 2));
    assert!(kept.exists(), "it is pinned");
    assert_eq!(bench.run(&["export", "x.toml", "second", "out"]).code, Some(0));
    // Left by a run of the same file that failed, and wanted by nobody else: it goes after all.
    assert_eq!(bench.run(&["cache", "unpin", "chain"]).code, Some(0));
    fs::remove_dir_all(bench.path("cache/v1")).unwrap();
    bench.write("y.toml", &text.replace("cksum", "exit 3; cksum"));
    assert_eq!(bench.run(&["run", "y.toml"]).counts(), (2, 0));
    assert!(kept.exists());
    bench.write("y.toml", &text);
    assert_eq!(bench.run(&["run", "y.toml"]).counts(), (1, 2));
    assert!(!kept.exists());
}

#[test]
fn what_a_run_is_about_to_read_is_left_to_it() {
    let bench = chain("keep = false");
    let wait = |begun: &str, go: &str| {
        let (begun, go) = (bench.path(begun), bench.path(go));
        format!(
            "touch {}; while [ ! -e {} ]; do sleep 0.02; done; cksum",
            begun.display(),
            go.display()
        )
    };
    // One run has made the second result and is at the third; the other finds the second, and waits before it reads it.
    let text = bench.read("x.toml");
    bench.write("y.toml", &text.replace("cksum", &wait("begun", "go")));
    let text = text.replace("keep = false", "").replace("cksum", &wait("other", "went"));
    bench.write("x.toml", &text);
    let first = bench.start(&["run", "y.toml"]);
    await_file(&bench.path("begun"));
    let second = bench.start(&["run", "x.toml"]);
    await_file(&bench.path("other"));
    bench.write("go", "");
    assert_eq!(Ended::of(first.wait_with_output().unwrap()).code, Some(0));
    assert!(object(&bench, "second").exists());
    bench.write("went", "");
    let ended = Ended::of(second.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.counts()), (Some(0), (1, 2)), "{}", ended.stderr);
}

#[test]
fn a_flaky_program_is_tried_again_as_often_as_the_file_says() {
    let bench = Bench::new("");
    let count = bench.path("count").display().to_string();
    let script = format!("echo x >> {count}; [ $(wc -l < {count}) -ge 2 ] && echo done > \"$1\"");
    let text = |retries: &str| {
        format!(
            "[experiment]\nname = \"flaky\"\n[stages.flaky]\nkind = \"exec\"\n{retries}\n\
             command = ['sh', '-c', '{script}', 'sh', '{{outputs.o}}']\noutputs = {{ o = 'file' }}\n"
        )
    };
    bench.write("x.toml", &text(""));
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!((ended.code, ended.counts()), (Some(1), (0, 0)), "{}", ended.stderr);
    fs::remove_file(bench.path("count")).unwrap();
    bench.write("x.toml", &text("retries = 1"));
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!((ended.code, ended.counts()), (Some(0), (1, 0)), "{}", ended.stderr);
    assert!(ended.stderr.contains("it is tried again in"), "{}", ended.stderr);
    let shown = bench.run(&["show", "x.toml", "flaky"]).stdout;
    assert!(shown.contains("attempt 2"), "{shown}");
}

#[test]
fn a_node_that_takes_too_long_is_ended() {
    let bench = Bench::new(
        "[experiment]\nname = 'late'\n[stages.late]\nkind = 'exec'\ntimeout = '1s'\n\
         command = ['sleep', '60']\noutputs = { o = 'file' }\n\
         [stages.fine]\nkind = 'exec'\ntimeout = '1h'\n\
         command = ['touch', '{outputs.o}']\noutputs = { o = 'file' }\n",
    );
    let ended = bench.run(&["run", "x.toml", "-k"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("timed out after 1 s"), "{}", ended.stderr);
    assert_eq!(ended.counts(), (1, 0), "{}", ended.stderr);
}

#[test]
fn whoever_meets_damage_tells_it() {
    let commands: [&[&str]; 6] = [
        &["plan", "x.toml"],
        &["show", "x.toml", "second"],
        &["logs", "x.toml", "second"],
        &["graph", "x.toml"],
        &["table", "x.toml"],
        &["cache", "pin", "x.toml"],
    ];
    for command in commands {
        let bench = chain("");
        assert_eq!(bench.counts(&[]), (3, 0));
        for record in files(&bench.path("cache/v1/nodes")) {
            flip(&record);
        }
        fs::remove_file(bench.path("cache/v1/index")).unwrap();
        let ended = bench.run(command);
        assert!(ended.stderr.contains("was damaged: put aside"), "{command:?} {ended:?}");
    }
}

#[test]
fn a_log_is_followed_as_long_as_its_run_lives() {
    let bench = Bench::new("");
    let begun = bench.path("begun").display().to_string();
    bench.write(
        "x.toml",
        &format!(
            "[experiment]\nname = 'slow'\n[stages.slow]\nkind = 'exec'\noutputs = {{ o = 'file' }}\n\
             command = ['sh', '-c', 'echo words; touch {begun}; sleep 60']\n"
        ),
    );
    let mut run = bench.start(&["run", "x.toml"]);
    await_file(&bench.path("begun"));
    let mut follower = bench.start(&["logs", "-f", "x.toml", "slow"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "words"));
    let lease = files(&bench.path("cache/v1/leases")).pop().unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    let followed = Ended::of(follower.wait_with_output().unwrap());
    assert_eq!(followed.code, Some(1), "{followed:?}");
    assert!(followed.stderr.contains("ended without a word"), "{}", followed.stderr);
    let left = bench.run(&["logs", "x.toml", "slow"]);
    assert_eq!(left.code, Some(0), "{}", left.stderr);
    assert!(!left.stderr.contains("computes it") && left.stdout.contains("words\n"), "{left:?}");
    // Of another host only the pulse tells.
    let text = fs::read_to_string(&lease).unwrap();
    let host = text.split("\"host\":\"").nth(1).unwrap().split('"').next().unwrap();
    fs::write(&lease, text.replace(&format!("\"{host}\""), "\"far\"")).unwrap();
    let left = bench.run(&["logs", "-f", "--patience", "0.5", "x.toml", "slow"]);
    assert!(left.stderr.contains("on far computes it"), "{left:?}");
    assert_eq!(left.code, Some(1), "{left:?}");
}

#[test]
fn logs_are_kept_with_results_and_with_failures() {
    let bench = Bench::new("");
    let go = bench.path("go").display().to_string();
    let script = format!(
        "echo words; touch {go}-begun; while [ ! -e {go} ]; do sleep 0.02; done; echo more words"
    );
    bench.write(
        "x.toml",
        &format!(
            "[experiment]\nname = 'told'\n[stages.slow]\nkind = 'exec'\n\
             command = ['sh', '-c', '{script}; echo > \"$1\"', 'sh', '{{outputs.o}}']\noutputs = {{ o = 'file' }}\n\
             [stages.bad]\nkind = 'exec'\ncommand = ['sh', '-c', 'echo last words; exit 3']\noutputs = {{ o = 'file' }}\n"
        ),
    );
    let run = bench.start(&["run", "x.toml", "-k"]);
    await_file(&bench.path("go-begun"));
    let now = bench.run(&["logs", "x.toml", "slow"]);
    assert!(now.stdout.ends_with("\nwords\n"), "{now:?}");
    let follower = bench.start(&["logs", "-f", "x.toml", "slow"]);
    bench.write("go", "");
    let followed = Ended::of(follower.wait_with_output().unwrap());
    assert!(followed.stdout.ends_with("\nwords\nmore words\n"), "{followed:?}");
    assert_eq!(Ended::of(run.wait_with_output().unwrap()).code, Some(1));
    let kept = bench.run(&["logs", "x.toml", "slow"]);
    assert!(kept.stdout.ends_with("words\nmore words\n"), "{kept:?}");
    let failed = bench.run(&["logs", "x.toml", "bad"]);
    assert!(failed.stdout.contains("last words"), "{failed:?}");
}

#[test]
fn a_result_is_reproduced_aside_or_its_difference_told() {
    let bench = Bench::new(
        "[experiment]\nname = 'again'\n[stages.same]\nkind = 'exec'\n\
         command = ['sh', '-c', 'echo same > \"$1\"', 'sh', '{outputs.o}']\noutputs = { o = 'file' }\n\
         [stages.other]\nkind = 'exec'\n\
         command = ['sh', '-c', 'cat \"$2\" /proc/sys/kernel/random/uuid > \"$1\"', 'sh', '{outputs.o}', '{inputs.i}']\n\
         inputs = { i = '@same' }\noutputs = { o = 'file' }\n",
    );
    assert_eq!(bench.run(&["reproduce", "x.toml", "same"]).code, Some(1), "there is nothing yet");
    assert_eq!(bench.counts(&[]), (2, 0));
    let list = || {
        let output = Command::new("find").arg(bench.path("cache/v1/objects")).output().unwrap();
        output.stdout
    };
    let before = list();
    let same = bench.run(&["reproduce", "x.toml", "same"]);
    assert_eq!(same.code, Some(0), "{}", same.stderr);
    assert!(same.stdout.contains("the same to the last bit"), "{}", same.stdout);
    let other = bench.run(&["reproduce", "x.toml", "other"]);
    assert_eq!(other.code, Some(1));
    assert!(
        other.stderr.contains("output `o`") && other.stderr.contains("bytes differ"),
        "{other:?}"
    );
    assert_eq!(before, list(), "nothing in the cache changes");
}
