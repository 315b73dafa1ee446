//! Sweeps with toy kinds: which instances there are, and what they read.

use super::run_tests::{options, plan, run_graph};
use crate::plan::Plan;
use crate::store::{Store, files};

/// Plans an experiment of these axes and stages.
fn planned(text: &str) -> Result<Plan, String> {
    let folder = tempfile::tempdir().unwrap();
    plan(folder.path(), &format!("[experiment]\nname = \"x\"\n{text}"))
}

/// The names of the instances of a stage.
fn names(plan: &Plan, stage: &str) -> Vec<String> {
    let places = plan.graph.instances(stage).map(|id| plan.graph.node(id).name.clone());
    places.map(|name| name[stage.len()..].to_owned()).collect()
}

/// Two axes, a stage on each, and one that reads both.
const GRID: &str = "\
[stages.a]
kind = \"toy.constant\"
value = \"${n}\"
[stages.b]
kind = \"toy.constant\"
value = \"${m}\"
[stages.sum]
kind = \"toy.sum\"
left = \"@a\"
right = \"@b\"
[stages.after]
kind = \"toy.half\"
of = \"@sum\"
";

#[test]
fn combinations_are_excluded_and_included() {
    let check = |axes: &str, a: &[&str], b: &[&str], sum: &[&str]| {
        let plan = planned(&format!("[axes]\n{axes}\n{GRID}")).unwrap();
        assert_eq!(names(&plan, "a"), a, "{axes}");
        assert_eq!(names(&plan, "b"), b, "{axes}");
        assert_eq!(names(&plan, "sum"), sum, "{axes}");
        assert_eq!(names(&plan, "after"), sum, "{axes}");
    };
    let (a, b) = (["[n=1]", "[n=2]"], ["[m=5]", "[m=6]"]);
    let axes = "n = [1, 2]\nm = [5, 6]\n";
    check(
        &format!("{axes}exclude = [{{ n = 1, m = 6 }}]"),
        &a,
        &b,
        &["[n=1,m=5]", "[n=2,m=5]", "[n=2,m=6]"],
    );
    check(
        &format!("{axes}exclude = [{{ n = [1, 2], m = 6 }}]"),
        &a,
        &b,
        &["[n=1,m=5]", "[n=2,m=5]"],
    );
    // One axis: the value is gone wherever the axis is.
    check(&format!("{axes}exclude = [{{ n = 1 }}]"), &["[n=2]"], &b, &["[n=2,m=5]", "[n=2,m=6]"]);
    // What is included may be on no axis; what reads one axis of it has it too.
    check(
        &format!(
            "{axes}exclude = [{{ n = 1, m = 6 }}]\ninclude = [{{ n = 3, m = 7 }}, {{ n = 1, m = 6 }}]"
        ),
        &["[n=1]", "[n=2]", "[n=3]"],
        &["[m=5]", "[m=6]", "[m=7]"],
        &["[n=1,m=5]", "[n=1,m=6]", "[n=2,m=5]", "[n=2,m=6]", "[n=3,m=7]"],
    );
    // A value of one axis only meets all listed values of the other.
    check(
        &format!("{axes}include = [{{ n = 3 }}]\nexclude = [{{ m = 6 }}]"),
        &["[n=1]", "[n=2]", "[n=3]"],
        &["[m=5]"],
        &["[n=1,m=5]", "[n=2,m=5]", "[n=3,m=5]"],
    );
}

#[test]
fn a_stage_exists_only_where_its_condition_holds_and_so_does_what_reads_it() {
    let text = GRID.replace("[stages.sum]\n", "[stages.sum]\nwhen = { n = [2], m = 5 }\n");
    let plan = planned(&format!("[axes]\nn = [1, 2]\nm = [5, 6]\n{text}")).unwrap();
    assert_eq!(names(&plan, "a").len(), 2);
    assert_eq!(
        (names(&plan, "sum"), names(&plan, "after")),
        (vec!["[n=2,m=5]".into()], vec!["[n=2,m=5]".into()])
    );
    // Each value says where its numbers come from, and one of the two stages is there for it.
    let text = "\
[axes]
source = [{ name = \"x\", from = \"one\" }, { name = \"y\", from = \"two\" }, { name = \"z\", from = \"two\" }]
[stages.one]
kind = \"toy.constant\"
value = 1
when.source.from = \"one\"
[stages.two]
kind = \"toy.constant\"
value = 2
when = { source = { from = \"two\" } }
[stages.half]
kind = \"toy.half\"
of = \"@${source.from}\"
";
    let plan = planned(text).unwrap();
    assert_eq!(names(&plan, "one"), ["[source=x]"]);
    assert_eq!(names(&plan, "two"), ["[source=y]", "[source=z]"]);
    assert_eq!(names(&plan, "half").len(), 3);
    let gone = text.replace("of = \"@${source.from}\"", "of = \"@one\"\nwhen = { source = \"y\" }");
    let error = planned(&gone).err().unwrap();
    assert!(error.contains("stage `half` exists for no combination of its axes"), "{error}");
}

#[test]
fn instances_are_gathered_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let text = |axes: &str, of: &str| {
        format!(
            "[experiment]\nname = \"x\"\n[axes]\n{axes}\n{GRID}[stages.total]\nkind = \"toy.total\"\nof = {of}\n"
        )
    };
    let run = |text: &str| {
        let plan = plan(folder.path(), text).unwrap();
        let store = Store::open(&folder.path().join("cache")).unwrap();
        let (results, _) = run_graph(&plan.graph, &store, &options(&store, 2, false));
        assert!(results.failures.is_empty(), "{:?}", results.failures);
        let value = |name: String| {
            let id = plan.graph.find(&format!("total{name}")).unwrap();
            let result = results.records[id.index()].as_ref().unwrap();
            let object = store.object(&result.outputs["main"].files[0].hash);
            (name, files::read_text(&object).unwrap())
        };
        let totals: Vec<(String, String)> = names(&plan, "total").into_iter().map(value).collect();
        (totals, results.computed)
    };
    let owned = |totals: &[(&str, &str)]| -> Vec<(String, String)> {
        totals.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    let axes = "n = [1, 2]\nm = [5, 6]";
    let over_m = "{ stage = \"sum\", over = [\"m\"] }";
    let (totals, computed) = run(&text(axes, over_m));
    // 6 x 6 + 7 x 7, and 7 x 6 + 8 x 7.
    assert_eq!(totals, owned(&[("[n=1]", "85"), ("[n=2]", "98")]));
    assert!(computed > 0);
    // Neither the order of values nor that of axes matters.
    assert_eq!(run(&text("m = [6, 5]\nn = [2, 1]", over_m)).1, 0);
    // One value more: what gathers it is computed again.
    let (totals, _) = run(&text("n = [1, 2]\nm = [5, 6, 7]", over_m));
    assert_eq!(totals, owned(&[("[n=1]", "149"), ("[n=2]", "170")]));
    let both = "{ stage = \"sum\", over = [\"n\", \"m\"] }";
    // 6 x 7 + 7 x 8 + 7 x 8 + 8 x 9.
    assert_eq!(run(&text(axes, both)).0, owned(&[("", "226")]));
    assert_eq!(run(&text(axes, "\"@sum\"")).0.len(), 4);
    // 1 + 5, and so on: the axes of both.
    let (each, _) = run(&text(axes, "[\"@a\", \"@b\"]"));
    assert_eq!(each[0], ("[n=1,m=5]".to_owned(), "6".to_owned()));
    // What is excluded is not gathered.
    let (some, _) = run(&text(&format!("{axes}\nexclude = [{{ n = 1, m = 6 }}]"), over_m));
    assert_eq!(some, owned(&[("[n=1]", "36"), ("[n=2]", "98")]));
}

#[test]
fn a_mistake_of_some_instances_says_of_which() {
    let check = |n: &str, m: &str, value: &str, expected: &str| {
        let text = format!(
            "[axes]\nn = [{n}]\nm = [{m}]\n[stages.a]\nkind = \"toy.constant\"\nvalue = \"{value}\"\n\
             seed = \"${{m}}\"\n"
        );
        let error = planned(&text).err().unwrap();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.contains("\n1 error\n"), "{error}");
    };
    let rule = "`value` must not be 13";
    check("1, 13", "5, 6", "${n}", &format!("{rule} (in 2 of 4 instances: where n = 13)"));
    check("13", "5, 6", "${n}", &format!("{rule}\n"));
    let wrong = "`value`: expected a whole number, found string \"x\"";
    check("1, 'x'", "5, 6", "${n}", &format!("{wrong} (in 2 of 4 instances: where n = x)"));
    check("1, 2", "5, -6", "${n}", "instances: where m = -6)");
}

#[test]
fn mistakes_in_sweeps_are_told() {
    let check = |axes: &str, stages: &str, expected: &str| {
        let text = format!("[axes]\nn = [1, 2]\nm = [5, 6]\n{axes}\n{stages}");
        let error = planned(&text).err().unwrap_or_default();
        assert!(error.contains(expected), "{axes} {stages}: {error}");
    };
    check("exclude = [{ k = 1 }]", GRID, "no axis is called `k`");
    check("exclude = [{ n = 7 }]", GRID, "axis `n` has no value `7`");
    check("exclude = { n = 1 }", GRID, "`exclude` is a list of tables, not a table");
    check("include = [1]", GRID, "each combination of `include` is a table that names axes");
    check("include = [{ n = [3] }]", GRID, "a value of an axis is a number");
    check(
        "",
        &GRID.replace("[stages.sum]", "[stages.sum]\nwhen = 3"),
        "`when` is a table, not an integer",
    );
    check(
        "",
        &GRID.replace("[stages.sum]", "[stages.sum]\nwhen = { n = 9 }"),
        "axis `n` has no value `9`",
    );
    check(
        "",
        &GRID.replace("[stages.sum]", "[stages.sum]\nwhen = { n = { k = 9 } }"),
        "has a key `k`",
    );
    let total = |of: &str| format!("{GRID}[stages.total]\nkind = \"toy.total\"\nof = {of}\n");
    check("", &total("{ stage = \"sum\", over = [\"k\"] }"), "stage `sum` has no axis `k`");
    check("", &total("{ stage = \"some\", over = [\"n\"] }"), "no stage is called `some`");
    check("", &total("{ stage = \"@sum\", over = [\"n\"] }"), "names its stage without `@`: `sum`");
    check("", &total("{ stage = \"sum\" }"), "`over`");
    check("", &total("{ stage = \"sum\", over = [\"n\"], by = 1 }"), "`by`");
    check("", &total("[]"), "the list holds no edge");
    check("", &total("[\"sum\"]"), "it begins with `@`");
    check("", &total("[{ stage = \"sum\", over = [\"n\"] }]"), "a gathering stands by itself");
    check("", &total("3"), "an edge such as");
    check("", &GRID.replace("\"@a\"", "{ stage = \"a\", over = [\"n\"] }"), "an edge such as");
}
