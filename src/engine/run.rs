//! A run: the graph walked, each node computed once, every result committed as it comes.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use super::attempt::{self, Attempt};
use super::checkpoint::Checkpointing;
use super::commits::{self, Finished, Order, Orders};
use super::event::{Event, Watcher};
use super::execute::Produced;
use super::executor::{Executor, Report, Reports, Running};
use super::failure::{Failure, FailureKind};
use super::graph::{Graph, NodeId};
use super::leases::{Awaited, Held};
use super::schedule::{Schedule, State};
use super::status::{identity, lookup};
use crate::store::files::FileError;
use crate::store::lease::{Claim, Owner};
use crate::store::{Hash, NewerFormat, Store, Summary};

/// How a run is to go.
pub struct Options {
    /// The name of the run.
    pub run: String,
    /// CPU threads, all nodes together.
    pub threads: usize,
    /// Whether branches that do not depend on a failed node go on.
    pub keep_going: bool,
    /// This process, as other runs that share the cache see it.
    pub owner: Owner,
    /// How long another run that shows no sign of life is waited for.
    pub patience: Duration,
    /// The commit of the experiment's repository, found out meanwhile.
    pub commit: Later<Option<Commit>>,
    /// The folder in which nodes work.
    pub scratch: PathBuf,
    /// When running nodes save checkpoints.
    pub checkpoints: Checkpointing,
}

/// A value that is waited for when it is first needed.
pub type Later<T> = LazyLock<T, Box<dyn FnOnce() -> T + Send>>;

/// Where the repository stands that holds an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The commit.
    pub id: String,
    /// Whether files differ from it.
    pub dirty: bool,
}

/// What came of a run.
#[derive(Default)]
pub struct Results {
    /// The result of every node that has one; indexed as the graph is.
    pub records: Vec<Option<Arc<Summary>>>,
    /// Nodes computed in this run.
    pub computed: usize,
    /// Nodes taken from the cache.
    pub cached: usize,
    /// Nodes left out.
    pub skipped: usize,
    /// Nodes that failed, and why.
    pub failures: Vec<(NodeId, Failure)>,
    /// Whether the user stopped the run.
    pub interrupted: bool,
}

/// Computes what is not cached.
pub fn run(
    graph: &Graph,
    store: &Store,
    executor: &dyn Executor,
    options: &Options,
    interrupt: &AtomicBool,
    watcher: &mut Watcher<'_>,
) -> Results {
    let (schedule, free) = Schedule::new(graph, options.threads);
    let (reports, inbox) = mpsc::channel();
    let (orders, to_commit) = mpsc::channel();
    let held = Held::default();
    let mut walk = Walk {
        graph,
        store,
        executor,
        options,
        watcher,
        schedule,
        reports: reports.clone(),
        orders,
        held: &held,
        awaited: Awaited::default(),
        running: BTreeMap::new(),
        committing: 0,
        keys: vec![None; graph.len()],
        by_key: BTreeMap::new(),
        again: BTreeMap::new(),
        results: Results { records: vec![None; graph.len()], ..Results::default() },
    };
    let (done, stop) = mpsc::channel::<()>();
    let held = &held;
    let results = thread::scope(|scope| {
        scope.spawn(move || held.keep_alive(options.patience, &stop));
        scope.spawn(move || commits::serve(store, held, &to_commit, &reports));
        // Dropped when the walk ends, however it does: then the pulse stops.
        let _done = done;
        walk.resolve(free);
        walk.start_ready();
        while !walk.is_over() {
            if interrupt.load(Ordering::Relaxed) && !walk.results.interrupted {
                walk.interrupt();
            }
            if options.checkpoints.asked.swap(false, Ordering::Relaxed) {
                walk.running.values_mut().for_each(|(_, handle)| handle.checkpoint());
            }
            walk.hear(&inbox);
            walk.look_elsewhere();
            walk.start_ready();
        }
        // The rest of the walk goes here, and with it the other end of the orders: then the commits stop.
        walk.results
    });
    // Only an index: what it lacks is read from the records the next time.
    drop(store.save_index());
    let interrupted = results.interrupted || interrupt.load(Ordering::Relaxed);
    Results { interrupted, ..results }
}

/// One run under way.
struct Walk<'a> {
    graph: &'a Graph,
    store: &'a Store,
    executor: &'a dyn Executor,
    options: &'a Options,
    watcher: &'a mut Watcher<'a>,
    schedule: Schedule<'a>,
    reports: Reports,
    orders: Orders,
    held: &'a Held,
    awaited: Awaited,
    running: BTreeMap<NodeId, (Attempt, Box<dyn Running>)>,
    /// Results whose records are not written yet.
    committing: usize,
    /// The key of every node whose inputs are known; indexed as the graph is.
    keys: Vec<Option<Hash>>,
    /// Nodes by key while one of them runs: the others take its result.
    by_key: BTreeMap<Hash, Vec<NodeId>>,
    /// How often each node was computed again because its result was found damaged or missing.
    again: BTreeMap<NodeId, usize>,
    results: Results,
}

/// Who computes a node that is ready.
enum Admission {
    /// This run; the lease is held.
    Mine,
    /// Nobody: the result is there.
    Hit(Arc<Summary>),
    /// Another run.
    Theirs,
}

/// More often than this a result is not computed again in one run.
const MOST_AGAIN: usize = 2;

impl Walk<'_> {
    fn is_over(&self) -> bool {
        self.running.is_empty() && self.awaited.is_empty() && self.committing == 0
    }

    /// Gives each node its key: a hit is done at once, a miss has to run.
    fn resolve(&mut self, nodes: Vec<NodeId>) {
        let mut queue = VecDeque::from(nodes);
        let mut hits = Vec::new();
        while let Some(id) = queue.pop_front() {
            let key = identity(self.graph, id, &|d| self.results.records[d.index()].as_ref());
            self.keys[id.index()] = Some(key);
            match self.look_up(id, &key) {
                Ok(Some(result)) => {
                    hits.push(key);
                    queue.extend(self.take(id, result));
                }
                Ok(None) => match self.by_key.get_mut(&key) {
                    Some(same) => same.push(id),
                    None => {
                        self.by_key.insert(key, vec![id]);
                        self.schedule.ready(id);
                    }
                },
                Err(failure) => self.fail(id, failure),
            }
        }
        if !hits.is_empty() {
            // Only a cleaning at the same time reads it; what that takes away is computed again.
            drop(self.store.note_hits(&self.options.run, &hits));
        }
        self.pass_on_notices();
    }

    /// Finds the result of a node; one whose files were dropped does not do where they are needed again.
    fn look_up(&self, id: NodeId, key: &Hash) -> Result<Option<Arc<Summary>>, Failure> {
        let found = lookup(self.graph, self.store, id, key).map_err(|error| refused(&error))?;
        Ok(found.filter(|result| !(result.dropped && self.again.contains_key(&id))))
    }

    fn pass_on_notices(&mut self) {
        for words in self.store.take_notices() {
            (self.watcher)(&Event::Notice(words));
        }
    }

    /// Takes a result from the cache; yields the nodes that it frees.
    fn take(&mut self, id: NodeId, result: Arc<Summary>) -> Vec<NodeId> {
        self.results.records[id.index()] = Some(result);
        self.results.cached += 1;
        (self.watcher)(&Event::Cached(id));
        self.schedule.done(id)
    }

    fn start_ready(&mut self) {
        while let Some((id, threads)) = self.schedule.take_next() {
            match self.admit(id) {
                Ok(Admission::Mine) => self.start(id, threads),
                Ok(Admission::Hit(result)) => {
                    let mut freed = self.take(id, Arc::clone(&result));
                    freed.extend(self.take_followers(id, &result));
                    self.resolve(freed);
                }
                Ok(Admission::Theirs) => self.wait_for(id),
                Err(failure) => self.fail(id, failure),
            }
        }
        if self.running.is_empty() && self.committing > 0 {
            // Gone only when the walk is.
            drop(self.orders.send(Order::Flush));
        }
    }

    /// Finds out whether a node is to be computed here: another run may have done it meanwhile, or be at it.
    fn admit(&self, id: NodeId) -> Result<Admission, Failure> {
        let key = self.key(id);
        match self.store.claim(&key, &self.options.owner).map_err(failed)? {
            Claim::Theirs(_) => Ok(Admission::Theirs),
            Claim::Mine(lease) => match self.look_up(id, &key)? {
                Some(result) => lease.release().map(|()| Admission::Hit(result)).map_err(failed),
                None => {
                    self.held.put(key, lease);
                    Ok(Admission::Mine)
                }
            },
        }
    }

    fn wait_for(&mut self, id: NodeId) {
        self.schedule.elsewhere(id);
        let (key, options) = (self.key(id), self.options);
        self.awaited.add(id, self.store, &key, &options.owner, options.patience);
        // Nobody, where it was given back in this instant.
        if let Some(owner) = self.store.holder(&key) {
            (self.watcher)(&Event::Awaited { node: id, owner });
        }
    }

    /// Makes the nodes ready that other runs have finished with, one way or the other.
    fn look_elsewhere(&mut self) {
        for (id, over) in self.awaited.over() {
            match over {
                Ok(()) => self.schedule.ready(id),
                Err(error) => self.fail(id, failed(error)),
            }
        }
    }

    fn key(&self, id: NodeId) -> Hash {
        self.keys[id.index()].expect("a node is ready once its key is known")
    }

    /// The nodes that wait for the result of this one because they have the same key.
    fn followers(&mut self, id: NodeId) -> Vec<NodeId> {
        let mut same = self.by_key.remove(&self.key(id)).unwrap_or_default();
        // A run that winds down has left them out already.
        same.retain(|other| *other != id && self.schedule.state(*other) == State::Waiting);
        same
    }

    /// Gives a node's result to those with the same key; yields the nodes that this frees.
    fn take_followers(&mut self, id: NodeId, result: &Arc<Summary>) -> Vec<NodeId> {
        let followers = self.followers(id);
        followers.into_iter().flat_map(|other| self.take(other, Arc::clone(result))).collect()
    }

    fn start(&mut self, id: NodeId, threads: usize) {
        let records = &self.results.records;
        let known = |d: NodeId| records[d.index()].as_ref();
        if !attempt::lacking((self.graph, self.store), id, &[], &known).is_empty() {
            self.recover(id, &[]);
            return;
        }
        let key = self.key(id);
        let place = (self.graph, self.store, self.options);
        let (job, attempt) = attempt::prepare(place, (id, &key), (threads, 1), &known);
        // Beside the computing: the first record needs it.
        thread::spawn(|| LazyLock::force(&attempt::BINARY));
        (self.watcher)(&Event::Started { node: id, threads });
        let handle = self.executor.start(id, job, self.reports.clone());
        self.running.insert(id, (attempt, handle));
    }

    /// Has the results computed again that a node is to read and that are damaged or gone.
    fn recover(&mut self, id: NodeId, damaged: &[Hash]) {
        damaged.iter().for_each(|object| self.store.quarantine(object));
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
            self.results.records[dependency.index()] = None;
            self.results.cached = self.results.cached.saturating_sub(1);
            let name = &self.graph.node(dependency).name;
            (self.watcher)(&Event::Notice(format!("`{name}` is computed again")));
            open.push(dependency);
        }
        self.resolve(open);
    }

    fn give_back(&mut self, id: NodeId) {
        if let Some(lease) = self.held.take(&self.key(id)) {
            // Where it cannot be given back it ends with this process.
            drop(lease.release());
        }
    }

    /// Waits for the next report, or long enough to notice an interrupt.
    fn hear(&mut self, inbox: &Receiver<(NodeId, Report)>) {
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

    fn ended(&mut self, id: NodeId, outcome: Result<Produced, Failure>) {
        let (attempt, _) = self.running.remove(&id).expect("a node that ends was running");
        let key = self.key(id);
        match outcome {
            Ok(_) if !self.held.is_held(&key) => {
                // This run was taken for dead, and another has the node now: its result counts.
                self.give_back(id);
                self.wait_for(id);
            }
            Ok(produced) => {
                let record = attempt.record((self.graph, self.options), (id, key), produced);
                let result = Arc::new(record.summary());
                let finished = Finished { node: id, record, log: attempt.log };
                self.committing += 1;
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
            Err(failure) if !failure.damaged.is_empty() && !self.results.interrupted => {
                self.recover(id, &failure.damaged);
            }
            Err(failure) => {
                self.give_back(id);
                self.fail(id, failure);
            }
        }
    }

    /// Takes note that a record is written, or that it cannot be.
    fn committed(
        &mut self,
        id: NodeId,
        outcome: Result<bool, Failure>,
        seconds: f64,
        metrics: Vec<(String, f64)>,
    ) {
        self.committing -= 1;
        match outcome {
            Ok(true) => {
                self.results.computed += 1;
                // One that cannot be removed is of no value, and does no harm.
                drop(self.store.forget_checkpoints(&self.key(id)));
                (self.watcher)(&Event::Computed { node: id, seconds, metrics });
            }
            // Another run, which took this one for dead, writes the record: what was computed counts all the same.
            Ok(false) => {
                self.results.cached += 1;
                (self.watcher)(&Event::Cached(id));
            }
            Err(failure) => {
                self.results.records[id.index()] = None;
                self.fail(id, failure);
                let skipped = self.schedule.wind_down();
                self.skip(skipped);
            }
        }
    }

    fn fail(&mut self, id: NodeId, failure: Failure) {
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
            skipped.extend(self.schedule.wind_down());
        }
        self.skip(skipped);
        self.awaited.retain(|id| self.schedule.state(id) == State::Elsewhere);
    }

    fn skip(&mut self, nodes: Vec<NodeId>) {
        self.results.skipped += nodes.len();
        if !nodes.is_empty() {
            (self.watcher)(&Event::Skipped(nodes));
        }
    }

    fn interrupt(&mut self) {
        self.results.interrupted = true;
        (self.watcher)(&Event::Interrupting);
        let skipped = self.schedule.wind_down();
        self.skip(skipped);
        self.awaited.retain(|_| false);
        for (_, handle) in self.running.values_mut() {
            handle.cancel();
        }
    }
}

fn failed(error: FileError) -> Failure {
    Failure::from_error(error.into())
}

/// A record that only a later version of the program can read: neither used nor replaced.
fn refused(error: &NewerFormat) -> Failure {
    Failure::user(error.to_string()).hint("use that version, or another folder with --cache")
}
