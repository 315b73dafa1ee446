//! Values brought into the range that networks expect.

use super::Frames;

/// Standardizes each pixel over all frames, then brings all values into [0, 1] by one minimum and maximum.
///
/// The preprocessing of Ligeralde et al. 2023 (code). A pixel that never changes carries nothing and becomes the
/// value of a mean; a movie in which no pixel changes becomes 0. Sums are in f64, in a fixed order.
pub fn standardize_and_scale(movie: &mut Frames) {
    let (size, frames) = (movie.size(), movie.frames.max(1) as f64);
    let mut means = vec![0.0; size];
    for frame in movie.data.chunks_exact(size) {
        means.iter_mut().zip(frame).for_each(|(mean, value)| *mean += f64::from(*value) / frames);
    }
    let mut deviations = vec![0.0; size];
    for frame in movie.data.chunks_exact(size) {
        for ((sum, value), mean) in deviations.iter_mut().zip(frame).zip(&means) {
            *sum += (f64::from(*value) - mean).powi(2) / frames;
        }
    }
    // A pixel whose spread is rounding of its own size is constant.
    let scales: Vec<f64> = deviations
        .iter()
        .zip(&means)
        .map(|(variance, mean)| {
            let deviation = variance.sqrt();
            if deviation > 1e-6 * mean.abs() && deviation > 0.0 { 1.0 / deviation } else { 0.0 }
        })
        .collect();
    let standard = |value: f32, pixel: usize| (f64::from(value) - means[pixel]) * scales[pixel];
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for frame in movie.data.chunks_exact(size) {
        for (pixel, value) in frame.iter().enumerate() {
            let value = standard(*value, pixel);
            least = least.min(value);
            most = most.max(value);
        }
    }
    let range = if most > least { most - least } else { 1.0 };
    let base = if most > least { least } else { 0.0 };
    for frame in movie.data.chunks_exact_mut(size) {
        for (pixel, value) in frame.iter_mut().enumerate() {
            *value = ((standard(*value, pixel) - base) / range) as f32;
        }
    }
}

/// Repeats each frame of a gray movie in `channels` equal channels.
///
/// Ligeralde et al. 2023 (code) have three, the input of a network for color images.
pub fn repeat_channels(movie: Frames, channels: usize) -> Frames {
    debug_assert_eq!(movie.channels, 1, "a gray movie has one channel");
    if channels == 1 {
        return movie;
    }
    let mut data = Vec::with_capacity(movie.data.len() * channels);
    for frame in movie.data.chunks_exact(movie.area()) {
        (0..channels).for_each(|_| data.extend_from_slice(frame));
    }
    Frames { channels, data, ..movie }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_repeat_the_frame() {
        let movie = Frames::new(2, 1, 2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let color = repeat_channels(movie.clone(), 2);
        assert_eq!(color.frame(1), [3.0, 4.0, 3.0, 4.0]);
        assert_eq!((color.channels, color.size()), (2, 4));
        assert_eq!(repeat_channels(movie.clone(), 1), movie);
    }

    #[test]
    fn values_fill_zero_to_one_and_pixels_have_one_variance() {
        let data = (0..400).map(|i| ((i * i) % 37) as f32 * (1 + i % 4) as f32 - 60.0).collect();
        let mut movie = Frames::new(100, 2, 2, data).unwrap();
        standardize_and_scale(&mut movie);
        let least = movie.data.iter().copied().fold(f32::INFINITY, f32::min);
        let most = movie.data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert_eq!((least, most), (0.0, 1.0));
        let variance = |pixel: usize| {
            let values: Vec<f64> = (0..100).map(|f| f64::from(movie.frame(f)[pixel])).collect();
            let mean = values.iter().sum::<f64>() / 100.0;
            values.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
        };
        for pixel in 1..4 {
            assert!((variance(pixel) / variance(0) - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn constant_pixels_and_movies_stay_finite() {
        let mut half = Frames::new(2, 1, 2, vec![5.0, 0.0, 5.0, 4.0]).unwrap();
        standardize_and_scale(&mut half);
        assert_eq!(half.data, [0.5, 0.0, 0.5, 1.0]);
        let mut flat = Frames::new(2, 1, 2, vec![-70.0; 4]).unwrap();
        standardize_and_scale(&mut flat);
        assert_eq!(flat.data, [0.0; 4]);
    }
}
