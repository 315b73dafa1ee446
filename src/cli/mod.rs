//! The command line: one command a file.

pub mod cache;
pub mod capacity;
pub mod check;
pub mod completions;
pub mod diff;
pub mod differences;
pub mod error;
pub mod explain;
pub mod export;
pub mod graph;
pub mod kinds;
pub mod log;
pub mod logs;
pub mod new;
pub mod page;
pub mod plan;
pub mod reports;
pub mod reproduce;
pub mod resolved;
pub mod run;
pub mod schema;
pub mod select;
pub mod settled;
pub mod show;
pub mod table;
pub mod worker;
pub mod workspace;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use error::CliError;
use workspace::Opened;

use crate::spec::experiment::Overlays;

/// Runs experiments described in TOML, and reruns only what changed.
#[derive(Debug, Parser)]
#[command(name = "wavecrest", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Where results are kept, and where they may be found besides.
#[derive(Clone, Debug, Default, Args)]
pub struct CacheArgs {
    /// Folder of cached results [default: `cache` beside the nearest Cargo.toml or `cache` above FILE]
    #[arg(long, global = true, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Take results from this cache too, and write nothing to it; may be repeated
    #[arg(long, global = true, value_name = "FOLDER")]
    cache_from: Vec<PathBuf>,
    /// What was opened.
    #[arg(skip)]
    opened: Opened,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compute what is not cached, then write tables and figures to reports/NAME
    Run(run::RunArgs),
    /// Report every mistake in an experiment, and run nothing
    Check(ExperimentArgs),
    /// Show what would run and why, and what is cached; change nothing
    Plan(plan::PlanArgs),
    /// Explain why a node runs, down to what it all comes from
    Explain(explain::ExplainArgs),
    /// Show in what two experiments, runs or overrides differ: parameters, nodes, metrics
    Diff(diff::DiffArgs),
    /// Print the tables of an experiment from cached results
    Table(table::TableArgs),
    /// Draw the graph of an experiment, with what is cached
    Graph(graph::GraphArgs),
    /// Show one result: what made it, and what it is
    Show(show::ShowArgs),
    /// Print what the worker of a node wrote, while it runs and afterwards
    Logs(logs::LogsArgs),
    /// Compute one result again aside, and say in what it differs
    Reproduce(reproduce::ReproduceArgs),
    /// Copy the files of one result out of the cache
    Export(export::ExportArgs),
    /// List past runs
    Log(log::LogArgs),
    /// Verify, clean and share cached results
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Write a commented experiment to begin with
    New(new::NewArgs),
    /// List the kinds of stages, or explain one
    Kinds(kinds::KindsArgs),
    /// Print the JSON Schema of experiment files, for editors
    Schema,
    /// Print a script that completes commands and options in a shell
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    Worker,
}

/// An experiment and the layers over it.
#[derive(Clone, Debug, Args)]
pub struct ExperimentArgs {
    /// The experiment: a TOML file, a generated one in JSON (`.json`), or `-` for either on standard input
    file: PathBuf,
    /// Lay the profile NAME of the file over it
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Override one value, such as stages.probe.epochs=30; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
}

impl ExperimentArgs {
    /// What is laid over the file.
    fn overlays(&self) -> Overlays {
        Overlays { profile: self.profile.clone(), set: self.set.clone() }
    }
}

/// Runs a command.
pub fn dispatch(cli: Cli) -> Result<(), CliError> {
    let outcome = run_command(cli.command, &cli.cache);
    // Whatever the command was for: damage that was met is told.
    say(&cli.cache.opened.notices());
    outcome
}

fn run_command(command: Command, cache: &CacheArgs) -> Result<(), CliError> {
    match command {
        Command::Run(args) => run::run(&args, cache),
        Command::Check(args) => check::check(&args, cache),
        Command::Plan(args) => plan::plan(&args, cache),
        Command::Explain(args) => explain::explain(&args, cache),
        Command::Diff(args) => diff::diff(&args, cache),
        Command::Table(args) => table::table(&args, cache),
        Command::Graph(args) => graph::graph(&args, cache),
        Command::Show(args) => show::show(&args, cache),
        Command::Logs(args) => logs::logs(&args, cache),
        Command::Reproduce(args) => reproduce::reproduce(&args, cache),
        Command::Export(args) => export::export(&args, cache),
        Command::Log(args) => log::log(&args, cache),
        Command::Cache(command) => cache::cache(&command, cache),
        Command::New(args) => new::new(&args),
        Command::Kinds(args) => kinds::kinds(&args),
        Command::Schema => schema::schema(),
        Command::Completions(args) => completions::completions(&args),
        Command::Worker => worker::worker(),
    }
}

/// Says what went wrong.
pub fn complain(error: &CliError) {
    say(&error.to_string());
}

/// Says something that is no data, on standard error; a closed pipe is nothing to speak of.
fn say(text: &str) {
    if !text.is_empty() {
        drop(writeln!(io::stderr(), "{}", text.trim_end()));
    }
}

/// Writes data to standard output; a reader that has seen enough is no error.
fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::Failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
