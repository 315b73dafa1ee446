//! The folders in which a node works: its own, and one for each output.
//!
//! Folders cost a file system more than files do, so a worker that computes one small node after the other keeps those
//! that were left empty for the next.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::context::output_folder;
use super::stage::Outputs;
use crate::store::files::{self, FileError};

/// The folders of one node. Gone when this is dropped, or kept for another if they are empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Desk {
    folder: PathBuf,
    outputs: Vec<String>,
}

/// Empty desks of this process.
static SPARE: Mutex<Vec<Desk>> = Mutex::new(Vec::new());

impl Desk {
    /// Finds or makes the folder of a node that leaves these outputs.
    pub fn at(scratch: &Path, declared: &Outputs) -> Result<Self, FileError> {
        let outputs: Vec<String> = declared.types.keys().cloned().collect();
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |desk: &Self| desk.folder.parent() == Some(scratch) && desk.outputs == outputs;
        if let Some(at) = spare.iter().position(fits) {
            return Ok(spare.swap_remove(at));
        }
        drop(spare);
        Ok(Self { folder: files::make_new_folder(scratch)?, outputs })
    }

    /// The node's own folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let outputs = self.outputs.iter().map(|name| output_folder(&self.folder, name));
        outputs.chain([self.folder.clone()])
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if self.folder.as_os_str().is_empty() {
            return;
        }
        if self.folders().all(|folder| files::is_empty_folder(&folder)) {
            let desk = Self {
                folder: std::mem::take(&mut self.folder),
                outputs: std::mem::take(&mut self.outputs),
            };
            SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(desk);
            return;
        }
        for folder in self.folders() {
            // What cannot be removed now goes with the working folder of the run.
            drop(files::remove_folder(&folder));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_one_is_used_again_and_another_is_gone() {
        let scratch = tempfile::tempdir().unwrap();
        let outputs = Outputs::main("number");
        let desk = Desk::at(scratch.path(), &outputs).unwrap();
        let folder = desk.folder().to_path_buf();
        let output = output_folder(&folder, "main");
        files::make_folder(&output).unwrap();
        drop(desk);
        let other = Desk::at(scratch.path(), &Outputs::main("number").and("more", "number"));
        assert_ne!(other.unwrap().folder(), folder);
        let again = Desk::at(scratch.path(), &outputs).unwrap();
        assert_eq!(again.folder(), folder);
        files::write(&output.join("left"), b"behind").unwrap();
        drop(again);
        assert!(!folder.exists() && !output.exists());
        assert_ne!(Desk::at(scratch.path(), &outputs).unwrap().folder(), folder);
    }
}
