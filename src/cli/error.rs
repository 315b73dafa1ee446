//! How a command ends when it does not end well.

use std::fmt;

use crate::store::files::FileError;

/// Why a command did not succeed; decides the exit code.
#[derive(Debug)]
pub enum CliError {
    /// A node failed, or the machine did.
    Failed(String),
    /// The experiment or the command line is wrong.
    Usage(String),
    /// The user interrupted.
    Interrupted(String),
}

impl CliError {
    /// 1 for a failure, 2 for a mistake, 130 for an interrupt.
    pub fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Interrupted(_) => 130,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::Usage(text) | Self::Interrupted(text) => f.write_str(text),
        }
    }
}

impl From<FileError> for CliError {
    fn from(error: FileError) -> Self {
        let hint = error.hint().map_or(String::new(), |hint| format!("\n  hint: {hint}"));
        Self::Failed(format!("{error}{hint}"))
    }
}

impl From<crate::store::NewerFormat> for CliError {
    fn from(error: crate::store::NewerFormat) -> Self {
        Self::Failed(format!("{error}\n  hint: use that version, or another folder with --cache"))
    }
}

impl From<crate::store::StoreError> for CliError {
    fn from(error: crate::store::StoreError) -> Self {
        match error {
            crate::store::StoreError::Newer(error) => error.into(),
            crate::store::StoreError::File(error) => error.into(),
        }
    }
}

impl From<crate::report::error::ReportError> for CliError {
    fn from(error: crate::report::error::ReportError) -> Self {
        Self::Failed(error.to_string())
    }
}
