//! Those who watch a run: bars on a terminal, plain lines elsewhere. Nothing else prints progress.

pub mod bars;
pub mod lines;
pub mod meter;
pub mod words;

use std::io::IsTerminal;

use crate::engine::event::Event;
use crate::engine::graph::Graph;

/// Someone who shows a run to the user.
pub trait Display {
    /// Shows one event.
    fn event(&mut self, event: &Event);
    /// Clears what should not stay on the screen.
    fn finish(&mut self);
}

/// Chooses bars for a terminal and lines for anything else.
pub fn display(graph: &Graph) -> Box<dyn Display + '_> {
    if std::io::stderr().is_terminal() {
        Box::new(bars::Bars::new(graph))
    } else {
        Box::new(lines::Lines::new(graph))
    }
}

/// Whether to color what goes to standard error.
pub fn colored() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
