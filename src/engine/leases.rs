//! The leases of a run: held while nodes are computed, kept alive, and awaited where another run was first.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::graph::NodeId;
use crate::store::files::FileError;
use crate::store::lease::{BEAT, Lease, Owner, Vigil};
use crate::store::{Hash, Store};

/// The leases that this run holds, by key.
#[derive(Debug, Default)]
pub struct Held(Mutex<BTreeMap<Hash, Lease>>);

impl Held {
    /// Holds a lease until it is taken out.
    pub fn put(&self, key: Hash, lease: Lease) {
        self.0.lock().expect("no holder of this lock panics").insert(key, lease);
    }

    /// Whether the lease on a key is still this run's.
    pub fn is_held(&self, key: &Hash) -> bool {
        let leases = self.0.lock().expect("no holder of this lock panics");
        leases.get(key).is_some_and(Lease::is_held)
    }

    /// Takes a lease out.
    pub fn take(&self, key: &Hash) -> Option<Lease> {
        self.0.lock().expect("no holder of this lock panics").remove(key)
    }

    /// Raises the pulse of every lease again and again, until the other end of `stop` is dropped.
    pub fn keep_alive(&self, patience: Duration, stop: &Receiver<()>) {
        let beat = BEAT.min(patience / 4);
        while stop.recv_timeout(beat) == Err(RecvTimeoutError::Timeout) {
            for lease in self.0.lock().expect("no holder of this lock panics").values_mut() {
                // One that cannot be renewed is taken over by another run, which is noticed before anything is committed.
                drop(lease.beat());
            }
        }
    }
}

/// How often the leases of others are looked at.
const GLANCE: Duration = Duration::from_millis(200);

/// The nodes that other runs compute.
#[derive(Debug)]
pub struct Awaited {
    vigils: BTreeMap<NodeId, Vigil>,
    looked: Instant,
}

impl Default for Awaited {
    fn default() -> Self {
        Self { vigils: BTreeMap::new(), looked: Instant::now() }
    }
}

impl Awaited {
    /// Watches the lease on a node's key.
    pub fn add(&mut self, id: NodeId, store: &Store, key: &Hash, here: &Owner, patience: Duration) {
        self.vigils.insert(id, Vigil::new(store, key, here, patience, Instant::now()));
    }

    /// Whether nothing is awaited.
    pub fn is_empty(&self) -> bool {
        self.vigils.is_empty()
    }

    /// Gives up on the nodes for which `wanted` is false.
    pub fn retain(&mut self, wanted: impl Fn(NodeId) -> bool) {
        self.vigils.retain(|id, _| wanted(*id));
    }

    /// The nodes whose leases were given back, or taken from a dead owner, since the last look.
    pub fn over(&mut self) -> Vec<(NodeId, Result<(), FileError>)> {
        if self.looked.elapsed() < GLANCE {
            return Vec::new();
        }
        self.looked = Instant::now();
        let mut over = Vec::new();
        for (id, vigil) in &mut self.vigils {
            match vigil.is_over(self.looked) {
                Ok(true) => over.push((*id, Ok(()))),
                Ok(false) => (),
                Err(error) => over.push((*id, Err(error))),
            }
        }
        for (id, _) in &over {
            self.vigils.remove(id);
        }
        over
    }
}
