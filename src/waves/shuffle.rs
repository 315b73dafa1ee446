//! Shuffles: the controls that keep a movie's values and destroy its order.

use super::Frames;
use crate::rng::Streams;

/// Puts all frames into one random order; the events' boundaries stay where they were.
///
/// The temporal control of Ligeralde et al. 2023 (section 2.1): an event becomes frames from anywhere.
pub fn in_time(movie: &mut Frames, streams: &Streams) {
    let order = streams.stream("time").permutation(movie.frames);
    let source = movie.data.clone();
    let area = movie.area();
    for (frame, from) in movie.data.chunks_exact_mut(area).zip(order) {
        frame.copy_from_slice(&source[from * area..][..area]);
    }
}

/// Puts the pixels of each frame into a random order of its own.
///
/// The spatial control of Ligeralde et al. 2023: a fresh permutation each frame. Frame `i` draws from lane `i`.
pub fn in_space(movie: &mut Frames, streams: &Streams) {
    let area = movie.area();
    for (index, frame) in movie.data.chunks_exact_mut(area).enumerate() {
        streams.indexed("space", index as u64).shuffle(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn movie() -> Frames {
        Frames::new(50, 2, 3, (0..300).map(|v| v as f32).collect()).unwrap()
    }

    fn sorted(values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        values.sort_by(f32::total_cmp);
        values
    }

    #[test]
    fn time_keeps_frames_and_loses_their_order() {
        let (original, mut shuffled) = (movie(), movie());
        in_time(&mut shuffled, &Streams::new(1, "test"));
        assert_ne!(shuffled, original);
        let firsts: Vec<f32> = (0..50).map(|f| shuffled.frame(f)[0]).collect();
        assert_eq!(sorted(&firsts), (0..50).map(|f| original.frame(f)[0]).collect::<Vec<_>>());
        for f in 0..50 {
            let from = shuffled.frame(f)[0] as usize / 6;
            assert_eq!(shuffled.frame(f), original.frame(from));
        }
    }

    #[test]
    fn space_keeps_each_frames_values_and_permutes_each_its_own_way() {
        let (original, mut shuffled) = (movie(), movie());
        in_space(&mut shuffled, &Streams::new(1, "test"));
        for f in 0..50 {
            assert_eq!(sorted(shuffled.frame(f)), original.frame(f));
        }
        let order = |f: usize| -> Vec<usize> {
            shuffled.frame(f).iter().map(|v| *v as usize - 6 * f).collect()
        };
        assert!((1..50).any(|f| order(f) != order(0)));
    }
}
