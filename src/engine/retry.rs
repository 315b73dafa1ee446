//! Whether a node that failed is tried again, when, and with what room.
//!
//! A failure that lies in the parameters, the data or the program would come back: it is never tried again, unless the
//! file says how often (`retries`) and it is a program of the user's that ended badly, or a node that took too long.

use std::time::Duration;

use super::failure::{Failure, FailureKind, Shortage};
use super::slots::Slot;
use crate::store::Hash;

/// How often a node is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// At most so many times.
    pub retries: u32,
    /// Whether the user wrote that number: then programs that end badly count as flaky.
    pub written: bool,
}

/// How often a node is tried again where the file says nothing.
const USUAL: u32 = 2;

impl Default for Policy {
    fn default() -> Self {
        Self::of(None)
    }
}

/// The next attempt at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// How long to wait for it.
    pub after: Duration,
    /// The room that it gets.
    pub room: Room,
}

/// The room that the next attempt gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// As much as before.
    Same,
    /// A whole GPU in place of a share.
    Device,
    /// The whole machine.
    Machine,
}

impl Policy {
    /// The policy of a stage: `retries` as written, if it was.
    pub fn of(retries: Option<u32>) -> Self {
        Self { retries: retries.unwrap_or(USUAL), written: retries.is_some() }
    }

    /// Decides on the next attempt after `failed` attempts, the last of them in `slot`. `key` spreads the waits of nodes
    /// that failed at once.
    pub fn again(&self, failure: &Failure, failed: u32, slot: &Slot, key: &Hash) -> Option<Again> {
        let flaky = self.written && failure.kind == FailureKind::Program;
        if failed > self.retries || !(failure.transient || flaky) {
            return None;
        }
        let room = match failure.short_of {
            None => Room::Same,
            // It had all there is: more of the same would end the same.
            Some(_) if slot.alone => return None,
            Some(Shortage::Memory) => Room::Machine,
            Some(Shortage::Gpu) if slot.shares_a_gpu() => Room::Device,
            Some(Shortage::Gpu) => return None,
        };
        Some(Again { after: delay(failed, key), room })
    }
}

/// How long to wait after so many failed attempts: 1 s, 4 s, 16 s, then 60 s; by a key, up to a quarter less or more.
pub fn delay(failed: u32, key: &Hash) -> Duration {
    const LONGEST: f64 = 60.0;
    let seconds = 4.0f64.powi(failed.saturating_sub(1).min(10) as i32).min(LONGEST);
    let bytes = key.as_bytes();
    let drawn = f64::from(bytes[failed as usize % bytes.len()]) / 255.0;
    Duration::from_secs_f64(seconds * (0.75 + 0.5 * drawn))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::store::hash;

    fn slot(alone: bool, gpu: u32) -> Slot {
        Slot { threads: 1, memory: 0, gpus: vec![(0, gpu)], alone }
    }

    /// The room of the next attempt.
    fn next(retries: Option<u32>, failure: &Failure, failed: u32, slot: &Slot) -> Option<Room> {
        let again = Policy::of(retries).again(failure, failed, slot, &hash::bytes(b"key"));
        again.map(|again| again.room)
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let shared = slot(false, 500);
        let usual = |failure: &Failure| next(None, failure, 1, &shared);
        for failure in [
            Failure::user("u"),
            Failure::data("d"),
            Failure::numeric("n"),
            Failure::interrupted(),
            Failure::new(FailureKind::Internal, "i"),
            Failure::new(FailureKind::Program, "p"),
            Failure::new(FailureKind::Resource, "r"),
            Failure::ended_by(11),
            Failure::timed_out(Duration::from_hours(2), &Policy::of(None)),
        ] {
            assert_eq!(usual(&failure), None, "{failure:?}");
        }
        let io = |code| Failure::from_error(io::Error::from_raw_os_error(code).into());
        let cases = [(5, Some(Room::Same)), (110, Some(Room::Same)), (12, Some(Room::Machine))];
        for (code, expected) in cases.into_iter().chain([(28, None), (2, None), (13, None)]) {
            assert_eq!(usual(&io(code)), expected, "{:?}", io(code));
        }
        assert_eq!(usual(&Failure::ended_by(15)), Some(Room::Same));
        assert_eq!(usual(&Failure::ended_by(9)), Some(Room::Machine));
    }

    #[test]
    fn a_shortage_is_cured_by_room_once() {
        let gpu = Failure { transient: true, short_of: Some(Shortage::Gpu), ..Failure::data("") };
        assert_eq!(next(None, &gpu, 1, &slot(false, 500)), Some(Room::Device));
        assert_eq!(next(None, &gpu, 1, &slot(false, 1000)), None);
        assert_eq!(next(None, &gpu, 1, &slot(true, 500)), None);
        let killed = Failure::ended_by(9);
        assert_eq!(next(Some(9), &killed, 2, &slot(true, 1000)), None);
        assert_eq!(next(Some(0), &killed, 1, &slot(false, 1000)), None);
    }

    #[test]
    fn a_written_number_makes_programs_and_timeouts_flaky() {
        let slot = slot(false, 1000);
        let ended = Failure::new(FailureKind::Program, "exit status: 1");
        let late = Failure::timed_out(Duration::from_hours(2), &Policy::of(Some(3)));
        for failure in [&ended, &late] {
            assert_eq!(next(Some(3), failure, 3, &slot), Some(Room::Same));
            assert_eq!(next(Some(3), failure, 4, &slot), None);
        }
        assert_eq!(next(Some(3), &Failure::new(FailureKind::Internal, "panic"), 1, &slot), None);
        assert_eq!(next(None, &Failure::ended_by(15), 2, &slot), Some(Room::Same));
        assert_eq!(next(None, &Failure::ended_by(15), 3, &slot), None);
    }

    #[test]
    fn waits_grow_and_differ_by_key() {
        let (a, b) = (hash::bytes(b"a"), hash::bytes(b"b"));
        for (failed, seconds) in [(1, 1.0), (2, 4.0), (3, 16.0), (4, 60.0), (u32::MAX, 60.0)] {
            let delay = delay(failed, &a).as_secs_f64();
            assert!((0.75 * seconds..=1.25 * seconds).contains(&delay), "{failed}: {delay}");
        }
        assert_eq!(delay(1, &a), delay(1, &a));
        assert_ne!(delay(1, &a), delay(1, &b));
    }
}
