//! The program: parses the command line, runs the command, prints what went wrong.

use std::process::ExitCode;

use clap::Parser;
use wavecrest::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&error);
            ExitCode::from(error.code())
        }
    }
}
