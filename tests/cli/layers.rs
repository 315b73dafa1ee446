//! Layers: files that extend others, defaults of kinds, profiles, `--set`; experiments in JSON.

use serde_json::Value as Json;

use crate::bench::Bench;

/// A stage that writes a word.
fn says(word: &str) -> String {
    format!(
        "kind = 'exec'\ncommand = ['sh', '-c', 'echo \"$1\" > \"$2\"', 'sh', '{word}', '{{outputs.o}}']\n\
         outputs = {{ o = 'file' }}\n"
    )
}

/// What an effective experiment holds at a path, and where that came from.
fn value(bench: &Bench, path: &str, more: &[&str]) -> (Json, String) {
    let ended = bench.run(&[&["show", "--resolved", "x.toml", "--json"], more].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let rows: Vec<Json> = serde_json::from_str(&ended.stdout).unwrap();
    let row = rows.into_iter().find(|row| row["path"] == path);
    let row = row.unwrap_or_else(|| panic!("nothing at {path}: {}", ended.stdout));
    (row["value"].clone(), row["from"].as_str().unwrap().to_owned())
}

#[test]
fn layers_lie_over_each_other_in_their_order() {
    let bench = Bench::new("");
    bench.write(
        "low/base.toml",
        &format!(
            "[experiment]\nname = 'base'\nseed = 3\n[defaults.exec]\nretries = 1\ntimeout = '1h'\n\
             environment = {{ A = 'default' }}\n[stages.s]\n{}timeout = '2h'\nkeep = true\n\
             [profiles.smoke.stages.s]\ntimeout = '4h'\n",
            says("base")
        ),
    );
    bench.write("other.toml", "[experiment]\nabout = 'other'\nname = 'other'\n");
    bench.write(
        "x.toml",
        &format!(
            "extends = ['low/base.toml', 'other.toml']\n[experiment]\nname = 'top'\n\
             [defaults.exec]\nretries = 5\n[stages.s]\ntimeout = '3h'\n[stages.t]\n{}\
             [profiles.smoke.stages.s]\nkeep = false\n\
             [stages.n]\nkind = 'encoder.random'\nwidth = 4\n",
            says("top")
        ),
    );
    let check = |path: &str, more: &[&str], value_is: Json, from: &str| {
        assert_eq!(value(&bench, path, more), (value_is, from.to_owned()), "{path} {more:?}");
    };
    check("experiment.name", &[], "top".into(), "line 3 of x.toml");
    check("experiment.about", &[], "other".into(), "line 2 of other.toml");
    check("experiment.seed", &[], 3.into(), "line 3 of low/base.toml");
    check("stages.s.retries", &[], 5.into(), "line 5 of x.toml");
    check("stages.s.timeout", &[], "3h".into(), "line 7 of x.toml");
    check("stages.t.timeout", &[], "1h".into(), "line 6 of low/base.toml");
    check("stages.t.inputs", &[], Json::Object(serde_json::Map::new()), "default of exec");
    let smoke = ["--profile", "smoke"];
    check("stages.s.timeout", &smoke, "4h".into(), "line 15 of low/base.toml");
    check("stages.s.keep", &smoke, false.into(), "line 13 of x.toml");
    let set = ["--profile", "smoke", "--set", "stages.s.timeout='5h'"];
    check("stages.s.timeout", &set, "5h".into(), "--set stages.s.timeout='5h'");
    let set = ["--set", "defaults.exec.retries=7"];
    check("stages.t.retries", &set, 7.into(), "--set defaults.exec.retries=7");
    // What is printed is an experiment itself.
    let printed = bench.run(&["show", "--resolved", "x.toml"]);
    let again = bench.run_reading(&printed.stdout, &["show", "--resolved", "-"]);
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.split("  #").next().unwrap().trim().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    };
    assert_eq!(values(&again.stdout), values(&printed.stdout), "{}", again.stderr);
    let checked = bench.run_reading(&printed.stdout, &["check", "-"]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert_eq!(value(&bench, "stages.n.seed", &[]).0, Json::from(0));
    assert_eq!(bench.counts(&[]), (3, 0));
}

#[test]
fn an_extended_file_that_changes_is_noticed() {
    let bench = Bench::new("extends = 'base.toml'\n[experiment]\nname = 'x'\n");
    bench.write("base.toml", &format!("[stages.s]\n{}", says("one")));
    assert_eq!((bench.counts(&[]), bench.counts(&[])), ((1, 0), (0, 1)));
    bench.write("base.toml", &format!("[stages.s]\n{}", says("two")));
    assert_eq!((bench.counts(&[]), bench.counts(&[])), ((1, 0), (0, 1)));
    let plan = bench.run(&["plan", "x.toml", "--set", "stages.s.keep=true"]);
    assert!(plan.stdout.contains("1 cached"), "{}", plan.stdout);
}

#[test]
fn paths_start_at_the_file_in_which_they_are_written() {
    let bench = Bench::new(
        "extends = 'low/base.toml'\n[experiment]\nname = 'x'\n[stages.t]\nkind = 'exec'\n\
         command = ['cp', 'word.txt', '{outputs.o}']\nfiles = ['word.txt']\noutputs = { o = 'file' }\n",
    );
    bench.write(
        "low/base.toml",
        "[stages.s]\nkind = 'exec'\ncommand = ['cp', 'word.txt', '{outputs.o}']\nfiles = ['word.txt']\n\
         outputs = { o = 'file' }\n",
    );
    bench.write("word.txt", "high");
    bench.write("low/word.txt", "low");
    assert_eq!(bench.counts(&[]), (2, 0));
    for (node, word) in [("s", "low"), ("t", "high")] {
        let out = format!("out-{node}");
        let ended = bench.run(&["export", "x.toml", node, &out]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let files = crate::bench::files(&bench.path(&out));
        assert!(files.iter().any(|f| std::fs::read_to_string(f).unwrap() == word), "{node}");
    }
}

#[test]
fn json_is_read_as_toml_is() {
    let bench = Bench::new("");
    let text = r#"{
  "experiment": { "name": "made" },
  "axes": { "word": ["a", "b"] },
  "stages": {
    "s": {
      "kind": "exec",
      "command": ["sh", "-c", "echo ${word} > $1", "sh", "{outputs.o}"],
      "outputs": { "o": "file" }
    }
  }
}"#;
    bench.write("made.json", text);
    let file = bench.run(&["run", "made.json"]);
    assert_eq!((file.code, file.counts()), (Some(0), (2, 0)), "{}", file.stderr);
    let piped = bench.run_reading(text, &["run", "-"]);
    assert_eq!((piped.code, piped.counts()), (Some(0), (0, 2)), "{}", piped.stderr);
    let wrong = text.replace("\"outputs\":", "\"output\":");
    let ended = bench.run_reading(&wrong, &["check", "-"]);
    assert_eq!(ended.code, Some(2));
    let expected = ["`exec` has no parameter `output`", "standard input:8:7", "outputs"];
    for part in expected {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    let toml = bench.run_reading("[experiment]\nname = 'x'\n", &["check", "-"]);
    assert!(toml.stderr.contains("the experiment has no stages"), "{}", toml.stderr);
}

#[test]
fn a_profile_may_take_values_away_that_rules_name() {
    let bench = Bench::new("");
    let text = |rule: &str, when: &str| {
        format!(
            "[experiment]\nname = 'x'\n[axes]\nn = [1, 2, 3]\nm = [{{ name = 'a', w = 1, v = 1 }}, {{ name = 'b', w = 2, v = 2 }}]\n\
             exclude = [{{ n = {rule}, m = 'a' }}]\n[stages.s]\nwhen = {{ m = {{ w = {when} }} }}\n{}\
             environment = {{ N = '${{n}}', M = '${{m.w}}' }}\n[profiles.smoke.axes]\nn = [1]\nm = [{{ name = 'b', w = 2, v = 2 }}]\n",
            says("a")
        )
    };
    let check = |rule: &str, when: &str, more: &[&str], expected: Result<&str, &str>| {
        bench.write("x.toml", &text(rule, when));
        let ended = bench.run(&[&["check", "x.toml"], more].concat());
        match expected {
            Ok(words) => assert!(ended.stdout.contains(words), "{}", ended.stderr),
            Err(words) => {
                assert!(ended.code == Some(2) && ended.stderr.contains(words), "{}", ended.stderr);
            }
        }
    };
    check("3", "[1, 2]", &[], Ok("5 nodes"));
    check("3", "[1, 2]", &["--profile", "smoke"], Ok("1 node"));
    check("3", "[1, 2]", &["--set", "axes.n=[1, 2]"], Ok("4 nodes"));
    check("4", "[1, 2]", &["--profile", "smoke"], Err("axis `n` has no value `4`"));
    check("3", "[1, 3]", &["--profile", "smoke"], Err("no value of axis `m` has `w = 3`"));
    // Values of the axis in a layer below hold each, but none holds both.
    check("3", "1, v = 2", &["--profile", "smoke"], Err("has all of these"));
    // Files that are extended are layers too.
    bench.write("y.toml", "extends = 'x.toml'\n[axes]\nn = [2]\n");
    bench.write("x.toml", &text("3", "[1, 2]"));
    let ended = bench.run(&["check", "y.toml"]);
    assert!(ended.stdout.contains("2 nodes"), "{}", ended.stderr);
}

#[test]
fn a_profile_adds_stages_and_tables_that_say_what_they_are() {
    let text = format!(
        "[experiment]\nname = 'x'\n[stages.s]\n{}[profiles.more.stages.t]\n{}\
         [profiles.more.tables.all]\nfrom = 's'\n",
        says("s"),
        says("t")
    );
    let bench = Bench::new(&text);
    assert_eq!(bench.to_run(&[]), ["s"]);
    assert_eq!(bench.to_run(&["--profile", "more"]), ["s", "t"]);
    let unknown = text.replace("profiles.more.stages.t]\nkind = 'exec'", "profiles.more.stages.t]");
    bench.write("x.toml", &unknown);
    let ended = bench.run(&["check", "x.toml"]);
    assert!(ended.stderr.contains("no stage is called `t`"), "{}", ended.stderr);
}
