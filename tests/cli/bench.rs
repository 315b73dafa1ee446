//! A folder to work in, and commands run there with a bare environment.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_wavecrest");

/// A folder with an experiment in it.
pub(crate) struct Bench {
    folder: TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    /// Makes a folder with `x.toml` in it.
    pub(crate) fn new(experiment: &str) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.write("x.toml", experiment);
        fs::create_dir(bench.path("cache")).unwrap();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        self.prepare(command.args(arguments));
        command
    }

    fn prepare(&self, command: &mut Command) {
        command.current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null());
    }

    /// Runs a command to its end, with a folder mounted so that nobody can write to it; `None` where this user may not
    /// do that.
    pub(crate) fn run_beside(&self, folder: &str, arguments: &[&str]) -> Option<Ended> {
        const REFUSED: i32 = 199;
        let script = format!(
            "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" || exit {REFUSED}; exec \"$@\""
        );
        let mut command = Command::new("unshare");
        command.args(["-Urm", "sh", "-c", &script, folder, PROGRAM]).args(arguments);
        self.prepare(&mut command);
        let ended = command.output().map(Ended::of).ok();
        let ended = ended.filter(|e| e.code != Some(REFUSED) && !e.stderr.starts_with("unshare"));
        if ended.is_none() {
            skipped("this user cannot mount a folder read-only in a namespace");
        }
        ended
    }

    /// Runs a command on a terminal, on which somebody types; `None` where there is no program that makes one.
    pub(crate) fn run_on_a_terminal(&self, arguments: &[&str], typed: &str) -> Option<String> {
        let words = [&[PROGRAM], arguments].concat().join(" ");
        let mut command = Command::new("script");
        self.prepare(command.args(["-qec", &words, "/dev/null"]));
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = started else {
            skipped("there is no program `script`");
            return None;
        };
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        Some(Ended::of(child.wait_with_output().unwrap()).stdout)
    }

    /// Every file under a folder, with its bytes.
    pub(crate) fn everything(&self, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = files(&self.path(folder)).into_iter();
        files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// The objects of a cache.
    pub(crate) fn objects(&self, cache: &str) -> Vec<PathBuf> {
        files(&self.path(cache).join("v1/objects"))
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// Runs a command to its end in another folder.
    pub(crate) fn run_in(&self, folder: &Path, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).current_dir(folder).output().unwrap())
    }

    /// Runs a command to its end that reads a text from its standard input.
    pub(crate) fn run_reading(&self, text: &str, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        Ended::of(child.wait_with_output().unwrap())
    }

    /// Starts a command and leaves it running.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.start_with(&[], arguments)
    }

    /// Starts a command with some more in its environment, and leaves it running.
    pub(crate) fn start_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Runs `x.toml` and yields how many nodes were run and how many cached; it must succeed.
    pub(crate) fn counts(&self, more: &[&str]) -> (usize, usize) {
        let ended = self.run(&[&["run", "x.toml"], more].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.counts()
    }

    /// The names of the nodes that `plan` would run or that wait on such.
    pub(crate) fn to_run(&self, more: &[&str]) -> Vec<String> {
        let ended = self.run(&[&["plan", "x.toml", "--json"], more].concat());
        let plan: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let rows = plan["nodes"].as_array().unwrap().iter().filter(|row| row["state"] != "cached");
        rows.map(|row| row["node"].as_str().unwrap().to_owned()).collect()
    }

    /// The content hash of each output of a node.
    pub(crate) fn contents(&self, node: &str, more: &[&str]) -> Vec<String> {
        let ended = self.run(&[&["show", "x.toml", node, "--json"], more].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let record: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let outputs = record["outputs"].as_object().unwrap();
        outputs.iter().map(|(name, o)| format!("{name} {}", o["hash"].as_str().unwrap())).collect()
    }
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Reads `NAME: 3 run, 4 cached` out of the summary.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let line = self.stderr.lines().find(|l| l.contains(" run, ")).expect("there is a summary");
        let number = |before: &str| -> usize {
            line.split(before).next().unwrap().split_whitespace().last().unwrap().parse().unwrap()
        };
        (number(" run"), number(" cached"))
    }
}

/// Says that a test could not look at what it is for.
#[expect(clippy::print_stderr, reason = "a test that was not made is not one that passed")]
pub(crate) fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// Every file under a folder, sorted; none where there is no folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Changes one bit in the middle of a file, in place.
pub(crate) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Waits until a file is there, or fails after a while.
pub(crate) fn await_file(path: &Path) {
    let since = Instant::now();
    while !path.exists() {
        assert!(since.elapsed() < Duration::from_mins(1), "{} never came", path.display());
        thread::sleep(Duration::from_millis(10));
    }
}
