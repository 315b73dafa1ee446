//! The speed of hashing a large file of the user's, beside that of `b3sum`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use crate::measure::{free_memory, installed, median, run};
use crate::site::{command, folder};

/// The size of the file, in GiB: hashing it takes much longer than all else that planning does.
const SIZE: u64 = 4;

/// What must be free of disk and of memory, in GiB: the file lies in both.
const ROOM: f64 = 6.0;

/// Prints the line on hashing.
pub(crate) fn print() -> Result<()> {
    let folder = folder()?;
    let memory = free_memory()?;
    let disk = free_disk(folder.path())?;
    for (free, what) in [(memory, "memory"), (disk, "disk")] {
        if free < ROOM {
            println!("hashing: skipped, {free:.1} GiB of {what} free and {ROOM} needed");
            return Ok(());
        }
    }
    write_noise(&folder.path().join("large.bin"), SIZE << 30)?;
    write_noise(&folder.path().join("small.bin"), 1 << 10)?;
    for name in ["large", "small"] {
        let text = format!(
            "[experiment]\nname = \"bench\"\n[stages.s]\nkind = \"exec\"\n\
             command = [\"cp\", \"{name}.bin\", \"{{outputs.o}}\"]\nfiles = [\"{name}.bin\"]\n\
             outputs = {{ o = \"file\" }}\n"
        );
        std::fs::write(folder.path().join(format!("{name}.toml")), text)?;
    }
    let b3sum = installed("b3sum")?;
    let (mut large, mut small, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        touch(&folder.path().join("large.bin"))?;
        large.push(run(&mut command(folder.path(), &["check", "large.toml"]))?.seconds);
        small.push(run(&mut command(folder.path(), &["check", "small.toml"]))?.seconds);
        if b3sum {
            other.push(run(Command::new("b3sum").arg(folder.path().join("large.bin")))?.seconds);
        }
    }
    let speed = |seconds: f64| SIZE as f64 / seconds;
    let own = speed(median(large) - median(small));
    if b3sum {
        let other = speed(median(other));
        let ratio = own / other;
        println!(
            "hashing {SIZE} GiB in the page cache: ratio of speeds {ratio:.2} \
             (wavecrest {own:.2} GiB/s, b3sum {other:.2} GiB/s); target: at least 0.9"
        );
    } else {
        println!("hashing {SIZE} GiB: b3sum is not installed: {own:.2} GiB/s without a comparison");
    }
    Ok(())
}

/// Writes bytes without a pattern, so that no file system saves itself the room or the reading.
fn write_noise(path: &Path, len: u64) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut state = 0_u64;
    for _ in 0..len / 8 {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        file.write_all(&(word ^ (word >> 31)).to_le_bytes())?;
    }
    // Or the system writes while others are timed.
    file.into_inner()?.sync_all()?;
    Ok(())
}

/// Makes the file look new: a tool that remembers hashes by times of files has to read it.
fn touch(path: &Path) -> Result<()> {
    File::options().write(true).open(path)?.set_modified(SystemTime::now())?;
    Ok(())
}

/// The room on the disk of a folder, in GiB.
fn free_disk(folder: &Path) -> Result<f64> {
    let ran = run(Command::new("df").arg("-Pk").arg(folder))?;
    let fields = ran.stdout.lines().nth(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let free = fields.as_deref().and_then(|fields| fields.get(3)?.parse::<f64>().ok());
    Ok(free.with_context(|| format!("no free room in\n{}", ran.stdout))? / f64::from(1 << 20))
}
