//! How long it takes to be told what is wrong with an experiment, and what would run: for ten thousand nodes that axes
//! make, and for as many written out.

use anyhow::{Result, ensure};

use crate::graph::Graph;
use crate::measure::{median, run};
use crate::site::{command, folder};

/// Three axes, and a chain of stages along them all: 9900 nodes, a third of them with parameters of their own.
const SWEPT: &str = r#"
[experiment]
name = "bench"
[axes]
rate = { linspace = [1, 2, 10] }
size = { range = [8, 18] }
replicate = { range = [0, 33] }
[stages.retina]
kind = "waves.simulate"
frames = 100
size = "${size}"
model = { lansdell = { noise = { exponential = { rate = "${rate}" } } } }
seed = "${replicate}"
[stages.events]
kind = "movie.segment"
movie = "@retina"
[stages.shuffled]
kind = "movie.shuffle"
movie = "@retina"
events = "@events"
axis = "time"
"#;

/// Three axes, and a program for each of their 10,000 combinations, each with its own words.
const PROGRAMS: &str = r#"
[experiment]
name = "bench"
[axes]
lr = { logspace = [1e-4, 1e-1, 10] }
width = { range = [1, 11] }
replicate = { range = [0, 100] }
[stages.train]
kind = "exec"
command = ["sh", "-c", "echo ${lr} ${width} > $1", "sh", "{outputs.o}", "${replicate}"]
outputs = { o = "table" }
"#;

/// How often each is timed.
const REPETITIONS: usize = 15;

/// Prints the lines on all experiments; `written` is the one without axes.
pub(crate) fn print(written: &Graph) -> Result<()> {
    let folder = folder()?;
    std::fs::create_dir(folder.path().join("cache"))?;
    for (what, text, targets) in [
        ("9900 nodes of axes", SWEPT.to_owned(), [Some(0.05), Some(0.2)]),
        ("10,000 programs of axes", PROGRAMS.to_owned(), [Some(0.05), Some(0.2)]),
        ("10,000 nodes written out", written.experiment(), [None, None]),
    ] {
        std::fs::write(folder.path().join("x.toml"), text)?;
        for (verb, target) in ["check", "plan"].into_iter().zip(targets) {
            let mut seconds = Vec::new();
            for _ in 0..REPETITIONS {
                let ran = run(&mut command(folder.path(), &[verb, "x.toml"]))?;
                ensure!(ran.stdout.contains("bench"), "not as expected:\n{}", ran.stdout);
                seconds.push(ran.seconds);
            }
            let seconds = median(seconds);
            match target {
                Some(target) => println!(
                    "{verb}, {what}: ratio to the target {:.2} ({seconds:.3} s, target {target} s)",
                    seconds / target
                ),
                None => println!("{verb}, {what}: {seconds:.3} s"),
            }
        }
    }
    Ok(())
}
