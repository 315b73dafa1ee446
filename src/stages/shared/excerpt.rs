//! Some frames of a movie, chosen to be looked at.

use super::film;
use crate::artifacts::events::Events;
use crate::engine::failure::Failure;
use crate::engine::stage::Violation;

/// Which frames are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Only those of this event.
    pub event: Option<usize>,
    /// The first, counted from that of the event or movie.
    pub first: usize,
    /// Number of frames in which to choose; all that follow where absent.
    pub frames: Option<usize>,
    /// Each `every`-th is taken.
    pub every: usize,
}

impl Excerpt {
    /// Rules that do not hold; `has_events` says whether there are events to choose from.
    pub fn check(&self, has_events: bool) -> Vec<Violation> {
        let rules = [
            ("every", self.every > 0, "must be at least 1"),
            ("frames", self.frames.is_none_or(|frames| frames > 0), "must be at least 1"),
            ("event", self.event.is_none() || has_events, "needs `events`"),
        ];
        crate::engine::stage::violations(rules)
    }

    /// Returns the frames that are taken of a movie of so many; fails where there are none.
    pub fn of(&self, total: usize, events: Option<&Events>) -> Result<Vec<usize>, Failure> {
        let ranges = events.map(|events| film::ranges(events, total)).transpose()?;
        let (range, within) = match (self.event, ranges) {
            (Some(event), Some(ranges)) => {
                let count = ranges.len();
                let range = ranges.into_iter().nth(event).ok_or_else(|| {
                    Failure::user(format!("there is no event {event}: the movie has {count}"))
                        .hint("events are counted from 0; the table `durations` of `movie.segment` lists them")
                })?;
                (range, format!("event {event}"))
            }
            _ => (0..total, "the movie".to_owned()),
        };
        let length = range.len();
        let end = self.frames.map_or(range.end, |frames| {
            range.end.min(range.start.saturating_add(self.first).saturating_add(frames))
        });
        let start = range.start.saturating_add(self.first);
        let taken: Vec<usize> = (start..end).step_by(self.every.max(1)).collect();
        if taken.is_empty() {
            let found = format!("there is no frame from {} on: {within} has {length}", self.first);
            return Err(
                Failure::user(found).hint("frames are counted from 0; give a smaller `first`")
            );
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_from_where_they_are_chosen_in() {
        let events = Events { starts: vec![2, 6], ends: vec![5, 12] };
        let all = Excerpt { event: None, first: 0, frames: None, every: 1 };
        let of = |excerpt: Excerpt| excerpt.of(12, Some(&events));
        assert_eq!(of(Excerpt { every: 5, ..all }).unwrap(), [0, 5, 10]);
        assert_eq!(of(Excerpt { first: 10, ..all }).unwrap(), [10, 11]);
        let second = Excerpt { event: Some(1), ..all };
        assert_eq!(of(Excerpt { first: 1, frames: Some(4), every: 2, ..second }).unwrap(), [7, 9]);
        assert_eq!(of(Excerpt { first: 4, frames: Some(4), ..second }).unwrap(), [10, 11]);
        let message = |excerpt: Excerpt| of(excerpt).unwrap_err().message;
        assert_eq!(
            message(Excerpt { event: Some(2), ..all }),
            "there is no event 2: the movie has 2"
        );
        let none = Excerpt { first: 6, ..second };
        assert_eq!(message(none), "there is no frame from 6 on: event 1 has 6");
        assert_eq!(all.check(false), []);
        assert_eq!(second.check(false), [Violation::new("event", "needs `events`")]);
    }
}
