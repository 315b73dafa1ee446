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

/// What is put into one order in space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All channels of a frame alike, so that equal channels stay equal.
    Frame,
    /// Each channel on its own, as the code of Ligeralde et al. 2023 does with the three that it repeats a frame in.
    Channel,
}

/// Puts the pixels of each frame, or of each of its channels, into a random order of its own.
///
/// The spatial control of Ligeralde et al. 2023: a fresh permutation each time. The `i`-th thing that is permuted draws
/// from lane `i`. `observe` is called after each frame with its index, and its error ends the work.
pub fn in_space<E>(
    movie: &mut Frames,
    scope: Scope,
    streams: &Streams,
    mut observe: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    let (area, size, channels) = (movie.area(), movie.size(), movie.channels);
    let mut source = vec![0.0; area];
    for (index, frame) in movie.data.chunks_exact_mut(size).enumerate() {
        match scope {
            Scope::Frame => {
                let order = streams.indexed("space", index as u64).permutation(area);
                for channel in frame.chunks_exact_mut(area) {
                    source.copy_from_slice(channel);
                    channel.iter_mut().zip(&order).for_each(|(to, from)| *to = source[*from]);
                }
            }
            Scope::Channel => {
                for (channel, values) in frame.chunks_exact_mut(area).enumerate() {
                    let lane = (index * channels + channel) as u64;
                    streams.indexed("space", lane).shuffle(values);
                }
            }
        }
        observe(index)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waves::normalize::repeat_channels;

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
        in_space(&mut shuffled, Scope::Frame, &Streams::new(1, "test"), done).unwrap();
        for f in 0..50 {
            assert_eq!(sorted(shuffled.frame(f)), original.frame(f));
        }
        let order = |f: usize| -> Vec<usize> {
            shuffled.frame(f).iter().map(|v| *v as usize - 6 * f).collect()
        };
        assert!((1..50).any(|f| order(f) != order(0)));
    }

    #[test]
    fn channels_stay_equal_in_one_order_and_part_in_orders_of_their_own() {
        let gray = movie();
        let color = repeat_channels(gray.clone(), 3);
        let shuffled = |mut movie: Frames, scope| {
            let done = |_| Ok::<(), ()>(());
            in_space(&mut movie, scope, &Streams::new(1, "test"), done).unwrap();
            movie
        };
        let one = shuffled(gray.clone(), Scope::Frame);
        // A single channel has one order either way, and equal channels follow it.
        assert_eq!(one, shuffled(gray.clone(), Scope::Channel));
        assert_eq!(shuffled(color.clone(), Scope::Frame), repeat_channels(one, 3));
        let own = shuffled(color, Scope::Channel);
        for f in 0..50 {
            let channels: Vec<&[f32]> = own.frame(f).chunks(6).collect();
            assert!(channels.iter().all(|channel| sorted(channel) == gray.frame(f)));
        }
        assert!((0..50).any(|f| own.frame(f)[..6] != own.frame(f)[6..12]));
    }

    /// A smooth movie: each pixel follows its left neighbor and its own past.
    fn smooth(frames: usize, side: usize) -> Frames {
        let mut stream = Streams::new(3, "test").stream("smooth");
        let mut data: Vec<f32> = Vec::with_capacity(frames * side * side);
        for at in 0..frames * side * side {
            let beside = if at % side == 0 { 0.0 } else { data[at - 1] };
            let before = if at < side * side { 0.0 } else { data[at - side * side] };
            data.push(0.55 * beside + 0.4 * before + stream.normal() as f32);
        }
        Frames::new(frames, side, side, data).unwrap()
    }

    /// Mean product of values `apart` from each other, over their variance, and the standard error where all are
    /// independent; pairs across the end of a row count only where `rows` is false.
    fn correlation(movie: &Frames, apart: usize, within_rows: bool) -> (f64, f64) {
        let values: Vec<f64> = movie.data.iter().map(|v| f64::from(*v)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        let pairs: Vec<f64> = (apart..values.len())
            .filter(|at| !within_rows || at % movie.width >= apart)
            .map(|at| (values[at] - mean) * (values[at - apart] - mean))
            .collect();
        let n = pairs.len() as f64;
        (pairs.iter().sum::<f64>() / n / variance, 1.0 / n.sqrt())
    }

    #[test]
    fn what_is_shuffled_is_uncorrelated_and_the_rest_as_correlated_as_before() {
        let original = smooth(400, 8);
        let streams = Streams::new(5, "test");
        let (mut time, mut space) = (original.clone(), original.clone());
        in_time(&mut time, &(0..400).collect::<Vec<_>>(), &streams);
        in_space(&mut space, Scope::Frame, &streams, |_| Ok::<(), ()>(())).unwrap();
        let beside = |movie| correlation(movie, 1, true);
        let before = |movie| correlation(movie, 64, false);
        assert!(beside(&original).0 > 0.5 && before(&original).0 > 0.4);
        // Frames stay whole, so that neighbors in space keep their correlation to rounding.
        assert!((beside(&time).0 - beside(&original).0).abs() < 1e-12);
        // A frame's values hang together: only frames are independent, so the error is that of 400 draws.
        let (left, _) = before(&time);
        assert!(left.abs() < 4.0 / 400f64.sqrt(), "{left}");
        // What is left is the variance of frames' means, which a permutation of pixels cannot touch.
        let ((left, error), shared) = (beside(&space), correlation_of_means(&original));
        assert!((left - shared).abs() < 5.0 * error, "{left} {shared} {error}");
    }

    /// The correlation that two pixels of a frame have when its values are in random order: the variance of frames'
    /// means, without what a finite frame lends them.
    fn correlation_of_means(movie: &Frames) -> f64 {
        let n = movie.area() as f64;
        let all: Vec<f64> = movie.data.iter().map(|v| f64::from(*v)).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let total = all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / all.len() as f64;
        let frame = |f: usize| movie.frame(f).iter().map(|v| f64::from(*v) - mean);
        // The mean product of two different pixels: (sum² - sum of squares) / (n (n - 1)).
        let product = |f| {
            let (sum, squares) = frame(f).fold((0.0, 0.0), |(s, q), v: f64| (s + v, q + v * v));
            (sum * sum - squares) / (n * (n - 1.0))
        };
        (0..movie.frames).map(product).sum::<f64>() / movie.frames as f64 / total
    }
}
