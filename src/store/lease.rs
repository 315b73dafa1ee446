//! Leases: of several runs that share a cache, one computes a node and the others wait for its result.
//!
//! ```text
//! cache/v1/leases/<owner>      who a run is, and a pulse that it keeps raising
//! cache/v1/leases/ab/<key>     the same file under another name: that run computes the node with that key
//! ```
//!
//! A lease is claimed by giving the owner's file a second name, which one process can do and no network file system
//! gets wrong. The owner raises the one pulse of all its leases by writing a growing number into its file: a lease that
//! was taken from it is another's file, so an owner that was stopped and goes on harms nothing. A lease is dead when its
//! process is gone from the system that it shares with the one who asks, or when the pulse has stood still for
//! [`PATIENCE`] on the clock of the one who asks: no two clocks are ever compared, and no lock of the file system is
//! relied upon.
//!
//! Leases save work; they are not what keeps results right. Were a node computed twice after all, both records would
//! name the same contents.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::files::{self, FileError, FileId};
use super::{Hash, Store, hash};

/// How often an owner raises the pulse of its leases.
pub const BEAT: Duration = Duration::from_secs(5);
/// How long a pulse may stand still before the lease is taken from its owner.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Who computes a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The machine.
    pub host: String,
    /// Which of the systems that bear that name, as [`system`] says; unknown in old leases.
    #[serde(default)]
    pub system: Option<String>,
    /// The process.
    pub process: u32,
    /// When that process started, in the host's own measure: numbers of processes are used again.
    pub since: Option<u64>,
    /// The run.
    pub run: String,
}

impl Owner {
    /// This process.
    pub fn this(host: &str, run: &str) -> Self {
        let process = std::process::id();
        let (host, run, system) = (host.to_owned(), run.to_owned(), system().map(str::to_owned));
        Self { host, system, process, since: started(process), run }
    }

    /// Whether it is a process of this system, which then can tell whether it is gone.
    pub fn is_here(&self, here: &str) -> bool {
        self.host == here && self.system.is_some() && self.system.as_deref() == system()
    }

    /// Whether the process is known to be gone: only its own system can tell.
    pub fn is_gone(&self, here: &str) -> bool {
        self.is_here(here) && started(self.process) != self.since
    }
}

/// What tells systems apart that bear one name, as containers and copies of a virtual machine do: the boot and the
/// space of process numbers. `None` where Linux does not say.
pub fn system() -> Option<&'static str> {
    static SYSTEM: LazyLock<Option<String>> = LazyLock::new(|| {
        let boot = files::read_text(Path::new("/proc/sys/kernel/random/boot_id")).ok()?;
        let space = files::stamp(Path::new("/proc/self/ns/pid")).ok()?.inode;
        Some(hash::bytes(format!("{} {space}", boot.trim()).as_bytes()).short())
    });
    SYSTEM.as_deref()
}

/// When a process of this host started, in clock ticks since boot; `None` where there is none.
pub(super) fn started(process: u32) -> Option<u64> {
    let text = files::read_text(Path::new(&format!("/proc/{process}/stat"))).ok()?;
    // The second field, the program's name in parentheses, may hold anything; the start is field 22.
    let fields = &text[text.rfind(')')? + 1..];
    let state = fields.split_whitespace().next()?;
    // One that has ended and that nobody has waited for is gone.
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// A run, as the others see it: the file behind all its leases. Gone when this is dropped.
#[derive(Debug)]
pub struct Bearer {
    path: PathBuf,
    owner: Owner,
    file: File,
    beats: u64,
}

/// A lease that this process holds.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    /// The file that it is a name of.
    bearer: FileId,
}

/// What came of claiming a key.
#[derive(Debug)]
pub enum Claim {
    /// The lease is this process's.
    Mine(Lease),
    /// Another process holds it.
    Theirs(Owner),
}

/// Width of the pulse at the start of a lease's file.
const PULSE: usize = 20;

impl Store {
    pub(super) fn lease_path(&self, key: &Hash) -> PathBuf {
        let hex = key.to_hex();
        self.root().join("leases").join(&hex[..2]).join(hex)
    }

    /// Who computes the node with a key now.
    pub fn holder(&self, key: &Hash) -> Option<Owner> {
        look(&self.lease_path(key)).map(|(owner, _)| owner)
    }

    /// Enters a run among those that may hold leases; what dead ones of the same host left is cleared away.
    pub fn enter(&self, owner: Owner) -> Result<Bearer, FileError> {
        let folder = self.root().join("leases");
        files::make_folder(&folder)?;
        for name in files::names(&folder)? {
            let path = folder.join(name);
            if look(&path).is_some_and(|(other, _)| other.is_gone(&owner.host)) {
                files::remove(&path)?;
            }
        }
        let words = serde_json::to_string(&owner).expect("an owner is plain data");
        let (file, path) = files::create_new(&folder, &format!("{:>PULSE$}\n{words}\n", 0))?;
        Ok(Bearer { path, owner, file, beats: 0 })
    }

    /// Claims the right to compute the node with a key.
    pub fn claim(&self, key: &Hash, bearer: &mut Bearer) -> Result<Claim, FileError> {
        let path = self.lease_path(key);
        loop {
            if files::link(&bearer.path, &path)? {
                // A sign of life too: who watched an earlier lease of this run on the key begins to count anew.
                bearer.raise()?;
                return Ok(Claim::Mine(Lease { path, bearer: bearer.id()? }));
            }
            match look(&path) {
                Some((holder, _)) if holder.is_gone(&bearer.owner.host) => {
                    take_away(&path, &holder)?;
                }
                Some((holder, _)) => return Ok(Claim::Theirs(holder)),
                // Given back between the two looks.
                None => (),
            }
        }
    }
}

impl Store {
    /// The leases of processes that are known to be gone from this host.
    pub(super) fn dead_leases(&self, here: &str) -> Result<Vec<PathBuf>, FileError> {
        let all = self.root().join("leases");
        let mut dead = Vec::new();
        for shard in files::folders(&all)? {
            for entry in files::entries(&all.join(&shard))? {
                let path = all.join(&shard).join(&entry.name);
                if look(&path).is_some_and(|(owner, _)| owner.is_gone(here)) {
                    dead.push(path);
                }
            }
        }
        Ok(dead)
    }
}

/// Removes a lease whose owner is gone from this host; one that has changed hands stays.
pub(super) fn remove_dead(path: &Path, here: &str) -> Result<(), FileError> {
    match look(path) {
        Some((owner, _)) if owner.is_gone(here) => take_away(path, &owner),
        _ => Ok(()),
    }
}

/// Reads a lease: its owner and its pulse.
pub(super) fn look(path: &Path) -> Option<(Owner, u64)> {
    let text = files::read_text(path).ok()?;
    let (pulse, owner) = text.split_once('\n')?;
    Some((serde_json::from_str(owner.trim()).ok()?, pulse.trim().parse().ok()?))
}

/// Takes a lease from an owner that is dead. Should it have changed hands meanwhile, it is put back.
fn take_away(path: &Path, dead: &Owner) -> Result<(), FileError> {
    let aside = path.with_extension(format!("{}-{}", std::process::id(), dead.process));
    if !files::rename_if_there(path, &aside)? {
        return Ok(());
    }
    if look(&aside).is_some_and(|(holder, _)| holder != *dead) {
        // In vain where a third has claimed it in this instant; then two compute the node, to the same contents.
        files::link(&aside, path)?;
    }
    files::remove(&aside)
}

impl Bearer {
    /// Raises the pulse of all leases, and has a server hear of it.
    pub fn beat(&mut self) -> Result<(), FileError> {
        self.raise()?;
        self.file.sync_data().map_err(|e| FileError::new("renew", &self.path, e))
    }

    fn raise(&mut self) -> Result<(), FileError> {
        self.beats += 1;
        let pulse = format!("{:>PULSE$}", self.beats);
        let written = self.file.write_all_at(pulse.as_bytes(), 0);
        written.map_err(|e| FileError::new("renew", &self.path, e))
    }

    fn id(&self) -> Result<FileId, FileError> {
        files::id(&self.path)
    }
}

impl Drop for Bearer {
    fn drop(&mut self) {
        // What cannot be removed now goes with the next run.
        drop(files::remove(&self.path));
    }
}

impl Lease {
    /// Whether it is still this process's: one that stood still too long has lost it.
    pub fn is_held(&self) -> bool {
        files::id(&self.path).is_ok_and(|id| id == self.bearer)
    }

    /// Gives it back.
    pub fn release(self) -> Result<(), FileError> {
        if self.is_held() { files::remove(&self.path) } else { Ok(()) }
    }
}

/// Watches another's lease until it is given back or its owner is dead.
#[derive(Debug)]
pub struct Vigil {
    path: PathBuf,
    here: String,
    seen: Option<(Owner, u64)>,
    since: Instant,
    patience: Duration,
}

impl Vigil {
    /// Begins to watch the lease on a key.
    pub fn new(store: &Store, key: &Hash, here: &Owner, patience: Duration, now: Instant) -> Self {
        let (path, here) = (store.lease_path(key), here.host.clone());
        Self { seen: look(&path), path, here, since: now, patience }
    }

    /// Looks again; true when the key may be claimed. A lease whose owner is dead is taken away.
    pub fn is_over(&mut self, now: Instant) -> Result<bool, FileError> {
        let Some(found) = look(&self.path) else { return Ok(true) };
        let alive = self.seen.as_ref() != Some(&found);
        if alive {
            (self.seen, self.since) = (Some(found.clone()), now);
        }
        let stood = now.saturating_duration_since(self.since);
        let dead = found.0.is_gone(&self.here) || stood > self.patience;
        if dead {
            take_away(&self.path, &found.0)?;
        }
        Ok(dead)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner(process: u32, host: &str) -> Owner {
        let system = system().map(str::to_owned);
        Owner { host: host.to_owned(), system, process, since: Some(1), run: format!("r{process}") }
    }

    #[test]
    fn only_its_own_system_says_that_a_process_is_gone() {
        let gone = owner(4_194_305, "h");
        assert!(gone.is_gone("h") && !gone.is_gone("other"));
        for system in [None, Some("0123456789ab".to_owned())] {
            assert!(!Owner { system, ..gone.clone() }.is_gone("h"));
        }
        assert!(!Owner::this("h", "r").is_gone("h"));
        // What an earlier version wrote can be read.
        let old = r#"{ "host": "h", "process": 1, "since": 2, "run": "r" }"#;
        assert_eq!(serde_json::from_str::<Owner>(old).unwrap().system, None);
    }

    fn bench() -> (tempfile::TempDir, Store, Hash) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store, hash::bytes(b"key"))
    }

    #[test]
    fn one_owner_at_a_time() {
        let (_folder, store, key) = bench();
        let (a, b) = (owner(1, "far"), owner(2, "away"));
        let [mut first, mut second] = [&a, &b].map(|owner| store.enter(owner.clone()).unwrap());
        let Claim::Mine(lease) = store.claim(&key, &mut first).unwrap() else {
            panic!("it was free")
        };
        assert!(
            matches!(store.claim(&key, &mut second).unwrap(), Claim::Theirs(holder) if holder == a)
        );
        assert!(lease.is_held());
        lease.release().unwrap();
        assert!(matches!(store.claim(&key, &mut second).unwrap(), Claim::Mine(_)));
    }

    #[test]
    fn an_owner_that_is_gone_loses_it_at_once_on_its_own_host() {
        let (_folder, store, key) = bench();
        // No process of this number started at tick 1.
        let gone = owner(std::process::id(), "here");
        let mut dead = store.enter(gone).unwrap();
        drop(store.claim(&key, &mut dead).unwrap());
        // Its process had no time for that.
        std::mem::forget(dead);
        let this = Owner::this("here", "r");
        assert!(this.since.is_some() && !this.is_gone("here"));
        let mut living = store.enter(this).unwrap();
        assert_eq!(files::names(&store.root().join("leases")).unwrap().len(), 1);
        assert!(matches!(store.claim(&key, &mut living).unwrap(), Claim::Mine(_)));
    }

    #[test]
    fn a_pulse_that_stands_still_loses_it_and_its_owner_notices() {
        let (_folder, store, key) = bench();
        let (a, b) = (owner(1, "far"), owner(2, "away"));
        let [mut first, mut second] = [&a, &b].map(|owner| store.enter(owner.clone()).unwrap());
        let Claim::Mine(lease) = store.claim(&key, &mut first).unwrap() else {
            panic!("it was free")
        };
        let (patience, begun) = (Duration::from_mins(1), Instant::now());
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut vigil = Vigil::new(&store, &key, &b, patience, begun);
        for seconds in [50, 100, 150] {
            first.beat().unwrap();
            assert!(!vigil.is_over(at(seconds)).unwrap(), "it is alive");
        }
        assert!(!vigil.is_over(at(210)).unwrap());
        assert!(vigil.is_over(at(211)).unwrap());
        let claim = store.claim(&key, &mut second).unwrap();
        let Claim::Mine(new) = claim else { panic!("it was taken away") };
        // The old owner wakes up: it does no harm to the new one.
        first.beat().unwrap();
        assert!(!lease.is_held() && new.is_held());
        lease.release().unwrap();
        assert!(new.is_held());
    }

    #[test]
    fn a_lease_that_changed_hands_is_put_back() {
        let (_folder, store, key) = bench();
        let (a, b) = (owner(1, "far"), owner(2, "away"));
        let mut second = store.enter(b).unwrap();
        let Claim::Mine(lease) = store.claim(&key, &mut second).unwrap() else {
            panic!("it was free")
        };
        take_away(&store.lease_path(&key), &a).unwrap();
        assert!(lease.is_held());
    }

    /// What may happen to the owners of one key.
    #[derive(Clone, Debug)]
    enum Move {
        Claim(usize),
        Beat(usize),
        Watch(usize),
        Look(usize),
        Release(usize),
        /// It is gone without a word, as its host is.
        Die(usize),
        Wait(u64),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let who = || 0usize..3;
        let one = prop_oneof![
            who().prop_map(Move::Claim),
            who().prop_map(Move::Beat),
            who().prop_map(Move::Watch),
            who().prop_map(Move::Look),
            who().prop_map(Move::Release),
            who().prop_map(Move::Die),
            (0u64..50).prop_map(Move::Wait),
        ];
        prop::collection::vec(one, 1..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever happens in whatever order: one owner at most, none taken for dead that gave a sign within the patience,
        /// none that comes back from the dead, and after all of them the key is free again.
        #[test]
        fn one_owner_at_most_and_none_for_good(moves in moves()) {
            let (_folder, store, key) = bench();
            let owners = [owner(1, "a"), owner(2, "b"), owner(3, "c")];
            let (patience, mut now) = (Duration::from_mins(1), Instant::now());
            let mut bearers = owners.clone().map(|owner| store.enter(owner).unwrap());
            let mut leases: [Option<Lease>; 3] = [None, None, None];
            let mut vigils: [Option<Vigil>; 3] = [None, None, None];
            let mut sign = now;
            for step in moves {
                let held = |leases: &[Option<Lease>; 3]| -> Vec<usize> {
                    let is = |i: &usize| leases[*i].as_ref().is_some_and(Lease::is_held);
                    (0..3).filter(is).collect()
                };
                let before = held(&leases);
                match step {
                    // No run claims what it holds: it would find that no process of this number runs here.
                    Move::Claim(i) if before.contains(&i) => (),
                    Move::Claim(i) => match store.claim(&key, &mut bearers[i]).unwrap() {
                        Claim::Mine(lease) => {
                            prop_assert!(before.is_empty());
                            (leases[i], sign) = (Some(lease), now);
                        }
                        Claim::Theirs(other) => prop_assert!(owners.contains(&other)),
                    },
                    Move::Beat(i) => {
                        if before.contains(&i) {
                            sign = now;
                        }
                        bearers[i].beat().unwrap();
                    }
                    Move::Watch(i) => {
                        let here = owner(9, "elsewhere");
                        vigils[i] = Some(Vigil::new(&store, &key, &here, patience, now));
                    }
                    Move::Look(i) => if let Some(vigil) = &mut vigils[i] {
                        let over = vigil.is_over(now).unwrap();
                        if over && before.len() == 1 {
                            prop_assert!(now - sign > patience, "it gave a sign of life");
                        }
                    },
                    Move::Release(i) => if let Some(lease) = leases[i].take() {
                        lease.release().unwrap();
                    },
                    Move::Die(i) => drop(leases[i].take()),
                    Move::Wait(seconds) => now += Duration::from_secs(seconds),
                }
                let after = held(&leases);
                prop_assert!(after.len() <= 1);
                let claimed = after.iter().all(|i| before.contains(i) || matches!(step, Move::Claim(j) if j == *i));
                prop_assert!(claimed, "nobody gets it without claiming it");
            }
            leases = [None, None, None];
            drop(leases);
            let last = owner(4, "d");
            let mut vigil = Vigil::new(&store, &key, &last, patience, now);
            prop_assert!(vigil.is_over(now + patience + Duration::from_secs(1)).unwrap());
            let mut last = store.enter(last).unwrap();
            prop_assert!(matches!(store.claim(&key, &mut last).unwrap(), Claim::Mine(_)));
        }
    }
}
