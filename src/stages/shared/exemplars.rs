//! Manifolds of one image each under a change, and of the images of a class.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use super::{canvas, warp};
use crate::artifacts::images::Images;
use crate::engine::failure::Failure;
use crate::nn::augment::color::Color;
use crate::nn::augment::jitter;
use crate::rng::{Stream, Streams};

/// A manifold after the other, as labeled stimuli on a canvas.
#[derive(Debug)]
pub struct Stimuli {
    images: Images,
    manifolds: u32,
}

impl Stimuli {
    /// Begins with none, on a canvas of `size` x `size` pixels.
    pub fn new(size: usize, channels: usize) -> Self {
        let images = Images { channels, height: size, width: size, ..Images::default() };
        Self { images, manifolds: 0 }
    }

    /// Adds a manifold by its points.
    pub fn push(&mut self, points: impl IntoIterator<Item = Vec<f32>>) {
        for point in points {
            self.images.pixels.extend(point);
            self.images.labels.push(self.manifolds);
            self.images.count += 1;
        }
        self.manifolds += 1;
    }

    /// The stimuli.
    pub fn finish(self) -> Images {
        self.images
    }
}

/// Different shifts of `points` points, each way and in both directions by up to `max_shift` pixels.
///
/// Fails where a shift takes images off the canvas, or where there are fewer than so many shifts.
pub fn check_shifts(
    images: &Images,
    size: usize,
    max_shift: usize,
    points: usize,
) -> Result<(), Failure> {
    let reach = reach(images, size);
    if max_shift > reach {
        let (height, width) = (images.height, images.width);
        return Err(Failure::user(format!(
            "shifts of {max_shift} pixels take an image of {height} x {width} off a canvas of {size} x {size}"
        ))
        .hint(format!("a `max_shift` of {reach} leaves a part of it; or give a larger `size`")));
    }
    let side = 2 * max_shift + 1;
    if points > side * side {
        return Err(Failure::user(format!(
            "{points} points are asked for, and shifts up to {max_shift} pixels give {}",
            side * side
        ))
        .hint("ask for fewer `points`, or a larger `max_shift`"));
    }
    Ok(())
}

/// One image at different places.
pub fn shifted(
    images: &Images,
    base: usize,
    size: usize,
    max_shift: usize,
    points: usize,
    stream: &mut Stream,
) -> Vec<Vec<f32>> {
    let (side, reach) = (2 * max_shift + 1, max_shift as i64);
    // Different shifts: a point drawn twice would add nothing to its manifold.
    let places = distinct(stream, points, side * side);
    let shift = |place: usize| ((place / side) as i64 - reach, (place % side) as i64 - reach);
    places.into_iter().map(|place| canvas::place(images, base, size, shift(place))).collect()
}

/// One image in different colors. Gray images change their brightness and contrast.
pub fn colored(
    images: &Images,
    base: usize,
    size: usize,
    strength: f64,
    points: usize,
    stream: &mut Stream,
) -> Result<Vec<Vec<f32>>, Failure> {
    let color = match images.channels {
        1 => Color::Gray,
        3 => Color::Rgb,
        other => {
            return Err(Failure::data(format!(
                "the images have {other} channels, and colors are those of gray images and of red, green and blue"
            ))
            .hint("give images of 1 or 3 channels"));
        }
    };
    if images.image(base).iter().any(|value| !(0.0..=1.0).contains(value)) {
        return Err(Failure::data(format!("image {base} has values outside of 0 to 1"))
            .hint("colors are defined within; `white` of `images.table` scales what it reads"));
    }
    let mut point = || {
        let mut image = images.select(&[base]);
        for adjustment in jitter::draw(strength, stream) {
            adjustment.apply(&mut image.pixels, color);
        }
        canvas::place(&image, 0, size, (0, 0))
    };
    Ok((0..points).map(|_| point()).collect())
}

/// One image turned by angles up to a largest one, in degrees, either way.
pub fn turned(
    images: &Images,
    base: usize,
    size: usize,
    max_angle: f64,
    points: usize,
    stream: &mut Stream,
) -> Vec<Vec<f32>> {
    let mut angle = || (2.0 * stream.uniform() - 1.0) * max_angle * PI / 180.0;
    (0..points).map(|_| warp::place(images, base, size, 1.0, angle())).collect()
}

/// One image in different sizes, evenly on a logarithmic scale.
pub fn scaled(
    images: &Images,
    base: usize,
    size: usize,
    (smallest, largest): (f64, f64),
    points: usize,
    stream: &mut Stream,
) -> Vec<Vec<f32>> {
    let ratio = libm::log(largest / smallest);
    let mut factor = || smallest * libm::exp(ratio * stream.uniform());
    (0..points).map(|_| warp::place(images, base, size, factor(), 0.0)).collect()
}

/// The images of classes, for each manifold the places of its points.
///
/// Classes are drawn among those with enough images, and then in the order of their labels. Their points are the images
/// with the largest `ranks` where they are given, else drawn at random.
pub fn classes(
    images: &Images,
    manifolds: usize,
    points: usize,
    ranks: Option<&[f64]>,
    streams: &Streams,
) -> Result<Vec<Vec<usize>>, Failure> {
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (image, label) in images.labels.iter().enumerate() {
        members.entry(*label).or_default().push(image);
    }
    members.retain(|_, members| members.len() >= points);
    if members.len() < manifolds {
        return Err(Failure::data(format!(
            "{manifolds} manifolds of {points} points are asked for, and {} classes have as many images",
            members.len()
        ))
        .hint("ask for fewer `manifolds` or `points`"));
    }
    let large: Vec<u32> = members.keys().copied().collect();
    let order = streams.stream("classes").permutation(large.len());
    let mut chosen: Vec<u32> = order[..manifolds].iter().map(|&i| large[i]).collect();
    chosen.sort_unstable();
    let group = |class: u32| {
        let mut rows = members[&class].clone();
        match ranks {
            Some(ranks) => rows.sort_by(|&a, &b| ranks[b].total_cmp(&ranks[a]).then(a.cmp(&b))),
            None => streams.indexed("members", u64::from(class)).shuffle(&mut rows),
        }
        rows.truncate(points);
        rows
    };
    Ok(chosen.into_iter().map(group).collect())
}

/// The largest shift, each way, that leaves at least a pixel's breadth of centered images on a canvas.
fn reach(images: &Images, size: usize) -> usize {
    let along = |length: usize| {
        let top = (size as i64 - length as i64).div_euclid(2);
        (size as i64 - top).min(top + length as i64) - 1
    };
    along(images.height).min(along(images.width)).max(0) as usize
}

/// Draws `count` different numbers below `n`, in random order: the first entries of a shuffle, without the others.
fn distinct(stream: &mut Stream, count: usize, n: usize) -> Vec<usize> {
    let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
    let draw = |i: usize| {
        let from = i + stream.below((n - i) as u64) as usize;
        let here = moved.get(&i).copied().unwrap_or(i);
        let drawn = moved.insert(from, here);
        // Where `from` is `i` itself the entry that was put in is read no more.
        drawn.unwrap_or(from)
    };
    (0..count).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_numbers_are_drawn_evenly_from_any_range() {
        let mut counts = [0; 6];
        let streams = Streams::new(1, "test");
        for lane in 0..6000 {
            let drawn = distinct(&mut streams.indexed("draw", lane), 2, 6);
            assert!(drawn[0] != drawn[1]);
            counts[drawn[1]] += 1;
        }
        // Five standard deviations of a binomial of 6000 and 1/6.
        assert!(counts.iter().all(|count| (1000i32 - count).abs() < 145), "{counts:?}");
        let mut all = distinct(&mut streams.stream("all"), 50, 50);
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<usize>>());
        let far = distinct(&mut streams.stream("far"), 3, usize::MAX / 2);
        assert!(far.iter().all(|place| *place > 1 << 40), "{far:?}");
    }
}
