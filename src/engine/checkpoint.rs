//! Checkpoints of a running stage: when one is saved, and what the next attempt begins with.
//!
//! A stage says with one line a step where it could go on from, see
//! [`Context::pause_point`](super::context::Context::pause_point). Nothing that is wrong with a checkpoint is an error:
//! one that cannot be written is tried again later, one that cannot be read is left aside, and the stage takes longer.

use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::store::Files;
use crate::store::checkpoint::Checkpoints;

/// A state that a stage can go on from, to the same bits as without a break.
pub trait Checkpoint: Sized {
    /// Moves whenever the files, or what they mean, change.
    const FORMAT: u32;
    /// Where the stage goes on, in words for the log, such as `epoch 3`.
    fn place(&self) -> String;
    /// Writes the state as files into an empty folder.
    fn save(&self, folder: &Path) -> anyhow::Result<()>;
    /// Reads it back.
    fn load(files: &Files) -> anyhow::Result<Self>;
}

/// What a running stage is asked from outside; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// To stop as soon as that can be done cleanly.
    pub cancel: Arc<AtomicBool>,
    /// To save a checkpoint soon, and to go on.
    pub checkpoint: Arc<AtomicBool>,
}

impl Asked {
    /// Whether the stage is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// When the nodes of a run save checkpoints.
#[derive(Clone, Debug)]
pub struct Checkpointing {
    /// The time between two, at least.
    pub every: Duration,
    /// When the run will be ended from outside; one is saved shortly before.
    pub deadline: Option<Instant>,
    /// Raised to have one saved by every running node; lowered when they are told.
    pub asked: Arc<AtomicBool>,
}

/// The time between two checkpoints where nothing else is said.
pub const EVERY: Duration = Duration::from_mins(1);

impl Default for Checkpointing {
    fn default() -> Self {
        Self { every: EVERY, deadline: None, asked: Arc::default() }
    }
}

impl Checkpointing {
    /// Seconds that are left until the deadline.
    pub fn seconds_left(&self) -> Option<f64> {
        self.deadline.map(|deadline| (deadline - Instant::now()).as_secs_f64())
    }
}

/// At most one in so many seconds goes into writing checkpoints.
const SHARE: f64 = 50.0;
/// Before a deadline, a checkpoint is begun by so many times earlier as the last one took, and at least by [`AHEAD`].
const CAUTION: f64 = 3.0;
const AHEAD: f64 = 2.0;

/// When checkpoints are due, in seconds since the stage began.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// From one to the next; 0 is at every step, whatever that costs.
    every: f64,
    deadline: Option<f64>,
    /// When the last one was there.
    last: f64,
    /// How long it took.
    cost: f64,
}

impl Pace {
    fn is_due(&self, now: f64) -> bool {
        let regular = now - self.last >= self.every.max(SHARE * self.cost) || self.every == 0.0;
        let final_one = self.deadline.is_some_and(|deadline| {
            let begin = deadline - AHEAD.max(CAUTION * self.cost);
            now >= begin && self.last < begin
        });
        regular || final_one
    }
}

/// Saves and finds the checkpoints of one running stage.
pub struct Keeper {
    checkpoints: Checkpoints,
    since: Instant,
    kept: Mutex<Kept>,
}

/// What changes with each checkpoint.
struct Kept {
    pace: Pace,
    /// The number of the last that is known to be whole.
    good: Option<u64>,
}

impl Keeper {
    /// Begins to keep the checkpoints of a stage: so many seconds from one to the next, and until it is ended from
    /// outside.
    pub fn new(checkpoints: Checkpoints, every: f64, deadline: Option<f64>) -> Self {
        Self {
            checkpoints,
            since: Instant::now(),
            kept: Mutex::new(Kept {
                pace: Pace { every, deadline, last: 0.0, cost: 0.0 },
                good: None,
            }),
        }
    }

    /// Loads the newest checkpoint that is whole, made by this version, and understood.
    pub fn resume<C: Checkpoint>(&self) -> Option<C> {
        let mut kept = self.kept.lock().expect("nothing was saved yet that could have failed");
        let mut before = None;
        while let Some(found) = self.checkpoints.newest(C::FORMAT, before) {
            match C::load(&found.files) {
                Ok(state) => {
                    tracing::info!("resumed at {} (checkpoint {})", state.place(), found.number);
                    kept.good = Some(found.number);
                    kept.pace.last = self.now();
                    return Some(state);
                }
                Err(error) => {
                    tracing::warn!("checkpoint {} cannot be used: {error:#}", found.number);
                    before = Some(found.number);
                }
            }
        }
        None
    }

    /// Saves the state if a checkpoint is due or asked for.
    pub fn pause_point<C: Checkpoint, S: Deref<Target = C>>(
        &self,
        asked: &Asked,
        state: impl FnOnce() -> anyhow::Result<S>,
    ) {
        // Whoever finds it taken comes while another thread saves one.
        let Ok(mut kept) = self.kept.try_lock() else { return };
        let begun = self.now();
        let told = asked.checkpoint.swap(false, Ordering::Relaxed) || asked.is_cancelled();
        if !told && !kept.pace.is_due(begun) {
            return;
        }
        let good = kept.good;
        let write = |folder: &Path| state()?.save(folder);
        let saved = self.checkpoints.save(C::FORMAT, good, write);
        kept.pace.last = self.now();
        kept.pace.cost = kept.pace.last - begun;
        match saved {
            Ok(number) => {
                tracing::info!("checkpoint {number} saved in {:.3} s", kept.pace.cost);
                kept.good = Some(number);
            }
            Err(error) => tracing::warn!("no checkpoint could be saved: {error:#}"),
        }
    }

    fn now(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;
    use tempfile::TempDir;

    use super::super::execute::{Job, execute};
    use super::super::failure::FailureKind;
    use super::super::toys::TOYS;
    use super::*;
    use crate::store::checkpoint::{MANIFEST, Maker};
    use crate::store::{Store, files, hash};

    /// A job that adds the numbers to 12, with a checkpoint at every step.
    struct Bench {
        folder: TempDir,
        job: Job,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("cache")).unwrap();
            let job = Job {
                node: "series".into(),
                kind: "toy.series".into(),
                version: 1,
                parameters: json!({ "to": 12 }),
                inputs: [].into(),
                objects: Vec::new(),
                cache: store.cache().to_path_buf(),
                scratch: folder.path().to_path_buf(),
                checkpoint: store.checkpoints(&hash::bytes(b"series")),
                checkpoint_every: 0.0,
                deadline: None,
                environment: Vec::new(),
                small: false,
                log: PathBuf::new(),
            };
            Self { folder, job }
        }

        /// Runs the job until a step, at which `at` is done; yields the sum, and the first and last step taken.
        fn run(&self, step: i64, at: &(dyn Fn(&Asked) + Sync)) -> (Option<i64>, i64, i64) {
            let (asked, steps) = (Asked::default(), Mutex::new(Vec::new()));
            let sink = |_: f64, note: String| {
                let taken: i64 = note.parse().unwrap();
                steps.lock().unwrap().push(taken);
                if taken == step {
                    at(&asked);
                }
            };
            let result = execute(&self.job, TOYS, &sink, &asked);
            let steps = steps.into_inner().unwrap();
            let (first, last) = (steps[0], *steps.last().unwrap());
            assert_eq!(steps, (first..=last).collect::<Vec<i64>>());
            let sum = match result {
                Ok(produced) => {
                    let store = Store::open(&self.job.cache).unwrap();
                    let main = store.locate(&produced.outputs["main"]);
                    let text = files::read_text(main.path("number.txt").unwrap()).unwrap();
                    Some(text.parse().unwrap())
                }
                Err(failure) => {
                    assert_eq!(failure.kind, FailureKind::Interrupted);
                    None
                }
            };
            (sum, first, last)
        }

        fn interrupt(&self, step: i64) -> (Option<i64>, i64, i64) {
            self.run(step, &|asked| asked.cancel.store(true, Ordering::Relaxed))
        }

        /// Breaks off at step 5 after a checkpoint at each; the last two are kept.
        fn broken_off(self) -> Self {
            assert_eq!(self.interrupt(5), (None, 1, 5));
            assert_eq!(self.kept(), ["5", "6"]);
            self
        }

        fn kept(&self) -> Vec<String> {
            files::folders(&self.job.checkpoint).unwrap()
        }

        /// Runs to the end; it must come to the right sum, and begin where it is told.
        fn finish(&self, first: i64, what: &str) {
            assert_eq!(self.run(0, &|_| ()), (Some(78), first, 12), "{what}");
        }
    }

    #[test]
    fn a_stage_goes_on_from_where_it_was_broken_off() {
        let bench = Bench::new();
        assert_eq!(bench.interrupt(3), (None, 1, 3));
        assert_eq!(bench.interrupt(8), (None, 4, 8));
        bench.finish(9, "twice broken off");
    }

    #[test]
    fn an_interrupt_saves_what_is_not_due() {
        let mut bench = Bench::new();
        bench.job.checkpoint_every = 1e6;
        assert_eq!(bench.interrupt(3), (None, 1, 3));
        assert_eq!(bench.kept(), ["1"]);
        bench.finish(4, "one checkpoint");
        assert_eq!(bench.kept(), ["1"], "none was due");
    }

    #[test]
    fn one_that_is_asked_for_is_saved_and_the_stage_goes_on() {
        let mut bench = Bench::new();
        bench.job.checkpoint_every = 1e6;
        let ask = |asked: &Asked| asked.checkpoint.store(true, Ordering::Relaxed);
        assert_eq!(bench.run(6, &ask), (Some(78), 1, 12));
        assert_eq!(bench.kept(), ["1"]);
        bench.finish(7, "as if its record had been lost");
    }

    #[test]
    fn one_is_saved_before_the_deadline() {
        let mut bench = Bench::new();
        (bench.job.checkpoint_every, bench.job.deadline) = (1e6, Some(2.2));
        let wait = |_: &Asked| std::thread::sleep(Duration::from_millis(250));
        assert_eq!(bench.run(6, &wait), (Some(78), 1, 12));
        assert_eq!(bench.kept(), ["1"]);
    }

    /// Every bit of every file, and every length that it can be cut to.
    #[test]
    fn a_damaged_checkpoint_gives_way_to_the_one_before() {
        let bench = Bench::new().broken_off();
        let last = bench.job.checkpoint.join("6");
        let found = || {
            let maker = Maker::this("toy.series", 1);
            Checkpoints::new(&bench.job.checkpoint, maker).newest(1, None)
        };
        let whole = found().unwrap();
        let mut harmless = 0;
        for name in ["numbers.txt", "sum.txt", MANIFEST] {
            let path = last.join(name);
            let bytes = files::read(&path).unwrap();
            let mut check = |damaged: &[u8], what: String| {
                files::write(&path, damaged).unwrap();
                match found() {
                    Some(found) if found.number == 5 => (),
                    // White space between the words of a manifest.
                    found if name == MANIFEST && found.as_ref() == Some(&whole) => harmless += 1,
                    found => panic!("{name}, {what}: {found:?}"),
                }
            };
            for bit in 0..8 * bytes.len() {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                check(&flipped, format!("bit {bit}"));
            }
            for length in 0..bytes.len() {
                check(&bytes[..length], format!("cut to {length}"));
            }
            check(&[&bytes[..], b"}"].concat(), "longer".into());
            files::write(&path, &bytes).unwrap();
        }
        assert!(harmless < 300, "{harmless}");
        assert_eq!(found(), Some(whole), "all is as it was");
    }

    #[test]
    fn what_cannot_be_used_is_as_good_as_none() {
        let damage = |what: &str, first: i64, damage: &dyn Fn(&Bench)| {
            let bench = Bench::new().broken_off();
            damage(&bench);
            bench.finish(first, what);
            // The first that is saved afterwards clears away what is of no use.
            assert_eq!(bench.kept().len(), 2, "{what}");
        };
        let at = |bench: &Bench, name: &str| bench.job.checkpoint.join(name);
        let spoil = |path: &Path| files::write(path, b"7").unwrap();
        let edit = |path: &Path, from: &str, to: &str| {
            let text = files::read_text(path).unwrap();
            assert!(text.contains(from), "{text}");
            files::write(path, text.replacen(from, to, 1).as_bytes()).unwrap();
        };
        damage("the last spoiled", 5, &|b| spoil(&at(b, "6/sum.txt")));
        damage("both spoiled", 1, &|b| {
            spoil(&at(b, "6/sum.txt"));
            spoil(&at(b, "5/sum.txt"));
        });
        damage("a file lacking", 5, &|b| files::remove(&at(b, "6/sum.txt")).unwrap());
        damage("the manifest lacking", 5, &|b| files::remove(&at(b, "6/manifest.json")).unwrap());
        damage("one half written", 6, &|b| {
            files::make_folder(&at(b, ".new-abc")).unwrap();
            spoil(&at(b, ".new-abc/sum.txt"));
        });
        for (from, to) in [
            ("\"format\": 1", "\"format\": 2"),
            ("\"state\": 1", "\"state\": 2"),
            ("\"version\": 1", "\"version\": 2"),
            ("toy.series", "toy.sum"),
            (env!("CARGO_PKG_VERSION"), "0.0.0"),
        ] {
            damage(to, 5, &|b| edit(&at(b, "6/manifest.json"), from, to));
        }
        damage("whole, and not understood", 5, &|b| {
            let bytes = b"many";
            let path = at(b, "6/sum.txt");
            let (old, len) = hash::file(&path).unwrap();
            files::write(&path, bytes).unwrap();
            let manifest = at(b, "6/manifest.json");
            edit(&manifest, &old.to_hex(), &hash::bytes(bytes).to_hex());
            assert_eq!(len, 2);
            let sum = files::read_text(&manifest).unwrap();
            let at = sum.find("sum.txt").unwrap();
            let text =
                format!("{}{}", &sum[..at], sum[at..].replacen("\"len\": 2", "\"len\": 4", 1));
            files::write(&manifest, text.as_bytes()).unwrap();
        });
    }

    #[test]
    fn one_that_cannot_be_written_is_no_failure() {
        let bench = Bench::new();
        files::write_atomic(&bench.job.checkpoint, b"in the way").unwrap();
        bench.finish(1, "no folder");
        assert!(bench.folder.path().exists());
    }

    #[test]
    fn what_has_a_record_needs_no_checkpoint() {
        let bench = Bench::new().broken_off();
        let store = Store::open(&bench.job.cache).unwrap();
        store.sweep_checkpoints().unwrap();
        assert_eq!(bench.kept().len(), 2, "there is no record");
        store.forget_checkpoints(&hash::bytes(b"series")).unwrap();
        assert!(!bench.job.checkpoint.exists());
        store.forget_checkpoints(&hash::bytes(b"series")).unwrap();
    }

    #[test]
    fn a_checkpoint_is_due_by_time_less_often_where_it_costs_and_before_the_deadline() {
        let pace = Pace { every: 60.0, deadline: None, last: 100.0, cost: 0.5 };
        let check = |pace: Pace, now: f64, due: bool| {
            assert_eq!(pace.is_due(now), due, "{pace:?} at {now}");
        };
        check(pace, 159.9, false);
        check(pace, 160.0, true);
        check(Pace { cost: 4.0, ..pace }, 299.9, false);
        check(Pace { cost: 4.0, ..pace }, 300.0, true);
        check(Pace { every: 0.0, cost: 4.0, ..pace }, 100.0, true);
        let ending = Pace { deadline: Some(130.0), ..pace };
        check(ending, 127.9, false);
        check(ending, 128.0, true);
        // One within that time is enough.
        check(Pace { last: 128.5, ..ending }, 129.0, false);
        check(Pace { cost: 4.0, ..ending }, 117.9, false);
        check(Pace { cost: 4.0, ..ending }, 118.0, true);
    }

    #[test]
    fn the_time_left_counts_down() {
        let deadline = Instant::now().checked_add(Duration::from_secs(100));
        let left = Checkpointing { deadline, ..Checkpointing::default() }.seconds_left().unwrap();
        assert!((99.0..=100.0).contains(&left), "{left}");
        assert_eq!(Checkpointing::default().seconds_left(), None);
    }
}
