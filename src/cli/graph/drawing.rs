//! What is drawn of a graph: boxes, arrows, and how much of each box is cached. Knows no format.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::graph::{Node, NodeId};
use crate::engine::status::Status;
use crate::plan::Plan;

/// Boxes and arrows.
pub struct Drawing {
    /// The experiment's name.
    pub name: String,
    /// The boxes, in the order in which their stages are written.
    pub boxes: Vec<Shape>,
    /// From box, to box; each once.
    pub arrows: Vec<(usize, usize)>,
}

/// What one box stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// All instances of a stage.
    Stages,
    /// One instance.
    Instances,
}

impl Grain {
    /// What a box stands for, in a word.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Stages => "stage",
            Self::Instances => "instance",
        }
    }
}

/// One box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The stage.
    pub stage: String,
    /// The name of the only node in it, as commands take it; none where the box stands for a stage.
    pub node: Option<String>,
    /// The axes of the stage with their lengths, such as `source 2`; or the place on them, such as `source=waves`.
    pub axes: Vec<String>,
    /// The kind of the stage.
    pub kind: &'static str,
    /// How many nodes it stands for.
    pub count: usize,
    /// How many of them are cached.
    pub cached: usize,
}

/// How much of a box is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    All,
    Some,
    None,
}

impl State {
    /// Every state, in the order of a legend.
    pub const ALL: [Self; 3] = [Self::All, Self::Some, Self::None];

    /// A mark that tells it without color.
    pub fn mark(self) -> char {
        match self {
            Self::All => '●',
            Self::Some => '◐',
            Self::None => '○',
        }
    }

    /// Its name in a legend, and as a class of boxes.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "cached",
            Self::Some => "partly cached",
            Self::None => "not cached",
        }
    }

    /// The fill of its boxes: a light tint of one of the colors of Okabe and Ito (2008), or white.
    pub fn fill(self) -> &'static str {
        match self {
            Self::All => "#d3e8f5",
            Self::Some => "#fbe6c2",
            Self::None => "#ffffff",
        }
    }

    /// The border of its boxes, and the mark: the same color, dark enough to be told apart from white.
    pub fn stroke(self) -> &'static str {
        match self {
            Self::All => "#0072b2",
            Self::Some => "#a86400",
            Self::None => "#666666",
        }
    }
}

impl Shape {
    /// How much of it is cached.
    pub fn state(&self) -> State {
        match self.cached {
            0 => State::None,
            cached if cached == self.count => State::All,
            _ => State::Some,
        }
    }

    /// How much of it is cached, such as `cached 3 of 10`.
    pub fn status(&self) -> String {
        match (self.count, self.cached) {
            (1, 1) => "cached".to_owned(),
            (1, _) => "not cached".to_owned(),
            (count, cached) => format!("cached {cached} of {count}"),
        }
    }

    /// What it stands for in one line, such as `probe  source 2 x replicate 5`.
    pub fn heading(&self) -> String {
        match &self.node {
            Some(node) => node.clone(),
            None if self.axes.is_empty() => self.stage.clone(),
            None => format!("{}  {}", self.stage, self.axes.join(" x ")),
        }
    }
}

impl Drawing {
    /// Draws a plan; `statuses` are indexed as its graph is.
    pub fn of(plan: &Plan, statuses: &[Status], grain: Grain) -> Self {
        let graph = &plan.graph;
        let mut boxes: Vec<Group<'_>> = Vec::new();
        let mut by_stage: BTreeMap<&str, usize> = BTreeMap::new();
        let mut place = Vec::with_capacity(graph.len());
        for id in graph.ids() {
            let node = graph.node(id);
            let fresh = boxes.len();
            let at = match grain {
                Grain::Instances => fresh,
                Grain::Stages => *by_stage.entry(&node.stage).or_insert(fresh),
            };
            if at == fresh {
                boxes.push(Group::new(node));
            }
            boxes[at].add(node, statuses[id.index()].record().is_some());
            place.push(at);
        }
        let arrows_to = |id: NodeId| {
            let from = graph.dependencies(id).into_iter();
            from.map(move |from| (from, id))
        };
        let mut arrows: Vec<(usize, usize)> = graph
            .ids()
            .flat_map(arrows_to)
            .map(|(from, to)| (place[from.index()], place[to.index()]))
            .collect();
        arrows.sort_unstable();
        arrows.dedup();
        let boxes = boxes.into_iter().map(|b| b.shape(grain)).collect();
        Self { name: plan.experiment.name.clone(), boxes, arrows }
    }
}

/// The nodes of one box, as they are found.
struct Group<'a> {
    first: &'a Node,
    /// The labels on each axis, in the order of `[axes]`.
    labels: Vec<(&'a str, BTreeSet<&'a str>)>,
    count: usize,
    cached: usize,
}

impl<'a> Group<'a> {
    fn new(first: &'a Node) -> Self {
        let labels = first.point.iter().map(|(axis, _)| (axis.as_str(), BTreeSet::new()));
        Self { first, labels: labels.collect(), count: 0, cached: 0 }
    }

    fn add(&mut self, node: &'a Node, cached: bool) {
        self.count += 1;
        self.cached += usize::from(cached);
        for ((_, labels), (_, label)) in self.labels.iter_mut().zip(&node.point) {
            labels.insert(label);
        }
    }

    fn shape(self, grain: Grain) -> Shape {
        let (node, axes) = match grain {
            Grain::Stages => {
                let length =
                    |(axis, labels): &(&str, BTreeSet<&str>)| format!("{axis} {}", labels.len());
                (None, self.labels.iter().map(length).collect())
            }
            Grain::Instances => {
                let place = self.first.point.iter().map(|(axis, label)| format!("{axis}={label}"));
                (Some(self.first.name.clone()), place.collect())
            }
        };
        Shape {
            stage: self.first.stage.clone(),
            node,
            axes,
            kind: self.first.kind.name,
            count: self.count,
            cached: self.cached,
        }
    }
}
