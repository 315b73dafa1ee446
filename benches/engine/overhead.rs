//! What the engine adds to a node that computes next to nothing, in the engine's own process.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use wavecrest::engine::checkpoint::Checkpointing;
use wavecrest::engine::context::Context;
use wavecrest::engine::executor::InProcess;
use wavecrest::engine::graph::Graph;
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

/// So many runs, of which the fastest counts: the others waited for something else.
const ROUNDS: usize = 5;

/// Prints how long a node takes, of many. The folders come back: files deleted just now would slow down what follows.
pub(crate) fn print() -> Result<Vec<TempDir>> {
    let mut text = "[experiment]\nname = \"toys\"\n".to_owned();
    for value in 0..NODES {
        text += &format!("[stages.n{value}]\nkind = \"toy\"\nvalue = {value}\n");
    }
    let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
    let experiment = read_text(Path::new("x.toml"), &text, &mut sources, &mut errors);
    let plan = plan::build(experiment, TOYS, &mut Stamps::default(), &mut errors);
    let plan = plan.context("the graph has no mistakes")?;
    let folders: Vec<TempDir> = (0..ROUNDS)
        .map(|_| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")))
        .collect::<Result<_, _>>()?;
    let times = folders.iter().map(|folder| time(&plan.graph, folder.path()));
    let best = times.collect::<Result<Vec<_>>>()?.into_iter().min().context("it ran")?;
    println!(
        "engine, each of {NODES} toy nodes in its process: {:.3} ms; target: less than 0.3 ms",
        best.div_f64(NODES as f64).as_secs_f64() * 1e3
    );
    Ok(folders)
}

/// How long a run takes that finds nothing in its store.
fn time(graph: &Graph, folder: &Path) -> Result<Duration> {
    let store = Store::open(&folder.join("cache"))?;
    let scratch = folder.join("scratch");
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
    let results = run::run(graph, &store, &executor, &options, &never, &mut |_| ());
    let took = since.elapsed();
    ensure!(results.computed == NODES, "{} of {NODES} were computed", results.computed);
    Ok(took)
}
