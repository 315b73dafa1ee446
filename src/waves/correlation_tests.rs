use super::*;
use crate::rng::Streams;
use crate::waves::blur::Blur;

#[test]
fn a_curve_falls_between_two_points() {
    let exponential: Vec<(f64, f64)> = [1.0, 3.0, 9.0].map(|d| (d, (-d / 5.0f64).exp())).to_vec();
    assert!((fall(&exponential).unwrap() - 5.0).abs() < 1e-12);
    // Through zero the line itself is taken.
    let level = 1.0 / consts::E;
    assert!((fall(&[(2.0, -1.0)]).unwrap() - (1.0 - level)).abs() < 1e-12);
    assert_eq!(fall(&[(1.0, 0.9), (2.0, 0.5)]), None);
    assert_eq!(fall(&[(1.0, 0.9), (2.0, level)]), Some(2.0));
}

#[test]
fn a_dot_product_is_a_sum_of_products() {
    let a: Vec<f32> = (0..1045).map(|v| (v % 17) as f32 - 8.0).collect();
    let b: Vec<f32> = (0..1045).map(|v| (v % 5) as f32).collect();
    let expected: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a * b)).sum();
    assert_eq!(dot(&a, &b), expected);
}

#[test]
fn correlations_in_space_are_those_of_all_pairs() {
    let (height, width, frames) = (5, 6, 40);
    let mut stream = Streams::new(6, "test").stream("pairs");
    let mut movie: Vec<Vec<f64>> =
        (0..frames).map(|_| (0..height * width).map(|_| stream.normal()).collect()).collect();
    // Something to correlate: each pixel takes in some of its left and of its upper neighbor.
    for frame in &mut movie {
        (width + 1..height * width)
            .for_each(|p| frame[p] += 0.8 * frame[p - 1] + 0.5 * frame[p - width]);
    }
    let mut space = InSpace::new(height, width, frames);
    for (index, frame) in movie.iter().enumerate() {
        space.push(index, &frame.iter().map(|v| *v as f32).collect::<Vec<f32>>());
    }
    let mean = |p: usize| movie.iter().map(|f| f[p]).sum::<f64>() / frames as f64;
    let covariance = |a: usize, b: usize| {
        movie.iter().map(|f| (f[a] - mean(a)) * (f[b] - mean(b))).sum::<f64>() / frames as f64
    };
    for (bin, (distance, found)) in (1..).zip(space.curve()) {
        let (mut sum, mut norm, mut far, mut count) = (0.0, 0.0, 0.0, 0.0);
        for (a, b) in (0..30).flat_map(|a| (0..30).map(move |b| (a, b))) {
            let (down, right) =
                ((b / width) as i64 - (a / width) as i64, (b % width) as i64 - (a % width) as i64);
            let straight = down == 0 || right == 0 || down.abs() == right.abs();
            let apart = ((down * down + right * right) as f64).sqrt();
            let within = down.abs() <= 2 && right.abs() <= 2;
            let once = down > 0 || down == 0 && right > 0;
            if straight && within && once && apart.round() == f64::from(bin) {
                sum += covariance(a, b);
                norm += (covariance(a, a) * covariance(b, b)).sqrt();
                far += apart;
                count += 1.0;
            }
        }
        assert!((found - sum / norm).abs() < 1e-5, "{bin}: {found} {}", sum / norm);
        assert!((distance - far / count).abs() < 1e-12);
    }
}

/// White noise blurred by a Gaussian: its correlation is exp(-d² / 4 sigma²), and 1/e at 2 sigma.
fn field(sigma: f64, side: usize, stream: &mut crate::rng::Stream) -> Vec<f32> {
    let margin = (4.0 * sigma).ceil() as usize;
    let wide = side + 2 * margin;
    let mut noise: Vec<f32> = (0..wide * wide).map(|_| stream.normal() as f32).collect();
    Blur::new(sigma, wide, wide).apply(&mut noise);
    (0..side).flat_map(|y| noise[(y + margin) * wide + margin..][..side].to_vec()).collect()
}

#[test]
fn a_blurred_field_reaches_as_far_as_its_blur() {
    let mut stream = Streams::new(2, "test").stream("field");
    for sigma in [0.8, 1.5, 2.6] {
        let mut space = InSpace::new(24, 24, 300);
        for index in 0..300 {
            // A pixel with another mean is correlated as others are.
            let mut frame = field(sigma, 24, &mut stream);
            frame.iter_mut().enumerate().for_each(|(p, v)| *v = *v * 3.0 + p as f32 - 70.0);
            space.push(index, &frame);
        }
        let Reach { length, error } = space.reach().unwrap();
        let error = error.unwrap();
        // Straight lines between logarithms of a Gaussian's points leave up to a twentieth.
        assert!((length - 2.0 * sigma).abs() < 0.1 * sigma + 4.0 * error, "{sigma}: {length}");
        assert!(error < 0.05 * sigma, "{sigma}: {error}");
    }
}

#[test]
fn an_autoregression_forgets_at_its_rate() {
    let mut stream = Streams::new(3, "test").stream("autoregression");
    for memory in [0.5f64, 0.9, 0.97] {
        let frames = 6000;
        let mut time = InTime::new(25, frames);
        let mut state = [0.0; 25];
        for index in 0..frames {
            for v in &mut state {
                *v = memory * *v + (1.0 - memory * memory).sqrt() * stream.normal();
            }
            let frame: Vec<f32> = state.iter().map(|v| (*v * 5.0 - 70.0) as f32).collect();
            time.push(index, &frame);
        }
        let Reach { length, error } = time.reach().unwrap();
        let (expected, error) = (-1.0 / memory.ln(), error.unwrap());
        assert!((length - expected).abs() < 4.0 * error, "{memory}: {length} {expected} {error}");
        assert!(error < 0.05 * expected, "{memory}: {error}");
    }
}

#[test]
fn the_jackknife_knows_how_far_repeated_movies_differ() {
    let mut stream = Streams::new(4, "test").stream("repeats");
    let (mut lengths, mut errors) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let mut time = InTime::new(4, 2000);
        let mut state = [0.0; 4];
        for index in 0..2000 {
            for v in &mut state {
                *v = 0.9 * *v + stream.normal();
            }
            time.push(index, &state.map(|v| v as f32));
        }
        let Reach { length, error } = time.reach().unwrap();
        lengths.push(length);
        errors.push(error.unwrap());
    }
    let mean = lengths.iter().sum::<f64>() / 40.0;
    let spread = (lengths.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / 39.0).sqrt();
    let error = errors.iter().sum::<f64>() / 40.0;
    // The deviation of 40 is known to a ninth.
    assert!((0.6..1.6).contains(&(error / spread)), "{error} {spread}");
}

#[test]
fn what_does_not_vary_or_not_fall_has_no_reach() {
    let (mut space, mut time) = (InSpace::new(3, 3, 50), InTime::new(9, 50));
    for index in 0..50 {
        space.push(index, &[-70.0; 9]);
        time.push(index, &[-70.0; 9]);
    }
    assert_eq!((space.reach(), time.reach()), (None, None));
    assert!(space.curve().is_empty() && time.curve().is_empty());
    assert_eq!(InSpace::new(3, 3, 0).reach(), None);
    // All pixels alike: correlation 1 at any distance.
    let mut space = InSpace::new(4, 4, 50);
    (0..50).for_each(|index| space.push(index, &[(index % 7) as f32; 16]));
    assert_eq!(space.reach(), None);
    assert!(space.curve().iter().all(|(_, c)| (c - 1.0).abs() < 1e-9));
}
