//! Plain files, made by programs that no kind knows.

use std::path::Path;

use crate::engine::stage::{Artifact, Files};
use crate::store::files;

/// The bytes of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainFile(pub Vec<u8>);

/// The file's name inside the artifact.
pub const FILE: &str = "file";

impl Artifact for PlainFile {
    const TYPE: &'static str = "file";
    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        Ok(files::write(&folder.join(FILE), &self.0)?)
    }
    fn load(files: &Files) -> anyhow::Result<Self> {
        Ok(Self(files::read(files.path(FILE)?)?))
    }
}
