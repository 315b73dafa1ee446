//! Toy kinds for the engine's own tests: numbers in text files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::checkpoint::Checkpoint;
use super::context::Context;
use super::failure::Failure;
use super::graph::{Graph, Link, Node, NodeId, Parameters};
use super::inputs::Inputs;
use super::kind::{Kind, Registry};
use super::parameter::{Input, Seed};
use super::resources::Request;
use super::retry::Policy;
use super::stage::{Artifact, Determinism, Files, Outputs, Stage, Violation};
use crate::store::files;

pub(crate) struct Number(pub(crate) i64);

impl Artifact for Number {
    const TYPE: &'static str = "number";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        Ok(files::write_atomic(&folder.join("number.txt"), self.0.to_string().as_bytes())?)
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        Ok(Self(files::read_text(files.path("number.txt")?)?.parse()?))
    }
}

/// Yields a number.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Constant {
    /// The number. It may be negative.
    value: i64,
    /// Does nothing but be a default.
    #[serde(default)]
    seed: Seed,
}

impl Stage for Constant {
    const KIND: &'static str = "toy.constant";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    fn check(&self) -> Vec<Violation> {
        super::stage::violations([("value", self.value != 13, "must not be 13")])
    }
    fn outputs(&self) -> Outputs {
        Outputs::main(Number::TYPE)
    }
    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        cx.metric("value", self.value as f64)?;
        cx.save(&Number(self.value))
    }
}

/// Halves a number, rounding down: 4 and 5 give identical bytes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Half {
    /// The number.
    of: Input<Number>,
}

impl Stage for Half {
    const KIND: &'static str = "toy.half";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    fn outputs(&self) -> Outputs {
        Outputs::main(Number::TYPE)
    }
    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let number = cx.load(&self.of)?.0;
        if number % 2 != 0 {
            cx.notice(format!("{number} is odd, and is rounded down"));
        }
        cx.save(&Number(number.div_euclid(2)))
    }
}

/// Adds two numbers, or does something bad.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sum {
    /// One number.
    left: Input<Number>,
    /// Another.
    right: Input<Number>,
    /// What to do instead.
    #[serde(default)]
    instead: Instead,
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Instead {
    #[default]
    Nothing,
    Panic,
    Fail,
    Wait,
}

/// How many times a sum was really computed.
pub(crate) static SUMS: AtomicUsize = AtomicUsize::new(0);

impl Stage for Sum {
    const KIND: &'static str = "toy.sum";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    fn outputs(&self) -> Outputs {
        Outputs::main(Number::TYPE)
    }
    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        SUMS.fetch_add(1, Ordering::Relaxed);
        match self.instead {
            Instead::Nothing => (),
            Instead::Panic => panic!("as asked"),
            Instead::Fail => anyhow::bail!(Failure::data("no such thing").hint("ask for another")),
            Instead::Wait => loop {
                cx.check_cancelled()?;
                std::thread::yield_now();
            },
        }
        let sum = cx.load(&self.left)?.0 + cx.load(&self.right)?.0;
        cx.progress(1.0, || "summed".into());
        cx.save(&Number(sum))
    }
}

/// Adds the numbers from 1 on, one a step, and says each step to its watcher.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Series {
    /// The last number.
    to: i64,
}

/// The numbers added so far, and their sum.
pub(crate) struct Added {
    numbers: i64,
    sum: i64,
}

impl Checkpoint for Added {
    const FORMAT: u32 = 1;
    fn place(&self) -> String {
        format!("number {}", self.numbers)
    }
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        files::write(&folder.join("numbers.txt"), self.numbers.to_string().as_bytes())?;
        Ok(files::write(&folder.join("sum.txt"), self.sum.to_string().as_bytes())?)
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        let number = |name: &str| -> anyhow::Result<i64> {
            Ok(files::read_text(files.path(name)?)?.parse()?)
        };
        Ok(Self { numbers: number("numbers.txt")?, sum: number("sum.txt")? })
    }
}

impl Stage for Series {
    const KIND: &'static str = "toy.series";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    fn outputs(&self) -> Outputs {
        Outputs::main(Number::TYPE)
    }
    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let mut added = cx.resume().unwrap_or(Added { numbers: 0, sum: 0 });
        while added.numbers < self.to {
            cx.pause_point(|| Ok(&added))?;
            added.numbers += 1;
            added.sum += added.numbers;
            (cx.sink())(added.numbers as f64 / self.to as f64, added.numbers.to_string());
        }
        cx.save(&Number(added.sum))
    }
}

/// Adds any numbers, each times one more than what its values on gathered axes add up to.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Total {
    /// The numbers.
    of: Inputs<Number>,
}

impl Stage for Total {
    const KIND: &'static str = "toy.total";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    fn outputs(&self) -> Outputs {
        Outputs::main(Number::TYPE)
    }
    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let weight =
            |at: &BTreeMap<String, Json>| 1 + at.values().filter_map(Json::as_i64).sum::<i64>();
        let all = cx.load_all(&self.of)?;
        cx.save(&Number(all.iter().map(|(at, number)| number.0 * weight(at)).sum()))
    }
}

pub(crate) const TOYS: Registry = Registry(&[
    Kind::of::<Constant>(),
    Kind::of::<Half>(),
    Kind::of::<Sum>(),
    Kind::of::<Series>(),
    Kind::of::<Total>(),
]);

/// A graph whose node `i` may depend on nodes before it, and asks for something.
pub(crate) fn graph(nodes: &[(Vec<usize>, Request)]) -> Graph {
    let mut graph = Graph::default();
    for (i, (inputs, resources)) in nodes.iter().enumerate() {
        let id = graph.add(Node {
            name: format!("n{i}"),
            stage: format!("n{i}"),
            point: Vec::new(),
            kind: &TOYS.0[0],
            parameters: Parameters::of(&Json::Null),
            outputs: Outputs::main(Number::TYPE).into(),
            resources: *resources,
            retries: Policy::default(),
            timeout: None,
            keep: true,
        });
        for input in inputs.iter().filter(|_| i > 0) {
            let from = NodeId::new(input % i.max(1));
            graph.link(from, id, Link { edge: format!("@n{input}"), output: "main".into() });
        }
    }
    graph
}
