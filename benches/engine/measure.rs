//! Programs run, and what that takes: time, and memory at most.

use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// A program that ended well.
pub(crate) struct Ran {
    pub(crate) seconds: f64,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end. What it prints goes into pipes, so that no terminal slows it.
pub(crate) fn run(command: &mut Command) -> Result<Ran> {
    let start = Instant::now();
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let seconds = start.elapsed().as_secs_f64();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?} ended with {}\n{stderr}", output.status);
    Ok(Ran { seconds, stdout: String::from_utf8_lossy(&output.stdout).into_owned(), stderr })
}

/// The most memory that a program held at once, in MiB. Programs that it starts do not count.
pub(crate) fn peak_memory(command: &mut Command) -> Result<f64> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0.0;
    // The mark only rises, so the last look counts; a program that has ended has none.
    loop {
        most = high_water(&status).unwrap_or(most);
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{command:?} ended with {status}");
            return Ok(most);
        }
        thread::sleep(Duration::from_micros(500));
    }
}

fn high_water(status: &str) -> Option<f64> {
    kibibytes(&std::fs::read_to_string(status).ok()?, "VmHWM:").map(|kib| kib / 1024.0)
}

/// The memory that programs could still get, in GiB.
pub(crate) fn free_memory() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let kib = kibibytes(&text, "MemAvailable:").context("the system says what memory is free")?;
    Ok(kib / f64::from(1 << 20))
}

/// The number behind a word in a file of `/proc`.
fn kibibytes(text: &str, word: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.trim().trim_end_matches("kB").trim_end().parse().ok()
}

/// Whether a program is installed.
pub(crate) fn installed(program: &str) -> Result<bool> {
    match Command::new(program).arg("--version").output() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context(format!("cannot run {program}")),
    }
}

/// The middle of some numbers.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
