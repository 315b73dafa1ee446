//! The leases of a run: held while nodes are computed, kept alive, and awaited where another run was first.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::graph::NodeId;
use crate::store::files::FileError;
use crate::store::lease::{BEAT, Bearer, Claim, Lease, Owner, Vigil};
use crate::store::{Hash, Store};

/// The leases that this run holds.
#[derive(Debug, Default)]
pub struct Held(Mutex<Hold>);

#[derive(Debug, Default)]
struct Hold {
    /// The run among those that hold leases; from the first claim on.
    bearer: Option<Bearer>,
    leases: BTreeMap<Hash, Lease>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Hold> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Claims a key, and holds its lease until that is given back; yields who has it, if that is another.
    pub fn claim(
        &self,
        store: &Store,
        key: &Hash,
        owner: &Owner,
    ) -> Result<Option<Owner>, FileError> {
        let mut hold = self.lock();
        if hold.bearer.is_none() {
            hold.bearer = Some(store.enter(owner.clone())?);
        }
        let Hold { bearer: Some(bearer), leases } = &mut *hold else {
            unreachable!("it was entered just now")
        };
        Ok(match store.claim(key, bearer)? {
            Claim::Theirs(other) => Some(other),
            Claim::Mine(lease) => {
                leases.insert(*key, lease);
                None
            }
        })
    }

    /// Whether the lease on a key is still this run's.
    pub fn is_held(&self, key: &Hash) -> bool {
        self.lock().leases.get(key).is_some_and(Lease::is_held)
    }

    /// Gives a lease back.
    pub fn give_back(&self, key: &Hash) {
        let lease = self.lock().leases.remove(key);
        if let Some(lease) = lease {
            // Where it cannot be given back it ends with this process.
            drop(lease.release());
        }
    }

    /// Raises the pulse of all leases again and again, until the other end of `stop` is dropped; `rarely` is called
    /// from time to time.
    pub fn keep_alive(&self, patience: Duration, stop: &Receiver<()>, rarely: &dyn Fn()) {
        let (beat, mut called) = (BEAT.min(patience / 4), Instant::now());
        while stop.recv_timeout(beat) == Err(RecvTimeoutError::Timeout) {
            if called.elapsed() > RARELY {
                called = Instant::now();
                rarely();
            }
            if let Some(bearer) = &mut self.lock().bearer {
                // Leases that cannot be renewed are taken over by other runs, which is noticed before anything is
                // committed.
                drop(bearer.beat());
            }
        }
    }
}

/// The time between two signs of life that others look for after days.
const RARELY: Duration = Duration::from_hours(1);

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
