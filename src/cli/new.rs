//! `wavecrest new`: a commented experiment to begin with, and the schema that editors read.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{CliError, say, schema};
use crate::spec::experiment::{NAMES, is_name};
use crate::store::files::{self, FileError};

/// Arguments of `new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// What the experiment is called, or the file to write, such as experiments/waves.toml
    name: PathBuf,
}

/// An experiment that runs in seconds; `{name}` stands for its name.
const STARTER: &str = include_str!("starter.toml");

/// The file that the first line of the experiment names.
const SCHEMA: &str = "wavecrest.schema.json";

/// Writes an experiment.
pub fn new(args: &NewArgs) -> Result<(), CliError> {
    let (name, file) = named(&args.name)?;
    let path = files::absolute(&file)?;
    if !write_new(&path, &STARTER.replace("{name}", &name))? {
        let hint = "take another name, or remove the file";
        return Err(CliError::Usage(format!(
            "{} is there already\n  hint: {hint}",
            file.display()
        )));
    }
    let beside = file.with_file_name(SCHEMA);
    let (text, place) = (schema::text(), files::absolute(&beside)?);
    let about = if write_new(&place, &text)? {
        "beside it explains each key to editors"
    } else if files::read(&place)? == text.as_bytes() {
        "was there already"
    } else {
        "is another version's; `wavecrest schema` prints this one's"
    };
    let (file, beside) = (file.display(), beside.display());
    say(&format!(
        "wrote {file}; {beside} {about}\n  \
         hint: `wavecrest run {file}` computes it in seconds; `wavecrest kinds` lists what its stages can do"
    ));
    Ok(())
}

/// The name of an experiment and the file that it goes to, from either.
fn named(given: &Path) -> Result<(String, PathBuf), CliError> {
    let is_file = given.extension().is_some_and(|ending| ending == "toml");
    let name = if is_file { given.file_stem() } else { Some(given.as_os_str()) };
    let name = name.and_then(|name| name.to_str()).filter(|name| is_name(name));
    let Some(name) = name else {
        let message = format!("an experiment's name is {NAMES}, not `{}`", given.display());
        let hint = "the path of a file ends in `.toml`, as in experiments/waves.toml";
        return Err(CliError::Usage(format!("{message}\n  hint: {hint}")));
    };
    let file = if is_file { given.to_owned() } else { PathBuf::from(format!("{name}.toml")) };
    Ok((name.to_owned(), file))
}

/// Writes a file whole, unless there is one of that name already; says whether it did.
fn write_new(path: &Path, text: &str) -> Result<bool, FileError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let (_, fresh) = files::create_new(folder, text)?;
    let written = files::sync_file(&fresh).and_then(|()| files::link(&fresh, path));
    files::remove(&fresh)?;
    written
}
