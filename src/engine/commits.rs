//! Results made lasting, in batches: one sync for many records, while nodes go on being computed.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::executor::{Report, Reports};
use super::failure::Failure;
use super::graph::NodeId;
use super::leases::Held;
use super::walk::failed;
use crate::store::record::Log;
use crate::store::{FileRecord, Record, Store, files};

/// A result whose objects are in the store and whose record is not.
#[derive(Debug)]
pub struct Finished {
    /// The node.
    pub node: NodeId,
    /// Its record; the log is filled in here.
    pub record: Record,
    /// The file that the worker wrote its log to.
    pub log: PathBuf,
}

/// What the thread of commits is told.
#[derive(Debug)]
pub enum Order {
    /// Commit this, soon.
    Commit(Box<Finished>),
    /// Commit what there is: nothing more will come for a while.
    Flush,
}

/// Where results go to be committed.
pub type Orders = Sender<Order>;

/// The longest that a result waits for others, however slow the disk is.
const GATHER: Duration = Duration::from_millis(100);
/// A result waits for others so many times as long as the last batch took: on a fast disk it hardly waits.
const SHARE: u32 = 2;
/// The most results in a batch.
const BATCH: usize = 64;
/// A result that took longer, in seconds, does not wait at all.
const PRECIOUS: f64 = 1.0;
/// A log up to so many bytes stands in the record itself.
const SHORT: u64 = 16 << 10;

/// Commits what comes until the other end of `orders` is dropped; each result is answered by one
/// [`Report::Committed`].
pub fn serve(store: &Store, held: &Held, orders: &Receiver<Order>, reports: &Reports) {
    let mut took = Duration::ZERO;
    while let Ok(first) = orders.recv() {
        let Order::Commit(first) = first else { continue };
        let mut batch = vec![*first];
        let until = Instant::now() + GATHER.min(took * SHARE);
        while batch.len() < BATCH && !is_precious(&batch) {
            match orders.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Order::Commit(next)) => batch.push(*next),
                Ok(Order::Flush)
                | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let since = Instant::now();
        commit(store, held, batch, reports);
        took = since.elapsed();
    }
}

fn is_precious(batch: &[Finished]) -> bool {
    batch.iter().any(|finished| finished.record.provenance.seconds > PRECIOUS)
}

fn commit(store: &Store, held: &Held, mut batch: Vec<Finished>, reports: &Reports) {
    for finished in &mut batch {
        finished.record.log = keep_log(store, finished);
        // Before the sync, so that it is never written to the disk.
        drop(files::remove(&finished.log));
    }
    let records: Vec<&Record> = batch.iter().map(|finished| &finished.record).collect();
    // A run that was taken for dead has lost its lease, and another computes the node.
    let written = store.commit(&records, &|record| held.is_held(&record.key));
    let outcomes: Vec<Result<bool, Failure>> = match written {
        Ok(each) => each.into_iter().map(|one| one.map_err(failed)).collect(),
        Err(error) => {
            let failure = failed(error);
            batch.iter().map(|_| Err(failure.clone())).collect()
        }
    };
    for (finished, outcome) in batch.into_iter().zip(outcomes) {
        held.give_back(&finished.record.key);
        let seconds = finished.record.provenance.seconds;
        let metrics = finished.record.metrics.into_iter().collect();
        let report = Report::Committed { outcome, seconds, metrics };
        // A run that is gone has nothing left to hear.
        drop(reports.send((finished.node, report)));
    }
}

/// Takes the log out of its file: into the record where it is short, else into an object.
fn keep_log(store: &Store, finished: &Finished) -> Log {
    let short = files::length(&finished.log).unwrap_or(0) <= SHORT;
    let object = || -> Option<FileRecord> {
        let folder = finished.log.parent()?;
        let name = finished.log.file_name()?.to_string_lossy().into_owned();
        store.take_file(folder, name).ok()
    };
    match if short { None } else { object() } {
        Some(file) => Log::Object(file),
        None => {
            let bytes = files::read(&finished.log).unwrap_or_default();
            Log::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
    }
}
