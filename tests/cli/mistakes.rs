//! What is said of mistakes: all of them, each with its place and a hint.

use snapbox::assert_data_eq;
use snapbox::str;

use crate::bench::Bench;

fn check(text: &str) -> String {
    let ended = Bench::new(text).run(&["check", "x.toml"]);
    assert_eq!(ended.code, Some(2), "{} {}", ended.stdout, ended.stderr);
    ended.stderr
}

#[test]
fn every_mistake_is_reported_at_once() {
    let text = r#"[experiment]
name = "two words"

[axes]
n = [1, 1]

[stages.a]
kind = "encoder.randm"

[stages.b]
kind = "probe.linear"
encodr = "@a"
images = "@c"
epochs = "many"
layer = 4
"#;
    assert_data_eq!(
        check(text),
        str![[r#"
  × an experiment's name is 1 to 100 letters, digits, `_` and `-`
   ╭─[x.toml:2:8]
 1 │ [experiment]
 2 │ name = "two words"
   ·        ─────┬─────
   ·             ╰── here
 3 │ 
   ╰────
  × the axis holds `1` twice
   ╭─[x.toml:5:9]
 4 │ [axes]
 5 │ n = [1, 1]
   ·         ┬
   ·         ╰── here
 6 │ 
   ╰────
  × no kind is called `encoder.randm`
   ╭─[x.toml:8:8]
 7 │ [stages.a]
 8 │ kind = "encoder.randm"
   ·        ───────┬───────
   ·               ╰── here
 9 │ 
   ╰────
  help: did you mean `encoder.random`?
  × stage `b` lacks `encoder`
    ╭─[x.toml:10:9]
  9 │ 
 10 │ [stages.b]
    ·         ┬
    ·         ╰── here
 11 │ kind = "probe.linear"
    ╰────
  help: it is needed: The network whose features are read
  × `probe.linear` has no parameter `encodr`
    ╭─[x.toml:12:1]
 11 │ kind = "probe.linear"
 12 │ encodr = "@a"
    · ───┬──
    ·    ╰── here
 13 │ images = "@c"
    ╰────
  help: did you mean `encoder`?
  × no stage is called `c`
    ╭─[x.toml:13:10]
 12 │ encodr = "@a"
 13 │ images = "@c"
    ·          ──┬─
    ·            ╰── here
 14 │ epochs = "many"
    ╰────
  help: stages: a, b
  × `epochs`: expected a whole number of at least 0, found string "many"
    ╭─[x.toml:14:10]
 13 │ images = "@c"
 14 │ epochs = "many"
    ·          ───┬──
    ·             ╰── here
 15 │ layer = 4
    ╰────
  × `layer`: expected a string, found integer `4`
    ╭─[x.toml:15:9]
 14 │ epochs = "many"
 15 │ layer = 4
    ·         ┬
    ·         ╰── here
    ╰────
8 errors

"#]]
    );
}

#[test]
fn edges_are_checked_by_type() {
    let text = r#"[experiment]
name = "edges"

[stages.net]
kind = "encoder.random"

[stages.probe]
kind = "probe.linear"
encoder = "@net"
images = "@net"

[stages.look]
kind = "activations"
encoder = "@net.history"
images = "@probe"
"#;
    assert_data_eq!(
        check(text),
        str![[r#"
  × `@net` is of type encoder; this input takes dataset
    ╭─[x.toml:10:10]
  9 │ encoder = "@net"
 10 │ images = "@net"
    ·          ───┬──
    ·             ╰── here
 11 │ 
    ╰────
  × `net` has no output `history`
    ╭─[x.toml:14:11]
 13 │ kind = "activations"
 14 │ encoder = "@net.history"
    ·           ───────┬──────
    ·                  ╰── here
 15 │ images = "@probe"
    ╰────
  help: outputs: main
  × `@probe` is of type tensors; this input takes images or dataset or manifolds or movie
    ╭─[x.toml:15:10]
 14 │ encoder = "@net.history"
 15 │ images = "@probe"
    ·          ────┬───
    ·              ╰── here
    ╰────
3 errors

"#]]
    );
}

#[test]
fn values_out_of_range_and_bad_reports_are_found() {
    let text = r#"[experiment]
name = "ranges"
colour = "blue"

[stages.retina]
kind = "waves.simulate"
frames = 10
model = { lansdell = { dt = 0.05, gravity = 9.81 } }

[stages.events]
kind = "movie.segment"
movie = "@retina"
shortest = 0

[tables.t]
from = "evnts"
values = { frames = "average" }
"#;
    assert_data_eq!(
        check(text),
        str![[r#"
  × unknown key `colour`
   ╭─[x.toml:3:1]
 2 │ name = "ranges"
 3 │ colour = "blue"
   · ───┬──
   ·    ╰── here
 4 │ 
   ╰────
  help: keys: name, about, seed
  × `model`: unknown key `gravity`
   ╭─[x.toml:8:35]
 7 │ frames = 10
 8 │ model = { lansdell = { dt = 0.05, gravity = 9.81 } }
   ·                                   ───┬───
   ·                                      ╰── here
 9 │ 
   ╰────
  help: keys: variable, length, dt, noise, noise_interval, capacitance, calcium_reversal,
        potassium_reversal, leak_reversal, synaptic_reversal, noise_reversal, calcium_conductance,
        potassium_conductance, leak_conductance, synaptic_conductance, calcium_midpoint,
        calcium_width, potassium_midpoint, potassium_width, potassium_time, acetylcholine_time,
        hyperpolarization_time, hyperpolarization_strength, hyperpolarization_rate, release_rate,
        release_steepness, release_midpoint, acetylcholine_sensitivity, diffusion,
        applied_current, pulse_start, pulse_duration
  × `shortest` must be at least 1
    ╭─[x.toml:13:12]
 12 │ movie = "@retina"
 13 │ shortest = 0
    ·            ┬
    ·            ╰── here
 14 │ 
    ╰────
  × no stage is called `evnts`
    ╭─[x.toml:16:8]
 15 │ [tables.t]
 16 │ from = "evnts"
    ·        ───┬───
    ·           ╰── here
 17 │ values = { frames = "average" }
    ╰────
  help: did you mean `events`?
  × unknown aggregate `average`, expected one of `mean±sem`, `mean±sd`, `mean`, `median`, `min`,
  │ `max`, `sum`, `count`, `first`, `std`, `sem`, `rate`, `entropy`
    ╭─[x.toml:17:21]
 16 │ from = "evnts"
 17 │ values = { frames = "average" }
    ·                     ────┬────
    ·                         ╰── here
    ╰────
5 errors

"#]]
    );
}

#[test]
fn syntax_errors_and_missing_files_are_explained() {
    assert_data_eq!(
        check("[experiment\nname = 'x'\n"),
        str![[r"
  × invalid TOML: unclosed table, expected `]`
   ╭─[x.toml:1:12]
 1 │ [experiment
   ·            ▲
   ·            ╰── here
 2 │ name = 'x'
   ╰────
  help: is a bracket left open?
1 error

"]]
    );
    let missing = r#"[experiment]
name = "missing"
[stages.digits]
kind = "images.table"
path = "nowhere.csv"
height = 1
width = 1
"#;
    let stderr = check(missing);
    assert!(stderr.contains("nowhere.csv: No such file"), "{stderr}");
    let ended = Bench::new("").run(&["run", "no.toml"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("cannot read no.toml"), "{}", ended.stderr);
}

#[test]
fn overrides_and_profiles_cannot_invent_names() {
    let bench = Bench::new("[experiment]\nname = 'x'\n[stages.net]\nkind = 'encoder.random'\n");
    let check = |arguments: &[&str], expected: &str| {
        let ended = bench.run(&[&["check", "x.toml"], arguments].concat());
        assert_eq!(ended.code, Some(2), "{}", ended.stdout);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    };
    check(&["--set", "stages.nett.width=2"], "did you mean `net`?");
    check(&["--set", "stages.net.widht=2"], "did you mean `width`?");
    check(&["--set", "stages.net.width=wide"], "expected a whole number of at least 0");
    check(&["--set", "stages.net.width"], "has no `=`");
    check(&["--profile", "smoke"], "no profile `smoke`");
    check(&["--set", "axes.n=[1]"], "no axis is called `n`");
    let ended = bench.run(&["check", "x.toml", "--set", "stages.net.width=2"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "x: 1 stage, 1 node, no mistakes\n"));
}

#[test]
fn an_overlay_names_another_variant_and_every_profile_is_checked() {
    let text = r#"[experiment]
name = "variants"
[stages.digits]
kind = "images.table"
path = "t.csv"
height = 1
width = 1
[stages.tiny]
kind = "data.downsample"
images = "@digits"
size = 1
[stages.training]
kind = "network.train"
data = "@tiny"
hidden = [1]
activation = "linear"
optimizer = { gradient_descent = { rate = 0.1 } }
[profiles.heavy]
stages.training.optimizer = { momentum = { rate = 0.2, momentum = 0.5 } }
"#;
    let bench = Bench::new(text);
    bench.write("t.csv", "0,0\n255,1\n0,0\n255,1\n");
    for more in [&["--profile", "heavy"], &["--set", "stages.training.steps=7"]] {
        let ended = bench.run(&[&["check", "x.toml"][..], more].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    let set = ["--set", "stages.training.optimizer.gradient_descent.rate=-1"];
    let ended = bench.run(&[&["check", "x.toml"], &set[..]].concat());
    assert_eq!(ended.code, Some(2), "{}", ended.stdout);
    bench.write(
        "x.toml",
        &text.replace("stages.training.optimizer = { m", "stages.trainig.optimizer = { m"),
    );
    let ended = bench.run(&["check", "x.toml"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stdout);
    assert!(ended.stderr.contains("did you mean `training`?"), "{}", ended.stderr);
}

#[test]
fn the_terms_of_a_stage_are_checked() {
    let text = r#"[experiment]
name = "terms"

[axes]
n = [1, 2]

[stages.net]
kind = "encoder.random"
seed = "${n}"
resources = { cpu = 0, memory = "4 gigs", gpus = 1, time = "${n}" }
retries = "twice"
timeout = 90
keep = "no"
"#;
    assert_data_eq!(
        check(text),
        str![[r#"
  × a stage runs on at least 1 thread: `cpu` is 0
    ╭─[x.toml:10:21]
  9 │ seed = "${n}"
 10 │ resources = { cpu = 0, memory = "4 gigs", gpus = 1, time = "${n}" }
    ·                     ┬
    ·                     ╰── here
 11 │ retries = "twice"
    ╰────
  × `memory`: `4 gigs` is no size: there is no unit `gigs`
    ╭─[x.toml:10:33]
  9 │ seed = "${n}"
 10 │ resources = { cpu = 0, memory = "4 gigs", gpus = 1, time = "${n}" }
    ·                                 ────┬───
    ·                                     ╰── here
 11 │ retries = "twice"
    ╰────
  help: units: B, KiB, MiB, GiB, TiB, KB, MB, GB, TB
  × no resource is called `gpus`
    ╭─[x.toml:10:43]
  9 │ seed = "${n}"
 10 │ resources = { cpu = 0, memory = "4 gigs", gpus = 1, time = "${n}" }
    ·                                           ──┬─
    ·                                             ╰── here
 11 │ retries = "twice"
    ╰────
  help: did you mean `gpu`?
  × `time` takes no `${…}`: it is the same for all instances
    ╭─[x.toml:10:60]
  9 │ seed = "${n}"
 10 │ resources = { cpu = 0, memory = "4 gigs", gpus = 1, time = "${n}" }
    ·                                                            ───┬──
    ·                                                               ╰── here
 11 │ retries = "twice"
    ╰────
  help: write the value itself; a profile or `--set` may change it for a run
  × `retries` is a whole number of at least 0, not a string
    ╭─[x.toml:11:11]
 10 │ resources = { cpu = 0, memory = "4 gigs", gpus = 1, time = "${n}" }
 11 │ retries = "twice"
    ·           ───┬───
    ·              ╰── here
 12 │ timeout = 90
    ╰────
  × `timeout` is a duration with its units, not 90
    ╭─[x.toml:12:11]
 11 │ retries = "twice"
 12 │ timeout = 90
    ·           ─┬
    ·            ╰── here
 13 │ keep = "no"
    ╰────
  help: write it as text, such as "90s", "30 min" or "1h30m"
  × `keep` is `true` or `false`, not a string
    ╭─[x.toml:13:8]
 12 │ timeout = 90
 13 │ keep = "no"
    ·        ──┬─
    ·          ╰── here
    ╰────
7 errors

"#]]
    );
}

#[test]
fn an_edge_to_a_stage_with_mistakes_is_no_mistake() {
    let text = r#"[experiment]
name = "x"
[stages.a]
kind = "exe"
[stages.table]
kind = "exec"
command = ["true"]
outputs = { o = "table" }
[stages.capacity]
kind = "manifold.capacity"
activations = "@a"
"#;
    let said = check(text);
    assert!(said.contains("no kind is called `exe`") && said.ends_with("\n1 error\n"), "{said}");
}
