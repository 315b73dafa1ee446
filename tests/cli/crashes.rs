//! A result is never wrong because of a crash: processes really killed.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::bench::{Bench, Ended, await_file, files};

/// A stage that is done at once, one that says it has begun and then waits for a file, and one after it.
fn waiting() -> Bench {
    let bench = Bench::new("");
    let (begun, go) = (bench.path("begun"), bench.path("go"));
    let told = bench.path("computed");
    let tell = |stage: &str| format!("echo {stage} >> {}", told.display());
    let script = format!(
        "echo $$ > {0}.part; mv {0}.part {0}; while [ ! -e {1} ]; do sleep 0.02; done; {2}; echo slow > \"$1\"",
        begun.display(),
        go.display(),
        tell("slow")
    );
    let (quick, last) = (tell("quick"), tell("last"));
    bench.write(
        "x.toml",
        &format!(
            r#"
[experiment]
name = "slow"
[stages.quick]
kind = "exec"
command = ["sh", "-c", '{quick}; echo quick > "$1"', "sh", "{{outputs.o}}"]
outputs = {{ o = "file" }}
[stages.slow]
kind = "exec"
command = ["sh", "-c", '{script}', "sh", "{{outputs.o}}"]
inputs = {{ quick = "@quick" }}
outputs = {{ o = "file" }}
[stages.last]
kind = "exec"
command = ["sh", "-c", '{last}; cp "$1" "$2"', "sh", "{{inputs.slow}}", "{{outputs.o}}"]
inputs = {{ slow = "@slow" }}
outputs = {{ o = "file" }}
"#
        ),
    );
    bench
}

/// Starts a run and waits until the slow stage is under way, and the one before it recorded.
fn under_way(bench: &Bench) -> Child {
    let child = bench.start(&["run", "x.toml"]);
    await_file(&bench.path("begun"));
    await_records(bench, 1);
    child
}

/// Waits until so many results are recorded.
fn await_records(bench: &Bench, count: usize) {
    let since = Instant::now();
    let recorded = || {
        let shards = fs::read_dir(bench.path("cache/v1/nodes")).into_iter().flatten();
        let files = shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap());
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some()).count()
    };
    while recorded() < count {
        assert!(since.elapsed() < Duration::from_mins(1), "no record came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_killed_run_leaves_a_usable_cache() {
    let bench = waiting();
    let mut child = under_way(&bench);
    child.kill().unwrap();
    child.wait().unwrap();
    bench.write("go", "");
    let scratch = || fs::read_dir(bench.path("cache/v1/scratch")).unwrap().count();
    assert_eq!(scratch(), 1, "the killed run could not clear its working folder");
    assert_eq!(bench.counts(&[]), (2, 1), "what was finished stays, the rest is computed");
    assert_eq!(scratch(), 0, "the next one does");
    assert_eq!(bench.counts(&[]), (0, 3));
    let log = bench.run(&["log"]).stdout;
    assert!(log.contains("unfinished") && log.contains("done"), "{log}");
}

#[test]
fn workers_end_with_their_coordinator() {
    let bench = waiting();
    let mut child = under_way(&bench);
    let shell = bench.read("begun").trim().to_owned();
    let worker = parent(&shell);
    child.kill().unwrap();
    child.wait().unwrap();
    let since = Instant::now();
    // The worker, and the program that it runs.
    for process in [worker, shell] {
        while alive(&process) {
            assert!(since.elapsed() < Duration::from_secs(20), "{process} is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether a process runs; one that has ended and that nobody has waited for does not.
fn alive(process: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.lines().any(|l| l.starts_with("State:") && !l.contains('Z') && !l.contains('X'))
}

/// The parent of a process.
fn parent(process: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("PPid:")).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn an_interrupt_ends_cleanly_with_130() {
    let bench = waiting();
    let child = under_way(&bench);
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(ended.stderr.contains("the same command goes on from there"), "{}", ended.stderr);
    assert_eq!(ended.counts(), (1, 0));
    bench.write("go", "");
    assert_eq!(bench.counts(&[]), (2, 1));
}

#[test]
fn data_that_change_during_a_run_are_no_cause_of_a_result() {
    let bench = waiting();
    let text = bench.read("x.toml");
    let text = text.replace("inputs = { quick = \"@quick\" }", "files = [\"script\"]");
    assert!(text.contains("script"));
    bench.write("x.toml", &text);
    bench.write("script", "first");
    let child = under_way(&bench);
    bench.write("script", "second");
    bench.write("go", "");
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("`script` changed while the run was under way"),
        "{}",
        ended.stderr
    );
    assert_eq!(bench.counts(&[]), (2, 1), "nothing was recorded for either content");
}

#[test]
fn a_killed_worker_fails_its_node_only() {
    let bench = Bench::new(
        r#"
[experiment]
name = "killed"
[stages.suicide]
kind = "exec"
command = ["sh", "-c", "kill -9 $PPID"]
outputs = { o = "file" }
[stages.fine]
kind = "exec"
command = ["touch", "{outputs.o}"]
outputs = { o = "file" }
"#,
    );
    let ended = bench.run(&["run", "x.toml", "--keep-going"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("`suicide` failed: the worker was killed (signal 9)"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("killed: 1 run, 0 cached, 1 failed"), "{}", ended.stderr);
}

#[test]
fn a_failing_program_is_shown_with_its_last_words() {
    let bench = Bench::new(
        r#"
[experiment]
name = "failing"
[stages.bad]
kind = "exec"
command = ["sh", "-c", "echo it is all too much >&2; exit 3"]
outputs = { o = "file" }
[stages.after]
kind = "exec"
command = ["cp", "{inputs.x}", "{outputs.o}"]
inputs = { x = "@bad" }
outputs = { o = "file" }
"#,
    );
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!(ended.code, Some(1));
    for expected in ["exit status: 3", "it is all too much", "1 failed, 1 skipped"] {
        assert!(ended.stderr.contains(expected), "`{expected}` is not in {}", ended.stderr);
    }
}

/// How often each stage of [`waiting`] was really computed: `quick`, `slow`, `last`.
fn computed(bench: &Bench) -> [usize; 3] {
    let told = fs::read_to_string(bench.path("computed")).unwrap_or_default();
    ["quick", "slow", "last"].map(|stage| told.lines().filter(|line| *line == stage).count())
}

fn signal(name: &str, process: &Child) {
    let id = process.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}

#[test]
fn runs_at_once_compute_each_node_once() {
    let bench = waiting();
    let first = under_way(&bench);
    let mut runs: Vec<Child> = (1..8).map(|_| bench.start(&["run", "x.toml"])).collect();
    runs.push(first);
    bench.write("go", "");
    let mut total = 0;
    for child in runs {
        let ended = Ended::of(child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        total += ended.counts().0;
    }
    assert_eq!(total, 3, "every node belongs to one run");
    assert_eq!(computed(&bench), [1, 1, 1]);
    assert_eq!(bench.counts(&[]), (0, 3));
}

#[test]
fn a_run_that_waits_goes_on_when_the_other_is_killed() {
    let bench = waiting();
    let mut first = under_way(&bench);
    let second = bench.start(&["run", "x.toml"]);
    first.kill().unwrap();
    first.wait().unwrap();
    bench.write("go", "");
    let ended = Ended::of(second.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.counts(), (2, 1), "{}", ended.stderr);
}

#[test]
fn a_run_that_stood_still_too_long_commits_nothing() {
    let bench = waiting();
    let patient = ["run", "x.toml", "--patience", "1"];
    let first = bench.start(&patient);
    await_file(&bench.path("begun"));
    await_records(&bench, 1);
    signal("-STOP", &first);
    fs::remove_file(bench.path("begun")).unwrap();
    let second = bench.start(&patient);
    // The second takes the node over and begins it anew.
    await_file(&bench.path("begun"));
    bench.write("go", "");
    let ended = Ended::of(second.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.counts()), (Some(0), (2, 1)), "{}", ended.stderr);
    signal("-CONT", &first);
    let ended = Ended::of(first.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.counts()), (Some(0), (1, 2)), "{}", ended.stderr);
    assert_eq!(computed(&bench), [1, 2, 1]);
}

#[test]
fn a_file_that_is_edited_and_put_back_is_not_taken_for_the_cause() {
    let bench = Bench::new("");
    let (begun, go) = (bench.path("begun"), bench.path("go"));
    bench.write(
        "x.toml",
        &format!(
            "[experiment]\nname = 'x'\n[stages.slow]\nkind = 'exec'\n\
             command = ['sh', '-c', 'touch {}; while ! test -e {}; do sleep 0.01; done; echo > $1', 'sh', '{{outputs.o}}']\n\
             outputs = {{ o = 'file' }}\n\
             [stages.next]\nkind = 'exec'\ncommand = ['sh', '-c', 'sh s.sh > $1', 'sh', '{{outputs.o}}']\n\
             inputs = {{ i = '@slow' }}\nfiles = ['s.sh']\noutputs = {{ o = 'file' }}\n",
            begun.display(),
            go.display()
        ),
    );
    bench.write("s.sh", "echo planned");
    let child = bench.start(&["run", "x.toml"]);
    await_file(&begun);
    bench.write("s.sh", "echo edited; sleep 1");
    fs::write(&go, "").unwrap();
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("`s.sh` changed while the run was under way"),
        "{}",
        ended.stderr
    );
    bench.write("s.sh", "echo planned");
    assert_eq!(bench.counts(&[]), (1, 1));
    assert_eq!(bench.run(&["export", "x.toml", "next", "out"]).code, Some(0));
    let texts: Vec<String> =
        files(&bench.path("out")).iter().map(|f| fs::read_to_string(f).unwrap()).collect();
    assert!(texts.contains(&"planned\n".to_owned()), "{texts:?}");
}

#[test]
fn an_object_that_was_cut_is_found_by_a_rerun() {
    let bench = Bench::new(
        "[experiment]\nname = 'x'\n[stages.a]\nkind = 'exec'\n\
         command = ['sh', '-c', 'echo word > $1', 'sh', '{outputs.o}']\noutputs = { o = 'file' }\n",
    );
    assert_eq!((bench.counts(&[]), bench.counts(&[])), ((1, 0), (0, 1)));
    let object = bench.objects("cache").remove(0);
    fs::remove_file(&object).unwrap();
    fs::write(&object, "").unwrap();
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!((ended.code, ended.counts()), (Some(0), (1, 0)), "{}", ended.stderr);
    assert!(ended.stderr.contains("was damaged: put aside"), "{}", ended.stderr);
    assert_eq!(bench.counts(&[]), (0, 1));
}
