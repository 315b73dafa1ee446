//! Compares the science with files of reference values, folder by folder.
//!
//! `cargo bench --bench reference -- FOLDER` prints a table of the worst error of each quantity and fails where one is
//! beyond its tolerance. The folder holds `critical` and `manifold`, as their READMEs describe; the files are
//! not part of this repository. What of them is typed into tests runs with these; this runs over whole files.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]

mod critical;
mod critical_published;
mod glue;
mod layers;
mod manifold;
mod npz;
mod table;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Cargo itself adds `--bench`.
    let Some(folder) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else {
        println!("nothing is compared: give the folder of the reference files after `--`");
        return ExitCode::SUCCESS;
    };
    match compare(Path::new(&folder)) {
        Ok(table) => {
            print!("{table}");
            if table.pass() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(folder: &Path) -> anyhow::Result<table::Comparisons> {
    let mut table = table::Comparisons::default();
    critical::compare(&folder.join("critical"), &mut table)?;
    critical_published::compare(&folder.join("critical"), &mut table)?;
    manifold::compare(&folder.join("manifold/golden"), &mut table)?;
    glue::compare(&folder.join("manifold/golden"), &mut table)?;
    layers::compare(&folder.join("manifold"), &mut table)?;
    Ok(table)
}
