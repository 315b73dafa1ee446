//! The cost of the engine beside that of `ninja` and of `b3sum`, measured in one run on one graph, a line a figure.
//!
//! `cargo bench --bench engine -- [--large] [FIGURE…]`; the figures are `overhead`, `language`, `cold`, `no-op`, `change`,
//! `memory`, `files` and `hashing`, all of them where none is named. `--large` adds the memory at 100,000 nodes. A tool that is not installed
//! is left out, and the line says so. Figures are to be taken on an idle machine.
#![expect(clippy::print_stdout, reason = "a program of its own")]
#![expect(clippy::disallowed_methods, reason = "makes the files that it needs")]

mod graph;
mod hashing;
mod language;
mod measure;
mod overhead;
mod site;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use graph::{End, Graph};
use measure::{installed, peak_memory};
use site::{Site, Times, command};

const FIGURES: [&str; 8] =
    ["overhead", "language", "cold", "no-op", "change", "memory", "files", "hashing"];

fn main() -> Result<()> {
    let (mut wanted, mut large) = (Vec::new(), false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            // Cargo itself adds this one.
            "--bench" => (),
            "--large" => large = true,
            figure if FIGURES.contains(&figure) => wanted.push(argument),
            other => bail!("no figure is called `{other}`; there are {}", FIGURES.join(", ")),
        }
    }
    let wants = |figure: &str| wanted.is_empty() || wanted.iter().any(|name| name == figure);
    let mut bench = Bench { ninja: installed("ninja")?, sites: BTreeMap::new() };
    let _kept = if wants("overhead") { overhead::print()? } else { Vec::new() };
    if wants("language") {
        language::print(&Graph::of_ten_layers(LARGE))?;
    }
    if wants("cold") {
        bench.site(SMALL)?;
    }
    if wants("files") {
        bench.files()?;
    }
    for width in [SMALL, LARGE] {
        if wants("no-op") {
            bench.no_op(width)?;
        }
        if wants("change") {
            bench.change(width)?;
        }
    }
    if wants("memory") {
        bench.memory()?;
    }
    // Frees the disk for what follows.
    let ninja = bench.ninja;
    drop(bench);
    if wants("memory") && large {
        memory(&Site::new(Graph::of_ten_layers(LARGEST), ninja)?, "1024")?;
    }
    if wants("hashing") {
        hashing::print()?;
    }
    Ok(())
}

/// The widths of the graphs of 1000, of 10,000 and of 100,000 nodes.
const SMALL: usize = 100;
const LARGE: usize = 1000;
const LARGEST: usize = 10_000;

/// The graphs that were run, each from nothing but once: what a figure needs, others have made.
struct Bench {
    ninja: bool,
    sites: BTreeMap<usize, Site>,
}

impl Bench {
    /// The graph of a width with all its results; computing them is a figure itself.
    fn site(&mut self, width: usize) -> Result<&mut Site> {
        if !self.sites.contains_key(&width) {
            let site = Site::new(Graph::of_ten_layers(width), self.ninja)?;
            let target = if width == SMALL { "ratio at most 2" } else { "" };
            compare(&format!("cold run, {}", nodes(&site)), site.cold()?, target);
            self.sites.insert(width, site);
        }
        Ok(self.sites.get_mut(&width).expect("it was made"))
    }

    fn no_op(&mut self, width: usize) -> Result<()> {
        let site = self.site(width)?;
        let target = match width {
            SMALL => "less than 0.030 s",
            _ => "ratio at most 1, less than 0.2 s",
        };
        compare(&format!("no-op, {}", nodes(site)), site.no_op(10)?, target);
        Ok(())
    }

    fn change(&mut self, width: usize) -> Result<()> {
        let site = self.site(width)?;
        for (end, what) in [(End::Leaf, "leaf"), (End::Root, "root")] {
            let (reached, times) = site.changed(end, 5)?;
            compare(&format!("one {what} changed, {reached} of {} run", nodes(site)), times, "");
        }
        Ok(())
    }

    fn memory(&mut self) -> Result<()> {
        memory(self.site(LARGE)?, "100")
    }

    /// What a small result costs in files, which limits what a shared file system holds.
    fn files(&mut self) -> Result<()> {
        let site = self.site(SMALL)?;
        let cache = site.path().join("cache/v1");
        let (mut results, mut runs) = (0, 0);
        for entry in fs::read_dir(&cache)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Some("runs") => runs = files_below(&entry.path())?,
                // What the store keeps once, not a result.
                Some("index" | "leases" | "settled" | "sets" | "stamps") => (),
                _ => results += files_below(&entry.path())?,
            }
        }
        let each = results as f64 / site.graph().len() as f64;
        println!(
            "files in the store, {}: {each:.2} a result, and {runs} of runs; target: at most 2",
            nodes(site)
        );
        Ok(())
    }
}

/// Prints the memory of a run from nothing, and of what follows it and computes nothing.
fn memory(site: &Site, target: &str) -> Result<()> {
    for (what, verb) in
        [("cold run", "run"), ("no-op run", "run"), ("check", "check"), ("plan", "plan")]
    {
        let arguments = [verb, "x.toml", "--cache", "memory-cache"];
        let peak = peak_memory(&mut command(site.path(), &arguments))?;
        println!("peak memory, {what}, {}: {peak:.0} MiB; target: less than {target}", nodes(site));
    }
    Ok(())
}

/// Prints a figure with the ratio of both tools.
fn compare(what: &str, times: Times, target: &str) {
    let own = times.wavecrest;
    let target = if target.is_empty() { String::new() } else { format!("; target: {target}") };
    match times.ninja {
        Some(ninja) => println!(
            "{what}: ratio {:.2} (wavecrest {own:.3} s, ninja {ninja:.3} s){target}",
            own / ninja
        ),
        None => {
            println!("{what}: ninja is not installed: {own:.3} s without a comparison{target}");
        }
    }
}

fn nodes(site: &Site) -> String {
    let digits = site.graph().len().to_string();
    let (thousands, rest) = digits.split_at(digits.len() - 3);
    format!("{thousands},{rest} nodes")
}

/// How many plain files lie in a folder and below, or one for a file.
fn files_below(path: &Path) -> Result<usize> {
    if !path.is_dir() {
        return Ok(1);
    }
    fs::read_dir(path)?.map(|entry| files_below(&entry?.path())).sum()
}
