//! What a pre-training tells while it runs, and what it leaves.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::network::to_artifact;
use super::training::pause;
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::nn::simclr::{EpochRow, Pretrained, Progress, Step, Training};

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

/// Saves the encoder, the history and the metrics of the last epoch.
pub fn leave(cx: &mut Context<'_>, trained: &Pretrained) -> anyhow::Result<()> {
    let last = trained.rows.last().expect("there is at least one epoch");
    cx.metric("loss", last.train_loss)?;
    cx.metric("alignment", last.alignment)?;
    cx.metric("uniformity", last.uniformity)?;
    if let Some(loss) = last.held_out_loss {
        cx.metric("held_out_loss", loss)?;
    }
    cx.save_as("history", &history(&trained.rows))?;
    cx.save(&to_artifact(&trained.encoder)?)
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
