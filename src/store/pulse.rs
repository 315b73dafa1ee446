//! Looking on at the lease of another run, by those who only want to know whether it goes on.

use std::time::{Duration, Instant};

use super::lease::{Owner, look};
use super::{Hash, Store};

/// Looks on at another's lease: nothing is ever taken away.
#[derive(Debug)]
pub struct Pulse {
    here: String,
    seen: Option<u64>,
    since: Instant,
    patience: Duration,
}

/// What is seen of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Its owner is at work.
    Beats,
    /// It was given back, or another has it now.
    Ended,
    /// Its owner is gone, or has shown no sign of life for too long.
    Dead,
}

impl Pulse {
    /// Begins to look on from a host.
    pub fn new(here: &str, patience: Duration) -> Self {
        Self { here: here.to_owned(), seen: None, since: Instant::now(), patience }
    }

    /// Looks at the lease on a key that an owner had.
    pub fn of(&mut self, store: &Store, key: &Hash, owner: &Owner) -> Watched {
        let Some((_, beats)) = look(&store.lease_path(key)).filter(|(now, _)| now == owner) else {
            return Watched::Ended;
        };
        if self.seen != Some(beats) {
            (self.seen, self.since) = (Some(beats), Instant::now());
        }
        let dead = owner.is_gone(&self.here) || self.since.elapsed() > self.patience;
        if dead { Watched::Dead } else { Watched::Beats }
    }
}
