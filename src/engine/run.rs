//! A run: the graph walked, each node computed once, every result committed as it comes.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::context::Bound;
use super::event::{Event, Watcher};
use super::execute::{Job, Produced};
use super::executor::{Executor, Report, Reports, Running};
use super::failure::{Failure, FailureKind};
use super::graph::{Graph, NodeId};
use super::schedule::Schedule;
use super::status::{contents, identity};
use crate::store::record::{self, Provenance};
use crate::store::{Hash, Record, Store, hash};

/// How a run is to go.
pub struct Options {
    /// The name of the run.
    pub run: String,
    /// CPU threads, all nodes together.
    pub threads: usize,
    /// Whether branches that do not depend on a failed node go on.
    pub keep_going: bool,
    /// The machine's name.
    pub host: String,
    /// The commit of the experiment's repository.
    pub commit: Option<String>,
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
    let (schedule, free) = Schedule::new(graph, options.threads);
    let (reports, inbox) = mpsc::channel();
    let mut walk = Walk {
        graph,
        store,
        executor,
        options,
        watcher,
        schedule,
        reports,
        running: BTreeMap::new(),
        by_key: BTreeMap::new(),
        results: Results { records: vec![None; graph.len()], ..Results::default() },
    };
    walk.resolve(free);
    walk.start_ready();
    while walk.schedule.is_running() {
        if interrupt.load(Ordering::Relaxed) && !walk.results.interrupted {
            walk.interrupt();
        }
        walk.hear(&inbox);
        walk.start_ready();
    }
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
    running: BTreeMap<NodeId, Attempt>,
    /// Nodes by key while one of them runs: the others take its result.
    by_key: BTreeMap<Hash, Vec<NodeId>>,
    results: Results,
}

/// A node being computed.
struct Attempt {
    key: Hash,
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
            if let Some(record) = self.store.find(&key) {
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
        while let Some((id, threads)) = self.schedule.take_next() {
            self.start(id, threads);
        }
    }

    fn start(&mut self, id: NodeId, threads: usize) {
        let node = self.graph.node(id);
        let records = &self.results.records;
        let record = |d: NodeId| records[d.index()].as_ref();
        let key = identity(self.graph, id, &record);
        let bind = |(from, link): (NodeId, &super::graph::Link)| {
            let artifact = &record(from)?.outputs[&link.output];
            let files = self.store.locate(artifact);
            Some((link.edge.clone(), Bound { kind: artifact.kind.clone(), files }))
        };
        let log = self.store.run_folder(&self.options.run).join(format!("{}.log", node.name));
        let job = Job {
            node: node.name.clone(),
            kind: node.kind.name.to_owned(),
            version: node.kind.version,
            parameters: node.parameters.clone(),
            inputs: self.graph.inputs(id).into_iter().filter_map(bind).collect(),
            cache: self.store.cache().to_path_buf(),
            threads,
            log: log.clone(),
        };
        let inputs = contents(self.graph, id, &record);
        (self.watcher)(&Event::Started { node: id, threads });
        let attempt = Attempt {
            key,
            inputs,
            threads,
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
        let key = attempt.key;
        let seconds = attempt.since.elapsed().as_secs_f64();
        let committed = outcome.and_then(|produced| {
            let record = self.record(id, attempt, produced, seconds);
            let commit = self.store.commit(&record);
            commit.map(|()| record).map_err(|e| Failure::from_error(e.into()))
        });
        let followers = self.by_key.remove(&key).unwrap_or_default();
        let followers = followers.into_iter().filter(|other| *other != id);
        match committed {
            Ok(record) => {
                let metrics = record.metrics.clone().into_iter().collect();
                (self.watcher)(&Event::Computed { node: id, seconds, metrics });
                self.results.computed += 1;
                self.results.records[id.index()] = Some(record.clone());
                let mut freed = self.schedule.done(id);
                for other in followers {
                    freed.extend(self.take(other, record.clone()));
                }
                if !self.results.interrupted {
                    self.resolve(freed);
                }
            }
            Err(failure) => {
                self.fail(id, &failure);
                for other in followers {
                    self.fail(other, &failure);
                }
            }
        }
    }

    fn fail(&mut self, id: NodeId, failure: &Failure) {
        if failure.kind == FailureKind::Interrupted {
            self.results.interrupted = true;
        } else {
            (self.watcher)(&Event::Failed { node: id, failure: failure.clone() });
            self.results.failures.push((id, failure.clone()));
        }
        let mut skipped = self.schedule.failed(id);
        if !self.options.keep_going {
            skipped.extend(self.schedule.wind_down());
        }
        self.skip(&skipped);
    }

    fn skip(&mut self, nodes: &[NodeId]) {
        self.results.skipped += nodes.len();
        for id in nodes {
            (self.watcher)(&Event::Skipped(*id));
        }
    }

    fn interrupt(&mut self) {
        self.results.interrupted = true;
        (self.watcher)(&Event::Interrupting);
        let skipped = self.schedule.wind_down();
        self.skip(&skipped);
        for attempt in self.running.values_mut() {
            attempt.handle.cancel();
        }
    }

    fn record(&self, id: NodeId, attempt: Attempt, produced: Produced, seconds: f64) -> Record {
        let node = self.graph.node(id);
        let log = attempt.log.strip_prefix(self.store.root()).unwrap_or(&attempt.log);
        Record {
            format: record::FORMAT,
            key: attempt.key,
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
                host: self.options.host.clone(),
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
