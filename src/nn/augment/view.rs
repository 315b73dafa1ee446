//! One view of an image: what is drawn for it, and how it is made.

use super::Augmentation;
use super::blur::gaussian_blur;
use super::color::{Color, to_grayscale};
use super::crop::{Crop, between};
use super::jitter::{self, Adjustment};
use super::resize::resized_crop;
use crate::rng::Stream;

/// The random parameters of one view.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    pub crop: Crop,
    pub flip: bool,
    pub jitter: Option<[Adjustment; 4]>,
    pub grayscale: bool,
    /// Standard deviation of the blur, in pixels.
    pub sigma: Option<f64>,
}

impl View {
    /// Draws the parameters of a view of an image of `height`×`width`.
    pub fn draw(augmentation: &Augmentation, size: [usize; 2], stream: &mut Stream) -> Self {
        let Augmentation { crop_area, crop_aspect, blur_sigma, jitter_strength, .. } =
            *augmentation;
        Self {
            crop: Crop::draw(size, crop_area, crop_aspect, stream),
            flip: stream.uniform() < augmentation.flip,
            jitter: (stream.uniform() < augmentation.jitter)
                .then(|| jitter::draw(jitter_strength, stream)),
            grayscale: stream.uniform() < augmentation.grayscale,
            sigma: (stream.uniform() < augmentation.blur).then(|| between(blur_sigma, stream)),
        }
    }

    /// Makes the view of an image of `height`×`width`, as large as the image.
    pub fn of(&self, pixels: &[f32], color: Color, size: [usize; 2]) -> Vec<f32> {
        let mut view = resized_crop(pixels, size, self.crop, size);
        if self.flip {
            mirror(&mut view, size[1]);
        }
        for adjustment in self.jitter.iter().flatten() {
            adjustment.apply(&mut view, color);
        }
        if self.grayscale {
            to_grayscale(&mut view, color);
        }
        if let Some(sigma) = self.sigma {
            gaussian_blur(&mut view, size, sigma, blur_radius(size));
        }
        view
    }
}

/// Exchanges left and right of rows of `width` values.
pub fn mirror(pixels: &mut [f32], width: usize) {
    for row in pixels.chunks_exact_mut(width) {
        row.reverse();
    }
}

/// Yields how far a blur reaches, in pixels: half a tenth of the shorter side, as in SimCLR's code.
pub fn blur_radius([height, width]: [usize; 2]) -> usize {
    height.min(width) / 10 / 2
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_mean, check_values, wave};
    use super::*;
    use crate::rng::Streams;

    const WHOLE: Crop = Crop { top: 0, left: 0, height: 20, width: 24 };
    const PLAIN: View =
        View { crop: WHOLE, flip: false, jitter: None, grayscale: false, sigma: None };
    const PART: Crop = Crop { top: 3, left: 5, height: 14, width: 11 };

    #[test]
    fn changes_follow_each_other_as_in_torchvision() {
        let jitter = Some([
            Adjustment::Hue(0.1),
            Adjustment::Contrast(0.7),
            Adjustment::Saturation(1.2),
            Adjustment::Brightness(1.1),
        ]);
        let image = wave(3 * 20 * 24);
        let view = View { crop: PART, flip: true, jitter, sigma: Some(1.0), ..PLAIN };
        check_values(
            "all",
            &view.of(&image, Color::Rgb, [20, 24]),
            [0.220_992_4, 0.196_322_8, 0.930_030_2, 0.264_416_7, 0.869_099_9, 0.922_209],
            793.704_19,
        );
        let view = View { crop: PART, grayscale: true, ..PLAIN };
        check_values(
            "gray",
            &view.of(&image, Color::Rgb, [20, 24]),
            [0.725_232_5, 0.536_007, 0.725_584_3, 0.400_867_6, 0.658_552_8, 0.303_543_5],
            723.909_51,
        );
    }

    #[test]
    fn the_whole_image_is_itself_and_mirrored_twice_too() {
        let image = wave(20 * 24);
        assert_eq!(PLAIN.of(&image, Color::Gray, [20, 24]), image);
        let once = View { flip: true, ..PLAIN }.of(&image, Color::Gray, [20, 24]);
        assert_eq!((once[0], once[24]), (image[23], image[47]));
        assert_eq!(View { flip: true, ..PLAIN }.of(&once, Color::Gray, [20, 24]), image);
    }

    #[test]
    fn views_of_gray_images_and_of_colors_stay_in_range() {
        let mut stream = Streams::new(6, "test").stream("views");
        let strong = Augmentation { jitter_strength: 2.5, ..Augmentation::default() };
        for (color, size) in [(Color::Gray, [28, 28]), (Color::Rgb, [32, 21]), (Color::Rgb, [1, 1])]
        {
            let image = wave(color.channels() * size[0] * size[1]);
            for _ in 0..200 {
                let view = View::draw(&strong, size, &mut stream).of(&image, color, size);
                assert_eq!(view.len(), image.len());
                assert!(view.iter().all(|v| (0.0..=1.0 + 1e-6).contains(v)));
            }
        }
    }

    #[test]
    fn changes_come_with_their_probabilities() {
        let augmentation = Augmentation {
            flip: 0.3,
            jitter: 0.8,
            grayscale: 0.2,
            blur: 0.6,
            ..Default::default()
        };
        let mut stream = Streams::new(5, "test").stream("views");
        let views: Vec<View> =
            (0..20_000).map(|_| View::draw(&augmentation, [32, 32], &mut stream)).collect();
        let rate = |name: &str, happens: &dyn Fn(&View) -> bool, p: f64| {
            let found: Vec<f64> = views.iter().map(|v| f64::from(u8::from(happens(v)))).collect();
            check_mean(name, &found, p, (p * (1.0 - p)).sqrt());
        };
        rate("flip", &|v| v.flip, 0.3);
        rate("jitter", &|v| v.jitter.is_some(), 0.8);
        rate("grayscale", &|v| v.grayscale, 0.2);
        rate("blur", &|v| v.sigma.is_some(), 0.6);
        rate("flip and jitter", &|v| v.flip && v.jitter.is_some(), 0.24);
        let sigmas: Vec<f64> = views.iter().filter_map(|v| v.sigma).collect();
        let deviation = 1.9 / 12f64.sqrt();
        check_mean("sigma", &sigmas, 1.05, deviation);
        let squares: Vec<f64> = sigmas.iter().map(|s| (s - 1.05).powi(2)).collect();
        check_mean("its variance", &squares, deviation.powi(2), 0.8f64.sqrt() * deviation.powi(2));
        let never =
            Augmentation { flip: 0.0, jitter: 0.0, grayscale: 0.0, blur: 0.0, ..augmentation };
        let whole = Augmentation { crop_area: [1.0; 2], crop_aspect: [1.2; 2], ..never };
        assert_eq!(View::draw(&whole, [20, 24], &mut stream), PLAIN);
        let always =
            Augmentation { flip: 1.0, jitter: 1.0, grayscale: 1.0, blur: 1.0, ..augmentation };
        let view = View::draw(&always, [20, 24], &mut stream);
        assert!(view.flip && view.jitter.is_some() && view.grayscale && view.sigma.is_some());
    }

    #[test]
    fn a_blur_reaches_a_twentieth_of_the_shorter_side() {
        for (size, radius) in [([19, 19], 0), ([28, 28], 1), ([32, 400], 1), ([224, 224], 11)] {
            assert_eq!(blur_radius(size), radius);
        }
    }
}
