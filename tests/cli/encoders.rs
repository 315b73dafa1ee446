//! Encoders in and out: a checkpoint of PyTorch's is read, answers to images, and is written for PyTorch again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::bench::Bench;

const TEXT: &str = r#"
[experiment]
name = "encoders"

[stages.photos]
kind = "images.table"
path = "photos.csv"
channels = 3
height = 24
width = 20
test_fraction = 1.0

[stages.imported]
kind = "encoder.import"
path = "checkpoint.safetensors"

[stages.features]
kind = "activations"
encoder = "@imported"
images = "@photos"
layers = ["layer1.0", "pooled"]

[stages.exported]
kind = "encoder.export"
encoder = "@imported"
prefix = "module."
"#;

/// `tests/fixtures/checkpoint.py` made both.
const CHECKPOINT: &[u8] = include_bytes!("../fixtures/checkpoint.safetensors");
const EXPECTED: &str = include_str!("../fixtures/checkpoint.json");

/// What PyTorch makes of the images: pooled features, and each channel of the first block at row 2, column 1.
#[derive(Deserialize)]
struct Expected {
    pooled: Vec<Vec<f64>>,
    #[serde(rename = "layer1.0")]
    first: Vec<Vec<f64>>,
}

/// An image a row, its number as the label.
fn photos() -> String {
    let pixel = |i: usize| ((i * i * 7 + i * 31) % 256).to_string();
    let row = |image: usize| {
        let pixels: Vec<String> = (image * 1440..(image + 1) * 1440).map(pixel).collect();
        format!("{},{image}\n", pixels.join(","))
    };
    (0..4).map(row).collect()
}

/// Tensors of a file by name: their shape, and their bytes.
fn tensors(path: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let views = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter();
    views.map(|(n, v)| (n, (v.dtype(), v.shape().to_vec(), v.data().to_vec()))).collect()
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.chunks_exact(4).map(|word| word.try_into().unwrap())
}

#[test]
fn a_checkpoint_of_pytorchs_answers_as_it_does_there_and_goes_back() {
    let bench = Bench::new(TEXT);
    bench.write("photos.csv", &photos());
    fs::write(bench.path("checkpoint.safetensors"), CHECKPOINT).unwrap();
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let log = bench.run(&["logs", "x.toml", "imported"]).stdout;
    for said in ["taken off every name: `module.`", "module.fc.bias", "\"width\":2"] {
        assert!(log.contains(said), "{said}\n{log}");
    }

    assert_eq!(bench.run(&["export", "x.toml", "features", "out"]).code, Some(0));
    let read = tensors(&bench.path("out/activations.safetensors"));
    let expected: Expected = serde_json::from_str(EXPECTED).unwrap();
    let labels: Vec<u32> = words(&read["labels"].2).map(u32::from_le_bytes).collect();
    assert_eq!(labels.iter().sum::<u32>(), 6);
    for (layer, at, expected) in [
        ("pooled", (0..16).collect::<Vec<_>>(), expected.pooled),
        // Channel by channel, a map of 6 rows and 5 columns.
        ("layer1.0", vec![11, 41], expected.first),
    ] {
        let (_, shape, bytes) = &read[layer];
        let values: Vec<f32> = words(bytes).map(f32::from_le_bytes).collect();
        for (row, label) in values.chunks_exact(shape[1]).zip(&labels) {
            for (at, expected) in at.iter().zip(&expected[*label as usize]) {
                let found = f64::from(row[*at]);
                assert!((found - expected).abs() < 1e-5, "{layer} {label}: {found} {expected}");
            }
        }
    }

    assert_eq!(bench.run(&["export", "x.toml", "exported", "out", "--force"]).code, Some(0));
    let mut original = tensors(&bench.path("checkpoint.safetensors"));
    original.retain(|name, _| !name.starts_with("module.fc."));
    // PyTorch's counters are 0 there too: that network was not trained.
    assert!(tensors(&bench.path("out/tensors.safetensors")) == original);
}

#[test]
fn a_pickle_is_refused_with_the_lines_that_convert_it() {
    let bench = Bench::new(&TEXT.replace("checkpoint.safetensors", "checkpoint.pth"));
    bench.write("photos.csv", &photos());
    bench.write("checkpoint.pth", "PK\u{3}\u{4}archive/data.pkl");
    let ended = bench.run(&["run", "x.toml"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for said in [
        "checkpoint.pth is a pickle as `torch.save` writes it",
        "hint: two lines of Python write its weights anew:\n",
        "state = torch.load(\"checkpoint.pth\", map_location=\"cpu\", weights_only=True)\n",
        "\"checkpoint.safetensors\")\n",
    ] {
        assert!(ended.stderr.contains(said), "{said}\n{}", ended.stderr);
    }
}
