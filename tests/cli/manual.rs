//! The manual of kinds: complete for each, and its examples are true.

use std::collections::BTreeSet;

use crate::bench::Bench;

/// What every page has, in this order.
const SECTIONS: [&str; 6] = ["inputs", "parameters", "outputs", "determinism", "source", "example"];

/// The page of every kind, by its name.
fn pages(bench: &Bench) -> Vec<(String, String)> {
    let list = bench.run(&["kinds"]).stdout;
    let names = list.lines().map(|line| line.split(' ').next().unwrap().to_owned());
    names.map(|name| (name.clone(), bench.run(&["kinds", &name]).stdout)).collect()
}

/// The sections of a page with their titles; what stands before them is the first.
fn sections(page: &str) -> Vec<(&str, Vec<&str>)> {
    let mut sections = vec![("", Vec::new())];
    for line in page.lines() {
        if SECTIONS.contains(&line) {
            sections.push((line, Vec::new()));
        } else if !line.is_empty() {
            sections.last_mut().unwrap().1.push(line);
        }
    }
    sections
}

#[test]
fn the_page_of_each_kind_has_every_section() {
    for (kind, page) in pages(&Bench::new("")) {
        let sections = sections(&page);
        let titles: Vec<&str> = sections[1..].iter().map(|(title, _)| *title).collect();
        assert_eq!(titles, SECTIONS, "{kind}\n{page}");
        assert!(sections[0].1.len() >= 2, "what {kind} does\n{page}");
        for (title, lines) in &sections[1..] {
            assert!(!lines.is_empty(), "{kind} {title}");
            assert!(lines.iter().all(|line| line.starts_with("  ")), "{kind} {title}\n{page}");
        }
        // A field stands two spaces in, what is said of it deeper.
        let fields = [&sections[1].1[..], &sections[2].1].concat();
        for field in fields.iter().filter(|line| !line.starts_with("   ") && **line != "  none") {
            let told = [", required", ", optional", " = "].iter().any(|word| field.contains(word));
            assert!(field.contains(": ") && told, "{kind}: {field}");
            let at = fields.iter().position(|line| line == field).unwrap();
            assert!(fields[at + 1].starts_with("      "), "{kind} says nothing of {field}");
        }
        let outputs = &sections[3].1;
        assert!(outputs.iter().any(|line| line.contains("taken as \"@")), "{kind}\n{page}");
        assert_ne!(sections[5].1, ["  unknown"], "{kind} names no source");
    }
}

#[test]
fn the_examples_of_all_kinds_are_one_experiment_that_passes_its_check() {
    let bench = Bench::new("");
    let mut text = String::from("[experiment]\nname = \"manual\"\n");
    let mut stages = BTreeSet::new();
    for (kind, page) in pages(&bench) {
        let (_, example) = page.split_once("\nexample\n").unwrap();
        let table: toml::Table = example.parse().unwrap();
        let stage = table["stages"].as_table().unwrap();
        let [(name, stage)] = &stage.iter().collect::<Vec<_>>()[..] else {
            panic!("{kind} has an example of one stage");
        };
        assert_eq!(stage["kind"].as_str(), Some(&*kind));
        assert!(stages.insert((*name).clone()), "{kind} names its stage like another");
        text += example;
    }
    bench.write("x.toml", &text);
    bench.write("embed.py", "");
    bench.write("data/digits.csv", "0,0\n");
    bench.write("data/P6.parquet", "");
    bench.write("data/imaging.tif", "");
    bench.write("data/resnet18.safetensors", "");
    for part in ["train", "t10k"] {
        bench.write(&format!("data/fashion-mnist/{part}-images-idx3-ubyte"), "");
        bench.write(&format!("data/fashion-mnist/{part}-labels-idx1-ubyte"), "");
    }
    let ended = bench.run(&["check", "x.toml"]);
    assert_eq!(ended.code, Some(0), "{text}\n{}", ended.stderr);
}
