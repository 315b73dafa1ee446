//! A run: the graph walked, each node computed once, every result committed as it comes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use super::checkpoint::Checkpointing;
use super::commits;
use super::event::Watcher;
use super::executor::Executor;
use super::failure::Failure;
use super::graph::{Graph, NodeId};
use super::leases::{Awaited, Held};
use super::machine::Machine;
use super::resources::Capacity;
use super::schedule::Schedule;
use super::walk::Walk;
use crate::store::lease::Owner;
use crate::store::release::Others;
use crate::store::{Store, Summary};

/// How a run is to go.
pub struct Options {
    /// The name of the run.
    pub run: String,
    /// What there is, for all nodes together.
    pub capacity: Capacity,
    /// The machine that it is of.
    pub machine: Machine,
    /// Which nodes are computed where they have no result, and with each all that it needs; indexed as the graph is. All
    /// are where it is absent.
    pub wanted: Option<Vec<bool>>,
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
    /// Nodes that have no result and were not wanted.
    pub left_out: usize,
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
        resting: Vec::new(),
        failed_attempts: BTreeMap::new(),
        winding_down: false,
        committing: BTreeSet::new(),
        keys: vec![None; graph.len()],
        by_key: BTreeMap::new(),
        again: BTreeMap::new(),
        others: Others::than(&options.owner),
        results: Results { records: vec![None; graph.len()], ..Results::default() },
    };
    let (done, stop) = mpsc::channel::<()>();
    let held = &held;
    let results = thread::scope(|scope| {
        scope.spawn(move || {
            // In vain where nothing can be written; then there is nothing to lose either.
            held.keep_alive(options.patience, &stop, &|| drop(store.touch_run(&options.run)));
        });
        scope.spawn(move || commits::serve(store, held, &to_commit, &reports));
        // Dropped when the walk ends, however it does: then the pulse stops.
        let _done = done;
        walk.resolve(free);
        walk.estimate();
        walk.start_ready();
        while !walk.is_over() {
            if interrupt.load(Ordering::Relaxed) && !walk.results.interrupted {
                walk.interrupt();
            }
            walk.ask_for_checkpoints(&options.checkpoints.asked);
            walk.hear(&inbox);
            walk.end_late();
            walk.look_elsewhere();
            walk.wake();
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
