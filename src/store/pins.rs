//! Pins: results that no cleaning removes.
//!
//! ```text
//! cache/v1/pins/<name>    the set that is kept, whose it is, and since when
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::{self, FileError};
use super::hash::Hash;
use super::{Store, sealed};

/// Results that are to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Keys by node name.
    pub set: Hash,
    /// The experiment's name.
    pub experiment: String,
    /// The experiment file as the user named it.
    pub file: String,
    /// Since when, in UTC.
    pub since: String,
}

/// Whether a text may be the name of a pin: it is a file's name.
pub fn is_pin_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(fits)
}

impl Store {
    fn pin_path(&self, name: &str) -> PathBuf {
        self.root().join("pins").join(name)
    }

    /// Keeps the results of a set; a pin of that name is replaced.
    pub fn pin(&self, name: &str, pin: &Pin) -> Result<(), FileError> {
        files::write_atomic(&self.pin_path(name), &sealed::to_bytes(pin))
    }

    /// Lets go of what a pin keeps; false where there is none of that name.
    pub fn unpin(&self, name: &str) -> Result<bool, FileError> {
        let path = self.pin_path(name);
        let known = files::length(&path).is_ok();
        files::remove(&path)?;
        Ok(known)
    }

    /// Every pin by name; `None` for one that cannot be read.
    pub fn pins(&self) -> Result<BTreeMap<String, Option<Pin>>, FileError> {
        let entries = files::entries(&self.root().join("pins"))?;
        let names = entries.into_iter().map(|entry| entry.name).filter(|name| is_pin_name(name));
        let read = |name: String| {
            let pin = files::read(&self.pin_path(&name)).ok();
            let pin = pin.and_then(|bytes| sealed::from_bytes(&bytes));
            (name, pin)
        };
        Ok(names.map(read).collect())
    }
}
