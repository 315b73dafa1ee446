//! Batches made ready on threads of their own, while the step before them is computed.

use std::panic;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle, scope};
use std::time::{Duration, Instant};

/// How batches are made ready. It changes when they are there, never what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Threads that make batches, at least 1; each makes every `threads`th one, whole.
    pub threads: usize,
    /// Batches that each thread has ready before it waits for one to be taken, at least 1.
    pub ahead: usize,
}

impl Default for LoaderConfig {
    /// One thread that is two batches ahead.
    fn default() -> Self {
        Self { threads: 1, ahead: 2 }
    }
}

/// Gives `consume` the batches 0, 1, … `count` − 1, in order, made by `prepare` ahead of their use.
///
/// `prepare` is told the number of the batch and gets an empty buffer to fill, one that was given back if there is one.
/// It runs on `config.threads` threads of the loader's own and must not start work on a pool of which `consume` holds a
/// thread: that thread may be waiting for the batch. `consume` may stop early; the threads then end with the batch that
/// they are at. A panic of `prepare` reaches the caller.
pub fn load_ahead<E: Send, R>(
    count: usize,
    config: LoaderConfig,
    prepare: &(impl Fn(usize, &mut Vec<f32>) -> Result<(), E> + Sync),
    consume: impl FnOnce(&mut Batches<'_, E>) -> R,
) -> R {
    scope(|scope| {
        let threads = config.threads.max(1);
        let lanes = (0..threads.min(count)).map(|first| {
            Lane::start(scope, (first..count).step_by(threads), config.ahead.max(1), prepare)
        });
        let mut batches =
            Batches { lanes: lanes.collect(), count, next: 0, waited: Duration::ZERO };
        consume(&mut batches)
    })
}

/// The batches of a [`load_ahead`], in order.
#[derive(Debug)]
pub struct Batches<'scope, E> {
    lanes: Vec<Lane<'scope, E>>,
    count: usize,
    next: usize,
    waited: Duration,
}

impl<E> Iterator for Batches<'_, E> {
    type Item = Result<Vec<f32>, E>;

    /// Yields the next batch, or the error that its making ended with; waits for it if it is not there yet.
    ///
    /// None after the last one, and after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.count {
            return None;
        }
        let at = self.next % self.lanes.len();
        self.next += 1;
        let result = self.lanes[at].take(&mut self.waited);
        if result.is_err() {
            self.next = self.count;
        }
        Some(result)
    }
}

impl<E> Batches<'_, E> {
    /// Gives the buffer of the batch that was taken last back, to be filled again.
    pub fn give_back(&mut self, buffer: Vec<f32>) {
        if let Some(last) = self.next.checked_sub(1) {
            // A thread that has made its last batch needs no buffer.
            self.lanes[last % self.lanes.len()].empty.send(buffer).ok();
        }
    }

    /// Tells for how long [`Self::next`] has waited so far. The first batch is always waited for.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

/// One thread and the two ways to it.
#[derive(Debug)]
struct Lane<'scope, E> {
    full: Receiver<Result<Vec<f32>, E>>,
    empty: Sender<Vec<f32>>,
    thread: Option<ScopedJoinHandle<'scope, ()>>,
}

impl<'scope, E: Send + 'scope> Lane<'scope, E> {
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        numbers: impl Iterator<Item = usize> + Send + 'scope,
        ahead: usize,
        prepare: &'scope (impl Fn(usize, &mut Vec<f32>) -> Result<(), E> + Sync),
    ) -> Self {
        let ((to_consumer, full), (empty, returned)) = (sync_channel(ahead), channel());
        let thread = scope.spawn(move || fill(numbers, prepare, &to_consumer, &returned));
        Self { full, empty, thread: Some(thread) }
    }
}

impl<E> Lane<'_, E> {
    fn take(&mut self, waited: &mut Duration) -> Result<Vec<f32>, E> {
        let found = match self.full.try_recv() {
            Err(TryRecvError::Empty) => {
                let since = Instant::now();
                let found = self.full.recv().ok();
                *waited += since.elapsed();
                found
            }
            found => found.ok(),
        };
        found.unwrap_or_else(|| self.fail())
    }

    /// Passes the panic on that ended the thread before it had made all its batches.
    fn fail(&mut self) -> ! {
        let thread = self.thread.take().expect("after a panic, nothing is asked of a loader");
        let payload = thread.join().expect_err("a thread ends early by a panic alone");
        panic::resume_unwind(payload)
    }
}

/// Makes batches until all are made, one fails, or nobody takes them.
fn fill<E>(
    numbers: impl Iterator<Item = usize>,
    prepare: &impl Fn(usize, &mut Vec<f32>) -> Result<(), E>,
    full: &SyncSender<Result<Vec<f32>, E>>,
    returned: &Receiver<Vec<f32>>,
) {
    for number in numbers {
        let mut buffer = returned.try_recv().unwrap_or_default();
        buffer.clear();
        let result = prepare(number, &mut buffer).map(|()| buffer);
        let failed = result.is_err();
        if full.send(result).is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::panic::catch_unwind;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::sleep;

    use super::*;

    const SHAPES: [LoaderConfig; 4] = [
        LoaderConfig { threads: 1, ahead: 1 },
        LoaderConfig { threads: 1, ahead: 2 },
        LoaderConfig { threads: 2, ahead: 1 },
        LoaderConfig { threads: 5, ahead: 3 },
    ];

    #[expect(clippy::unnecessary_wraps, reason = "what a loader calls may fail")]
    fn number(number: usize, buffer: &mut Vec<f32>) -> Result<(), Infallible> {
        assert!(buffer.is_empty());
        // Later batches are done sooner.
        sleep(Duration::from_micros(300 * (3 - number as u64 % 4)));
        buffer.push(number as f32);
        Ok(())
    }

    #[test]
    fn batches_come_in_order_whatever_the_threads() {
        for config in SHAPES {
            for count in [0, 1, 4, 23] {
                let found = load_ahead(count, config, &number, |batches| {
                    let mut found = Vec::new();
                    while let Some(Ok(batch)) = batches.next() {
                        found.push(batch[0] as usize);
                        batches.give_back(batch);
                    }
                    assert!(batches.next().is_none());
                    found
                });
                assert_eq!(found, (0..count).collect::<Vec<_>>(), "{config:?}");
            }
        }
    }

    #[test]
    fn a_consumer_may_stop_early() {
        for config in SHAPES {
            let made = AtomicUsize::new(0);
            let prepare = |at: usize, buffer: &mut Vec<f32>| {
                made.fetch_add(1, Ordering::Relaxed);
                number(at, buffer)
            };
            load_ahead(usize::MAX, config, &prepare, |batches| {
                for _ in 0..3 {
                    batches.next().unwrap().unwrap();
                }
            });
            // Each thread is ahead by what it holds, what it has at hand, and what it went on with at the last moment.
            let LoaderConfig { threads, ahead } = config;
            assert!(made.into_inner() <= 3 + threads * (ahead + 2), "{config:?}");
        }
    }

    #[test]
    fn buffers_are_filled_again() {
        for config in SHAPES {
            let prepare = |_: usize, buffer: &mut Vec<f32>| -> Result<(), Infallible> {
                buffer.resize(1000, 1.0);
                Ok(())
            };
            load_ahead(100, config, &prepare, |batches| {
                let mut places = BTreeSet::new();
                while let Some(Ok(batch)) = batches.next() {
                    places.insert(batch.as_ptr().addr());
                    batches.give_back(batch);
                }
                assert!(places.len() <= config.threads * (config.ahead + 2), "{}", places.len());
            });
        }
    }

    #[test]
    fn an_error_comes_at_its_place_and_is_the_last_thing() {
        for config in SHAPES {
            let prepare = |at: usize, buffer: &mut Vec<f32>| {
                buffer.push(at as f32);
                if at == 5 { Err("five") } else { Ok(()) }
            };
            load_ahead(9, config, &prepare, |batches| {
                for at in 0..5 {
                    assert_eq!(batches.next(), Some(Ok(vec![at as f32])));
                }
                assert_eq!(batches.next(), Some(Err("five")));
                assert_eq!(batches.next(), None);
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        for config in SHAPES {
            let prepare = |at: usize, _: &mut Vec<f32>| -> Result<(), Infallible> {
                assert!(at != 5, "five");
                Ok(())
            };
            let all = || {
                load_ahead(9, config, &prepare, |batches| while batches.next().is_some() {});
            };
            let payload = catch_unwind(all).unwrap_err();
            assert_eq!(*payload.downcast::<&str>().unwrap(), "five");
        }
    }

    #[test]
    fn waiting_is_measured() {
        let slow = |_: usize, _: &mut Vec<f32>| -> Result<(), Infallible> {
            sleep(Duration::from_millis(20));
            Ok(())
        };
        let waited = |work: Duration| {
            load_ahead(5, LoaderConfig::default(), &slow, |batches| {
                while batches.next().is_some() {
                    sleep(work);
                }
                batches.waited()
            })
        };
        assert!(waited(Duration::ZERO) >= Duration::from_millis(80));
        // All but the first are there when they are asked for, on a machine that is not busy.
        let first = Duration::from_millis(20);
        assert!((0..5).any(|_| (first..2 * first).contains(&waited(2 * first))));
    }
}
