//! What stages ask for, what they are given, and what is said where there is less.

use snapbox::assert_data_eq;
use snapbox::str;

use crate::bench::Bench;

/// A stage that writes into `told` what it sees, on some terms.
fn telling(terms: &str) -> Bench {
    let bench = Bench::new("");
    let text = r#"[experiment]
name = "telling"

[stages.tell]
kind = "exec"
command = ["sh", "-c", 'echo "$OMP_NUM_THREADS $${CUDA_VISIBLE_DEVICES-all}" | tee TOLD > "$1"', "sh", "{outputs.o}"]
outputs = { o = "file" }
TERMS
"#;
    let told = bench.path("told").display().to_string();
    bench.write("x.toml", &text.replace("TOLD", &told).replace("TERMS", terms));
    bench
}

#[test]
fn a_stage_sees_its_threads_and_no_gpu_that_it_did_not_ask_for() {
    let bench = telling("resources = { cpu = 3, memory = '1 MiB', time = '1 min' }");
    assert_eq!(bench.counts(&["-j", "5", "--gpus", "none"]), (1, 0));
    assert_eq!(bench.read("told"), "3 \n");
    let bench = telling("resources = { cpu = 3 }");
    assert_eq!(bench.counts(&["-j", "2"]), (1, 0), "a smaller machine gives it fewer threads");
    assert_eq!(bench.read("told"), "2 \n");
}

#[test]
fn terms_are_no_part_of_a_result() {
    let bench = telling("");
    assert_eq!(bench.counts(&[]), (1, 0));
    for set in ["resources.cpu=2", "resources.memory=1MiB", "retries=5", "timeout=2h", "keep=false"]
    {
        let set = format!("stages.tell.{set}");
        assert_eq!(bench.counts(&["--set", &set]), (0, 1), "{set}");
    }
}

#[test]
fn stages_that_need_the_memory_take_turns() {
    let stage = |name: &str| {
        format!(
            "[stages.{name}]\nkind = \"exec\"\noutputs = {{ o = \"file\" }}\n\
             command = [\"sh\", \"-c\", 'mkdir LOCK && sleep 0.1 && rmdir LOCK && echo {name} > \"$1\"', \"sh\", \
             \"{{outputs.o}}\"]\nresources = {{ cpu = 1, memory = \"6 GiB\" }}\n"
        )
    };
    let bench = Bench::new("");
    let stages = ["a", "b", "c"].map(stage).concat();
    let lock = bench.path("lock").display().to_string();
    let text = format!("[experiment]\nname = \"turns\"\n{stages}").replace("LOCK", &lock);
    bench.write("x.toml", &text);
    assert_eq!(bench.counts(&["-j", "3", "--memory", "10GiB"]), (3, 0));
}

#[test]
fn what_this_machine_lacks_is_said_before_anything_runs() {
    let bench = telling("resources = { memory = \"8000 TiB\" }");
    for command in ["check", "plan"] {
        let ended = bench.run(&[command, "x.toml"]);
        assert_eq!(ended.code, Some(0), "it may be run elsewhere: {}", ended.stderr);
        let warning = "warning: `tell` asks for 8000 TiB of memory, more than there is here: ";
        assert!(ended.stderr.starts_with(warning), "{}", ended.stderr);
        assert!(ended.stderr.trim_end().ends_with("(line 8 of x.toml)"), "{}", ended.stderr);
    }
    let ended = bench.run(&["run", "x.toml", "--memory", "16GiB"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert_data_eq!(
        ended.stderr,
        str![[r#"
  × `tell` asks for 8000 TiB of memory, more than there is here: 16 GiB
   ╭─[x.toml:8:13]
 7 │ outputs = { o = "file" }
 8 │ resources = { memory = "8000 TiB" }
   ·             ───────────┬───────────
   ·                        ╰── here
   ╰────
  help: ask for less, as with `--set stages.tell.resources.memory=16384MiB`, or run it where there
        is more
1 error

"#]]
    );
    assert!(!bench.path("told").exists());
    let less = ["--set", "stages.tell.resources.memory=1MiB"];
    assert_eq!(bench.counts(&less), (1, 0));
    assert_eq!(bench.counts(&["--memory", "1GiB"]), (0, 1), "what is cached needs nothing");
    let ended = telling("resources = { gpu = 1000 }").run(&["run", "x.toml"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("`tell` asks for 1000 GPUs, "), "{}", ended.stderr);
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    let check = |flags: &[&str], expected: &str| {
        let ended = telling("").run(&[&["run", "x.toml"], flags].concat());
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(expected), "`{expected}` is not in {}", ended.stderr);
    };
    check(&["--memory", "4"], "`4` is no size: it has no unit");
    check(&["--gpus", "both"], "write numbers with commas between them, or `none`");
    check(&["--gpus", "0,1234"], "there is no GPU ");
    check(&["-j", "many"], "invalid value 'many'");
}
