//! Events into batches for contrastive pre-training.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contrastive::Origins;
use super::error::NnError;
use crate::rng::Streams;

/// The order of events, and where a batch ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Events in an order drawn anew in each epoch, until a batch holds `batch_frames`; as in Ligeralde et al. 2023.
    #[default]
    Shuffled,
    /// Events as they lie in the file, the same batches in each epoch, as in the code of Ligeralde et al. 2023: a
    /// batch ends where it holds more than `batch_frames` and a multiple of 4 frames, and the last event is left out.
    File,
}

/// How large batches are, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerConfig {
    /// Frames at which a batch is full. Events are whole, so most batches hold more.
    pub batch_frames: usize,
    /// The longest run of frames that an event gives to an epoch, at least 2: a longer event gives a run at a
    /// random place, drawn anew in each epoch. Keeps batches small where events are long. None: whole events.
    pub max_event_frames: Option<usize>,
    pub order: Order,
    /// Whether each event gives exactly `max_event_frames` frames, so that none weighs more than another, and batches
    /// are equally large; shorter events are left out.
    pub balanced: bool,
}

/// Consecutive frames of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Index of the event.
    pub event: u32,
    /// The frames' indices in the movie.
    pub frames: Range<usize>,
}

/// The windows of one training step: of at least two events, with as many pairs of frames as the loss needs.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The movie's frame of each row.
    pub frames: Vec<usize>,
    events: Vec<u32>,
    positions: Vec<u32>,
    windows: usize,
    /// Disjoint pairs of frames that follow each other: half the frames of each window.
    pairs: usize,
}

impl Batch {
    /// Yields each row's event and frame within the event.
    pub fn origins(&self) -> Origins<'_> {
        Origins { events: &self.events, positions: &self.positions }
    }

    fn push(&mut self, window: &Window) {
        self.windows += 1;
        self.pairs += window.frames.len() / 2;
        self.events.extend(window.frames.clone().map(|_| window.event));
        self.positions.extend(0..window.frames.len() as u32);
        self.frames.extend(window.frames.clone());
    }

    fn append(&mut self, other: Self) {
        self.windows += other.windows;
        self.pairs += other.pairs;
        self.events.extend(other.events);
        self.positions.extend(other.positions);
        self.frames.extend(other.frames);
    }

    /// Tells whether there are two events and as many pairs as the loss needs.
    fn has_contrast(&self, pairs: usize) -> bool {
        self.windows > 1 && self.pairs >= pairs
    }
}

/// Draws the batches of an epoch from a set of events.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// Indices of the events drawn from, with their frames.
    events: Vec<Window>,
    config: SamplerConfig,
    pairs: usize,
}

impl Sampler {
    /// Prepares to draw from the events `chosen` among `events`, half-open ranges of a movie's frames.
    ///
    /// Each batch will hold `pairs` disjoint pairs of frames that follow each other, at least 1. Empty events are
    /// left out, as are those that the order and the balance leave out. Fails unless two events are left, and hold as
    /// many pairs.
    pub fn new(
        events: &[Range<usize>],
        chosen: &[usize],
        config: SamplerConfig,
        pairs: usize,
    ) -> Result<Self, NnError> {
        let check = |name, value: usize, least: usize, condition| {
            let error = NnError::InvalidValue { name, condition, value: value.to_string() };
            if value < least { Err(error) } else { Ok(()) }
        };
        check("batch_frames", config.batch_frames, 1, "at least 1")?;
        check("max_event_frames", config.max_event_frames.unwrap_or(2), 2, "at least 2")?;
        if config.balanced && config.max_event_frames.is_none() {
            let (name, condition) = ("max_event_frames", "is needed where events are balanced");
            return Err(NnError::BrokenRule { name, condition });
        }
        let least = config.max_event_frames.filter(|_| config.balanced).unwrap_or(1);
        let window = |&event: &usize| Window { event: event as u32, frames: events[event].clone() };
        let mut events: Vec<Window> =
            chosen.iter().map(window).filter(|w| w.frames.len() >= least).collect();
        if config.order == Order::File {
            events.pop();
        }
        if events.len() < 2 {
            return Err(NnError::TooFewEvents { found: events.len() });
        }
        let most = config.max_event_frames.unwrap_or(usize::MAX);
        let found: usize = events.iter().map(|w| w.frames.len().min(most) / 2).sum();
        match events.iter().find(|w| w.frames.len() > 1) {
            None => Err(NnError::NoPositives),
            Some(window) if found < pairs => Err(NnError::NoNegatives { event: window.event }),
            Some(_) => Ok(Self { events, config, pairs }),
        }
    }

    /// Draws an epoch's batches: each event once, in random order or that of the file.
    ///
    /// Events are added until a batch is full. What is left at the end is a smaller batch if it has a positive
    /// and a negative, else it joins the batch before (the paper's code would divide by zero). In the order of the
    /// file, nothing is drawn.
    pub fn epoch(&self, streams: &Streams, epoch: usize) -> Vec<Batch> {
        if self.config.order == Order::File {
            return self.in_order();
        }
        let order = streams.indexed("batches/order", epoch as u64).permutation(self.events.len());
        let mut starts = streams.indexed("batches/window", epoch as u64);
        // Windows are drawn in the order of the events, so that an order alone never moves one.
        let windows: Vec<Window> =
            self.events.iter().map(|w| self.cut(w, |slack| starts.below(slack + 1))).collect();
        self.group(order.into_iter().map(|event| &windows[event]))
    }

    /// Groups the events in their order, the long ones cut to their beginning: for losses that are comparable
    /// between epochs.
    pub fn in_order(&self) -> Vec<Batch> {
        let windows: Vec<Window> = self.events.iter().map(|w| self.cut(w, |_| 0)).collect();
        self.group(windows.iter())
    }

    fn cut(&self, event: &Window, mut start: impl FnMut(u64) -> u64) -> Window {
        let length = event.frames.len().min(self.config.max_event_frames.unwrap_or(usize::MAX));
        let start = event.frames.start + start((event.frames.len() - length) as u64) as usize;
        Window { event: event.event, frames: start..start + length }
    }

    fn is_full(&self, frames: usize) -> bool {
        match self.config.order {
            Order::Shuffled => frames >= self.config.batch_frames,
            Order::File => frames > self.config.batch_frames && frames.is_multiple_of(4),
        }
    }

    fn group<'a>(&self, windows: impl Iterator<Item = &'a Window>) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        let mut open = Batch::default();
        for window in windows {
            open.push(window);
            if self.is_full(open.frames.len()) && open.has_contrast(self.pairs) {
                batches.push(std::mem::take(&mut open));
            }
        }
        match batches.last_mut() {
            Some(last) if !open.has_contrast(self.pairs) => last.append(open),
            _ => batches.push(open),
        }
        batches
    }
}

/// Splits events at random into trained and held-out ones, both in ascending order.
pub fn split(
    events: usize,
    fraction: f64,
    streams: &Streams,
) -> Result<(Vec<usize>, Vec<usize>), NnError> {
    if !(fraction > 0.0 && fraction <= 1.0) {
        let (name, value) = ("train_fraction", fraction.to_string());
        return Err(NnError::InvalidValue { name, condition: "in (0, 1]", value });
    }
    let trained = (fraction * events as f64).round() as usize;
    let mut order = streams.stream("split").permutation(events);
    let mut held_out = order.split_off(trained.min(events));
    order.sort_unstable();
    held_out.sort_unstable();
    Ok((order, held_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler_of(
        pairs: usize,
        lengths: &[usize],
        batch_frames: usize,
        most: Option<usize>,
    ) -> Result<Sampler, NnError> {
        let mut events = Vec::new();
        for length in lengths {
            // Events lie apart by three frames.
            let start = events.last().map_or(5, |last: &Range<usize>| last.end + 3);
            events.push(start..start + length);
        }
        let all: Vec<usize> = (0..lengths.len()).collect();
        let config = SamplerConfig { batch_frames, max_event_frames: most, ..CONFIG };
        Sampler::new(&events, &all, config, pairs)
    }

    const CONFIG: SamplerConfig = SamplerConfig {
        batch_frames: 1,
        max_event_frames: None,
        order: Order::Shuffled,
        balanced: false,
    };

    /// A sampler of events of these lengths that follow each other.
    fn adjacent(lengths: &[usize], config: SamplerConfig) -> Result<Sampler, NnError> {
        let mut events = Vec::new();
        for length in lengths {
            let start = events.last().map_or(0, |last: &Range<usize>| last.end);
            events.push(start..start + length);
        }
        let all: Vec<usize> = (0..lengths.len()).collect();
        Sampler::new(&events, &all, config, 1)
    }

    fn sampler(
        lengths: &[usize],
        batch_frames: usize,
        most: Option<usize>,
    ) -> Result<Sampler, NnError> {
        sampler_of(1, lengths, batch_frames, most)
    }

    #[test]
    fn each_event_is_visited_once_whole() {
        let lengths = [7, 1, 30, 2, 2, 9, 14, 1, 3, 5];
        let sampler = sampler(&lengths, 20, None).unwrap();
        let streams = Streams::new(1, "test");
        for epoch in 0..20 {
            let batches = sampler.epoch(&streams, epoch);
            let mut frames: Vec<usize> = batches.iter().flat_map(|b| b.frames.clone()).collect();
            frames.sort_unstable();
            let expected: Vec<usize> =
                sampler.events.iter().flat_map(|w| w.frames.clone()).collect();
            assert_eq!(frames, expected, "epoch {epoch}");
            for (i, batch) in batches.iter().enumerate() {
                assert!(
                    batch.has_contrast(1) && (i + 1 == batches.len() || batch.frames.len() >= 20)
                );
                for (row, frame) in batch.frames.iter().enumerate() {
                    let event = &sampler.events[batch.events[row] as usize];
                    assert_eq!(event.frames.start + batch.positions[row] as usize, *frame);
                }
            }
        }
        let frames = |epoch| -> Vec<usize> { sampler.epoch(&streams, epoch)[0].frames.clone() };
        assert_eq!(frames(3), frames(3));
        assert_ne!(frames(3), frames(4));
    }

    #[test]
    fn long_events_give_a_window_anywhere() {
        let sampler = sampler(&[10, 3, 40], 8, Some(4)).unwrap();
        let mut starts = Vec::new();
        for epoch in 0..200 {
            for batch in sampler.epoch(&Streams::new(1, "test"), epoch) {
                for event in 0..3 {
                    let of_event = |row: &usize| batch.events[*row] == event;
                    let rows: Vec<usize> = (0..batch.frames.len()).filter(of_event).collect();
                    let Some(first) = rows.first() else { continue };
                    let within = &sampler.events[event as usize].frames;
                    assert_eq!(rows.len(), within.len().min(4));
                    assert!(rows.iter().all(|row| within.contains(&batch.frames[*row])));
                    assert!(rows.windows(2).all(|r| batch.frames[r[1]] == batch.frames[r[0]] + 1));
                    if event == 0 {
                        starts.push(batch.frames[*first] - within.start);
                    }
                }
            }
        }
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(sampler.in_order()[0].frames, [5, 6, 7, 8, 18, 19, 20, 24, 25, 26, 27]);
    }

    #[test]
    fn a_rest_without_contrast_joins_the_batch_before() {
        let sizes = |lengths: &[usize], batch| -> Vec<usize> {
            sampler(lengths, batch, None)
                .unwrap()
                .in_order()
                .iter()
                .map(|b| b.frames.len())
                .collect()
        };
        assert_eq!(sizes(&[3, 3, 3, 3, 3], 6), [6, 9]);
        assert_eq!(sizes(&[3, 3, 1, 1], 6), [8]);
        assert_eq!(sizes(&[3, 3, 1, 2], 6), [6, 3]);
        // One long event is no batch: it has no negatives.
        assert_eq!(sizes(&[50, 2, 2, 2], 6), [52, 4]);
        assert_eq!(sizes(&[2, 1], 100), [3]);
    }

    #[test]
    fn every_batch_has_the_pairs_that_the_loss_needs() {
        // In some orders the events of 3 and 1 frames come first: full at 4 frames, but with one pair only.
        let sampler = sampler_of(2, &[3, 1, 2, 1, 3], 4, None).unwrap();
        for epoch in 0..50 {
            for batch in sampler.epoch(&Streams::new(1, "test"), epoch) {
                assert!(batch.has_contrast(2), "epoch {epoch}: {batch:?}");
            }
        }
        let sizes = |pairs, lengths: &[usize]| -> Vec<usize> {
            let sampler = sampler_of(pairs, lengths, 4, None).unwrap();
            sampler.in_order().iter().map(|b| b.frames.len()).collect()
        };
        assert_eq!(sizes(1, &[3, 1, 3, 1]), [4, 4]);
        assert_eq!(sizes(2, &[3, 1, 3, 1]), [8]);
        assert_eq!(sizes(2, &[5, 1, 3, 1]), [10]);
        for (lengths, most) in [(&[3, 1][..], None), (&[9, 1], Some(3))] {
            let error = sampler_of(2, lengths, 4, most).unwrap_err();
            assert!(matches!(error, NnError::NoNegatives { event: 0 }), "{error}");
        }
    }

    /// What the published code makes of these lengths, worked through by hand.
    #[test]
    fn the_order_of_the_file_is_that_of_the_published_code() {
        let sizes = |lengths: &[usize], batch_frames| -> Vec<usize> {
            let config = SamplerConfig { batch_frames, order: Order::File, ..CONFIG };
            let sampler = adjacent(lengths, config).unwrap();
            let batches = sampler.epoch(&Streams::new(1, "test"), 1);
            let frames: Vec<usize> = batches.iter().flat_map(|b| b.frames.clone()).collect();
            let kept: usize = lengths[..lengths.len() - 1].iter().sum();
            assert_eq!(frames, (0..kept).collect::<Vec<_>>());
            batches.iter().map(|b| b.frames.len()).collect()
        };
        // 8 is a multiple of 4 but not more than 8; 11 is more but no multiple; 16 is both. The last 9 are lost.
        assert_eq!(sizes(&[5, 3, 3, 5, 6, 2, 9], 8), [16, 8]);
        // The rest is a batch whatever its size, but for one without contrast.
        assert_eq!(sizes(&[6, 6, 3, 2, 9], 8), [12, 5]);
        assert_eq!(sizes(&[6, 6, 5, 9], 8), [17]);
        let config = SamplerConfig { order: Order::File, ..CONFIG };
        let error = adjacent(&[4, 4], config).unwrap_err();
        assert!(matches!(error, NnError::TooFewEvents { found: 1 }), "{error}");
    }

    #[test]
    fn balanced_events_give_the_same_number_of_frames() {
        let config =
            SamplerConfig { batch_frames: 6, max_event_frames: Some(3), balanced: true, ..CONFIG };
        let sampler = adjacent(&[10, 2, 3, 40, 1, 5], config).unwrap();
        for epoch in 0..20 {
            let batches = sampler.epoch(&Streams::new(1, "test"), epoch);
            assert_eq!(batches.iter().map(|b| b.frames.len()).collect::<Vec<_>>(), [6, 6]);
            let mut events: Vec<u32> = batches.iter().flat_map(|b| b.events.clone()).collect();
            events.sort_unstable();
            assert_eq!(events, [0, 0, 0, 2, 2, 2, 3, 3, 3, 5, 5, 5]);
        }
        let error = adjacent(&[10, 2, 2], config).unwrap_err();
        assert!(matches!(error, NnError::TooFewEvents { found: 1 }), "{error}");
        let whole = SamplerConfig { max_event_frames: None, ..config };
        let error = adjacent(&[10, 9], whole).unwrap_err().to_string();
        assert_eq!(error, "max_event_frames is needed where events are balanced");
    }

    #[test]
    fn events_without_contrast_are_refused() {
        let message = |lengths: &[usize]| sampler(lengths, 4, None).unwrap_err().to_string();
        assert_eq!(message(&[9]), "contrastive pre-training needs at least 2 events, found 1");
        assert_eq!(message(&[9, 0]), "contrastive pre-training needs at least 2 events, found 1");
        assert_eq!(message(&[1, 1]), "no event has two frames, so no frame has a positive");
        let error = sampler(&[9, 9], 4, Some(1)).unwrap_err().to_string();
        assert_eq!(error, "max_event_frames must be at least 2, found 1");
    }
}
