//! What a pre-training tells while it runs, and what it leaves.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::network::{to_artifact, with_projector};
use super::training::pause;
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::stage::{Violation, each, violations};
use crate::nn::simclr::{EpochRow, PretrainConfig, Pretrained, Progress, Step, Training};

/// The rules of parameters that all pre-trainings have.
pub fn rules(config: &PretrainConfig) -> Vec<Violation> {
    let PretrainConfig { encoder, projector, epochs, train_fraction, pace, .. } = config;
    let widths = "must hold 1 to 8 widths, each from 1 to 65536";
    let share = *train_fraction > 0.0 && *train_fraction <= 1.0;
    let mut broken = violations([
        ("projector", (1..=8).contains(&projector.len()), widths),
        ("epochs", (1..=1_000_000).contains(epochs), "must be from 1 to 1000000"),
        ("train_fraction", share, "must be above 0 and at most 1"),
        ("learning_rate", pace.learning_rate >= 0.0, "must be at least 0"),
        ("weight_decay", config.optimizer.weight_decay >= 0.0, "must be at least 0"),
        ("clip_norm", pace.clip_norm.is_none_or(|norm| norm > 0.0), "must be above 0"),
        ("accumulate", pace.accumulate >= 1, "must be at least 1"),
        (
            "schedule.cosine.warmup_epochs",
            pace.schedule.fits(*epochs),
            "must be from 0 to `epochs`",
        ),
    ]);
    broken.extend(self::broken(encoder.ranges()));
    broken.extend(ranges("objective", config.objective.ranges()));
    broken.extend(ranges("optimizer", config.optimizer.algorithm.ranges()));
    broken.extend(each("projector", projector, |width| (1..=65_536).contains(width), widths));
    broken
}

/// Those of some parameters that are out of their ranges.
pub fn broken(ranges: Vec<(&'static str, bool, &'static str)>) -> Vec<Violation> {
    let broken = ranges.into_iter().filter(|(_, holds, _)| !holds);
    broken.map(|(path, _, rule)| Violation::new(path, rule)).collect()
}

/// Those of the numbers of a parameter that are out of their ranges.
pub fn ranges(
    parameter: &str,
    ranges: Vec<(&'static str, bool, &'static str)>,
) -> impl Iterator<Item = Violation> {
    let broken = ranges.into_iter().filter(|(_, holds, _)| !holds);
    broken.map(move |(path, _, rule)| Violation::new(format!("{parameter}.{path}"), rule))
}

/// Watches a training of some epochs: tells how far it is, and where it could go on from.
pub fn watch<'c>(
    cx: &'c Context<'_>,
    epochs: usize,
) -> impl FnMut(Progress<'_>, &Training<'_>) -> ControlFlow<()> + Send + 'c {
    let mut pace = FrameRate::default();
    move |progress, training| {
        match progress {
            Progress::Step(step) => {
                let Step { epoch, loss, .. } = step;
                let share = step.step as f64 / step.steps as f64;
                let rate = pace.after(&step);
                cx.progress((epoch as f64 - 1.0 + share) / epochs as f64, || {
                    format!("epoch {epoch}/{epochs}  loss {loss:.4}{rate}")
                });
            }
            Progress::Epoch(row) => pace.end_epoch(row.epoch == epochs),
        }
        pause(cx, || Ok(Box::new(training.state()?)))
    }
}

/// Saves the encoder, with its projector of some widths if that is to be kept, the history and the metrics of the last
/// epoch.
pub fn leave(
    cx: &mut Context<'_>,
    trained: &Pretrained,
    projector: Option<&[usize]>,
) -> anyhow::Result<()> {
    let last = trained.rows.last().expect("there is at least one epoch");
    cx.metric("loss", last.train_loss)?;
    cx.metric("alignment", last.alignment)?;
    cx.metric("uniformity", last.uniformity)?;
    if let Some(loss) = last.held_out_loss {
        cx.metric("held_out_loss", loss)?;
    }
    cx.save_as("history", &history(&trained.rows))?;
    cx.save(&match projector {
        Some(widths) => with_projector(&trained.encoder, widths, &trained.projector)?,
        None => to_artifact(&trained.encoder)?,
    })
}

/// How fast frames are trained on. It is told to those who watch and kept nowhere, as it is no property of the result.
#[derive(Debug, Default)]
struct FrameRate {
    /// When the first step was done, and how many frames were seen by then.
    begin: Option<(Instant, usize)>,
    /// For how long the steps of this epoch have waited for their frames, and those of the epochs before.
    waited: [Duration; 2],
}

impl FrameRate {
    /// Tells how fast it has gone since the first step; nothing after that step itself.
    fn after(&mut self, step: &Step) -> String {
        self.waited[0] = step.waited;
        let (begin, before) = *self.begin.get_or_insert_with(|| (Instant::now(), step.frames_seen));
        let seconds = begin.elapsed().as_secs_f64();
        if step.frames_seen == before || seconds == 0.0 {
            return String::new();
        }
        format!("  {:.0} frames/s", (step.frames_seen - before) as f64 / seconds)
    }

    /// Adds an epoch up, and logs after the last one whether frames were there when steps asked for them.
    fn end_epoch(&mut self, last: bool) {
        let [epoch, before] = self.waited;
        self.waited = [Duration::ZERO, before + epoch];
        if let (true, Some((begin, _))) = (last, self.begin) {
            let (waited, all) = (self.waited[1].as_secs_f64(), begin.elapsed().as_secs_f64());
            tracing::info!("steps waited {waited:.2} s for their frames in {all:.2} s of training");
        }
    }
}

fn history(rows: &[EpochRow]) -> Table {
    Table::new()
        .counts("epoch", rows.iter().map(|r| r.epoch))
        .floats("loss", rows.iter().map(|r| r.train_loss))
        .maybe_floats("held_out_loss", rows.iter().map(|r| r.held_out_loss))
        .floats("alignment", rows.iter().map(|r| r.alignment))
        .floats("uniformity", rows.iter().map(|r| r.uniformity))
        .floats("gradient_norm", rows.iter().map(|r| r.gradient_norm))
        .floats("learning_rate", rows.iter().map(|r| r.learning_rate))
}
