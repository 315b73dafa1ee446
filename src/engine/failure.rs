//! Why a node failed, in a form that crosses the worker's boundary.

use std::time::Duration;
use std::{fmt, io};

use serde::{Deserialize, Serialize};

use super::retry::Policy;
use crate::spec::quantity::{duration_text, duration_words};
use crate::store::{Hash, files};

/// What sort of thing went wrong; it decides what the user is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The parameters cannot work together.
    User,
    /// The data are not what the stage needs.
    Data,
    /// Memory, disk or a device ran out.
    Resource,
    /// A number stopped being one, or an iteration did not converge.
    Numeric,
    /// The process was ended from outside.
    Killed,
    /// A program that the stage runs ended with a failure of its own.
    Program,
    /// A defect of the program's own.
    Internal,
    /// The run was interrupted.
    Interrupted,
}

/// What ran out because others had it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortage {
    /// Memory.
    Memory,
    /// Memory of a GPU.
    Gpu,
}

/// Why a node failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What sort of thing went wrong.
    pub kind: FailureKind,
    /// Whether the same attempt may succeed later.
    pub transient: bool,
    /// What it may not lack if it has more room.
    #[serde(default)]
    pub short_of: Option<Shortage>,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The last lines that the worker wrote.
    pub log_tail: Vec<String>,
    /// Objects that it was to read and that are not what their names say: to be computed again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Hash>,
}

impl Failure {
    /// The user's data are not what the run was planned with.
    pub fn edited(written: &str) -> Self {
        Self::data(format!("`{written}` changed while the run was under way"))
            .hint("the same command runs what reads it again")
    }

    /// A failure without a hint.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            transient: false,
            short_of: None,
            message: message.into(),
            hint: None,
            log_tail: Vec::new(),
            damaged: Vec::new(),
        }
    }

    /// The data are not what the stage needs.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Data, message)
    }

    /// Objects of the store are not what their names say.
    pub fn damaged(objects: Vec<Hash>) -> Self {
        let message = "what it reads is damaged".to_owned();
        Self { damaged: objects, ..Self::new(FailureKind::Data, message) }
    }

    /// A number stopped being one.
    pub fn numeric(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Numeric, message)
    }

    /// The parameters cannot work together.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(FailureKind::User, message)
    }

    /// The run was interrupted.
    pub fn interrupted() -> Self {
        Self::new(FailureKind::Interrupted, "interrupted")
    }

    /// The node ran longer than its stage allows.
    pub fn timed_out(limit: Duration, policy: &Policy) -> Self {
        let (words, text) = (duration_words(limit), duration_text(limit));
        let message = format!("timed out after {words} (timeout = \"{text}\")");
        let failure = Self::new(FailureKind::Resource, message);
        // It would take as long again, unless the user knows better.
        Self { transient: policy.written, ..failure }
            .hint("allow it more in `timeout`, or give it less to do")
    }

    /// The worker was ended by a signal: from outside, or by its own defect.
    pub fn ended_by(signal: i32) -> Self {
        const KILL: i32 = 9;
        // Hang-up, interrupt, quit, kill and termination come from others; the rest are what a process does to itself.
        const FROM_OUTSIDE: [i32; 5] = [1, 2, 3, KILL, 15];
        let message = match signal {
            KILL => "the worker was killed (signal 9); the system does so when memory runs out",
            _ => &format!("the worker was ended by signal {signal}"),
        };
        Self {
            transient: FROM_OUTSIDE.contains(&signal),
            short_of: (signal == KILL).then_some(Shortage::Memory),
            ..Self::new(FailureKind::Killed, message)
        }
    }

    /// Says that more room may help.
    #[must_use]
    pub fn for_lack_of(mut self, shortage: Shortage) -> Self {
        self.transient = true;
        self.short_of = Some(shortage);
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Takes the failure out of a stage's error, or makes one of its messages.
    pub fn from_error(error: anyhow::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(failure) => return failure,
            Err(error) => error,
        };
        let message = messages(&error);
        let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        match causes.find_map(trouble) {
            Some(trouble) => trouble.failure(message),
            None => Self::new(FailureKind::Internal, message),
        }
    }
}

/// What the system says of a disk, a network or the memory: no defect of the program's.
enum Trouble {
    /// There is no space left, or no quota.
    Full,
    /// There is no memory left.
    Memory,
    /// Too many files are open.
    Files,
    /// A device or a server did not answer as it should.
    NoAnswer,
}

impl Trouble {
    fn failure(self, message: String) -> Failure {
        let failure = Failure::new(FailureKind::Resource, message);
        match self {
            Self::Full => failure
                .hint("free some space; what is computed is kept, and the same command goes on"),
            Self::Memory => {
                failure.for_lack_of(Shortage::Memory).hint("end what else runs on this machine")
            }
            Self::Files => failure.hint(files::TOO_MANY_OPEN),
            Self::NoAnswer => Failure { transient: true, ..failure }
                .hint("look at the disk or the network; the same command goes on from here"),
        }
    }
}

fn trouble(error: &io::Error) -> Option<Trouble> {
    /// A failing disk or network file system has no kind of its own: `EIO`, `EREMOTEIO`.
    const FAILING: [i32; 2] = [5, 121];
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Trouble::Full),
        io::ErrorKind::OutOfMemory => Some(Trouble::Memory),
        _ if files::are_too_many_open(error) => Some(Trouble::Files),
        io::ErrorKind::TimedOut
        | io::ErrorKind::WouldBlock
        | io::ErrorKind::ResourceBusy
        | io::ErrorKind::StaleNetworkFileHandle
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => Some(Trouble::NoAnswer),
        _ => error.raw_os_error().filter(|code| FAILING.contains(code)).map(|_| Trouble::NoAnswer),
    }
}

/// The messages of an error and its causes; a cause that its effect quotes already is not said again.
fn messages(error: &anyhow::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.last().is_none_or(|last| !last.ends_with(&cause)) {
            said.push(cause);
        }
    }
    said.join(": ")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_open_files_are_no_defect_and_have_a_remedy() {
        const EMFILE: i32 = 24;
        let failure = Failure::from_error(io::Error::from_raw_os_error(EMFILE).into());
        assert_eq!(failure.kind, FailureKind::Resource);
        assert!(failure.hint.is_some_and(|hint| hint.contains("ulimit -n")));
    }

    #[test]
    fn a_timeout_says_how_long_and_what_was_written() {
        let failure = Failure::timed_out(Duration::from_mins(90), &Policy::of(None));
        assert_eq!(failure.message, "timed out after 1 h 30 min (timeout = \"1h30m\")");
        assert!(!failure.transient && failure.hint.is_some());
        assert!(Failure::timed_out(Duration::from_mins(90), &Policy::of(Some(1))).transient);
    }

    #[test]
    fn the_systems_troubles_are_told_from_defects() {
        let error = |code: i32| {
            let source = anyhow::Error::from(io::Error::from_raw_os_error(code));
            Failure::from_error(source.context("cannot write a.txt"))
        };
        for (code, kind, transient) in [
            (28, FailureKind::Resource, false),
            (122, FailureKind::Resource, false),
            (5, FailureKind::Resource, true),
            (116, FailureKind::Resource, true),
            (110, FailureKind::Resource, true),
            (11, FailureKind::Resource, true),
            (12, FailureKind::Resource, true),
            (2, FailureKind::Internal, false),
        ] {
            let failure = error(code);
            assert_eq!((failure.kind, failure.transient), (kind, transient), "{failure:?}");
            assert!(failure.message.starts_with("cannot write a.txt: "), "{failure}");
            assert_eq!(failure.hint.is_some(), kind == FailureKind::Resource);
        }
        assert_eq!(error(12).short_of, Some(Shortage::Memory));
    }

    #[test]
    fn only_signals_from_outside_may_pass() {
        for (signal, transient) in [(9, true), (15, true), (1, true), (6, false), (11, false)] {
            let failure = Failure::ended_by(signal);
            assert_eq!((failure.transient, failure.kind), (transient, FailureKind::Killed));
            assert_eq!(failure.short_of.is_some(), signal == 9);
            assert!(failure.message.contains(&format!("signal {signal}")));
        }
    }
}
