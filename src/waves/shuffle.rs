//! Shuffles: the controls that keep a movie's values and destroy its order.

use super::Frames;
use crate::rng::Streams;

/// Puts the frames at some places into one random order; all others stay where they are.
///
/// The temporal control of Ligeralde et al. 2023 (section 2.1). Their code joins the frames of all events and permutes
/// those, so that an event becomes frames from any events. `places` are apart from each other and within the movie.
pub fn in_time(movie: &mut Frames, places: &[usize], streams: &Streams) {
    let order = streams.stream("time").permutation(places.len());
    let source = movie.data.clone();
    let size = movie.size();
    for (place, from) in places.iter().zip(order) {
        let frame = &mut movie.data[place * size..][..size];
        frame.copy_from_slice(&source[places[from] * size..][..size]);
    }
}

/// Puts the pixels of each frame into a random order of its own.
///
/// The spatial control of Ligeralde et al. 2023: a fresh permutation each frame. Frame `i` draws from lane `i`. Their
/// code repeats the gray movie in three channels first and permutes each on its own; here there is one channel.
/// `observe` is called after each frame with its index, and its error ends the work.
pub fn in_space<E>(
    movie: &mut Frames,
    streams: &Streams,
    mut observe: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    let area = movie.area();
    for (index, frame) in movie.data.chunks_exact_mut(area).enumerate() {
        streams.indexed("space", index as u64).shuffle(frame);
        observe(index)?;
    }
    Ok(())
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
        in_time(&mut shuffled, &(0..50).collect::<Vec<_>>(), &Streams::new(1, "test"));
        assert_ne!(shuffled, original);
        let firsts: Vec<f32> = (0..50).map(|f| shuffled.frame(f)[0]).collect();
        assert_eq!(sorted(&firsts), (0..50).map(|f| original.frame(f)[0]).collect::<Vec<_>>());
        for f in 0..50 {
            let from = shuffled.frame(f)[0] as usize / 6;
            assert_eq!(shuffled.frame(f), original.frame(from));
        }
    }

    #[test]
    fn frames_at_other_places_stay() {
        let (original, mut shuffled) = (movie(), movie());
        let places: Vec<usize> = (3..20).chain(30..41).collect();
        in_time(&mut shuffled, &places, &Streams::new(1, "test"));
        let index = |movie: &Frames, f: usize| movie.frame(f)[0] as usize / 6;
        for f in (0..50).filter(|f| !places.contains(f)) {
            assert_eq!(shuffled.frame(f), original.frame(f));
        }
        let mut moved: Vec<usize> = places.iter().map(|f| index(&shuffled, *f)).collect();
        assert_ne!(moved, places);
        // Frames change events: the first event holds some of the second.
        assert!(moved[..17].iter().any(|f| *f >= 30));
        moved.sort_unstable();
        assert_eq!(moved, places);
    }

    #[test]
    fn space_keeps_each_frames_values_and_permutes_each_its_own_way() {
        let (original, mut shuffled) = (movie(), movie());
        let done = |_| Ok::<(), ()>(());
        in_space(&mut shuffled, &Streams::new(1, "test"), done).unwrap();
        for f in 0..50 {
            assert_eq!(sorted(shuffled.frame(f)), original.frame(f));
        }
        let order = |f: usize| -> Vec<usize> {
            shuffled.frame(f).iter().map(|v| *v as usize - 6 * f).collect()
        };
        assert!((1..50).any(|f| order(f) != order(0)));
    }
}
