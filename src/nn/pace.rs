//! How large the steps of a training are, and of how many batches.

use super::error::NnError;
use super::schedule::Schedule;

/// How large steps are, and of how many batches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// The rate that the schedule scales, at least 0.
    pub learning_rate: f64,
    pub schedule: Schedule,
    /// Longer gradients are scaled down to this length, above 0.
    pub clip_norm: Option<f64>,
    /// Batches of a step, at least 1, whose gradients are averaged.
    ///
    /// Each batch has its own loss and its own statistics of batch norm, so this is no larger batch, which would have
    /// more negatives. What is left at the end of an epoch is a step of fewer batches, averaged over those.
    pub accumulate: usize,
}

impl Pace {
    /// Fails if a value is outside its range for a training of `epochs`.
    pub(super) fn check(&self, epochs: usize) -> Result<(), NnError> {
        let check = |name, holds: bool, condition, value: f64| {
            let error = NnError::InvalidValue { name, condition, value: value.to_string() };
            if holds { Ok(()) } else { Err(error) }
        };
        let (rate, most) = (self.learning_rate, self.clip_norm.unwrap_or(1.0));
        let is_rate = rate >= 0.0 && rate.is_finite();
        check("learning_rate", is_rate, "finite and at least 0", rate)?;
        check("clip_norm", most > 0.0 && most.is_finite(), "finite and above 0", most)?;
        check("accumulate", self.accumulate > 0, "at least 1", self.accumulate as f64)?;
        if self.schedule.fits(epochs) {
            return Ok(());
        }
        let (name, condition) = ("warmup_epochs", "must be from 0 to the number of epochs");
        Err(NnError::BrokenRule { name, condition })
    }
}

#[cfg(test)]
mod tests {
    use std::ops::{ControlFlow, Range};

    use candle_core::Device;

    use super::super::images::Images;
    use super::super::optimizer::sgd::Sgd;
    use super::super::optimizer::{Algorithm, OptimizerConfig};
    use super::super::sampler::{Order, SamplerConfig};
    use super::super::schedule::Cosine;
    use super::super::simclr::tests::{PACE, SAMPLER, SIZE, config, movie};
    use super::super::simclr::{EpochRow, PretrainConfig, Progress, Step, Training, pretrain};
    use super::*;
    use crate::rng::Streams;

    /// What a training by plain gradient descent came to.
    struct Trained {
        weights: Vec<f32>,
        rows: Vec<EpochRow>,
        steps: Vec<Step>,
    }

    /// Trains for some epochs on events of a movie, in their order and as often as they are named, two a batch.
    fn train(events: &[usize], epochs: usize, pace: Pace) -> Result<Trained, NnError> {
        let (pixels, _) = movie(4);
        let frames = Images::gray(&pixels, SIZE, SIZE).unwrap();
        let events: Vec<Range<usize>> = events.iter().map(|e| 10 * e..10 * e + 10).collect();
        let still = Sgd { momentum: 0.0, nesterov: false };
        let config = PretrainConfig {
            epochs,
            train_fraction: 1.0,
            sampler: SamplerConfig { batch_frames: 19, order: Order::File, ..SAMPLER },
            optimizer: OptimizerConfig { algorithm: Algorithm::Sgd(still), weight_decay: 0.0 },
            pace,
            ..config()
        };
        let mut steps = Vec::new();
        let mut observe = |progress: Progress, _: &Training| {
            if let Progress::Step(step) = progress {
                steps.push(step);
            }
            ControlFlow::Continue(())
        };
        let (streams, device) = (Streams::new(1, "test"), Device::Cpu);
        let trained = pretrain(frames, &events, &config, &streams, &device, None, &mut observe)?;
        let weights = trained.encoder.network.parameters.weights().values();
        let weights = weights.flat_map(|w| w.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        Ok(Trained { weights: weights.collect(), rows: trained.rows, steps })
    }

    /// A batch and the same once more have the gradient of that batch: the two halves are added and halved exactly.
    #[test]
    fn gradients_of_the_batches_of_a_step_are_averaged() {
        let once = train(&[0, 1, 3], 1, Pace { learning_rate: 0.1, ..PACE }).unwrap();
        let pace = Pace { learning_rate: 0.1, accumulate: 2, ..PACE };
        let twice = train(&[0, 1, 0, 1, 3], 1, pace).unwrap();
        assert!(once.weights == twice.weights);
        assert_eq!(once.rows[0].gradient_norm, twice.rows[0].gradient_norm);
        assert_eq!((twice.steps.len(), twice.steps[0].frames_seen), (1, 40));
        // Where nothing moves, what is seen of the batches does not depend on how they are grouped.
        let run = |accumulate| {
            let pace = Pace { learning_rate: 0.0, accumulate, ..PACE };
            train(&[0, 1, 2, 3, 0, 2, 0], 2, pace).unwrap()
        };
        let (one, two) = (run(1), run(2));
        assert_eq!(one.rows[1].train_loss, two.rows[1].train_loss);
        assert_eq!(one.rows[1].alignment, two.rows[1].alignment);
        assert!(one.rows[1].gradient_norm > two.rows[1].gradient_norm);
        let told = |t: &Trained| t.steps.iter().map(|s| (s.epoch, s.step, s.steps)).collect();
        let (one, two): (Vec<_>, Vec<_>) = (told(&one), told(&two));
        assert_eq!(one, [(1, 1, 3), (1, 2, 3), (1, 3, 3), (2, 1, 3), (2, 2, 3), (2, 3, 3)]);
        assert_eq!(two, [(1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 2)]);
    }

    #[test]
    fn long_gradients_are_clipped() {
        let run = |learning_rate, clip_norm| {
            train(&[0, 1, 3], 1, Pace { learning_rate, clip_norm, ..PACE }).unwrap()
        };
        let (still, free) = (run(0.0, None), run(0.1, None));
        let norm = free.rows[0].gradient_norm;
        let clipped = run(0.1, Some(norm / 4.0));
        assert_eq!(clipped.rows[0].gradient_norm, norm);
        assert!(run(0.1, Some(norm * 2.0)).weights == free.weights);
        // Each weight moves a quarter of the way.
        let moved = |to: &Trained| -> Vec<f64> {
            let pairs = to.weights.iter().zip(&still.weights);
            pairs.map(|(to, from)| f64::from(to - from)).collect()
        };
        let (far, near) = (moved(&free), moved(&clipped));
        assert!(far.iter().any(|far| far.abs() > 1e-3));
        for (far, near) in far.into_iter().zip(near) {
            assert!((near - far / 4.0).abs() < 1e-6 * (1.0 + far.abs()), "{far} {near}");
        }
    }

    #[test]
    fn each_step_has_the_rate_of_the_schedule() {
        let schedule = Schedule::Cosine(Cosine { warmup_epochs: 1.0 });
        let pace = Pace { learning_rate: 0.1, schedule, ..PACE };
        let trained = train(&[0, 1, 2, 3, 0], 3, pace).unwrap();
        let rates: Vec<f64> = trained.steps.iter().map(|step| step.learning_rate).collect();
        let fall = |share: f64| 0.05 * (1.0 + (std::f64::consts::PI * share).cos());
        for (found, expected) in
            rates.iter().zip([0.0, 0.05, 0.1, fall(0.25), fall(0.5), fall(0.75)])
        {
            assert!((found - expected).abs() < 1e-15, "{found} {expected}");
        }
        let rows: Vec<f64> = trained.rows.iter().map(|row| row.learning_rate).collect();
        assert_eq!(rows, [rates[1], rates[3], rates[5]]);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let message = |pace| train(&[0, 1, 2], 2, pace).err().unwrap().to_string();
        let clip = Pace { clip_norm: Some(0.0), ..PACE };
        assert_eq!(message(clip), "clip_norm must be finite and above 0, found 0");
        let none = Pace { accumulate: 0, ..PACE };
        assert_eq!(message(none), "accumulate must be at least 1, found 0");
        let backwards = Pace { learning_rate: -0.1, ..PACE };
        let rate = "learning_rate must be finite and at least 0, found -0.1";
        assert_eq!(message(backwards), rate);
        let long = Schedule::Cosine(Cosine { warmup_epochs: 3.0 });
        let warmup = "warmup_epochs must be from 0 to the number of epochs";
        assert_eq!(message(Pace { schedule: long, ..PACE }), warmup);
    }
}
