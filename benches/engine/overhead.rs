//! What the engine adds to a node that computes next to nothing, in the engine's own process.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use wavecrest::engine::checkpoint::Checkpointing;
use wavecrest::engine::context::Context;
use wavecrest::engine::executor::InProcess;
use wavecrest::engine::kind::{Kind, Registry};
use wavecrest::engine::machine::Machine;
use wavecrest::engine::resources::Capacity;
use wavecrest::engine::run::{self, Later, Options};
use wavecrest::engine::stage::{Artifact, Determinism, Files, Outputs, Stage};
use wavecrest::plan;
use wavecrest::spec::experiment::read_text;
use wavecrest::spec::{Diagnostics, Sources};
use wavecrest::store::lease::{Owner, PATIENCE};
use wavecrest::store::stamps::Stamps;
use wavecrest::store::{Store, files};

/// A number in a text file.
struct Number(u64);

impl Artifact for Number {
    const TYPE: &'static str = "number";
    fn save(&self, folder: &Path) -> Result<()> {
        Ok(files::write(&folder.join("number.txt"), self.0.to_string().as_bytes())?)
    }
    fn load(files: &Files) -> Result<Self> {
        Ok(Self(files::read_text(files.path("number.txt")?)?.parse()?))
    }
}

/// Yields a number.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Constant {
    /// The number.
    value: u64,
}

impl Stage for Constant {
    const KIND: &'static str = "toy";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const SMALL: bool = true;
    fn outputs(&self) -> Outputs {
        Outputs::main(Number::TYPE)
    }
    fn run(&self, cx: &mut Context<'_>) -> Result<()> {
        cx.save(&Number(self.value))
    }
}

const TOYS: Registry = Registry(&[Kind::of::<Constant>()]);
const NODES: usize = 1000;

/// Prints how long a node takes, of many.
pub(crate) fn print() -> Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut text = "[experiment]\nname = \"toys\"\n".to_owned();
    for value in 0..NODES {
        text += &format!("[stages.n{value}]\nkind = \"toy\"\nvalue = {value}\n");
    }
    let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
    let experiment = read_text(Path::new("x.toml"), &text, &mut sources, &mut errors);
    let plan = plan::build(experiment, TOYS, &mut Stamps::default(), &mut errors);
    let plan = plan.context("the graph has no mistakes")?;
    let store = Store::open(&folder.path().join("cache"))?;
    let scratch = folder.path().join("scratch");
    files::make_folder(&scratch)?;
    let options = Options {
        run: "bench".into(),
        capacity: Capacity::of_threads(Machine::here().cores),
        machine: Machine::default(),
        keep_going: false,
        owner: Owner::this("host", "bench"),
        patience: PATIENCE,
        commit: Later::new(Box::new(|| None)),
        scratch,
        checkpoints: Checkpointing::default(),
    };
    let (never, executor) = (AtomicBool::new(false), InProcess::of(TOYS));
    let since = Instant::now();
    let results = run::run(&plan.graph, &store, &executor, &options, &never, &mut |_| ());
    let each = since.elapsed().div_f64(NODES as f64);
    ensure!(results.computed == NODES, "{} of {NODES} were computed", results.computed);
    println!(
        "engine, each of {NODES} toy nodes in its process: {}; target: less than 0.3 ms",
        words(each)
    );
    Ok(())
}

fn words(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}
