//! A rerun does only what changed, seen from outside.

use crate::bench::Bench;

/// Two small networks probed, and a table over them.
const PROBES: &str = r#"
[experiment]
name = "small"

[axes]
width = [2, 4]

[stages.digits]
kind = "images.table"
path = "t.csv"
height = 2
width = 2
test_fraction = 0.5

[stages.net]
kind = "encoder.random"
width = "${width}"
channels = 1

[stages.probe]
kind = "probe.linear"
encoder = "@net"
images = "@digits"
epochs = 3
batch = 4

[stages.wide]
kind = "activations"
encoder = "@net"
images = "@digits"
layers = ["pooled"]

[tables.accuracy]
from = "probe"
rows = ["width"]
values = { accuracy = "mean", loss = "mean" }
"#;

fn bench() -> Bench {
    let bench = Bench::new(PROBES);
    let rows: Vec<String> =
        (0..16).map(|i| format!("{},{},9,200,{}\n", 16 * i, 255 - 9 * i, i % 2)).collect();
    bench.write("t.csv", &rows.concat());
    bench
}

#[test]
fn a_second_run_executes_nothing() {
    let bench = bench();
    assert_eq!(bench.counts(&[]), (7, 0));
    assert_eq!(bench.counts(&[]), (0, 7));
    let table = bench.read("reports/small/accuracy.csv");
    assert!(table.starts_with("width,accuracy"), "{table}");
}

#[test]
fn a_probe_parameter_executes_only_probes() {
    let bench = bench();
    bench.counts(&[]);
    let before = bench.read("reports/small/accuracy.csv");
    let set = ["--set", "stages.probe.learning_rate=0.5"];
    assert_eq!(bench.to_run(&set), ["probe[width=2]", "probe[width=4]"]);
    let plan = bench.run(&["plan", "x.toml", set[0], set[1]]).stdout;
    assert!(
        plan.contains("`learning_rate` 0.0001 -> 0.5 (--set stages.probe.learning_rate=0.5)"),
        "{plan}"
    );
    assert_eq!(bench.counts(&set), (2, 5));
    assert_ne!(bench.read("reports/small/accuracy.csv"), before);
    assert_eq!(bench.counts(&[]), (0, 7));
    assert_eq!(bench.read("reports/small/accuracy.csv"), before);
}

#[test]
fn a_bad_table_hides_nothing_else() {
    let bench = bench();
    let bad =
        "\n[tables.bad]\nfrom = \"probe\"\nrows = [\"width\"]\nvalues = { acuracy = \"mean\" }\n";
    bench.write("x.toml", &(PROBES.to_owned() + bad));
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!((ended.code, ended.counts()), (Some(1), (7, 0)), "{}", ended.stderr);
    assert!(ended.stderr.contains("table `bad` not written"), "{}", ended.stderr);
    assert!(bench.path("reports/small/accuracy.csv").exists());
    bench.write("x.toml", PROBES);
    assert_eq!(bench.counts(&[]), (0, 7));
}

#[test]
fn the_cache_may_lie_elsewhere_and_reports_stay_with_the_experiment() {
    let bench = bench();
    assert_eq!(bench.counts(&["--cache", "far/away"]), (7, 0));
    assert!(bench.path("far/away/v1/nodes").exists() && !bench.path("cache/v1").exists());
    assert!(bench.path("reports/small/index.html").exists() && !bench.path("far/reports").exists());
    // Those that only look make nothing.
    for command in ["plan", "graph"] {
        let ended = bench.run(&[command, "x.toml", "--cache", "nowhere"]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    assert!(!bench.path("nowhere").exists());
}

#[test]
fn what_changes_no_result_executes_nothing() {
    let bench = bench();
    bench.counts(&[]);
    let cases = [
        ("a comment", PROBES.replace("[stages.net]", "# the network\n[stages.net]")),
        (
            "a default spelled out",
            PROBES.replace("batch = 4", "batch = 4\nscaling = \"none\"\nseed = 0"),
        ),
        ("another spelling", PROBES.replace("epochs = 3", "epochs = 0x3")),
        (
            "a stage renamed",
            PROBES.replace("@digits", "@images").replace("stages.digits", "stages.images"),
        ),
        (
            "an about and resources",
            PROBES.replace("epochs = 3", "epochs = 3\nabout = \"why\"\nresources = { cpu = 1 }"),
        ),
        ("the experiment renamed", PROBES.replace("\"small\"", "\"tiny\"")),
    ];
    for (what, text) in cases {
        assert_ne!(text, PROBES, "{what}");
        bench.write("x.toml", &text);
        assert_eq!(bench.counts(&[]), (0, 7), "{what}");
    }
    let mut sections: Vec<&str> = PROBES.split("\n\n").collect();
    sections[2..].reverse();
    bench.write("x.toml", &sections.join("\n\n"));
    assert_eq!(bench.counts(&[]), (0, 7), "reordered");
}

#[test]
fn adding_a_value_to_an_axis_runs_only_the_new_instances() {
    let bench = bench();
    bench.counts(&[]);
    assert_eq!(bench.counts(&["--set", "axes.width=[2, 4, 8]"]), (3, 7));
    assert_eq!(bench.read("reports/small/accuracy.csv").lines().count(), 4);
}

#[test]
fn changed_data_rerun_what_reads_them_and_identical_bytes_stop_there() {
    let bench = Bench::new(
        r#"
[experiment]
name = "cutoff"
[stages.sorted]
kind = "exec"
command = ["sort", "words.txt", "-o", "{outputs.words}"]
files = ["words.txt"]
outputs = { words = "file" }
[stages.count]
kind = "exec"
command = ["cp", "{inputs.words}", "{outputs.copy}"]
inputs = { words = "@sorted" }
outputs = { copy = "file" }
"#,
    );
    bench.write("words.txt", "b\na\n");
    assert_eq!(bench.counts(&[]), (2, 0));
    bench.write("words.txt", "a\nb\n");
    assert_eq!(bench.to_run(&[]), ["sorted", "count"]);
    assert_eq!(bench.counts(&[]), (1, 1), "the sorted words are the same bytes");
    bench.write("words.txt", "c\n");
    assert_eq!(bench.counts(&[]), (2, 0));
}

#[test]
fn a_report_that_was_touched_is_written_again() {
    let bench = bench();
    bench.counts(&[]);
    let before = bench.read("reports/small/accuracy.md");
    bench.write("reports/small/accuracy.md", "scribble");
    assert_eq!(bench.counts(&[]), (0, 7));
    assert_eq!(bench.read("reports/small/accuracy.md"), before);
    let page = bench.read("reports/small/index.html");
    assert!(page.contains("<h1>small</h1>"), "{page}");
}

#[test]
fn what_a_python_script_imports_is_a_part_of_it() {
    let bench = Bench::new(
        "[experiment]\nname = 'python'\n[stages.s]\nkind = 'exec'\n\
         command = ['python3', 'code/main.py', '{outputs.o}', '${n}']\nfiles = ['code/main.py']\n\
         outputs = { o = 'csv' }\n[axes]\nn = [1, 2.5]\n\
         [tables.t]\nfrom = 's.o'\n",
    );
    bench.write(
        "code/main.py",
        "import sys\nfrom tools.lines import lines\nopen(sys.argv[1], 'w').write(lines(sys.argv[2]))\n",
    );
    bench.write("code/tools/lines.py", "def lines(n):\n    return 'x,y\\n' + n + ',a\\n'\n");
    bench.write("code/other.py", "");
    assert_eq!((bench.counts(&[]), bench.counts(&[])), ((2, 0), (0, 2)));
    assert!(bench.run(&["table", "x.toml"]).stdout.contains("2.5"), "a CSV is a table");
    bench.write("code/other.py", "changed = True\n");
    assert_eq!(bench.counts(&[]), (0, 2));
    bench.write("code/tools/lines.py", "def lines(n):\n    return 'x,y\\n' + n + ',b\\n'\n");
    let plan = bench.run(&["plan", "x.toml"]).stdout;
    assert!(plan.contains("the data at `code/tools/lines.py` changed"), "{plan}");
    assert_eq!(bench.counts(&[]), (2, 0));
}
