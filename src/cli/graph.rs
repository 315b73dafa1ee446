//! `wavecrest graph`: the graph as Mermaid or DOT, one box a stage or one a node, cached ones marked.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};

use super::workspace::{Workspace, planned};
use super::{CacheArgs, CliError, ExperimentArgs, print};
use crate::engine::status::{Status, survey};
use crate::plan::Plan;

/// Arguments of `graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// Language of the output
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,
    /// Draw every instance instead of one box a stage
    #[arg(long)]
    expand: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Mermaid,
    Dot,
}

/// Prints the graph of an experiment.
pub fn graph(args: &GraphArgs, cache: &CacheArgs) -> Result<(), CliError> {
    let workspace = Workspace::of(&args.experiment.file, cache)?;
    let (plan, _) = planned(&args.experiment, &workspace)?;
    let statuses = survey(&plan.graph, &workspace.store)?;
    let drawing = Drawing::of(&plan, &statuses, args.expand);
    print(&match args.format {
        Format::Mermaid => drawing.mermaid(),
        Format::Dot => drawing.dot(&plan.experiment.name),
    })
}

/// Boxes and arrows.
struct Drawing {
    boxes: Vec<Shape>,
    /// From box, to box, and the input's name; each once.
    arrows: Vec<(usize, usize)>,
}

struct Shape {
    title: String,
    kind: &'static str,
    count: usize,
    cached: usize,
}

impl Drawing {
    fn of(plan: &Plan, statuses: &[Status], expand: bool) -> Self {
        let mut boxes: Vec<Shape> = Vec::new();
        let mut place: BTreeMap<String, usize> = BTreeMap::new();
        let title = |id| {
            let node = plan.graph.node(id);
            if expand { node.name.clone() } else { node.stage.clone() }
        };
        for id in plan.graph.ids() {
            let at = *place.entry(title(id)).or_insert_with(|| {
                let kind = plan.graph.node(id).kind.name;
                boxes.push(Shape { title: title(id), kind, count: 0, cached: 0 });
                boxes.len() - 1
            });
            boxes[at].count += 1;
            boxes[at].cached += usize::from(statuses[id.index()].record().is_some());
        }
        let mut arrows: Vec<(usize, usize)> = plan
            .graph
            .ids()
            .flat_map(|id| plan.graph.dependencies(id).into_iter().map(move |d| (d, id)))
            .map(|(from, to)| (place[&title(from)], place[&title(to)]))
            .collect();
        arrows.sort_unstable();
        arrows.dedup();
        Self { boxes, arrows }
    }

    fn mermaid(&self) -> String {
        let mut text = String::from("graph TD\n");
        for (i, shape) in self.boxes.iter().enumerate() {
            let class = if shape.cached == shape.count { ":::cached" } else { "" };
            text += &format!("    n{i}[\"{}<br/>{}\"]{class}\n", shape.heading(), shape.kind);
        }
        for (from, to) in &self.arrows {
            text += &format!("    n{from} --> n{to}\n");
        }
        text + "    classDef cached fill:#d5f0dd,stroke:#2e7d4f,color:#12331f\n"
    }

    fn dot(&self, name: &str) -> String {
        let mut text = format!("digraph \"{name}\" {{\n    node [shape=box, style=filled];\n");
        for (i, shape) in self.boxes.iter().enumerate() {
            let fill = if shape.cached == shape.count { "#d5f0dd" } else { "#ffffff" };
            let label = format!("{}\\n{}", shape.heading(), shape.kind);
            text += &format!("    n{i} [label=\"{label}\", fillcolor=\"{fill}\"];\n");
        }
        for (from, to) in &self.arrows {
            text += &format!("    n{from} -> n{to};\n");
        }
        text + "}\n"
    }
}

impl Shape {
    fn heading(&self) -> String {
        if self.count == 1 {
            return self.title.clone();
        }
        format!("{} x {} ({} cached)", self.title, self.count, self.cached)
    }
}
