//! The views of a set of images: two of each image an epoch, each with its own lane of random numbers.

use super::Augmentation;
use super::color::Color;
use super::view::View;
use crate::nn::error::NnError;
use crate::nn::images::Images;
use crate::rng::{Stream, Streams};

/// Images that are seen in views.
#[derive(Clone, Debug)]
pub struct Views<'a> {
    images: Images<'a>,
    color: Color,
    augmentation: Augmentation,
    streams: Streams,
}

impl<'a> Views<'a> {
    /// Sees images through views drawn from the streams `views`.
    ///
    /// Fails if the images are neither gray nor of three channels, if a value is not in [0, 1], or if a number of the
    /// augmentation is out of its range.
    pub fn new(
        images: Images<'a>,
        augmentation: Augmentation,
        streams: &Streams,
    ) -> Result<Self, NnError> {
        let invalid =
            |name, condition, value: String| Err(NnError::InvalidValue { name, condition, value });
        if let Some((name, _, rule)) =
            augmentation.ranges().into_iter().find(|(_, holds, _)| !holds)
        {
            let condition = rule.strip_prefix("must be ").unwrap_or(rule);
            return invalid(name, condition, format!("{augmentation:?}"));
        }
        let color = match images.channels() {
            1 => Color::Gray,
            3 => Color::Rgb,
            other => return invalid("channels of images with views", "1 or 3", other.to_string()),
        };
        if let Some(value) = images.pixels().iter().find(|v| !(0.0..=1.0).contains(*v)) {
            return invalid("every pixel of images with views", "in [0, 1]", value.to_string());
        }
        Ok(Self { images, color, augmentation, streams: streams.clone() })
    }

    /// Counts the images.
    pub fn count(&self) -> usize {
        self.images.count()
    }

    /// Yields the images as they are.
    pub fn images(&self) -> Images<'a> {
        self.images
    }

    /// Draws one of an image's views of an epoch: the same whichever thread asks, and in whatever order.
    pub fn draw(&self, epoch: usize, image: usize, view: usize) -> View {
        View::draw(&self.augmentation, self.images.size(), &mut self.stream(epoch, image, view))
    }

    /// Makes one of an image's views of an epoch: planes of rows, as many as the image has.
    pub fn view(&self, epoch: usize, image: usize, view: usize) -> Vec<f32> {
        self.draw(epoch, image, view).of(self.images.image(image), self.color, self.images.size())
    }

    fn stream(&self, epoch: usize, image: usize, view: usize) -> Stream {
        // A purpose an epoch and view, since 2^64 lanes hold no three numbers of unknown size.
        self.streams.indexed(&format!("views/{epoch}/{view}"), image as u64)
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::super::tests::wave;
    use super::*;

    fn views(images: Images<'_>, seed: u64) -> Views<'_> {
        Views::new(images, Augmentation::default(), &Streams::new(seed, "test")).unwrap()
    }

    #[test]
    fn each_view_has_its_own_draw_whoever_asks() {
        let pixels = wave(5 * 3 * 8 * 8);
        let images = Images::new(&pixels, 3, 8, 8).unwrap();
        let all = views(images, 1);
        let places: Vec<[usize; 3]> =
            (0..5 * 2 * 3).map(|at| [at / 10, at % 5, at / 5 % 2]).collect();
        let make = |&[epoch, image, view]: &[usize; 3]| all.view(epoch, image, view);
        let forward: Vec<Vec<f32>> = places.iter().map(make).collect();
        let backward: Vec<Vec<f32>> = places.iter().rev().map(make).collect();
        let parallel: Vec<Vec<f32>> = places.par_iter().map(make).collect();
        assert_eq!(forward, parallel);
        assert!(forward.iter().eq(backward.iter().rev()));
        let draws: Vec<View> = places.iter().map(|&[e, i, v]| all.draw(e, i, v)).collect();
        for (i, draw) in draws.iter().enumerate() {
            assert!(draws[..i].iter().all(|other| other != draw), "{:?}", places[i]);
        }
        assert_ne!(views(images, 2).draw(0, 0, 0), draws[0]);
    }

    #[test]
    fn images_that_have_no_views_are_refused() {
        let message = |pixels: &[f32], channels: usize, augmentation: Augmentation| {
            let images = Images::new(pixels, channels, 1, 2).unwrap();
            Views::new(images, augmentation, &Streams::new(1, "test")).unwrap_err().to_string()
        };
        let default = Augmentation::default();
        assert_eq!(
            message(&[0.0; 4], 2, default),
            "channels of images with views must be 1 or 3, found 2"
        );
        assert_eq!(
            message(&[0.0, 1.5], 1, default),
            "every pixel of images with views must be in [0, 1], found 1.5"
        );
        let error = message(&[0.0; 2], 1, Augmentation { flip: 2.0, ..default });
        assert!(error.starts_with("flip must be from 0 to 1, found Augmentation"), "{error}");
    }
}
