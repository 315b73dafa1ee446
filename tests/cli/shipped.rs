//! The experiments that come with the program: they pass its checks, and the texts about them are true.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use crate::bench::Bench;

/// The experiments of the repository, by name.
fn shipped() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let folders = [folder.clone(), folder.join("critical")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|e| e == "toml"));
    files.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn every_experiment_passes_its_check_in_every_profile() {
    let bench = Bench::new("");
    for (file, text) in shipped() {
        let table: toml::Table = text.parse().unwrap();
        let profiles = table.get("profiles").and_then(toml::Value::as_table);
        let mut runs = vec![vec!["check", &file]];
        for profile in profiles.into_iter().flat_map(toml::Table::keys) {
            runs.push(vec!["check", &file, "--profile", profile]);
        }
        for arguments in runs {
            let ended = bench.run(&arguments);
            // Recordings do not come with the program: all that is told is where to get them.
            let mistakes = || ended.stderr.lines().filter(|line| line.starts_with("  ×"));
            let lacking = arguments.ends_with(&["--profile", "recordings"])
                && mistakes().count() == 4
                && mistakes().all(|line| line.contains("cannot look at"))
                && ended.stderr.contains("https://github.com/sje30/waverepo");
            assert!(lacking || ended.code == Some(0), "{arguments:?}\n{}", ended.stderr);
        }
    }
}

#[test]
fn every_experiment_is_valid_by_the_schema() {
    let schema: Json =
        serde_json::from_str(include_str!("../../experiments/wavecrest.schema.json")).unwrap();
    for (file, text) in shipped() {
        let table: toml::Table = text.parse().unwrap();
        let value = serde_json::to_value(&table).unwrap();
        assert_eq!(invalid((&schema, &schema), &value, "$"), None, "{file}");
        // The walk sees what is wrong.
        let mut wrong = value.clone();
        let stage = wrong["stages"].as_object_mut().unwrap().values_mut().next().unwrap();
        stage["kind"] = Json::from("probe.linear");
        stage["epochs"] = Json::from("many");
        assert!(invalid((&schema, &schema), &wrong, "$").is_some(), "{file}");
        wrong = value;
        wrong["tables"]["accuracy"]["row"] = Json::from("source");
        assert!(invalid((&schema, &schema), &wrong, "$").is_some(), "{file}");
    }
}

/// Where a value breaks a schema, by the part of JSON Schema that ours is written in.
fn invalid((root, schema): (&Json, &Json), value: &Json, at: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#'));
        let target = target.unwrap_or_else(|| panic!("{reference} leads nowhere"));
        return invalid((root, target), value, at);
    }
    if schema.get("not").is_some_and(|not| invalid((root, not), value, at).is_none()) {
        return Some(format!("{at}: not: {value}"));
    }
    let wrong = |what: &str| Some(format!("{at}: {what}: {value}"));
    let names = |key: &str| schema[key].as_array().into_iter().flatten();
    if let Some(types) = schema.get("type") {
        let is = |name: &Json| match name.as_str().unwrap() {
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => other == "null" && value.is_null(),
        };
        if !types.as_array().map_or_else(|| is(types), |types| types.iter().any(is)) {
            return wrong("type");
        }
    }
    if schema.get("const").is_some_and(|c| c != value)
        || (schema.get("enum").is_some() && !names("enum").any(|one| one == value))
    {
        return wrong("const or enum");
    }
    // The patterns are those of placeholders, of edges, and of names.
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && ((pattern.contains("\\$\\{") && !text.contains("${"))
            || (pattern.starts_with("^@") && !text.starts_with('@')))
    {
        return wrong("pattern");
    }
    for (key, fits) in [("anyOf", 1..usize::MAX), ("oneOf", 1..2)] {
        let matching = names(key).filter(|one| invalid((root, one), value, at).is_none()).count();
        if schema.get(key).is_some() && !fits.contains(&matching) {
            return wrong(&format!("{matching} of {key}"));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(found) =
            schema.get("items").and_then(|s| invalid((root, s), item, &format!("{at}[{index}]")))
        {
            return Some(found);
        }
    }
    let fields = value.as_object()?;
    if let Some(name) = names("required").find(|name| !fields.contains_key(name.as_str().unwrap()))
    {
        return wrong(&format!("lacks {name}"));
    }
    for (name, field) in fields {
        let inner = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        let place = format!("{at}.{name}");
        match inner {
            Some(Json::Bool(false)) => return Some(format!("{place}: unknown")),
            Some(inner) => {
                if let Some(found) = invalid((root, inner), field, &place) {
                    return Some(found);
                }
            }
            None => (),
        }
    }
    None
}

#[test]
fn the_readme_shows_the_tour() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    let tour = include_str!("../../experiments/tour.toml");
    let (_, tour) = tour.split_once("\n\n").unwrap();
    assert_eq!(shown, tour);
}

#[test]
fn the_manual_of_a_kind_reaches_its_innermost_variants() {
    let text = Bench::new("").run(&["kinds", "waves.simulate"]).stdout;
    for line in [
        "  model: one of = { lansdell = { ... } }",
        "          noise: one of = { exponential = { rate = 5.0 } }",
        "              { bernoulli = { ... } }",
        "                  probability: float",
    ] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line}\n{text}");
    }
}
