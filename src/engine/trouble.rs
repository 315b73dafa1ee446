//! What a run does when something goes wrong: tries again, computes again what was lost, leaves out, winds down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::attempt::{self, Attempt};
use super::event::Event;
use super::execute::Produced;
use super::failure::{Failure, FailureKind, Shortage};
use super::graph::{Node, NodeId};
use super::schedule::State;
use super::walk::{Running, Walk};
use crate::spec::quantity::{duration_words, size_words};
use crate::store::Hash;

/// More often than this a result is not computed again in one run.
const MOST_AGAIN: usize = 2;
/// How long a node that was asked to stop may take to do so.
const GRACE: Duration = Duration::from_secs(10);

impl Running {
    /// What an attempt came to: one that was ended because it took too long has failed for that.
    pub(super) fn judge(
        &self,
        outcome: Result<Produced, Failure>,
        node: &Node,
    ) -> Result<Produced, Failure> {
        match (outcome, self.late, node.timeout) {
            (Err(failure), Some(_), Some(limit)) => {
                let log_tail = failure.log_tail;
                Err(Failure { log_tail, ..Failure::timed_out(limit, &node.retries) })
            }
            (outcome, ..) => outcome,
        }
    }
}

impl Walk<'_> {
    /// Has the results computed again that a node is to read and that are damaged or gone.
    pub(super) fn recover(&mut self, id: NodeId, damaged: &[Hash]) {
        for object in damaged {
            self.store.quarantine(object);
        }
        self.pass_on_notices();
        let records = &self.results.records;
        let known = |d: NodeId| records[d.index()].as_ref();
        let lacking = attempt::lacking((self.graph, self.store), id, damaged, &known);
        self.give_back(id);
        let hopeless = |d: &NodeId| self.again.get(d).is_some_and(|times| *times >= MOST_AGAIN);
        if let Some(dependency) = lacking.iter().find(|d| hopeless(d)) {
            let name = &self.graph.node(*dependency).name;
            let message = format!("the result of `{name}` is damaged each time it is computed");
            let failure = Failure::new(FailureKind::Resource, message);
            self.fail(id, failure.hint("the disk or the memory may be failing"));
            return;
        }
        let mut open = self.followers(id);
        self.schedule.reopen(&lacking, id);
        for dependency in lacking {
            *self.again.entry(dependency).or_default() += 1;
            let lost = self.results.records[dependency.index()].take();
            // One that this run computed is counted as computed.
            if lost.as_ref().is_some_and(|result| result.provenance.run != self.options.run) {
                self.results.cached -= 1;
            }
            let name = &self.graph.node(dependency).name;
            let why = match lost {
                Some(result) if result.packed => ": the pack that it came with left out its files",
                Some(result) if result.dropped => ": its files were not kept, and are needed",
                _ => "",
            };
            let words = format!("`{name}` is computed again{why}");
            (self.watcher)(&Event::Again { node: dependency, words });
            open.push(dependency);
        }
        self.resolve(open);
    }

    pub(super) fn give_back(&self, id: NodeId) {
        self.held.give_back(&self.key(id));
    }

    /// Has a node that failed tried again after a while, if that may help.
    pub(super) fn fail_or_rest(&mut self, id: NodeId, mut failure: Failure, attempt: &Attempt) {
        let node = self.graph.node(id);
        if failure.short_of == Some(Shortage::Memory) {
            let asked = match node.resources.memory {
                Some(bytes) => format!("it had asked for {}", size_words(bytes)),
                None => "it had asked for no memory of its own".to_owned(),
            };
            let hint = format!("{asked}; `resources = {{ memory = \"…\" }}` keeps others away");
            failure.hint.get_or_insert(hint);
        }
        let failed = self.failed_attempts.entry(id).or_default();
        *failed += 1;
        let key = self.keys[id.index()].expect("a node that ran has a key");
        let again = node.retries.again(&failure, *failed, &attempt.slot, &key);
        let Some(again) = again.filter(|_| self.goes_on()) else {
            self.fail(id, failure);
            return;
        };
        self.schedule.again(id, again.room);
        self.resting.push((Instant::now() + again.after, id));
        let name = &node.name;
        let after = duration_words(again.after);
        let words = format!("`{name}` failed: {}; it is tried again in {after}", failure.message);
        (self.watcher)(&Event::Retrying { node: id, words });
    }

    /// Makes the nodes ready that have rested.
    pub(super) fn wake(&mut self) {
        let now = Instant::now();
        let (due, resting) = self.resting.drain(..).partition(|(at, _)| *at <= now);
        self.resting = resting;
        let due: Vec<(Instant, NodeId)> = due;
        for (_, id) in due {
            // A run that winds down has left it out.
            if self.schedule.state(id) == State::Resting {
                self.schedule.ready(id);
            }
        }
        self.resting.retain(|(_, id)| self.schedule.state(*id) == State::Resting);
    }

    /// Ends the nodes that take longer than they may: first by asking, so that they can save a checkpoint.
    pub(super) fn end_late(&mut self) {
        for (id, running) in &mut self.running {
            let Some(limit) = self.graph.node(*id).timeout else { continue };
            match running.late {
                None if running.attempt.since.elapsed() > limit => {
                    running.late = Some(Instant::now());
                    running.handle.cancel();
                }
                Some(since) if since.elapsed() > GRACE => running.handle.kill(),
                _ => (),
            }
        }
    }

    /// Passes on that every running node is to save a checkpoint.
    pub(super) fn ask_for_checkpoints(&mut self, asked: &AtomicBool) {
        if asked.swap(false, Ordering::Relaxed) {
            self.running.values_mut().for_each(|running| running.handle.checkpoint());
        }
    }

    /// Takes back a result that could not be recorded; whatever else there is could not be recorded either.
    pub(super) fn lose(&mut self, id: NodeId, failure: Failure) {
        (self.watcher)(&Event::Failed { node: id, failure: failure.clone() });
        self.results.failures.push((id, failure));
        let mut skipped = self.schedule.revoke(id);
        self.winding_down = true;
        skipped.extend(self.schedule.wind_down());
        self.skip(skipped);
        self.awaited.retain(|_| false);
    }

    pub(super) fn fail(&mut self, id: NodeId, failure: Failure) {
        // A worker that the interrupt found still starting, or that was killed with the terminal, has not failed.
        let killed = self.results.interrupted && failure.kind == FailureKind::Killed;
        if failure.kind == FailureKind::Interrupted || killed {
            self.results.interrupted = true;
        } else {
            (self.watcher)(&Event::Failed { node: id, failure: failure.clone() });
            self.results.failures.push((id, failure));
        }
        // Those with the same key would fail alike: they are left out, not told again.
        let followers = self.followers(id);
        let mut skipped = self.schedule.failed(id);
        for follower in followers {
            skipped.push(follower);
            skipped.extend(self.schedule.failed(follower));
        }
        if !self.options.keep_going {
            self.winding_down = true;
            skipped.extend(self.schedule.wind_down());
        }
        self.skip(skipped);
        self.awaited.retain(|id| self.schedule.state(id) == State::Elsewhere);
    }

    pub(super) fn skip(&mut self, nodes: Vec<NodeId>) {
        self.results.skipped += nodes.len();
        if !nodes.is_empty() {
            (self.watcher)(&Event::Skipped(nodes));
        }
    }

    pub(super) fn interrupt(&mut self) {
        self.results.interrupted = true;
        (self.watcher)(&Event::Interrupting);
        let skipped = self.schedule.wind_down();
        self.skip(skipped);
        self.awaited.retain(|_| false);
        for running in self.running.values_mut() {
            running.handle.cancel();
        }
    }
}
