//! The time and memory of the kinds that read a movie in windows: frames a second, and the most memory so far.
//!
//! `cargo bench --bench movies`, or `-- FRAMES` for another number of frames than 240,000 (1 GB). Fails where the memory
//! is not bounded by windows.
#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use wavecrest::artifacts::movie_reader::MovieReader;
use wavecrest::rng::Streams;
use wavecrest::waves::calcium::{CalciumOptions, Relief, Segmenter};
use wavecrest::waves::events::{Segmentation, active_fraction, segment};
use wavecrest::waves::survey::{Survey, SurveyOptions};

const SIDE: usize = 32;

fn main() -> anyhow::Result<()> {
    let asked = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let frames: usize = asked.unwrap_or(240_000);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("movie.safetensors");
    write(&path, frames)?;
    let gigabytes = (frames * SIDE * SIDE * size_of::<f32>()) as f64 / 1e9;
    println!("{frames} frames of {SIDE} x {SIDE}, {gigabytes:.2} GB");
    let movie = MovieReader::open(&path)?;
    // Once before, so that all find the file in memory.
    movie.each_window(|_, _| Ok(()))?;
    measure("reading", frames, || {
        movie.each_window(|_, _| Ok(()))?;
        Ok(String::new())
    })?;
    measure("movie.segment", frames, || segmented(&movie))?;
    measure("movie.stats", frames, || surveyed(&movie))?;
    measure("movie.watershed, flat", frames, || parted(&movie, Relief::Flat))?;
    measure("movie.watershed, depth", frames, || parted(&movie, Relief::Depth { least: 1.0 }))?;
    let most = most_memory()?;
    anyhow::ensure!(most < 250.0, "{most:.0} MB of memory: not bounded by windows");
    Ok(())
}

fn measure(
    name: &str,
    frames: usize,
    run: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let found = run()?;
    let rate = frames as f64 / start.elapsed().as_secs_f64();
    let bandwidth = rate * (SIDE * SIDE * size_of::<f32>()) as f64 / 1e9;
    let most = most_memory()?;
    println!("{name}: {rate:.0} frames/s, {bandwidth:.2} GB/s, {most:.0} MB so far{found}");
    Ok(())
}

fn segmented(movie: &MovieReader) -> anyhow::Result<String> {
    let rule = Segmentation { threshold: 110.0, active_pixels: 1 };
    let mut active = Vec::with_capacity(movie.frames);
    movie.each_window(|_, window| {
        active.extend(window.chunks_exact(movie.size()).map(|frame| rule.is_active(frame)));
        Ok(())
    })?;
    let (events, share) = (segment(&active, 2).len(), active_fraction(&active));
    Ok(format!(" ({events} events, {:.0} % active)", 100.0 * share))
}

fn surveyed(movie: &MovieReader) -> anyhow::Result<String> {
    let options = SurveyOptions {
        rule: Segmentation { threshold: 110.0, active_pixels: 1 },
        smallest: 2,
        shortest_interval: 24,
        fronts: 6,
    };
    let mut survey = Survey::new(options, movie.frames, movie.height, movie.width);
    movie.each_window(|_, window| {
        survey.push(window);
        Ok(())
    })?;
    Ok(format!(" ({} waves)", survey.finish().waves.len()))
}

fn parted(movie: &MovieReader, relief: Relief) -> anyhow::Result<String> {
    let options = CalciumOptions { relief, blur: 1.0, threshold: 1.1, ..CalciumOptions::default() };
    let mut segmenter = Segmenter::new(options, movie.height, movie.width);
    movie.each_frame(|_, frame| Ok(segmenter.push(frame)?))?;
    Ok(format!(" ({} waves)", segmenter.finish()?.waves.len()))
}

/// Writes rings that grow over noise of light, one after the other with silence between, as much as simulated waves.
fn write(path: &Path, frames: usize) -> anyhow::Result<()> {
    let bytes = frames * SIDE * SIDE * size_of::<f32>();
    let header = format!(
        "{{\"__metadata__\":{{\"about\":\"{{\\\"rate_hz\\\":11.67,\\\"pitch_mm\\\":0.06}}\"}},\"frames\":\
         {{\"dtype\":\"F32\",\"shape\":[{frames},1,{SIDE},{SIDE}],\"data_offsets\":[0,{bytes}]}}}}"
    );
    #[expect(clippy::disallowed_methods, reason = "a file of the bench's own, gigabytes of it")]
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut stream = Streams::new(1, "bench").stream("movie");
    let mut center = [0.0; 2];
    let noise: Vec<f32> = (0..1 << 16).map(|_| stream.normal() as f32).collect();
    let mut frame = [0f32; SIDE * SIDE];
    for index in 0..frames {
        let since = (index % 150) as f64;
        if since == 0.0 {
            center = [0, 1].map(|_| SIDE as f64 * stream.uniform());
        }
        let shift = stream.below(1 << 15) as usize;
        for (at, value) in frame.iter_mut().enumerate() {
            let (y, x) = ((at / SIDE) as f64 - center[0], (at % SIDE) as f64 - center[1]);
            let late = since - 4.0 * (y * y + x * x).sqrt();
            let rise = if (0.0..12.0).contains(&late) { 30.0 } else { 0.0 };
            *value = 100.0 + rise + noise[shift + at];
        }
        file.write_all(bytemuck::cast_slice(&frame))?;
    }
    Ok(file.flush()?)
}

/// The most memory that this process has held, in MB, as Linux tells it.
fn most_memory() -> anyhow::Result<f64> {
    #[expect(clippy::disallowed_methods, reason = "no file of the disk")]
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes = kilobytes.ok_or_else(|| anyhow::anyhow!("no VmHWM in /proc/self/status"))?;
    Ok(kilobytes.trim().parse::<f64>()? / 1024.0)
}
