//! The walk through the graph: who computes each node, and what its end sets free.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, LazyLock, Once};
use std::thread;
use std::time::{Duration, Instant};

use super::attempt::{self, Attempt};
use super::commits::{Finished, Order, Orders};
use super::event::{Event, Watcher};
use super::execute::Produced;
use super::executor::{Executor, Handle, Report, Reports};
use super::experience::Experience;
use super::failure::{Failure, FailureKind};
use super::graph::{Graph, NodeId};
use super::leases::{Awaited, Held};
use super::resources::Estimate;
use super::run::{Options, Results};
use super::schedule::{Schedule, State};
use super::slots::Slot;
use super::status::{Lookup, identity, lookup};
use crate::store::files::FileError;
use crate::store::release::Others;
use crate::store::{Hash, NewerFormat, Store, Summary};

/// One run under way.
pub(super) struct Walk<'a> {
    pub(super) graph: &'a Graph,
    pub(super) store: &'a Store,
    pub(super) executor: &'a dyn Executor,
    pub(super) options: &'a Options,
    pub(super) watcher: &'a mut Watcher<'a>,
    pub(super) schedule: Schedule<'a>,
    pub(super) reports: Reports,
    pub(super) orders: Orders,
    pub(super) held: &'a Held,
    pub(super) awaited: Awaited,
    pub(super) running: BTreeMap<NodeId, Running>,
    /// Failed nodes that are tried again, and when.
    pub(super) resting: Vec<(Instant, NodeId)>,
    /// How often each node failed in this run.
    pub(super) failed_attempts: BTreeMap<NodeId, u32>,
    /// Results whose records are not written yet.
    pub(super) committing: BTreeSet<NodeId>,
    /// The key of every node whose inputs are known; indexed as the graph is.
    pub(super) keys: Vec<Option<Hash>>,
    /// Nodes by key while one of them runs: the others take its result.
    pub(super) by_key: BTreeMap<Hash, Vec<NodeId>>,
    /// Whether nothing more is started.
    pub(super) winding_down: bool,
    /// How often each node was computed again because its result was found damaged or missing.
    pub(super) again: BTreeMap<NodeId, usize>,
    /// Who else wants what is not to be kept.
    pub(super) others: Others,
    pub(super) results: Results,
}

/// A node being computed.
pub(super) struct Running {
    pub(super) attempt: Attempt,
    pub(super) handle: Box<dyn Handle>,
    /// When it was asked to stop because it takes too long.
    pub(super) late: Option<Instant>,
}

/// Whether the hash of the program is being computed.
static HASHING: Once = Once::new();

/// Who computes a node that is ready.
enum Admission {
    /// This run; the lease is held.
    Mine,
    /// Nobody: the result is there.
    Hit(Arc<Summary>),
    /// Another run.
    Theirs,
}

impl Walk<'_> {
    pub(super) fn is_over(&self) -> bool {
        let at_work = self.running.len() + self.resting.len() + self.committing.len();
        at_work == 0 && self.awaited.is_empty()
    }

    /// Whether more may be started.
    pub(super) fn goes_on(&self) -> bool {
        !self.results.interrupted && !self.winding_down
    }

    /// Learns from the store what the stages took in earlier runs, where something is to be computed.
    pub(super) fn estimate(&mut self) {
        if !self.schedule.has_ready() {
            return;
        }
        let experience = Experience::of(self.store);
        let estimate = |id: NodeId| experience.estimate(self.graph.node(id));
        let estimates: Vec<Estimate> = self.graph.ids().map(estimate).collect();
        self.schedule.learn(&self.options.capacity, &estimates);
    }

    /// Gives each node its key: a hit is done at once, a miss has to run.
    pub(super) fn resolve(&mut self, nodes: Vec<NodeId>) {
        let mut queue = VecDeque::from(nodes);
        let mut hits = Vec::new();
        while let Some(id) = queue.pop_front() {
            let key = identity(self.graph, id, &|d| self.results.records[d.index()].as_ref());
            self.keys[id.index()] = Some(key);
            match self.look_up(id, &key) {
                Ok(Lookup::Hit(result)) => {
                    hits.push(key);
                    queue.extend(self.take(id, result));
                }
                Ok(_) if !self.is_wanted(id) => {
                    self.results.left_out += self.schedule.leave_out(id).len();
                }
                Ok(found) => match self.by_key.get_mut(&key) {
                    Some(same) => same.push(id),
                    None => {
                        self.by_key.insert(key, vec![id]);
                        self.schedule.ready(id);
                        if matches!(found, Lookup::Dropped(_)) {
                            self.tell_dropped(id);
                        }
                    }
                },
                Err(failure) => self.fail(id, failure),
            }
        }
        if !hits.is_empty() {
            self.note_hits(&hits);
        }
        self.pass_on_notices();
    }

    fn is_wanted(&self, id: NodeId) -> bool {
        self.options.wanted.as_ref().is_none_or(|wanted| wanted[id.index()])
    }

    /// Finds the result of a node; one whose files were dropped does not do where they are needed again.
    fn look_up(&self, id: NodeId, key: &Hash) -> Result<Lookup, Failure> {
        let found = lookup(self.graph, self.store, id, key).map_err(|error| refused(&error))?;
        Ok(match found {
            Lookup::Hit(result) if result.dropped && self.again.contains_key(&id) => Lookup::Miss,
            found => found,
        })
    }

    /// Says why a node is computed again that nothing has changed.
    fn tell_dropped(&mut self, id: NodeId) {
        let name = &self.graph.node(id).name;
        let words = format!("`{name}` is computed again: its files were not kept");
        (self.watcher)(&Event::Notice(words));
    }

    /// Passes on what a node has to say of its result.
    fn tell_notices(&mut self, id: NodeId, notices: Vec<String>) {
        let name = &self.graph.node(id).name;
        for words in notices {
            (self.watcher)(&Event::Notice(format!("`{name}`: {words}")));
        }
    }

    /// Notes results as found: nobody takes them away while this run goes on.
    fn note_hits(&self, keys: &[Hash]) {
        // Where that cannot be written, what is taken away is computed again.
        drop(self.store.note_hits(&self.options.run, keys));
    }

    pub(super) fn pass_on_notices(&mut self) {
        for words in self.store.take_notices() {
            (self.watcher)(&Event::Notice(words));
        }
    }

    /// Takes a result from the cache; yields the nodes that it frees.
    pub(super) fn take(&mut self, id: NodeId, result: Arc<Summary>) -> Vec<NodeId> {
        self.results.records[id.index()] = Some(result);
        self.results.cached += 1;
        (self.watcher)(&Event::Cached(id));
        let freed = self.schedule.done(id);
        self.release_around(id);
        freed
    }

    pub(super) fn start_ready(&mut self) {
        while let Some((id, slot)) = self.schedule.take_next() {
            match self.admit(id) {
                Ok(Admission::Mine) => self.start(id, slot),
                Ok(Admission::Hit(result)) => {
                    self.note_hits(&[result.key]);
                    let mut freed = self.take(id, Arc::clone(&result));
                    freed.extend(self.take_followers(id, &result));
                    self.resolve(freed);
                }
                Ok(Admission::Theirs) => self.wait_for(id),
                Err(failure) => self.fail(id, failure),
            }
        }
        if self.running.is_empty() && !self.committing.is_empty() {
            // Gone only when the walk is.
            drop(self.orders.send(Order::Flush));
        }
    }

    /// Finds out whether a node is to be computed here: another run may have done it meanwhile, or be at it.
    fn admit(&self, id: NodeId) -> Result<Admission, Failure> {
        let key = self.key(id);
        let other = self.held.claim(self.store, &key, &self.options.owner).map_err(failed)?;
        if other.is_some() {
            return Ok(Admission::Theirs);
        }
        match self.look_up(id, &key) {
            Ok(Lookup::Dropped(_) | Lookup::Miss) => Ok(Admission::Mine),
            Ok(Lookup::Hit(result)) => {
                self.held.give_back(&key);
                Ok(Admission::Hit(result))
            }
            Err(failure) => {
                self.held.give_back(&key);
                Err(failure)
            }
        }
    }

    pub(super) fn wait_for(&mut self, id: NodeId) {
        self.schedule.elsewhere(id);
        let (key, options) = (self.key(id), self.options);
        self.awaited.add(id, self.store, &key, &options.owner, options.patience);
        // Nobody, where it was given back in this instant.
        if let Some(owner) = self.store.holder(&key) {
            (self.watcher)(&Event::Awaited { node: id, owner });
        }
    }

    /// Makes the nodes ready that other runs have finished with, one way or the other.
    pub(super) fn look_elsewhere(&mut self) {
        for (id, over) in self.awaited.over() {
            match over {
                Ok(()) => self.schedule.ready(id),
                Err(error) => self.fail(id, failed(error)),
            }
        }
    }

    pub(super) fn key(&self, id: NodeId) -> Hash {
        self.keys[id.index()].expect("a node is ready once its key is known")
    }

    /// The nodes that wait for the result of this one because they have the same key.
    pub(super) fn followers(&mut self, id: NodeId) -> Vec<NodeId> {
        let mut same = self.by_key.remove(&self.key(id)).unwrap_or_default();
        // A run that winds down has left them out already.
        same.retain(|other| *other != id && self.schedule.state(*other) == State::Waiting);
        same
    }

    /// Gives a node's result to those with the same key; yields the nodes that this frees.
    pub(super) fn take_followers(&mut self, id: NodeId, result: &Arc<Summary>) -> Vec<NodeId> {
        let followers = self.followers(id);
        followers.into_iter().flat_map(|other| self.take(other, Arc::clone(result))).collect()
    }

    pub(super) fn start(&mut self, id: NodeId, slot: Slot) {
        let records = &self.results.records;
        let known = |d: NodeId| records[d.index()].as_ref();
        if !attempt::lacking((self.graph, self.store), id, &[], &known).is_empty() {
            self.recover(id, &[]);
            return;
        }
        // Beside the computing: the first record needs it.
        HASHING.call_once(|| drop(thread::spawn(|| LazyLock::force(&attempt::BINARY))));
        let key = self.key(id);
        let place = (self.graph, self.store, self.options);
        let number = 1 + self.failed_attempts.get(&id).copied().unwrap_or(0);
        let (job, attempt) = attempt::prepare(place, (id, &key), (slot, number), &known);
        let threads = attempt.slot.threads;
        (self.watcher)(&Event::Started { node: id, threads });
        let handle = self.executor.start(id, job, self.reports.clone());
        self.running.insert(id, Running { attempt, handle, late: None });
    }

    /// Waits for the next report, or long enough to notice an interrupt.
    pub(super) fn hear(&mut self, inbox: &Receiver<(NodeId, Report)>) {
        match inbox.recv_timeout(Duration::from_millis(50)) {
            Ok((node, Report::Progress { fraction, note })) => {
                (self.watcher)(&Event::Progress { node, fraction, note });
            }
            Ok((node, Report::Ended(outcome))) => self.ended(node, outcome),
            Ok((node, Report::Committed { outcome, seconds, metrics })) => {
                self.committed(node, outcome, seconds, metrics);
            }
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => unreachable!("this run holds a sender"),
        }
    }

    pub(super) fn ended(&mut self, id: NodeId, outcome: Result<Produced, Failure>) {
        let running = self.running.remove(&id).expect("a node that ends was running");
        let outcome = running.judge(outcome, self.graph.node(id));
        let Running { attempt, .. } = running;
        let key = self.key(id);
        match outcome {
            Ok(_) if !self.held.is_held(&key) => {
                // This run was taken for dead, and another has the node now: its result counts.
                self.give_back(id);
                self.wait_for(id);
            }
            Ok(mut produced) => {
                self.tell_notices(id, std::mem::take(&mut produced.notices));
                let record = attempt.record((self.graph, self.options), (id, key), produced);
                let result = Arc::new(record.summary());
                let finished = Finished { node: id, record, log: attempt.log };
                self.committing.insert(id);
                self.orders
                    .send(Order::Commit(Box::new(finished)))
                    .expect("commits are served as long as the walk lasts");
                self.results.records[id.index()] = Some(Arc::clone(&result));
                let mut freed = self.schedule.done(id);
                freed.extend(self.take_followers(id, &result));
                if !self.results.interrupted {
                    self.resolve(freed);
                }
            }
            Err(failure) if !failure.damaged.is_empty() && self.goes_on() => {
                self.recover(id, &failure.damaged);
            }
            Err(failure) => {
                self.give_back(id);
                self.fail_or_rest(id, failure, &attempt);
            }
        }
    }

    /// Takes note that a record is written, or that it cannot be.
    pub(super) fn committed(
        &mut self,
        id: NodeId,
        outcome: Result<bool, Failure>,
        seconds: f64,
        metrics: Vec<(String, f64)>,
    ) {
        self.committing.remove(&id);
        match outcome {
            Ok(true) => {
                self.results.computed += 1;
                // One that cannot be removed is of no value, and does no harm.
                drop(self.store.forget_checkpoints(&self.key(id)));
                (self.watcher)(&Event::Computed { node: id, seconds, metrics });
                self.release_around(id);
            }
            // Another run, which took this one for dead, writes the record: what was computed counts all the same.
            Ok(false) => {
                self.results.cached += 1;
                (self.watcher)(&Event::Cached(id));
            }
            Err(failure) => {
                self.results.records[id.index()] = None;
                self.lose(id, failure);
            }
        }
    }
}

pub(super) fn failed(error: FileError) -> Failure {
    let refused = error.is_refused();
    let failure = Failure::from_error(error.into());
    if !refused {
        return failure;
    }
    let hint = "the cache cannot be written to: name another with --cache, and take results from this one with \
                --cache-from";
    Failure { kind: FailureKind::Resource, ..failure }.hint(hint)
}

/// A record that only a later version of the program can read: neither used nor replaced.
fn refused(error: &NewerFormat) -> Failure {
    Failure::user(error.to_string()).hint("use that version, or another folder with --cache")
}
