//! Why a node failed, in a form that crosses the worker's boundary.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

use crate::store::Hash;

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
    /// A defect of the program's own.
    Internal,
    /// The run was interrupted.
    Interrupted,
}

/// Why a node failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What sort of thing went wrong.
    pub kind: FailureKind,
    /// Whether the same attempt may succeed later.
    pub transient: bool,
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
    /// A failure without a hint.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            transient: false,
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
        let disk_full = error
            .chain()
            .filter_map(|e| e.downcast_ref::<io::Error>())
            .any(|e| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded));
        let message = messages(&error);
        if disk_full {
            let hint = "free some space; what is computed is kept, and the same command goes on";
            return Self::new(FailureKind::Resource, message).hint(hint);
        }
        Self::new(FailureKind::Internal, message)
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
