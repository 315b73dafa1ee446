//! What the rows of a batch show: frames of a movie, or views of images.

use std::ops::Range;
use std::time::Duration;

use candle_core::{Device, Tensor};

use super::augment::views::Views;
use super::error::NnError;
use super::images::{Images, push_channels_last};
use super::loader::{Batches, LoaderConfig, load_ahead};
use super::sampler::Batch;

/// Frames to be trained on.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// Those of a movie, the same in each epoch.
    Frames(Images<'a>),
    /// Two views of each image, drawn anew in each epoch: frame 2 i + v is view v of image i.
    Views(Views<'a>),
}

impl<'a> From<Images<'a>> for Source<'a> {
    fn from(images: Images<'a>) -> Self {
        Self::Frames(images)
    }
}

impl<'a> From<Views<'a>> for Source<'a> {
    fn from(views: Views<'a>) -> Self {
        Self::Views(views)
    }
}

/// Yields the events of views: the two of an image are one.
pub fn view_events(images: usize) -> Vec<Range<usize>> {
    (0..images).map(|image| 2 * image..2 * image + 2).collect()
}

/// The epoch of which views are evaluated. Those that are trained on count from 1.
pub(super) const EVALUATION: usize = 0;

impl Source<'_> {
    /// Yields the height and width of what a network sees.
    pub(super) fn size(&self) -> [usize; 2] {
        match self {
            Self::Frames(images) => images.size(),
            Self::Views(views) => views.images().size(),
        }
    }

    /// Counts the frames.
    pub fn count(&self) -> usize {
        match self {
            Self::Frames(images) => images.count(),
            Self::Views(views) => 2 * views.count(),
        }
    }

    /// Fails if an event is not one of these frames.
    pub(super) fn check(&self, events: &[Range<usize>]) -> Result<(), NnError> {
        let frames = self.count();
        for (event, &Range { start, end }) in events.iter().enumerate() {
            if start > end || end > frames {
                return Err(NnError::EventOutOfRange { event, start, end, frames });
            }
        }
        Ok(())
    }

    /// Fills a buffer with frames as they are in an epoch: n×h×w×`channels`, gray ones repeated in each channel.
    pub fn fill(
        &self,
        epoch: usize,
        frames: &[usize],
        channels: usize,
        out: &mut Vec<f32>,
    ) -> Result<(), NnError> {
        match self {
            Self::Frames(images) => images.gather(frames, channels, out),
            Self::Views(views) => {
                views.images().check_channels(channels)?;
                let [height, width] = views.images().size();
                out.clear();
                out.reserve(frames.len() * height * width * channels);
                for frame in frames {
                    let view = views.view(epoch, frame / 2, frame % 2);
                    push_channels_last(&view, height * width, channels, out);
                }
                Ok(())
            }
        }
    }

    /// Gives `consume` the frames of batches as they are in an epoch, made ahead of their use on other threads.
    pub(super) fn load<R>(
        &self,
        epoch: usize,
        batches: &[Batch],
        channels: usize,
        device: &Device,
        consume: impl FnOnce(&mut Inputs<'_, '_>) -> R,
    ) -> R {
        let prepare =
            |at: usize, out: &mut Vec<f32>| self.fill(epoch, &batches[at].frames, channels, out);
        let [height, width] = self.size();
        let image = [height, width, channels];
        load_ahead(batches.len(), loader(device), &prepare, |batches| {
            consume(&mut Inputs { batches, image, device })
        })
    }
}

/// The inputs of a network, batch by batch.
#[derive(Debug)]
pub(super) struct Inputs<'l, 'scope> {
    batches: &'l mut Batches<'scope, NnError>,
    /// Height, width and channels.
    image: [usize; 3],
    device: &'l Device,
}

impl Inputs<'_, '_> {
    /// Yields the frames of the next batch, n×h×w×c; waits for them if they are not there yet.
    ///
    /// There are as many as batches were named.
    pub(super) fn take(&mut self) -> Result<Tensor, NnError> {
        let pixels = self.batches.next().expect("each batch is taken once")?;
        let [height, width, channels] = self.image;
        let frames = pixels.len() / (height * width * channels);
        Ok(Tensor::from_vec(pixels, (frames, height, width, channels), self.device)?)
    }

    /// Tells for how long batches were waited for.
    pub(super) fn waited(&self) -> Duration {
        self.batches.waited()
    }
}

/// Chooses the threads that make batches.
fn loader(device: &Device) -> LoaderConfig {
    let config = LoaderConfig::default();
    if device.is_cpu() {
        // The step takes all threads; more that prepare would only take turns with it.
        return config;
    }
    // A GPU's step leaves them all but the one that drives it.
    LoaderConfig { threads: rayon::current_num_threads().saturating_sub(1).max(1), ..config }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use rayon::ThreadPoolBuilder;

    use super::super::augment::Augmentation;
    use super::super::augment::tests::wave;
    use super::super::objective::{Objective, Temperature};
    use super::super::sampler::{Sampler, SamplerConfig};
    use super::super::simclr::tests::{SAMPLER, SIZE, config, movie};
    use super::super::simclr::{
        EpochRow, PretrainConfig, Pretrained, Progress, Training, pretrain,
    };
    use super::super::simclr_state::PretrainState;
    use super::*;
    use crate::rng::Streams;

    #[test]
    fn frames_of_views_are_pairs_drawn_anew_in_each_epoch() {
        let pixels = wave(3 * 3 * 6 * 5);
        let images = Images::new(&pixels, 3, 6, 5).unwrap();
        let views = Views::new(images, Augmentation::default(), &Streams::new(1, "test")).unwrap();
        let source = Source::from(views.clone());
        assert_eq!(source.count(), 6);
        let mut found = vec![9.0; 2];
        source.fill(4, &[5, 0], 3, &mut found).unwrap();
        let (first, second) = (views.view(4, 2, 1), views.view(4, 0, 0));
        let expected = |view: &[f32]| -> Vec<f32> {
            (0..30).flat_map(|at| [view[at], view[30 + at], view[60 + at]]).collect()
        };
        assert_eq!(found, [expected(&first), expected(&second)].concat());
        let mut other = Vec::new();
        source.fill(5, &[5, 0], 3, &mut other).unwrap();
        assert_ne!(found, other);
        let error = source.fill(4, &[0], 1, &mut found).unwrap_err();
        assert_eq!(error.to_string(), "images of 3 channels do not fit a network of 1");
    }

    #[test]
    fn frames_of_a_movie_are_the_same_in_each_epoch_and_gray_ones_repeated() {
        let pixels: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let source = Source::from(Images::gray(&pixels, 2, 2).unwrap());
        assert_eq!(source.count(), 3);
        let [mut first, mut second] = [vec![9.0], Vec::new()];
        source.fill(1, &[2, 0], 2, &mut first).unwrap();
        source.fill(2, &[2, 0], 2, &mut second).unwrap();
        assert_eq!(first, second);
        let values = [8.0, 9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 3.0].map(|v| [v, v]);
        assert_eq!(first, values.as_flattened());
    }

    #[test]
    fn batches_of_views_arrive_as_they_are_made_one_by_one() {
        let pixels = wave(5 * 6 * 7);
        let images = Images::gray(&pixels, 6, 7).unwrap();
        let streams = Streams::new(1, "test");
        let source = Source::from(Views::new(images, Augmentation::default(), &streams).unwrap());
        let config = SamplerConfig { batch_frames: 4, ..SAMPLER };
        let all: Vec<usize> = (0..5).collect();
        let sampler = Sampler::new(&view_events(5), &all, config, 2).unwrap();
        let batches = sampler.epoch(&streams, 1);
        assert_eq!(batches.iter().map(|batch| batch.frames.len()).collect::<Vec<_>>(), [4, 6]);
        source.load(3, &batches, 2, &Device::Cpu, |inputs| {
            for batch in &batches {
                let x = inputs.take().unwrap();
                assert_eq!(x.dims(), [batch.frames.len(), 6, 7, 2]);
                let mut expected = Vec::new();
                source.fill(3, &batch.frames, 2, &mut expected).unwrap();
                assert_eq!(x.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
            }
        });
    }

    /// Trains on views of bars, 24 gray images of 8×8, for some epochs.
    fn train(epochs: usize, from: Option<PretrainState>, stop: usize) -> Outcome {
        let (pixels, _) = movie(24);
        let bars: Vec<f32> =
            pixels.chunks_exact(640).flat_map(|event| event[256..320].to_vec()).collect();
        let images = Images::gray(&bars, SIZE, SIZE).unwrap();
        let streams = Streams::new(1, "test");
        let mild =
            Augmentation { crop_area: [0.5, 1.0], jitter_strength: 0.5, ..Default::default() };
        let config = PretrainConfig {
            objective: Objective::NtXent(Temperature::default()),
            sampler: SamplerConfig { batch_frames: 12, ..SAMPLER },
            epochs,
            ..config()
        };
        let (mut told, mut state) = (0, None);
        let mut observe = |_: Progress, training: &Training| {
            told += 1;
            if told == stop {
                state = Some(training.state().unwrap());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let views = Views::new(images, mild, &streams).unwrap();
        let events = view_events(24);
        let device = Device::Cpu;
        let result = pretrain(views, &events, &config, &streams, &device, from, &mut observe);
        (state, result)
    }

    type Outcome = (Option<PretrainState>, Result<Pretrained, NnError>);

    #[test]
    fn training_on_views_lowers_the_loss_and_aligns_them() {
        let rows = train(12, None, 0).1.unwrap().rows;
        let mean = |rows: &[EpochRow], value: &dyn Fn(&EpochRow) -> f64| {
            rows.iter().map(value).sum::<f64>() / rows.len() as f64
        };
        let (first, last) = (&rows[..3], &rows[9..]);
        let loss = |rows: &[EpochRow]| mean(rows, &|row| row.train_loss);
        let alignment = |rows: &[EpochRow]| mean(rows, &|row| row.alignment);
        assert!(loss(last) < loss(first), "{rows:?}");
        assert!(alignment(last) > alignment(first) + 0.1, "{rows:?}");
        // Six images are held out: too few for their loss to tell anything, but it is there.
        assert!(rows.iter().all(|row| row.held_out_loss.is_some()));
    }

    #[test]
    fn training_on_views_goes_on_to_the_same_values_with_any_number_of_threads() {
        let whole = train(2, None, 0).1.unwrap();
        let conv = |net: &Pretrained| {
            net.encoder.network.parameters.weights()["conv1.weight"]
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
        };
        for (threads, stop) in [(1, 1), (2, 2), (3, 4), (1, 5)] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let on = pool.install(|| train(2, train(2, None, stop).0, 0).1.unwrap());
            assert_eq!(on.rows, whole.rows, "{stop}");
            assert_eq!(conv(&on).unwrap(), conv(&whole).unwrap());
        }
    }

    #[test]
    fn the_two_views_of_an_image_are_an_event() {
        assert_eq!(view_events(3), [0..2, 2..4, 4..6]);
    }
}
