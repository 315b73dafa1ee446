//! What stands in `reports/NAME`: always what the last run could make, and nothing older.

use std::fs;

use snapbox::assert_data_eq;
use snapbox::str;

use crate::bench::Bench;

const TEXT: &str = r#"
[experiment]
name = "look"

[axes]
width = [1, 2]

[stages.net]
kind = "encoder.random"
width = "${width}"
channels = 1

[stages.say]
kind = "exec"
command = ["sh", "-c", 'test "$FAIL" = no && echo "$WIDTH" > "$1"', "sh", "{outputs.words}"]
environment = { FAIL = "no", WIDTH = "width ${width}" }
outputs = { words = "file" }

[tables.size]
from = "net"
rows = ["width"]
values = { parameters = "sum", width = "max" }

[tables.said]
from = "say"
rows = ["width"]

[figures.size]
from = "net"
mark = "bar"
x = "width"
y = "parameters"
"#;

const FAIL: [&str; 3] = ["--set", "stages.say.environment.FAIL=\"yes\"", "-k"];

fn run(bench: &Bench, more: &[&str]) -> String {
    bench.run(&[&["run", "x.toml"], more].concat()).stderr
}

/// The names of the files that are there for users.
fn files(bench: &Bench) -> Vec<String> {
    let Ok(folder) = fs::read_dir(bench.path("reports/look")) else { return Vec::new() };
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

const ALL: [&str; 11] = [
    "index.html",
    "said.csv",
    "said.md",
    "said.parquet",
    "said.tex",
    "size.csv",
    "size.md",
    "size.parquet",
    "size.png",
    "size.svg",
    "size.tex",
];

#[test]
fn only_what_changed_is_written_again() {
    let bench = Bench::new(TEXT);
    assert!(run(&bench, &[]).contains("3 reports written to reports/look"));
    assert_eq!(files(&bench), ALL);
    assert!(run(&bench, &[]).contains("reports in reports/look are up to date"));
    let head =
        |bench: &Bench| bench.read("reports/look/size.csv").lines().next().unwrap().to_owned();
    let before = head(&bench);

    // The order of values is the order of columns.
    bench.write(
        "x.toml",
        &TEXT.replace(
            r#"{ parameters = "sum", width = "max" }"#,
            r#"{ width = "max", parameters = "sum" }"#,
        ),
    );
    assert!(run(&bench, &[]).contains("1 report written"));
    let swapped: Vec<String> = before.split(',').map(str::to_owned).collect();
    assert_eq!(head(&bench), format!("{},{},{}", swapped[0], swapped[2], swapped[1]));

    // The page is made of what is there, the parts that were not evaluated among them.
    let page = bench.read("reports/look/index.html");
    for part in ["table-size", "table-said", "figure-size", "<svg"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn a_report_that_cannot_be_made_spoils_no_other() {
    let bench = Bench::new(&TEXT.replace("y = \"parameters\"", "y = \"parametrs\""));
    let text = run(&bench, &[]);
    assert!(text.contains("figure `size` not written: no column `parametrs`"), "{text}");
    assert!(text.contains("2 reports written"), "{text}");
    assert!(
        !files(&bench).contains(&"size.svg".to_owned())
            && files(&bench).contains(&"size.csv".to_owned())
    );
    let page = bench.read("reports/look/index.html");
    assert!(page.contains("no column `parametrs`") && page.contains("table-size"), "{page}");

    let ended = bench.run(&["table", "x.toml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    bench.write("x.toml", &TEXT.replace("parameters = \"sum\"", "parametrs = \"sum\""));
    let ended = bench.run(&["table", "x.toml"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("table `size`: no column `parametrs`"), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("said\n"), "{}", ended.stdout);
}

#[test]
fn outdated_files_go() {
    let bench = Bench::new(TEXT);
    run(&bench, &[]);

    // A report that lacks results.
    let text = run(&bench, &FAIL);
    assert!(text.contains("table `said` not written: lacks 2 of 2 results"), "{text}");
    assert!(files(&bench).iter().all(|file| !file.starts_with("said")), "{:?}", files(&bench));
    let page = bench.read("reports/look/index.html");
    assert!(page.contains("lacks 2 of 2 results") && page.contains("table-size"), "{page}");
    run(&bench, &[]);
    assert_eq!(files(&bench), ALL);

    // A format that is no longer asked for.
    bench.write(
        "x.toml",
        &TEXT
            .replace("rows = [\"width\"]\nvalues", "rows = [\"width\"]\nwrite = [\"csv\"]\nvalues"),
    );
    run(&bench, &[]);
    let kept: Vec<&str> =
        ALL.into_iter().filter(|f| !["size.md", "size.parquet", "size.tex"].contains(f)).collect();
    assert_eq!(files(&bench), kept);

    // Every report lacks results.
    let only_said = |text: &str| {
        let (before, rest) = text.split_once("[tables.size]").unwrap();
        let (_, said) = rest.split_once("[tables.said]").unwrap();
        let (said, _) = said.split_once("[figures.size]").unwrap();
        format!("{before}[tables.said]{said}")
    };
    bench.write("x.toml", &only_said(TEXT));
    run(&bench, &FAIL);
    assert_eq!(files(&bench), ["index.html"]);
    assert!(bench.read("reports/look/index.html").contains("lacks 2 of 2 results"));

    // No report is asked for.
    bench.write("x.toml", TEXT.split_once("[tables.size]").unwrap().0);
    run(&bench, &[]);
    assert_eq!(files(&bench), [""; 0]);
}

#[test]
fn the_page_says_what_was_laid_over_the_file() {
    let bench = Bench::new(&format!("{TEXT}\n[profiles.wide]\nstages.net.channels = 2\n"));
    run(&bench, &["--profile", "wide", "--set", "experiment.seed=3"]);
    let page = bench.read("reports/look/index.html");
    assert_eq!(page.matches("--profile wide --set experiment.seed=3").count(), 2, "{page}");
    run(&bench, &[]);
    let page = bench.read("reports/look/index.html");
    assert!(
        !page.contains("--profile") && page.contains("<dt>overrides</dt><dd>none</dd>"),
        "{page}"
    );
}

#[test]
fn the_version_moves_with_what_is_written() {
    let bench =
        Bench::new(&TEXT.replace("y = \"parameters\"", "y = \"parameters\"\nwrite = [\"svg\"]"));
    run(&bench, &[]);
    let mut found = format!("{}", wavecrest::report::memo::VERSION);
    for file in ["size.csv", "size.md", "size.tex", "size.parquet", "size.svg"] {
        let (hash, _) =
            wavecrest::store::hash::file(&bench.path(&format!("reports/look/{file}"))).unwrap();
        found += &format!(" {}", hash.short());
    }
    assert_eq!(
        found, "3 268452085c1e a7792fb368f1 2dc2f6718e2d 0db4512db017 c6382db7fca7",
        "reports are written differently: move `memo::VERSION`, so that old ones are made again, and then this text"
    );
}

#[test]
fn mistakes_in_reports_are_found_before_anything_runs() {
    let text = r#"[experiment]
name = "x"

[axes]
out = [{ name = "t", types = { t = "table" } }, { name = "w", types = { w = "file" } }]

[stages.say]
kind = "exec"
command = ["true"]
outputs = "${out.types}"

[tables.a]
from = "say.t"
rows = ["out"]
values = { out = "count" }
sort = ["out", "-ou"]

[figures.b]
layers = [{ from = "say", x = "say" }]
y = "out"
width = 5000
order = { ot = ["t"] }
"#;
    let ended = Bench::new(text).run(&["check", "x.toml"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert_data_eq!(
        ended.stderr,
        str![[r#"
  × `say[out=w]` has no table `t`
    ╭─[x.toml:13:8]
 12 │ [tables.a]
 13 │ from = "say.t"
    ·        ───┬───
    ·           ╰── here
 14 │ rows = ["out"]
    ╰────
  help: there are no tables here
  × the table cannot be sorted by `ou`; it can by its `rows` and its `values`
    ╭─[x.toml:16:16]
 15 │ values = { out = "count" }
 16 │ sort = ["out", "-ou"]
    ·                ──┬──
    ·                  ╰── here
 17 │ 
    ╰────
  × the instances of `say` differ in their main output
    ╭─[x.toml:19:20]
 18 │ [figures.b]
 19 │ layers = [{ from = "say", x = "say" }]
    ·                    ──┬──
    ·                      ╰── here
 20 │ y = "out"
    ╰────
  help: name a table that all have, such as `say.table`
  × `width` must be between 100 and 4000 pixels
    ╭─[x.toml:21:9]
 20 │ y = "out"
 21 │ width = 5000
    ·         ──┬─
    ·           ╰── here
 22 │ order = { ot = ["t"] }
    ╰────
  × `order` is about `ot`, which the figure does not use so
    ╭─[x.toml:22:11]
 21 │ width = 5000
 22 │ order = { ot = ["t"] }
    ·           ─┬
    ·            ╰── here
    ╰────
  help: columns: say
5 errors

"#]]
    );
}
