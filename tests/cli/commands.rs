//! The commands that look and change nothing.

use snapbox::assert_data_eq;
use snapbox::str;

use crate::bench::Bench;

const TEXT: &str = r#"
[experiment]
name = "look"
about = "Something to look at"

[axes]
greeting = ["hello", "good day"]

[stages.say]
kind = "exec"
command = ["sh", "-c", 'echo "$WORDS" > "$1"', "sh", "{outputs.words}"]
environment = { WORDS = "${greeting}" }
outputs = { words = "file" }

[stages.net]
kind = "encoder.random"
width = 2
channels = 1

[tables.size]
from = "net"
values = { parameters = "mean" }
"#;

#[test]
fn plan_graph_table_show_and_log_tell_the_same_story() {
    let bench = Bench::new(TEXT);
    assert_data_eq!(
        bench.run(&["plan", "x.toml"]).stdout,
        str![[r"
run     say     2  not computed yet
run     net     1  not computed yet
look: 3 to run, 0 waiting on them, 0 cached (worth 0 ms)
no estimate for 3 of 3

"]]
    );
    let ended = bench.run(&["table", "x.toml"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("`wavecrest run x.toml` computes them"), "{}", ended.stderr);
    assert_eq!(bench.counts(&[]), (3, 0));
    assert_data_eq!(
        bench.run(&["graph", "x.toml"]).stdout,
        str![[r#"
graph TD
    n0["say  greeting 2<br/>exec<br/>● cached 2 of 2"]:::cached
    n1["net<br/>encoder.random<br/>● cached"]:::cached
    classDef cached fill:#d3e8f5,stroke:#0072b2,color:#1a1a1a
    classDef partly fill:#fbe6c2,stroke:#a86400,color:#1a1a1a
    classDef missing fill:#ffffff,stroke:#666666,color:#1a1a1a

"#]]
    );
    assert_data_eq!(
        bench.run(&["table", "x.toml", "size"]).stdout,
        str![[r"
size

parameters
──────────
     11294


"]]
    );
    let show = bench.run(&["show", "x.toml", "say[greeting=hello]"]).stdout;
    for expected in
        ["kind      exec (version 1)", "environment = { WORDS = \"hello\" }", "words  file  6 B"]
    {
        assert!(show.contains(expected), "{show}");
    }
    let log = bench.run(&["log"]).stdout;
    assert!(log.contains("done") && log.contains("3 run, 0 cached, 0 failed"), "{log}");
    let expanded = bench.run(&["graph", "x.toml", "--expand", "--format", "dot"]).stdout;
    assert!(expanded.contains("say[greeting=good day]"), "{expanded}");
}

#[test]
fn kinds_are_listed_and_explained() {
    let bench = Bench::new(TEXT);
    let list = bench.run(&["kinds"]).stdout;
    assert_eq!(list.lines().count(), 36, "{list}");
    assert_data_eq!(
        bench.run(&["kinds", "encoder.random"]).stdout,
        str![[r#"
encoder.random (version 2)

Draws a network, by default a ResNet-18, that is never trained.

Convolutions are Kaiming-normal over the fan-out, batch normalization is the identity: the control condition of
retinal-wave pre-training (Ligeralde et al. 2023). The paper says He initialization; its code makes the first
convolution anew, in the random and in the pre-trained networks, so that it starts as PyTorch's `Conv2d` does. That
is the default here too.

inputs
  none

parameters
  architecture: one of, optional
      How deep the network is, and of which blocks: `resnet9`, `resnet18` (the default), `resnet34` or `resnet50`. Or
      `{ mlp = { image = 8, layers = 2 } }`, a perceptron of `width` units a layer for square images of one size, for
      quick trials.
      "resnet9"
          One basic block a stage: nine convolutions, the classifier not counted.
      "resnet18"
          Two basic blocks a stage.
      "resnet34"
          3, 4, 6 and 3 basic blocks.
      "resnet50"
          3, 4, 6 and 3 bottlenecks, which end in four times the channels; stride in the 3×3 convolution, as in torchvision.
      { mlp = { ... } }
          A perceptron of several layers, for small images and quick trials.
          A perceptron of several layers: linear, batch norm, `ReLU`, each; the last one's result are the features.
          image: integer from 1 to 256, in pixels, required
              Rows and columns of the images, which are square, from 1 to 256. It sees no others.
          layers: integer from 1 to 8 = 2
              How many layers, from 1 to 8, each of `width` units.
  channels: integer from 1 to 16 = 3
      Channels of an input image; a gray image is repeated in each.
  seed: integer of at least 0 = 0
      Seed of the weights. A pre-training with the same seed starts from the same network.
  stem: one of, optional
      How the network begins: `cifar` keeps the size of small images.
      "imagenet"
          A 7×7 convolution of stride 2 and a 3×3 max pool of stride 2: a quarter of the image's size, as in torchvision.
      "cifar"
          A 3×3 convolution of stride 1: the image's size, for small images (Chen et al. 2020, appendix B.9).
  stem_init: one of = "conv2d_default"
      How the first convolution starts. The default is the paper's code's; `kaiming` is the paper's words.
      "kaiming"
          Like the others, as in torchvision.
      "conv2d_default"
          Uniform within ±1/√(k²·inputs), `PyTorch`'s default of a new convolution.
  width: integer from 1 to 1024 = 64
      Channels of the first stage; the network ends in 8 times as many features, a ResNet-50 in 32 times, a perceptron in
      as many. 64 is the standard network.

outputs
  encoder, taken as "@random"

determinism
  bit: two runs give the same bits on every machine

source
  Ligeralde et al. 2023, PMLR 243:194-208.

example
  [stages.random]
  kind = "encoder.random"

"#]]
    );
    let ended = bench.run(&["kinds", "encoder.randm"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("did you mean `encoder.random`?"), "{}", ended.stderr);
}

#[test]
fn the_committed_schema_is_the_programs() {
    let printed = Bench::new(TEXT).run(&["schema"]).stdout;
    let committed = include_str!("../../experiments/wavecrest.schema.json");
    assert!(
        printed == committed,
        "`wavecrest schema > experiments/wavecrest.schema.json` renews it"
    );
}

#[test]
fn a_wrong_command_line_is_2_and_names_what_is_wrong() {
    let bench = Bench::new(TEXT);
    assert_eq!(bench.run(&["rnu", "x.toml"]).code, Some(2));
    let ended = bench.run(&["show", "x.toml", "nett"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("did you mean `net`?"), "{}", ended.stderr);
    let ended = bench.run(&["table", "x.toml", "sizes"]);
    assert!(ended.stderr.contains("did you mean `size`?"), "{}", ended.stderr);
}
