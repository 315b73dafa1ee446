//! A bar for the whole run and one for each running node, on a terminal.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Display;
use super::lines::{INTERRUPTING, elsewhere, outcome};
use super::words;
use crate::engine::event::Event;
use crate::engine::graph::{Graph, Node, NodeId};

/// Draws bars.
pub struct Bars<'a> {
    graph: &'a Graph,
    screen: MultiProgress,
    total: ProgressBar,
    running: BTreeMap<NodeId, (ProgressBar, Instant)>,
    style: ProgressStyle,
    cached: usize,
}

/// Steps of a node's bar.
const STEPS: u64 = 1000;
/// Names of nodes are cut here, to leave room for the bar, a loss and the time left in 80 columns.
const LONGEST_NAME: usize = 34;

impl<'a> Bars<'a> {
    /// Begins to watch a graph.
    pub fn new(graph: &'a Graph) -> Self {
        let screen = MultiProgress::new();
        let total = screen.add(ProgressBar::new(graph.len() as u64));
        total.set_style(style("{bar:24.green/dim} {pos}/{len} nodes  {elapsed}  {msg}"));
        total.enable_steady_tick(Duration::from_millis(200));
        let names = graph.ids().map(|id| short(graph.node(id)).chars().count());
        let width = names.max().unwrap_or(0).min(LONGEST_NAME);
        let template = format!(
            "{{spinner:.cyan}} {{prefix:{width}!}} {{bar:10.cyan/dim}} {{percent:>3}}% {{wide_msg}}"
        );
        let style = style(&template);
        Self { graph, screen, total, running: BTreeMap::new(), style, cached: 0 }
    }

    fn start(&mut self, node: NodeId) {
        let bar = self.screen.insert_before(&self.total, ProgressBar::new(STEPS));
        bar.set_style(self.style.clone());
        bar.set_prefix(short(self.graph.node(node)));
        bar.enable_steady_tick(Duration::from_millis(120));
        self.running.insert(node, (bar, Instant::now()));
    }

    fn progress(&self, node: NodeId, fraction: f64, note: &str) {
        if let Some((bar, since)) = self.running.get(&node) {
            bar.set_position((fraction * STEPS as f64) as u64);
            let left = since.elapsed().as_secs_f64() * (1.0 - fraction) / fraction;
            let left = if fraction > 0.02 && fraction < 1.0 {
                format!("  {} left", words::duration(left))
            } else {
                String::new()
            };
            bar.set_message(format!("{note}{left}"));
        }
    }

    fn end(&mut self, node: NodeId, line: &str) {
        if let Some((bar, _)) = self.running.remove(&node) {
            bar.finish_and_clear();
            self.screen.remove(&bar);
        }
        self.total.inc(1);
        // A screen that is gone is no reason to stop computing.
        drop(self.screen.println(line));
    }
}

impl Display for Bars<'_> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Cached(_) => {
                self.cached += 1;
                self.total.inc(1);
                self.total.set_message(format!("({} cached)", self.cached));
            }
            Event::Started { node, .. } => self.start(*node),
            Event::Awaited { node, owner } => {
                let name = &self.graph.node(*node).name;
                drop(self.screen.println(format!("awaited  {name}{}", elsewhere(owner))));
            }
            Event::Progress { node, fraction, note } => self.progress(*node, *fraction, note),
            Event::Computed { node, seconds, metrics } => {
                let name = &self.graph.node(*node).name;
                let line = format!("computed {name}{}", outcome(*seconds, metrics));
                self.end(*node, &line);
            }
            Event::Failed { node, failure } => {
                let line = format!("failed   {}: {}", self.graph.node(*node).name, failure.message);
                self.end(*node, &line);
            }
            Event::Skipped(nodes) => self.total.inc(nodes.len() as u64),
            Event::Again { words, .. } => {
                self.total.set_position(self.total.position().saturating_sub(1));
                drop(self.screen.println(words));
            }
            Event::Notice(words) => drop(self.screen.println(words)),
            Event::Retrying { node, words } => {
                if let Some((bar, _)) = self.running.remove(node) {
                    bar.finish_and_clear();
                    self.screen.remove(&bar);
                }
                drop(self.screen.println(words));
            }
            Event::Interrupting => drop(self.screen.println(INTERRUPTING)),
        }
    }

    fn finish(&mut self) {
        for (bar, _) in self.running.values() {
            bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

/// The name of a node without the names of its axes: `probe[waves,2]`.
fn short(node: &Node) -> String {
    let labels: Vec<&str> = node.point.iter().map(|(_, label)| label.as_str()).collect();
    if labels.is_empty() {
        node.stage.clone()
    } else {
        format!("{}[{}]", node.stage, labels.join(","))
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the templates above are valid");
    style.progress_chars("━╸─")
}
