//! A run: the graph walked, each node computed once, every result committed as it comes.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::context::Bound;
use super::event::{Event, Watcher};
use super::execute::{Job, Produced};
use super::executor::{Executor, Report, Reports, Running};
use super::failure::{Failure, FailureKind};
use super::graph::{Graph, NodeId};
use super::leases::{Awaited, Held};
use super::machine::{Machine, environment};
use super::resources::Capacity;
use super::schedule::{Schedule, State};
use super::slots::Slot;
use super::status::{contents, identity, lookup};
use crate::store::files::FileError;
use crate::store::lease::{Claim, Owner};
use crate::store::record::{self, Provenance};
use crate::store::{Hash, Record, Store, hash};

/// How a run is to go.
pub struct Options {
    /// The name of the run.
    pub run: String,
    /// What there is, for all nodes together.
    pub capacity: Capacity,
    /// The machine that it is of.
    pub machine: Machine,
    /// Whether branches that do not depend on a failed node go on.
    pub keep_going: bool,
    /// This process, as other runs that share the cache see it.
    pub owner: Owner,
    /// How long another run that shows no sign of life is waited for.
    pub patience: Duration,
    /// The commit of the experiment's repository.
    pub commit: Option<String>,
    /// The folder in which nodes work.
    pub scratch: PathBuf,
}

/// What came of a run.
#[derive(Default)]
pub struct Results {
    /// The record of every node that has a result; indexed as the graph is.
    pub records: Vec<Option<Record>>,
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
    let (schedule, free) = Schedule::new(graph, &options.capacity, &[]);
    let (reports, inbox) = mpsc::channel();
    let held = Held::default();
    let mut walk = Walk {
        graph,
        store,
        executor,
        options,
        watcher,
        schedule,
        reports,
        held: &held,
        awaited: Awaited::default(),
        running: BTreeMap::new(),
        keys: vec![None; graph.len()],
        by_key: BTreeMap::new(),
        results: Results { records: vec![None; graph.len()], ..Results::default() },
    };
    let (done, stop) = mpsc::channel::<()>();
    let held = &held;
    thread::scope(|scope| {
        scope.spawn(move || held.keep_alive(options.patience, &stop));
        // Dropped when the walk ends, however it does: then the pulse stops.
        let _done = done;
        walk.resolve(free);
        walk.start_ready();
        while !(walk.running.is_empty() && walk.awaited.is_empty()) {
            if interrupt.load(Ordering::Relaxed) && !walk.results.interrupted {
                walk.interrupt();
            }
            walk.hear(&inbox);
            walk.look_elsewhere();
            walk.start_ready();
        }
    });
    let mut results = walk.results;
    results.interrupted |= interrupt.load(Ordering::Relaxed);
    results
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
    held: &'a Held,
    awaited: Awaited,
    running: BTreeMap<NodeId, Attempt>,
    /// The key of every node whose inputs are known; indexed as the graph is.
    keys: Vec<Option<Hash>>,
    /// Nodes by key while one of them runs: the others take its result.
    by_key: BTreeMap<Hash, Vec<NodeId>>,
    results: Results,
}

/// Who computes a node that is ready.
enum Admission {
    /// This run; the lease is held.
    Mine,
    /// Nobody: the result is there.
    Hit(Box<Record>),
    /// Another run.
    Theirs,
}

/// A node being computed.
struct Attempt {
    inputs: BTreeMap<String, Hash>,
    threads: usize,
    log: PathBuf,
    since: Instant,
    started: Timestamp,
    handle: Box<dyn Running>,
}

impl Walk<'_> {
    /// Gives each node its key: a hit is done at once, a miss has to run.
    fn resolve(&mut self, nodes: Vec<NodeId>) {
        let mut queue = VecDeque::from(nodes);
        while let Some(id) = queue.pop_front() {
            let key = identity(self.graph, id, &|d| self.results.records[d.index()].as_ref());
            self.keys[id.index()] = Some(key);
            if let Some(record) = lookup(self.graph, self.store, id, &key) {
                queue.extend(self.take(id, record));
            } else if let Some(same) = self.by_key.get_mut(&key) {
                same.push(id);
            } else {
                self.by_key.insert(key, vec![id]);
                self.schedule.ready(id);
            }
        }
    }

    /// Takes a result from the cache; yields the nodes that it frees.
    fn take(&mut self, id: NodeId, record: Record) -> Vec<NodeId> {
        self.results.records[id.index()] = Some(record);
        self.results.cached += 1;
        (self.watcher)(&Event::Cached(id));
        self.schedule.done(id)
    }

    fn start_ready(&mut self) {
        while let Some((id, slot)) = self.schedule.take_next() {
            match self.admit(id) {
                Ok(Admission::Mine) => self.start(id, &slot),
                Ok(Admission::Hit(record)) => {
                    let mut freed = self.take(id, (*record).clone());
                    freed.extend(self.take_followers(id, &record));
                    self.resolve(freed);
                }
                Ok(Admission::Theirs) => self.wait_for(id),
                Err(error) => self.fail(id, Failure::from_error(error.into())),
            }
        }
    }

    /// Finds out whether a node is to be computed here: another run may have done it meanwhile, or be at it.
    fn admit(&self, id: NodeId) -> Result<Admission, FileError> {
        let key = self.key(id);
        match self.store.claim(&key, &self.options.owner)? {
            Claim::Theirs(_) => Ok(Admission::Theirs),
            Claim::Mine(lease) => match lookup(self.graph, self.store, id, &key) {
                Some(record) => lease.release().map(|()| Admission::Hit(Box::new(record))),
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
                Err(error) => self.fail(id, Failure::from_error(error.into())),
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
    fn take_followers(&mut self, id: NodeId, record: &Record) -> Vec<NodeId> {
        let followers = self.followers(id);
        followers.into_iter().flat_map(|other| self.take(other, record.clone())).collect()
    }

    fn start(&mut self, id: NodeId, slot: &Slot) {
        let node = self.graph.node(id);
        let records = &self.results.records;
        let record = |d: NodeId| records[d.index()].as_ref();
        let bind = |(from, link): (NodeId, &super::graph::Link)| {
            let artifact = &record(from)?.outputs[&link.output];
            let files = self.store.locate(artifact);
            Some((link.edge.clone(), Bound { kind: artifact.kind.clone(), files }))
        };
        // Named by stage and key: the name of an instance may be long, and may hold what a file's name cannot.
        let log = format!("{}-{}.log", node.stage, self.key(id).short());
        let log = self.store.run_folder(&self.options.run).join(log);
        let job = Job {
            node: node.name.clone(),
            kind: node.kind.name.to_owned(),
            version: node.kind.version,
            parameters: node.parameters.clone(),
            inputs: self.graph.inputs(id).into_iter().filter_map(bind).collect(),
            cache: self.store.cache().to_path_buf(),
            scratch: self.options.scratch.clone(),
            environment: environment(slot, &self.options.machine),
            log: log.clone(),
        };
        let inputs = contents(self.graph, id, &record);
        (self.watcher)(&Event::Started { node: id, threads: slot.threads });
        let attempt = Attempt {
            inputs,
            threads: slot.threads,
            log,
            since: Instant::now(),
            started: Timestamp::now(),
            handle: self.executor.start(id, job, self.reports.clone()),
        };
        self.running.insert(id, attempt);
    }

    /// Waits for the next report, or long enough to notice an interrupt.
    fn hear(&mut self, inbox: &Receiver<(NodeId, Report)>) {
        match inbox.recv_timeout(Duration::from_millis(50)) {
            Ok((node, Report::Progress { fraction, note })) => {
                (self.watcher)(&Event::Progress { node, fraction, note });
            }
            Ok((node, Report::Ended(outcome))) => self.ended(node, outcome),
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => unreachable!("this run holds a sender"),
        }
    }

    fn ended(&mut self, id: NodeId, outcome: Result<Produced, Failure>) {
        let attempt = self.running.remove(&id).expect("a node that ends was running");
        let seconds = attempt.since.elapsed().as_secs_f64();
        let lease = self.held.take(&self.key(id)).expect("a node that runs is leased");
        if outcome.is_ok() && !lease.is_held() {
            // This run was taken for dead, and another has the node now: its result counts.
            self.wait_for(id);
            return;
        }
        let committed = outcome.and_then(|produced| {
            let record = self.record(id, attempt, produced, seconds);
            let commit = self.store.commit(&record);
            commit.map(|()| record).map_err(|e| Failure::from_error(e.into()))
        });
        // Where it cannot be given back it ends with this process.
        drop(lease.release());
        match committed {
            Ok(record) => {
                let metrics = record.metrics.clone().into_iter().collect();
                (self.watcher)(&Event::Computed { node: id, seconds, metrics });
                self.results.computed += 1;
                self.results.records[id.index()] = Some(record.clone());
                let mut freed = self.schedule.done(id);
                freed.extend(self.take_followers(id, &record));
                if !self.results.interrupted {
                    self.resolve(freed);
                }
            }
            Err(failure) => self.fail(id, failure),
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
        for attempt in self.running.values_mut() {
            attempt.handle.cancel();
        }
    }

    fn record(&self, id: NodeId, attempt: Attempt, produced: Produced, seconds: f64) -> Record {
        let node = self.graph.node(id);
        let log = attempt.log.strip_prefix(self.store.root()).unwrap_or(&attempt.log);
        Record {
            format: record::FORMAT,
            key: self.key(id),
            kind: node.kind.name.to_owned(),
            version: node.kind.version,
            parameters: node.parameters.clone(),
            inputs: attempt.inputs,
            outputs: produced.outputs,
            metrics: produced.metrics,
            provenance: Provenance {
                run: self.options.run.clone(),
                node: node.name.clone(),
                started: attempt.started.to_string(),
                seconds,
                peak_memory: produced.peak_memory,
                threads: attempt.threads,
                host: self.options.owner.host.clone(),
                program: env!("CARGO_PKG_VERSION").to_owned(),
                binary: *BINARY,
                commit: self.options.commit.clone(),
                log: log.display().to_string(),
            },
        }
    }
}

/// The hash of this program's binary, computed when the first record is written.
static BINARY: LazyLock<Option<Hash>> =
    LazyLock::new(|| hash::file("/proc/self/exe".as_ref()).ok().map(|(hash, _)| hash));
