//! The engine driven whole, with toy kinds: what runs, what is taken from the cache, what fails and what goes on.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::checkpoint::Checkpointing;
use super::event::Event;
use super::executor::InProcess;
use super::graph::Graph;
use super::machine::Machine;
use super::resources::Capacity;
use super::run::{Later, Options, Results, run};
use super::status::{Status, survey};
use super::toys::TOYS;
use crate::plan::{self, Plan};
use crate::spec::experiment::{Overlays, load};
use crate::spec::{Diagnostics, Sources};
use crate::store::lease::Owner;
use crate::store::stamps::Stamps;
use crate::store::{Store, files, hash};

pub(super) const CHAIN: &str = r#"
[experiment]
name = "toy"
seed = 1
[stages.a]
kind = "toy.constant"
value = 4
[stages.b]
kind = "toy.constant"
value = 10
[stages.half]
kind = "toy.half"
of = "@a"
[stages.sum]
kind = "toy.sum"
left = "@half"
right = "@b"
"#;

/// Plans a text.
pub(super) fn plan(folder: &Path, text: &str) -> Result<Plan, String> {
    let file = folder.join("x.toml");
    files::write_atomic(&file, text.as_bytes()).unwrap();
    let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
    let experiment = load(&file, &Overlays::default(), &mut sources, &mut errors);
    let plan = experiment
        .and_then(|e| plan::build(e, &sources, TOYS, &mut Stamps::default(), &mut errors));
    plan.filter(|_| errors.is_empty()).ok_or_else(|| errors.render(&sources, false))
}

pub(super) fn options(store: &Store, threads: usize, keep_going: bool) -> Options {
    let scratch = store.root().join("scratch");
    files::make_folder(&scratch).unwrap();
    let owner = Owner::this("h", "r");
    Options {
        run: "r".into(),
        capacity: Capacity::of_threads(threads),
        machine: Machine::default(),
        wanted: None,
        keep_going,
        owner,
        patience: Duration::from_mins(1),
        commit: Later::new(Box::new(|| None)),
        scratch,
        checkpoints: Checkpointing::default(),
    }
}

pub(super) fn run_graph(graph: &Graph, store: &Store, options: &Options) -> (Results, Vec<Event>) {
    let mut events = Vec::new();
    let never = AtomicBool::new(false);
    let mut watcher = |event: &Event| events.push(event.clone());
    let results = run(graph, store, &InProcess::of(TOYS), options, &never, &mut watcher);
    (results, events)
}

/// Runs a text and yields how many nodes were computed and how many cached.
fn computed(folder: &Path, text: &str) -> (usize, usize) {
    let plan = plan(folder, text).unwrap();
    let store = Store::open(&folder.join("cache")).unwrap();
    // Each text is a run of its own: what another has made is not its to drop.
    let run = hash::bytes(text.as_bytes()).short();
    let owner = Owner::this("h", &run);
    let options = Options { run, owner, ..options(&store, 2, false) };
    let (results, _) = run_graph(&plan.graph, &store, &options);
    assert!(results.failures.is_empty(), "{:?}", results.failures);
    (results.computed, results.cached)
}

#[test]
fn a_rerun_does_only_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let run = |text: &str| computed(folder.path(), text);
    assert_eq!(run(CHAIN), (4, 0));
    let cases = [
        ("the same", CHAIN.to_owned(), 0),
        ("a comment", CHAIN.replace("seed = 1", "# why\nseed = 1"), 0),
        (
            "the terms of a stage",
            CHAIN.replace(
                "value = 4",
                "value = 4\nresources = { cpu = 1, memory = '1 GiB', time = '1h' }\n\
                retries = 0\ntimeout = '1h'\nkeep = false",
            ),
            0,
        ),
        ("a default spelled out", CHAIN.replace("value = 10", "value = 0xA\nseed = 0"), 0),
        ("a stage renamed", CHAIN.replace("half", "moiety").replace("toy.moiety", "toy.half"), 0),
        ("an upstream rerun to identical bytes", CHAIN.replace("value = 4", "value = 5"), 2),
        ("a change that matters", CHAIN.replace("value = 4", "value = 6"), 3),
        ("a parameter of the last", CHAIN.replace("value = 10", "value = 11"), 2),
        ("another root seed", CHAIN.replace("seed = 1", "seed = 2"), 2),
    ];
    for (what, text, expected) in cases {
        assert_eq!(run(&text), (expected, 4 - expected), "{what}");
    }
    let mut sections: Vec<&str> = CHAIN.split("[stages.").collect();
    sections[1..].reverse();
    assert_eq!(run(&sections.join("[stages.")), (0, 4), "reordered");
}

#[test]
fn the_result_is_right_and_its_record_complete() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), CHAIN).unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    let (results, _) = run_graph(&plan.graph, &store, &options(&store, 1, false));
    let sum = plan.graph.find("sum").unwrap();
    let record = results.records[sum.index()].as_ref().unwrap();
    let located = store.locate(&record.outputs["main"]);
    assert_eq!(files::read_text(located.path("number.txt").unwrap()).unwrap(), "12");
    let whole = store.record(&record.key).unwrap().unwrap();
    assert_eq!(whole.inputs.keys().collect::<Vec<_>>(), ["@b", "@half"]);
    assert_eq!(record.provenance.node, "sum");
    assert!(matches!(&survey(&plan.graph, &store).unwrap()[sum.index()], Status::Cached(_)));
}

#[test]
fn a_damaged_or_missing_object_is_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(computed(folder.path(), CHAIN), (4, 0));
    let plan = plan(folder.path(), CHAIN).unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    let half = plan.graph.find("half").unwrap();
    let Status::Cached(record) = &survey(&plan.graph, &store).unwrap()[half.index()] else {
        panic!()
    };
    files::remove(&store.object(&record.outputs["main"].files[0].hash)).unwrap();
    assert_eq!(computed(folder.path(), CHAIN), (1, 3));
    // One that no longer is what its name says gives way to the right bytes when it is computed again.
    let object = store.object(&record.outputs["main"].files[0].hash);
    files::remove(&object).unwrap();
    files::write_atomic(&object, b"3").unwrap();
    let hex = record.key.to_hex();
    files::remove(&store.root().join("nodes").join(&hex[..2]).join(hex + ".json")).unwrap();
    assert_eq!(computed(folder.path(), CHAIN), (1, 3));
    assert_eq!(files::read_text(&object).unwrap(), "2");
}

#[test]
fn nodes_with_one_key_are_computed_and_fail_once() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "{CHAIN}instead = \"fail\"\n[stages.same]\nkind = \"toy.sum\"\nleft = \"@half\"\nright = \"@b\"\n\
         instead = \"fail\"\n[stages.after]\nkind = \"toy.half\"\nof = \"@same\"\n"
    );
    for keep_going in [true, false] {
        let plan = plan(folder.path(), &text).unwrap();
        let store = Store::open(&folder.path().join("cache")).unwrap();
        let (results, _) = run_graph(&plan.graph, &store, &options(&store, 2, keep_going));
        assert_eq!((results.failures.len(), results.skipped), (1, 2));
        assert_eq!(results.computed + results.cached, 3);
    }
}

#[test]
fn axes_propagate_and_share() {
    let folder = tempfile::tempdir().unwrap();
    let text = CHAIN
        .replace("seed = 1", "seed = 1\n[axes]\nn = { range = [0, 3] }\nwhich = [\"a\", \"b\"]")
        .replace("value = 4", "value = \"${n}\"")
        .replace("of = \"@a\"", "of = \"@${which}\"");
    let plan = plan(folder.path(), &text).unwrap();
    let count = |stage: &str| plan.graph.instances(stage).count();
    assert_eq!((count("a"), count("b"), count("half"), count("sum")), (3, 1, 6, 6));
    assert!(plan.graph.find("sum[n=2,which=b]").is_some());
    // Of six halves, @b's three share one key, and 0 and 1 halve to the same sum.
    let store = Store::open(&folder.path().join("cache")).unwrap();
    let (results, _) = run_graph(&plan.graph, &store, &options(&store, 2, false));
    assert_eq!((results.computed + results.cached, results.failures.len()), (16, 0));
    assert_eq!(results.computed, 3 + 1 + 4 + 3);
}

#[test]
fn a_failure_stops_what_depends_on_it_and_keep_going_the_rest() {
    for instead in ["panic", "fail"] {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "{CHAIN}instead = \"{instead}\"\n[stages.after]\nkind = \"toy.half\"\nof = \"@sum\"\n"
        );
        let plan = plan(folder.path(), &text).unwrap();
        let store = Store::open(&folder.path().join("cache")).unwrap();
        let (results, events) = run_graph(&plan.graph, &store, &options(&store, 2, true));
        assert_eq!((results.computed, results.failures.len(), results.skipped), (3, 1, 1));
        let failure = &results.failures[0].1;
        let expected = if instead == "panic" { "as asked" } else { "no such thing" };
        assert!(failure.message.contains(expected), "{failure:?}");
        assert!(failure.hint.is_some());
        assert!(events.iter().any(|e| matches!(e, Event::Skipped(_))));
        // What is done stays done.
        let (again, _) = run_graph(&plan.graph, &store, &options(&store, 2, true));
        assert_eq!((again.computed, again.cached), (0, 3));
    }
}

#[test]
fn an_interrupt_ends_running_nodes_and_keeps_results() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{CHAIN}instead = \"wait\"\n");
    let plan = plan(folder.path(), &text).unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    let interrupt = AtomicBool::new(false);
    let sum = plan.graph.find("sum").unwrap();
    let mut watcher = |event: &Event| {
        if matches!(event, Event::Started { node, .. } if *node == sum) {
            interrupt.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let executor = InProcess::of(TOYS);
    let options = options(&store, 2, false);
    let results = run(&plan.graph, &store, &executor, &options, &interrupt, &mut watcher);
    assert!(results.interrupted);
    assert_eq!((results.computed, results.failures.len()), (3, 0));
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: String, expected: &[&str]| {
        let message = plan(folder.path(), &text).err().unwrap_or_default();
        for part in expected {
            assert!(message.contains(part), "`{part}` is not in:\n{message}");
        }
    };
    check(CHAIN.replace("value = 4", "valeu = 4"), &["did you mean `value`", "lacks `value`"]);
    check(
        CHAIN.replace("value = 4", "value = 'four'"),
        &["`value`: expected a whole number, found string"],
    );
    check(CHAIN.replace("value = 4", "value = 13"), &["`value` must not be 13"]);
    check(CHAIN.replace("toy.half", "toy.hlaf"), &["did you mean `toy.half`"]);
    check(CHAIN.replace("@half", "@hlaf"), &["no stage is called `hlaf`", "did you mean `half`"]);
    check(CHAIN.replace("@half", "half"), &["it begins with `@`"]);
    check(CHAIN.replace("@a", "@sum"), &["stages depend on each other: half -> sum -> half"]);
    check(CHAIN.replace("@a", "@${x}"), &["no axis is called `x`"]);
    check(CHAIN.replace("seed = 1", "sed = 1"), &["unknown key `sed`", "did you mean `seed`"]);
    check(CHAIN.replace("value = 4", "value = nan"), &["NaN and infinities are refused"]);
    let two = CHAIN.replace("value = 4", "valeu = 4").replace("@half", "@hlaf");
    check(two, &["valeu", "hlaf", "3 errors"]);
    let same = CHAIN.replace("@half", "@hlaf") + "instead = 5\n";
    check(same, &["no stage is called `hlaf`", "`instead`", "2 errors"]);
    // One mistake is told once: not again for each instance, nor for what depends on it.
    let swept = CHAIN.replace("seed = 1", "seed = 1\n[axes]\nn = [1, 2]");
    check(swept.replace("value = 4", "seed = '${n}'"), &["stage `a` lacks `value`", "1 error"]);
    check(
        swept.replace("[1, 2]", "[1, 1]").replace("value = 4", "value = '${n}'"),
        &["the axis holds `1` twice", "1 error"],
    );
    check(swept.replace("value = 4", "value = '${m}'"), &["no axis is called `m`", "1 error"]);
    let kindless = CHAIN.replacen("kind = \"toy.constant\"\n", "", 1);
    check(kindless, &["stage `a` has no `kind`", "1 error"]);
    check(CHAIN.replace("value = 4", "value = { '$path' = 4 }"), &["cannot begin with `$`"]);
}

#[test]
fn a_stage_has_the_user_told_of_what_its_result_is_worth() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    let told = |value: i64| {
        let text = CHAIN.replace("value = 4", &format!("value = {value}"));
        let plan = plan(folder.path(), &text).unwrap();
        let (_, events) = run_graph(&plan.graph, &store, &options(&store, 1, false));
        let words = |event: &Event| match event {
            Event::Notice(words) => Some(words.clone()),
            _ => None,
        };
        events.iter().filter_map(words).collect::<Vec<_>>()
    };
    assert_eq!(told(7), ["`half`: 7 is odd, and is rounded down"]);
    assert!(told(8).is_empty());
    assert!(told(7).is_empty(), "a result from the cache says nothing");
}
