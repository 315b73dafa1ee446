//! Contrastive pre-training of an encoder on the events of a movie.

use std::ops::{ControlFlow, Range};
use std::time::Duration;

use candle_core::{DType, Device, Tensor};

use super::contrastive::{alignment, uniformity};
use super::encoder::{EncoderConfig, EncoderNetwork};
use super::error::NnError;
use super::layers::{Mode, normalize_rows};
use super::memory::Demand;
use super::network::Network;
use super::objective::Objective;
use super::optimizer::gradients::{add, clip_scale, gradient_norm};
use super::optimizer::{Optimizer, OptimizerConfig};
use super::pace::Pace;
use super::passes::Passes;
use super::precision::Precision;
use super::projector::projector;
use super::sampler::{Batch, Sampler, SamplerConfig, split};
use super::simclr_state::{PretrainState, Reached, Seen};
use super::source::{EVALUATION, Inputs, Source};
use super::tape::Gradients;
use crate::rng::Streams;

/// The parameters of pre-training.
#[derive(Clone, Debug, PartialEq)]
pub struct PretrainConfig {
    pub encoder: EncoderConfig,
    /// Widths of the projector's layers, the last one included.
    pub projector: Vec<usize>,
    pub objective: Objective,
    pub epochs: usize,
    pub sampler: SamplerConfig,
    /// Share of the events, in (0, 1], that is trained on; the others give the held-out loss.
    pub train_fraction: f64,
    pub optimizer: OptimizerConfig,
    pub pace: Pace,
    /// Of the products in training steps; losses in evaluation mode are of `F32`, or of `Tf32` if that is it.
    pub precision: Precision,
}

/// What an epoch came to. Training values are averages over its steps, weighted by their anchors.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochRow {
    /// Counted from 1.
    pub epoch: usize,
    pub train_loss: f64,
    /// Mean cosine of neighboring frames, in [−1, 1].
    pub alignment: f64,
    /// ln of the mean of exp(−2‖a − b‖²) over pairs of embedded frames, in [−8, 0].
    pub uniformity: f64,
    /// Euclidean length of the gradient of all weights, before it is clipped.
    pub gradient_norm: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// The loss in evaluation mode on events that are not trained on, if there are two or more.
    pub held_out_loss: Option<f64>,
}

/// What an observer is told.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A training step is done.
    Step(Step),
    /// An epoch is done.
    Epoch(&'a EpochRow),
}

/// One training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Counted from 1.
    pub epoch: usize,
    /// Counted from 1 within the epoch.
    pub step: usize,
    /// Steps of this epoch.
    pub steps: usize,
    /// The loss before the step.
    pub loss: f64,
    pub learning_rate: f64,
    /// Frames seen since the beginning, over all epochs.
    pub frames_seen: usize,
    /// For how long steps have waited for their frames since the epoch began here.
    pub waited: Duration,
}

/// A pre-trained encoder and how it came about.
#[derive(Debug)]
pub struct Pretrained {
    pub encoder: EncoderNetwork,
    /// The head that the loss looked through.
    pub projector: Network,
    pub rows: Vec<EpochRow>,
}

/// Trains an encoder so that neighboring frames of an event are alike and frames of other events are not.
///
/// `source` are the frames of a movie, gray or of the encoder's channels, in [0, 1], or views of images, of which each
/// pair is an event ([`view_events`](super::source::view_events)); `events` are half-open ranges of frames. The
/// events are split at random into trained and held-out ones (stream `split`). Training goes on `from` where it was.
/// The observer is called after each step and each epoch, with the training that it may take the state of, and ends
/// it with [`NnError::Cancelled`] if it breaks. Fails at the first loss or gradient that is not finite.
pub fn pretrain<'a>(
    source: impl Into<Source<'a>>,
    events: &[Range<usize>],
    config: &PretrainConfig,
    streams: &Streams,
    device: &Device,
    from: Option<PretrainState>,
    observe: &mut (dyn FnMut(Progress, &Training) -> ControlFlow<()> + Send),
) -> Result<Pretrained, NnError> {
    // Within the pool: a parallel loop that is started outside of it costs a wake-up of another thread, and a
    // step has hundreds.
    let source = source.into();
    rayon::scope(|_| pretrain_in_pool(&source, events, config, streams, device, from, observe))
}

fn pretrain_in_pool(
    source: &Source,
    events: &[Range<usize>],
    config: &PretrainConfig,
    streams: &Streams,
    device: &Device,
    from: Option<PretrainState>,
    observe: &mut dyn FnMut(Progress, &Training) -> ControlFlow<()>,
) -> Result<Pretrained, NnError> {
    source.check(events)?;
    config.pace.check(config.epochs)?;
    let _held = config.precision.hold_on(device)?;
    let (trained, held_out) = split(events.len(), config.train_fraction, streams)?;
    let sampler =
        |chosen: &[usize]| Sampler::new(events, chosen, config.sampler, config.objective.pairs());
    // Too few held-out events to contrast are no error: they only leave their loss unknown.
    let held_out = sampler(&held_out).map_or(vec![], |s| s.in_order());
    let sampler = sampler(&trained)?;
    let mut training = Training::new(source, config, streams, device)?;
    if let Some(state) = from {
        training.restore(state)?;
    }
    while training.reached.rows.len() < config.epochs {
        let epoch = training.reached.rows.len() + 1;
        let mut row = training.epoch(epoch, &sampler.epoch(streams, epoch), observe)?;
        row.held_out_loss = training.evaluate(epoch, &held_out)?;
        training.reached.end_epoch(row.clone());
        training.tell(Progress::Epoch(&row), observe)?;
    }
    let Training { encoder, projector, reached, .. } = training;
    Ok(Pretrained { encoder, projector, rows: reached.rows })
}

/// A training under way.
#[derive(Debug)]
pub struct Training<'a> {
    source: &'a Source<'a>,
    objective: Objective,
    pace: Pace,
    epochs: usize,
    device: &'a Device,
    pub(super) encoder: EncoderNetwork,
    pub(super) projector: Network,
    pub(super) passes: Passes,
    pub(super) optimizer: Optimizer,
    pub(super) reached: Reached,
}

impl<'a> Training<'a> {
    fn new(
        source: &'a Source<'a>,
        config: &PretrainConfig,
        streams: &Streams,
        device: &'a Device,
    ) -> Result<Self, NnError> {
        let encoder = EncoderNetwork::new(config.encoder, streams, device, DType::F32)?;
        encoder.check_size(source.size())?;
        let projector =
            projector(encoder.features(), &config.projector, streams, device, DType::F32)?;
        let networks = [&encoder.network, &projector];
        let weights = networks.iter().flat_map(|network| network.parameters.weights());
        let weights = weights.map(|(name, var)| (name.clone(), var.clone()));
        let optimizer = Optimizer::new(config.optimizer, weights)?;
        let (objective, pace, epochs) = (config.objective, config.pace, config.epochs);
        let reached = Reached::default();
        let passes = Passes::new(config.precision);
        Ok(Self {
            source,
            objective,
            pace,
            epochs,
            device,
            encoder,
            projector,
            passes,
            optimizer,
            reached,
        })
    }

    fn tell(
        &self,
        progress: Progress,
        observe: &mut dyn FnMut(Progress, &Training) -> ControlFlow<()>,
    ) -> Result<(), NnError> {
        if observe(progress, self).is_break() { Err(NnError::Cancelled) } else { Ok(()) }
    }

    fn epoch(
        &mut self,
        epoch: usize,
        batches: &[Batch],
        observe: &mut dyn FnMut(Progress, &Training) -> ControlFlow<()>,
    ) -> Result<EpochRow, NnError> {
        let steps = batches.len().div_ceil(self.pace.accumulate);
        let Training { source, pace, epochs, device, .. } = *self;
        let rate_of = |step: usize| {
            let done = (epoch - 1) as f64 + (step - 1) as f64 / steps as f64;
            pace.schedule.rate(pace.learning_rate, done, epochs)
        };
        let done = self.reached.steps * pace.accumulate;
        let rest = &batches[done.min(batches.len())..];
        let channels = self.encoder.config.channels;
        source.load(epoch, rest, channels, device, |inputs| {
            for batches in rest.chunks(pace.accumulate) {
                let step = self.reached.steps + 1;
                let learning_rate = rate_of(step);
                let loss = self.step(epoch, step, batches, inputs, learning_rate)?;
                let frames_seen = self.reached.frames_seen;
                let waited = inputs.waited();
                let step = Step { epoch, step, steps, loss, learning_rate, frames_seen, waited };
                self.tell(Progress::Step(step), observe)?;
            }
            Ok::<_, NnError>(())
        })?;
        let Reached { sums, anchors, .. } = self.reached;
        let [train_loss, alignment, uniformity, gradient_norm] = sums.map(|sum| sum / anchors);
        Ok(EpochRow {
            epoch,
            train_loss,
            alignment,
            uniformity,
            gradient_norm,
            learning_rate: rate_of(steps),
            held_out_loss: None,
        })
    }

    /// Takes one step, on one batch or the mean over several. Yields the mean loss of their anchors before it.
    fn step(
        &mut self,
        epoch: usize,
        step: usize,
        batches: &[Batch],
        inputs: &mut Inputs<'_, '_>,
        learning_rate: f64,
    ) -> Result<f64, NnError> {
        let (mut sum, mut seen) = (Gradients::new(), Vec::new());
        for batch in batches {
            seen.push(self.differentiate(epoch, step, batch, inputs)?);
            if batches.len() > 1 {
                add(&mut sum, self.passes.gradients())?;
            }
        }
        let gradients = if batches.len() > 1 { &sum } else { self.passes.gradients() };
        let share = 1.0 / batches.len() as f64;
        let norm = share * gradient_norm(gradients)?;
        check_finite("the gradient", norm, epoch, step)?;
        let scale = share * clip_scale(norm, self.pace.clip_norm);
        self.optimizer.step(gradients, learning_rate, scale)?;
        self.reached.end_step(&seen, norm);
        let anchors: f64 = seen.iter().map(|s| s.anchors).sum();
        Ok(seen.iter().map(|s| s.anchors * s.loss).sum::<f64>() / anchors)
    }

    /// Computes the gradients of a batch's loss, which the passes hold then. Yields what is seen of the batch.
    fn differentiate(
        &mut self,
        epoch: usize,
        step: usize,
        batch: &Batch,
        inputs: &mut Inputs<'_, '_>,
    ) -> Result<Seen, NnError> {
        let networks = [&self.encoder.network, &self.projector];
        let x = inputs.take()?;
        let moments = self.optimizer.moments();
        let demand = Demand { networks: &networks, batch: x.dims4()?.into(), moments };
        let passed = self.passes.step(&networks, &x, &|y| self.objective.loss(y, batch.origins()));
        let passed = passed.map_err(|error| demand.explain(error, self.device))?;
        let (loss, anchors) = (scalar(&passed.loss.loss)?, passed.loss.anchors as f64);
        check_finite("the loss", loss, epoch, step)?;
        let z = normalize_rows(&passed.y)?;
        let (alignment, uniformity) = (alignment(&z, batch.origins())?, uniformity(&z)?);
        Ok(Seen { loss, alignment, uniformity, anchors, frames: batch.frames.len() })
    }

    /// Averages the loss in evaluation mode over the anchors of some batches.
    fn evaluate(&self, epoch: usize, batches: &[Batch]) -> Result<Option<f64>, NnError> {
        let channels = self.encoder.config.channels;
        // The same views after each epoch, so that the losses can be compared.
        self.source.load(EVALUATION, batches, channels, self.device, |inputs| {
            let (mut sum, mut anchors) = (0.0, 0.0);
            for (i, batch) in batches.iter().enumerate() {
                let features = self.encoder.forward(&inputs.take()?, Mode::Evaluate)?;
                let y = self.projector.forward(&features, Mode::Evaluate)?;
                let contrast = self.objective.loss(&y, batch.origins())?;
                let loss = scalar(&contrast.loss)?;
                check_finite("the held-out loss", loss, epoch, i + 1)?;
                sum += loss * contrast.anchors as f64;
                anchors += contrast.anchors as f64;
            }
            Ok((anchors > 0.0).then(|| sum / anchors))
        })
    }
}

fn scalar(x: &Tensor) -> Result<f64, NnError> {
    Ok(x.to_dtype(DType::F64)?.to_scalar()?)
}

fn check_finite(what: &'static str, value: f64, epoch: usize, step: usize) -> Result<(), NnError> {
    if value.is_finite() { Ok(()) } else { Err(NnError::NotFinite { what, epoch, step, value }) }
}

#[cfg(test)]
pub(super) mod tests {
    use rayon::ThreadPoolBuilder;

    use super::super::images::Images;
    use super::super::mmcr::Mmcr;
    use super::super::noncontrastive::{BarlowTwins, Vicreg};
    use super::super::objective::{Temperature, WaveContrast};
    use super::super::sampler::Order;
    use super::super::schedule::Schedule;
    use super::*;

    pub(crate) const SIZE: usize = 8;

    /// Events of ten frames; each is a bar of its own orientation that drifts across the image.
    pub(crate) fn movie(events: usize) -> (Vec<f32>, Vec<Range<usize>>) {
        let mut noise = Streams::new(9, "test").stream("movie");
        let mut pixels = Vec::new();
        for event in 0..events {
            let angle = event as f64 * 0.7;
            for frame in 0..10 {
                for at in 0..SIZE * SIZE {
                    let (y, x) = ((at / SIZE) as f64 - 3.5, (at % SIZE) as f64 - 3.5);
                    let distance = x * angle.cos() + y * angle.sin() - 0.6 * (frame as f64 - 5.0);
                    pixels
                        .push(((-distance * distance).exp() * 0.9 + 0.1 * noise.uniform()) as f32);
                }
            }
        }
        (pixels, (0..events).map(|event| 10 * event..10 * event + 10).collect())
    }

    pub(crate) fn config() -> PretrainConfig {
        PretrainConfig {
            encoder: EncoderConfig { width: 4, channels: 1, ..EncoderConfig::default() },
            projector: vec![16, 8],
            objective: Objective::default(),
            epochs: 15,
            sampler: SAMPLER,
            train_fraction: 0.75,
            optimizer: OptimizerConfig { weight_decay: 1e-6, ..Default::default() },
            pace: PACE,
            precision: Precision::F32,
        }
    }

    pub(crate) const SAMPLER: SamplerConfig = SamplerConfig {
        batch_frames: 40,
        max_event_frames: None,
        order: Order::Shuffled,
        balanced: false,
    };

    pub(crate) const PACE: Pace =
        Pace { learning_rate: 3e-3, schedule: Schedule::Constant, clip_norm: None, accumulate: 1 };

    fn run(config: &PretrainConfig) -> Result<Pretrained, NnError> {
        let (pixels, events) = movie(16);
        let frames = Images::gray(&pixels, SIZE, SIZE).unwrap();
        let streams = Streams::new(1, "test");
        pretrain(frames, &events, config, &streams, &Device::Cpu, None, &mut |_, _| {
            ControlFlow::Continue(())
        })
    }

    #[test]
    fn training_lowers_the_loss_and_aligns_neighbors() {
        let rows = run(&config()).unwrap().rows;
        let (first, last) = (&rows[0], &rows[14]);
        assert!(last.train_loss < first.train_loss - 0.5, "{first:?} {last:?}");
        assert!(last.held_out_loss.unwrap() < first.held_out_loss.unwrap(), "{first:?} {last:?}");
        assert!(last.alignment > first.alignment && last.alignment <= 1.0 && last.uniformity < 0.0);
        assert!(rows.iter().all(|row| row.gradient_norm > 0.0));
    }

    #[test]
    fn one_and_two_threads_give_the_same_bits() {
        let bits = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut result = run(&PretrainConfig { epochs: 2, ..config() }).unwrap();
                let tensors = result.encoder.network.parameters.to_tensors().unwrap();
                let values: Vec<f32> = tensors
                    .values()
                    .flat_map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
                    .collect();
                let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
                (bits, result.rows.pop().unwrap())
            })
        };
        assert!(bits(1) == bits(2));
    }

    /// Short events: some orders would close a batch with a single pair, which NT-Xent cannot contrast.
    #[test]
    fn short_events_train_with_every_objective() {
        let (pixels, _) = movie(4);
        let frames = Images::gray(&pixels, SIZE, SIZE).unwrap();
        let mut events: Vec<Range<usize>> = Vec::new();
        for length in [3, 1, 3, 1, 2, 3, 1, 3, 1, 2] {
            let start = events.last().map_or(0, |last| last.end + 1);
            events.push(start..start + length);
        }
        for objective in [
            Objective::WaveContrast(WaveContrast { neighbors: 2, ..WaveContrast::default() }),
            Objective::NtXent(Temperature::default()),
            Objective::BarlowTwins(BarlowTwins::default()),
            Objective::Vicreg(Vicreg::default()),
            Objective::Mmcr(Mmcr::default()),
        ] {
            let sampler = SamplerConfig { batch_frames: 4, ..SAMPLER };
            let config =
                PretrainConfig { objective, sampler, epochs: 20, train_fraction: 0.6, ..config() };
            let streams = Streams::new(1, "test");
            let mut observe = |_: Progress, _: &Training| ControlFlow::Continue(());
            let trained =
                pretrain(frames, &events, &config, &streams, &Device::Cpu, None, &mut observe)
                    .unwrap();
            assert!(trained.rows.iter().all(|row| row.held_out_loss.is_some()), "{objective:?}");
        }
    }

    #[test]
    fn an_observer_counts_and_cancels() {
        let (pixels, events) = movie(8);
        let frames = Images::gray(&pixels, SIZE, SIZE).unwrap();
        let mut seen = Vec::new();
        let mut observe = |progress: Progress, _: &Training| {
            if let Progress::Step(step) = progress {
                seen.push((step.epoch, step.step, step.steps, step.frames_seen));
            }
            if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let config = PretrainConfig { train_fraction: 1.0, ..config() };
        let streams = Streams::new(1, "test");
        let result = pretrain(frames, &events, &config, &streams, &Device::Cpu, None, &mut observe);
        assert!(matches!(result.unwrap_err(), NnError::Cancelled));
        assert_eq!(seen, [(1, 1, 2, 40), (1, 2, 2, 80), (2, 1, 2, 120)]);
    }

    #[test]
    fn a_step_that_blows_up_is_named() {
        let pace = Pace { learning_rate: 1e30, ..PACE };
        let error = run(&PretrainConfig { pace, ..config() }).unwrap_err().to_string();
        assert!(error.contains("is not finite at step") && error.contains("of epoch 1"), "{error}");
    }

    #[test]
    fn bad_inputs_are_refused() {
        let (pixels, mut events) = movie(4);
        let frames = Images::gray(&pixels, SIZE, SIZE).unwrap();
        let message = |events: &[Range<usize>], config: &PretrainConfig| {
            let mut observe = |_: Progress, _: &Training| ControlFlow::Continue(());
            let streams = Streams::new(1, "test");
            pretrain(frames, events, config, &streams, &Device::Cpu, None, &mut observe)
                .unwrap_err()
                .to_string()
        };
        let fraction = |train_fraction| PretrainConfig { train_fraction, ..config() };
        assert_eq!(message(&events, &fraction(0.0)), "train_fraction must be in (0, 1], found 0");
        assert_eq!(
            message(&events, &fraction(0.25)),
            "contrastive pre-training needs at least 2 events, found 1"
        );
        events[2] = 35..41;
        assert_eq!(
            message(&events, &config()),
            "event 2 spans frames 35..41, but the movie has 40"
        );
    }
}
