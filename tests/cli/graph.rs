//! The graph drawn: what is in the boxes, and that each format is one that others can read.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use snapbox::assert_data_eq;
use snapbox::str;

use crate::bench::Bench;

/// Two stages of which one can be cached in part, and one behind both.
const TEXT: &str = r#"
[experiment]
name = "drawn"

[axes]
words = ["one", "two & <three>"]
replicate = { range = [0, 3] }

[stages.say]
kind = "exec"
command = ["sh", "-c", 'echo "$WORDS" > "$1"', "sh", "{outputs.said}"]
environment = { WORDS = "${words}" }
outputs = { said = "file" }

[stages.net]
kind = "encoder.random"
width = 2
channels = 1
seed = "${replicate}"

[stages.both]
kind = "exec"
command = ["sh", "-c", 'cat "$1" > "$2"', "sh", "{inputs.said}", "{outputs.all}"]
inputs = { said = "@say", net = "@net" }
outputs = { all = "file" }
"#;

/// The experiment with one of its words computed, behind the networks.
fn partly_cached() -> Bench {
    let bench = Bench::new(TEXT);
    bench.counts(&["--set", "axes.words=[\"one\"]", "--set", "axes.replicate=[0, 1]"]);
    bench
}

#[test]
fn boxes_say_what_is_swept_and_how_much_is_cached() {
    let bench = partly_cached();
    assert_data_eq!(
        bench.run(&["graph", "x.toml"]).stdout,
        str![[r#"
graph TD
    n0["say  words 2<br/>exec<br/>◐ cached 1 of 2"]:::partly
    n1["net  replicate 3<br/>encoder.random<br/>◐ cached 2 of 3"]:::partly
    n2["both  words 2 x replicate 3<br/>exec<br/>◐ cached 2 of 6"]:::partly
    n0 --> n2
    n1 --> n2
    classDef cached fill:#d3e8f5,stroke:#0072b2,color:#1a1a1a
    classDef partly fill:#fbe6c2,stroke:#a86400,color:#1a1a1a
    classDef missing fill:#ffffff,stroke:#666666,color:#1a1a1a

"#]]
    );
    assert_data_eq!(
        bench.run(&["graph", "x.toml", "--format", "dot"]).stdout,
        str![[r##"
digraph "drawn" {
    node [shape=box, style=filled, fontname="Helvetica"];
    n0 [label="say  words 2/nexec/n◐ cached 1 of 2", fillcolor="#fbe6c2", color="#a86400"];
    n1 [label="net  replicate 3/nencoder.random/n◐ cached 2 of 3", fillcolor="#fbe6c2", color="#a86400"];
    n2 [label="both  words 2 x replicate 3/nexec/n◐ cached 2 of 6", fillcolor="#fbe6c2", color="#a86400"];
    n0 -> n2;
    n1 -> n2;
}

"##]]
    );
    let ended = bench.run(&["graph", "x.toml", "--format", "svg"]);
    assert_data_eq!(
        texts(&ended.stdout).join("\n"),
        str![[r"
The graph of drawn
say  words 2: cached 1 of 2
say
words 2
exec
cached 1 of 2
net  replicate 3: cached 2 of 3
net
replicate 3
encoder.random
cached 2 of 3
both  words 2 x replicate 3: cached 2 of 6
both
words 2 x replicate 3
exec
cached 2 of 6
cached
partly cached
not cached
"]]
    );
}

#[test]
fn instances_are_drawn_one_by_one_where_asked_for() {
    let bench = partly_cached();
    let mermaid = bench.run(&["graph", "x.toml", "--expand"]).stdout;
    let label = "[\"say[words=two #38; #60;three#62;]<br/>exec<br/>○ not cached\"]:::missing";
    assert!(mermaid.contains(label), "{mermaid}");
    let svg = bench.run(&["graph", "x.toml", "--expand", "--format", "svg"]).stdout;
    let texts = texts(&svg);
    // Both words, three networks, and their products, besides the legend and the picture's title.
    assert_eq!(texts.iter().filter(|text| text.contains("]: ")).count(), 2 + 3 + 6, "{texts:?}");
    assert!(texts.contains(&"both[words=one,replicate=1]: cached".to_owned()), "{texts:?}");
    assert!(texts.contains(&"words=two & <three>, replicate=2".to_owned()), "{texts:?}");
    assert_eq!(svg, bench.run(&["graph", "x.toml", "--expand", "--format", "svg"]).stdout);
}

#[test]
fn a_picture_is_written_whole_to_the_file_asked_for() {
    let bench = partly_cached();
    let ended = bench.run(&["graph", "x.toml", "-o", "pictures/drawn.svg"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    assert_eq!(ended.stderr, "3 stages drawn in pictures/drawn.svg\n");
    let svg = bench.read("pictures/drawn.svg");
    assert_eq!(svg, bench.run(&["graph", "x.toml", "--format", "svg"]).stdout);
    // The name of the file tells the format, unless the command line does.
    bench.run(&["graph", "x.toml", "-o", "drawn.dot"]);
    assert!(bench.read("drawn.dot").starts_with("digraph \"drawn\" {"));
    bench.run(&["graph", "x.toml", "--format", "mermaid", "-o", "drawn.dot"]);
    assert!(bench.read("drawn.dot").starts_with("graph TD"));
    let names = fs::read_dir(bench.path("pictures")).unwrap().count();
    assert_eq!(names, 1, "nothing else is left behind");

    let readable = fs::metadata(bench.path("pictures/drawn.svg")).unwrap().permissions().mode();
    assert_eq!(readable & 0o444, 0o444);
    fs::create_dir(bench.path("taken.svg")).unwrap();
    let ended = bench.run(&["graph", "x.toml", "-o", "taken.svg"]);
    assert_eq!(ended.code, Some(2));
    assert_data_eq!(
        ended.stderr,
        str![[r"
taken.svg is there and is no plain file, so no picture takes its place
  hint: without `-o` the graph goes to standard output

"]]
    );
}

#[test]
fn a_picture_has_a_limit_that_it_names() {
    let text = TEXT.replace("[0, 3]", "[0, 1500]");
    let bench = Bench::new(&text);
    let ended = bench.run(&["graph", "x.toml", "--expand", "--format", "svg"]);
    assert_eq!(ended.code, Some(2));
    assert_data_eq!(
        ended.stderr,
        str![[r"
4502 instances and 6000 arrows are too many for a picture, which holds up to 2000 and 4000
  hint: leave out `--expand` for one box a stage

"]]
    );
    let ended = bench.run(&["graph", "x.toml", "--format", "svg"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// Reads XML as strictly as pictures here need: every element closed in its turn, every reference known. Yields the texts in it.
fn texts(xml: &str) -> Vec<String> {
    let (mut open, mut texts, mut rest) = (Vec::new(), Vec::new(), xml);
    while let Some((text, after)) = rest.split_once('<') {
        if !text.trim().is_empty() {
            texts.push(resolved(text));
        }
        let (tag, after) = after.split_once('>').expect("a tag ends");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        tag.split('"').skip(1).step_by(2).for_each(|value| drop(resolved(value)));
        if !closed {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    texts
}

/// A text with its references resolved; others than the predefined ones are none.
fn resolved(text: &str) -> String {
    let mut pieces = text.split('&');
    let mut plain = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (name, after) = piece.split_once(';').expect("a reference ends");
        let known = [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"')];
        plain.push(known.iter().find(|(known, _)| *known == name).expect("it is predefined").1);
        plain += after;
    }
    assert!(!plain.chars().any(char::is_control), "{plain:?}");
    plain
}
