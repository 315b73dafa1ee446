//! The quickstart's whole chain at toy size: equal bits for any number of threads, and reports that show it.

use crate::bench::Bench;

const CHAIN: &str = r#"
[experiment]
name = "chain"
seed = 7

[axes]
source = ["waves", "random"]

[stages.retina]
kind = "waves.simulate"
frames = 400
size = 16
burn_in = 20
model = { lansdell = { dt = 0.005, hyperpolarization_strength = 0.5, noise = { bernoulli = { conductance = 20.0, probability = 1e-3 } } } }

[stages.movie]
kind = "movie.normalise"
movie = "@retina"

[stages.events]
kind = "movie.segment"
movie = "@retina"

[stages.scrambled]
kind = "movie.shuffle"
movie = "@movie"
events = "@events"
axis = "both"

[stages.waves]
kind = "pretrain.simclr"
movie = "@scrambled"
events = "@events"
width = 4
channels = 1
projector = [128, 64]
epochs = 3
batch_frames = 256
train_fraction = 1.0
learning_rate = 1e-3

[stages.random]
kind = "encoder.random"
width = 4
channels = 1

[stages.digits]
kind = "images.table"
path = "digits.csv"
height = 20
width = 20

[stages.task]
kind = "task.translate"
images = "@digits"
bases = 4
max_shift = 5
train = 20
test = 10

[stages.probe]
kind = "probe.linear"
encoder = "@${source}"
images = "@task"
epochs = 5

[stages.objects]
kind = "manifold.build"
images = "@digits"
variation = { translation = { max_shift = 2 } }
manifolds = 8
points = 10

[stages.features]
kind = "activations"
encoder = "@${source}"
images = "@objects"
layers = ["input", "layer4.1"]

[stages.capacity]
kind = "manifold.capacity"
activations = "@features"
draws = 50

[stages.tiny]
kind = "data.downsample"
images = "@digits"

[stages.training]
kind = "network.train"
data = "@tiny"
hidden = [3]
activation = "swish"
steps = 100
optimizer = { gradient_descent = { rate = 0.1 } }

[stages.starts]
kind = "critical.start"
trajectory = "@training"
count = 4

[stages.search]
kind = "critical.search"
points = "@starts"
data = "@tiny"
iterations = 10

[stages.found]
kind = "critical.classify"
points = "@search"
data = "@tiny"

[figures.loss]
from = "found"
layers = [{ from = "analytic", x = "index", y = "loss" }]
mark = "scatter"
x = "index"
y = "loss"
color = "class"

[stages.analytic]
kind = "critical.analytic"
data = "@tiny"
hidden = 2
"#;

fn bench() -> Bench {
    let bench = Bench::new(CHAIN);
    // Forty blobs in four classes, by a formula.
    let pixel = |i: usize, p: usize| {
        let (y, x) =
            ((p / 20) as f64 - 6.0 - (i % 4) as f64 * 2.0, (p % 20) as f64 - 6.0 - (i % 7) as f64);
        (255.0 / (1.0 + (y * y + x * x * (1.0 + (i % 5) as f64 / 4.0)) / 6.0)) as u8
    };
    let row = |i: usize| -> String {
        let pixels: Vec<String> = (0..400).map(|p| pixel(i, p).to_string()).collect();
        format!("{},{}\n", pixels.join(","), i % 4)
    };
    let rows: Vec<String> = (0..80).map(row).collect();
    bench.write("digits.csv", &rows.concat());
    bench
}

/// The products of pre-training's projector and loss, of 256 frames or more, are large enough that candle's matrix
/// product shares them among threads: it does so from about 48 x 48 x 256 multiplications.
#[test]
fn results_are_bit_identical_with_one_and_two_threads() {
    let bench = bench();
    let (one, two) = (["--cache", "one/cache"], ["--cache", "two/cache"]);
    let total = bench.counts(&["--cache", "one/cache", "-j", "1"]);
    // Every stage gets two threads, one after the other.
    let text = bench.read("x.toml").replace("kind = ", "resources = { cpu = 2 }\nkind = ");
    bench.write("x.toml", &text);
    assert_eq!(bench.counts(&["--cache", "two/cache", "-j", "2"]), total);
    let nodes = [
        "retina",
        "movie",
        "events",
        "scrambled",
        "waves",
        "random",
        "task",
        "probe[source=waves]",
        "probe[source=random]",
        "objects",
        "features[source=waves]",
        "capacity[source=waves]",
        "capacity[source=random]",
        "tiny",
        "training",
        "starts",
        "search",
        "found",
        "analytic",
    ];
    for node in nodes {
        assert_eq!(bench.contents(node, &one), bench.contents(node, &two), "{node}");
    }
    let figure = bench.read("reports/chain/loss.svg");
    assert!(figure.contains("analytic"), "the overlay is named in the legend");
}

/// Contents of the chain's stages whose kinds promise the same bits on every machine. A change here is a change of
/// results: the kind's `VERSION` moves with it.
const GOLDEN: [(&str, &str); 9] = [
    ("retina", "43a6394d0e47262c"),
    ("movie", "715c7fcc2b4caa44"),
    ("events", "dd18928884ecd801"),
    ("scrambled", "62ca7a591931a2e9"),
    ("random", "d88a4e13d6a92c99"),
    ("digits", "327c55a2e7f225fd"),
    ("task", "60c0416e5cbb4c64"),
    ("objects", "1187ddf594abb937"),
    ("tiny", "d6ccdcf1e403b388"),
];

/// Summary numbers of the others, which hold within rounding.
const SUMMARY: [(&str, &str, f64); 11] = [
    ("waves", "loss", 3.815_302),
    ("waves", "uniformity", -2.102_221),
    ("training", "loss", 0.367_784),
    ("probe[source=random]", "loss", 1.391_083),
    ("capacity[source=random]", "capacity", 0.315_818),
    ("capacity[source=random]", "radius", 1.514_853),
    ("capacity[source=random]", "dimension", 3.935_625),
    ("capacity[source=random]", "removed", 2.0),
    ("search", "runs", 4.0),
    ("found", "neither", 4.0),
    ("analytic", "points", 137.0),
];

#[test]
fn results_change_only_with_a_version() {
    let bench = bench();
    bench.counts(&[]);
    let found: Vec<(&str, String)> = GOLDEN
        .iter()
        .map(|(node, _)| {
            let contents = bench.contents(node, &[]);
            let main = contents.iter().find_map(|c| c.strip_prefix("main ")).unwrap();
            (*node, main[..16].to_owned())
        })
        .collect();
    let expected: Vec<(&str, String)> = GOLDEN.map(|(node, hash)| (node, hash.to_owned())).into();
    assert_eq!(found, expected);
    let mut moved = Vec::new();
    for (node, metric, expected) in SUMMARY {
        let ended = bench.run(&["show", "x.toml", node, "--json"]);
        let record: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let found = record["metrics"][metric].as_f64().unwrap();
        // Training in f32 over a few steps: other processors sum in another order.
        if (found - expected).abs() > 1e-3 * expected.abs() {
            moved.push(format!("{node} {metric}: {found}"));
        }
    }
    assert_eq!(moved, [""; 0]);
}
