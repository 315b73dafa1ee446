//! A folder where both tools run one graph.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::graph::{End, Graph};
use crate::measure::{Ran, median, run};

/// A graph written for both tools, and what they made of it.
pub(crate) struct Site {
    folder: TempDir,
    graph: Graph,
    ninja: bool,
}

/// Seconds that both tools took; none for the other one where it is not installed.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) wavecrest: f64,
    pub(crate) ninja: Option<f64>,
}

impl Times {
    /// The medians of both, each over all repetitions.
    fn medians(all: &[Self]) -> Self {
        let ninja: Option<Vec<f64>> = all.iter().map(|times| times.ninja).collect();
        Self {
            wavecrest: median(all.iter().map(|times| times.wavecrest).collect()),
            ninja: ninja.map(median),
        }
    }
}

impl Site {
    /// Writes a graph for both tools; `ninja` says whether the other one is installed.
    pub(crate) fn new(graph: Graph, ninja: bool) -> Result<Self> {
        let site = Self { folder: folder()?, graph, ninja };
        fs::create_dir(site.path().join("cache"))?;
        site.write()?;
        Ok(site)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    fn write(&self) -> Result<()> {
        fs::write(self.path().join("x.toml"), self.graph.experiment())?;
        fs::write(self.path().join("build.ninja"), self.graph.ninja())?;
        Ok(())
    }

    /// Runs everything from nothing.
    pub(crate) fn cold(&self) -> Result<Times> {
        self.both(self.graph.len())
    }

    /// Runs again where nothing has changed: the median over some repetitions.
    pub(crate) fn no_op(&self, repetitions: usize) -> Result<Times> {
        let times: Result<Vec<Times>> = (0..repetitions).map(|_| self.both(0)).collect();
        Ok(Times::medians(&times?))
    }

    /// Changes one end of the graph and runs what that reaches: the median over some repetitions.
    pub(crate) fn changed(&mut self, end: End, repetitions: usize) -> Result<(usize, Times)> {
        let (mut reached, mut times) = (0, Vec::new());
        for _ in 0..repetitions {
            reached = self.graph.change(end);
            self.write()?;
            times.push(self.both(reached)?);
        }
        Ok((reached, Times::medians(&times)))
    }

    /// Runs one tool, then the other; each must find just so many nodes to run, or something else was timed.
    fn both(&self, expected: usize) -> Result<Times> {
        let ran = run(&mut command(self.path(), &["run", "x.toml"]))?;
        let found = computed(&ran).with_context(|| format!("no summary in\n{}", ran.stderr))?;
        ensure!(found == expected, "wavecrest ran {found} nodes, not {expected}\n{}", ran.stderr);
        let mut times = Times { wavecrest: ran.seconds, ninja: None };
        if self.ninja {
            let cores = std::thread::available_parallelism()?;
            let mut command = bare("ninja", self.path());
            let ran = run(command.args(["-j", &cores.to_string()]))?;
            let done = match expected {
                0 => "no work to do.".to_owned(),
                count => format!("[{count}/{count}]"),
            };
            ensure!(ran.stdout.contains(&done), "ninja says otherwise than {done}\n{}", ran.stdout);
            times.ninja = Some(ran.seconds);
        }
        Ok(times)
    }
}

/// A folder on the disk that the build uses: the one for temporary files may be memory, where syncing costs nothing.
pub(crate) fn folder() -> Result<TempDir> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

/// The program under measurement, in a folder.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = bare(env!("CARGO_BIN_EXE_wavecrest"), folder);
    command.args(arguments);
    command
}

fn bare(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Reads how many nodes were run out of `bench: 3 run, 4 cached in 5 s`.
fn computed(ran: &Ran) -> Option<usize> {
    let summary = ran.stderr.lines().find(|line| line.starts_with("bench: "))?;
    summary.strip_prefix("bench: ")?.split_once(" run, ")?.0.parse().ok()
}
